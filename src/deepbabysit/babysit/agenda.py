"""Which steps are measured, and after which epochs the rules are asked: decided in steps and epochs, not by the clock.

What is seen must not depend on how fast a machine is, or how busy. The first steps and every power of four are always
looked at, whatever that costs; between them steps that a power of four divides. Which one follows from how much longer
a look takes than a step (the least of several, so that other work on the machine hardly counts): a slower
machine sees some of the steps that a faster one sees, and no others. Epochs are asked about alike.
"""

from __future__ import annotations

import math

FIRST = 3  # so many steps at the start are looked at, then those that are powers of `COARSE`
SETTLED = 64  # steps after which lengths are known: steps are recorded, and what repeats them is built
GOAL = 0.002  # share of the time that looks beside those take if each costs the least
ASKING = 0.001  # the same of asking about epochs
COARSE = 4  # strides are powers of this
APART = 2.0  # the end of an epoch is looked at where so many times as many steps are done as at the last look
NEAR, FAR = 16, 4000  # steps between two looks at least; between two looks at the clock and the losses at most
LOOKS = 0.1  # seconds between these
STRIDE = 48  # steps between them, until the length of a step is known


class Agenda:
    """Decides which steps are measured.

    Arguments:
        every: measure every so many steps beside the first ones and powers of four, whatever it costs, and ask about
            every epoch; None takes what costs little.

    Attributes:
        usual: seconds of a step that is not measured, as far as that is known.
        stride: steps between two looks, epochs between two questions; None until what they cost is known.
        measured: how many steps were.
    """

    def __init__(self, every: int | None = None) -> None:
        self._every = every
        self.stride = every
        self.usual: float | None = None
        self.measured = 0
        self._look = self._asking = math.inf
        self._last = 0
        self._epochs = None if every is None else 1

    def next(self, step: int) -> int:
        """Return the first step from this one on that is measured, or at which clock and losses are looked at."""
        stride = STRIDE
        if self._every is None and self.usual is not None:
            stride = int(min(max(LOOKS / max(self.usual, 1e-9), NEAR), FAR))
        due = step if _early(step) else COARSE ** -(-(step - 1).bit_length() // 2)
        if self.stride is not None:
            due = min(due, -(-step // self.stride) * self.stride)
        return min(due, step + stride - 1)

    def due(self, step: int) -> bool:
        """Tell whether a step is measured."""
        return _early(step) or (self.stride is not None and step % self.stride == 0)

    def asks(self, epoch: int) -> bool:
        """Tell whether the rules are asked after so many epochs."""
        return _early(epoch) or (self._epochs is not None and not epoch % self._epochs)

    def ends(self, epoch: int, first: int, last: int) -> bool:
        """Tell whether the last step of an epoch is measured; the first look after it may be far away.

        Arguments:
            epoch: its number, from 1.
            first, last: its steps.
        """
        if self._every is not None or last < max(APART * self._last, NEAR) or not self.asks(epoch):
            return False
        return _early(epoch) or (self.stride is not None and last - first >= self.stride)

    def passed(self, steps: int, seconds: float) -> None:
        """Take note of steps that were not measured."""
        if steps > 0:
            self.usual = min(self.usual or math.inf, seconds / steps)

    def took(self, step: int, seconds: float) -> None:
        """Take note of a measured step: its whole duration, everything that came with measuring included."""
        self.measured += 1
        self._last = step
        if step >= SETTLED // 2:  # looks close to each other find everything in the processor's caches
            self._look = min(self._look, seconds)
        if self._every is None and step >= SETTLED and _early(step) and self.usual:
            self.stride = _coarse((self._look / self.usual - 1.0) / GOAL, NEAR)

    def asked(self, epoch: int, steps: int, seconds: float) -> None:
        """Take note of how long the rules took after so many epochs and steps."""
        if self._every is None and steps >= SETTLED and self.usual and _early(epoch):
            self._asking = min(self._asking, seconds)
            self._epochs = _coarse(self._asking * epoch / (self.usual * steps * ASKING), 1)


def _early(number: int) -> bool:
    """Tell whether a step or an epoch is looked at whatever that costs: the first ones, and powers of `COARSE`.

    >>> [n for n in range(300) if _early(n)]
    [0, 1, 2, 4, 16, 64, 256]
    """
    return number < FIRST or (not number & (number - 1) and number.bit_length() % 2 == 1)


def _coarse(number: float, least: int) -> int:
    """Return the power of `COARSE` that is nearest to so many steps or epochs.

    >>> _coarse(50.0, 16), _coarse(1000.0, 16), _coarse(10000.0, 16)
    (64, 1024, 16384)
    """
    return max(least, COARSE ** round(math.log(max(number, 1.0), COARSE)))
