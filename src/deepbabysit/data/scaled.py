"""Raw data that are scaled when rows are asked for: pixels stay bytes until they are in a batch."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device


@final
class ScaledRows:
    """What `Normalizer.lazy` returns: a source for `Loader`, with the values that ``transform`` gives.

    Attributes:
        shape: of the whole data.
        dtype: of the rows that come out.
    """

    def __init__(
        self, array: NDArray[Any], shift: NDArray[np.float64], scale: NDArray[np.float64], dtype: np.dtype[Any]
    ) -> None:
        self._array = np.ascontiguousarray(array)
        self._vectors = (np.ascontiguousarray(shift), np.ascontiguousarray(scale))
        self.shape = self._array.shape
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return rows by an array of row numbers, a slice, or one row by its number."""
        single = isinstance(rows, int | np.integer)
        numbers = np.arange(len(self))[rows] if isinstance(rows, slice) else np.atleast_1d(np.asarray(rows))
        arrays = (self._array, numbers, *self._vectors)
        result: NDArray[Any] = call(find_device("cpu"), SPECS["take_scaled"], arrays, {"dtype": self.dtype.name})[0]
        return result[0] if single else result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def __repr__(self) -> str:
        return f"ScaledRows({self._array.dtype}{list(self.shape)} -> {self.dtype})"
