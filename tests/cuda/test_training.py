"""Networks train on the emulated GPU as they do on the CPU: every kernel in place, steps captured."""

import numpy as np
import pytest
from pictures import bars

import deepbabysit as db

L = db.layers


def _rows():
    x = np.random.default_rng(1).normal(size=(128, 6)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def _cnn():
    return db.Sequential([
        L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPool2D(2),
        L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNorm(), L.Activation("relu"), L.Flatten(),
        L.Dropout(0.2), L.Dense(3),
    ])


def _mlp():
    return db.Sequential([
        L.Dense(32, activation="relu"), L.Dropout(0.1),
        L.Dense(16, activation="tanh", kernel_regularizer=db.regularizers.l2(1e-4)), L.Dense(2),
    ])


def _fit(build, data, epochs, device):
    db.set_seed(1)
    model = build()
    rate = db.schedules.cosine(2e-2, steps=200)
    model.compile(db.optimizers.AdamW(rate, clip_norm=5.0), loss="cross_entropy", metrics=["accuracy"])
    history = model.fit(*data, batch_size=32, epochs=epochs, verbose=0, device=device, babysit=False)
    return history.history, [p.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize(
    ("build", "data", "epochs", "accuracy"), [(_cnn, bars(), 4, 0.99), (_mlp, _rows(), 20, 0.9)], ids=["cnn", "mlp"]
)
def test_it_converges_as_on_the_cpu(cuda, build, data, epochs, accuracy):
    cuda.misses.clear()
    history, weights = _fit(build, data, epochs, cuda)
    assert not cuda.misses  # no reference stood in for a kernel
    assert history["accuracy"][-1] >= accuracy
    expected, others = _fit(build, data, epochs, "cpu:reference")
    # masks and orders are the same numbers everywhere; rounding is not
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=2e-3, atol=1e-5)
    for mine, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-2, atol=2e-3)


def test_a_call_that_may_share_a_launch_is_one_launch(cuda, emulation, monkeypatch):
    """A launch is all that such a call does: nothing of CuPy's runs beside it."""
    from deepbabysit_cupy import capture

    def look(call, *rest):
        found = before(call, *rest)
        if found.launch is not None:
            count = emulation.launches.total()
            cuda.scratch = call[3]
            call[0](call[1], *call[2])
            assert emulation.launches.total() - count == 1, call
            seen.append(call)
        return found

    seen = []
    before = capture.work_of
    monkeypatch.setattr(capture, "work_of", look)
    for build, data in ((_cnn, bars()), (_mlp, _rows())):
        _fit(build, data, 2, cuda)
    assert len(seen) > 40
