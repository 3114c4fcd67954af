"""Experiments on a copy of the model before training: forward, backward, doubled batch, zeroed input, rows by heart.

Each returns plain numbers. The model that is asked about is never touched: `Subject` holds a copy without trainer and
hooks, draws come from random streams of their own, and states of layers are thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit.graph import hands_through, independent_copy, own_functions, unit_spread
from deepbabysit.initializers import compute_fans
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.updates import Updates
from deepbabysit.optimizers import get as get_optimizer
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.random import Streams, streams

FITTED = 16  # rows that must be learned by heart
FIT_RATES = (1e-2, 1e-3, 1e-1)
FIT_STEPS = 400
PLAIN = 50_000  # copies of models of up to so many numbers run on the reference: compiled kernels would not pay
STRAIGHT = 1.0  # deviation of the inputs with which a model is asked whether it is linear: no probability ends at 1
# how the last activation is taken back; probabilities of classes are known up to a factor
BENDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda y: y,
    "sigmoid": lambda y: np.log(y) - np.log1p(-y),
    "tanh": np.arctanh,
    "softmax": lambda y: np.log(y) - np.log(y).mean(axis=-1, keepdims=True),
    "log_softmax": lambda y: y - y.mean(axis=-1, keepdims=True),
}
LITTLE, ROUNDED = 1e-4, 1e-7  # differences of outputs, relative to their size, that may be rounding; in float32
DRAWS = 5  # sets of weights with which an output must be the same before it is said to ignore its input


@dataclass(frozen=True, slots=True)
class OutputProbe:
    """Outputs on a batch before training: range, mean and spread over rows, and how far rows are from a sum of 1."""

    minimum: float
    maximum: float
    mean: float
    std: float
    sums: float
    nonfinite: int


@dataclass(frozen=True, slots=True)
class LossProbe:
    """The loss on a batch before training, and on the batch twice."""

    first: float
    doubled: float
    rows: int


@dataclass(frozen=True, slots=True)
class GradientProbe:
    """One parameter's first gradient: its norm, that of the weights, and how much the units' gradients differ."""

    norm: float
    weight: float
    unit_spread: float
    nonfinite: int


@dataclass(frozen=True, slots=True)
class IgnoreProbe:
    """Change of the output between different rows, relative to its size: as the weights stand, and drawn anew."""

    now: float
    drawn: float
    inputs: float


@dataclass(frozen=True, slots=True)
class LeakProbe:
    """Change of a row's output when only other rows change, relative to how outputs differ; the layer it begins in."""

    change: float
    layer: str | None


@dataclass(frozen=True, slots=True)
class ModeProbe:
    """Differences of outputs, relative to their size.

    Attributes:
        inference: between two runs in inference mode.
        modes: between training (dropout off) and inference mode; None where batch statistics explain one.
        left: whether the model was left in training mode by hand.
    """

    inference: float
    modes: float | None
    left: bool


@dataclass(frozen=True, slots=True)
class FitProbe:
    """Learning a few rows by heart: what was reached, at which rate, and whether the time was enough to tell.

    Attributes:
        error: share of wrong rows (classes), or squared error over the variance (numbers), or last loss over the first.
        kind: ``classes``, ``numbers`` or ``loss``.
    """

    error: float
    kind: str
    rows: int
    rate: float
    steps: int
    first: float
    last: float
    decided: bool


@dataclass(frozen=True, slots=True)
class DerivativeProbe:
    """Derivative along a direction, from the tape and from differences; `error` relative to the gradient's norm.

    `through`: whether all operations with a backward of their own hand their input through.
    """

    error: float
    parameter: str
    analytic: float
    numeric: float
    functions: tuple[str, ...]
    through: bool = False


