// Products a b of float32, made in float16 by vectors of 32 numbers and tiles of two of them, in some
// lines each. a is (ROWS, TERMS), but given as (TERMS, ROWS) if A_IS_TURNED; b is (TERMS, COLUMNS), but
// given as (COLUMNS, TERMS) if B_IS_TURNED.
//
// Each line of a and each column of b is brought below 32 by a power of two, so that nothing overflows,
// and little is lost. Sums of up to 32 terms are made in float16, and added up in float32.
//
// Threads share a's lines, or b's columns if these are more, so that each finds what it had of the larger
// factor a step before in its core's cache. Of the other each makes a copy of its own.

using Half = at::Half;

constexpr int64_t HALVES = 32, VECTORS = 2, WIDTH = VECTORS * HALVES, MOST = 13;
constexpr int64_t LONGEST_SUM = 32;
constexpr int POWER = 5;
constexpr int64_t ACROSS = (COLUMNS + WIDTH - 1) / WIDTH;
using Parts = PartsOf<MOST, BY_COLUMNS ? 1 : THREADS>;
// Parts of the terms, and tiles side by side for which such a part of b is half a megabyte.
constexpr int64_t CHAINS = (TERMS + 1023) / 1024, LONGEST = (TERMS + CHAINS - 1) / CHAINS;
constexpr int64_t BLOCK = std::max<int64_t>(1, std::min(ACROSS, (1 << 18) / (LONGEST * WIDTH)));
// Between terms of one line in a copy of a, and between its lines.
constexpr int64_t ALONG = A_IS_TURNED ? LANES : 1;
constexpr int64_t APART = A_IS_TURNED ? 1 : (LONGEST + LANES - 1) / LANES * LANES;

// Numbers as integers, whose order is that of their magnitudes; what is not finite comes last.
inline __m512i magnitudes(Vec x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

// Powers of two: those that bring numbers below 2^POWER, and those that take them back.
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

inline __m512i largest_of(const float* from, int64_t apart, int64_t lines, int64_t columns) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < lines; i++)
    largest = _mm512_max_epu32(largest, magnitudes(Vec::loadu(from + i * apart, columns)));
  return largest;
}

// The largest of a line, in all lanes.
inline uint32_t largest_in(const float* from, int64_t length) {
  const int64_t rest = length % LANES;
  const __m512i largest = largest_of(from, LANES, length / LANES, LANES);
  const __m512i last = largest_of(from + length - rest, 0, 1, rest);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(largest, last));
}

// Round lines of numbers that lie side by side, and write what takes each back.
inline void round_lines(const float* from, int64_t lines, int64_t length, Half* to, float* back) {
  for (int64_t i = 0; i < lines; i++, from += TERMS, to += APART) {
    const Scales scales = scales_for(_mm512_set1_epi32(largest_in(from, length)));
    for (int64_t k = 0; k < length; k += LANES)
      store(Vec::loadu(from + k, std::min(LANES, length - k)) * scales.to, to + k);
    back[i] = _mm512_cvtss_f32(scales.back);
  }
}

// Round columns of some vectors, whose lines lie `apart`, and will lie `along`; behind the last of them
// come zeros.
template <int64_t VECTORS>
void round_columns(const float* from, int64_t apart, int64_t columns, int64_t length, Half* to,
                   int64_t along, float* back) {
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
    for (int64_t v = 0; v < VECTORS; v++) store(at(k, v) * scales[v].to, to + k * along + v * LANES);
}

// Round up to LANES lines, and turn them into such columns.
inline void turn_lines(const float* from, int64_t lines, int64_t length, Half* to, float* back) {
  uint32_t largest[LANES] = {};
  for (int64_t i = 0; i < lines; i++) largest[i] = largest_in(from + i * TERMS, length);
  const Scales scales = scales_for(_mm512_loadu_si512(largest));
  alignas(64) float turned[LANES * LANES] = {};
  for (int64_t k = 0; k < length; k += LANES) {
    const int64_t count = std::min(LANES, length - k);
    turn(from + k, TERMS, turned, LANES, lines, count);
    for (int64_t i = 0; i < count; i++)
      store(Vec::loadu(turned + i * LANES) * scales.to, to + (k + i) * WIDTH);
  }
  scales.back.store(back);
}

