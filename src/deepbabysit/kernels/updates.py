"""Update rules of the optimizers over flat buffers: one spec each, and what clipping and averaging need.

Every rule takes ``(control, table, starts, progress, w, g, *states)`` and returns ``(progress, w, *states)``; each
output may share memory with the input of its name.

*control* (`CONTROL_SIZE` numbers) is what changes from step to step; kernels read it, so a recorded step follows it.
*starts* (segments,) whole numbers, strictly increasing from 0: where each parameter begins in the flat buffers.
*table* (`TABLE_ROWS`, segments): what each parameter's settings are.
*progress* (2, segments): how many updates each parameter has had, and a product that NAdam keeps.

Where the gradient *g* is float16 or bfloat16 and the rest float32, a rule has one more output: a copy of *w* in the
gradient's dtype, that the next step computes with.

A segment that is frozen or has no gradient in this step keeps its values, states and progress bit for bit; so does
everything where ``control[APPLY]`` is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import is_half, need_floating, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

# Places in the control array. The host writes all of them before a step; `clip_control` replaces the last four.
STEP, RATE, SCALE, CLIP_NORM, CLIP_VALUE, SKIP, FACTOR, APPLY, NORM, PENALTY = range(10)
CONTROL_SIZE = 10
# Rows of the table.
TRAINABLE, TOUCHED, MULTIPLIER, DECAY, L1, L2 = range(6)
TABLE_ROWS = 6
# Rows of the progress.
AGE, PRODUCT = range(2)
# Rows of the statistics.
SQUARES, BROKEN, PENALTIES = range(3)

_TOLERANCE = {"float32": Tolerance(2e-4, 2e-5)}  # a division by a small root magnifies the rounding of the states


AS_WRITTEN = 1.0, 1.0, 0.0, 0.0  # the last four, as the host writes them


def host_control(
    step: int,
    rate: float,
    scale: float = 1.0,
    clip_norm: float = np.inf,
    clip_value: float = np.inf,
    skip: bool = False,
) -> np.ndarray:
    """Return the control array as the host writes it before a step."""
    return np.array([step, rate, scale, clip_norm, clip_value, float(skip), *AS_WRITTEN])


class _Segments:
    """What a reference needs of the small arrays, spread over the elements of the flat buffer."""

    def __init__(self, xp: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
        self.xp = xp
        self.copied = g.dtype
        self.control = control
        self.table = table
        self.dtype = w.dtype
        self.place = xp.searchsorted(starts, xp.arange(w.shape[0]), side="right") - 1
        self.active = table[TRAINABLE] * table[TOUCHED] * control[APPLY : APPLY + 1]
        self.rate = table[MULTIPLIER] * control[RATE : RATE + 1]

    def spread(self, values: Any) -> Any:
        """Repeat one value per segment over its elements, in the buffer's dtype."""
        return self.xp.astype(self.xp.take(values, self.place, axis=0), self.dtype)

    def number(self, place: int) -> Any:
        """Return one entry of the control array in the buffer's dtype."""
        return self.xp.astype(self.control[place : place + 1], self.dtype)

    def penalized(self, w: Any, g: Any) -> Any:
        """Return the scaled gradient plus that of the penalties ``l1 sum|w| + l2 sum w^2``."""
        penalty = self.spread(self.table[L1]) * self.xp.sign(w) + 2.0 * self.spread(self.table[L2]) * w
        return self.xp.astype(g, self.dtype) * self.number(SCALE) + penalty

    def gradient(self, w: Any, g: Any, coupled: bool = False) -> Any:
        """Return the gradient that the rule uses: scaled, with penalties, clipped; with coupled decay at the end."""
        limit = self.number(CLIP_VALUE)
        g = self.penalized(w, g) * self.number(FACTOR)
        g = self.xp.minimum(self.xp.maximum(g, -limit), limit)
        return g + self.spread(self.table[DECAY]) * w if coupled else g

    def age(self, progress: Any) -> Any:
        """Return how many updates each segment will have had; at least 1, since idle segments are computed too."""
        return self.xp.maximum(progress[AGE] + self.active, self.xp.ones_like(self.active))

    def grown(self, progress: Any, product: Any = None) -> Any:
        """Return the progress after this step."""
        kept = progress[PRODUCT] if product is None else self.xp.where(self.active > 0, product, progress[PRODUCT])
        return self.xp.stack((progress[AGE] + self.active, kept))

    def done(self, progress: Any, w: Any, *states: Any) -> Any:
        """Return the results of a rule, with a copy of the weights where gradients are in half precision."""
        copy = () if self.copied == self.dtype else (self.xp.astype(w, self.copied),)
        return (progress, w, *states, *copy)

    def choose(self, new: Any, old: Any) -> Any:
        """Return new values where the segment is active, the old ones elsewhere."""
        return self.xp.where(self.xp.take(self.active, self.place, axis=0) > 0, new, old)


