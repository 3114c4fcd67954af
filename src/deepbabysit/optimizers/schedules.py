"""Schedules of the learning rate: pure functions of the number of updates done so far.

Step 0 is the first update. Where a habit counts epochs, multiply by `steps_per_epoch`. A schedule is given to an
optimizer in the place of the rate: ``Adam(db.schedules.cosine(1e-3, steps=10_000))``. Only `plateau` also depends on
what it was shown with `observe`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from deepbabysit.errors import module_names, spelled, unknown, unknown_keywords


def check_rate(value: Any, what: str = "the learning rate") -> float:
    """Return a rate as a float; refuse what is not a finite number of at least 0."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{what} is a number such as 1e-3, or a schedule; got {value!r}")
    rate = float(value)
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(f"{what} must be finite and not negative; got {rate}. Usual rates are 1e-4 to 1e-1")
    return rate


def _whole(value: Any, what: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{what} must be a whole number of at least {least}; got {value!r}")
    return int(value)


def _number(value: Any, what: str, low: float, high: float = math.inf, open_low: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{what} must be a number; got {value!r}")
    number = float(value)
    if not (low < number if open_low else low <= number) or not number <= high or not math.isfinite(number):
        bounds = f"{'above' if open_low else 'at least'} {low:g}"
        bounds += f" and at most {high:g}" if high < math.inf else ""
        raise ValueError(f"{what} must be {bounds}; got {value!r}")
    return number


class Schedule(ABC):
    """A learning rate as a function of the step: ``schedule(step)`` -> rate.

    Attributes:
        name: the name `get` understands.
        base: the nominal rate, to which the rates of parameter groups are relative.
        arguments: the constructor's arguments.
    """

    __slots__ = ("_arguments", "base", "inner", "memory")

    name: str

    def __init__(self, base: float, inner: Schedule | None = None, **arguments: Any) -> None:
        self.base = base
        self.inner = inner
        self.memory: dict[str, Any] = {}
        self._arguments = arguments

    @abstractmethod
    def rate(self, step: int) -> float:
        """Return the rate of the update number `step`, counted from 0."""

    @abstractmethod
    def react(self, value: float) -> None:
        """Take notice of a new value of the monitored metric."""

    def __call__(self, step: int) -> float:
        """Return the rate of the update number `step`, counted from 0."""
        if not isinstance(step, int | np.integer) or step < 0:
            raise ValueError(f"a step is a whole number of at least 0; got {step!r}")
        return self.rate(int(step))

    @property
    def listener(self) -> Plateau | None:
        """The part of this schedule that reacts to a metric, or None."""
        if isinstance(self, Plateau):
            return self
        return self.inner.listener if self.inner is not None else None

    def observe(self, value: float) -> bool:
        """Show the monitored metric to the part that reacts to it; tells whether there is one."""
        listener = self.listener
        if listener is not None:
            listener.react(float(value))
        return listener is not None

    def config(self) -> dict[str, Any]:
        """Return name and arguments as plain values (JSON); `get` makes the schedule again."""
        plain = {key: v.config() if isinstance(v, Schedule) else v for key, v in self._arguments.items()}
        return {"name": self.name, **plain}

    @property
    def savable(self) -> bool:
        """Whether `config` can be written into a file: not where a function computes the rate."""
        return not isinstance(self, Custom) and (self.inner is None or self.inner.savable)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned from observed metrics, as plain values."""
        listener = self.listener
        return {} if listener is None else dict(listener.memory)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        listener = self.listener
        if listener is not None:
            if set(state) != set(listener.memory):
                raise KeyError(f"the state of a plateau holds {sorted(listener.memory)}; got {sorted(state)}")
            listener.memory.update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(repr(self.config()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self._arguments.items())
        return f"{self.name}({inside})"


class _Blind(Schedule):
    """A schedule that depends on the step alone."""

    __slots__ = ()

    def react(self, value: float) -> None:
        """Do nothing: the rate follows from the step."""


@final
class Constant(_Blind):
    """The same rate at every step.

    Arguments:
        learning_rate: the rate.

    >>> from deepbabysit.optimizers import schedules
    >>> schedules.constant(0.1)(1000)
    0.1
    """

    __slots__ = ()
    name = "constant"

    @spelled
    def __init__(self, learning_rate: float) -> None:
        rate = check_rate(learning_rate)
        super().__init__(rate, learning_rate=rate)

    def rate(self, step: int) -> float:
        """Return the rate."""
        return self.base


@final
class Step(_Blind):
    """Multiply the rate by a factor after every so many steps: ``learning_rate * factor ** floor(step / every)``.

    He et al., CVPR 2016 (divided by 10 at intervals).

    Arguments:
        learning_rate: rate of the first steps.
        every: steps between two changes.
        factor: factor of each change, above 0.

    >>> from deepbabysit.optimizers import schedules
    >>> [schedules.step(1.0, every=10, factor=0.5)(n) for n in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    __slots__ = ("every", "factor")
    name = "step"

    @spelled
    def __init__(self, learning_rate: float, every: int, factor: float = 0.1) -> None:
        rate = check_rate(learning_rate)
        self.every = _whole(every, "step: every")
        self.factor = _number(factor, "step: factor", 0.0, open_low=True)
        super().__init__(rate, learning_rate=rate, every=self.every, factor=self.factor)

    def rate(self, step: int) -> float:
        """Return ``learning_rate * factor ** floor(step / every)``."""
        return self.base * math.pow(self.factor, step // self.every)


@final
class Exponential(_Blind):
    """Decay by a factor over every so many steps, smoothly: ``learning_rate * factor ** (step / every)``.

    Arguments:
        learning_rate: rate of the first step.
        factor: what is left of the rate after `every` steps, above 0.
        every: steps.

    >>> from deepbabysit.optimizers import schedules
    >>> [round(schedules.exponential(1.0, 0.25, every=10)(n), 3) for n in (0, 5, 10)]
    [1.0, 0.5, 0.25]
    """

    __slots__ = ("every", "factor")
    name = "exponential"

    @spelled
    def __init__(self, learning_rate: float, factor: float, every: int = 1) -> None:
        rate = check_rate(learning_rate)
        self.every = _whole(every, "exponential: every")
        self.factor = _number(factor, "exponential: factor", 0.0, open_low=True)
        super().__init__(rate, learning_rate=rate, factor=self.factor, every=self.every)

    def rate(self, step: int) -> float:
        """Return ``learning_rate * factor ** (step / every)``."""
        return self.base * math.pow(self.factor, step / self.every)


@final
class Cosine(_Blind):
    """Fall along half a cosine: ``minimum + (learning_rate - minimum) (1 + cos(pi t / T)) / 2``.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017. Without restarts the rate
    stays at `minimum` after `steps`; with them it starts again, each time `growth` times as long.

    Arguments:
        learning_rate: rate of the first step.
        steps: length ``T`` of the (first) fall.
        minimum: the lowest rate.
        restarts: whether to begin again.
        growth: factor on the length after each restart, at least 1.

    >>> from deepbabysit.optimizers import schedules
    >>> [round(schedules.cosine(1.0, steps=100)(n), 3) for n in (0, 50, 100, 500)]
    [1.0, 0.5, 0.0, 0.0]
    """

    __slots__ = ("growth", "minimum", "restarts", "steps")
    name = "cosine"

    @spelled
    def __init__(
        self, learning_rate: float, steps: int, minimum: float = 0.0, restarts: bool = False, growth: float = 1.0
    ) -> None:
        rate = check_rate(learning_rate)
        self.steps = _whole(steps, "cosine: steps")
        self.minimum = check_rate(minimum, "cosine: minimum")
        self.restarts = bool(restarts)
        self.growth = _number(growth, "cosine: growth", 1.0)
        if self.minimum > rate:
            raise ValueError(f"cosine: minimum {self.minimum} is above the learning rate {rate}")
        super().__init__(
            rate, learning_rate=rate, steps=self.steps, minimum=self.minimum, restarts=self.restarts,
            growth=self.growth,
        )

    def rate(self, step: int) -> float:
        """Return the rate on the cosine."""
        if step >= self.steps and not self.restarts:
            return self.minimum
        done, length = self._cycle(step)
        return self.minimum + (self.base - self.minimum) * 0.5 * (1.0 + math.cos(math.pi * done / length))

    def _cycle(self, step: int) -> tuple[float, float]:
        """Return how far the current fall is, and its length."""
        if self.growth == 1.0:
            return float(step % self.steps), float(self.steps)
        done, length = float(step), float(self.steps)
        while done >= length:
            done -= length
            length *= self.growth
        return done, length


@final
class Warmup(_Blind):
    """Rise linearly to `r`, the first rate of another schedule: ``start + (r - start) (step + 1) / (steps + 1)``.

    Goyal et al., "Accurate, large minibatch SGD", 2017. The first update already moves, and the rate arrives at `r`
    exactly at step `steps`, which is the other schedule's step 0.

    Arguments:
        after: the schedule that follows, or a rate.
        steps: length of the rise.
        start: the rate it rises from.

    >>> from deepbabysit.optimizers import schedules
    >>> [schedules.warmup(1.0, steps=3)(n) for n in (0, 1, 2, 3, 4)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    __slots__ = ("start", "steps")
    name = "warmup"

    @spelled
    def __init__(self, after: Any, steps: int, start: float = 0.0) -> None:
        following = get(after)
        self.steps = _whole(steps, "warmup: steps")
        self.start = check_rate(start, "warmup: start")
        super().__init__(following.base, following, after=following, steps=self.steps, start=self.start)

    def rate(self, step: int) -> float:
        """Return the rate of the rise, or what the other schedule says."""
        assert self.inner is not None
        if step >= self.steps:
            return self.inner.rate(step - self.steps)
        return self.start + (self.inner.rate(0) - self.start) * (step + 1) / (self.steps + 1)


@final
class OneCycle(_Blind):
    """One rise and one long fall, both along half a cosine, the fall ending far below the start.

    From ``learning_rate / divide_start`` to `learning_rate` in the first `rise` of the steps, then to
    ``learning_rate / (divide_start * divide_end)``. Smith and Topin, "Super-convergence", 2018; the points are those of
    PyTorch's ``OneCycleLR``.

    Arguments:
        learning_rate: the highest rate.
        steps: length of the whole cycle, at least 2; after it the last rate stays.
        rise: part of the steps that rises, above 0 and below 1.
        divide_start, divide_end: how far below the peak, and then below the start, the ends are.

    >>> from deepbabysit.optimizers import schedules
    >>> cycle = schedules.one_cycle(1.0, steps=100)
    >>> round(cycle(0), 9), cycle(29), round(cycle(99), 9)
    (0.04, 1.0, 4e-06)
    """

    __slots__ = ("divide_end", "divide_start", "rise", "steps")
    name = "one_cycle"

    @spelled
    def __init__(
        self,
        learning_rate: float,
        steps: int,
        rise: float = 0.3,
        divide_start: float = 25.0,
        divide_end: float = 1e4,
    ) -> None:
        rate = check_rate(learning_rate)
        self.steps = _whole(steps, "one_cycle: steps", 2)
        self.rise = _number(rise, "one_cycle: rise", 0.0, 1.0, open_low=True)
        if self.rise == 1.0:
            raise ValueError("one_cycle: rise must be below 1; a rise of 0.3 is usual")
        self.divide_start = _number(divide_start, "one_cycle: divide_start", 1.0)
        self.divide_end = _number(divide_end, "one_cycle: divide_end", 1.0)
        super().__init__(
            rate, learning_rate=rate, steps=self.steps, rise=self.rise, divide_start=self.divide_start,
            divide_end=self.divide_end,
        )

    def rate(self, step: int) -> float:
        """Return the rate on the rise or the fall."""
        first = self.base / self.divide_start
        last = first / self.divide_end
        peak, end = self.rise * self.steps - 1.0, self.steps - 1.0
        if step >= end:
            return last
        if peak > 0.0 and step <= peak:
            return _between(first, self.base, step / peak)
        start = max(peak, 0.0)  # a rise of less than one step is no rise
        return _between(self.base, last, (step - start) / (end - start))


def _between(start: float, end: float, part: float) -> float:
    """Go from start to end along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * part))


@final
class Piecewise(_Blind):
    """One rate after another: ``rates[i]`` from step ``boundaries[i - 1]`` on.

    Arguments:
        boundaries: steps at which the rate changes, rising.
        rates: one rate more than boundaries.

    >>> from deepbabysit.optimizers import schedules
    >>> [schedules.piecewise([10, 20], [0.1, 0.01, 0.001])(n) for n in (9, 10, 20)]
    [0.1, 0.01, 0.001]
    """

    __slots__ = ("boundaries", "rates")
    name = "piecewise"

    @spelled
    def __init__(self, boundaries: Sequence[int], rates: Sequence[float]) -> None:
        self.boundaries = [_whole(b, "piecewise: a boundary") for b in boundaries]
        self.rates = [check_rate(r, "piecewise: a rate") for r in rates]
        if len(self.rates) != len(self.boundaries) + 1:
            raise ValueError(
                f"piecewise needs one rate more than boundaries; got {len(self.boundaries)} boundaries and "
                f"{len(self.rates)} rates"
            )
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"piecewise: boundaries must rise; got {self.boundaries}")
        super().__init__(self.rates[0], boundaries=self.boundaries, rates=self.rates)

    def rate(self, step: int) -> float:
        """Return the rate of the part that the step lies in."""
        import bisect

        return self.rates[bisect.bisect_right(self.boundaries, step)]


@final
class Plateau(Schedule):
    """Lower the rate when a metric has stopped getting better: ``rate = max(min_rate, rate * factor)``.

    After `patience` observations in a row that are not better than the best one by `min_delta`; then `cooldown`
    observations are not counted (PyTorch's cooldown; Keras counts the last of them). Otherwise as Keras'
    ``ReduceLROnPlateau``.

    Arguments:
        learning_rate: the rate at the start.
        factor: factor of each change, above 0 and below 1.
        patience: observations (usually epochs) without progress before a change.
        min_rate: the lowest rate.
        cooldown: observations after a change that are not counted.
        mode: ``"min"`` where smaller is better, ``"max"`` where larger is.
        min_delta: the least change that counts as better.
        monitor: name of the metric that ``fit`` shows after each epoch.

    >>> from deepbabysit.optimizers import schedules
    >>> plateau = schedules.plateau(0.1, factor=0.5, patience=2)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     _ = plateau.observe(loss)
    >>> plateau(0)
    0.05
    """

    __slots__ = ("cooldown", "factor", "min_delta", "min_rate", "mode", "monitor", "patience")
    name = "plateau"

    @spelled
    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.1,
        patience: int = 10,
        min_rate: float = 0.0,
        cooldown: int = 0,
        mode: str = "min",
        min_delta: float = 1e-4,
        monitor: str = "val_loss",
    ) -> None:
        rate = check_rate(learning_rate)
        self.factor = _number(factor, "plateau: factor", 0.0, open_low=True)
        if self.factor >= 1.0:
            raise ValueError(f"plateau: factor must be below 1, or the rate does not fall; got {factor}")
        self.patience = _whole(patience, "plateau: patience")
        self.min_rate = check_rate(min_rate, "plateau: min_rate")
        self.cooldown = _whole(cooldown, "plateau: cooldown", 0)
        if mode not in ("min", "max"):
            raise ValueError(f"plateau: {unknown('mode', mode, ('min', 'max'))}")
        self.mode = mode
        self.min_delta = _number(min_delta, "plateau: min_delta", 0.0)
        self.monitor = monitor
        super().__init__(
            rate, learning_rate=rate, factor=self.factor, patience=self.patience, min_rate=self.min_rate,
            cooldown=self.cooldown, mode=mode, min_delta=self.min_delta, monitor=monitor,
        )
        self.memory.update(rate=rate, best=None, wait=0, resting=0)

    def rate(self, step: int) -> float:
        """Return the rate as the observations have left it."""
        return float(self.memory["rate"])

    def react(self, value: float) -> None:
        """Count an observation; a value that is not a number is no progress."""
        memory = self.memory
        best = memory["best"]
        gain = None if best is None else (best - value if self.mode == "min" else value - best)
        resting = memory["resting"] > 0
        memory["resting"] = max(memory["resting"] - 1, 0)
        if not math.isnan(value) and (gain is None or gain > self.min_delta):
            memory["best"] = value
            memory["wait"] = 0
        elif not resting:
            memory["wait"] += 1
            if memory["wait"] >= self.patience:
                memory["rate"] = min(memory["rate"], max(self.min_rate, memory["rate"] * self.factor))
                memory["resting"] = self.cooldown
                memory["wait"] = 0


