"""Matrix products and the number of their threads, called from compiled code.

Only for kernels that are chosen where `deepbabysit_numpy.compiled.blas.available()` says so: elsewhere the names below
lead nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from deepbabysit_numpy.compiled.blas import register
from deepbabysit_numpy.compiled.jit import jit

register()

_INT, _LONG = types.int32, types.int64


def _gemm(real: Any, name: str) -> Any:
    sizes = (_INT, _INT, _INT, _LONG, _LONG, _LONG)
    rest = (real, _LONG, _LONG, _LONG, _LONG, real, _LONG, _LONG)
    return types.ExternalFunction(name, types.void(*sizes, *rest))


_SINGLE, _DOUBLE = _gemm(types.float32, "deepbabysit_sgemm"), _gemm(types.float64, "deepbabysit_dgemm")
_GET = types.ExternalFunction("deepbabysit_get_blas_threads", types.int32())
_SET = types.ExternalFunction("deepbabysit_set_blas_threads", types.void(types.int32))
_ROWS, _PLAIN, _TRANSPOSED = np.int32(101), np.int32(111), np.int32(112)


def _call(c: Any, turn_a: Any, turn_b: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any, beta: Any,
          address: Any, ldc: Any) -> None:
    """Call the function for the dtype of `c`."""


@overload(_call, inline="always")
def _typed_call(c: Any, turn_a: Any, turn_b: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any,
                beta: Any, address: Any, ldc: Any) -> Any:
    real = c.dtype
    gemm = {types.float32: _SINGLE, types.float64: _DOUBLE}[real]
    one = np.float32(1.0) if real == types.float32 else np.float64(1.0)

    def call(
        c: Any, turn_a: Any, turn_b: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any, beta: Any,
        address: Any, ldc: Any
    ) -> None:
        gemm(_ROWS, turn_a, turn_b, m, n, k, one, a, lda, b, ldb, beta, address, ldc)

    return call


@jit
def product(a: Any, turn_a: Any, b: Any, turn_b: Any, c: Any, beta: Any) -> None:
    """``c = op(a) op(b) + beta c``, with ``op(x) = x.T`` where `turn` is set.

    Arguments:
        a, b, c: of two axes and one dtype (float32 or float64). Elements of a row lie side by side; rows may lie apart
            (parts of larger arrays). `c` shares no memory with the others.
        beta: with 0, what `c` held does not count, NaN included.
    """
    rows, columns = c.shape
    inner = a.shape[0] if turn_a else a.shape[1]
    if rows == 0 or columns == 0:
        return
    size = c.itemsize
    # a lone row may claim any stride
    lda = max(a.strides[0] // size, a.shape[1], 1)
    ldb = max(b.strides[0] // size, b.shape[1], 1)
    ldc = max(c.strides[0] // size, columns)
    first, second = _TRANSPOSED if turn_a else _PLAIN, _TRANSPOSED if turn_b else _PLAIN
    _call(
        c, first, second, rows, columns, inner, a.ctypes.data, lda, b.ctypes.data, ldb, c.dtype.type(beta),
        c.ctypes.data, ldc
    )


@jit
def threads() -> Any:
    """Return how many threads BLAS uses."""
    return _GET()


@jit
def set_threads(count: Any) -> None:
    """Let BLAS use so many threads from here on, in the whole process."""
    _SET(np.int32(count))
