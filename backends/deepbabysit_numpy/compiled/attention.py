"""Attention without scores in memory: one compiled pass over blocks of queries; heads are divided among the team."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import threads
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.code import registers
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.attention import factor_of, work_dtype

_FORWARD, _BACKWARD = Compiled("attention", "attention"), Compiled("attention", "attention_gradient")
_FORWARD_PRODUCTS, _BACKWARD_PRODUCTS = 2, 5
_BLOCK = 96 << 10  # bytes of scores: with keys, values and their gradients they stay in the second-level cache


def _takes(q: Any, k: Any) -> bool:
    size = prod(q.shape[:3]) * k.shape[2]
    return size >= LEAST["attention"] and size > 0 and prod(q.shape) > 0 and available()


def _tile(columns: int, size: int) -> tuple[Any, ...]:
    """Return what tells tiles how wide and how tall they are, and their columns; see `code/tiles.py`."""
    vectors = registers.vectors_for(columns, size)
    return (0,) * vectors, (0,) * registers.tile_rows(vectors), vectors * (registers.register_bytes() // size)


def _lengths(q: Any, k: Any, v: Any, size: int) -> tuple[int, ...]:
    """Return samples, heads, queries, keys, length of a key, length of a value, queries of a block."""
    samples, heads, queries, depth = q.shape
    keys, wide = k.shape[2], v.shape[3]
    tall = len(_tile(wide, size)[1])
    block = max(_BLOCK // (keys * size) // tall * tall, tall)
    return samples, heads, queries, keys, depth, wide, min(block, queries)


def _parts(lengths: tuple[int, ...], products: int, least: str = "attention part awake") -> int:
    """Return into how many parts heads are divided: in a program; elsewhere a thread that sleeps has to be woken."""
    samples, heads, queries, keys, depth, wide, _ = lengths
    work = float(products) * samples * heads * queries * keys * (depth + wide)
    return team.parts(samples * heads, work, LEAST[least])


def _scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    q, k, v = forms[:3]
    work = work_dtype(np.result_type(q.dtype, k.dtype, v.dtype))
    lengths = _lengths(q, k, v, work.itemsize)
    keys, depth, block = lengths[3], lengths[4], lengths[6]
    return (Form((_parts(lengths, _FORWARD_PRODUCTS), (depth + block) * keys), work),)


def _gradient_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    q, k, v = forms[1:4]
    work = work_dtype(np.result_type(*[form.dtype for form in forms[:4]]))
    lengths = _lengths(q, k, v, work.itemsize)
    keys, depth, wide, block = lengths[3:]
    return (Form((_parts(lengths, _BACKWARD_PRODUCTS), (depth + wide + 2 * block) * keys), work),)


def _flat(array: Any) -> tuple[Any, tuple[int, int, int]]:
    """Return the memory of an array (N, heads, rows, columns) as one axis, and its first three steps in bytes."""
    if array.flags.c_contiguous:
        return array.reshape(-1), array.strides[:3]
    last = sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)) // array.itemsize
    memory = np.lib.stride_tricks.as_strided(array, (last + 1,), (array.itemsize,), writeable=array.flags.writeable)
    return memory, array.strides[:3]


def _ready(array: Any, dtype: Any) -> Any:
    """Return an array whose rows are contiguous, of this dtype."""
    fits = array.dtype == dtype and array.strides[-1] == array.itemsize and all(step > 0 for step in array.strides)
    return array if fits else np.ascontiguousarray(array, dtype)


def _mask(mask: tuple[Any, ...], dtype: Any) -> Any:
    """Return what is added to the scores; nothing where there is no mask."""
    if not mask:
        return np.empty((0, 0, 0, 0), dtype)
    here = mask[0]
    if here.dtype.kind == "b":
        here = np.where(here, dtype.type(0.0), dtype.type(-np.inf))
    return np.ascontiguousarray(here, dtype).reshape((1,) * (4 - here.ndim) + here.shape)


def _run(
    function: Compiled, products: int, space: Any, lengths: tuple[int, ...], ins: list[Any], mask: Any,
    outs: list[Any], more: tuple[Any, ...], factor: float, causal: bool,
) -> None:
    """Run it on flat arrays; results that are not of its dtype are computed beside and copied."""
    parts = threads.count() if team.in_program() else _parts(lengths, products, "attention part")
    work = space.dtype
    targets = [_ready(out, work) for out in outs]
    flat = [_flat(array) for array in (*ins, *targets)]
    tile = _tile(lengths[5], work.itemsize)
    arrays = [memory for memory, _ in flat]
    team.TEAM.run(
        function, (work, len(tile[0])), min(len(space), parts), tile, *arrays[: len(ins)], mask,
        *arrays[len(ins) :], *more, lengths, tuple(steps for _, steps in flat), float(factor), causal, space,
    )
    for out, target in zip(outs, targets, strict=True):
        if out is not target:
            out[...] = target


def _attention(
    ctx: Any, outs: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None
) -> None:
    space = ctx.scratch[0]
    work = space.dtype
    lengths = _lengths(q, k, v, work.itemsize)
    ins = [_ready(a, work) for a in (q, k, v)]
    _run(
        _FORWARD, _FORWARD_PRODUCTS, space, lengths, ins, _mask(mask, work), [outs[0]], (), factor_of(q, scale), causal
    )


def _attention_gradient(
    ctx: Any, outs: Any, g: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None,
    scores: bool = False,
) -> None:
    space = ctx.scratch[0]
    work = space.dtype
    lengths = _lengths(q, k, v, work.itemsize)
    ins = [_ready(a, work) for a in (g, q, k, v)]
    slopes = np.ascontiguousarray(outs[3], work) if scores else np.empty((0,), work)
    _run(
        _BACKWARD, _BACKWARD_PRODUCTS, space, lengths, ins, _mask(mask, work), list(outs[:3]), (slopes.reshape(-1),),
        factor_of(q, scale), causal,
    )
    if scores and slopes is not outs[3]:
        outs[3][...] = slopes


VARIANTS: dict[str, Kernel] = {
    "attention": Kernel(
        _attention, scratch=_scratch, supports=lambda forms, **attrs: _takes(forms[0], forms[1])
    ),
    "attention_gradient": Kernel(
        _attention_gradient, scratch=_gradient_scratch, supports=lambda forms, **attrs: _takes(forms[1], forms[2])
    ),
}
