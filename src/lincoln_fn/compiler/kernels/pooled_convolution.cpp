// A convolution and the max-pooling of its output. passes/pooling.py derives it. Before
// this file stand the constants of one shape: CHANNELS, HEIGHT, WIDTH and PADDING of x, the
// KERNEL's size, the number of FILTERS, and the WINDOW of the pooling.
//
// Channels are last: x is (batch, HEIGHT, WIDTH, CHANNELS), y and places (batch, ROWS_OUT,
// COLUMNS_OUT, FILTERS), weight by tiles of filters (FILTERS / TILE, KERNEL_H, LENGTH, TILE). So a row
// of a filter is multiplied with contiguous numbers of a row of x.

constexpr int64_t LINE = (WIDTH + 2 * PADDING_W) * CHANNELS;
constexpr int64_t PLANE = (HEIGHT + 2 * PADDING_H) * LINE;
constexpr int64_t ROWS_OUT = (HEIGHT + 2 * PADDING_H - KERNEL_H + 1) / WINDOW_H;
constexpr int64_t COLUMNS_OUT = (WIDTH + 2 * PADDING_W - KERNEL_W + 1) / WINDOW_W;
constexpr int64_t LENGTH = KERNEL_W * CHANNELS;
constexpr int64_t VECTORS = divisor_up_to(2, FILTERS / LANES);
constexpr int64_t TILE = VECTORS * LANES;
// The number of neighbouring windows; the sums of one row of them stay in registers.
constexpr int64_t MOST = REGISTERS < WINDOW_W * VECTORS ? 1 : REGISTERS / (WINDOW_W * VECTORS);

// Compute y and places of neighbouring windows, whose first row is `row` of the padded plane, for the
// filters of one tile.
template <int64_t COUNT>
void take(int64_t row, const float* x, const float* weight, const float* bias, float* y,
          int8_t* places) {
  float chosen[COUNT * TILE];
  for (int64_t i = 0; i < WINDOW_H; i++) {
    Vec sum[COUNT * WINDOW_W][VECTORS];
    for (int64_t j = 0; j < COUNT * WINDOW_W; j++)
      for (int64_t v = 0; v < VECTORS; v++) sum[j][v] = Vec::loadu(bias + v * LANES);
    // Rows of padding alone are left out.
    for (int64_t line = 0; line < KERNEL_H; line++)
      if (const int64_t own = row + i + line - PADDING_H; own >= 0 && own < HEIGHT)
        add_product(x + (i + line) * LINE, CHANNELS, weight + line * LENGTH * TILE, LENGTH, sum);
#pragma GCC unroll 28
    for (int64_t window = 0; window < COUNT; window++)
#pragma GCC unroll 28
      for (int64_t v = 0; v < VECTORS; v++) {
        float *to = y + window * FILTERS + v * LANES, *own = chosen + window * TILE + v * LANES;
        Vec most = i ? Vec::loadu(to) : sum[window * WINDOW_W][v];
        Vec place = i ? Vec::loadu(own) : Vec(0);
#pragma GCC unroll 28
        for (int64_t j = 0; j < WINDOW_W; j++) {
          const Vec next = sum[window * WINDOW_W + j][v];
          place = Vec::blendv(place, Vec(i * WINDOW_W + j), next > most);
          most = at::vec::maximum(most, next);
        }
        most.store(to);
        place.store(own);
      }
  }
  for (int64_t window = 0; window < COUNT; window++)
    for (int64_t i = 0; i < TILE; i++)
      places[window * FILTERS + i] = static_cast<int32_t>(chosen[window * TILE + i]);
}

extern "C" void kernel(const float* x, const float* weight, const float* bias, float* y,
                       int8_t* places) {
  constexpr int64_t ACROSS = WIDTH * CHANNELS, INSIDE = PADDING_H * LINE + PADDING_W * CHANNELS;
#pragma omp parallel num_threads(THREADS)
  {
    Numbers plane(PLANE);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < BATCH; n++) {
      copy_rows(x + n * HEIGHT * ACROSS, ACROSS, plane.begin() + INSIDE, LINE, HEIGHT, ACROSS);
      for (int64_t filter = 0; filter < FILTERS; filter += TILE)
        for (int64_t row = 0; row < ROWS_OUT; row++)
          for_each_part<MOST>(0, COLUMNS_OUT, [&](int64_t column, auto count) {
            const int64_t place = ((n * ROWS_OUT + row) * COLUMNS_OUT + column) * FILTERS + filter;
            take<count>(row * WINDOW_H,
                        plane.begin() + row * WINDOW_H * LINE + column * WINDOW_W * CHANNELS,
                        weight + filter * KERNEL_H * LENGTH, bias + filter, y + place,
                        places + place);
          });
    }
  }
}
