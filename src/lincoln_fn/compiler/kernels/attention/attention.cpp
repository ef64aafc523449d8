// Attention, forward; attention.h tells of the constants and of what is laid out how.

extern "C" void kernel(const float* queries, const float* keys, const float* values, float* y) {
#pragma omp parallel num_threads(THREADS)
  {
    Numbers tiles(WIDTH * FEATURES), weights(MOST * WIDTH);
#pragma omp for schedule(static)
    for (int64_t head = 0; head < HEADS; head++) {
      lay_out(keys + head * KEYS * FEATURES, FEATURES, tiles.begin());
      for_each_part<MOST>(0, QUERIES, [&](int64_t row, auto rows) {
        weigh<rows>(row, queries + head * QUERIES * FEATURES, tiles.begin(), weights.begin());
        combine<rows, VALUES>(weights.begin(), WIDTH, 1, values + head * KEYS * VALUES,
                              seen_by(row + rows - 1), y + (head * QUERIES + row) * VALUES, false);
      });
    }
  }
}
