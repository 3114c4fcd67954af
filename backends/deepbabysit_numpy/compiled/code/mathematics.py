"""Exponentials and their relatives without branches, so that a loop around them is vectorized; float32 and float64.

The largest error that was measured, in units of the last place (ulp), for float32 against float64 and for float64
against 60 digits: exp and decay 1.0, expm1 1.6 and 1.9, log 0.9, log1p 1.5, tanh 2.6, sigmoid 2.5 and 2.0, erf 1.1 and
3.0, softplus_tail 1.7. NaN stays NaN and infinities give what NumPy gives. exp, expm1, log, log1p, tanh and erf take
and give subnormal numbers; the others give 0 where the value is below the smallest normal number.

Each name stands for two functions, one for each dtype. Sums are not reordered in here: the order is what keeps the
digits. Only multiplications and additions may be joined to one operation; the numbers above hold with and without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from deepbabysit_numpy.compiled.jit import ordered

_F, _D = np.float32, np.float64


def _by_dtype(name: str, single: Callable[..., Any], double: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function that stands for one of two compiled ones; kernels on disk know it by its name."""

    def stands(x: Any) -> Any:
        raise NotImplementedError

    stands.__name__ = stands.__qualname__ = name

    def choose(x: Any) -> Any:
        chosen = single if x in (types.float32, types.int32) else double

        def call(x: Any) -> Any:
            return chosen(x)

        return call

    overload(stands, jit_options={"forceinline": True, "error_model": "numpy"})(choose)
    return stands


@intrinsic
def bits(context: Any, x: Any) -> Any:
    """Return the bits of a float as a whole number of the same size."""
    whole = types.int32 if x == types.float32 else types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(whole))

    return whole(x), generate


@intrinsic
def number(context: Any, word: Any) -> Any:
    """Return the float that has these bits."""
    real = types.float32 if word == types.int32 else types.float64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(real))

    return real(word), generate


@intrinsic
def wide(context: Any) -> Any:
    """Let the loops of the function that calls this use the widest vectors: LLVM takes 256 bits where 512 are there.

    For long loops that compute: on 262,144 numbers exp, erf and log took 0.65 to 0.8 of the time. Short rows lose, more
    of them is left to the scalar rest.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows no such attribute
        return context.get_dummy_value()

    return types.void(), generate


# -- powers of two -----------------------------------------------------------------------------------------------------
# Adding this number leaves the nearest whole number in the lowest bits, and subtracting it gives it as a float.

_ROUND_F, _ROUND_D = _F(12582912.0), _D(6755399441055744.0)
_BITS_F, _BITS_D = np.int32(_ROUND_F.view(np.int32)), np.int64(_ROUND_D.view(np.int64))
_BIAS_F, _BIAS_D = np.int32(127), np.int64(1023)
_SHIFT_F, _SHIFT_D = np.int32(23), np.int64(52)
_ONE_I, _ONE_L = np.int32(1), np.int64(1)

_LOG2E_F, _LOG2E_D = _F(1.4426950408889634), _D(1.4426950408889634)
_LN2_HIGH_F, _LN2_LOW_F = _F(0.693145751953125), _F(1.42860682030941723212e-6)
_LN2_HIGH_D, _LN2_LOW_D = _D(6.93147180369123816490e-01), _D(1.90821492927058770002e-10)
_LN2_F, _LN2_D = _F(0.6931471805599453), _D(0.6931471805599453)


@ordered
def _power_single(k: Any) -> Any:
    """``2^k`` for k in -127..128; the first is 0, the last infinite."""
    return number(np.int32((k + _BIAS_F) << _SHIFT_F))


@ordered
def _power_double(k: Any) -> Any:
    """``2^k`` for k in -1023..1024; the first is 0, the last infinite."""
    return number(np.int64((k + _BIAS_D) << _SHIFT_D))


@ordered
def _split_single(x: Any) -> Any:
    """``x = k ln(2) + r``: k as a whole number, and r."""
    shifted = x * _LOG2E_F + _ROUND_F
    n = shifted - _ROUND_F
    return np.int32(bits(shifted) - _BITS_F), (x - n * _LN2_HIGH_F) - n * _LN2_LOW_F


@ordered
def _split_double(x: Any) -> Any:
    """``x = k ln(2) + r``: k as a whole number, and r."""
    shifted = x * _LOG2E_D + _ROUND_D
    n = shifted - _ROUND_D
    return np.int64(bits(shifted) - _BITS_D), (x - n * _LN2_HIGH_D) - n * _LN2_LOW_D


@ordered
def _near_single(r: Any) -> Any:
    """``exp(r) - 1`` for |r| <= ln(2) / 2."""
    p = ((((_F(1.9875691500e-4) * r + _F(1.3981999507e-3)) * r + _F(8.3334519073e-3)) * r + _F(4.1665795894e-2)) * r
         + _F(1.6666665459e-1)) * r + _F(5.0000001201e-1)
    return r + r * r * p


@ordered
def _near_double(r: Any) -> Any:
    """``exp(r) - 1`` for |r| <= ln(2) / 2, by Taylor's series: the rest is below a tenth of the last bit."""
    p = _D(1 / 6227020800) * r + _D(1 / 479001600)
    p = (p * r + _D(1 / 39916800)) * r + _D(1 / 3628800)
    p = (p * r + _D(1 / 362880)) * r + _D(1 / 40320)
    p = (p * r + _D(1 / 5040)) * r + _D(1 / 720)
    p = (p * r + _D(1 / 120)) * r + _D(1 / 24)
    p = (p * r + _D(1 / 6)) * r + _D(1 / 2)
    return r + r * r * p


