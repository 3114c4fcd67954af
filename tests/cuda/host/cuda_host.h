// Runs CUDA C++ on the CPU: one fiber per CUDA thread, one block at a time, for tests.
//
// What it shows: results, missing barriers (threads run in three orders between barriers, blocks in a shuffled order),
// divergent barriers, and with AddressSanitizer accesses out of bounds. What it cannot show: speed, and races between
// blocks beyond their order. Tensor-core and asynchronous-copy instructions do not exist here.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__ __restrict
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float a, float b) { return {a, b}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }

namespace host {

enum class State { running, barrier, warp, done };
constexpr int MOST_THREADS = 1024;

// The scheduler is in cuda_host.cpp, compiled once.
extern uint3 thread_index, block_index;
extern dim3 block_shape, grid_shape;
extern char* dynamic_shared;
extern void** parameters;
extern int current;
extern unsigned long long slots[MOST_THREADS];  // what each thread shows to the others of its warp
void leave(State state, unsigned mask = 0);

// Calls a kernel with its parameters as the driver takes them: an array of pointers to values.
template <int... I> struct Places {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Places<I...> places; };
template <class... A, int... I> inline void spread(void (*kernel)(A...), Places<I...>) { kernel(*(A*)parameters[I]...); }
template <class... A> inline void call(void (*kernel)(A...)) { spread(kernel, typename Count<sizeof...(A)>::places()); }

}  // namespace host

#define threadIdx host::thread_index
#define blockIdx host::block_index
#define blockDim host::block_shape
#define gridDim host::grid_shape
constexpr int warpSize = 32;

inline void __syncthreads() { host::leave(host::State::barrier); }
inline void __syncwarp(unsigned mask = ~0u) { host::leave(host::State::warp, mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace host {
template <class T>
T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8);
  int me = current;
  memcpy(&slots[me], &value, sizeof value);
  __syncwarp(mask);
  T result;
  memcpy(&result, &slots[(me & ~31) + source], sizeof result);
  __syncwarp(mask);
  return result;
}
}  // namespace host
template <class T>
T __shfl_sync(unsigned mask, T v, int lane) { return host::exchange(mask, v, lane & 31); }
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits) { return host::exchange(mask, v, (host::current & 31) ^ bits); }
template <class T>
T __shfl_down_sync(unsigned mask, T v, int by) {
  int lane = host::current & 31;
  return host::exchange(mask, v, lane + by < 32 ? lane + by : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int by) {
  int lane = host::current & 31;
  return host::exchange(mask, v, lane >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned bits = 0;
  for (int lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) bits |= (unsigned)(host::exchange(mask, predicate != 0, lane) != 0) << lane;
  return bits;
}

template <class T>
T atomicAdd(T* p, T v) { T old = *p; *p = old + v; return old; }
template <class T>
T atomicMax(T* p, T v) { T old = *p; if (v > old) *p = v; return old; }
template <class T>
T atomicMin(T* p, T v) { T old = *p; if (v < old) *p = v; return old; }
template <class T>
T atomicExch(T* p, T v) { T old = *p; *p = v; return old; }
template <class T>
T atomicOr(T* p, T v) { T old = *p; *p = old | v; return old; }
template <class T>
T atomicCAS(T* p, T expected, T v) { T old = *p; if (old == expected) *p = v; return old; }

template <class T>
T __ldg(const T* p) { return *p; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __float_as_int(float v) { int r; memcpy(&r, &v, 4); return r; }
inline unsigned __float_as_uint(float v) { unsigned r; memcpy(&r, &v, 4); return r; }
inline float __int_as_float(int v) { float r; memcpy(&r, &v, 4); return r; }
inline float __uint_as_float(unsigned v) { float r; memcpy(&r, &v, 4); return r; }
inline long long __double_as_longlong(double v) { long long r; memcpy(&r, &v, 8); return r; }
inline double __longlong_as_double(long long v) { double r; memcpy(&r, &v, 8); return r; }
#undef isfinite
#undef isinf
#undef isnan
template <class T>
bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T>
bool isinf(T x) { return __builtin_isinf(x); }
template <class T>
bool isnan(T x) { return __builtin_isnan(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { volatile float r = a * b; return r; }
inline float __fadd_rn(float a, float b) { volatile float r = a + b; return r; }
template <class T>
T max(T a, T b) { return a > b ? a : b; }
template <class T>
T min(T a, T b) { return a < b ? a : b; }
