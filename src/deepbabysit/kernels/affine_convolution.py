"""Convolution with bias and activation, and the gradients of its parameters: what a convolution layer computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import convolution, drawing
from deepbabysit.kernels.convolution import Pairs
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.products import FUSED_ACTIVATIONS, PRODUCT_TOLERANCE
from deepbabysit.kernels.shapes import show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, define
from deepbabysit.kernels.structure import Sizes


def affine_conv(
    xp: Any, x: Any, kernel: Any, bias: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1,
    activation: str = "linear",
) -> Any:
    """Convolution with bias and activation: ``a(conv(x, kernel) + bias)``, bias (out,); the rest as in `conv`."""
    y = xp.conv(x, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups) + bias
    return y if activation == "linear" else getattr(xp, activation)(y)


def _infer(shapes: Any, dtypes: Any, *, activation: str = "linear", **attrs: Any) -> tuple[Form, ...]:
    x, kernel, bias = shapes
    if activation not in FUSED_ACTIVATIONS:
        known = ", ".join(FUSED_ACTIVATIONS)
        raise ValueError(f"affine_conv: activation {activation!r} is not fused; choose from {known}")
    found = convolution.CONV.infer([x, kernel], dtypes, **attrs)
    if bias != kernel[-1:]:
        raise ValueError(
            f"affine_conv: a kernel {show_shape(kernel)} needs a bias ({kernel[-1]},); got {show_shape(bias)}"
        )
    return found


def _vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, activation: str, **attrs: Any) -> Any:
    window, by_bias, by_kernel = x[1].shape[:-2], None, None
    slope = g[0] if activation == "linear" else getattr(op, f"{activation}_gradient")(g[0], out[0])
    if needs[1] or needs[2]:
        by_kernel, by_bias = op.conv_parameter_gradients(x[0], slope, window=window, **attrs)
    by_input = op.conv_input_gradient(slope, x[1], space=x[0].shape[1:-1], **attrs) if needs[0] else None
    return (
        like(op, by_input, x[0]) if needs[0] else None,
        like(op, by_kernel, x[1]) if needs[1] else None,
        like(op, by_bias, x[2]) if needs[2] else None,
    )


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for number, sample in enumerate(convolution.CONV.samples(rng)):
        bias = drawing.normal(rng, sample.inputs[1].shape[-1:])
        attrs = {**sample.attrs, "activation": FUSED_ACTIVATIONS[number % len(FUSED_ACTIVATIONS)]}
        yield Sample((*sample.inputs, bias), attrs)


_PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}

AFFINE_CONV = define(
    affine_conv, infer=_infer, samples=_samples, composite=True, vjp=_vjp, saves_inputs=(0, 1), saves_outputs=(0,),
    tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), np.ones(3)), _PLAIN, ValueError, "needs a bias (4,)"),
        BadInput((np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), np.ones(4)), {**_PLAIN, "activation": "gelu"},
                 ValueError, "is not fused"),
    ],
)


def conv_parameter_gradients(
    xp: Any, x: Any, g: Any, *, window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> Any:
    """Gradients of a convolution for kernel and bias: ``(conv_kernel_gradient(x, g), sum of g over all positions)``."""
    by_kernel = xp.conv_kernel_gradient(
        x, g, window=window, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return by_kernel, xp.sum(g, axis=tuple(range(len(g.shape) - 1)))


def _gradients_infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
    by_kernel = convolution.CONV_KERNEL_GRADIENT.infer(shapes, dtypes, **attrs)
    return (*by_kernel, Form(shapes[1][-1:], dtypes[1]))


CONV_PARAMETER_GRADIENTS = define(
    conv_parameter_gradients, infer=_gradients_infer, samples=convolution.CONV_KERNEL_GRADIENT.samples, composite=True,
    tolerance=PRODUCT_TOLERANCE,
)
