// Rows of a softmax and its relatives: one block per row, read three times, twice of them from the cache.
#include "common.cuh"

// Largest and sum of exponentials of one row.
template <class A> struct Normalizer { A largest, total; };

template <class T, class A>
__device__ __forceinline__ Normalizer<A> normalizer(const T* row, int64_t columns, A* scratch) {
  A largest = -INFINITY;
  for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) largest = Largest()(largest, widen(row[j]));
  largest = block_reduce(largest, (A)-INFINITY, scratch, Largest());
  A total = 0;
  for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) total += exp(widen(row[j]) - largest);
  total = block_reduce(total, (A)0, scratch, Sum());
  Normalizer<A> found = {largest, total};
  return found;
}

template <class T> __device__ void softmax(const T* x, T* y, int64_t columns) {
  typedef typename Wide<T>::type A;
  __shared__ A scratch[32];
  const T* row = x + blockIdx.x * columns;
  T* out = y + blockIdx.x * columns;
  Normalizer<A> n = normalizer<T, A>(row, columns, scratch);
  A share = 1 / n.total;
  for (int64_t j = threadIdx.x; j < columns; j += blockDim.x)
    out[j] = Narrow<T>::of(exp(widen(row[j]) - n.largest) * share);
}

#define SOFTMAX(T)                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256, 2) softmax_##T(const T* x, T* y, int64_t columns) {                \
    softmax<T>(x, y, columns);                                                                                      \
  }
SOFTMAX(float)
SOFTMAX(double)
SOFTMAX(float16)
SOFTMAX(bfloat16)
