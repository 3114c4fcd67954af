"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.kernels import (
    activations,
    attention,
    convolution,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    random,
    recurrent,
    reduction,
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
    **normalization.KERNELS,
    **attention.KERNELS,
    **pooling.KERNELS,
    **recurrent.KERNELS,
}
