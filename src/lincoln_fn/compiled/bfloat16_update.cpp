// W + g^T x of numbers rounded to bfloat16, in W's own memory; bfloat16_products.py writes the constants
// of one shape above. weight is (N_OUT, N_IN), g^T (N_OUT, ROWS) and x (ROWS, N_IN), which may be
// rounded already. If the step is not finite, W stays as it is.
//
// Each thread has some of W's lines, the same as forward. The sums are added to W as they are made.

constexpr int64_t TERMS = even(ROWS);
constexpr int64_t LENGTH = even(N_IN);
constexpr int64_t BLOCK = 64;  // how many columns of x are laid by twos at a time
constexpr bool IS_READY = IS_ROUNDED && N_IN % 2 == 0;  // whether x is taken as it lies

extern "C" void kernel(float* weight, const void* g, const void* x, const bool* is_finite) {
  if (!*is_finite) return;
  const Rounded made(IS_READY ? 0 : ROWS * LENGTH);
  const Low* rows = IS_READY ? static_cast<const Low*>(x) : made.begin();
#pragma omp parallel num_threads(THREADS)
  {
    if (!IS_READY) {
#pragma omp for
      for (int64_t i = 0; i < ROWS; i++)
        round_lines(static_cast<const X*>(x) + i * N_IN, 1, N_IN, made + i * LENGTH);
    }
#pragma omp for schedule(static)
    for (int64_t thread = 0; thread < THREADS; thread++) {
      const Part own(thread);
      const int64_t count = own.end - own.begin;
      const Rounded made_lines(count * TERMS), twos(BLOCK * TERMS);
      const X* from = static_cast<const X*>(g) + own.begin * ROWS;
      const Low* lines = ready_lines(from, count, ROWS, made_lines);
      for (int64_t i = 0; i < N_IN; i += BLOCK) {
        const int64_t width = std::min(BLOCK, N_IN - i);
        at::vec::pack_vnni2(rows + i, twos.begin(), LENGTH, ROWS, width);
        at::native::cpublas::brgemm(count, width, TERMS, TERMS, width, N_IN, true, lines, twos,
                                    weight + own.begin * N_IN + i);
      }
    }
    at::native::cpublas::brgemm_release();
  }
}
