"""Training in half precision on the emulated GPU reaches what float32 reaches: images, sequences, digits."""

import ml_dtypes  # noqa: F401  (NumPy knows the dtype by name from here on)
import numpy as np
import pytest
from pictures import bars

import deepbabysit as db

L = db.layers


def _sequences():
    """Return sequences, and whether the first step was above the last."""
    x = np.random.default_rng(1).normal(size=(128, 5, 3)).astype(np.float32)
    return x, (x[:, 0, 0] > x[:, -1, 0]).astype(np.int64)


def _digits():
    pytest.importorskip("sklearn")
    x, y = db.datasets.digits().train
    return (x / 16).astype(np.float32)[:960], y[:960]


def _cnn():
    return db.Sequential([
        L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPool2D(2),
        L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNorm(0.9), L.Activation("relu"), L.Flatten(), L.Dense(3),
    ])


def _lstm():
    return db.Sequential([L.LSTM(12), L.Dense(2)])


def _mlp():
    return db.Sequential([L.Dense(48, activation="relu"), L.Dropout(0.1), L.Dense(10)])


# what is trained, on what, for how many epochs at which rate, and the accuracy that it reaches
CASES = {
    "cnn": (_cnn, bars, 4, 2e-2, 0.98),
    "lstm": (_lstm, _sequences, 12, 2e-2, 0.9),
    "digits": (_mlp, _digits, 5, 1e-2, 0.94),
}


def _fit(name, device, precision):
    build, data, epochs, rate, _ = CASES[name]
    db.set_seed(2)
    model = build()
    x, y = data()
    steps = epochs * -(-len(x) // 32)
    model.compile(
        db.optimizers.Adam(db.schedules.cosine(rate, steps=steps)), "cross_entropy", metrics=["accuracy"],
        precision=precision,
    )
    return model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, device=device, babysit=False).history


@pytest.mark.parametrize("name", CASES)
def test_it_reaches_what_float32_reaches(cuda, name):
    expected = _fit(name, cuda, "float32")
    assert expected["accuracy"][-1] >= CASES[name][-1]
    for precision in ("bfloat16", "float16"):
        cuda.misses.clear()
        found = _fit(name, cuda, precision)
        assert not cuda.misses  # no reference stood in for a kernel
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=3e-2, err_msg=precision)  # in every epoch
        assert found["loss"] != expected["loss"]
        assert found["accuracy"][-1] >= CASES[name][-1]
        assert found.get("skipped_steps", [0.0])[-1] == 0.0
