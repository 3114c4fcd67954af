"""The table of kernels of this backend, one file per family."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels import (
    activations,
    elementwise,
    gathers,
    products,
    statistics,
    updates,
)

KERNELS: dict[str, Kernel] = {
    **activations.KERNELS,
    **elementwise.KERNELS,
    **gathers.KERNELS,
    **products.KERNELS,
    **statistics.KERNELS,
    **updates.KERNELS,
}
