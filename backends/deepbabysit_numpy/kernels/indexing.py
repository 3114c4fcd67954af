"""Gathers and scatters."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel

# NumPy checks indices itself but writes through a second buffer then; for many indices a check of our own is cheaper
_FEW = 4096


def check_numbers(name: str, indices: Any, length: int) -> None:
    """Refuse indices outside of an axis."""
    if indices.size and (indices.max() >= length or indices.min() < -length):
        worst = int(indices.max()) if indices.max() >= length else int(indices.min())
        raise IndexError(
            f"{name}: index {worst} is outside an axis of length {length}; valid: {-length} to {length - 1}"
        )


def _take(ctx: Any, outs: Any, x: Any, indices: Any, *, axis: int = 0) -> None:
    if indices.size < _FEW:
        try:
            x.take(indices, axis, outs[0])
        except IndexError:
            check_numbers("take", indices, x.shape[axis])
        return
    check_numbers("take", indices, x.shape[axis])
    np.take(x, indices, axis=axis, out=outs[0], mode="wrap")


def _scatter_add(ctx: Any, outs: Any, values: Any, indices: Any, *, shape: Any, axis: int = 0) -> None:
    out = outs[0]
    axis %= len(shape)
    check_numbers("scatter_add", indices, shape[axis])
    out.fill(0)
    rows = np.moveaxis(out, axis, 0)
    flat = values.reshape((*shape[:axis], indices.size, *shape[axis + 1 :]))
    np.add.at(rows, indices.reshape(-1), np.moveaxis(flat, axis, 0))


def _take_along_axis(ctx: Any, outs: Any, x: Any, indices: Any, *, axis: int = -1) -> None:
    check_numbers("take_along_axis", indices, x.shape[axis])
    np.copyto(outs[0], np.take_along_axis(x, indices, axis=axis))


def _add_along_axis(ctx: Any, outs: Any, values: Any, indices: Any, *, axis: int = -1, length: int) -> None:
    out = outs[0]
    check_numbers("add_along_axis", indices, length)
    out.fill(0)
    if indices.shape[axis] == 1:
        np.put_along_axis(out, indices, values, axis=axis)
        return
    grid = list(np.indices(indices.shape, sparse=True))
    grid[axis] = indices
    np.add.at(out, tuple(grid), values)


def _one_hot(ctx: Any, outs: Any, labels: Any, *, classes: int, dtype: Any = "float32") -> None:
    np.equal(labels[..., None], np.arange(classes), outs[0], casting="unsafe")


KERNELS: dict[str, Kernel] = {
    "take": Kernel(_take),
    "scatter_add": Kernel(_scatter_add),
    "take_along_axis": Kernel(_take_along_axis),
    "add_along_axis": Kernel(_add_along_axis),
    "one_hot": Kernel(_one_hot),
}
