"""Statistics of arrays on a device, as vitals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
_CHANGES, _UNITS, _ASTYPE = SPECS["change_statistics"], SPECS["unit_activity"], SPECS["astype"]
_ARGMAX, _PRODUCTS = SPECS["argmax"], SPECS["inner_products"]


_SLAB = 1 << 12  # numbers of a slab at least


class Slab:
    """Statistics on a device, measured into places that stay, and read together: all of it may be part of a step.

    Arguments:
        device: where they are measured.

    Attributes:
        arrays: what holds all places.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.arrays: list[Array] = []
        self._used = 0
        self._places: dict[Any, tuple[int, int, Array]] = {}

    def place(self, key: Any, shape: tuple[int, ...]) -> Array:
        """Return the place of that name and shape."""
        found = self._places.get((key, shape))
        if found is None:
            size = math.prod(shape)
            if not self.arrays or self._used + size > self.arrays[-1].shape[0]:
                self.arrays.append(self.device.backend.empty((max(size, _SLAB),), np.dtype(np.float64)))
                self._used = 0
            array = self.arrays[-1][self._used : self._used + size].reshape(shape)
            found = self._places[key, shape] = (len(self.arrays) - 1, self._used, array)
            self._used += -(-size // 2) * 2  # at a multiple of 16 bytes
        return found[2]

    def tensor(self, key: Any, x: Array) -> None:
        """Measure one floating array."""
        call(self.device, _TENSOR, (x,), outs=(self.place(key, (len(Statistic),)),))

    def units(self, key: Any, x: Array, center: float, distance: float) -> None:
        """Measure the units of the last axis."""
        place = self.place(key, (len(UnitStatistic), x.shape[-1]))
        call(self.device, _UNITS, (x,), {"center": center, "limit": distance}, outs=(place,))

    def segments(self, key: Any, flat: Array, segments: Segments) -> None:
        """Measure parts ``(begin, length)`` of a flat buffer."""
        place = self.place(key, (len(segments), len(Statistic)))
        call(self.device, _SEGMENTS, (flat,), {"segments": segments}, outs=(place,))

    def change(self, key: Any, flat: Array, before: Array, segments: Segments) -> None:
        """Measure the change of each part since `before`."""
        place = self.place(key, (len(segments), len(Statistic)))
        call(self.device, _CHANGES, (flat, before), {"segments": segments}, outs=(place,))

    def keep(self, key: Any, x: Array) -> None:
        """Keep the values of an array."""
        call(self.device, _ASTYPE, (x,), {"dtype": "float64"}, outs=(self.place(key, tuple(x.shape)),))

    def largest(self, key: Any, x: Array) -> None:
        """Keep where the largest number of each row is."""
        call(self.device, _ARGMAX, (x,), outs=(self.place(key, tuple(x.shape[:-1])).view(np.int64),))

    def page(self, hosts: Sequence[np.ndarray]) -> Page:
        """Return what `arrays` held when these values were taken from them."""
        return Page(self._places, hosts)

    def page_now(self) -> Page:
        """Return what `arrays` hold now; waits for it."""
        return self.page(self.device.fetch(self.arrays).values())


class Page:
    """A slab as it was read.

    Arguments:
        places: where everything is in it.
        hosts: its arrays.
    """

    def __init__(self, places: Mapping[Any, tuple[int, int, Array]], hosts: Sequence[np.ndarray]) -> None:
        self._places = places
        self._hosts = hosts

    def values(self, key: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return what was read from a place."""
        slab, begin, _ = self._places[key, shape]
        return self._hosts[slab][begin : begin + math.prod(shape)].reshape(shape)

    def vitals(self, key: Any) -> TensorVitals:
        """Return what was measured by `tensor`."""
        return _vitals(self.values(key, (len(Statistic),)).tolist())

    def rows(self, key: Any, count: int) -> list[TensorVitals]:
        """Return what was measured by `segments` or `change`."""
        return [_vitals(row) for row in self.values(key, (count, len(Statistic))).tolist()]

    def activity(self, key: Any, units: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return how often each unit was not 0 in so many rows, and how often it was far from the center."""
        host = self.values(key, (len(UnitStatistic), units))
        return rows - host[UnitStatistic.ZEROS].astype(np.int64), host[UnitStatistic.BEYOND].astype(np.int64)


def of_segments(device: Device, flat: Array, segments: Segments) -> list[TensorVitals]:
    """Return the statistics of parts ``(begin, length)`` of a flat buffer."""
    rows = call(device, _SEGMENTS, (flat,), {"segments": segments})[0]
    return [_vitals(row) for row in device.to_host(rows).tolist()]


def products(device: Device, x: Array, y: Array) -> Array:
    """Return ``x . y, x . x, y . y`` of two flat buffers, on the device."""
    return call(device, _PRODUCTS, (x, y))[0]


def _vitals(row: Sequence[float]) -> TensorVitals:
    count, mean, std, low, high, largest, zeros, broken, norm = row  # in the order of `Statistic`
    return TensorVitals(int(count), mean, std, low, high, largest, int(zeros), int(broken), norm)
