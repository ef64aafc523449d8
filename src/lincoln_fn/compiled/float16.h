// Products a b of float32, made in float16 by vectors of 32 numbers and tiles of two of them, in some
// lines each. a is (ROWS, TERMS), but given as (TERMS, ROWS) if A_IS_TURNED; b is (TERMS, COLUMNS), but
// given as (COLUMNS, TERMS) if B_IS_TURNED.
//
// Each line of a and each column of b is rounded by itself. Sums of up to 48 terms are made in float16, in
// which they have room, and added up in float32.
//
// Threads share a's lines, or b's columns if these are more, so that each finds what it had of the larger
// factor a step before in its core's cache. Of the other each makes a copy of its own.

constexpr int64_t HALVES = 32, VECTORS = 2, WIDTH = VECTORS * HALVES, MOST = 13;
constexpr int64_t LONGEST_SUM = 48;
constexpr int64_t ACROSS = (COLUMNS + WIDTH - 1) / WIDTH;
using Parts = PartsOf<MOST, BY_COLUMNS ? 1 : THREADS>;
// Tiles side by side for which a chain of b's terms is half a megabyte.
constexpr int64_t BLOCK = std::max<int64_t>(1, std::min(ACROSS, (1 << 18) / (LONGEST * WIDTH)));
// Between terms of one line in a copy of a, and between its lines.
constexpr int64_t ALONG = A_IS_TURNED ? LANES : 1;
constexpr int64_t APART = A_IS_TURNED ? 1 : (LONGEST + LANES - 1) / LANES * LANES;

// Lay a tile's columns of b.
inline void lay_columns(const float* b, int64_t column, Range terms, Half* to, float* back) {
  const int64_t columns = std::min(WIDTH, COLUMNS - column), length = terms.count();
  if (!B_IS_TURNED)
    return round_columns<WIDTH / LANES>(b + terms.begin * COLUMNS + column, COLUMNS, columns, length,
                                        to, WIDTH, back);
  for (int64_t i = 0; i < WIDTH; i += LANES)
    turn_lines(b + (column + i) * TERMS + terms.begin, TERMS,
               std::clamp<int64_t>(columns - i, 0, LANES), length, to + i, WIDTH, back + i);
}

// Lay a tile's lines of a.
inline void lay_lines(const float* a, int64_t line, int64_t lines, Range terms, Half* to, float* back) {
  if (A_IS_TURNED)
    round_columns<1>(a + terms.begin * ROWS + line, ROWS, lines, terms.count(), to, ALONG, back);
  else round_lines(a + line * TERMS + terms.begin, TERMS, lines, terms.count(), to, APART, back);
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

// What a thread has for itself.
struct Own {
  std::unique_ptr<HalfLine[]> columns{new HalfLine[BLOCK * LONGEST]};
  std::unique_ptr<Line[]> back_b{new Line[BLOCK]};
  Half lines[LANES * std::max(LONGEST, APART)];
  float back_a[LANES];
  Line sums[MOST];
};

// Write what some lines make of a block's tiles, or add it, and fetch the lines that come next.
template <int64_t LINES>
void multiply_lines(const float* a, int64_t line, int64_t next_lines, Range tiles, Range terms,
                    Own& own, float* y, bool is_added) {
  lay_lines(a, line, LINES, terms, own.lines, own.back_a);
  for (int64_t i = 0; i < tiles.count(); i++) {
    const int64_t column = (tiles.begin + i) * WIDTH, width = std::min(WIDTH, COLUMNS - column);
    float* to = y + line * COLUMNS + column;
    const auto beside = [&](int64_t run, int64_t runs) {
      const Range of_y = share_of(run, runs, LINES);
      fetch(to + of_y.begin * COLUMNS, COLUMNS, of_y.count(), width);
      const Range of_a = share_of(i * runs + run, tiles.count() * runs, terms.count());
      const float* next = a + (line + LINES) * TERMS + terms.begin + of_a.begin;
      if (!A_IS_TURNED) fetch(next, TERMS, next_lines, of_a.count());
    };
    const HalfLine* columns = &own.columns[i * LONGEST];
    if (width > HALVES) add_up<LINES, 2>(own.lines, columns, terms.count(), own.sums, beside);
    else add_up<LINES, 1>(own.lines, columns, terms.count(), own.sums, beside);
    write(own.sums, LINES, own.back_a, own.back_b[i].numbers, to, width, is_added);
  }
}

// Write a b to y, or add it.
inline void multiply(const float* a, const float* b, float* y, bool is_added) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const Range lines = share_of(BY_COLUMNS ? 0 : thread, BY_COLUMNS ? 1 : THREADS, Parts::COUNT);
    const Range across = share_of(BY_COLUMNS ? thread : 0, BY_COLUMNS ? THREADS : 1, ACROSS);
    Own own;
    for (int64_t first = across.begin; first < across.end; first += BLOCK)
      for (int64_t chain = 0; chain < CHAINS; chain++) {
        const Range terms = share_of(chain, CHAINS, TERMS);
        const Range tiles{first, std::min(first + BLOCK, across.end)};
        for (int64_t i = 0; i < tiles.count(); i++)
          lay_columns(b, (first + i) * WIDTH, terms, own.columns[i * LONGEST].numbers,
                      own.back_b[i].numbers);
        for (int64_t part = lines.begin; part < lines.end; part++)
          Parts::call_with_lines(part, [&](auto count) {
            const int64_t next = part + 1 < lines.end ? Parts::lines(part + 1).count() : 0;
            multiply_lines<count.value>(a, Parts::lines(part).begin, next, tiles, terms, own, y,
                                        is_added || chain);
          });
      }
  }
}
