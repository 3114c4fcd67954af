"""How many threads compute on the CPU: one number, for matrix products and for teams of compiled kernels.

Until `set_num_threads` says otherwise it is what OPENBLAS_NUM_THREADS or OMP_NUM_THREADS says, else the number of
processors that this process may run on. Several processes that share a machine (workers of a parallel search, forked
loaders) should each be given their share by these variables, as with NumPy alone.
"""

from __future__ import annotations

import os

_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # in the order in which OpenBLAS asks them
_CHOSEN: list[int] = []
_CHOICES = [0]


def count() -> int:
    """Return the number of threads.

    >>> count() >= 1
    True
    """
    if not _CHOSEN:
        _CHOSEN.append(_default())
    return _CHOSEN[0]


def choose(number: int) -> None:
    """Set the number of threads from here on."""
    _CHOSEN[:] = [number]
    _CHOICES[0] += 1


def choices() -> int:
    """Return how often the number was set."""
    return _CHOICES[0]


def _default() -> int:
    for name in _VARIABLES:
        text = os.environ.get(name, "").partition(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return int(text)
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1
