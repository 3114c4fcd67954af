"""One-hot labels, finite checks and windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepbabysit.data import check_finite, checks, one_hot, windows

quick = settings(derandomize=True, deadline=None, max_examples=60)


@quick
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=50), dtype=st.sampled_from(["i1", "u1", "i8", "f4"]))
def test_one_hot_is_the_inverse_of_argmax(labels, dtype):
    encoded = one_hot(np.array(labels, dtype), classes=7)
    assert encoded.shape == (len(labels), 7) and encoded.dtype == np.float32
    assert encoded.argmax(axis=1).tolist() == labels
    assert (encoded.sum(axis=1) == 1).all() and set(np.unique(encoded)) <= {0, 1}
    assert np.array_equal(one_hot(np.array(labels)[:, None], 7), encoded)


def test_levels_give_the_order_of_the_columns():
    assert one_hot(["no", "yes", "no"], ["yes", "no"]).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert one_hot(["b", "a"]).tolist() == [[0, 1], [1, 0]]
    assert one_hot([10, 30], [10, 20, 30]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert one_hot([True, False]).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (([0, 1, 12], 10), ValueError, r"label 12 in row 2 is out of range for 10 classes \(0..9\)"),
        (([0, -1], 3), ValueError, "label -1 in row 1 .*count from 0"),
        (([0.5, 1.0],), ValueError, "label 0.5 in row 0 is no whole number"),
        (([np.nan],), ValueError, "no whole number"),
        ((["a", "bb"], ["a", "b", "c"]), ValueError, r"label 'bb' in row 1 .* did you mean 'b'"),
        ((["a"], ["a", "a"]), ValueError, "twice"),
        (([[1, 2]],), ValueError, "shape"),
        (([10**12],), ValueError, "if that is right say classes="),
        (([],), ValueError, "say classes="),
        (([1j],), TypeError, "integers"),
        (([1], "ab"), TypeError, "list of levels"),
        (([1], 0), ValueError, "at least 1"),
    ],
)
def test_one_hot_says_what_is_wrong(arguments, error, says):
    with pytest.raises(error, match=says):
        one_hot(*arguments)


@quick
@given(
    rows=st.integers(1, 60),
    bad=st.sets(st.integers(0, 59), max_size=5),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
)
def test_finite_check_names_exactly_the_bad_rows(rows, bad, value, dtype):
    bad = sorted(row for row in bad if row < rows)
    array = np.ones((rows, 2, 3), dtype)
    array[bad, 1, 2] = value
    if not bad:
        check_finite("x", array)
        return
    with pytest.raises(ValueError) as caught:
        check_finite("x", array)
    told = str(caught.value)
    assert f"in {len(bad)} of {rows} rows" in told
    assert ", ".join(map(str, bad)) + " (counting" in told
    assert f"x[{bad[0]}, 1, 2]" in told


def test_finite_check_over_many_blocks(monkeypatch):
    monkeypatch.setattr(checks, "_BLOCK", 8)
    array = np.zeros((100, 4))
    array[[3, 50, 99], 0] = np.nan
    assert checks.bad_rows(array).tolist() == [3, 50, 99]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_finite_check_by_threads(monkeypatch, count):
    monkeypatch.setattr(checks, "_SHARED", 1)
    monkeypatch.setattr(checks.threads, "_CHOSEN", [count])
    array = np.zeros((10, 3), "f")
    for bad in ([], [0], [9], [3, 4, 5], list(range(10))):
        array[:] = 0
        array[bad, 2] = np.nan
        assert checks.bad_rows(array).tolist() == bad
    assert checks.bad_rows(np.full((3, 2), np.inf)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_finite_check_takes_the_largest_numbers(dtype):
    array = np.full((50, 4), np.finfo(dtype).max, dtype)
    assert checks.bad_rows(array).tolist() == []
    array[7, 1] = -np.inf
    assert checks.bad_rows(array).tolist() == checks.bad_rows(np.asfortranarray(array)).tolist() == [7]


def test_finite_check_looks_into_structures_and_skips_integers():
    check_finite("y", np.array([1, 2]))
    check_finite("y", np.array(["a"]))
    with pytest.raises(ValueError, match=r"x\['b'\] holds NaN"):
        check_finite("x", {"a": np.zeros(3), "b": np.array([0, np.nan, 0])})


def test_windows_are_shifted_by_one():
    ids = np.arange(100) % 7
    x, y = windows(ids, length=8, stride=3)
    for i in range(len(x)):
        assert np.array_equal(x[i], ids[3 * i : 3 * i + 8]) and np.array_equal(y[i], ids[3 * i + 1 : 3 * i + 9])
    assert 3 * len(x) + 8 >= len(ids) - 3
    with pytest.raises(ValueError, match="need 101 ids, got 100"):
        windows(ids, length=100)
    with pytest.raises(TypeError, match="integers"):
        windows(np.zeros(9), 2)
