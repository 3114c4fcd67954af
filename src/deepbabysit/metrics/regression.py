"""Metrics of numbers: those of the losses, and the explained share of the variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit import losses
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.losses import targets
from deepbabysit.losses.targets import check_weight_shape
from deepbabysit.metrics.metric import Batch, define, of_loss, register

mae = register(of_loss(losses.mae), "mean_absolute_error", "MAE", "MeanAbsoluteError")
mse = register(of_loss(losses.mse), "mean_squared_error", "MSE", "MeanSquaredError")
rmse = register(of_loss(losses.rmse), "root_mean_squared_error", "RMSE", "RootMeanSquaredError")


def _explained(totals: np.ndarray) -> float:
    weight, (first, second, rest) = totals[0], totals[1:].reshape(3, -1)
    if not weight:
        return float("nan")
    spread = second - first * first / weight
    # rounding of the sums alone can leave this much of a column that does not vary
    flat = spread <= 1e-14 * second
    values = 1.0 - rest / np.where(flat, 1.0, spread)
    return float(np.where(flat, np.where(rest == 0.0, 1.0, 0.0), values).mean())


@define("R2", "R2Score", "r2_score", result=_explained)
def r2(batch: Batch, choose: Any) -> Tensor:
    """Coefficient of determination: ``1 - sum((y - p)^2) / sum((y - mean(y))^2)``, the mean over columns.

    From float64 sums of y and y^2. A column that does not vary gives 1 where it is met exactly, else 0 (scikit-learn).

    >>> import deepbabysit as db
    >>> round(db.metrics.r2([[1.0], [2.0], [3.0]], [[1.0], [2.0], [2.0]]), 6)
    0.5
    """
    y, p, xp = batch.y, batch.p, batch.xp
    targets.check_shapes(batch.name, targets.VALUES, y.shape, y.dtype.kind, p.shape)
    rows = (y.shape[0], -1) if y.size else (y.shape[0], 1)
    wide_y, wide_p = (xp.reshape(t.astype(np.float64), rows) for t in (y, p))
    error = wide_y - wide_p
    columns = (wide_y, wide_y * wide_y, error * error)
    weight = batch.weight
    if weight is not None:
        check_weight_shape(batch.name, weight.shape, y.shape[:1])
        columns = tuple(c * xp.reshape(weight, (-1, 1)) for c in columns)  # type: ignore[assignment]
    return batch.join(batch.count(y.shape[:1], weight), *[xp.sum(c, axis=0) for c in columns])
