"""Record once, replay: a step written down as the list of its kernel calls with their buffers."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.chains import extent
from deepbabysit.runtime.context import current
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.late import meet
from deepbabysit.runtime.picked import Picked
from deepbabysit.runtime.several import Fill, Several, Told, last_of_each, tellable
from deepbabysit.runtime.subnormals import flushed

if TYPE_CHECKING:
    from deepbabysit.runtime.backend import Backend
    from deepbabysit.runtime.funnel import Plan

# A backend is asked for something faster after so many calls replayed from Python (some 30 ms), and so many more for
# each call of a recording: making a program takes about as long as what it saves over as many. A call counts more than
# once where its arrays are large; then it is the work, not Python, that a program does in less time.
PROGRAM_CALLS = 12_000
PROGRAM_REPLAYS = 150
HELD = 1 << 18  # bytes of an array that a step keeps until its end because something beside it reads it
_FIRST = 12_000  # of these calls are what the first program of a process takes: nothing is compiled for the others
_AS_A_CALL = 25_000  # bytes that take as long as a call from Python


class RecordingRefused(RuntimeError):
    """Something in a step cannot be recorded; the message names it and the user's line."""


class Recording:
    """A recorded list of kernel calls; `replay` runs them again on what their inputs hold now.

    A recording that is replayed often becomes a program of its backend, with the same bits; one that is replayed
    `seldom` stays as it is.

    Attributes:
        program: what repeats it faster, or None.
        reads: ``reads(*arrays)`` is 1 where the program takes these inputs at the next replay, and nothing else has to
            be done or asked.
        picks: ``picks(rows, *arrays)`` is 1 where it takes these rows of arrays (`Picked`).
    """

    __slots__ = (
        "_after", "_arena", "_before", "_calls", "_device", "_inputs", "_left", "_many", "_worth", "picks",
        "program", "reads",
    )

    def __init__(
        self, device: Device, arena: Any, calls: list[Any], before: list[Any], after: list[Any],
        inputs: Sequence[tuple[Array, Any]] = (), seldom: bool = False,
    ) -> None:
        self._device = device
        self._arena = arena
        self._calls = calls
        self._before = before
        self._after = after
        self._inputs = inputs
        wait = device.backend.eager_replays
        if wait is None:
            often = max(PROGRAM_CALLS - (_FIRST if device.backend in _BEGUN else 0), 1) + PROGRAM_REPLAYS * len(calls)
            size = sum([a.nbytes for call in calls for some in call[1:] for a in some])
            self._worth = len(calls) + size // _AS_A_CALL
        else:
            often, self._worth = wait, 1
        self._left = sys.maxsize if seldom else often
        self.program: Callable[[], None] | None = None
        self.reads: Callable[..., int] = _refuses
        self.picks: Callable[..., int] = _refuses
        self._many: tuple[int, Any, Several] | None = None  # how many replays at once, what fills their inputs

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, arrays: Sequence[Any]) -> None:
        """Let the next replay read these inputs, where they lie or copied into the recording's own."""
        if self.finds(arrays):
            return
        for (slot, late), array in zip(self._inputs, arrays, strict=True):
            if late is None or not late.read(array):
                self._device.write(slot, array)

    def finds(self, arrays: Sequence[Any]) -> int:
        """Tell whether the program itself takes these inputs at the next replay."""
        return self.picks(arrays.rows, *arrays.data) if type(arrays) is Picked else self.reads(*arrays)

    def replay(self) -> None:
        """Run every call again, in order, into the same buffers."""
        program = self.program
        if program is None or self.reads is _refuses:
            with flushed():
                self._replay()
            return
        for action in self._before:
            action()
        program()  # sets the processor's mode itself
        for action in self._after:
            action()

    def _replay(self) -> None:
        for action in self._before:
            action()
        if self.program is not None:
            self.program()
        else:
            self._left -= self._worth
            if self._left > 0 or not self._build():
                run_calls(self._device, self._calls)
        for action in self._after:
            action()

    def giver(self, results: Sequence[Array]) -> Callable[..., int] | None:
        """Return a function that copies results into arrays of their kind that it is given, or None."""
        make = getattr(self.program, "giver", None)
        return None if make is None else make(results)

    def several(self, count: int, tell: Callable[[int], None], fill: Fill) -> bool:
        """Replay it several times at once; False, and nothing done, where it is no program yet or cannot be.

        Arguments:
            count: how many replays; the same one at each call.
            tell: ``tell(n)`` writes from the host what the replay `n` is to read, before its own host actions.
            fill: ``fill(n, slots)`` returns the calls that bring the inputs of the replay `n` into the slots.
        """
        hold = self._device.backend.hold
        if self.program is None or self._after or hold is None:
            return False
        told: list[Told] = []
        for number in range(count):
            with hold() as writes:
                tell(number)
                for action in self._before:
                    action()
            told.append(last_of_each(writes))
        with flushed():
            many = self._many
            if many is not None and many[:2] == (count, fill) and many[2].program is not None and many[2].takes(told):
                many[2](told)
                return True
            slots = [slot for slot, _ in self._inputs]
            fills = [fill(number, slots) for number in range(count)]
            if tellable(told) and (many is None or many[:2] != (count, fill)):
                made = Several(self._device, self._calls, fills, told)
                self._many = count, fill, made
                if made.program is not None:
                    return True
            for known, calls in zip(told, fills, strict=True):  # one after the other
                for array, values in known:
                    self._device.write(array, values)
                run_calls(self._device, calls)
                self.program()
        return True

    def _build(self) -> bool:
        """Let the backend make a program; tells whether that ran the calls."""
        backend = self._device.backend
        if backend.program is not None and backend.reads:
            for slot, late in self._inputs:
                if late is not None and late.source is not slot:
                    self._device.write(slot, late.source)
                    late.read(slot)
            slots, late_ones = ([pair[i] for pair in self._inputs] for i in (0, 1))
            self.program = backend.program(self._device, self._calls, slots=slots, late=late_ones)
            if self.program is not None:  # it takes inputs itself, or finds them in the slots
                self._inputs = [(slot, None) for slot in slots]
            self.reads = getattr(self.program, "reads", _refuses)
            self.picks = getattr(self.program, "picks", _refuses)
        elif backend.program is not None:
            self.program = backend.program(self._device, self._calls)
        if self.program is None:
            self._left = sys.maxsize
        else:
            _BEGUN.add(backend)
        return self.program is not None


