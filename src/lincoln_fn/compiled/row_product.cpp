// Sums over two rows in float32: a is (ROWS, TERMS), b (COLUMNS, TERMS), and y = a b^T is written as
// (ROWS, COLUMNS), or as its transpose if IS_TURNED; row_products.py writes the constants of one shape
// above. Only b is copied: a is read number by number where it lies.

// Add the sums of some terms to a tile's, or begin with them.
template <int64_t LINES>
void add_up(const float* a, const float* b, Range terms, float* sums) {
  Vec sum[LINES][VECTORS];
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) sum[i][0] = sum[i][1] = Vec(0);
  add_product(a + terms.begin, TERMS, 1, b, WIDTH, terms.count(), sum);
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++)
#pragma GCC unroll 2
    for (int64_t v = 0; v < VECTORS; v++) {
      float* place = sums + i * WIDTH + v * LANES;
      (terms.begin ? Vec::loadu(place) + sum[i][v] : sum[i][v]).store(place);
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
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const Range parts = share_of(thread, THREADS, Parts::COUNT);
    // Of a block's tiles, one behind the other; a tile that is turned is read as if it were square.
    const int64_t first = Parts::lines(parts.begin).begin, count = Parts::lines(parts.end).begin - first;
    const std::unique_ptr<Line[]> sums(new Line[(count + LANES) * BLOCK]);
    for_each_tile(b, parts, [&](auto lines, int64_t line, int64_t column, const float* laid,
                                Range terms) {
      constexpr int64_t LINES = lines.value;
      const int64_t width = std::min(WIDTH, COLUMNS - column);
      const int64_t place = (line - first) * BLOCK + column / WIDTH % BLOCK * LINES;
      const bool is_last = terms.begin + terms.count() == TERMS;
      if (is_last) fetch<LINES>(y, line, column, width);
      add_up<LINES>(a + line * TERMS, laid, terms, sums[place].numbers);
      if (is_last) write<LINES>(sums[place].numbers, y, line, column, width);
    });
  }
}
