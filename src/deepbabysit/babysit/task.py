"""What is asked of a model: the task, what its loss takes, the loss of guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from deepbabysit.babysit.facts import LabelFacts
from deepbabysit.babysit.vitals import ModelFacts, RunFacts
from deepbabysit.losses import targets

# what a loss takes from the output
CLASS_LOGITS, YES_LOGITS = "class logits", "yes-or-no logits"
CLASS_PROBABILITIES, YES_PROBABILITIES, LOG_PROBABILITIES = (
    "class probabilities", "yes-or-no probabilities", "class log-probabilities",
)
NUMBERS, MARGINS, OWN = "numbers", "margins", "own"


def takes(loss: Any) -> str:
    """Return what a loss takes from the output.

    >>> from deepbabysit import losses
    >>> takes(losses.cross_entropy), takes(losses.mse)
    ('class logits', 'numbers')
    """
    target = loss.kind.target
    if target in (targets.LABELS, targets.ONE_HOT, targets.CLASSES):
        if loss.name == "nll":
            return LOG_PROBABILITIES
        return CLASS_LOGITS if loss.from_logits else CLASS_PROBABILITIES
    if target == targets.PROBABILITIES:
        return YES_LOGITS if loss.from_logits else YES_PROBABILITIES
    return {targets.SIGNS: MARGINS, targets.VALUES: NUMBERS}.get(target, OWN)


def setup_facts(
    model: Any, loss: Any, optimizer: Any, *, samples: int, validation_samples: int | None, batch_size: int | None,
    epochs: int | None, weighted: bool, metrics: Mapping[str, str],
) -> RunFacts:
    """Return how a run is set up, as far as a compiled model and the arguments of `fit` say."""
    facts = RunFacts(
        loss=None if loss is None else loss.name, batch_size=batch_size, samples=samples,
        validation_samples=validation_samples, steps=None if not batch_size else -(-samples // batch_size),
        epochs=epochs, weighted=weighted, metrics=dict(metrics),
        smoothing=float(getattr(loss, "options", {}).get("label_smoothing") or 0.0),
    )
    parameters = model.parameters()
    facts = replace(
        facts, l1=max((float(p.l1) for p in parameters), default=0.0),
        l2=max((float(p.l2) for p in parameters), default=0.0),
        dropout=max((float(layer.rate) for _, layer in model.walk() if type(layer).__name__ == "Dropout"), default=0.0),
    )
    if optimizer is None:
        return facts
    schedule = optimizer.schedule
    settings = {**optimizer._settings, "clip_norm": optimizer.clip_norm, "clip_value": optimizer.clip_value}
    return replace(
        facts, optimizer=type(optimizer).__name__, optimizer_settings=settings, rate=float(schedule.rate(0)),
        schedule=schedule.name,
    )


def with_task(run: RunFacts, loss: Any, labels: LabelFacts | None, model: ModelFacts) -> RunFacts:
    """Return the facts with task, classes and the loss of guessing, as the targets and the loss say."""
    kind = None if loss is None else takes(loss)
    run = replace(run, loss=run.loss or (None if loss is None else loss.name), loss_kind=kind)
    if labels is None:
        return run
    task, classes = _task(kind, labels, model, run.metrics)
    units = model.output_units
    if kind in (CLASS_LOGITS, CLASS_PROBABILITIES, LOG_PROBABILITIES):
        classes = units or classes
    return replace(run, task=task, classes=classes, chance=_chance(kind, loss, labels, task, units))


def amounts(labels: LabelFacts) -> bool:
    """Tell whether targets are one amount for each row: no class, whatever the loss is."""
    return labels.kind == "numbers" and not labels.few and labels.shape in ((), (1,))


def _task(
    kind: str | None, labels: LabelFacts, model: ModelFacts, metrics: Mapping[str, str]
) -> tuple[str | None, int | None]:
    if labels.kind == "one_hot":
        columns = labels.shape[-1]
        return ("binary" if columns == 2 else "multiclass"), columns
    if labels.kind == "multilabel":
        return "multilabel", labels.shape[-1]
    found = labels.classes
    if amounts(labels):
        return "regression", None
    if kind in (CLASS_LOGITS, CLASS_PROBABILITIES, LOG_PROBABILITIES):
        return ("binary" if found == 2 else "multiclass"), found or None
    if kind in (YES_LOGITS, YES_PROBABILITIES, MARGINS):
        return ("binary", 2) if labels.shape in ((), (1,)) else ("multilabel", None)
    if labels.kind == "classes":
        if found == 2:
            return "binary", 2
        accuracy = any("accuracy" in name for name in metrics)
        if accuracy or (kind in (OWN, None) and found > 2 and (model.output_units or 1) >= found):
            return "multiclass", found
    return "regression", None


def _chance(kind: str | None, loss: Any, labels: LabelFacts, task: str | None, units: int | None) -> float | None:
    if kind in (CLASS_LOGITS, CLASS_PROBABILITIES, LOG_PROBABILITIES):
        plain = loss.name != "kl_divergence" and (units or 1) > 1
        return math.log(units or 1) if plain else None
    if kind in (YES_LOGITS, YES_PROBABILITIES):
        return math.log(2.0)
    if kind == NUMBERS and task == "regression":
        return {"mse": labels.spread, "rmse": math.sqrt(labels.spread), "mae": labels.deviation}.get(loss.name)
    return None


def refusal(
    loss: Any, y: np.ndarray, output_shape: tuple[int, ...], labels: LabelFacts | None
) -> dict[str, Any] | None:
    """Return the code and the message with which a loss refuses targets beside outputs (N, ...), or None."""
    target, shape = loss.kind.target, (len(y), *output_shape)
    measured = labels is not None and amounts(labels)
    unfit = measured and target in (targets.LABELS, targets.ONE_HOT, targets.CLASSES)
    evidence = {"targets": [len(y), *y.shape[1:]], "outputs": list(shape), "loss": loss.name}
    shown: Any = (None, *output_shape)
    try:
        form = targets.check_shapes(loss.name, target, y.shape, y.dtype.kind, shape, shown)
        if form == targets.ONE_HOT and loss.ignore_index is not None:
            return {"code": "loss_shape_mismatch", "message": "ignore_index goes with class numbers", **evidence}
    except TypeError as error:
        return {"code": "wrong_loss_for_output", "message": str(error), **evidence}
    except ValueError as error:
        single = bool(output_shape) and output_shape[-1] == 1 and "softmax over one unit" in str(error)
        code = "wrong_loss_for_output" if unfit else "one_unit_softmax" if single else "loss_shape_mismatch"
        return {"code": code, "message": str(error), **evidence}
    fine = y if y.dtype.kind != "f" else y[np.isfinite(y).reshape(len(y), -1).all(axis=1)]
    try:
        targets.check_values(loss.name, target, form, fine, shape[-1] if shape else 0, loss.ignore_index)
    except ValueError as error:
        other = form == targets.ONE_HOT or (measured and target == targets.PROBABILITIES)
        return {"code": "wrong_loss_for_output" if other else "target_out_of_range", "message": str(error), **evidence}
    return None


def certainty(loss: Any, shape: tuple[int, ...]) -> float:
    """Return the loss of a sure answer over that of the true shares, where one row of four is of a class.

    Below 1 the loss leads to sure answers, not to probabilities.

    >>> from deepbabysit import losses
    >>> round(certainty(losses.mae, (3,)), 2), round(certainty(losses.mse, (3,)), 2)
    (0.67, 1.33)
    """
    y = np.zeros((4, math.prod(shape)))
    y[0, 0] = 1.0
    y[1:, 1:2] = 1.0  # of exclusive classes the other three are of another one
    answers = (np.broadcast_to(row, y.shape).reshape(4, *shape) for row in (y[1], y.mean(axis=0)))
    sure, shares = (float(loss(y.reshape(4, *shape), np.ascontiguousarray(answer)).item()) for answer in answers)
    return sure / shares
