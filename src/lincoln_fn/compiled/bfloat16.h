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
  int64_t begin, end;
  explicit Part(int64_t thread)
      : begin(N_OUT * thread / THREADS), end(N_OUT * (thread + 1) / THREADS) {}
};

inline void round_line(const Low* from, int64_t length, Low* to) {
  std::memcpy(to, from, length * sizeof(Low));
}

inline void round_line(const float* from, int64_t length, Low* to) {
  using Two = at::vec::VectorizedN<float, 2>;
  int64_t j = 0;
  for (; j + 2 * LANES <= length; j += 2 * LANES)
    at::vec::convert<Low, 1, float, 2>(Two::loadu(from + j)).store(to + j);
  for (; j < length; j++) to[j] = Low(from[j]);
}

// Lines that are rounded are copied; behind each of odd length comes a zero.
template <typename Number>
void round_lines(const Number* from, int64_t lines, int64_t length, Low* to) {
  for (int64_t i = 0; i < lines; i++, from += length, to += even(length)) {
    round_line(from, length, to);
    if (length % 2) to[length] = Low(0);
  }
}

// Lines as they lie, if they are rounded and of even length; else behind `to`.
template <typename Number>
const Low* ready_lines(const Number* from, int64_t lines, int64_t length, Low* to) {
  if constexpr (std::is_same_v<Number, Low>)
    if (length % 2 == 0) return from;
  round_lines(from, lines, length, to);
  return to;
}

// Lines of even length become columns, laid by twos; `apart` is how many columns there are in all.
inline void turn_by_twos(const Low* from, int64_t lines, int64_t length, Low* to, int64_t apart) {
  turn(reinterpret_cast<const float*>(from), length / 2, reinterpret_cast<float*>(to), apart, lines,
       length / 2);
}
