"""What is done to data before they are trained on: rows cleaned, inputs and targets scaled; fitted on training rows.

Every step is plain data, such as ``{"step": "zscore"}``. Scores are taken in the units that the targets came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, final

import numpy as np

from deepbabysit.babysit.facts import label_facts
from deepbabysit.data.checks import bad_rows
from deepbabysit.data.normalizers import MeanImputer, MinMax, Normalizer, ZScore
from deepbabysit.data.splits import holdout
from deepbabysit.errors import unknown

Arrays = tuple[np.ndarray, ...]
Steps = Sequence[Mapping[str, Any]]

INPUT_STEPS = ("zscore", "minmax", "normal", "divide", "drop_columns", "impute")
TARGET_STEPS = ("zscore", "minmax", "log", "column", "flat", "minus", "codes", "numbers", "one_hot")
ROW_STEPS = ("finite", "unique", "unseen", "resplit", "shift", "labelled", "align")
SEVERAL = 20  # values of a column that is no measurement
QUANTILES = 256  # so many stand for the distribution of a column


@final
@dataclass(slots=True)
class Prepared:
    """Data as the model gets them, and the way back for its predictions.

    Attributes:
        x, y: training rows (x a tuple of arrays).
        validation: the same of the validation rows, or None; `truth` are its targets in their own units, `held` its
            inputs before they were scaled.
        left: how many training rows and validation rows were left out.
    """

    x: Arrays
    y: np.ndarray
    validation: tuple[Arrays, np.ndarray] | None
    truth: np.ndarray | None
    held: Arrays | None = None
    left: tuple[int, int] = (0, 0)
    _inputs: list[tuple[int, Callable[[np.ndarray], np.ndarray]]] = field(default_factory=list)
    _back: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)

    def inputs(self, x: Any) -> Any:
        """Return new inputs as the model wants them (rows are not cleaned)."""
        arrays = list(as_tuple(x))
        for number, change in self._inputs:
            arrays[number] = change(arrays[number])
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    def outputs(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions in the units of the targets as they were given."""
        for change in reversed(self._back):
            predictions = change(predictions)
        return predictions

    def predict(self, model: Any, x: Any) -> np.ndarray:
        """Return what a model that was trained on these data says about new inputs, in the targets' own units."""
        return self.outputs(np.asarray(model.predict(self.inputs(x))))


def as_tuple(x: Any) -> Arrays:
    """Return inputs as a tuple of arrays."""
    items = x.values() if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    return tuple(np.asarray(item.numpy() if hasattr(item, "numpy") else item) for item in items)


def bare(arrays: Arrays) -> Any:
    """Return a single array by itself, several as a tuple."""
    return arrays if len(arrays) > 1 else arrays[0]


def prepare(
    x: Any, y: Any, validation: Any, inputs: Steps = (), targets: Steps = (), rows: Steps = (), seed: int = 0
) -> Prepared:
    """Clean rows, fit every step to the training rows, and apply it to both parts.

    Arguments:
        x: inputs (N, ...), or a tuple of arrays.
        y: targets (N, ...).
        validation: ``(x, y)`` or None.
        inputs: steps for the inputs: zscore, minmax (``axis``, ``input``), normal (each column by its ranks, spread
            like a normal distribution), divide (``by``), drop_columns (``columns``), impute.
        targets: zscore, minmax, log, column ((N,) becomes (N, 1)), flat, minus (``by``), codes (``values``: class k is
            written as the k-th of them), numbers (one-hot to class numbers), one_hot (``classes``).
        rows: finite, unique (copies go), unseen (validation rows that stand in training go), resplit (both parts
            together are split anew, ``fraction``), shift (``by`` -1: x and y one row apart), labelled (rows with a
            negative class go), align (validation inputs get mean and deviation of the training inputs).
        seed: of a new split.

    Raises:
        ValueError: a step is unknown, or cannot be done with these data.
    """
    xs, ys = as_tuple(x), np.asarray(y)
    held = None if validation is None else (as_tuple(validation[0]), np.asarray(validation[1]))
    before = (len(ys), 0 if held is None else len(held[1]))
    for step in rows:
        xs, ys, held = _clean(step, xs, ys, held, seed)
    if not len(ys):
        raise ValueError("no training row is left after cleaning")
    truth = None if held is None else held[1]
    inside = None if held is None else held[0]
    left = before[0] - len(ys), before[1] - (0 if held is None else len(held[1]))
    done = Prepared(xs, ys, held, truth, inside, left)
    for step in inputs:
        number, change = _input_step(step, done.x)
        done._inputs.append((number, change))
        done.x = tuple(change(a) if i == number else a for i, a in enumerate(done.x))
        if done.validation is not None:
            given, labels = done.validation
            done.validation = tuple(change(a) if i == number else a for i, a in enumerate(given)), labels
    for step in targets:
        change, back = _target_step(step, done.y)
        done.y = change(done.y)
        if back is not None:
            done._back.append(back)
        elif done.truth is not None:
            done.truth = change(done.truth)  # only another form of the same targets
        if done.validation is not None:
            done.validation = done.validation[0], change(done.validation[1])
    return done


