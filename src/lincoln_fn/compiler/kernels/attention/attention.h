// What attention's loops share; op.py derives them, and writes the constants of one shape
// above: the number of QUERIES and KEYS, how many FEATURES each has and how many a value, VALUES,
// and whether attention is CAUSAL, query i seeing keys 0 to i alone.
//
// A head's numbers lie by rows: (QUERIES, FEATURES) and so on. Keys and values that are compared with
// rows are laid out by tiles first, (WIDTH / TILE, FEATURES, TILE), filled up with zeros.

constexpr int64_t VECTORS = 2;
constexpr int64_t TILE = VECTORS * LANES;
constexpr int64_t WIDTH = (KEYS + TILE - 1) / TILE * TILE;
// Rows whose sums stay in registers, a tile of each.
constexpr int64_t MOST = REGISTERS / VECTORS;

constexpr int64_t seen_by(int64_t query) { return CAUSAL && query < KEYS ? query + 1 : KEYS; }

inline void lay_out(const float* from, int64_t features, float* tiles) {
  for (int64_t key = 0; key < KEYS; key += LANES)
    for (int64_t feature = 0; feature < features; feature += LANES) {
      const float* lines = from + key * features + feature;
      float* columns = tiles + (key / TILE * features + feature) * TILE + key % TILE;
      if (key + LANES <= KEYS) turn_block(lines, features, columns, TILE, LANES);
      else
        for (int64_t i = 0; key + i < KEYS; i++)
          for (int64_t j = 0; j < LANES; j++) columns[j * TILE + i] = lines[i * features + j];
    }
}

// The products of rows with all keys up to `end`.
template <int64_t ROWS>
void compare(const float* rows, const float* tiles, int64_t features, int64_t end, float* products) {
  for (int64_t key = 0; key < end; key += TILE) {
    Vec sum[ROWS][VECTORS];
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < VECTORS; v++) sum[r][v] = Vec(0);
    add_product(rows, features, tiles + key * features, features, sum);
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < VECTORS; v++)
        sum[r][v].store(products + r * WIDTH + key + v * LANES);
  }
}

inline Vec largest_of(Vec x) {
  return Vec(at::vec::vec_reduce_all<float>(
      [](const Vec& a, const Vec& b) { return at::vec::maximum(a, b); }, x));
}

inline Vec sum_of(Vec x) {
  return Vec(
      at::vec::vec_reduce_all<float>([](const Vec& a, const Vec& b) { return a + b; }, x));
}

// In the place of the scores, of which rows see only the first. Rows pass side by side, lest each wait
// for its own sum.
template <int64_t ROWS>
void softmax(int64_t row, int64_t end, float* scores) {
  const Vec first = Vec::arange(0, 1), nothing(-INFINITY);
  Vec most[ROWS], sum[ROWS];
  for (int64_t r = 0; r < ROWS; r++) {
    const int64_t seen = seen_by(row + r);
    most[r] = nothing;
    for (int64_t i = 0; i < end; i += LANES) {
      float* place = scores + r * WIDTH + i;
      Vec score = Vec::loadu(place);
      if (i + LANES > seen) {
        score = Vec::blendv(nothing, score, first < Vec(seen - i));
        score.store(place);
      }
      most[r] = at::vec::maximum(most[r], score);
    }
  }
  for (int64_t r = 0; r < ROWS; r++) most[r] = largest_of(most[r]), sum[r] = Vec(0);
  for (int64_t i = 0; i < end; i += LANES)
    for (int64_t r = 0; r < ROWS; r++) {
      float* place = scores + r * WIDTH + i;
      const Vec power = (Vec::loadu(place) - most[r]).exp_u20();
      power.store(place);
      sum[r] = sum[r] + power;
    }
  for (int64_t r = 0; r < ROWS; r++) sum[r] = Vec(1) / sum_of(sum[r]);
  for (int64_t i = 0; i < end; i += LANES)
    for (int64_t r = 0; r < ROWS; r++) {
      float* place = scores + r * WIDTH + i;
      (Vec::loadu(place) * sum[r]).store(place);
    }
}

// The weights of some queries; gives the number of keys up to which they are made.
template <int64_t ROWS>
int64_t weigh(int64_t row, const float* queries, const float* keys, float* weights) {
  const int64_t end = (seen_by(row + ROWS - 1) + TILE - 1) / TILE * TILE;
  compare<ROWS>(queries + row * FEATURES, keys, FEATURES, end, weights);
  softmax<ROWS>(row, end, weights);
  return end;
}

// made = a w, or made + a w, for ROWS lines of a, as add_product takes them, and w of shape (length,
// N).
template <int64_t ROWS, int64_t N>
void combine(const float* a, int64_t apart, int64_t along, const float* w, int64_t length,
             float* made, bool is_added) {
  constexpr int64_t ACROSS = divisor_up_to(VECTORS, N / LANES);
  for (int64_t first = 0; first < N; first += ACROSS * LANES) {
    Vec sum[ROWS][ACROSS];
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < ACROSS; v++)
        sum[r][v] = is_added ? Vec::loadu(made + r * N + first + v * LANES) : Vec(0);
    add_product(a, apart, along, w + first, N, length, sum);
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t v = 0; v < ACROSS; v++) sum[r][v].store(made + r * N + first + v * LANES);
  }
}
