"""Gathers and scatters of whole rows (embeddings); other axes stay with NumPy."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.indexing import check_numbers

_DTYPES = frozenset({"float32", "float64"})
_INTEGERS = ("int32", "int64")
_TAKE, _SCATTER = Compiled("indexing", "take"), Compiled("indexing", "scatter_add")


def _takes_rows(name: str) -> Any:
    def supports(forms: Any, *, axis: int = 0, shape: Any = None) -> bool:
        source, numbers = forms
        table = source.shape if shape is None else shape
        fits = axis % len(table) == 0 and source.dtype.name in _DTYPES and numbers.dtype.name in _INTEGERS
        size = prod(numbers.shape) * prod(table[1:])
        return fits and size >= LEAST[name] and size > 0 and prod(table) > 0 and available()

    return supports


def _take(ctx: Any, outs: Any, x: Any, indices: Any, *, axis: int = 0) -> None:
    numbers, length = indices.reshape(-1), x.shape[0]
    if not _TAKE((x.dtype, numbers.dtype), x.reshape(length, -1), numbers, outs[0].reshape(numbers.size, -1)):
        check_numbers("take", indices, length)


def _scatter_add(ctx: Any, outs: Any, values: Any, indices: Any, *, shape: Any, axis: int = 0) -> None:
    numbers, length = indices.reshape(-1), shape[0]
    rows, out = values.reshape(numbers.size, -1), outs[0].reshape(length, -1)
    if not _SCATTER((values.dtype, numbers.dtype), rows, numbers, out):
        check_numbers("scatter_add", indices, length)


VARIANTS: dict[str, Kernel] = {
    "take": Kernel(_take, supports=_takes_rows("take"), contiguous=True),
    "scatter_add": Kernel(_scatter_add, supports=_takes_rows("scatter"), contiguous=True),
}
