"""Cutting data into training, validation and test parts: every row in exactly one, and said in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from deepbabysit.data.order import as_seed, split_order
from deepbabysit.data.rows import Indices, Rows, as_rows, count_rows, take
from deepbabysit.data.targets import class_codes
from deepbabysit.errors import unknown

_NAMES = {2: ("train", "test"), 3: ("train", "validation", "test")}


@final
class Part(tuple[Rows, Rows]):
    """One part of a split: unpacks as ``x, y``; ``.rows`` are its row numbers in the original data.

    ``.class_counts`` maps class name to rows (empty for a target of numbers).
    """

    x: Rows
    y: Rows
    rows: Indices
    class_counts: dict[str, int]

    def __new__(cls, x: Rows, y: Rows, rows: Indices, class_counts: dict[str, int]) -> Part:
        """Make the pair (x, y) and keep where it came from."""
        part = super().__new__(cls, (x, y))
        part.x, part.y, part.rows, part.class_counts = x, y, rows, class_counts
        return part

    def __repr__(self) -> str:
        return f"Part({len(self.rows)} rows{_counts_text(self.class_counts)})"


@final
class Split:
    """The parts of a split, by name (``.train``, ``.validation``, ``.test``) and in this order when unpacked."""

    def __init__(self, parts: dict[str, Part], how: str) -> None:
        self.parts = parts
        self._how = how

    @property
    def train(self) -> Part:
        """The part to train on."""
        return self.parts["train"]

    @property
    def validation(self) -> Part:
        """The part to choose settings on; only a split into three has it."""
        if "validation" not in self.parts:
            raise AttributeError(
                "this split has two parts, train and test; for a validation part use fractions=(0.8, 0.1, 0.1)"
            )
        return self.parts["validation"]

    @property
    def test(self) -> Part:
        """The part to measure on, once."""
        return self.parts["test"]

    def describe(self) -> str:
        """Say in one paragraph which rows went where, with the class counts of every part."""
        told = "; ".join(
            f"{name} {len(part.rows)} rows{_counts_text(part.class_counts)}" for name, part in self.parts.items()
        )
        total = sum(len(part.rows) for part in self.parts.values())
        return f"Split {total} rows ({self._how}): {told}."

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts.values())

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, key: int | str) -> Part:
        if isinstance(key, str):
            if key not in self.parts:
                raise KeyError(unknown("part", key, self.parts))
            return self.parts[key]
        return list(self.parts.values())[key]

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


class Holdout(NamedTuple):
    """Row numbers to train on, row numbers held out, and one sentence that says what was held out."""

    train: Indices
    held: Indices
    sentence: str


def split(
    x: Any,
    y: Any = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    stratify: bool | str = "auto",
    seed: int | None = 0,
) -> Split:
    """Cut data into train, validation and test (three fractions) or train and test (two); shuffled.

    Part sizes are ``fraction * rows`` rounded by largest remainder, so that every row is in exactly one part. With
    stratification each class is divided in the same proportions: part p gets ``rows_of_class * size_p / rows`` rows of
    it, to within one row (two for the validation part); a class with a single row stays in train.

    x, y: arrays, or tuples or mappings of arrays, with the same first axis; y may be None. fractions: two or three
    that sum to 1, or whole row counts that sum to the number of rows, as in (50000, 10000, 10000). stratify: "auto"
    (for classification targets: text, booleans, one-hot, integers with few values), True or False. seed: 0 .. 2**64-1,
    or None for a fresh one.

    Raises ValueError for fractions that do not sum up, parts without rows, empty data, unequal lengths.

    >>> data = np.arange(20.0).reshape(10, 2)
    >>> train, validation, test = split(data, np.arange(10) % 2, seed=1)
    >>> x_train, y_train = train
    >>> x_train.shape, sorted(np.concatenate([train.rows, validation.rows, test.rows]).tolist())
    ((8, 2), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    >>> print(split(data, np.arange(10) % 2, fractions=(0.8, 0.2)).describe())
    Split 10 rows (shuffled with seed 0, stratified by class): train 8 rows (class 0: 4, class 1: 4); test 2 rows \
(class 0: 1, class 1: 1).
    """
    seed = as_seed(seed)
    x = as_rows("x", x)
    y = None if y is None else as_rows("y", y)
    rows = count_rows(x=x, y=y)
    sizes = _part_sizes(rows, fractions)
    names = _NAMES[len(sizes)]
    codes, classes, how = _strata(y, stratify)

    left = split_order(rows, seed)
    cut: dict[str, Indices] = {}
    # The last part is cut first, out of everything: the test part then depends on its own size only.
    for name, size in reversed(list(zip(names[1:], sizes[1:], strict=True))):
        left, cut[name] = _cut(left, codes, size)
    cut[names[0]] = left
    parts = {}
    for name in names:
        part_y = None if y is None else take(y, cut[name])
        parts[name] = Part(take(x, cut[name]), part_y, cut[name], _count(codes, classes, cut[name]))
    return Split(parts, f"shuffled with seed {seed}, {how}")


def holdout(
    x: Any,
    y: Any = None,
    fraction: float = 0.1,
    split: str = "shuffle",
    stratify: bool | str = "auto",
    seed: int | None = 0,
) -> Holdout:
    """Choose rows to hold out for validation, without copying data, and say which.

    The held part has ``round(fraction * rows)`` rows, at least 1, and leaves at least 1. ``split="shuffle"`` draws
    them, each class in proportion when stratified; ``split="time"`` keeps the order and takes the last rows.

    x, y: as in `split`. fraction: between 0 and 1, exclusive. stratify: "auto", True or False (shuffle only).
    Returns (train, held, sentence); row numbers are int64.

    Raises ValueError for a fraction outside (0, 1), fewer than 2 rows, or an unknown way of splitting.

    >>> result = holdout(np.zeros((10, 3)), np.arange(10) % 2, fraction=0.2, split="time")
    >>> result.held.tolist(), result.sentence
    ([8, 9], 'held out the last 2 of 10 rows for validation, in order (class 0: 1, class 1: 1)')
    """
    seed = as_seed(seed)
    if split not in ("shuffle", "time"):
        raise ValueError(unknown("split", split, ["shuffle", "time"]))
    x = as_rows("x", x)
    y = None if y is None else as_rows("y", y)
    rows = count_rows(x=x, y=y)
    if isinstance(fraction, bool) or not 0.0 < fraction < 1.0:
        raise ValueError(f"the fraction to hold out must lie between 0 and 1, got {fraction!r}; for instance 0.1")
    if rows < 2:
        raise ValueError(f"cannot hold out a part of {rows} row; give at least 2 rows, or separate validation_data")
    size = min(max(round(fraction * rows), 1), rows - 1)
    if split == "time":
        codes, classes, _ = _strata(y, "auto")
        held = np.arange(rows - size, rows)
        told = f"held out the last {size} of {rows} rows for validation, in order"
        return Holdout(np.arange(rows - size), held, told + _counts_text(_count(codes, classes, held)))
    codes, classes, how = _strata(y, stratify)
    train, held = _cut(split_order(rows, seed, stream=1), codes, size)
    told = f"held out {size} of {rows} rows for validation, shuffled with seed {seed}, {how}"
    return Holdout(train, held, told + _counts_text(_count(codes, classes, held)))


def _part_sizes(rows: int, fractions: Sequence[float]) -> list[int]:
    values = list(fractions)
    if len(values) not in _NAMES:
        raise ValueError(
            f"fractions must be two (train, test) or three (train, validation, test), got {len(values)}: {values!r}"
        )
    names = _NAMES[len(values)]
    if any(isinstance(v, bool) or not isinstance(v, (int, float, np.integer, np.floating)) for v in values):
        raise TypeError(f"fractions must be numbers, got {values!r}")
    if not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"every part needs a fraction above 0, got {values!r}; for one part less give one number less")
    total = sum(values)
    if all(isinstance(v, (int, np.integer)) for v in values):
        sizes = [int(v) for v in values]
        if total != rows:
            share = tuple(round(float(v / total), 4) for v in values)
            raise ValueError(f"row counts {tuple(sizes)} sum to {total}, not to the {rows} rows; as fractions: {share}")
        return sizes
    if abs(total - 1.0) > 1e-6:
        share = tuple(round(float(v / total), 4) for v in values)
        raise ValueError(f"fractions {tuple(values)} sum to {total:g}, not to 1; in the same proportions: {share}")
    exact = np.array([v / total * rows for v in values])
    counts = np.floor(exact + 1e-9).astype(int)
    for i in np.argsort(-(exact - counts), kind="stable")[: rows - int(counts.sum())]:
        counts[i] += 1
    if counts.min() < 1:
        empty = names[int(counts.argmin())]
        raise ValueError(f"{rows} rows are too few for fractions {tuple(values)}: the {empty} part would be empty")
    return [int(c) for c in counts]


def _strata(y: Rows, stratify: bool | str) -> tuple[NDArray[np.int64] | None, list[str], str]:
    """Return (class code per row or None, class names, how to say it)."""
    if not isinstance(stratify, (str, bool)) or stratify not in ("auto", True, False):
        told = repr(stratify) if isinstance(stratify, str) else type(stratify).__name__
        raise ValueError(f"stratify must be 'auto', True or False, got {told}; True stratifies by y")
    found = None
    if isinstance(y, np.ndarray) and stratify is not False:
        found = class_codes(y, force=stratify is True)
    if found is None:
        if stratify is True:
            raise ValueError("stratify=True needs one target array of classes (text, integers or one-hot rows)")
        return None, [], "not stratified"
    if stratify is True and len(found[1]) == len(found[0]) > 1:
        raise ValueError(f"stratify=True: all {len(found[0])} targets differ, they are no classes; use stratify=False")
    return found[0], found[1], "stratified by class"


def _cut(order: Indices, codes: NDArray[np.int64] | None, size: int) -> tuple[Indices, Indices]:
    """Divide shuffled row numbers into (rest, held) with ``size`` held, each class in proportion."""
    if codes is None:
        return order[size:], order[:size]
    member = codes[order]
    counts = np.bincount(member)
    quota = _quota(counts, size)
    # Rank of each row within its class, in shuffled order: the first `quota` of a class are held.
    by_class = np.argsort(member, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(order), np.int64)
    rank[by_class] = np.arange(len(order)) - starts[member[by_class]]
    held = rank < quota[member]
    return order[~held], order[held]


def _quota(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Share ``size`` held rows among classes by largest remainder; a class keeps its last row where possible."""
    exact = counts * (size / counts.sum())
    quota: NDArray[np.int64] = np.minimum(np.floor(exact + 1e-9).astype(np.int64), counts)
    for room in (counts - 1, counts):
        while (missing := size - int(quota.sum())) > 0:
            open_classes = np.flatnonzero(quota < room)
            if not len(open_classes):
                break
            remainder = exact[open_classes] - quota[open_classes]
            # Equal remainders: larger classes first, so that rare ones keep their rows for training.
            chosen = open_classes[np.lexsort((-counts[open_classes], -np.round(remainder, 9)))][:missing]
            quota[chosen] += 1
    return quota


def _count(codes: NDArray[np.int64] | None, classes: list[str], rows: Indices) -> dict[str, int]:
    if codes is None:
        return {}
    counts = np.bincount(codes[rows], minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _counts_text(counts: dict[str, int]) -> str:
    if not counts:
        return ""
    if len(counts) <= 10:
        return " (" + ", ".join(f"class {name}: {count}" for name, count in counts.items()) + ")"
    rarest = min(counts, key=lambda name: counts[name])
    return f" ({len(counts)} classes, {counts[rarest]} to {max(counts.values())} rows each, fewest: class {rarest})"
