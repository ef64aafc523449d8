// Updates leaves of shape (ROWS, COLUMNS) by a product a b in float32, element by element. Before
// this file stand the constants of one shape, and after it the update. a is (ROWS, TERMS) and b
// (TERMS, COLUMNS); they are passed as their transposes if A_IS_TURNED and if B_IS_TURNED.
//
// A tile of the product is some rows by two vectors. Its sums stay in registers until they are
// complete. Each thread computes the same rows in every step, so their data may still be in its core's
// cache. It computes them for one block of b's columns after the other, and keeps a copy of the block.

constexpr int64_t VECTORS = 2, WIDTH = VECTORS * LANES;
// Two registers more than in other kernels are left free, because GCC may keep constants there.
constexpr int64_t MOST = (REGISTERS - 2) / VECTORS;
// The same number of parts for each thread, with FEW rows or one more.
constexpr int64_t PARTS = (ROWS + MOST * THREADS - 1) / (MOST * THREADS) * THREADS;
constexpr int64_t FEW = ROWS / PARTS;
// The number of b's columns in a block of a quarter of a megabyte, a multiple of a tile's.
constexpr int64_t BLOCK = std::max<int64_t>(1, (1 << 16) / (TERMS * WIDTH)) * WIDTH;

// Call function(number of rows, a constant; first row) for each part of a thread's rows.
template <typename Function>
void for_each_part_of(int64_t thread, const Function& function) {
  for (int64_t part = PARTS * thread / THREADS; part < PARTS * (thread + 1) / THREADS; part++) {
    const int64_t line = ROWS * part / PARTS, next = ROWS * (part + 1) / PARTS;
    if (next - line == FEW) function(std::integral_constant<int64_t, FEW>(), line);
    else function(std::integral_constant<int64_t, std::min(FEW + 1, MOST)>(), line);
  }
}

// Copy a part's rows of a, so that a tile's numbers of each term are neighbours in memory.
template <int64_t LINES>
void lay_lines(const float* a, int64_t line, float* to) {
  if (A_IS_TURNED) copy_rows(a + line, ROWS, to, LINES, TERMS, LINES);
  else transpose(a + line * TERMS, TERMS, to, LINES, LINES, TERMS);
}

// The same for a tile's columns of b.
inline void lay_columns(const float* b, int64_t column, float* to) {
  const int64_t width = std::min(WIDTH, COLUMNS - column);
  if (B_IS_TURNED) transpose(b + column * TERMS, TERMS, to, WIDTH, width, TERMS);
  else if (width == WIDTH) copy_rows(b + column, COLUMNS, to, WIDTH, TERMS, WIDTH);
  else copy_rows(b + column, COLUMNS, to, WIDTH, TERMS, width);
}

// Update the leaves by a tile of a b. They are fetched while its sums are computed.
template <int64_t LINES, typename Change>
void change_tile(const float* a, const float* b, int64_t line, int64_t column, float* const* leaves,
                 const Change& change) {
  Vec sum[LINES][VECTORS];
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) sum[i][0] = sum[i][1] = Vec(0);
  // The number of terms that are added while one row is fetched.
  constexpr int64_t EACH = TERMS / LINES;
#pragma GCC unroll 1
  for (int64_t i = 0; i < LINES; i++, a += EACH * LINES, b += EACH * WIDTH) {
    for (int64_t leaf = 0; leaf < LEAVES; leaf++)
      for (int64_t v = 0; v < VECTORS; v++)
        __builtin_prefetch(leaves[leaf] + (line + i) * COLUMNS + column + v * LANES, 1);
    add_product(a, 1, LINES, b, WIDTH, EACH, sum);
  }
  add_product(a, 1, LINES, b, WIDTH, TERMS - EACH * LINES, sum);
  float sums[LINES * WIDTH];
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) {
    sum[i][0].store(sums + i * WIDTH);
    sum[i][1].store(sums + i * WIDTH + LANES);
  }
  for (int64_t i = 0; i < LINES; i++)
    for (int64_t k = 0; k < std::min(WIDTH, COLUMNS - column); k += LANES) {
      const int64_t place = (line + i) * COLUMNS + column + k;
      const int64_t count = std::min(LANES, COLUMNS - column - k);
      Vec changed[LEAVES];
#pragma GCC unroll 8
      for (int64_t leaf = 0; leaf < LEAVES; leaf++)
        changed[leaf] = Vec::loadu(leaves[leaf] + place, count);
      change(Vec::loadu(sums + i * WIDTH + k), changed);
#pragma GCC unroll 8
      for (int64_t leaf = 0; leaf < LEAVES; leaf++) changed[leaf].store(leaves[leaf] + place, count);
    }
}

template <typename Change>
void change_all(const float* a, const float* b, float* const* leaves, const Change& change) {
  const std::unique_ptr<float[]> laid(new float[ROWS * TERMS]);
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    for_each_part_of(thread, [&](auto lines, int64_t line) {
      lay_lines<lines>(a, line, laid.get() + line * TERMS);
    });
    Numbers columns(BLOCK * TERMS);
    for (int64_t first = 0; first < COLUMNS; first += BLOCK) {
      const int64_t next = std::min(first + BLOCK, COLUMNS);
      for (int64_t column = first; column < next; column += WIDTH)
        lay_columns(b, column, columns.begin() + (column - first) * TERMS);
      for_each_part_of(thread, [&](auto lines, int64_t line) {
        for (int64_t column = first; column < next; column += WIDTH)
          change_tile<lines>(laid.get() + line * TERMS, columns.begin() + (column - first) * TERMS,
                             line, column, leaves, change);
      });
    }
  }
}
