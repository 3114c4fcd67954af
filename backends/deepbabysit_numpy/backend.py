"""The backend object: NumPy arrays with pooled buffers and the table of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.backend import Arena, Backend
from deepbabysit.runtime.buffers import SMALL, HostArena, ThreadPools
from deepbabysit_numpy.compiled.table import with_variants
from deepbabysit_numpy.kernels import KERNELS
from deepbabysit_numpy.program import program


class NumpyBackend(Backend):
    """NumPy arrays on the CPU."""

    name = "numpy"
    xp = np

    def __init__(self) -> None:
        self.kernels = with_variants(KERNELS)
        self.program = program
        self._pools = ThreadPools()

    def asarray(self, values: Any, dtype: Any = None) -> np.ndarray:
        """Return a new NumPy array with these values."""
        return np.array(values, dtype=dtype, order="C")

    def to_host(self, array: Array) -> np.ndarray:
        """Return the array itself: it is on the host."""
        return np.asarray(array)

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Copy values into an array."""
        array[...] = values

    def empty(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an uninitialized buffer; large ones come from this thread's pool."""
        size = dtype.itemsize
        for length in shape:
            size *= length
        return np.empty(shape, dtype) if size < SMALL else self._pools.pool.empty(shape, dtype)

    def synchronize(self) -> None:
        """Do nothing: NumPy has finished when it returns."""

    def owns(self, array: Any) -> bool:
        """Tell whether it is a NumPy array."""
        return isinstance(array, np.ndarray)

    def arena(self) -> Arena:
        """Return memory for one recording."""
        return HostArena()

    def free(self) -> int:
        """Give this thread's unused pooled memory back."""
        return self._pools.pool.free()


def open_backend() -> NumpyBackend:
    """Open the backend (the entry point of the plug-in)."""
    return NumpyBackend()
