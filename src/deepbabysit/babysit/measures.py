"""Statistics of arrays on a device, as vitals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepbabysit.babysit.vitals import TensorVitals
from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.device import Device

Segment = tuple[int, int]

# name of an activation -> (center, distance): outputs farther from the center lie on its flat part, where its slope is
# under 3 % of the steepest one (sigmoid beyond inputs of 5, tanh beyond 2.5)
FLAT = {"sigmoid": (0.5, 0.4933), "tanh": (0.0, 0.987)}


def of_tensor(device: Device, x: Array) -> TensorVitals:
    """Return the statistics of one array."""
    return _describe(device.to_host(x).reshape(-1))


def of_segments(device: Device, flat: Array, segments: Sequence[Segment]) -> list[TensorVitals]:
    """Return the statistics of parts ``(begin, length)`` of a flat buffer."""
    host = device.to_host(flat)
    return [_describe(host[begin : begin + length]) for begin, length in segments]


def of_change(device: Device, flat: Array, before: Array, segments: Sequence[Segment]) -> list[float]:
    """Return the norm of the change of each part since `before`."""
    change = device.to_host(flat) - device.to_host(before)
    return [_norm(change[begin : begin + length]) for begin, length in segments]


def of_units(device: Device, x: Array, center: float, distance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return for each unit of the last axis how often it is not 0 and how often far from the center; rows seen."""
    host = device.to_host(x)
    host = host.reshape(-1, host.shape[-1])
    active = np.count_nonzero(host, axis=0)
    if not math.isfinite(distance):
        return active, np.zeros_like(active), len(host)
    return active, np.count_nonzero(np.abs(host - host.dtype.type(center)) >= distance, axis=0), len(host)


def dot(device: Device, x: Array, y: Array) -> float:
    """Return the inner product of two flat buffers."""
    return float(np.dot(device.to_host(x), device.to_host(y)))


def _norm(x: np.ndarray) -> float:
    square = float(np.dot(x, x))
    return math.sqrt(square) if math.isfinite(square) else float(np.linalg.norm(x.astype(np.float64)))


def _describe(x: np.ndarray) -> TensorVitals:
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    if x.size == 0:
        return TensorVitals(0, math.nan, math.nan, math.nan, math.nan, 0.0, 0, 0, 0.0)
    count, zeros, broken = x.size, x.size - int(np.count_nonzero(x)), 0
    square = float(np.dot(x, x))
    if not math.isfinite(square):  # a number that is not finite, or squares that overflow
        finite = np.isfinite(x)
        broken = count - int(np.count_nonzero(finite))
        x = x[finite].astype(np.float64)
        if x.size == 0:
            return TensorVitals(count, math.nan, math.nan, math.nan, math.nan, 0.0, zeros, broken, 0.0)
        with np.errstate(over="ignore"):
            square = float(np.dot(x, x))
    mean = float(x.mean())
    variance = square / x.size - mean * mean
    if variance < 1e-3 * mean * mean:  # cancellation
        variance = float(np.mean((x - mean) ** 2, dtype=np.float64))
    low, high = float(x.min()), float(x.max())
    return TensorVitals(
        count, mean, math.sqrt(max(variance, 0.0)), low, high, max(abs(low), abs(high)), zeros, broken,
        math.sqrt(square),
    )
