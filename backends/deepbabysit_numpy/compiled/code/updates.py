"""Update rules: everything that happens to an element of the flat buffers happens while it is in a register."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit


@jit
def _limited(g: Any, w: Any, scale: Any, factor: Any, limit: Any, l1: Any, l2: Any, decay: Any) -> Any:
    """Return the gradient that the rule uses; NaN passes through."""
    g = (g * scale + l1 * np.sign(w) + l2 * w) * factor
    g = limit if g > limit else g
    g = -limit if g < -limit else g
    return g + decay * w


@jit
def sgd(w: Any, g: Any, own: Any, common: Any, plain: Any) -> None:
    """``w -= rate g``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay = real(common[3]), real(common[4]), real(common[5])
    rate = real(own[0])
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay)
        w[i] -= rate * v


@jit
def momentum(w: Any, g: Any, velocity: Any, own: Any, common: Any, plain: Any) -> None:
    """``v = mu v + g; w -= rate v``, or Nesterov's form."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay = real(common[3]), real(common[4]), real(common[5])
    rate, mu, ahead = real(own[0]), real(own[1]), own[2] != 0.0
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay)
        new = velocity[i] * mu + v
        velocity[i] = new
        w[i] -= rate * (new * mu + v if ahead else new)


@jit
def rmsprop(w: Any, g: Any, square: Any, own: Any, common: Any, plain: Any) -> None:
    """``s = rho s + (1 - rho) g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay = real(common[3]), real(common[4]), real(common[5])
    rate, rho, epsilon, rest = real(own[0]), real(own[1]), real(own[2]), real(1.0 - own[1])
    for i in range(w.size):
        v = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay)
        s = rho * square[i] + rest * (v * v)
        square[i] = s
        w[i] -= rate * (v / (math.sqrt(s) + epsilon))


@jit
def adam(w: Any, g: Any, m: Any, v: Any, own: Any, common: Any, plain: Any) -> None:
    """Both moments and the step, with the corrections folded into `rate` and `epsilon`."""
    real = w.dtype.type
    scale, factor, limit = real(common[0]), real(common[1]), real(common[2])
    l1, l2, decay = real(common[3]), real(common[4]), real(common[5])
    b1, b2, epsilon, rate, kept = real(own[0]), real(own[1]), real(own[2]), real(own[3]), real(own[4])
    c1, c2 = real(1.0 - own[0]), real(1.0 - own[1])
    for i in range(w.size):
        d = g[i] * scale if plain else _limited(g[i], w[i], scale, factor, limit, l1, l2, decay)
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        w[i] = kept * w[i] - rate * (first / (math.sqrt(second) + epsilon))
