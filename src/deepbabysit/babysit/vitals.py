"""Vitals: plain numbers about a run and its moments. They know nothing of layers or backends.

Any framework could fill them in; the rules read nothing else. What was not measured is None, never a made-up number.
Those that are made by the hundred are named tuples: a frozen dataclass takes several times as long to make.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")


class TensorVitals(NamedTuple):
    """Statistics of one array.

    Attributes:
        count: how many numbers.
        mean, std, minimum, maximum, largest: over the finite numbers; `largest` is the largest absolute value.
        zeros: how many are exactly 0.
        nonfinite: how many are NaN or infinite.
        norm: square root of the sum of squares.
    """

    count: int  # type: ignore[assignment]  # not the method of tuples, which nobody needs here
    mean: float
    std: float
    minimum: float
    maximum: float
    largest: float
    zeros: int
    nonfinite: int
    norm: float

    def divided(self, number: float) -> TensorVitals:
        """Return the statistics of the array divided by a number above 0."""
        if number == 1.0:
            return self
        names = ("mean", "std", "minimum", "maximum", "largest", "norm")
        return self._replace(**{name: getattr(self, name) / number for name in names})


class UnitVitals(NamedTuple):
    """Activity of the units of one layer.

    Attributes:
        units: how many units (the last axis).
        dead: units that gave 0 for every sample of the last batches that were measured, `rows` rows in all.
        saturated: share of values on the flat part of the activation (None where it has none).
    """

    units: int
    dead: int
    saturated: float | None
    rows: int = 0


class LayerVitals(NamedTuple):
    """One layer's output at one moment."""

    path: str
    output: TensorVitals
    units: UnitVitals | None = None


class ParameterVitals(NamedTuple):
    """One trained tensor at one moment.

    `update` is the norm of its last change, `penalty` that of the gradient of its L1 and L2 penalties; `gradient` is
    without these.
    """

    path: str
    weight: TensorVitals
    gradient: TensorVitals | None = None
    update: float | None = None
    penalty: float | None = None
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class StepVitals:
    """One optimizer step.

    Attributes:
        step: steps done before this one in the run; `epoch` its epoch.
        loss: its loss without penalties.
        rate: the learning rate applied.
        gradient_norm: norm of all gradients before clipping.
        layers, parameters: measured only at sampled steps (else empty).
        seconds: duration of the step; `waiting`: seconds spent waiting for data before it (means since the last
            sampled step).
        noise: gradient noise scale in samples: the batch at which noise and signal of the gradient are equal.
        turn: cosine between the gradients of this step and the next.
        predicted, actual: how often each class was predicted and meant in the batch; empty where there are no classes.
    """

    step: int
    epoch: int
    loss: float | None = None
    rate: float | None = None
    gradient_norm: float | None = None
    layers: Mapping[str, LayerVitals] = field(default_factory=dict)
    parameters: Mapping[str, ParameterVitals] = field(default_factory=dict)
    seconds: float | None = None
    waiting: float | None = None
    noise: float | None = None
    turn: float | None = None
    predicted: Mapping[int, int] = field(default_factory=dict)
    actual: Mapping[int, int] = field(default_factory=dict)


