"""Copies in a recording that need not happen: the operation before writes where the copy would have put its result.

Backward makes every gradient in memory of its own and then copies it into the optimizer's flat buffer; in a recording
the place is known beforehand. The same kernels run on the same inputs, so the bits stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepbabysit.runtime.chains import Call, extent, same_elements, used_later

_LINE = 64  # bytes: kernels may be given memory that begins with a cache line


def _apart(span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    return all(end <= span[0] or span[1] <= begin for begin, end in spans)


def _maker(calls: Sequence[Call], spans: Sequence[Any], place: int) -> tuple[int, int] | None:
    """Return which call and which of its outputs makes what a copy reads, if the copy's target can stand for it."""
    (target,), (source,) = calls[place][1], calls[place][2]
    of, to = extent(source), extent(target)
    for before in range(place - 1, -1, -1):
        outs, ins, scratch = spans[before]
        if of in outs:
            alone = _apart(of, [*ins, *scratch]) and sum(not _apart(of, [out]) for out in outs) == 1
            found = outs.index(of)
            made = calls[before][1][found]
            fits = made.flags.c_contiguous and made.dtype == source.dtype and made.size == source.size
            return (before, found) if alone and fits and _apart(to, [*outs, *ins, *scratch]) else None
        if not (_apart(of, [*outs, *ins, *scratch]) and _apart(to, [*outs, *ins, *scratch])):
            return None
    return None


def spare_copies(
    calls: Sequence[Call], copies: Sequence[bool], private: Callable[[Any], bool]
) -> tuple[list[Call], list[int]]:
    """Return recorded calls without the copies that can be spared, and the places of those that stay.

    Arguments:
        calls: in the order of the recording.
        copies: which of them copy one array into another.
        private: tells whether only the recording uses the memory of an array.
    """
    calls = list(calls)
    spans = [tuple([[extent(a) for a in group] for group in call[1:]]) for call in calls]
    spared = set()
    for place, call in enumerate(calls):
        if not copies[place]:
            continue
        (target,), (source,) = call[1], call[2]
        plain = target.flags.c_contiguous and source.flags.c_contiguous and target.dtype == source.dtype
        if not plain or target.shape != source.shape or not source.size or extent(target)[0] % _LINE:
            continue
        if same_elements(source, target) or not private(source) or used_later(source, calls[place + 1 :]):
            continue
        found = _maker(calls, spans, place)
        if found is None:
            continue
        before, which = found
        run, outs, ins, scratch = calls[before]
        moved = list(outs)
        moved[which] = target.reshape(outs[which].shape)
        calls[before] = (run, tuple(moved), ins, scratch)
        spans[before][0][which] = extent(target)
        # a call without arrays stands for the copy until all are looked at
        calls[place] = (run, (), (), ())
        spans[place] = ([], [], [])
        spared.add(place)
    kept = [place for place in range(len(calls)) if place not in spared]
    return [calls[place] for place in kept], kept
