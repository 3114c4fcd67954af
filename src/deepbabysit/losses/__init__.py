"""Losses: ``loss(y_true, y_pred, sample_weight=None)``, as a function, an object with options, or by name.

>>> import deepbabysit as db
>>> db.losses.get("mean_squared_error") is db.losses.mse
True
>>> db.losses.CrossEntropy(label_smoothing=0.1)
cross_entropy(label_smoothing=0.1)
>>> db.losses.CategoricalCrossentropy(from_logits=True)
categorical_crossentropy(from_logits=True)
"""

from __future__ import annotations

from deepbabysit.errors import unknown
from deepbabysit.losses.crossentropy import (
    binary_crossentropy,
    binary_crossentropy_with_logits,
    categorical_crossentropy,
    cross_entropy,
    kl_divergence,
    nll,
    sparse_categorical_crossentropy,
)
from deepbabysit.losses.lessons import slopes
from deepbabysit.losses.loss import TABLE, Loss, LossClass, find, from_config, get, offered, spellings
from deepbabysit.losses.regression import hinge, huber, log_cosh, mae, mse, rmse

__all__ = [
    "Loss", "binary_crossentropy", "binary_crossentropy_with_logits", "categorical_crossentropy", "cross_entropy",
    "from_config", "get", "hinge", "huber", "kl_divergence", "log_cosh", "mae", "mse", "nll", "rmse", "slopes",
    "sparse_categorical_crossentropy",
]

# doctest looks here: the losses are objects, and their examples stand in the docstrings of the formulas
__test__ = {name: loss.__doc__ for name, loss in TABLE.items()}


def __getattr__(name: str) -> Loss | LossClass:
    """Serve class-style names (``CategoricalCrossentropy``) and long forms (``mean_squared_error``)."""
    if name.startswith("_"):
        raise AttributeError(name)
    found = find(name)
    if found is None:
        raise AttributeError(unknown("loss", name, offered(name)))
    return LossClass(name, found) if name[0].isupper() else found


def __dir__() -> list[str]:
    return sorted({*__all__, *spellings()})
