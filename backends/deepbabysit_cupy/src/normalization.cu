// Normalization over the channels of a sample: a team takes one sample's group of channels, at all positions.
#include "rows.cuh"

// Row r of N * groups rows: sample n, group g; element j lies at position j / channels, channel j % channels of the group.
struct Group {
  uint32_t base, across, channels, length, first;  // `across`: elements from one position to the next
  bool flat, real;                                 // flat: one position, so that the elements lie side by side
};
__device__ __forceinline__ Group group_of(uint32_t row, uint32_t rows, uint32_t positions, uint32_t groups,
                                          uint32_t channels) {
  uint32_t n = row / groups, g = row % groups, across = groups * channels;
  Group found = {n * positions * across + g * channels, across, channels, row < rows ? positions * channels : 0,
                 g * channels, positions == 1, row < rows};
  return found;
}
__device__ __forceinline__ uint32_t place(const Group& g, uint32_t j) {
  return g.flat ? g.base + j : g.base + j / g.channels * g.across + j % g.channels;
}
__device__ __forceinline__ uint32_t channel(const Group& g, uint32_t j) {
  return g.first + (g.flat ? j : j % g.channels);
}

// f(j, value) for this lane's elements.
template <class T, class F> __device__ __forceinline__ void visit(const Team& t, const Group& g, const T* x, F f) {
  if (g.flat) {
    Row r = {g.base, g.length, 1, g.real};
    sweep(t, r, x, f);
  } else
    for (uint32_t j = t.lane; j < g.length; j += t.lanes) f(j, widen(x[place(g, j)]));
}

template <class A> struct Level { A mean, inverse; };
template <class T, class A>
__device__ __forceinline__ Level<A> level_of(const Team& t, const Group& g, const T* x, bool centered, double epsilon,
                                             A* scratch) {
  A mean = 0, square = 0, count = (A)(g.real ? g.length : 1);
  if (centered) {
    visit(t, g, x, [&](uint32_t, A v) { mean += v; });
    mean = team_reduce(t, mean, scratch, Sum()) / count;
  }
  visit(t, g, x, [&](uint32_t, A v) { square += (v - mean) * (v - mean); });
  square = team_reduce(t, square, scratch, Sum()) / count;
  Level<A> found = {mean, 1 / sqrt(square + (A)epsilon)};
  return found;
}

// `beta` may be missing.
template <class T, class P>
__device__ __forceinline__ void normalize(T* y, const T* x, const P* gamma, const P* beta, uint32_t rows,
                                          uint32_t positions, uint32_t groups, uint32_t channels, int width,
                                          bool centered, double epsilon) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  Group g = group_of(blockIdx.x * t.width + t.kept, rows, positions, groups, channels);
  Level<A> level = level_of<T, A>(t, g, x, centered, epsilon, scratch);
  auto result = [&](uint32_t j, A v) -> A {
    uint32_t c = channel(g, j);
    return (v - level.mean) * level.inverse * (A)widen(gamma[c]) + (beta ? (A)widen(beta[c]) : (A)0);
  };
  if (g.flat) {
    Row r = {g.base, g.length, 1, g.real};
    each(t, r, y, x, result);
  } else
    for (uint32_t j = t.lane; j < g.length; j += t.lanes) {
      uint32_t at = place(g, j);
      y[at] = Narrow<T>::of(result(j, widen(x[at])));
    }
}

// The gradient for x; mean and inverse deviation of every row are kept for those of gamma and beta.
template <class T, class P>
__device__ __forceinline__ void normalize_gradient(T* dx, typename Wide<T>::type* means,
                                                   typename Wide<T>::type* inverses, const T* flow, const T* x,
                                                   const P* gamma, uint32_t rows, uint32_t positions, uint32_t groups,
                                                   uint32_t channels, int width, bool centered, double epsilon) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept;
  Group g = group_of(row, rows, positions, groups, channels);
  Level<A> level = level_of<T, A>(t, g, x, centered, epsilon, scratch);
  A total = 0, weighted = 0, count = (A)(g.real ? g.length : 1);
  visit(t, g, x, [&](uint32_t j, A v) {
    A h = (A)widen(flow[place(g, j)]) * (A)widen(gamma[channel(g, j)]);
    total += h;
    weighted += h * ((v - level.mean) * level.inverse);
  });
  total = centered ? team_reduce(t, total, scratch, Sum()) / count : (A)0;
  weighted = team_reduce(t, weighted, scratch, Sum()) / count;
  if (g.real && t.lane == 0) {
    means[row] = level.mean;
    inverses[row] = level.inverse;
  }
  auto result = [&](uint32_t j, A v, A f) -> A {
    A h = f * (A)widen(gamma[channel(g, j)]), normal = (v - level.mean) * level.inverse;
    return level.inverse * (h - total - normal * weighted);
  };
  if (g.flat) {
    Row r = {g.base, g.length, 1, g.real};
    each(t, r, dx, x, flow, result);
  } else
    for (uint32_t j = t.lane; j < g.length; j += t.lanes) {
      uint32_t at = place(g, j);
      dx[at] = Narrow<T>::of(result(j, widen(x[at]), widen(flow[at])));
    }
}

