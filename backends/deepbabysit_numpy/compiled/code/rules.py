"""Update rules: everything that happens to an element of the flat buffers happens while it is in a register.

The rules round as the plain kernels do, operation by operation: memory is what they wait for, and so neither the size
of a network nor the number of threads nor whether its step is a program shows in its weights.

`plan` is (control, table, starts, before, progress), laid out as in `deepbabysit.kernels.updates`; `own` are the rule's
settings. A team divides the buffers by elements: every part reads the progress `before`, and writes the same new one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import exact

_RATE, _SCALE, _CLIP_VALUE, _FACTOR, _APPLY = 1, 2, 4, 6, 7
_TRAINABLE, _TOUCHED, _MULTIPLIER, _DECAY, _L1, _L2 = range(6)
_AGE, _PRODUCT = 0, 1
_LINE = 64  # bytes of a cache line: no two threads write into the same one


@exact
def cut(part: Any, parts: Any, w: Any) -> Any:
    """Return the first element of a part, and the one after its last."""
    size, line = w.size, _LINE // w.itemsize
    lines = (size + line - 1) // line
    return lines * part // parts * line, min(lines * (part + 1) // parts * line, size)


@exact
def _segment(part: Any, parts: Any, plan: Any, w: Any, k: Any, coupled: Any) -> Any:
    """Count the step of a segment; returns its elements in this part, its age, its rate, what is done to gradients.

    The end is the beginning where nothing is to be done; the age is 0 where that holds for every part. `coupled`: the
    decay belongs to the gradient.
    """
    control, table, starts, before, progress = plan
    begin, age, rate = starts[k], 0.0, control[_RATE] * table[_MULTIPLIER, k]
    end = begin
    if control[_APPLY] != 0.0 and table[_TRAINABLE, k] != 0.0 and table[_TOUCHED, k] != 0.0:
        age = before[_AGE, k] + 1.0
        progress[_AGE, k] = age
        first, last = cut(part, parts, w)
        end = starts[k + 1] if k + 1 < starts.size else w.size
        begin = max(begin, first)
        end = max(min(end, last), begin)
    return begin, end, age, rate, _common(control, table, k, coupled, w)


@exact
def _common(control: Any, table: Any, k: Any, coupled: Any, w: Any) -> Any:
    """Return what every rule does to a gradient, in the dtype of the weights, and whether that is only a factor."""
    real = w.dtype.type
    l1, l2, limit = table[_L1, k], table[_L2, k], control[_CLIP_VALUE]
    decay = table[_DECAY, k] if coupled else 0.0
    scale, factor = control[_SCALE], control[_FACTOR]
    plain = l1 == 0.0 and l2 == 0.0 and decay == 0.0 and limit == np.inf
    numbers = (
        real(scale * factor), real(scale), real(factor), real(limit), real(l1), real(2.0 * l2), real(decay), real(1.0)
    )
    return numbers, plain


@exact
def _direction(x: Any, one: Any) -> Any:
    """Return the sign as NumPy does: 0 for both zeros; NaN stays as it is."""
    return one if x > 0 else -one if x < 0 else one - one if x == 0 else x


@exact
def _limited(g: Any, w: Any, common: Any) -> Any:
    """Return the gradient that the rule uses; NaN passes through, and what is 0 is not added."""
    both, scale, factor, limit, l1, l2, decay, one = common
    none = one - one
    v = g * scale
    v = v + w * l2 if l2 != none else v
    v = v + _direction(w, one) * l1 if l1 != none else v
    v = v * factor if l1 != none or l2 != none else g * both
    v = -limit if v < -limit else v
    v = limit if v > limit else v
    return v + w * decay if decay != none else v


@exact
def _gradient(g: Any, w: Any, common: Any) -> Any:
    numbers, plain = common
    return g * numbers[0] if plain else _limited(g, w, numbers)


@exact
def sgd(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``w -= rate g``."""
    real = w.dtype.type
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes = w[a:b], g[a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            weights[i] -= step * d


@exact
def momentum(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``v = mu v + g; w -= rate v``, or Nesterov's form: `own` is (momentum, nesterov)."""
    real = w.dtype.type
    mu, ahead = real(own[0]), own[1] != 0.0
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes, velocity = w[a:b], g[a:b], states[0][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            new = velocity[i] * mu + d
            velocity[i] = new
            weights[i] -= step * (new * mu + d if ahead else new)


@exact
def adagrad(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``s += g^2; w -= rate g / (sqrt(s) + eps)``: `own` is (epsilon,)."""
    real = w.dtype.type
    epsilon = real(own[0])
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes, total = w[a:b], g[a:b], states[0][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            s = total[i] + d * d
            total[i] = s
            weights[i] -= step * (d / (math.sqrt(s) + epsilon))


@exact
def rmsprop(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``s = rho s + (1 - rho) g^2; w -= rate g / (sqrt(s) + eps)``: `own` is (rho, epsilon)."""
    real = w.dtype.type
    rho, rest, epsilon = real(own[0]), real(1.0 - own[0]), real(own[1])
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes, square = w[a:b], g[a:b], states[0][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            s = rho * square[i] + rest * (d * d)
            square[i] = s
            weights[i] -= step * (d / (math.sqrt(s) + epsilon))


@exact
def rmsprop_momentum(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``v = mu v + g / (sqrt(s) + eps); w -= rate v``: `own` is (rho, epsilon, momentum)."""
    real = w.dtype.type
    rho, rest, epsilon, mu = real(own[0]), real(1.0 - own[0]), real(own[1]), real(own[2])
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes, square, velocity = w[a:b], g[a:b], states[0][a:b], states[1][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            s = rho * square[i] + rest * (d * d)
            square[i] = s
            moved = mu * velocity[i] + d / (math.sqrt(s) + epsilon)
            velocity[i] = moved
            weights[i] -= step * moved


@exact
def adadelta(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """``d = sqrt(u + eps) / sqrt(s + eps) g; w -= rate d``: `own` is (rho, epsilon)."""
    real = w.dtype.type
    rho, rest, epsilon = real(own[0]), real(1.0 - own[0]), real(own[1])
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, True)
        step = real(rate)
        weights, slopes, square, change = w[a:b], g[a:b], states[0][a:b], states[1][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            s = rho * square[i] + rest * (d * d)
            square[i] = s
            moved = d / math.sqrt(s + epsilon) * math.sqrt(change[i] + epsilon)
            change[i] = rho * change[i] + rest * (moved * moved)
            weights[i] -= step * moved


@exact
def adam(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """Adam, and AdamW: `own` is (beta_1, beta_2, epsilon, whether decay is apart from the gradient)."""
    real = w.dtype.type
    b1, b2, c1, c2 = real(own[0]), real(own[1]), real(1.0 - own[0]), real(1.0 - own[1])
    for k in range(plan[2].size):
        a, b, age, rate, common = _segment(part, parts, plan, w, k, False)
        root = math.sqrt(1.0 - own[1] ** age)  # the corrections are folded into rate and epsilon
        epsilon, step = real(own[2] * root), real(rate * root / (1.0 - own[0] ** age))
        kept = real(1.0 - rate * plan[1][_DECAY, k] if own[3] != 0.0 else 1.0)
        weights, slopes, m, v = w[a:b], g[a:b], states[0][a:b], states[1][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            first = b1 * m[i] + c1 * d
            second = b2 * v[i] + c2 * (d * d)
            m[i] = first
            v[i] = second
            weights[i] = kept * weights[i] - step * (first / (math.sqrt(second) + epsilon))


@exact
def nadam(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """NAdam: `own` is (beta_1, beta_2, epsilon, momentum decay)."""
    real = w.dtype.type
    b1, b2, c1, c2 = real(own[0]), real(own[1]), real(1.0 - own[0]), real(1.0 - own[1])
    for k in range(plan[2].size):
        a, b, age, rate, common = _segment(part, parts, plan, w, k, False)
        mu = own[0] * (1.0 - 0.5 * 0.96 ** (age * own[3]))
        following = own[0] * (1.0 - 0.5 * 0.96 ** ((age + 1.0) * own[3]))
        product = plan[3][_PRODUCT, k] * mu
        if age != 0.0:
            plan[4][_PRODUCT, k] = product
        root = math.sqrt(1.0 - own[1] ** age)
        epsilon = real(own[2] * root)
        by_gradient = real(rate * root * (1.0 - mu) / (1.0 - product))
        by_moment = real(rate * root * following / (1.0 - product * following))
        weights, slopes, m, v = w[a:b], g[a:b], states[0][a:b], states[1][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            first = b1 * m[i] + c1 * d
            second = b2 * v[i] + c2 * (d * d)
            m[i] = first
            v[i] = second
            weights[i] -= (by_gradient * d + by_moment * first) / (math.sqrt(second) + epsilon)


@exact
def lion(part: Any, parts: Any, plan: Any, w: Any, g: Any, states: Any, own: Any) -> None:
    """The sign of a mix of moment and gradient, ``m + (1 - b1) (g - m)``: `own` is (beta_1, beta_2)."""
    real = w.dtype.type
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for k in range(plan[2].size):
        a, b, _, rate, common = _segment(part, parts, plan, w, k, False)
        step, kept, one = real(rate), real(1.0 - rate * plan[1][_DECAY, k]), real(1.0)
        weights, slopes, m = w[a:b], g[a:b], states[0][a:b]
        for i in range(weights.size):
            d = _gradient(slopes[i], weights[i], common)
            old = m[i]
            m[i] = old + (d - old) * c2
            weights[i] = kept * weights[i] - step * _direction((d - old) * c1 + old, one)


@exact
def average(part: Any, parts: Any, out: Any, w: Any, share: Any) -> None:
    """``a += (1 - decay) (w - a)``; `share` is ``1 - decay``."""
    a, b = cut(part, parts, w)
    means, weights, step = out[a:b], w[a:b], w.dtype.type(share)
    for i in range(means.size):
        means[i] += step * (weights[i] - means[i])
