"""What can be wrong with data, in ways that only this draw has. Form and registry: `babysitter.spoiling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.babysitter.spoiling import Rows, some, spoils


@spoils
def bad_targets(x: Any, y: Any, xv: Any, yv: Any, rng: Any, value: str = "nan", share: float = 0.02) -> Rows:
    """Some targets are not numbers."""
    y = y.astype(np.float32)
    y[some(rng, len(y), share)] = float(value)
    return x, y, xv, yv


@spoils
def shift_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: int = 1) -> Rows:
    """Labels slip by some rows against the inputs, in both parts."""
    return x, np.roll(y, by), xv, np.roll(yv, by)


@spoils
def oversample_before_split(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: int = 3) -> Rows:
    """Rows are copied first and split afterwards, so copies stand on both sides."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    rows = rng.permutation(np.repeat(np.arange(len(everything)), times))
    count = len(x)
    return everything[rows[:count]], labels[rows[:count]], everything[rows[-len(xv):]], labels[rows[-len(xv):]]


@spoils
def replace_feature(x: Any, y: Any, xv: Any, yv: Any, rng: Any, column: int = 0) -> Rows:
    """A column is overwritten with a copy of the target (the identifier that the rows were sorted by)."""
    scale = max(float(np.std(y)), 1e-6)
    x, xv = x.copy(), xv.copy()
    x[:, column], xv[:, column] = (y - np.mean(y)) / scale, (yv - np.mean(y)) / scale
    return x, y, xv, yv


@spoils
def split_by_order(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The rows were sorted by target before the split, which took the last ones."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    order = np.argsort(labels, kind="stable")
    cut = len(x)
    return everything[order[:cut]], labels[order[:cut]], everything[order[cut:]], labels[order[cut:]]


@spoils
def wide_targets(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Each target stands there twice, side by side."""
    return x, np.stack([y, y], 1), xv, np.stack([yv, yv], 1)
