"""What a column of a table is: numbers, categories, or nothing to learn from; and its cells as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepbabysit.data.csvfile import plain

# Cells that mean "no value". Not "none": it is a common category.
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "-nan", "null"})
# Plain ASCII decimals only: Python's float() would also take 1_000, nan, inf and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"([+-]?(?:0|[1-9]\d*))\.0*", re.ASCII)

MAX_LEVELS = 1000
_CODE_LEVELS = 10  # whole numbers 0..k or 1..k with at most this many values are codes, not amounts
_ROWS_PER_LEVEL = 5
_CODE_COLUMNS = 100  # a table with more integer columns than this is no code book (pixels, counts)


@dataclass
class Column:
    """One column: its cells, what it is taken for, why, and which rows have no usable value."""

    name: str
    cells: list[str]
    kind: str = ""  # "numeric", "categorical", "dropped"
    why: str = ""
    levels: list[str] = field(default_factory=list)
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    bad: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def is_missing(cell: str) -> bool:
    """Say whether a cell holds no value."""
    return cell.lower() in MISSING


def numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Return the cells as float64, NaN where a cell is missing, no number, or not finite."""
    try:
        values = np.array([float(cell) for cell in cells], np.float64)
        joined = "".join(cells)
        if joined.isascii() and "_" not in joined and np.isfinite(values).all():
            return values
    except ValueError:
        pass
    values = np.array([float(c) if _NUMBER.fullmatch(c) else np.nan for c in cells], np.float64)
    values[np.isinf(values)] = np.nan
    return values


def canonical(cell: str) -> str:
    """Write a level one way: ``1.0`` and ``1`` are the same category (``01`` and ``1`` are not)."""
    whole = _WHOLE.fullmatch(cell)
    return whole.group(1) if whole else cell


def sort_levels(levels: set[str]) -> list[str]:
    """Order levels: by value when all are numbers, else as text."""
    if all(_NUMBER.fullmatch(level) for level in levels):
        return sorted(levels, key=lambda level: (float(level), level))
    return sorted(levels)


def distinct_levels(cells: Sequence[str], rows: NDArray[np.int64]) -> list[str]:
    """Return the ordered levels among these rows, missing cells aside."""
    return sort_levels({canonical(cells[i]) for i in rows.tolist() if not is_missing(cells[i])})


def guess(column: Column, code_book: bool, listed: bool) -> None:
    """Decide what a column is; the rules that the documentation of `read_table` states.

    code_book: small whole numbers may be codes. listed: the caller listed the categorical columns, so text that is not
    among them is not taken for categories.
    """
    cells = column.cells
    column.values = numbers(cells)
    present = [cell for cell in cells if not is_missing(cell)]
    found = np.isfinite(column.values)
    if not present:
        column.kind, column.why = "dropped", "every cell is missing"
    elif 2 * int(found.sum()) > len(present):
        _guess_number(column, found, code_book)
    else:
        distinct = {canonical(cell) for cell in present}
        if len(distinct) == 1 and len(present) == len(cells):
            column.kind, column.why = "dropped", f"constant, always {plain(present[0])!r}"
        elif len(distinct) > max(20, len(present) // 2) or len(distinct) > MAX_LEVELS:
            column.kind = "dropped"
            column.why = f"text with {len(distinct)} different values in {len(present)} rows: a name or free text"
        elif listed:
            shown = ", ".join(repr(plain(level, 20)) for level in sorted(distinct)[:3])
            raise ValueError(
                f"column {plain(column.name)!r} holds text ({shown}, ...) and is not in categorical=[...]; "
                f"add it there, or leave it out with drop=[{plain(column.name)!r}]"
            )
        else:
            column.kind, column.why = "categorical", "text"


def _guess_number(column: Column, found: NDArray[np.bool_], code_book: bool) -> None:
    values = column.values[found]
    distinct = np.unique(values)
    whole = bool((distinct == np.round(distinct)).all())
    everywhere = bool(found.all())
    count = len(distinct)
    if count == 1 and everywhere:
        column.kind, column.why = "dropped", f"constant, always {distinct[0]:g}"
    elif whole and everywhere and len(values) >= 20 and _is_row_number(column.name, values, distinct):
        column.kind, column.why = "dropped", "a row number or identifier"
    elif (
        code_book
        and whole
        and 3 <= count <= _CODE_LEVELS
        and distinct[0] in (0, 1)
        and distinct[-1] == distinct[0] + count - 1
        and len(values) >= _ROWS_PER_LEVEL * count
    ):
        column.kind = "categorical"
        column.why = f"whole numbers {distinct[0]:g}..{distinct[-1]:g} without a gap, taken for codes"
    else:
        column.kind, column.why = "numeric", ""


def _is_row_number(name: str, values: NDArray[np.float64], distinct: NDArray[np.float64]) -> bool:
    if len(distinct) != len(values):
        return False
    if values[0] in (0, 1) and (np.diff(values) == 1).all():
        return True
    lowered = name.lower()
    return lowered in ("id", "index") or lowered.endswith(("_id", " id"))


def allow_codes(columns: Sequence[Column]) -> bool:
    """Say whether small whole numbers may be codes in this table: not when it has very many integer columns."""
    return len(columns) <= _CODE_COLUMNS


def encode(name: str, levels: Sequence[str], cells: Sequence[str], lines: Sequence[int]) -> NDArray[np.int64]:
    """Return the level number of each cell; a cell outside the levels is an error that names its line."""
    code: dict[str, int] = {level: i for i, level in enumerate(levels)}
    wrong = [i for i, cell in enumerate(cells) if canonical(cell) not in code]
    if wrong:
        from deepbabysit.errors import nearest

        value = cells[wrong[0]]
        close = nearest(value, levels)
        hint = f"; did you mean {plain(close[0])!r}?" if close else ""
        told = ", ".join(plain(level, 20) for level in levels[:20]) + (", ..." if len(levels) > 20 else "")
        at = ", ".join(str(lines[i]) for i in wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(
            f"column {plain(name)!r} holds {plain(value)!r}, not one of its {len(levels)} levels ({told}){hint} "
            f"Line{'s' if len(wrong) > 1 else ''} {at}; fix these, or give levels={{{plain(name)!r}: [...]}}"
        )
    return np.array([code[canonical(cell)] for cell in cells], np.int64)


def as_levels(name: str, levels: Any) -> list[str]:
    """Check levels given by the caller or a schema."""
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise TypeError(f"the levels of column {plain(name)!r} must be a list, got {levels!r}")
    made = [canonical(str(level).strip()) for level in levels]
    if not made or len(set(made)) != len(made):
        raise ValueError(f"the levels of column {plain(name)!r} must be different and at least one, got {made!r}")
    if len(made) > MAX_LEVELS:
        raise ValueError(f"column {plain(name)!r} has {len(made)} levels; the limit is {MAX_LEVELS}")
    return made
