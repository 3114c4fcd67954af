"""Reading a table for training: inputs as a float32 matrix with one-hot columns, a target, and what was guessed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepbabysit.data.columns import (
    MAX_LEVELS,
    Column,
    allow_codes,
    as_levels,
    distinct_levels,
    encode,
    guess,
    is_missing,
    numbers,
)
from deepbabysit.data.csvfile import Cells, plain, read_cells
from deepbabysit.errors import unknown

TASKS = ("binary", "multiclass", "regression")
_MAX_CELLS = 1 << 31  # of the encoded matrix: 8 GiB of float32
_MAX_CLASSES = 20  # a target of whole numbers with more distinct values is an amount
_ROWS_PER_CLASS = 5


@dataclass(frozen=True, eq=False)
class Table:
    """A table ready for training.

    x: float32 (N, D); missing cells are NaN only after ``missing="mean"``. y: int64 class codes (N,), float32 (N,) for
    regression, None where the file has no target. columns: D encoded names (``age``, ``cp=0``, ``cp=1``, ...).
    numeric: positions in x of the columns that are numbers, for ``MinMax(columns=table.numeric)``. schema: JSON-able,
    ``read_table(other, schema=schema)`` encodes new files the same way. task: binary, multiclass or regression.
    class_names: in the order of the codes; empty for regression. guess: what was decided for each column, in words.
    rows: int64 (N,), the data rows of the file that are here (from 0).
    """

    x: NDArray[np.float32]
    y: NDArray[Any] | None
    columns: tuple[str, ...]
    numeric: tuple[int, ...]
    schema: dict[str, Any]
    task: str
    class_names: tuple[str, ...]
    guess: str
    rows: NDArray[np.int64]


@dataclass
class _Plan:
    """What each column of the file is used for."""

    features: list[Column]
    target: Column | None
    task: str
    ignored: list[str]
    schema: dict[str, Any] | None = None  # the one given, when there is one


def read_table(
    path: str | os.PathLike[str],
    target: str | None = None,
    categorical: str | Sequence[str] = "auto",
    levels: Mapping[str, Sequence[Any]] | None = None,
    *,
    missing: str = "error",
    task: str = "auto",
    numeric: Sequence[str] = (),
    drop: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
    verbose: bool = True,
) -> Table:
    """Read a CSV or TSV file with a header line into inputs and target.

    path: the file; comma, semicolon or tab (found from the first lines, or ``delimiter``), quotes, byte-order mark and
    CRLF are understood. target: the column to predict. Needed unless a schema names it.

    What a column is taken for, with ``categorical="auto"``:

    - more than half of its values are numbers: **numeric**. Except whole numbers 0..k or 1..k without a gap, 3 to 10 of
      them, at least 5 rows for each: those are codes, **categorical** (not in tables of more than 100 columns).
      A 0/1 column stays one numeric column. Row numbers and all-different ``id`` columns are **left out**.
    - otherwise text: **categorical** with its sorted distinct values as levels; with more than max(20, rows / 2) or
      1000 of them a name or free text, **left out**.
    - constant columns are **left out**.

    categorical=[names] replaces the guesses about codes and text: these columns are categories, the others numbers.
    numeric, drop: names to keep as numbers, to leave out. levels: {name: [level, ...]} fixes the levels and their order
    (and makes the column categorical); otherwise they come from the whole column. Each level becomes one 0/1 column of
    x. The target is "binary" (two values), "multiclass" (text, or whole numbers with at most 20 values and 5 rows each)
    or "regression"; ``task`` overrides. The guess is printed unless ``verbose=False`` or a schema is given.

    missing: what to do with cells that are empty, ``?``, ``NA``, ``nan``, ``null``, or no number in a numeric column.
    "error" names them. "drop" leaves these rows out. "mean" leaves NaN in numeric inputs, to be filled by a
    `MeanImputer` that is fitted on the training rows (a mean over all rows would leak the test rows); other missing
    cells stay an error.

    schema: ``table.schema`` of an earlier table; columns are found by name, the target may be absent (y is None).

    Raises FileNotFoundError (with nearby names); ValueError for an empty file, a header alone, duplicate names, ragged
    rows, broken quotes, binary content, an unknown column (nearest names), missing cells, an unknown level.

    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = pathlib.Path(folder.name) / "pets.csv"
    >>> _ = file.write_text("kind,weight,bites\\ncat,3.5,0\\ndog,20,1\\ncat,4,0\\n")
    >>> table = read_table(file, target="bites", verbose=False)
    >>> table.columns, table.x.tolist(), table.task
    (('kind=cat', 'kind=dog', 'weight'), [[1.0, 0.0, 3.5], [0.0, 1.0, 20.0], [1.0, 0.0, 4.0]], 'binary')
    >>> folder.cleanup()
    """
    if missing not in ("error", "drop", "mean"):
        raise ValueError(unknown("way to treat missing cells", missing, ["error", "drop", "mean"]))
    if task not in ("auto", *TASKS):
        raise ValueError(unknown("task", task, ["auto", *TASKS]))
    cells = read_cells(path, delimiter, encoding)
    if schema is None:
        plan = _guess_plan(cells, target, categorical, dict(levels or {}), task, numeric, drop)
    elif categorical != "auto" or levels or numeric or drop or task != "auto":
        raise ValueError("a schema already says what every column is; give it alone, or the other arguments alone")
    else:
        plan = _schema_plan(cells, target, schema)
    kept = _treat_missing(cells, plan, missing)
    table = _build(cells, plan, kept)
    if verbose and schema is None:
        print(table.guess)
    return table


def _names(what: str, given: Iterable[str], header: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{what} must be a list of column names, got the text {given!r}; write {what}=[{given!r}]")
    names = list(given)
    for name in names:
        if name not in header:
            raise ValueError(f"{what}: " + unknown("column", name, map(plain, header)))
    return names


def _guess_plan(
    cells: Cells,
    target: str | None,
    categorical: str | Sequence[str],
    levels: dict[str, Sequence[Any]],
    task: str,
    numeric: Sequence[str],
    drop: Sequence[str],
) -> _Plan:
    header = cells.header
    if target is None:
        shown = ", ".join(plain(name) for name in header[:30])
        raise ValueError(f"which column is to be predicted? Say target=...; the columns are: {shown}")
    if target not in header:
        raise ValueError("target: " + unknown("column", target, map(plain, header)))
    listed = not isinstance(categorical, str)
    if not listed and categorical != "auto":
        raise ValueError(f"categorical must be 'auto' or a list of column names, got {categorical!r}")
    chosen = set(_names("categorical", categorical if listed else [], header)) | set(_names("levels", levels, header))
    forced, left_out = set(_names("numeric", numeric, header)), set(_names("drop", drop, header))
    for both in sorted((chosen & forced) | (chosen & left_out) | (forced & left_out)):
        raise ValueError(f"column {plain(both)!r} is named in two of categorical/levels, numeric and drop")
    if target in left_out:
        raise ValueError(f"the target {plain(target)!r} cannot be left out; remove it from drop")

    columns = [Column(name, list(column)) for name, column in zip(header, zip(*cells.rows, strict=True), strict=True)]
    made_target = next(column for column in columns if column.name == target)
    features = [column for column in columns if column.name != target]
    for column in features:
        if column.name in left_out:
            column.kind, column.why = "dropped", "as asked"
        elif column.name in chosen:
            column.kind, column.why = "categorical", "as asked"
        elif column.name in forced:
            column.kind, column.why, column.values = "numeric", "as asked", numbers(column.cells)
        else:
            guess(column, code_book=not listed and allow_codes(columns), listed=listed)
        if column.name in levels:
            column.levels = as_levels(column.name, levels[column.name])
    if target in levels:
        made_target.levels = as_levels(target, levels[target])
    if task == "auto":
        task = _guess_task(made_target, classes=target in chosen)
    made_target.kind = "numeric" if task == "regression" else "categorical"
    made_target.values = numbers(made_target.cells)
    return _Plan(features, made_target, task, [])


def _guess_task(target: Column, classes: bool) -> str:
    present = np.array([i for i, cell in enumerate(target.cells) if not is_missing(cell)], np.int64)
    levels = target.levels or distinct_levels(target.cells, present)
    if not levels:
        raise ValueError(f"the target {plain(target.name)!r} has no value at all")
    if len(levels) == 1:
        raise ValueError(f"the target {plain(target.name)!r} is always {plain(levels[0])!r}: there is nothing to learn")
    values = numbers(target.cells)[present]
    found = np.isfinite(values)
    if not classes and 2 * int(found.sum()) > len(values):
        whole = bool(found.all()) and bool((values == np.round(values)).all())
        few = len(levels) == 2 or (len(levels) <= _MAX_CLASSES and len(values) >= _ROWS_PER_CLASS * len(levels))
        if not (whole and few):
            return "regression"
    elif len(levels) > max(_MAX_CLASSES, len(present) // 2) or len(levels) > MAX_LEVELS:
        raise ValueError(
            f"the target {plain(target.name)!r} is text with {len(levels)} different values in {len(present)} rows: "
            f"too many to be classes; choose another column"
        )
    return "binary" if len(levels) == 2 else "multiclass"


def _schema_plan(cells: Cells, target: str | None, schema: Mapping[str, Any]) -> _Plan:
    if schema.get("format") != 1 or not isinstance(schema.get("columns"), list):
        raise ValueError("this schema has an unknown format; give the .schema of a Table (format 1)")
    place = {name: i for i, name in enumerate(cells.header)}
    features: list[Column] = []
    for entry in schema["columns"]:
        name, kind = str(entry["name"]), entry["kind"]
        if kind not in ("numeric", "categorical", "dropped"):
            raise ValueError(f"schema: column {plain(name)!r}: " + unknown("kind", kind, ["numeric", "categorical"]))
        if kind == "dropped":
            continue
        if name not in place:
            known_names = [plain(n) for n in cells.header]
            raise ValueError(f"{cells.name} lacks a column of the schema: " + unknown("column", name, known_names))
        column = Column(name, [row[place[name]] for row in cells.rows], kind, "schema")
        if kind == "categorical":
            column.levels = as_levels(name, entry["levels"])
        else:
            column.values = numbers(column.cells)
        features.append(column)
    told = schema.get("target") or {}
    goal, task = str(told.get("name")), told.get("task", "")
    if target is not None and target != goal:
        raise ValueError(f"the schema's target is {goal!r}, got target={target!r}")
    if task not in TASKS:
        raise ValueError("schema: " + unknown("task", task, TASKS))
    made = None
    if goal in place:
        kind = "numeric" if task == "regression" else "categorical"
        made = Column(goal, [row[place[goal]] for row in cells.rows], kind)
        made.values = numbers(made.cells)
        if task != "regression":
            made.levels = as_levels(goal, told["classes"])
    known = {str(entry["name"]) for entry in schema["columns"]} | {goal}
    return _Plan(features, made, task, [n for n in cells.header if n not in known], dict(schema))


def _treat_missing(cells: Cells, plan: _Plan, missing: str) -> NDArray[np.int64]:
    """Return the rows to keep; raise for cells without a value unless they are to be dropped or filled."""
    faults: list[str] = []
    bad = np.zeros(len(cells.rows), bool)
    used = [column for column in plan.features if column.kind != "dropped"]
    for column in [*used, *([plan.target] if plan.target else [])]:
        if column.kind == "numeric":
            column.bad = np.flatnonzero(np.isnan(column.values))
        else:  # a token of the caller's levels is a level, whatever it looks like
            lost = [i for i, cell in enumerate(column.cells) if is_missing(cell) and cell not in column.levels]
            column.bad = np.array(lost, np.int64)
        filled = missing == "mean" and column.kind == "numeric" and column is not plan.target
        if len(column.bad) and not filled:
            bad[column.bad] = True
            faults.append(_fault(cells, column))
    if missing == "drop":
        if bad.all():
            raise ValueError(f"{cells.name}: every row has a missing cell, nothing is left: " + "; ".join(faults))
        return np.flatnonzero(~bad)
    if faults:
        shown = faults[:10] + ([f"and {len(faults) - 10} more columns"] if len(faults) > 10 else [])
        text = any(column.kind == "numeric" and column is not plan.target and len(column.bad) for column in used)
        fixes = [f'missing="drop" leaves these {int(bad.sum())} rows out']
        if any(column.kind == "categorical" and len(column.bad) for column in used):
            fixes.append("levels={column: [...]} that name such a cell make it a level of its own")
        if text:
            name = next(plain(c.name) for c in used if c.kind == "numeric" and len(c.bad))
            if missing == "error":
                fixes.append('missing="mean" leaves gaps for a MeanImputer fitted on the training rows')
            fixes.append(f"categorical=[{name!r}] if the column holds categories")
        raise ValueError(f"{cells.name}: " + "\n  ".join(shown) + "\nFix the file, or: " + "; ".join(fixes))
    return np.arange(len(cells.rows))


def _fault(cells: Cells, column: Column) -> str:
    kinds = "missing or not numbers" if column.kind == "numeric" else "missing"
    some = column.bad[:6].tolist()
    seen = ", ".join(sorted({repr(plain(column.cells[i], 20)) for i in some}))
    more = f" and {len(column.bad) - len(some)} more" if len(column.bad) > len(some) else ""
    lines = ", ".join(str(cells.lines[i]) for i in some)
    rows = ", ".join(str(i) for i in some)
    return (
        f"column {plain(column.name)!r} has {len(column.bad)} cells that are {kinds} ({seen}): "
        f"lines {lines}{more} of the file (rows {rows}{more} counting from 0)"
    )


def _build(cells: Cells, plan: _Plan, kept: NDArray[np.int64]) -> Table:
    lines = [cells.lines[i] for i in kept.tolist()]
    notes: list[str] = []
    for column in plan.features:
        if column.kind == "categorical" and not column.levels:
            column.levels = distinct_levels(column.cells, kept)
            if len(column.levels) > MAX_LEVELS:
                raise ValueError(
                    f"column {plain(column.name)!r} has {len(column.levels)} levels; the limit is {MAX_LEVELS}"
                )
            if column.why == "text" and len(column.levels) == 1:
                column.kind, column.why = "dropped", f"constant, always {plain(column.levels[0])!r}"
    used = [column for column in plan.features if column.kind != "dropped"]
    if not used:
        raise ValueError(f"{cells.name}: no column is left to learn from; every one was left out as a name or constant")
    width = sum(len(column.levels) if column.kind == "categorical" else 1 for column in used)
    if width * len(kept) > _MAX_CELLS:
        raise ValueError(f"{cells.name}: {len(kept)} rows of {width} encoded columns exceed 8 GiB; drop columns")

    x = np.zeros((len(kept), width), np.float32)
    names: list[str] = []
    numeric: list[int] = []
    for column in used:
        at = len(names)
        if column.kind == "categorical":
            codes = encode(column.name, column.levels, [column.cells[i] for i in kept.tolist()], lines)
            x[np.arange(len(kept)), at + codes] = 1.0
            names.extend(f"{column.name}={level}" for level in column.levels)
        else:
            x[:, at] = _narrow(column, column.values[kept], lines, notes)
            names.append(column.name)
            numeric.append(at)
    y = _target(plan, kept, lines, notes)
    schema = _schema(plan)
    task = plan.task
    classes = tuple(schema["target"]["classes"]) if task != "regression" else ()
    told = _told(cells, plan, kept, width, classes, notes)
    return Table(x, y, tuple(names), tuple(numeric), schema, task, classes, told, kept)


def _narrow(column: Column, values: NDArray[np.float64], lines: Sequence[int], notes: list[str]) -> NDArray[np.float32]:
    """Cast to float32; what does not fit is an error, what loses digits of whole numbers is said."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    over = np.flatnonzero(np.isinf(narrow))
    if len(over):
        raise ValueError(
            f"column {plain(column.name)!r} holds {values[over[0]]:g} in line {lines[over[0]]}, beyond float32; "
            f"rescale the column or leave it out with drop=[{plain(column.name)!r}]"
        )
    lost = (values == np.round(values)) & (np.abs(values) > 1 << 24) & (narrow != values)
    if lost.any():
        notes.append(f"{plain(column.name)!r}: {int(lost.sum())} whole numbers above 2^24 are rounded to float32")
    return narrow


