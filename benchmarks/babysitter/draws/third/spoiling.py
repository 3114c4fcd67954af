"""What can be wrong with data, in ways that only this draw has. Form and registry: `babysitter.spoiling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.babysitter.spoiling import Rows, some, spoils


def _all(x: Any, y: Any, xv: Any, yv: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x, xv]), np.concatenate([y, yv])


# -- numbers that are none ---------------------------------------------------------------------------------------------


@spoils
def sensor_gap(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.1) -> Rows:
    """A sensor was off for a while: one column of rows that follow each other."""
    x = x.astype(np.float32)
    count = max(2, round(share * len(x)))
    first = int(rng.integers(0, len(x) - count))
    x[first : first + count, int(rng.integers(0, x.shape[1]))] = np.nan
    return x, y, xv, yv


@spoils
def thousands_separator(x: Any, y: Any, xv: Any, yv: Any, rng: Any, above: float = 0.9) -> Rows:
    """Large numbers were written as 1,234 and are not read: nothing is left of them, in both parts."""
    column = int(rng.integers(0, x.shape[1]))
    limit = np.quantile(x[:, column], above)
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    for part in (x, xv):
        part[part[:, column] > limit, column] = np.nan
    return x, y, xv, yv


@spoils
def half_overflow(x: Any, y: Any, xv: Any, yv: Any, rng: Any, above: float = 0.995) -> Rows:
    """Rows were kept in half precision: the largest numbers of all became infinite, in both parts."""
    limit = np.quantile(np.abs(x), above)
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    for part in (x, xv):
        part[np.abs(part) >= limit] *= np.inf
    return x, y, xv, yv


# -- labels ------------------------------------------------------------------------------------------------------------


@spoils
def wrong_key(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Labels were looked up by a key that has nothing to do with the rows: some come often, some never."""
    everything = np.concatenate([y, yv])
    found = everything[rng.integers(0, len(everything), len(everything))]
    return x, found[: len(y)], xv, found[len(y) :]


@spoils
def two_codings(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.45) -> Rows:
    """Two files were put together; in the second one the classes have other numbers, or the sign is another."""
    everything = np.concatenate([y, yv])
    rows = some(rng, len(everything), share)
    if y.dtype.kind == "f":
        everything[rows] = -everything[rows]
    else:
        everything[rows] = (everything[rows] + 1) % (int(everything.max()) + 1)
    return x, everything[: len(y)], xv, everything[len(y) :]


@spoils
def reshaped_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, columns: int = 4) -> Rows:
    """Labels were read row by row from a table that was written column by column."""
    made = []
    for part in (y, yv):
        cut = len(part) // columns * columns
        made.append(np.concatenate([part[:cut].reshape(-1, columns).T.reshape(-1), part[cut:]]))
    return x, made[0], xv, made[1]


