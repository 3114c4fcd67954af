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


def _classes(y: np.ndarray) -> int:
    return int(y.max()) + 1


# -- numbers that are none ---------------------------------------------------------------------------------------------


@spoils
def question_not_asked(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.1) -> Rows:
    """One question was not on every form: nothing in that column for some rows of both parts."""
    column = int(rng.integers(0, x.shape[1]))
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    for part in (x, xv):
        part[some(rng, len(part), share), column] = np.nan
    return x, y, xv, yv


@spoils
def growth_from_zero(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.02) -> Rows:
    """Columns hold growth since last year, and last year was zero for some: infinite."""
    columns = some(rng, x.shape[1], 0.3)
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    for part in (x, xv):
        for column in columns.tolist():
            part[some(rng, len(part), share), column] = np.inf
    return x, y, xv, yv


@spoils
def logarithm_of_no_sale(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03) -> Rows:
    """Targets are logarithms, and some rows sold nothing: minus infinity, among training rows."""
    y = y.copy()
    y[some(rng, len(y), share)] = -np.inf
    return x, y, xv, yv


@spoils
def missing_as_a_number(
    x: Any, y: Any, xv: Any, yv: Any, rng: Any, value: float = -999.0, share: float = 0.05, columns: float = 0.4
) -> Rows:
    """What is missing was written as -999, and read as a number; in both parts."""
    chosen = some(rng, x.shape[1], columns)
    x, xv = x.astype(np.float32), xv.astype(np.float32)
    for part in (x, xv):
        for column in chosen.tolist():
            part[some(rng, len(part), share), column] = value
    return x, y, xv, yv


# -- labels ------------------------------------------------------------------------------------------------------------


