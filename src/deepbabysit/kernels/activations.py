"""Activation functions. ReLU at 0 has derivative 0; so has every kink of its family on its left side.

`softmax`, `log_softmax` and `sigmoid` are listed in `REMEMBERED`: a Tensor made by them remembers what went in, so that
a cross-entropy can be computed from the logits in the stable form.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import TWO_OVER_ROOT_PI
from deepbabysit.kernels.shapes import elementwise_float, need_floating, normalize_axis, result_dtype, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

REMEMBERED = ("softmax", "log_softmax", "sigmoid")


def _integers() -> list[BadInput]:
    return [BadInput((np.ones((2,), np.int64),), {}, TypeError, "needs floating numbers")]


def relu(xp: Any, x: Any) -> Any:
    """Rectified linear unit: ``max(x, 0)``, derivative 0 at 0; NaN stays NaN (Nair and Hinton, ICML 2010)."""
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
    vjp=lambda op, g, x, out, needs: (op.sigmoid_gradient(g[0], out[0]),),
)


def _pair_samples(low: float, high: float) -> Any:
    """Return `samples` for a gradient of (g, output), with outputs between two numbers."""

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((), (0,), (1,), (3, 4), drawing.draw_shape(rng)):
            yield Sample((drawing.normal(rng, shape), rng.uniform(low, high, shape)))
        yield Sample((drawing.normal(rng, (4, 3)).T, drawing.strided(rng.uniform(low, high, (3, 4)))))
        yield Sample((np.array([np.inf, np.nan, -1.0, 2.0]), np.array([0.5, low, np.nan, high])), gradient=False)

    return samples


def sigmoid_gradient(xp: Any, g: Any, y: Any) -> Any:
    """Gradient of sigmoid from its output: ``g * (y * (1 - y))``."""
    return g * (y * (1.0 - y))


SIGMOID_GRADIENT = define(sigmoid_gradient, infer=elementwise_float("sigmoid_gradient"), composite=True,
                          inplace=((0, 0),), samples=_pair_samples(0.0, 1.0))


def tanh_gradient(xp: Any, g: Any, y: Any) -> Any:
    """Gradient of tanh from its output: ``g * (1 - y * y)``."""
    return g * (1.0 - y * y)


TANH_GRADIENT = define(tanh_gradient, infer=elementwise_float("tanh_gradient"), composite=True, inplace=((0, 0),),
                       samples=_pair_samples(-1.0, 1.0))


def erf_gradient(xp: Any, g: Any, x: Any) -> Any:
    """Gradient of the error function from its input: ``g * (2/sqrt(pi) * exp(-x^2))``."""
    return g * (TWO_OVER_ROOT_PI * xp.exp(-(x * x)))


ERF_GRADIENT = define(erf_gradient, infer=elementwise_float("erf_gradient"), composite=True, inplace=((0, 0),),
                      samples=_pair_samples(-3.0, 3.0))


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


SOFTMAX = define(
    softmax, infer=_along_axis_infer("softmax"), samples=_along_axis_samples, errors=_integers, composite=True,
    saves_outputs=(0,), inplace=((0, 0),),
    vjp=lambda op, g, x, out, needs, axis: (op.softmax_gradient(g[0], out[0], axis=axis),),
)


def log_softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Logarithm of softmax, ``x - m - log(sum(exp(x - m)))`` with ``m = max(x)``: exact where softmax underflows."""
    shifted = x - xp.stop_gradient(xp.max(x, axis=axis, keepdims=True))  # first, so that a large x costs no digits
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


LOG_SOFTMAX = define(
    log_softmax, infer=_along_axis_infer("log_softmax"), samples=_along_axis_samples, errors=_integers, composite=True,
    saves_outputs=(0,), inplace=((0, 0),),
    vjp=lambda op, g, x, out, needs, axis: (op.log_softmax_gradient(g[0], out[0], axis=axis),),
)


def _gradient_along_axis_infer(name: str) -> Any:
    base = _along_axis_infer(name)

    def infer(shapes: Any, dtypes: Any, *, axis: int = -1) -> tuple[Form, ...]:
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name}: gradient and output need one shape; got {show_shape(shapes[0])} and {show_shape(shapes[1])}"
            )
        forms: tuple[Form, ...] = base(shapes, [result_dtype(dtypes)], axis=axis)
        return forms

    return infer