@final
class Custom(_Blind):
    """A rate computed by a function of the step; it cannot be written into a file (`savable`).

    Arguments:
        function: ``function(step)`` -> rate.
    """

    __slots__ = ("function",)
    name = "custom"

    @spelled
    def __init__(self, function: Callable[[int], float]) -> None:
        self.function = function
        super().__init__(check_rate(function(0), "the rate that the function gives at step 0"), function=function)

    def rate(self, step: int) -> float:
        """Return what the function says."""
        return check_rate(self.function(step), f"the rate that the function gives at step {step}")


constant, step, exponential, cosine = Constant, Step, Exponential, Cosine
warmup, one_cycle, piecewise, plateau = Warmup, OneCycle, Piecewise, Plateau

NAMES: dict[str, type[Schedule]] = {
    kind.name: kind for kind in (Constant, Step, Exponential, Cosine, Warmup, OneCycle, Piecewise, Plateau)
}


def get(schedule: Any, **arguments: Any) -> Schedule:
    """Return a schedule.

    Arguments:
        schedule: a rate, a Schedule, a name with its arguments, what `config` returned, or a function of the step.
        arguments: arguments of a name.

    Raises:
        ValueError: the name is unknown, or a rate is negative or not finite.
        TypeError: it is nothing of that kind, or arguments are missing.

    >>> from deepbabysit.optimizers import schedules
    >>> schedules.get("cosine", learning_rate=0.1, steps=100)(50)
    0.05
    >>> schedules.get(0.5)
    constant(learning_rate=0.5)
    """
    if isinstance(schedule, Schedule):
        _no_arguments(arguments)
        return schedule
    if isinstance(schedule, Mapping):
        settings = {**schedule, **arguments}
        if not isinstance(settings.get("name"), str):
            raise TypeError(f"the description of a schedule needs its name; got {dict(schedule)!r}")
        return get(settings.pop("name"), **settings)
    if isinstance(schedule, str):
        kind = NAMES.get(schedule)
        if kind is None:
            raise ValueError(f"{unknown('schedule', schedule, NAMES)}; a fixed rate is a number, such as 1e-3")
        return _make(kind, arguments)
    _no_arguments(arguments)
    if callable(schedule):
        return Custom(schedule)
    return Constant(schedule)


