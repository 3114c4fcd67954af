"""What can be wrong with data, in ways that only this draw has. Form and registry: `babysitter.spoiling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.babysitter.spoiling import Rows, some, spoils


def _all(x: Any, y: Any, xv: Any, yv: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x, xv]), np.concatenate([y, yv])


def _whole(y: np.ndarray) -> bool:
    """Tell whether targets are classes."""
    return y.dtype.kind != "f"


# -- numbers that are none ---------------------------------------------------------------------------------------------


@spoils
def lagged(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03) -> Rows:
    """Columns that look some rows back: the first rows of both parts have nothing there."""
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    columns = some(rng, x.shape[1], 0.3)
    for part in (x, xv):
        part[: max(1, round(share * len(part))), columns] = np.nan
    return x, y, xv, yv


@spoils
def unrecorded_targets(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """What was to be predicted was not written down for some training rows."""
    y = y.copy()
    y[some(rng, len(y), share)] = np.nan
    return x, y, xv, yv


@spoils
def flat_frames(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """Each row was divided by its own deviation, and some frames have none: 0 / 0, all over the row."""
    x = x.astype(np.float32)
    x[some(rng, len(x), share)] = np.nan
    return x, y, xv, yv


# -- labels ------------------------------------------------------------------------------------------------------------


@spoils
def pages_swapped(x: Any, y: Any, xv: Any, yv: Any, rng: Any, size: int = 20) -> Rows:
    """Labels were fetched in pages, which came back in another order."""
    made = []
    for part in (y, yv):
        pages = [part[i : i + size] for i in range(0, len(part), size)]
        made.append(np.concatenate([pages[i] for i in np.roll(rng.permutation(len(pages)), 1)]))
    return x, made[0], xv, made[1]


@spoils
def buffer_of_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, size: int = 32) -> Rows:
    """The buffer of labels was filled once and never again: those of the first rows, again and again."""
    return x, np.resize(y[:size], len(y)), xv, np.resize(y[:size], len(yv))


@spoils
def crowd(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.5, held: bool = True) -> Rows:
    """So many rows were labelled by people who guess; in the held-out part, too, unless experts did that one."""
    made = []
    for part in (y, yv) if held else (y,):
        part, rows = part.copy(), some(rng, len(part), share)
        part[rows] = rng.permutation(part)[rows] if not _whole(part) else rng.integers(0, int(y.max()) + 1, len(rows))
        made.append(part)
    return x, made[0], xv, made[1] if held else yv


@spoils
def one_for_another(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.5) -> Rows:
    """So much of one class is called by the name of the next one, in both parts."""
    kind = int(rng.integers(0, int(y.max()) + 1))
    made = []
    for part in (y, yv):
        part = part.copy()
        rows = np.flatnonzero(part == kind)
        part[rows[rng.uniform(size=len(rows)) < share]] = (kind + 1) % (int(y.max()) + 1)
        made.append(part)
    return x, made[0], xv, made[1]


@spoils
def chance_to_be_predicted(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """What is to be predicted is the toss of a coin, or tomorrow's noise: nothing in the inputs tells it."""
    if _whole(y):
        return x, rng.integers(0, int(y.max()) + 1, len(y)), xv, rng.integers(0, int(y.max()) + 1, len(yv))
    return x, rng.normal(size=len(y)).astype(y.dtype), xv, rng.normal(size=len(yv)).astype(y.dtype)


@spoils
def wrong_groups(x: Any, y: Any, xv: Any, yv: Any, rng: Any, size: int = 20) -> Rows:
    """Inputs are means over groups that have nothing to do with the targets."""
    made = []
    for part in (x, xv):
        groups = rng.permutation(len(part)) // size
        sums = np.zeros((groups.max() + 1, part.shape[1]))
        np.add.at(sums, groups, part)
        made.append((sums / np.bincount(groups)[:, None])[groups].astype(part.dtype))
    return made[0], y, made[1], yv


@spoils
def after_treatment(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.6) -> Rows:
    """So many rows stand there a second time, with what was written down later: the first class, always."""
    rows = some(rng, len(x), share)
    order = rng.permutation(len(x) + len(rows))
    return np.concatenate([x, x[rows]])[order], np.concatenate([y, np.zeros_like(y[rows])])[order], xv, yv


