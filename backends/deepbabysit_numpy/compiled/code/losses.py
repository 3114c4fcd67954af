"""Cross-entropies from logits and other losses: rows while they are in the cache, element by element in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.half import like, load, store
from deepbabysit_numpy.compiled.code.mathematics import log, sigmoid, softplus_tail, wide
from deepbabysit_numpy.compiled.code.softmax import decay_rows, shift, step_of
from deepbabysit_numpy.compiled.jit import jit

_LOG_2 = math.log(2.0)


@jit
def _shares(x: Any, smoothing: Any) -> Any:
    """Return by what smoothing multiplies targets, and what it adds to them."""
    real = x.dtype.type
    return real(1.0 - smoothing), real(smoothing / x.shape[1])


@jit
def _finish(p: Any, losses: Any, masses: Any, begin: Any, end: Any) -> None:
    """Make rows of shifted logits probabilities, and add the logarithm of their sums times `masses` to the losses."""
    decay_rows(p, begin, end)
    width = p.shape[1]
    one = p.dtype.type(1.0)
    totals = np.empty(end - begin, p.dtype)
    for i in range(begin, end):
        total = p.dtype.type(0.0)
        for j in range(width):
            total += p[i, j]
        totals[i - begin] = total
        share = one / total
        for j in range(width):
            p[i, j] *= share
    for k in range(end - begin):
        totals[k] = log(totals[k])
    for k in range(end - begin):
        losses[begin + k] += masses[k] * totals[k]


@jit
def cross_entropy(x: Any, labels: Any, losses: Any, p: Any, smoothing: Any, ignored: Any, ignores: Any) -> None:
    """Losses and probabilities; a label that is no class gives NaN, an ignored one 0."""
    real = x.dtype.type
    rows, classes = x.shape
    (main, share), step = _shares(x, smoothing), step_of(classes)
    masses = np.ones(min(step, rows), x.dtype)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        for i in range(begin, end):
            shift(x, p, i)
            label = np.int64(labels[i])
            if 0 <= label < classes:
                loss = -main * p[i, label]
                if smoothing != 0.0:
                    shifts = real(0.0)
                    for j in range(classes):
                        shifts += p[i, j]
                    loss -= share * shifts
                losses[i] = loss
            else:
                losses[i] = real(np.nan)
        _finish(p, losses, masses, begin, end)
    if ignores:
        for i in range(rows):
            if labels[i] == ignored:
                losses[i] = real(0.0)


@jit
def cross_entropy_gradient(
    g: Any, p: Any, labels: Any, out: Any, smoothing: Any, ignored: Any, ignores: Any
) -> None:
    """``g (p - t)``; 0 where the label does not count."""
    real = p.dtype.type
    rows, classes = p.shape
    main, share = _shares(p, smoothing)
    for i in range(rows):
        label = np.int64(labels[i])
        if label < 0 or label >= classes or (ignores and label == ignored):
            for j in range(classes):
                out[i, j] = p[i, j] * real(0.0)
        else:
            weight = g[i]
            for j in range(classes):
                out[i, j] = (p[i, j] - share) * weight
            out[i, label] = (p[i, label] - share - main) * weight


@jit
def soft_cross_entropy(x: Any, targets: Any, losses: Any, p: Any, smoothing: Any) -> None:
    """Losses against rows of target probabilities, and probabilities."""
    real = x.dtype.type
    rows, classes = x.shape
    (main, share), step = _shares(x, smoothing), step_of(classes)
    masses = np.empty(min(step, rows), x.dtype)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        for i in range(begin, end):
            shift(x, p, i)
            mass, picked = real(0.0), real(0.0)
            if smoothing != 0.0:
                for j in range(classes):
                    t = main * targets[i, j] + share
                    mass += t
                    picked += t * p[i, j]
            else:
                for j in range(classes):
                    mass += targets[i, j]
                    picked += targets[i, j] * p[i, j]
            losses[i] = -picked
            masses[i - begin] = mass
        _finish(p, losses, masses, begin, end)


@jit
def soft_cross_entropy_gradient(g: Any, p: Any, targets: Any, out: Any, smoothing: Any) -> None:
    """``g (p sum(t) - t)`` with the smoothed targets."""
    real = p.dtype.type
    rows, classes = p.shape
    main, share = _shares(p, smoothing)
    for i in range(rows):
        mass = real(0.0)
        for j in range(classes):
            mass += main * targets[i, j] + share
        weight = g[i]
        for j in range(classes):
            out[i, j] = (p[i, j] * mass - (main * targets[i, j] + share)) * weight


@jit
def sigmoid_cross_entropy(x: Any, targets: Any, out: Any) -> None:
    """``max(x, 0) - x t + log(1 + exp(-|x|))``."""
    wide()
    zero = like(out, 0.0)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, (v if v > zero else zero) - v * load(targets, i) + softplus_tail(v))


@jit
def sigmoid_cross_entropy_gradient(g: Any, x: Any, targets: Any, out: Any) -> None:
    """``g (sigmoid(x) - t)``."""
    wide()
    for i in range(out.size):
        store(out, i, (sigmoid(load(x, i)) - load(targets, i)) * load(g, i))


@jit
def log_probability(p: Any, out: Any, tiny: Any, slack: Any) -> None:
    """``log(max(p, tiny))``; NaN where p is not within [0, 1] but for rounding."""
    wide()
    least, low, high, none = like(out, tiny), like(out, -slack), like(out, 1.0 + slack), like(out, np.nan)
    for i in range(out.size):
        v = load(p, i)
        value = log(v if v > least else least)
        store(out, i, value if v >= low and v <= high else none)


@jit
def log_cosh(x: Any, out: Any) -> None:
    """``|x| + log(1 + exp(-2 |x|)) - log(2)``."""
    wide()
    two, offset = like(out, 2.0), like(out, _LOG_2)
    for i in range(out.size):
        store(out, i, abs(load(x, i)) + softplus_tail(two * load(x, i)) - offset)
