"""Softmax cross-entropy with integer labels, row by row while the row is in the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit


@jit
def cross_entropy(x: Any, labels: Any, losses: Any, p: Any, smoothing: Any, ignored: Any, ignores: Any) -> None:
    """Losses and probabilities; a label that is no class gives NaN, an ignored one 0."""
    real = x.dtype.type
    rows, classes = x.shape
    main, share = real(1.0 - smoothing), real(smoothing / classes)
    for i in range(rows):
        largest = x[i, 0]
        for j in range(1, classes):
            v = x[i, j]
            if v > largest or v != v:
                largest = v
        total, shifts = real(0.0), real(0.0)
        for j in range(classes):
            v = x[i, j] - largest
            shifts += v
            e = math.exp(v)
            p[i, j] = e
            total += e
        label = np.int64(labels[i])
        if ignores and label == ignored:
            losses[i] = real(0.0)
        elif label < 0 or label >= classes:
            losses[i] = real(np.nan)
        else:
            loss = math.log(total) - main * (x[i, label] - largest)
            if smoothing != 0.0:
                loss -= share * shifts
            losses[i] = loss
        for j in range(classes):
            p[i, j] /= total


@jit
def cross_entropy_gradient(
    g: Any, p: Any, labels: Any, out: Any, smoothing: Any, ignored: Any, ignores: Any
) -> None:
    """``g (p - t)``; 0 where the label does not count."""
    real = p.dtype.type
    rows, classes = p.shape
    main, share = real(1.0 - smoothing), real(smoothing / classes)
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
