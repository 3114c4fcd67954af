// What every kernel file shares: storage types, 16-byte accesses, reductions in a fixed order, counters.
#pragma once
#ifdef HOST
#include "cuda_host.h"
#define DYNAMIC_SHARED(type, name) type* name = (type*)host::dynamic_shared
#else
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define DYNAMIC_SHARED(type, name)                  \
  extern __shared__ __align__(16) char name##_raw[]; \
  type* name = (type*)name##_raw
#endif

// One thread for each of n elements. Places are counted in 32 bits, in which division is quick: kernels of this folder
// take arrays of less than 2^31 elements.
#define EACH(i, n) \
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < (uint32_t)(n); i += gridDim.x * blockDim.x)

// -- storage types: float16 and bfloat16 are stored, float and double compute -----------------------------------------

struct float16 { uint16_t bits; };
struct bfloat16 { uint16_t bits; };

template <class T> struct Wide { typedef float type; };
template <> struct Wide<double> { typedef double type; };
template <> struct Wide<int64_t> { typedef int64_t type; };

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ int64_t widen(int64_t v) { return v; }
__device__ __forceinline__ float widen(bfloat16 v) { return __uint_as_float((uint32_t)v.bits << 16); }
__device__ __forceinline__ float widen(float16 v) {
#ifdef HOST
  uint32_t sign = (uint32_t)(v.bits & 0x8000) << 16, rest = v.bits & 0x7fff;
  if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  if (rest >= 0x400) return __uint_as_float(sign | ((rest << 13) + (112u << 23)));
  float tiny = (float)rest * 5.9604644775390625e-8f;  // 2^-24: a subnormal number
  return sign ? -tiny : tiny;
#else
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(v.bits));
  return wide;
#endif
}

template <class T> struct Narrow;
template <> struct Narrow<float> { __device__ static __forceinline__ float of(float v) { return v; } };
template <> struct Narrow<double> { __device__ static __forceinline__ double of(double v) { return v; } };
template <> struct Narrow<int64_t> { __device__ static __forceinline__ int64_t of(int64_t v) { return v; } };
template <> struct Narrow<bfloat16> {
  __device__ static __forceinline__ bfloat16 of(float v) {
    uint32_t u = __float_as_uint(v);
    bfloat16 r;
    r.bits = v != v ? (uint16_t)0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);  // to nearest, ties to even
    return r;
  }
};
template <> struct Narrow<float16> {
  __device__ static __forceinline__ float16 of(float v) {
    float16 r;
#ifdef HOST
    uint32_t u = __float_as_uint(v), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) r.bits = 0x7e00;
    else if (rest >= 0x477ff000) r.bits = (uint16_t)(sign | 0x7c00);  // 65520 and above round to infinity
    else if (rest >= 0x38800000) r.bits = (uint16_t)(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
    else {
      float scaled = __uint_as_float(rest) * 16777216.0f;  // 2^24: whole numbers of the smallest step
      r.bits = (uint16_t)(sign | (uint32_t)nearbyintf(scaled));
    }
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
#endif
    return r;
  }
};

// -- 16-byte accesses ------------------------------------------------------------------------------------------------

template <class T> struct __align__(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[16 / sizeof(T)];
};
template <class T> __device__ __forceinline__ Pack<T> load(const T* p) { return *(const Pack<T>*)p; }
template <class T> __device__ __forceinline__ void store(T* p, const Pack<T>& v) { *(Pack<T>*)p = v; }
template <class T> __device__ __forceinline__ bool aligned(const T* p) { return ((uint64_t)p & 15) == 0; }

// -- reductions: the same order every time ----------------------------------------------------------------------------

struct Sum { template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; } };
// NaN wins, as in NumPy.
struct Largest { template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a > b || a != a ? a : b; } };
struct Smallest { template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a < b || a != a ? a : b; } };

// Where a largest and a smallest value begin.
template <class T> struct Lowest {
  __device__ static __forceinline__ T value() { return (T)-1 < (T)0 ? (T)(1ull << (sizeof(T) * 8 - 1)) : (T)0; }
};
template <> struct Lowest<float> { __device__ static __forceinline__ float value() { return -INFINITY; } };
template <> struct Lowest<double> { __device__ static __forceinline__ double value() { return -INFINITY; } };
template <class T> struct Highest { __device__ static __forceinline__ T value() { return (T)~Lowest<T>::value(); } };
template <> struct Highest<float> { __device__ static __forceinline__ float value() { return INFINITY; } };
template <> struct Highest<double> { __device__ static __forceinline__ double value() { return INFINITY; } };