def _target(plan: _Plan, kept: NDArray[np.int64], lines: Sequence[int], notes: list[str]) -> NDArray[Any] | None:
    target = plan.target
    if target is None:
        return None
    if plan.task == "regression":
        return _narrow(target, target.values[kept], lines, notes)
    if not target.levels:
        target.levels = distinct_levels(target.cells, kept)
        if plan.task == "binary" and len(target.levels) != 2:
            told = ", ".join(plain(level, 20) for level in target.levels[:10])
            raise ValueError(f"the target {plain(target.name)!r} has {len(target.levels)} values ({told}), not two")
    return encode(target.name, target.levels, [target.cells[i] for i in kept.tolist()], lines)


def _schema(plan: _Plan) -> dict[str, Any]:
    if plan.schema is not None:
        return plan.schema
    columns: list[dict[str, Any]] = []
    for column in plan.features:
        entry: dict[str, Any] = {"name": column.name, "kind": column.kind}
        if column.kind == "categorical":
            entry["levels"] = list(column.levels)
        elif column.kind == "dropped":
            entry["why"] = column.why
        columns.append(entry)
    assert plan.target is not None  # without a schema there is always a target
    target: dict[str, Any] = {"name": plan.target.name, "task": plan.task}
    if plan.task != "regression":
        target["classes"] = list(plan.target.levels)
    return {"format": 1, "target": target, "columns": columns}


