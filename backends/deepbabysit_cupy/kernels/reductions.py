"""Sums, extremes, means and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.kernels.reduction import count_over
from deepbabysit.kernels.shapes import is_floating, normalize_axes, reduced
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import FLOATS, around, launch, rowwise, team_width
from deepbabysit_cupy.kernels.maps import FUNCTIONS, run_map
from deepbabysit_cupy.kernels.reducing import Reduction, reduction, run_reduction
from deepbabysit_cupy.launch import THREADS, blocks

FUNCTIONS["itself"] = lambda xp, x: xp.astype(x, x.dtype)
FUNCTIONS["summand"] = lambda xp, x: x if is_floating(x.dtype) else xp.astype(x, np.int64)
FUNCTIONS["true"] = lambda xp, x: x != 0
FUNCTIONS["deviation"] = lambda xp, x, mean: (x - mean) * (x - mean)
FUNCTIONS["power_over"] = lambda xp, x, m: xp.exp(x - xp.where(xp.isfinite(m), m, xp.zeros_like(m)))


def _log_of_sum(xp: Any, highest: Any, total: Any) -> Any:
    finite = xp.isfinite(highest)
    level = xp.where(finite, highest, xp.zeros_like(highest))
    return xp.where(finite, xp.log(xp.where(finite, total, xp.ones_like(total))) + level, highest)


FUNCTIONS["log_of_sum"] = _log_of_sum

Axes = Callable[..., tuple[int, ...]]


def _axes(form: Any, *, axis: Any = None, keepdims: bool = False) -> tuple[int, ...]:
    return normalize_axes("", axis, len(form.shape))


def _axes_to(form: Any, *, shape: Any) -> tuple[int, ...]:
    extra = len(form.shape) - len(shape)
    repeated = [i + extra for i, n in enumerate(shape) if n == 1 and form.shape[i + extra] != 1]
    return (*range(extra), *repeated)


def _form(array: Any) -> Form:
    return Form(tuple(array.shape), array.dtype)


def _reduced(function: str, combination: str, axes: Axes = _axes, mean: bool = False) -> Kernel:
    """Return the kernel of a reduction of one array."""

    def plan(form: Form, attrs: Any) -> Reduction | None:
        return reduction(function, (combination,), (form,), axes(form, **attrs))

    def run(ctx: Any, outs: Any, x: Any, **attrs: Any) -> None:
        found = plan(_form(x), attrs)
        assert found is not None
        divisor = float(count_over(x.shape, attrs["axis"])) if mean else 1.0
        run_reduction(found, ctx, outs, (x,), (), ctx.scratch, divisor)

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        found = plan(forms[0], attrs)
        return found.scratch if found is not None else ()

    return Kernel(run, scratch, supports=lambda forms, **attrs: plan(forms[0], attrs) is not None, contiguous=True)


# -- from two reductions ---------------------------------------------------------------------------------------------


def _kept(form: Form, axes: tuple[int, ...]) -> Form:
    """Return the form of a first result, kept for the second reduction: axes of length 1 where there were more."""
    return Form(reduced(form.shape, axes, True), form.dtype)


def _two(first: str, second: str, mean: bool) -> tuple[Any, Any]:
    """Return the plans of two reductions, the second of x and the result of the first, and their scratch space."""

    def plans(form: Form, attrs: Any) -> tuple[Reduction | None, Reduction | None]:
        axes = _axes(form, **attrs)
        kept = _kept(form, axes)
        return (
            reduction("itself", (first,), (form,), axes), reduction(second, ("sum",), (form, kept), axes),
        )

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        one, two = plans(forms[0], attrs)
        if one is None or two is None:
            return ()
        kept = _kept(forms[0], _axes(forms[0], **attrs))
        return (kept, kept, *one.scratch, *two.scratch)

    return plans, scratch


def _from_two(first: str, second: str, mean: bool, finish: str = "") -> Kernel:
    plans, scratch = _two(first, second, mean)

    def run(ctx: Any, outs: Any, x: Any, **attrs: Any) -> None:
        one, two = plans(_form(x), attrs)
        divisor = float(count_over(x.shape, attrs["axis"])) if mean else 1.0
        level, total, *partial = ctx.scratch
        mine = len(one.scratch)
        run_reduction(one, ctx, (level,), (x,), (), partial[:mine], divisor)
        out = outs[0].reshape(level.shape)
        run_reduction(two, ctx, (total if finish else out,), (x, level), (), partial[mine:], divisor)
        if finish:
            run_map(finish, ctx, (out,), (level, total), {})

    def supports(forms: Any, **attrs: Any) -> bool:
        return None not in plans(forms[0], attrs)

    return Kernel(run, scratch, supports=supports, contiguous=True)


# -- along one axis --------------------------------------------------------------------------------------------------


def _scanned(forms: Any, **attrs: Any) -> bool:
    return forms[0].dtype.name in (*FLOATS, "int64")


def _running(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    axis %= x.ndim
    before, after = around(x.shape, axis)
    rows = before * after
    if x.size == 0:
        return
    numbers = (outs[0], x, rows, x.shape[axis], after)
    # one thread for each row where rows stand side by side, else one block
    per_block = THREADS if after > 1 else 1
    grid = (blocks(rows, per_block, ctx.backend.most_blocks),)
    launch(ctx, "scan.cu", "running_sum", (x.dtype.name,), None, numbers, grid=grid)


def _extreme(largest: bool) -> Any:
    def run(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
        axis %= x.ndim
        before, after = around(x.shape, axis)
        rows, length = before * after, x.shape[axis]
        if rows:
            width = team_width(length, after, rows)
            numbers = (outs[0], x, rows, length, after, width, int(largest))
            launch(ctx, "scan.cu", "extreme", (x.dtype.name,), None, numbers, grid=(-(-rows // width),))

    return run


KERNELS: dict[str, Kernel] = {
    "sum": _reduced("summand", "sum"),
    "sum_to": _reduced("itself", "sum", _axes_to),
    "max": _reduced("itself", "max"),
    "min": _reduced("itself", "min"),
    "any": _reduced("true", "any"),
    "all": _reduced("true", "all"),
    "mean": _reduced("itself", "sum", mean=True),
    "var": _from_two("sum", "deviation", mean=True),
    "logsumexp": _from_two("max", "power_over", mean=False, finish="log_of_sum"),
    "cumulative_sum": rowwise("cumulative_sum", _running, _scanned),
    "argmax": rowwise("argmax", _extreme(True), _scanned),
    "argmin": rowwise("argmin", _extreme(False), _scanned),
}
