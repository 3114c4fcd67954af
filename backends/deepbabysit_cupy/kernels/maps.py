"""Elementwise kernels, generated from the references that define the operations.

A flat kernel reads several elements at a time where every array is contiguous, a single number, or a row that repeats
(a bias); a strided one takes any layout and broadcasting. One function in the generated source holds what happens to
one element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.launch import THREADS, blocks
from deepbabysit_cupy.trace import COMPUTED, STORED, NotTraceable, body, trace

AXES = 6  # of a strided kernel, after axes that lie behind one another have been joined
VECTOR = 4  # elements that a thread takes at once; two of them where they are wide
_MANY = 8  # arrays of which a thread holds fewer elements, so that registers suffice
SHORT = 2**31  # below so many elements places are counted in 32 bits, in which division is quick
FUNCTIONS: dict[str, Callable[..., Any]] = {}  # functions that are traced like references, by a name of their own


def _function(name: str) -> Callable[..., Any]:
    return FUNCTIONS[name] if name in FUNCTIONS else SPECS[name].reference


@cache
def one(name: str, dtypes: tuple[str, ...], attrs: tuple[Any, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the function for one element, and the dtypes of the results."""
    outputs = trace(_function(name), [np.dtype(d) for d in dtypes], dict(attrs))
    lines, results = body(outputs)
    kinds = tuple(output.dtype.name for output in outputs)
    parameters = [f"{COMPUTED[d]} x{i}" for i, d in enumerate(dtypes)]
    parameters += [f"{COMPUTED[d]}& y{i}" for i, d in enumerate(kinds)]
    text = "\n  ".join([*lines, *[f"y{i} = {result};" for i, result in enumerate(results)]])
    return f"__device__ __forceinline__ void one({', '.join(parameters)}) {{\n  {text}\n}}\n", kinds


def read(place: str, dtype: str) -> str:
    """Return the expression for a stored element as it is computed with."""
    return f"widen({place})" if dtype.startswith(("float", "bfloat")) else place


def write(value: str, dtype: str) -> str:
    """Return the expression for a computed element as it is stored."""
    kind = STORED[dtype]
    return f"Narrow<{kind}>::of({value})" if dtype.startswith(("float", "bfloat")) else f"({kind}){value}"


def vector_width(name: str, dtypes: Sequence[str]) -> int:
    """Return how many elements a thread takes at once; a division calls a function, around which registers spill."""
    wide = name == "divide" or len(dtypes) > _MANY or any(d in ("float64", "int64", "uint64") for d in dtypes)
    return VECTOR // 2 if wide else VECTOR


@cache
def flat_source(name: str, dtypes: tuple[str, ...], layouts: str, attrs: tuple[Any, ...]) -> str:
    """Return the source of a kernel over contiguous arrays.

    `layouts` says of each input, in one letter, whether it is whole ("w"), one number ("1") or a row that repeats
    ("r").
    """
    text, kinds = one(name, dtypes, attrs)
    outputs = [f"{STORED[d]}* y{i}" for i, d in enumerate(kinds)]
    inputs = [f"const {STORED[d]}* x{i}" for i, d in enumerate(dtypes)]
    width = vector_width(name, (*dtypes, *kinds))
    once = "\n".join(
        f"  {COMPUTED[d]} s{i} = {read(f'x{i}[0]', d)};" for i, d in enumerate(dtypes) if layouts[i] == "1"
    )
    loads = "\n".join(
        f"    Vector<{STORED[d]}, {width}> a{i} = vector<{width}>(x{i} + {'i' if layouts[i] == 'w' else 'column'});"
        for i, d in enumerate(dtypes) if layouts[i] != "1"
    )
    results = "\n".join(f"    Vector<{STORED[d]}, {width}> b{i};" for i, d in enumerate(kinds))
    column = "    int64_t column = n >> 31 ? i % period : (uint32_t)i % (uint32_t)period;\n" if "r" in layouts else ""

    def call(element: str) -> str:
        arguments = [f"s{i}" if layouts[i] == "1" else read(element.format(i=i), d) for i, d in enumerate(dtypes)]
        declared = " ".join(f"{COMPUTED[d]} r{i};" for i, d in enumerate(kinds))
        return f"{declared} one({', '.join([*arguments, *[f'r{i}' for i in range(len(kinds))]])});"

    keep = " ".join(f"b{i}.v[k] = {write(f'r{i}', d)};" for i, d in enumerate(kinds))
    stores = " ".join(f"vector<{width}>(y{i} + i) = b{i};" for i in range(len(kinds)))
    last = " ".join(f"y{i}[i] = {write(f'r{i}', d)};" for i, d in enumerate(kinds))
    # rows that repeat are a multiple of a thread's elements long, so that nothing is left over then
    rest = "" if "r" in layouts else (
        f"  for (int64_t i = whole + thread; i < n; i += threads) {{ {call('x{i}[i]')} {last} }}\n"
    )
    numbers = "int64_t n, int64_t period" if "r" in layouts else "int64_t n"
    return f"""#include "common.cuh"
{text}
extern "C" __global__ void __launch_bounds__({THREADS}, 2) map_{name}({', '.join([*outputs, *inputs, numbers])}) {{
{once}
  int64_t thread = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, threads = (int64_t)gridDim.x * blockDim.x;
  int64_t whole = n - n % {width};
  for (int64_t i = thread * {width}; i < whole; i += threads * {width}) {{
{column}{loads}
{results}
#pragma unroll
    for (int k = 0; k < {width}; k++) {{ {call('a{i}.v[k]')} {keep} }}
    {stores}
  }}
{rest}}}
"""