# -- the rules -------------------------------------------------------------------------------------------------------


def sgd_update(xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any) -> Any:
    """Gradient descent: ``w -= lr g``."""
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    return s.done(s.grown(progress), s.choose(w - s.spread(s.rate) * g, w))


def momentum_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, velocity: Any,
    *, momentum: float, nesterov: bool = False,
) -> Any:
    """Gradient descent with momentum: ``v = mu v + g; w -= lr v``, or ``w -= lr (g + mu v)`` (Nesterov).

    Polyak 1964; Sutskever, Martens, Dahl and Hinton, ICML 2013, in the form of PyTorch (the rate is not part of `v`).
    """
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    new = momentum * velocity + g
    step = g + momentum * new if nesterov else new
    return s.done(s.grown(progress), s.choose(w - s.spread(s.rate) * step, w), s.choose(new, velocity))


def adagrad_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, total: Any,
    *, epsilon: float = 1e-10,
) -> Any:
    """Adagrad: ``s += g^2; w -= lr g / (sqrt(s) + eps)`` (Duchi, Hazan and Singer, JMLR 12, 2011)."""
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    new = total + g * g
    step = s.spread(s.rate) * g / (xp.sqrt(new) + epsilon)
    return s.done(s.grown(progress), s.choose(w - step, w), s.choose(new, total))


def rmsprop_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any,
    *, rho: float = 0.9, epsilon: float = 1e-8,
) -> Any:
    """RMSprop: ``s = rho s + (1 - rho) g^2; w -= lr g / (sqrt(s) + eps)`` (Tieleman and Hinton, 2012)."""
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    new = rho * square + (1.0 - rho) * g * g
    step = s.spread(s.rate) * g / (xp.sqrt(new) + epsilon)
    return s.done(s.grown(progress), s.choose(w - step, w), s.choose(new, square))


def rmsprop_momentum_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any, velocity: Any,
    *, rho: float = 0.9, epsilon: float = 1e-8, momentum: float,
) -> Any:
    """RMSprop with momentum: ``v = mu v + g / (sqrt(s) + eps); w -= lr v``, `s` as in RMSprop (PyTorch's form)."""
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    new = rho * square + (1.0 - rho) * g * g
    moved = momentum * velocity + g / (xp.sqrt(new) + epsilon)
    return s.done(
        s.grown(progress), s.choose(w - s.spread(s.rate) * moved, w), s.choose(new, square), s.choose(moved, velocity)
    )


def adadelta_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any, change: Any,
    *, rho: float = 0.95, epsilon: float = 1e-6,
) -> Any:
    """Adadelta: ``s = rho s + (1 - rho) g^2; d = sqrt(u + eps) / sqrt(s + eps) g; w -= lr d``.

    ``u = rho u + (1 - rho) d^2`` comes after the step. Zeiler, arXiv 1212.5701 (2012).
    """
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g, coupled=True)
    new = rho * square + (1.0 - rho) * g * g
    delta = xp.sqrt(change + epsilon) / xp.sqrt(new + epsilon) * g
    moved = rho * change + (1.0 - rho) * delta * delta
    new_w = s.choose(w - s.spread(s.rate) * delta, w)
    return s.done(s.grown(progress), new_w, s.choose(new, square), s.choose(moved, change))


