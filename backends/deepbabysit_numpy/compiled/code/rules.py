"""Whole update rules: what is to be done to each segment, and the pass over its elements.

Control, table, starts and progress are as `deepbabysit.kernels.updates` lays them out; `own` are the rule's settings.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code import updates
from deepbabysit_numpy.compiled.jit import exact

_RATE, _SCALE, _CLIP_VALUE, _FACTOR, _APPLY = 1, 2, 4, 6, 7
_TRAINABLE, _TOUCHED, _MULTIPLIER, _DECAY, _L1, _L2 = range(6)
_AGE, _PRODUCT = 0, 1

# the sweeps are called from compiled code, which finds them by global names
_SGD, _MOMENTUM, _ADAGRAD, _RMSPROP = updates.sgd, updates.momentum, updates.adagrad, updates.rmsprop
_RMSPROP_MOMENTUM, _ADADELTA, _ADAM = updates.rmsprop_momentum, updates.adadelta, updates.adam
_NADAM, _LION = updates.nadam, updates.lion


@exact
def _bounds(control: Any, table: Any, starts: Any, k: Any, size: Any) -> Any:
    """Return where a segment begins and ends; the end is the beginning where nothing is to be done."""
    begin = starts[k]
    if control[_APPLY] == 0.0 or table[_TRAINABLE, k] == 0.0 or table[_TOUCHED, k] == 0.0:
        return begin, begin
    return begin, starts[k + 1] if k + 1 < starts.size else size


@exact
def _common(control: Any, table: Any, k: Any, coupled: Any) -> Any:
    """Return what every rule does to a gradient, and whether that is only a factor."""
    l1, l2, limit = table[_L1, k], table[_L2, k], control[_CLIP_VALUE]
    decay = table[_DECAY, k] if coupled else 0.0
    plain = l1 == 0.0 and l2 == 0.0 and decay == 0.0 and limit == np.inf
    return (control[_SCALE], control[_FACTOR], limit, l1, 2.0 * l2, decay), plain


@exact
def sgd(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """``w -= rate g``."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate,)
        _SGD(w[a:b], g[a:b], numbers, common, plain)


@exact
def momentum(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """Momentum, or Nesterov's form: `own` is (momentum, nesterov)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate, own[0], own[1])
        _MOMENTUM(w[a:b], g[a:b], states[0][a:b], numbers, common, plain)


@exact
def adagrad(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """Adagrad: `own` is (epsilon,)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate, own[0])
        _ADAGRAD(w[a:b], g[a:b], states[0][a:b], numbers, common, plain)


@exact
def rmsprop(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """RMSprop: `own` is (rho, epsilon)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate, own[0], own[1])
        _RMSPROP(w[a:b], g[a:b], states[0][a:b], numbers, common, plain)


@exact
def rmsprop_momentum(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """RMSprop with momentum: `own` is (rho, epsilon, momentum)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate, own[0], own[1], own[2])
        _RMSPROP_MOMENTUM(w[a:b], g[a:b], states[0][a:b], states[1][a:b], numbers, common, plain)


@exact
def adadelta(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """Adadelta: `own` is (rho, epsilon)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, True)
        numbers = (rate, own[0], own[1])
        _ADADELTA(w[a:b], g[a:b], states[0][a:b], states[1][a:b], numbers, common, plain)


@exact
def adam(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """Adam, and AdamW: `own` is (beta_1, beta_2, epsilon, whether decay is apart from the gradient)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        age, rate = progress[_AGE, k] + 1.0, control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] = age
        common, plain = _common(control, table, k, False)
        root = math.sqrt(1.0 - own[1] ** age)
        kept = 1.0 - rate * table[_DECAY, k] if own[3] != 0.0 else 1.0
        numbers = (own[0], own[1], own[2] * root, rate * root / (1.0 - own[0] ** age), kept)
        _ADAM(w[a:b], g[a:b], states[0][a:b], states[1][a:b], numbers, common, plain)


@exact
def nadam(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """NAdam: `own` is (beta_1, beta_2, epsilon, momentum decay)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        age, rate = progress[_AGE, k] + 1.0, control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] = age
        common, plain = _common(control, table, k, False)
        mu = own[0] * (1.0 - 0.5 * 0.96 ** (age * own[3]))
        following = own[0] * (1.0 - 0.5 * 0.96 ** ((age + 1.0) * own[3]))
        product = progress[_PRODUCT, k] * mu
        progress[_PRODUCT, k] = product
        root = math.sqrt(1.0 - own[1] ** age)
        by_gradient = rate * root * (1.0 - mu) / (1.0 - product)
        by_moment = rate * root * following / (1.0 - product * following)
        numbers = (own[0], own[1], own[2] * root, by_gradient, by_moment)
        _NADAM(w[a:b], g[a:b], states[0][a:b], states[1][a:b], numbers, common, plain)


@exact
def lion(
    control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, states: Any, own: Any
) -> None:
    """Lion: `own` is (beta_1, beta_2)."""
    for k in range(starts.size):
        a, b = _bounds(control, table, starts, k, w.size)
        if a == b:
            continue
        rate = control[_RATE] * table[_MULTIPLIER, k]
        progress[_AGE, k] += 1.0
        common, plain = _common(control, table, k, False)
        numbers = (own[0], own[1], rate, 1.0 - rate * table[_DECAY, k])
        _LION(w[a:b], g[a:b], states[0][a:b], numbers, common, plain)
