"""Why a classifier is not trained on accuracy or on the squared error of a probability, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import tensor
from deepbabysit.losses.crossentropy import binary_crossentropy
from deepbabysit.losses.regression import mse


def slopes(logits: Sequence[float], target: float = 1.0) -> dict[str, np.ndarray]:
    """Return what three losses say to a sigmoid unit that gives these logits: the derivative by each logit.

    With ``p = sigmoid(x)``: accuracy is flat almost everywhere (its derivative is measured, by a central difference);
    the squared error has ``2 (p - t) p (1 - p)``, which goes to 0 where the unit is very wrong; cross-entropy has
    ``p - t``, which is largest there.

    Arguments:
        logits: values before the sigmoid, (n,).
        target: 0 or 1, what the unit should say.

    Returns:
        ``{"accuracy": (n,), "mse": (n,), "binary_crossentropy": (n,)}``, float64.

    >>> import deepbabysit as db
    >>> found = db.losses.slopes([-10.0, -1.0, 1.0, 10.0], target=1.0)
    >>> found["accuracy"].tolist()
    [0.0, 0.0, 0.0, 0.0]
    >>> [f"{v:.4f}" for v in found["mse"]]
    ['-0.0001', '-0.2875', '-0.1058', '-0.0000']
    >>> [f"{v:.4f}" for v in found["binary_crossentropy"]]
    ['-1.0000', '-0.7311', '-0.2689', '-0.0000']
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 1:
        raise ValueError(f"slopes takes a list of logits; got shape {values.shape}")
    step = 1e-6
    right = [(_says_yes(values + side) == (target > 0.5)).astype(np.float64) for side in (step, -step)]
    result: dict[str, Any] = {"accuracy": (right[0] - right[1]) / (2 * step)}
    wanted = np.full(values.shape, target)
    for loss in (mse, binary_crossentropy):
        x = tensor(values, requires_grad=True)
        total, _ = loss.parts(wanted, ops.sigmoid(x))
        total.backward()
        assert x.grad is not None
        result[loss.name] = np.array(x.grad.numpy())
    return result


def _says_yes(logits: np.ndarray) -> np.ndarray:
    return ops.sigmoid(tensor(logits)).numpy() > 0.5
