"""What holds here and now: one context variable with everything an operation has to know about its surroundings.

Threads and asynchronous tasks each have their own; a recorder therefore sees its own thread only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepbabysit.runtime.device import Device
    from deepbabysit.runtime.random import Streams
    from deepbabysit.runtime.record import Recorder


class Mode:
    """The surroundings of an operation; never changed, only replaced.

    Attributes:
        grad: whether operations are put on the tape.
        training: whether layers behave as in training (dropout, batch statistics); None where nobody has said.
        recorder: who writes down every kernel call, or None.
        device: where new tensors are made, or None for the CPU.
        streams: the random streams in force, or None for the thread's own.
        scope: path of the layer that is running, for messages and random streams.
        strict: whether running a reference instead of a kernel is an error.
        updates: where layers leave their new state, or None outside of training.
        deterministic: whether an operation without a deterministic path is an error.
        tap: ``tap(layer, output)`` is shown what every layer computes, or None; its ``entering(layer, inputs)``, where
            it has one, is shown what the outermost layer is called with.
        stand_ins: ``id(parameter)`` -> the tensor that is computed with in its place (a copy in half precision), or
            None.
        tune: whether a backend may choose by timing.
    """

    __slots__ = (
        "deterministic", "device", "grad", "recorder", "scope", "stand_ins", "streams", "strict", "tap", "training",
        "tune", "updates",
    )

    def __init__(
        self,
        grad: bool = True,
        training: bool | None = None,
        recorder: Recorder | None = None,
        device: Device | None = None,
        streams: Streams | None = None,
        scope: str = "",
        strict: bool = False,
        updates: Any = None,
        deterministic: bool = False,
        tap: Any = None,
        stand_ins: Any = None,
        tune: bool = False,
    ) -> None:
        self.grad = grad
        self.training = training
        self.recorder = recorder
        self.device = device
        self.streams = streams
        self.scope = scope
        self.strict = strict
        self.updates = updates
        self.deterministic = deterministic
        self.tap = tap
        self.stand_ins = stand_ins
        self.tune = tune

    def scoped(self, scope: str, training: bool, updates: Any) -> Mode:
        """Return the same surroundings inside a layer (what `but` does, without its cost)."""
        return Mode(
            self.grad, training, self.recorder, self.device, self.streams, scope, self.strict, updates,
            self.deterministic, self.tap, self.stand_ins, self.tune,
        )

    def but(self, **changes: Any) -> Mode:
        """Return the same surroundings with some of them changed."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values.update(changes)
        return Mode(**values)


_MODE: ContextVar[Mode] = ContextVar("deepbabysit_mode", default=Mode())  # noqa: B039  (a Mode never changes)
current = _MODE.get


enter = _MODE.set
leave = _MODE.reset


@contextmanager
def surroundings(**changes: Any) -> Iterator[Mode]:
    """Change the surroundings for the duration of a block."""
    token = _MODE.set(current().but(**changes))
    try:
        yield _MODE.get()
    finally:
        _MODE.reset(token)


def set_surroundings(**changes: Any) -> None:
    """Change the surroundings from here on (in this thread)."""
    _MODE.set(current().but(**changes))


class no_grad:  # noqa: N801  (the field's name)
    """Do not put operations on the tape: ``with no_grad():`` or as a decorator.

    >>> import deepbabysit as db
    >>> x = db.tensor([1.0, 2.0], requires_grad=True)
    >>> with db.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        self._tokens.append(_MODE.set(current().but(grad=False)))

    def __exit__(self, *_: object) -> None:
        _MODE.reset(self._tokens.pop())

    def __call__(self, function: Any) -> Any:
        """Decorate a function: it runs without recording."""
        import functools

        @functools.wraps(function)
        def without(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return without


@contextmanager
def strict() -> Iterator[None]:
    """Make it an error when an operation has no kernel and would run its reference (benchmarks run so)."""
    with surroundings(strict=True):
        yield


class Version:
    """Counts every change of a setting that a recorded step depends on (rates, modes, freezing)."""

    def __init__(self) -> None:
        self.count = 0

    def bump(self) -> None:
        """Say that a setting changed: recordings made before are not replayed any more."""
        self.count += 1


CONFIGURATION = Version()
