"""Metrics of classifiers.

Which kind of classes there is follows from the model's loss and the shapes: yes-or-no (`binary`), class numbers
(`sparse`) or one-hot rows (`categorical`). "Yes" means a logit above 0 where the logits are known (the loss takes
logits, or the output remembers that a sigmoid made it), and a probability above 0.5 elsewhere; so a saturated or
rounded probability changes nothing. Of equal largest scores the first class counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.losses import targets
from deepbabysit.losses.crossentropy import remembered
from deepbabysit.metrics.metric import Batch, Kind, Metric, define, host_rows, ratio, register

BINARY, SPARSE, CATEGORICAL = "binary", "sparse", "categorical"
_CLASS_TARGETS = (targets.LABELS, targets.ONE_HOT, targets.CLASSES)


def form_of(batch: Batch) -> str:
    """Return which kind of classes targets and outputs hold; refuse shapes that would broadcast.

    A loss that does not settle it (mse on one-hot rows) leaves it to the shapes: equal shapes are one-hot rows where
    there is more than one column.
    """
    y, p, loss = batch.y, batch.p, batch.loss
    target = None if loss is None else loss.kind.target
    if target in _CLASS_TARGETS:
        found = targets.check_shapes(batch.name, targets.CLASSES, y.shape, y.dtype.kind, p.shape)
        return SPARSE if found == targets.LABELS else CATEGORICAL
    if target in (targets.PROBABILITIES, targets.SIGNS) or p.ndim < 2 or p.shape[-1] == 1:
        targets.check_shapes(batch.name, targets.VALUES, y.shape, y.dtype.kind, p.shape)
        return BINARY
    found = targets.check_shapes(batch.name, targets.CLASSES, y.shape, y.dtype.kind, p.shape)
    return SPARSE if found == targets.LABELS else CATEGORICAL


def says_yes(batch: Batch, threshold: float) -> Tensor:
    """Return where the output says yes; `threshold` is a probability, moved to the logits where they are known."""
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"{batch.name}: threshold is a probability between 0 and 1; got {threshold}")
    loss = batch.loss
    border = math.log(threshold / (1.0 - threshold))
    if loss is not None and loss.threshold == 0.0:
        return batch.p > border
    logits = remembered(batch.p, ("sigmoid",))
    return batch.p > threshold if logits is None else logits > border


def true_classes(batch: Batch, form: str) -> Tensor:
    """Return the class number of each position."""
    return batch.y.astype(np.int64) if form == SPARSE else batch.y.argmax(axis=-1)


def _counted(batch: Batch, form: str, shape: tuple[int, ...]) -> Tensor | None:
    """Return the weights with the positions that the loss ignores taken out."""
    weight = batch.spread(shape)
    ignored = None if batch.loss is None else batch.loss.ignore_index
    if ignored is None or form != SPARSE:
        return weight
    counts = (batch.y.astype(np.int64) != ignored).astype(np.float64)
    return counts if weight is None else counts * weight


def _share(batch: Batch, form: str, right: Tensor) -> Tensor:
    weight = _counted(batch, form, right.shape)
    return batch.join(batch.total(right, weight), batch.count(right.shape, weight))


def _accuracy(batch: Batch, form: str, threshold: float = 0.5) -> Tensor:
    if form == BINARY:
        return _share(batch, form, says_yes(batch, threshold) == (batch.y > 0.5))
    return _share(batch, form, batch.p.argmax(axis=-1) == true_classes(batch, form))


def _forced(batch: Batch, form: str) -> None:
    """Check shapes against the form a metric is named after."""
    wanted = {BINARY: targets.VALUES, SPARSE: targets.LABELS, CATEGORICAL: targets.ONE_HOT}[form]
    targets.check_shapes(batch.name, wanted, batch.y.shape, batch.y.dtype.kind, batch.p.shape)


@define("acc", "Accuracy", result=ratio)
def accuracy(batch: Batch, choose: Any) -> Tensor:
    """Share of right answers; picks the binary, categorical or sparse form from the loss and the shapes.

    After the first batch `Metric.chosen` says which one: "binary_accuracy", "categorical_accuracy" or
    "sparse_categorical_accuracy". Outputs (N, ..., C) with class numbers (N, ...) or one-hot rows; (N,) or (N, 1), and
    whatever a binary loss takes, are yes-or-no.

    >>> import deepbabysit as db
    >>> metric = db.metrics.get("accuracy", loss="binary_crossentropy")
    >>> metric([[1], [0]], [[0.7], [0.6]]), metric.chosen
    (0.5, 'binary_accuracy')
    """
    form = form_of(batch)
    choose("sparse_categorical_accuracy" if form == SPARSE else f"{form}_accuracy")
    return _accuracy(batch, form)


@define("BinaryAccuracy", result=ratio)
def binary_accuracy(batch: Batch, choose: Any, *, threshold: float = 0.5) -> Tensor:
    """Share of right yes-or-no answers, element by element; `threshold` is a probability.

    >>> import deepbabysit as db
    >>> db.metrics.binary_accuracy([1, 0, 1, 1], [0.9, 0.2, 0.4, 0.6])
    0.75
    """
    _forced(batch, BINARY)
    return _accuracy(batch, BINARY, threshold)


@define("CategoricalAccuracy", result=ratio)
def categorical_accuracy(batch: Batch, choose: Any) -> Tensor:
    """Share of positions whose largest output is where the one-hot row has its one.

    >>> import deepbabysit as db
    >>> db.metrics.categorical_accuracy([[1, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    """
    _forced(batch, CATEGORICAL)
    return _accuracy(batch, CATEGORICAL)


@define("SparseCategoricalAccuracy", result=ratio)
def sparse_categorical_accuracy(batch: Batch, choose: Any) -> Tensor:
    """Share of positions whose largest output is at the class number.

    >>> import deepbabysit as db
    >>> db.metrics.sparse_categorical_accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.5
    """
    _forced(batch, SPARSE)
    return _accuracy(batch, SPARSE)


@define(
    "top_k", "TopKCategoricalAccuracy", "top_k_categorical_accuracy", "SparseTopKCategoricalAccuracy",
    "sparse_top_k_categorical_accuracy", result=ratio,
)
def top_k_accuracy(batch: Batch, choose: Any, *, k: int = 5) -> Tensor:
    """Share of positions whose class is among the k largest outputs: fewer than k outputs are larger than its own.

    >>> import deepbabysit as db
    >>> db.metrics.top_k_accuracy.with_(k=2)([2, 0], [[0.5, 0.3, 0.2], [0.1, 0.5, 0.4]])
    0.0
    """
    if int(k) != k or k < 1:
        raise ValueError(f"{batch.name}: k is a whole number of at least 1; got {k}")
    form = form_of(batch)
    if form == BINARY:
        raise ValueError(f"{batch.name} needs one output per class; got {batch.p.shape}")
    xp, p = batch.xp, batch.p
    labels = true_classes(batch, form)
    safe = xp.where(xp.logical_and(labels >= 0, labels < p.shape[-1]), labels, 0)
    own = xp.take_along_axis(p, xp.expand_dims(safe, axis=-1), axis=-1)
    return _share(batch, form, xp.sum(p > own, axis=-1) < int(k))


# -- precision, recall, f1 ---------------------------------------------------------------------------------------------


def _counts(batch: Batch, choose: Any, threshold: float) -> Tensor:
    """Return (hits, false alarms, misses, right rejections), or for classes (hits, predicted, true) of each."""
    form = form_of(batch)
    xp = batch.xp
    if form == BINARY:
        choose("binary")
        yes, true = says_yes(batch, threshold), batch.y > 0.5
        no, false = ~yes, ~true
        weight = batch.spread(yes.shape)
        pairs = ((yes, true), (yes, false), (no, true), (no, false))
        return batch.join(*[batch.total(a & b, weight) for a, b in pairs])
    choose("macro")
    classes = batch.p.shape[-1]
    true = xp.reshape(true_classes(batch, form), (-1,))
    said = xp.reshape(batch.p.argmax(axis=-1), (-1,))
    weight = _counted(batch, form, batch.p.shape[:-1])
    rows_true = xp.one_hot(true, classes=classes, dtype="float64")
    rows_said = xp.one_hot(said, classes=classes, dtype="float64")
    if weight is not None:
        column = xp.reshape(weight, (-1, 1))
        rows_true, rows_said = rows_true * column, rows_said * column
        both = rows_true * xp.one_hot(said, classes=classes, dtype="float64")
    else:
        both = rows_true * rows_said
    return batch.join(*[xp.sum(rows, axis=0) for rows in (both, rows_said, rows_true)])


def _scores(totals: np.ndarray, average: str, score: Any) -> float:
    if average not in ("macro", "micro", "weighted"):
        raise ValueError(f'average is "macro", "micro" or "weighted"; got {average!r}')
    if len(totals) == 4:
        hits, alarms, misses, _ = totals
        return float(score(hits, hits + alarms, hits + misses))
    hits, said, true = totals.reshape(3, -1)
    if average == "micro":
        return float(score(hits.sum(), said.sum(), true.sum()))
    present = (said > 0) | (true > 0)
    values = np.array([score(*row) for row in zip(hits, said, true, strict=True)])
    if average == "weighted":
        return float((values * true).sum() / true.sum()) if true.sum() else math.nan
    return float(values[present].mean()) if present.any() else math.nan


def _precision(hits: float, said: float, true: float) -> float:
    return hits / said if said else 0.0


def _recall(hits: float, said: float, true: float) -> float:
    return hits / true if true else 0.0


def _f1(hits: float, said: float, true: float) -> float:
    return 2.0 * hits / (said + true) if said + true else 0.0


@define("Precision", result=lambda totals, threshold, average: _scores(totals, average, _precision))
def precision(batch: Batch, choose: Any, *, threshold: float = 0.5, average: str = "macro") -> Tensor:
    """Share of "yes" answers that are right, ``hits / (hits + false alarms)``; for classes the mean over those
    that occur.

    0 where nothing was answered "yes". `average`: "macro", "micro" or "weighted" (as in scikit-learn).

    >>> import deepbabysit as db
    >>> db.metrics.precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.6666666666666666
    """
    return _counts(batch, choose, threshold)


@define("Recall", result=lambda totals, threshold, average: _scores(totals, average, _recall))
def recall(batch: Batch, choose: Any, *, threshold: float = 0.5, average: str = "macro") -> Tensor:
    """Share of what is "yes" that was found, ``hits / (hits + misses)``; for classes the mean over those that occur.

    0 where nothing is "yes". `average` as in `precision`.

    >>> import deepbabysit as db
    >>> db.metrics.recall([1, 0, 1, 1], [0.9, 0.8, 0.3, 0.1])
    0.3333333333333333
    """
    return _counts(batch, choose, threshold)


@define("F1Score", "f1_score", result=lambda totals, threshold, average: _scores(totals, average, _f1))
def f1(batch: Batch, choose: Any, *, threshold: float = 0.5, average: str = "macro") -> Tensor:
    """Harmonic mean of precision and recall, ``2 hits / (2 hits + false alarms + misses)``; for classes their mean.

    `average` as in `precision`.

    >>> import deepbabysit as db
    >>> db.metrics.f1([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.8
    """
    return _counts(batch, choose, threshold)


# -- area under the ROC curve ------------------------------------------------------------------------------------------


def _gather_scores(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    form = form_of(batch)
    if form == BINARY:
        labels: Any = (batch.y > 0.5).numpy().reshape(-1)
        scores: Any = batch.p.numpy().reshape(-1)
        shape = batch.p.shape
    else:
        labels = true_classes(batch, form).numpy().reshape(-1)
        scores = batch.p.numpy().reshape(-1, batch.p.shape[-1])
        shape = batch.p.shape[:-1]
    weight = _counted(batch, form, shape)
    weights = np.ones(len(labels)) if weight is None else weight.numpy().reshape(-1)
    return np.array(scores), np.array(labels), np.array(weights)


def area(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """Return the exact area under the ROC curve: how often a positive has the higher score, ties counting one half."""
    order = np.argsort(scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[order]
    if not len(scores):
        return math.nan
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    up = np.add.reduceat(np.where(positive, weights, 0.0), starts)
    down = np.add.reduceat(np.where(positive, 0.0, weights), starts)
    pairs = up.sum() * down.sum()
    return float((up * (np.cumsum(down) - 0.5 * down)).sum() / pairs) if pairs else math.nan


def _area_of(gathered: list[Any]) -> float:
    if not gathered:
        return math.nan
    scores, labels, weights = (host_rows(parts) for parts in zip(*gathered, strict=True))
    if scores.ndim == 1:
        return area(scores, labels.astype(bool), weights)
    values = [area(scores[:, c], labels == c, weights) for c in range(scores.shape[1])]
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


auc = register(Metric(Kind("auc", None, _area_of, gather=_gather_scores)), "AUC", "roc_auc", "roc_auc_score")
auc.__doc__ = """Area under the ROC curve, exact: the chance that a "yes" scores higher than a "no" (a tie: one half).

For classes: one class against the others, the mean over the classes that occur. NaN where only one class occurs. It
needs every score at once, so it gathers them on the host (``auc.gathers``); a step that gathers is not replayed.

>>> import deepbabysit as db
>>> db.metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
0.75
"""


def confusion_matrix(y_true: Any, y_pred: Any, classes: int | None = None) -> np.ndarray:
    """Return how often each true class (row) was answered with each class (column), as int64.

    Arguments:
        y_true: class numbers (N, ...), or one-hot rows (N, ..., C).
        y_pred: class numbers of the same shape, or scores (N, ..., C), or (N, 1) yes-or-no probabilities.
        classes: number of classes; None takes what occurs.

    Raises:
        ValueError: shapes do not fit, or a class number is outside.

    >>> import deepbabysit as db
    >>> db.metrics.confusion_matrix([0, 1, 1], [0, 0, 1]).tolist()
    [[1, 0], [1, 1]]
    """
    y, p = (np.asarray(v.numpy() if isinstance(v, Tensor) else v) for v in (y_true, y_pred))
    if p.dtype.kind == "f":
        if p.ndim > 1 and p.shape[-1] > 1:
            classes = classes or p.shape[-1]
            y = y.argmax(axis=-1) if y.shape == p.shape else y
            p = p.argmax(axis=-1)
        else:
            y, p, classes = y > 0.5, p > 0.5, classes or 2
    if y.shape != p.shape:
        raise ValueError(f"confusion_matrix: y_true has shape {y.shape} and the predicted classes {p.shape}")
    y, p = y.reshape(-1).astype(np.int64), p.reshape(-1).astype(np.int64)
    highest = int(max(y.max(initial=0), p.max(initial=0)))
    lowest = int(min(y.min(initial=0), p.min(initial=0)))
    count = highest + 1 if classes is None else classes
    if lowest < 0 or highest >= count:
        raise ValueError(f"confusion_matrix: class {lowest if lowest < 0 else highest} is outside 0 to {count - 1}")
    return np.bincount(y * count + p, minlength=count * count).reshape(count, count)
