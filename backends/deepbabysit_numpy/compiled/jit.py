"""How kernels are compiled: without the GIL and without threads of their own, kept on disk, and with NaN in mind.

A compiled function runs in the thread that calls it. Where two cores help, `team` calls it in several threads at once,
on different rows. Short kernels gain nothing: a thread is woken in the time in which Adam updates 100,000 numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np

from deepbabysit.runtime.caches import UnsafeFolder
from deepbabysit_numpy.compiled import cache

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_LOCK = threading.Lock()


def _folder() -> tuple[Path | None, str]:
    """Return the folder of compiled kernels, or None and why there is none."""
    try:
        sources = cache.sources_digest(Path(__file__).parent / "code")
        cpu = llvmlite.binding.get_host_cpu_name()
        return cache.kernel_folder(numba.__version__, np.__version__, cpu, sources), ""
    except (OSError, UnsafeFolder) as error:
        return None, str(error)


FOLDER, NO_FOLDER = _folder()


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, for the types it is called with."""
    return _compile(function, FASTMATH)


def exact(function: Callable[..., Any]) -> Any:
    """Compile a function whose every operation rounds as it is written: NumPy's bits."""
    return _compile(function, False)


def ordered(function: Callable[..., Any]) -> Any:
    """Compile a small function that others contain: its sums keep their order, which is what keeps the digits."""
    return numba.njit(error_model="numpy", fastmath={"contract"}, forceinline=True)(function)


def _compile(function: Callable[..., Any], fastmath: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    if FOLDER is None:
        return numba.njit(**options)(function)
    with _LOCK:  # Numba asks its configuration for the folder when it decorates
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(FOLDER)
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before
