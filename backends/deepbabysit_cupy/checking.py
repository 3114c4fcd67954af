"""What a check of a GPU asks of this backend beyond what every backend has."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.record import Recorder
from deepbabysit_cupy import compiler
from deepbabysit_cupy.backend import CupyBackend
from deepbabysit_cupy.convolving import OWN
from deepbabysit_cupy.lt import EPILOGUES, Product
from deepbabysit_cupy.probe import usable_devices

__all__ = [
    "EPILOGUES", "OWN", "bound_of", "compiler_version", "error_of", "open_first", "square", "timed_convolution",
]  # fmt: skip

# Relative to the largest number of a result. NumPy has no bfloat16 to compare with: whole networks show that.
_BOUNDS = {"float32": 1e-5, "float16": 4e-3, "float64": 1e-12}
_GELU_BOUND = 2e-3  # the tanh of GPUs has 11 bits


def open_first() -> CupyBackend:
    """Open the first GPU that can run, whether or not every operation has a kernel.

    Raises:
        BackendUnavailable: there is none; the message says why in one sentence.
    """
    return CupyBackend(usable_devices()[0])


def compiler_version() -> str:
    """Return NVRTC's version."""
    return ".".join(map(str, compiler.version()))


def timed_convolution(device: Device, name: str, arrays: tuple[Any, ...], attrs: dict[str, Any]) -> dict[str, Any]:
    """Time the ways to do an operation of convolutions; returns what a tuning file would have of it.

    Where there is nothing to choose from, "seconds" is empty.
    """
    backend: Any = device.backend
    with backend.chooser().apart() as choices:
        recorder = Recorder(device)
        with surroundings(recorder=recorder, tune=True):
            call(device, SPECS[name], arrays, attrs)
            recorder.finish()
        found = [choice for key, choice in choices.items() if key.startswith(f"{name}:")]
    return found[0] if found else {"way": OWN, "seconds": {}}


def square(n: int, dtype: str, epilogue: str = "", tf32: bool = False) -> Product:
    """Return the product of two contiguous matrices of `n` rows and columns."""
    return Product(n, n, n, False, False, n, n, n, dtype, epilogue=epilogue, tf32=tf32)


def bound_of(product: Product) -> float:
    """Return how far a product may be from float64."""
    return max(_BOUNDS[product.dtype], _GELU_BOUND if "gelu" in product.epilogue else 0.0)


def error_of(backend: Any, product: Product) -> float | None:
    """Run a product of `square` on random numbers; returns how far it is from float64, relative to the largest number.

    None where there is nothing to compare with: a type that NumPy lacks, a backward epilogue without its forward one.
    ReLU's mask is the library's own: it is written by the forward epilogue, and backward reads it.
    """
    if product.dtype not in _BOUNDS:
        return None
    n, epilogue, kind = product.rows, product.epilogue, np.dtype(product.dtype)
    rng = np.random.default_rng()
    a, b, v = (rng.standard_normal((n, n)).astype(kind) for _ in range(3))
    bias = rng.standard_normal(n).astype(kind)
    on_device = [backend.asarray(x) for x in (a, b, v, bias)]
    c = backend.asarray(np.full((n, n), np.nan, kind))
    summed = backend.asarray(np.full(n, np.nan, kind))
    wide_a, wide_b, wide_v = (x.astype(np.float64) for x in (a, b, v))
    lead = product.aux_lead
    aux = None
    if lead:
        bits = "relu" in epilogue
        aux = backend.asarray(np.zeros((n, lead // 8), np.uint8) if bits else np.zeros((n, lead), kind))
    stream, lt = backend.stream.ptr, backend.lt

    def run(p: Product, x: Any, y: Any, vector: Any) -> None:
        lt.run(
            p, x.data.ptr, y.data.ptr, c.data.ptr, vector.data.ptr if p.vector else 0, stream,
            0 if aux is None else aux.data.ptr,
        )

    before = wide_a @ wide_b
    if not epilogue.startswith("d"):
        run(product, on_device[0], on_device[1], on_device[3] if "bias" in epilogue else summed)
        if "bias" in epilogue:
            before = before + bias.astype(np.float64)
        expected = np.maximum(before, 0) if "relu" in epilogue else _gelu(before) if "gelu" in epilogue else before
        pairs = [(c, expected)]
        if "bgrad" in epilogue:
            pairs.append((summed, wide_b.sum(0) if epilogue == "bgrada" else wide_a.sum(1)))
        if aux is not None and "gelu" in epilogue:
            pairs.append((aux, before))
    else:
        activation = epilogue[1:].partition("+")[0]
        forward = square(n, product.dtype, f"{activation}+aux")
        if not lt.supports(forward):
            return None
        run(forward, on_device[0], on_device[1], summed)
        slope = backend.to_host(c) > 0 if activation == "relu" else _slope(backend.to_host(aux).astype(np.float64))
        run(product, on_device[2], on_device[0], summed)
        expected = wide_v @ wide_a * slope
        pairs = [(c, expected), *([(summed, expected.sum(0))] if "bgrad" in epilogue else [])]
    apart = [np.abs(backend.to_host(found) - wanted).max() / np.abs(wanted).max() for found, wanted in pairs]
    return float(np.max(apart))  # NaN where one is


def _gelu(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return found


def _slope(x: np.ndarray) -> np.ndarray:
    bent = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    found: np.ndarray = 0.5 * (1 + bent) + 0.5 * x * (1 - bent**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return found
