"""The callbacks that come with the package; ``deepbabysit.callbacks`` is this module."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepbabysit.errors import module_names, unknown, unknown_keywords
from deepbabysit.training.callback import EVENTS, Callback, check_monitor
from deepbabysit.training.events import Best, direction
from deepbabysit.training.loggers import CSVLogger, ModelCheckpoint, TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

_MODES = ("auto", "min", "max")
_WEIGHTS = "weights/"


class EarlyStopping(Callback):
    """Stop when a number has not improved for some epochs, and give the best weights back.

    Whatever ends the run (patience, the last epoch, an interrupt, an error, another callback), parameters and states
    are those of the best epoch afterwards. The copy lies in host memory. A value that is not finite is never best.

    Arguments:
        monitor: the name of the number.
        min_delta: an improvement must be larger than this.
        patience: stop after so many epochs without improvement; 0 is as 1.
        mode: ``min``, ``max``, or ``auto`` (from the metric or its name).
        baseline: patience starts anew only for values better than this, too.
        restore_best: give the best weights back; Keras' ``restore_best_weights`` means the same.
        start_from_epoch: leave the first so many epochs out.

    Attributes:
        best, best_epoch: the best value and its epoch (from 0), or None.
        stopped_epoch: the epoch that this callback ended the run after, or None.

    Raises:
        ValueError: before the first step: the number will not be there, or its direction is not known.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        *,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best: bool = True,
        start_from_epoch: int = 0,
        **foreign: Any,
    ) -> None:
        restore_best = bool(foreign.pop("restore_best_weights", restore_best))
        foreign.pop("verbose", None)  # Keras: every stop is announced here
        if foreign:
            valid = ["monitor", "min_delta", "patience", "mode", "baseline", "restore_best", "start_from_epoch"]
            raise TypeError(unknown_keywords("EarlyStopping", foreign, valid))
        if mode not in _MODES:
            raise ValueError(unknown("mode", mode, _MODES))
        self.monitor = monitor
        self.min_delta = abs(float(min_delta))
        self.patience = _count("EarlyStopping", "patience", patience)
        self.mode = mode
        self.baseline = baseline
        self.restore_best = restore_best
        self.start_from_epoch = _count("EarlyStopping", "start_from_epoch", start_from_epoch)
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.best_weights: dict[str, np.ndarray] | None = None
        self._best = Best("min", self.min_delta)
        self._resumed: Mapping[str, Any] | None = None

    @property
    def best(self) -> float | None:
        """The best value so far, or None."""
        return self._best.value

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best value, from 0, or None."""
        return self._best.epoch

    def check(self, available: list[str]) -> None:
        """Raise when the number will not be there, or it is not known which values are better."""
        check_monitor("EarlyStopping", self.monitor, available)
        direction(self.monitor, self.mode, self.params.get("directions"))

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin anew, or where the run that is continued stood."""
        self._best = Best(direction(self.monitor, self.mode, self.params.get("directions")), self.min_delta)
        self.wait, self.stopped_epoch, self.best_weights = 0, None, None
        if self._resumed is not None:
            state, self._resumed = self._resumed, None
            self.wait = int(state["wait"])
            self._best.value, self._best.epoch = state["best"], state["best_epoch"]
            weights = {name[len(_WEIGHTS) :]: v for name, v in state.items() if name.startswith(_WEIGHTS)}
            self.best_weights = weights or None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare, copy the weights if they are the best, stop if patience is over."""
        if not logs or self.monitor not in logs or epoch < self.start_from_epoch:
            return
        current = float(logs[self.monitor])
        self.wait += 1
        if self._best.update(current, epoch):
            if self.restore_best:
                self.best_weights = self.model.state_dict()
            if self.baseline is None or self._best.better(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            count = f"{self.wait} epoch{'' if self.wait == 1 else 's'}"
            aim = "" if self.baseline is None else f" beyond the baseline {self.baseline:g}"
            self.stop_reason = f"early stopping: {self.monitor} did not improve{aim} for {count}"
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Give the best weights back."""
        if self.restore_best and self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            self.announce(f"weights of epoch {(self.best_epoch or 0) + 1} given back ({self.monitor} {self.best:.4g})")

    def state_dict(self) -> dict[str, Any]:
        """Return patience, best value and the best copy."""
        state: dict[str, Any] = {"wait": self.wait, "best": self.best, "best_epoch": self.best_epoch}
        return state | {_WEIGHTS + name: value for name, value in (self.best_weights or {}).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that is continued stood."""
        self._resumed = dict(state)


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch.

    Arguments:
        schedule: ``schedule(epoch, rate)`` or ``schedule(epoch)`` returns the new rate; epochs count from 0.

    Raises:
        TypeError: the optimizer already follows a schedule, or the function returns something else than a number.
        ValueError: the rate is negative or not finite.
    """

    def __init__(self, schedule: Callable[..., float]) -> None:
        if not callable(schedule):
            raise TypeError(f"LearningRateScheduler takes a function of the epoch; got {type(schedule).__name__}")
        self.schedule = schedule
        try:
            inspect.signature(schedule).bind(0, 0.1)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False
        except ValueError:  # a built-in function does not say what it takes
            self._takes_rate = True

    def check(self, available: list[str]) -> None:
        """Raise when the rate cannot be set."""
        _rate(self.model, "LearningRateScheduler")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the rate."""
        rate = _rate(self.model, "LearningRateScheduler")
        new = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
        if isinstance(new, bool) or not isinstance(new, int | float | np.floating | np.integer):
            raise TypeError(f"the schedule returned {new!r} for epoch {epoch}; a learning rate is a number")
        if not (math.isfinite(new) and new >= 0):
            raise ValueError(f"the schedule returned {new!r} for epoch {epoch}; a rate is finite and not negative")
        self.model.optimizer.learning_rate = float(new)


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by a factor when a number has not improved for some epochs.

    ``rate = max(rate * factor, min_lr)``.

    Arguments:
        monitor, mode, min_delta: as in EarlyStopping; min_delta is 1e-4 here (Keras).
        factor: between 0 and 1.
        patience: epochs without improvement before the rate falls.
        cooldown: epochs after a fall in which nothing is counted (as PyTorch; Keras counts the last of them).
        min_lr: the smallest rate.

    Raises:
        ValueError: a factor that is not between 0 and 1; before the first step: the number will not be there.
        TypeError: before the first step: the optimizer already follows a schedule.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        *,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        verbose: Any = None,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau multiplies the rate by a factor between 0 and 1; got {factor!r}")
        if mode not in _MODES:
            raise ValueError(unknown("mode", mode, _MODES))
        if not min_lr >= 0:
            raise ValueError(f"min_lr is a rate, not negative; got {min_lr!r}")
        self.monitor = monitor
        self.factor = float(factor)
        self.patience = _count("ReduceLROnPlateau", "patience", patience)
        self.mode = mode
        self.min_delta = abs(float(min_delta))
        self.cooldown = _count("ReduceLROnPlateau", "cooldown", cooldown)
        self.min_lr = float(min_lr)
        self.wait = 0
        self.cooling = 0
        self._best = Best("min", self.min_delta)
        self._resumed: Mapping[str, Any] | None = None

    def check(self, available: list[str]) -> None:
        """Raise when the number will not be there or the rate cannot be set."""
        check_monitor("ReduceLROnPlateau", self.monitor, available)
        direction(self.monitor, self.mode, self.params.get("directions"))
        _rate(self.model, "ReduceLROnPlateau")

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin anew, or where the run that is continued stood."""
        self._best = Best(direction(self.monitor, self.mode, self.params.get("directions")), self.min_delta)
        self.wait = self.cooling = 0
        if self._resumed is not None:
            state, self._resumed = self._resumed, None
            self.wait, self.cooling = int(state["wait"]), int(state["cooling"])
            self._best.value, self._best.epoch = state["best"], state["best_epoch"]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare, and lower the rate if patience is over."""
        if not logs or self.monitor not in logs:
            return
        if self._best.update(float(logs[self.monitor]), epoch):
            self.wait = 0
        if self.cooling > 0:
            self.cooling -= 1
            self.wait = 0
            return
        if self._best.epoch == epoch:
            return
        self.wait += 1
        old = _rate(self.model, "ReduceLROnPlateau")
        if self.wait < self.patience or old <= self.min_lr:
            return
        new = max(old * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = new
        self.announce(
            f"learning rate {old:.3g} -> {new:.3g} after epoch {epoch + 1}: "
            f"{self.monitor} did not improve for {self.wait} epoch{'' if self.wait == 1 else 's'}"
        )
        self.cooling, self.wait = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """Return patience, cooldown and the best value."""
        return {"wait": self.wait, "cooling": self.cooling, "best": self._best.value, "best_epoch": self._best.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that is continued stood."""
        self._resumed = dict(state)


class TerminateOnNaN(Callback):
    """Stop when the loss of a step is not finite; it reads the loss of every step, which waits for the device."""

    needs_batch_values = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss."""
        if logs and "loss" in logs and not math.isfinite(logs["loss"]):
            self.stop_reason = f"the loss became {logs['loss']} in step {batch + 1} of an epoch"
            self.model.stop_training = True


class LambdaCallback(Callback):
    """Make a callback from functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``.

    Arguments:
        events: functions by the names of the events of Callback; they take what the event takes.

    Raises:
        TypeError: an event does not exist.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"])).on_epoch_end(0, {"loss": 0.5})
    0 0.5
    """

    def __init__(self, **events: Callable[..., Any]) -> None:
        wrong = [name for name in events if name not in EVENTS]
        if wrong:
            raise TypeError(unknown_keywords("LambdaCallback", wrong, EVENTS))
        for name, function in events.items():
            if not callable(function):
                raise TypeError(f"LambdaCallback takes functions; {name} is {type(function).__name__}")
            setattr(self, name, function)


def _count(who: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{who}: {name} is a number of epochs, 0 or more; got {value!r}")
    return int(value)


def _rate(model: Any, who: str) -> float:
    """Return the optimizer's rate; refuse one that a schedule already steers."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise TypeError(f"{who} sets the learning rate of model.optimizer; this model has none: compile it first")
    rate = optimizer.learning_rate
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.floating | np.integer):
        raise TypeError(
            f"{who} sets the learning rate, but the optimizer already follows the schedule {type(rate).__name__}; "
            "give the optimizer a number as learning_rate, or leave this callback out"
        )
    return float(rate)


__getattr__ = module_names("db.callbacks", "callback", __all__)