_BEGUN: weakref.WeakSet[Backend] = weakref.WeakSet()  # that have made a program


def _refuses(*arrays: Any) -> int:
    return 0


def run_calls(device: Device, calls: list[Any]) -> None:
    """Run recorded calls in order."""
    for run, outs, ins, scratch in calls:
        if scratch:
            device.scratch = scratch
        run(outs, *ins)
    device.scratch = ()  # it would keep the memory of a recording that is gone


class Around:
    """What is done beside a recorded step: calls before it, and calls after it that read what it has left.

    Attributes:
        before, after: run them.
    """

    __slots__ = ("_device", "_first", "_last")

    def __init__(self, device: Device, first: list[Any], last: list[Any]) -> None:
        self._device = device
        self._first = first
        self._last = last

    @flushed()
    def before(self) -> None:
        """Run what has to see the state before the step."""
        run_calls(self._device, self._first)

    @flushed()
    def after(self) -> None:
        """Run what looks at what the step has computed."""
        run_calls(self._device, self._last)


class Recorder:
    """Writes down every kernel call of this thread while it is the recorder in force.

    Attributes:
        beside: whether what is called now is beside the step: nothing of the step depends on it.
        apart: whether operations ran one by one, only because somebody looks between, that run as one otherwise.
    """

    __slots__ = (
        "_after", "_before", "_beside", "_calls", "_held", "_lost", "_names", "apart", "arena", "beside", "device",
    )

    def __init__(self, device: Device) -> None:
        self.device = device
        self.arena = device.backend.arena()
        self._calls: list[Any] = []
        self._names: list[str] = []
        self._beside: list[bool] = []
        self._held: list[Array] = []  # what is read beside the step: its memory is not used again within it
        self._lost = False  # something was too large for that
        self.beside = self.apart = False
        self._before: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []

    def add(
        self, run: Callable[..., None], outs: tuple[Array, ...], ins: tuple[Array, ...], scratch: tuple[Array, ...],
        plan: Plan | None = None,
    ) -> None:
        """Write one call down; `plan` says which operation it is."""
        self._names.append(plan.spec.name if plan is not None and plan.kernel is not None else "")
        self._beside.append(self.beside)
        pin = self.arena.pin
        call = (run, tuple(map(pin, outs)), tuple(map(pin, ins)), tuple(map(pin, scratch)))
        self._calls.append(call)
        if self.beside and self.device.backend.divides:  # elsewhere lifetimes follow from calls: nobody else holds on
            for array, pinned in zip(ins, call[2], strict=True):
                if array.nbytes <= HELD:
                    self._held.append(array)
                else:
                    self._lost = self._lost or pinned is not array

    def refuse(self, reason: str) -> None:
        """Say that the step cannot be recorded, and where."""
        raise RecordingRefused(f"{reason} ({user_line()})")

    def finish(self, slots: Sequence[Array] = (), results: Sequence[Array] = (), beside: bool = True) -> Recording:
        """Return what was written down; what the step returned is held by somebody else by now, and nothing more.

        Arguments:
            slots: arrays that the step was given; replays may be given others.
            results: arrays that it returned.
            beside: with what was done beside the step.
        """
        taken = [place for place, other in enumerate(self._beside) if beside or not other]
        calls, names = [self._calls[place] for place in taken], [self._names[place] for place in taken]
        calls = self.arena.finish(calls, names, self.device)
        inputs = list(zip(slots, self.arena.late_inputs(calls, slots, results), strict=True))
        return Recording(self.device, self.arena, calls, self._before, self._after, inputs)

    def around(self, slots: Sequence[Array]) -> Around | None:
        """Return what was done beside the step as calls before and after it; None where it has to be in between.

        Arguments:
            slots: arrays that the step was given; a replay may read others.
        """
        late = [extent(slot) for slot in slots]
        written = [[extent(a) for a in (*outs, *scratch) if a.size] for _, outs, _, scratch in self._calls]
        first: list[Any] = []
        last: list[Any] = []
        for place, call in enumerate(self._calls):
            if not self._beside[place]:
                continue
            read = [extent(a) for a in call[2]]
            steps = [(i, span) for i, spans in enumerate(written) if not self._beside[i] for span in spans]
            touched = {i > place for i, span in steps if any(meet(span, other) for other in read)}
            if self._lost or len(touched) > 1 or any(meet(span, other) for span in late for other in read):
                return None
            (first if True in touched else last).append(call)
        after = [extent(a) for call in last for a in call[1]]
        if any(meet(extent(a), span) for call in first for a in call[2] for span in after):
            return None
        return Around(self.device, first, last)

    def everything(self, slots: Sequence[Array]) -> Recording:
        """Return all calls as they were made: it is replayed now and then, in memory that the finished one has, too."""
        inputs = [(slot, None) for slot in slots]
        return Recording(self.device, self.arena, list(self._calls), self._before, self._after, inputs, seldom=True)

    def repeat(self, action: Callable[[], None], before: bool) -> None:
        """Let a host action (a step count, a schedule) happen at every replay, before or after the kernel calls."""
        (self._before if before else self._after).append(action)


def host_action(action: Callable[[], None], before: bool) -> None:
    """Do something on the host now, and at every replay of the step that is being recorded, if one is.

    Arguments:
        action: reads and writes host values and small device arrays that kernels read.
        before: whether replays do it before their kernel calls (a rate) or after them (the next step's random numbers).
    """
    recorder = current().recorder
    if recorder is not None:
        recorder.repeat(action, before)
    action()


def aside(action: Callable[..., Any], *args: Any) -> None:
    """Do something beside the step that may be recorded now: it reads what the step computes and changes none of it."""
    recorder = current().recorder
    if recorder is None:
        action(*args)
        return
    recorder.beside = True
    try:
        action(*args)
    finally:
        recorder.beside = False


def user_line() -> str:
    """Return ``file:line`` of the innermost frame that is not ours."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("deepbabysit"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "an unknown line"
