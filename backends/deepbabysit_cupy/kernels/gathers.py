"""A batch of raw data: rows taken by number from data that lie on the device, scaled and converted in one pass."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import layout
from deepbabysit_cupy.launch import THREADS, blocks
from deepbabysit_cupy.trace import STORED

_WIDE = ("float16", "bfloat16", "float32", "float64")
_AXES = 4  # of a row, after axes that lie behind one another have been joined


@cache
def source(x: str, numbers: str, shift: str, scale: str, out: str, axes: int) -> str:
    """Return the source of the kernel for these dtypes; a row has `axes` axes, the last comes first."""
    kinds = [STORED[d] for d in (out, x, numbers, shift, scale)]

    def wide(place: str, dtype: str) -> str:
        return f"(double)widen({place})" if dtype in _WIDE else f"(double){place}"

    moved = f"{wide('x[row * width + column]', x)} - {wide('shift[at_shift]', shift)}"
    value = f"({moved}) / {wide('scale[at_scale]', scale)}"
    kind = "double" if out == "float64" else "float"
    stored = f"Narrow<{kinds[0]}>::of(({kind})({value}))" if out in _WIDE else f"({kinds[0]})({value})"
    missing = f"Narrow<{kinds[0]}>::of(({kind})NAN)" if out in _WIDE else f"({kinds[0]})0"
    sizes = ", ".join(f"int64_t n{a}, int64_t shift_{a}, int64_t scale_{a}" for a in range(axes))
    walk = " ".join(
        f"{{ int64_t at = rest % n{a}; rest /= n{a}; at_shift += at * shift_{a}; at_scale += at * scale_{a}; }}"
        for a in range(axes)
    )
    return f"""#include "common.cuh"
// A number beyond the rows gives NaN: nothing on the device can raise.
extern "C" __global__ void __launch_bounds__({THREADS}, 2) take_scaled({kinds[0]}* out, const {kinds[1]}* x,
    const {kinds[2]}* numbers, const {kinds[3]}* shift, const {kinds[4]}* scale, int64_t n, int64_t rows, int64_t width,
    {sizes}) {{
  int64_t threads = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += threads) {{
    int64_t row = (int64_t)numbers[i / width], column = i % width, rest = column, at_shift = 0, at_scale = 0;
    {walk}
    if (row < 0) row += rows;
    if (row < 0 || row >= rows) out[i] = {missing};
    else out[i] = {stored};
  }}
}}
"""


def _steps(array: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides in elements of a contiguous array that is repeated to a shape."""
    strides, step = [], 1
    for length in reversed(array.shape):
        strides.append(0 if length == 1 else step)
        step *= length
    return (*(0,) * (len(shape) - array.ndim), *reversed(strides))


def _take_scaled(
    ctx: Any, outs: Any, x: Any, numbers: Any, shift: Any, scale: Any, *, dtype: Any = "float32"
) -> None:
    out = outs[0]
    if out.size == 0:
        return
    row = x.shape[1:]
    lengths, strides = layout(row, [_steps(shift, row), _steps(scale, row)])
    text = source(*[a.dtype.name for a in (x, numbers, shift, scale, out)], len(lengths))
    function = ctx.backend.library.made(text, "take_scaled")
    walk = [np.int64(n) for axis in zip(lengths, *strides, strict=True) for n in axis]
    function(
        (blocks(out.size, THREADS, ctx.backend.most_blocks),), (THREADS,),
        (out, x, numbers, shift, scale, np.int64(out.size), np.int64(x.shape[0]), np.int64(prod(row)), *walk),
    )


def _takes(forms: Any, **attrs: Any) -> bool:
    return len(forms[0].shape) <= _AXES + 1 and all(f.dtype.name in STORED for f in forms)


KERNELS: dict[str, Kernel] = {"take_scaled": Kernel(_take_scaled, supports=_takes, contiguous=True)}
