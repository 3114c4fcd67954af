"""Half precision on the emulated GPU: kernels in place, captured steps, the same training as on the CPU."""

import ml_dtypes  # noqa: F401  (NumPy knows the dtype by name from here on)
import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.kernels import SPECS
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

L = db.layers


def _data():
    x = np.random.default_rng(1).normal(size=(128, 6)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def _fit(device, precision, epochs=20, **given):
    db.set_seed(1)
    model = db.Sequential([L.Dense(32, activation="relu"), L.Dense(16, activation="tanh"), L.Dense(2)])
    model.compile(db.optimizers.Adam(2e-2), "cross_entropy", metrics=["accuracy"], precision=precision, **given)
    history = model.fit(*_data(), batch_size=32, epochs=epochs, verbose=0, device=device, babysit=False)
    return model, history.history


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_converges_as_on_the_cpu(cuda, precision):
    cuda.misses.clear()
    model, history = _fit(cuda, precision)
    assert not cuda.misses
    assert history["accuracy"][-1] >= 0.9
    _, expected = _fit("cpu:reference", precision)
    # the first epoch differs by roundings alone; later ones by what training makes of them
    np.testing.assert_allclose(history["loss"][0], expected["loss"][0], rtol=2e-2)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert {p.dtype.name for p in model.parameters()} == {"float32"}


def test_kernels_take_bfloat16(cuda):
    settings = Settings(draws=1, dtypes=("bfloat16",))
    for name in ("linear", "matmul", "linear_gradient", "relu", "softmax", "layer_norm", "sum", "add", "dropout"):
        assert run_check(cuda, SPECS[name], "values", settings).status == "kernel", name
