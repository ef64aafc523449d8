// Sums over two rows in float32: a is (ROWS, TERMS), b (COLUMNS, TERMS), and y = a b^T is written as
// (ROWS, COLUMNS), or as its transpose if IS_TURNED; row_products.py writes the constants of one shape
// above. Only b is copied: a is read number by number where it lies.

// Parts of the terms, of which up to 1024 are added one after another.
constexpr int64_t CHAINS = (TERMS + 1023) / 1024;

template <int64_t LINES>
void make_tile(const float* a, const float* b, float* sums) {
  for (int64_t chain = 0; chain < CHAINS; chain++) {
    const int64_t begin = TERMS * chain / CHAINS, end = TERMS * (chain + 1) / CHAINS;
    Vec sum[LINES][VECTORS];
#pragma GCC unroll 28
    for (int64_t i = 0; i < LINES; i++) sum[i][0] = sum[i][1] = Vec(0);
    add_product(a + begin, TERMS, 1, b + begin * WIDTH, WIDTH, end - begin, sum);
#pragma GCC unroll 28
    for (int64_t i = 0; i < LINES; i++)
#pragma GCC unroll 2
      for (int64_t v = 0; v < VECTORS; v++) {
        float* place = sums + i * WIDTH + v * LANES;
        (chain ? Vec::loadu(place) + sum[i][v] : sum[i][v]).store(place);
      }
  }
}

// Fetch the memory that a tile is to be written to, for that takes long if it lies far apart.
template <int64_t LINES>
void fetch(const float* y, int64_t line, int64_t column, int64_t width) {
  const int64_t lines = IS_TURNED ? width : LINES, last = (IS_TURNED ? LINES : width) - 1;
  for (int64_t i = 0; i < lines; i++) {
    const int64_t place = IS_TURNED ? (column + i) * ROWS + line : (line + i) * COLUMNS + column;
    __builtin_prefetch(y + place, 1);
    __builtin_prefetch(y + place + last, 1);
  }
}

template <int64_t LINES>
void write(const float* sums, float* y, int64_t line, int64_t column, int64_t width) {
  if (!IS_TURNED) return copy_lines(sums, WIDTH, y + line * COLUMNS + column, COLUMNS, LINES, width);
  for (int64_t i = 0; i < width; i += LANES) {
    const int64_t count = std::min(LANES, width - i);
    float* place = y + (column + i) * ROWS + line;
    if (LINES <= LANES && count == LANES) turn_block(sums + i, WIDTH, place, ROWS, LINES);
    else at::vec::transpose_mxn(sums + i, WIDTH, place, ROWS, int(LINES), int(count));
  }
}

extern "C" void kernel(const float* a, const float* b, float* y) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++)
    for_each_tile(b, parts_of(thread), [&](auto lines, int64_t line, int64_t column,
                                           const float* laid) {
      constexpr int64_t LINES = lines.value;
      const int64_t width = std::min(WIDTH, COLUMNS - column);
      float sums[std::max(MOST, LANES) * WIDTH];
      fetch<LINES>(y, line, column, width);
      make_tile<LINES>(a + line * TERMS, laid, sums);
      write<LINES>(sums, y, line, column, width);
    });
}
