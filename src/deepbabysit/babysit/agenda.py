"""Which steps are measured: the first ones densely, later as often as the measured cost allows."""

from __future__ import annotations

DENSE = (0, 1, 2, 4, 8, 16)
GOAL = 0.01  # share of the time that passes which measuring may take
AHEAD = 0.015  # share of the whole planned run that may be spent beside that, a part of it at once
AT_ONCE = 0.4  # that part
LEAST = 0.05  # seconds that every run may spend, but no more than `SHORT` of it
SHORT = 0.1
GROWTH = 1.3  # early on, each measured step is at least this factor later than the one before


class Agenda:
    """Decides before each step whether it is measured, from what measuring has cost so far.

    Arguments:
        planned: steps of the whole run, or None where nobody knows.
        every: measure every so many steps instead, whatever it costs; runs are then watched alike on every machine.
    """

    def __init__(self, planned: int | None, every: int | None = None) -> None:
        self._planned = planned
        self._every = every
        self._usual: float | None = None
        self._elapsed = 0.0
        self.spent = 0.0
        self.steps = 0
        self.measured = 0
        self._last = 0
        self._one = 0.0

    def due(self, wanted: bool = False) -> bool:
        """Tell whether the next step is measured; `wanted` ones (the last of an epoch) go before others."""
        step = self.steps
        if self._every is not None:
            return step % self._every == 0 or step < min(self._every, 3)
        if step in DENSE[:3]:
            return True
        usual = self._usual if self._usual is not None else self._one
        whole = (self._planned or 0) * usual
        extra = max(AHEAD * whole, min(LEAST, SHORT * whole))
        allowed = GOAL * self._elapsed + extra * (AT_ONCE + (1.0 - AT_ONCE) * step / max(self._planned or 1, 1))
        if self.spent + self._one > allowed:
            return False
        if step in DENSE or wanted:
            return True
        late = step >= GROWTH * self._last
        return late or self.spent + self._one <= GOAL * self._elapsed

    def usual(self, seconds: float) -> float:
        """Return how long a step takes that is not measured, as far as that is known."""
        return seconds if self._usual is None else min(self._usual, seconds)

    def step(self, seconds: float, measured: bool, extra: float = 0.0) -> None:
        """Take note of a step: its duration, whether it was measured, what was spent beside it."""
        if measured:
            cost = max(seconds - (self._usual or 0.0), 0.0) + extra
            if self.steps:  # the first step builds everything
                self.spent += cost
                self._one = cost if not self._one else 0.7 * self._one + 0.3 * cost
            self.measured += 1
            self._last = self.steps
        else:
            self._usual = seconds if self._usual is None else min(self._usual * 1.02, 0.9 * self._usual + 0.1 * seconds)
            self.spent += extra
        self._elapsed += seconds + extra
        self.steps += 1
