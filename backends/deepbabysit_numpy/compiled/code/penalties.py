"""What is measured of gradients and weights before an update: norms, values that are not finite, penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit

_LARGE = 1e60  # a sum of squares of float32 values that are finite may be larger, and is looked at again


@jit
def _sign(x: Any, one: Any) -> Any:
    """Return the sign; 0 and NaN stay as they are."""
    return one if x > 0 else -one if x < 0 else x


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