def _gradient_along_axis_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _along_axis_samples(rng):
        shape = sample.inputs[0].shape
        yield Sample((drawing.normal(rng, shape), rng.uniform(-1.0, 1.0, shape)), sample.attrs)
    yield Sample((drawing.normal(rng, (4, 3)).T, drawing.strided(rng.random((3, 4)))))


def _shapes_differ() -> list[BadInput]:
    return [BadInput((np.ones((2, 3)), np.ones((2, 1))), {}, ValueError, "need one shape")]


def softmax_gradient(xp: Any, g: Any, y: Any, *, axis: int = -1) -> Any:
    """Gradient of softmax from its output: ``y * (g - sum(g * y))`` along the axis."""
    return y * (g - xp.sum(g * y, axis=axis, keepdims=True))


SOFTMAX_GRADIENT = define(
    softmax_gradient, infer=_gradient_along_axis_infer("softmax_gradient"), samples=_gradient_along_axis_samples,
    errors=_shapes_differ, composite=True, inplace=((0, 0),),
)


def log_softmax_gradient(xp: Any, g: Any, y: Any, *, axis: int = -1) -> Any:
    """Gradient of the logarithm of softmax from its output: ``g - exp(y) * sum(g)`` along the axis."""
    return g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True)


LOG_SOFTMAX_GRADIENT = define(
    log_softmax_gradient, infer=_gradient_along_axis_infer("log_softmax_gradient"),
    samples=_gradient_along_axis_samples, errors=_shapes_differ, composite=True, inplace=((0, 0),),
)

# -- the family of ReLU ----------------------------------------------------------------------------------------------
# Where the derivative follows from the output, the output is what backward reads: the input need not be kept.


def _smooth(rng: np.random.Generator) -> Iterator[Sample]:
    yield from drawing.unary(extremes=(-1e4, -40.0, 0.0, 40.0, 1e4))(rng)


def _kinked(**attrs: Any) -> Any:
    """Return `samples` that keep away from 0, with the default attributes and with the given ones."""
    draw = drawing.unary(lambda rng, shape: drawing.away_from(rng, shape, 0.0), (-1e4, -30.0, 0.0, 1e4))

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield from draw(rng)
        if attrs:
            yield Sample((drawing.away_from(rng, (3, 4), 0.0),), attrs)

    return samples


def _gradient_samples(*choices: dict[str, Any], low: float | None = None) -> Any:
    """Return `samples` for a gradient of (g, output or input), away from 0 and above `low`."""

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for attrs in choices or ({},):
            for shape in ((), (0,), (1,), (3, 4), drawing.draw_shape(rng)):
                second = drawing.away_from(rng, shape, 0.0)
                if low is not None:
                    second = np.maximum(second, low)
                yield Sample((drawing.normal(rng, shape), second), attrs)
        yield Sample((drawing.normal(rng, (4, 3)).T, drawing.strided(drawing.away_from(rng, (3, 4), 0.0))), dict(attrs))

    return samples


def _not_negative(name: str, keyword: str) -> Any:
    base = elementwise_float(name)

    def infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
        value = attrs[keyword]
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"{name}: {keyword} must be at least 0 and finite; got {value}")
        forms: tuple[Form, ...] = base(shapes, dtypes)
        return forms

    return infer


def leaky_relu(xp: Any, x: Any, *, slope: float = 0.01) -> Any:
    """Leaky ReLU: ``x where x > 0, else slope * x``; at 0 the derivative is `slope` (Maas et al., ICML 2013).

    >>> import deepbabysit as db
    >>> db.ops.leaky_relu(db.tensor([-2.0, 3.0]), slope=0.5).tolist()
    [-1.0, 3.0]
    """
    return xp.where(x > 0, x, slope * x)


LEAKY_RELU = define(
    leaky_relu, infer=_not_negative("leaky_relu", "slope"), composite=True, saves_outputs=(0,), inplace=((0, 0),),
    samples=_kinked(slope=0.3),
    errors=lambda: [*_integers(), BadInput((np.ones(2),), {"slope": -0.1}, ValueError, "slope must be at least 0")],
    vjp=lambda op, g, x, out, needs, slope: (op.leaky_relu_gradient(g[0], out[0], slope=slope),),
)


