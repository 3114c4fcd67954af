"""Statistics of arrays on a device, as vitals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepbabysit.babysit.vitals import TensorVitals
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.kernels.statistics import Statistic, UnitStatistic
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call

Segments = tuple[tuple[int, int], ...]

# name of an activation -> (center, distance): outputs farther from the center lie on its flat part, where its slope is
# under 3 % of the steepest one (sigmoid beyond inputs of 5, tanh beyond 2.5)
FLAT = {"sigmoid": (0.5, 0.4933), "tanh": (0.0, 0.987)}

_TENSOR, _SEGMENTS = SPECS["tensor_statistics"], SPECS["segment_statistics"]
_CHANGES, _UNITS = SPECS["change_statistics"], SPECS["unit_activity"]


def of_tensor(device: Device, x: Array) -> TensorVitals:
    """Return the statistics of one floating array."""
    return _vitals(device.to_host(call(device, _TENSOR, (x,))[0]).tolist())


def of_segments(device: Device, flat: Array, segments: Segments) -> list[TensorVitals]:
    """Return the statistics of parts ``(begin, length)`` of a flat buffer."""
    return _rows(device, call(device, _SEGMENTS, (flat,), {"segments": segments})[0])


def of_change(device: Device, flat: Array, before: Array, segments: Segments) -> list[TensorVitals]:
    """Return the statistics of the change of each part since `before`."""
    return _rows(device, call(device, _CHANGES, (flat, before), {"segments": segments})[0])


def of_units(device: Device, x: Array, center: float, distance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return for each unit of the last axis how often it is not 0 and how often far from the center; rows seen."""
    host = device.to_host(call(device, _UNITS, (x,), {"center": center, "limit": distance})[0])
    rows = math.prod(x.shape[:-1])
    active = rows - host[UnitStatistic.ZEROS].astype(np.int64)
    return active, host[UnitStatistic.BEYOND].astype(np.int64), rows


def dot(device: Device, x: Array, y: Array) -> float:
    """Return the inner product of two flat buffers."""
    return float(np.dot(device.to_host(x), device.to_host(y)))


def _rows(device: Device, rows: Array) -> list[TensorVitals]:
    return [_vitals(row) for row in device.to_host(rows).tolist()]


def _vitals(row: Sequence[float]) -> TensorVitals:
    return TensorVitals(
        int(row[Statistic.COUNT]), row[Statistic.MEAN], row[Statistic.STD], row[Statistic.MINIMUM],
        row[Statistic.MAXIMUM], row[Statistic.ABSOLUTE_MAXIMUM], int(row[Statistic.ZEROS]),
        int(row[Statistic.NON_FINITE]), row[Statistic.NORM],
    )
