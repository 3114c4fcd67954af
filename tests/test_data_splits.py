"""Splits: every row in exactly one part, classes in proportion, and said in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepbabysit.data import holdout, split
from deepbabysit.data.rows import count_rows

quick = settings(derandomize=True, deadline=None, max_examples=80)


@quick
@given(
    rows=st.integers(20, 400),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.5), (0.9, 0.1), (1 / 3, 1 / 3, 1 / 3)]),
    classes=st.integers(0, 7),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_row_is_in_exactly_one_part(rows, fractions, classes, seed):
    x = np.arange(rows * 2).reshape(rows, 2)
    y = np.arange(rows) % classes if classes else np.linspace(0, 1, rows)
    result = split(x, y, fractions, seed=seed)
    together = np.concatenate([part.rows for part in result])
    assert sorted(together.tolist()) == list(range(rows))
    for part, fraction in zip(result, fractions, strict=True):
        assert abs(len(part.rows) - fraction * rows) < 1
        part_x, part_y = part
        assert np.array_equal(part_x, x[part.rows]) and np.array_equal(part_y, y[part.rows])


@quick
@given(counts=st.lists(st.integers(12, 90), min_size=2, max_size=8), seed=st.integers(0, 99))
def test_classes_keep_their_proportions(counts, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    result = split(y, y, (0.7, 0.2, 0.1), seed=seed)
    for part, slack in ((result.test, 1.0), (result.validation, 2.0)):
        for c, count in enumerate(counts):
            held = int((part.y == c).sum())
            assert abs(held - count * len(part.rows) / len(y)) < slack
            assert part.class_counts[str(c)] == held
    plan = holdout(y, y, 0.2, seed=seed)
    for c, count in enumerate(counts):
        assert abs((y[plan.held] == c).sum() - count * len(plan.held) / len(y)) < 1


def test_stratification_matters():
    y = np.array([0] * 190 + [1] * 10)
    assert all((split(y, y, seed=s).test.y == 1).sum() == 1 for s in range(20))
    assert len({int((split(y, y, stratify=False, seed=s).test.y == 1).sum()) for s in range(20)}) > 1


def test_a_class_with_one_row_stays_in_train():
    y = np.array(["common"] * 60 + ["rare"])
    for seed in range(30):
        result = split(np.arange(61), y, seed=seed)
        assert "rare" in result.train.y
        assert 60 not in holdout(np.arange(61), y, 0.3, seed=seed).held
        assert 60 not in holdout(np.arange(61), y, 0.8, seed=seed).held, "even where its share is 0.8 rows"


@pytest.mark.parametrize(
    "target",
    [np.arange(60) % 3, (np.arange(60) % 2).astype(float), np.eye(3)[np.arange(60) % 3], np.array(list("ab") * 30)],
    ids=["integers", "zeros and ones", "one-hot", "text"],
)
def test_auto_recognizes_classes(target):
    assert "stratified by class" in split(np.zeros(60), target).describe()
    assert "class " in holdout(np.zeros(60), target, 0.2).sentence


@pytest.mark.parametrize("target", [np.linspace(0, 1, 60), np.arange(60), np.linspace(0, 1, 120).reshape(60, 2)])
def test_auto_leaves_numbers_alone(target):
    assert "not stratified" in split(np.zeros(60), target).describe()


def test_order_depends_on_the_seed_and_only_on_it():
    x = np.arange(100)
    assert np.array_equal(split(x, seed=3).train.rows, split(x, seed=3).train.rows)
    assert not np.array_equal(split(x, seed=3).train.rows, split(x, seed=4).train.rows)
    assert not np.array_equal(np.sort(split(x).train.rows), np.arange(80)), "rows are shuffled"


def test_description_counts_what_it_holds():
    y = np.array([0] * 220 + [1] * 83)
    result = split(np.zeros((303, 4)), y, seed=5)
    text = result.describe()
    assert "303 rows" in text and "seed 5" in text
    for name in ("train", "validation", "test"):
        part = result[name]
        zeros, ones = int((part.y == 0).sum()), int((part.y == 1).sum())
        assert f"{name} {len(part.rows)} rows (class 0: {zeros}, class 1: {ones})" in text


def test_row_counts_may_stand_for_fractions():
    result = split(np.arange(70), fractions=(50, 10, 10))
    assert [len(part.rows) for part in result] == [50, 10, 10]
    with pytest.raises(ValueError, match=r"sum to 100, not to the 70 rows; as fractions: \(0.6, 0.2, 0.2\)"):
        split(np.arange(70), fractions=(60, 20, 20))


def test_two_parts_have_no_validation():
    result = split(np.arange(10), fractions=(0.8, 0.2))
    assert len(result) == 2 and len(result.train.rows) == 8
    with pytest.raises(AttributeError, match="train and test"):
        _ = result.validation
    with pytest.raises(KeyError, match="did you mean 'train'"):
        _ = result["trian"]


def test_several_inputs():
    a, b = np.arange(20), np.arange(40).reshape(20, 2)
    as_tuple = split([a, b], {"out": a})
    x, y = as_tuple.train
    assert np.array_equal(x[0], a[as_tuple.train.rows]) and np.array_equal(x[1], b[as_tuple.train.rows])
    assert np.array_equal(y["out"], x[0])


def test_time_keeps_order_and_takes_the_end():
    plan = holdout(np.zeros((10, 1)), np.arange(10) % 2, 0.3, split="time")
    assert plan.train.tolist() == [0, 1, 2, 3, 4, 5, 6] and plan.held.tolist() == [7, 8, 9]
    assert plan.sentence == "held out the last 3 of 10 rows for validation, in order (class 0: 1, class 1: 2)"


@quick
@given(rows=st.integers(2, 60), fraction=st.floats(0.001, 0.999), how=st.sampled_from(["shuffle", "time"]))
def test_holdout_takes_every_row_once_and_leaves_both_parts_filled(rows, fraction, how):
    train, held, sentence = holdout(np.zeros(rows), np.arange(rows) % 2, fraction, split=how)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(rows))
    assert len(train) and len(held) and f"{len(held)} of {rows} rows" in sentence


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"fractions": (0.8, 0.1)}, r"sum to 0.9, not to 1; in the same proportions: \(0.8889, 0.1111\)"),
        ({"fractions": (1.0,)}, "two .* or three"),
        ({"fractions": (0.9, 0.1, 0.0)}, "above 0"),
        ({"fractions": (0.99, 0.005, 0.005)}, "would be empty"),
        ({"fractions": (float("nan"), 0.5)}, "above 0"),
        ({"stratify": "yes"}, "stratify must be"),
        ({"stratify": np.zeros(3)}, "True stratifies by y"),
        ({"stratify": True, "y": np.linspace(0, 1, 10)}, "no classes"),
        ({"y": np.zeros(9)}, "x has 10, y has 9"),
        ({"x": np.zeros((0, 3))}, "empty"),
        ({"x": [[1, 2], [3]]}, "different lengths"),
        ({"seed": -1}, "between 0 and"),
    ],
)
def test_split_says_what_is_wrong(arguments, says):
    with pytest.raises(ValueError, match=says):
        split(**{"x": np.zeros(10), **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"fraction": 0.0}, ValueError, "between 0 and 1"),
        ({"fraction": 1.0}, ValueError, "between 0 and 1"),
        ({"x": np.zeros(1)}, ValueError, "at least 2 rows"),
        ({"split": "tiem"}, ValueError, "did you mean 'time'"),
        ({"x": None}, TypeError, "must be an array"),
        ({"x": 3.0}, TypeError, "single value"),
        ({"x": np.array([{}, {}])}, TypeError, "dtype object"),
        ({"seed": 1.5}, TypeError, "integer"),
    ],
)
def test_holdout_says_what_is_wrong(arguments, error, says):
    with pytest.raises(error, match=says):
        holdout(**{"x": np.zeros(10), **arguments})


def test_lists_mean_arrays_or_several_inputs():
    assert count_rows(x=np.zeros(3)) == 3
    assert len(split([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).train.rows) == 8
    assert isinstance(split([np.zeros(10), np.zeros((10, 2))]).train.x, tuple)


def test_pandas_is_read_by_row():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(10), "b": range(10, 20)})
    part = split(frame, pandas.Series(list("xy") * 5)).train
    assert np.array_equal(part.x[:, 0], part.rows) and part.x.shape == (8, 2)
    assert set(part.y) == {"x", "y"}
