"""How kernels of `src` are launched: names by type, whole numbers as 64-bit arguments, grids that cover the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit_cupy.launch import THREADS, blocks

# What a kernel is named by: `name_TYPE`, the type as in C++.
FLOATS = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def whole_kind(array: Any) -> int:
    """Return the number by which kernels know a type of whole numbers."""
    return WHOLE.index(array.dtype.name)


def bits(array: Any) -> int:
    """Return the size of an element in bits: kernels that only move elements are named by it."""
    return int(array.dtype.itemsize) * 8


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
    name = f"{head}_{FLOATS.get(kind, kind)}"
    if grid is None:
        assert work is not None
        grid = (blocks(work, threads, ctx.backend.most_blocks),)
    # whole numbers are 64 bits wide in every kernel, floating ones float64
    values = [np.int64(v) if isinstance(v, int) else np.float64(v) if isinstance(v, float) else v for v in arguments]
    ctx.backend.library.function(file, name)(grid, (threads,), tuple(values), shared_mem=shared)