# -- rows --------------------------------------------------------------------------------------------------------------


def _clean(
    step: Mapping[str, Any], x: Arrays, y: np.ndarray, held: tuple[Arrays, np.ndarray] | None, seed: int
) -> tuple[Arrays, np.ndarray, tuple[Arrays, np.ndarray] | None]:
    kind = step["step"]
    if kind == "finite":
        x, y = _take(x, y, _finite(x, y))
        return x, y, None if held is None else _take(*held, _finite(*held))
    if kind == "unique":
        return *_take(x, y, _firsts((*x, y))), held
    if kind == "unseen" and held is not None:
        known = set(_keys(x))
        return x, y, _take(*held, np.array([r for r, key in enumerate(_keys(held[0])) if key not in known], np.int64))
    if kind == "resplit" and held is not None:
        whole = tuple(np.concatenate(pair) for pair in zip(x, held[0], strict=True))
        labels = np.concatenate((y, held[1]))
        firsts = _firsts((*whole, labels))
        whole, labels = _take(whole, labels, firsts)
        cut = holdout(whole[0], labels, float(step.get("fraction", 0.2)), seed=seed)
        return *_take(whole, labels, cut.train), _take(whole, labels, cut.held)
    if kind == "labelled":
        x, y = _take(x, y, _labelled(y))
        return x, y, None if held is None else _take(*held, _labelled(held[1]))
    if kind == "align" and held is not None:
        return x, y, (tuple(_aligned(b, a) for a, b in zip(x, held[0], strict=True)), held[1])
    if kind == "shift":
        by = int(step["by"])
        parts = [(x, y)] if held is None else [(x, y), held]
        moved = [(tuple(a[-by:] if by < 0 else a[:-by] for a in xs), ys[:by] if by < 0 else ys[by:])
                 for xs, ys in parts]
        return *moved[0], None if held is None else moved[1]
    if kind not in ROW_STEPS:
        raise ValueError(unknown("step for rows", kind, ROW_STEPS))
    return x, y, held


def _take(x: Arrays, y: np.ndarray, rows: np.ndarray) -> tuple[Arrays, np.ndarray]:
    return tuple(a[rows] for a in x), y[rows]


def _finite(x: Arrays, y: np.ndarray) -> np.ndarray:
    bad = [bad_rows(a) for a in (*x, y) if a.dtype.kind == "f"]
    return np.setdiff1d(np.arange(len(y)), np.concatenate(bad) if bad else np.zeros(0, np.int64))


def _labelled(y: np.ndarray) -> np.ndarray:
    return np.flatnonzero((y.reshape(len(y), -1) >= 0).all(axis=1))


