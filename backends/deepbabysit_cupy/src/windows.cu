// Windows of images, channels last: columns of a convolution and back, pooling, depthwise convolutions.
#include "common.cuh"

// Images (n, h, w, c); a window (kh, kw) with steps and borders has (oh, ow) positions. A sequence is an image of height 1.
struct Geometry { int32_t n, h, w, c, kh, kw, sh, sw, top, left, dh, dw, oh, ow; };
#define GEOMETRY                                                                                                     \
  int64_t n, int64_t h, int64_t w, int64_t c, int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t top,           \
      int64_t left, int64_t dh, int64_t dw, int64_t oh, int64_t ow
#define GEOMETRY_OF                                                                                                  \
  Geometry{(int32_t)n,  (int32_t)h,  (int32_t)w,   (int32_t)c,    (int32_t)kh, (int32_t)kw, (int32_t)sh,             \
           (int32_t)sw, (int32_t)top, (int32_t)left, (int32_t)dh, (int32_t)dw, (int32_t)oh, (int32_t)ow}

// A number over (image, row, column, channel), taken apart.
struct Spot { int32_t n, y, x, c; };
__device__ __forceinline__ Spot spot_of(uint32_t i, uint32_t rows, uint32_t columns, uint32_t channels) {
  Spot s;
  s.c = i % channels;
  i /= channels;
  s.x = i % columns;
  i /= columns;
  s.y = i % rows;
  s.n = i / rows;
  return s;
}
// The place in an image of a window's element; outside of the image on the border.
__device__ __forceinline__ bool inside(const Geometry& g, int32_t y, int32_t x) {
  return (uint32_t)y < (uint32_t)g.h && (uint32_t)x < (uint32_t)g.w;
}
__device__ __forceinline__ uint32_t pixel(const Geometry& g, int32_t n, int32_t y, int32_t x) {
  return (uint32_t)((n * g.h + y) * g.w + x);
}
// The position whose window has its element (i, j) at (y, x), if there is one.
__device__ __forceinline__ bool position(const Geometry& g, int32_t n, int32_t y, int32_t x, int32_t i, int32_t j,
                                         uint32_t& found) {
  int32_t down = y + g.top - i * g.dh, across = x + g.left - j * g.dw;
  int32_t oy = down / g.sh, ox = across / g.sw;
  found = (uint32_t)((n * g.oh + oy) * g.ow + ox);
  return down >= 0 && across >= 0 && oy * g.sh == down && ox * g.sw == across && oy < g.oh && ox < g.ow;
}

// -- columns (groups, positions, window, channels of a group) ----------------------------------------------------------

template <class T>
__device__ __forceinline__ void columns(T* out, const T* x, const Geometry& g, uint32_t groups) {
  uint32_t depth = g.c / groups, window = g.kh * g.kw, positions = g.n * g.oh * g.ow;
  EACH(i, groups * positions * window * depth) {
    uint32_t d = i % depth, rest = i / depth, k = rest % window;
    rest /= window;
    uint32_t p = rest % positions, group = rest / positions;
    Spot s = spot_of(p, g.oh, g.ow, 1);
    int32_t row = s.x, image = s.n, oy = s.y;
    int32_t y = oy * g.sh - g.top + (int32_t)(k / g.kw) * g.dh, xx = row * g.sw - g.left + (int32_t)(k % g.kw) * g.dw;
    T value = {};
    if (inside(g, y, xx)) value = x[pixel(g, image, y, xx) * g.c + group * depth + d];
    out[i] = value;
  }
}

// The adjoint: every pixel gathers what its windows hold of it.
template <class T>
__device__ __forceinline__ void uncolumns(T* x, const T* parts, const Geometry& g, uint32_t groups) {
  typedef typename Wide<T>::type A;
  uint32_t depth = g.c / groups, window = g.kh * g.kw, positions = g.n * g.oh * g.ow;
  EACH(at, g.n * g.h * g.w * g.c) {
    Spot s = spot_of(at, g.h, g.w, g.c);
    uint32_t group = s.c / depth, d = s.c % depth, p;
    A total = 0;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++)
        if (position(g, s.n, s.y, s.x, i, j, p))
          total += widen(parts[((group * positions + p) * window + i * g.kw + j) * depth + d]);
    x[at] = Narrow<T>::of(total);
  }
}

