"""The loop: fit, evaluate, predict over any layer with an optimizer, a loss and metrics."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.data.loader import Loader
from deepbabysit.data.splits import holdout
from deepbabysit.kernels.shapes import is_batch
from deepbabysit.runtime.context import CONFIGURATION
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.notices import NOTICES
from deepbabysit.runtime.random import Streams, streams
from deepbabysit.runtime.registry import find_device
from deepbabysit.training.arrays import Source, as_arrays, check_rows, leaves, weights_of
from deepbabysit.training.callback import CallbackList, check_monitor
from deepbabysit.training.callbacks import EarlyStopping
from deepbabysit.training.display import display_for
from deepbabysit.training.events import LazyLogs, Listener, RunInfo, StepInfo, direction
from deepbabysit.training.history import History
from deepbabysit.training.step import EvaluateStep, PredictStep, Signature, TrainStep


class _Interrupt:
    """Ctrl-C: the first ends the run after the step, the second at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruptible() -> Iterator[_Interrupt]:
    """Catch Ctrl-C for the duration of a run (in the main thread; elsewhere it is left alone)."""
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """Trains a layer.

    Arguments:
        layer: a Layer, with ``build_for(shapes, dtypes)`` where it is a model.
        optimizer: how weights change; None where only `predict` is wanted.
        loss: what is minimized.
        metrics: what else is measured.
        dtype: type of the parameters and of floating data.
        replay: whether steps are recorded and replayed.
    """

    def __init__(
        self, layer: Any, optimizer: Any, loss: Any, metrics: Sequence[Any], dtype: np.dtype[Any], replay: bool
    ) -> None:
        self.layer = layer
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = list(metrics)
        self.dtype = dtype
        self.replay = replay
        self.steps = 0
        self._bound: Any = None
        self._steps: dict[Any, Any] = {}

    # -- preparation ---------------------------------------------------------------------------------------------------

    def _source(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        shuffle: bool,
        seed: int,
        weight: Any = None,
        class_weight: Any = None,
        notes: list[str] | None = None,
        rows: np.ndarray | None = None,
        targets: bool = True,
    ) -> tuple[Source, Any]:
        """Return data as batches, and the targets as they were given (for checks)."""
        notes = [] if notes is None else notes
        if isinstance(x, Loader):
            if y is not None:
                raise ValueError("a Loader holds its targets; leave y out")
            return self._loader_source(x)
        _check_batch_size(batch_size)
        several = len(getattr(self.layer, "inputs", ())) > 1
        xs = as_arrays("x", x, self.dtype, notes, several)
        ys = None if y is None else as_arrays("y", y, self.dtype, notes)
        if targets and ys is None and self.loss is not None:
            raise ValueError("y is missing: pass the targets, or a db.data.Loader that holds them")
        count = check_rows(xs, ys)
        weights = None if ys is None else weights_of(weight, class_weight, ys, count, self.dtype)
        if rows is not None:
            xs = tuple(a[rows] for a in xs)
            ys = None if ys is None else tuple(a[rows] for a in ys)
            weights = None if weights is None else weights[rows]
            count = len(rows)
        loader = Loader(
            xs if len(xs) > 1 else xs[0],
            None if ys is None else ys if len(ys) > 1 else ys[0],
            batch_size=min(batch_size, count),
            shuffle=shuffle,
            seed=seed,
            prefetch=0,
            sample_weight=weights,
        )
        source = Source(
            loader, len(xs), 0 if ys is None else len(ys), weights is not None, count,
            [a.shape[1:] for a in xs], [a.dtype for a in xs],
        )
        return source, ys

    def _loader_source(self, loader: Loader) -> tuple[Source, Any]:
        batch = next(iter(loader.epoch(0)))
        x = leaves(batch.x)
        y = [] if batch.y is None else leaves(batch.y)
        dtypes = [self.dtype if a.dtype.kind == "f" else a.dtype for a in x]
        source = Source(
            loader, len(x), len(y), batch.sample_weight is not None, loader.rows, [a.shape[1:] for a in x], dtypes
        )
        return source, tuple(y) if y else None

    def _build(self, source: Source) -> Any:
        """Build the layer for the data; returns the shape of its output for one sample (None where unknown)."""
        layer = self.layer
        integers = [dtype.kind in "iu" for dtype in source.dtypes]
        try:
            outputs = layer.build_for(source.shapes, source.dtypes)
        except TypeError as error:
            if not any(integers) and "symbolic" not in str(error):
                raise
            if any(integers):  # pixels and counts become floating numbers batch by batch; ids for Embedding stay
                source.dtypes = [self.dtype if whole else d for d, whole in zip(source.dtypes, integers, strict=True)]
            outputs = self._build_with(source)
        if self.dtype != np.float32:
            layer.astype(self.dtype)
        if isinstance(outputs, list | tuple):
            raise ValueError(
                f"fit needs a model with one output; this one has {len(outputs)}. Train it with a hand-written loop, "
                f"or join the outputs first"
            )
        shape = tuple(outputs.shape)
        return tuple(n if not is_batch(n) else None for n in shape)

    def _build_with(self, source: Source) -> Any:
        try:
            return self.layer.build_for(source.shapes, source.dtypes)
        except TypeError as error:
            if "symbolic" not in str(error):
                raise
            # a written call that looks at values cannot run without any: two zero samples build it as well
            device = self.layer.device
            rows = [np.zeros((2, *s), d) for s, d in zip(source.shapes, source.dtypes, strict=True)]
            return self.layer(*[Tensor(device.asarray(r), device) for r in rows])

    def _place(self, device: Any) -> Device:
        """Resolve the device and move the layer there."""
        layer = self.layer
        if device is None:
            target = layer.device if layer.parameters() else find_device("auto")
        else:
            target = find_device(device)
        if layer.device is not target:
            layer.to(target)
        return target

    def _bind(self) -> None:
        """Hand the parameters to the optimizer once, and again after they moved."""
        parameters = self.layer.parameters()
        if not any(p.trainable for p in parameters):
            raise ValueError(
                "there is nothing to train: every parameter is frozen" if parameters else
                "there is nothing to train: the model has no parameters"
            )
        key = tuple((id(p), id(p.device), p.dtype) for p in parameters)
        if key != self._bound:
            self.optimizer.bind(parameters)
            self._bound = key

    # -- fit -----------------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Any] = (),
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        accumulate: int = 1,
        device: Any = "auto",
        seed: int | None = None,
        verbose: Any = "auto",
        run_dir: Any = None,
        resume: bool = False,
        split: str = "shuffle",
        listeners: Sequence[Listener] = (),
    ) -> History:
        """Train; `db.Model.fit` documents the arguments. `listeners` see every event."""
        if self.loss is None or self.optimizer is None:
            raise RuntimeError('say what to minimize first: model.compile("adam", loss="cross_entropy")')
        _check_counts(epochs=epochs, accumulate=accumulate)
        if run_dir is not None or resume:
            raise NotImplementedError("run_dir and resume are not available yet; use ModelCheckpoint to keep models")
        notes: list[str] = []
        run_seed = streams().seed if seed is None else seed
        run_streams = Streams(run_seed)
        rows = held = None
        sentence = ""
        if validation_split:
            if validation_data is not None:
                raise ValueError("give validation_data or validation_split, not both")
            if isinstance(x, Loader):
                raise ValueError("validation_split needs arrays; with a Loader pass validation_data")
            xs = as_arrays("x", x, self.dtype, [], len(getattr(self.layer, "inputs", ())) > 1)
            labels = None if y is None else as_arrays("y", y, self.dtype, [])[0]
            rows, held, sentence = holdout(xs[0], labels, validation_split, split=split, seed=run_seed)
        source, targets = self._source(
            x, y, batch_size, shuffle, run_seed, sample_weight, class_weight, notes, rows
        )
        validation = None
        if held is not None:
            validation, _ = self._source(x, y, batch_size, False, run_seed, sample_weight, None, rows=held)
        elif validation_data is not None:
            validation = self._validation(validation_data, batch_size, run_seed, notes)
        output_shape = self._build(source)
        if targets is not None:
            self.loss.check_targets(targets[0], output_shape)
        place = self._place(device)
        self._bind()

        names = ["loss", *(["data_loss"] if self._penalized() else []), *[m.name for m in self.metrics]]
        batches = len(source.loader)
        monitor, mode = self._monitor(callbacks, validation is not None)
        info = RunInfo(
            epochs=epochs,
            steps=-(-batches // accumulate),
            samples=source.rows,
            validation_samples=None if validation is None else validation.rows,
            metrics=tuple(names),
            batch_size=source.loader.batch_size,
            accumulate=accumulate,
            device=str(place),
            parameters=self.layer.count_params(trainable_only=True),
            validation=sentence,
            seed=run_seed,
            model=type(self.layer).__name__,
            monitor=monitor,
            mode=mode,
        )
        plateau = self.optimizer.schedule.listener
        if plateau is not None:
            check_monitor("the plateau schedule", plateau.monitor, info.names())
        history = History()
        audience: list[Listener] = []

        def say(text: str) -> None:
            for listener in audience:
                listener.message(text)

        watchers = CallbackList(callbacks, self.layer, say)
        display = display_for(verbose)
        audience += [watchers, history, *listeners, *([] if display is None else [display])]
        replay = self.replay and not any(listener.needs_batch_values for listener in audience)
        step = TrainStep(
            self.layer, self.optimizer, self.loss, self.metrics, place, run_streams,
            Signature(source.inputs, source.targets, source.weighted), replay, say,
        )
        evaluation = None if validation is None else self._evaluation(validation, place)
        for listener in audience:
            listener.run_begin(info)
        for note in notes:
            say(note)
        if self.replay and not replay:
            say(f"the step is not replayed: {', '.join(watchers.readers) or 'a listener'} reads every step's values")
        reason = "epochs"
        try:
            with interruptible() as interrupt, np.errstate(all="ignore"), NOTICES.heard_by(say):
                for epoch in range(epochs):
                    for listener in audience:
                        listener.epoch_begin(epoch)
                    stop = self._run_epoch(epoch, source, step, accumulate, names, audience, watchers, interrupt)
                    logs = step.sums.read()
                    rate = float(self.optimizer.applied_rate)
                    if validation is not None and evaluation is not None and not interrupt.asked:
                        found = self._evaluate(evaluation, validation, audience)
                        logs.update({f"val_{name}": value for name, value in found.items()})
                    logs["learning_rate"] = rate
                    self._observe(logs)
                    for listener in audience:
                        listener.epoch_end(epoch, logs)
                    stop = stop or self._stop_reason(watchers, interrupt)
                    if stop:
                        reason = stop
                        break
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            with ExitStack() as endings:  # every listener hears the end, whatever another one does
                for listener in reversed(audience):
                    endings.callback(listener.run_end, reason)
        return history

    def _run_epoch(
        self,
        epoch: int,
        source: Source,
        step: TrainStep,
        accumulate: int,
        names: Sequence[str],
        audience: Sequence[Listener],
        watchers: CallbackList,
        interrupt: _Interrupt,
    ) -> str:
        """Run the steps of an epoch; returns why the run must end, or an empty string."""
        step.sums.clear()
        waiting: list[list[np.ndarray]] = []
        number = samples = 0
        count = len(source.loader)
        batches = source.loader.epoch(epoch)
        try:
            for place, batch in enumerate(batches):
                waiting.append(source.arrays(batch))
                samples += len(batch.rows)
                if len(waiting) < accumulate and place + 1 < count:
                    continue
                for listener in audience:
                    listener.step_begin(epoch, number)
                step(waiting, self.steps)
                self.steps += 1
                waiting = []
                info = StepInfo(epoch, number, self.steps, samples, LazyLogs(names, self._reader(step, self.steps)))
                for listener in audience:
                    listener.step_end(info)
                number += 1
                if number == 1:
                    NOTICES.report()
                if interrupt.asked or (stop := watchers.stop_reason):
                    return "interrupt" if interrupt.asked else stop
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()
        return ""

    def _reader(self, step: TrainStep, number: int) -> Callable[[], dict[str, float]]:
        """Return what reads the sums as this step left them; later there is nothing left to read."""

        def read() -> dict[str, float]:
            if self.steps != number:
                raise RuntimeError(
                    "the logs of a batch are read while its event lasts; copy them with dict(logs) to keep them"
                )
            return step.sums.read()

        return read

    def _stop_reason(self, watchers: CallbackList, interrupt: _Interrupt) -> str:
        return "interrupt" if interrupt.asked else watchers.stop_reason

    def _observe(self, logs: dict[str, float]) -> None:
        """Show the epoch's value to a schedule that follows a metric (plateau)."""
        listener = self.optimizer.schedule.listener
        if listener is not None:
            self.optimizer.schedule.observe(logs[listener.monitor])

    def _monitor(self, callbacks: Any, validated: bool) -> tuple[str, str]:
        """Return what the best epoch is chosen by: what an EarlyStopping looks at, else the loss."""
        for callback in callbacks if isinstance(callbacks, list | tuple) else (callbacks,):
            if isinstance(callback, EarlyStopping):
                with suppress(ValueError):  # the callback itself says what is wrong with its monitor
                    return callback.monitor, direction(callback.monitor, callback.mode)
        return ("val_loss" if validated else "loss"), "min"

    def _penalized(self) -> bool:
        return any(p.l1 or p.l2 for p in self.layer.parameters())

    def _validation(self, given: Any, batch_size: int, seed: int, notes: list[str]) -> Source:
        if isinstance(given, Loader):
            return self._source(given, None, batch_size, False, seed)[0]
        if not isinstance(given, list | tuple) or len(given) not in (2, 3):
            raise TypeError(
                f"validation_data is (x, y), (x, y, sample_weight) or a Loader; got {type(given).__name__}"
            )
        x, y, *weight = given
        return self._source(x, y, batch_size, False, seed, weight[0] if weight else None, notes=notes)[0]

    # -- evaluate, predict ---------------------------------------------------------------------------------------------

    def _evaluation(self, source: Source, place: Device) -> EvaluateStep:
        key = ("evaluate", source.inputs, source.targets, source.weighted, place)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = EvaluateStep(
                self.layer, self.loss, self.metrics, place,
                Signature(source.inputs, source.targets, source.weighted), self.replay,
            )
        return step

    def _evaluate(self, step: EvaluateStep, source: Source, audience: Sequence[Listener] = ()) -> dict[str, float]:
        step.sums.clear()
        for listener in audience:
            listener.evaluation_begin(len(source.loader))
        names = ["loss", *[m.name for m in self.metrics]]
        for number, batch in enumerate(source.loader.epoch(0)):
            for listener in audience:
                listener.evaluation_step_begin(number)
            step(source.arrays(batch))
            for listener in audience:
                listener.evaluation_step_end(number, LazyLogs(names, step.sums.read))
        result = step.sums.read()
        for listener in audience:
            listener.evaluation_end(result)
        return result

    def evaluate(
        self, x: Any, y: Any, batch_size: int = 256, sample_weight: Any = None, verbose: Any = 0
    ) -> dict[str, float]:
        """Return loss and metrics over data; `db.Model.evaluate` documents the arguments."""
        source, targets = self._source(x, y, batch_size, False, 0, sample_weight)
        output_shape = self._build(source)
        if targets is not None and self.loss is not None:
            self.loss.check_targets(targets[0], output_shape)
        result = self._evaluate(self._evaluation(source, self.layer.device), source)
        display = display_for(verbose)
        if display is not None:
            display.message("  ".join(f"{name} {value:.4g}" for name, value in result.items()))
        return result

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """Return outputs; `db.Model.predict` documents the arguments."""
        source, _ = self._source(x, None, batch_size, False, 0, targets=False)
        layer = self.layer
        if not layer.built or any(d.kind != "f" for d in source.dtypes):
            self._build_any(source)
        place = layer.device
        step = self._steps.get(("predict", place))
        if step is None:
            step = self._steps[("predict", place)] = PredictStep(layer, place, self.replay)
        parts: list[list[np.ndarray]] = []
        for batch in source.loader.epoch(0):
            outputs = step(source.arrays(batch)[: source.inputs])
            parts.append([np.array(place.to_host(o.data)) for o in outputs])
        joined = tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        return joined if len(joined) > 1 else joined[0]

    def _build_any(self, source: Source) -> None:
        try:
            self._build(source)
        except ValueError as error:
            if "one output" not in str(error):
                raise

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Mapping[str, float]:
        """Train one step on one batch; `db.Model.train_on_batch` documents the arguments."""
        source, targets = self._source(x, y, max(len(np.asarray(leaves(x)[0])), 1), False, 0, sample_weight)
        key = ("train", source.inputs, source.targets, source.weighted, CONFIGURATION.count)
        step = self._steps.get("train")
        if step is None or step[0] != key[:-1] or not self.layer.built:
            output_shape = self._build(source)
            if targets is not None:
                self.loss.check_targets(targets[0], output_shape)
            place = self.layer.device
            self._bind()
            made = TrainStep(
                self.layer, self.optimizer, self.loss, self.metrics, place, streams(),
                Signature(source.inputs, source.targets, source.weighted), self.replay,
            )
            step = self._steps["train"] = (key[:-1], made)
        runner: TrainStep = step[1]
        runner.sums.clear()
        batch = next(iter(source.loader.epoch(0)))
        runner([source.arrays(batch)], self.steps)
        self.steps += 1
        names = ["loss", *[m.name for m in self.metrics]]
        return LazyLogs(names, runner.sums.read)


def _check_batch_size(batch_size: Any) -> None:
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
