"""Facts about data: counted by hand, and against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import TABLES, raw

from deepbabysit.babysit.facts import data_facts, label_facts


def test_features_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (200, 4, 2)).astype(np.float32)
    x[:, 1, 0] = 0.1
    found = data_facts([x]).inputs[0]
    flat = x.reshape(200, 8).astype(np.float64)
    np.testing.assert_allclose(found.mean, flat.mean(axis=0))
    np.testing.assert_allclose(found.std, np.where(np.arange(8) == 2, 0.0, flat.std(axis=0)), atol=1e-12)
    assert found.minimum == tuple(flat.min(axis=0)) and found.maximum == tuple(flat.max(axis=0))
    assert found.constant == (2,) and found.shape == (4, 2) and not found.whole
    assert found.common[2] == 1.0 and found.common[0] == 1 / 200


def test_rows_that_are_not_finite_are_named_and_left_out() -> None:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    y = np.arange(20) % 2
    x[[3, 7], 1] = np.nan, np.inf
    v = x[:5] + 100
    found = data_facts([x], y, ([v], y[:5]))
    assert [(n.array, n.rows, n.first) for n in found.not_finite] == [("x", 2, (3, 7)), ("validation x", 1, (3,))]
    assert np.isnan(found.not_finite[0].value)
    assert found.looked == 18 and np.isfinite(found.inputs[0].mean).all()
    nothing = data_facts([np.full((4, 2), np.nan, np.float32)], np.zeros(4))
    assert nothing.looked == 0 and nothing.labels is None


def test_copies_conflicts_and_overlap_are_counted() -> None:
    x = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [3, 4], [5, -0.0], [5, 0.0]], np.float32)
    y = np.array([0, 1, 0, 1, 1, 0, 0])
    found = data_facts([x], y, ([np.array([[3, 4], [9, 9]], np.float32)], np.array([1, 0])))
    # rows 2 and 3 copy row 0 (3 with another label), 4 copies 1, 6 copies 5 (-0 is 0)
    assert (found.copies, found.duplicates, found.conflicts) == (4, 3, 1)
    assert found.examples == ((0, 3),)
    assert found.overlap is not None and (found.overlap.rows, found.overlap.of) == (1, 2)
    assert found.overlap.examples == ((0, 1),)


def test_numbers_of_equal_rows_conflict_where_they_are_far_apart() -> None:
    x = np.repeat(np.arange(50.0), 2)[:, None]
    y = np.repeat(np.linspace(0, 10, 50), 2)
    y[1::2] += 0.1  # measured twice
    assert data_facts([x], y).conflicts == 0
    y[1] += 5.0
    assert data_facts([x], y).conflicts == 1


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.sampled_from([np.float32, np.int64, np.uint8])
)
def test_copies_are_those_of_numpy_unique(seed: int, rows: int, width: int, dtype: type) -> None:
    x = np.random.default_rng(seed).integers(0, 3, (rows, width)).astype(dtype)
    found = data_facts([x], np.zeros(rows))
    assert found.copies == found.duplicates == rows - len(np.unique(x, axis=0))
    held = np.random.default_rng(seed + 1).integers(0, 3, (10, width)).astype(dtype)
    overlap = data_facts([x], None, ([held], None)).overlap
    known = {row.tobytes() for row in x}
    assert overlap is not None and overlap.rows == sum(row.tobytes() in known for row in held)


@pytest.mark.parametrize(
    ("y", "kind", "classes"),
    [
        (np.array([0, 2, 1, 2]), "classes", 3),
        (np.array([0.0, 1.0, 1.0]), "classes", 2),
        (np.array([[0], [1]], np.float32), "classes", 2),
        (np.eye(4), "one_hot", 4),
        (np.array([[1, 1, 0], [0, 0, 0]]), "multilabel", 3),
        (np.array([1.5, 2.0]), "numbers", 0),
        (np.arange(500), "numbers", 0),
        (np.array([[1.0, 2.0], [3.0, 5.0]]), "numbers", 0),
    ],
)
def test_labels_are_told_apart(y: np.ndarray, kind: str, classes: int) -> None:
    found = label_facts(y)
    assert (found.kind, found.classes) == (kind, classes)
    assert found.spread == pytest.approx(float(np.var(y.reshape(len(y), -1), axis=0).mean()))


@pytest.mark.parametrize("name", TABLES)
def test_probes_see_real_labels_and_no_shuffled_ones(name: str) -> None:
    x, y, _, _, _ = raw(name)
    real = data_facts([x], y).association
    order = np.random.default_rng(0).permutation(len(y))
    false = data_facts([x], y[order]).association
    late = data_facts([x[:-1]], y[1:]).association
    assert real is not None and false is not None and late is not None
    assert max(real.neighbours_sigma, real.linear_sigma) > 8
    assert max(false.neighbours_sigma, false.linear_sigma, false.shifted) < 3.5
    assert late.shift == -1 and late.shifted > 8  # x[i] was given the label of x[i + 1]: the right one is before it


def test_the_same_data_give_the_same_facts_and_change_nothing() -> None:
    x, y, xv, yv, _ = raw("wine")
    before = x.copy()
    first, again = (data_facts([x], y, ([xv], yv)) for _ in range(2))
    assert first == again
    np.testing.assert_array_equal(x, before)


def test_what_there_is_no_time_for_is_said() -> None:
    x, y, xv, yv, _ = raw("wine")
    found = data_facts([x], y, ([xv], yv), deadline=0.0, clock=lambda: 1.0)
    assert set(found.skipped) == {"copies", "overlap", "drift", "association", "near"}
    assert found.overlap is None and found.association is None and found.inputs


def test_many_rows_are_sampled_and_it_is_said() -> None:
    x = np.zeros((3000, 1000), np.uint8)
    x[:, 0] = np.arange(3000) % 251
    found = data_facts([x])
    assert found.rows == 3000 and found.looked == 2000
    assert found.copies == 3000 - 251  # copies are looked for among all rows


def test_share_of_the_most_frequent_value() -> None:
    rng = np.random.default_rng(2)
    some = np.r_[np.ones(20), rng.normal(size=30)]
    x = np.stack([rng.integers(0, 3, 50), rng.normal(size=50), np.zeros(50), some], 1)
    (found,) = data_facts([x]).inputs
    expected = [np.unique(c, return_counts=True)[1].max() / 50 for c in x.T]
    np.testing.assert_allclose(found.common, expected)
