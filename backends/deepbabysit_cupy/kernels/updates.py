"""Optimizer updates over flat buffers: one launch a rule, and what clipping, penalties and averages need."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import is_half
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.compiler import SOURCES
from deepbabysit_cupy.launch import THREADS, blocks
from deepbabysit_cupy.trace import STORED

_REAL = ("float32", "float64")
_CHUNK = 4 * THREADS  # elements of a buffer that a block takes at once: CHUNK in updates.cu
_PART = 5  # numbers in a Part
_RANGES, _LEAST_RANGE = 1024, 4096  # most blocks that measure, and elements that are worth a block

# Spec -> the rule in updates.cu, and its attributes in the order in which the rule reads them.
RULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sgd_update": ("Sgd", ()),
    "momentum_update": ("Momentum", ("momentum", "nesterov")),
    "adagrad_update": ("Adagrad", ("epsilon",)),
    "rmsprop_update": ("Rmsprop", ("rho", "epsilon")),
    "rmsprop_momentum_update": ("RmspropMomentum", ("rho", "epsilon", "momentum")),
    "adadelta_update": ("Adadelta", ("rho", "epsilon")),
    "adam_update": ("Adam", ("beta_1", "beta_2", "epsilon")),
    "adamw_update": ("Adamw", ("beta_1", "beta_2", "epsilon")),
    "nadam_update": ("Nadam", ("beta_1", "beta_2", "epsilon", "momentum_decay")),
    "lion_update": ("Lion", ("beta_1", "beta_2")),
}


@cache
def source(macro: str, *arguments: str) -> str:
    """Return a source that makes kernels of updates.cu."""
    # the whole text, not its name: launches that are merged see the blocks of their own part
    return f"{(SOURCES / 'updates.cu').read_text(encoding='utf-8')}{macro}({', '.join(arguments)})\n"


def _name(array: Any) -> str:
    return STORED[array.dtype.name]


def _straight(*arrays: Any) -> np.bool_:
    """Tell whether four elements can be read at once from every array."""
    return np.bool_(all(a.data.ptr % 16 == 0 for a in arrays))


def _rule(name: str) -> Kernel:
    rule, order = RULES[name]

    def run(
        ctx: Any, outs: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, *states: Any,
        **attrs: Any,
    ) -> None:
        n, segments = w.shape[0], starts.shape[0]
        if n == 0:
            return
        backend = ctx.backend
        function = backend.library.made(source("RULE", "rule", rule, _name(w), _name(control), _name(g)), "rule")
        half = g.dtype != w.dtype
        pad = (w,) * (2 - len(states))  # a rule with fewer states does not look at these
        numbers = [np.float64(attrs[key]) for key in order] + [np.float64(0)] * (4 - len(order))
        function(
            (blocks(n, _CHUNK, backend.most_blocks),), (THREADS,),
            (*outs[: 2 + len(states)], *pad, outs[-1] if half else g, control, table, starts, progress, w, g, *states,
             *pad, np.int64(n), np.int64(segments), _straight(*outs[1:], w, g, *states), *numbers, backend.ticket),
        )

    return Kernel(run, supports=_takes, contiguous=True)


def _takes(forms: Any, **attrs: Any) -> bool:
    """Tell whether small arrays are of one type, and buffers of one."""
    small = {f.dtype.name for f in (*forms[:2], forms[3])}
    return forms[2].dtype == np.int64 and len(small) == 1 and small | {forms[4].dtype.name} <= set(_REAL) and (
        forms[5].dtype == forms[4].dtype or is_half(forms[5].dtype)
    )


def _length(n: int) -> int:
    """Return how many elements each measuring block takes."""
    return max(_LEAST_RANGE, -(-n // _RANGES))


def _parts(buffer: int, starts: int) -> Any:
    """Return the declaration of scratch for the parts; inputs `buffer` and `starts` say how many there can be."""

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        n, segments = forms[buffer].shape[0], forms[starts].shape[0]
        return (Form(((-(-n // _length(n)) + segments) * _PART,), np.dtype(np.float64)),)

    return scratch


def _gradient_statistics(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
    n, segments = w.shape[0], starts.shape[0]
    if segments == 0:
        return
    length = _length(n)
    function = ctx.backend.library.made(source("MEASURE", _name(w), _name(control), _name(g)), "measure_gradient")
    function(
        (blocks(n, length),), (THREADS,),
        (outs[0], *ctx.scratch, control, table, starts, w, g, np.int64(n), np.int64(segments), np.int64(length),
         ctx.backend.ticket),
    )


def _weight_penalty(ctx: Any, outs: Any, table: Any, starts: Any, w: Any) -> None:
    n, segments = w.shape[0], starts.shape[0]
    if segments == 0:
        outs[0].fill(0)
        return
    length = _length(n)
    function = ctx.backend.library.made(source("MEASURE", _name(w), _name(table), _name(w)), "measure_penalty")
    function(
        (blocks(n, length),), (THREADS,),
        (outs[0], *ctx.scratch, table, starts, w, np.int64(n), np.int64(segments), np.int64(length),
         ctx.backend.ticket),
    )


def _clip_control(ctx: Any, outs: Any, control: Any, *statistics: Any) -> None:
    pad = 4 - len(statistics)
    function = ctx.backend.library.made(source("CLIP", _name(control)), "clip_control")
    counts = [np.int64(rows.shape[1]) for rows in statistics] + [np.int64(0)] * pad
    function(
        (1,), (THREADS,), (outs[0], control, *statistics, *(control,) * pad, *counts, np.int32(len(statistics))),
    )


def _average_update(ctx: Any, outs: Any, control: Any, average: Any, w: Any, *, decay: float) -> None:
    n = w.shape[0]
    if n == 0:
        return
    function = ctx.backend.library.made(source("AVERAGE", _name(w), _name(control)), "average")
    grid = blocks(n, THREADS, ctx.backend.most_blocks)
    function((grid,), (THREADS,), (outs[0], control, average, w, np.int64(n), np.float64(1.0 - decay)))


def _keep_step(
    ctx: Any, outs: Any, loss: Any, probe: Any, control: Any, w: Any, kept: Any, taken: Any, ring: Any
) -> None:
    if loss.size != 1:
        raise ValueError(f"keep_step: loss must be one number; got shape {loss.shape}")
    n = w.shape[0]
    arrays = (loss, probe, control, w, taken, ring)
    function = ctx.backend.library.made(source("KEEP", *map(_name, arrays)), "keep_step")
    copied = outs[0].data.ptr != kept.data.ptr
    function(
        (1,), (THREADS,),  # it copies once in a run; one block may share a launch with what comes before
        (*outs, loss, probe, control, w, kept, taken, ring, np.int64(probe.shape[0]), np.int64(n),
         np.int64(ring.shape[0]), np.bool_(copied)),
    )


def _all_real(forms: Any, **attrs: Any) -> bool:
    return all(f.dtype.name in _REAL for f in forms)


KERNELS: dict[str, Kernel] = {
    **{name: _rule(name) for name in RULES},
    "gradient_statistics": Kernel(
        _gradient_statistics, scratch=_parts(3, 2), contiguous=True,
        supports=lambda forms: _all_real((*forms[:2], forms[3])) and forms[2].dtype == np.int64
        and (_all_real(forms[4:]) or is_half(forms[4].dtype))
        and forms[0].dtype == forms[1].dtype,
    ),
    "weight_penalty": Kernel(
        _weight_penalty, scratch=_parts(2, 1), contiguous=True,
        supports=lambda forms: _all_real((forms[0], forms[2])) and forms[1].dtype == np.int64,
    ),
    "clip_control": Kernel(
        _clip_control, contiguous=True,
        supports=lambda forms: 1 <= len(forms) - 1 <= 4 and all(f.dtype == np.float64 for f in forms[1:])
        and _all_real(forms),
    ),
    "average_update": Kernel(_average_update, contiguous=True, supports=_all_real),
    "keep_step": Kernel(_keep_step, contiguous=True, supports=_all_real),
}
