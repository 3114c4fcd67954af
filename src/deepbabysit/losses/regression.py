"""Losses of differences between numbers, distributions and margins."""

from __future__ import annotations

from typing import Any

from deepbabysit.losses import targets
from deepbabysit.losses.loss import define


@define("mean_absolute_error", "MAE", "MeanAbsoluteError", "L1Loss", target=targets.VALUES)
def mae(xp: Any, y: Any, p: Any) -> Any:
    """Mean absolute error: ``|y - p|``; the derivative at 0 is 0.

    Targets and outputs: one shape (N, ...).

    >>> import deepbabysit as db
    >>> db.losses.mae([[1.0], [2.0]], [[1.0], [4.0]]).item()
    1.0
    """
    return xp.abs(p - y)


def _square(y: Any, p: Any) -> Any:
    error = p - y
    return error * error


@define("mean_squared_error", "MSE", "MeanSquaredError", "MSELoss", target=targets.VALUES)
def mse(xp: Any, y: Any, p: Any) -> Any:
    """Mean squared error: ``(y - p)^2``.

    Targets and outputs: one shape (N, ...).

    >>> import deepbabysit as db
    >>> db.losses.mse([[1.0], [2.0]], [[1.0], [4.0]]).item()
    2.0
    """
    return _square(y, p)


@define("root_mean_squared_error", "RMSE", "RootMeanSquaredError", target=targets.VALUES, root=True)
def rmse(xp: Any, y: Any, p: Any) -> Any:
    """Root of the mean squared error: ``sqrt(mean((y - p)^2))``, the root of the whole mean; derivative 0 at 0.

    Targets and outputs: one shape (N, ...). The parts are those of mse, so that batches add up;
    `Loss.mean` takes the root.

    >>> import deepbabysit as db
    >>> db.losses.rmse([[0.0], [0.0]], [[2.0], [2.0]]).item()
    2.0
    """
    return _square(y, p)


@define("Huber", "huber_loss", "HuberLoss", target=targets.VALUES)
def huber(xp: Any, y: Any, p: Any, *, delta: float = 1.0) -> Any:
    """Huber loss: ``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)`` (Huber, 1964), ``e = y - p``.

    Targets and outputs: one shape (N, ...); `delta` in the units of the targets.

    >>> import deepbabysit as db
    >>> db.losses.huber([[0.0], [0.0]], [[1.0], [3.0]]).item()
    1.5
    """
    size = xp.abs(p - y)
    near = xp.minimum(size, delta)
    return near * (size - near * 0.5)


@define("logcosh", "LogCosh", target=targets.VALUES)
def log_cosh(xp: Any, y: Any, p: Any) -> Any:
    """Logarithm of the hyperbolic cosine of the error: about ``e^2 / 2`` near 0 and ``|e| - log 2`` far away.

    Targets and outputs: one shape (N, ...).

    >>> import deepbabysit as db
    >>> round(db.losses.log_cosh([0.0], [1.0]).item(), 4)
    0.4338
    """
    return xp.log_cosh(p - y)


@define("Hinge", target=targets.SIGNS, threshold=0.0)
def hinge(xp: Any, y: Any, p: Any) -> Any:
    """Hinge loss: ``max(1 - y p, 0)`` with y -1 or 1 (0 counts as -1); the derivative at the corner is 0.

    Targets and outputs: one shape (N, ...).

    >>> import deepbabysit as db
    >>> db.losses.hinge([1, -1, 0], [2.0, 0.5, 0.5]).item()
    1.0
    """
    sign = xp.where(y == 0.0, -1.0, y)
    return xp.relu(1.0 - sign * p)
