"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.kernels import (
    activations,
    convolution,
    elementwise,
    indexing,
    products,
    random,
    reduction,
    sequences,
    structure,
)

KERNELS: dict[str, Kernel] = {
    **elementwise.KERNELS,
    **reduction.KERNELS,
    **structure.KERNELS,
    **indexing.KERNELS,
    **products.KERNELS,
    **random.KERNELS,
    **activations.KERNELS,
    **convolution.KERNELS,
    **sequences.KERNELS,
}
