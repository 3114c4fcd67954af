"""The loop: fit, evaluate, predict over any layer with an optimizer, a loss and metrics."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import deepcopy
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.data.checks import check_finite
from deepbabysit.data.loader import Loader
from deepbabysit.data.splits import holdout
from deepbabysit.errors import unknown
from deepbabysit.kernels.shapes import is_batch
from deepbabysit.losses.targets import ANYTHING
from deepbabysit.runtime.context import CONFIGURATION
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.notices import NOTICES
from deepbabysit.runtime.random import Streams, streams
from deepbabysit.runtime.registry import find_device
from deepbabysit.training.arrays import Source, arrange, as_arrays, check_rows, leaves, read_pair, read_rows, weights_of
from deepbabysit.training.audience import Audience
from deepbabysit.training.callback import CallbackList, check_monitor
from deepbabysit.training.callbacks import EarlyStopping
from deepbabysit.training.display import display_for
from deepbabysit.training.events import Controls, LazyLogs, Listener, RunInfo, direction
from deepbabysit.training.folder import RunFolder
from deepbabysit.training.history import History
from deepbabysit.training.interrupt import Interrupt, interruptible
from deepbabysit.training.precision import Precision
from deepbabysit.training.step import EvaluateStep, PredictStep, Signature, TrainStep
from deepbabysit.training.together import Together

_ALL = 1 << 62  # more rows than any batch has


class Trainer:
    """Trains a layer.

    Arguments:
        layer: a Layer, with ``build_for(shapes, dtypes)`` where it is a model.
        optimizer: how weights change; None where only `predict` is wanted.
        loss: what is minimized.
        metrics: what else is measured.
        precision: what is computed with.
        replay: whether steps are recorded and replayed.
    """

    def __init__(
        self, layer: Any, optimizer: Any, loss: Any, metrics: Sequence[Any], precision: Precision, replay: bool
    ) -> None:
        self.layer = layer
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = list(metrics)
        self.precision = precision
        self.replay = replay
        self.steps = 0
        self._bound: Any = None
        self._steps: dict[Any, Any] = {}
        self._outputs: dict[Any, tuple[int, Any, list[Any]]] = {}
        self._logs: weakref.ref[LazyLogs] | None = None

    def __deepcopy__(self, memo: Any) -> Trainer:
        """Return a trainer of a copy of the layer, with the optimizer's states and without recorded steps."""
        twin = Trainer(
            deepcopy(self.layer, memo), deepcopy(self.optimizer, memo), deepcopy(self.loss, memo),
            deepcopy(self.metrics, memo), self.precision, self.replay,
        )
        twin.steps = self.steps
        return twin

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
        of: str = "",
    ) -> tuple[Source, Any]:
        """Return data as batches, and the targets as they were given (for checks)."""
        notes = [] if notes is None else notes
        if isinstance(x, Loader):
            if y is not None:
                raise ValueError("a Loader holds its targets; leave y out")
            for name, given in (("sample_weight", weight), ("class_weight", class_weight)):
                if given is not None:
                    raise ValueError(
                        f"{name} goes with arrays; a Loader holds its weights: Loader(..., sample_weight=...)"
                    )
            return self._loader_source(x, of, targets)
        _check_batch_size(batch_size)
        arranged = arrange(x, self.layer)
        if arranged is not x and isinstance(y, list) and len(y) == 1 and np.ndim(y[0]):
            y = tuple(y)  # fit([x], [y]), as in Keras
        xs = as_arrays(f"{of}x", arranged, self.precision.dtype, notes)
        ys = None if y is None else as_arrays(f"{of}y", y, self.precision.dtype, notes)
        if targets and ys is None and self.loss is not None:
            raise ValueError(f"{of}y is missing: pass the targets, or a db.data.Loader that holds them")
        count = check_rows(xs, ys)
        dtype = self.precision.dtype
        weights = None if ys is None else weights_of(weight, class_weight, ys, count, dtype, self._takes())
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

    def _takes(self) -> str:
        """Return what targets the loss takes."""
        return ANYTHING if self.loss is None else str(self.loss.kind.target)

    def _loader_source(self, loader: Loader, of: str, targets: bool) -> tuple[Source, Any]:
        check_finite(f"{of}x", loader.x)
        if loader.y is not None:
            check_finite(f"{of}y", loader.y)
        batch = next(iter(loader.epoch(0)))
        x = leaves(arrange(batch.x, self.layer))
        y = [] if batch.y is None else leaves(batch.y)
        dtypes = [self.precision.dtype if a.dtype.kind == "f" else a.dtype for a in x]
        source = Source(
            loader, len(x), len(y), batch.sample_weight is not None, loader.rows, [a.shape[1:] for a in x], dtypes,
            self.layer,
        )
        if targets and not y and self.loss is not None:
            raise ValueError(f"{of}y is missing: give the targets to the Loader, Loader(x, y, ...)")
        if isinstance(loader.y, np.ndarray) and loader.augment is None:
            return source, (loader.y,)
        source.look = lambda _: None  # the data are not all here: the first batch now, each of them when it comes
        return source, tuple(y) if y else None

    def _check_targets(self, source: Source, targets: Any, output_shape: Any, of: str = "") -> None:
        """Look at the targets: all of them where they are here, batch by batch otherwise."""
        if targets is None or self.loss is None:
            return
        if len(targets) > 1 and self._takes() != ANYTHING:
            raise ValueError(
                f"{of}y holds {len(targets)} arrays and {self.loss.name} takes one; join them, or write a loss of "
                f"your own (y_true is then the tuple)"
            )
        try:
            self.loss.check_targets(targets[0], output_shape)
        except (TypeError, ValueError) as error:
            if not of:
                raise
            raise type(error)(f"{of}data: {error}") from error
        if source.look is not None:
            source.look = lambda y: self.loss.check_targets(y, output_shape)

    def _build_validation(self, validation: Source, targets: Any, like: Source, given: Any, output_shape: Any) -> None:
        """See that the validation data fit the model that the training data built."""
        if validation.shapes == like.shapes and validation.dtypes == given:
            validation.dtypes = like.dtypes
        else:
            built = getattr(self.layer, "built_for", None)
            try:
                output_shape = self._build(validation)
            except (TypeError, ValueError) as error:
                raise type(error)(f"validation data: {error}") from error
            if built is not None:
                self.layer.built_for = built
        self._check_targets(validation, targets, output_shape, "validation ")

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
                own = self.precision.dtype
                source.dtypes = [own if whole else d for d, whole in zip(source.dtypes, integers, strict=True)]
            outputs = self._build_with(source)
        if self.precision.dtype != np.float32:
            layer.astype(self.precision.dtype)
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
        self.precision.prepare(self.optimizer)
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
        folder: RunFolder | None = None,
        split: str = "shuffle",
        listeners: Sequence[Listener] = (),
    ) -> History:
        """Train; `db.Model.fit` documents the arguments. `listeners` see every event; `folder` takes the files."""
        if self.loss is None or self.optimizer is None:
            raise RuntimeError('say what to minimize first: model.compile("adam", loss="cross_entropy")')
        _check_counts(epochs=epochs, accumulate=accumulate)
        if split not in ("shuffle", "time"):
            raise ValueError(unknown("split", split, ("shuffle", "time")))
        if not isinstance(shuffle, bool | np.bool_):
            raise TypeError(f"shuffle is True or False; got {shuffle!r}")
        notes: list[str] = []
        (x, of_x), (y, of_y) = read_rows(x), read_rows(y)
        validation_data, of_held = read_pair(validation_data)
        run_seed = streams().seed if seed is None else seed
        run_seed = run_seed if folder is None else folder.seed(seed, run_seed)
        run_streams = Streams(run_seed)
        rows = held = None
        sentence = ""
        if validation_split:
            if validation_data is not None:
                raise ValueError("give validation_data or validation_split, not both")
            if isinstance(x, Loader):
                raise ValueError("validation_split needs arrays; with a Loader pass validation_data")
            if isinstance(validation_split, bool) or not isinstance(validation_split, int | float | np.number):
                raise TypeError(f"validation_split is a fraction such as 0.1; got {validation_split!r}")
            xs = as_arrays("x", arrange(x, self.layer), self.precision.dtype, [])
            labels = None if y is None else as_arrays("y", y, self.precision.dtype, [])[0]
            rows, held, sentence = holdout(xs[0], labels, validation_split, split=split, seed=run_seed)
        source, targets = self._source(
            x, y, batch_size, shuffle, run_seed, sample_weight, class_weight, notes, rows
        )
        validation = held_targets = None
        if held is not None:
            validation, held_targets = self._source(x, y, batch_size, False, run_seed, sample_weight, None, rows=held)
        elif validation_data is not None:
            validation, held_targets = self._validation(validation_data, batch_size, run_seed, notes)
        given = list(source.dtypes)
        output_shape = self._build(source)
        self._check_targets(source, targets, output_shape)
        if validation is not None:
            self._build_validation(validation, held_targets, source, given, output_shape)
        notes += self.precision.notes(place := self._place(device))
        self._bind()
        names = ["loss", *(["data_loss"] if self._penalized() else []), *[m.name for m in self.metrics]]
        batches = len(source.loader)
        monitor, mode = self._monitor(callbacks, validation is not None)
        audience: list[Listener] = []

        def say(text: str) -> None:
            for listener in audience:
                listener.message(text)

        watchers = CallbackList(callbacks, self.layer, say)
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
            validation=sentence, seed=run_seed,
            model=type(self.layer).__name__,
            monitor=monitor, mode=mode,
            reading=of_x + of_y + of_held,
        )
        history = History()
        if folder is not None:
            info, history = folder.begin(self, watchers, info, source, shuffle, notes.append)
        plateau = self.optimizer.schedule.listener
        if plateau is not None:
            check_monitor("the plateau schedule", plateau.monitor, info.names())
        display = display_for(verbose)
        audience += [watchers, history, *listeners, *(li for li in (display, folder) if li is not None)]
        replay = self.replay and not any(listener.needs_batch_values for listener in audience)
        step = TrainStep(
            self.layer, self.optimizer, self.loss, self.metrics, place, run_streams,
            Signature(source.inputs, source.targets, source.weighted), self.precision, replay, say,
        )
        evaluation = None if validation is None else self._evaluation(validation, place)
        stops: list[str] = []
        controls = Controls(
            step, self.optimizer, self.layer, self.loss, run_streams, place,
            lambda epoch, number: source.again(epoch, number, accumulate), say, stops.append, self.steps,
            source.loader, None if validation is None else validation.loader, source.weighted,
        )
        for listener in audience:
            listener.run_begin(info)
        for listener in audience:
            listener.handed(controls)
        if self.replay and not replay:
            readers = ", ".join(watchers.readers) or "a listener"
            notes.append(f"the step is not replayed: {readers} reads every step's values")
        for note in notes:
            say(note)
        reason = "epochs" if folder is None else folder.ended or "epochs"
        heard = Audience(audience, names)
        try:
            with interruptible() as interrupt, np.errstate(all="ignore"), NOTICES.heard_by(say):
                for epoch in range(info.first_epoch, epochs if reason == "epochs" else 0):
                    for listener in audience:
                        listener.epoch_begin(epoch)
                    stop = self._run_epoch(
                        epoch, source, step, accumulate, heard, watchers, interrupt, stops,
                        (epochs - info.first_epoch) * batches,
                    )
                    logs = step.sums.read()
                    rate = self.optimizer.applied_rate
                    if validation is not None and evaluation is not None and not interrupt.asked:
                        found = self._evaluate(evaluation, validation, audience)
                        logs.update({f"val_{name}": value for name, value in found.items()})
                    logs.update(self.precision.logs(self.optimizer), learning_rate=rate)
                    self._observe(logs)
                    for listener in audience:
                        listener.epoch_end(epoch, logs)
                    stop = stop or self._stop_reason(watchers, interrupt, stops)
                    if stop:
                        reason = stop
                        break
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            for parameter in self.layer.parameters():
                parameter.grad = None  # a loop written by hand after this begins without the last step's gradients
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
        heard: Audience,
        watchers: CallbackList,
        interrupt: Interrupt,
        stops: Sequence[str],
        planned: int,
    ) -> str:
        """Run the steps of an epoch; returns why the run must end, or an empty string. `planned`: steps of the run."""
        step.sums.clear()
        heard.ask()
        number = samples = 0
        batches = source.batches(epoch, self.layer.device)
        together = Together(source, step, heard.hearing, planned, accumulate)
        try:
            for waiting, rows, more in together.turns(batches, self.steps):
                now = self.steps
                samples += rows
                if waiting:
                    if heard.wake <= now:
                        heard.begin(epoch, number, now)
                    step(waiting, now)
                now, number = now + more, number + more
                self.steps = now + 1
                alarm = step.alarm
                if (alarmed := alarm is not None and alarm[0] != 0.0) or heard.wake <= now:
                    heard.end(epoch, number, now, samples, self._reader(step, self.steps), waiting, alarmed)
                number += 1
                if number == more + 1:
                    NOTICES.report()
                if stop := self._stop_reason(watchers, interrupt, stops):
                    return stop
        finally:
            batches.close()
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

    def _stop_reason(self, watchers: CallbackList, interrupt: Interrupt, stops: Sequence[str]) -> str:
        return "interrupt" if interrupt.asked else stops[0] if stops else watchers.stop_reason

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

    def _validation(self, given: Any, batch_size: int, seed: int, notes: list[str]) -> tuple[Source, Any]:
        of = "validation "
        if isinstance(given, Loader):
            return self._source(given, None, batch_size, False, seed, of=of)
        if not isinstance(given, list | tuple) or len(given) not in (2, 3):
            raise TypeError(
                f"validation_data is (x, y), (x, y, sample_weight) or a Loader; got {type(given).__name__}"
            )
        x, y, *weight = given
        return self._source(x, y, batch_size, False, seed, weight[0] if weight else None, notes=notes, of=of)

    # -- evaluate, predict ---------------------------------------------------------------------------------------------

    def _evaluation(self, source: Source, place: Device) -> EvaluateStep:
        key = ("evaluate", source.inputs, source.targets, source.weighted, place)
        step = self._steps.get(key)
        if step is None or step.busy:  # busy: a callback evaluates while the run evaluates
            step = self._steps[key] = EvaluateStep(
                self.layer, self.loss, self.metrics, place,
                Signature(source.inputs, source.targets, source.weighted), self.precision, self.replay,
            )
        return step

    def _evaluate(self, step: EvaluateStep, source: Source, audience: Sequence[Listener] = ()) -> dict[str, float]:
        step.sums.clear()
        step.busy = True
        try:
            return self._evaluate_batches(step, source, audience)
        finally:
            step.busy = False

    def _evaluate_batches(self, step: EvaluateStep, source: Source, audience: Sequence[Listener]) -> dict[str, float]:
        for listener in audience:
            listener.evaluation_begin(len(source.loader))
        names = ["loss", *[m.name for m in self.metrics]]
        for number, (arrays, _) in enumerate(source.batches(0, self.layer.device)):
            for listener in audience:
                listener.evaluation_step_begin(number)
            step(arrays)
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
        self._check_targets(source, targets, self._build(source))
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
            step = self._steps[("predict", place)] = PredictStep(layer, place, self.precision, self.replay)
        parts: list[list[np.ndarray]] = []
        for arrays, _ in source.batches(0):
            outputs = step(arrays[: source.inputs])
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
        source, targets = self._source(x, y, _ALL, False, 0, sample_weight)
        form = (tuple(source.shapes), tuple(source.dtypes))
        known = self._outputs.get(form)
        if known is None or known[0] != CONFIGURATION.count:
            output_shape = self._build(source)
            place = self.layer.device
            self._bind()
            kind = (source.inputs, source.targets, source.weighted, self._bound, place)
            if self._steps.get("train", (None,))[0] != kind:
                made = TrainStep(
                    self.layer, self.optimizer, self.loss, self.metrics, place, streams(),
                    Signature(source.inputs, source.targets, source.weighted), self.precision, self.replay,
                )
                self._steps["train"] = (kind, made)
            if len(self._outputs) > 64:
                self._outputs.clear()
            known = self._outputs[form] = (CONFIGURATION.count, output_shape, list(source.dtypes))
        source.dtypes = known[2]
        self._check_targets(source, targets, known[1])
        last = None if self._logs is None else self._logs()
        if last is not None:
            last.fetch()  # somebody still holds the numbers of the step before: read them while they are there
        runner: TrainStep = self._steps["train"][1]
        runner.sums.clear()
        with np.errstate(all="ignore"):
            runner([source.arrays(next(iter(source.loader.epoch(0))))], self.steps)
        self.steps += 1
        logs = LazyLogs(["loss", *[m.name for m in self.metrics]], runner.sums.read)
        self._logs = weakref.ref(logs)
        return logs


def _check_batch_size(batch_size: Any) -> None:
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
