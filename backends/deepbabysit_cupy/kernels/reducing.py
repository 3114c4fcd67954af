"""Reductions, generated: a traced function of every element, then sums or extremes over some axes, in a fixed order.

A block's threads make one result together, or several; long reductions are cut into chunks whose partial results a
second kernel puts together. How it is cut follows from the shapes alone; the order within a piece from the shapes and
from whether arrays begin at a multiple of 16 bytes. So do the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit_cupy.kernels.maps import SHORT, layout, one, read, vector_width, walk, write
from deepbabysit_cupy.launch import THREADS
from deepbabysit_cupy.trace import COMPUTED, STORED

AXES = 4  # kept, and as many reduced, after axes that lie behind one another have been joined
WIDTH = 32  # results of a block where neighbouring threads make neighbouring results
ENOUGH = 1024  # blocks that fill a large GPU a few times over
PIECE = 16  # elements that a thread takes at least before a reduction is cut into more chunks

# combination -> (functor, where it begins)
COMBINATIONS = {
    "sum": ("Sum()", "0"), "max": ("Largest()", "Lowest<{kind}>::value()"), "min": ("Smallest()",
    "Highest<{kind}>::value()"), "any": ("Largest()", "0"), "all": ("Smallest()", "1"),
}  # fmt: skip


class Cut(NamedTuple):
    """How a reduction over arrays of given shapes is cut.

    Attributes:
        kept, each: results, and elements of each.
        width, along: threads of a block, as in `common.cuh`.
        chunks, chunk: pieces of each result, and elements of a piece.
        kept_lengths, kept_steps: joined axes, the last one first, and the steps of every array along them.
        lengths, steps: the same for the axes that are reduced.
        vector: whether rows begin where several elements can be read at once, as far as shapes tell.
    """

    kept: int
    each: int
    width: int
    along: bool
    chunks: int
    chunk: int
    kept_lengths: tuple[int, ...]
    kept_steps: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    vector: int


def power(number: int) -> int:
    """Return the smallest power of two that is not below a number.

    >>> power(1), power(5), power(8)
    (1, 8, 8)
    """
    return 1 << max(number - 1, 0).bit_length()


def contiguous_steps(own: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Return the steps of a contiguous array that is repeated to a shape.

    >>> contiguous_steps((3, 1), (2, 3, 4))
    [0, 1, 0]
    """
    found, step = [0] * len(shape), 1
    for axis in reversed(range(len(own))):
        place = axis + len(shape) - len(own)
        found[place] = 0 if own[axis] == 1 else step
        step *= own[axis]
    return found


