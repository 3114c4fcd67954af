"""Settings of the whole process: threads, determinism, memory."""

from __future__ import annotations

import os

from deepbabysit.runtime import blas, threads
from deepbabysit.runtime.context import CONFIGURATION, set_surroundings
from deepbabysit.runtime.registry import devices, opened_devices


def deterministic(value: bool = True) -> None:
    """Raise an error from here on when an operation has no deterministic path on its device.

    >>> import deepbabysit as db
    >>> db.deterministic(True)
    >>> db.deterministic(False)
    """
    set_surroundings(deterministic=bool(value))
    CONFIGURATION.bump()


def free() -> int:
    """Give pooled memory that is not in use back to the system.

    Returns:
        The number of bytes.

    >>> import deepbabysit as db
    >>> db.free() >= 0
    True
    """
    return sum(device.backend.free() for device in devices())


def set_num_threads(count: int) -> None:
    """Choose how many threads the CPU uses, for matrix products and for compiled kernels alike.

    It holds for this process from here on, for the processes that it starts, and for libraries that are loaded later.
    Until then it is what OPENBLAS_NUM_THREADS or OMP_NUM_THREADS says, else the number of processors that the process
    may use. The last bits of results can depend on it; with the same number they are the same run after run.

    Arguments:
        count: at least 1.

    Raises:
        ValueError: the count is no whole number of at least 1.

    >>> import deepbabysit as db
    >>> db.set_num_threads(2)
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"the number of threads is a whole number of at least 1; got {count!r}")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(count)
    blas.set_threads(count)
    threads.choose(count)
    for device in opened_devices():  # plans and recorded steps hold scratch memory for each thread
        device.plans.clear()
    CONFIGURATION.bump()
