"""Twins of what plain kernels do outside NumPy's ufuncs: the same operations in the same order, so the same bits.

Programs of recorded steps call them where the plain kernel looks at values. Nothing here may be reassociated or
contracted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import exact


@exact
def count(x: Any, out: Any) -> None:
    """``out = sum(x)`` of whole numbers or flags."""
    total = np.int64(0)
    for i in range(x.size):
        total += np.int64(x[i])
    out[0] = total


@exact
def argmax(x: Any, out: Any) -> None:
    """Return the first largest element of each row; the first NaN counts as larger than all."""
    for i in range(x.shape[0]):
        best = x[i, 0]
        place = 0
        if best == best:
            for j in range(1, x.shape[1]):
                v = x[i, j]
                if not v <= best:
                    best, place = v, j
                    if v != v:
                        break
        out[i] = place


# -- cross-entropy -----------------------------------------------------------------------------------------------------


@exact
def pick(x: Any, labels: Any, ignored: Any, ignores: Any, out: Any) -> None:
    """``out[i] = x[i, labels[i]]``; the first column for a label that does not count."""
    for i in range(labels.size):
        label = np.int64(labels[i])
        if label < 0 or label >= x.shape[1] or (ignores and label == ignored):
            label = np.int64(0)
        out[i] = x[i, label]


@exact
def mark(losses: Any, labels: Any, classes: Any, ignored: Any, ignores: Any) -> None:
    """Make the loss of a label that is no class NaN, and that of an ignored one 0."""
    for i in range(labels.size):
        label = np.int64(labels[i])
        if ignores and label == ignored:
            losses[i] = 0.0
        elif label < 0 or label >= classes:
            losses[i] = np.nan


@exact
def label_gradient(
    g: Any, p: Any, labels: Any, out: Any, main: Any, share: Any, ignored: Any, ignores: Any
) -> None:
    """``(p - main at the label - share) g``; times 0 where the label does not count."""
    real = p.dtype.type
    by_label, by_all = real(main), real(share)
    classes = p.shape[1]
    for i in range(p.shape[0]):
        label = np.int64(labels[i])
        weight = g[i]
        if label < 0 or label >= classes or (ignores and label == ignored):
            label = np.int64(0)
            weight = real(0.0)
        for j in range(classes):
            v = p[i, j]
            if j == label:
                v = v - by_label
            if share != 0.0:
                v = v - by_all
            out[i, j] = v * weight


# -- update rules: control, table, starts, progress as `deepbabysit.kernels.updates` lays them out ---------------------

_RATE, _SCALE, _CLIP_VALUE, _FACTOR, _APPLY = 1, 2, 4, 6, 7
_TRAINABLE, _TOUCHED, _MULTIPLIER, _DECAY, _L1, _L2 = range(6)


@exact
def _bounds(table: Any, starts: Any, place: Any, size: Any) -> Any:
    """Return where a segment begins and ends; the end is the beginning where nothing is to be done."""
    begin = starts[place]
    if table[_TRAINABLE, place] == 0.0 or table[_TOUCHED, place] == 0.0:
        return begin, begin
    return begin, starts[place + 1] if place + 1 < starts.size else size


@exact
def _effective(w: Any, g: Any, out: Any, control: Any, settings: Any, coupled: Any) -> None:
    """Write the gradient that the rule uses: scaled, with penalties, clipped, with coupled decay."""
    real = w.dtype.type
    scale, factor, limit = control[_SCALE], control[_FACTOR], control[_CLIP_VALUE]
    l1, l2, decay = settings[_L1], settings[_L2], settings[_DECAY]
    by_l1, by_l2 = real(l1), real(2.0 * l2)
    by_scale, by_factor, by_both = real(scale), real(factor), real(scale * factor)
    penalized, scaled = l1 != 0.0 or l2 != 0.0, scale * factor != 1.0
    high, low, by_decay = real(limit), real(-limit), real(decay)
    for i in range(w.size):
        v = g[i]
        if penalized:
            v = v * by_scale
            if l2 != 0.0:
                v = v + w[i] * by_l2
            if l1 != 0.0:
                x = w[i]
                v = v + (real(1.0) if x > 0 else (real(-1.0) if x < 0 else (real(0.0) if x == 0 else x))) * by_l1
            if factor != 1.0:
                v = v * by_factor
        elif scaled:
            v = v * by_both
        if limit != np.inf:
            v = low if v < low else v
            v = high if v > high else v
        if coupled and decay != 0.0:
            v = v + w[i] * by_decay
        out[i] = v


@exact
def sgd(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any, space: Any
) -> None:
    """``w -= rate g``."""
    real = w.dtype.type
    if control[_APPLY] == 0.0:
        return
    for k in range(starts.size):
        a, b = _bounds(table, starts, k, w.size)
        if a == b:
            continue
        rate = real(control[_RATE] * table[_MULTIPLIER, k])
        progress[0, k] += 1.0
        _effective(w[a:b], g[a:b], space[a:b], control, table[:, k], True)
        for i in range(a, b):
            w[i] = w[i] - space[i] * rate


@exact
def momentum(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any, space: Any
) -> None:
    """``v = mu v + g; w -= rate v``, or Nesterov's form."""
    real = w.dtype.type
    velocity = states[0]
    if control[_APPLY] == 0.0:
        return
    mu, ahead = real(own[0]), own[1] != 0.0
    for k in range(starts.size):
        a, b = _bounds(table, starts, k, w.size)
        if a == b:
            continue
        rate = real(control[_RATE] * table[_MULTIPLIER, k])
        progress[0, k] += 1.0
        _effective(w[a:b], g[a:b], space[a:b], control, table[:, k], True)
        for i in range(a, b):
            v = velocity[i] * mu + space[i]
            velocity[i] = v
            w[i] = w[i] - ((v * mu + space[i]) * rate if ahead else v * rate)


