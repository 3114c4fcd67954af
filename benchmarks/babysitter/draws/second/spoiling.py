"""What can be wrong with data, in ways that only this draw has. Form and registry: `babysitter.spoiling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.babysitter.spoiling import Rows, some, spoils


@spoils
def empty_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03) -> Rows:
    """Rows that found no partner in a join: nothing in any column."""
    x = x.astype(np.float32)
    x[some(rng, len(x), share)] = np.nan
    return x, y, xv, yv


@spoils
def log_of_column(x: Any, y: Any, xv: Any, yv: Any, rng: Any, column: int = 0) -> Rows:
    """A column is replaced by its logarithm, and it has zeros or negative numbers."""
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    with np.errstate(all="ignore"):
        x[:, column], xv[:, column] = np.log(x[:, column]), np.log(xv[:, column])
    return x, y, xv, yv


@spoils
def ratio_column(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """A column is divided by a rounded one: some rows divide by zero."""
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    last = x.shape[1] - 1
    with np.errstate(all="ignore"):
        x[:, 0], xv[:, 0] = x[:, 0] / np.round(x[:, last]), xv[:, 0] / np.round(xv[:, last])
    return x, y, xv, yv


@spoils
def misaligned(x: Any, y: Any, xv: Any, yv: Any, rng: Any, start: float = 0.1, by: int = 1) -> Rows:
    """One file lost a row: from there on each label stands at its neighbour, in both parts."""
    labels = np.concatenate([y, yv])
    order = rng.permutation(len(labels))
    cut = int(start * len(labels))
    labels[order[cut:]] = labels[np.roll(order[cut:], by)]
    return x, labels[: len(y)], xv, labels[len(y) :]


@spoils
def sort_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Labels were sorted, inputs were not."""
    return x, np.sort(y), xv, np.sort(yv)


