"""The scale of the loss: gradients in float16 are kept away from the numbers that it cannot hold.

The loss is multiplied by the scale, the gradients are divided by it when they are used. A step whose gradients
overflow is skipped and the scale is halved; after many good steps it grows. All of it happens on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.scaling import FIRST
from deepbabysit.kernels.spec import Array
from deepbabysit.kernels.updates import APPLY, SCALE
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call

_DIVIDE, _MOVE, _ASTYPE = SPECS["divide"], SPECS["move_loss_scale"], SPECS["astype"]
_NAMES = ("scale", "good", "skipped")


@final
class LossScale:
    """Scale, good steps in a row and skipped steps, as numbers on a device that a recorded step reads and changes."""

    __slots__ = ("_applied", "_device", "_numbers")

    def __init__(self, device: Device, state: Mapping[str, float] | None = None) -> None:
        self._device = device
        self._applied: Array = None
        start = {"scale": FIRST, "good": 0.0, "skipped": 0.0, **(state or {})}
        self._numbers = tuple(device.asarray(np.array(start[name], np.float32)) for name in _NAMES)

    @property
    def tensor(self) -> Tensor:
        """The scale: what `backward` of the loss starts from."""
        return Tensor(self._numbers[0], self._device)

    def unscale(self, control: Array) -> None:
        """Divide the factor on the gradients by the scale."""
        factor = control[SCALE : SCALE + 1]
        call(self._device, _DIVIDE, (factor, self._numbers[0]), outs=(factor,))

    def follow(self) -> None:
        """Let the scale follow from whether the step was applied."""
        call(self._device, _MOVE, (*self._numbers, self._applied), outs=self._numbers)

    def judge(self, control: Array) -> None:
        """Take from the finished control array whether the step is applied."""
        self._applied = control[APPLY : APPLY + 1].reshape(())

    @property
    def applied(self) -> Array:
        """1 where the last step was applied, else 0."""
        return self._applied

    @property
    def accepted(self) -> Tensor:
        """Whether the last step was applied: one boolean on the device."""
        return Tensor(call(self._device, _ASTYPE, (self._applied,), {"dtype": np.dtype(bool)})[0], self._device)

    def state(self) -> dict[str, float]:
        """Return the numbers, read from the device."""
        return {n: float(self._device.to_host(a)) for n, a in zip(_NAMES, self._numbers, strict=True)}


def accepted(optimizer: Any, new: Tensor, old: Tensor) -> Tensor:
    """Return new values, or the old ones where the last step of an optimizer was skipped."""
    scale: LossScale | None = optimizer.loss_scale
    return new if scale is None else apply(SPECS["where"], (scale.accepted, new, old))


def scaling(optimizer: Any) -> dict[str, float]:
    """Return the scale now, good steps since it changed, skipped steps in all; empty where the loss is not scaled."""
    scale: LossScale | None = optimizer.loss_scale
    return {} if scale is None else scale.state()
