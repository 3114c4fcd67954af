// Running sums, and the places of extremes.
#include "common.cuh"

// Rows (before, length, after): where rows stand side by side (after > 1) a thread takes one, else a block does.
template <class T, class R, class A>
__device__ __forceinline__ void running_sum(R* y, const T* x, uint32_t rows, uint32_t length, uint32_t after) {
  __shared__ A sums[256];
  if (after > 1) {
    EACH(row, rows) {
      uint32_t base = row / after * length * after + row % after;
      A total = 0;
      for (uint32_t j = 0; j < length; j++) {
        total += (A)widen(x[base + j * after]);
        y[base + j * after] = Narrow<R>::of(total);
      }
    }
    return;
  }
  for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
    A carry = 0;
    for (uint32_t tile = 0; tile < length; tile += 256) {
      uint32_t j = tile + threadIdx.x, at = row * length + j;
      A mine = j < length ? (A)widen(x[at]) : (A)0;
      sums[threadIdx.x] = mine;
      __syncthreads();
      for (uint32_t step = 1; step < 256; step <<= 1) {
        A other = threadIdx.x >= step ? sums[threadIdx.x - step] : (A)0;
        __syncthreads();
        mine = other + mine;
        sums[threadIdx.x] = mine;
        __syncthreads();
      }
      if (j < length) y[at] = Narrow<R>::of(carry + mine);
      carry += sums[255];
      __syncthreads();
    }
  }
}

template <class A> struct Found { A value; uint32_t place; };
// The first of equals; NaN before all numbers.
template <class A> __device__ __forceinline__ Found<A> better(Found<A> a, Found<A> b, bool largest) {
  bool odd_a = a.value != a.value, odd_b = b.value != b.value;
  bool beats = odd_a || odd_b ? odd_b && !odd_a : largest ? b.value > a.value : b.value < a.value;
  bool equal = odd_a && odd_b || a.value == b.value;
  return beats || (equal && b.place < a.place) ? b : a;
}

template <class T, class A>
__device__ __forceinline__ void extreme(int64_t* y, const T* x, uint32_t rows, uint32_t length, uint32_t after,
                                        int width, bool largest) {
  __shared__ A values[256];
  __shared__ uint32_t places[256];
  Team t = team(width, after == 1);
  uint32_t row = blockIdx.x * t.width + t.kept, base = row / after * length * after + row % after;
  Found<A> found = {0, 0xffffffffu};
  if (row < rows)
    for (uint32_t j = t.lane; j < length; j += t.lanes) {
      Found<A> next = {(A)widen(x[base + j * after]), j};
      found = found.place == 0xffffffffu ? next : better(found, next, largest);
    }
  int at = t.kept * t.lanes + t.lane;
  values[at] = found.value;
  places[at] = found.place;
  __syncthreads();
  for (int step = t.lanes >> 1; step; step >>= 1) {
    if (t.lane < step) {
      Found<A> a = {values[at], places[at]}, b = {values[at + step], places[at + step]};
      if (b.place != 0xffffffffu) a = a.place == 0xffffffffu ? b : better(a, b, largest);
      values[at] = a.value;
      places[at] = a.place;
    }
    __syncthreads();
  }
  if (row < rows && t.lane == 0) y[row] = places[at];
}

#define SCANS(T)                                                                                               \
  extern "C" __global__ void __launch_bounds__(256) running_sum_##T(                                                 \
      T* y, const T* x, int64_t rows, int64_t length, int64_t after) {                                               \
    running_sum<T, T, Wide<T>::type>(y, x, rows, length, after);                                                                 \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) extreme_##T(                                                     \
      int64_t* y, const T* x, int64_t rows, int64_t length, int64_t after, int64_t width, int64_t largest) {         \
    extreme<T, Wide<T>::type>(y, x, rows, length, after, (int)width, largest != 0);                                              \
  }