template <class F, class T> __device__ __forceinline__ T warp_reduce(T v, F combine) {
  for (int step = 16; step; step >>= 1) v = combine(v, (T)__shfl_xor_sync(0xffffffffu, v, step));
  return v;
}
// Every thread gets the result. The block is a multiple of 32 threads; `scratch` has room for 32 values and is free again
// when this returns.
template <class F, class T> __device__ __forceinline__ T block_reduce(T v, T identity, T* scratch, F combine) {
  v = warp_reduce(v, combine);
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  v = lane < warps ? scratch[lane] : identity;
  v = warp_reduce(v, combine);
  __syncthreads();
  return v;
}

// -- teams: the threads of a block that share one result -----------------------------------------------------------------

// A block of threads makes `width` results, each from elements that its `lanes` threads take in turns. Neighbouring
// threads are lanes of one result (`along`: its elements lie side by side) or make neighbouring results. Both numbers are
// powers of two.
struct Team { int kept, lane, lanes, width; bool along; };
__device__ __forceinline__ Team team(int width, bool along) {
  int lanes = blockDim.x / width, thread = threadIdx.x;
  Team t = {along ? thread / lanes : thread % width, along ? thread % lanes : thread / width, lanes, width, along};
  return t;
}
// Every lane gets the result; all threads of the block take part. `scratch` has room for a value per thread and is free
// again when this returns.
template <class F, class A> __device__ __forceinline__ A team_reduce(const Team& t, A v, A* scratch, F combine) {
  if (t.along) {
    for (int step = (t.lanes < 32 ? t.lanes : 32) >> 1; step; step >>= 1)
      v = combine(v, (A)__shfl_xor_sync(0xffffffffu, v, step));
    if (t.lanes <= 32) return v;
    int warps = t.lanes >> 5, first = t.kept * warps;
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    v = scratch[first];
    for (int w = 1; w < warps; w++) v = combine(v, scratch[first + w]);
    __syncthreads();
    return v;
  }
  scratch[threadIdx.x] = v;
  __syncthreads();
  for (int step = t.lanes >> 1; step; step >>= 1) {
    if (t.lane < step) scratch[threadIdx.x] = combine(scratch[threadIdx.x], scratch[threadIdx.x + step * t.width]);
    __syncthreads();
  }
  v = scratch[t.kept];
  __syncthreads();
  return v;
}

// -- Philox4x64-10 (Salmon et al. 2011), the package's random words ----------------------------------------------------

struct Words { uint64_t v[4]; };
__device__ __forceinline__ Words philox(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t k0, uint64_t k1) {
  for (int round = 0; round < 10; round++) {
    uint64_t high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
    uint64_t high1 = __umul64hi(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  Words words = {{c0, c1, c2, c3}};
  return words;
}

// -- several elements at a time, in accesses of at most 16 bytes --------------------------------------------------------

template <class T, int N> struct __align__(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vector { T v[N]; };
template <int N, class T> __device__ __forceinline__ const Vector<T, N>& vector(const T* p) {
  return *(const Vector<T, N>*)p;
}
template <int N, class T> __device__ __forceinline__ Vector<T, N>& vector(T* p) { return *(Vector<T, N>*)p; }

// -- whole numbers of any type (labels, indices) ------------------------------------------------------------------------

// `kind` is the place of the type in int8, uint8, int16, uint16, int32, uint32, int64, uint64.
__device__ __forceinline__ int64_t whole_number(const void* p, int64_t i, int kind) {
  switch (kind) {
    case 0: return ((const int8_t*)p)[i];
    case 1: return ((const uint8_t*)p)[i];
    case 2: return ((const int16_t*)p)[i];
    case 3: return ((const uint16_t*)p)[i];
    case 4: return ((const int32_t*)p)[i];
    case 5: return ((const uint32_t*)p)[i];
    default: return ((const int64_t*)p)[i];
  }
}

// -- elements that are only moved, by their size --------------------------------------------------------------------------

struct __align__(16) Sixteen { uint64_t v[2]; };
template <int N> struct Bits;
template <> struct Bits<8> { typedef uint8_t type; };
template <> struct Bits<16> { typedef uint16_t type; };
template <> struct Bits<32> { typedef uint32_t type; };
template <> struct Bits<64> { typedef uint64_t type; };
template <> struct Bits<128> { typedef Sixteen type; };
// 64 bits that repeat, as one element.
template <class T> __device__ __forceinline__ T pattern(uint64_t bits) { return (T)bits; }
template <> __device__ __forceinline__ Sixteen pattern<Sixteen>(uint64_t bits) { return Sixteen{{bits, bits}}; }
