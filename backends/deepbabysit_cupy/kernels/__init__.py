"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels import (
    activations,
    elementwise,
    indexing,
    losses,
    products,
    recurrent,
    reductions,
    structure,
)

KERNELS: dict[str, Kernel] = {
    **activations.KERNELS,
    **elementwise.KERNELS,
    **indexing.KERNELS,
    **losses.KERNELS,
    **products.KERNELS,
    **recurrent.KERNELS,
    **reductions.KERNELS,
    **structure.KERNELS,
}
