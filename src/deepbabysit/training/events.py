"""What a running training says to those who watch it: history, display, callbacks, the babysitter.

The loop calls the methods of its listeners; only callbacks may change the run. Epochs and steps count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Metrics that are better when they are larger; everything else that is known is better when it is smaller.
_LARGER = (
    "acc", "accuracy", "auc", "precision", "recall", "f1", "fbeta", "iou", "dice", "r2", "mcc", "kappa", "specificity",
    "sensitivity", "similarity", "correlation", "coefficient", "psnr", "ssim",
)  # fmt: skip
_SMALLER = (
    "loss", "error", "mae", "mse", "rmse", "mape", "msle", "crossentropy", "entropy", "perplexity", "divergence",
    "huber", "hinge", "nll", "cosh", "poisson", "deviation", "distance", "bce", "kl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known before the first step.

    Attributes:
        epochs: the number of epochs asked for; `first_epoch` is not 0 in a resumed run.
        steps: optimizer steps per epoch, or None when the data do not say.
        samples, validation_samples: rows of the two parts, or None.
        metrics: names of what an epoch reports for the training part, ``loss`` first.
        parameters: number of trained numbers.
        validation: a sentence about what was held out, or an empty one.
        monitor, mode: what the best epoch is chosen by, and whether ``min`` or ``max`` is best.
        directions: ``min`` or ``max`` for metrics that know it.
        reading: seconds that reading data row by row took, where they were no arrays.
    """

    epochs: int
    steps: int | None = None
    samples: int | None = None
    validation_samples: int | None = None
    metrics: tuple[str, ...] = ("loss",)
    batch_size: int | None = None
    accumulate: int = 1
    device: str = "cpu"
    parameters: int = 0
    validation: str = ""
    seed: int | None = None
    model: str = ""
    first_epoch: int = 0
    monitor: str = "loss"
    mode: str = "min"
    directions: Mapping[str, str] = field(default_factory=dict)
    reading: float = 0.0

    @property
    def validated(self) -> bool:
        """Whether every epoch ends with an evaluation on held-out data."""
        return bool(self.validation) or self.validation_samples is not None

    def names(self) -> list[str]:
        """Return the names that the logs of an epoch will hold, ``learning_rate`` included."""
        found = list(self.metrics)
        if self.validated:
            found += [f"val_{name}" for name in self.metrics if name != "data_loss"]
        return [*found, "learning_rate"]