// Lay a tile's columns of b, with zeros behind the last.
inline void lay_columns(const float* b, int64_t column, Range terms, Half* to, float* back) {
  const int64_t columns = std::min(WIDTH, COLUMNS - column), length = terms.count();
  const float* from = B_IS_TURNED ? b + column * TERMS + terms.begin
                                  : b + terms.begin * COLUMNS + column;
  if (!B_IS_TURNED)
    return round_columns<WIDTH / LANES>(from, COLUMNS, columns, length, to, WIDTH, back);
  for (int64_t i = 0; i < WIDTH; i += LANES)
    turn_lines(from + i * TERMS, std::clamp<int64_t>(columns - i, 0, LANES), length, to + i, back + i);
}

// Lay a tile's lines of a.
inline void lay_lines(const float* a, int64_t line, int64_t lines, Range terms, Half* to, float* back) {
  if (A_IS_TURNED)
    round_columns<1>(a + terms.begin * ROWS + line, ROWS, lines, terms.count(), to, LANES, back);
  else round_lines(a + line * TERMS + terms.begin, lines, terms.count(), to, back);
}

#ifdef __AVX512FP16__
using Halves = __m512h;

// sum += a w, of a number and a vector.
inline void add_product(const Half& a, Halves w, Halves& sum) {
  // GCC would first copy the number into all of a register.
  asm("vfmadd231ph %1%{1to32%}, %2, %0" : "+v"(sum) : "m"(a), "v"(w));
}

inline Halves load_halves(const Half* from) { return _mm512_loadu_ph(from); }
inline Vec first_half(Halves x) { return _mm512_cvtxph_ps(_mm512_castph512_ph256(x)); }
inline Vec second_half(Halves x) {
  return _mm512_cvtxph_ps(_mm256_castpd_ph(_mm512_extractf64x4_pd(_mm512_castph_pd(x), 1)));
}
#else
// A compiler that does not know such vectors makes the sums in float32.
struct Halves {
  Vec first = Vec(0), second = Vec(0);
};

inline void add_product(const Half& a, const Halves& w, Halves& sum) {
  sum.first = at::vec::fmadd(Vec(float(a)), w.first, sum.first);
  sum.second = at::vec::fmadd(Vec(float(a)), w.second, sum.second);
}

inline Halves load_halves(const Half* from) {
  const auto load = [](const Half* half) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
  };
  return {load(from), load(from + LANES)};
}
inline Vec first_half(const Halves& x) { return x.first; }
inline Vec second_half(const Halves& x) { return x.second; }
#endif

struct alignas(64) Line {
  float numbers[WIDTH];
};
struct alignas(64) HalfLine {
  Half numbers[WIDTH];
};

// Add up some terms of a tile, and add their sums to those before. By itself, for GCC is to give all of
// the registers to it.
template <int64_t LINES, int64_t VECTORS>
[[gnu::noinline]] void add_run(const Half* a, const HalfLine* b, int64_t terms, bool is_first,
                               Line* sums) {
  Halves sum[LINES][VECTORS] = {};
  for (int64_t k = 0; k < terms; k++, a += ALONG, b++) {
    Halves numbers[VECTORS];
#pragma GCC unroll 2
    for (int64_t v = 0; v < VECTORS; v++) numbers[v] = load_halves(b->numbers + v * HALVES);
#pragma GCC unroll 13
    for (int64_t i = 0; i < LINES; i++)
#pragma GCC unroll 2
      for (int64_t v = 0; v < VECTORS; v++) add_product(a[i * APART], numbers[v], sum[i][v]);
  }
#pragma GCC unroll 13
  for (int64_t i = 0; i < LINES; i++)
#pragma GCC unroll 2
    for (int64_t v = 0; v < VECTORS; v++) {
      float* place = sums[i].numbers + v * HALVES;
      const Vec first = first_half(sum[i][v]), second = second_half(sum[i][v]);
      (is_first ? first : Vec::loadu(place) + first).store(place);
      (is_first ? second : Vec::loadu(place + LANES) + second).store(place + LANES);
    }
}

