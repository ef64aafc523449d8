// Leaves of shape (ROWS, COLUMNS) that change by a product a b in float32, element by element;
// product_updates.py writes the constants of one shape above, and how they change below. a is (ROWS,
// TERMS) and b (TERMS, COLUMNS), but a is given as (TERMS, ROWS) if A_IS_TURNED, and b as (COLUMNS,
// TERMS) if B_IS_TURNED.
//
// The leaves change by a tile of the product while the sums of the next one are added up: divisions and
// square roots take long, but leave room for those.

// Steps of adding a tile up, between which the leaves change.
constexpr int64_t STEPS = 4;

static_assert(CHAINS == 1);

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
    change_some(tile, 0, tile.lines * VECTORS, leaves, change);
  }
}