class EpochVitals(NamedTuple):
    """One epoch: its logs (``loss``, ``val_loss``, metrics, ``learning_rate``) and times."""

    epoch: int
    logs: Mapping[str, float]
    seconds: float | None = None
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What is known of a layer from its construction, in the order of the computation.

    Attributes:
        path, kind: its path and class name (``Dense``, ``Conv2D``, ``BatchNorm``, ``Dropout``, ``Activation``, ...).
        activation: name of its activation, or None.
        units: length of its output's last axis.
        inputs: fan-in of its kernel, or None.
        trainable: whether anything in it is trained.
        settings: rate of a dropout, l1 and l2 of its kernel, use_bias, initializer names, momentum, ...
        sources: paths of the layers whose output it takes (empty: the model's input).
        parameters: name -> vitals of the weights as they stand.
        through: operations between the sources' outputs and this layer's input, where they are not layers.
    """

    path: str
    kind: str
    activation: str | None = None
    units: int | None = None
    inputs: int | None = None
    trainable: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    parameters: Mapping[str, TensorVitals] = field(default_factory=dict)
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model's graph as a list, and what is asked of it.

    Attributes:
        layers: in the order of the computation.
        output_units: length of the output's last axis; `output_shape` of one sample's output.
        output_activation: the last activation; ``linear`` for none, None where it is not known.
        parameters, trainable: how many numbers there are, and how many are trained.
        functions: operations with a derivative of the user's own on the way.
    """

    layers: tuple[LayerFacts, ...] = ()
    output_units: int | None = None
    output_activation: str | None = None
    parameters: int = 0
    trainable: int = 0
    output_shape: tuple[int, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """How the run was set up.

    Attributes:
        task: ``binary``, ``multiclass``, ``multilabel`` or ``regression``; None where the targets do not say.
        loss: name of the loss; `loss_kind`: what it takes (labels, one-hot, probabilities, logits, numbers).
        optimizer, optimizer_settings: name and settings (momentum, clip_norm, weight_decay, ...).
        rate: the first learning rate; `schedule`: its name, ``constant`` where there is none.
        steps: optimizer steps per epoch; `epochs` planned.
        chance: the loss of guessing (ln C, variance, ...), None where unknown.
        dropout: largest dropout rate; `l1`, `l2`: largest factors; `augmented`, `early_stopping`, `weighted`.
        smoothing: share of each label that the loss spreads over all classes.
        shuffled: whether rows come in a new order each epoch; None where nobody said.
    """

    task: str | None = None
    loss: str | None = None
    loss_kind: str | None = None
    optimizer: str | None = None
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    schedule: str = "constant"
    batch_size: int | None = None
    samples: int | None = None
    validation_samples: int | None = None
    steps: int | None = None
    epochs: int | None = None
    chance: float | None = None
    classes: int | None = None
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    smoothing: float = 0.0
    augmented: bool = False
    early_stopping: bool = False
    weighted: bool = False
    shuffled: bool | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """Everything that is known of a run so far: what the rules read.

    Attributes:
        run, model: facts.
        data: facts about the data by name (`deepbabysit.babysit.facts` fills it in).
        steps, epochs: vitals in order; `steps` holds the sampled ones.
        losses: the loss of every step without penalties, in order; it only grows.
        probes: results of experiments on the side (one batch overfitted, range test, ...), by name.
        stopped: why the run ended; empty while it goes on.
    """

    run: RunFacts = field(default_factory=RunFacts)
    model: ModelFacts = field(default_factory=ModelFacts)
    data: Any = None
    steps: list[StepVitals] = field(default_factory=list)
    epochs: list[EpochVitals] = field(default_factory=list)
    losses: Any = field(default_factory=lambda: array("d"))
    probes: dict[str, Any] = field(default_factory=dict)
    stopped: str = ""

    # what is computed from the lists above, as long as they have not grown
    _curve: np.ndarray = field(default_factory=lambda: _read_only(np.empty(0)), init=False, repr=False, compare=False)
    _columns: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _read: list[EpochVitals] = field(default_factory=list, init=False, repr=False, compare=False)
    _each: dict[Any, list[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def logs(self, name: str) -> list[float]:
        """Return one number of every epoch that has it."""
        known = len(self._read)
        if known != len(self.epochs) or (known and self._read[-1] is not self.epochs[-1]):
            if known > len(self.epochs) or (known and self._read[-1] is not self.epochs[known - 1]):
                self._columns.clear()
                self._read.clear()
            for epoch in self.epochs[len(self._read) :]:
                for key, value in epoch.logs.items():
                    self._columns.setdefault(key, []).append(value)
            self._read += self.epochs[len(self._read) :]
        return list(self._columns.get(name, ()))

    def each(self, function: Callable[[StepVitals], T]) -> list[T]:
        """Return what a function makes of every measured step; it is asked once about each."""
        known: list[T] = self._each.setdefault(function, [])
        if len(known) > len(self.steps):
            known.clear()
        known += [function(step) for step in self.steps[len(known) :]]
        return known

    def curve(self) -> np.ndarray:
        """Return the losses of all steps that are known, in order; read-only."""
        if not len(self.losses):
            return np.array([step.loss for step in self.steps if step.loss is not None], np.float64)
        if len(self._curve) != len(self.losses):
            self._curve = _read_only(np.array(self.losses))
        return self._curve


def _read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values
