"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from dataclasses import replace

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

# What NumPy does to numbers in half precision: it moves them all; it computes with float16, and adds up too coarsely.
_MOVES = frozenset({
    "astype", "concat", "copy", "embed_slice", "one_hot", "pad", "take", "take_along_axis", "unstack", "where",
    "window_view",
})
_SUMS = frozenset({
    "add_along_axis", "cumulative_sum", "gradient_statistics", "linear", "linear_gradient", "matmul", "mean",
    "scatter_add", "sum", "sum_to", "var", "window_sum",
})
_WIDE = frozenset({"float32", "float64"})


def _limited(name: str, kernel: Kernel) -> Kernel:
    """Return a kernel with the dtypes that NumPy has good loops for; the others are computed in float32."""
    if name in _MOVES or kernel.dtypes is not None:
        return kernel
    return replace(kernel, dtypes=_WIDE if name in _SUMS else _WIDE | {"float16"})


_ALL: dict[str, Kernel] = {
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
KERNELS = {name: _limited(name, kernel) for name, kernel in _ALL.items()}