@dataclass(frozen=True, slots=True)
class RangeProbe:
    """A learning-rate range test: rates, smoothed losses, where the loss fell fastest, and where it diverged."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float | None
    diverged: float | None


class Subject:
    """A copy of a model with a batch, on which experiments are made.

    Arguments:
        model: the model asked about; only read.
        loss: its loss, or None.
        x: arrays of one batch; y: its targets, or None.
        dtype: floating type of the model.
    """

    def __init__(self, model: Layer, loss: Any, x: Sequence[np.ndarray], y: np.ndarray | None, dtype: Any) -> None:
        self.seed = streams().seed
        self.model = independent_copy(model)
        filters = any("Conv" in type(layer).__name__ for _, layer in model.walk())
        if model.device.name == "cpu" and model.count_params() <= PLAIN and not filters:
            self.model.to("cpu:reference")  # nothing has to be compiled or loaded for it
        self.loss = loss
        self.x = list(x)
        self.y = y
        self.dtype = np.dtype(dtype)
        self.floating = False  # whether whole numbers become floating ones for this model
        self.left = bool(getattr(model, "_mode", False))
        self.model._mode = None

    def tensors(self, rows: Any = slice(None), gradient: bool = False, dtype: Any = None) -> list[Tensor]:
        """Return rows of the batch as the model takes them."""
        return [self.tensor(a[rows], gradient, dtype) for a in self.x]

    def tensor(self, array: np.ndarray, gradient: bool = False, dtype: Any = None) -> Tensor:
        """Return one array as the model takes it."""
        device = self.model.device
        if array.dtype.kind in "fb" or self.floating:
            array = array.astype(dtype or self.dtype)
        flows = gradient and is_floating(array.dtype)
        return Tensor(device.asarray(np.ascontiguousarray(array)), device, requires_grad=flows)

    def run(self, model: Layer, inputs: Sequence[Tensor], training: bool, step: int = 0, grad: bool = False) -> Tensor:
        """Run a model; states that it leaves are dropped."""
        own = Streams(self.seed)
        own.begin(step)
        with surroundings(
            training=training, updates=Updates() if training else None, streams=own, grad=grad, recorder=None
        ):
            output = model(*inputs)
        return output[0] if isinstance(output, list | tuple) else output

    def undropped(self) -> Layer:
        """Return a copy without dropout."""
        twin: Layer = deepcopy(self.model)
        for _, layer in twin.walk():
            if type(layer).__name__ == "Dropout":
                layer.rate = 0.0
        return twin

    def drawn(self, draw: int = 0) -> Layer:
        """Return a copy whose weights are drawn anew: what does not depend on the weights shows there."""
        twin: Layer = deepcopy(self.model)
        rng = np.random.Generator(np.random.Philox(17 + draw))
        for name, parameter in twin.named_parameters():
            if not is_floating(parameter.dtype):
                continue
            if parameter.ndim >= 2:
                values = rng.standard_normal(parameter.shape) / math.sqrt(max(compute_fans(parameter.shape)[0], 1))
            elif name.endswith(("gamma", "scale")):
                values = 1.0 + 0.1 * rng.standard_normal(parameter.shape)
            else:
                values = 0.1 * rng.standard_normal(parameter.shape)
            parameter.assign(values.astype(parameter.dtype))
        return twin


def doubled(model: Layer) -> Layer:
    """Have a copy of a model compute in float64, and return it."""
    for _, held in model._named():
        if is_floating(held.dtype):
            held.data = held.device.asarray(held.device.to_host(held.data), np.float64)
            held.extra = None
    return model


def host(output: Tensor) -> np.ndarray:
    """Return an output as rows of float64."""
    values = np.asarray(output.numpy(), np.float64)
    return values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)


def probe_output(output: Tensor) -> OutputProbe:
    """Return the statistics of an output."""
    values = np.asarray(output.numpy(), np.float64)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    sums = float(np.abs(values.sum(axis=-1) - 1.0).max()) if values.ndim > 1 and values.shape[-1] > 1 else math.inf
    rows = values.reshape(len(values), -1)
    return OutputProbe(
        float(values.min()), float(values.max()), float(values.mean()), float(np.sqrt(rows.var(axis=0).mean())), sums,
        bad,
    )


def probe_loss(subject: Subject, model: Layer) -> LossProbe:
    """Return the loss of a batch and of the batch twice, in training mode; `model` has no dropout."""
    values = []
    for copies in (1, 2):
        given = [subject.tensor(np.concatenate([a] * copies)) for a in subject.x]
        output = subject.run(model, given, training=True)
        with surroundings(grad=False, recorder=None):
            total, weight = subject.loss.parts(np.concatenate([subject.y] * copies), output)
            values.append(float(subject.loss.mean(total, weight).item()))
    return LossProbe(values[0], values[1], len(subject.x[0]))


def probe_gradients(subject: Subject, model: Layer) -> dict[str, GradientProbe]:
    """Return the first gradient of every parameter; `model` has no dropout."""
    output = subject.run(model, subject.tensors(), training=True, grad=True)
    with surroundings(grad=True, recorder=None):
        total, weight = subject.loss.parts(subject.y, output)
        value = subject.loss.mean(total, weight)
    if not value.requires_grad:
        return {}
    value.backward(release=True)
    found = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        values = np.zeros(parameter.shape) if gradient is None else np.asarray(gradient.numpy(), np.float64)
        weights = np.asarray(parameter.numpy(), np.float64)
        fine = np.where(np.isfinite(values), values, 0.0)
        found[name] = GradientProbe(
            float(np.sqrt((fine**2).sum())), float(np.sqrt((weights**2).sum())),
            unit_spread(fine) if fine.ndim >= 2 else math.inf, int((~np.isfinite(values)).sum()),
        )
        parameter.grad = None
    return found


def _relative(a: np.ndarray, b: np.ndarray, size: float) -> float:
    return float(np.abs(a - b).max()) / max(size, 1e-30)


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def probe_ignoring(subject: Subject, drawn: Layer, undropped: Layer) -> IgnoreProbe:
    """Compare outputs of different rows and of zeroed inputs."""

    def change(model: Layer, training: bool = False, dtype: Any = None) -> float:
        real = host(subject.run(model, subject.tensors(dtype=dtype), training))
        zero = host(subject.run(model, [subject.tensor(np.zeros_like(a), dtype=dtype) for a in subject.x], training))
        found = max(_relative(real, zero, _size(real)), _relative(real, real[:1], _size(real)))
        return found if np.isfinite(real).all() and np.isfinite(zero).all() else math.inf  # NaN is no equal output

    # as they stand in training mode: running statistics of no data would hide the inputs
    now = [change(undropped, training=True), change(drawn)]
    for draw in range(1, DRAWS):
        if now[1] > LITTLE:
            break
        now[1] = max(now[1], change(subject.drawn(draw)))  # units that happen to be 0 everywhere
    if ROUNDED < now[1] <= LITTLE:  # so little may be rounding: in float64 that is far less
        now[1] = max(change(doubled(subject.drawn(draw)), dtype=np.float64) for draw in range(DRAWS))
    spread = max(float(np.abs(a.astype(np.float64) - a[:1].astype(np.float64)).max()) for a in subject.x)
    return IgnoreProbe(now[0], now[1], spread)


def probe_straight(subject: Subject, drawn: Layer, activation: str | None) -> float | None:
    """Return how far outputs before the last activation are from those of an affine map, against how they differ.

    With weights drawn anew, of ``a + b - c`` for rows a, b, c of random numbers: real ones may all lie on one side of
    every bend. None where that cannot be told: inputs that are no floating numbers, an activation that cannot be taken
    back, outputs that do not differ.
    """
    if activation not in BENDS or not subject.x or any(a.dtype.kind != "f" for a in subject.x):
        return None
    third = len(subject.x[0]) // 3
    if third < 2:
        return None
    rng = np.random.Generator(np.random.Philox(31))
    parts = [[STRAIGHT * rng.standard_normal((third, *a.shape[1:])) for a in subject.x] for _ in range(3)]
    parts.append([a + b - c for a, b, c in zip(*parts, strict=True)])
    with np.errstate(all="ignore"):
        given = ([subject.tensor(array) for array in part] for part in parts)
        first, second, third_, mixed = (
            BENDS[activation](host(subject.run(drawn, tensors, training=False))) for tensors in given
        )
    spread = float(np.abs(first - first[:1]).max())
    deviation = float(np.abs(first + second - third_ - mixed).max())
    return deviation / spread if math.isfinite(deviation) and math.isfinite(spread) and spread > 1e-6 else None


def probe_leak(subject: Subject, drawn: Layer) -> LeakProbe | None:
    """Change all rows but one and see whether that row's output changes; None where there are too few rows."""
    rows = len(subject.x[0])
    if rows < 4:
        return None
    half = min(rows // 2, 8)
    kept = half // 2
    one, two = np.arange(half), np.arange(half, 2 * half)
    two[kept] = one[kept]
    seen: list[list[tuple[str, np.ndarray]]] = []
    outputs = []
    for chosen in (one, two):
        notes: list[tuple[str, np.ndarray]] = []
        removers = [
            layer.register_forward_hook(_noter(notes, path)) for path, layer in drawn.walk() if layer is not drawn
        ]
        outputs.append(host(subject.run(drawn, subject.tensors(chosen), training=False)))
        for remove in removers:
            remove()
        seen.append(notes)
    if len(outputs[0]) != half or not all(np.isfinite(o).all() for o in outputs):
        return None
    scale = max(float(outputs[0].std(axis=0).max()), 1e-3 * _size(outputs[0]))
    change = _relative(outputs[0][kept], outputs[1][kept], scale)
    where = None
    if change > 1e-3:
        for (path, a), (_, b) in zip(*seen, strict=False):
            if len(a) == len(b) == half and _relative(a[kept], b[kept], _size(a)) > 1e-4:
                where = path
                break
    return LeakProbe(change, where)


def _noter(notes: list[tuple[str, np.ndarray]], path: str) -> Callable[..., None]:
    def hook(layer: Layer, inputs: tuple[Any, ...], result: Any) -> None:
        if isinstance(result, Tensor) and result.ndim:
            notes.append((path, host(result)))

    return hook


def probe_modes(subject: Subject, drawn: Layer, undropped: Layer) -> ModeProbe:
    """Run in inference mode twice, and once in training mode without dropout."""
    inputs = subject.tensors()
    first = host(subject.run(drawn, inputs, training=False, step=0))
    again = host(subject.run(drawn, inputs, training=False, step=1))
    modes = None
    if not any(type(layer).__name__ in ("BatchNorm", "Bidirectional") for _, layer in subject.model.walk()):
        plain = host(subject.run(undropped, inputs, training=False))
        train = host(subject.run(undropped, inputs, training=True))
        modes = _relative(plain, train, _size(plain))
    return ModeProbe(_relative(first, again, _size(first)), modes, subject.left)


def fit_rows(x: Sequence[np.ndarray], y: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Return a few different rows, each class in turn where there are classes."""
    order = np.arange(len(y))
    if classes is not None:
        turn = np.zeros(len(order), np.int64)
        for level in np.unique(classes):
            mine = np.flatnonzero(classes == level)
            turn[mine] = np.arange(len(mine))
        order = np.argsort(turn, kind="stable")
    chosen: list[int] = []
    seen: set[bytes] = set()
    for row in order.tolist():
        key = b"".join(np.ascontiguousarray(a[row]).tobytes() for a in x)
        if key not in seen:
            seen.add(key)
            chosen.append(row)
        if len(chosen) == FITTED:
            break
    return np.array(sorted(chosen))


def probe_fit(
    subject: Subject, kind: str, threshold: float, deadline: float, clock: Callable[[], float] = time.perf_counter,
    classes: np.ndarray | None = None,
) -> FitProbe | None:
    """Train copies on a few rows, without dropout and penalties, until they know them by heart or the time is over.

    Arguments:
        kind: ``classes``, ``binary``, ``numbers`` or ``loss``: how success is measured.
        threshold: output above which a binary answer is yes.
        classes: class of each row of the batch, where there are classes.
    """
    assert subject.y is not None
    rows = fit_rows(subject.x, subject.y, classes)
    if len(rows) < 4 or (kind == "numbers" and float(np.var(subject.y[rows].astype(np.float64))) == 0.0):
        return None
    begun = clock()
    best: FitProbe | None = None
    for number, rate in enumerate(FIT_RATES):
        until = min(deadline, clock() + (deadline - begun) / (len(FIT_RATES) - number))
        found = _learn(subject, rows, rate, kind, threshold, until, clock)
        if best is None or (found.decided, -found.error) > (best.decided, -best.error):
            best = found
        if best.error <= 0.05 or clock() > deadline:
            break
    assert best is not None
    tried = best.error <= 0.05 or number + 1 == len(FIT_RATES)
    return replace(best, decided=best.decided and tried)


def _learn(
    subject: Subject, rows: np.ndarray, rate: float, kind: str, threshold: float, deadline: float,
    clock: Callable[[], float],
) -> FitProbe:
    model = subject.undropped()
    for parameter in model.parameters():
        parameter.l1 = parameter.l2 = 0.0
    optimizer: Any = get_optimizer("adam")
    optimizer.learning_rate = rate
    optimizer.bind(model.parameters())
    inputs = subject.tensors(rows)
    y = np.asarray(subject.y)[rows]
    first = last = math.nan
    error, done = math.inf, 0
    for step in range(FIT_STEPS):
        updates = Updates()
        with surroundings(training=True, updates=updates, streams=Streams(subject.seed), grad=True, recorder=None):
            output = model(*inputs)
            total, weight = subject.loss.parts(y, output)
            value = subject.loss.mean(total, weight)
            optimizer.zero_grad()
            if not value.requires_grad:
                break
            value.backward(release=True)
            updates.commit()
            optimizer.step()
        done = step + 1
        if step % 10 == 0 or step == FIT_STEPS - 1:
            last = float(value.item())
            first = last if step == 0 else first
            error = _error(kind, y, np.asarray(output.numpy(), np.float64), first, last, threshold)
            known = error <= (0.0 if kind in ("classes", "binary") else 0.02)
            if not math.isfinite(last) or known or clock() > deadline:
                break
    if not math.isfinite(last):
        error = math.inf
    told = done == FIT_STEPS or not math.isfinite(last) or error <= 0.05
    return FitProbe(error, kind, len(rows), rate, done, first, last, told)


def _error(kind: str, y: np.ndarray, p: np.ndarray, first: float, last: float, threshold: float) -> float:
    if kind == "classes":
        truth = y.argmax(axis=-1) if y.ndim == p.ndim and y.shape[-1] > 1 else y.reshape(p.shape[:-1])
        return float((p.argmax(axis=-1) != truth).mean())
    if kind == "binary":
        return float(((p > threshold) != (y.reshape(p.shape) > 0.5)).mean())
    if kind == "numbers":
        wide = np.asarray(y, np.float64).reshape(p.shape)
        return float(((p - wide) ** 2).mean() / max(float(wide.var()), 1e-300))
    return last / first if first > 0 else math.inf


def probe_derivative(subject: Subject, functions: Sequence[str], most: int = 12) -> DerivativeProbe | None:
    """Compare the tape's derivative with differences, parameter by parameter, in float64 and inference mode."""
    model = subject.undropped()
    doubled(model)
    inputs = [subject.tensor(a[:4], dtype=np.float64) for a in subject.x]
    rng = np.random.Generator(np.random.Philox(23))
    weights: list[np.ndarray] = []

    def objective(grad: bool) -> Tensor:
        output = subject.run(model, inputs, training=False, grad=grad)
        if not weights:
            weights.append(rng.standard_normal(output.shape))
        with surroundings(grad=grad, recorder=None):
            return (output * subject.tensor(weights[0], dtype=np.float64)).sum()

    value = objective(True)
    if not value.requires_grad:
        return None
    value.backward()
    through = all(hands_through(node) for node in own_functions(value))
    worst: DerivativeProbe | None = None
    named = [(n, p) for n, p in model.named_parameters() if p.trainable and is_floating(p.dtype)]
    for name, parameter in named[:most]:
        gradient = np.zeros(parameter.shape) if parameter.grad is None else np.array(parameter.grad.numpy())
        start = np.array(parameter.numpy())
        move = rng.standard_normal(start.shape)
        step = 1e-5 * max(1.0, float(np.abs(start).mean())) / max(1.0, math.sqrt(move.size / 64))
        values = []
        for sign in (1.0, -1.0):
            parameter.assign(start + sign * step * move)
            values.append(float(objective(False).item()))
        parameter.assign(start)
        numeric, analytic = (values[0] - values[1]) / (2 * step), float((gradient * move).sum())
        size = max(float(np.sqrt((gradient**2).sum())), abs(numeric), 1e-6)
        error = abs(numeric - analytic) / size
        if worst is None or not error <= worst.error:
            worst = DerivativeProbe(error, name, analytic, numeric, tuple(functions), through)
    return worst


def range_test(
    subject: Subject, x: Sequence[np.ndarray], y: np.ndarray, optimizer: Any, *, batch_size: int = 32,
    lowest: float = 1e-6, highest: float = 10.0, steps: int = 80, deadline: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> RangeProbe:
    """Train a copy with a rate that grows exponentially, until the loss is four times its best (Smith, WACV 2017)
    or above where it began.

    Arguments:
        subject: gives the model and its loss; x, y: training data.
        optimizer: its kind and settings are used, not its states.
        lowest, highest: rates at the ends; steps: how many there are.
    """
    model = deepcopy(subject.model)
    mine: Any = type(optimizer)(**optimizer._settings)
    mine.clip_norm = optimizer.clip_norm
    mine.bind(model.parameters())
    rng = np.random.Generator(np.random.Philox(29))
    rates: list[float] = []
    losses: list[float] = []
    smooth, best, diverged = 0.0, math.inf, None
    order = rng.permutation(len(y))
    for step in range(steps):
        rate = lowest * (highest / lowest) ** (step / max(steps - 1, 1))
        mine.learning_rate = rate
        chosen = order[np.arange(step * batch_size, (step + 1) * batch_size) % len(order)]
        updates = Updates()
        own = Streams(subject.seed)
        own.begin(step)
        with surroundings(training=True, updates=updates, streams=own, grad=True, recorder=None):
            output = model(*[subject.tensor(a[chosen]) for a in x])
            total, weight = subject.loss.parts(y[chosen], output)
            value = subject.loss.mean(total, weight)
            mine.zero_grad()
            value.backward(release=True)
            updates.commit()
            mine.step()
        number = float(value.item())
        smooth = 0.9 * smooth + 0.1 * number
        corrected = smooth / (1.0 - 0.9 ** (step + 1))
        risen = corrected > 1.2 * (losses[0] if losses else math.inf) and corrected > 1.5 * best  # dead, not NaN
        if not math.isfinite(corrected) or (step > 5 and (corrected > 4.0 * best or risen)):
            diverged = rate
            break
        rates.append(rate)
        losses.append(corrected)
        best = min(best, corrected)
        if clock() > deadline:
            break
    chosen_rate = None
    if len(losses) > 8:
        slopes = np.gradient(np.array(losses), np.log(np.array(rates)))
        place = int(slopes[3:].argmin()) + 3
        if slopes[place] < 0:
            chosen_rate = rates[place]
    return RangeProbe(tuple(rates), tuple(losses), chosen_rate, diverged)
