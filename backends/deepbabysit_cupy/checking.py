"""What a check of a GPU asks of this backend beyond what every backend has."""

from __future__ import annotations

from deepbabysit_cupy import compiler
from deepbabysit_cupy.backend import CupyBackend
from deepbabysit_cupy.lt import EPILOGUES, Product
from deepbabysit_cupy.probe import usable_devices

__all__ = ["EPILOGUES", "compiler_version", "open_first", "square"]


def open_first() -> CupyBackend:
    """Open the first GPU that can run, whether or not every operation has a kernel.

    Raises:
        BackendUnavailable: there is none; the message says why in one sentence.
    """
    return CupyBackend(usable_devices()[0])


def compiler_version() -> str:
    """Return NVRTC's version."""
    return ".".join(map(str, compiler.version()))


def square(n: int, dtype: str, epilogue: str = "", tf32: bool = False) -> Product:
    """Return the product of two contiguous matrices of `n` rows and columns."""
    return Product(n, n, n, False, False, n, n, n, dtype, epilogue=epilogue, tf32=tf32)
