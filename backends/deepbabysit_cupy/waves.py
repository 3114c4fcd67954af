"""The order of a captured step: which of its calls can share a launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deepbabysit.runtime.chains import extent
from deepbabysit_cupy.merging import Launch

WIDEST = 256  # blocks of a call that may share a launch: more of them fill the GPU alone
MOST_BLOCKS = 512  # of a merged launch
MOST_ARGUMENTS = 400  # 8 bytes each: a launch takes 4096
LONGEST = 24  # calls in a lane or a tail: one block does them, one after the other
LOOK_BACK = 24  # how many items a call may be moved up

Range = tuple[int, int]


def overlap(x: Range, y: Range) -> bool:
    """Tell whether two ranges of addresses share a byte."""
    return x[0] < y[1] and y[0] < x[1]


@dataclass(slots=True)
class Work:
    """A call of a recorded step: what it reads and writes, and its launch where it is a single one of our own.

    Attributes:
        call: as it was recorded.
        launch: its only launch, or None.
        reads, writes: ranges of addresses.
    """

    call: Any
    launch: Launch | None
    reads: list[Range]
    writes: list[Range]

    def before(self, other: Work) -> bool:
        """Tell whether the order of the two matters."""
        return any(overlap(a, b) for a in self.writes for b in (*other.reads, *other.writes)) or any(
            overlap(a, b) for a in self.reads for b in other.writes
        )

    def alike(self, other: Work) -> bool:
        """Tell whether each block of the other depends on no more than the block of this one with its number."""
        mine, theirs = self.launch, other.launch
        if mine is None or theirs is None or mine.rows is None or mine.rows != theirs.rows:
            return False
        # an array of so many rows that both use is cut alike
        pairs = [(a, b) for a in self.writes for b in (*other.reads, *other.writes)]
        pairs += [(a, b) for a in self.reads for b in other.writes]
        return all(a == b for a, b in pairs if overlap(a, b))

    @property
    def single(self) -> bool:
        """Whether one block does it."""
        return self.launch is not None and self.launch.blocks == 1


def work_of(call: Any, launches: Sequence[Launch | None], ticket: Any = None) -> Work:
    """Return what is known of a call.

    Arguments:
        call: as it was recorded.
        launches: those it made (None: something else than a launch of our own).
        ticket: the number that blocks count with; a merged launch has others.
    """
    _, outs, ins, scratch = call
    writes, reads = [extent(a) for a in (*outs, *scratch)], [extent(a) for a in ins]
    launch = launches[0] if len(launches) == 1 else None
    if launch is not None:
        known = [*reads, *writes]
        arrays = [a for a in launch.arguments if hasattr(a, "data") and hasattr(a.data, "ptr") and a is not ticket]
        pointers = [extent(a) for a in arrays]
        # a copy that was made on the way is nothing that two launches can share
        inside = all(any(a[0] <= p[0] and p[1] <= a[1] for a in known) for p in pointers)
        if not (inside and launch.mergeable and launch.blocks <= WIDEST):
            launch = None
    return Work(call, launch, reads, writes)


@dataclass(slots=True)
class Item:
    """What is launched together: lanes side by side, then a tail; or one call that stays by itself."""

    lanes: list[list[Work]]
    tail: list[Work] = field(default_factory=list)

    @property
    def works(self) -> list[Work]:
        """All its calls."""
        return [*[work for lane in self.lanes for work in lane], *self.tail]

    @property
    def alone(self) -> Work | None:
        """The only call, where it is one."""
        works = self.works
        return works[0] if len(works) == 1 else None

    def place(self, work: Work) -> list[Work] | None:
        """Return the list that a call can be appended to (a new lane is appended to the lanes), or None."""
        first, launch = self.lanes[0][0].launch, work.launch
        if first is None or launch is None or first.block != launch.block:
            return None
        works = self.works
        if sum(len(w.launch.arguments) for w in works if w.launch) + len(launch.arguments) > MOST_ARGUMENTS:
            return None
        if any(w.before(work) for w in self.tail):
            return self.tail if work.single and len(self.tail) < LONGEST else None
        needed = [lane for lane in self.lanes if any(w.before(work) for w in lane)]
        if not needed:
            blocks = sum(lane[0].launch.blocks for lane in self.lanes if lane[0].launch)
            if blocks + launch.blocks > MOST_BLOCKS:
                return None
            self.lanes.append([])
            return self.lanes[-1]
        if len(needed) == 1 and len(needed[0]) < LONGEST:
            lane = needed[0]
            if work.single and lane[0].single or all(w.alike(work) for w in lane if w.before(work)):
                return lane
        return self.tail if work.single and len(self.tail) < LONGEST else None


def arrange(works: Sequence[Work]) -> list[Item]:
    """Return calls in an order that keeps every dependence, with those together that can share a launch."""
    items: list[Item] = []
    for work in works:
        best: int | None = None
        if work.launch is not None:
            for index in range(len(items) - 1, max(-1, len(items) - 1 - LOOK_BACK), -1):
                item = items[index]
                lanes = len(item.lanes)
                if item.place(work) is not None:
                    best = index
                del item.lanes[lanes:]
                if any(w.before(work) for w in item.works):
                    break
        if best is None:
            items.append(Item([[work]]))
        else:
            place = items[best].place(work)
            assert place is not None
            place.append(work)
    return items


def again(items: Sequence[Item], works: Sequence[Work], times: int) -> list[Item]:
    """Return items of the first of several equal parts of the works, and those of the other parts in the same way."""
    count = len(works) // times

    def form(work: Work) -> Any:
        launch = work.launch
        return None if launch is None else (launch.text, launch.name, launch.grid, launch.block)

    if any(form(work) != form(works[number % count]) for number, work in enumerate(works)):
        return [Item([[work]]) for work in works]
    place = {id(work): number for number, work in enumerate(works[:count])}
    found = []
    for part in range(times):
        for item in items:
            *lanes, tail = [[works[place[id(w)] + part * count] for w in lane] for lane in (*item.lanes, item.tail)]
            found.append(Item(lanes, tail))
    return found
