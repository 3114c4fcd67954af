"""Whole networks on the emulated device: a kernel for every operation, the losses of the CPU, the bits of a replay."""

import numpy as np
import pytest

import deepbabysit as db

RNG = np.random.default_rng(2)


def _cnn():
    layers = db.layers
    return db.Sequential([
        layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.Activation("relu"),
        layers.MaxPool2D(2),
        layers.Conv2D(6, 3, activation="relu"), layers.Flatten(), layers.Dropout(0.25), layers.Dense(3),
    ])


def _rnn():
    layers = db.layers
    return db.Sequential([layers.Embedding(9, 5), layers.LSTM(6), layers.LayerNorm(), layers.Dense(3)])


NETWORKS = {
    "cnn": (_cnn, RNG.normal(size=(48, 8, 8, 2)).astype(np.float32)),
    "rnn": (_rnn, RNG.integers(0, 9, (48, 4))),
}


def _fit(name, device, replay):
    make, x = NETWORKS[name]
    y = (x.reshape(48, -1)[:, :3]).argmax(1)
    db.set_seed(4)
    model = make()
    model.compile(db.optimizers.Adam(0.01), loss="cross_entropy", replay=replay)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, device=device, babysit=False)
    return history.history["loss"], [p.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_network(cuda, name):
    before = dict(cuda.misses)
    losses, weights = _fit(name, cuda, False)
    assert dict(cuda.misses) == before
    np.testing.assert_allclose(losses, _fit(name, "cpu:reference", False)[0], rtol=2e-4)
    again, graph_weights = _fit(name, cuda, True)
    assert again == losses
    assert all(a.tobytes() == b.tobytes() for a, b in zip(weights, graph_weights, strict=True))