// -- over the batch: mean and variance of every column --------------------------------------------------------------------

// Mean and sum of squared deviations of a chunk of rows: the deviations are from the chunk's own mean, no digits cancel.
// Where there is one chunk, `squares` becomes the variance.
template <class T>
__device__ __forceinline__ void moments(typename Wide<T>::type* means, typename Wide<T>::type* squares, const T* x,
                                        uint32_t rows, uint32_t columns, uint32_t chunk, int width) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, false);
  uint32_t c = blockIdx.x * t.width + t.kept, from = blockIdx.y * chunk;
  uint32_t to = from + chunk < rows ? from + chunk : rows;
  A mean = 0, square = 0;
  if (c < columns) for (uint32_t r = from + t.lane; r < to; r += t.lanes) mean += widen(x[r * columns + c]);
  mean = team_reduce(t, mean, scratch, Sum()) / (A)(to - from);
  if (c < columns)
    for (uint32_t r = from + t.lane; r < to; r += t.lanes) {
      A off = widen(x[r * columns + c]) - mean;
      square += off * off;
    }
  square = team_reduce(t, square, scratch, Sum());
  if (c < columns && t.lane == 0) {
    means[blockIdx.y * columns + c] = mean;
    squares[blockIdx.y * columns + c] = gridDim.y == 1 ? square / (A)rows : square;
  }
}

// What chunks found, put together (Chan, Golub and LeVeque, 1983).
template <class A>
__device__ __forceinline__ void joined_moments(A* mean, A* var, const A* means, const A* squares, uint32_t rows,
                                               uint32_t columns, uint32_t chunk, uint32_t chunks, int width) {
  __shared__ A scratch[256];
  Team t = team(width, false);
  uint32_t c = blockIdx.x * t.width + t.kept;
  A all = (A)rows, total = 0, square = 0;
  auto size = [&](uint32_t k) -> A { return (A)(k + 1 < chunks ? chunk : rows - k * chunk); };
  if (c < columns) for (uint32_t k = t.lane; k < chunks; k += t.lanes) total += means[k * columns + c] * (size(k) / all);
  total = team_reduce(t, total, scratch, Sum());
  if (c < columns)
    for (uint32_t k = t.lane; k < chunks; k += t.lanes) {
      A off = means[k * columns + c] - total;
      square += squares[k * columns + c] + size(k) * (off * off);
    }
  square = team_reduce(t, square, scratch, Sum());
  if (c < columns && t.lane == 0) {
    mean[c] = total;
    var[c] = square / all;
  }
}

#define MOMENTS(T)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256, 2) moments_##T(                                                  \
      Wide<T>::type* means, Wide<T>::type* squares, const T* x, int64_t rows, int64_t columns, int64_t chunk, int64_t width) {               \
    moments<T>(means, squares, x, rows, columns, chunk, (int)width);                                                 \
  }
#define JOINED(A)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256, 2) joined_moments_##A(                                           \
      A* mean, A* var, const A* means, const A* squares, int64_t rows, int64_t columns, int64_t chunk,               \
      int64_t chunks, int64_t width) {                                                                               \
    joined_moments<A>(mean, var, means, squares, rows, columns, chunk, chunks, (int)width);                          \
  }

#define NORMALIZE(T, P)                                                                                           \
  extern "C" __global__ void __launch_bounds__(256, 2) normalize_##T##_##P(                                          \
      T* y, const T* x, const P* gamma, const P* beta, int64_t has_beta, int64_t rows, int64_t positions,            \
      int64_t groups, int64_t channels, int64_t width, int64_t centered, double epsilon) {                           \
    normalize<T, P>(y, x, gamma, has_beta ? beta : (const P*)0, rows, positions, groups, channels, (int)width,       \
                    centered != 0, epsilon);                                                                         \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) normalize_gradient_##T##_##P(                                 \
      T* dx, Wide<T>::type* means, Wide<T>::type* inverses, const T* flow, const T* x, const P* gamma, int64_t rows, int64_t positions,      \
      int64_t groups, int64_t channels, int64_t width, int64_t centered, double epsilon) {                           \
    normalize_gradient<T, P>(dx, means, inverses, flow, x, gamma, rows, positions, groups, channels, (int)width,     \
                             centered != 0, epsilon);                                                                \
  }
