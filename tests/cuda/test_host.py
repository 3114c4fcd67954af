"""The tests of the tests: running CUDA kernels on the CPU finds what it is there to find."""

import subprocess
import sys

import numpy as np
import pytest
from host_build import ORDERS, DivergentBarrier, HostModule, sanitizer_library

PRELUDE = """
#include "cuda_host.h"

"""
REDUCE = PRELUDE + """
extern "C" __global__ void total(const float* x, float* y, int n) {
  __shared__ float s[256];
  s[threadIdx.x] = threadIdx.x < n ? x[blockIdx.x * n + threadIdx.x] : 0;
#ifndef MISSING_BARRIER
  __syncthreads();
#endif
  for (int step = 128; step; step >>= 1) {
    if (threadIdx.x < step) s[threadIdx.x] += s[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = s[0];
}
extern "C" __global__ void divergent(float* y) {
  if (threadIdx.x < 7) __syncthreads();
  y[threadIdx.x] = 1;
}
extern "C" __global__ void outside(float* y, int n) { y[threadIdx.x + n] = 1; }
extern "C" __global__ void shuffled(const int* x, int* y) {
  int v = x[threadIdx.x];
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  y[threadIdx.x] = v + (__ballot_sync(0xffffffffu, x[threadIdx.x] & 1) << 16);
}
"""
OUTSIDE = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from host_build import HostModule
module = HostModule({text!r}, sanitize=True)
y = np.zeros(64, np.float32)
print("begins", flush=True)
module.launch("outside", 1, 32, (y, np.int32({n})))
print("ends")
"""


def _totals(module: HostModule, order: str) -> float:
    x = np.random.default_rng(3).normal(size=(5, 200)).astype(np.float32)
    y = np.full(5, np.nan, np.float32)
    module.launch("total", 5, 256, (x, y, np.int32(200)), order=order)
    return float(np.abs(y - x.sum(1, dtype=np.float64)).max())


@pytest.mark.parametrize("order", ORDERS)
def test_a_right_reduction_is_right_in_every_order(order):
    assert _totals(HostModule(REDUCE), order) < 1e-5


def test_a_missing_barrier_is_caught():
    module = HostModule(REDUCE, ("MISSING_BARRIER",))
    assert max(_totals(module, order) for order in ORDERS) > 1e-2


def test_a_divergent_barrier_is_named():
    with pytest.raises(DivergentBarrier, match="7 threads wait, 25 have ended, of 32"):
        HostModule(REDUCE).launch("divergent", 1, 32, (np.zeros(32, np.float32),))


def test_shuffles_and_ballots_see_the_whole_warp():
    x = np.arange(64, dtype=np.int32) % 5
    y = np.zeros_like(x)
    HostModule(REDUCE).launch("shuffled", 1, 64, (x, y))
    for warp in (slice(0, 32), slice(32, 64)):
        votes = sum(1 << lane for lane, v in enumerate(x[warp]) if v & 1)
        expected = np.uint32(x[warp].sum() + (votes << 16)).astype(np.int32)
        assert (y[warp] == expected).all()


@pytest.mark.parametrize(("n", "caught"), [(32, False), (40, True)])
def test_the_sanitizer_stops_a_store_out_of_bounds(n, caught):
    from pathlib import Path

    text = OUTSIDE.format(folder=str(Path(__file__).parent), text=REDUCE, n=n)
    environment = {"LD_PRELOAD": sanitizer_library(), "ASAN_OPTIONS": "detect_leaks=0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=False)
    assert "begins" in done.stdout, done.stderr
    assert ("ends" in done.stdout) != caught
    assert ("heap-buffer-overflow" in done.stderr) == caught
