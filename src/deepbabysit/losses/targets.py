"""What targets must look like beside an output: shapes that would broadcast, labels out of range, foreign numbers.

Shapes are looked at on every call; values on the host, once per data set (`fit`) and in eager calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import show_shape

# What a loss is told: numbers of any kind, probabilities, -1/0/1, class numbers, one-hot rows, class numbers or
# one-hot rows, or whatever a user's own function makes of it.
VALUES, PROBABILITIES, SIGNS, LABELS, ONE_HOT, CLASSES, ANYTHING = (
    "values", "probabilities", "signs", "labels", "one_hot", "classes", "anything",
)
# Losses whose targets may be whole numbers beside floating outputs in an unmistakable way.
SWAPPABLE = frozenset({PROBABILITIES, LABELS, ONE_HOT, CLASSES})
_SUM_SLACK = 1e-3  # how far a row of target probabilities may be from a sum of 1 (float16 data, mixed labels)

Shape = tuple[int, ...]


def check_shapes(name: str, target: str, y: Shape, kind: str, p: Shape, shown: Shape | None = None) -> str:
    """Return which form the targets have (VALUES, LABELS or ONE_HOT); refuse shapes that do not belong together.

    Arguments:
        name: the loss or metric.
        target: what it is told.
        y, p: shapes of targets and outputs.
        kind: kind of the targets' dtype ("f", "i", ...).
        shown: shape of the outputs as it is shown, where the number of rows is not known.

    Raises:
        ValueError: the shapes do not fit; names both and one fix.
        TypeError: labels are not whole numbers.
    """
    if target == ANYTHING:
        return VALUES
    whole = kind in "iub"
    if target in (LABELS, ONE_HOT, CLASSES):
        if not p:
            raise ValueError(f"{name}: y_pred must be (N, ..., classes); got a single number")
        if p[-1] == 1 and len(p) > 1 and (target != LABELS or y in (p, p[:-1])):
            raise ValueError(
                f"{name}: the output has one class, {_show(p, shown)}; a softmax over one unit is always 1. "
                f'Use a single sigmoid unit with "binary_crossentropy", or 2 units; for an amount use "mse"'
            )
        if target == LABELS or (target == CLASSES and y != p and (y == p[:-1] or len(y) < len(p))):
            if y == p[:-1]:
                if not whole:
                    raise TypeError(
                        f"{name}: labels must be whole numbers; y_true holds floating ones. "
                        f"Convert first: y_true.astype('int64')"
                    )
                return LABELS
            raise ValueError(_labels_message(name, target, y, p, shown))
        if y == p:
            return ONE_HOT
    elif y == p:
        return VALUES
    raise ValueError(_message(name, target, y, whole, p, shown))


def _show(p: Shape, shown: Shape | None) -> str:
    if shown is None:
        return show_shape(p)
    parts = ["None" if n is None else str(n) for n in shown]
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _labels_message(name: str, target: str, y: Shape, p: Shape, shown: Shape | None) -> str:
    text = f"{name}: y_true has shape {show_shape(y)} and y_pred {_show(p, shown)}; "
    if y == (*p[:-1], 1):
        fix = "y_true.reshape(-1)" if len(y) == 2 else "y_true[..., 0]"
        return text + f"class numbers have the shape {show_shape(p[:-1])} here: {fix}"
    if y == p:
        return text + (
            'these are one-hot rows: use "categorical_crossentropy" (after a softmax) or "cross_entropy" (logits), '
            "or class numbers: y_true.argmax(axis=-1)"
        )
    return text + f"expected class numbers of shape {show_shape(p[:-1])}" + _rows(y, p)


def _message(name: str, target: str, y: Shape, whole: bool, p: Shape, shown: Shape | None) -> str:
    text = f"{name}: y_true has shape {show_shape(y)} and y_pred {_show(p, shown)}"
    try:
        text += f", which would broadcast to {show_shape(np.broadcast_shapes(y, p))}; "
    except ValueError:
        text += ", which do not fit; "
    if (*y, 1) == p:
        return text + "give both one shape: " + ("y_true.reshape(-1, 1)" if len(y) == 1 else "y_true[..., None]")
    if y == (*p, 1):
        return text + "give both one shape: " + ("y_true.reshape(-1)" if len(p) == 1 else "y_true[..., 0]")
    if p and y == p[:-1]:
        labels = 'class numbers go with "sparse_categorical_crossentropy" (after a softmax) or "cross_entropy" (logits)'
        return text + (f"{labels}, or make rows of them: db.data.one_hot(y_true, {p[-1]})" if whole else
                       f"the output has {p[-1]} columns and the targets one: make the last layer 1 unit wide")
    if len(y) == len(p) and y[:-1] == p[:-1]:
        if target in (ONE_HOT, CLASSES):
            return text + (
                f"the output has {p[-1]} classes and the targets {y[-1]}: make the last layer {y[-1]} units wide"
                if y[-1] != 1 else f"make rows of the class numbers: db.data.one_hot(y_true.reshape(-1), {p[-1]})"
            )
        return text + f"the output has {p[-1]} columns and the targets {y[-1]}: make the last layer {y[-1]} units wide"
    return text + f"expected targets of shape {_show(p, shown)}" + _rows(y, p)


def _rows(y: Shape, p: Shape) -> str:
    if y and p and y[0] != p[0]:
        return f"; there are {y[0]} targets and {p[0]} outputs, and every sample needs one target"
    return ""


def concrete(output_shape: Sequence[int | None], y: Shape) -> Shape:
    """Return an output shape in which unknown lengths are those of the targets."""
    return tuple(
        (y[axis] if axis < len(y) else 1) if n is None else int(n) for axis, n in enumerate(output_shape)
    )


def check_values(name: str, target: str, form: str, y: np.ndarray, classes: int, ignore_index: int | None) -> None:
    """Look at the values of targets on the host.

    Raises:
        ValueError: a label is outside the classes, a target outside [0, 1], a row does not sum to 1, NaN.
    """
    if not y.size or target == ANYTHING:
        return
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{name}: y_true is not finite in {_where(~np.isfinite(y))}")
    if form == LABELS:
        _check_labels(name, y, classes, ignore_index)
    elif form == ONE_HOT:
        _check_range(name, y)
        wrong = np.abs(y.sum(axis=-1, dtype=np.float64) - 1.0) > _SUM_SLACK
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name}: a row of y_true holds the probabilities of the classes and must sum to 1; "
                f"{_where(wrong)}, the first sums to {float(y[place].sum()):g}. Where several classes can be true at "
                f'once use sigmoid and "binary_crossentropy"'
            )
    elif target == PROBABILITIES:
        _check_range(name, y)
    elif target == SIGNS:
        wrong = (y != 0) & (np.abs(y) != 1)
        if wrong.any():
            raise ValueError(f"{name}: targets are -1 or 1 (0 counts as -1); {_where(wrong)}: {_first(y, wrong)}")


def _check_labels(name: str, y: np.ndarray, classes: int, ignore_index: int | None) -> None:
    wrong = (y < 0) | (y >= classes)
    if ignore_index is not None:
        wrong &= y != ignore_index
    if not wrong.any():
        return
    hint = ""
    if int(y.min()) == 1 and int(y.max()) == classes:
        hint = "; they seem to count from 1: y_true - 1"
    elif int(y.max()) >= classes:
        hint = f"; the last layer needs {int(y.max()) + 1} units for them"
    elif set(np.unique(y[wrong]).tolist()) <= {-1, -100}:
        hint = f"; to leave such positions out: losses.CrossEntropy(ignore_index={int(y.min())})"
    raise ValueError(
        f"{name}: label {_first(y, wrong)} in {_where(wrong)}, but the output has {classes} classes: "
        f"labels are 0 to {classes - 1}{hint}"
    )


def _check_range(name: str, y: np.ndarray) -> None:
    wrong = (y < 0) | (y > 1)
    if wrong.any():
        hint = ""
        if set(np.unique(y).tolist()) <= {-1, 1}:
            hint = "; for -1 and 1 use (y_true + 1) / 2"
        elif y.max() > 1 and (y == np.round(y)).all():
            hint = '; class numbers go with "sparse_categorical_crossentropy" and one unit per class'
        raise ValueError(
            f"{name}: targets are probabilities between 0 and 1; got {_first(y, wrong)} in {_where(wrong)}. "
            f"The order is (y_true, y_pred){hint}"
        )


def _first(y: np.ndarray, wrong: np.ndarray) -> str:
    return f"{y[tuple(np.argwhere(wrong)[0])].item():g}"


def _where(wrong: np.ndarray) -> str:
    """Name the rows that are wrong: ``row 3`` or ``row 3 (and 4 more)``."""
    rows = np.unique(np.argwhere(wrong)[:, 0]) if wrong.ndim else np.array([0])
    return f"row {int(rows[0])}" + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else "")


def check_weights(name: str, weight: Any) -> None:
    """Refuse weights on the host that are negative or not finite."""
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"{name}: sample_weight must be finite and not negative")


def check_weight_shape(name: str, weight: Shape, positions: Shape) -> None:
    """Refuse weights whose shape is not the beginning of the shape of the losses."""
    if weight and weight == positions[: len(weight)]:
        return
    fix = ": sample_weight.reshape(-1)" if len(weight) == 2 and weight[1] == 1 else ""
    allowed = " or ".join(show_shape(positions[: n + 1]) for n in range(len(positions)))
    raise ValueError(f"{name}: sample_weight has shape {show_shape(weight)}; expected {allowed}{fix}")
