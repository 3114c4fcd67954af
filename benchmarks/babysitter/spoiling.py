"""What can be wrong with data: each function takes and returns training and held-out rows.

All have the form ``spoil(x, y, xv, yv, rng, **settings) -> (x, y, xv, yv)`` and are named in recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
SPOIL: dict[str, Callable[..., Rows]] = {}


def spoils(function: Callable[..., Rows]) -> Callable[..., Rows]:
    """Enter a function under its name."""
    SPOIL[function.__name__] = function
    return function


def some(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """Return numbers of a share of so many rows, at least one."""
    return rng.choice(count, max(1, round(share * count)), replace=False)


@spoils
def bad_cells(x: Any, y: Any, xv: Any, yv: Any, rng: Any, value: str = "nan", share: float = 0.02) -> Rows:
    """Some inputs are not numbers."""
    x = x.copy()
    rows = some(rng, len(x), share)
    x[rows, rng.integers(0, x.shape[1], len(rows))] = float(value)
    return x, y, xv, yv


@spoils
def bad_targets(x: Any, y: Any, xv: Any, yv: Any, rng: Any, value: str = "nan", share: float = 0.02) -> Rows:
    """Some targets are not numbers."""
    y = y.astype(np.float32)
    y[some(rng, len(y), share)] = float(value)
    return x, y, xv, yv


@spoils
def shuffle_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 1.0) -> Rows:
    """Labels of so many training rows change places."""
    y = y.copy()
    rows = some(rng, len(y), share)
    y[rows] = y[rng.permutation(rows)]
    return x, y, xv, yv


@spoils
def shift_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: int = 1) -> Rows:
    """Labels slip by some rows against the inputs, in both parts."""
    return x, np.roll(y, by), xv, np.roll(yv, by)


@spoils
def sort_inputs(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs are sorted by a column, labels are not."""
    return x[np.argsort(x[:, int(x.std(0).argmax())], kind="stable")], y, xv, yv


@spoils
def blank(x: Any, y: Any, xv: Any, yv: Any, rng: Any, how: str = "zeros") -> Rows:
    """The inputs got lost on the way: zeros, or the first row again and again."""
    fill = np.zeros_like(x[:1]) if how == "zeros" else x[:1]
    return np.repeat(fill, len(x), 0), y, np.repeat(fill, len(xv), 0), yv


@spoils
def noise_inputs(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs that know nothing of the targets."""
    return rng.normal(size=x.shape).astype(np.float32), y, rng.normal(size=xv.shape).astype(np.float32), yv


@spoils
def leak_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.6) -> Rows:
    """So many of the held-out rows are copies of training rows."""
    rows = some(rng, len(xv), share)
    source = rng.choice(len(x), len(rows), replace=len(rows) > len(x))
    xv, yv = xv.copy(), yv.copy()
    xv[rows], yv[rows] = x[source], y[source]
    return x, y, xv, yv


@spoils
def oversample_before_split(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: int = 3) -> Rows:
    """Rows are copied first and split afterwards, so copies stand on both sides."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    rows = rng.permutation(np.repeat(np.arange(len(everything)), times))
    count = len(x)
    return everything[rows[:count]], labels[rows[:count]], everything[rows[-len(xv):]], labels[rows[-len(xv):]]


@spoils
def leak_feature(x: Any, y: Any, xv: Any, yv: Any, rng: Any, noise: float = 0.05) -> Rows:
    """A column tells the target; it will not be there in use."""
    scale = max(float(np.std(y)), 1e-6)
    extra = [((t - np.mean(y)) / scale + rng.normal(0, noise, t.shape)).astype(np.float32)[:, None] for t in (y, yv)]
    return np.concatenate([x, extra[0]], 1), y, np.concatenate([xv, extra[1]], 1), yv


@spoils
def replace_feature(x: Any, y: Any, xv: Any, yv: Any, rng: Any, column: int = 0) -> Rows:
    """A column is overwritten with a copy of the target (the identifier that the rows were sorted by)."""
    scale = max(float(np.std(y)), 1e-6)
    x, xv = x.copy(), xv.copy()
    x[:, column], xv[:, column] = (y - np.mean(y)) / scale, (yv - np.mean(y)) / scale
    return x, y, xv, yv


@spoils
def drift(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 2.0) -> Rows:
    """The held-out rows come from elsewhere: shifted by so many deviations."""
    return x, y, (xv + by * x.std(0)).astype(np.float32), yv


@spoils
def split_by_order(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The rows were sorted by target before the split, which took the last ones."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    order = np.argsort(labels, kind="stable")
    cut = len(x)
    return everything[order[:cut]], labels[order[:cut]], everything[order[cut:]], labels[order[cut:]]


@spoils
def thin_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, keep: float = 0.03, classes: int = 0) -> Rows:
    """Only few rows are left of the later classes (or of the last `classes` of them)."""
    count = int(y.max()) + 1
    first = count - classes if classes else max(1, count // 2)
    kept = []
    for label in range(count):
        rows = np.flatnonzero(y == label)
        kept.append(rows if label < first else rows[: max(2, round(keep * len(rows)))])
    rows = rng.permutation(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def conflict(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.5) -> Rows:
    """So many rows stand there again with another label."""
    rows = some(rng, len(x), share)
    count = int(y.max()) + 1
    other = (y[rows] + rng.integers(1, count, len(rows))) % count
    order = rng.permutation(len(x) + len(rows))
    return np.concatenate([x, x[rows]])[order], np.concatenate([y, other])[order], xv, yv


@spoils
def copy_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, distinct: float = 0.05) -> Rows:
    """The training part is made of copies of few rows."""
    rows = rng.choice(some(rng, len(x), distinct), len(x))
    return x[rows], y[rows], xv, yv


@spoils
def shift_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: int = 1) -> Rows:
    """Class numbers begin with 1 (or elsewhere) instead of 0."""
    return x, y + by, xv, yv + by


@spoils
def few_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, rows: int = 40) -> Rows:
    """There are far fewer training rows."""
    return x[:rows], y[:rows], xv, yv


@spoils
def wide_targets(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Each target stands there twice, side by side."""
    return x, np.stack([y, y], 1), xv, np.stack([yv, yv], 1)


@spoils
def noisy_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.2) -> Rows:
    """So many labels are wrong (or noisy numbers) in the training part: hard data, not a slip."""
    y = y.copy()
    rows = some(rng, len(y), share)
    if y.dtype.kind == "f":
        y[rows] += rng.normal(0, y.std(), len(rows)).astype(y.dtype)
    else:
        y[rows] = rng.integers(0, int(y.max()) + 1, len(rows))
    return x, y, xv, yv