def _told(
    cells: Cells, plan: _Plan, kept: NDArray[np.int64], width: int, classes: tuple[str, ...], notes: list[str]
) -> str:
    """Say what was decided, one line per column."""
    goal = "no target"
    if plan.target is not None:
        shown = ", ".join(plain(name, 20) for name in classes[:10]) + (", ..." if len(classes) > 10 else "")
        goal = f"target {plain(plan.target.name)!r}: {plan.task}" + (f" ({shown})" if classes else "")
    out = [f"{plain(cells.name)}: {len(kept)} rows, {goal}"]
    if len(kept) < len(cells.rows):
        gone = sorted(set(range(len(cells.rows))) - set(kept.tolist()))
        some = ", ".join(str(cells.lines[i]) for i in gone[:10]) + (", ..." if len(gone) > 10 else "")
        out[0] += f"; {len(gone)} rows with missing cells left out (lines {some})"
    pad = min(30, max(len(plain(column.name, 30)) for column in plan.features))
    for column in plan.features:
        if column.kind == "categorical":
            shown = ", ".join(plain(level, 20) for level in column.levels[:8])
            shown += f", ... ({len(column.levels)})" if len(column.levels) > 8 else ""
            told = f"categories {shown} [{column.why}]"
        elif column.kind == "dropped":
            told = f"left out: {column.why}"
        else:
            told = "number" + (f", {len(column.bad)} missing (NaN)" if np.isin(column.bad, kept).any() else "")
        out.append(f"  {plain(column.name, 30):<{pad}}  {told}")
    out.extend(f"  note: {note}" for note in notes)
    if plan.ignored:
        out.append(f"  not in the schema, left out: {', '.join(map(plain, plan.ignored[:20]))}")
    wrong = " If a guess is wrong, say categorical=[...], numeric=[...], drop=[...] or task=..."
    out.append(f"{width} inputs." + ("" if plan.schema is not None else wrong))
    return "\n".join(out)
