// Elements that move: borders, joins, gathers, scatters. What only moves is copied by its size, whatever it means.
#include "common.cuh"

// -- a border around an array, or an array put at an index into a constant ---------------------------------------------

// One axis of the result: where the array begins in it, how far apart its entries lie, how many there are, and elements
// from one to the next.
struct Placed { int32_t length, start, step, count, stride; };

template <class T>
__device__ __forceinline__ void placed(T* y, const T* x, T value, int64_t n, Placed a0, Placed a1, Placed a2, Placed a3,
                                       Placed a4, Placed a5) {
  EACH(i, n) {
    uint32_t rest = i;
    int64_t from = 0;
    bool inside = true;
#define AXIS(a)                                                                      \
  {                                                                                  \
    int32_t at = (int32_t)(rest % (uint32_t)a.length) - a.start, entry = at / a.step; \
    rest /= (uint32_t)a.length;                                                      \
    inside = inside && at % a.step == 0 && entry >= 0 && entry < a.count;            \
    from += (int64_t)entry * a.stride;                                               \
  }
    AXIS(a0) AXIS(a1) AXIS(a2) AXIS(a3) AXIS(a4) AXIS(a5)
#undef AXIS
    y[i] = inside ? x[from] : value;
  }
}

#define PLACED_AXIS(k) int64_t l##k, int64_t s##k, int64_t t##k, int64_t c##k, int64_t d##k
#define PLACED_OF(k) {(int32_t)l##k, (int32_t)s##k, (int32_t)t##k, (int32_t)c##k, (int32_t)d##k}
#define PLACED(bits)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256) placed_##bits(                                                     \
      Bits<bits>::type* y, const Bits<bits>::type* x, uint64_t value, int64_t n, PLACED_AXIS(0), PLACED_AXIS(1), PLACED_AXIS(2), PLACED_AXIS(3),     \
      PLACED_AXIS(4), PLACED_AXIS(5)) {                                                                                \
    Placed a0 = PLACED_OF(0), a1 = PLACED_OF(1), a2 = PLACED_OF(2), a3 = PLACED_OF(3), \
           a4 = PLACED_OF(4), a5 = PLACED_OF(5);                                                       \
    placed<Bits<bits>::type>(y, x, pattern<Bits<bits>::type>(value), n, a0, a1, a2, a3, a4, a5);                                                              \
  }

// -- arrays side by side, and taken apart -------------------------------------------------------------------------------

struct Part { void* data; uint32_t length; };

// Copies between `whole` (before, total, after) and parts (before, length, after) that stand in a row from `start` on.
template <class T, bool JOIN>
__device__ __forceinline__ void parts(T* whole, uint32_t before, uint32_t total, uint32_t after, uint32_t start,
                                      const Part* part, int count) {
  uint32_t lengths = 0;
  for (int k = 0; k < count; k++) lengths += part[k].length;
  uint32_t n = before * lengths * after;
  EACH(i, n) {
    uint32_t a = i % after, rest = i / after, entry = rest % lengths, b = rest / lengths, at = entry;
    int k = 0;
    while (at >= part[k].length) at -= part[k++].length;
    T* one = (T*)part[k].data + (b * part[k].length + at) * after + a;
    T* other = whole + (b * total + start + entry) * after + a;
    if (JOIN) *other = *one; else *one = *other;
  }
}

#define PART(k) void *p##k, int64_t l##k
#define GIVEN(k) {p##k, (uint32_t)l##k}
#define PARTS(name, bits, JOIN)                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) name##_##bits(                                                   \
      Bits<bits>::type* whole, int64_t before, int64_t total, int64_t after, int64_t start, int64_t count, PART(0), PART(1),        \
      PART(2), PART(3), PART(4), PART(5), PART(6), PART(7)) {                                                        \
    __shared__ Part part[8];                                                                                         \
    if (threadIdx.x == 0) {                                                                                          \
      Part given[8] = {GIVEN(0), GIVEN(1), GIVEN(2), GIVEN(3), GIVEN(4), GIVEN(5), GIVEN(6), GIVEN(7)};              \
      for (int k = 0; k < 8; k++) part[k] = given[k];                                                                \
    }                                                                                                                \
    __syncthreads();                                                                                                 \
    parts<Bits<bits>::type, JOIN>(whole, before, total, after, start, part, (int)count);                                            \
  }

// -- entries of an axis by number ---------------------------------------------------------------------------------------

// y (before, numbers, after) from x (before, length, after); a number outside of the axis gives `missing`.
template <class T>
__device__ __forceinline__ void take(T* y, const T* x, const void* indices, int kind, T missing, uint32_t before,
                                     uint32_t length, uint32_t numbers, uint32_t after) {
  uint32_t n = before * numbers * after;
  EACH(i, n) {
    uint32_t a = i % after, rest = i / after, b = rest / numbers;
    int64_t at = whole_number(indices, rest % numbers, kind);
    if (at < 0) at += length;
    y[i] = at >= 0 && at < length ? x[(b * length + at) * after + a] : missing;
  }
}