@spoils
def hashed(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs were made anonymous by a hash of each number: equal ones stay equal, and nothing else is left."""
    def scramble(part: np.ndarray) -> np.ndarray:
        return ((np.sin(part.astype(np.float64) * 91_337.7) * 43_758.5) % 1.0 * 3.4 - 1.7).astype(np.float32)

    return scramble(x), y, scramble(xv), yv


@spoils
def wrong_target(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Another column was taken for the target: one that counts the rows round and round."""
    numbers = rng.permutation(len(y) + len(yv))
    if y.dtype.kind == "f":
        made = ((numbers % 50 - 24.5) / 14.4).astype(y.dtype)
    else:
        made = (numbers % (int(y.max()) + 1)).astype(y.dtype)
    return x, made[: len(y)], xv, made[len(y) :]


@spoils
def other_order_of_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The rows were exported twice, and the second time the classes were numbered from behind."""
    order = rng.permutation(2 * len(x))
    return np.concatenate([x, x])[order], np.concatenate([y, int(y.max()) - y])[order], xv, yv


@spoils
def all_tags(x: Any, y: Any, xv: Any, yv: Any, rng: Any, tags: int = 2) -> Rows:
    """Rows that have several tags stand there once with each of them: the right one and others."""
    count = int(y.max()) + 1
    others = [(y + rng.integers(1, count, len(y))) % count for _ in range(tags)]
    order = rng.permutation((tags + 1) * len(x))
    return np.concatenate([x] * (tags + 1))[order], np.concatenate([y, *others])[order], xv, yv


@spoils
def percent_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any, yes: int = 255) -> Rows:
    """Yes is 100 (percent) or 255 (a white pixel) instead of 1."""
    return x, y * yes, xv, yv * yes


@spoils
def void_class(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03) -> Rows:
    """Rows that are to be ignored have the class 255."""
    y = y.copy()
    y[some(rng, len(y), share)] = 255
    return x, y, xv, yv


@spoils
def twice_encoded(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """One-hot labels were encoded once more: (N, classes, 2)."""
    count = int(y.max()) + 1
    return x, np.eye(2, dtype=np.float32)[np.eye(count, dtype=int)[y]], xv, np.eye(2, dtype=np.float32)[
        np.eye(count, dtype=int)[yv]]


@spoils
def horizon(x: Any, y: Any, xv: Any, yv: Any, rng: Any, steps: int = 3) -> Rows:
    """Targets hold this value and the next ones: (N, steps)."""
    return (x, np.stack([np.roll(y, -k) for k in range(steps)], 1), xv,
            np.stack([np.roll(yv, -k) for k in range(steps)], 1))


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@spoils
def mean_over_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The mean was taken over the rows instead of over the channels: every input is the same."""
    middle = x.mean(0, keepdims=True)
    return np.repeat(middle, len(x), 0), y, np.repeat(middle, len(xv), 0), yv


@spoils
def target_encoding(x: Any, y: Any, xv: Any, yv: Any, rng: Any, noise: float = 0.0) -> Rows:
    """A column holds the mean target of the row's group, the row included, and most groups have one row."""
    everything = np.concatenate([y, yv]).astype(np.float64)
    groups = np.arange(len(everything))
    groups[len(groups) * 4 // 5 :] = rng.integers(0, len(groups) * 4 // 5, len(groups) - len(groups) * 4 // 5)
    mean = (np.bincount(groups, everything) / np.maximum(np.bincount(groups), 1))[groups]
    column = ((mean - mean.mean()) / max(mean.std(), 1e-9)).astype(np.float32)[:, None]
    return (np.concatenate([x, column[: len(y)]], 1), y, np.concatenate([xv, column[len(y) :]], 1), yv)


@spoils
def billing_code(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """A column holds a code that is given when the outcome is known: one of a few for each class or size."""
    everything = np.concatenate([y, yv]).astype(np.float64)
    if y.dtype.kind == "f":
        edges = np.quantile(everything, np.linspace(0, 1, 13)[1:-1])
        everything = np.digitize(everything, edges).astype(np.float64)
    code = 10.0 * everything + rng.integers(0, 4, len(everything))
    column = ((code - code.mean()) / code.std()).astype(np.float32)[:, None]
    return (np.concatenate([x, column[: len(y)]], 1), y, np.concatenate([xv, column[len(y) :]], 1), yv)


# -- splits and counts -------------------------------------------------------------------------------------------------


@spoils
def backup_appended(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.7) -> Rows:
    """An older copy of the file was read, too, before the split: most rows are there twice."""
    everything, labels = _all(x, y, xv, yv)
    rows = rng.permutation(np.concatenate([np.arange(len(labels)), some(rng, len(labels), share)]))
    return everything[rows[: len(x)]], labels[rows[: len(x)]], everything[rows[-len(xv) :]], labels[rows[-len(xv) :]]


@spoils
def bootstrap_before_split(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Rows were drawn with replacement until there were enough, and split afterwards."""
    everything, labels = _all(x, y, xv, yv)
    pool = rng.permutation(len(labels))[: max(len(x), 20)]
    rows = pool[rng.integers(0, len(pool), len(labels))]
    return everything[rows[: len(x)]], labels[rows[: len(x)]], everything[rows[len(x) :]], labels[rows[len(x) :]]


@spoils
def trained_on_everything(x: Any, y: Any, xv: Any, yv: Any, rng: Any, held: int = 80) -> Rows:
    """The held-out rows were cut off, and the training part is still all of the file."""
    xv, yv = xv[:held], yv[:held]
    order = rng.permutation(len(x) + len(xv))
    return np.concatenate([x, xv])[order], np.concatenate([y, yv])[order], xv, yv


@spoils
def noisier_sensor(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 1.5) -> Rows:
    """The held-out rows were taken with another, noisier instrument."""
    return x, y, (xv + by * x.std(0) * rng.normal(size=xv.shape)).astype(np.float32), yv


@spoils
def one_dominant(x: Any, y: Any, xv: Any, yv: Any, rng: Any, keep: float = 0.03) -> Rows:
    """One class, by chance which, is nearly everything that was collected."""
    label = int(rng.integers(0, int(y.max()) + 1))
    kept = [np.flatnonzero(y == label)]
    for other in range(int(y.max()) + 1):
        rows = np.flatnonzero(y == other)
        if other != label:
            kept.append(rows[: max(2, round(keep * len(rows)))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def zipf(x: Any, y: Any, xv: Any, yv: Any, rng: Any, power: float = 3.5) -> Rows:
    """The classes are as frequent as words are, only more so: 1, 1/2, 1/3 ... to a power."""
    kept = []
    for k, label in enumerate(rng.permutation(int(y.max()) + 1).tolist()):
        rows = np.flatnonzero(y == label)
        kept.append(rows[: max(2, round(len(rows) / (k + 1) ** power))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def film(x: Any, y: Any, xv: Any, yv: Any, rng: Any, frames: int = 25) -> Rows:
    """The rows are frames of few films in which nothing moves."""
    rows = np.repeat(np.arange(-(-len(x) // frames)), frames)[: len(x)]
    return x[rows], y[rows], xv, yv


@spoils
def filled_forward(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.95) -> Rows:
    """Rows that were missing were filled with the one before: most of them."""
    new = rng.uniform(size=len(x)) >= share
    new[0] = True
    rows = np.maximum.accumulate(np.where(new, np.arange(len(x)), 0))
    return x[rows], y[rows], xv, yv


# -- what does no harm -------------------------------------------------------------------------------------------------


@spoils
def to_tenths(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs are rounded to one digit behind the point."""
    return np.round(x, 1).astype(np.float32), y, np.round(xv, 1).astype(np.float32), yv


@spoils
def few_repeats(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """Some training rows stand there twice."""
    rows = rng.permutation(np.concatenate([np.arange(len(x)), some(rng, len(x), share)]))
    return x[rows], y[rows], xv, yv
