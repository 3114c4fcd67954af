"""A training step of a timed network on a device, call by call or replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit import losses, optimizers
from deepbabysit.autograd.replay import Replay
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.bench.cases import Case, batches
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.random import Streams

_BATCHES = 8


class Training:
    """A network with Adam.

    Arguments:
        case: what is trained.
        device: where.
        replayed: whether steps are recorded and replayed.
        network: builds the network of a case on a device.
    """

    def __init__(self, case: Case, device: Device, replayed: bool, network: Callable[[Case, Device], Any]) -> None:
        self._device = device
        self._model = network(case, device)
        self._optimizer = optimizers.Adam(self._model.parameters(), 1e-3)
        self._loss = losses.get("mse") if case["loss"] == "mse" else losses.cross_entropy
        self._streams = Streams(1)
        self._said: list[str] = []
        self._replay = Replay(self._step, device, replayed, self._said.append)
        self._x, self._y = ([device.asarray(v) for v in part] for part in batches(case, _BATCHES))
        self._count = 0

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        with surroundings(training=True, streams=self._streams):
            loss = self._loss(y, self._model(x))
        self._optimizer.zero_grad()
        loss.backward(release=True)
        with surroundings(streams=self._streams):
            self._optimizer.step()
        return loss.detach()

    def step(self) -> Any:
        """Do one step; returns the loss on the device."""
        n = self._count
        (loss,) = self._replay([self._x[n % len(self._x)], self._y[n % len(self._y)]])
        self._count += 1
        return loss

    def losses(self, steps: int) -> list[float]:
        """Return the losses of the next steps."""
        return [float(self.step().item()) for _ in range(steps)]

    def values(self) -> list[np.ndarray]:
        """Return the parameters."""
        return [p.numpy().copy() for p in self._model.parameters()]

    @property
    def captured(self) -> bool:
        """Whether a program of the backend repeats the step."""
        return any(
            entry.recording is not None and entry.recording.program is not None
            for entry in self._replay._entries.values()
        )
