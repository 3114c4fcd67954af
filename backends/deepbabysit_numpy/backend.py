"""The backend object: NumPy arrays with pooled buffers and the table of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.backend import Arena
from deepbabysit.runtime.buffers import SMALL, HostArena, ThreadPools
from deepbabysit.runtime.host import HostBackend
from deepbabysit_numpy.compiled.table import with_variants
from deepbabysit_numpy.kernels import KERNELS
from deepbabysit_numpy.program import program


class NumpyBackend(HostBackend):
    """NumPy arrays on the CPU."""

    name = "numpy"
    reads = True

    def __init__(self) -> None:
        self.kernels = with_variants(KERNELS)
        self.program = program
        self._pools = ThreadPools()

    def to_host(self, array: Array) -> np.ndarray:
        """Return the array itself: it is on the host."""
        return np.asarray(array)

    def empty(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an uninitialized buffer; large ones come from this thread's pool."""
        size = dtype.itemsize
        for length in shape:
            size *= length
        return np.empty(shape, dtype) if size < SMALL else self._pools.pool.empty(shape, dtype)

    def arena(self) -> Arena:
        """Return memory for one recording."""
        return HostArena()

    def free(self) -> int:
        """Give this thread's unused pooled memory back."""
        return self._pools.pool.free()


def open_backend() -> NumpyBackend:
    """Open the backend (the entry point of the plug-in)."""
    return NumpyBackend()
