"""How kernels are compiled: for one thread without the GIL, kept on disk, and with NaN in mind.

One thread is the decision for all of them. The threads of BLAS wait by spinning, so that a second team has to fight
them for the cores; and what these kernels wait for is memory: two threads took 3 % less time than one for Adam over
half a million numbers. So ``db.set_num_threads`` sets what BLAS uses, no result here depends on it, and forking is
safe.
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
    options = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
    if FOLDER is None:
        return numba.njit(**options)(function)
    with _LOCK:  # Numba asks its configuration for the folder when it decorates
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(FOLDER)
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before
