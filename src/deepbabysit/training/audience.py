"""Who hears of the steps of a run, and when the next of them wants to: steps that nobody hears of cost a comparison."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepbabysit.training.events import LazyLogs, Listener, StepInfo


class Audience:
    """The listeners of a run that hear of steps.

    Arguments:
        listeners: of the run.
        names: what the logs of a step hold.

    Attributes:
        hearing: those that hear of steps.
        wake: the step of the trainer at which the first of them wants to hear, as `ask` found it.
    """

    def __init__(self, listeners: Sequence[Listener], names: Sequence[str]) -> None:
        self._names = names
        self._starters = [li for li in listeners if type(li).step_begin is not Listener.step_begin]
        self._enders = [li for li in listeners if type(li).step_end is not Listener.step_end]
        self.hearing = [*self._starters, *self._enders]
        self.wake = 0

    def ask(self) -> None:
        """Ask all when they want to hear next."""
        self.wake = min([listener.wake for listener in self.hearing], default=sys.maxsize)

    def begin(self, epoch: int, step: int, now: int) -> None:
        """Announce a step of the epoch, number `now` of the trainer."""
        for listener in self._starters:
            if listener.wake <= now:
                listener.step_begin(epoch, step)

    def end(
        self, epoch: int, step: int, now: int, samples: int, read: Callable[[], Mapping[str, Any]],
        batches: Sequence[Any], alarmed: bool,
    ) -> None:
        """Report a step; `read` gives its numbers, and those that sleep are woken where it is `alarmed`."""
        info = StepInfo(epoch, step, now + 1, samples, LazyLogs(self._names, read), batches)
        for listener in self._enders:
            if alarmed or listener.wake <= now:
                listener.step_end(info)
        self.ask()
