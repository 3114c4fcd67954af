"""How kernels of `src` are launched: names by type, whole numbers as 64-bit arguments, grids that cover the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.compiler import SOURCES
from deepbabysit_cupy.kernels.maps import SHORT
from deepbabysit_cupy.kernels.reducing import WIDTH, power
from deepbabysit_cupy.launch import THREADS, blocks

# dtype -> type in C++.
FLOATS = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
TYPES = {**FLOATS, "int64": "int64_t", "uint32": "uint32_t"}
WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def whole_kind(array: Any) -> int:
    """Return the number by which kernels know a type of whole numbers."""
    return WHOLE.index(array.dtype.name)


def bits(array: Any) -> str:
    """Return the size of an element in bits: kernels that only move elements are named by it."""
    return str(array.dtype.itemsize * 8)


def packed(after: int, *arrays: Any) -> tuple[str, int]:
    """Return (bits, how many there are) of the pieces in which `after` neighbouring elements are best moved."""
    item = arrays[0].dtype.itemsize
    if after * item % 16 == 0 and all(a.data.ptr % 16 == 0 for a in arrays):
        return "128", after * item // 16
    return str(item * 8), after


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


# The macros that make kernels for a type or a size: only what is used is compiled.
FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "losses.cu": {"LOSSES": ("labels", "labels_gradient", "soft", "soft_gradient")},
    "normalization.cu": {
        "MOMENTS": ("moments",), "JOINED": ("joined_moments",), "NORMALIZE": ("normalize", "normalize_gradient"),
    },
    "random.cu": {"WORDS": ("random_words",), "DROPOUT": ("dropout",)},
    "scan.cu": {"SCANS": ("running_sum", "extreme")},
    "softmax.cu": {"SOFTMAX": ("softmax", "gradient", "weights")},
    "structure.cu": {
        "MOVES": ("placed", "join", "split", "take", "take_along"), "ADDS": ("scatter_add", "add_along", "one_hot"),
    },
    "windows.cu": {
        "COLUMNS": ("columns",),
        "WINDOWS": ("uncolumns", "pool", "max_pool_gradient", "avg_pool_gradient", "depthwise", "depthwise_input",
                    "depthwise_kernel"),
    },
}  # fmt: skip


@cache
def source(file: str, macro: str, *kinds: str) -> str:
    """Return the source that makes a family's kernels for types as C++ names them, or for a size in bits."""
    # the whole text, not its name: launches that are merged see the blocks of their own part
    return f"{(SOURCES / file).read_text(encoding='utf-8')}{macro}({', '.join(kinds)})\n"


@cache
def _found(file: str, name: str, kinds: tuple[str, ...]) -> tuple[str, str]:
    """Return source and name of a kernel."""
    macro = next(macro for macro, names in FAMILIES[file].items() if name in names)
    types = tuple(TYPES.get(kind, kind) for kind in kinds)
    return source(file, macro, *types), "_".join((name, *types))


def launch(
    ctx: Any, file: str, name: str, kinds: tuple[str, ...], work: int | None, arguments: Sequence[Any], *,
    grid: tuple[int, ...] | None = None, rows: tuple[int, int] | None = None,
) -> None:
    """Launch a kernel; Python numbers become 64-bit ones. A kernel without work is not launched.

    Arguments:
        ctx: the device.
        file, name: the kernel, of `FAMILIES`.
        kinds: the dtypes that it is made for, or the size of an element in bits.
        work: elements, one thread each (kernels loop over what a grid leaves); or None where `grid` is given.
        arguments: arrays and numbers.
        grid: how many blocks.
        rows: see `Launch`.
    """
    if work == 0:
        return
    if grid is None:
        assert work is not None
        grid = (blocks(work, THREADS, ctx.backend.most_blocks),)
    values = [np.int64(v) if isinstance(v, int) else np.float64(v) if isinstance(v, float) else v for v in arguments]
    ctx.backend.library.made(*_found(file, name, kinds))(grid, (THREADS,), tuple(values), rows=rows)