// -- pooling ------------------------------------------------------------------------------------------------------------

template <class T>
__device__ __forceinline__ void pool(T* y, const T* x, const Geometry& g, bool largest) {
  typedef typename Wide<T>::type A;
  EACH(at, g.n * g.oh * g.ow * g.c) {
    Spot s = spot_of(at, g.oh, g.ow, g.c);
    A found = largest ? (A)-INFINITY : (A)0;
    int32_t count = 0;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++) {
        int32_t row = s.y * g.sh - g.top + i, column = s.x * g.sw - g.left + j;
        if (!inside(g, row, column)) continue;
        A v = widen(x[pixel(g, s.n, row, column) * g.c + s.c]);
        found = largest ? Largest()(found, v) : found + v;
        count++;
      }
    y[at] = Narrow<T>::of(largest ? found : found / (A)count);
  }
}

// Elements equal to the largest of their window share its gradient.
template <class T>
__device__ __forceinline__ void max_pool_gradient(T* dx, const T* flow, const T* x, const T* y, const Geometry& g) {
  typedef typename Wide<T>::type A;
  EACH(at, g.n * g.h * g.w * g.c) {
    Spot s = spot_of(at, g.h, g.w, g.c);
    A mine = widen(x[at]), total = 0;
    uint32_t p;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++) {
        if (!position(g, s.n, s.y, s.x, i, j, p)) continue;
        A top = widen(y[p * g.c + s.c]);
        if (top != mine) continue;
        int32_t hits = 0, first_row = s.y - i, first_column = s.x - j;
#pragma unroll 1
        for (int32_t k = 0; k < g.kh; k++)
#pragma unroll 1
          for (int32_t l = 0; l < g.kw; l++)
            if (inside(g, first_row + k, first_column + l))
              hits += widen(x[pixel(g, s.n, first_row + k, first_column + l) * g.c + s.c]) == top;
        total += (A)widen(flow[p * g.c + s.c]) / (A)hits;
      }
    dx[at] = Narrow<T>::of(total);
  }
}

template <class T>
__device__ __forceinline__ void avg_pool_gradient(T* dx, const T* flow, const Geometry& g) {
  typedef typename Wide<T>::type A;
  EACH(at, g.n * g.h * g.w * g.c) {
    Spot s = spot_of(at, g.h, g.w, g.c);
    A total = 0;
    uint32_t p;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++) {
        if (!position(g, s.n, s.y, s.x, i, j, p)) continue;
        int32_t row = s.y - i, column = s.x - j;
        int32_t high = min(row + g.kh, g.h) - max(row, 0), wide = min(column + g.kw, g.w) - max(column, 0);
        total += (A)widen(flow[p * g.c + s.c]) / (A)(high * wide);
      }
    dx[at] = Narrow<T>::of(total);
  }
}

// -- depthwise: `many` outputs for each channel; weights (window, channels * many) ---------------------------------------

template <class T>
__device__ __forceinline__ void depthwise(T* y, const T* x, const T* weights, const Geometry& g, uint32_t many) {
  typedef typename Wide<T>::type A;
  uint32_t outputs = g.c * many;
  EACH(at, g.n * g.oh * g.ow * outputs) {
    Spot s = spot_of(at, g.oh, g.ow, outputs);
    A total = 0;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++) {
        int32_t row = s.y * g.sh - g.top + i * g.dh, column = s.x * g.sw - g.left + j * g.dw;
        if (inside(g, row, column))
          total += (A)widen(x[pixel(g, s.n, row, column) * g.c + s.c / many]) *
                   (A)widen(weights[(i * g.kw + j) * outputs + s.c]);
      }
    y[at] = Narrow<T>::of(total);
  }
}

