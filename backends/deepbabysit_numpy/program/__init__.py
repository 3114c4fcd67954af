"""Recorded steps as programs of machine calls: next to no Python for small networks, and the same bits.

Nothing here is imported before a step has been replayed often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepbabysit_numpy.compiled.loading import available


def program(
    device: Any, calls: list[Any], slots: Sequence[Any] = (), late: Sequence[Any] = ()
) -> Callable[[], None] | None:
    """Run recorded calls once and return the program that repeats them; None, and nothing run, without Numba."""
    if not available():
        return None
    from deepbabysit_numpy.program.building import build

    return build(device, calls, slots, late)
