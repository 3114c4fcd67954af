"""Settings of the whole process: threads, determinism, memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepbabysit.runtime.context import CONFIGURATION, set_surroundings
from deepbabysit.runtime.registry import devices


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
    """Choose how many threads matrix products use, now and in libraries that are loaded later.

    Compiled kernels use one, so that no second team of threads fights with that of BLAS.

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
    for setter in _blas_setters():
        setter(count)


# by the build of OpenBLAS: NumPy's own wheels, other wheels, the system's
_SETTERS = ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads")


def _blas_setters() -> list[Callable[[int], Any]]:
    """Return the functions that set the number of threads of the OpenBLAS in NumPy's own wheel."""
    import numpy

    found: list[Callable[[int], Any]] = []
    package = Path(numpy.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
        for file in sorted(folder.glob("*openblas*")) if folder.is_dir() else ():
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                continue
            for name in _SETTERS:
                setter = getattr(library, name, None)
                if setter is not None:
                    setter.argtypes = [ctypes.c_int]
                    setter.restype = None
                    found.append(setter)
                    break
    return found
