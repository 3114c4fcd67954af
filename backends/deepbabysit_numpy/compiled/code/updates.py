"""Update rules: everything that happens to an element of the flat buffers happens while it is in a register.

The rules round as the plain kernels do, operation by operation: memory is what they wait for, and so neither the size
of a network nor whether its step is a program shows in its weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import exact, jit

_LARGE = 1e60  # a sum of squares of float32 values that are finite may be larger, and is looked at again


@jit
def _sign(x: Any, one: Any) -> Any:
    """Return the sign; 0 and NaN stay as they are."""
    return one if x > 0 else -one if x < 0 else x


@exact
def _direction(x: Any, one: Any) -> Any:
    """Return the sign as NumPy does: 0 for both zeros; NaN stays as it is."""
    return one if x > 0 else -one if x < 0 else one - one if x == 0 else x


@exact
def _limited(
    g: Any, w: Any, scale: Any, factor: Any, both: Any, limit: Any, l1: Any, l2: Any, decay: Any, one: Any
) -> Any:
    """Return the gradient that the rule uses; NaN passes through, and what is 0 is not added."""
    none = one - one
    v = g * scale
    v = v + w * l2 if l2 != none else v
    v = v + _direction(w, one) * l1 if l1 != none else v
    v = v * factor if l1 != none or l2 != none else g * both
    v = -limit if v < -limit else v
    v = limit if v > limit else v
    return v + w * decay if decay != none else v


@exact
def sgd(w: Any, g: Any, own: Any, common: Any, plain: Any) -> None:
    """``w -= rate g``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate = real(own[0])
    for i in range(w.size):
        v = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        w[i] -= rate * v


@exact
def momentum(w: Any, g: Any, velocity: Any, own: Any, common: Any, plain: Any) -> None:
    """``v = mu v + g; w -= rate v``, or Nesterov's form."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, mu, ahead = real(own[0]), real(own[1]), own[2] != 0.0
    for i in range(w.size):
        v = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        new = velocity[i] * mu + v
        velocity[i] = new
        w[i] -= rate * (new * mu + v if ahead else new)


@exact
def rmsprop(w: Any, g: Any, square: Any, own: Any, common: Any, plain: Any) -> None:
    """``s = rho s + (1 - rho) g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, rho, epsilon, rest = real(own[0]), real(own[1]), real(own[2]), real(1.0 - own[1])
    for i in range(w.size):
        v = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (v * v)
        square[i] = s
        w[i] -= rate * (v / (math.sqrt(s) + epsilon))


