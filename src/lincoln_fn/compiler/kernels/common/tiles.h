// Products a b in float32 of shape (ROWS, COLUMNS), by tiles that have two vectors of some lines each,
// whose sums stay in registers until they are whole; two registers more than in other loops are left,
// for GCC may keep constants there, and factors in memory. a is (ROWS, TERMS); b is (TERMS, COLUMNS),
// but given as (COLUMNS, TERMS) if B_IS_TURNED.
//
// Each thread has some lines, always the same, and finds what it keeps of them in its core's cache. It
// goes through them for a block of b's columns at a time, and up to 1024 of their terms, of which a copy
// stays there too: its own, for one that threads write together they wait for. Where its lines of a stay
// there from block to block, blocks are small, lest copies drive out what it keeps.

constexpr int64_t VECTORS = 2, WIDTH = VECTORS * LANES, MOST = (REGISTERS - 2) / VECTORS;
constexpr int64_t ACROSS = (COLUMNS + WIDTH - 1) / WIDTH;
using Parts = PartsOf<MOST, THREADS>;
// Tiles side by side for which a chain of b's terms is half a megabyte; or an eighth of one, if each
// thread's lines of a are a megabyte at most.
constexpr int64_t COPIED = ROWS * TERMS <= THREADS << 18 ? 1 << 15 : 1 << 17;
constexpr int64_t BLOCK = std::max<int64_t>(1, std::min(ACROSS, COPIED / (LONGEST * WIDTH)));

// One line of b in a tile, whose memory is not written to before it is laid.
struct alignas(64) Line {
  float numbers[WIDTH];
};

// Lay a tile's columns of b so that what it needs of each term lies side by side. Behind the last come
// zeros, lest what lies there be denormal, and slow.
inline void lay_columns(const float* b, int64_t column, Range terms, float* to) {
  const int64_t width = std::min(WIDTH, COLUMNS - column);
  const float* from = B_IS_TURNED ? b + column * TERMS + terms.begin
                                  : b + terms.begin * COLUMNS + column;
  if (width < WIDTH) std::memset(to, 0, terms.count() * WIDTH * sizeof(float));
  if (B_IS_TURNED) turn(from, TERMS, to, WIDTH, width, terms.count());
  else if (width == WIDTH) copy_lines(from, COLUMNS, to, WIDTH, terms.count(), WIDTH);
  else copy_lines(from, COLUMNS, to, WIDTH, terms.count(), width);
}

// Call function(how many lines, a constant; the first; the first column; columns of b, laid; of which
// terms) for each tile of some parts, for one part of the terms after another.
template <typename Function>
void for_each_tile(const float* b, Range parts, const Function& function) {
  const std::unique_ptr<Line[]> columns(new Line[BLOCK * LONGEST]);
  for (int64_t first = 0; first < ACROSS; first += BLOCK)
    for (int64_t chain = 0; chain < CHAINS; chain++) {
      const int64_t next = std::min(first + BLOCK, ACROSS);
      const Range terms = share_of(chain, CHAINS, TERMS);
      const auto place_of = [&](int64_t i) { return columns[(i - first) * LONGEST].numbers; };
      for (int64_t i = first; i < next; i++) lay_columns(b, i * WIDTH, terms, place_of(i));
      for (int64_t part = parts.begin; part < parts.end; part++)
        for (int64_t i = first; i < next; i++)
          Parts::call_with_lines(part, [&](auto lines) {
            function(lines, Parts::lines(part).begin, i * WIDTH, place_of(i), terms);
          });
    }
}
