"""cuBLASLt over host memory: the calls that the backend makes, with descriptors that remember what they were told."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}
_RELU, _BIAS, _DRELU, _BGRAD, _GELU, _DGELU, _AUX, _BGRADA, _BGRADB = 2, 4, 8, 16, 32, 64, 128, 256, 512
_INVALID, _NOT_SUPPORTED = 7, 15
VERSION = 120901
ALGORITHMS = 3  # how many the heuristic knows for a product
_MARK = 0x1D0FACE


def _pointed(reference: Any) -> Any:
    return reference._obj


class EmulatedLt:
    """Answers as the library does; `run` is called with each product's work, `stream` gives the stream in force.

    Attributes:
        products: what was multiplied: rows, columns and inner length as the library sees them.
        epilogues: the epilogue of each.
        refused: (epilogue, data type) that the heuristic has no algorithm for; None stands for every type.
        version: of the library.
    """

    def __init__(self, run: Any, stream: Any) -> None:
        self._run = run
        self._stream = stream
        self._objects: dict[int, dict[Any, Any]] = {}
        self.products: list[tuple[int, int, int]] = []
        self.epilogues: list[int] = []
        self.refused: set[tuple[int, int | None]] = set()
        self.version = VERSION
        self.cublasLtGetVersion = lambda: self.version

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
            return _INVALID
        return self._new(handle, kind=kind, rows=rows.value, columns=columns.value, lead=lead.value)

    def cublasLtMatmulPreferenceCreate(self, handle: Any) -> int:  # noqa: N802
        return self._new(handle)

    def _set(self, handle: Any, attribute: int, value: Any, size: Any) -> int:
        held = _pointed(value)
        if size.value != ctypes.sizeof(held):
            return _INVALID
        self._of(handle)[attribute] = held.value
        return 0

    cublasLtMatmulDescSetAttribute = cublasLtMatrixLayoutSetAttribute = _set  # noqa: N815
    cublasLtMatmulPreferenceSetAttribute = _set  # noqa: N815

    def _status(self, description: Any, a: Any, b: Any, d: Any) -> int:
        """Return what the library thinks of a product: shapes, the epilogue with its type, what belongs to it."""
        settings, first, second, result = (self._of(x) for x in (description, a, b, d))
        rows, inner = (first["rows"], first["columns"])[:: -1 if settings.get(3) else 1]
        other, columns = (second["rows"], second["columns"])[:: -1 if settings.get(4) else 1]
        if (rows, inner, columns) != (result["rows"], other, result["columns"]):
            return _INVALID
        epilogue, kind = settings.get(7, 1), result["kind"]
        # as the library may: no epilogue for double precision
        if kind not in _DTYPES or epilogue != 1 and kind == 1:
            return _NOT_SUPPORTED
        if {(epilogue, kind), (epilogue, None)} & self.refused:
            return _NOT_SUPPORTED
        if epilogue & (_DRELU | _DGELU | _AUX):
            lead = settings.get(12, 0)
            if lead < result["rows"] or lead % (128 if epilogue & (_RELU | _DRELU) else 8):
                return _INVALID
        return 0

    def cublasLtMatmulAlgoGetHeuristic(  # noqa: N802
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, asked: int, found: Any,
        count: Any,
    ) -> int:
        status = self._status(description, a, b, d)
        _pointed(count).value = 0
        if status:
            return status
        settings, wishes = self._of(description), self._of(preference)
        alignment = min(wishes.get(n, 256) for n in (5, 6, 7, 8))
        for attribute in (8, 11):
            if settings.get(attribute):
                alignment = min(alignment, settings[attribute] & -settings[attribute])
        # one element at a time, two, ...: the widest access that everything allows comes first
        size = np.dtype(_DTYPES[self._of(d)["kind"]]).itemsize
        wide = min(alignment, 16)
        made = min(asked, ALGORITHMS)
        for number in range(made):
            data = found[number].algorithm.data
            data[0], data[1], data[2], data[3] = _MARK, self.version, number, max(wide, size)
        _pointed(count).value = made
        return 0

    def cublasLtMatmulAlgoCheck(  # noqa: N802
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, algorithm: Any, result: Any
    ) -> int:
        status = self._status(description, a, b, d)
        data = _pointed(algorithm).data
        known = data[0] == _MARK and data[1] == self.version and data[2] < ALGORITHMS
        return status or (0 if known else _INVALID)

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
        status = self._status(description, a_layout, b_layout, d_layout)
        if status:
            return status
        vector = [settings.get(8)] if epilogue & (_BIAS | _BGRAD | _BGRADA | _BGRADB) else []
        aux = [settings.get(11)] if epilogue & (_AUX | _DRELU | _DGELU) else []
        if not all((*vector, *aux)):
            return _INVALID
        chosen = _pointed(algorithm).data
        number, wide = int(chosen[2]), int(chosen[3])
        if chosen[0] != _MARK or any(p % wide for p in (*pointers, *vector, *aux)):
            raise AssertionError(f"an algorithm that reads {wide} bytes at once over {pointers}, {vector}, {aux}")

        def work() -> None:
            first, second, result = (_matrices(p, x) for p, x in zip(pointers, layouts, strict=True))
            if settings.get(3):
                first = first.swapaxes(-1, -2)
            if settings.get(4):
                second = second.swapaxes(-1, -2)
            float_ = np.float64 if result.dtype == np.float64 else np.float32
            first, second = first.astype(float_), second.astype(float_)
            if settings["compute"] == 77:
                first, second = _ten_bits(first), _ten_bits(second)
            # narrow accesses go with other tiles: a step whose operands begin elsewhere shows in its bits
            value = _product(first, second, number + (wide < 16)) * float_(factor)
            if held:
                value = value + float_(held) * result
            rows, columns = result.shape[-2:]
            layout = {"kind": layouts[2]["kind"], "columns": 1}
            if epilogue & _BIAS:
                value = value + _matrices(vector[0], {**layout, "rows": rows, "lead": rows}).astype(float_)
            if epilogue & (_DGELU | _GELU) and aux:
                went_in = _matrices(aux[0], {**layout, "rows": rows, "columns": columns, "lead": settings[12]})
            if epilogue & (_DRELU | _RELU) and aux:
                bits = _bytes(aux[0], columns, settings[12] // 8)
            if epilogue & _DGELU:
                value = value * _gelu_slope(went_in.astype(float_))
            elif epilogue & _GELU:
                if aux:
                    went_in[...] = value
                value = 0.5 * value * (1 + np.tanh(0.7978845608028654 * (value + 0.044715 * value**3)))
            elif epilogue & _DRELU:
                value = value * np.unpackbits(bits, axis=1, bitorder="little")[:, :rows].T
            elif epilogue & _RELU:
                if aux:
                    packed = np.packbits(value.T > 0, axis=1, bitorder="little")
                    bits[...] = 0xEE  # what lies behind the last row says nothing
                    bits[:, : packed.shape[1]] = packed
                value = np.maximum(value, 0)
            result[...] = value
            if vector and not epilogue & _BIAS:
                summed = first if epilogue & _BGRADA else second.T if epilogue & _BGRADB else value
                length = len(summed)
                _matrices(vector[0], {**layout, "rows": length, "lead": length})[:, 0] = summed.sum(1, dtype=float_)

        self.products.append((layouts[2]["rows"], layouts[2]["columns"], layouts[0]["columns"]))
        self.epilogues.append(epilogue)
        self._run("cublasLt", work, [*pointers, *vector, *aux])
        return 0


def _product(first: np.ndarray, second: np.ndarray, number: int) -> np.ndarray:
    """Multiply; each algorithm adds up in an order of its own."""
    pieces = np.array_split(np.arange(first.shape[-1]), number + 1)
    return sum(first[..., p] @ second[..., p, :] for p in pieces)


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    inner = 0.7978845608028654 * (x + 0.044715 * x**3)
    slope = 0.7978845608028654 * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + np.tanh(inner)) + 0.5 * x * slope * (1 - np.tanh(inner) ** 2)


def _ten_bits(values: np.ndarray) -> np.ndarray:
    """Round float32 to the 10 bits after the point that TF32 has."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def _bytes(pointer: int, rows: int, lead: int) -> np.ndarray:
    memory = (ctypes.c_char * (rows * lead)).from_address(pointer)
    return np.frombuffer(memory, np.uint8).reshape(rows, lead)


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
