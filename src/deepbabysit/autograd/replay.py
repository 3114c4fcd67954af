"""Replay of a step: run it eagerly at first, write its kernel calls down once, repeat them from then on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.runtime.context import CONFIGURATION, surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.picked import Picked
from deepbabysit.runtime.record import Around, Recorder, Recording, RecordingRefused
from deepbabysit.runtime.registry import default_device
from deepbabysit.runtime.several import Fill
from deepbabysit.runtime.subnormals import flushed

WARM_UP = 1  # eager runs before the first recording: parameters and buffers exist then
KEPT = 8  # recordings of different shapes that are kept
_SPARE, _SPARE_BYTES = 16, 1 << 10  # how many copies of results are made at once, and the largest that are
LARGEST = 1 << 26  # bytes of buffers: above, calls made one by one cost nothing beside what they do


class RecordingTooLarge(MemoryError):
    """There is no memory for a recorded step; a part of it has been done."""


class _Entry:
    """What is known of one combination of shapes, dtypes and settings."""

    __slots__ = ("alone", "around", "ready", "recording", "results", "runs")

    def __init__(self) -> None:
        self.runs = 0
        self.alone = False  # run eagerly always: a recording would need memory of its own
        self.recording: Recording | None = None
        self.around: Around | None = None  # what a watched step does beside the recording of the step alone
        self.results: tuple[Tensor, ...] = ()
        self.ready: _Ready | None = None  # made once: the last batch of an epoch often has another shape


class _Ready:
    """A recording that takes inputs without a look, and tensors for copies of its results, made beforehand.

    Making one array and one tensor takes a microsecond, and ten after a large step, when the caches hold nothing of it.
    """

    __slots__ = ("_give", "_spare", "recording", "results")

    def __init__(self, recording: Recording, results: tuple[Tensor, ...]) -> None:
        self.recording = recording
        self.results = results
        arrays = [result.data for result in results]
        small = sum(array.nbytes for array in arrays) <= _SPARE_BYTES
        self._give = recording.giver(arrays) if small else None
        self._spare: list[tuple[tuple[Tensor, ...], list[Any]]] = []

    def copies(self, device: Device) -> tuple[Tensor, ...]:
        """Return copies of the results as they are now."""
        if self._give is None:
            return _copied(self.results, device)
        if not self._spare:
            made = [_copied(self.results, device) for _ in range(_SPARE)]
            self._spare = [(tensors, [tensor.data for tensor in tensors]) for tensors in made]
        tensors, arrays = self._spare.pop()
        self._give(*arrays)
        return tensors


def _copied(results: Sequence[Tensor], device: Device) -> tuple[Tensor, ...]:
    copy = device.backend.asarray
    return tuple([Tensor(copy(result.data), device) for result in results])


class Replay:
    """A step function over tensors that is recorded and replayed.

    Arguments:
        step: takes tensors, returns a Tensor, a tuple of Tensors, or None.
        device: where it runs.
        enabled: False keeps every run eager.
        say: called with one line when the step cannot be recorded.
        before: called before the step is recorded.
        watched: the same step, with more done beside it (`aside`); `watch` runs it.

    The results of a replay live in the recording's buffers and are overwritten by the next one.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        device: Device,
        enabled: bool = True,
        say: Callable[[str], None] | None = None,
        before: Callable[[], None] | None = None,
        watched: Callable[..., Any] | None = None,
    ) -> None:
        self._before = before
        self._step = step
        self._watched_step = watched
        self._device = device
        self._enabled = enabled
        self._say = say
        self._entries: dict[Any, _Entry] = {}
        self._watched: dict[Any, _Entry] = {}
        self._last: _Ready | None = None
        self._version = -1
        self.replays = 0

    def stop(self) -> None:
        """Give up what was recorded, and record nothing more."""
        self._enabled = False
        self._entries.clear()
        self._watched.clear()
        self._last = None

    def __call__(self, arrays: Sequence[Any]) -> tuple[Tensor, ...]:
        """Run the step on arrays (of the host or the device)."""
        last = self._last
        if last is not None and self._version == CONFIGURATION.count and last.recording.finds(arrays):
            return self._replay(last.recording, last.results, arrays)
        if not self._enabled:
            return self._eager(arrays)
        entry = self._entry(self._entries, arrays)
        if entry.recording is not None:
            if last is None or last.recording is not entry.recording:
                if entry.ready is None and entry.recording.program is not None:
                    entry.ready = _Ready(entry.recording, entry.results)
                self._last = entry.ready
            entry.recording.take(arrays)
            return self._replay(entry.recording, entry.results, arrays)
        entry.runs += 1
        if entry.runs <= WARM_UP:
            return self._eager(arrays)
        return self._record(entry, arrays)

    def _replay(
        self, recording: Recording, results: tuple[Tensor, ...], arrays: Sequence[Any]
    ) -> tuple[Tensor, ...]:
        try:
            recording.replay()
        except IndexError:
            return self._eager(arrays)  # layers look at values there and say which one is wrong
        self.replays += 1
        return results

    def copies(self, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what a run returned as tensors that the next one does not change."""
        last = self._last
        if last is not None and last.results is results:
            return last.copies(self._device)
        return _copied(results, self._device)

    def watch(self, arrays: Sequence[Any]) -> tuple[Tensor, ...]:
        """Run the step with what is done beside it, and the same bits.

        Where memory can be shared, one recording serves both ways: the step alone is what remains of the watched one,
        and where all that is done beside it can wait for its end, it is that step which runs.
        """
        step = self._watched_step
        if not self._enabled:
            return self._eager(arrays, step)
        entry, plain = self._entry(self._watched, arrays), self._entry(self._entries, arrays)
        if entry.around is not None and plain.recording is not None:
            entry.around.before()
            plain.recording.take(arrays)
            try:
                plain.recording.replay()
            except IndexError:
                return self._eager(arrays, step)
            entry.around.after()
            return plain.results
        if entry.recording is not None:
            entry.recording.take(arrays)
            try:
                entry.recording.replay()
            except IndexError:
                return self._eager(arrays, step)
            return entry.results
        entry.runs += 1
        divides = self._device.backend.divides
        runs = entry.runs
        if divides:
            plain.runs += 1  # what has to exist before a recording does now
            runs = plain.runs
        if runs <= WARM_UP or entry.alone or (divides and plain.recording is not None):
            return self._eager(arrays, step)
        return self._record(entry, arrays, step, plain if divides else None)

    def _entry(self, entries: dict[Any, _Entry], arrays: Sequence[Any]) -> _Entry:
        version = CONFIGURATION.count
        if version != self._version:
            self._entries.clear()
            self._watched.clear()
            self._last = None
            self._version = version
        key = tuple(arrays.forms() if type(arrays) is Picked else [(a.shape, a.dtype) for a in arrays])
        entry = entries.get(key)
        if entry is None:
            if len(entries) >= KEPT:
                entries.pop(next(iter(entries)))
            entry = entries[key] = _Entry()
        return entry

    def several(self, forms: Any, count: int, tell: Callable[[int], None], fill: Fill) -> tuple[Tensor, ...] | None:
        """Run the step several times at once on inputs of these ``(shape, dtype)``; returns the last results.

        None, and nothing done, where that cannot be. The other arguments are those of `Recording.several`.
        """
        entry = self._entries.get(tuple(forms)) if self._enabled and CONFIGURATION.count == self._version else None
        if entry is None or entry.recording is None or not entry.recording.several(count, tell, fill):
            return None
        self.replays += count
        return entry.results

    def eager(self, arrays: Sequence[Any]) -> tuple[Tensor, ...]:
        """Run the step once without a recording (the same bits): somebody wants to look inside."""
        return self._eager(arrays)

    @flushed()  # as a replay does it
    def _eager(self, arrays: Sequence[Any], step: Callable[..., Any] | None = None) -> tuple[Tensor, ...]:
        device = self._device
        return _as_tuple((step or self._step)(*[Tensor(device.asarray(a), device) for a in arrays]))

    @flushed()
    def _record(
        self, entry: _Entry, arrays: Sequence[Any], step: Callable[..., Any] | None = None, plain: _Entry | None = None
    ) -> tuple[Tensor, ...]:
        """Record a step; `plain` gets what remains of it without what was done beside it."""
        device = self._device
        step = step or self._step
        if self._before is not None:
            self._before()
        recorder = Recorder(device)
        slots = tuple([device.asarray(a) for a in arrays])
        try:
            with surroundings(recorder=recorder):
                results = _as_tuple(step(*[Tensor(slot, device) for slot in slots]))
        except RecordingRefused as refusal:
            self._enabled = False
            if self._say is not None:
                self._say(f"the step is not replayed: {refusal}")
            return self._eager(arrays, step)
        except IndexError:
            return self._eager(arrays, step)
        except MemoryError as error:
            raise RecordingTooLarge(str(error)) from error
        if plain is not None and recorder.apart:  # the step alone would lose by it
            entry.alone = True
            return results
        if CONFIGURATION.count == self._version:  # a setting changed inside: what was recorded holds no more
            results = entry.results = tuple([result.detach() for result in results])  # the graph would hold memory
            given = slots, [result.data for result in results]
            try:
                if plain is None:
                    entry.recording = recorder.finish(*given)
                    return results
                entry.around = recorder.around(slots)
                entry.alone = entry.around is None and recorder.arena.held() > LARGEST
                entry.recording = None if entry.alone or entry.around else recorder.everything(slots)
                plain.recording, plain.results = recorder.finish(*given, False), results
            except MemoryError:  # the step is done
                self.stop()
                if self._say is not None:
                    self._say("steps run call by call: there is no memory for a recorded one")
        return results


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    if result is None:
        return ()
    return result if isinstance(result, tuple) else (result,)


def record(step: Callable[..., Any]) -> Callable[..., Any]:
    """Record a hand-written training step at its second run and replay it from the third on.

    The step takes arrays or Tensors and returns a Tensor, a tuple of Tensors, or None. Everything it does on arrays
    goes through operations, ``backward()`` and ``optimizer.step()``; reading a value on the host inside (``.item()``,
    ``print``) is refused with its line, and the step then stays eager. Python values that it uses are kept as they were
    when it was recorded. Eager runs and replays give the same bits.

    Arguments:
        step: the function.

    Returns:
        A function with the same arguments; its results are copies.

    >>> import deepbabysit as db
    >>> w = db.tensor([1.0, 2.0], requires_grad=True)
    >>> double = db.record(lambda x: (x * w).sum())
    >>> [double(db.tensor([n, 1.0])).item() for n in (1.0, 2.0, 3.0)]
    [3.0, 4.0, 5.0]
    """
    replays: dict[Device, Replay] = {}

    @functools.wraps(step)
    def run(*inputs: Any) -> Any:
        arrays = []
        device = None
        for x in inputs:
            given = x if isinstance(x, Tensor) else tensor(x)
            device = device or given.device
            arrays.append(given.data)
        device = device or default_device()
        replay = replays.get(device)
        if replay is None:
            replay = replays[device] = Replay(remembered, device)
        results = replay.copies(replay(arrays))
        return results[0] if returned is Tensor else results if returned is tuple else None

    returned: type | None = tuple

    def remembered(*inputs: Tensor) -> Any:
        nonlocal returned
        result = step(*inputs)
        if result is None:
            returned = None
        elif isinstance(result, Tensor):
            returned = Tensor
        elif not (isinstance(result, tuple) and all(isinstance(r, Tensor) for r in result)):
            raise TypeError(
                f"a recorded step returns a Tensor, a tuple of Tensors or None; got {type(result).__name__}"
            )
        return result

    return run

