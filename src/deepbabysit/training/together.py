"""The turns of an epoch: single steps, or several at once where data lie on the device and nobody looks between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from deepbabysit.training.arrays import Source
from deepbabysit.training.events import Listener
from deepbabysit.training.step import TrainStep

MOST = 16  # steps of one launch
WORTH = 4  # so many launches have to come for one to be made

Turn = tuple[list[Sequence[Any]], int, int]


class Together:
    """Chooses how the steps of an epoch are run.

    Arguments:
        source: the data.
        step: the training step.
        listeners: those that hear of steps.
        planned: steps of the whole run.
        accumulate: micro-batches of a step.
    """

    def __init__(
        self, source: Source, step: TrainStep, listeners: Sequence[Listener], planned: int, accumulate: int
    ) -> None:
        self._source = source
        self._step = step
        self._looking = [listener for listener in listeners if not listener.glances]
        self._accumulate = accumulate
        self._count = min(MOST, source.rows // source.loader.batch_size)
        self._possible = accumulate == 1 and source.held is not None and planned >= WORTH * self._count > WORTH

    def turns(self, batches: Iterator[tuple[Sequence[Any], int]], now: int) -> Iterator[Turn]:
        """Yield (micro-batches of a step, their rows, 0), or ([], rows, how many steps have been done beside one).

        Arguments:
            batches: of the epoch.
            now: number of the trainer's first step in it.
        """
        if not self._possible and self._accumulate == 1:
            yield from (([arrays], rows, 0) for arrays, rows in batches)
            return
        done = self._several(now)
        while True:
            waiting: list[Sequence[Any]] = []
            samples = 0
            if done:
                yield [], done * self._source.loader.batch_size, done - 1
            else:
                while len(waiting) < self._accumulate and (batch := next(batches, None)) is not None:
                    waiting.append(batch[0])
                    samples += batch[1]
                if not waiting:
                    return
                yield waiting, samples, 0
            now += done or 1
            done = self._several(now)

    def _several(self, now: int) -> int:
        """Run several steps of the trainer from number `now` on, if nobody looks; returns how many."""
        held, count = self._source.held, self._count
        if not self._possible or held is None or held.end - held.at < count * held.size:
            return 0
        if any(listener.wake < now + count for listener in self._looking) or not self._step.replays:
            return 0
        at = held.at
        held.slide(count)
        if self._step.several(held.forms, count, held.fill, now):
            return count
        held.at = at
        return 0