# -- exponentials ------------------------------------------------------------------------------------------------------


@ordered
def _exp_single(x: Any) -> Any:
    x = _F(89.0) if x > _F(89.0) else x
    x = _F(-104.0) if x < _F(-104.0) else x
    k, r = _split_single(x)
    half = np.int32(k >> _ONE_I)  # two factors: one alone would leave the range at both ends
    return (_near_single(r) + _F(1.0)) * _power_single(half) * _power_single(np.int32(k - half))


@ordered
def _exp_double(x: Any) -> Any:
    x = _D(710.0) if x > _D(710.0) else x
    x = _D(-746.0) if x < _D(-746.0) else x
    k, r = _split_double(x)
    half = k >> _ONE_L
    return (_near_double(r) + _D(1.0)) * _power_double(half) * _power_double(k - half)


exp = _by_dtype("exp", _exp_single, _exp_double)
"""``e^x``."""


@ordered
def _decay_single(x: Any) -> Any:
    x = _F(-88.0) if x < _F(-88.0) else x
    k, r = _split_single(x)
    return (_near_single(r) + _F(1.0)) * _power_single(k)  # k = -127 gives the bits of 0


@ordered
def _decay_double(x: Any) -> Any:
    x = _D(-709.0) if x < _D(-709.0) else x
    k, r = _split_double(x)
    return (_near_double(r) + _D(1.0)) * _power_double(k)


decay = _by_dtype("decay", _decay_single, _decay_double)
"""``e^x`` for x that is not positive; below the smallest normal number it is 0."""


@ordered
def _expm1_single(x: Any) -> Any:
    tiny = (x < _F(1e-20)) & (x > _F(-1e-20))  # the value is x itself, its sign and its last bit too
    y = _F(89.0) if x > _F(89.0) else x
    y = _F(-18.0) if y < _F(-18.0) else y
    k, r = _split_single(y)
    factor = _power_single(np.int32(k - _ONE_I))  # half of it, so that it stays finite where the result does
    return x if tiny else _F(2.0) * (factor * _near_single(r) + (factor - _F(0.5)))


@ordered
def _expm1_double(x: Any) -> Any:
    tiny = (x < _D(1e-40)) & (x > _D(-1e-40))
    y = _D(710.0) if x > _D(710.0) else x
    y = _D(-40.0) if y < _D(-40.0) else y
    k, r = _split_double(y)
    factor = _power_double(k - _ONE_L)
    return x if tiny else _D(2.0) * (factor * _near_double(r) + (factor - _D(0.5)))


expm1 = _by_dtype("expm1", _expm1_single, _expm1_double)
"""``e^x - 1``, accurate near 0."""

# -- tanh and sigmoid --------------------------------------------------------------------------------------------------

_SIGN_I, _SIGN_L = np.int32(-(2**31)), np.int64(-(2**63))
_REST_I, _REST_L = np.int32(2**31 - 1), np.int64(2**63 - 1)