@lru_cache(maxsize=4096)
def cut(shape: tuple[int, ...], arrays: tuple[tuple[int, ...], ...], axes: tuple[int, ...], width: int) -> Cut | None:
    """Return how a reduction is cut; None where there are too many axes.

    Arguments:
        shape: of the elements.
        arrays: shapes of all arrays, contiguous ones that repeat to it.
        axes: which are reduced.
        width: elements that are read at once.
    """
    strides = [contiguous_steps(own, shape) for own in arrays]
    kept_axes = [a for a in range(len(shape)) if a not in axes]
    kept_lengths, kept_steps = layout([shape[a] for a in kept_axes], [[s[a] for a in kept_axes] for s in strides])
    lengths, steps = layout([shape[a] for a in axes], [[s[a] for a in axes] for s in strides])
    if max(len(kept_lengths), len(lengths)) > AXES or prod(shape) >= SHORT:
        return None
    kept, count = prod(kept_lengths), prod(lengths)
    if 0 in shape:
        kept, count = prod(shape[a] for a in kept_axes), prod(shape[a] for a in axes)
    largest = max(range(len(arrays)), key=lambda i: prod(arrays[i]))
    along = kept == 1 or count > 1 and steps[largest][0] <= kept_steps[largest][0]
    if along:
        lanes = power(count) if count <= WIDTH else WIDTH if count <= 1024 else THREADS
        across = THREADS // lanes
    else:
        across = min(WIDTH, power(kept))
        lanes = THREADS // across
    tiles = -(-kept // across)
    chunks = max(1, min(-(-ENOUGH // max(tiles, 1)), count // (lanes * PIECE)))
    chunk = max(-(-count // chunks), 1)
    chunk = -(-chunk // width) * width
    chunks = max(1, -(-count // chunk))
    whole = along and len(lengths) == 1 and count % width == 0 and all(
        own[0] == 0 or own[0] == 1 and all(s % width == 0 for s in other)
        for own, other in zip(steps, kept_steps, strict=True)
    )
    # few kinds of kernels to compile: only what happens for every element is worth one of its own
    pad = 1 if len(lengths) == 1 else AXES

    def padded(numbers: Sequence[int], to: int, fill: int) -> tuple[int, ...]:
        return (*numbers, *[fill] * (to - len(numbers)))

    return Cut(
        kept, count, across, along, chunks, chunk, padded(kept_lengths, AXES, 1),
        tuple(padded(s, AXES, 0) for s in kept_steps), padded(lengths, pad, 1),
        tuple(padded(s, pad, 0) for s in steps), width if whole else 1,
    )


@cache
def source(
    name: str, dtypes: tuple[str, ...], attrs: tuple[Any, ...], combinations: tuple[str, ...], results: tuple[str, ...],
    axes: int, flat: tuple[bool, ...],
) -> str:
    """Return the source of a reduction: kernels ``whole`` and ``first`` (a chunk's results), and ``second``.

    Arguments:
        name: of a function of `maps.FUNCTIONS` or of an operation; its last outputs are reduced, those before are kept
            element by element.
        dtypes, attrs: of its inputs.
        combinations: how each output is reduced.
        results: dtypes of the results.
        axes: how many are reduced, joined.
        flat: for every array of elements (kept outputs, then inputs) whether it varies along the reduced axes.
    """
    text, kinds = one(name, dtypes, attrs)
    stored = kinds[: len(kinds) - len(combinations)]
    reduced = ["int32_t" if c in ("any", "all") else COMPUTED[kinds[len(stored) + i]]
               for i, c in enumerate(combinations)]  # fmt: skip
    places = [f"e{i}" for i in range(len(stored))] + [f"x{i}" for i in range(len(dtypes))]
    arrays = [f"{STORED[d]}* e{i}" for i, d in enumerate(stored)]
    arrays += [f"const {STORED[d]}* x{i}" for i, d in enumerate(dtypes)]
    numbers = [f"int64_t k{a}" for a in range(AXES)]
    numbers += [f"int64_t {place}_k{a}" for place in places for a in range(AXES)]
    numbers += [f"int64_t r{a}" for a in range(axes)] + [f"int64_t {p}_r{a}" for p in places for a in range(axes)]
    fixed = ["int64_t kept", "int64_t count", "int64_t chunk", "int64_t width", "int64_t along", "int64_t vectors",
             "double divisor"]  # fmt: skip
    width = vector_width(name, (*dtypes, *kinds))
    begin = " ".join(
        f"{kind} s{i} = ({kind}){COMBINATIONS[c][1].format(kind=kind)};"
        for i, (kind, c) in enumerate(zip(reduced, combinations, strict=True))
    )
    results_of = [f"v{i}" for i in range(len(kinds))]
    declared = " ".join(f"{COMPUTED[d]} v{i};" for i, d in enumerate(kinds))
    combine = " ".join(
        f"s{i} = {COMBINATIONS[c][0].replace('()', '')}()(s{i}, ({reduced[i]})v{len(stored) + i});"
        for i, c in enumerate(combinations)
    )

    def call(store: str, element: Callable[[int], str]) -> str:
        arguments = [read(element(i), d) for i, d in enumerate(dtypes)]
        values = enumerate(write(f"v{i}", d) for i, d in enumerate(stored))
        keep = " ".join(store.format(i=i, value=value) for i, value in values)
        return f"{declared} one({', '.join([*arguments, *results_of])}); {keep} {combine}"

    inputs = flat[len(stored) :]
    vector_call = call("w{i}.v[j] = {value};", lambda i: f"a{i}.v[j]" if inputs[i] else f"x{i}[b_x{i}]")
    plain_call = call("e{i}[o_e{i}] = {value};", lambda i: f"x{i}[{'o' if inputs[i] else 'b'}_x{i}]")
    varying = [p for p, moves in zip(places, flat, strict=True) if moves]
    loads = " ".join(
        f"Vector<{STORED[d]}, {width}> a{i} = vector<{width}>(x{i} + b_x{i} + r);"
        for i, d in enumerate(dtypes) if flat[len(stored) + i]
    )
    keeps = " ".join(f"Vector<{STORED[d]}, {width}> w{i};" for i, d in enumerate(stored))
    stores = " ".join(f"vector<{width}>(e{i} + b_e{i} + r) = w{i};" for i in range(len(stored)))
    offsets = " ".join(f"int64_t o_{p} = b_{p};" for p in varying)
    bases = " ".join(f"int64_t b_{p} = 0;" for p in places)
    kept_walk = walk("rest", "k", places, AXES, "uint32_t").replace("o_", "b_")
    share = "\n".join(
        f"  __shared__ {kind} scratch{i}[{THREADS}];\n"
        f"  s{i} = team_reduce(t, s{i}, scratch{i}, {COMBINATIONS[c][0]});"
        for i, (kind, c) in enumerate(zip(reduced, combinations, strict=True))
    )

    def kernel(kernel_name: str, last: bool) -> str:
        targets = [f"{STORED[d] if last else reduced[i]}* y{i}" for i, d in enumerate(results)]
        place = "k" if last else "blockIdx.y * kept + k"
        finish = " ".join(
            f"y{i}[{place}] = {_finished(f's{i}', d, reduced[i]) if last else f's{i}'};" for i, d in enumerate(results)
        )
        return f"""
extern "C" __global__ void __launch_bounds__({THREADS}, 2) {kernel_name}(
    {', '.join([*targets, *arrays, *fixed, *numbers])}) {{
  Team t = team((int)width, along != 0);
  uint32_t k = blockIdx.x * t.width + t.kept, from = blockIdx.y * (uint32_t)chunk;
  uint32_t to = from + chunk < count ? from + chunk : count;
  {begin}
  if (k < kept) {{
    uint32_t rest = k; {bases}
{kept_walk}
    if (vectors) {{
      for (uint32_t r = from + t.lane * {width}; r < to; r += t.lanes * {width}) {{
        {loads} {keeps}
#pragma unroll
        for (int j = 0; j < {width}; j++) {{ {vector_call} }}
        {stores}
      }}
    }} else for (uint32_t r = from + t.lane; r < to; r += t.lanes) {{
      uint32_t rest = r; {offsets}
{walk('rest', 'r', varying, axes, 'uint32_t')}
      {plain_call}
    }}
  }}
{share}
  if (k < kept && t.lane == 0) {{ {finish} }}
}}
"""

    parts = [f"const {kind}* p{i}" for i, kind in enumerate(reduced)]
    targets = [f"{STORED[d]}* y{i}" for i, d in enumerate(results)]
    gather = " ".join(
        f"s{i} = {COMBINATIONS[c][0]}(s{i}, p{i}[r * kept + k]);" for i, c in enumerate(combinations)
    )
    finish = " ".join(f"y{i}[k] = {_finished(f's{i}', d, reduced[i])};" for i, d in enumerate(results))
    second = f"""
extern "C" __global__ void __launch_bounds__({THREADS}, 2) second(
    {', '.join([*targets, *parts])}, int64_t kept, int64_t chunks, int64_t width, double divisor) {{
  Team t = team((int)width, false);
  uint32_t k = blockIdx.x * t.width + t.kept;
  {begin}
  if (k < kept) for (uint32_t r = t.lane; r < chunks; r += t.lanes) {{ {gather} }}
{share}
  if (k < kept && t.lane == 0) {{ {finish} }}
}}
"""
    return f'#include "common.cuh"\n{text}{kernel("whole", True)}{kernel("first", False)}{second}'


def _finished(value: str, dtype: str, kind: str) -> str:
    """Return a result as it is stored; floating ones are divided by the divisor, which is 1 where nothing is."""
    if dtype.startswith(("float", "bfloat")):
        return write(f"({value} / ({kind})divisor)", dtype)
    return write(value, dtype)


def accumulator(dtype: np.dtype[Any], combination: str) -> np.dtype[Any]:
    """Return the dtype of partial results."""
    if combination in ("any", "all"):
        return np.dtype(np.int32)
    return np.dtype(np.float32) if COMPUTED[dtype.name] == "float" else dtype


def partials(found: Cut, kinds: Sequence[np.dtype[Any]]) -> tuple[Form, ...]:
    """Return the scratch arrays of a reduction."""
    return tuple(Form((found.chunks * found.kept,), kind) for kind in kinds) if found.chunks > 1 else ()


class Reduction(NamedTuple):
    """A reduction of given forms.

    Attributes:
        name: of the function.
        attrs: of the function.
        combinations: how its last outputs are reduced.
        cut: how.
        kinds: dtypes of partial results.
        stored: how many outputs are kept element by element.
    """

    name: str
    attrs: tuple[Any, ...]
    combinations: tuple[str, ...]
    cut: Cut
    kinds: tuple[np.dtype[Any], ...]
    stored: int

    @property
    def scratch(self) -> tuple[Form, ...]:
        """Partial results, where there are several chunks."""
        return partials(self.cut, self.kinds)


@lru_cache(maxsize=4096)
def reduction(
    name: str, combinations: tuple[str, ...], ins: tuple[Form, ...], axes: tuple[int, ...], attrs: tuple[Any, ...] = ()
) -> Reduction | None:
    """Plan a reduction over `axes` of what a function gives for arrays of these forms; None where there is none."""
    dtypes = tuple(form.dtype.name for form in ins)
    if any(d not in STORED for d in dtypes):
        return None
    kinds = one(name, dtypes, attrs)[1]
    stored = len(kinds) - len(combinations)
    shape = np.broadcast_shapes(*[form.shape for form in ins])
    width = vector_width(name, (*dtypes, *kinds))
    found = cut(shape, (*[shape] * stored, *[form.shape for form in ins]), axes, width)
    if found is None:
        return None
    partial = tuple(accumulator(np.dtype(kinds[stored + i]), c) for i, c in enumerate(combinations))
    return Reduction(name, attrs, combinations, found, partial, stored)


def run_reduction(
    plan: Reduction, ctx: Any, results: Sequence[Any], ins: Sequence[Any], kept: Sequence[Any] = (),
    scratch: Sequence[Any] = (), divisor: float = 1.0,
) -> None:
    """Run a reduction.

    Arguments:
        plan: of the forms of `ins`.
        ctx: the device.
        results: one contiguous array for each combination.
        ins: contiguous arrays.
        kept: outputs that are kept element by element, contiguous.
        scratch: arrays of the forms `plan.scratch`.
        divisor: floating results are divided by it.
    """
    found = plan.cut
    if found.kept == 0:
        return
    arrays = (*kept, *ins)
    whole = max(a.size for a in arrays)
    flat = tuple(a.size == whole or any(s) for a, s in zip(arrays, found.steps, strict=True))
    text = source(
        plan.name, tuple(x.dtype.name for x in ins), plan.attrs, plan.combinations,
        tuple(y.dtype.name for y in results), len(found.lengths), flat,
    )
    vectors = found.vector > 1 and all(a.data.ptr % 16 == 0 for a in arrays)
    numbers = [found.kept, found.each, found.chunk, found.width, int(found.along), int(vectors)]
    lengths = [
        *found.kept_lengths, *[s for mine in found.kept_steps for s in mine], *found.lengths,
        *[s for mine in found.steps for s in mine],
    ]
    arguments = (*arrays, *map(np.int64, numbers), np.float64(divisor), *map(np.int64, lengths))
    grid = (-(-found.kept // found.width), found.chunks)
    library = ctx.backend.library
    if found.chunks == 1:
        library.made(text, "whole")(grid, (THREADS,), (*results, *arguments))
        return
    library.made(text, "first")(grid, (THREADS,), (*scratch, *arguments))
    width = min(WIDTH, power(found.kept))
    tail = (np.int64(found.kept), np.int64(found.chunks), np.int64(width), np.float64(divisor))
    library.made(text, "second")((-(-found.kept // width),), (THREADS,), (*results, *scratch, *tail))