def _adam(s: _Segments, progress: Any, w: Any, g: Any, m: Any, v: Any, b1: float, b2: float, epsilon: float) -> Any:
    """Return new moments and the step ``lr m^ / (sqrt(v^) + eps)``."""
    xp = s.xp
    new_m = b1 * m + (1.0 - b1) * g
    new_v = b2 * v + (1.0 - b2) * g * g
    age = s.age(progress)
    root = xp.sqrt(new_v / s.spread(1.0 - b2**age)) + epsilon
    return new_m, new_v, s.spread(s.rate / (1.0 - b1**age)) * new_m / root


def adam_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, v: Any,
    *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
) -> Any:
    """Adam: ``m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr m^ / (sqrt(v^) + eps)``.

    ``m^ = m / (1 - b1^t)``, ``v^ = v / (1 - b2^t)`` with `t` counted for each parameter. Kingma and Ba, ICLR 2015.
    """
    s = _Segments(xp, control, table, starts, w, g)
    new_m, new_v, step = _adam(s, progress, w, s.gradient(w, g), m, v, beta_1, beta_2, epsilon)
    return s.done(s.grown(progress), s.choose(w - step, w), s.choose(new_m, m), s.choose(new_v, v))


def adamw_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, v: Any,
    *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
) -> Any:
    """Adam with decoupled weight decay: ``w -= lr decay w``, then Adam's step.

    Loshchilov and Hutter, ICLR 2019.
    """
    s = _Segments(xp, control, table, starts, w, g)
    new_m, new_v, step = _adam(s, progress, w, s.gradient(w, g), m, v, beta_1, beta_2, epsilon)
    decayed = w * s.spread(1.0 - s.rate * s.table[DECAY])
    return s.done(s.grown(progress), s.choose(decayed - step, w), s.choose(new_m, m), s.choose(new_v, v))


def nadam_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, v: Any,
    *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8, momentum_decay: float = 0.004,
) -> Any:
    """Adam with Nesterov momentum and Dozat's momentum schedule (as in PyTorch and Keras).

    ``mu_t = b1 (1 - 0.96^(t psi) / 2)``, ``M_t = mu_1 ... mu_t``;
    ``w -= lr (mu_(t+1) m / (1 - M_(t+1)) + (1 - mu_t) g / (1 - M_t)) / (sqrt(v^) + eps)``. Dozat, ICLR workshop 2016.
    """
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g)
    age = s.age(progress)
    mu = beta_1 * (1.0 - 0.5 * 0.96 ** (age * momentum_decay))
    mu_next = beta_1 * (1.0 - 0.5 * 0.96 ** ((age + 1.0) * momentum_decay))
    product = progress[PRODUCT] * mu
    new_m = beta_1 * m + (1.0 - beta_1) * g
    new_v = beta_2 * v + (1.0 - beta_2) * g * g
    root = xp.sqrt(new_v / s.spread(1.0 - beta_2**age)) + epsilon
    by_gradient = s.spread(s.rate * (1.0 - mu) / (1.0 - product)) * g
    by_moment = s.spread(s.rate * mu_next / (1.0 - product * mu_next)) * new_m
    return s.done(
        s.grown(progress, product), s.choose(w - (by_gradient + by_moment) / root, w), s.choose(new_m, m),
        s.choose(new_v, v),
    )


