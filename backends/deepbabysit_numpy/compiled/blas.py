"""The OpenBLAS that NumPy's own wheel carries, so that compiled kernels can call its products themselves.

Its functions get names of ours in LLVM's table of symbols: kernels kept on disk refer to those names, whatever the
library calls its functions. Where NumPy brings another BLAS (Accelerate, MKL, the system's) nothing is found, and
callers take `numpy.matmul`.
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from deepbabysit.runtime.blas import BUILDS, functions, libraries

# name in LLVM -> name in the library without its prefix and suffix; all integers but the enumerations have 64 bits
_FUNCTIONS = {
    "deepbabysit_sgemm": "cblas_sgemm",
    "deepbabysit_dgemm": "cblas_dgemm",
    "deepbabysit_sgemv": "cblas_sgemv",
    "deepbabysit_dgemv": "cblas_dgemv",
    "deepbabysit_get_blas_threads": "openblas_get_num_threads",
    "deepbabysit_set_blas_threads": "openblas_set_num_threads",
}


@cache
def addresses() -> dict[str, int]:
    """Return the address of every function by our name for it; nothing where not all of them are there."""
    if struct.calcsize("P") != 8:
        return {}
    for library in libraries():
        found = functions(library, _FUNCTIONS.values(), BUILDS[:2])
        if found:
            places = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found)
            return dict(zip(_FUNCTIONS, places, strict=True))
    return {}


def available() -> bool:
    """Tell whether compiled kernels can call BLAS; ask before a kernel that does is compiled or loaded."""
    return bool(addresses())


@cache
def register() -> None:
    """Make the names known to LLVM; kernels from the disk need them when they are loaded."""
    import llvmlite.binding

    for name, address in addresses().items():
        llvmlite.binding.add_symbol(name, address)