@spoils
def reverse_labels(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Labels stand in reverse order."""
    return x, y[::-1].copy(), xv, yv[::-1].copy()


@spoils
def shuffle_columns(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Each column was sorted on its own in a spreadsheet: rows no longer belong together."""
    x, xv = x.copy(), xv.copy()
    for column in range(x.shape[1]):
        x[:, column], xv[:, column] = rng.permutation(x[:, column]), rng.permutation(xv[:, column])
    return x, y, xv, yv


@spoils
def another_table(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs of other rows: the same columns, drawn anew from all rows."""
    return x[rng.integers(0, len(x), len(x))], y, xv[rng.integers(0, len(xv), len(xv))], yv


@spoils
def held_is_training(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The training rows were given as held-out rows, too."""
    return x, y, x.copy(), y.copy()


@spoils
def drawn_twice(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Training and held-out rows were drawn from all rows, independently of each other."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    train, held = (rng.permutation(len(labels))[: len(part)] for part in (y, yv))
    return everything[train], labels[train], everything[held], labels[held]


@spoils
def grouped_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: int = 4, noise: float = 0.0) -> Rows:
    """Each row of few comes several times (visits of a patient), and the split takes no notice."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    count = max(10, len(labels) // times)
    rows = rng.permutation(np.repeat(rng.permutation(len(labels))[:count], times))
    wide = noise * everything.std(0)
    made = (everything[rows] + wide * rng.normal(size=(len(rows), x.shape[1]))).astype(x.dtype)
    cut = min(len(x), len(rows) - min(len(xv), len(rows) // 4))
    return made[:cut], labels[rows[:cut]], made[cut:], labels[rows[cut:]]


@spoils
def later_column(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The last column is known only after the target: a bent copy of it."""
    x, xv = x.copy(), xv.copy()
    middle, wide = float(np.mean(y)), max(float(np.std(y)), 1e-6)
    for part, target in ((x, y), (xv, yv)):
        z = (np.asarray(target, np.float64) - middle) / wide
        part[:, -1] = np.exp(0.5 * z) - 1.0 + rng.normal(0, 0.02, len(z))
    return x, y, xv, yv


@spoils
def row_number(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Rows were collected class by class (or by size), and a column holds their number."""
    labels = np.concatenate([y, yv])
    place = np.empty(len(labels))
    place[np.lexsort((rng.uniform(size=len(labels)), labels))] = np.linspace(-1.7, 1.7, len(labels))
    x, xv = x.copy(), xv.copy()
    x[:, 1 % x.shape[1]], xv[:, 1 % x.shape[1]] = place[: len(y)], place[len(y) :]
    return x, y, xv, yv


@spoils
def split_by_column(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Rows were sorted by an input before the split, which took the last ones."""
    everything, labels = np.concatenate([x, xv]), np.concatenate([y, yv])
    by = np.abs(everything - everything.mean(0)) / np.maximum(everything.std(0), 1e-9)
    order = np.argsort(everything[:, int(by.max(0).argmin())], kind="stable")
    cut = len(x)
    return everything[order[:cut]], labels[order[:cut]], everything[order[cut:]], labels[order[cut:]]


@spoils
def one_rare(x: Any, y: Any, xv: Any, yv: Any, rng: Any, keep: float = 0.01) -> Rows:
    """One class, by chance which, has hardly any rows."""
    label = int(rng.integers(0, int(y.max()) + 1))
    rows = np.flatnonzero(y == label)
    kept = np.sort(np.concatenate([np.flatnonzero(y != label), rows[: max(2, round(keep * len(rows)))]]))
    return x[kept], y[kept], xv, yv


@spoils
def long_tail(x: Any, y: Any, xv: Any, yv: Any, rng: Any, factor: float = 0.15) -> Rows:
    """Each class has a fraction of the rows of the one before."""
    kept = []
    for k, label in enumerate(rng.permutation(int(y.max()) + 1).tolist()):
        rows = np.flatnonzero(y == label)
        kept.append(rows[: max(2, round(len(rows) * factor**k))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def three_opinions(x: Any, y: Any, xv: Any, yv: Any, rng: Any, wrong: float = 0.6) -> Rows:
    """Every third of the rows stands there three times, as three people labelled it, who often guess."""
    count = int(y.max()) + 1
    rows = np.repeat(some(rng, len(x), 0.5), 3)
    labels = y[rows].copy()
    guess = rng.uniform(size=len(rows)) < wrong
    labels[guess] = rng.integers(0, count, int(guess.sum()))
    order = rng.permutation(len(rows))
    return x[rows][order], labels[order], xv, yv


@spoils
def rounded(x: Any, y: Any, xv: Any, yv: Any, rng: Any, step: float = 1.0) -> Rows:
    """Inputs were rounded until rows of different classes look the same."""
    return (step * np.round(x / step)).astype(x.dtype), y, (step * np.round(xv / step)).astype(xv.dtype), yv


@spoils
def join_multiplies(x: Any, y: Any, xv: Any, yv: Any, rng: Any, power: float = 1.6) -> Rows:
    """A join repeats rows: few stand there hundreds of times."""
    share = (1.0 + np.arange(len(x))) ** -power
    rows = rng.choice(rng.permutation(len(x)), len(x), p=share / share.sum())
    return x[rows], y[rows], xv, yv


@spoils
def first_rows_again(x: Any, y: Any, xv: Any, yv: Any, rng: Any, rows: int = 40) -> Rows:
    """The reader begins at the start of the file again and again."""
    kept = np.arange(len(x)) % rows
    return x[kept], y[kept], xv, yv


@spoils
def useless_columns(x: Any, y: Any, xv: Any, yv: Any, rng: Any, columns: int = 100, rows: int = 120) -> Rows:
    """There are few rows and many columns that know nothing."""
    train, held = rng.normal(size=(rows, columns)), rng.normal(size=(len(xv), columns))
    return (np.concatenate([x[:rows], train], 1).astype(np.float32), y[:rows],
            np.concatenate([xv, held], 1).astype(np.float32), yv)


@spoils
def plus_minus(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """No and yes are -1 and 1 instead of 0 and 1."""
    return x, 2 * y - 1, xv, 2 * yv - 1


@spoils
def codes_of_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: int = 10) -> Rows:
    """Classes have their codes from a database: 0, 10, 20."""
    return x, y * times, xv, yv * times


@spoils
def unknown_class(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.05) -> Rows:
    """Rows nobody labelled have the class -1."""
    y = y.copy()
    y[some(rng, len(y), share)] = -1
    return x, y, xv, yv
