"""Matrix products by cuBLASLt through ctypes.

CuPy refuses its own cuBLAS calls while a stream is captured, and offers no epilogues; this library is the one that its
wheels install. Matrices are row-major here and column-major there, so a product ``c = a b`` is asked for as
``c.T = b.T a.T``: the same memory, the operands exchanged, and a bias along the rows of what is computed there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from deepbabysit.runtime.context import current
from deepbabysit_cupy.libraries import INSTALL, load_library

# Constants of cublasLt.h and library_types.h (the same in CUDA 12 and 13).
REAL = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
COMPUTE = {"float32": 68, "float64": 70, "float16": 68, "bfloat16": 68}
COMPUTE_TF32 = 77
SCALE = {"float32": 0, "float64": 1, "float16": 0, "bfloat16": 0}
TRANSPOSE_A, TRANSPOSE_B, EPILOGUE, BIAS_POINTER, BIAS_TYPE = 3, 4, 7, 8, 26
AUX_POINTER, AUX_LEAD = 11, 12
BATCHES, BATCH_OFFSET = 5, 6
MOST_WORKSPACE = 1
LEAST_ALIGNMENTS = (5, 6, 7, 8)  # of A, B, C, D
# "aux": what backward needs is written beside the result (ReLU: a bit for each element; GELU: what went in); "d...":
# the result is multiplied by the derivative, which is found there; "bgrad": the gradient of the bias is written, too.
EPILOGUES = {
    "": 1, "relu": 2, "bias": 4, "bias+relu": 6, "gelu": 32, "bias+gelu": 36,
    "relu+aux": 130, "bias+relu+aux": 134, "gelu+aux": 160, "bias+gelu+aux": 164,
    "drelu": 136, "drelu+bgrad": 152, "dgelu": 192, "dgelu+bgrad": 208, "bgrada": 256, "bgradb": 512,
}  # fmt: skip
WORKSPACE = 32 << 20  # bytes; what the library asks for on the largest GPUs
INVALID, NOT_SUPPORTED = 7, 15
ALIGNMENT = 16  # bytes: the widest access; what lies at multiples of more is no better off
TRIED = 8  # algorithms that are timed on request


class LtError(RuntimeError):
    """cuBLASLt refused a call; the message names it and the status."""


class LtUnavailable(RuntimeError):
    """The library is not installed; the message says what to install."""


class Algorithm(ctypes.Structure):
    """An algorithm, as opaque to us as it is to everybody."""

    _fields_ = [("data", ctypes.c_uint64 * 8)]


class Choice(ctypes.Structure):
    """One answer of the heuristic (cublasLtMatmulHeuristicResult_t)."""

    _fields_ = [
        ("algorithm", Algorithm), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int), ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


@cache
def load() -> Any:
    """Load the library.

    Raises:
        LtUnavailable: it is not installed.
    """
    library = load_library("cublasLt", "cublas")
    if library is None:
        raise LtUnavailable(f"cuBLASLt, the matrix library, was not found; {INSTALL}")
    return library


@dataclass(frozen=True, slots=True)
class Product:
    """One product: ``c = alpha op(a) op(b)``, `batches` times.

    Attributes:
        rows, columns, inner: c is rows x columns, op(a) rows x inner, op(b) inner x columns.
        turn_a, turn_b: whether the operand is stored transposed.
        lead_a, lead_b, lead_c: elements from one stored row to the next.
        dtype: of all matrices.
        batches, step_a, step_b, step_c: how many products, and elements from one matrix to the next.
        epilogue: a key of `EPILOGUES`.
        tf32: whether float32 operands may be rounded to 10 bits.
        alpha: a factor.
        accumulate: whether the product is added to what c holds.
    """

    rows: int
    columns: int
    inner: int
    turn_a: bool
    turn_b: bool
    lead_a: int
    lead_b: int
    lead_c: int
    dtype: str
    batches: int = 1
    step_a: int = 0
    step_b: int = 0
    step_c: int = 0
    epilogue: str = ""
    tf32: bool = False
    alpha: float = 1.0
    accumulate: bool = False

    @property
    def vector(self) -> bool:
        """Whether a bias is read, or its gradient written."""
        return "bias" in self.epilogue or "bgrad" in self.epilogue

    @property
    def aux_lead(self) -> int:
        """Elements (ReLU: bits) from one row of what backward needs to the next; 0 where there is no such thing."""
        if "relu+aux" in self.epilogue or "drelu" in self.epilogue:
            return -(-self.columns // 128) * 128
        return self.columns if "gelu+aux" in self.epilogue or "dgelu" in self.epilogue else 0


class Plan:
    """Descriptors and the algorithm for one product."""

    __slots__ = ("a", "algorithm", "b", "c", "description", "preference", "scale")

    def __init__(self, description: Any, a: Any, b: Any, c: Any, preference: Any, scale: Any) -> None:
        self.description = description
        self.a = a
        self.b = b
        self.c = c
        self.preference = preference
        self.scale = scale
        self.algorithm = Algorithm()


Choose = Callable[[Product, int, list[Algorithm], Callable[[Algorithm], bool], "Attempt"], Algorithm | None]
# runs a product with an algorithm, on addresses: a, b, c, bias, stream, aux
Attempt = Callable[[int, int, int, int, int, int, Algorithm], None]


class Lt:
    """A handle with its workspace and the plans made so far.

    Arguments:
        workspace: address of device memory of `WORKSPACE` bytes.

    Attributes:
        choose: ``choose(product, alignment, candidates, takes, attempt)`` picks an algorithm where timed choices are
            asked for, or returns None; `takes` tells whether the library takes one that was kept, `attempt` runs one.
    """

    def __init__(self, workspace: int) -> None:
        self._library = load()
        self._workspace = workspace
        self.choose: Choose | None = None
        self._plans: dict[tuple[Product, int, bool], Plan | None] = {}
        self._handle = ctypes.c_void_p()
        self._check("cublasLtCreate", ctypes.byref(self._handle))

    @property
    def version(self) -> int:
        """The library's version, such as 120901."""
        self._library.cublasLtGetVersion.restype = ctypes.c_size_t
        return int(self._library.cublasLtGetVersion())

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise LtError(f"{name} failed with status {status}")

    def supports(self, product: Product, alignment: int = ALIGNMENT) -> bool:
        """Tell whether there is an algorithm for a product with its epilogue.

        Arguments:
            product: what is asked for.
            alignment: bytes of which every address is a multiple.
        """
        return self._plan(product, alignment) is not None

    def _plan(self, product: Product, alignment: int) -> Plan | None:
        tuned = current().tune and self.choose is not None
        key = (product, alignment, tuned)
        if key not in self._plans:
            self._plans[key] = self._make(product, alignment, tuned)
        return self._plans[key]

    def _make(self, product: Product, alignment: int, tuned: bool) -> Plan | None:
        if product.aux_lead % 8:
            return None  # the library reads rows of what went into GELU eight elements at a time
        plan = self._described(product, alignment)
        asked = TRIED if tuned else 1
        choices, count = (Choice * asked)(), ctypes.c_int()
        status = self._library.cublasLtMatmulAlgoGetHeuristic(
            self._handle, plan.description, plan.a, plan.b, plan.c, plan.c, plan.preference, asked, choices,
            ctypes.byref(count),
        )
        # an epilogue that does not go with a type is an impossible configuration to some versions
        if status not in (0, NOT_SUPPORTED) and not (status == INVALID and product.epilogue):
            raise LtError(f"cublasLtMatmulAlgoGetHeuristic failed with status {status} for {product}")
        if status or not count.value:
            return None
        found = [choice.algorithm for choice in choices[: count.value]]
        plan.algorithm = found[0]
        if tuned and self.choose is not None:
            chosen = self.choose(
                product, alignment, found, lambda kept: self._takes(plan, kept),
                lambda *operands: self._launch(plan, *operands),
            )
            plan.algorithm = chosen or found[0]
        return plan

    def _takes(self, plan: Plan, algorithm: Algorithm) -> bool:
        """Tell whether an algorithm that was kept can run here."""
        found = Choice()
        status = self._library.cublasLtMatmulAlgoCheck(
            self._handle, plan.description, plan.a, plan.b, plan.c, plan.c, ctypes.byref(algorithm), ctypes.byref(found)
        )
        return status == 0 and found.workspace <= WORKSPACE

    def _described(self, product: Product, alignment: int) -> Plan:
        kind, description = REAL[product.dtype], ctypes.c_void_p()
        compute = COMPUTE_TF32 if product.tf32 and product.dtype == "float32" else COMPUTE[product.dtype]
        self._check("cublasLtMatmulDescCreate", ctypes.byref(description), compute, SCALE[product.dtype])
        # their first operand is our second one
        for attribute, turned in ((TRANSPOSE_A, product.turn_b), (TRANSPOSE_B, product.turn_a)):
            self._set("MatmulDesc", description, attribute, ctypes.c_int(int(turned)))
        self._set("MatmulDesc", description, EPILOGUE, ctypes.c_uint32(EPILOGUES[product.epilogue]))
        # the heuristic reads from an address how it is aligned, and nothing else
        somewhere = ctypes.c_void_p(self._workspace + alignment % ALIGNMENT)
        if product.vector:
            self._set("MatmulDesc", description, BIAS_TYPE, ctypes.c_int(kind))
            self._set("MatmulDesc", description, BIAS_POINTER, somewhere)
        if product.aux_lead:
            self._set("MatmulDesc", description, AUX_LEAD, ctypes.c_int64(product.aux_lead))
            self._set("MatmulDesc", description, AUX_POINTER, somewhere)
        stored_b = (product.inner, product.columns) if product.turn_b else (product.columns, product.inner)
        stored_a = (product.rows, product.inner) if product.turn_a else (product.inner, product.rows)
        first = self._layout(kind, *stored_b, product.lead_b, product.batches, product.step_b)
        second = self._layout(kind, *stored_a, product.lead_a, product.batches, product.step_a)
        result = self._layout(kind, product.columns, product.rows, product.lead_c, product.batches, product.step_c)
        preference = ctypes.c_void_p()
        self._check("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        self._set("MatmulPreference", preference, MOST_WORKSPACE, ctypes.c_size_t(WORKSPACE))
        for attribute in LEAST_ALIGNMENTS:
            self._set("MatmulPreference", preference, attribute, ctypes.c_uint32(alignment))
        real: Any = ctypes.c_double if product.dtype == "float64" else ctypes.c_float
        scale = (real(product.alpha), real(float(product.accumulate)))
        return Plan(description, first, second, result, preference, scale)

    def _layout(self, kind: int, rows: int, columns: int, lead: int, batches: int, step: int) -> Any:
        layout = ctypes.c_void_p()
        self._check(
            "cublasLtMatrixLayoutCreate", ctypes.byref(layout), kind, ctypes.c_uint64(rows), ctypes.c_uint64(columns),
            ctypes.c_int64(lead),
        )
        if batches > 1:
            self._set("MatrixLayout", layout, BATCHES, ctypes.c_int32(batches))
            self._set("MatrixLayout", layout, BATCH_OFFSET, ctypes.c_int64(step))
        return layout

    def _set(self, what: str, handle: Any, attribute: int, value: Any) -> None:
        size = ctypes.c_size_t(ctypes.sizeof(value))
        self._check(f"cublasLt{what}SetAttribute", handle, attribute, ctypes.byref(value), size)

    def run(self, product: Product, a: int, b: int, c: int, bias: int, stream: int, aux: int = 0) -> None:
        """Enqueue a product; operands are addresses.

        Arguments:
            product: what is asked for.
            a, b, c: the matrices.
            bias: added, or where its gradient goes; 0 where there is none.
            stream: CUDA's handle of it.
            aux: where what backward needs is written or read; 0 where there is no such thing.

        Raises:
            LtError: there is no algorithm for it (ask `supports` first), or the launch failed.
        """
        plan = self._plan(product, aligned(a, b, c, bias, aux))
        if plan is None:
            raise LtError(f"cuBLASLt has no algorithm for {product}")
        self._launch(plan, a, b, c, bias, stream, aux, plan.algorithm)

    def _launch(
        self, plan: Plan, a: int, b: int, c: int, bias: int, stream: int, aux: int, algorithm: Algorithm
    ) -> None:
        if bias:
            self._set("MatmulDesc", plan.description, BIAS_POINTER, ctypes.c_void_p(bias))
        if aux:
            self._set("MatmulDesc", plan.description, AUX_POINTER, ctypes.c_void_p(aux))
        alpha, beta = plan.scale
        self._check(
            "cublasLtMatmul", self._handle, plan.description, ctypes.byref(alpha), ctypes.c_void_p(b), plan.a,
            ctypes.c_void_p(a), plan.b, ctypes.byref(beta), ctypes.c_void_p(c), plan.c, ctypes.c_void_p(c), plan.c,
            ctypes.byref(algorithm), ctypes.c_void_p(self._workspace), ctypes.c_size_t(WORKSPACE),
            ctypes.c_void_p(stream),
        )


def aligned(*addresses: int) -> int:
    """Return the power of two, `ALIGNMENT` at most, of which all addresses are multiples.

    >>> aligned(4096, 64), aligned(4096, 24), aligned(0, 36)
    (16, 8, 4)
    """
    together = ALIGNMENT
    for address in addresses:
        together |= address
    return together & -together