def _aligned(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return an array with the mean and the deviation that another has, feature by feature (or channel by channel)."""
    if array.dtype.kind != "f" or not len(array):
        return array
    axes = _axes(array)
    mean, std = like.mean(axis=axes, dtype=np.float64), like.std(axis=axes, dtype=np.float64)
    own, spread = array.mean(axis=axes, dtype=np.float64), array.std(axis=axes, dtype=np.float64)
    moved: np.ndarray = ((array - own) * (std / np.where(spread > 0, spread, 1.0)) + mean).astype(array.dtype)
    return moved


def _axes(array: np.ndarray) -> int | tuple[int, ...]:
    return 0 if array.ndim < 3 else tuple(range(array.ndim - 1))


def _firsts(arrays: Arrays) -> np.ndarray:
    """Return the rows that equal no earlier one, in order."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(_keys(arrays)):
        first.setdefault(key, row)
    return np.array(sorted(first.values()), np.int64)


def _keys(arrays: Arrays) -> list[bytes]:
    """Return what tells rows apart."""
    flat = [np.ascontiguousarray(a).reshape(len(a), -1) for a in arrays]
    return [b"|".join(a[row].tobytes() for a in flat) for row in range(len(flat[0]))]


# -- inputs and targets ------------------------------------------------------------------------------------------------


def _input_step(step: Mapping[str, Any], x: Arrays) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    kind, number = step["step"], int(step.get("input", 0))
    if number >= len(x):
        raise ValueError(f"there is no input {number}; there are {len(x)}")
    array = x[number]
    if kind in ("zscore", "minmax"):
        axis = step["axis"] if "axis" in step else _axes(array)
        make: type[Normalizer] = ZScore if kind == "zscore" else MinMax
        fitted = make(axis).fit(array)
        return number, fitted.transform
    if kind == "normal":
        return number, _spread(array)
    if kind == "divide":
        by = float(step["by"])
        return number, lambda a: (a / by).astype(np.float64 if a.dtype == np.float64 else np.float32)
    if kind == "drop_columns":
        columns = [int(c) for c in step["columns"]]
        return number, lambda a: np.delete(a, columns, axis=1)
    if kind == "impute":
        return number, MeanImputer().fit(array).transform
    raise ValueError(unknown("step for inputs", kind, INPUT_STEPS))


def _spread(array: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives each value of a column the place in a normal distribution that it has among training rows.

    Columns with few values are standardized.
    """
    if array.ndim != 2:
        raise ValueError("only the columns of a table are spread like a normal distribution")
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    places = np.array([NormalDist().inv_cdf(float(share)) for share in shares])
    knots = [np.quantile(np.asarray(c, np.float64), shares) for c in array.T]
    few = np.array([len(np.unique(c)) <= SEVERAL for c in array.T])
    mean, std = array.mean(axis=0, dtype=np.float64), array.std(axis=0, dtype=np.float64)
    scale = np.where(std > 0, std, 1.0)

    def change(a: np.ndarray) -> np.ndarray:
        made = np.asarray((a - mean) / scale, np.float64)
        for column in np.flatnonzero(~few):
            at, inverse = np.unique(knots[column], return_inverse=True)
            middle = np.bincount(inverse, places) / np.bincount(inverse)  # the same place for equal values
            made[:, column] = np.interp(a[:, column], at, middle)
        return made.astype(np.float64 if a.dtype == np.float64 else np.float32)

    return change


def _target_step(
    step: Mapping[str, Any], y: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray] | None]:
    """Return the change and the way back for predictions (None where only the form of the targets changes)."""
    kind = step["step"]
    if kind in ("zscore", "minmax"):
        shape = y.shape[1:]
        scale: Normalizer = (ZScore() if kind == "zscore" else MinMax()).fit(y.reshape(len(y), -1))

        def forward(a: np.ndarray) -> np.ndarray:
            return scale.transform(a.reshape(len(a), -1)).reshape((len(a), *shape))

        def back(a: np.ndarray) -> np.ndarray:
            return scale.inverse(a.reshape(len(a), -1)).reshape(a.shape)

        return forward, back
    if kind == "log":
        if not (np.asarray(y) > 0).all():
            raise ValueError("the logarithm wants targets above 0")
        small, large = float(np.log(y.min())) - 1.0, float(np.log(y.max())) + 1.0
        # a validation target may be below the smallest of training, and exp of an output run away
        return (lambda a: np.log(np.maximum(a, np.exp(small))).astype(np.float32),
                lambda a: np.exp(np.clip(np.asarray(a, np.float64), small, large)))
    if kind == "codes":
        numbers = {value: number for number, value in enumerate(step["values"])}

        def renamed(a: np.ndarray) -> np.ndarray:
            try:
                return np.array([numbers[v] for v in a.reshape(-1).tolist()], np.int64).reshape(a.shape)
            except KeyError as error:
                raise ValueError(f"there is no class with the code {error.args[0]!r}") from None

        return renamed, None
    if kind == "column":
        return lambda a: a.reshape(len(a), -1), None
    if kind == "flat":
        return lambda a: a.reshape(len(a)), None
    if kind == "minus":
        by = step["by"]
        return lambda a: a - by, None
    if kind == "numbers":
        return lambda a: a.argmax(axis=-1), None
    if kind == "one_hot":
        rows = np.eye(int(step["classes"]), dtype=np.float32)
        return lambda a: rows[a.reshape(len(a)).astype(np.int64)], None
    raise ValueError(unknown("step for targets", kind, TARGET_STEPS))


# -- scores ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """How good a model is on validation rows, in the targets' own units; a larger `value` is better.

    Attributes:
        value: share of right answers, or for numbers the share of the variance that is explained (R squared).
        name: ``accuracy`` or ``r2``.
        error: what ranks models with equal values: cross-entropy of the answers, from logits too (accuracy), root of
            the mean square (r2); None where there is none.
        rows: how many rows were scored.
    """

    value: float
    name: str
    error: float | None
    rows: int

    def better(self, other: Score) -> bool:
        """Tell whether this is the better one."""
        if self.value != other.value:
            return self.value > other.value
        return (np.inf if self.error is None else self.error) < (np.inf if other.error is None else other.error)


def classes_of(y: np.ndarray, loss: Any, units: int) -> bool:
    """Tell whether targets are classes (or yes and no), as against amounts, given the loss and the output's units."""
    labels = label_facts(y)
    if labels.kind in ("one_hot", "multilabel") or (loss is not None and ("cross" in loss.name or loss.name == "nll")):
        return True
    return labels.kind == "classes" and (labels.classes <= 2 or units > 1)


def score(truth: np.ndarray, predictions: np.ndarray, classes: bool, threshold: float = 0.5) -> Score:
    """Score predictions (N, ...) in the targets' own units; rows that are not finite count as wrong.

    Arguments:
        truth: targets: class numbers, one-hot rows, yes and no, or amounts.
        predictions: what the model says.
        classes: whether the targets are classes.
        threshold: the output above which one yes-or-no output says yes.
    """
    rows = len(truth)
    flat = np.asarray(predictions, np.float64).reshape(rows, -1)
    fine = np.asarray(np.isfinite(flat).all(axis=1))
    if classes:
        return _right(truth.reshape(rows, -1), flat, fine, threshold)
    goal = np.asarray(truth, np.float64).reshape(rows, -1)
    spread = float(((goal - goal.mean(axis=0)) ** 2).mean())
    if not fine.all() or flat.shape != goal.shape:
        return Score(-np.inf, "r2", None, rows)
    error = float(((goal - flat) ** 2).mean())
    return Score(1.0 - error / max(spread, 1e-300), "r2", float(np.sqrt(error)), rows)


def misses(truth: np.ndarray, predictions: np.ndarray, classes: bool, threshold: float = 0.5) -> np.ndarray:
    """Return what each row is wrong by: 1 for a wrong answer (0 for a right one), or its squared error (rows,)."""
    rows = len(truth)
    flat = np.asarray(predictions, np.float64).reshape(rows, -1)
    fine = np.asarray(np.isfinite(flat).all(axis=1))
    goal = np.asarray(truth.reshape(rows, -1), np.float64)
    if classes:
        return 1.0 - np.where(fine, _hits(goal, np.where(fine[:, None], flat, 0.0), threshold), 0.0)
    if flat.shape != goal.shape:
        return np.full(rows, np.inf)
    return np.where(fine, ((goal - flat) ** 2).mean(axis=1), np.inf)


def _hits(goal: np.ndarray, safe: np.ndarray, threshold: float) -> np.ndarray:
    """Return for each row whether it is right, or its share of right answers where there are several."""
    if safe.shape[1] == 1:
        found: np.ndarray = (safe[:, 0] > threshold) == (goal[:, 0] > (0.5 if goal.min() >= 0 else 0.0))
    elif _several(goal):
        found = ((safe > threshold) == (goal > 0.5)).mean(axis=1)
    else:
        found = safe.argmax(axis=1) == (goal.argmax(axis=1) if goal.shape[1] > 1 else goal[:, 0].astype(np.int64))
    return found


def _several(goal: np.ndarray) -> bool:
    return goal.shape[1] > 1 and bool((goal.sum(axis=1) != 1).any())


def _right(goal: np.ndarray, flat: np.ndarray, fine: np.ndarray, threshold: float) -> Score:
    rows = len(goal)
    safe = np.where(fine[:, None], flat, 0.0)
    right = _hits(goal, safe, threshold)
    if flat.shape[1] > 1:
        wanted = goal.argmax(axis=1) if goal.shape[1] > 1 else goal[:, 0].astype(np.int64)
        several = _several(goal)
        inside = (wanted >= 0) & (wanted < flat.shape[1])
        known = safe[np.arange(rows), np.where(inside, wanted, 0)]
        probable = bool((safe >= -1e-6).all() and np.allclose(safe.sum(axis=1), 1.0, atol=1e-3))
        if not probable:  # logits
            top = safe.max(axis=1, keepdims=True)
            known = np.exp(known - top[:, 0]) / np.exp(safe - top).sum(axis=1)
        error = None if several else -np.log(np.clip(known, 1e-7, 1.0))
    else:
        wanted = goal[:, 0] > (0.5 if goal.min() >= 0 else 0.0)
        probable = bool(((safe >= 0) & (safe <= 1)).all())
        yes = safe[:, 0] if probable else 1.0 / (1.0 + np.exp(-np.clip(safe[:, 0], -500, 500)))
        error = -np.log(np.clip(np.where(wanted, yes, 1 - yes), 1e-7, 1.0))
    found = float(np.where(fine, right, 0.0).mean())
    return Score(found, "accuracy", None if error is None else float(np.where(fine, error, 20.0).mean()), rows)
