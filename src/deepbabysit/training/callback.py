"""Callback: what users write to take part in a training; and the list that the loop speaks to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, final

import numpy as np

from deepbabysit.errors import nearest
from deepbabysit.training.events import Listener, RunInfo, StepInfo

_WITH_BATCH_LOGS = ("on_train_batch_end", "on_test_batch_end")
EVENTS = (
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end",
    "on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end",
    "on_predict_begin", "on_predict_end", "on_predict_batch_begin", "on_predict_batch_end",
)  # fmt: skip

_RENAMED = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}  # Keras before 2.2


def _silent(text: str) -> None:
    """Say nothing: nobody listens yet."""


class Callback:
    """Something that is called while a model trains; all events are empty and may be written by a subclass.

    Epochs and batches count from 0. ``self.model.stop_training = True`` ends the run after the step or epoch.

    Attributes:
        model: the model that trains.
        params: what is known about the run: ``epochs``, ``steps``, ``samples``, ``batch_size``, ``metrics``, ...
        announce: shows a line to the user: ``self.announce("text")``.
        stop_reason: set it beside ``stop_training``; it becomes ``History.stopped``.
        needs_batch_values: whether the numbers of every batch are read; None means: when `on_train_batch_end` or
            `on_test_batch_end` is written. Each read waits for the device.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(f"epoch {epoch}: {logs['loss']}")
    >>> Shout().on_epoch_end(0, {"loss": 0.5})
    epoch 0: 0.5
    """

    model: Any = None
    params: Mapping[str, Any] = MappingProxyType({})
    announce: Callable[[str], None] = staticmethod(_silent)
    stop_reason: str = ""
    needs_batch_values: bool | None = None

    def set_model(self, model: Any) -> None:
        """Keep the model; called before the run."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Keep what is known about the run; called before the run."""
        self.params = params

    def check(self, available: list[str]) -> None:
        """Raise before the first step what cannot work; `available` are the names that an epoch will report."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: plain values (JSON) and NumPy arrays by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; called before `on_train_begin`."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Called once, before the first step."""

    def on_train_end(self, logs: Any = None) -> None:
        """Called once, whatever ended the run."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Called before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Called after an epoch and its validation; `logs` is a dict that all callbacks share."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a step; `logs` holds the running means of the epoch."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Called before an evaluation."""

    def on_test_end(self, logs: Any = None) -> None:
        """Called after an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a batch of an evaluation."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Called before a prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """Called after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called after a batch of a prediction."""


@final
class CallbackList(Listener):
    """The callbacks of a run as one listener.

    Arguments:
        callbacks: one callback or several.
        model: what the callbacks see as ``self.model``; a run begins with its ``stop_training`` set to False.
        announce: shows a line to the user.

    Raises:
        TypeError: an item is no callback, or has an event whose name is misspelt.
    """

    def __init__(
        self, callbacks: Callback | Iterable[Callback], model: Any, announce: Callable[[str], None] = _silent
    ) -> None:
        self.callbacks: tuple[Callback, ...] = (callbacks,) if isinstance(callbacks, Callback) else tuple(callbacks)
        self.model = model
        for callback in self.callbacks:
            _check_kind(callback)
            callback.set_model(model)
            callback.announce = announce
        self._heard = {event: [c for c in self.callbacks if _writes(c, event)] for event in EVENTS}
        if not self._heard["on_train_batch_begin"] and not self._heard["on_train_batch_end"]:
            self.wake = sys.maxsize

    @property
    def needs_batch_values(self) -> bool:
        """Whether a callback reads the numbers of every batch."""
        return bool(self.readers)

    @property
    def readers(self) -> list[str]:
        """The names of the callbacks that read the numbers of every batch."""
        return [
            type(callback).__name__
            for callback in self.callbacks
            if (
                any(_writes(callback, event) for event in _WITH_BATCH_LOGS)
                if callback.needs_batch_values is None
                else callback.needs_batch_values
            )
        ]

    @property
    def stop_reason(self) -> str:
        """Why the run is to be ended, in words; empty while it may go on."""
        if not getattr(self.model, "stop_training", False):
            return ""
        return next((c.stop_reason for c in self.callbacks if c.stop_reason), "stop requested")

    def check(self, available: list[str]) -> None:
        """Raise what cannot work, before the first step."""
        for callback in self.callbacks:
            callback.check(available)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all callbacks as one flat dict of plain values and arrays."""
        return {
            f"{index}.{type(callback).__name__}.{name}": value
            for index, callback in enumerate(self.callbacks)
            for name, value in ({"": None} | callback.state_dict()).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the states of the same callbacks.

        Raises:
            ValueError: the run was begun with other callbacks.
        """
        begun = sorted({tuple(name.split(".", 2)[:2]) for name in state}, key=lambda item: int(item[0]))
        mine = [(str(index), type(callback).__name__) for index, callback in enumerate(self.callbacks)]
        if begun != mine:
            raise ValueError(
                f"the run was begun with the callbacks {[name for _, name in begun]}; "
                f"got {[name for _, name in mine]}: give the same ones in the same order to continue it"
            )
        for index, callback in enumerate(self.callbacks):
            prefix = f"{index}.{type(callback).__name__}."
            own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
            own.pop("")
            callback.load_state_dict(own)

    # -- events --------------------------------------------------------------------------------------------------------

    def run_begin(self, run: RunInfo) -> None:
        """Tell the callbacks about the run, let them check it, and begin."""
        params = {name: getattr(run, name) for name in RunInfo.__slots__}
        params["metrics"] = run.names()
        self.model.stop_training = False
        for callback in self.callbacks:
            callback.stop_reason = ""
            callback.set_params(params)
        self.check(run.names())
        self._fire("on_train_begin", {})

    def run_end(self, stopped: str) -> None:
        """End; every callback is called, also when one before it fails."""
        first: Exception | None = None
        for callback in self._heard["on_train_end"]:
            try:
                callback.on_train_end({})
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def epoch_begin(self, epoch: int) -> None:
        """Pass on."""
        self._fire("on_epoch_begin", epoch, {})

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Pass on; callbacks may add to the logs."""
        self._fire("on_epoch_end", epoch, logs)

    def step_begin(self, epoch: int, step: int) -> None:
        """Pass on."""
        self._fire("on_train_batch_begin", step, {})

    def step_end(self, step: StepInfo) -> None:
        """Pass on."""
        self._fire("on_train_batch_end", step.step, step.logs)

    def evaluation_begin(self, steps: int | None) -> None:
        """Pass on."""
        self._fire("on_test_begin", {})

    def evaluation_step_begin(self, step: int) -> None:
        """Pass on."""
        self._fire("on_test_batch_begin", step, {})

    def evaluation_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Pass on."""
        self._fire("on_test_batch_end", step, logs)

    def evaluation_end(self, logs: Mapping[str, float]) -> None:
        """Pass on."""
        self._fire("on_test_end", dict(logs))

    def predict_begin(self) -> None:
        """Pass on."""
        self._fire("on_predict_begin", {})

    def predict_step_begin(self, step: int) -> None:
        """Pass on."""
        self._fire("on_predict_batch_begin", step, {})

    def predict_step_end(self, step: int, outputs: Any) -> None:
        """Pass on."""
        self._fire("on_predict_batch_end", step, {"outputs": outputs})

    def predict_end(self) -> None:
        """Pass on."""
        self._fire("on_predict_end", {})

    def _fire(self, event: str, *args: Any) -> None:
        for callback in self._heard[event]:
            getattr(callback, event)(*args)


def split_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the plain values of a state (for JSON) and its arrays (for a tensor file), apart.

    >>> split_state({"wait": 2})
    ({'wait': 2}, {})
    """
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    return {name: value for name, value in state.items() if name not in arrays}, arrays


def check_monitor(who: str, monitor: str, available: Iterable[str]) -> None:
    """Raise ValueError when a monitored name will not be reported.

    >>> check_monitor("EarlyStopping", "val_los", ["loss", "val_loss"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: EarlyStopping watches 'val_los', which will not be there; did you mean 'val_loss' or 'loss'? ...
    """
    names = list(available)
    if monitor in names:
        return
    if monitor.startswith("val_") and not any(name.startswith("val_") for name in names):
        other = monitor[4:] if monitor[4:] in names else "loss"
        raise ValueError(
            f"{who} watches {monitor!r}, but there is no validation data; give fit validation_data= or "
            f"validation_split=, or use monitor={other!r}"
        )
    close = nearest(monitor, names)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    raise ValueError(f"{who} watches {monitor!r}, which will not be there; {hint}Valid: {', '.join(names)}")


def _writes(callback: Callback, event: str) -> bool:
    return getattr(type(callback), event) is not getattr(Callback, event) or event in vars(callback)


def _check_kind(callback: Any) -> None:
    if isinstance(callback, type) and issubclass(callback, Callback):
        raise TypeError(f"callbacks holds the class {callback.__name__}; make one: {callback.__name__}(...)")
    if not isinstance(callback, Callback):
        raise TypeError(
            f"callbacks holds a {type(callback).__name__}; a callback is made from a class derived from "
            "deepbabysit.callbacks.Callback"
        )
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in EVENTS and callable(getattr(callback, name)):
            close = [_RENAMED[name]] if name in _RENAMED else nearest(name, EVENTS)
            if close:
                raise TypeError(
                    f"{type(callback).__name__} has a method {name!r}, which is never called; "
                    f"did you mean {close[0]!r}?"
                )
