"""What can be wrong with data, in ways that only this draw has. Form and registry: `babysitter.spoiling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.babysitter.spoiling import Rows, some, spoils


@spoils
def sort_inputs(x: Any, y: Any, xv: Any, yv: Any, rng: Any) -> Rows:
    """Inputs are sorted by a column, labels are not."""
    return x[np.argsort(x[:, int(x.std(0).argmax())], kind="stable")], y, xv, yv


@spoils
def leak_rows(x: Any, y: Any, xv: Any, yv: Any, rng: Any, share: float = 0.6) -> Rows:
    """So many of the held-out rows are copies of training rows."""
    rows = some(rng, len(xv), share)
    source = rng.choice(len(x), len(rows), replace=len(rows) > len(x))
    xv, yv = xv.copy(), yv.copy()
    xv[rows], yv[rows] = x[source], y[source]
    return x, y, xv, yv


@spoils
def leak_feature(x: Any, y: Any, xv: Any, yv: Any, rng: Any, noise: float = 0.05) -> Rows:
    """A column tells the target; it will not be there in use."""
    scale = max(float(np.std(y)), 1e-6)
    extra = [((t - np.mean(y)) / scale + rng.normal(0, noise, t.shape)).astype(np.float32)[:, None] for t in (y, yv)]
    return np.concatenate([x, extra[0]], 1), y, np.concatenate([xv, extra[1]], 1), yv


@spoils
def drift(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: float = 2.0) -> Rows:
    """The held-out rows come from elsewhere: shifted by so many deviations."""
    return x, y, (xv + by * x.std(0)).astype(np.float32), yv


@spoils
def shift_classes(x: Any, y: Any, xv: Any, yv: Any, rng: Any, by: int = 1) -> Rows:
    """Class numbers begin with 1 (or elsewhere) instead of 0."""
    return x, y + by, xv, yv + by
