// Leaves of shape (ROWS, COLUMNS) that change by a product a b in float32, element by element;
// product_updates.py writes the constants of one shape above, and how they change below. a is (ROWS,
// TERMS) and b (TERMS, COLUMNS), but a is given as (TERMS, ROWS) if A_IS_TURNED, and b as (COLUMNS,
// TERMS) if B_IS_TURNED.
//
// A tile of the product has two vectors of some lines, whose sums stay in registers until they are
// whole. The leaves change by it while the sums of the next tile are added up: divisions and square
// roots take long, but leave room for those. Each thread has some lines of the leaves, always the same,
// and goes through them in blocks of columns, for which b stays in its core's cache.

constexpr int64_t VECTORS = 2, WIDTH = VECTORS * LANES, MOST = REGISTERS / VECTORS;
constexpr int64_t ACROSS = (COLUMNS + WIDTH - 1) / WIDTH;
// Parts of the lines, as many for each thread, with FEW lines or one more.
constexpr int64_t PARTS = (ROWS + MOST * THREADS - 1) / (MOST * THREADS) * THREADS;
constexpr int64_t FEW = ROWS / PARTS;
// Steps of adding a tile up, between which the leaves change.
constexpr int64_t STEPS = 4;
// Shares of the terms, by which the threads lay b.
constexpr int64_t SHARES = 4 * THREADS;
// Tiles side by side whose columns of b are half a megabyte.
constexpr int64_t BLOCK = std::max<int64_t>(1, (1 << 17) / (TERMS * WIDTH));

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

// The sums of a tile, from which the leaves have not changed yet.
struct Tile {
  float sums[MOST * WIDTH];
  int64_t line = 0, lines = 0, column = 0;
};

// Change `count` numbers of the leaves, as many as a vector has or fewer. In line, for a call would
// write the next tile's sums to memory.
template <typename Change>
[[gnu::always_inline]] inline void change_vector(const float* sums, float* const* leaves,
                                                 int64_t place, int64_t count,
                                                 const Change& change) {
  Vec vectors[LEAVES];
#pragma GCC unroll 8
  for (int64_t i = 0; i < LEAVES; i++) vectors[i] = Vec::loadu(leaves[i] + place, count);
  change(Vec::loadu(sums), vectors);
#pragma GCC unroll 8
  for (int64_t i = 0; i < LEAVES; i++) vectors[i].store(leaves[i] + place, count);
}

// Change the leaves by some of a tile's vectors.
template <typename Change>
[[gnu::always_inline]] inline void change_some(const Tile& tile, int64_t begin, int64_t end,
                                               float* const* leaves, const Change& change) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t line = tile.line + i / VECTORS, column = tile.column + i % VECTORS * LANES;
    const int64_t place = line * COLUMNS + column, rest = COLUMNS - column;
    const float* sums = tile.sums + i * LANES;
    if (COLUMNS % WIDTH == 0 || rest >= LANES) change_vector(sums, leaves, place, LANES, change);
    else if (rest > 0) change_vector(sums, leaves, place, rest, change);
  }
}

// Add up a tile of a b; meanwhile fetch its part of the leaves, and change that of the one before.
template <int64_t LINES, typename Change>
void add_up(const float* a, const float* b, int64_t line, int64_t column, Tile& tile,
            float* const* leaves, const Change& change) {
  Vec sum[LINES][VECTORS];
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) sum[i][0] = sum[i][1] = Vec(0);
#pragma GCC unroll 1
  for (int64_t step = 0; step < STEPS; step++) {
    for (int64_t i = LINES * step / STEPS; i < LINES * (step + 1) / STEPS; i++)
      for (int64_t n = 0; n < LEAVES; n++) {
        const float* next = leaves[n] + (line + i) * COLUMNS + column;
        __builtin_prefetch(next, 1);
        __builtin_prefetch(next + LANES, 1);
      }
    const int64_t vectors = tile.lines * VECTORS;
    change_some(tile, vectors * step / STEPS, vectors * (step + 1) / STEPS, leaves, change);
    const int64_t begin = TERMS * step / STEPS, end = TERMS * (step + 1) / STEPS;
    add_product(a + begin * LINES, 1, LINES, b + begin * WIDTH, WIDTH, end - begin, sum);
  }
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) {
    sum[i][0].store(tile.sums + i * WIDTH);
    sum[i][1].store(tile.sums + i * WIDTH + LANES);
  }
  tile.line = line, tile.lines = LINES, tile.column = column;
}

// Lay a and b so that what a tile needs of each term lies side by side: the lines of some parts of a,
// and, by all threads together, the columns of b. Behind the last come zeros, lest what lies there be
// denormal, and slow.
inline void lay_lines(const float* a, int64_t begin, int64_t end, float* to) {
  for (int64_t part = begin; part < end; part++)
    call_with_lines(part, [&](auto count) {
      constexpr int64_t LINES = count.value;
      const int64_t line = line_of(part);
      float* own = to + line * TERMS;
      if (A_IS_TURNED) copy_lines(a + line, ROWS, own, LINES, TERMS, LINES);
      else at::vec::transpose_mxn(a + line * TERMS, TERMS, own, LINES, int(LINES), int(TERMS));
    });
}
inline void lay_columns(const float* b, float* to) {
#pragma omp for
  for (int64_t part = 0; part < SHARES; part++)
    for (int64_t column = 0; column < COLUMNS; column += WIDTH) {
      const int64_t first = TERMS * part / SHARES, terms = TERMS * (part + 1) / SHARES - first;
      const int64_t width = std::min(WIDTH, COLUMNS - column);
      const float* from = b + (B_IS_TURNED ? column * TERMS + first : first * COLUMNS + column);
      float* own = to + column * TERMS + first * WIDTH;
      if (width < WIDTH) std::memset(own, 0, terms * WIDTH * sizeof(float));
      if (B_IS_TURNED) at::vec::transpose_mxn(from, TERMS, own, WIDTH, int(width), int(terms));
      else if (width == WIDTH) copy_lines(from, COLUMNS, own, WIDTH, terms, WIDTH);
      else copy_lines(from, COLUMNS, own, WIDTH, terms, width);
    }
}

template <typename Change>
void change(const float* a, const float* b, float* const* leaves, const Change& change) {
  const std::unique_ptr<float[]> lines(new float[ROWS * TERMS]);
  const std::unique_ptr<Line[]> columns(new Line[ACROSS * TERMS]);
#pragma omp parallel num_threads(THREADS)
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t begin = PARTS * thread / threads, end = PARTS * (thread + 1) / threads;
    lay_lines(a, begin, end, lines.get());
    lay_columns(b, columns[0].numbers);
    Tile tile;
    for (int64_t first = 0; first < ACROSS; first += BLOCK)
      for (int64_t part = begin; part < end; part++)
        for (int64_t i = first; i < std::min(first + BLOCK, ACROSS); i++)
          call_with_lines(part, [&](auto count) {
            const int64_t line = line_of(part);
            add_up<count.value>(lines.get() + line * TERMS, columns[i * TERMS].numbers, line,
                                i * WIDTH, tile, leaves, change);
          });
    change_some(tile, 0, tile.lines * VECTORS, leaves, change);
  }
}
