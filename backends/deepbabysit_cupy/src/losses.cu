// Cross-entropies of softmax: loss and probabilities in one launch, the gradient in another.
#include "rows.cuh"

// What a label says: the class, or that the row is not counted (0), or that it is wrong (NaN).
struct Label { int64_t at; bool counts, ignored; };
__device__ __forceinline__ Label label_of(const void* labels, uint32_t row, bool real, int kind, uint32_t classes,
                                          int64_t ignore, bool ignores) {
  Label found = {real ? whole_number(labels, row, kind) : 0, false, false};
  found.ignored = ignores && found.at == ignore;
  found.counts = found.at >= 0 && found.at < classes && !found.ignored;
  return found;
}

template <class T>
__device__ __forceinline__ void cross_entropy(T* losses, T* p, const T* x, const void* labels, int kind, uint32_t rows,
                                              uint32_t classes, int width, double smoothing, int64_t ignore,
                                              bool ignores) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept;
  Row r = row_of(row, rows, classes, 1);
  Label label = label_of(labels, row, r.real, kind, classes, ignore, ignores);
  Normalizer<A> n = normalizer<T, A>(t, r, x, scratch);
  A mean = 0, share = 1 / n.total, s = (A)smoothing;
  if (smoothing != 0) {
    sweep(t, r, x, [&](uint32_t, A v) { mean += v - n.largest; });
    mean = team_reduce(t, mean, scratch, Sum()) / (A)classes;
  }
  if (r.real && t.lane == 0) {
    A picked = label.counts ? (A)widen(x[r.base + (uint32_t)label.at]) - n.largest : (A)0;
    A loss = log(n.total) - (1 - s) * picked - s * mean;
    losses[row] = Narrow<T>::of(label.counts ? loss : label.ignored ? (A)0 : (A)NAN);
  }
  each(t, r, p, x, [&](uint32_t, A v) { return exp(v - n.largest) * share; });
}

template <class T>
__device__ __forceinline__ void cross_entropy_gradient(T* dx, const T* g, const T* p, const void* labels, int kind,
                                                       uint32_t rows, uint32_t classes, int width, double smoothing,
                                                       int64_t ignore, bool ignores) {
  typedef typename Wide<T>::type A;
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept;
  Row r = row_of(row, rows, classes, 1);
  Label label = label_of(labels, row, r.real, kind, classes, ignore, ignores);
  A weight = r.real && label.counts ? (A)widen(g[row]) : (A)0;
  A off = (A)(smoothing / classes), on = (A)(1 - smoothing) + off;
  // what is not counted is compared with class 0, as in the reference; its weight is 0
  int64_t at = label.counts ? label.at : 0;
  each(t, r, dx, p, [&](uint32_t j, A v) { return (v - (j == at ? on : off)) * weight; });
}

template <class T>
__device__ __forceinline__ void soft(T* losses, T* p, const T* x, const T* targets, uint32_t rows, uint32_t classes,
                                     int width, double smoothing) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept;
  Row r = row_of(row, rows, classes, 1);
  Normalizer<A> n = normalizer<T, A>(t, r, x, scratch);
  A loss = 0, level = log(n.total), share = 1 / n.total, keep = (A)(1 - smoothing), add = (A)(smoothing / classes);
  sweep(t, r, x, targets, [&](uint32_t, A v, A target) { loss += (target * keep + add) * (level - (v - n.largest)); });
  loss = team_reduce(t, loss, scratch, Sum());
  if (r.real && t.lane == 0) losses[row] = Narrow<T>::of(loss);
  each(t, r, p, x, [&](uint32_t, A v) { return exp(v - n.largest) * share; });
}

template <class T>
__device__ __forceinline__ void soft_gradient(T* dx, const T* g, const T* p, const T* targets, uint32_t rows,
                                              uint32_t classes, int width, double smoothing) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept;
  Row r = row_of(row, rows, classes, 1);
  A mass = 0, weight = r.real ? (A)widen(g[row]) : (A)0, keep = (A)(1 - smoothing), add = (A)(smoothing / classes);
  sweep(t, r, targets, [&](uint32_t, A target) { mass += target * keep + add; });
  mass = team_reduce(t, mass, scratch, Sum());
  each(t, r, dx, p, targets, [&](uint32_t, A v, A target) { return (v * mass - (target * keep + add)) * weight; });
}

#define LOSSES(T)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256, 2) labels_##T(                                                   \
      T* losses, T* p, const T* x, const void* labels, int64_t kind, int64_t rows, int64_t classes, int64_t width,   \
      double smoothing, int64_t ignore, int64_t ignores) {                                                           \
    cross_entropy<T>(losses, p, x, labels, (int)kind, rows, classes, (int)width, smoothing, ignore, ignores != 0);   \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) labels_gradient_##T(                                          \
      T* dx, const T* g, const T* p, const void* labels, int64_t kind, int64_t rows, int64_t classes, int64_t width, \
      double smoothing, int64_t ignore, int64_t ignores) {                                                           \
    cross_entropy_gradient<T>(dx, g, p, labels, (int)kind, rows, classes, (int)width, smoothing, ignore,             \
                              ignores != 0);                                                                         \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) soft_##T(                                                     \
      T* losses, T* p, const T* x, const T* targets, int64_t rows, int64_t classes, int64_t width,                   \
      double smoothing) {                                                                                            \
    soft<T>(losses, p, x, targets, rows, classes, (int)width, smoothing);                                            \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) soft_gradient_##T(                                            \
      T* dx, const T* g, const T* p, const T* targets, int64_t rows, int64_t classes, int64_t width,                 \
      double smoothing) {                                                                                            \
    soft_gradient<T>(dx, g, p, targets, rows, classes, (int)width, smoothing);                                       \
  }