def _no_arguments(arguments: dict[str, Any]) -> None:
    if arguments:
        raise TypeError(f"arguments {sorted(arguments)} go with the name of a schedule: get('cosine', steps=100)")


def _make(kind: type[Schedule], arguments: dict[str, Any]) -> Schedule:
    import inspect

    parameters = inspect.signature(kind).parameters
    foreign = [name for name in arguments if name not in parameters]
    if foreign:
        raise TypeError(unknown_keywords(f"the schedule {kind.name!r}", foreign, parameters))
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise TypeError(
            f"the schedule {kind.name!r} needs {', '.join(missing)}; for example "
            f"db.schedules.{kind.name}({', '.join(f'{name}=...' for name in missing)})"
        )
    return kind(**arguments)


def steps_per_epoch(samples: int, batch_size: int, accumulate: int = 1) -> int:
    """Return the number of updates in one epoch: ``ceil(ceil(samples / batch_size) / accumulate)``.

    >>> from deepbabysit.optimizers import schedules
    >>> schedules.steps_per_epoch(1000, 64), schedules.steps_per_epoch(1000, 64, accumulate=4)
    (16, 4)
    """
    for what, value in (("samples", samples), ("batch_size", batch_size), ("accumulate", accumulate)):
        _whole(value, f"steps_per_epoch: {what}")
    batches = -(-samples // batch_size)
    return -(-batches // accumulate)


__getattr__ = module_names("db.schedules", "schedule", [*NAMES, *(kind.__name__ for kind in NAMES.values())])
