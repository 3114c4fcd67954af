"""Elementwise primitives: arithmetic, exponentials, comparisons, choice.

The subgradients are fixed here: ``abs`` and ``sqrt`` at 0 give 0, ties of ``maximum`` and ``minimum`` give each side
one half (the symmetric choice, so that swapping arguments changes nothing).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import (
    broadcast,
    elementwise,
    elementwise_bool,
    elementwise_float,
    is_floating,
    result_dtype,
)
from deepbabysit.kernels.spec import BadInput, Form, Sample, define


def like(op: Any, gradient: Any, target: Any) -> Any:
    """Sum a cotangent to the shape, and cast it to the dtype, of the input that was broadcast or promoted."""
    if gradient.shape != target.shape:
        gradient = op.sum_to(gradient, shape=target.shape)
    if gradient.dtype != target.dtype:
        gradient = op.astype(gradient, dtype=target.dtype)
    return gradient


def _mismatch() -> list[BadInput]:
    return [BadInput((np.ones((2, 3)), np.ones((4,))), {}, ValueError, "do not fit together")]


def _integers() -> list[BadInput]:
    return [BadInput((np.ones((2,), np.int64),), {}, TypeError, "needs floating numbers")]


# -- arithmetic ------------------------------------------------------------------------------------------------------


def add(xp: Any, x: Any, y: Any) -> Any:
    """Add two arrays: ``x + y``."""
    return xp.add(x, y)


def _add_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (like(op, g[0], x[0]) if needs[0] else None, like(op, g[0], x[1]) if needs[1] else None)


ADD = define(add, infer=elementwise("add"), samples=drawing.binary(), errors=_mismatch, vjp=_add_vjp,
             inplace=((0, 0), (0, 1)))


def subtract(xp: Any, x: Any, y: Any) -> Any:
    """Subtract the second array: ``x - y``."""
    return xp.subtract(x, y)


def _subtract_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (
        like(op, g[0], x[0]) if needs[0] else None,
        like(op, op.negative(g[0]), x[1]) if needs[1] else None,
    )


SUBTRACT = define(subtract, infer=elementwise("subtract"), samples=drawing.binary(), errors=_mismatch,
                  vjp=_subtract_vjp, inplace=((0, 0), (0, 1)))


def multiply(xp: Any, x: Any, y: Any) -> Any:
    """Multiply two arrays element by element: ``x * y``."""
    return xp.multiply(x, y)


def _multiply_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (
        like(op, op.multiply(g[0], x[1]), x[0]) if needs[0] else None,
        like(op, op.multiply(g[0], x[0]), x[1]) if needs[1] else None,
    )


MULTIPLY = define(multiply, infer=elementwise("multiply"), samples=drawing.binary(), errors=_mismatch,
                  vjp=_multiply_vjp, saves_inputs=(0, 1), inplace=((0, 0), (0, 1)))


def divide(xp: Any, x: Any, y: Any) -> Any:
    """Divide by the second array: ``x / y``."""
    return xp.divide(x, y)


def _divide_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    share = op.divide(g[0], x[1])
    return (
        like(op, share, x[0]) if needs[0] else None,
        like(op, op.negative(op.multiply(share, out[0])), x[1]) if needs[1] else None,
    )


DIVIDE = define(divide, infer=elementwise_float("divide"), samples=drawing.binary(drawing.normal, drawing.positive),
                errors=_mismatch, vjp=_divide_vjp, saves_inputs=(1,), saves_outputs=(0,), inplace=((0, 0), (0, 1)))


def negative(xp: Any, x: Any) -> Any:
    """Change the sign: ``-x``."""
    return xp.negative(x)


NEGATIVE = define(negative, infer=elementwise("negative"), samples=drawing.unary(), inplace=((0, 0),),
                  vjp=lambda op, g, x, out, needs: (op.negative(g[0]),))


def power(xp: Any, x: Any, y: Any) -> Any:
    """Raise to a power: ``x ** y``. The derivative with respect to ``y`` needs positive ``x``; at ``x = 0`` it is 0."""
    return xp.pow(x, y)


def _power_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    base, exponent = x
    by_base = by_exponent = None
    if needs[0]:
        # where y = 0 the derivative is 0 even at x = 0, where x ** (y - 1) is infinite
        flat = op.equal(exponent, 0.0)
        slope = op.multiply(exponent, op.power(base, op.where(flat, 1.0, op.subtract(exponent, 1.0))))
        by_base = like(op, op.multiply(g[0], slope), base)
    if needs[1]:
        inside = op.greater(base, 0.0)
        logarithm = op.where(inside, op.log(op.where(inside, base, 1.0)), 0.0)
        by_exponent = like(op, op.multiply(g[0], op.multiply(out[0], logarithm)), exponent)
    return by_base, by_exponent


POWER = define(power, infer=elementwise("power"), samples=drawing.binary(drawing.positive, drawing.normal),
               errors=_mismatch, vjp=_power_vjp, saves_inputs=(0, 1), saves_outputs=(0,), inplace=((0, 0), (0, 1)))


# -- exponentials and roots ------------------------------------------------------------------------------------------


def exp(xp: Any, x: Any) -> Any:
    """Exponential: ``e ** x``."""
    return xp.exp(x)


EXP = define(exp, infer=elementwise_float("exp"), samples=drawing.unary(extremes=(-800.0, 0.0, 80.0)),
             errors=_integers, inplace=((0, 0),), saves_outputs=(0,),
             vjp=lambda op, g, x, out, needs: (op.multiply(g[0], out[0]),))


def expm1(xp: Any, x: Any) -> Any:
    """Exponential minus one, accurate near 0: ``e ** x - 1``."""
    return xp.expm1(x)


EXPM1 = define(expm1, infer=elementwise_float("expm1"), samples=drawing.unary(extremes=(-800.0, 1e-9, 80.0)),
               errors=_integers, inplace=((0, 0),), saves_outputs=(0,),
               vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.add(out[0], 1.0)),))


def log(xp: Any, x: Any) -> Any:
    """Natural logarithm."""
    return xp.log(x)


LOG = define(log, infer=elementwise_float("log"), samples=drawing.unary(drawing.positive, (1e-30, 1.0, 1e30)),
             errors=_integers, inplace=((0, 0),), saves_inputs=(0,),
             vjp=lambda op, g, x, out, needs: (op.divide(g[0], x[0]),))


def log1p(xp: Any, x: Any) -> Any:
    """Logarithm of ``1 + x``, accurate near 0."""
    return xp.log1p(x)


LOG1P = define(log1p, infer=elementwise_float("log1p"), samples=drawing.unary(drawing.positive, (1e-12, 0.0, 1e30)),
               errors=_integers, inplace=((0, 0),), saves_inputs=(0,),
               vjp=lambda op, g, x, out, needs: (op.divide(g[0], op.add(x[0], 1.0)),))


def sqrt(xp: Any, x: Any) -> Any:
    """Square root; its derivative at 0 is fixed at 0."""
    return xp.sqrt(x)


def _sqrt_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    flat = op.equal(out[0], 0.0)
    half = op.divide(op.multiply(g[0], 0.5), op.where(flat, 1.0, out[0]))
    return (op.where(flat, 0.0, half),)


SQRT = define(sqrt, infer=elementwise_float("sqrt"), samples=drawing.unary(drawing.positive, (0.0, 1e-30, 1e30)),
              errors=_integers, inplace=((0, 0),), saves_outputs=(0,), vjp=_sqrt_vjp)


def tanh(xp: Any, x: Any) -> Any:
    """Hyperbolic tangent."""
    return xp.tanh(x)


TANH = define(
    tanh, infer=elementwise_float("tanh"), samples=drawing.unary(extremes=(-1e4, -1e-8, 0.0, 1e4)),
    errors=_integers, inplace=((0, 0),), saves_outputs=(0,),
    vjp=lambda op, g, x, out, needs: (op.tanh_gradient(g[0], out[0]),),
)


def sin(xp: Any, x: Any) -> Any:
    """Sine of an angle in radians."""
    return xp.sin(x)


SIN = define(sin, infer=elementwise_float("sin"), samples=drawing.unary(), errors=_integers, inplace=((0, 0),),
             saves_inputs=(0,), vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.cos(x[0])),))


def cos(xp: Any, x: Any) -> Any:
    """Cosine of an angle in radians."""
    return xp.cos(x)


COS = define(cos, infer=elementwise_float("cos"), samples=drawing.unary(), errors=_integers, inplace=((0, 0),),
             saves_inputs=(0,),
             vjp=lambda op, g, x, out, needs: (op.negative(op.multiply(g[0], op.sin(x[0]))),))


def absolute(xp: Any, x: Any) -> Any:
    """Absolute value; its derivative at 0 is fixed at 0."""
    return xp.abs(x)


ABSOLUTE = define(
    absolute, infer=elementwise("absolute"), inplace=((0, 0),), saves_inputs=(0,),
    samples=drawing.unary(lambda rng, shape: drawing.away_from(rng, shape, 0.0), (-1.0, 0.0, 2.0)),
    vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.sign(x[0])),),
)


def sign(xp: Any, x: Any) -> Any:
    """Sign of each element: -1, 0 or 1 (derivative 0)."""
    return xp.sign(x)


SIGN = define(sign, infer=elementwise("sign"), samples=drawing.unary(extremes=(-2.0, 0.0, 2.0)), inplace=((0, 0),),
              differentiable=())


def floor(xp: Any, x: Any) -> Any:
    """Largest whole number that is not greater (derivative 0)."""
    return xp.floor(x)


FLOOR = define(floor, infer=elementwise("floor"), samples=drawing.unary(extremes=(-1.5, -0.0, 2.0)),
               inplace=((0, 0),), differentiable=())

# erf by W. J. Cody's rational Chebyshev approximations, Math. Comp. 23 (1969) 631-637: |x| <= 0.46875, <= 4, > 4.
_ERF_A = (3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02, 3.20937758913846947e03,
          1.85777706184603153e-1)
_ERF_B = (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_ERF_C = (5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e01, 2.98635138197400131e02,
          8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
          2.15311535474403846e-8)
_ERF_D = (1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
          3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03)
_ERF_P = (3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1, 1.60837851487422766e-2,
          6.58749161529837803e-4, 1.63153871373020978e-2)
_ERF_Q = (2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
          2.33520497626869185e-3)
_INVERSE_ROOT_PI = 0.56418958354775628695
TWO_OVER_ROOT_PI = 1.12837916709551257390


def erf(xp: Any, x: Any) -> Any:
    """Error function, ``2/sqrt(pi)`` times the integral of ``exp(-t^2)`` from 0 to x (Cody, Math. Comp. 23, 1969)."""
    if x.dtype.itemsize < 4:  # the polynomials leave the range of half precision
        return xp.astype(erf(xp, xp.astype(x, np.float32)), x.dtype)
    size = xp.abs(x)
    near = xp.where(size <= 0.46875, size, xp.zeros_like(size))
    square = near * near
    top, bottom = _ERF_A[4] * square, square
    for a, b in zip(_ERF_A[:3], _ERF_B[:3], strict=True):
        top, bottom = (top + a) * square, (bottom + b) * square
    small = near * (top + _ERF_A[3]) / (bottom + _ERF_B[3])

    middle = xp.where(size > 4.0, xp.ones_like(size) * 4.0, size)
    top, bottom = _ERF_C[8] * middle, middle
    for c, d in zip(_ERF_C[:7], _ERF_D[:7], strict=True):
        top, bottom = (top + c) * middle, (bottom + d) * middle
    medium = xp.exp(-middle * middle) * (top + _ERF_C[7]) / (bottom + _ERF_D[7])

    far = xp.where(size > 4.0, size, xp.ones_like(size) * 4.0)
    far = xp.where(far > 6.0, xp.ones_like(size) * 6.0, far)  # erf(6) is 1 to the last bit
    inverse = 1.0 / (far * far)
    top, bottom = _ERF_P[5] * inverse, inverse
    for p, q in zip(_ERF_P[:4], _ERF_Q[:4], strict=True):
        top, bottom = (top + p) * inverse, (bottom + q) * inverse
    tail = inverse * (top + _ERF_P[4]) / (bottom + _ERF_Q[4])
    large = xp.exp(-far * far) * (_INVERSE_ROOT_PI - tail) / far

    value = xp.where(size <= 0.46875, small, 1.0 - xp.where(size <= 4.0, medium, large))
    return xp.where(x == x, xp.where(x < 0, -value, value), x)  # NaN stays NaN


ERF = define(erf, infer=elementwise_float("erf"), errors=_integers, saves_inputs=(0,), inplace=((0, 0),),
             vjp=lambda op, g, x, out, needs: (op.erf_gradient(g[0], x[0]),),
             samples=drawing.unary(extremes=(-30.0, -4.0, 0.0, 0.46875, 5.9, 30.0)))

# -- choice ----------------------------------------------------------------------------------------------------------


def maximum(xp: Any, x: Any, y: Any) -> Any:
    """Larger of two values; a tie gives each side half of the gradient."""
    return xp.maximum(x, y)


def minimum(xp: Any, x: Any, y: Any) -> Any:
    """Smaller of two values; a tie gives each side half of the gradient."""
    return xp.minimum(x, y)


def _extreme_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    tie = op.equal(x[0], x[1])
    half = op.multiply(g[0], 0.5)
    result = []
    for mine in (0, 1):
        if needs[mine]:
            won = op.where(op.equal(out[0], x[mine]), g[0], 0.0)
            result.append(like(op, op.where(tie, half, won), x[mine]))
        else:
            result.append(None)
    return tuple(result)


def _no_ties(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(4):
        shape = drawing.draw_shape(rng)
        other = drawing.normal(rng, shape)
        yield Sample((other + drawing.away_from(rng, shape, 0.0), other))
    yield Sample((np.full((3, 1), 2.0), np.full((1, 4), 1.0)))
    yield Sample((np.ones((0, 2)), np.zeros((2,))))
    yield Sample((np.array([1.0, 2.0]), np.array([1.0, 3.0])), gradient=False)


MAXIMUM = define(maximum, infer=elementwise("maximum"), samples=_no_ties, errors=_mismatch, vjp=_extreme_vjp,
                 saves_inputs=(0, 1), saves_outputs=(0,), inplace=((0, 0), (0, 1)))
MINIMUM = define(minimum, infer=elementwise("minimum"), samples=_no_ties, errors=_mismatch, vjp=_extreme_vjp,
                 saves_inputs=(0, 1), saves_outputs=(0,), inplace=((0, 0), (0, 1)))


def where(xp: Any, condition: Any, x: Any, y: Any) -> Any:
    """Choose ``x`` where the condition holds and ``y`` elsewhere."""
    return xp.where(condition, x, y)


def _where_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    if dtypes[0].kind != "b":
        raise TypeError(f"where: the condition must be boolean; got {dtypes[0]}. Compare first: x > 0")
    return (Form(broadcast("where", shapes), result_dtype(dtypes[1:])),)


def _where_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng)
        yield Sample((
            rng.random(drawing.partner_shape(rng, shape)) < 0.5,
            drawing.normal(rng, shape),
            drawing.normal(rng, drawing.partner_shape(rng, shape)),
        ))
    yield Sample((rng.random((3, 1)) < 0.5, drawing.normal(rng, (1, 4)), drawing.normal(rng, ())))
    yield Sample((np.zeros((0,), bool), np.ones((0,)), np.ones((1,))))


def _where_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (
        None,
        like(op, op.where(x[0], g[0], 0.0), x[1]) if needs[1] else None,
        like(op, op.where(x[0], 0.0, g[0]), x[2]) if needs[2] else None,
    )


WHERE = define(
    where, infer=_where_infer, samples=_where_samples, vjp=_where_vjp, saves_inputs=(0,), differentiable=(1, 2),
    errors=lambda: [BadInput((np.ones(3), np.ones(3), np.ones(3)), {}, TypeError, "must be boolean")],
    inplace=((0, 1), (0, 2)),
)

# -- comparison and logic (no derivative) ----------------------------------------------------------------------------


def equal(xp: Any, x: Any, y: Any) -> Any:
    """Tell where two arrays are equal."""
    return xp.equal(x, y)


def not_equal(xp: Any, x: Any, y: Any) -> Any:
    """Tell where two arrays differ."""
    return xp.not_equal(x, y)


def less(xp: Any, x: Any, y: Any) -> Any:
    """Tell where the first is smaller."""
    return xp.less(x, y)


def less_equal(xp: Any, x: Any, y: Any) -> Any:
    """Tell where the first is not greater."""
    return xp.less_equal(x, y)


def greater(xp: Any, x: Any, y: Any) -> Any:
    """Tell where the first is greater."""
    return xp.greater(x, y)


def greater_equal(xp: Any, x: Any, y: Any) -> Any:
    """Tell where the first is not smaller."""
    return xp.greater_equal(x, y)


def isfinite(xp: Any, x: Any) -> Any:
    """Tell where a value is neither infinite nor NaN."""
    return xp.isfinite(x)


def isnan(xp: Any, x: Any) -> Any:
    """Tell where a value is NaN."""
    return xp.isnan(x)


for _comparison in (equal, not_equal, less, less_equal, greater, greater_equal):
    define(_comparison, infer=elementwise_bool(_comparison.__name__), samples=drawing.binary(), errors=_mismatch,
           differentiable=())
for _test in (isfinite, isnan):
    define(_test, infer=elementwise_bool(_test.__name__), differentiable=(),
           samples=drawing.unary(extremes=(0.0, np.inf, -np.inf, np.nan)))


def _bits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) < 0.5


def logical_and(xp: Any, x: Any, y: Any) -> Any:
    """Tell where both hold."""
    return xp.logical_and(x, y)


def logical_or(xp: Any, x: Any, y: Any) -> Any:
    """Tell where at least one holds."""
    return xp.logical_or(x, y)


def logical_not(xp: Any, x: Any) -> Any:
    """Tell where it does not hold."""
    return xp.logical_not(x)


for _logic in (logical_and, logical_or):
    define(_logic, infer=elementwise_bool(_logic.__name__), samples=drawing.binary(_bits), errors=_mismatch,
           differentiable=())
define(logical_not, infer=elementwise_bool("logical_not"), samples=drawing.unary(_bits), differentiable=())

# -- casts and barriers ----------------------------------------------------------------------------------------------


def astype(xp: Any, x: Any, *, dtype: Any) -> Any:
    """Convert to another dtype."""
    return xp.astype(x, dtype)


def _astype_infer(shapes: Any, dtypes: Any, *, dtype: Any) -> tuple[Form, ...]:
    return (Form(shapes[0], np.dtype(dtype)),)


def _astype_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for target in ("float64", "float32"):
        for shape in ((), (0,), (3, 2)):
            yield Sample((drawing.normal(rng, shape),), {"dtype": np.dtype(target)}, gradient=target == "float64")
    yield Sample((np.arange(4),), {"dtype": np.dtype("float64")}, gradient=False)


def _astype_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, *, dtype: Any) -> Any:
    if not is_floating(np.dtype(dtype)):
        return (None,)
    return (op.astype(g[0], dtype=x[0].dtype),)


ASTYPE = define(astype, infer=_astype_infer, samples=_astype_samples, vjp=_astype_vjp)


def stop_gradient(xp: Any, x: Any) -> Any:
    """Return the same values as a constant: no gradient passes."""
    return x


STOP_GRADIENT = define(stop_gradient, infer=elementwise("stop_gradient"), samples=drawing.unary(), view=True,
                       differentiable=())


def copy(xp: Any, x: Any) -> Any:
    """Return the same values in memory of their own."""
    return xp.astype(x, x.dtype)


COPY = define(copy, infer=elementwise("copy"), samples=drawing.unary(), vjp=lambda op, g, x, out, needs: (g[0],))
