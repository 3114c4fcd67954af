"""A number that is not finite: keeping what the step was computed from, and finding where it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array
from deepbabysit.optimizers.flat import FlatBuffer, flats_of
from deepbabysit.runtime.context import current, surroundings
from deepbabysit.runtime.funnel import call
from deepbabysit.training.events import Controls

_KEEP = SPECS["keep_step"]
RING = 4096  # losses of the last steps that are kept on the device: more than pass between two looks
_PROBE = 16384  # numbers of a gradient that are looked at in every step


class Guard:
    """Keeps losses, and the weights of the first step whose loss or first gradient is not finite; part of the step."""

    def __init__(self, controls: Controls) -> None:
        self._step = controls.step
        self._optimizer = controls.optimizer
        self._device = controls.device
        self._flats: list[FlatBuffer] = []
        self.kept: list[Array] = []
        self._taken: list[Array] = []
        self._rings: list[Array] = []

    def __call__(self, loss: Tensor) -> None:
        """Look at the loss and at the gradient of the parameter nearest the input (bad numbers flow there)."""
        flats = flats_of(self._optimizer)
        if self._flats != flats:
            self._flats = list(flats)
            empty = self._device.backend.empty
            self.kept = [empty(flat.w.shape, flat.w.dtype) for flat in flats]
            self._taken = [self._device.asarray(np.zeros(1)) for _ in flats]
            self._rings = [self._device.asarray(np.zeros(RING)) for _ in flats]
            if flats and isinstance(self._taken[0], np.ndarray):  # a look into another memory would wait for the step
                self._step.alarm = self._taken[0].data
        # gradients of a scaled loss may overflow: the optimizer skips such a step
        probe = self._probe() if self._optimizer.loss_scale is None else loss.data.reshape(-1)
        for flat, kept, taken, ring in zip(flats, self.kept, self._taken, self._rings, strict=True):
            inputs = (loss.data, probe, self._optimizer.control, flat.w, kept, taken, ring)
            call(self._device, _KEEP, inputs, outs=(kept, taken, ring))

    def _probe(self) -> Array:
        """Return the first gradient that is small enough to be looked at in every step."""
        first = None
        for parameter in self._optimizer.parameters[:4]:
            for flat in self._flats:
                for index, member in enumerate(flat.members):
                    if member.parameter is parameter and parameter.trainable and parameter.grad is not None:
                        slot = flat.slots[index].reshape(-1)
                        if first is None:
                            first = slot[:_PROBE]
                        if slot.shape[0] <= 1024:
                            return slot
        return self._flats[0].g[:1] if first is None else first

    @property
    def arrays(self) -> list[Array]:
        """What `losses` and `step` are told from, on the device: the ring, then what says whether weights are kept."""
        return [*self._rings[:1], *self._taken]

    @staticmethod
    def losses(host: np.ndarray, first: int, last: int) -> bytes:
        """Return the losses of the optimizer's steps from `first` to `last` (from 1), float64 one after another.

        The ring holds no more than the last `RING` of them.
        """
        begin, end = first % RING, last % RING + 1
        return bytes(host[begin:end].tobytes() if begin < end else host[begin:].tobytes() + host[:end].tobytes())

    @staticmethod
    def step(taken: Sequence[np.ndarray]) -> int | None:
        """Return the optimizer step (from 1) whose weights are kept, or None."""
        return int(max(float(number[0]) for number in taken)) or None

    def quiet(self) -> None:
        """Raise no alarm any more."""
        self._step.alarm = None


@dataclass(slots=True)
class Origin:
    """Where the first number that is not finite came from.

    Attributes:
        pass_: ``forward``, ``backward`` or ``weights``.
        layer: path of the layer, or of the parameter; ``loss`` for the loss.
        operation: the operation whose output it was.
        rows: rows of the micro-batch `part` concerned; empty where the operation mixes them.
        nan, infinite: how many there were.
        largest: largest magnitude among the operation's finite inputs.
    """

    pass_: str
    layer: str
    operation: str = ""
    rows: list[int] = field(default_factory=list)
    part: int = 0
    nan: int = 0
    infinite: int = 0
    largest: float = 0.0


class _Watcher:
    """Stands where a recorder stands and looks at every operation instead of writing it down."""

    def __init__(self, device: Any, rows: int) -> None:
        self.arena = SimpleNamespace(empty=device.backend.empty)
        self._device = device
        self._rows = rows
        self.layer = ""
        self.passing = "forward"
        self.part = 0
        self.found: Origin | None = None

    def add(self, run: Any, outs: Any, ins: Any, scratch: Any, plan: Any = None) -> None:
        """Look at the outputs of one operation."""
        if self.found is not None:
            return
        for out in outs:
            if not is_floating(out.dtype):
                continue
            host = self._device.to_host(out)
            finite = np.isfinite(host)
            if finite.all():
                continue
            where = current().scope if self.passing == "forward" else self.layer
            bad = ~finite
            rows: list[int] = []
            if host.ndim and host.shape[0] == self._rows:
                rows = np.flatnonzero(bad.reshape(len(host), -1).any(axis=1)).tolist()
            inputs = [np.abs(self._device.to_host(i)) for i in ins if is_floating(i.dtype) and i.size]
            largest = max((float(a[np.isfinite(a)].max(initial=0.0)) for a in inputs), default=0.0)
            nan = int(np.isnan(host).sum())
            name = "" if plan is None else plan.spec.name
            self.found = Origin(self.passing, where, name, rows, self.part, nan, int(bad.sum()) - nan, largest)
            return

    def turn(self, part: int, passing: str) -> None:
        """Know which micro-batch is at work, and in which direction."""
        self.part, self.passing = part, passing

    def repeat(self, action: Any, before: bool) -> None:
        """Do nothing: this is no step of the run."""

    def refuse(self, reason: str) -> None:
        """Allow it: nothing is recorded."""


def find_origin(
    controls: Controls, weights: Sequence[Array], batches: Sequence[Sequence[Array]], step: int
) -> Origin | None:
    """Compute a step again from its weights, batch and random streams, and look at every operation on the way.

    Weights, gradients and streams are as before afterwards, bit for bit.
    """
    device, flats = controls.device, flats_of(controls.optimizer)
    for flat, kept in zip(flats, weights, strict=True):
        for member, begin in zip(flat.members, device.to_host(flat.starts).tolist(), strict=True):
            values = device.to_host(kept)[begin : begin + member.parameter.size]
            if not np.isfinite(values).all():
                nan = int(np.isnan(values).sum())
                broken = int(values.size - np.isfinite(values).sum())
                return Origin("weights", member.parameter.name, nan=nan, infinite=broken - nan)
    kept_w = [device.asarray(flat.w) for flat in flats]
    kept_g = [device.asarray(flat.g) for flat in flats]
    gradients = [(p, p.grad) for p in controls.optimizer.parameters]
    place = (controls.streams.step, controls.streams.row)
    watcher = _Watcher(device, len(batches[0][0]))

    def tap(layer: Any, output: Any) -> None:
        path = layer.path
        if isinstance(output, Tensor) and output.requires_grad and path:

            def arrived(_: Tensor) -> None:
                watcher.layer = path  # what follows in the sweep belongs to this layer

            output.register_hook(arrived)

    try:
        for flat, kept in zip(flats, weights, strict=True):
            flat.w[...] = kept
            flat.refresh()
        for parameter, _ in gradients:
            parameter.grad = None
        watcher.layer = "loss"
        with surroundings(recorder=watcher, grad=True), np.errstate(all="ignore"):
            controls.step.again(batches, step, tap, watcher.turn)
    finally:
        for flat, w, g in zip(flats, kept_w, kept_g, strict=True):
            flat.w[...] = w
            flat.refresh()
            flat.g[...] = g
        for parameter, gradient in gradients:
            parameter.grad = gradient
        controls.streams.begin(*place)
    return watcher.found