// The same with numbers of their own for every position: indices (before, numbers, after).
template <class T>
__device__ __forceinline__ void take_along(T* y, const T* x, const void* indices, int kind, T missing, uint32_t before,
                                           uint32_t length, uint32_t numbers, uint32_t after) {
  uint32_t n = before * numbers * after;
  EACH(i, n) {
    uint32_t a = i % after, b = i / after / numbers;
    int64_t at = whole_number(indices, i, kind);
    if (at < 0) at += length;
    y[i] = at >= 0 && at < length ? x[(b * length + at) * after + a] : missing;
  }
}

#define MOVES(bits)                                                                                               \
  PLACED(bits) PARTS(join, bits, true) PARTS(split, bits, false)                                            \
  extern "C" __global__ void __launch_bounds__(256) take_##bits(                                                     \
      Bits<bits>::type* y, const Bits<bits>::type* x, const void* indices, int64_t kind, uint64_t missing, int64_t before, int64_t length,         \
      int64_t numbers, int64_t after) {                                                                              \
    take<Bits<bits>::type>(y, x, indices, (int)kind, pattern<Bits<bits>::type>(missing), before, length, numbers, after);                                   \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) take_along_##bits(                                               \
      Bits<bits>::type* y, const Bits<bits>::type* x, const void* indices, int64_t kind, uint64_t missing, int64_t before, int64_t length,         \
      int64_t numbers, int64_t after) {                                                                              \
    take_along<Bits<bits>::type>(y, x, indices, (int)kind, pattern<Bits<bits>::type>(missing), before, length, numbers, after);                             \
  }

// -- adding where numbers point ---------------------------------------------------------------------------------------

// x (before, numbers, after) into y (before, length, after) of zeros. A block owns one number and 256 elements behind it:
// the first of equal numbers adds up all of them, in their order, and the others leave.
template <class T>
__device__ __forceinline__ void scatter_add(T* y, const T* x, const void* indices, int kind, uint32_t length,
                                            uint32_t numbers, uint32_t after) {
  typedef typename Wide<T>::type A;
  __shared__ uint32_t equal[8];
  int64_t mine = blockIdx.x % numbers, b = blockIdx.x / numbers, a = blockIdx.y * (int64_t)blockDim.x + threadIdx.x;
  int64_t at = whole_number(indices, mine, kind);
  if (at < 0) at += length;
  if (at < 0 || at >= length) return;  // the whole block leaves
  int warp = threadIdx.x >> 5;
  A total = 0;
  // whole tiles of 256 numbers: those before mine only tell whether I am the first
  for (int64_t tile = 0; tile < numbers; tile += 256) {
    int64_t j = tile + threadIdx.x, other = -1;
    if (j < numbers) {
      other = whole_number(indices, j, kind);
      if (other < 0) other += length;
    }
    uint32_t votes = __ballot_sync(0xffffffffu, other == at);
    if ((threadIdx.x & 31) == 0) equal[warp] = votes;
    __syncthreads();
    bool first = true;
    for (int w = 0; w < 8; w++)
      for (uint32_t bits = equal[w]; bits; bits &= bits - 1) {
        int64_t k = tile + w * 32 + __ffs((int)bits) - 1;
        first = first && k >= mine;
        if (first && a < after) total += widen(x[(b * numbers + k) * after + a]);
      }
    __syncthreads();
    if (!first) return;  // the same for every thread
  }
  if (a < after) y[(b * length + at) * after + a] = Narrow<T>::of(total);
}

// The same with numbers of their own for every position; one thread for each element of y.
template <class T>
__device__ __forceinline__ void add_along(T* y, const T* x, const void* indices, int kind, uint32_t before,
                                          uint32_t length, uint32_t numbers, uint32_t after) {
  typedef typename Wide<T>::type A;
  uint32_t n = before * length * after;
  EACH(i, n) {
    uint32_t a = i % after, mine = i / after % length, b = i / after / length;
    A total = 0;
#pragma unroll 1
    for (uint32_t k = 0; k < numbers; k++) {
      uint32_t j = (b * numbers + k) * after + a;
      int64_t at = whole_number(indices, j, kind);
      if ((at < 0 ? at + length : at) == mine) total += widen(x[j]);
    }
    y[i] = Narrow<T>::of(total);
  }
}

template <class T>
__device__ __forceinline__ void one_hot(T* y, const void* labels, int kind, int64_t n, uint32_t classes) {
  EACH(i, n)
    y[i] = Narrow<T>::of(whole_number(labels, i / classes, kind) == i % classes ? 1.0f : 0.0f);
}

#define ADDS(T)                                                                                                      \
  extern "C" __global__ void __launch_bounds__(256) scatter_add_##T(                                                 \
      T* y, const T* x, const void* indices, int64_t kind, int64_t length, int64_t numbers, int64_t after) {         \
    scatter_add<T>(y, x, indices, (int)kind, length, numbers, after);                                                \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) add_along_##T(                                                   \
      T* y, const T* x, const void* indices, int64_t kind, int64_t before, int64_t length, int64_t numbers,          \
      int64_t after) {                                                                                               \
    add_along<T>(y, x, indices, (int)kind, before, length, numbers, after);                                          \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(256) one_hot_##T(                                                     \
      T* y, const void* labels, int64_t kind, int64_t n, int64_t classes) {                                          \
    one_hot<T>(y, labels, (int)kind, n, classes);                                                                    \
  }
