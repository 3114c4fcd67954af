"""How long a hand-written loop waits for its batches, and whether it is batches that it waits for."""

from __future__ import annotations

import math
import sys
import threading
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from inspect import CO_GENERATOR
from time import perf_counter
from types import CodeType, FrameType
from typing import final

STALLS = 3  # so many of the longest waits may be anything: a lid that was shut, a machine that had other things to do
ASKED = 1.0  # seconds of waiting after which the rules are asked for the first time
SUSPECT, PART = 0.2, 0.1  # seconds of waiting, and part of all time, after which it is looked where the loop stands
EVERY, ENOUGH = 0.01, 1000  # seconds between two looks at where the loop stands, and how many there are at most
FEW = 8  # so few looks tell nothing: all waiting is for batches then
GIVERS = ("__next__", "__iter__", "__getitem__", "__getitems__")


@final
class Waiting:
    """Measures the time between steps, and how much of it is spent on getting the next batch.

    What a loop does between the report of a step and the next forward pass may be anything: a log, a checkpoint, a
    batch that is read. Where it takes long, a thread looks now and then at which line the loop stands. Lines of the
    innermost loop before that of the step, iterators and generators give batches; so does what is called outside of
    that loop before it, if its result is kept. All that comes after the step is no waiting.

    Attributes:
        begun: when the first forward pass of the step began; 0 before.
    """

    def __init__(self) -> None:
        self.begun = 0.0
        self._mark = perf_counter()
        self._waiting = self._working = 0.0
        self._longest = [0.0] * STALLS
        self._again = ASKED
        self._number = 0
        self._witness: _Witness | None = None

    def rest(self, caller: FrameType | None) -> None:
        """Begin to wait for the next step; `caller`: what reported the one that is done."""
        self.begun = 0.0
        if self._witness is not None and self._witness.is_alive():
            self._witness.stand(caller)
        self._mark = perf_counter()

    def enter(self) -> None:
        """Take note that a step's forward pass begins."""
        if not self.begun:
            self.begun = perf_counter()
            if self._witness is not None:
                self._witness.on = False

    def away(self, gone: bool) -> None:
        """Take note that an evaluation begins, or ends: until its end nothing is known of the time."""
        self._mark = math.inf if gone else perf_counter()
        if self._witness is not None:
            self._witness.on = not gone and not self.begun

    def step(self, number: int, now: float) -> bool:
        """Add up the seconds before and after the forward pass began; returns whether the rules should be asked.

        Those before the first step of all do not count: a file is opened there, or a cache filled.
        """
        if not self.begun or not number:
            return False
        waited = self.begun - self._mark
        if waited > 0.0:
            self._waiting += waited
            if waited > self._longest[0]:
                self._longest = sorted([*self._longest, waited])[1:]
        self._working += now - self.begun
        self._number = number
        known = self._waiting - sum(self._longest) if self._waiting > SUSPECT else 0.0
        if known < SUSPECT:
            return False
        if self._witness is None and known > PART * (known + self._working):
            self._witness = _Witness()
            self._witness.start()
        if self._share * known < self._again:
            return False
        self._again = 2.0 * self._share * known
        return True

    @property
    def _share(self) -> float:
        return 1.0 if self._witness is None else self._witness.share

    def seen(self) -> dict[str, float]:
        """Return the seconds of waiting, of work, and of what was done between two steps; and the last step."""
        known, share = max(self._waiting - sum(self._longest), 0.0), self._share
        return {
            "waiting": share * known, "working": self._working, "apart": (1.0 - share) * known, "step": self._number,
        }

    def end(self) -> None:
        """Look no more."""
        if self._witness is not None:
            self._witness.over.set()


@dataclass(slots=True)
class Standing:
    """Where the functions stand that a step was reported from; no frame is kept alive for it.

    Attributes:
        places: code, line and instruction, and whether it holds the frame of `loop`, by the frame's id.
        loop: id of the innermost frame that holds a loop around its place.
    """

    places: dict[int, tuple[CodeType, int, int, bool]]
    loop: int = 0

    @classmethod
    def of(cls, caller: FrameType | None) -> Standing:
        """Return where a function and all that called it stand."""
        found = cls({})
        while caller is not None:
            code, place = caller.f_code, caller.f_lasti
            found.places[id(caller)] = code, caller.f_lineno or 0, place, bool(found.loop)
            if not found.loop and _around(code, place) is not None:
                found.loop = id(caller)
            caller = caller.f_back
        return found

    def gives(self, frame: FrameType | None) -> bool:
        """Tell whether a loop whose innermost function is `frame` is getting a batch."""
        while frame is not None and self.places.get(id(frame), (None,))[0] is not frame.f_code:
            code = frame.f_code
            if code.co_name in GIVERS or (code.co_flags & CO_GENERATOR and code.co_name != "<genexpr>"):
                return True
            frame = frame.f_back
        if frame is None or not self.loop:
            return True
        _, line, place, outside = self.places[id(frame)]
        here = (frame.f_lineno or 0, frame.f_lasti)
        if here >= (line, place):
            return here == (line, place)  # what reported the step was called again
        if id(frame) != self.loop:  # within the loop it is a new call of what reports the step
            return not outside or _kept(frame.f_code, frame.f_lasti)
        around = _around(frame.f_code, place)
        assert around is not None
        return around[0] <= frame.f_lasti <= around[1] or _kept(frame.f_code, frame.f_lasti)


class _Witness(threading.Thread):
    """Looks now and then where the loop stands while it rests between two steps."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="deepbabysit-waiting")
        self.on = False
        self.over = threading.Event()
        self._loop = threading.get_ident()
        self._standing = Standing({})
        self._seen = [0, 0]

    @property
    def share(self) -> float:
        """Which part of the looks saw the loop getting a batch."""
        return self._seen[1] / sum(self._seen) if sum(self._seen) >= FEW else 1.0

    def stand(self, caller: FrameType | None) -> None:
        """Remember where the step was reported from, and look from now on."""
        self._standing = Standing.of(caller)
        self.on = True

    def run(self) -> None:
        """Look until it is over."""
        while sum(self._seen) < ENOUGH and not self.over.wait(EVERY):
            if self.on:
                self._seen[self._standing.gives(sys._current_frames().get(self._loop))] += 1


@lru_cache(maxsize=64)
def _around(code: CodeType, instruction: int) -> tuple[int, int] | None:
    """Return first and last instruction of the innermost loop around an instruction; None where there is none."""
    import dis

    loops = [
        (i.argval, i.offset) for i in dis.get_instructions(code)
        if "JUMP" in i.opname and isinstance(i.argval, int) and i.argval <= instruction <= i.offset
    ]
    return min(loops, key=lambda loop: loop[1] - loop[0], default=None)


@lru_cache(maxsize=256)
def _kept(code: CodeType, instruction: int) -> bool:
    """Tell whether what an instruction gives is kept or gone through, or dropped as an expression's result is."""
    import dis

    found = list(dis.get_instructions(code))
    for i in found[bisect_right([i.offset for i in found], instruction):]:
        if i.opname in ("POP_TOP", "RETURN_VALUE"):
            return False
        if i.opname.startswith(("STORE_", "GET_ITER", "FOR_ITER", "UNPACK")):
            return True
    return False