class LazyLogs(Mapping[str, float]):
    """Numbers by name that are fetched from the device when the first of them is looked at.

    Arguments:
        names: the names, known without a look.
        read: returns all values; called at most once. It must return the numbers of its own step even when it is called
            later.

    >>> logs = LazyLogs(["loss"], lambda: {"loss": 0.5})
    >>> list(logs), logs.fetched
    (['loss'], False)
    >>> logs["loss"], logs.fetched
    (0.5, True)
    """

    __slots__ = ("__weakref__", "_names", "_read", "_values")

    def __init__(self, names: Iterable[str], read: Callable[[], Mapping[str, Any]]) -> None:
        self._names = tuple(names)
        self._read: Callable[[], Mapping[str, Any]] | None = read
        self._values: dict[str, float] = {}

    @property
    def fetched(self) -> bool:
        """Whether the numbers are on the host already."""
        return self._read is None

    def __getitem__(self, name: str) -> float:
        if name not in self._names:
            raise KeyError(name)
        self.fetch()
        return self._values[name]

    def fetch(self) -> None:
        """Read the numbers now, if nobody has yet."""
        if self._read is not None:
            self._values = {key: float(value) for key, value in self._read().items()}
            self._read = None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self)) if self.fetched else f"LazyLogs({', '.join(self._names)}: not read yet)"


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One optimizer step that is done.

    Attributes:
        epoch: the epoch, from 0.
        step: the step in the epoch, from 0.
        total: steps done in the whole run, this one included.
        samples: samples of the epoch seen so far.
        logs: running means over the epoch so far, read from the device only when looked at.
        batches: the arrays of its micro-batches.
    """

    epoch: int
    step: int
    total: int
    samples: int
    logs: Mapping[str, float]
    batches: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Controls:
    """What a run hands to those who look inside it.

    Attributes:
        step: the training step; its `tap` and `guard` may be set.
        optimizer: bound to the parameters.
        layer: what is trained.
        loss: what is minimized.
        streams: the run's random streams.
        device: where it runs.
        batch: ``batch(epoch, step)`` -> the arrays of a step's micro-batches and the numbers of their rows, again.
        say: shows a line to the user.
        stop: ends the run after the step or epoch; takes the reason.
        steps: steps of the trainer before this run.
        data, validation: the loaders of both parts, or None; `weighted` whether samples or classes are weighted.
    """

    step: Any
    optimizer: Any
    layer: Any
    loss: Any
    streams: Any
    device: Any
    batch: Callable[[int, int], tuple[list[Any], list[Any]]]
    say: Callable[[str], None]
    stop: Callable[[str], None]
    steps: int
    data: Any = None
    validation: Any = None
    weighted: bool = False


class Listener:
    """Somebody who watches a run; every method is empty and may be written by a subclass.

    Attributes:
        wake: the next step of the trainer (from 0, over all its runs) that `step_begin` and `step_end` are called for;
            those before it are passed over.
        glances: whether `step_end` only looks at the clock and says where the run stands: of several steps that are
            done at once it is shown the last.
    """

    wake: int = 0
    glances: bool = False

    @property
    def needs_batch_values(self) -> bool:
        """Whether this listener reads the numbers of every step (each read waits for the device)."""
        return False

    def run_begin(self, run: RunInfo) -> None:
        """Say what is going to happen; raises what is surely wrong before the first step."""

    def handed(self, controls: Controls) -> None:
        """Take what is needed to look inside the steps; called after `run_begin`."""

    def epoch_begin(self, epoch: int) -> None:
        """Announce an epoch."""

    def step_begin(self, epoch: int, step: int) -> None:
        """Announce a step."""

    def step_end(self, step: StepInfo) -> None:
        """Report a step."""

    def evaluation_begin(self, steps: int | None) -> None:
        """Announce an evaluation on held-out data."""

    def evaluation_step_begin(self, step: int) -> None:
        """Announce a batch of an evaluation."""

    def evaluation_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Report a batch of an evaluation; the means so far."""

    def evaluation_end(self, logs: Mapping[str, float]) -> None:
        """Report the result of an evaluation (names without ``val_``)."""

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Report an epoch; all listeners get the same dict, callbacks first, so that they may add to it."""

    def message(self, text: str) -> None:
        """Show a text: a finding, a choice that was made, a warning."""

    def run_end(self, stopped: str) -> None:
        """Say that the run is over, and why; called whatever ended it."""


def direction(monitor: str, mode: str = "auto", directions: Mapping[str, str] | None = None) -> str:
    """Return ``min`` or ``max``: which values of a monitored number are better.

    Arguments:
        monitor: the name, with or without ``val_``.
        mode: ``min`` and ``max`` are taken as they are; ``auto`` looks at `directions`, then at the name.
        directions: what the metrics themselves say.

    Raises:
        ValueError: the mode does not exist, or ``auto`` cannot know.

    >>> direction("val_loss"), direction("val_accuracy"), direction("my_error")
    ('min', 'max', 'min')
    """
    if mode in ("min", "max"):
        return mode
    if mode != "auto":
        raise ValueError(f"mode is 'auto', 'min' or 'max'; got {mode!r}")
    bare = monitor.removeprefix("val_")
    for known in (directions or {}).items():
        if known[0] == bare and known[1] in ("min", "max"):
            return known[1]
    words = bare.lower().split("_")
    # The last word that says something decides: top_5_accuracy, accuracy_error.
    for word in reversed(words):
        if word in _LARGER:
            return "max"
        if word in _SMALLER:
            return "min"
    if any(word.endswith(("accuracy", "score")) for word in words):
        return "max"
    if any(word.endswith(("loss", "error", "entropy")) for word in words):
        return "min"
    raise ValueError(f"whether {monitor!r} is better when larger or smaller is not known; say mode='max' or mode='min'")


class Best:
    """The best value of a monitored number so far; values that are not finite are never best.

    Arguments:
        mode: ``min`` or ``max``.
        min_delta: a value must be better by more than this.
    """

    __slots__ = ("_delta", "_sign", "epoch", "value")

    def __init__(self, mode: str, min_delta: float = 0.0) -> None:
        self._sign = 1.0 if mode == "min" else -1.0
        self._delta = abs(min_delta)
        self.value: float | None = None
        self.epoch: int | None = None

    def better(self, value: float, than: float | None) -> bool:
        """Tell whether a value is better than another one (or the first one)."""
        if not math.isfinite(value):
            return False
        return than is None or self._sign * (than - value) > self._delta

    def update(self, value: float, epoch: int) -> bool:
        """Take a new value; return whether it is the best so far."""
        if not self.better(value, self.value):
            return False
        self.value, self.epoch = float(value), epoch
        return True