def lion_update(
    xp: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any,
    *, beta_1: float = 0.9, beta_2: float = 0.99,
) -> Any:
    """Lion: ``w -= lr (sign(b1 m + (1 - b1) g) + decay w); m = b2 m + (1 - b2) g``.

    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """
    s = _Segments(xp, control, table, starts, w, g)
    g = s.gradient(w, g)
    step = xp.sign(beta_1 * m + (1.0 - beta_1) * g)
    decayed = w * s.spread(1.0 - s.rate * s.table[DECAY])
    new_m = beta_2 * m + (1.0 - beta_2) * g
    return s.done(s.grown(progress), s.choose(decayed - s.spread(s.rate) * step, w), s.choose(new_m, m))


# -- around the rules ------------------------------------------------------------------------------------------------


def gradient_statistics(xp: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> Any:
    """Measure each segment's gradient, scaled and with that of the penalties.

    Returns (3, segments) in float64: sum of squares, count of values that are not finite, value of the penalties. The
    sum is NaN where the count is not 0. Segments without a gradient count 0;
    penalties count where trainable.
    """
    s = _Segments(xp, control, table, starts, w, g)
    full = xp.astype(s.penalized(w, g), xp.float64)
    on = xp.take(table[TRAINABLE] * table[TOUCHED], s.place, axis=0) > 0
    full = xp.where(on, full, xp.zeros_like(full))
    squares, broken = _per_segment(xp, full * full, xp.isfinite(full), s.place, starts.shape[0])
    return xp.stack((squares, broken, _penalties(xp, table, s.place, w)))


def _per_segment(xp: Any, values: Any, finite: Any, place: Any, count: int) -> Any:
    """Sum values over segments, and count the elements that are not finite; NaN where there are any."""
    nothing = xp.zeros_like(values)
    total = xp.scatter_add(xp.where(finite, values, nothing), place, shape=(count,), axis=0)
    broken = xp.scatter_add(xp.where(finite, nothing, nothing + 1.0), place, shape=(count,), axis=0)
    return xp.where(broken > 0, total * float("nan"), total), broken


def _penalties(xp: Any, table: Any, place: Any, w: Any) -> Any:
    wide = xp.astype(w, xp.float64)
    finite = xp.isfinite(wide)
    count = table.shape[1]
    absolute, _ = _per_segment(xp, xp.abs(wide), finite, place, count)
    square, _ = _per_segment(xp, wide * wide, finite, place, count)
    nothing = xp.zeros_like(absolute)
    # where, not a product: a weight that is not finite and has no penalty adds nothing
    l1 = xp.where(table[L1] > 0, table[L1] * absolute, nothing)
    l2 = xp.where(table[L2] > 0, table[L2] * square, nothing)
    return xp.where(table[TRAINABLE] > 0, l1 + l2, nothing)


def clip_control(xp: Any, control: Any, *statistics: Any) -> Any:
    """Finish the control array of a step from the statistics of all flat buffers.

    ``norm = sqrt(sum of squares)``, ``factor = min(1, clip_norm / norm)``; nothing is applied where a value is not
    finite and ``control[SKIP]`` is 1. Pascanu, Mikolov and Bengio, ICML 2013.
    """
    zero = xp.zeros_like(control[:1])
    squares, broken, penalty = zero, zero, zero
    for rows in statistics:
        squares = squares + xp.sum(rows[SQUARES])
        broken = broken + xp.sum(rows[BROKEN])
        penalty = penalty + xp.sum(rows[PENALTIES])
    norm = xp.sqrt(squares)
    limit = control[CLIP_NORM : CLIP_NORM + 1]
    one = xp.ones_like(norm)
    # where clipping is on, a norm that is NaN makes the factor NaN: without SKIP it reaches the weights, as in PyTorch
    within = xp.logical_or(norm <= limit, limit == float("inf"))
    factor = xp.where(within, one, limit / xp.where(within, one, norm))
    apply = xp.where(xp.logical_and(control[SKIP : SKIP + 1] > 0, broken > 0), zero, one)
    return xp.concat((control[:FACTOR], factor, apply, norm, penalty))


def weight_penalty(xp: Any, table: Any, starts: Any, w: Any) -> Any:
    """Sum the penalties ``l1 sum|w| + l2 sum w^2`` of all trainable segments, in float64."""
    place = xp.searchsorted(starts, xp.arange(w.shape[0]), side="right") - 1
    return xp.sum(_penalties(xp, table, place, w))


def average_update(xp: Any, control: Any, average: Any, w: Any, *, decay: float) -> Any:
    """Exponential moving average of the weights: ``a += (1 - decay) (w - a)``, where the step is applied.

    Polyak and Juditsky 1992, in the exponential form.
    """
    return xp.where(control[APPLY : APPLY + 1] > 0, average + (1.0 - decay) * (w - average), average)


# -- shapes and samples ----------------------------------------------------------------------------------------------


def _check(name: str, shapes: Any, dtypes: Any, names: tuple[str, ...]) -> None:
    given = dict(zip(names, zip(shapes, dtypes, strict=True), strict=True))
    for small in ("control", "table", "progress"):
        if small in given:
            need_floating(f"{name}: {small}", given[small][1])
    if "control" in given and given["control"][0] != (CONTROL_SIZE,):
        got = show_shape(given["control"][0])
        raise ValueError(f"{name}: control must have {CONTROL_SIZE} numbers; got shape {got}")
    if "starts" in given:
        shape, dtype = given["starts"]
        if len(shape) != 1 or dtype.kind not in "iu":
            raise ValueError(f"{name}: starts must be a row of whole numbers; got {dtype} {show_shape(shape)}")
        for small, rows in (("table", TABLE_ROWS), ("progress", 2)):
            if small in given and given[small][0] != (rows, shape[0]):
                raise ValueError(
                    f"{name}: {small} must have shape ({rows}, {shape[0]}), one column per start; "
                    f"got {show_shape(given[small][0])}"
                )
    flat, dtype = given["w"]
    if len(flat) != 1 or dtype.name not in ("float32", "float64"):
        raise TypeError(f"{name}: w must be a flat buffer of float32 or float64; got {dtype} {show_shape(flat)}")
    for other in names[names.index("w") + 1 :]:
        if other == "g" and dtype == np.float32 and given[other][0] == flat and is_half(given[other][1]):
            continue
        if given[other] != (flat, dtype):
            raise ValueError(
                f"{name}: {other} must match w, {dtype} {show_shape(flat)}; "
                f"got {given[other][1]} {show_shape(given[other][0])}"
            )


_SMALL = ("control", "table", "starts", "progress", "w", "g")


def _infer_rule(name: str, states: tuple[str, ...]) -> Callable[..., tuple[Form, ...]]:
    names = (*_SMALL, *states)

    def infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
        _check(name, shapes, dtypes, names)
        flat = Form(shapes[4], dtypes[4])
        copy = () if dtypes[5] == dtypes[4] else (Form(shapes[4], dtypes[5]),)
        return (Form(shapes[3], dtypes[3]), flat, *(flat for _ in states), *copy)

    return infer


def _draw_flat(rng: np.random.Generator, lengths: tuple[int, ...], **control: Any) -> tuple[np.ndarray, ...]:
    """Draw control, table, starts, progress, w, g for segments of these lengths."""
    count, size = len(lengths), sum(lengths)
    table = np.ones((TABLE_ROWS, count))
    table[MULTIPLIER] = rng.choice([1.0, 0.5], count)
    for row in (DECAY, L1, L2):
        table[row] = rng.choice([0.0, 0.0, 0.01, 0.1], count)
    starts = np.array([0, *np.cumsum(lengths)[:-1]][:count], np.int64)
    progress = np.stack([rng.integers(0, 4, count).astype(float), rng.uniform(0.2, 0.9, count)])
    small = (host_control(3, 0.01, **control), table, starts, progress)
    return (*small, rng.standard_normal(size), rng.standard_normal(size))


def _rule_samples(states: tuple[str, ...], *choices: dict[str, Any]) -> Callable[..., Iterator[Sample]]:
    """Draw segments alike and unlike, frozen, untouched, clipped, skipped; states with a name in capitals are >= 0."""

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        def complete(flat: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            drawn: list[np.ndarray] = [rng.standard_normal(flat[4].shape) for _ in states]
            return flat + tuple(np.abs(d) + 0.05 if s.isupper() else d for s, d in zip(states, drawn, strict=True))

        for attrs in choices:
            yield Sample(complete(_draw_flat(rng, (3, 1, 5))), attrs, gradient=False)
            alike = _draw_flat(rng, (16, 2))
            alike[1][:] = alike[1][:, :1]
            alike[3][:] = alike[3][:, :1]
            yield Sample(complete(alike), attrs, gradient=False)
            idle = _draw_flat(rng, (4, 3, 2, 2), scale=0.5, clip_value=0.3)
            idle[1][TRAINABLE, 1] = 0.0
            idle[1][TOUCHED, 2] = 0.0
            yield Sample(complete(idle), attrs, gradient=False)
            clipped = _draw_flat(rng, (1, 30))
            clipped[0][FACTOR] = 0.25
            yield Sample(complete(clipped), attrs, gradient=False)
        attrs = choices[0]
        skipped = _draw_flat(rng, (2, 2))
        skipped[0][APPLY] = 0.0
        yield Sample(complete(skipped), attrs, gradient=False)
        yield Sample(complete(_draw_flat(rng, ())), attrs, gradient=False)
        yield Sample(complete(_draw_flat(rng, (1,))), attrs, gradient=False)
        fresh = _draw_flat(rng, (20000, 3))  # longer than a block of a kernel that works in blocks
        fresh[3][AGE] = 0.0
        fresh[3][PRODUCT] = 1.0
        yield Sample(complete(fresh), attrs, gradient=False)

    return samples


def _rule_errors(states: tuple[str, ...], attrs: dict[str, Any]) -> Callable[[], list[BadInput]]:
    def errors() -> list[BadInput]:
        flat = _draw_flat(np.random.default_rng(0), (2, 3))
        good = (*flat, *(np.zeros(5) for _ in states))
        return [
            BadInput((np.zeros(4), *good[1:]), attrs, ValueError, "control must have"),
            BadInput((good[0], np.ones((TABLE_ROWS, 3)), *good[2:]), attrs, ValueError, "one column per start"),
            BadInput((*good[:4], np.zeros((5, 1)), *good[5:]), attrs, TypeError, "flat buffer"),
            BadInput((*good[:5], np.zeros(4), *good[6:]), attrs, ValueError, "g must match w"),
        ]

    return errors


def _define_rule(reference: Any, states: tuple[str, ...], *choices: dict[str, Any]) -> Any:
    """Define an update rule; `choices` are attributes to sample."""
    name = reference.__name__
    given = choices or ({},)
    pairs = ((0, 3), (1, 4), *((2 + i, 6 + i) for i in range(len(states))))
    return define(
        reference, infer=_infer_rule(name, tuple(s.lower() for s in states)), samples=_rule_samples(states, *given),
        errors=_rule_errors(states, given[0]), differentiable=(), inplace=pairs, tolerance=_TOLERANCE,
    )


SGD_UPDATE = _define_rule(sgd_update, ())
MOMENTUM_UPDATE = _define_rule(
    momentum_update, ("velocity",), {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}
)
ADAGRAD_UPDATE = _define_rule(adagrad_update, ("TOTAL",))
RMSPROP_UPDATE = _define_rule(rmsprop_update, ("SQUARE",), {}, {"rho": 0.5, "epsilon": 0.1})
RMSPROP_MOMENTUM_UPDATE = _define_rule(rmsprop_momentum_update, ("SQUARE", "velocity"), {"momentum": 0.9})
ADADELTA_UPDATE = _define_rule(adadelta_update, ("SQUARE", "CHANGE"))
ADAM_UPDATE = _define_rule(adam_update, ("m", "V"), {}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3})
ADAMW_UPDATE = _define_rule(adamw_update, ("m", "V"))
NADAM_UPDATE = _define_rule(nadam_update, ("m", "V"))
LION_UPDATE = _define_rule(lion_update, ("m",))


def _statistics_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _check("gradient_statistics", shapes, dtypes, ("control", "table", "starts", "w", "g"))
    return (Form((3, shapes[2][0]), np.dtype(np.float64)),)


def _statistics_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for lengths in ((3, 1, 5), (20000,), (9,), ()):
        control, table, starts, _, w, g = _draw_flat(rng, lengths, scale=0.5)
        yield Sample((control, table, starts, w, g), gradient=False)
    control, table, starts, _, w, g = _draw_flat(rng, (4, 3, 2, 2))
    table[TRAINABLE, 1] = 0.0
    table[TOUCHED, 2] = 0.0
    g[[0, 2, 5, 10]] = np.nan, np.inf, np.nan, -np.inf
    table[L1:, 0] = 0.0
    yield Sample((control, table, starts, w, g), gradient=False)


GRADIENT_STATISTICS = define(
    gradient_statistics, infer=_statistics_infer, samples=_statistics_samples, differentiable=()
)


def _clip_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    if shapes[0] != (CONTROL_SIZE,) or any(len(s) != 2 or s[0] != 3 for s in shapes[1:]):
        raise ValueError(f"clip_control: expected {CONTROL_SIZE} numbers and (3, segments) arrays; got {list(shapes)}")
    return (Form(shapes[0], dtypes[0]),)


def _clip_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for limit in (0.5, 100.0, np.inf):
        for skip in (False, True):
            control = host_control(1, 0.1, clip_norm=limit, skip=skip)
            rows = np.abs(rng.standard_normal((3, 4)))
            yield Sample((control, rows), gradient=False)
            rows[BROKEN] = 0.0
            yield Sample((control, rows, np.zeros((3, 0))), gradient=False)
    yield Sample((host_control(1, 0.1, clip_norm=1.0), np.zeros((3, 2))), gradient=False)


CLIP_CONTROL = define(
    clip_control, infer=_clip_infer, samples=_clip_samples, differentiable=(), inplace=((0, 0),),
    errors=lambda: [BadInput((np.zeros(3), np.zeros((3, 1))), {}, ValueError, "expected 10 numbers")],
)


def _penalty_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _check("weight_penalty", shapes, dtypes, ("table", "starts", "w"))
    return (Form((), np.dtype(np.float64)),)


def _penalty_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for lengths in ((3, 1, 5), (20000, 2), ()):
        _, table, starts, _, w, _ = _draw_flat(rng, lengths)
        table[TRAINABLE, :1] = 0.0
        yield Sample((table, starts, w), gradient=False)


WEIGHT_PENALTY = define(weight_penalty, infer=_penalty_infer, samples=_penalty_samples, differentiable=())


def _average_infer(shapes: Any, dtypes: Any, *, decay: float) -> tuple[Form, ...]:
    _check("average_update", shapes, dtypes, ("control", "w", "average"))
    return (Form(shapes[1], dtypes[1]),)


def _average_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for size in (0, 1, 7, 20000):
        control = host_control(1, 0.1)
        pair = (rng.standard_normal(size), rng.standard_normal(size))
        yield Sample((control, *pair), {"decay": 0.9}, gradient=False)
    control[APPLY] = 0.0
    yield Sample((control, rng.standard_normal(5), rng.standard_normal(5)), {"decay": 0.5}, gradient=False)


AVERAGE_UPDATE = define(
    average_update, infer=_average_infer, samples=_average_samples, differentiable=(), inplace=((0, 1),)
)
