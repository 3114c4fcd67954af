"""Normalizers: fitted statistics, their inverse, constants, large offsets, saved state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepbabysit.data import MeanImputer, MinMax, ZScore, normalizer_from_config

quick = settings(derandomize=True, deadline=None, max_examples=60)
both = pytest.mark.parametrize("kind", [MinMax, ZScore])
DTYPES = ["u1", "i4", "f4", "f8"]


def _data(dtype, shape, seed=0):
    values = np.random.default_rng(seed).normal(120, 40, shape)
    return np.clip(values, 0, 255).astype(dtype)


@both
@quick
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(1, 1), (7, 3), (40, 5), (6, 4, 4, 2)]),
    axis=st.sampled_from([0, None, "channels"]),
    seed=st.integers(0, 99),
)
def test_inverse_undoes_transform(kind, dtype, shape, axis, seed):
    x = _data(dtype, shape, seed)
    axes = tuple(range(len(shape) - 1)) if axis == "channels" else axis
    scaler = kind(axis=axes)
    scaled = scaler.fit_transform(x)
    assert scaled.dtype == (np.float64 if dtype == "f8" else np.float32)
    tolerance = 1e-12 if dtype == "f8" else 1e-4
    assert np.abs(scaler.inverse(scaled) - x.astype(np.float64)).max() <= tolerance * 255


@quick
@given(dtype=st.sampled_from(DTYPES), rows=st.integers(2, 60), seed=st.integers(0, 99))
def test_statistics_are_those_of_float64(dtype, rows, seed):
    x = _data(dtype, (rows, 4), seed)
    wide = x.astype(np.float64)
    assert np.allclose(ZScore().fit(x).shift, wide.mean(axis=0), rtol=1e-12)
    std = wide.std(axis=0)
    assert np.allclose(ZScore().fit(x).scale, np.where(std == 0, 1, std), rtol=1e-10)
    assert np.array_equal(MinMax().fit(x).shift, wide.min(axis=0))
    scaled = MinMax().fit_transform(x)
    assert scaled.min() == 0 and (scaled.max(axis=0) <= 1).all()
    assert (scaled.max(axis=0)[std > 0] == 1).all()
    assert np.allclose(ZScore(axis=None).fit(x).shift, wide.mean())
    assert np.allclose(ZScore(axis=None).fit(x).scale, wide.std())


def test_many_blocks_give_the_same(monkeypatch):
    from deepbabysit.data import normalizers

    x = _data("f4", (57, 6))
    whole = ZScore().fit(x)
    expected = whole.transform(x)
    monkeypatch.setattr(normalizers, "_BLOCK", 13)
    assert np.allclose(ZScore().fit(x).scale, whole.scale, rtol=1e-12)
    assert np.array_equal(whole.transform(x), expected)


def test_uint8_does_not_overflow():
    x = np.full((300, 2, 2), 255, np.uint8)
    x[0] = 0
    scaler = ZScore(axis=None).fit(x)
    assert scaler.shift[()].item() == pytest.approx(255 * 299 / 300)
    assert MinMax(axis=None).fit_transform(x).max() == 1.0


def test_a_large_offset_does_not_spoil_the_variance():
    x = 1e9 + np.array([[0.0], [1.0], [2.0]])
    assert ZScore().fit(x).scale[0] == pytest.approx(np.sqrt(2 / 3), rel=1e-9)


@both
@quick
@given(value=st.floats(-1e6, 1e6), rows=st.integers(1, 30))
def test_constant_features_become_zero(kind, value, rows):
    x = np.column_stack([np.full(rows, value), np.arange(rows, dtype=float)])
    scaler = kind()
    scaled = scaler.fit_transform(x)
    assert np.array_equal(scaled[:, 0], np.zeros(rows))
    assert np.array_equal(scaler.inverse(scaled)[:, 0], x[:, 0])
    assert np.isfinite(scaled).all()


@both
def test_new_rows_use_the_fitted_statistics_unclipped(kind):
    scaler = kind().fit(np.array([[0.0], [10.0]]))
    shift, scale = (0, 10) if kind is MinMax else (5, 5)
    assert scaler.transform(np.array([[30.0], [-10.0]]))[:, 0].tolist() == [(30 - shift) / scale, (-10 - shift) / scale]


@both
def test_columns_touches_only_those(kind):
    x = _data("f4", (30, 5))
    x[:, [1, 4]] = np.eye(2, dtype=np.float32)[np.arange(30) % 2]
    scaler = kind(columns=(0, 2, 3))
    scaled = scaler.fit_transform(x)
    assert np.array_equal(scaled[:, [1, 4]], x[:, [1, 4]])
    assert np.allclose(scaled[:, [0, 2, 3]], kind().fit_transform(x[:, [0, 2, 3]]))
    assert np.allclose(scaler.inverse(scaled), x, rtol=1e-5)
    assert np.array_equal(kind(columns=[]).fit_transform(x), x)


@both
@quick
@given(
    x=hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-1e8, 1e8)),
    axis=st.sampled_from([0, None]),
)
def test_state_survives_json_bit_for_bit(kind, x, axis):
    scaler = kind(axis=axis).fit(x)
    again = kind.from_config(json.loads(json.dumps(scaler.to_config())))
    assert np.array_equal(again.transform(x), scaler.transform(x))
    assert type(normalizer_from_config(scaler.to_config())) is kind


@both
def test_state_with_columns_and_channels_survives(kind):
    table = _data("f4", (12, 4))
    scaler = kind(columns=[1, 3]).fit(table)
    again = kind.from_config(scaler.to_config())
    assert np.array_equal(again.transform(table), scaler.transform(table))
    images = _data("u1", (5, 4, 4, 3))
    scaler = kind(axis=(0, 1, 2)).fit(images)
    assert scaler.shift.size == 3
    assert np.array_equal(kind.from_config(scaler.to_config()).transform(images), scaler.transform(images))


@both
def test_errors(kind):
    name = kind.__name__
    x = np.zeros((4, 3))
    with pytest.raises(RuntimeError, match="not fitted yet"):
        kind().transform(x)
    with pytest.raises(RuntimeError, match="not fitted yet"):
        kind().to_config()
    with pytest.raises(ValueError, match=rf"{name} was fitted on rows of shape \(3,\), got rows of shape \(2,\)"):
        kind().fit(x).transform(np.zeros((4, 2)))
    x[[1, 3], 2] = np.nan
    with pytest.raises(ValueError, match="2 of 4 rows: rows 1, 3"):
        kind().fit(x)
    with pytest.raises(ValueError, match="2 of 4 rows: rows 1, 3"):
        kind().fit(np.ones((2, 3))).transform(x)
    with pytest.raises(ValueError, match="empty"):
        kind().fit(np.zeros((0, 3)))
    with pytest.raises(TypeError, match="one normalizer for each input"):
        kind().fit([np.zeros((2, 3)), np.zeros((2, 3))])
    with pytest.raises(TypeError, match="encode text"):
        kind().fit(np.array(["a"]))
    with pytest.raises(ValueError, match="column 7 does not exist"):
        kind(columns=[7]).fit(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="overflows"):
        kind().fit(np.array([[-1.7e308], [1.7e308]]))
    with pytest.raises(ValueError, match="must name axis 0"):
        kind(axis=1)
    with pytest.raises(TypeError, match="axis must be"):
        kind(axis=-1)
    with pytest.raises(ValueError, match="axis=0 only"):
        kind(axis=None, columns=[0])
    with pytest.raises(TypeError, match="floating"):
        kind().fit(np.ones((2, 2))).transform(np.ones((2, 2)), dtype="int32")


def test_broken_configs_are_refused():
    config = MinMax().fit(np.array([[0.0, 1.0], [2.0, 5.0]])).to_config()
    for change, says in [
        ({"type": "MinMx"}, "did you mean 'MinMax'"),
        ({"shift": [0.0]}, "must have shape"),
        ({"scale": [0.0, 1.0]}, "above 0"),
        ({"shift": [float("nan"), 0.0]}, "finite"),
    ]:
        with pytest.raises(ValueError, match=says):
            normalizer_from_config({**config, **change})
    with pytest.raises(ValueError, match="describes a MinMax, not a ZScore"):
        ZScore.from_config(config)


def test_imputer_uses_the_rows_it_was_fitted_on():
    x = np.array([[1.0, np.nan], [3.0, 8.0], [100.0, np.nan]], np.float32)
    imputer = MeanImputer().fit(x[:2])
    filled = imputer.transform(x)
    assert filled.dtype == np.float32
    assert filled.tolist() == [[1.0, 8.0], [3.0, 8.0], [100.0, 8.0]]
    again = MeanImputer.from_config(json.loads(json.dumps(imputer.to_config())))
    assert np.array_equal(again.transform(x), filled)
    with pytest.raises(ValueError, match=r"columns \[1\] have no value in the 1 rows"):
        MeanImputer().fit(x[:1])
    with pytest.raises(ValueError, match="infinity in row 0"):
        imputer.transform(np.array([[np.inf, 0]]))
    with pytest.raises(ValueError, match="fitted on 2 columns, got 1"):
        imputer.transform(np.zeros((1, 1)))
    with pytest.raises(RuntimeError, match="not fitted"):
        MeanImputer().transform(x)
