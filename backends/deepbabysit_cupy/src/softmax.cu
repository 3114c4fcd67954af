// Softmax and its relatives along an axis, and the weights of attention.
#include "rows.cuh"

template <class T>
__device__ __forceinline__ void softmax(T* y, const T* x, uint32_t rows, uint32_t length, uint32_t after, int width,
                                        bool logarithm) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, after == 1);
  Row r = row_of(blockIdx.x * t.width + t.kept, rows, length, after);
  Normalizer<A> n = normalizer<T, A>(t, r, x, scratch);
  if (logarithm) {
    A level = log(n.total);
    each(t, r, y, x, [&](uint32_t, A v) { return v - n.largest - level; });
  } else {
    A share = 1 / n.total;
    each(t, r, y, x, [&](uint32_t, A v) { return exp(v - n.largest) * share; });
  }
}

template <class T>
__device__ __forceinline__ void gradient(T* dx, const T* g, const T* y, uint32_t rows, uint32_t length, uint32_t after,
                                         int width, bool logarithm) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, after == 1);
  Row r = row_of(blockIdx.x * t.width + t.kept, rows, length, after);
  A total = 0;
  if (logarithm) sweep(t, r, g, [&](uint32_t, A v) { total += v; });
  else sweep(t, r, g, y, [&](uint32_t, A v, A p) { total += v * p; });
  total = team_reduce(t, total, scratch, Sum());
  if (logarithm) each(t, r, dx, g, y, [&](uint32_t, A v, A p) { return v - exp(p) * total; });
  else each(t, r, dx, g, y, [&](uint32_t, A v, A p) { return p * (v - total); });
}

// Weights of attention from scores (images, heads, queries, keys), possibly in place: a mask of booleans (kind 1) says which keys
// are seen, one of numbers (kind 2) is added; a row that sees nothing is 0.
template <class T>
__device__ __forceinline__ void weights(T* p, const T* x, const void* mask, int kind, bool causal, uint32_t rows,
                                        uint32_t heads, uint32_t queries, uint32_t keys, int64_t s0, int64_t s1,
                                        int64_t s2, int64_t s3, int width) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[256];
  Team t = team(width, true);
  uint32_t row = blockIdx.x * t.width + t.kept, query = row % queries;
  Row r = row_of(row, rows, keys, 1);
  int64_t at = row / queries / heads * s0 + row / queries % heads * s1 + query * s2;
  auto seen = [&](uint32_t j, A v) -> A {
    if (causal && j > query) return -INFINITY;
    if (kind == 1) return ((const uint8_t*)mask)[at + j * s3] ? v : (A)-INFINITY;
    return kind == 2 ? v + (A)widen(((const T*)mask)[at + j * s3]) : v;
  };
  A largest = -INFINITY, total = 0;
  each(t, r, p, x, [&](uint32_t j, A v) {
    A score = seen(j, v);
    largest = Largest()(largest, score);
    return score;
  });
  largest = team_reduce(t, largest, scratch, Largest());
  if (largest == -INFINITY) largest = 0;
  sweep(t, r, p, [&](uint32_t, A v) { total += exp(v - largest); });
  total = team_reduce(t, total, scratch, Sum());
  if (total == 0) total = 1;
  each(t, r, p, p, [&](uint32_t, A v) { return exp(v - largest) / total; });
}

#define SOFTMAX(T)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2) softmax_##T(                                                  \
      T* y, const T* x, int64_t rows, int64_t length, int64_t after, int64_t width, int64_t logarithm) {             \
    softmax<T>(y, x, rows, length, after, (int)width, logarithm != 0);                                               \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) gradient_##T(                                                 \
      T* dx, const T* g, const T* y, int64_t rows, int64_t length, int64_t after, int64_t width, int64_t logarithm) { \
    gradient<T>(dx, g, y, rows, length, after, (int)width, logarithm != 0);                                          \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) weights_##T(                                                  \
      T* p, const T* x, const void* mask, int64_t kind, int64_t causal, int64_t rows, int64_t heads, int64_t queries, \
      int64_t keys, int64_t s0, int64_t s1, int64_t s2, int64_t s3, int64_t width) {                                 \
    weights<T>(p, x, mask, (int)kind, causal != 0, rows, heads, queries, keys, s0, s1, s2, s3, (int)width);          \
  }
