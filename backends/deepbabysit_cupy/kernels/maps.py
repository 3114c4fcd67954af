"""Elementwise kernels, generated from the references that define the operations.

A flat kernel reads four elements at a time where every array is contiguous (or a single number); a strided one takes
any layout and broadcasting. One function in the generated source holds what happens to one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.launch import THREADS, blocks
from deepbabysit_cupy.trace import COMPUTED, STORED, NotTraceable, body, trace

AXES = 6  # of a strided kernel, after axes that lie behind one another have been joined
VECTOR = 4  # elements that a thread takes at once; two of them where they are wide


@cache
def _one(name: str, dtypes: tuple[str, ...], attrs: tuple[Any, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the function for one element, and the dtypes of the results."""
    spec = SPECS[name]
    outputs = trace(spec.reference, [np.dtype(d) for d in dtypes], dict(attrs))
    lines, results = body(outputs)
    kinds = tuple(output.dtype.name for output in outputs)
    parameters = [f"{COMPUTED[d]} x{i}" for i, d in enumerate(dtypes)]
    parameters += [f"{COMPUTED[d]}& y{i}" for i, d in enumerate(kinds)]
    text = "\n  ".join([*lines, *[f"y{i} = {result};" for i, result in enumerate(results)]])
    return f"__device__ __forceinline__ void one({', '.join(parameters)}) {{\n  {text}\n}}\n", kinds


def _read(place: str, dtype: str) -> str:
    return f"widen({place})" if dtype.startswith(("float", "bfloat")) else place


def _write(value: str, dtype: str) -> str:
    kind = STORED[dtype]
    return f"Narrow<{kind}>::of({value})" if dtype.startswith(("float", "bfloat")) else f"({kind}){value}"


def vector_width(name: str, dtypes: Sequence[str]) -> int:
    """Return how many elements a thread takes at once; a division calls a function, around which registers spill."""
    wide = name == "divide" or any(d in ("float64", "int64", "uint64") for d in dtypes)
    return VECTOR // 2 if wide else VECTOR


@cache
def flat_source(name: str, dtypes: tuple[str, ...], single: tuple[bool, ...], attrs: tuple[Any, ...]) -> str:
    """Return the source of a kernel over contiguous arrays; `single` names the inputs of one element."""
    text, kinds = _one(name, dtypes, attrs)
    outputs = [f"{STORED[d]}* y{i}" for i, d in enumerate(kinds)]
    inputs = [f"const {STORED[d]}* x{i}" for i, d in enumerate(dtypes)]
    whole = [i for i, alone in enumerate(single) if not alone]
    width = vector_width(name, (*dtypes, *kinds))
    once = "\n".join(f"  {COMPUTED[d]} s{i} = {_read(f'x{i}[0]', d)};" for i, d in enumerate(dtypes) if single[i])
    loads = "\n".join(f"    Vector<{STORED[dtypes[i]]}, {width}> a{i} = vector<{width}>(x{i} + i);" for i in whole)
    results = "\n".join(f"    Vector<{STORED[d]}, {width}> b{i};" for i, d in enumerate(kinds))

    def call(element: str) -> str:
        arguments = [f"s{i}" if single[i] else _read(element.format(i=i), d) for i, d in enumerate(dtypes)]
        declared = " ".join(f"{COMPUTED[d]} r{i};" for i, d in enumerate(kinds))
        return f"{declared} one({', '.join([*arguments, *[f'r{i}' for i in range(len(kinds))]])});"

    keep = " ".join(f"b{i}.v[k] = {_write(f'r{i}', d)};" for i, d in enumerate(kinds))
    stores = " ".join(f"vector<{width}>(y{i} + i) = b{i};" for i in range(len(kinds)))
    last = " ".join(f"y{i}[i] = {_write(f'r{i}', d)};" for i, d in enumerate(kinds))
    return f"""#include "common.cuh"
{text}
extern "C" __global__ void __launch_bounds__({THREADS}, 2) map_{name}({', '.join([*outputs, *inputs, 'int64_t n'])}) {{
{once}
  int64_t thread = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, threads = (int64_t)gridDim.x * blockDim.x;
  int64_t whole = n - n % {width};
  for (int64_t i = thread * {width}; i < whole; i += threads * {width}) {{
{loads}
{results}
#pragma unroll
    for (int k = 0; k < {width}; k++) {{ {call('a{i}.v[k]')} {keep} }}
    {stores}
  }}
  for (int64_t i = whole + thread; i < n; i += threads) {{ {call('x{i}[i]')} {last} }}
}}
"""


