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


@exact
def keep(loss: Any, probe: Any, step: Any, w: Any, kept: Any, taken: Any, ring: Any) -> None:
    """Write the loss into the ring; copy the weights, once, when a number is not finite."""
    number = np.int64(step[0])
    ring[number % ring.size] = loss[0]
    fine = math.isfinite(loss[0])
    for i in range(probe.size):
        fine &= probe[i] - probe[i] == 0.0  # no branch: the loop runs on vectors
    if not fine and taken[0] == 0:
        for i in range(w.size):
            kept[i] = w[i]
        taken[0] = step[0]
