"""Small real data and models for the tests of the babysitter."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit.findings import Findings

L = db.layers
TABLES = ("iris", "wine", "breast_cancer", "diabetes", "digits")


@cache
def raw(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """Return training and validation part, not normalized, and the kind of task."""
    pytest.importorskip("sklearn")
    data = getattr(db.datasets, name)()
    x = np.asarray(data.x, np.float32).reshape(len(data.x), -1)
    train, held = db.data.split(x, np.asarray(data.y), (0.8, 0.2))
    return train.x, train.y, held.x, held.y, data.task


def scaled(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """Return both parts as they should be: features scaled, numbers as a scaled column."""
    x, y, xv, yv, task = raw(name)
    scale = db.data.ZScore().fit(x)
    if task == "regression":
        mean, std = y.mean(), y.std()
        y, yv = ((t - mean) / std for t in (y, yv))
    if task != "multiclass":
        y, yv = (t.reshape(-1, 1).astype(np.float32) for t in (y, yv))
    return scale.transform(x), y, scale.transform(xv), yv, task


def network(
    features: Any, task: str, classes: int = 3, hidden: tuple[int, ...] = (32, 16), activation: Any = "relu",
    kernel: Any = "he_normal", first: Any = (), bias: Any = "zeros", compiled: bool = True, metrics: Any = None,
    loss: Any = None, last: Any = None,
) -> Any:
    """Return a compiled dense network for a task."""
    stack: list[Any] = list(first)
    for number, units in enumerate(hidden):
        shape = {"input_shape": features} if number == 0 and not stack else {}
        stack.append(L.Dense(units, activation, kernel_initializer=kernel, bias_initializer=bias, **shape))
    end = {"binary": L.Dense(1, "sigmoid"), "multiclass": L.Dense(classes, "softmax")}.get(task, L.Dense(1))
    stack.append(last if last is not None else end)
    model = db.Sequential(stack)
    usual = {"binary": "binary_crossentropy", "multiclass": "sparse_categorical_crossentropy"}.get(task, "mse")
    if compiled:
        default = [] if task == "regression" else ["accuracy"]
        model.compile("adam", loss if loss is not None else usual, metrics=default if metrics is None else metrics)
    return model


def model_for(name: str, **options: Any) -> Any:
    """Return a network that fits a data set."""
    x, y, _, _, task = raw(name)
    return network(x.shape[1], task, classes=len(np.unique(y)) if task == "multiclass" else 3, **options)


def check(model: Any, x: Any, y: Any, validation: Any = None, **options: Any) -> Findings:
    """Check with time enough, so that the result does not depend on the machine."""
    return db.babysit.check(model, x, y, validation, budget=60.0, **options)


def loud(findings: Any) -> list[str]:
    """Return the codes of warnings and errors."""
    return [f.code for f in findings if f.severity != "note"]