@exact
def rmsprop(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any, space: Any
) -> None:
    """``s = rho s + (1 - rho) g^2; w -= rate g / (sqrt(s) + eps)``."""
    real = w.dtype.type
    square = states[0]
    if control[_APPLY] == 0.0:
        return
    rho, rest, epsilon = real(own[0]), real(1.0 - own[0]), real(own[1])
    for k in range(starts.size):
        a, b = _bounds(table, starts, k, w.size)
        if a == b:
            continue
        rate = real(control[_RATE] * table[_MULTIPLIER, k])
        progress[0, k] += 1.0
        _effective(w[a:b], g[a:b], space[a:b], control, table[:, k], True)
        for i in range(a, b):
            v = space[i]
            s = square[i] * rho + (v * v) * rest
            square[i] = s
            w[i] = w[i] - (v / (math.sqrt(s) + epsilon)) * rate


@exact
def adam(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any, space: Any
) -> None:
    """Both moments and the step, with the bias corrections folded into step and epsilon."""
    real = w.dtype.type
    m, s = states
    if control[_APPLY] == 0.0:
        return
    b1, c1, b2, c2 = real(own[0]), real(1.0 - own[0]), real(own[1]), real(1.0 - own[1])
    for k in range(starts.size):
        a, b = _bounds(table, starts, k, w.size)
        if a == b:
            continue
        age = progress[0, k] + 1.0
        progress[0, k] = age
        root = math.sqrt(1.0 - own[1] ** age)
        speed = control[_RATE] * table[_MULTIPLIER, k]
        epsilon, rate = real(own[2] * root), real(speed * root / (1.0 - own[0] ** age))
        decay = 1.0 - speed * table[_DECAY, k] if own[3] != 0.0 else 1.0
        kept = real(decay)
        _effective(w[a:b], g[a:b], space[a:b], control, table[:, k], False)
        for i in range(a, b):
            v = space[i]
            first = m[i] * b1 + v * c1
            second = s[i] * b2 + (v * v) * c2
            m[i] = first
            s[i] = second
            x = w[i]
            if decay != 1.0:
                x = x * kept
            w[i] = x - (first / (math.sqrt(second) + epsilon)) * rate
