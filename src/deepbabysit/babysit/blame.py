"""The finding behind an exception with which `fit` refuses data."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.babysit.facts import label_facts
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.task import refusal


def blame(error: Exception, model: Any, x: Any, y: Any) -> Finding | None:
    """Return what is surely wrong with data that `fit` has refused; None where it was something else.

    Arguments:
        error: what was raised; its message becomes the finding's.
        model: compiled.
        x, y: as they were given.
    """
    text = str(error)
    for part in (x, y):
        array = _array(part)
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            return Finding("nan_in_data", "error", 1.0, text, {"not_finite": bad, "limit": 0})
    targets, loss = _array(y), getattr(getattr(model, "_trainer", None), "loss", None)
    shape = getattr(model, "output_shape", None)
    if targets is None or loss is None or shape is None or not targets.size:
        return None
    found = refusal(loss, targets, tuple(shape[1:]), label_facts(targets))
    if found is None:
        return None
    evidence = {name: value for name, value in found.items() if name not in ("code", "message")}
    return Finding(found["code"], "error", 1.0, text, evidence)


def _array(value: Any) -> np.ndarray | None:
    """Return one array of numbers, or None."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "fiub" and array.ndim else None
