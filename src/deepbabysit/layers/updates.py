"""Training mode, and the states that layers leave in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deepbabysit.autograd.parameter import State
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.subnormals import flushed


class Updates:
    """New states that layers leave during a step; `commit` writes them, once, if the step is accepted."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[int, tuple[State, Tensor]] = {}

    def leave(self, state: State, value: Tensor) -> None:
        """Leave a new value; the last one of a step counts."""
        self._pending[id(state)] = (state, value)

    def latest(self, state: State) -> Tensor:
        """Return the value left in this step, or the state itself: a second call continues from the first."""
        found = self._pending.get(id(state))
        return state if found is None else found[1]

    def commit(self, accepted: Tensor | None = None) -> None:
        """Write every new value into its state's memory; with `accepted` only where that is true."""
        for state, value in self._pending.values():
            if accepted is not None:
                value = apply(SPECS["where"], (accepted, value, state))
            state.assign(value, "the state update at the end of a step")
        self._pending.clear()


@contextmanager
def training() -> Iterator[None]:
    """Run layers in training mode: dropout drops, batch normalization uses the batch and updates its statistics.

    The new statistics are kept when the block ends without an exception.

    >>> import deepbabysit as db
    >>> layer = db.layers.Dropout(0.5)
    >>> x = db.tensor([[1.0, 1.0, 1.0, 1.0]])
    >>> layer(x).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    >>> with db.training():
    ...     sorted(set(layer(x).tolist()[0])) in ([0.0], [2.0], [0.0, 2.0])
    True
    """
    updates = Updates()
    with flushed(), surroundings(training=True, updates=updates):
        yield
    updates.commit()
