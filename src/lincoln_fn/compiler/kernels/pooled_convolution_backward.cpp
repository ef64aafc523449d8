// The backward pass of a convolution before a max-pooling. passes/pooling.py derives it.
// Before this file stand the constants of one shape: CHANNELS, HEIGHT, WIDTH and PADDING of x, the
// KERNEL's size, the number of FILTERS, the WINDOW of the pooling, and whether dx and dW are
// NEEDED.
//
// Channels are last: g and places are (batch, WINDOWS, FILTERS), x and dx (batch, HEIGHT, WIDTH,
// CHANNELS), weight and dw (FILTERS, KERNEL_H, KERNEL_W, CHANNELS). So a row of a filter is multiplied
// with contiguous numbers of a row of x. Both are read in whole vectors: the numbers beyond the row's
// end are multiplied with zeros of the filter, or left out of dw.

constexpr int64_t LINE = (WIDTH + 2 * PADDING_W) * CHANNELS;
constexpr int64_t ROWS_OUT = (HEIGHT + 2 * PADDING_H - KERNEL_H + 1) / WINDOW_H;
constexpr int64_t COLUMNS_OUT = (WIDTH + 2 * PADDING_W - KERNEL_W + 1) / WINDOW_W;
constexpr int64_t WINDOWS = ROWS_OUT * COLUMNS_OUT;
constexpr int64_t VECTORS = (KERNEL_W * CHANNELS + LANES - 1) / LANES;
constexpr int64_t ROW = VECTORS * LANES;
constexpr int64_t FILTER = KERNEL_H * ROW;
constexpr int64_t PLANE = (HEIGHT + 2 * PADDING_H) * LINE + ROW;

// A tile of a filter stays in registers during the loop over all windows.
constexpr int64_t TILE_W = divisor_up_to(REGISTERS, VECTORS);
constexpr int64_t TILE_H = divisor_up_to(REGISTERS / TILE_W, KERNEL_H);

// The gs of one example and filter that are not 0, and the place in the padded plane of each.
struct Gradients {
  int64_t count;
  float g[WINDOWS];
  int64_t place[WINDOWS];

  void take(const float* from, const int8_t* places) {
    count = 0;
    for (int64_t i = 0, window = 0; i < ROWS_OUT; i++) {
      for (int64_t j = 0; j < COLUMNS_OUT; j++, window++) {
        const int64_t own = places[window * FILTERS];
        const int64_t row = i * WINDOW_H + own / WINDOW_W, column = j * WINDOW_W + own % WINDOW_W;
        g[count] = from[window * FILTERS];
        place[count] = row * LINE + column * CHANNELS;
        count += g[count] != 0;
      }
    }
  }
};

// Call function(offset in the filter, offset in the plane) for each tile.
template <typename Function>
void for_each_tile(const Function& function) {
  for (int64_t i = 0; i < KERNEL_H; i += TILE_H)
    for (int64_t j = 0; j < ROW; j += TILE_W * LANES) function(i * ROW + j, i * LINE + j);
}

inline void load(const float* filter, Vec (&tile)[TILE_H][TILE_W]) {
  for (int64_t i = 0; i < TILE_H; i++)
    for (int64_t j = 0; j < TILE_W; j++) tile[i][j] = Vec::loadu(filter + i * ROW + j * LANES);
}

// dW += the sum of each g times its patch of x.
void add_to_dw(const Gradients& gs, const float* plane, float* dw) {
  for_each_tile([&](int64_t in_filter, int64_t in_plane) {
    Vec sum[TILE_H][TILE_W];
    load(dw + in_filter, sum);
    for (int64_t k = 0; k < gs.count; k++) {
      const float* x = plane + gs.place[k] + in_plane;
      const Vec g(gs.g[k]);
#pragma GCC unroll 28
      for (int64_t i = 0; i < TILE_H; i++)
#pragma GCC unroll 28
        for (int64_t j = 0; j < TILE_W; j++)
          sum[i][j] = at::vec::fmadd(g, Vec::loadu(x + i * LINE + j * LANES), sum[i][j]);
    }
    for (int64_t i = 0; i < TILE_H; i++)
      for (int64_t j = 0; j < TILE_W; j++)
        sum[i][j].store(dw + in_filter + i * ROW + j * LANES);
  });
}

// dx += g W on the patch of each g.
void add_to_dx(const Gradients& gs, const float* weight, float* dplane) {
  for_each_tile([&](int64_t in_filter, int64_t in_plane) {
    Vec w[TILE_H][TILE_W];
    load(weight + in_filter, w);
    for (int64_t k = 0; k < gs.count; k++) {
      float* dx = dplane + gs.place[k] + in_plane;
      const Vec g(gs.g[k]);
#pragma GCC unroll 28
      for (int64_t i = 0; i < TILE_H; i++)
#pragma GCC unroll 28
        for (int64_t j = 0; j < TILE_W; j++) {
          float* to = dx + i * LINE + j * LANES;
          at::vec::fmadd(g, w[i][j], Vec::loadu(to)).store(to);
        }
    }
  });
}

extern "C" void kernel(const float* g, const int8_t* places, const float* x, const float* weight,
                       float* dx, float* dw) {
  constexpr int64_t ALL = FILTERS * FILTER, LENGTH = KERNEL_W * CHANNELS, ACROSS = WIDTH * CHANNELS;
  constexpr int64_t INSIDE = PADDING_H * LINE + PADDING_W * CHANNELS;
  Numbers filters(ALL);
  copy_rows(weight, LENGTH, filters.begin(), ROW, FILTERS * KERNEL_H, LENGTH);
  std::vector<Numbers> sums(THREADS, Numbers(ALL));
#pragma omp parallel for num_threads(THREADS) schedule(static)
  for (int64_t thread = 0; thread < THREADS; thread++) {
    float* sum = sums[thread].begin();
    Numbers plane(PLANE), dplane(PLANE);
    std::vector<Gradients> gs(1);
    for (int64_t n = BATCH * thread / THREADS; n < BATCH * (thread + 1) / THREADS; n++) {
      copy_rows(x + n * HEIGHT * ACROSS, ACROSS, plane.begin() + INSIDE, LINE, HEIGHT, ACROSS);
      if (NEEDED_DX) std::memset(dplane.begin(), 0, PLANE * sizeof(float));
      for (int64_t filter = 0; filter < FILTERS; filter++) {
        gs[0].take(g + n * WINDOWS * FILTERS + filter, places + n * WINDOWS * FILTERS + filter);
        if (NEEDED_DW) add_to_dw(gs[0], plane.begin(), sum + filter * FILTER);
        if (NEEDED_DX) add_to_dx(gs[0], filters.begin() + filter * FILTER, dplane.begin());
      }
      if (NEEDED_DX)
        copy_rows(dplane.begin() + INSIDE, LINE, dx + n * HEIGHT * ACROSS, ACROSS, HEIGHT, ACROSS);
    }
  }
  if (!NEEDED_DW) return;
  for (int64_t thread = 1; thread < THREADS; thread++)
    for (int64_t i = 0; i < ALL; i++) sums[0].begin()[i] += sums[thread].begin()[i];
  copy_rows(sums[0].begin(), ROW, dw, LENGTH, FILTERS * KERNEL_H, LENGTH);
}
