// The block that ends last finishes what all blocks of a launch began.
#pragma once
#include "common.cuh"

// Tells every thread of a block whether it belongs to the last block; `ticket` is 0 before the launch and after it. What
// the other blocks wrote before is visible then. A macro, so that a part of a merged launch counts its own blocks.
#define last_block(ticket) last_of(ticket, gridDim.x * gridDim.y)
__device__ __forceinline__ bool last_of(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(ticket, 1u) == blocks - 1;
    if (last) *ticket = 0;
  }
  __syncthreads();
  __threadfence();
  return last;
}

// Returns the segment that an element lies in: the last one that begins at or before it.
__device__ __forceinline__ int64_t segment_of(const int64_t* starts, int64_t segments, int64_t element) {
  int64_t low = 0, high = segments - 1;
  while (low < high) {
    int64_t middle = (low + high + 1) / 2;
    if (starts[middle] <= element) low = middle;
    else high = middle - 1;
  }
  return low;
}
