"""Update rules: everything that happens to an element of the flat buffers happens while it is in a register.

For each rule a loop over elements (named with an underscore), and what users call: a loop over segments, which turns
the small arrays into the numbers of a segment. `kernels.updates` says what the small arrays hold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit

_LARGE = 1e60  # a sum of squares of float32 values that are finite may be larger, and is looked at again

# places in the control array, rows of the table and of the progress (constants: compiled code is kept with its sources)
_RATE, _SCALE, _CLIP_VALUE, _FACTOR, _APPLY = 1, 2, 4, 6, 7
_TRAINABLE, _TOUCHED, _MULTIPLIER, _DECAY, _L1, _L2 = range(6)
_AGE, _PRODUCT = 0, 1


@jit
def _part(control: Any, table: Any, starts: Any, k: Any, size: Any) -> Any:
    """Return where a segment begins and ends; it is empty where nothing is to be done."""
    begin = starts[k]
    end = starts[k + 1] if k + 1 < starts.size else size
    idle = table[_TRAINABLE, k] == 0.0 or table[_TOUCHED, k] == 0.0 or control[_APPLY] == 0.0
    return begin, begin if idle else end


@jit
def _common(control: Any, table: Any, k: Any, coupled: Any) -> Any:
    """Return what happens to a segment's gradient, and whether that is no more than a factor."""
    scale, factor, limit = control[_SCALE], control[_FACTOR], control[_CLIP_VALUE]
    l1, l2 = table[_L1, k], table[_L2, k]
    decay = table[_DECAY, k] if coupled else 0.0
    plain = l1 == 0.0 and l2 == 0.0 and decay == 0.0 and limit == np.inf
    return (scale * factor if plain else scale, factor, limit, l1, 2.0 * l2, decay), plain


@jit
def _sign(x: Any, one: Any) -> Any:
    """Return the sign; 0 and NaN stay as they are."""
    return one if x > 0 else -one if x < 0 else x


@jit
def _limited(g: Any, w: Any, scale: Any, factor: Any, limit: Any, l1: Any, l2: Any, decay: Any, one: Any) -> Any:
    """Return the gradient that the rule uses; NaN passes through."""
    g = (g * scale + l1 * _sign(w, one) + l2 * w) * factor
    g = limit if g > limit else g
    g = -limit if g < -limit else g
    return g + decay * w


@jit
def _sgd(w: Any, g: Any, own: Any, common: Any, plain: Any) -> None:
    """``w -= rate g``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate = real(own[0])
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        w[i] -= rate * v


@jit
def _momentum(w: Any, g: Any, velocity: Any, own: Any, common: Any, plain: Any) -> None:
    """``v = mu v + g; w -= rate v``, or Nesterov's form."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate, mu, ahead = real(own[0]), real(own[1]), own[2] != 0.0
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        new = velocity[i] * mu + v
        velocity[i] = new
        w[i] -= rate * (new * mu + v if ahead else new)


@jit
def _rmsprop(w: Any, g: Any, square: Any, own: Any, common: Any, plain: Any) -> None:
    """``s = rho s + (1 - rho) g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate, rho, epsilon, rest = real(own[0]), real(own[1]), real(own[2]), real(1.0 - own[1])
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (v * v)
        square[i] = s
        w[i] -= rate * (v / (math.sqrt(s) + epsilon))


@jit
def _adam(w: Any, g: Any, m: Any, v: Any, own: Any, common: Any, plain: Any) -> None:
    """Both moments and the step, with the corrections folded into `rate` and `epsilon`."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    b1, b2, epsilon, rate, kept = real(own[0]), real(own[1]), real(own[2]), real(own[3]), real(own[4])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        w[i] = kept * w[i] - rate * (first / (math.sqrt(second) + epsilon))


@jit
def _adagrad(w: Any, g: Any, total: Any, own: Any, common: Any, plain: Any) -> None:
    """``s += g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate, epsilon = real(own[0]), real(own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        s = total[i] + d * d
        total[i] = s
        w[i] -= rate * (d / (math.sqrt(s) + epsilon))


@jit
def _rmsprop_momentum(w: Any, g: Any, square: Any, velocity: Any, own: Any, common: Any, plain: Any) -> None:
    """``v = mu v + g / (sqrt(s) + eps); w -= rate v``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate, rho, epsilon, mu = real(own[0]), real(own[1]), real(own[2]), real(own[3])
    rest = real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (d * d)
        square[i] = s
        moved = mu * velocity[i] + d / (math.sqrt(s) + epsilon)
        velocity[i] = moved
        w[i] -= rate * moved


@jit
def _adadelta(w: Any, g: Any, square: Any, change: Any, own: Any, common: Any, plain: Any) -> None:
    """``d = sqrt(u + eps) / sqrt(s + eps) g; w -= rate d``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    rate, rho, epsilon, rest = real(own[0]), real(own[1]), real(own[2]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        s = rho * square[i] + rest * (d * d)
        square[i] = s
        step = math.sqrt(change[i] + epsilon) / math.sqrt(s + epsilon) * d
        change[i] = rho * change[i] + rest * (step * step)
        w[i] -= rate * step


@jit
def _nadam(w: Any, g: Any, m: Any, v: Any, own: Any, common: Any, plain: Any) -> None:
    """Both moments and the step, a mix of gradient and moment."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    b1, b2, epsilon, by_gradient, by_moment = real(own[0]), real(own[1]), real(own[2]), real(own[3]), real(own[4])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        w[i] -= (by_gradient * d + by_moment * first) / (math.sqrt(second) + epsilon)