@ordered
def _size_single(x: Any) -> Any:
    return number(np.int32(bits(x) & _REST_I))


@ordered
def _size_double(x: Any) -> Any:
    return number(np.int64(bits(x) & _REST_L))


@ordered
def _sign_single(size: Any, x: Any) -> Any:
    """Return a number that is not negative with the sign of x."""
    return number(np.int32(bits(size) | (bits(x) & _SIGN_I)))


@ordered
def _sign_double(size: Any, x: Any) -> Any:
    """Return a number that is not negative with the sign of x."""
    return number(np.int64(bits(size) | (bits(x) & _SIGN_L)))


@ordered
def _tanh_single(x: Any) -> Any:
    size = _size_single(x)
    size = _F(9.5) if size > _F(9.5) else size
    k, r = _split_single(_F(-2.0) * size)
    factor = _power_single(k)
    t = factor * _near_single(r) + (factor - _F(1.0))
    return _sign_single(_size_single(t / (_F(2.0) + t)), x)


@ordered
def _tanh_double(x: Any) -> Any:
    size = _size_double(x)
    size = _D(20.0) if size > _D(20.0) else size
    k, r = _split_double(_D(-2.0) * size)
    factor = _power_double(k)
    t = factor * _near_double(r) + (factor - _D(1.0))
    return _sign_double(_size_double(t / (_D(2.0) + t)), x)


tanh = _by_dtype("tanh", _tanh_single, _tanh_double)
"""Hyperbolic tangent: ``-t / (2 + t)`` with ``t = expm1(-2 |x|)``."""


@ordered
def _sigmoid_single(x: Any) -> Any:
    x = _F(-89.0) if x < _F(-89.0) else x
    x = _F(87.0) if x > _F(87.0) else x
    k, r = _split_single(-x)
    factor = _power_single(k)
    return _F(1.0) / (_F(1.0) + factor * (_near_single(r) + _F(1.0)))


@ordered
def _sigmoid_double(x: Any) -> Any:
    x = _D(-710.0) if x < _D(-710.0) else x
    x = _D(708.0) if x > _D(708.0) else x
    k, r = _split_double(-x)
    factor = _power_double(k)
    return _D(1.0) / (_D(1.0) + factor * (_near_double(r) + _D(1.0)))


sigmoid = _by_dtype("sigmoid", _sigmoid_single, _sigmoid_double)
"""``1 / (1 + exp(-x))``."""

# -- order -------------------------------------------------------------------------------------------------------------
# The largest of a row is found among whole numbers of the same order: that loop is vectorized, and NaN is the largest.

_TOP_I, _TOP_L = np.int32(31), np.int64(63)


@ordered
def _order_single(x: Any) -> Any:
    word = bits(x)
    return np.int32(word ^ np.int32(np.int32(word >> _TOP_I) & _REST_I))


@ordered
def _order_double(x: Any) -> Any:
    word = bits(x)
    return word ^ np.int64((word >> _TOP_L) & _REST_L)


order = _by_dtype("order", _order_single, _order_double)
"""Return a whole number that has the place of x in the order of floats."""


@ordered
def _place_single(rank: Any) -> Any:
    return number(np.int32(rank ^ np.int32(np.int32(rank >> _TOP_I) & _REST_I)))


@ordered
def _place_double(rank: Any) -> Any:
    return number(rank ^ np.int64((rank >> _TOP_L) & _REST_L))


place = _by_dtype("place", _place_single, _place_double)
"""Return the float that `order` made a whole number of."""

# -- logarithms --------------------------------------------------------------------------------------------------------


@ordered
def _log_near_single(f: Any, k: Any) -> Any:
    """``log(1 + f) + k ln(2)`` for 1 + f between the roots of 1/2 and of 2 (coefficients: Cephes, logf)."""
    z = f * f
    p = (_F(7.0376836292e-2) * f - _F(1.1514610310e-1)) * f + _F(1.1676998740e-1)
    p = ((p * f - _F(1.2420140846e-1)) * f + _F(1.4249322787e-1)) * f - _F(1.6668057665e-1)
    p = ((p * f + _F(2.0000714765e-1)) * f - _F(2.4999993993e-1)) * f + _F(3.3333331174e-1)
    y = k * _F(-2.12194440e-4) + f * z * p
    return k * _F(0.693359375) + (f + (y - _F(0.5) * z))


