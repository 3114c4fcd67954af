"""Which steps are measured: the first ones densely, later as often as the measured cost allows."""

from __future__ import annotations

DENSE = (0, 1, 2, 4, 8, 16)
ALWAYS = 3  # so many of them are measured whatever it costs
GOAL = 0.007  # share of the time that passes which measuring may take
AHEAD = 0.002  # share of the whole planned run that may be spent beside that, a part of it at once
AT_ONCE = 0.4  # that part
LEAST = 0.002  # seconds that every run may spend, but no more than `SHORT` of it
SHORT = 0.05
GROWTH = 1.3  # early on, each measured step is at least this factor later than the one before
STRIDE = 48  # steps between two looks at the clock and the losses, until the length of a step is known
NEAR, FAR = 16, 4000  # as many at least, at most
LOOKS = 0.1  # seconds between two looks
TOGETHER = 1.0  # measuring, and asking at the ends of epochs, take `GOAL` so many times together


class Agenda:
    """Decides which steps are measured, from what measuring has cost so far.

    Arguments:
        planned: steps of the whole run, or None where nobody knows.
        every: measure every so many steps instead, whatever it costs; runs are then watched alike on every machine.

    Attributes:
        usual: seconds of a step that is not measured, as far as that is known.
        spent: seconds that watching took; `elapsed` what the run took so far; `measured` how many steps were.
    """

    def __init__(self, planned: int | None, every: int | None = None) -> None:
        self._planned = planned
        self._every = every
        self._last = 0
        self._one = 0.0
        self.usual: float | None = None
        self.spent = 0.0
        self.elapsed = 0.0
        self.measured = 0

    def next(self, step: int) -> int:
        """Return the first step from this one on at which `due` is to be asked."""
        if self._every is not None:
            return step if step < min(self._every, 3) else min(-(-step // self._every) * self._every, step + STRIDE - 1)
        stride = STRIDE if self.usual is None else int(min(max(LOOKS / max(self.usual, 1e-9), NEAR), FAR))
        return next((s for s in DENSE if s >= step), step + stride - 1)

    def due(self, step: int, wanted: bool = False) -> bool:
        """Tell whether a step is measured; `wanted` ones (the last of an epoch) go before others."""
        if self._every is not None:
            return step % self._every == 0 or step < min(self._every, 3)
        if step in DENSE[:ALWAYS]:
            return True
        whole = (self._planned or 0) * (self._one if self.usual is None else self.usual)
        extra = max(AHEAD * whole, min(LEAST, SHORT * whole))
        allowed = GOAL * self.elapsed + extra * (AT_ONCE + (1.0 - AT_ONCE) * step / max(self._planned or 1, 1))
        if self.spent + self._one > allowed:
            return False
        if step in DENSE or wanted or step >= GROWTH * self._last:
            return True
        return self.spent + self._one <= GOAL * self.elapsed

    def spare(self, seconds: float) -> bool:
        """Tell whether so much may be spent beside the steps."""
        return self._every is not None or self.spent + seconds <= TOGETHER * GOAL * self.elapsed

    def far(self, steps: int) -> bool:
        """Tell whether so many steps take so long that a look at their end costs nothing."""
        return steps >= STRIDE if self.usual is None else steps * self.usual >= LOOKS

    def passed(self, steps: int, seconds: float) -> None:
        """Take note of steps that were not measured."""
        if steps > 0:
            one = seconds / steps
            # the first steps build what later ones use: down at once, up by and by
            self.usual = one if self.usual is None else min(self.usual * 1.05, 0.8 * self.usual + 0.2 * one, one)
            self.elapsed += seconds

    def took(self, step: int, seconds: float) -> None:
        """Take note of a measured step: its whole duration, everything that came with measuring included."""
        cost = max(seconds - (self.usual or 0.0), 0.0)
        if step > 1:  # the first step builds everything, the second one is recorded
            self.spent += cost
            self._one = cost if not self._one else 0.7 * self._one + 0.3 * cost
        self.measured += 1
        self._last = step
        self.elapsed += seconds

    def beside(self, seconds: float) -> None:
        """Take note of time that watching took between steps."""
        self.spent += seconds
        self.elapsed += seconds
