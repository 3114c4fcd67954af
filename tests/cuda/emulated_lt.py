"""cuBLASLt over host memory: the calls that the backend makes, with descriptors that remember what they were told."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}
_RELU, _BIAS, _GELU = 2, 4, 32


def _pointed(reference: Any) -> Any:
    return reference._obj


class EmulatedLt:
    """Answers as the library does; `run` is called with each product's work, `stream` gives the stream in force."""

    def __init__(self, run: Any, stream: Any) -> None:
        self._run = run
        self._stream = stream
        self._objects: dict[int, dict[Any, Any]] = {}
        self.products: list[tuple[int, int, int]] = []

    def _new(self, handle: Any, **values: Any) -> int:
        number = len(self._objects) + 1
        self._objects[number] = dict(values)
        _pointed(handle).value = number
        return 0

    def _of(self, handle: Any) -> dict[Any, Any]:
        return self._objects[handle.value]

    def cublasLtCreate(self, handle: Any) -> int:  # noqa: N802
        return self._new(handle)

    def cublasLtMatmulDescCreate(self, handle: Any, compute: int, scale: int) -> int:  # noqa: N802
        return self._new(handle, compute=compute, scale=scale)

    def cublasLtMatrixLayoutCreate(self, handle: Any, kind: int, rows: Any, columns: Any, lead: Any) -> int:  # noqa: N802
        if lead.value < rows.value:
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        return self._new(handle, kind=kind, rows=rows.value, columns=columns.value, lead=lead.value)

    def cublasLtMatmulPreferenceCreate(self, handle: Any) -> int:  # noqa: N802
        return self._new(handle)

    def _set(self, handle: Any, attribute: int, value: Any, size: Any) -> int:
        held = _pointed(value)
        if size.value != ctypes.sizeof(held):
            return 7
        self._of(handle)[attribute] = held.value
        return 0

    cublasLtMatmulDescSetAttribute = cublasLtMatrixLayoutSetAttribute = _set  # noqa: N815
    cublasLtMatmulPreferenceSetAttribute = _set  # noqa: N815

    def cublasLtMatmulAlgoGetHeuristic(  # noqa: N802
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, asked: int, found: Any,
        count: Any,
    ) -> int:
        # as the library may: no epilogue for double precision
        offered = self._of(description).get(7, 1) == 1 or self._of(d)["kind"] != 1
        _pointed(count).value = int(offered and self._of(a)["kind"] in _DTYPES)
        return 0 if offered else 15  # CUBLAS_STATUS_NOT_SUPPORTED

    def cublasLtMatmul(  # noqa: N802
        self, handle: Any, description: Any, alpha: Any, a: Any, a_layout: Any, b: Any, b_layout: Any, beta: Any,
        c: Any, c_layout: Any, d: Any, d_layout: Any, algorithm: Any, workspace: Any, size: Any, stream: Any,
    ) -> int:
        if stream.value != self._stream():
            raise AssertionError("a product on another stream than the kernels around it")
        settings = dict(self._of(description))
        layouts = [dict(self._of(x)) for x in (a_layout, b_layout, d_layout)]
        pointers = [a.value, b.value, d.value]
        epilogue = settings.get(7, 1)
        factor, held = _pointed(alpha).value, _pointed(beta).value
        if epilogue & _BIAS and not settings.get(8):
            return 7

        def work() -> None:
            first, second, result = (_matrices(p, x) for p, x in zip(pointers, layouts, strict=True))
            if settings.get(3):
                first = first.swapaxes(-1, -2)
            if settings.get(4):
                second = second.swapaxes(-1, -2)
            wide = np.float64 if result.dtype == np.float64 else np.float32
            value = first.astype(wide) @ second.astype(wide) * wide(factor)
            if held:
                value = value + wide(held) * result
            if epilogue & _BIAS:
                layout = {"kind": layouts[2]["kind"], "rows": result.shape[-2], "columns": 1, "lead": result.shape[-2]}
                value = value + _matrices(settings[8], layout).astype(wide)
            if epilogue & _GELU:
                value = 0.5 * value * (1 + np.tanh(0.7978845608028654 * (value + 0.044715 * value**3)))
            elif epilogue & _RELU:
                value = np.maximum(value, 0)
            result[...] = value

        self.products.append((layouts[2]["rows"], layouts[2]["columns"], layouts[0]["columns"]))
        extra = [settings[8]] if epilogue & _BIAS else []
        self._run("cublasLt", work, [*pointers, *extra])
        return 0


def _matrices(pointer: int, layout: dict[Any, Any]) -> np.ndarray:
    """Return column-major matrices over device memory."""
    dtype = np.dtype(_DTYPES[layout["kind"]])
    rows, columns, lead, batches = layout["rows"], layout["columns"], layout["lead"], layout.get(5, 1)
    step = layout.get(6, 0)
    span = (batches - 1) * step + (columns - 1) * lead + rows
    memory = (ctypes.c_char * (span * dtype.itemsize)).from_address(pointer)
    flat = np.frombuffer(memory, dtype)
    strides = [n * dtype.itemsize for n in (step, 1, lead)]
    found = np.lib.stride_tricks.as_strided(flat, (batches, rows, columns), strides)
    return found if batches > 1 else found[0]