@ordered
def _log_near_double(f: Any, k: Any) -> Any:
    """``log(1 + f) + k ln(2)`` for 1 + f between the roots of 1/2 and of 2 (coefficients: fdlibm, e_log.c)."""
    s = f / (_D(2.0) + f)
    z = s * s
    p = _D(1.479819860511658591e-01) * z + _D(1.531383769920937332e-01)
    p = (p * z + _D(1.818357216161805012e-01)) * z + _D(2.222219843214978396e-01)
    p = (p * z + _D(2.857142874366239149e-01)) * z + _D(3.999999999940941908e-01)
    p = (p * z + _D(6.666666666666735130e-01)) * z
    half = _D(0.5) * f * f
    return k * _LN2_HIGH_D - ((half - (s * (half + p) + k * _LN2_LOW_D)) - f)


@ordered
def _log_single(x: Any) -> Any:
    small = x < _F(1.17549435e-38)
    y = x * _F(8388608.0) if small else x
    word = np.int32(bits(y) - np.int32(0x3F3504F3))  # how far above the root of 1/2
    k = np.int32(word >> _SHIFT_F)
    m = number(np.int32(np.int32(word & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)))
    exponent = _F(k) - (_F(23.0) if small else _F(0.0))
    value = _log_near_single(m - _F(1.0), exponent)
    value = x if x == _F(np.inf) else value
    value = _F(-np.inf) if x == _F(0.0) else value
    return value if x >= _F(0.0) else _F(np.nan)


@ordered
def _log_double(x: Any) -> Any:
    small = x < _D(2.2250738585072014e-308)
    y = x * _D(18014398509481984.0) if small else x
    word = bits(y) - np.int64(0x3FE6A09E667F3BCD)
    k = word >> _SHIFT_D
    m = number(np.int64((word & np.int64(0x000FFFFFFFFFFFFF)) + np.int64(0x3FE6A09E667F3BCD)))
    exponent = _D(k) - (_D(54.0) if small else _D(0.0))
    value = _log_near_double(m - _D(1.0), exponent)
    value = x if x == _D(np.inf) else value
    value = _D(-np.inf) if x == _D(0.0) else value
    return value if x >= _D(0.0) else _D(np.nan)


log = _by_dtype("log", _log_single, _log_double)
"""Natural logarithm."""


@ordered
def _log1p_single(x: Any) -> Any:
    y = x + _F(1.0)
    word = np.int32(bits(y) - np.int32(0x3F3504F3))
    k = np.int32(word >> _SHIFT_F)
    m = number(np.int32(np.int32(word & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)))
    value = _log_near_single(m - _F(1.0), _F(k)) + (x - (y - _F(1.0))) / y
    value = x if (x == _F(np.inf)) | ((x < _F(1e-20)) & (x > _F(-1e-20))) else value
    value = _F(-np.inf) if x == _F(-1.0) else value
    return value if x >= _F(-1.0) else _F(np.nan)


@ordered
def _log1p_double(x: Any) -> Any:
    y = x + _D(1.0)
    word = bits(y) - np.int64(0x3FE6A09E667F3BCD)
    k = word >> _SHIFT_D
    m = number(np.int64((word & np.int64(0x000FFFFFFFFFFFFF)) + np.int64(0x3FE6A09E667F3BCD)))
    value = _log_near_double(m - _D(1.0), _D(k)) + (x - (y - _D(1.0))) / y
    value = x if (x == _D(np.inf)) | ((x < _D(1e-40)) & (x > _D(-1e-40))) else value
    value = _D(-np.inf) if x == _D(-1.0) else value
    return value if x >= _D(-1.0) else _D(np.nan)


log1p = _by_dtype("log1p", _log1p_single, _log1p_double)
"""``log(1 + x)``, accurate near 0: what 1 + x lost in rounding is added at the end."""


@ordered
def _softplus_tail_single(x: Any) -> Any:
    z = _decay_single(-_size_single(x))
    above = z > _F(0.41421356)
    return _log_near_single(_F(0.5) * z - _F(0.5) if above else z, _F(1.0) if above else _F(0.0))


