"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels import (
    activations,
    attention,
    convolution,
    elementwise,
    gathers,
    indexing,
    losses,
    normalization,
    products,
    random,
    recurrent,
    reductions,
    statistics,
    structure,
    updates,
    windows,
)

KERNELS: dict[str, Kernel] = {
    **activations.KERNELS,
    **attention.KERNELS,
    **convolution.KERNELS,
    **elementwise.KERNELS,
    **gathers.KERNELS,
    **indexing.KERNELS,
    **losses.KERNELS,
    **normalization.KERNELS,
    **products.KERNELS,
    **random.KERNELS,
    **recurrent.KERNELS,
    **reductions.KERNELS,
    **statistics.KERNELS,
    **structure.KERNELS,
    **updates.KERNELS,
    **windows.KERNELS,
}
