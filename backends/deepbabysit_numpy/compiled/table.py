"""The table of kernels with the compiled variants in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import (
    activations,
    attention,
    convolution,
    dense,
    draws,
    functions,
    indexing,
    losses,
    normalization,
    pooling,
    recurrent,
    reduction,
    softmax,
    statistics,
    thin,
    updates,
)

VARIANTS: dict[str, Kernel] = {
    **activations.VARIANTS,
    **attention.VARIANTS,
    **convolution.VARIANTS,
    **dense.VARIANTS,
    **draws.VARIANTS,
    **functions.VARIANTS,
    **indexing.VARIANTS,
    **losses.VARIANTS,
    **normalization.VARIANTS,
    **pooling.VARIANTS,
    **recurrent.VARIANTS,
    **reduction.VARIANTS,
    **softmax.VARIANTS,
    **statistics.VARIANTS,
    **thin.VARIANTS,
    **updates.VARIANTS,
}


def with_variants(plain: Mapping[str, Kernel]) -> dict[str, Kernel]:
    """Return the plain kernels, each with its compiled variant where there is one."""
    return {
        name: replace(kernel, variants=(replace(mine, dtypes=mine.dtypes or kernel.dtypes),)) if mine else kernel
        for name, kernel in plain.items()
        for mine in [VARIANTS.get(name)]
    }
