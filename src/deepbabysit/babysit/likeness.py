"""Rows that are nearly the same: copies with noise, visits of one person, pictures that were only moved a little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepbabysit.babysit.columns import Arrays, reader

FAR = 40  # the distance to so many rows says how far apart rows usually are
HALF = 4  # and that to the fourth part of them, in how many directions
SOME = 200  # rows that say how distances grow
LIKELY = 0.005  # a nearest row so near that chance brings one in so many rows
LEAST = 80  # rows that are needed
FLOOR = 0.5  # features are scaled by no less than that of the usual spread: noise in empty corners of images is small
EXAMPLES = 5
MIXED = 128  # random mixtures stand for more features


def nearly_same(values: np.ndarray, theirs: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return for rows whether one of `values` is far nearer than chance explains, and which; None of too few rows.

    Rows that lie by chance have k neighbours within a distance that grows with the root of k, by their dimension. So
    the distance to the nearest one, against that to `FAR` of them, tells how likely one is so near. Equal rows are no
    such rows.

    Arguments:
        values: standardized rows.
        theirs: the rows that are asked about; None asks about `values` themselves.
    """
    own = theirs is None
    asked = values if theirs is None else theirs
    if len(values) < LEAST or not len(asked) or not values.shape[1]:
        return None
    if values.shape[1] > MIXED:
        mixed = np.random.Generator(np.random.Philox(17)).standard_normal((values.shape[1], MIXED))
        values, asked = values @ mixed, asked @ mixed
    far_rows = min(FAR, len(values) // 4)
    squares = (asked**2).sum(axis=1)[:, None] + (values**2).sum(axis=1) - 2.0 * (asked @ values.T)
    size = float((values**2).sum(axis=1).mean())
    squares[squares < 1e-10 * max(size, 1e-300)] = np.inf  # the same rows, themselves among them
    if own:
        np.fill_diagonal(squares, np.inf)
    part = np.sort(np.partition(squares, far_rows - 1, axis=1)[:, :far_rows], axis=1)
    first, half, far = (np.sqrt(part[:, k - 1]) for k in (1, far_rows // HALF, far_rows))
    fine = np.isfinite(far) & (half > 0)
    if not fine.any():
        return None
    usual = (half[fine], far[fine]) if own else _usual(values, far_rows)
    growth = np.log(usual[1] / usual[0]) / np.log(far_rows / (far_rows // HALF))
    dimension = 1.0 / max(float(np.median(growth)), 1e-2)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        expected = far_rows * (first / far) ** dimension  # so many rows would be so near
    return fine & (expected < LIKELY), squares.argmin(axis=1)


def _usual(values: np.ndarray, far_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the fourth part of the nearest rows is, and all of them, for some of the rows themselves.

    Not for the rows that are asked about: where they lie elsewhere, all rows of a cluster are equally far from them.
    """
    some = values[:: max(1, len(values) // SOME)]
    squares = (some**2).sum(axis=1)[:, None] + (values**2).sum(axis=1) - 2.0 * (some @ values.T)
    squares[squares < 1e-10 * max(float((values**2).sum(axis=1).mean()), 1e-300)] = np.inf
    part = np.sort(np.partition(squares, far_rows - 1, axis=1)[:, :far_rows], axis=1)
    half, far = (np.sqrt(part[:, k - 1]) for k in (far_rows // HALF, far_rows))
    fine = np.isfinite(far) & (half > 0)
    return (half[fine], far[fine]) if fine.any() else (np.ones(1), np.full(1, 2.0))


@dataclass(frozen=True, slots=True)
class Likeness:
    """How many rows have one that is nearly the same.

    Attributes:
        rows: how many do, `of` so many that were asked about.
        alike: share of these pairs with one label; of numbers 1 less the variance between them against that of all.
        examples: (row, the one that is nearly the same).
    """

    rows: int
    of: int
    alike: float
    examples: tuple[tuple[int, int], ...] = ()

    @property
    def share(self) -> float:
        """The share of the rows that have one."""
        return self.rows / max(self.of, 1)


def likeness(
    x: Arrays, y: np.ndarray, rows: np.ndarray, ids: Sequence[bool] = (),
    held: tuple[Arrays, np.ndarray, np.ndarray] | None = None, numbers: bool = False,
) -> Likeness | None:
    """Count the rows that are nearly the same as another, and see whether their labels are.

    Arguments:
        x, y: the training part; rows: those to use.
        ids: for each input whether it holds ids.
        held: inputs, targets and rows of the validation part, each to be compared with training rows; None compares
            training rows with each other.
        numbers: whether targets are numbers.
    """
    read = reader(x, rows, ids)
    values = read(x, rows)
    used = values.std(axis=0) > 0
    mean, spread = values[:, used].mean(axis=0), values[:, used].std(axis=0)
    spread = np.maximum(spread, FLOOR * float(np.median(spread))) if used.any() else spread
    theirs, targets, names = None, y, rows
    if held is not None:
        theirs = (read(held[0], held[2])[:, used] - mean) / spread
        targets, names = held[1], held[2]
    found = nearly_same((values[:, used] - mean) / spread, theirs)
    if found is None:
        return None
    mask, near = found
    if not mask.any():
        return Likeness(0, len(mask), 1.0)
    mine, other = (np.asarray(t, np.float64).reshape(len(t), -1) for t in (targets[names[mask]], y[rows[near[mask]]]))
    if mine.shape[1] != other.shape[1]:
        return None
    apart = float(((mine - other) ** 2).mean()) / max(2.0 * float(np.asarray(y[rows], np.float64).var()), 1e-300)
    alike = 1.0 - apart if numbers else float((mine == other).all(axis=1).mean())
    pairs = tuple((int(names[i]), int(rows[near[i]])) for i in np.flatnonzero(mask)[:EXAMPLES])
    return Likeness(int(mask.sum()), len(mask), alike, pairs)
