"""Update rules over flat buffers, in blocks that stay in the cache: Adam then reads and writes memory once.

One pass over the whole buffer where all segments have the same settings, else one per run of equal ones.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.scaling import INTERVAL, move_loss_scale
from deepbabysit.kernels.spec import Form
from deepbabysit.kernels.updates import (
    AGE,
    APPLY,
    BROKEN,
    CLIP_NORM,
    CLIP_VALUE,
    FACTOR,
    NORM,
    PENALTIES,
    PENALTY,
    PRODUCT,
    RATE,
    SCALE,
    SKIP,
    SQUARES,
)
from deepbabysit.runtime.backend import Kernel

BLOCK_BYTES = 64 * 1024  # of each buffer: five of them fit the second-level cache of any current core
_MULTIPLY, _ADD, _SUBTRACT, _DIVIDE, _SQRT, _SIGN = np.multiply, np.add, np.subtract, np.divide, np.sqrt, np.sign


class _Run(NamedTuple):
    """Neighbouring segments with equal settings: elements ``begin:end``, columns ``first:last``."""

    begin: int
    end: int
    first: int
    last: int
    active: bool
    trainable: bool
    multiplier: float
    decay: float
    l1: float
    l2: float


_RUNS: dict[Any, tuple[_Run, ...]] = {}
_RUNS_KEPT = 256


def _runs(table: Any, starts: Any, size: int) -> tuple[_Run, ...]:
    """Return the runs of equal segments; tables change rarely, so that they are found by their bytes."""
    key = (table.tobytes(), table.dtype, starts.tobytes(), size)
    found = _RUNS.get(key)
    if found is not None:
        return found
    columns = table.T.tolist()
    begins = starts.tolist()
    runs: list[_Run] = []
    first = 0
    for place in range(1, len(columns) + 1):
        if place < len(columns) and columns[place] == columns[first]:
            continue
        trainable, touched, multiplier, decay, l1, l2 = columns[first]
        end = begins[place] if place < len(columns) else size
        on = bool(trainable and touched)
        runs.append(_Run(begins[first], end, first, place, on, bool(trainable), multiplier, decay, l1, l2))
        first = place
    if len(_RUNS) >= _RUNS_KEPT:
        _RUNS.clear()
    _RUNS[key] = tuple(runs)
    return _RUNS[key]


def _block(dtype: Any) -> int:
    return BLOCK_BYTES // dtype.itemsize


def _blocks(place: int, count: int) -> Callable[..., tuple[Form, ...]]:
    """Return the declaration of scratch blocks for a kernel whose input at `place` is the flat buffer."""

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        flat = forms[place]
        return (Form((min(_block(flat.dtype), flat.shape[0]),), flat.dtype),) * count

    return scratch


def _effective(
    w: Any, g: Any, t: Any, u: Any, scale: float, factor: float, limit: float, run: _Run, coupled: bool
) -> Any:
    """Return the gradient that the rule uses: `g` itself where nothing is done to it, else in `t`."""
    if run.l1 or run.l2:
        _MULTIPLY(g, scale, t)
        if run.l2:
            _MULTIPLY(w, 2.0 * run.l2, u)
            _ADD(t, u, t)
        if run.l1:
            _SIGN(w, u)
            _MULTIPLY(u, run.l1, u)
            _ADD(t, u, t)
        if factor != 1.0:
            _MULTIPLY(t, factor, t)
        g = t
    elif scale * factor != 1.0:
        g = _MULTIPLY(g, scale * factor, t)
    if limit != np.inf:
        g = np.minimum(np.maximum(g, -limit, out=t), limit, out=t)
    if coupled and run.decay:
        _MULTIPLY(w, run.decay, u)
        g = _ADD(g, u, t)
    return g


# A rule is two functions: `prepare(age, product, rate, decay, attrs)` -> numbers that hold for a run, and
# `work(w, g, states, t, u, numbers)`, which changes a block in place. `g` is read only; it may be `t`.
Prepare = Callable[[float, float, float, float, dict[str, Any]], tuple[float, ...]]
Work = Callable[[Any, Any, list[Any], Any, Any, tuple[float, ...]], None]


class Rule(NamedTuple):
    """An update rule: its two functions, whether weight decay is part of the gradient, whether it keeps a product."""

    prepare: Prepare
    work: Work
    coupled: bool
    nadam: bool = False


class Span(NamedTuple):
    """Elements ``begin:end`` of one run with equal progress, and what is done to their gradient."""

    run: _Run
    begin: int
    end: int
    scale: float
    factor: float
    limit: float


# Passes over a span: `sweep(ctx, span, w, g, states, numbers)`, with whole buffers.
Sweep = Callable[[Any, Span, Any, Any, Any, tuple[float, ...]], None]


_DTYPES = frozenset({"bfloat16", "float16", "float32", "float64"})  # gradients may be in half precision


def rule_kernel(rule: Rule, sweep: Sweep, **declared: Any) -> Kernel:
    """Return the kernel of an update rule: finds what is to be done, and lets `sweep` do it."""

    def run_rule(
        ctx: Any, outs: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, *states: Any,
        **attrs: Any,
    ) -> None:
        copies, outs = outs[2 + len(states) :], outs[: 2 + len(states)]
        for out, source in zip(outs, (progress, w, *states), strict=True):
            if out is not source:
                np.copyto(out, source)
        update(ctx, outs, control, table, starts, g, attrs)
        for copy in copies:  # the weights in half precision, for the next step
            copy[...] = outs[1]

    def update(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, g: Any, attrs: dict[str, Any]) -> None:
        progress, w, *states = outs
        numbers = control.tolist()
        size = w.shape[0]
        if numbers[APPLY] == 0.0 or not size:
            return
        rate, scale, factor, limit = numbers[RATE], numbers[SCALE], numbers[FACTOR], numbers[CLIP_VALUE]
        ages, products = progress.tolist()
        for run in _runs(table, starts, size):
            if not run.active:
                continue
            first = run.first
            while first < run.last:
                last = _alike(ages, products, first, run.last)
                begin = run.begin if first == run.first else int(starts[first])
                end = run.end if last == run.last else int(starts[last])
                age = ages[first] + 1.0
                if rule.nadam:
                    _advance_product(progress, first, last, products[first], age, attrs)
                values = rule.prepare(age, products[first], rate * run.multiplier, run.decay, attrs)
                progress[AGE, first:last] = age
                sweep(ctx, Span(run, begin, end, scale, factor, limit), w, g, states, values)
                first = last

    return Kernel(run_rule, **declared)


def _plain(rule: Rule) -> Kernel:
    def sweep(ctx: Any, span: Span, w: Any, g: Any, states: Any, numbers: tuple[float, ...]) -> None:
        run, begin, end, scale, factor, limit = span
        t_whole, u_whole = ctx.scratch
        step = _block(w.dtype)
        with np.errstate(all="ignore"):  # what is not finite is measured, and reported elsewhere
            for a in range(begin, end, step):
                b = min(a + step, end)
                w_block, t, u = w[a:b], t_whole[: b - a], u_whole[: b - a]
                g_block = g[a:b] if g.dtype == w.dtype else g[a:b].astype(w.dtype)
                gradient = _effective(w_block, g_block, t, u, scale, factor, limit, run, rule.coupled)
                rule.work(w_block, gradient, [s[a:b] for s in states], t, u, numbers)

    return rule_kernel(rule, sweep, scratch=_blocks(4, 2), dtypes=_DTYPES)


def _alike(ages: list[float], products: list[float], first: int, last: int) -> int:
    """Return where segments with the progress of the first one end."""
    age, product = ages[first], products[first]
    place = first + 1
    while place < last and ages[place] == age and products[place] == product:
        place += 1
    return place


def _sgd(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    _MULTIPLY(g, numbers[0], t)
    _SUBTRACT(w, t, w)


def _momentum(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    rate, mu, nesterov = numbers
    velocity = states[0]
    _MULTIPLY(velocity, mu, velocity)
    _ADD(velocity, g, velocity)
    if nesterov:
        _MULTIPLY(velocity, mu, u)
        _ADD(u, g, u)
        _MULTIPLY(u, rate, u)
    else:
        _MULTIPLY(velocity, rate, u)
    _SUBTRACT(w, u, w)


def _adagrad(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    rate, epsilon = numbers
    total = states[0]
    _MULTIPLY(g, g, u)
    _ADD(total, u, total)
    _SQRT(total, u)
    _ADD(u, epsilon, u)
    _DIVIDE(g, u, u)
    _MULTIPLY(u, rate, u)
    _SUBTRACT(w, u, w)


def _mean_square(g: Any, square: Any, u: Any, rho: float) -> None:
    """Update a running mean of squares: ``s = rho s + (1 - rho) g^2``."""
    _MULTIPLY(g, g, u)
    _MULTIPLY(u, 1.0 - rho, u)
    _MULTIPLY(square, rho, square)
    _ADD(square, u, square)


def _rmsprop(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    rate, rho, epsilon = numbers
    square = states[0]
    _mean_square(g, square, u, rho)
    _SQRT(square, u)
    _ADD(u, epsilon, u)
    _DIVIDE(g, u, u)
    _MULTIPLY(u, rate, u)
    _SUBTRACT(w, u, w)


def _rmsprop_momentum(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    rate, rho, epsilon, mu = numbers
    square, velocity = states
    _mean_square(g, square, u, rho)
    _SQRT(square, u)
    _ADD(u, epsilon, u)
    _DIVIDE(g, u, u)
    _MULTIPLY(velocity, mu, velocity)
    _ADD(velocity, u, velocity)
    _MULTIPLY(velocity, rate, u)
    _SUBTRACT(w, u, w)


def _adadelta(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    rate, rho, epsilon = numbers
    square, change = states
    _mean_square(g, square, u, rho)
    # sqrt(a) / sqrt(b) as sqrt(a / b) would overflow earlier; t takes the step once g is no longer needed
    _ADD(square, epsilon, u)
    _SQRT(u, u)
    _DIVIDE(g, u, t)
    _ADD(change, epsilon, u)
    _SQRT(u, u)
    _MULTIPLY(t, u, t)
    _mean_square(t, change, u, rho)
    _MULTIPLY(t, rate, t)
    _SUBTRACT(w, t, w)


def _adam_numbers(age: float, product: float, rate: float, decay: float, attrs: dict[str, Any]) -> tuple[float, ...]:
    """Fold the bias corrections into step and epsilon: ``m^/(sqrt(v^)+eps) = c m / (sqrt(v) + eps sqrt(1-b2^t))``."""
    b1, b2 = attrs["beta_1"], attrs["beta_2"]
    root = sqrt(1.0 - b2**age)
    return b1, b2, attrs["epsilon"] * root, rate * root / (1.0 - b1**age), 1.0


def _adamw_numbers(age: float, product: float, rate: float, decay: float, attrs: dict[str, Any]) -> tuple[float, ...]:
    return (*_adam_numbers(age, product, rate, decay, attrs)[:4], 1.0 - rate * decay)


def _moments(g: Any, m: Any, v: Any, u: Any, b1: float, b2: float) -> None:
    """Update both moments."""
    _MULTIPLY(m, b1, m)
    _MULTIPLY(g, 1.0 - b1, u)
    _ADD(m, u, m)
    _mean_square(g, v, u, b2)


def _adam(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    b1, b2, epsilon, rate, kept = numbers
    m, v = states
    _moments(g, m, v, u, b1, b2)
    _SQRT(v, u)
    _ADD(u, epsilon, u)
    _DIVIDE(m, u, u)
    _MULTIPLY(u, rate, u)
    if kept != 1.0:
        _MULTIPLY(w, kept, w)
    _SUBTRACT(w, u, w)


def _momenta(age: float, attrs: dict[str, Any]) -> tuple[float, float]:
    """Return Dozat's momentum of this step and of the next."""
    psi, b1 = attrs["momentum_decay"], attrs["beta_1"]
    return b1 * (1.0 - 0.5 * 0.96 ** (age * psi)), b1 * (1.0 - 0.5 * 0.96 ** ((age + 1.0) * psi))


