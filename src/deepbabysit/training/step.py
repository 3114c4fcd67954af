"""One training step, one evaluation step: what happens between a batch and changed weights.

A step has the segments compute (forward, loss, backward), gradients ready, update. With `exchange` they are recorded
apart, so that gradients can be added up over several workers in between. Everything on arrays goes through operations,
so a step can be recorded and replayed; sums of losses and metrics stay on the device and are read once per epoch (or
when somebody looks).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from deepbabysit.autograd.replay import RecordingTooLarge, Replay
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_half
from deepbabysit.kernels.spec import Array
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.updates import Updates
from deepbabysit.metrics import Metric
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.random import Streams
from deepbabysit.runtime.record import aside, host_action
from deepbabysit.runtime.several import Fill
from deepbabysit.training.memory import too_large
from deepbabysit.training.precision import Precision


class Sums:
    """Running sums on the device: exact over batches of any length, read on the host when somebody asks.

    The loss is kept as (weighted total, weight); a ragged last batch counts as what it is.
    """

    def __init__(self, device: Device, loss: Any, metrics: Sequence[Metric]) -> None:
        self._device = device
        self._loss = loss
        self._metrics = list(metrics)
        self._arrays: dict[str, Array] = {}
        self._kept: dict[str, Array] = {}
        self._gathered: dict[str, list[Any]] = {m.name: [] for m in metrics if m.gathers}

    def add(self, name: str, values: Tensor) -> None:
        """Add a vector to the sums of that name (part of a recorded step)."""
        wide = values.astype(np.float64).reshape(-1)
        mine = self._arrays.get(name)
        if mine is None:
            mine = self._arrays[name] = self._device.asarray(np.zeros(wide.shape, np.float64))
        call(self._device, SPECS["add"], (mine, wide.data), outs=(mine,))

    def gather(self, metric: Metric, values: Any) -> None:
        """Keep what a metric that needs every prediction gathered."""
        self._gathered[metric.name].append(values)

    def keep(self) -> None:
        """Keep the sums as they are now, for `restore`."""
        self._kept = {name: self._device.asarray(array) for name, array in self._arrays.items()}

    def restore(self) -> None:
        """Go back to what was kept."""
        for name, values in self._kept.items():
            self._device.write(self._arrays[name], values)

    def clear(self) -> None:
        """Begin again from zero."""
        for array in self._arrays.values():
            self._device.write(array, np.zeros(array.shape, np.float64))
        for kept in self._gathered.values():
            kept.clear()

    def read(self) -> dict[str, float]:
        """Return every loss and metric of what was added so far."""
        host = {name: np.array(self._device.to_host(array)) for name, array in self._arrays.items()}
        result: dict[str, float] = {}
        if "loss" in host:
            result["loss"] = self._loss.value(*host["loss"].tolist())
        for metric in self._metrics:
            if metric.gathers:
                result[metric.name] = float(metric.result(self._gathered[metric.name]))
            elif metric.name in host:
                result[metric.name] = float(metric.result(host[metric.name]))
        if "penalty" in host:
            total, steps = host["penalty"]
            result["data_loss"] = result["loss"]
            result["loss"] = result["loss"] + float(total / steps)
        return result


class Signature:
    """How a flat list of tensors splits into inputs, targets and weights."""

    __slots__ = ("inputs", "targets", "weighted")

    def __init__(self, inputs: int, targets: int, weighted: bool) -> None:
        self.inputs = inputs
        self.targets = targets
        self.weighted = weighted

    def split(self, tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Any, Tensor | None]:
        """Return (inputs, targets, weight or None); a single target is not wrapped."""
        x = tuple(tensors[: self.inputs])
        y = tuple(tensors[self.inputs : self.inputs + self.targets])
        weight = tensors[-1] if self.weighted else None
        return x, y[0] if len(y) == 1 else y, weight


class _WideSums:
    """Gradients of micro-batches: those in half precision are added up in float32."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pairs: list[tuple[Array, Array]] = []

    def begin(self, gradients: Sequence[Array]) -> None:
        """Begin with the flat gradients of an optimizer, at 0."""
        halves = [g for g in gradients if is_half(g.dtype)]
        if [id(g) for g in halves] != [id(g) for g, _ in self._pairs]:
            empty = self._device.backend.empty
            self._pairs = [(g, empty(g.shape, np.dtype(np.float32))) for g in halves]
        for _, total in self._pairs:
            self._zero(total)

    def _zero(self, array: Array) -> None:
        zero = (self._device.constant(0.0, array.dtype),)
        (zeros,) = call(self._device, SPECS["broadcast_to"], zero, {"shape": array.shape})
        call(self._device, SPECS["copy"], (zeros,), outs=(array,))

    def clear(self) -> None:
        """Make room for the gradients of the next micro-batch."""
        for gradient, _ in self._pairs:
            self._zero(gradient)

    def add(self) -> None:
        """Add the gradients of a micro-batch."""
        for gradient, total in self._pairs:
            call(self._device, SPECS["add"], (total, gradient), outs=(total,))

    def sums(self, gradients: Sequence[Array]) -> list[Array]:
        """Return where the sums are: in the flat gradients, or beside them."""
        beside = {id(gradient): total for gradient, total in self._pairs}
        return [beside.get(id(gradient), gradient) for gradient in gradients]

    def end(self) -> None:
        """Put the sums into the flat gradients."""
        for gradient, total in self._pairs:
            call(self._device, SPECS["astype"], (total,), {"dtype": gradient.dtype}, outs=(gradient,))


