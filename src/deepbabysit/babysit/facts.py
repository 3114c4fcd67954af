"""Facts about data: plain numbers about features, labels and splits, from a bounded number of rows.

Everything here reads NumPy arrays only and changes none. Where not all rows were looked at, `DataFacts` says how many.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepbabysit.babysit import relations
from deepbabysit.babysit.columns import COMMON, Arrays
from deepbabysit.babysit.likeness import Likeness, likeness
from deepbabysit.babysit.relations import Association, Drift, Overlap
from deepbabysit.data.checks import bad_rows

NUMBERS = 2_000_000  # so many numbers are looked at for statistics of features
SCANNED = 60_000_000  # so many are scanned for NaN
NEAR = 4000  # so many training rows are compared with validation rows
RELATED = 800  # so many rows are compared with each other
MANY = 10  # a feature with so many values is a measurement, with fewer a category
OTHERS = 20  # validation rows from which on their copies of training rows are counted
MANY_COPIES = 0.05  # share of copies below which it is not asked where they come from
STANDS, SOME, FEW = 3.0, (0.02, 0.6), 5  # a value so far out, in ranges of the others, that so many rows have
SPIKED = 64  # so many features are looked at for single values and for units
OTHER_UNITS, GAP, UNIT, CHANCE = 60, 0.05, 2.0, 1.36  # rows of a unit; nothing between; times; one in 20
CRUSHED = 5.0  # a spread so many times the range of nearly all rows
SHOWN = 8  # so many row numbers are kept as examples

SPENT = "the time was spent"  # why something was not looked at

# seconds that the parts roughly take, on a slow machine: they are left out where less is left
A_NUMBER = 1e-7  # statistics of the features, for each number that is looked at
A_ROW = 6e-7  # keying a row for comparison
A_PAIR = 4e-8  # rows related to each other, for each pair
A_FEATURE = 1e-4  # comparing a feature of the two parts
ALONE = 3e-4  # trying a feature alone, on `RELATED` rows
MANY_MIXED = 0.12  # mixing features where there are too many for the linear probe
FEWER = 200  # rows that are compared with each other where there is no time for `RELATED`


@dataclass(frozen=True, slots=True)
class InputFacts:
    """One input array; per-feature numbers are over the rows looked at, one entry per feature of a flattened row.

    Attributes:
        shape: shape of one sample; `whole` whether all values are whole numbers, `ids` whether an Embedding reads it.
        rows: how many rows were looked at.
        mean, std, minimum, maximum: per feature.
        common: share of the most frequent value of each feature (a sparse feature is near 1).
        constant: features with one value only.
        bits: sum over the features with many values of log2 of how many each has: how well rows can be told apart.
        typical: how far values that differ from their feature's median lie from it (root of the mean square): of sparse
            features only what is there counts.
        most: how many different values the feature has that has most of them.
        all_std, all_minimum, all_maximum: over everything.
        stand_ins: (feature, value, share of the rows, times) where many rows have one value that lies so many times
            the range of all other values away from them.
        spikes: (feature, value, share of the rows, times) where one value among many stands in many rows: `times` is
            how far outside of all others it lies, against the tail of those (their outermost twentieth); 0 where it
            lies among them.
        units: (feature, times, share of the rows) where some rows have the same distribution as all others, so many
            times as wide and as far from 0, and nothing lies between.
        crushed: (feature, largest value, times) where few rows make the spread so many times as large as the range
            of 98 % of the rows.
    """

    shape: tuple[int, ...]
    whole: bool
    ids: bool
    rows: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    common: tuple[float, ...]
    constant: tuple[int, ...]
    bits: float
    most: int
    typical: float
    all_std: float
    all_minimum: float
    all_maximum: float
    stand_ins: tuple[tuple[int, float, float, float], ...] = ()
    crushed: tuple[tuple[int, float, float], ...] = ()
    spikes: tuple[tuple[int, float, float, float], ...] = ()
    units: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """The targets.

    Attributes:
        kind: ``classes`` (one class number per sample), ``one_hot``, ``multilabel`` (several 0/1 columns), or
            ``numbers``; `few` says that numbers are whole and few enough to be classes.
        shape: shape of one target; `whole` whether all are whole numbers, `floating` whether the array is floating.
        counts: rows of each class, by class number.
        mean, std, minimum, maximum: over all finite numbers; `spread` is the variance averaged over columns and
            `deviation` the mean absolute deviation from the median.
        stretch: how many rows of one class follow each other, on the average; None where targets are no classes.
    """

    kind: str
    shape: tuple[int, ...]
    whole: bool
    floating: bool
    few: bool
    counts: Mapping[int, int]
    mean: float
    std: float
    minimum: float
    maximum: float
    spread: float
    deviation: float
    stretch: float | None = None

    @property
    def classes(self) -> int:
        """How many classes occur."""
        return len(self.counts)


@dataclass(frozen=True, slots=True)
class NotFinite:
    """Rows with NaN or infinity in one array: how many, which first, and what was found there."""

    array: str
    rows: int
    of: int
    first: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of the data of a run.

    Attributes:
        rows: how many there are; `looked` how many of them were looked at for statistics.
        inputs: one entry per input array; labels: the targets, or None where there are none.
        not_finite: arrays with rows that are not finite (then nothing else is measured on those rows).
        duplicates: rows that equal an earlier row in x and y; `copies` rows that equal an earlier one in x.
        conflicts: rows whose x equals an earlier row's and whose label differs; `examples` pairs of such rows.
        agreement: by how many standard errors the labels of equal rows agree more than those of any two rows.
        once: rows of each class without those that equal an earlier one in x and y.
        overlap: validation rows that equal a training row; None where nothing was compared.
        near: training rows that are nearly the same as another; `held_near` validation rows that are nearly the same as
            a training row. None likewise.
        drift: how train and validation differ; None likewise.
        association: how well cheap probes see the labels in the inputs; None where it was not measured.
        pulls: what each class counts in the loss, of 1; empty where nothing is weighted.
        skipped: what was not measured, and why.
    """

    rows: int
    looked: int
    inputs: tuple[InputFacts, ...]
    labels: LabelFacts | None = None
    not_finite: tuple[NotFinite, ...] = ()
    duplicates: int = 0
    copies: int = 0
    conflicts: int = 0
    examples: tuple[tuple[int, int], ...] = ()
    agreement: float | None = None
    once: tuple[int, ...] = ()
    overlap: Overlap | None = None
    near: Likeness | None = None
    held_near: Likeness | None = None
    drift: Drift | None = None
    association: Association | None = None
    pulls: Mapping[int, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """How many numbers one sample holds."""
        return sum(len(found.mean) for found in self.inputs)

    @property
    def continuous(self) -> bool:
        """Whether features take so many values that equal rows hardly come about by chance."""
        bits = sum(found.bits for found in self.inputs)
        single = any(found.most > max(0.4 * found.rows, MANY) for found in self.inputs)
        return single or bits > math.log2(max(self.rows, 2)) + 8

    @property
    def copied(self) -> bool:
        """Whether rows equal others because somebody copied them after the split, and not by nature.

        Rows that repeat by nature stand in the validation part as often as they do among other training rows.
        """
        found = self.overlap
        if found is None or found.of < OTHERS:
            return False
        share = self.copies / max(self.rows, 1)
        error = math.sqrt(max(share * (1.0 - share), 0.0) / found.of)
        return share > MANY_COPIES and found.rows / found.of < 0.5 * share - 2.0 * error


def data_facts(
    x: Arrays,
    y: np.ndarray | None = None,
    validation: tuple[Arrays, np.ndarray | None] | None = None,
    *,
    ids: Sequence[bool] = (),
    deadline: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> DataFacts:
    """Return the facts about training and validation data.

    Arguments:
        x: the input arrays, rows first; y: the targets, rows first.
        validation: the same of the validation part.
        ids: for each input whether an Embedding reads it.
        deadline: time of `clock` at which it is to be over: what would take longer is left out.
    """
    names = _names("x", len(x))
    flags = [*ids, *[False] * (len(x) - len(ids))]
    bad = _not_finite(names, x, y, validation)
    rows = len(x[0])
    fine = _finite_rows(rows, [*x, *([] if y is None else [y])], bool(bad))
    width = sum(max(_width(a), COMMON * flag) for a, flag in zip(x, flags, strict=True))
    numbers = NUMBERS if deadline is None else min(NUMBERS, 0.3 * max(deadline - clock(), 0.0) / A_NUMBER)
    looked = _sample(fine, max(32, int(numbers) // max(1, width)))
    skipped: dict[str, str] = {}
    inputs = tuple(_input(a[looked], flag) for a, flag in zip(x, flags, strict=True)) if len(looked) else ()
    labels = None if y is None or not len(fine) else label_facts(y[fine])
    found = DataFacts(rows, len(looked), inputs, labels, not_finite=tuple(bad), skipped=skipped)
    if not len(looked):
        return found
    values: dict[str, object] = {}

    def late(name: str, seconds: float) -> bool:
        if deadline is not None and clock() + seconds > deadline:
            skipped[name] = SPENT
            return True
        return False

    if not late("copies", A_ROW * min(len(fine), relations.KEYED)):
        columns = relations.telling_columns(x, looked)
        twins = relations.copies(x, y, fine, columns, labels)
        values.update(duplicates=twins.same, copies=twins.copies, conflicts=twins.conflicts, examples=twins.examples,
                      agreement=twins.agreement, once=twins.once)
    compared = None
    if validation is not None:
        theirs, targets = validation
        same = len(theirs) == len(x) and all(a.shape[1:] == b.shape[1:] for a, b in zip(x, theirs, strict=True))
        held = _finite_rows(len(theirs[0]), [*theirs, *([] if targets is None else [targets])], bool(bad))
        if same and targets is not None:
            compared = (theirs, targets, _sample(held, RELATED // 2))
        if same and len(held) and not late("overlap", A_ROW * (len(fine) + len(held))):
            values["overlap"] = relations.overlap(x, theirs, fine, held, relations.telling_columns(x, looked))
        if same and len(held) and not late("drift", A_FEATURE * width):
            pair = None if y is None or targets is None else (y, targets)
            values["drift"] = relations.drift(x, theirs, _sample(fine, 2000), _sample(held, 2000), pair, labels, flags)
    related = _sample(fine, RELATED)
    if deadline is not None and clock() + _relating(len(related), width) > deadline:
        related = _sample(fine, FEWER)
    if labels is not None and y is not None and not late("association", _relating(len(related), width)):
        values["association"] = relations.associate(x, y, related, labels, deadline, clock, compared, flags)
    if labels is not None and y is not None:
        measured = labels.kind == "numbers"
        if not late("near", A_PAIR * RELATED**2):
            values["near"] = likeness(x, y, _sample(fine, RELATED), flags, numbers=measured)
        if compared is not None and not late("near", A_PAIR * RELATED * min(len(fine), NEAR)):
            values["held_near"] = likeness(x, y, _sample(fine, NEAR), flags, compared, measured)
    return replace(found, **values)  # type: ignore[arg-type]


def _relating(rows: int, width: int) -> float:
    """Return the seconds that asking the probes roughly takes."""
    mixed = MANY_MIXED if width > relations.LINEAR_FEATURES else 0.0
    alone = ALONE * min(width, relations.FEATURES_ALONE) * max(rows / RELATED, 0.5)
    return 10.0 * ALONE + A_PAIR * rows**2 + alone + mixed


def _names(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}[{number}]" for number in range(count)]


def _width(array: np.ndarray) -> int:
    return max(1, int(np.prod(array.shape[1:])))


def _not_finite(
    names: Sequence[str], x: Arrays, y: np.ndarray | None, validation: tuple[Arrays, np.ndarray | None] | None
) -> list[NotFinite]:
    given = [*zip(names, x, strict=True), *([] if y is None else [("y", y)])]
    if validation is not None:
        theirs, targets = validation
        given += [(f"validation {n}", a) for n, a in zip(_names("x", len(theirs)), theirs, strict=True)]
        given += [] if targets is None else [("validation y", targets)]
    found = []
    for name, array in given:
        if array.dtype.kind != "f":
            continue
        part = array[: max(1, SCANNED // _width(array))]
        rows = bad_rows(part)
        if len(rows):
            row = part[rows[0]]
            value = float(np.asarray(row)[~np.isfinite(row)].reshape(-1)[0])
            found.append(NotFinite(name, len(rows), len(part), tuple(int(r) for r in rows[:SHOWN]), value))
    return found


def _finite_rows(rows: int, arrays: Arrays, some_bad: bool) -> np.ndarray:
    """Return the numbers of the rows that are finite everywhere."""
    if not some_bad:
        return np.arange(rows)
    fine = np.ones(rows, bool)
    for array in arrays:
        if array.dtype.kind == "f":
            fine[bad_rows(array)] = False
    return np.flatnonzero(fine)


def _sample(rows: np.ndarray, limit: int) -> np.ndarray:
    """Return at most `limit` of the rows, drawn without repetition and in order; the same for the same rows."""
    if len(rows) <= limit:
        return rows
    rng = np.random.Generator(np.random.Philox(len(rows)))
    return rows[np.sort(rng.choice(len(rows), limit, replace=False))]


def flat(array: np.ndarray) -> np.ndarray:
    """Return rows of numbers, (N, features), in float64."""
    return np.ascontiguousarray(array.reshape(len(array), -1), dtype=np.float64)


def _input(array: np.ndarray, ids: bool) -> InputFacts:
    values = flat(array)
    ordered = np.sort(values, axis=0)
    count = len(values)
    steps = ordered[1:] != ordered[:-1]
    different = steps.sum(axis=0) + 1
    longest, ends = _runs(steps)
    mean, std = values.mean(axis=0), values.std(axis=0)
    std[different == 1] = 0.0  # rounding leaves a trace where all values are equal
    spread = values.std()
    away = values - np.median(ordered, axis=0)
    away = away[away != 0]
    return InputFacts(
        shape=tuple(array.shape[1:]),
        whole=array.dtype.kind in "iub" or bool((values == np.round(values)).all()),
        ids=ids,
        rows=count,
        mean=_floats(mean), std=_floats(std), minimum=_floats(ordered[0]), maximum=_floats(ordered[-1]),
        common=_floats(longest / count),
        constant=tuple(int(i) for i in np.flatnonzero(different == 1)) if count > 1 else (),
        most=int(different.max()),
        typical=float(np.sqrt((away**2).mean())) if away.size else 0.0,
        bits=float(np.log2(different[different >= MANY]).sum()),
        all_std=float(spread), all_minimum=float(ordered[0].min()), all_maximum=float(ordered[-1].max()),
        stand_ins=() if ids else _stand_ins(values, ordered, different),
        crushed=() if ids else _crushed(ordered, std, different),
        spikes=() if ids or array.ndim > 2 else _spikes(ordered, longest, ends, different),
        units=() if ids or array.ndim > 2 else _units(ordered, different),
    )


def _stand_ins(
    values: np.ndarray, ordered: np.ndarray, different: np.ndarray
) -> tuple[tuple[int, float, float, float], ...]:
    """Return values that many rows have at the end of a feature's range, far from all others."""
    found = []
    for end, turned in ((ordered[0], ordered), (ordered[-1], ordered[::-1])):
        count = (values == end).sum(axis=0)
        inner = np.take_along_axis(turned, np.minimum(count, len(values) - 1)[None], axis=0)[0]
        wide, gap = np.abs(turned[-1] - inner), np.abs(inner - end)
        far = (gap > STANDS * wide) & (wide > 0) & (different > MANY)
        far &= (count >= max(SOME[0] * len(values), FEW)) & (count <= SOME[1] * len(values))
        found += [
            (int(c), float(end[c]), float(count[c]) / len(values), float(gap[c] / wide[c])) for c in np.flatnonzero(far)
        ]
    return tuple(sorted(found))


def _crushed(ordered: np.ndarray, std: np.ndarray, different: np.ndarray) -> tuple[tuple[int, float, float], ...]:
    """Return features whose spread is that of a few rows."""
    rows = len(ordered)
    cut = math.ceil(0.01 * rows)
    if rows < 100:
        return ()
    inner = ordered[rows - 1 - cut] - ordered[cut]
    far = (inner > 0) & (std > CRUSHED * inner) & (different > 0.3 * rows)
    ends = np.where(np.abs(ordered[0]) > np.abs(ordered[-1]), ordered[0], ordered[-1])
    return tuple((int(c), float(ends[c]), float(std[c] / inner[c])) for c in np.flatnonzero(far))


def _spikes(
    ordered: np.ndarray, longest: np.ndarray, ends: np.ndarray, different: np.ndarray
) -> tuple[tuple[int, float, float, float], ...]:
    """Return values that stand in many rows of a feature of many values: outside of all others, or among them."""
    found = []
    for c in np.flatnonzero((different > 3 * MANY) & (longest >= SOME[0] * len(ordered)))[:SPIKED].tolist():
        column, end = ordered[:, c], int(ends[c])
        others = np.concatenate((column[: end - longest[c] + 1], column[end + 1 :]))
        count, value = len(others), float(column[end])
        if count < 3 * MANY:
            continue
        least = 0.05 * (others[-1] - others[0])
        if value < others[0]:
            times = (others[0] - value) / max(others[count // 20] - others[0], least)
        elif value > others[-1]:
            times = (value - others[-1]) / max(others[-1] - others[-1 - count // 20], least)
        else:
            times = 0.0
        found.append((c, value, float(longest[c]) / len(ordered), float(times)))
    return tuple(found)


def _units(ordered: np.ndarray, different: np.ndarray) -> tuple[tuple[int, float, float], ...]:
    """Return features of which some rows look like the others in another unit."""
    rows = len(ordered)
    few = max(math.ceil(SOME[0] * rows), OTHER_UNITS)
    if rows < 4 * few:
        return ()
    gaps = ordered[few : rows - few + 1] - ordered[few - 1 : rows - few]
    at = gaps.argmax(axis=0)
    wide = gaps.max(axis=0) > GAP * (ordered[-1] - ordered[0])
    found = []
    for c in np.flatnonzero(wide & (different > 0.2 * rows))[:SPIKED].tolist():
        low, high = ordered[: at[c] + few, c], ordered[at[c] + few :, c]
        times = float(high.std() / max(low.std(), 1e-300))
        # raw numbers in two units have one zero: that of the wider ones lies where that of the others does
        zero = (times * low.mean() - high.mean()) / (times - 1.0) if times > UNIT else math.inf
        if not zero < low[0]:
            continue
        first, second = ((part - part.mean()) / part.std() for part in (low, high))
        both = np.concatenate((first, second))
        apart = np.abs(np.searchsorted(first, both, "right") / len(first)
                       - np.searchsorted(second, both, "right") / len(second)).max()
        if apart < CHANCE * math.sqrt(rows / (len(low) * len(high))):
            found.append((c, times, min(len(low), len(high)) / rows))
    return tuple(found)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())


def _runs(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how long the longest run of equal values in each sorted column is, and where it ends."""
    if not len(steps):
        return np.ones(steps.shape[1], int), np.zeros(steps.shape[1], int)
    place = np.arange(1, len(steps) + 1)[:, None]
    run = place - np.maximum.accumulate(np.where(steps, place, 0), axis=0)
    return run.max(axis=0) + 1, run.argmax(axis=0) + 1


def label_facts(y: np.ndarray) -> LabelFacts:
    """Return the facts about targets (N, ...), all of them finite."""
    shape = tuple(y.shape[1:])
    columns = int(np.prod(shape)) if shape else 1
    floating = y.dtype.kind == "f"
    values = np.asarray(y.reshape(len(y), -1), np.float64) if y.size <= NUMBERS * 4 else _thin(y)
    whole = not floating or bool((values == np.round(values)).all())
    binary = bool(((values == 0) | (values == 1)).all())
    kind, few = "numbers", False
    counts: dict[int, int] = {}
    if columns > 1 and len(shape) == 1 and binary:
        kind = "one_hot" if bool((values.sum(axis=1) == 1).all()) else "multilabel"
        totals = values.sum(axis=0)
        counts = {int(i): int(n) for i, n in enumerate(totals)}
    elif columns == 1 and whole:
        levels, totals = np.unique(values, return_counts=True)
        few = len(levels) <= max(20, math.isqrt(len(values)))
        if few and (binary or not floating):
            kind = "classes"
        if few:
            counts = {int(level): int(n) for level, n in zip(levels, totals, strict=True)}
    middle = np.median(values, axis=0)
    changed = int((values[1:] != values[:-1]).any(axis=1).sum()) if counts and len(values) == len(y) else None
    return LabelFacts(
        kind, shape, whole, floating, few, counts,
        mean=float(values.mean()), std=float(values.std()), minimum=float(values.min()), maximum=float(values.max()),
        spread=float(values.var(axis=0).mean()), deviation=float(np.abs(values - middle).mean()),
        stretch=None if changed is None or kind == "multilabel" else len(values) / (changed + 1),
    )


def class_pulls(
    labels: LabelFacts | None, y: np.ndarray | None, weights: Any, options: Mapping[str, Any]
) -> dict[int, float]:
    """Return what each class counts in the loss, of 1; empty where there are no classes, or nothing is weighted.

    Arguments:
        labels, y: the targets.
        weights: of the rows (N,), or None.
        options: of the loss, that may weigh classes, too.
    """
    if labels is None or y is None or labels.kind not in ("classes", "one_hot"):
        return {}
    of_loss = dict(options["class_weight"]) if options.get("class_weight") else None
    rows = None if weights is None else np.asarray(weights, np.float64)
    if (rows is None and of_loss is None) or (rows is not None and rows.shape != (len(y),)):
        return {}
    classes = y.argmax(axis=1) if labels.kind == "one_hot" else np.asarray(y, np.float64).reshape(-1)
    pulls = {}
    for label in (c for c, n in labels.counts.items() if n):
        mine = classes == label
        pulls[label] = float(mine.sum() if rows is None else rows[mine].sum())
        if of_loss is not None:
            pulls[label] *= float(of_loss.get(label, 1.0))
    whole = sum(pulls.values())
    return {label: pull / whole for label, pull in pulls.items()} if whole > 0.0 else {}


def _thin(y: np.ndarray) -> np.ndarray:
    rows = _sample(np.arange(len(y)), max(1, NUMBERS * 4 // _width(y)))
    return np.asarray(y[rows].reshape(len(rows), -1), np.float64)
