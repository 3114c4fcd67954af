"""Statistics: every column against plain NumPy, what is not finite, extreme sizes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.statistics import Statistic, UnitStatistic
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device

WAYS = ["compiled", "plain", "cpu:reference"]
NAMES = ["tensor_statistics", "segment_statistics", "change_statistics", "unit_activity"]


@pytest.fixture(params=WAYS)
def device(request, monkeypatch) -> Device:
    """A CPU with compiled kernels at every size, one with the plain kernels only, one with neither."""
    if request.param == "cpu:reference":
        return find_device("cpu:reference")
    from deepbabysit_numpy import open_backend
    from deepbabysit_numpy.compiled import sizes

    if request.param == "compiled":
        pytest.importorskip("numba")
    for name in sizes.LEAST:
        monkeypatch.setitem(sizes.LEAST, name, 0 if request.param == "compiled" else 1 << 60)
    found = Device("cpu", open_backend())
    for name in NAMES:
        plain = found.backend.kernels[name]
        forms = [find_device("cpu").backend.asarray(np.ones((8, 8), np.float32))]
        assert plain.variants[0].supports(forms) is (request.param == "compiled")
    return found


def measure(device: Device, x: Any) -> np.ndarray:
    return call(device, SPECS["tensor_statistics"], (np.asarray(x),))[0]


def expected(x: np.ndarray) -> dict[Statistic, float]:
    """Return the statistics as NumPy has them, in the longest precision that it offers."""
    wide = np.asarray(x).astype(np.longdouble).reshape(-1)
    finite = wide[np.isfinite(wide)]
    some = finite.size > 0
    nan = float("nan")
    return {
        Statistic.COUNT: wide.size,
        Statistic.MEAN: finite.mean() if some else nan,
        Statistic.STD: finite.std() if some else nan,
        Statistic.MINIMUM: finite.min() if some else nan,
        Statistic.MAXIMUM: finite.max() if some else nan,
        Statistic.ABSOLUTE_MAXIMUM: np.abs(finite).max() if some else 0.0,
        Statistic.ZEROS: (wide == 0).sum(),
        Statistic.NON_FINITE: wide.size - finite.size,
        Statistic.NORM: np.sqrt((finite * finite).sum()),
    }


def agrees(device: Device, x: np.ndarray, rtol: float = 1e-9) -> None:
    found, wanted = measure(device, x), expected(x)
    assert found.shape == (9,) and found.dtype == np.float64
    largest = float(wanted[Statistic.ABSOLUTE_MAXIMUM])
    for column, value in wanted.items():
        # a mean near 0 and a deviation near 0 are as exact as the values that they come from
        atol = 1e-13 * largest if column in (Statistic.MEAN, Statistic.STD) else 0.0
        np.testing.assert_allclose(found[column], float(value), rtol=rtol, atol=atol, err_msg=column.name)


def test_columns_have_one_name_each():
    assert [s.value for s in Statistic] == list(range(9))
    assert [s.value for s in UnitStatistic] == list(range(6))
    for kind in (Statistic, UnitStatistic):
        assert all(member.name in inspect.getdoc(kind) for member in kind)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("size", [1, 2, 31, 2047, 2048, 2049, 20001])
def test_every_column(device, size, dtype):
    rng = np.random.default_rng(size)
    x = (rng.standard_normal(size) * 3.0 + 1.0).astype(dtype)
    x[rng.random(size) < 0.2] = 0.0
    agrees(device, x)
    agrees(device, np.abs(x))
    agrees(device, -np.abs(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
def test_what_is_not_finite_is_counted_and_left_out(device, value, dtype):
    x = np.random.default_rng(0).standard_normal(10_000).astype(dtype)
    for places in ([0], [9_999], [5000], list(range(0, 10_000, 7)), list(range(10_000))):
        broken = x.copy()
        broken[places] = value
        agrees(device, broken)
        assert measure(device, broken)[Statistic.NON_FINITE] == len(places)


def test_the_deviation_is_stable(device):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(50_000) + 30_000.0).astype(np.float32)
    agrees(device, x, rtol=1e-8)
    x[0] = 1e9  # far from the others: as a first guess of the mean it is a bad one
    agrees(device, x, rtol=1e-8)
    sorted_values = np.sort(rng.standard_normal(50_000))
    agrees(device, sorted_values)
    assert measure(device, np.full(5000, 0.1, np.float32))[Statistic.STD] < 1e-15


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 3e38), ("float32", 1e-38), ("float32", 1e-45), ("float64", 1e300), ("float64", 1e-300),
     ("float64", 5e-324)],
)
def test_extreme_sizes_keep_norm_and_deviation(device, dtype, size):
    x = np.where(np.arange(3000) % 3 == 0, -size, size).astype(dtype)
    found = measure(device, x)
    true = float(x[1])
    np.testing.assert_allclose(found[Statistic.STD] / true, np.sqrt(8.0) / 3.0, rtol=1e-6 if true > 1e-310 else 0.1)
    if size < 1e300:
        np.testing.assert_allclose(found[Statistic.NORM] / true, np.sqrt(3000.0), rtol=1e-6 if true > 1e-310 else 0.1)
    assert (found[Statistic.MINIMUM], found[Statistic.MAXIMUM]) == (-true, true)
    assert found[Statistic.ABSOLUTE_MAXIMUM] == true
    assert found[Statistic.ZEROS] == found[Statistic.NON_FINITE] == 0


def test_both_zeros_count(device):
    found = measure(device, np.array([0.0, -0.0, 1e-45, -1e-45], np.float32))
    assert found[Statistic.ZEROS] == 2
    assert measure(device, np.zeros(5000, np.float32))[Statistic.ZEROS] == 5000


@given(st.lists(st.floats(width=32), max_size=40))
def test_any_float32(values):
    x = np.array(values, np.float32)
    for name in ("cpu", "cpu:reference"):
        agrees(find_device(name), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_segments_are_measured_alone(device, dtype):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(9000).astype(dtype)
    x[5000:5010] = np.nan  # belongs to no segment
    segments = ((0, 3000), (3008, 1992), (5010, 1), (6000, 0), (6016, 2984))
    (rows,) = call(device, SPECS["segment_statistics"], (x,), {"segments": segments})
    for row, (begin, length) in zip(rows, segments, strict=True):
        np.testing.assert_array_equal(row, measure(device, x[begin : begin + length]))
    assert rows[:, Statistic.NON_FINITE].sum() == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_changes_are_those_of_the_difference(device, dtype):
    rng = np.random.default_rng(2)
    before = rng.standard_normal(7000).astype(dtype)
    x = before + (rng.standard_normal(7000) * 1e-3).astype(dtype)
    x[10], x[4000], before[4001] = np.nan, np.inf, -np.inf
    segments = ((0, 2500), (2512, 4488), (20, 100))
    (rows,) = call(device, SPECS["change_statistics"], (x, before), {"segments": segments})
    (wanted,) = call(device, SPECS["segment_statistics"], (x - before,), {"segments": segments})
    np.testing.assert_allclose(rows, wanted, rtol=1e-10, atol=1e-15)
    assert rows[:, Statistic.NON_FINITE].tolist() == [1, 2, 0]


@pytest.mark.parametrize("shape", [(1, 3), (7, 5), (64, 512), (4, 6, 6, 32), (1030, 300), (3, 1), (5,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units(device, shape, dtype):
    x = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    x = np.maximum(x, 0.0) - (x < -1.0)
    x[..., 0] = 0.0
    rows = x.reshape(-1, shape[-1])
    if rows.shape[0] > 2 and rows.shape[1] > 2:
        rows[0, 1], rows[1, 1], rows[2, 2] = np.nan, -np.inf, np.inf
    (found,) = call(device, SPECS["unit_activity"], (x,), {"center": 0.25, "limit": 0.5})
    finite = np.isfinite(rows)
    with np.errstate(invalid="ignore"):
        far = np.abs(rows - 0.25) >= 0.5
    np.testing.assert_array_equal(found[UnitStatistic.POSITIVE], (rows > 0).sum(axis=0))
    np.testing.assert_array_equal(found[UnitStatistic.ZEROS], (rows == 0).sum(axis=0))
    np.testing.assert_array_equal(found[UnitStatistic.BEYOND], far.sum(axis=0))
    np.testing.assert_array_equal(found[UnitStatistic.NON_FINITE], (~finite).sum(axis=0))
    np.testing.assert_array_equal(found[UnitStatistic.MINIMUM], rows.min(axis=0, where=finite, initial=np.inf))
    np.testing.assert_array_equal(found[UnitStatistic.MAXIMUM], rows.max(axis=0, where=finite, initial=-np.inf))


def test_a_unit_without_finite_values(device):
    x = np.array([[np.nan, np.inf, 1.0], [np.nan, -np.inf, 2.0]], np.float32)
    (found,) = call(device, SPECS["unit_activity"], (x,))
    assert np.isnan(found[4:, :2]).all()
    assert found[:, 2].tolist() == [2, 0, 0, 0, 1, 2]
    assert found[UnitStatistic.POSITIVE].tolist() == [0, 1, 2]
    assert found[UnitStatistic.BEYOND].tolist() == [0, 2, 0]
    assert found[UnitStatistic.NON_FINITE].tolist() == [2, 2, 0]
