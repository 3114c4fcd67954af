"""Where the buffers of a recorded step lie: lifetimes are known, so one block of memory is laid out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 256  # bytes, as the allocator of the driver
SMALL = 16384  # bytes; smaller buffers get a place of their own, so that no order is forced where little is gained


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer of a recorded step.

    Attributes:
        size: in bytes.
        first, last: numbers of the first and the last call that touch it.
    """

    size: int
    first: int
    last: int


def lay_out(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Return where each buffer begins and how many bytes are needed: no two that live at once overlap.

    The largest are placed first, each at the lowest place that is free for its whole life.

    >>> lay_out([Buffer(1 << 20, 0, 1), Buffer(1 << 20, 1, 2), Buffer(1 << 20, 2, 3)])
    ([0, 1048576, 0], 2097152)
    """
    places = [0] * len(buffers)
    end = 0
    placed: list[tuple[int, int, Buffer]] = []
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first))
    for index in order:
        buffer = buffers[index]
        size = -(-buffer.size // ALIGNMENT) * ALIGNMENT
        place = 0
        if buffer.size < SMALL:
            place = end
        else:
            for begin, stop, other in placed:  # by where they begin
                if other.last < buffer.first or buffer.last < other.first or stop <= place:
                    continue
                if begin >= place + size:
                    break
                place = stop
        places[index] = place
        end = max(end, place + size)
        if buffer.size >= SMALL:
            entry = (place, place + size, buffer)
            spot = len(placed)
            while spot and placed[spot - 1][0] > place:
                spot -= 1
            placed.insert(spot, entry)
    return places, end
