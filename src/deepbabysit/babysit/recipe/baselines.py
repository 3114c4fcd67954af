"""Dumb baselines: what guessing and a linear model reach on the validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.babysit.preparation import Prepared, Score, classes_of, score

ROWS = 5000  # so many rows a linear model is fitted to
FEATURES = 1000  # so many features it sees, those that vary most
STRENGTH = 1e-2  # of its penalty, times the rows


def baselines(data: Prepared, model: Any) -> dict[str, Score]:
    """Return the scores of guessing and of ridge regression (one column per class; the largest answers)."""
    assert data.validation is not None and data.truth is not None
    goal = np.asarray(data.y, np.float64)
    classes = classes_of(data.y, model.loss, 1 if goal.ndim == 1 else goal.shape[-1])
    several = classes and goal.reshape(len(goal), -1).shape[1] == 1
    levels = np.unique(goal) if several else None
    held = len(data.truth)
    if several and levels is not None and (len(levels) > 2 or goal.ndim == 1 and not _binary(levels)):
        columns = (goal.reshape(-1, 1) == np.arange(int(levels.max()) + 1)).astype(np.float64)
        answer = columns.mean(axis=0)
    else:
        columns = goal.reshape(len(goal), -1)
        answer = columns.mean(axis=0)
    found = {"guessing": _scored(data, np.tile(answer, (held, 1)), classes)}
    if all(a.dtype.kind == "f" for a in (*data.x, *data.validation[0])):
        found["linear model"] = _scored(data, _ridge(data, columns), classes)
    return found


def _binary(levels: np.ndarray) -> bool:
    return bool(np.isin(levels, (0.0, 1.0)).all())


def _scored(data: Prepared, said: np.ndarray, classes: bool) -> Score:
    assert data.truth is not None
    if not classes:
        said = data.outputs(said.reshape(len(said), *data.y.shape[1:]))
    return score(data.truth, said, classes)


def _flat(arrays: Any) -> np.ndarray:
    return np.concatenate([np.asarray(a, np.float64).reshape(len(a), -1) for a in arrays], axis=1)


def _ridge(data: Prepared, goal: np.ndarray) -> np.ndarray:
    """Return what ridge regression on the training rows says about the validation rows."""
    assert data.validation is not None
    x, theirs, y = _flat(data.x)[:ROWS], _flat(data.validation[0]), goal[:ROWS]
    if x.shape[1] > FEATURES:
        chosen = np.argsort(-x.var(axis=0), kind="stable")[:FEATURES]
        x, theirs = x[:, chosen], theirs[:, chosen]
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0.0] = 1.0
    x, theirs, middle = (x - mean) / spread, (theirs - mean) / spread, y.mean(axis=0)
    gram = x.T @ x
    gram.flat[:: len(gram) + 1] += STRENGTH * len(x)
    weights: np.ndarray = np.linalg.solve(gram, x.T @ (y - middle))
    result: np.ndarray = theirs @ weights + middle
    return result
