"""Cross-entropies: from logits in the stable fused form, from probabilities where nothing else is known.

An output that a softmax, log_softmax or sigmoid made remembers its logits; the losses of probabilities here then
compute from those, in training and evaluation alike. `cross_entropy` and `binary_crossentropy_with_logits` take their
input as logits whatever it is: on the output of a softmax they give the softmax of a softmax, and `Loss.codes` says so.

Without logits the logarithm is ``log(max(p, tiny))`` with the slope ``1 / max(p, eps^2)`` (`db.ops.log_probability`):
from probabilities of 0 and 1 the value is finite and the gradient is never silently zero. Outside of [0, 1] the loss is
NaN.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.losses import targets
from deepbabysit.losses.loss import define

Table = tuple[tuple[int, float], ...]  # class weights as `Loss` normalizes them

_SOFTMAX = ("softmax", "log_softmax")
_TABLES_KEPT = 32
_TABLES: OrderedDict[Any, Tensor] = OrderedDict()


def remembered(p: Tensor, activations: tuple[str, ...]) -> Tensor | None:
    """Return the logits an output was made from, where one of the activations (over the last axis) made it."""
    memory = p.logits
    if memory is None or memory[0] not in activations:
        return None
    activation, logits, axis = memory
    if activation != "sigmoid" and axis % p.ndim != p.ndim - 1:
        return None
    return logits.astype(p.dtype)


def _class_table(name: str, weights: Table, classes: int, p: Tensor) -> Tensor:
    """Return one weight per class as a constant on the device; it is uploaded once."""
    given = dict(weights)
    missing = [c for c in range(classes) if c not in given]
    extra = [c for c in given if not 0 <= c < classes]
    if missing or extra:
        raise ValueError(
            f"{name}: class_weight needs one weight for each of the {classes} classes 0 to {classes - 1}; "
            + (f"none for class {missing[0]}" if missing else f"there is no class {extra[0]}")
        )
    key = (p.device, p.dtype, weights)
    found = _TABLES.get(key)
    if found is None:
        values = np.array([given[c] for c in range(classes)], p.dtype)
        found = _TABLES[key] = Tensor(p.device.asarray(values), p.device)
        if len(_TABLES) > _TABLES_KEPT:
            _TABLES.popitem(last=False)
    return found


def _position_weights(
    xp: Any, name: str, y: Tensor, p: Tensor, class_weight: Table | None, ignore_index: int | None
) -> Tensor | None:
    """Return what each position counts, or None where all count 1."""
    if class_weight is None and ignore_index is None:
        return None
    if y.dtype.kind == "f":
        if class_weight is None:
            return None
        return xp.sum(y * _class_table(name, class_weight, p.shape[-1], p), axis=-1)
    counted = None if ignore_index is None else y != ignore_index
    if class_weight is None:
        return counted.astype(p.dtype)  # type: ignore[union-attr]
    safe = y if counted is None else xp.where(counted, y, 0)
    weights: Tensor = xp.take(_class_table(name, class_weight, p.shape[-1], p), safe)
    return weights if counted is None else xp.where(counted, weights, 0.0)


def _weighted(losses: Any, weights: Tensor | None) -> Any:
    return losses if weights is None else (losses, weights)


def _from_logits(
    xp: Any, name: str, y: Tensor, x: Tensor, label_smoothing: float, class_weight: Table | None,
    ignore_index: int | None = None,
) -> Any:
    if y.dtype.kind == "f":
        losses = xp.softmax_cross_entropy_soft(x, y, label_smoothing=float(label_smoothing))[0]
    else:
        losses = xp.softmax_cross_entropy(
            x, y, label_smoothing=float(label_smoothing),
            ignore_index=None if ignore_index is None else int(ignore_index),
        )[0]
    return _weighted(losses, _position_weights(xp, name, y, x, class_weight, ignore_index))


def _pick(xp: Any, values: Tensor, y: Tensor, ignore_index: int | None) -> Tensor:
    """Return the entry of each label; 0 where it is ignored, NaN where there is none."""
    classes = values.shape[-1]
    valid = xp.logical_and(y >= 0, y < classes)
    found = xp.take_along_axis(values, xp.expand_dims(xp.where(valid, y, 0), axis=-1), axis=-1)
    found = xp.where(valid, xp.reshape(found, y.shape), math.nan)
    return found if ignore_index is None else xp.where(y == ignore_index, 0.0, found)


@define("CrossEntropy", "CrossEntropyLoss", target=targets.CLASSES, logits=True)
def cross_entropy(
    xp: Any, y: Any, p: Any, *, label_smoothing: float = 0.0, class_weight: Any = None, ignore_index: int | None = None
) -> Any:
    """Cross-entropy of softmax from logits: ``logsumexp(x) - x[y]``; for one-hot or soft rows ``-sum(t log softmax)``.

    Logits (N, ..., C). Targets: class numbers (N, ...), or rows of probabilities (N, ..., C).

    - label_smoothing: share s that is spread over all classes, ``(1 - s) t + s / C`` (Szegedy et al., CVPR 2016).
    - class_weight: one weight per class (list, or dict class -> weight); a position counts ``w[y]`` (soft rows:
      ``sum(t w)``), and the loss is divided by the sum of what was counted.
    - ignore_index: class number of positions that are left out of sum and count.

    Raises:
        ValueError: shapes or labels that do not fit; one class only.

    >>> import deepbabysit as db
    >>> logits = db.tensor([[2.0, 0.0], [0.0, 10000.0]])
    >>> round(db.losses.cross_entropy([0, 1], logits).item(), 4)
    0.0635
    >>> round(db.losses.cross_entropy([[1.0, 0.0], [0.0, 1.0]], logits).item(), 4)
    0.0635
    """
    return _from_logits(xp, "cross_entropy", y, p, label_smoothing, class_weight, ignore_index)


@define("CategoricalCrossentropy", target=targets.ONE_HOT)
def categorical_crossentropy(
    xp: Any, y: Any, p: Any, *, from_logits: bool = False, label_smoothing: float = 0.0, class_weight: Any = None
) -> Any:
    """Cross-entropy of probabilities with one-hot or soft rows: ``-sum(t log p)``.

    Outputs (N, ..., C): probabilities; those of a softmax (or log_softmax) are computed from its logits. Targets
    (N, ..., C). Options as in `cross_entropy`; with `from_logits` the outputs are logits.

    >>> import deepbabysit as db
    >>> round(db.losses.categorical_crossentropy([[1, 0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    >>> p = db.ops.softmax(db.tensor([[-10000.0, 10000.0]]))
    >>> db.losses.categorical_crossentropy([[1, 0]], p).item()
    20000.0
    """
    x = p if from_logits else remembered(p, _SOFTMAX)
    if x is not None:
        return _from_logits(xp, "categorical_crossentropy", y, x, label_smoothing, class_weight)
    weights = _position_weights(xp, "categorical_crossentropy", y, p, class_weight, None)
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + label_smoothing / p.shape[-1]
    return _weighted(xp.negative(xp.sum(y * xp.log_probability(p), axis=-1)), weights)


@define("SparseCategoricalCrossentropy", target=targets.LABELS)
def sparse_categorical_crossentropy(
    xp: Any, y: Any, p: Any, *, from_logits: bool = False, label_smoothing: float = 0.0, class_weight: Any = None,
    ignore_index: int | None = None,
) -> Any:
    """Cross-entropy of probabilities with class numbers: ``-log p[y]``.

    Outputs (N, ..., C): probabilities; those of a softmax (or log_softmax) are computed from its logits. Targets
    (N, ...): class numbers. Options as in `cross_entropy`; with `from_logits` the outputs are logits.

    >>> import deepbabysit as db
    >>> round(db.losses.sparse_categorical_crossentropy([1], [[0.5, 0.5]]).item(), 4)
    0.6931
    """
    name = "sparse_categorical_crossentropy"
    x = p if from_logits else remembered(p, _SOFTMAX)
    if x is not None:
        return _from_logits(xp, name, y, x, label_smoothing, class_weight, ignore_index)
    if label_smoothing:
        logarithms = xp.log_probability(p)
        spread = xp.mean(logarithms, axis=-1)
        if ignore_index is not None:
            spread = xp.where(y == ignore_index, 0.0, spread)
        picked = (1.0 - label_smoothing) * _pick(xp, logarithms, y, ignore_index) + label_smoothing * spread
    else:
        picked = xp.log_probability(_pick(xp, p, y, None if ignore_index is None else ignore_index))
        if ignore_index is not None:
            picked = xp.where(y == ignore_index, 0.0, picked)
    return _weighted(xp.negative(picked), _position_weights(xp, name, y, p, class_weight, ignore_index))


@define("NLLLoss", "nll_loss", "negative_log_likelihood", target=targets.LABELS)
def nll(xp: Any, y: Any, p: Any, *, class_weight: Any = None, ignore_index: int | None = None) -> Any:
    """Negative log-likelihood from log-probabilities: ``-logp[y]``.

    Outputs (N, ..., C): log-probabilities; those of a log_softmax (or the probabilities of a softmax) are computed from
    the logits. Targets (N, ...): class numbers. Options as in `cross_entropy`.

    >>> import deepbabysit as db
    >>> db.losses.nll([1], [[-2.0, -0.25]]).item()
    0.25
    """
    x = remembered(p, _SOFTMAX)
    if x is not None:
        return _from_logits(xp, "nll", y, x, 0.0, class_weight, ignore_index)
    losses = xp.negative(_pick(xp, p, y, ignore_index))
    return _weighted(losses, _position_weights(xp, "nll", y, p, class_weight, ignore_index))


def _smooth_yes(y: Tensor, label_smoothing: float) -> Tensor:
    return y * (1.0 - label_smoothing) + 0.5 * label_smoothing if label_smoothing else y


@define("BinaryCrossentropy", "binary_cross_entropy", "BCE", "BCELoss", target=targets.PROBABILITIES)
def binary_crossentropy(
    xp: Any, y: Any, p: Any, *, from_logits: bool = False, label_smoothing: float = 0.0
) -> Any:
    """Cross-entropy of yes-or-no probabilities: ``-(t log p + (1 - t) log(1 - p))``, element by element.

    Targets and outputs: one shape (N, ...), targets in [0, 1]. The outputs of a sigmoid are computed from its logits;
    with `from_logits` the outputs are logits. With label smoothing `s` the targets are ``t (1 - s) + s / 2``.

    >>> import deepbabysit as db
    >>> round(db.losses.binary_crossentropy([[1.0]], [[0.5]]).item(), 4)
    0.6931
    >>> p = db.ops.sigmoid(db.tensor([[-10000.0]]))
    >>> db.losses.binary_crossentropy([[1.0]], p).item()
    10000.0
    """
    y = _smooth_yes(y, label_smoothing)
    x = p if from_logits else remembered(p, ("sigmoid",))
    if x is not None:
        return xp.sigmoid_cross_entropy(x, y)
    return xp.negative(y * xp.log_probability(p) + (1.0 - y) * xp.log_probability(1.0 - p))


@define(
    "BCEWithLogitsLoss", "bce_with_logits", "binary_cross_entropy_with_logits", "BinaryCrossentropyWithLogits",
    target=targets.PROBABILITIES, logits=True,
)
def binary_crossentropy_with_logits(xp: Any, y: Any, p: Any, *, label_smoothing: float = 0.0) -> Any:
    """Cross-entropy of sigmoid from logits: ``max(x, 0) - x t + log(1 + exp(-|x|))``, element by element.

    Targets and outputs: one shape (N, ...), targets in [0, 1]. Label smoothing as in `binary_crossentropy`.

    >>> import deepbabysit as db
    >>> db.losses.binary_crossentropy_with_logits([[1.0]], [[-10000.0]]).item()
    10000.0
    """
    return xp.sigmoid_cross_entropy(p, _smooth_yes(y, label_smoothing))


@define(
    "KLDivergence", "KLD", "kl_div", "kullback_leibler_divergence", target=targets.ONE_HOT,
)
def kl_divergence(xp: Any, y: Any, p: Any) -> Any:
    """Kullback-Leibler divergence of p from t: ``sum(t (log t - log p))`` over the last axis, ``0 log 0 = 0`` (1951).

    Targets and outputs: probabilities (N, ..., C); outputs of a softmax are computed from its logits.

    >>> import deepbabysit as db
    >>> round(db.losses.kl_divergence([[1.0, 0.0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """
    x = remembered(p, _SOFTMAX)
    logarithm = xp.log_probability(p) if x is None else xp.log_softmax(x)
    return xp.sum(y * (xp.log_probability(y) - logarithm), axis=-1)