def leaky_relu_gradient(xp: Any, g: Any, y: Any, *, slope: float = 0.01) -> Any:
    """Gradient of leaky ReLU from its output: ``g where y > 0, else slope * g``."""
    return xp.where(y > 0, g, slope * g)


LEAKY_RELU_GRADIENT = define(
    leaky_relu_gradient, infer=_not_negative("leaky_relu_gradient", "slope"), composite=True, inplace=((0, 0),),
    samples=_gradient_samples({}, {"slope": 0.3}), saves_inputs=(1,), differentiable=(0,),
    vjp=lambda op, g, x, out, needs, slope: (op.leaky_relu_gradient(g[0], x[1], slope=slope), None),
)


def elu(xp: Any, x: Any, *, alpha: float = 1.0) -> Any:
    """Exponential linear unit: ``x where x > 0, else alpha * (exp(x) - 1)`` (Clevert et al., ICLR 2016).

    >>> import deepbabysit as db
    >>> db.ops.elu(db.tensor([-100.0, 3.0])).tolist()
    [-1.0, 3.0]
    """
    low = xp.where(x > 0, xp.zeros_like(x), x)
    return xp.where(x > 0, x, alpha * xp.expm1(low))


ELU = define(
    elu, infer=_not_negative("elu", "alpha"), composite=True, saves_outputs=(0,), inplace=((0, 0),),
    samples=_kinked(alpha=0.5),
    errors=lambda: [*_integers(), BadInput((np.ones(2),), {"alpha": -1.0}, ValueError, "alpha must be at least 0")],
    vjp=lambda op, g, x, out, needs, alpha: (op.elu_gradient(g[0], out[0], alpha=alpha),),
)


def elu_gradient(xp: Any, g: Any, y: Any, *, alpha: float = 1.0) -> Any:
    """Gradient of ELU from its output: ``g where y > 0, else g * (y + alpha)``, as ``alpha * exp(x) = y + alpha``."""
    return xp.where(y > 0, g, g * (y + alpha))


ELU_GRADIENT = define(
    elu_gradient, infer=_not_negative("elu_gradient", "alpha"), composite=True, inplace=((0, 0),),
    samples=_gradient_samples({}, {"alpha": 0.5}, low=-0.4),
)

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def selu(xp: Any, x: Any) -> Any:
    """Self-normalizing ELU: ``s * (x where x > 0, else a * (exp(x) - 1))``, a = 1.6733, s = 1.0507.

    Klambauer et al., NIPS 2017; use it with LeCun-normal weights.

    >>> import deepbabysit as db
    >>> round(db.ops.selu(db.tensor([1.0])).item(), 4)
    1.0507
    """
    low = xp.where(x > 0, xp.zeros_like(x), x)
    return xp.where(x > 0, SELU_SCALE * x, (SELU_SCALE * SELU_ALPHA) * xp.expm1(low))


SELU = define(
    selu, infer=elementwise_float("selu"), composite=True, saves_outputs=(0,), inplace=((0, 0),), errors=_integers,
    samples=_kinked(), vjp=lambda op, g, x, out, needs: (op.selu_gradient(g[0], out[0]),),
)


def selu_gradient(xp: Any, g: Any, y: Any) -> Any:
    """Gradient of SELU from its output: ``s * g where y > 0, else g * (y + s * a)``."""
    return xp.where(y > 0, SELU_SCALE * g, g * (y + SELU_SCALE * SELU_ALPHA))


SELU_GRADIENT = define(selu_gradient, infer=elementwise_float("selu_gradient"), composite=True, inplace=((0, 0),),
                       samples=_gradient_samples(low=-1.2))

# -- smooth ones -----------------------------------------------------------------------------------------------------

_GELU_TOLERANCE = {"float64": Tolerance(1e-12, 1e-12), "float32": Tolerance(2e-5, 2e-6)}
_TANH_SLOPE = sqrt(2.0 / pi)
_TANH_CUBIC = 0.044715
APPROXIMATIONS = ("none", "tanh")


def _gelu_infer(name: str) -> Any:
    base = elementwise_float(name)

    def infer(shapes: Any, dtypes: Any, *, approximate: str = "none") -> tuple[Form, ...]:
        if approximate not in APPROXIMATIONS:
            raise ValueError(f"{name}: approximate must be 'none' or 'tanh'; got {approximate!r}")
        forms: tuple[Form, ...] = base(shapes, dtypes)
        return forms

    return infer


