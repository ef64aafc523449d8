// A linear scan. Before this file stand the constants of one shape: BATCH, LENGTH, FEATURES, and
// whether time is REVERSEd.
//
// a, b and h are (BATCH, LENGTH, FEATURES), and first is (BATCH, FEATURES).

extern "C" void kernel(const float* a, const float* b, const float* first, float* h) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++)
    for (int64_t row = BATCH * thread / THREADS; row < BATCH * (thread + 1) / THREADS; row++) {
      const float* before = first + row * FEATURES;
      for (int64_t step = 0; step < LENGTH; step++) {
        const int64_t place = (row * LENGTH + (REVERSE ? LENGTH - 1 - step : step)) * FEATURES;
#pragma omp simd
        for (int64_t i = 0; i < FEATURES; i++)
          h[place + i] = a[place + i] * before[i] + b[place + i];
        before = h + place;
      }
    }
}
