"""The products of the OpenBLAS that NumPy's own wheel carries, so that programs can call them themselves.

Where NumPy brings another BLAS (Accelerate, MKL, the system's) nothing is found, and callers take `numpy.matmul`.
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from deepbabysit.runtime.blas import BUILDS, functions, libraries

_PRODUCTS = ("sgemm", "dgemm", "sgemv", "dgemv")


@cache
def addresses() -> dict[str, int]:
    """Return the address of every product by its name; nothing where not all of them are there with 64-bit integers."""
    if struct.calcsize("P") != 8:
        return {}
    for library in libraries():
        found = functions(library, [f"cblas_{name}" for name in _PRODUCTS], BUILDS[:2])
        if found:
            places = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found)
            return dict(zip(_PRODUCTS, places, strict=True))
    return {}
