"""Rows that are scaled when they are asked for: the values of transform, nothing kept, errors with their rows."""

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.data import Loader, MinMax, ZScore


def data(kind):
    rng = np.random.default_rng(0)
    if kind == "pixels":
        return rng.integers(0, 256, (300, 5, 6, 3)).astype(np.uint8)
    return (rng.standard_normal((300, 40)) * 3 + 1).astype(kind)


@pytest.mark.parametrize("made", [MinMax, ZScore])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("pixels", {"axis": None}), ("pixels", {"axis": (0, 1, 2)}), ("pixels", {}), ("float32", {}),
        ("float64", {}), ("float32", {"columns": [0, 7, 3]}), ("int16", {}),
    ],
)
def test_rows_have_the_bits_of_transform(made, kind, options):
    x = data(kind)
    scaler = made(**options).fit(x[:200])
    whole, lazy = scaler.transform(x), scaler.lazy(x)
    assert (len(lazy), lazy.shape, lazy.dtype) == (300, x.shape, whole.dtype)
    rng = np.random.default_rng(1)
    for numbers in (rng.permutation(300)[:200], np.array([5]), np.array([-1, 3, 3]), np.array([], np.int64)):
        found = lazy[numbers]
        assert found.dtype == whole.dtype
        assert found.tobytes() == whole[numbers].tobytes()
    assert (lazy[7] == whole[7]).all()
    assert (lazy[20:31] == whole[20:31]).all()
    assert (np.asarray(lazy) == whole).all()


def test_rows_keep_the_raw_data():
    x = data("pixels")
    lazy = MinMax(axis=None).fit(x).lazy(x)
    x[4] = 0
    assert (lazy[np.array([4])] == 0).all()  # no copy was made
    with pytest.raises(IndexError, match="index 300 is outside an axis of length 300"):
        lazy[np.array([1, 300])]


def test_a_model_trains_on_scaled_rows_as_on_transformed_ones():
    x, y = data("pixels"), np.random.default_rng(2).integers(0, 3, 300)
    scaler = MinMax(axis=None).fit(x)
    losses = []
    for given in (scaler.lazy(x), scaler.transform(x)):
        db.set_seed(0)
        model = db.Sequential([db.layers.Flatten(input_shape=(5, 6, 3)), db.layers.Dense(3)])
        model.compile("sgd", "cross_entropy")
        history = model.fit(Loader(given, y, batch_size=32, seed=1), epochs=2, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]


def test_what_transform_refuses_is_refused():
    x = data("float32")
    scaler = ZScore().fit(x)
    with pytest.raises(ValueError, match="was fitted on rows of shape"):
        scaler.lazy(x[:, :5])
    x[3, 3] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        scaler.lazy(x)
