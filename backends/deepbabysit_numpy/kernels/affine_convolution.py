"""Convolution with bias and activation, from the plain convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.kernels import convolution
from deepbabysit_numpy.kernels.products import activate

_CONV, _BY_KERNEL = convolution.KERNELS["conv"], convolution.KERNELS["conv_kernel_gradient"]


def _affine(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear", **attrs: Any) -> None:
    _CONV.run(ctx, outs, x, kernel, **attrs)
    np.add(outs[0], bias, out=outs[0], casting="same_kind")
    activate(outs[0], activation)


def _affine_scratch(forms: Any, *, activation: str = "linear", **attrs: Any) -> tuple[Form, ...]:
    assert _CONV.scratch is not None
    return _CONV.scratch(forms[:2], **attrs)


def _affine_supports(forms: Any, *, activation: str = "linear", **attrs: Any) -> bool:
    assert _CONV.supports is not None
    # a bias of a wider type makes the result wider than the convolution
    narrow = np.result_type(forms[0].dtype, forms[1].dtype)
    return np.result_type(narrow, forms[2].dtype) == narrow and _CONV.supports(forms[:2], **attrs)


def _gradients(ctx: Any, outs: Any, x: Any, g: Any, **attrs: Any) -> None:
    _BY_KERNEL.run(ctx, outs[:1], x, g, **attrs)
    np.add.reduce(g.reshape(-1, g.shape[-1]), axis=0, out=outs[1])


KERNELS: dict[str, Kernel] = {
    "affine_conv": Kernel(_affine, scratch=_affine_scratch, supports=_affine_supports),
    "conv_parameter_gradients": Kernel(_gradients, scratch=_BY_KERNEL.scratch, supports=_BY_KERNEL.supports),
}