def _bounded(xp: Any, x: Any) -> Any:
    """Keep x within 10 of 0, where the tanh of GELU has long been 1 and its cube cannot overflow; NaN stays."""
    return xp.where(xp.abs(x) < 10.0, x, 10.0 * xp.sign(x))


def gelu(xp: Any, x: Any, *, approximate: str = "none") -> Any:
    """Gaussian error linear unit: ``x * Phi(x)``, Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    With ``approximate="tanh"``: ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2``.

    >>> import deepbabysit as db
    >>> round(db.ops.gelu(db.tensor([1.0])).item(), 4)
    0.8413
    """
    if approximate == "tanh":
        near = _bounded(xp, x)
        return 0.5 * x * (1.0 + xp.tanh(_TANH_SLOPE * near * (1.0 + _TANH_CUBIC * near * near)))
    return 0.5 * x * (1.0 + xp.erf(x * sqrt(0.5)))


def _gelu_samples(rng: np.random.Generator) -> Iterator[Sample]:
    yield from _smooth(rng)
    for sample in _smooth(rng):
        yield Sample(sample.inputs, {"approximate": "tanh"}, sample.gradient)


GELU = define(
    gelu, infer=_gelu_infer("gelu"), composite=True, saves_inputs=(0,), inplace=((0, 0),), tolerance=_GELU_TOLERANCE,
    samples=_gelu_samples,
    errors=lambda: [*_integers(), BadInput((np.ones(2),), {"approximate": "erf"}, ValueError, "'none' or 'tanh'")],
    vjp=lambda op, g, x, out, needs, approximate: (op.gelu_gradient(g[0], x[0], approximate=approximate),),
)


def gelu_gradient(xp: Any, g: Any, x: Any, *, approximate: str = "none") -> Any:
    """Gradient of GELU from its input: ``g * (Phi(x) + x * phi(x))``, phi the normal density; likewise for tanh."""
    if approximate == "tanh":
        near = _bounded(xp, x)
        square = near * near
        level = xp.tanh(_TANH_SLOPE * near * (1.0 + _TANH_CUBIC * square))
        slope = (1.0 - level * level) * (_TANH_SLOPE * (1.0 + 3.0 * _TANH_CUBIC * square))
        return g * (0.5 * (1.0 + level) + 0.5 * near * slope)
    density = xp.exp(-0.5 * x * x) * (1.0 / sqrt(2.0 * pi))
    return g * (0.5 * (1.0 + xp.erf(x * sqrt(0.5))) + x * density)


GELU_GRADIENT = define(gelu_gradient, infer=_gelu_infer("gelu_gradient"), composite=True, inplace=((0, 0),),
                       samples=_gradient_samples({}, {"approximate": "tanh"}), tolerance=_GELU_TOLERANCE)


def silu(xp: Any, x: Any) -> Any:
    """Sigmoid linear unit (swish): ``x * sigmoid(x)`` (Elfwing et al., 2017; Ramachandran et al., 2017).

    >>> import deepbabysit as db
    >>> db.ops.silu(db.tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """
    return x * xp.sigmoid(x)


SILU = define(
    silu, infer=elementwise_float("silu"), composite=True, saves_inputs=(0,), inplace=((0, 0),), errors=_integers,
    samples=_smooth, vjp=lambda op, g, x, out, needs: (op.silu_gradient(g[0], x[0]),),
)


def silu_gradient(xp: Any, g: Any, x: Any) -> Any:
    """Gradient of SiLU from its input: ``g * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    gate = xp.sigmoid(x)
    return g * (gate * (1.0 + x * (1.0 - gate)))


SILU_GRADIENT = define(silu_gradient, infer=elementwise_float("silu_gradient"), composite=True, inplace=((0, 0),),
                       samples=_gradient_samples())


def softplus(xp: Any, x: Any) -> Any:
    """Smooth ReLU: ``log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))``: no overflow (Dugas et al., NIPS 2000).

    >>> import deepbabysit as db
    >>> db.ops.softplus(db.tensor([1000.0])).tolist()
    [1000.0]
    """
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


SOFTPLUS = define(
    softplus, infer=elementwise_float("softplus"), composite=True, saves_inputs=(0,), errors=_integers,
    samples=_smooth, vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.sigmoid(x[0])),),
)
