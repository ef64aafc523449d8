// A sequence of long short-term memory, forward. Before this file stand the constants of one shape:
// LENGTH, N_IN, HIDDEN, and whether time is REVERSEd.
//
// x is (batch, LENGTH, N_IN), gates (batch, LENGTH, 4, HIDDEN), y and c (batch, LENGTH, HIDDEN), the
// first h and c (batch, HIDDEN). weight is W_ih on top of W_hh, by tiles of LANES units: (HIDDEN /
// LANES, N_IN + HIDDEN, 4, LANES), bias (4, HIDDEN). A tile's sums of the four gates stay in registers
// until y is computed.

// This exponential is fast, but returns 0 for nan.
Vec sigmoid(Vec x) {
  return Vec::blendv(Vec(1) / (Vec(1) + x.neg().exp_u20()), x, x.isnan());
}

struct Sequence {
  const float *x, *weight, *bias, *first_h, *first_c;
  float *gates, *c, *y;

  // Compute a step of some rows, for the units of one tile.
  template <int64_t ROWS>
  void take(int64_t step, int64_t row, int64_t unit) const {
    const int64_t t = REVERSE ? LENGTH - 1 - step : step, before = REVERSE ? t + 1 : t - 1;
    const int64_t row_stride = step ? LENGTH * HIDDEN : HIDDEN;
    const float* h = step ? y + (row * LENGTH + before) * HIDDEN : first_h + row * HIDDEN;
    const float* old_c = step ? c + (row * LENGTH + before) * HIDDEN : first_c + row * HIDDEN;
    const float* w_ih = weight + unit * (N_IN + HIDDEN) * 4;
    const float* w_hh = w_ih + N_IN * 4 * LANES;
    Vec sum[ROWS][4];
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t k = 0; k < 4; k++) sum[r][k] = Vec::loadu(bias + k * HIDDEN + unit);
    add_product(x + (row * LENGTH + t) * N_IN, LENGTH * N_IN, w_ih, N_IN, sum);
    add_product(h, row_stride, w_hh, HIDDEN, sum);
    for (int64_t r = 0; r < ROWS; r++) {
      const int64_t place = (row + r) * LENGTH + t;
      const Vec i = sigmoid(sum[r][0]), f = sigmoid(sum[r][1]);
      const Vec g = tanh(sum[r][2]), o = sigmoid(sum[r][3]);
      const Vec new_c = f * Vec::loadu(old_c + r * row_stride + unit) + i * g;
      const Vec made[4] = {i, f, g, o};
      for (int64_t k = 0; k < 4; k++) made[k].store(gates + (place * 4 + k) * HIDDEN + unit);
      new_c.store(c + place * HIDDEN + unit);
      (o * tanh(new_c)).store(y + place * HIDDEN + unit);
    }
  }
};

extern "C" void kernel(const float* x, const float* weight, const float* bias, const float* first_h,
                       const float* first_c, float* gates, float* c, float* y) {
  const Sequence sequence{x, weight, bias, first_h, first_c, gates, c, y};
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++)
    for (int64_t step = 0; step < LENGTH; step++)
      for (int64_t unit = 0; unit < HIDDEN; unit += LANES)
        for_each_part<rows_beside(4)>(
            BATCH * thread / THREADS, BATCH * (thread + 1) / THREADS,
            [&](int64_t row, auto rows) { sequence.take<rows>(step, row, unit); });
}
