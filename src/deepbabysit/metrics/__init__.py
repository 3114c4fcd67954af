"""Metrics: ``metric(y_true, y_pred, sample_weight=None)`` is a float; by name in ``compile(metrics=[...])``.

The name of any loss is a metric, too.

>>> import deepbabysit as db
>>> db.metrics.get("mse")([[1.0]], [[3.0]])
4.0
>>> db.metrics.TopKCategoricalAccuracy(k=3)
top_k_accuracy(k=3)
"""

from __future__ import annotations

from deepbabysit.errors import unknown
from deepbabysit.metrics.classification import (
    accuracy,
    auc,
    binary_accuracy,
    categorical_accuracy,
    confusion_matrix,
    f1,
    precision,
    recall,
    sparse_categorical_accuracy,
    top_k_accuracy,
)
from deepbabysit.metrics.metric import TABLE, Metric, MetricClass, find, from_config, get, offered, spellings
from deepbabysit.metrics.regression import mae, mse, r2, rmse

__all__ = [
    "Metric", "accuracy", "auc", "binary_accuracy", "categorical_accuracy", "confusion_matrix", "f1", "from_config",
    "get", "mae", "mse",
    "precision", "r2", "recall", "rmse", "sparse_categorical_accuracy", "top_k_accuracy",
]

# doctest looks here: the metrics are objects, and their examples stand in their docstrings
__test__ = {name: metric.__doc__ or "" for name, metric in TABLE.items()}


def __getattr__(name: str) -> Metric | MetricClass:
    """Serve class-style names (``TopKCategoricalAccuracy``), long forms, and the names of losses."""
    if name.startswith("_"):
        raise AttributeError(name)
    found = find(name)
    if found is None:
        raise AttributeError(unknown("metric", name, offered(name)))
    return MetricClass(name, found) if name[0].isupper() else found


def __dir__() -> list[str]:
    return sorted({*__all__, *spellings()})