@jit
def _lion(w: Any, g: Any, m: Any, own: Any, common: Any, plain: Any) -> None:
    """The sign of a mix of moment and gradient."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay, one = real(common[3]), real(common[4]), real(common[5]), real(1.0)
    b1, b2, rate, kept = real(own[0]), real(own[1]), real(own[2]), real(own[3])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay, one)
        old = m[i]
        m[i] = b2 * old + c2 * d
        w[i] = kept * w[i] - rate * _sign(b1 * old + c1 * d, one)


# -- over segments -----------------------------------------------------------------------------------------------------

@jit
def sgd(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any,
) -> None:
    """Gradient descent."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _sgd(w[a:b], g[a:b], (rate, 0.0), common, plain)
            progress[_AGE, k] = age


@jit
def momentum(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, velocity: Any, mu: Any, ahead: Any,
) -> None:
    """Descent with momentum."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _momentum(w[a:b], g[a:b], velocity[a:b], (rate, mu, ahead), common, plain)
            progress[_AGE, k] = age


@jit
def adagrad(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, total: Any, epsilon: Any,
) -> None:
    """Adagrad."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _adagrad(w[a:b], g[a:b], total[a:b], (rate, epsilon), common, plain)
            progress[_AGE, k] = age


@jit
def rmsprop(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any, rho: Any, epsilon: Any,
) -> None:
    """RMSprop."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _rmsprop(w[a:b], g[a:b], square[a:b], (rate, rho, epsilon), common, plain)
            progress[_AGE, k] = age


@jit
def rmsprop_momentum(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any, velocity: Any, rho: Any,
    epsilon: Any, mu: Any,
) -> None:
    """RMSprop with momentum."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _rmsprop_momentum(w[a:b], g[a:b], square[a:b], velocity[a:b], (rate, rho, epsilon, mu), common, plain)
            progress[_AGE, k] = age


@jit
def adadelta(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, square: Any, change: Any, rho: Any,
    epsilon: Any,
) -> None:
    """Adadelta."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, True)
            _adadelta(w[a:b], g[a:b], square[a:b], change[a:b], (rate, rho, epsilon), common, plain)
            progress[_AGE, k] = age


@jit
def adam(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, v: Any, b1: Any, b2: Any,
    epsilon: Any, decoupled: Any,
) -> None:
    """Adam, or AdamW where `decoupled` is 1; the bias corrections are folded into rate and epsilon."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            root = math.sqrt(1.0 - b2**age)
            kept = 1.0 - decoupled * rate * table[_DECAY, k]
            own = (b1, b2, epsilon * root, rate * root / (1.0 - b1**age), kept)
            common, plain = _common(control, table, k, False)
            _adam(w[a:b], g[a:b], m[a:b], v[a:b], own, common, plain)
            progress[_AGE, k] = age


@jit
def nadam(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, v: Any, b1: Any, b2: Any,
    epsilon: Any, psi: Any,
) -> None:
    """Adam with Nesterov momentum and Dozat's schedule."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            mu = b1 * (1.0 - 0.5 * 0.96 ** (age * psi))
            mu_next = b1 * (1.0 - 0.5 * 0.96 ** ((age + 1.0) * psi))
            product = progress[_PRODUCT, k] * mu
            progress[_PRODUCT, k] = product
            root = math.sqrt(1.0 - b2**age)
            by_gradient = rate * root * (1.0 - mu) / (1.0 - product)
            by_moment = rate * root * mu_next / (1.0 - product * mu_next)
            common, plain = _common(control, table, k, False)
            _nadam(w[a:b], g[a:b], m[a:b], v[a:b], (b1, b2, epsilon * root, by_gradient, by_moment), common, plain)
            progress[_AGE, k] = age


@jit
def lion(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, m: Any, b1: Any, b2: Any,
) -> None:
    """Lion."""
    for k in range(starts.size):
        a, b = _part(control, table, starts, k, w.size)
        if a < b:
            age = progress[_AGE, k] + 1.0
            rate = control[_RATE] * table[_MULTIPLIER, k]
            common, plain = _common(control, table, k, False)
            _lion(w[a:b], g[a:b], m[a:b], (b1, b2, rate, 1.0 - rate * table[_DECAY, k]), common, plain)
            progress[_AGE, k] = age


# -- around the rules --------------------------------------------------------------------------------------------------


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
    scale = control[_SCALE]
    for k in range(starts.size):
        begin = starts[k]
        end = starts[k + 1] if k + 1 < starts.size else w.size
        trainable, touched, l1, l2 = table[_TRAINABLE, k], table[_TOUCHED, k], table[_L1, k], table[_L2, k]
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
        l1, l2 = table[_L1, k], table[_L2, k]
        if table[_TRAINABLE, k] != 0.0 and (l1 != 0.0 or l2 != 0.0):
            total += _penalty(w[starts[k] : end], l1, l2)
    out[0] = total
