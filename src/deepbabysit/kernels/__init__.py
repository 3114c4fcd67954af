"""What every operation means: one KernelSpec each. Importing this package fills `SPECS`."""

from deepbabysit.kernels import (  # noqa: F401  (imported for what they define)
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
    scaling,
    sequences,
    statistics,
    structure,
    updates,
)
from deepbabysit.kernels.spec import SPECS, BadInput, Form, KernelSpec, Sample, Tolerance, define

__all__ = ["SPECS", "BadInput", "Form", "KernelSpec", "Sample", "Tolerance", "define"]
