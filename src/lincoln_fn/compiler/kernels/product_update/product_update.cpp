// Leaves of shape (ROWS, COLUMNS) that change by a product a b in float32, element by element;
// op.py writes the constants of one shape above, and how they change below. a is (ROWS,
// TERMS) and b (TERMS, COLUMNS), but a is given as (TERMS, ROWS) if A_IS_TURNED, and b as (COLUMNS,
// TERMS) if B_IS_TURNED.
//
// The leaves change by a tile of the product while the sums of the next one are added up, a line at a
// time: divisions and square roots take long, but leave room for those.

static_assert(CHAINS == 1);

// The sums of a tile, from which the leaves have not changed yet.
struct Tile {
  float sums[MOST * WIDTH];
  int64_t line = 0, lines = 0, column = 0;
};

// Where a tile's line lies in each of the leaves.
struct Place {
  float* leaves[LEAVES];

  Place(float* const* all, int64_t line, int64_t column) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < LEAVES; i++) leaves[i] = all[i] + line * COLUMNS + column;
  }

  void go_on() {
#pragma GCC unroll 8
    for (int64_t i = 0; i < LEAVES; i++) leaves[i] += COLUMNS;
  }

  void fetch() const {
#pragma GCC unroll 8
    for (int64_t i = 0; i < LEAVES; i++) {
      __builtin_prefetch(leaves[i], 1);
      __builtin_prefetch(leaves[i] + LANES, 1);
    }
  }

  // Change `count` numbers of the leaves, as many as a vector has or fewer. In line, for a call would
  // write the next tile's sums to memory.
  template <typename Change>
  [[gnu::always_inline]] void change_vector(const float* sums, int64_t column, int64_t count,
                                            const Change& change) const {
    Vec vectors[LEAVES];
#pragma GCC unroll 8
    for (int64_t i = 0; i < LEAVES; i++) vectors[i] = Vec::loadu(leaves[i] + column, count);
    change(Vec::loadu(sums + column), vectors);
#pragma GCC unroll 8
    for (int64_t i = 0; i < LEAVES; i++) vectors[i].store(leaves[i] + column, count);
  }
};

// The lines of a tile from which the leaves have not changed yet.
struct Waiting {
  const float* sums;
  Place place;
  int64_t lines, width;

  Waiting(const Tile& tile, float* const* leaves)
      : sums(tile.sums), place(leaves, tile.line, tile.column), lines(tile.lines),
        width(COLUMNS - tile.column) {}

  // Change the leaves by the next one, if there is one.
  template <typename Change>
  [[gnu::always_inline]] void change_one(const Change& change) {
    if (lines == 0) return;
    if (COLUMNS % WIDTH == 0 || width >= WIDTH) {
      place.change_vector(sums, 0, LANES, change);
      place.change_vector(sums, LANES, LANES, change);
    } else {
      for (int64_t column = 0; column < width; column += LANES)
        place.change_vector(sums, column, std::min(LANES, width - column), change);
    }
    sums += WIDTH, lines--;
    place.go_on();
  }
};

// Add up a tile of a b; meanwhile fetch its part of the leaves, and change that of the one before.
template <int64_t LINES, typename Change>
void add_up(const float* a, const float* b, int64_t line, int64_t column, Tile& tile,
            float* const* leaves, const Change& change) {
  // Terms between one line and the next.
  constexpr int64_t EACH = TERMS / LINES, REST = TERMS - EACH * LINES;
  Vec sum[LINES][VECTORS];
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) sum[i][0] = sum[i][1] = Vec(0);
  Waiting waiting(tile, leaves);
  Place next(leaves, line, column);
#pragma GCC unroll 1
  for (int64_t i = 0; i < LINES; i++, a += EACH * LINES, b += EACH * WIDTH) {
    next.fetch();
    next.go_on();
    waiting.change_one(change);
    add_product(a, 1, LINES, b, WIDTH, EACH, sum);
  }
  // Another tile may have one line more.
  waiting.change_one(change);
  add_product(a, 1, LINES, b, WIDTH, REST, sum);
#pragma GCC unroll 28
  for (int64_t i = 0; i < LINES; i++) {
    sum[i][0].store(tile.sums + i * WIDTH);
    sum[i][1].store(tile.sums + i * WIDTH + LANES);
  }
  tile.line = line, tile.lines = LINES, tile.column = column;
}

// Lay the lines of some parts of a so that what a tile needs of each term lies side by side.
inline void lay_lines(const float* a, Range parts, float* to) {
  for (int64_t part = parts.begin; part < parts.end; part++)
    Parts::call_with_lines(part, [&](auto count) {
      constexpr int64_t LINES = count.value;
      const int64_t line = Parts::lines(part).begin;
      float* own = to + line * TERMS;
      if (A_IS_TURNED) copy_lines(a + line, ROWS, own, LINES, TERMS, LINES);
      else turn(a + line * TERMS, TERMS, own, LINES, LINES, TERMS);
    });
}

template <typename Change>
void change(const float* a, const float* b, float* const* leaves, const Change& change) {
  const std::unique_ptr<float[]> of_a(new float[ROWS * TERMS]);
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    const Range parts = share_of(thread, THREADS, Parts::COUNT);
    lay_lines(a, parts, of_a.get());
    Tile tile;
    for_each_tile(b, parts, [&](auto lines, int64_t line, int64_t column, const float* laid, Range) {
      add_up<lines.value>(of_a.get() + line * TERMS, laid, line, column, tile, leaves, change);
    });
    for (Waiting last(tile, leaves); last.lines > 0;) last.change_one(change);
  }
}
