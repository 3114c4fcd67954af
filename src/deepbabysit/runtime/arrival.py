"""Arrays on their way from a device to the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import numpy as np


class Arrival(ABC):
    """Values of arrays as they were when they were asked for."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether `values` returns at once."""

    @abstractmethod
    def values(self) -> list[np.ndarray]:
        """Return the values; waits until they are there."""


@final
class Arrived(Arrival):
    """Values that are there already.

    Arguments:
        values: on the host these are the arrays themselves: whoever looks later finds what stands there then.
    """

    ready = True

    def __init__(self, values: Sequence[np.ndarray]) -> None:
        self._values = list(values)

    def values(self) -> list[np.ndarray]:
        """Return the values."""
        return self._values