class TrainStep:
    """A training step of a layer with its loss, metrics and optimizer.

    Arguments:
        layer: what is trained.
        optimizer: bound to the layer's parameters.
        loss: gives ``parts(y_true, y_pred, weight)``.
        metrics: each gives ``totals(y_true, y_pred, weight)``.
        device: where it runs.
        streams: the run's random streams.
        signature: how the arrays of a batch are meant.
        precision: what it computes with.
        replay: whether the step is recorded and replayed.
        say: called with a line when it cannot be.
        tap: while it is set, it is shown what each layer computes (the same bits). Such steps are recorded, too, and a
            replay shows nothing: it has to be the same one always.
        change: beside it, ``before()`` is called before such a step and ``after()`` at its end, as parts of it.
        guard: set before the first step; called with the loss between gradients and update, part of the recording.
        alarm: numbers in the host's memory; while the first is not 0 after a step, listeners hear of every step.
        exchange: called between gradients and update with the flat gradient buffers, and with the sums of losses and
            of weights of this worker; it adds up all of them in place over the workers (an all-reduce).
    """

    def __init__(
        self,
        layer: Layer,
        optimizer: Any,
        loss: Any,
        metrics: Sequence[Metric],
        device: Device,
        streams: Streams,
        signature: Signature,
        precision: Precision,
        replay: bool,
        say: Callable[[str], None] | None = None,
        exchange: Callable[[list[Array]], None] | None = None,
    ) -> None:
        self._layer = layer
        self._exchange = exchange
        self._optimizer = optimizer
        self._loss = loss
        self._metrics = list(metrics)
        self._device = device
        self._streams = streams
        self._signature = self.signature = signature
        self._precision = precision
        self._before: list[tuple[Any, Array]] = []  # states, and what they were before the step's micro-batches
        self._wide = _WideSums(device)
        self._penalized = any(p.l1 or p.l2 for p in layer.parameters())
        self.sums = Sums(device, loss, metrics)
        self.tap: Callable[[Layer, Any], None] | None = None
        self.change: Any = None
        self.guard: Callable[[Tensor], None] | None = None
        self.alarm: memoryview | None = None
        self._say = say
        replay = replay and not layer.hooked and not any(m.gathers for m in metrics)
        self._whole = Replay(self._run_whole, device, replay, say, self.sums.keep, self._run_measured)
        self._first = Replay(self._run_first, device, replay, say, self.sums.keep)
        self._more = Replay(self._run_more, device, replay, say, self.sums.keep)
        self._last = Replay(self._run_last, device, replay, say, self.sums.keep)

    @property
    def replays(self) -> int:
        """How many steps were replays."""
        return self._whole.replays + self._last.replays

    def __call__(self, batches: Sequence[Sequence[Array]], step: int) -> Tensor:
        """Train on one batch, or on several micro-batches as if they were one; returns the loss (on the device).

        Raises:
            StepTooLarge: it does not fit into memory; weights and optimizer are unchanged.
        """
        done = self._optimizer.steps
        try:
            try:
                with self._precision.on(self._device):
                    return self._train(batches, step)
            except RecordingTooLarge as error:
                if len(batches) > 1 or self._optimizer.steps != done:
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold the arrays of the step
                self._forget()
                self.sums.restore()
            if self._say is not None:
                self._say("steps run call by call: there is no memory for a recorded one")
            with self._precision.on(self._device):
                return self._train(batches, step)
        except MemoryError as error:
            def again(batch: Sequence[Array], tap: Callable[[Layer, Any], None]) -> None:
                self.again([batch], step, tap, lambda part, way: None, True)

            self._forget()
            raise too_large(error, self._layer, self._optimizer, self._device, batches, again) from error

    def _forget(self) -> None:
        """Record no more, and give back the memory of what was recorded."""
        for replay in (self._whole, self._first, self._more, self._last):
            replay.stop()

    def several(self, forms: Any, count: int, fill: Fill, step: int) -> bool:
        """Train on several batches at once, where the step is replayed; tells whether it did.

        Arguments:
            forms: ``(shape, dtype)`` of the arrays of a batch.
            count: how many batches.
            fill: see `Recording.several`.
            step: number of the first of these steps.
        """
        if self.tap is not None or self._exchange is not None:
            return False
        with self._precision.on(self._device):
            begin = self._streams.begin
            return self._whole.several(forms, count, lambda number: begin(step + number), fill) is not None

    def _train(self, batches: Sequence[Sequence[Array]], step: int) -> Tensor:
        self._streams.begin(step)
        tap = self.tap
        if len(batches) == 1 and self._exchange is None:
            if tap is None:
                return self._whole(batches[0])[0]
            with surroundings(tap=partial(aside, tap)):
                return self._whole.watch(batches[0])[0]
        if tap is not None and self.change is not None:
            self.change.before()
        row = 0
        weights: list[Array] = []
        losses: list[Array] = []
        for number, batch in enumerate(batches):
            self._streams.begin(step, row)
            if tap is not None and number == 0:
                with surroundings(tap=tap):
                    total, weight = self._first.eager(batch)
            else:
                total, weight = (self._first if number == 0 else self._more)(batch)
            losses.append(self._device.asarray(total.data))
            weights.append(self._device.asarray(weight.data))
            row += batch[0].shape[0]
        stacked = [self._device.backend.xp.stack(losses), self._device.backend.xp.stack(weights)]
        if self._exchange is not None:
            self._exchange([*self._wide.sums(self._optimizer.gradients()), *stacked])
        loss = self._last(stacked)[0]
        if tap is not None and self.change is not None:
            self.change.after()
        return loss

    # -- compute -------------------------------------------------------------------------------------------------------

    def again(
        self,
        batches: Sequence[Sequence[Array]],
        step: int,
        tap: Callable[[Layer, Any], None],
        turning: Callable[[int, str], None],
        measured: bool = False,
    ) -> None:
        """Compute the losses of a step's micro-batches and sweep back, with `tap`; no sum is added, no state changed.

        ``turning(part, "forward" or "backward")`` is called before each pass. Gradients are overwritten; the caller
        keeps what is needed. `measured`: with the memory that metrics need.
        """
        row = 0
        for part, batch in enumerate(batches):
            turning(part, "forward")
            self._streams.begin(step, row)
            tensors = [Tensor(self._device.asarray(a), self._device) for a in batch]
            x, y, given = self._signature.split(tensors)
            with surroundings(training=True, updates=Updates(), streams=self._streams, tap=tap):
                prediction = self._precision.run(self._layer, x)
                with surroundings(scope="loss"):
                    loss = self._loss.mean(*self._loss.parts(y, prediction, given))
            if measured:
                with surroundings(grad=False, training=True):
                    kept = [metric.totals(y, prediction, given) for metric in self._metrics if not metric.gathers]
                    del kept
            turning(part, "backward")
            loss.backward(self._seed(), release=True)
            row += batch[0].shape[0]

    def _forward(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor, Updates]:
        x, y, given = self._signature.split(tensors)
        updates = Updates()
        with surroundings(training=True, updates=updates, streams=self._streams):
            prediction = self._precision.run(self._layer, x)
            total, weight = self._loss.parts(y, prediction, given)
        with surroundings(grad=False, training=True):
            self.sums.add("loss", _pair(total.detach(), weight.detach()))
            _add_metrics(self.sums, self._metrics, y, prediction, given)
        return total, weight, updates

    def _run_whole(self, *tensors: Tensor) -> Tensor:
        total, weight, updates = self._forward(tensors)
        loss = self._loss.mean(total, weight)
        self._optimizer.zero_grad()
        loss.backward(self._seed(), release=True)
        self._update(loss)
        scale = self._optimizer.loss_scale
        updates.commit(None if scale is None else scale.accepted)
        return loss.detach()

    def _run_measured(self, *tensors: Tensor) -> Tensor:
        if self.change is not None:
            aside(self.change.before)
        loss = self._run_whole(*tensors)
        if self.change is not None:
            aside(self.change.after)
        return loss

    def _run_first(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        self._optimizer.zero_grad()
        self._wide.begin(self._optimizer.gradients())
        if self._optimizer.loss_scale is not None:
            empty = self._device.backend.empty
            self._before = self._before or [(s, empty(s.shape, s.dtype)) for _, s in self._layer.named_states()]
            for state, kept in self._before:
                call(self._device, SPECS["copy"], (state.data,), outs=(kept,))
        return self._run_more(*tensors)

    def _seed(self) -> Tensor | None:
        """Return what backward starts from: the scale of the loss, where it is scaled."""
        scale = self._optimizer.loss_scale
        return None if scale is None else scale.tensor

    def _run_more(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        total, weight, updates = self._forward(tensors)
        self._wide.clear()
        total.backward(self._seed(), release=True)
        self._wide.add()
        updates.commit()
        return total.detach(), weight.detach()

    def _run_last(self, totals: Tensor, weights: Tensor) -> Tensor:
        with surroundings(grad=False):
            total, weight = totals.sum(), weights.sum()
            share = self._loss.scale(total, weight)
            for gradient in self._wide.sums(self._optimizer.gradients()):
                wide = share.astype(gradient.dtype)
                call(self._device, SPECS["multiply"], (gradient, wide.data), outs=(gradient,))
            self._wide.end()
            loss = self._loss.mean(total, weight)
        self._update(loss)
        scale = self._optimizer.loss_scale
        if scale is not None:  # a step that is skipped leaves no states of its micro-batches
            accepted = scale.accepted.data
            for state, kept in self._before:
                call(self._device, SPECS["where"], (accepted, state.data, kept), outs=(state.data,))
        return loss

    # -- update --------------------------------------------------------------------------------------------------------

    def _update(self, loss: Tensor) -> None:
        if self._penalized:
            with surroundings(grad=False):
                penalty = self._optimizer.penalty().astype(np.float64).reshape(1)
                self.sums.add("penalty", _pair(penalty, penalty * 0.0 + 1.0))
        host_action(self._optimizer.prepare, before=True)
        if self.guard is not None:
            self.guard(loss)
        self._optimizer.update()


def _pair(first: Tensor, second: Tensor) -> Tensor:
    """Join two single numbers into a vector of float64."""
    joined = [t.astype(np.float64).reshape(1) for t in (first, second)]
    return apply(SPECS["concat"], tuple(joined), {"axis": 0})


def _add_metrics(sums: Sums, metrics: Sequence[Metric], y: Any, prediction: Any, weight: Tensor | None) -> None:
    for metric in metrics:
        if metric.gathers:
            sums.gather(metric, metric.gather(y, prediction, weight))
        else:
            sums.add(metric.name, metric.totals(y, prediction, weight))


class EvaluateStep:
    """An evaluation step: forward in inference mode, sums of loss and metrics, no gradient."""

    def __init__(
        self,
        layer: Layer,
        loss: Any,
        metrics: Sequence[Metric],
        device: Device,
        signature: Signature,
        precision: Precision,
        replay: bool,
    ) -> None:
        self._layer = layer
        self._loss = loss
        self._metrics = list(metrics)
        self._signature = signature
        self._precision = precision
        self._device = device
        self.busy = False
        self.sums = Sums(device, loss, metrics)
        replay = replay and not layer.hooked and not any(m.gathers for m in metrics)
        self._step = Replay(self._run, device, replay)

    def __call__(self, batch: Sequence[Array]) -> None:
        """Add one batch to the sums."""
        with self._precision.on(self._device):
            self._step(batch)

    def _run(self, *tensors: Tensor) -> None:
        x, y, given = self._signature.split(tensors)
        with surroundings(grad=False, training=False, updates=None):
            prediction = self._precision.run(self._layer, x)
            if self._loss is not None:
                total, weight = self._loss.parts(y, prediction, given)
                self.sums.add("loss", _pair(total, weight))
            _add_metrics(self.sums, self._metrics, y, prediction, given)


class PredictStep:
    """A forward pass in inference mode."""

    def __init__(self, layer: Layer, device: Device, precision: Precision, replay: bool) -> None:
        self._layer = layer
        self._device = device
        self._precision = precision
        self._step = Replay(self._run, device, replay and not layer.hooked)

    def __call__(self, arrays: Sequence[Array]) -> tuple[Tensor, ...]:
        """Return the outputs for one batch; the next call overwrites them."""
        with self._precision.on(self._device):
            return self._step(arrays)

    def _run(self, *x: Tensor) -> tuple[Tensor, ...]:
        with surroundings(grad=False, training=False, updates=None):
            result = self._precision.run(self._layer, x)
        return tuple(result) if isinstance(result, list | tuple) else (result,)