def walk(rest: str, lengths: str, places: Sequence[str], axes: int, counted: str) -> str:
    """Return the statements that add to offsets ``o_PLACE`` what a number over axes means; the last axis comes first.

    The steps are ``PLACE_LENGTHSi``; the outermost axis takes what is left, without a division.
    """
    lines = []
    for a in range(axes):
        at = f"{rest} % {lengths}{a}" if a + 1 < axes else rest
        further = f" {rest} /= {lengths}{a};" if a + 1 < axes else ""
        moves = " ".join(f"o_{place} += (int64_t)at * {place}_{lengths}{a};" for place in places)
        lines.append(f"    {{ {counted} at = {at};{further} {moves} }}")
    return "\n".join(lines)


@cache
def strided_source(name: str, dtypes: tuple[str, ...], axes: int, attrs: tuple[Any, ...], short: bool = True) -> str:
    """Return the source of a kernel over arrays of any layout; strides count elements, the last axis comes first."""
    text, kinds = one(name, dtypes, attrs)
    counted = "uint32_t" if short else "int64_t"
    arrays = [f"{STORED[d]}* y{i}" for i, d in enumerate(kinds)]
    arrays += [f"const {STORED[d]}* x{i}" for i, d in enumerate(dtypes)]
    places = [f"y{i}" for i in range(len(kinds))] + [f"x{i}" for i in range(len(dtypes))]
    numbers = [f"int64_t n{a}" for a in range(axes)]
    numbers += [f"int64_t {place}_m{a}" for place in places for a in range(axes)]
    lengths = " ".join(f"{counted} m{a} = n{a};" for a in range(axes))
    starts = " ".join(f"int64_t o_{place} = 0;" for place in places)
    arguments = [read(f"x{i}[o_x{i}]", d) for i, d in enumerate(dtypes)] + [f"r{i}" for i in range(len(kinds))]
    declared = " ".join(f"{COMPUTED[d]} r{i};" for i, d in enumerate(kinds))
    last = " ".join(f"y{i}[o_y{i}] = {write(f'r{i}', d)};" for i, d in enumerate(kinds))
    return f"""#include "common.cuh"
{text}
extern "C" __global__ void __launch_bounds__({THREADS}, 2) map_{name}({', '.join([*arrays, 'int64_t n', *numbers])}) {{
  {lengths}
  int64_t threads = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += threads) {{
    {counted} rest = ({counted})i; {starts}
{walk('rest', 'm', places, axes, counted)}
    {declared} one({', '.join(arguments)}); {last}
  }}
}}
"""


