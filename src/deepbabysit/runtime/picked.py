"""Batches that are told by the numbers of their rows: a program takes them from the data where it reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np


class Picked(Sequence[np.ndarray]):
    """The arrays of a batch as rows of larger arrays; they are gathered when somebody looks at one.

    Arguments:
        data: where the rows come from.
        rows: their numbers, int64.
        gather: returns the arrays.

    Attributes:
        data, rows: the same.
    """

    __slots__ = ("_arrays", "_gather", "data", "rows")

    def __init__(
        self, data: Sequence[np.ndarray], rows: np.ndarray, gather: Callable[[], Sequence[np.ndarray]]
    ) -> None:
        self.data = data
        self.rows = rows
        self._gather = gather
        self._arrays: Sequence[np.ndarray] | None = None

    def arrays(self) -> Sequence[np.ndarray]:
        """Return the arrays."""
        if self._arrays is None:
            self._arrays = self._gather()
        return self._arrays

    def forms(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return the shapes and dtypes of the arrays."""
        return [((len(self.rows), *array.shape[1:]), array.dtype) for array in self.data]

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        return self.arrays()[index]
