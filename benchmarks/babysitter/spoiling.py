"""What can be wrong with data: each function takes and returns training and held-out rows.

All have the form ``spoil(x, y, xv, yv, rng, **settings) -> (x, y, xv, yv)`` and are named in recipes. Here are those
that the first two draws share; every draw has more of its own.
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
def shuffle_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 1.0) -> Rows:
    """Labels of so many training rows change places."""
    y = y.copy()
    rows = some(rng, len(y), share)
    y[rows] = y[rng.permutation(rows)]
    return x, y, xv, yv


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
def few_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, rows: int = 40) -> Rows:
    """There are far fewer training rows."""
    return x[:rows], y[:rows], xv, yv


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
