// y = a b of numbers that are rounded to bfloat16 already, a small product; small_products.py writes
// the constants of one shape above. a is (ROWS, N_IN), b (N_IN, N_OUT) and y (ROWS, N_OUT), but a is
// given as (N_IN, ROWS) if A_IS_TURNED, and b as (N_OUT, N_IN) if B_IS_TURNED, which takes an even N_IN.
//
// Each thread has some of b's columns, and makes a few lines of y at a time, whose sums stay in the
// core's nearest cache.

constexpr int64_t TERMS = even(N_IN);
constexpr int64_t LINES = std::min<int64_t>(ROWS, 64);
constexpr int64_t BLOCK = 32;  // numbers in a vector
constexpr int64_t BLOCKS = (N_OUT + BLOCK - 1) / BLOCK;

inline const Low* lines_of(const Low* a, int64_t begin, int64_t count, Low* to) {
  if (!A_IS_TURNED) return ready_lines(a + begin * N_IN, count, N_IN, to);
  for (int64_t i = 0; i < count; i += BLOCK)
    for (int64_t k = 0; k < N_IN; k += BLOCK)
      at::vec::transpose_mxn(a + k * ROWS + begin + i, ROWS, to + i * TERMS + k, TERMS,
                             std::min(BLOCK, N_IN - k), std::min(BLOCK, count - i));
  if (N_IN % 2)
    for (int64_t i = 0; i < count; i++) to[i * TERMS + N_IN] = Low(0);
  return to;
}

extern "C" void kernel(const at::BFloat16* a, const at::BFloat16* b, at::BFloat16* y) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const int64_t begin = BLOCKS * thread / THREADS * BLOCK;
    const int64_t width = std::min(BLOCKS * (thread + 1) / THREADS * BLOCK, N_OUT) - begin;
    const Rounded lines(LINES * TERMS), twos(TERMS * width);
    const std::unique_ptr<float[]> sums(new float[LINES * width]);
    if (B_IS_TURNED) turn_by_twos(b + begin * N_IN, width, N_IN, twos, width);
    else at::vec::pack_vnni2(b + begin, twos.begin(), N_OUT, N_IN, width);
    for (int64_t i = 0; i < ROWS; i += LINES) {
      const int64_t count = std::min(LINES, ROWS - i);
      at::native::cpublas::brgemm(count, width, TERMS, TERMS, width, width, false,
                                  lines_of(a, i, count, lines), twos, sums.get());
      for (int64_t r = 0; r < count; r++)
        round_line(sums.get() + r * width, width, y + (i + r) * N_OUT + begin);
    }
    at::native::cpublas::brgemm_release();
  }
}