template <class T>
__device__ __forceinline__ void depthwise_input(T* dx, const T* flow, const T* weights, const Geometry& g,
                                                uint32_t many) {
  typedef typename Wide<T>::type A;
  uint32_t outputs = g.c * many;
  EACH(at, g.n * g.h * g.w * g.c) {
    Spot s = spot_of(at, g.h, g.w, g.c);
    A total = 0;
    uint32_t p;
#pragma unroll 1
    for (int32_t i = 0; i < g.kh; i++)
#pragma unroll 1
      for (int32_t j = 0; j < g.kw; j++)
        if (position(g, s.n, s.y, s.x, i, j, p))
#pragma unroll 1
          for (uint32_t q = 0; q < many; q++)
            total += (A)widen(flow[p * outputs + s.c * many + q]) *
                     (A)widen(weights[(i * g.kw + j) * outputs + s.c * many + q]);
    dx[at] = Narrow<T>::of(total);
  }
}

// Partial sums (chunks, window, outputs): blocks by 32 outputs, elements of the window, chunks of positions.
template <class T, class A>
__device__ __forceinline__ void depthwise_kernel(A* partial, const T* x, const T* flow, const Geometry& g,
                                                 uint32_t many, uint32_t chunk, int width) {
  __shared__ A scratch[256];
  Team t = team(width, false);
  uint32_t outputs = g.c * many, f = blockIdx.x * t.width + t.kept, positions = g.n * g.oh * g.ow;
  uint32_t from = blockIdx.z * chunk, to = from + chunk < positions ? from + chunk : positions;
  int32_t i = blockIdx.y / g.kw, j = blockIdx.y % g.kw;
  A total = 0;
  if (f < outputs)
    for (uint32_t p = from + t.lane; p < to; p += t.lanes) {
      Spot s = spot_of(p, g.oh, g.ow, 1);
      int32_t row = s.y * g.sh - g.top + i * g.dh, column = s.x * g.sw - g.left + j * g.dw;
      if (inside(g, row, column))
        total += (A)widen(x[pixel(g, s.n, row, column) * g.c + f / many]) * (A)widen(flow[p * outputs + f]);
    }
  total = team_reduce(t, total, scratch, Sum());
  if (f < outputs && t.lane == 0) partial[(blockIdx.z * gridDim.y + blockIdx.y) * outputs + f] = total;
}

#define COLUMNS(bits)                                                                                             \
  extern "C" __global__ void __launch_bounds__(256) columns_##bits(Bits<bits>::type* out, const Bits<bits>::type* x, int64_t groups, GEOMETRY) {    \
    columns<Bits<bits>::type>(out, x, GEOMETRY_OF, groups);                                                                         \
  }

#define WINDOWS(T)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256) uncolumns_##T(T* x, const T* parts, int64_t groups, GEOMETRY) {   \
    uncolumns<T>(x, parts, GEOMETRY_OF, groups);                                                                     \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) pool_##T(T* y, const T* x, int64_t largest, GEOMETRY) {           \
    pool<T>(y, x, GEOMETRY_OF, largest != 0);                                                                        \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) max_pool_gradient_##T(T* dx, const T* flow, const T* x,           \
                                                                          const T* y, GEOMETRY) {                    \
    max_pool_gradient<T>(dx, flow, x, y, GEOMETRY_OF);                                                               \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) avg_pool_gradient_##T(T* dx, const T* flow, GEOMETRY) {           \
    avg_pool_gradient<T>(dx, flow, GEOMETRY_OF);                                                                     \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) depthwise_##T(T* y, const T* x, const T* weights, int64_t many,   \
                                                                  GEOMETRY) {                                        \
    depthwise<T>(y, x, weights, GEOMETRY_OF, many);                                                                  \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) depthwise_input_##T(T* dx, const T* flow, const T* weights,       \
                                                                        int64_t many, GEOMETRY) {                    \
    depthwise_input<T>(dx, flow, weights, GEOMETRY_OF, many);                                                        \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) depthwise_kernel_##T(                                            \
      Wide<T>::type* partial, const T* x, const T* flow, int64_t many, int64_t chunk, int64_t width, GEOMETRY) {                 \
    depthwise_kernel<T, Wide<T>::type>(partial, x, flow, GEOMETRY_OF, many, chunk, (int)width);                                  \
  }
