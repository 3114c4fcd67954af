"""Finds the OpenBLAS that NumPy's own wheel carries: its threads, and its products for compiled kernels.

Where NumPy brings another BLAS (Accelerate, MKL, the system's) nothing is found.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

# prefix and suffix of the names: NumPy's own wheels, other wheels, the system's; only the first two count in 64 bits
BUILDS = (("scipy_", "64_"), ("", "64_"), ("", ""))


@cache
def libraries() -> tuple[ctypes.CDLL, ...]:
    """Return the BLAS libraries in NumPy's own wheel; loading one again gives the one that NumPy uses."""
    import numpy

    package, found = Path(numpy.__file__).parent, []
    for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
        for file in sorted(folder.glob("*openblas*")) if folder.is_dir() else ():
            try:
                found.append(ctypes.CDLL(str(file)))
            except OSError:
                continue
    return tuple(found)


def functions(library: ctypes.CDLL, names: Iterable[str], builds: Iterable[tuple[str, str]] = BUILDS) -> list[Any]:
    """Return functions of a library by their names without prefix and suffix; none where one of them is missing."""
    names = list(names)
    for prefix, suffix in builds:
        try:
            return [library[f"{prefix}{name}{suffix}"] for name in names]
        except AttributeError:
            continue
    return []


@cache
def _setters() -> list[Any]:
    found = [setter for library in libraries() for setter in functions(library, ["openblas_set_num_threads"])]
    for setter in found:
        setter.argtypes, setter.restype = [ctypes.c_int], None
    return found


def set_threads(number: int) -> bool:
    """Tell BLAS how many threads to use; False where NumPy brings one that cannot be told."""
    for setter in _setters():
        setter(number)
    return bool(_setters())