// Add up a tile, and call a function of each run of terms meanwhile.
template <int64_t LINES, int64_t VECTORS, typename Function>
void add_up(const Half* a, const HalfLine* b, int64_t terms, Line* sums, const Function& beside) {
  const int64_t runs = (terms + LONGEST_SUM - 1) / LONGEST_SUM;
  for (int64_t run = 0; run < runs; run++) {
    beside(run, runs);
    const Range own = share_of(run, runs, terms);
    add_run<LINES, VECTORS>(a + own.begin * ALONG, b + own.begin, own.count(), run == 0, sums);
  }
}

inline void fetch(const float* from, int64_t apart, int64_t lines, int64_t length) {
  for (int64_t i = 0; i < lines; i++)
    for (int64_t k = 0; k < length; k += LANES) __builtin_prefetch(from + i * apart + k);
}

// Write a tile, or add it to what is there.
inline void write(const Line* sums, int64_t lines, const float* back_a, const float* back_b, float* y,
                  int64_t width, bool is_added) {
  for (int64_t i = 0; i < lines; i++, y += COLUMNS)
    for (int64_t k = 0; k < width; k += LANES) {
      const int64_t count = std::min(LANES, width - k);
      // The smaller power first, lest the other one overflow.
      const Vec of_a(back_a[i]), of_b = Vec::loadu(back_b + k);
      Vec made = Vec::loadu(sums[i].numbers + k) * at::vec::minimum(of_a, of_b);
      made = made * at::vec::maximum(of_a, of_b);
      if (is_added) made = made + Vec::loadu(y + k, count);
      made.store(y + k, int(count));
    }
}

// Write a b to y, or add it.
inline void multiply(const float* a, const float* b, float* y, bool is_added) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const Range parts = BY_COLUMNS ? Range{0, Parts::COUNT}
                                    : share_of(thread, THREADS, Parts::COUNT);
    const Range tiles = BY_COLUMNS ? share_of(thread, THREADS, ACROSS) : Range{0, ACROSS};
    const std::unique_ptr<HalfLine[]> columns(new HalfLine[BLOCK * LONGEST]);
    const std::unique_ptr<Line[]> back_b(new Line[BLOCK]);
    alignas(64) Half lines_of_a[LANES * std::max(LONGEST, APART)];
    float back_a[LANES];
    Line sums[MOST];
    for (int64_t first = tiles.begin; first < tiles.end; first += BLOCK)
      for (int64_t chain = 0; chain < CHAINS; chain++) {
        const Range terms = share_of(chain, CHAINS, TERMS);
        const int64_t next = std::min(first + BLOCK, tiles.end);
        const auto place_of = [&](int64_t i) { return &columns[(i - first) * LONGEST]; };
        for (int64_t i = first; i < next; i++)
          lay_columns(b, i * WIDTH, terms, place_of(i)->numbers, back_b[i - first].numbers);
        for (int64_t part = parts.begin; part < parts.end; part++)
          Parts::call_with_lines(part, [&](auto lines) {
            constexpr int64_t LINES = lines.value;
            const int64_t line = Parts::lines(part).begin;
            lay_lines(a, line, LINES, terms, lines_of_a, back_a);
            for (int64_t i = first; i < next; i++) {
              const int64_t width = std::min(WIDTH, COLUMNS - i * WIDTH);
              float* to = y + line * COLUMNS + i * WIDTH;
              // What is read next: the tile's own lines of y, and some of the next part's of a.
              const auto beside = [&](int64_t run, int64_t runs) {
                const Range own = share_of(run, runs, LINES);
                fetch(to + own.begin * COLUMNS, COLUMNS, own.count(), width);
                if (A_IS_TURNED || part + 1 == parts.end) return;
                const int64_t shares = (next - first) * runs;
                const Range some = share_of((i - first) * runs + run, shares, terms.count());
                fetch(a + (line + LINES) * TERMS + terms.begin + some.begin, TERMS, LINES, some.count());
              };
              if (width > HALVES)
                add_up<LINES, 2>(lines_of_a, place_of(i), terms.count(), sums, beside);
              else add_up<LINES, 1>(lines_of_a, place_of(i), terms.count(), sums, beside);
              write(sums, LINES, back_a, back_b[i - first].numbers, to, width, is_added || chain);
            }
          });
      }
  }
}