@ordered
def _softplus_tail_double(x: Any) -> Any:
    z = _decay_double(-_size_double(x))
    above = z > _D(0.41421356237309503)
    return _log_near_double(_D(0.5) * z - _D(0.5) if above else z, _D(1.0) if above else _D(0.0))


softplus_tail = _by_dtype("softplus_tail", _softplus_tail_single, _softplus_tail_double)
"""``log(1 + exp(-|x|))``, accurate where it is small."""

# -- the error function ------------------------------------------------------------------------------------------------


@ordered
def _erf_single(x: Any) -> Any:
    """Two polynomials: ``x + x p(x^2)`` up to 0.9277, and ``1 - exp(-q(|x|))``."""
    size = _size_single(x)
    s = x * x
    near = ((_F(-5.96761703e-4) * s + _F(4.99119423e-3)) * s - _F(2.67681349e-2)) * s + _F(1.12819925e-1)
    near = ((near * s - _F(3.76125336e-1)) * s + _F(1.28379166e-1)) * x + x
    t = _F(4.0) if size > _F(4.0) else size
    q = ((_F(-1.72853470e-5) * t + _F(3.83197126e-4)) * t - _F(3.88396438e-3)) * t + _F(2.42546219e-2)
    q = ((q * t - _F(1.06777877e-1)) * t - _F(6.34846687e-1)) * t - _F(1.28717512e-1)
    far = _sign_single(_F(1.0) - _decay_single(q * t - t), x)
    return far if size > _F(0.927734375) else near


@ordered
def _erf_double(x: Any) -> Any:
    """Cody's three rational approximations (Math. Comp. 23, 1969); one division and one exp serve all of them.

    The third is a quotient of polynomials in 1/x^2; both are multiplied by x^10 here.
    """
    size = _size_double(x)
    near, far = size <= _D(0.46875), size > _D(4.0)
    top = _D(6.0) if size > _D(6.0) else size  # erf(6) is 1 to the last bit
    square = top * top
    u = square if near or far else top
    a = (((_D(1.85777706184603153e-1) * u + _D(3.16112374387056560e00)) * u + _D(1.13864154151050156e02)) * u
         + _D(3.77485237685302021e02)) * u + _D(3.20937758913846947e03)
    b = (((u + _D(2.36012909523441209e01)) * u + _D(2.44024637934444173e02)) * u
         + _D(1.28261652607737228e03)) * u + _D(2.84423683343917062e03)
    c = (((_D(2.15311535474403846e-8) * u + _D(5.64188496988670089e-1)) * u + _D(8.88314979438837594e0)) * u
         + _D(6.61191906371416295e01)) * u + _D(2.98635138197400131e02)
    c = (((c * u + _D(8.81952221241769090e02)) * u + _D(1.71204761263407058e03)) * u
         + _D(2.05107837782607147e03)) * u + _D(1.23033935479799725e03)
    d = (((u + _D(1.57449261107098347e01)) * u + _D(1.17693950891312499e02)) * u
         + _D(5.37181101862009858e02)) * u + _D(1.62138957456669019e03)
    d = (((d * u + _D(3.29079923573345963e03)) * u + _D(4.36261909014324716e03)) * u
         + _D(3.43936767414372164e03)) * u + _D(1.23033935480374942e03)
    p = ((_D(6.58749161529837803e-4) * u + _D(1.60837851487422766e-2)) * u + _D(1.25781726111229246e-1)) * u
    p = ((p + _D(3.60344899949804439e-1)) * u + _D(3.05326634961232344e-1)) * u + _D(1.63153871373020978e-2)
    q = ((_D(2.33520497626869185e-3) * u + _D(6.05183413124413191e-2)) * u + _D(5.27905102951428412e-1)) * u
    q = (((q + _D(1.87295284992346725e00)) * u + _D(2.56852019228982242e00)) * u + _D(1.0)) * u
    upper = a if near else (_D(0.56418958354775628695) * q - p if far else c)
    lower = b if near else (q * top if far else d)
    share = upper / lower
    outer = _D(1.0) - _decay_double(-square) * share
    value = _sign_double(outer, x)
    value = x * share if near else value
    return value if x == x else x


erf = _by_dtype("erf", _erf_single, _erf_double)
"""Error function; NaN stays NaN."""
