"""Kernels of every family run once, for tools that look on: ``python -m deepbabysit.bench.gpu.exercise ELEMENTS``."""

from __future__ import annotations

import sys

from deepbabysit.bench.gpu.correctness import memory_bound
from deepbabysit.bench.gpu.run import open_device
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.funnel import call


def exercise(elements: int) -> None:
    """Run them over arrays of so many elements."""
    device = open_device()
    for name, (arrays, outs, _, attrs) in memory_bound(device, elements).items():
        call(device, SPECS[name], arrays, attrs, outs)
    device.backend.synchronize()


if __name__ == "__main__":
    exercise(int(sys.argv[1]))
