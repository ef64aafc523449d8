// What products of numbers rounded to bfloat16 share. Torch's own kernel makes them, with sums in
// float32. The processor multiplies numbers by twos, so the second factor's lines lie by twos: each
// number of one line beside that of the next.

using Low = at::BFloat16;

constexpr int64_t even(int64_t n) { return (n + 1) / 2 * 2; }

// A number of x or g, which may be rounded already.
using X = std::conditional_t<IS_ROUNDED, Low, float>;

// Memory for rounded numbers, which holds nothing yet.
struct Rounded {
  std::unique_ptr<Low[]> numbers;
  explicit Rounded(int64_t count) : numbers(new Low[count]) {}
  Low* begin() const { return numbers.get(); }
  operator Low*() const { return begin(); }
};

// The lines of W that a thread has.
struct Part {
  int64_t begin = N_OUT * omp_get_thread_num() / omp_get_num_threads();
  int64_t end = N_OUT * (omp_get_thread_num() + 1) / omp_get_num_threads();
};

// Lines that are rounded are copied; behind each of odd length comes a zero.
inline void round_lines(const Low* from, int64_t lines, int64_t length, Low* to) {
  for (int64_t i = 0; i < lines; i++, from += length, to += even(length)) {
    std::memcpy(to, from, length * sizeof(Low));
    if (length % 2) to[length] = Low(0);
  }
}

inline void round_lines(const float* from, int64_t lines, int64_t length, Low* to) {
  using Two = at::vec::VectorizedN<float, 2>;
  for (int64_t i = 0; i < lines; i++, from += length, to += even(length)) {
    int64_t j = 0;
    for (; j + 2 * LANES <= length; j += 2 * LANES)
      at::vec::convert<Low, 1, float, 2>(Two::loadu(from + j)).store(to + j);
    for (; j < length; j++) to[j] = Low(from[j]);
    if (length % 2) to[length] = Low(0);
  }
}
