"""How kernels of `src` are launched: names by type, whole numbers as 64-bit arguments, grids that cover the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import SHORT
from deepbabysit_cupy.kernels.reducing import WIDTH, power
from deepbabysit_cupy.launch import THREADS, blocks

# What a kernel is named by: `name_TYPE`, the type as in C++.
FLOATS = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
SCANNED = {**FLOATS, "int64": "int64_t"}
WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def whole_kind(array: Any) -> int:
    """Return the number by which kernels know a type of whole numbers."""
    return WHOLE.index(array.dtype.name)


def bits(array: Any) -> int:
    """Return the size of an element in bits: kernels that only move elements are named by it."""
    return int(array.dtype.itemsize) * 8


def packed(after: int, *arrays: Any) -> tuple[int, int]:
    """Return (bits, how many there are) of the pieces in which `after` neighbouring elements are best moved."""
    item = arrays[0].dtype.itemsize
    if after * item % 16 == 0 and all(a.data.ptr % 16 == 0 for a in arrays):
        return 128, after * item // 16
    return item * 8, after


def around(shape: Sequence[int], axis: int) -> tuple[int, int]:
    """Return how many elements there are before and behind an axis."""
    return prod(shape[:axis]), prod(shape[axis + 1 :])


def short(name: str, supports: Callable[..., bool] | None = None) -> Callable[..., bool]:
    """Return `supports` of a kernel of `src`: its arrays have less than 2^31 elements."""

    def takes(forms: Any, **attrs: Any) -> bool:
        if supports is not None and not supports(forms, **attrs):
            return False
        outputs = SPECS[name].infer([f.shape for f in forms], [f.dtype for f in forms], **attrs)
        return all(prod(form.shape) < SHORT for form in (*forms, *outputs))

    return takes


def rowwise(name: str, run: Callable[..., None], supports: Callable[..., bool] | None = None, **fields: Any) -> Kernel:
    """Return a kernel of `src` for an operation: contiguous arrays of less than 2^31 elements."""
    return Kernel(run, supports=short(name, supports), contiguous=True, **fields)


def same_floats(forms: Any, **attrs: Any) -> bool:
    """Tell whether all arrays are of one floating dtype."""
    return forms[0].dtype.name in FLOATS and all(form.dtype == forms[0].dtype for form in forms)


def team_width(length: int, after: int, rows: int) -> int:
    """Return how many rows a block takes at a time, for rows of a length that stand `after` side by side."""
    if after > 1:
        return min(WIDTH, power(rows))
    return THREADS // (power(max(length, 1)) if length <= WIDTH else WIDTH if length <= 1024 else THREADS)


def launch(
    ctx: Any, file: str, name: str, work: int | None, arguments: Sequence[Any], *, grid: tuple[int, ...] | None = None,
    threads: int = THREADS, shared: int = 0,
) -> None:
    """Launch a kernel; Python numbers become 64-bit ones. A kernel without work is not launched.

    Arguments:
        ctx: the device.
        file, name: the kernel; a dtype at the end of its name becomes the type in C++.
        work: elements, one thread each (kernels loop over what a grid leaves); or None where `grid` is given.
        arguments: arrays and numbers.
        grid: how many blocks.
        threads: of a block.
        shared: bytes of dynamic shared memory.
    """
    if work == 0:
        return
    head, _, kind = name.rpartition("_")
    name = f"{head}_{SCANNED.get(kind, kind)}"
    if grid is None:
        assert work is not None
        grid = (blocks(work, threads, ctx.backend.most_blocks),)
    # whole numbers are 64 bits wide in every kernel, floating ones float64
    values = [np.int64(v) if isinstance(v, int) else np.float64(v) if isinstance(v, float) else v for v in arguments]
    ctx.backend.library.function(file, name)(grid, (threads,), tuple(values), shared_mem=shared)