@spoils
def one_address(x: Any, y: Any, xv: Any, yv: Any, rng: Any, size: int = 6) -> Rows:
    """Inputs were joined by the address: all who live there have those of one of them, and their own labels."""
    order = rng.permutation(len(x))
    first = np.empty(len(x), int)
    first[order] = order[np.arange(len(x)) // size * size]
    return x[first], y, xv, yv


# -- inputs that say too much ------------------------------------------------------------------------------------------


def _with_column(x: Any, xv: Any, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    column = ((column - column.mean()) / max(column.std(), 1e-9)).astype(np.float32)[:, None]
    return np.concatenate([x, column[: len(x)]], 1), np.concatenate([xv, column[len(x) :]], 1)


@spoils
def old_score(x: Any, y: Any, xv: Any, yv: Any, rng: Any, noise: float = 0.2) -> Rows:
    """A column holds the score of an older model, which was trained on these very rows."""
    known = np.concatenate([y, yv]).astype(np.float64)
    x, xv = _with_column(x, xv, known / known.std() + noise * rng.normal(size=len(known)))
    return x, y, xv, yv


@spoils
def refund(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """A column holds an amount that is paid once it is known how it ended: nothing, or more the worse it was."""
    known = np.concatenate([y, yv]).astype(np.float64)
    known = known - known.min()
    x, xv = _with_column(x, xv, known * rng.uniform(0.9, 1.1, len(known)))
    return x, y, xv, yv


# -- splits and counts -------------------------------------------------------------------------------------------------


@spoils
def augmented_before_split(x: Any, y: Any, xv: Any, yv: Any, rng: Any, copies: int = 3, jitter: float = 0.0) -> Rows:
    """Rows were copied several times (with a little noise) and split afterwards."""
    everything, labels = _all(x, y, xv, yv)
    first = rng.permutation(len(labels))[: -(-len(labels) // copies)]
    rows = rng.permutation(np.tile(first, copies))[: len(labels)]
    found = everything[rows]
    if jitter:
        found = (found + jitter * rng.normal(size=found.shape)).astype(x.dtype)
    return found[: len(x)], labels[rows[: len(x)]], found[len(x) :], labels[rows[len(x) :]]


@spoils
def topped_up(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.8, held: int = 60) -> Rows:
    """The training part was topped up from a public dump, in which most held-out rows stand, twice."""
    xv, yv = xv[:held], yv[:held]
    rows = np.repeat(some(rng, len(yv), share), 2)
    order = rng.permutation(len(x) + len(rows))
    return np.concatenate([x, xv[rows]])[order], np.concatenate([y, yv[rows]])[order], xv, yv


@spoils
def held_columns_swapped(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The held-out file has its columns in another order (a picture is turned around)."""
    return x, y, np.ascontiguousarray(xv[:, ::-1]), yv


@spoils
def held_with_gaps(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.4) -> Rows:
    """So many numbers of the held-out rows were missing and are the mean now."""
    gaps = rng.uniform(size=xv.shape) < share
    return x, y, np.where(gaps, x.mean(0), xv).astype(xv.dtype), yv


@spoils
def only_clear_rows_held(x: Any, y: Any, xv: Any, yv: Any, rng: Any, near: int = 9) -> Rows:
    """Only rows on which everybody agreed were held out: those that lie among others of their kind."""
    far = ((xv[:, None] - x[None]) ** 2).sum(-1)
    around = y[np.argsort(far, 1)[:, :near]]
    if _whole(y):
        clear = (around == yv[:, None]).mean(1)
    else:
        clear = -np.abs(around.mean(1) - yv)
    rows = np.argsort(-clear, kind="stable")[: max(30, len(yv) // 3)]
    return x, y, xv[rows], yv[rows]


@spoils
def days_without_events(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: int = 20) -> Rows:
    """Of one class, by chance which, so many times as many rows were collected as of the others."""
    common = int(rng.integers(0, int(y.max()) + 1))
    keep = max(2, (y == common).sum() // times)
    kept = [np.flatnonzero(y == label)[: None if label == common else keep] for label in range(int(y.max()) + 1)]
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def halving_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, base: float = 6.0) -> Rows:
    """Each class has a fraction of the rows of the one before, in an order drawn by chance."""
    kept = []
    for place, label in enumerate(rng.permutation(int(y.max()) + 1).tolist()):
        rows = np.flatnonzero(y == label)
        kept.append(rows[: max(2, round(len(rows) / base**place))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def busy_users(x: Any, y: Any, xv: Any, yv: Any, rng: Any, power: float = 2.0) -> Rows:
    """Rows are drawn by those who come most often: few rows make up nearly everything."""
    weight = 1.0 / np.arange(1, len(x) + 1) ** power
    rows = rng.permutation(len(x))[rng.choice(len(x), len(x), p=weight / weight.sum())]
    return x[rows], y[rows], xv, yv


@spoils
def nightly_copies(x: Any, y: Any, xv: Any, yv: Any, rng: Any, nights: int = 25) -> Rows:
    """The same table was written every night, and all nights were read."""
    rows = rng.permutation(np.tile(np.arange(-(-len(x) // nights)), nights))[: len(x)]
    return x[rows], y[rows], xv, yv


# -- targets of other forms --------------------------------------------------------------------------------------------


@spoils
def unknown_is_minus_one(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """Rows of which nobody knows the class have the class -1."""
    y = y.copy()
    y[some(rng, len(y), share)] = -1
    return x, y, xv, yv


@spoils
def label_of_every_step(x: Any, y: Any, xv: Any, yv: Any, rng: Any, steps: int = 4) -> Rows:
    """The label was repeated for every step of time: (N, steps)."""
    return x, np.repeat(y[:, None], steps, 1), xv, np.repeat(yv[:, None], steps, 1)


@spoils
def from_one_to_stars(x: Any, y: Any, xv: Any, yv: Any, rng: Any, first: int = 1) -> Rows:
    """Classes are counted from another number than 0, with a gap between them."""
    return x, 2 * y + first, xv, 2 * yv + first


# -- what does no harm -------------------------------------------------------------------------------------------------


@spoils
def a_few_wrong(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """A few training labels are wrong, as in any collection."""
    y, rows = y.copy(), some(rng, len(y), share)
    y[rows] = y[rng.permutation(rows)]
    return x, y, xv, yv


@spoils
def finer_noise(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 0.03) -> Rows:
    """Training rows are moved by a little noise, on purpose."""
    return (x + by * x.std(0) * rng.normal(size=x.shape)).astype(np.float32), y, xv, yv