def layout(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Join axes that lie behind one another in every array; the last axis comes first.

    >>> layout((2, 3, 4), [(12, 4, 1), (0, 0, 1)])
    ([4, 6], [[1, 4], [1, 0]])
    """
    lengths: list[int] = []
    found: list[list[int]] = [[] for _ in strides]
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            continue
        steps = [s[axis] for s in strides]
        if lengths and all(step == mine[-1] * lengths[-1] for step, mine in zip(steps, found, strict=True)):
            lengths[-1] *= shape[axis]
            continue
        lengths.append(shape[axis])
        for mine, step in zip(found, steps, strict=True):
            mine.append(step)
    return lengths or [1], found if lengths else [[0] for _ in strides]


def run_map(name: str, ctx: Any, outs: Any, ins: Any, attrs: dict[str, Any]) -> None:
    """Run an elementwise operation, or a function of `FUNCTIONS`, on arrays of any layout."""
    out = outs[0]
    count = out.size
    if count == 0:
        return
    dtypes = tuple(x.dtype.name for x in ins)
    key = tuple(attrs.items())
    library = ctx.backend.library
    if all(y.flags.c_contiguous and _aligned(y) for y in outs):
        width = vector_width(name, [a.dtype.name for a in (*outs, *ins)])
        layouts, period = _flat(out.shape, count, ins, width)
        if layouts:
            function = library.made(flat_source(name, dtypes, layouts, key), f"map_{name}")
            sizes = (count, period) if "r" in layouts else (count,)
            grid = blocks(count, THREADS * width, ctx.backend.most_blocks)
            function((grid,), (THREADS,), (*outs, *ins, *map(np.int64, sizes)))
            return
    lengths, strides = layout(out.shape, [steps(a, out.shape) for a in (*outs, *ins)])
    if len(lengths) > AXES:
        raise ValueError(f"{name}: CUDA takes arrays of at most {AXES} separate axes; copy them first")
    if len(lengths) % 2:  # half as many kernels to compile
        lengths, strides = [*lengths, 1], [[*mine, 0] for mine in strides]
    source = strided_source(name, dtypes, len(lengths), key, count < SHORT)
    function = library.made(source, f"map_{name}")
    numbers = tuple(np.int64(n) for n in (count, *lengths, *[s for mine in strides for s in mine]))
    function((blocks(count, THREADS, ctx.backend.most_blocks),), (THREADS,), (*outs, *ins, *numbers))


def clear(ctx: Any, array: Any) -> None:
    """Write zeros."""
    zero = ctx.constant(0, array.dtype)
    run_map("copy", ctx, (array,), (zero,), {})


def _flat(shape: Sequence[int], count: int, ins: Sequence[Any], width: int) -> tuple[str, int]:
    """Return the layouts that `flat_source` takes and the length of rows that repeat; no layouts where one is other."""
    layouts, period = "", 0
    for x in ins:
        if x.size == 1 and count > 1:
            layouts += "1"
            continue
        if not (x.flags.c_contiguous and _aligned(x)):
            return "", 0
        if x.size == count:
            layouts += "w"
            continue
        own = x.shape
        while own and own[0] == 1:
            own = own[1:]
        size = prod(own)
        if tuple(own) != tuple(shape[len(shape) - len(own) :]) or size % width or period not in (0, size):
            return "", 0
        layouts, period = layouts + "r", size
    return layouts, period


def _aligned(array: Any) -> bool:
    return array.size == 1 or array.data.ptr % 16 == 0


def steps(array: Any, shape: Sequence[int]) -> list[int]:
    """Return the strides in elements after broadcasting to a shape."""
    extra = len(shape) - array.ndim
    item = array.dtype.itemsize
    own = [0 if n == 1 else s // item for n, s in zip(array.shape, array.strides, strict=True)]
    return [0] * extra + own


def mapped(name: str) -> Kernel:
    """Return the kernel of an elementwise operation."""

    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> None:
        run_map(name, ctx, outs, ins, attrs)

    def supports(forms: Any, **attrs: Any) -> bool:
        return traceable(name, tuple(form.dtype.name for form in forms), tuple(attrs.items()))

    return Kernel(run, supports=supports)


@cache
def traceable(name: str, dtypes: tuple[str, ...], attrs: tuple[Any, ...]) -> bool:
    """Tell whether a reference can become a kernel for these dtypes, with the dtypes of results that were inferred."""
    if any(d not in STORED for d in dtypes):
        return False
    try:
        kinds = one(name, dtypes, attrs)[1]
    except NotTraceable:
        return False
    forms = SPECS[name].infer([()] * len(dtypes), [np.dtype(d) for d in dtypes], **dict(attrs))
    return tuple(form.dtype.name for form in forms) == kinds