def _advance_product(
    progress: Any, first: int, last: int, product: float, age: float, attrs: dict[str, Any]
) -> None:
    progress[PRODUCT, first:last] = product * _momenta(age, attrs)[0]


def _nadam_numbers(age: float, product: float, rate: float, decay: float, attrs: dict[str, Any]) -> tuple[float, ...]:
    b1, b2 = attrs["beta_1"], attrs["beta_2"]
    mu, mu_next = _momenta(age, attrs)
    product *= mu
    root = sqrt(1.0 - b2**age)
    by_gradient = rate * root * (1.0 - mu) / (1.0 - product)
    by_moment = rate * root * mu_next / (1.0 - product * mu_next)
    return b1, b2, attrs["epsilon"] * root, by_gradient, by_moment


def _nadam(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    b1, b2, epsilon, by_gradient, by_moment = numbers
    m, v = states
    _moments(g, m, v, u, b1, b2)
    _MULTIPLY(g, by_gradient, t)
    _MULTIPLY(m, by_moment, u)
    _ADD(t, u, t)
    _SQRT(v, u)
    _ADD(u, epsilon, u)
    _DIVIDE(t, u, t)
    _SUBTRACT(w, t, w)


def _lion(w: Any, g: Any, states: Any, t: Any, u: Any, numbers: Any) -> None:
    b1, b2, rate, kept = numbers
    m = states[0]
    _SUBTRACT(g, m, u)  # b1 m + (1 - b1) g as m + (1 - b1) (g - m): one buffer is enough
    _MULTIPLY(u, 1.0 - b1, u)
    _ADD(u, m, u)
    _SIGN(u, u)
    _MULTIPLY(u, rate, u)
    if kept != 1.0:
        _MULTIPLY(w, kept, w)
    _SUBTRACT(w, u, w)
    _SUBTRACT(g, m, u)
    _MULTIPLY(u, 1.0 - b2, u)
    _ADD(m, u, m)


# -- around the rules ------------------------------------------------------------------------------------------------


def _statistics(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
    out = outs[0]
    out.fill(0.0)
    size, scale = w.shape[0], control.tolist()[SCALE]
    t_whole, u_whole = ctx.scratch
    step = _block(w.dtype)
    with np.errstate(all="ignore"):
        runs = _runs(table, starts, size)
        for run in runs:
            if run.trainable and (run.l1 or run.l2):
                _penalties(out, run, starts, w, u_whole, step)
        if size <= step:
            _measure_small(out, runs, starts, w, g, scale, t_whole, u_whole)
            return
        for run in runs:
            if not run.active:
                continue
            ends = [*starts[run.first + 1 : run.last].tolist(), run.end]
            begin = run.begin
            for place, end in enumerate(ends, run.first):
                squares = broken = 0.0
                for a in range(begin, end, step):
                    b = min(a + step, end)
                    gradient = _effective(
                        w[a:b], g[a:b], t_whole[: b - a], u_whole[: b - a], scale, 1.0, np.inf, run, False
                    )
                    part = _squares(gradient)
                    squares += part
                    if not isfinite(part):
                        broken += b - a - int(np.count_nonzero(np.isfinite(gradient)))
                out[SQUARES, place] = np.nan if broken else squares
                out[BROKEN, place] = broken
                begin = end


def _measure_small(out: Any, runs: Any, starts: Any, w: Any, g: Any, scale: float, t_whole: Any, u_whole: Any) -> None:
    """Measure a buffer of at most one block: all segments at once."""
    if not w.shape[0]:
        return
    for run in runs:
        part = slice(run.begin, run.end)
        t = t_whole[part]
        if not run.active:
            t.fill(0.0)
            continue
        gradient = _effective(w[part], g[part], t, u_whole[part], scale, 1.0, np.inf, run, False)
        if gradient is not t:
            np.copyto(t, gradient)
    wide = t_whole.astype(np.float64)
    _MULTIPLY(wide, wide, wide)
    np.add.reduceat(wide, starts, out=out[SQUARES])
    if not isfinite(float(out[SQUARES].sum())):
        np.add.reduceat(~np.isfinite(t_whole), starts, out=out[BROKEN], dtype=np.float64)
        out[SQUARES][out[BROKEN] > 0] = np.nan


def _penalties(out: Any, run: _Run, starts: Any, w: Any, u_whole: Any, step: int) -> None:
    """Write the penalty of each segment of a run."""
    begins = [*starts[run.first : run.last].tolist(), run.end]
    for place, (begin, end) in enumerate(zip(begins, begins[1:], strict=False), run.first):
        out[PENALTIES, place] = _penalty_of(w[begin:end], run, u_whole, step)


def _squares(values: Any) -> float:
    """Return the sum of squares; in float64 where float32 would overflow or lose small values."""
    total = float(np.dot(values, values))
    if values.dtype != np.float64 and not 1e-20 < total < 1e30:
        wide = values.astype(np.float64)
        total = float(np.dot(wide, wide))
    return total


def _penalty_of(w: Any, run: _Run, u_whole: Any, step: int) -> float:
    total = 0.0
    for a in range(0, w.shape[0], step):
        block = w[a : a + step]
        if run.l1:
            total += run.l1 * float(np.abs(block, out=u_whole[: block.shape[0]]).sum(dtype=np.float64))
        if run.l2:
            total += run.l2 * _squares(block)
    return total if isfinite(total) or np.isfinite(w).all() else float("nan")


def _clip(ctx: Any, outs: Any, control: Any, *statistics: Any) -> None:
    out = outs[0]
    squares, broken, penalty = (sum(float(rows[i].sum()) for rows in statistics) for i in (SQUARES, BROKEN, PENALTIES))
    numbers = control.tolist()
    norm = sqrt(squares) if squares >= 0.0 else squares  # NaN stays NaN
    limit = numbers[CLIP_NORM]
    numbers[FACTOR] = 1.0 if norm <= limit or limit == np.inf else limit / norm
    numbers[APPLY] = 0.0 if numbers[SKIP] > 0.0 and broken > 0.0 else 1.0
    numbers[NORM] = norm
    numbers[PENALTY] = penalty
    out[:] = numbers


def _loss_scale(
    ctx: Any, outs: Any, scale: Any, good: Any, skipped: Any, applied: Any, *, interval: int = INTERVAL
) -> None:
    results = move_loss_scale(np, scale, good, skipped, applied, interval=interval)
    for out, result in zip(outs, results, strict=True):
        out[...] = result


def _weight_penalty(ctx: Any, outs: Any, table: Any, starts: Any, w: Any) -> None:
    step = _block(w.dtype)
    with np.errstate(all="ignore"):
        outs[0][...] = sum(
            _penalty_of(w[run.begin : run.end], run, ctx.scratch[0], step)
            for run in _runs(table, starts, w.shape[0])
            if run.trainable and (run.l1 or run.l2)
        )


def _average(ctx: Any, outs: Any, control: Any, average: Any, w: Any, *, decay: float) -> None:
    out = outs[0]
    if out is not average:
        np.copyto(out, average)
    if control[APPLY] == 0.0:
        return
    step = _block(w.dtype)
    t_whole = ctx.scratch[0]
    with np.errstate(all="ignore"):
        for a in range(0, w.shape[0], step):
            block = out[a : a + step]
            t = t_whole[: block.shape[0]]
            _SUBTRACT(w[a : a + step], block, t)
            _MULTIPLY(t, 1.0 - decay, t)
            _ADD(block, t, block)


RULES: dict[str, Rule] = {
    "sgd_update": Rule(lambda age, product, rate, decay, attrs: (rate,), _sgd, True),
    "momentum_update": Rule(
        lambda age, product, rate, decay, attrs: (rate, attrs["momentum"], attrs["nesterov"]), _momentum, True
    ),
    "adagrad_update": Rule(lambda age, product, rate, decay, attrs: (rate, attrs["epsilon"]), _adagrad, True),
    "rmsprop_update": Rule(
        lambda age, product, rate, decay, attrs: (rate, attrs["rho"], attrs["epsilon"]), _rmsprop, True
    ),
    "rmsprop_momentum_update": Rule(
        lambda age, product, rate, decay, attrs: (rate, attrs["rho"], attrs["epsilon"], attrs["momentum"]),
        _rmsprop_momentum, True,
    ),
    "adadelta_update": Rule(
        lambda age, product, rate, decay, attrs: (rate, attrs["rho"], attrs["epsilon"]), _adadelta, True
    ),
    "adam_update": Rule(_adam_numbers, _adam, False),
    "adamw_update": Rule(_adamw_numbers, _adam, False),
    "nadam_update": Rule(_nadam_numbers, _nadam, False, True),
    "lion_update": Rule(
        lambda age, product, rate, decay, attrs: (attrs["beta_1"], attrs["beta_2"], rate, 1.0 - rate * decay),
        _lion, False,
    ),
}

KERNELS: dict[str, Kernel] = {
    **{name: _plain(rule) for name, rule in RULES.items()},
    "gradient_statistics": Kernel(_statistics, scratch=_blocks(3, 2)),
    "clip_control": Kernel(_clip),
    "move_loss_scale": Kernel(_loss_scale),
    "weight_penalty": Kernel(_weight_penalty, scratch=_blocks(2, 1)),
    "average_update": Kernel(_average, scratch=_blocks(1, 1)),
}
