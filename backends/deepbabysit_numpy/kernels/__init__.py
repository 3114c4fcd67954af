"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel

from deepbabysit_numpy.kernels import (
    activations,
    convolution,
    elementwise,
    indexing,
    losses,
    products,
    random,
    reduction,
    structure,
    updates,
)

KERNELS: dict[str, Kernel] = {
    **activations.KERNELS,
    **convolution.KERNELS,
    **elementwise.KERNELS,
    **indexing.KERNELS,
    **losses.KERNELS,
    **products.KERNELS,
    **random.KERNELS,
    **reduction.KERNELS,
    **structure.KERNELS,
    **updates.KERNELS,
}
