"""The references themselves, against formulas from elsewhere: the suite takes them for the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.namespace import Namespace

NUMPY = Namespace(np)
POINTS = np.concatenate(
    [
        np.linspace(-7, 7, 2001),
        np.geomspace(1e-300, 1, 200),
        [0.46875, 4.0, 6.0, -0.0, np.inf, -np.inf, np.nan],
    ]
)


def test_erf_against_the_c_library() -> None:
    found = SPECS["erf"].reference(NUMPY, POINTS)
    truth = np.array([math.erf(x) for x in POINTS])
    np.testing.assert_allclose(found, truth, rtol=2 * float(np.finfo(np.float64).eps), atol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_erf_keeps_its_dtype_and_stays_finite(dtype: str) -> None:
    x = np.linspace(-7, 7, 201).astype(dtype)
    found = SPECS["erf"].reference(NUMPY, x)
    assert found.dtype == dtype
    truth = [math.erf(v) for v in x]
    np.testing.assert_allclose(found, truth, rtol=4 * float(np.finfo(dtype).eps))


def test_relu_shows_nan_and_its_gradient_does_not_multiply_by_zero() -> None:
    found = SPECS["relu"].reference(NUMPY, np.array([np.nan, -1.0, 2.0, np.inf, -np.inf]))
    np.testing.assert_array_equal(found, [np.nan, 0.0, 2.0, np.inf, 0.0])
    gradient = SPECS["relu_gradient"].reference(NUMPY, np.array([np.inf, 3.0]), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(gradient, [0.0, 3.0])


def test_log_softmax_of_large_numbers_keeps_its_digits() -> None:
    x = np.array([[1e4, 1e4, -1e4], [3e4, 3e4 - 1.0, 3e4 - 2.0]], np.float32)
    found = SPECS["log_softmax"].reference(NUMPY, x)
    shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    truth = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_logsumexp_softmax_sigmoid_at_the_extremes() -> None:
    assert SPECS["logsumexp"].reference(NUMPY, np.array([1e4, 1e4])) == 1e4 + math.log(2)
    np.testing.assert_array_equal(SPECS["softmax"].reference(NUMPY, np.array([1e4, -1e4])), [1.0, 0.0])
    np.testing.assert_array_equal(SPECS["sigmoid"].reference(NUMPY, np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])


def test_the_first_axis_may_be_symbolic() -> None:
    from deepbabysit.kernels.shapes import BATCH

    f4 = np.dtype(np.float32)
    for name, shapes, attrs, shape in [
        ("add", [(BATCH, 3), (3,)], {}, (BATCH, 3)),
        ("linear", [(BATCH, 3), (3, 4), (4,)], {}, (BATCH, 4)),
        ("reshape", [(BATCH, 3, 4)], {"shape": (-1, 12)}, (BATCH, 12)),
        ("getitem", [(BATCH, 3)], {"key": (("slice", None, None, None), 0)}, (BATCH,)),
        ("sum_to", [(BATCH, 3)], {"shape": (1, 3)}, (1, 3)),
        ("softmax", [(BATCH, 3)], {"axis": -1}, (BATCH, 3)),
    ]:
        assert SPECS[name].infer(shapes, [f4] * len(shapes), **attrs)[0].shape == shape
