// Shared by the kernels: vectors, tiles of them in registers, memory for them, and tanh. The number of
// LANES of a vector is defined before this file.

using Vec = at::vec::Vectorized<float>;

static_assert(LANES == Vec::size());

constexpr int64_t divisor_up_to(int64_t most, int64_t n) {
  if (most > n) most = n;
  while (n % most) most--;
  return most;
}

// The number of registers for sums, beside those for factors: AVX2 has 16 in all, others 32.
constexpr int64_t REGISTERS = LANES == 8 ? 12 : 28;

// The number of rows of sums that stay in registers, with some vectors in each row.
constexpr int64_t rows_beside(int64_t vectors) {
  return REGISTERS / vectors < 6 ? REGISTERS / vectors : 6;
}

// Have GCC keep a number in a register, even if sums fill nearly all registers.
inline void hold(Vec& number) {
#ifdef __x86_64__
  std::conditional_t<LANES == 16, __m512, __m256> held = number;
  asm("" : "+v"(held));
  number = held;
#endif
}

// sum += a w. a has ROWS rows, with stride `row_stride` from row to row and `stride` within a row. w is
// (length, VECTORS * LANES), with stride `w_stride` from row to row.
template <int64_t ROWS, int64_t VECTORS>
void add_product(const float* a, int64_t row_stride, int64_t stride, const float* w, int64_t w_stride,
                 int64_t length, Vec (&sum)[ROWS][VECTORS]) {
  for (int64_t i = 0; i < length; i++, a += stride, w += w_stride) {
    Vec numbers[VECTORS];
#pragma GCC unroll 28
    for (int64_t v = 0; v < VECTORS; v++) {
      numbers[v] = Vec::loadu(w + v * LANES);
      if constexpr (VECTORS > 1 && VECTORS * (ROWS + 1) < REGISTERS + 4) hold(numbers[v]);
    }
    // Otherwise GCC would keep numbers of overlapping rows in registers, and not the sums.
    const float* column = a;
    asm("" : "+r"(column));
#pragma GCC unroll 28
    for (int64_t r = 0; r < ROWS; r++) {
      const Vec number(column[r * row_stride]);
#pragma GCC unroll 28
      for (int64_t v = 0; v < VECTORS; v++)
        sum[r][v] = at::vec::fmadd(number, numbers[v], sum[r][v]);
    }
  }
}

// The same, for rows without gaps.
template <int64_t ROWS, int64_t VECTORS>
void add_product(const float* a, int64_t row_stride, const float* w, int64_t length,
                 Vec (&sum)[ROWS][VECTORS]) {
  add_product(a, row_stride, 1, w, VECTORS * LANES, length, sum);
}

template <int64_t ROWS, typename Function>
void call_for(int64_t row, int64_t rows, const Function& function) {
  if (rows == ROWS) function(row, std::integral_constant<int64_t, ROWS>());
  else if constexpr (ROWS > 1) call_for<ROWS - 1>(row, rows, function);
}

// Call function(first row, number of rows) for parts of equal size, at most MOST, a constant each.
template <int64_t MOST, typename Function>
void for_each_part(int64_t begin, int64_t end, const Function& function) {
  const int64_t rows = end - begin, parts = (rows + MOST - 1) / MOST;
  for (int64_t part = 0; part < parts; part++) {
    const int64_t first = rows * part / parts, next = rows * (part + 1) / parts;
    call_for<MOST>(begin + first, next - first, function);
  }
}

// Memory that is aligned for vectors.
struct Numbers {
  std::vector<Vec> vectors;
  explicit Numbers(int64_t count) : vectors((count + LANES - 1) / LANES, Vec(0)) {}
  float* begin() { return reinterpret_cast<float*>(vectors.data()); }
};

// Copy rows of a matrix that have gaps between them.
inline void copy_rows(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows,
                      int64_t length) {
  for (int64_t i = 0; i < rows; i++)
    std::memcpy(to + i * to_stride, from + i * stride, length * sizeof(float));
}

// Copy the transpose of a matrix.
inline void transpose(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows,
                      int64_t length) {
  for (int64_t i = 0; i < rows; i += LANES)
    for (int64_t k = 0; k < length; k += LANES) {
      const int64_t down = std::min(LANES, rows - i), along = std::min(LANES, length - k);
      at::vec::transpose_mxn(from + i * stride + k, stride, to + k * to_stride + i, to_stride,
                             int(down), int(along));
    }
}

// c_0 + c_1 x + c_2 x^2 + ..., with the coefficients from the last to the first.
template <size_t N>
Vec polynomial(const float (&coefficients)[N], Vec x) {
  Vec sum(coefficients[0]);
#pragma GCC unroll 8
  for (size_t i = 1; i < N; i++) sum = at::vec::fmadd(sum, x, Vec(coefficients[i]));
  return sum;
}

// tanh by Eigen's rational function of degree 13 over 6, in a third of the C library's time, within 5
// units in the last place. x is multiplied last: otherwise a tiny x would lose digits.
Vec tanh(Vec x) {
  const Vec most(7.90531111f), near = at::vec::clamp(x, most.neg(), most), square = near * near;
  const Vec odd = polynomial({-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                              5.12229709037114e-08f, 1.48572235717979e-05f, 6.37261928875436e-04f,
                              4.89352455891786e-03f},
                             square);
  const Vec even = polynomial({1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                               4.89352518554385e-03f},
                              square);
  return near * (odd / even);
}
