// The scheduler behind cuda_host.h: fibers, barriers, warps.
#include "cuda_host.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

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

enum Order { forward = 0, reverse = 1, shuffled = 2 };

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  std::vector<char> stack;
  State state = State::done;
  unsigned mask = 0;
};

constexpr size_t STACK = 64 << 10;
std::vector<Fiber> fibers;
#if defined(__x86_64__)
void* scheduler = nullptr;
#else
ucontext_t scheduler;
#endif
int current = 0;
void (*body)();
void** parameters;
uint3 thread_index, block_index;
dim3 block_shape, grid_shape;
unsigned long long slots[MOST_THREADS];
std::vector<char> dynamic_memory;
char* dynamic_shared = nullptr;
std::mt19937 generator;
char message[256];

static void enter(int i) {
  current = i;
  thread_index = {i % block_shape.x, i / block_shape.x % block_shape.y, i / (block_shape.x * block_shape.y)};
}
void leave(State state, unsigned mask) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  fiber.mask = mask;
#if defined(__x86_64__)
  host_switch(&fiber.stack_pointer, scheduler);
#else
  swapcontext(&fiber.context, &scheduler);
#endif
}
static void trampoline() {
  body();
  leave(State::done);
  __builtin_trap();
}
static void start(Fiber& fiber) {
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
static void resume(int i) {
  enter(i);
#if defined(__x86_64__)
  host_switch(&scheduler, fibers[i].stack_pointer);
#else
  swapcontext(&scheduler, &fibers[i].context);
#endif
}

// Lets the warps go on whose lanes have all arrived at their shuffle; returns whether there was one.
static bool release_warps(int count) {
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

static int run_block(Order order) {
  int count = block_shape.x * block_shape.y * block_shape.z;
  if ((int)fibers.size() < count) fibers.resize(count);
  for (int i = 0; i < count; i++) start(fibers[i]);
  std::vector<int> turn(count);
  std::iota(turn.begin(), turn.end(), 0);
  if (order == reverse) std::reverse(turn.begin(), turn.end());
  for (;;) {
    bool ran = false;
    if (order == shuffled) std::shuffle(turn.begin(), turn.end(), generator);
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

}  // namespace host

extern "C" const char* host_message() { return host::message; }

// Runs every block of a launch; 1 when a barrier was not reached by all threads.
extern "C" int host_run(void (*kernel)(), const unsigned* grid, const unsigned* block, size_t shared, void** params,
                        int order, unsigned seed) {
  using namespace host;
  grid_shape = dim3(grid[0], grid[1], grid[2]);
  block_shape = dim3(block[0], block[1], block[2]);
  generator.seed(seed);
  dynamic_memory.assign(shared + 64, (char)0xcd);  // poison: a block's shared memory begins with anything
  dynamic_shared = (char*)(((size_t)dynamic_memory.data() + 15) & ~(size_t)15);
  body = kernel;
  parameters = params;
  size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
  std::vector<size_t> turn(blocks);
  std::iota(turn.begin(), turn.end(), 0);
  if (order == reverse) std::reverse(turn.begin(), turn.end());
  if (order == shuffled) std::shuffle(turn.begin(), turn.end(), generator);
  for (size_t b : turn) {
    block_index = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / ((size_t)grid[0] * grid[1]))};
    if (run_block((Order)order)) return 1;
  }
  return 0;
}
