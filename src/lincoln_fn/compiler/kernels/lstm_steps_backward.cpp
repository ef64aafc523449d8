// A sequence of long short-term memory, backward. Before this file stand the constants of one
// shape: LENGTH, HIDDEN, and whether time was REVERSEd.
//
// g and c are (batch, LENGTH, HIDDEN), first_c, dh, last_dc and dc (batch, HIDDEN), gates (batch,
// LENGTH, 4, HIDDEN); sums are (threads, 4, HIDDEN), of each thread's examples. weight is
// W_hh^T, by tiles of units: (HIDDEN / TILE, 4 * HIDDEN, TILE). gates are replaced by their gradients.
// dc is last_dc at first, and at the end that of the first state.

constexpr int64_t VECTORS = divisor_up_to(4, HIDDEN / LANES);
constexpr int64_t TILE = VECTORS * LANES;

struct Sequence {
  const float *g, *weight, *c, *first_c, *dh;
  float *dc, *gates;

  // Compute a step of some rows, for the units of one tile.
  template <int64_t ROWS>
  void take(int64_t step, int64_t row, int64_t unit, float* sums) const {
    const int64_t t = REVERSE ? LENGTH - 1 - step : step;
    const int64_t before = REVERSE ? t + 1 : t - 1, after = REVERSE ? t - 1 : t + 1;
    const bool is_last = step == LENGTH - 1;
    Vec sum[ROWS][VECTORS];
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < VECTORS; v++)
        sum[r][v] = is_last ? Vec::loadu(dh + (row + r) * HIDDEN + unit + v * LANES) : Vec(0);
    if (!is_last)
      add_product(gates + (row * LENGTH + after) * 4 * HIDDEN, LENGTH * 4 * HIDDEN,
                  weight + unit * 4 * HIDDEN, 4 * HIDDEN, sum);
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < VECTORS; v++) {
        const int64_t own = unit + v * LANES, first = (row + r) * HIDDEN + own;
        const int64_t place = (row + r) * LENGTH + t, place_before = (row + r) * LENGTH + before;
        const float* old_c = step ? c + place_before * HIDDEN + own : first_c + first;
        const Vec dy = sum[r][v] + Vec::loadu(g + place * HIDDEN + own);
        differentiate(dy, Vec::loadu(c + place * HIDDEN + own), Vec::loadu(old_c), dc + first,
                      gates + place * 4 * HIDDEN + own, sums + own);
      }
  }

  // Replace the gates by their gradients, and pass dc to the step before.
  static void differentiate(Vec dy, Vec c, Vec old_c, float* dc, float* gates, float* sums) {
    const Vec i = Vec::loadu(gates), f = Vec::loadu(gates + HIDDEN), one(1);
    const Vec g = Vec::loadu(gates + 2 * HIDDEN), o = Vec::loadu(gates + 3 * HIDDEN), u = tanh(c);
    const Vec d = Vec::loadu(dc) + dy * o * (one - u * u);
    const Vec made[4] = {d * g * i * (one - i), d * old_c * f * (one - f), d * i * (one - g * g),
                         dy * u * o * (one - o)};
    for (int64_t k = 0; k < 4; k++) {
      made[k].store(gates + k * HIDDEN);
      (Vec::loadu(sums + k * HIDDEN) + made[k]).store(sums + k * HIDDEN);
    }
    (d * f).store(dc);
  }
};

extern "C" void kernel(const float* g, const float* weight, const float* c, const float* first_c,
                       const float* dh, const float* last_dc, float* gates, float* dc,
                       float* sums) {
  const Sequence sequence{g, weight, c, first_c, dh, dc, gates};
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const int64_t begin = BATCH * thread / THREADS, end = BATCH * (thread + 1) / THREADS;
    float* own = sums + thread * 4 * HIDDEN;
    std::memset(own, 0, 4 * HIDDEN * sizeof(float));
    std::memcpy(dc + begin * HIDDEN, last_dc + begin * HIDDEN, (end - begin) * HIDDEN * sizeof(float));
    for (int64_t step = LENGTH - 1; step >= 0; step--)
      for (int64_t unit = 0; unit < HIDDEN; unit += TILE)
        for_each_part<rows_beside(VECTORS)>(begin, end, [&](int64_t row, auto rows) {
          sequence.take<rows>(step, row, unit, own);
        });
  }
}
