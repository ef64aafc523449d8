// Numbers of float32 rounded to float16, which has room for numbers up to 65504 and loses digits below
// 2^-14: so each line, or column, is brought below 32 by a power of two, and `back` is what takes it back.

using Half = at::Half;

constexpr int POWER = 5;

// Numbers as integers, whose order is that of their magnitudes; what is not finite comes last.
inline __m512i magnitudes(Vec x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

// Powers of two, for whole lines or columns: those that bring numbers below 2^POWER, and those that take
// them back.
struct Scales {
  Vec to, back;
};
inline Scales scales_for(__m512i largest) {
  const auto power = [](__m512i n) { return Vec(_mm512_castsi512_ps(_mm512_slli_epi32(n, 23))); };
  const __m512i least = _mm512_set1_epi32(POWER);
  const __m512i exponent = _mm512_max_epi32(_mm512_srli_epi32(largest, 23), least);
  const __m512i back = _mm512_sub_epi32(exponent, _mm512_set1_epi32(POWER - 1));
  return {power(_mm512_sub_epi32(_mm512_set1_epi32(254), back)), power(back)};
}

inline void store(Vec x, Half* to) {
  const __m256i halves = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
}

// The largest magnitude in each of up to LANES columns.
inline __m512i largest_of(const float* from, int64_t apart, int64_t lines, int64_t columns) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < lines; i++)
    largest = _mm512_max_epu32(largest, magnitudes(Vec::loadu(from + i * apart, columns)));
  return largest;
}

// The same, of one line.
inline uint32_t largest_in(const float* from, int64_t length) {
  const int64_t rest = length % LANES;
  const __m512i largest = largest_of(from, LANES, length / LANES, LANES);
  const __m512i last = largest_of(from + length - rest, 0, 1, rest);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(largest, last));
}

// Round lines that lie `apart`, to where they will lie `to_apart`, and whole vectors of each; behind the
// last number come zeros.
inline void round_lines(const float* from, int64_t apart, int64_t lines, int64_t length, Half* to,
                        int64_t to_apart, float* back) {
  for (int64_t i = 0; i < lines; i++, from += apart, to += to_apart) {
    const Scales scales = scales_for(_mm512_set1_epi32(largest_in(from, length)));
    for (int64_t k = 0; k < length; k += LANES)
      store(Vec::loadu(from + k, std::min(LANES, length - k)) * scales.to, to + k);
    back[i] = _mm512_cvtss_f32(scales.back);
  }
}

// Round columns, whose lines lie `apart` and will lie `to_apart`, and have some vectors then; behind the
// last column come zeros.
template <int64_t VECTORS>
void round_columns(const float* from, int64_t apart, int64_t columns, int64_t length, Half* to,
                   int64_t to_apart, float* back) {
  const auto at = [&](int64_t k, int64_t v) {
    const int64_t count = std::clamp<int64_t>(columns - v * LANES, 0, LANES);
    return Vec::loadu(from + k * apart + v * LANES, count);
  };
  __m512i largest[VECTORS] = {};
  for (int64_t k = 0; k < length; k++)
#pragma GCC unroll 4
    for (int64_t v = 0; v < VECTORS; v++)
      largest[v] = _mm512_max_epu32(largest[v], magnitudes(at(k, v)));
  Scales scales[VECTORS];
  for (int64_t v = 0; v < VECTORS; v++) {
    scales[v] = scales_for(largest[v]);
    scales[v].back.store(back + v * LANES);
  }
  for (int64_t k = 0; k < length; k++)
#pragma GCC unroll 4
    for (int64_t v = 0; v < VECTORS; v++) store(at(k, v) * scales[v].to, to + k * to_apart + v * LANES);
}

// Round up to LANES lines that lie `apart`, and turn them into such columns, of one vector.
inline void turn_lines(const float* from, int64_t apart, int64_t lines, int64_t length, Half* to,
                       int64_t to_apart, float* back) {
  uint32_t largest[LANES] = {};
  for (int64_t i = 0; i < lines; i++) largest[i] = largest_in(from + i * apart, length);
  const Scales scales = scales_for(_mm512_loadu_si512(largest));
  alignas(64) float turned[LANES * LANES] = {};
  for (int64_t k = 0; k < length; k += LANES) {
    const int64_t count = std::min(LANES, length - k);
    turn(from + k, apart, turned, LANES, lines, count);
    for (int64_t i = 0; i < count; i++)
      store(Vec::loadu(turned + i * LANES) * scales.to, to + (k + i) * to_apart);
  }
  scales.back.store(back);
}
