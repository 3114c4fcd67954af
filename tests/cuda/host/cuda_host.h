// Runs CUDA C++ on the CPU: one fiber per CUDA thread, one block at a time, for tests.
//
// What it shows: results, missing barriers (threads run in three orders between barriers, blocks in a shuffled order),
// divergent barriers, and with AddressSanitizer accesses out of bounds. What it cannot show: speed, and races between
// blocks beyond their order. Tensor-core and asynchronous-copy instructions do not exist here.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

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

#if defined(__x86_64__)
extern "C" void host_switch(void** from, void* to);
asm(R"(.text
.globl host_switch
.type host_switch,@function
host_switch:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp,(%rdi); movq %rsi,%rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
.size host_switch,.-host_switch
)");
#endif

namespace host {

enum class State { running, barrier, warp, done };
enum Order { forward = 0, reverse = 1, shuffled = 2 };

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  std::vector<char> stack;
  State state = State::done;
  unsigned long long slot = 0;
  unsigned mask = 0;
};

constexpr size_t STACK = 64 << 10;
inline std::vector<Fiber> fibers;
#if defined(__x86_64__)
inline void* scheduler = nullptr;
#else
inline ucontext_t scheduler;
#endif
inline int current = 0;
inline std::function<void()> body;
inline uint3 thread_index, block_index;
inline dim3 block_shape, grid_shape;
inline std::vector<char> dynamic_memory;
inline char* dynamic_shared = nullptr;
inline std::mt19937 random;
inline char message[256];

inline void enter(int i) {
  current = i;
  thread_index = {i % block_shape.x, i / block_shape.x % block_shape.y, i / (block_shape.x * block_shape.y)};
}
inline void leave(State state) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
#if defined(__x86_64__)
  host_switch(&fiber.stack_pointer, scheduler);
#else
  swapcontext(&fiber.context, &scheduler);
#endif
}
inline void trampoline() {
  body();
  leave(State::done);
  __builtin_trap();
}
inline void start(Fiber& fiber) {
  if (fiber.stack.empty()) fiber.stack.resize(STACK);
#if defined(__x86_64__)
  char* top = (char*)((size_t)(fiber.stack.data() + fiber.stack.size()) & ~(size_t)15);
  void** p = (void**)top;
  *--p = nullptr;
  *--p = (void*)trampoline;
  for (int k = 0; k < 6; k++) *--p = nullptr;
  fiber.stack_pointer = p;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, trampoline, 0);
#endif
  fiber.state = State::running;
}
inline void resume(int i) {
  enter(i);
#if defined(__x86_64__)
  host_switch(&scheduler, fibers[i].stack_pointer);
#else
  swapcontext(&scheduler, &fibers[i].context);
#endif
}

// Lets the warps go on whose lanes have all arrived at their shuffle; returns whether there was one.
inline bool release_warps(int count) {
  bool released = false;
  for (int base = 0; base < count; base += 32) {
    int lanes = std::min(32, count - base);
    unsigned waiting = 0, mask = 0;
    for (int lane = 0; lane < lanes; lane++)
      if (fibers[base + lane].state == State::warp) {
        waiting |= 1u << lane;
        mask = fibers[base + lane].mask;
      }
    if (!waiting) continue;
    unsigned present = lanes == 32 ? ~0u : (1u << lanes) - 1;
    if ((mask & present & ~waiting) != 0) continue;
    for (int lane = 0; lane < lanes; lane++)
      if (mask >> lane & 1) fibers[base + lane].state = State::running;
    released = true;
  }
  return released;
}

inline int run_block(Order order) {
  int count = block_shape.x * block_shape.y * block_shape.z;
  if ((int)fibers.size() < count) fibers.resize(count);
  for (int i = 0; i < count; i++) start(fibers[i]);
  std::vector<int> turn(count);
  std::iota(turn.begin(), turn.end(), 0);
  if (order == reverse) std::reverse(turn.begin(), turn.end());
  for (;;) {
    bool ran = false;
    if (order == shuffled) std::shuffle(turn.begin(), turn.end(), random);
    for (int i : turn)
      if (fibers[i].state == State::running) {
        resume(i);
        ran = true;
      }
    if (release_warps(count)) continue;
    int waiting = 0, done = 0;
    for (int i = 0; i < count; i++) {
      waiting += fibers[i].state == State::barrier;
      done += fibers[i].state == State::done;
    }
    if (done == count) return 0;
    if (waiting == count) {
      for (int i = 0; i < count; i++) fibers[i].state = State::running;
      continue;
    }
    if (waiting + done == count || !ran) {
      snprintf(message, sizeof message, "divergent barrier in block %u: %d threads wait, %d have ended, of %d",
               block_index.x, waiting, done, count);
      return 1;
    }
  }
}

template <class F, size_t... I, class... A>
inline std::function<void()> bound(F f, void** params, std::index_sequence<I...>, std::tuple<A...>*) {
  auto values = std::make_tuple(*(A*)params[I]...);
  return [=] { std::apply(f, values); };
}

// Runs a kernel with its parameters as the driver takes them: an array of pointers to values.
template <class... A>
int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, size_t shared, void** params, int order,
           unsigned seed) {
  grid_shape = dim3(grid[0], grid[1], grid[2]);
  block_shape = dim3(block[0], block[1], block[2]);
  random.seed(seed);
  dynamic_memory.assign(shared + 64, (char)0xcd);  // poison: a block's shared memory begins with anything
  dynamic_shared = (char*)(((size_t)dynamic_memory.data() + 15) & ~(size_t)15);
  body = bound(kernel, params, std::index_sequence_for<A...>{}, (std::tuple<std::remove_cv_t<A>...>*)nullptr);
  size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
  std::vector<size_t> turn(blocks);
  std::iota(turn.begin(), turn.end(), 0);
  if (order == reverse) std::reverse(turn.begin(), turn.end());
  if (order == shuffled) std::shuffle(turn.begin(), turn.end(), random);
  for (size_t b : turn) {
    block_index = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / ((size_t)grid[0] * grid[1]))};
    if (run_block((Order)order)) return 1;
  }
  return 0;
}

}  // namespace host

#define threadIdx host::thread_index
#define blockIdx host::block_index
#define blockDim host::block_shape
#define gridDim host::grid_shape
constexpr int warpSize = 32;

inline void __syncthreads() { host::leave(host::State::barrier); }
inline void __syncwarp(unsigned mask = ~0u) {
  host::fibers[host::current].mask = mask;
  host::leave(host::State::warp);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace host {
template <class T>
T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8);
  int me = current;
  fibers[me].slot = 0;
  memcpy(&fibers[me].slot, &value, sizeof value);
  __syncwarp(mask);
  T result;
  memcpy(&result, &fibers[(me & ~31) + source].slot, sizeof result);
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
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { volatile float r = a * b; return r; }
inline float __fadd_rn(float a, float b) { volatile float r = a + b; return r; }
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
