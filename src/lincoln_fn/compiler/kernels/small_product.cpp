// y = a b in float32, BATCH small products. Before this file stand the constants of one shape. a is
// (BATCH, ROWS, TERMS), b (BATCH, TERMS, COLUMNS) and y (BATCH, ROWS, COLUMNS); a is passed as
// (BATCH, TERMS, ROWS) if A_IS_TURNED, and b as (BATCH, COLUMNS, TERMS) if B_IS_TURNED; b is the
// first argument if SWAPPED.
//
// A tile of y is some rows by one vector. Its sums stay in registers until they are complete. Usually
// the tiles of the same columns are computed one after the other. For them b is copied if it is turned,
// or has too few columns to fill a vector. If b is not copied, and a is turned, the tiles of the same
// rows are computed one after the other, because a's rows are then scattered in memory.

constexpr bool COPIED = B_IS_TURNED || COLUMNS < LANES, BY_LINES = A_IS_TURNED && !COPIED;
constexpr int64_t ROW_STRIDE = A_IS_TURNED ? 1 : TERMS, STRIDE = A_IS_TURNED ? ROWS : 1;
constexpr int64_t WIDTH = std::min(COLUMNS, LANES), ACROSS = (COLUMNS + LANES - 1) / LANES;
constexpr int64_t MOST = std::min<int64_t>(REGISTERS, 16);
constexpr int64_t DOWN = (ROWS + MOST - 1) / MOST, LINES = (ROWS + DOWN - 1) / DOWN;

// The columns of b for a tile, a copy if COPIED.
struct Columns {
  float numbers[COPIED ? TERMS * LANES : 1];
  Columns() {
    if (COLUMNS < LANES) std::memset(numbers, 0, sizeof(numbers));
  }
  void copy(const float* b) {
    if (B_IS_TURNED) transpose(b, TERMS, numbers, LANES, WIDTH, TERMS);
    else copy_rows(b, COLUMNS, numbers, LANES, TERMS, WIDTH);
  }
};

inline void make_tile(const float* a, const float* b, float* y) {
  Vec sum[LINES][1];
#pragma GCC unroll 16
  for (auto& line : sum) line[0] = Vec(0);
  add_product(a, ROW_STRIDE, STRIDE, b, COPIED ? LANES : COLUMNS, TERMS, sum);
#pragma GCC unroll 16
  for (int64_t i = 0; i < LINES; i++) sum[i][0].store(y + i * COLUMNS, WIDTH);
}

extern "C" void kernel(const float* a, const float* b, float* y) {
  if (SWAPPED) std::swap(a, b);
  Columns columns;
  for (int64_t i = 0; i < BATCH * ACROSS * DOWN; i++) {
    const int64_t n = i / (ACROSS * DOWN);
    const int64_t down = BY_LINES ? i / ACROSS % DOWN : i % DOWN;
    const int64_t across = BY_LINES ? i % ACROSS : i / DOWN % ACROSS;
    // All tiles have one size: some compute numbers of the tile before again.
    const int64_t line = ROWS * down / DOWN, column = std::min(across * LANES, COLUMNS - WIDTH);
    const float* of_a = a + n * ROWS * TERMS + line * ROW_STRIDE;
    const float* of_b = b + n * TERMS * COLUMNS + column * (B_IS_TURNED ? TERMS : 1);
    float* of_y = y + (n * ROWS + line) * COLUMNS + column;
    if (COPIED && down == 0) columns.copy(of_b);
    make_tile(of_a, COPIED ? columns.numbers : of_b, of_y);
  }
}
