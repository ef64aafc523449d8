// Products a b in float32 of shape (ROWS, COLUMNS), by tiles that have two vectors of some lines each,
// whose sums stay in registers until they are whole; two registers more than in other loops are left,
// for GCC may keep constants there, and factors in memory. a is (ROWS, TERMS); b is (TERMS, COLUMNS),
// but given as (COLUMNS, TERMS) if B_IS_TURNED.
//
// Each thread has some lines, always the same, and finds what it keeps of them in its core's cache. It
// goes through them in blocks of columns, for which a copy of b stays there too: its own, for one that
// threads write together they wait for.

constexpr int64_t VECTORS = 2, WIDTH = VECTORS * LANES, MOST = (REGISTERS - 2) / VECTORS;
constexpr int64_t ACROSS = (COLUMNS + WIDTH - 1) / WIDTH;
// Parts of the lines, as many for each thread, with FEW lines or one more.
constexpr int64_t PARTS = (ROWS + MOST * THREADS - 1) / (MOST * THREADS) * THREADS;
constexpr int64_t FEW = ROWS / PARTS;
// Tiles side by side whose columns of b are half a megabyte.
constexpr int64_t BLOCK = std::max<int64_t>(1, std::min(ACROSS, (1 << 17) / (TERMS * WIDTH)));

constexpr int64_t line_of(int64_t part) { return ROWS * part / PARTS; }

// Call a function of how many lines a part has, a constant.
template <typename Function>
void call_with_lines(int64_t part, const Function& function) {
  if (line_of(part + 1) - line_of(part) == FEW) function(std::integral_constant<int64_t, FEW>());
  else function(std::integral_constant<int64_t, std::min(FEW + 1, MOST)>());
}

// One line of b in a tile, whose memory is not written to before it is laid.
struct alignas(64) Line {
  float numbers[WIDTH];
};

// Lay columns of b so that what a tile needs of each term lies side by side. Behind the last come
// zeros, lest what lies there be denormal, and slow.
inline void lay_columns(const float* b, int64_t begin, int64_t end, float* to) {
  for (int64_t i = begin; i < end; i++, to += TERMS * WIDTH) {
    const int64_t column = i * WIDTH, width = std::min(WIDTH, COLUMNS - column);
    const float* from = b + column * (B_IS_TURNED ? TERMS : 1);
    if (width < WIDTH) std::memset(to, 0, TERMS * WIDTH * sizeof(float));
    if (B_IS_TURNED) turn(from, TERMS, to, WIDTH, width, TERMS);
    else if (width == WIDTH) copy_lines(from, COLUMNS, to, WIDTH, TERMS, WIDTH);
    else copy_lines(from, COLUMNS, to, WIDTH, TERMS, width);
  }
}

// The parts whose lines a thread has.
struct Parts {
  int64_t begin, end;
};
inline Parts parts_of(int64_t thread) {
  return {PARTS * thread / THREADS, PARTS * (thread + 1) / THREADS};
}

// Call function(how many lines, a constant; the first; the first column; columns of b, laid) for each
// tile of some parts.
template <typename Function>
void for_each_tile(const float* b, Parts parts, const Function& function) {
  const std::unique_ptr<Line[]> columns(new Line[BLOCK * TERMS]);
  for (int64_t first = 0; first < ACROSS; first += BLOCK) {
    const int64_t next = std::min(first + BLOCK, ACROSS);
    lay_columns(b, first, next, columns[0].numbers);
    for (int64_t part = parts.begin; part < parts.end; part++)
      for (int64_t i = first; i < next; i++)
        call_with_lines(part, [&](auto lines) {
          function(lines, line_of(part), i * WIDTH, columns[(i - first) * TERMS].numbers);
        });
  }
}
