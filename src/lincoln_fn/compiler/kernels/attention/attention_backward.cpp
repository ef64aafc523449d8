// Attention, backward; attention.h tells of the constants and of what is laid out how.

// Queries whose weights are kept at a time, to stay in a core's own cache.
constexpr int64_t BLOCK = std::max<int64_t>(MOST, std::min<int64_t>(64, (1 << 15) / WIDTH));

// dscores = weights (dweights - the sum of dweights weights), in the place of dweights; zeros behind
// the end.
inline void differentiate(int64_t end, float* weights, float* dweights) {
  Vec sum(0);
  for (int64_t i = 0; i < end; i += LANES)
    sum = at::vec::fmadd(Vec::loadu(weights + i), Vec::loadu(dweights + i), sum);
  const Vec mean = sum_of(sum);
  for (int64_t i = 0; i < end; i += LANES)
    (Vec::loadu(weights + i) * (Vec::loadu(dweights + i) - mean)).store(dweights + i);
  std::memset(weights + end, 0, (WIDTH - end) * sizeof(float));
  std::memset(dweights + end, 0, (WIDTH - end) * sizeof(float));
}

struct Head {
  const float *queries, *keys, *values, *g, *key_tiles, *value_tiles;
  float *dqueries, *dkeys, *dvalues, *weights, *dscores;

  // Make weights and dscores of queries in a block, and dqueries.
  template <int64_t ROWS>
  void take_queries(int64_t block, int64_t row) const {
    float *own = weights + (row - block) * WIDTH, *down = dscores + (row - block) * WIDTH;
    const int64_t end = weigh<ROWS>(row, queries, key_tiles, own);
    compare<ROWS>(g + row * VALUES, value_tiles, VALUES, end, down);
    for (int64_t r = 0; r < ROWS; r++) differentiate(end, own + r * WIDTH, down + r * WIDTH);
    combine<ROWS, FEATURES>(down, WIDTH, 1, keys, seen_by(row + ROWS - 1),
                            dqueries + row * FEATURES, false);
  }

  // Add to dkeys and dvalues what a block of queries has for them.
  template <int64_t ROWS>
  void take_keys(int64_t block, int64_t next, int64_t key) const {
    const int64_t first = CAUSAL ? std::min(std::max(block, key), next) : block;
    const int64_t place = (first - block) * WIDTH + key, length = next - first;
    combine<ROWS, FEATURES>(dscores + place, 1, WIDTH, queries + first * FEATURES, length,
                            dkeys + key * FEATURES, block > 0);
    combine<ROWS, VALUES>(weights + place, 1, WIDTH, g + first * VALUES, length,
                          dvalues + key * VALUES, block > 0);
  }
};

extern "C" void kernel(const float* queries, const float* keys, const float* values, const float* g,
                       float* dqueries, float* dkeys, float* dvalues) {
#pragma omp parallel num_threads(THREADS)
  {
    Numbers key_tiles(WIDTH * FEATURES), value_tiles(WIDTH * VALUES);
    Numbers weights(BLOCK * WIDTH), dscores(BLOCK * WIDTH);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < HEADS; i++) {
      const int64_t query = i * QUERIES, key = i * KEYS;
      const Head head{queries + query * FEATURES, keys + key * FEATURES, values + key * VALUES,
                      g + query * VALUES, key_tiles.begin(), value_tiles.begin(),
                      dqueries + query * FEATURES, dkeys + key * FEATURES, dvalues + key * VALUES,
                      weights.begin(), dscores.begin()};
      lay_out(head.keys, FEATURES, key_tiles.begin());
      lay_out(head.values, VALUES, value_tiles.begin());
      for (int64_t block = 0; block < QUERIES; block += BLOCK) {
        const int64_t next = std::min(QUERIES, block + BLOCK);
        for_each_part<MOST>(block, next, [&](int64_t row, auto rows) {
          head.take_queries<rows>(block, row);
        });
        for_each_part<MOST>(0, KEYS, [&](int64_t row, auto rows) {
          head.take_keys<rows>(block, next, row);
        });
      }
    }
  }
}
