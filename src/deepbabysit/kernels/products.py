"""Matrix products, and the dense layer's product with bias and activation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.shapes import broadcast, need_floating, result_dtype, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

PRODUCT_TOLERANCE = {"float32": Tolerance(1e-4, 1e-5), "float64": Tolerance(1e-11, 1e-12)}


def matmul(xp: Any, x: Any, y: Any) -> Any:
    """Matrix product over the last two axes; leading axes broadcast: ``(..., n, k) @ (..., k, m)``."""
    return xp.matmul(x, y)


def _matmul_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    x, y = shapes
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"matmul needs arrays of at least two axes; got {show_shape(x)} and {show_shape(y)}")
    if x[-1] != y[-2]:
        raise ValueError(
            f"matmul: {show_shape(x)} @ {show_shape(y)} do not fit: the last axis of the first has length "
            f"{show_shape((x[-1],))[1:-2]}, the last but one of the second {show_shape((y[-2],))[1:-2]}"
        )
    dtype = result_dtype(dtypes)
    need_floating("matmul", dtype)
    return (Form((*broadcast("matmul", (x[:-2], y[:-2])), x[-2], y[-1]), dtype),)


def _matmul_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        n, k, m = (int(v) for v in rng.integers(1, 6, 3))
        lead = drawing.draw_shape(rng, (0, 2), 1, 3)
        x = drawing.normal(rng, (*drawing.partner_shape(rng, lead), n, k))
        yield Sample((x, drawing.normal(rng, (*lead, k, m))))
    yield Sample((drawing.normal(rng, (3, 4)).T, drawing.normal(rng, (5, 3)).T))
    yield Sample((drawing.strided(drawing.normal(rng, (3, 4))), drawing.normal(rng, (4, 2))))
    yield Sample((np.ones((0, 3)), np.ones((3, 2))))
    yield Sample((np.ones((2, 0)), np.ones((0, 3))))


def _matmul_bad() -> list[BadInput]:
    return [
        BadInput((np.ones((2, 3)), np.ones((2, 3))), {}, ValueError, "do not fit"),
        BadInput((np.ones(3), np.ones((3, 2))), {}, ValueError, "at least two axes"),
    ]


def swap_last(op: Any, x: Any) -> Any:
    """Transpose the last two axes."""
    rank = len(x.shape)
    return op.permute_dims(x, axes=(*range(rank - 2), rank - 1, rank - 2))


def _matmul_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (
        like(op, op.matmul(g[0], swap_last(op, x[1])), x[0]) if needs[0] else None,
        like(op, op.matmul(swap_last(op, x[0]), g[0]), x[1]) if needs[1] else None,
    )


MATMUL = define(matmul, infer=_matmul_infer, samples=_matmul_samples, errors=_matmul_bad, vjp=_matmul_vjp,
                saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE)

# -- the dense layer -------------------------------------------------------------------------------------------------
# Only activations whose derivative follows from their output are fused: nothing more has to be kept for backward.

FUSED_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh")


def linear(xp: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear") -> Any:
    """Dense product with bias and activation: ``a(x @ kernel + bias)``, kernel (in, out), bias (out,)."""
    if len(x.shape) == 2:
        y = xp.matmul(x, kernel) + bias
    else:
        rows = xp.reshape(x, (-1, x.shape[-1]))
        y = xp.reshape(xp.matmul(rows, kernel) + bias, (*x.shape[:-1], kernel.shape[1]))
    return y if activation == "linear" else getattr(xp, activation)(y)


def _linear_infer(shapes: Any, dtypes: Any, *, activation: str = "linear") -> tuple[Form, ...]:
    x, kernel, bias = shapes
    if activation not in FUSED_ACTIVATIONS:
        raise ValueError(f"linear: activation {activation!r} is not fused; choose from {', '.join(FUSED_ACTIVATIONS)}")
    if len(kernel) != 2 or bias != (kernel[1],):
        raise ValueError(
            f"linear: kernel must be (in, out) and bias (out,); got {show_shape(kernel)}, {show_shape(bias)}"
        )
    if len(x) < 2 or x[-1] != kernel[0]:
        raise ValueError(
            f"linear: the input must be (N, ..., {kernel[0]}) for a kernel {show_shape(kernel)}; got {show_shape(x)}"
        )
    dtype = result_dtype(dtypes)
    need_floating("linear", dtype)
    return (Form((*x[:-1], kernel[1]), dtype),)


def _linear_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for activation in FUSED_ACTIVATIONS:
        for _ in range(2):
            k, m = (int(v) for v in rng.integers(1, 6, 2))
            lead = drawing.draw_shape(rng, (1, 3))
            # a product of normal draws lies on the kink of ReLU with probability zero
            yield Sample(
                (drawing.normal(rng, (*lead, k)), drawing.normal(rng, (k, m)), drawing.normal(rng, (m,))),
                {"activation": activation},
            )


def _linear_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, activation: str) -> Any:
    gradient, by_bias = op.linear_gradient(g[0], out[0], activation=activation)
    width = x[1].shape[1]
    rows = gradient if len(gradient.shape) == 2 else op.reshape(gradient, shape=(-1, width))
    by_input = by_kernel = None
    if needs[0]:
        by_input = op.matmul(rows, swap_last(op, x[1]))
        if len(x[0].shape) != 2:
            by_input = op.reshape(by_input, shape=x[0].shape)
        by_input = like(op, by_input, x[0])
    if needs[1]:
        inputs = x[0] if len(x[0].shape) == 2 else op.reshape(x[0], shape=(-1, x[0].shape[-1]))
        by_kernel = like(op, op.matmul(swap_last(op, inputs), rows), x[1])
    return by_input, by_kernel, like(op, by_bias, x[2]) if needs[2] else None


LINEAR = define(
    linear, infer=_linear_infer, samples=_linear_samples, composite=True, vjp=_linear_vjp, saves_inputs=(0, 1),
    saves_outputs=(0,), tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((2, 3)), np.ones((4, 5)), np.ones(5)), {}, ValueError, "the input must be (N, ..., 4)"),
        BadInput((np.ones((2, 4)), np.ones((4, 5)), np.ones(4)), {}, ValueError, "bias (out,)"),
    ],
)


def linear_gradient(xp: Any, g: Any, y: Any, *, activation: str = "linear") -> Any:
    """Carry a gradient back through activation and bias: ``(g * a'(y), its sum over rows)``, `a'` from the output."""
    if activation == "relu":
        g = xp.where(y > 0, g, xp.zeros_like(g))
    elif activation == "sigmoid":
        g = g * (y * (1.0 - y))
    elif activation == "tanh":
        g = g * (1.0 - y * y)
    return g, xp.sum(g, axis=tuple(range(len(g.shape) - 1)))


def _linear_gradient_infer(shapes: Any, dtypes: Any, *, activation: str = "linear") -> tuple[Form, ...]:
    return (Form(shapes[0], dtypes[0]), Form(shapes[0][-1:], dtypes[0]))


def _linear_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for activation in FUSED_ACTIVATIONS:
        shape = drawing.draw_shape(rng, (2, 3))
        yield Sample((drawing.normal(rng, shape), drawing.away_from(rng, shape, 0.0)), {"activation": activation})


LINEAR_GRADIENT = define(linear_gradient, infer=_linear_gradient_infer, samples=_linear_gradient_samples,
                         composite=True, inplace=((0, 0),), tolerance=PRODUCT_TOLERANCE)
