"""What all backends share whose arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Backend


class HostBackend(Backend):
    """NumPy arrays in the host's memory; where buffers come from and which kernels there are is left open."""

    xp: Any = np

    def asarray(self, values: Any, dtype: Any = None) -> np.ndarray:
        """Return a new NumPy array with these values."""
        return np.array(values, dtype=dtype, order="C")

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Copy values into an array."""
        array[...] = values

    def writer(self, array: np.ndarray) -> Callable[..., None]:
        """Return a function that writes its arguments into an array, one for each element, without making another."""
        return partial(Struct(f"{array.size}{array.dtype.char}").pack_into, array.data.cast("B"), 0)

    def synchronize(self) -> None:
        """Do nothing: NumPy has finished when it returns."""

    def owns(self, array: Any) -> bool:
        """Tell whether it is a NumPy array."""
        return isinstance(array, np.ndarray)
