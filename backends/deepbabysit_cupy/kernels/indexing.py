"""Gathers and scatters. A number outside of an axis is not an error on a GPU, which cannot raise: it gives NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import is_floating
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import FLOATS, WHOLE, around, bits, launch, packed, rowwise, whole_kind
from deepbabysit_cupy.kernels.maps import clear

_FILE = "structure.cu"


def _missing(dtype: Any) -> np.uint64:
    """Return 64 bits of NaN, or of 0 for numbers that know no NaN."""
    value = np.full(8 // dtype.itemsize, np.nan if is_floating(dtype) else 0, dtype)
    return np.uint64(value.view(np.uint64)[0])


def _take(ctx: Any, outs: Any, x: Any, indices: Any, *, axis: int = 0) -> None:
    axis %= x.ndim
    before, after = around(x.shape, axis)
    size, after = packed(after, x, outs[0])
    launch(
        ctx, _FILE, "take", (size,), before * indices.size * after,
        (outs[0], x, indices, whole_kind(indices), _missing(x.dtype), before, x.shape[axis], indices.size, after),
    )


def _take_along(ctx: Any, outs: Any, x: Any, indices: Any, *, axis: int = -1) -> None:
    axis %= x.ndim
    before, after = around(x.shape, axis)
    launch(
        ctx, _FILE, "take_along", (bits(x),), outs[0].size,
        (outs[0], x, indices, whole_kind(indices), _missing(x.dtype), before, x.shape[axis], indices.shape[axis],
         after),
    )


def _scatter_add(ctx: Any, outs: Any, values: Any, indices: Any, *, shape: Any, axis: int = 0) -> None:
    axis %= len(shape)
    before, after = around(shape, axis)
    clear(ctx, outs[0])
    tiles = -(-after // 256)
    if values.size:
        launch(
            ctx, _FILE, "scatter_add", (values.dtype.name,), None,
            (outs[0], values, indices, whole_kind(indices), shape[axis], indices.size, after),
            grid=(before * indices.size, tiles),
        )


def _add_along(ctx: Any, outs: Any, values: Any, indices: Any, *, axis: int = -1, length: int) -> None:
    axis %= values.ndim
    before, after = around(values.shape, axis)
    launch(
        ctx, _FILE, "add_along", (values.dtype.name,), outs[0].size,
        (outs[0], values, indices, whole_kind(indices), before, length, indices.shape[axis], after),
    )


def _one_hot(ctx: Any, outs: Any, labels: Any, *, classes: int, dtype: Any = "float32") -> None:
    count = outs[0].size
    launch(ctx, _FILE, "one_hot", (outs[0].dtype.name,), count, (outs[0], labels, whole_kind(labels), count, classes))


def _indexed(forms: Any, **attrs: Any) -> bool:
    return forms[1].dtype.name in WHOLE


def _added(forms: Any, **attrs: Any) -> bool:
    return forms[0].dtype.name in FLOATS and forms[1].dtype.name in WHOLE


def _hot(forms: Any, *, classes: int, dtype: Any = "float32") -> bool:
    return forms[0].dtype.name in WHOLE and np.dtype(dtype).name in FLOATS


KERNELS: dict[str, Kernel] = {
    "take": rowwise("take", _take, _indexed),
    "take_along_axis": rowwise("take_along_axis", _take_along, _indexed),
    "scatter_add": rowwise("scatter_add", _scatter_add, _added),
    "add_along_axis": rowwise("add_along_axis", _add_along, _added),
    "one_hot": rowwise("one_hot", _one_hot, _hot),
}
