"""Statistics of an optimizer's parameters, their gradients and their changes, straight from the flat buffers."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from deepbabysit.errors import unknown
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.kernels.statistics import Statistic
from deepbabysit.optimizers.flat import FlatBuffer
from deepbabysit.optimizers.optimizer import Optimizer
from deepbabysit.runtime.funnel import call

KINDS = ("weights", "gradients", "changes")
_COPY, _SEGMENTS, _CHANGES = SPECS["copy"], SPECS["segment_statistics"], SPECS["change_statistics"]


@final
class Measures:
    """One row of `deepbabysit.kernels.statistics.Statistic` for each parameter, in one kernel call per flat buffer.

    `measure` and `keep` are kernel calls on buffers that stay where they are, so that they can be part of a recorded
    step, and change no bit of the training; `read` waits for the device. Gradients are those in the flat buffer: not
    scaled, without penalties, not clipped, and up to date after `Optimizer.update` (or where backward accumulates).

    Arguments:
        optimizer: an optimizer with parameters.

    >>> import deepbabysit as db
    >>> from deepbabysit.kernels.statistics import Statistic
    >>> from deepbabysit.optimizers.measures import Measures
    >>> layer = db.layers.Dense(3, input_shape=2)
    >>> optimizer = db.optimizers.SGD(layer.parameters(), 0.1)
    >>> measures = Measures(optimizer)
    >>> measures.measure("weights")
    >>> rows = measures.read("weights")
    >>> [int(row[Statistic.COUNT]) for row in rows.values()]
    [6, 3]
    """

    __slots__ = ("_before", "_flats", "_optimizer", "_rows")

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._flats: list[FlatBuffer] = []
        self._rows: dict[str, list[Array]] = {}
        self._before: list[Array] = []

    def _follow(self) -> list[FlatBuffer]:
        """Return the flat buffers; where the optimizer has packed anew, what was measured is forgotten."""
        optimizer = self._optimizer
        optimizer._need_parameters()
        if self._flats is not optimizer._flats:
            self._flats = optimizer._flats
            self._rows.clear()
            self._before.clear()
        return self._flats

    def keep(self) -> None:
        """Copy the weights as they are now: ``measure("changes")`` compares with them."""
        flats = self._follow()
        if not self._before:
            self._before = [flat.zeros() for flat in flats]
        for flat, before in zip(flats, self._before, strict=True):
            call(flat.device, _COPY, (flat.w,), outs=(before,))

    def measure(self, kind: str) -> None:
        """Measure ``"weights"``, ``"gradients"``, or the ``"changes"`` of the weights since `keep`.

        Raises:
            ValueError: there is no such kind.
            RuntimeError: changes were asked for, and `keep` was not called before.
        """
        if kind not in KINDS:
            raise ValueError(unknown("kind of measure", kind, KINDS))
        flats = self._follow()
        if kind == "changes" and not self._before:
            raise RuntimeError("changes are measured against the weights at keep(); call it before the update")
        if kind not in self._rows:
            shapes = [(len(flat.members), len(Statistic)) for flat in flats]
            self._rows[kind] = [flat.device.asarray(np.zeros(s)) for flat, s in zip(flats, shapes, strict=True)]
        for place, (flat, rows) in enumerate(zip(flats, self._rows[kind], strict=True)):
            attrs: dict[str, Any] = {"segments": flat.segments}
            if kind == "changes":
                call(flat.device, _CHANGES, (flat.w, self._before[place]), attrs, outs=(rows,))
            else:
                call(flat.device, _SEGMENTS, (flat.w if kind == "weights" else flat.g,), attrs, outs=(rows,))

    def arrays(self, kind: str) -> list[Array]:
        """Return the device arrays that `measure` writes into, for asynchronous reading; `names` has their rows."""
        self._follow()
        if kind not in self._rows:
            raise RuntimeError(f"nothing was measured of {kind!r} yet; call measure({kind!r})")
        return self._rows[kind]

    def names(self) -> list[list[str]]:
        """Return the paths of the parameters, in the order of the rows of each array."""
        paths = self._optimizer._paths()
        return [[paths[id(member.parameter)] for member in flat.members] for flat in self._follow()]

    def read(self, kind: str) -> dict[str, np.ndarray]:
        """Return path -> row of `Statistic`, in the order in which the optimizer got the parameters.

        Gradients of parameters that have none are left out.
        """
        found: dict[str, np.ndarray] = {}
        for flat, names, rows in zip(self._follow(), self.names(), self.arrays(kind), strict=True):
            host = np.array(self._optimizer._host(rows, f"read({kind!r})"))
            for member, name, row in zip(flat.members, names, host, strict=True):
                if kind != "gradients" or member.parameter.grad is not None:
                    found[name] = row
        return {name: found[name] for name in self._optimizer._paths().values() if name in found}
