"""Elementwise operations of a recording that are done where their result is reduced: a launch less, the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deepbabysit.runtime.chains import Call, extent, same_elements, used_later
from deepbabysit_cupy.kernels import activations, elementwise
from deepbabysit_cupy.kernels.products import made_linear_gradient, made_sums

# A division is done for fewer elements at a time: the sums would be in another order.
_MAKERS = frozenset({*elementwise.NAMES, *activations.NAMES}) - {"divide"}
_DTYPES = ("float32", "float64")  # of others the result is rounded once more when it is stored
_LOOK_BACK = 6  # calls

Place = Callable[[Any], Any]


def fuse(calls: Sequence[Call], names: Sequence[str], room: Place) -> list[Call]:
    """Return recorded calls with those that make the gradient of a linear layer's output joined with its reduction.

    Arguments:
        calls: in the order of the recording.
        names: of their operations.
        room: returns what stands for the memory of an array that only the recording uses, or None.
    """
    found: list[Call | None] = list(calls)
    for place, name in enumerate(names):
        if name == "linear_gradient" and (before := _maker(calls, names, place, room)) is not None:
            maker, call = calls[before], calls[place]
            run = partial(
                made_linear_gradient, call[0].args[0], before=names[before],  # type: ignore[attr-defined]
                settings=_settings(maker), **call[0].keywords,  # type: ignore[attr-defined]
            )
            found[place] = (run, call[1], (*maker[2], *call[2][1:]), call[3])
            found[before] = None
    return [call for call in found if call is not None]


def _settings(call: Call) -> tuple[tuple[str, Any], ...]:
    return tuple(call[0].keywords.items())  # type: ignore[attr-defined]


def _meet(x: Any, y: Any, room: Place) -> bool:
    """Tell whether two arrays share memory; what two rooms hold has another place in the end."""
    mine, theirs = room(x), room(y)
    (a, b), (c, d) = extent(x), extent(y)
    return mine is theirs and a < d and c < b


def _maker(calls: Sequence[Call], names: Sequence[str], place: int, room: Place) -> int | None:
    """Return which call makes the gradient that a reduction reads, if it can be part of it."""
    _, outs, (g, *others), scratch = calls[place]
    if room(g) is None or any(_meet(g, a, room) for a in (*outs, *others, *scratch)):
        return None
    for before in range(place - 1, max(-1, place - 1 - _LOOK_BACK), -1):
        _, made, ins, _ = calls[before]
        if any(_meet(g, a, room) for a in made):
            between = calls[before + 1 : place]
            fits = names[before] in _MAKERS and len(made) == 1 and same_elements(made[0], g) and all(
                a.shape == g.shape and a.dtype == g.dtype and a.flags.c_contiguous and int(a.data.ptr) % 16 == 0
                for a in (g, *ins)
            )
            fits = fits and g.dtype.name in _DTYPES and not used_later(g, calls[place + 1 :])
            still = all(not _meet(a, b, room) for a in ins for call in between for b in (*call[1], *call[3]))
            # where an input is written in place, its elements are read before, by the thread that writes them
            apart = all(not _meet(a, b, room) or b is outs[0] and same_elements(a, b)
                        for a in ins for b in (*outs, *scratch))  # fmt: skip
            alike = fits and still and apart and made_sums(
                [g.dtype.name] * len(ins), g.shape, calls[place][0].keywords, names[before],  # type: ignore[attr-defined]
                _settings(calls[before]),
            )
            return before if alike else None
        if any(_meet(g, a, room) for a in (*calls[before][2], *calls[before][3])):
            return None
    return None