@spoils
def names_sorted_as_text(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Files were listed as text (1, 10, 100, 11, ...), labels by their number."""
    made = []
    for part in (y, yv):
        order = sorted(range(len(part)), key=str)
        made.append(part[np.argsort(order)])
    return x, made[0], xv, made[1]


@spoils
def one_batch_behind(x: Any, y: Any, xv: Any, yv: Any, rng: Any, size: int = 32) -> Rows:
    """The reader of labels is one batch behind the reader of inputs."""
    return x, np.roll(y, size, 0), xv, np.roll(yv, size, 0)


@spoils
def filtered_on_one_side(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.1) -> Rows:
    """Rows were dropped from the inputs, not from the labels, and both were cut to one length."""
    made: list[np.ndarray] = []
    for part, labels in ((x, y), (xv, yv)):
        kept = np.sort(rng.permutation(len(part))[round(share * len(part)) :])
        made += [part[kept], labels[: len(kept)]]
    return made[0], made[1], made[2], made[3]


@spoils
def noise_for_privacy(x: Any, y: Any, xv: Any, yv: Any, rng: Any, times: float = 10.0) -> Rows:
    """So much noise was added to every number, for the sake of privacy, that nothing else is left."""
    wide = x.std(0) + 1e-9
    made = [((part + times * wide * rng.normal(size=part.shape)) / np.hypot(1.0, times)).astype(np.float32)
            for part in (x, xv)]
    return made[0], y, made[1], yv


@spoils
def unplugged(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The instrument was not plugged in: what was written down is its hum, as wide as the signal was."""
    middle, wide = x.mean(0), x.std(0)
    made = []
    for part in (x, xv):
        hum = np.sin(np.arange(part.shape[1]) + rng.uniform(0, 2 * np.pi, (len(part), 1)))
        made.append((middle + wide * (0.7 * hum + 0.7 * rng.normal(size=part.shape))).astype(np.float32))
    return made[0], y, made[1], yv


@spoils
def rated_by_many(x: Any, y: Any, xv: Any, yv: Any, rng: Any, people: int = 4, wide: float = 2.5) -> Rows:
    """Each row stands there with the marks of several people, who do not agree at all."""
    rows = rng.permutation(np.repeat(np.arange(len(x)), people))
    if not _whole(y):
        marks = y[rows] + wide * y.std() * rng.normal(size=len(rows))
        return x[rows], marks.astype(y.dtype), xv, yv
    other = rng.integers(0, _classes(y), len(rows))
    return x[rows], np.where(rng.uniform(size=len(rows)) < wide / 3.4, other, y[rows]), xv, yv


@spoils
def guidelines_changed(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.8) -> Rows:
    """So many rows were labelled again by other guidelines; the old labels were not removed."""
    count = _classes(y)
    new = np.roll(np.arange(count), int(rng.integers(1, count)))
    rows = some(rng, len(x), share)
    order = rng.permutation(len(x) + len(rows))
    return np.concatenate([x, x[rows]])[order], np.concatenate([y, new[y[rows]]])[order], xv, yv


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@spoils
def defaults_of_the_form(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Every field holds what the form begins with."""
    default = x[int(rng.integers(len(x)))][None]
    return np.repeat(default, len(x), 0), y, np.repeat(default, len(xv), 0), yv


@spoils
def one_setting(x: Any, y: Any, xv: Any, yv: Any, rng: Any, columns: float = 0.5) -> Rows:
    """All rows were collected with one setting: so many columns, which vary in use, never do here."""
    chosen = some(rng, x.shape[1], columns)
    x, xv = x.copy(), xv.copy()
    x[:, chosen], xv[:, chosen] = x[0, chosen], x[0, chosen]
    return x, y, xv, yv


@spoils
def covered_window(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.7) -> Rows:
    """A strip of the picture, or of the signal, was always covered: zeros."""
    width = max(1, round(share * x.shape[1]))
    first = int(rng.integers(0, x.shape[1] - width + 1))
    x, xv = x.copy(), xv.copy()
    x[:, first : first + width], xv[:, first : first + width] = 0.0, 0.0
    return x, y, xv, yv


def _with_column(x: Any, xv: Any, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    column = ((column - column.mean()) / max(column.std(), 1e-9)).astype(np.float32)[:, None]
    return np.concatenate([x, column[: len(x)]], 1), np.concatenate([xv, column[len(x) :]], 1)


@spoils
def place_in_the_final_list(x: Any, y: Any, xv: Any, yv: Any, rng: Any, jitter: float = 0.02) -> Rows:
    """A column holds the place in a list that was sorted by the outcome."""
    known = np.concatenate([y, yv]).astype(np.float64)
    place = np.argsort(np.argsort(known + 1e-6 * rng.normal(size=len(known)))) / len(known)
    x, xv = _with_column(x, xv, place + jitter * rng.normal(size=len(known)))
    return x, y, xv, yv


@spoils
def date_of_the_outcome(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """A column holds the day on which it was known, each outcome in its own weeks; nothing yet for the first one."""
    known = np.concatenate([y, yv]).astype(np.float64)
    day = np.where(known > 0, 100.0 * known + rng.uniform(0, 70, len(known)), 0.0)
    x, xv = _with_column(x, xv, day)
    return x, y, xv, yv


# -- splits and counts -------------------------------------------------------------------------------------------------


@spoils
def held_drawn_from_training(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 1.0) -> Rows:
    """So many of the held-out rows were drawn from the training rows, which they never left."""
    count = min(len(xv), 60)
    own = round(share * count)
    rows = rng.permutation(len(x))[:own]
    return (x, y, np.concatenate([x[rows], xv[: count - own]]), np.concatenate([y[rows], yv[: count - own]]))


@spoils
def several_takes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, takes: int = 5, apart: float = 0.02) -> Rows:
    """Everybody was recorded several times, nearly the same each time, and the takes were split at random."""
    everything, labels = _all(x, y, xv, yv)
    people = rng.permutation(len(labels))[: -(-len(labels) // takes)]
    rows = rng.permutation(np.repeat(people, takes))[: len(labels)]
    found = (everything[rows] + apart * everything.std(0) * rng.normal(size=(len(rows), x.shape[1]))).astype(x.dtype)
    return found[: len(x)], labels[rows[: len(x)]], found[len(x) :], labels[rows[len(x) :]]


@spoils
def evened_before_split(x: Any, y: Any, xv: Any, yv: Any, rng: Any, few: int = 8) -> Rows:
    """All classes but one had few rows, were copied until all had as many, and split afterwards."""
    everything, labels = _all(x, y, xv, yv)
    common, each = int(rng.integers(0, _classes(labels))), len(labels) // _classes(labels)
    rows = []
    for label in range(_classes(labels)):
        own = np.flatnonzero(labels == label)
        rows.append(np.resize(own if label == common else own[:few], each))
    order = rng.permutation(np.concatenate(rows))
    cut = len(order) * len(x) // len(everything)
    return everything[order[:cut]], labels[order[:cut]], everything[order[cut:]], labels[order[cut:]]


@spoils
def another_hospital(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 1.5) -> Rows:
    """Held-out rows come from another house: each column has another middle and another spread there."""
    wide = x.std(0) + 1e-9
    times, plus = np.exp(rng.normal(0, 0.4, x.shape[1])), by * wide * rng.normal(size=x.shape[1])
    middle = x.mean(0)
    return x, y, (middle + (xv - middle) * times + plus).astype(np.float32), yv


@spoils
def two_tones(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The held-out pictures and signals were kept in two tones: dark and bright."""
    middle = np.median(x)
    low, high = np.quantile(x, 0.02), np.quantile(x, 0.98)
    return x, y, np.where(xv > middle, high, low).astype(np.float32), yv


@spoils
def after_the_inflation(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 1.0) -> Rows:
    """Held-out targets are those of later years, in which everything was dearer."""
    return x, y, xv, (yv * (1.0 + 0.3 * by) + by * y.std()).astype(y.dtype)


@spoils
def another_vocabulary(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """The signs of the held-out rows were numbered anew."""
    return x, y, rng.permutation(int(max(x.max(), xv.max())) + 1)[xv.astype(int)].astype(xv.dtype), yv


@spoils
def an_older_model_was_right(x: Any, y: Any, xv: Any, yv: Any, rng: Any, keep: float = 0.5) -> Rows:
    """Only rows with which an older, linear model had no trouble were held out."""
    aim = np.eye(_classes(y))[y] if _whole(y) else np.asarray(y, np.float64)[:, None]
    ones = np.ones((len(x), 1))
    weights = np.linalg.lstsq(np.concatenate([x, ones], 1), aim, rcond=1e-3)[0]
    said = np.concatenate([xv, np.ones((len(xv), 1))], 1) @ weights
    if _whole(y):
        other = said.copy()
        other[np.arange(len(yv)), yv] = -np.inf
        ease = said[np.arange(len(yv)), yv] - other.max(1)
    else:
        ease = -np.abs(said[:, 0] - yv)
    rows = np.argsort(-ease, kind="stable")[: max(40, round(keep * len(yv)))]
    return x, y, xv[rows], yv[rows]


@spoils
def augmented_beyond_recognition(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 1.5) -> Rows:
    """Training rows are moved by so much noise, on purpose, that hardly anything can be seen in them."""
    return (x + by * (x.std(0) + 1e-9) * rng.normal(size=x.shape)).astype(np.float32), y, xv, yv


@spoils
def counted_as_they_come(x: Any, y: Any, xv: Any, yv: Any, rng: Any, least: float = 0.01) -> Rows:
    """Classes are as frequent as they are outside: one is common, one less so, all others are rare."""
    kept = []
    for place, label in enumerate(rng.permutation(_classes(y)).tolist()):
        rows = np.flatnonzero(y == label)
        share = 1.0 if place == 0 else 0.3 if place == 1 and _classes(y) > 2 else least
        kept.append(rows[: max(2, round(share * len(rows)))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows], xv, yv


@spoils
def a_handful_of_one(x: Any, y: Any, xv: Any, yv: Any, rng: Any, rows: int = 4) -> Rows:
    """Of one class only so many rows could be collected."""
    label = int(rng.integers(0, _classes(y)))
    kept = np.sort(np.concatenate([np.flatnonzero(y != label), np.flatnonzero(y == label)[:rows]]))
    return x[kept], y[kept], xv, yv


@spoils
def copied_until_enough(x: Any, y: Any, xv: Any, yv: Any, rng: Any, distinct: int = 40) -> Rows:
    """An augmentation that changes nothing makes all training rows of a few."""
    rows = rng.permutation(np.resize(rng.permutation(len(x))[:distinct], len(x)))
    return x[rows], y[rows], xv, yv


@spoils
def entries_of_the_testers(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.93, distinct: int = 8) -> Rows:
    """Most rows of the table are a few that testers of the program entered again and again."""
    tests = rng.permutation(len(x))[:distinct]
    rows = np.where(rng.uniform(size=len(x)) < share, tests[rng.integers(0, distinct, len(x))], np.arange(len(x)))
    return x[rows], y[rows], xv, yv


@spoils
def less_of_one(x: Any, y: Any, xv: Any, yv: Any, rng: Any, keep: float = 0.2) -> Rows:
    """One class has fewer rows than the others."""
    label = int(rng.integers(0, _classes(y)))
    rows = np.flatnonzero(y == label)
    kept = np.sort(np.concatenate([np.flatnonzero(y != label), rows[: max(4, round(keep * len(rows)))]]))
    return x[kept], y[kept], xv, yv


# -- targets of other forms --------------------------------------------------------------------------------------------


@spoils
def class_of_a_newer_version(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03, by: int = 0) -> Rows:
    """A few rows have a class that came with a newer version: one more than there are outputs, or several."""
    y = y.copy()
    y[some(rng, len(y), share)] = _classes(y) + by
    return x, y, xv, yv


@spoils
def counted_from_one(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """No and yes are 1 and 2."""
    return x, y + 1, xv, yv + 1


@spoils
def axes_of_an_image(x: Any, y: Any, xv: Any, yv: Any, rng: Any, axes: int = 2) -> Rows:
    """Targets have axes of length one behind them, as if they were pictures of one pixel."""
    return x, y.reshape(-1, *[1] * axes), xv, yv.reshape(-1, *[1] * axes)


@spoils
def one_hot_in_a_row_of_its_own(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """One-hot labels with an axis of length one in the middle: (N, 1, classes)."""
    one = np.eye(_classes(y), dtype=np.float32)
    return x, one[y][:, None], xv, one[yv][:, None]


# -- what does no harm -------------------------------------------------------------------------------------------------


@spoils
def known_mistakes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.01) -> Rows:
    """One label of a hundred is wrong, in both parts, as in most collections."""
    made = []
    for part in (y, yv):
        part, rows = part.copy(), some(rng, len(part), share)
        part[rows] = part[rng.permutation(rows)]
        made.append(part)
    return x, made[0], xv, made[1]


@spoils
def seen_twice(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.03) -> Rows:
    """Some training rows stand there twice, with their label."""
    rows = rng.permutation(np.concatenate([np.arange(len(x)), some(rng, len(x), share)]))
    return x[rows], y[rows], xv, yv


@spoils
def written_with_two_digits(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs were rounded to two digits behind the point."""
    return np.round(x, 2).astype(np.float32), y, np.round(xv, 2).astype(np.float32), yv


@spoils
def fewer_held(x: Any, y: Any, xv: Any, yv: Any, rng: Any, rows: int = 90) -> Rows:
    """Only so many rows were held out."""
    return x, y, xv[:rows], yv[:rows]