@cache
def strided_source(name: str, dtypes: tuple[str, ...], axes: int, attrs: tuple[Any, ...]) -> str:
    """Return the source of a kernel over arrays of any layout; strides count elements, the last axis comes first."""
    text, kinds = _one(name, dtypes, attrs)
    arrays = [f"{STORED[d]}* y{i}" for i, d in enumerate(kinds)]
    arrays += [f"const {STORED[d]}* x{i}" for i, d in enumerate(dtypes)]
    places = [f"y{i}" for i in range(len(kinds))] + [f"x{i}" for i in range(len(dtypes))]
    numbers = [f"int64_t n{a}" for a in range(axes)]
    numbers += [f"int64_t {place}_{a}" for place in places for a in range(axes)]
    walk = "\n".join(
        f"    {{ int64_t at = rest % n{a}; rest /= n{a}; "
        + " ".join(f"o_{place} += at * {place}_{a};" for place in places) + " }"
        for a in range(axes)
    )
    starts = " ".join(f"int64_t o_{place} = 0;" for place in places)
    arguments = [_read(f"x{i}[o_x{i}]", d) for i, d in enumerate(dtypes)] + [f"r{i}" for i in range(len(kinds))]
    declared = " ".join(f"{COMPUTED[d]} r{i};" for i, d in enumerate(kinds))
    last = " ".join(f"y{i}[o_y{i}] = {_write(f'r{i}', d)};" for i, d in enumerate(kinds))
    return f"""#include "common.cuh"
{text}
extern "C" __global__ void __launch_bounds__({THREADS}, 2) map_{name}({', '.join([*arrays, 'int64_t n', *numbers])}) {{
  int64_t threads = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += threads) {{
    int64_t rest = i; {starts}
{walk}
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
    """Run an elementwise operation on arrays of any layout."""
    out = outs[0]
    count = out.size
    if count == 0:
        return
    dtypes = tuple(x.dtype.name for x in ins)
    key = tuple(attrs.items())
    library = ctx.backend.library
    single = tuple(x.size == 1 and count > 1 for x in ins)
    straight = all(y.flags.c_contiguous for y in outs) and all(
        alone or x.flags.c_contiguous and x.shape == out.shape for x, alone in zip(ins, single, strict=True)
    )
    if straight and all(_aligned(a) for a in (*outs, *ins)):
        function = library.made(flat_source(name, dtypes, single, key), f"map_{name}")
        width = vector_width(name, [a.dtype.name for a in (*outs, *ins)])
        grid = blocks(count, THREADS * width, ctx.backend.most_blocks)
        function((grid,), (THREADS,), (*outs, *ins, np.int64(count)))
        return
    lengths, strides = layout(out.shape, [_strides(a, out.shape) for a in (*outs, *ins)])
    if len(lengths) > AXES:
        raise ValueError(f"{name}: CUDA takes arrays of at most {AXES} separate axes; copy them first")
    function = library.made(strided_source(name, dtypes, len(lengths), key), f"map_{name}")
    numbers = [np.int64(n) for n in (count, *lengths, *[s for mine in strides for s in mine])]
    function((blocks(count, THREADS, ctx.backend.most_blocks),), (THREADS,), (*outs, *ins, *numbers))


def _aligned(array: Any) -> bool:
    return array.size == 1 or array.data.ptr % 16 == 0


def _strides(array: Any, shape: Sequence[int]) -> list[int]:
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
        kinds = _one(name, dtypes, attrs)[1]
    except NotTraceable:
        return False
    forms = SPECS[name].infer([()] * len(dtypes), [np.dtype(d) for d in dtypes], **dict(attrs))
    return tuple(form.dtype.name for form in forms) == kinds
