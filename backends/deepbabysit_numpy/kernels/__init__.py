"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.kernels import (
    activations,
    affine_convolution,
    attention,
    convolution,
    elementwise,
    guarding,
    indexing,
    losses,
    normalization,
    pooling,
    products,
    random,
    recurrent,
    reduction,
    sequences,
    statistics,
    structure,
    updates,
)

KERNELS: dict[str, Kernel] = {
    **activations.KERNELS,
    **affine_convolution.KERNELS,
    **attention.KERNELS,
    **convolution.KERNELS,
    **elementwise.KERNELS,
    **guarding.KERNELS,
    **indexing.KERNELS,
    **losses.KERNELS,
    **normalization.KERNELS,
    **pooling.KERNELS,
    **products.KERNELS,
    **random.KERNELS,
    **recurrent.KERNELS,
    **reduction.KERNELS,
    **sequences.KERNELS,
    **statistics.KERNELS,
    **structure.KERNELS,
    **updates.KERNELS,
}