@exact
def adam(w: Any, g: Any, m: Any, v: Any, own: Any, common: Any, plain: Any) -> None:
    """Both moments and the step, with the corrections folded into `rate` and `epsilon`."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    b1, b2, epsilon, rate, kept = real(own[0]), real(own[1]), real(own[2]), real(own[3]), real(own[4])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        w[i] = kept * w[i] - rate * (first / (math.sqrt(second) + epsilon))


@exact
def adagrad(w: Any, g: Any, total: Any, own: Any, common: Any, plain: Any) -> None:
    """``s += g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, epsilon = real(own[0]), real(own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        s = total[i] + d * d
        total[i] = s
        w[i] -= rate * (d / (math.sqrt(s) + epsilon))


@exact
def rmsprop_momentum(w: Any, g: Any, square: Any, velocity: Any, own: Any, common: Any, plain: Any) -> None:
    """``v = mu v + g / (sqrt(s) + eps); w -= rate v``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, rho, epsilon, mu = real(own[0]), real(own[1]), real(own[2]), real(own[3])
    rest = real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (d * d)
        square[i] = s
        moved = mu * velocity[i] + d / (math.sqrt(s) + epsilon)
        velocity[i] = moved
        w[i] -= rate * moved


@exact
def adadelta(w: Any, g: Any, square: Any, change: Any, own: Any, common: Any, plain: Any) -> None:
    """``d = sqrt(u + eps) / sqrt(s + eps) g; w -= rate d``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, rho, epsilon, rest = real(own[0]), real(own[1]), real(own[2]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (d * d)
        square[i] = s
        step = d / math.sqrt(s + epsilon) * math.sqrt(change[i] + epsilon)
        change[i] = rho * change[i] + rest * (step * step)
        w[i] -= rate * step


@exact
def nadam(w: Any, g: Any, m: Any, v: Any, own: Any, common: Any, plain: Any) -> None:
    """Both moments and the step, a mix of gradient and moment."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    b1, b2, epsilon, by_gradient, by_moment = real(own[0]), real(own[1]), real(own[2]), real(own[3]), real(own[4])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        w[i] -= (by_gradient * d + by_moment * first) / (math.sqrt(second) + epsilon)


@exact
def lion(w: Any, g: Any, m: Any, own: Any, common: Any, plain: Any) -> None:
    """The sign of a mix of moment and gradient: ``m + (1 - b1) (g - m)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    both = real(common[0] * common[1])
    rate, kept = real(own[2]), real(own[3])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * both if plain else _limited(g[i], w[i], scale, factor, both, limit, l1, l2, decay, one)
        old = m[i]
        m[i] = old + (d - old) * c2
        w[i] = kept * w[i] - rate * _direction((d - old) * c1 + old, one)


@jit
def average(out: Any, w: Any, part: Any) -> None:
    """``a += (1 - decay) (w - a)``."""
    share = w.dtype.type(part)
    for i in range(w.size):
        out[i] += share * (w[i] - out[i])


@jit
def _squares(w: Any, g: Any, scale: Any, l1: Any, l2: Any) -> Any:
    """Return the sum of squares of the gradient with that of the penalties, in float64."""
    total = 0.0
    if l1 == 0.0 and l2 == 0.0:
        for i in range(g.size):
            d = np.float64(g[i]) * scale
            total += d * d
    else:
        for i in range(g.size):
            v = np.float64(w[i])
            d = np.float64(g[i]) * scale + l1 * _sign(v, 1.0) + 2.0 * l2 * v
            total += d * d
    return total


@jit
def _broken(w: Any, g: Any, scale: Any, l1: Any, l2: Any) -> Any:
    """Count the values of the gradient that are not finite in its dtype."""
    real = w.dtype.type
    count = 0
    for i in range(g.size):
        v = np.float64(w[i])
        d = np.float64(g[i]) * scale + l1 * _sign(v, 1.0) + 2.0 * l2 * v
        count += 0 if abs(real(d)) < np.inf else 1  # math.isfinite is d - d == 0, which "reassoc" may fold
    return count


@jit
def _penalty(w: Any, l1: Any, l2: Any) -> Any:
    """Return ``l1 sum|w| + l2 sum w^2`` in float64; NaN where a weight is not finite."""
    absolute, square = 0.0, 0.0
    for i in range(w.size):
        v = abs(np.float64(w[i]))
        absolute += v
        square += v * v
    found = l1 * absolute + l2 * square
    return found if absolute < np.inf else np.nan


@jit
def statistics(control: Any, table: Any, starts: Any, w: Any, g: Any, out: Any) -> None:
    """Write squares, values that are not finite and penalties of each segment."""
    scale = control[2]
    for k in range(starts.size):
        begin = starts[k]
        end = starts[k + 1] if k + 1 < starts.size else w.size
        trainable, touched, l1, l2 = table[0, k], table[1, k], table[4, k], table[5, k]
        out[0, k], out[1, k], out[2, k] = 0.0, 0.0, 0.0
        if trainable != 0.0 and touched != 0.0:
            squares = _squares(w[begin:end], g[begin:end], scale, l1, l2)
            if not squares < _LARGE:
                out[1, k] = _broken(w[begin:end], g[begin:end], scale, l1, l2)
            out[0, k] = squares if out[1, k] == 0.0 else np.nan
        if trainable != 0.0 and (l1 != 0.0 or l2 != 0.0):
            out[2, k] = _penalty(w[begin:end], l1, l2)


@jit
def penalty(table: Any, starts: Any, w: Any, out: Any) -> None:
    """Sum the penalties of all trainable segments."""
    total = 0.0
    for k in range(starts.size):
        end = starts[k + 1] if k + 1 < starts.size else w.size
        if table[0, k] != 0.0 and (table[4, k] != 0.0 or table[5, k] != 0.0):
            total += _penalty(w[starts[k] : end], table[4, k], table[5, k])
    out[0] = total
