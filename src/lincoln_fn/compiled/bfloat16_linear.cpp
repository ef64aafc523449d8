// y^T = W x^T of numbers rounded to bfloat16; bfloat16_products.py writes the constants of one shape
// above. x is (ROWS, N_IN), and may be rounded already, weight (N_OUT, N_IN) and y^T (N_OUT, ROWS).
//
// Each thread has some of W's lines, and rounds a few at a time, just before they are multiplied, so
// that these never leave the core's own cache.

constexpr int64_t TERMS = even(N_IN);
constexpr int64_t LINES = 48;   // how many lines of W are rounded at a time,
constexpr int64_t TURNED = 16;  // and how many rows of x turned

extern "C" void kernel(const void* x, const float* weight, float* y) {
  const Rounded twos(TERMS * ROWS);
#pragma omp parallel num_threads(THREADS)
  {
    const Rounded lines(LINES * TERMS);
#pragma omp for
    for (int64_t i = 0; i < ROWS; i += TURNED) {
      const int64_t count = std::min(TURNED, ROWS - i);
      const X* from = static_cast<const X*>(x) + i * N_IN;
      turn_by_twos(ready_lines(from, count, N_IN, lines), count, TERMS, twos + 2 * i, ROWS);
    }
#pragma omp for schedule(static)
    for (int64_t thread = 0; thread < THREADS; thread++) {
      const Part own(thread);
      for (int64_t i = own.begin; i < own.end; i += LINES) {
        const int64_t count = std::min(LINES, own.end - i);
        round_lines(weight + i * N_IN, count, N_IN, lines);
        at::native::cpublas::brgemm(count, ROWS, TERMS, TERMS, ROWS, ROWS, false, lines, twos,
                                    y + i * ROWS);
      }
    }
    at::native::cpublas::brgemm_release();
  }
}
