"""Activation functions. ReLU at 0 has derivative 0; so has every kink of its family on its left side.

`softmax`, `log_softmax` and `sigmoid` are listed in `REMEMBERED`: a Tensor made by them remembers what went in, so that
a cross-entropy can be computed from the logits in the stable form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import elementwise_float, need_floating, normalize_axis
from deepbabysit.kernels.spec import BadInput, Form, Sample, define

REMEMBERED = ("softmax", "log_softmax", "sigmoid")


def _integers() -> list[BadInput]:
    return [BadInput((np.ones((2,), np.int64),), {}, TypeError, "needs floating numbers")]


def relu(xp: Any, x: Any) -> Any:
    """Rectified linear unit: ``max(x, 0)``, derivative 0 at 0, NaN stays NaN (Nair and Hinton, ICML 2010)."""
    return xp.where(x <= 0, xp.zeros_like(x), x)


RELU = define(
    relu, infer=elementwise_float("relu"), errors=_integers, composite=True, saves_outputs=(0,), inplace=((0, 0),),
    samples=drawing.unary(lambda rng, shape: drawing.away_from(rng, shape, 0.0), (-1e4, 0.0, 1e4)),
    vjp=lambda op, g, x, out, needs: (op.relu_gradient(g[0], out[0]),),
)


def relu_gradient(xp: Any, g: Any, y: Any) -> Any:
    """Gradient of ReLU from its output: ``g where y > 0, else 0``."""
    return xp.where(y > 0, g, xp.zeros_like(g))


RELU_GRADIENT = define(
    relu_gradient, infer=elementwise_float("relu_gradient"), composite=True, inplace=((0, 0),),
    samples=lambda rng: [
        Sample((drawing.normal(rng, s), drawing.away_from(rng, s, 0.0)))
        for s in ((), (0,), *(drawing.draw_shape(rng) for _ in range(4)))
    ] + [Sample((np.array([np.inf, np.nan, -1.0, 2.0]), np.array([0.0, 0.0, 0.0, 3.0])), gradient=False)],
    saves_inputs=(1,), differentiable=(0,), vjp=lambda op, g, x, out, needs: (op.relu_gradient(g[0], x[1]), None),
)


def sigmoid(xp: Any, x: Any) -> Any:
    """Logistic function ``1 / (1 + exp(-x))``, computed as ``(1 + tanh(x / 2)) / 2``: no overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


SIGMOID = define(
    sigmoid, infer=elementwise_float("sigmoid"), errors=_integers, composite=True, saves_outputs=(0,),
    inplace=((0, 0),), samples=drawing.unary(extremes=(-1e4, -40.0, 0.0, 40.0, 1e4)),
    vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.multiply(out[0], op.subtract(1.0, out[0]))),),
)


def _along_axis_infer(name: str) -> Any:
    def infer(shapes: Any, dtypes: Any, *, axis: int = -1) -> tuple[Form, ...]:
        need_floating(name, dtypes[0])
        where = normalize_axis(name, axis, len(shapes[0]))
        if shapes[0][where] == 0:
            raise ValueError(f"{name}: axis {axis} has length 0")
        return (Form(shapes[0], dtypes[0]),)

    return infer


def _along_axis_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 4))
        yield Sample((drawing.normal(rng, shape, 3.0),), {"axis": int(rng.integers(-len(shape), len(shape)))})
    yield Sample((np.array([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]]),), gradient=False)
    yield Sample((np.ones((0, 3)),))


def softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Softmax ``exp(x - m) / sum(exp(x - m))`` along an axis, with ``m = max(x)``: no overflow."""
    shifted = xp.exp(x - xp.stop_gradient(xp.max(x, axis=axis, keepdims=True)))
    return shifted / xp.sum(shifted, axis=axis, keepdims=True)


def _softmax_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: int) -> Any:
    weighted = op.multiply(g[0], out[0])
    return (op.subtract(weighted, op.multiply(out[0], op.sum(weighted, axis=axis, keepdims=True))),)


SOFTMAX = define(softmax, infer=_along_axis_infer("softmax"), samples=_along_axis_samples, errors=_integers,
                 composite=True, vjp=_softmax_vjp, saves_outputs=(0,), inplace=((0, 0),))


def log_softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Logarithm of softmax, ``(x - m) - log(sum(exp(x - m)))`` with ``m = max(x)``: exact where softmax underflows."""
    shifted = x - xp.stop_gradient(xp.max(x, axis=axis, keepdims=True))
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def _log_softmax_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: int) -> Any:
    return (op.subtract(g[0], op.multiply(op.exp(out[0]), op.sum(g[0], axis=axis, keepdims=True))),)


LOG_SOFTMAX = define(log_softmax, infer=_along_axis_infer("log_softmax"), samples=_along_axis_samples,
                     errors=_integers, composite=True, vjp=_log_softmax_vjp, saves_outputs=(0,), inplace=((0, 0),))
