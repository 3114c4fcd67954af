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


def test_tf32_rounds_operands_of_products_where_it_is_asked_for(cuda):
    results = {}
    for precision in ("float32", "tf32", "float32"):
        model, history = _fit(cuda, precision, epochs=6)
        assert cuda.backend.tf32 is False
        weights = np.concatenate([w.ravel() for w in model.get_weights()])
        if precision in results:
            assert results[precision].tobytes() == weights.tobytes()
        results[precision] = weights
    difference = np.abs(results["tf32"] - results["float32"]).max()
    assert 1e-6 < difference < 0.1


def test_the_scale_of_the_loss_is_a_kernel(cuda):
    assert run_check(cuda, SPECS["move_loss_scale"], "values").status == "kernel"


def test_kernels_take_bfloat16(cuda):
    settings = Settings(draws=1, dtypes=("bfloat16",))
    for name in ("linear", "matmul", "linear_gradient", "relu", "softmax", "layer_norm", "sum", "add", "dropout"):
        assert run_check(cuda, SPECS[name], "values", settings).status == "kernel", name


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_an_update_writes_the_copy_in_its_launch(cuda, emulation, half):
    from deepbabysit.kernels.updates import TABLE_ROWS, host_control
    from deepbabysit.runtime.funnel import call
    from deepbabysit.runtime.registry import find_device

    rng = np.random.default_rng(0)
    for sizes in ((5, 300, 16, 1), (4096,)):
        count, n = len(sizes), sum(sizes)
        table = np.ones((TABLE_ROWS, count))
        table[3:] = 0.01
        table[0, -1] = float(count == 1)
        starts, progress = np.array([0, *np.cumsum(sizes)[:-1]]), np.ones((2, count))
        arrays = [host_control(3, 0.01, scale=0.5), table, starts, progress]
        arrays += [rng.standard_normal(n).astype(np.float32), rng.standard_normal(n).astype(half)]
        arrays += [np.abs(rng.standard_normal(n)).astype(np.float32) for _ in range(2)]
        results = []
        for device in (cuda, find_device("cpu:reference")):
            given = tuple(device.asarray(a) for a in arrays)
            before = emulation.launches.total()
            results.append([device.to_host(a) for a in call(device, SPECS["adam_update"], given)])
            if device is cuda:
                assert emulation.launches.total() == before + 1
        for mine, theirs in zip(results[0][:-1], results[1][:-1], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
        assert results[0][-1].tobytes() == results[0][1].astype(half).tobytes()


@pytest.mark.parametrize(("precision", "nodes"), [("float32", 12), ("bfloat16", 13), ("float16", 13)])
def test_nodes_of_a_step(merging, precision, nodes, monkeypatch):
    from deepbabysit_cupy import capture

    found = []
    before = capture.program

    def program(device, calls, **given):
        found.append(before(device, calls, **given))
        return found[-1]

    monkeypatch.setattr(merging.backend, "program", program)
    db.set_seed(1)
    model = db.Sequential([L.Dense(32, activation="relu"), L.Dense(16, activation="relu"), L.Dense(2)])
    model.compile(db.optimizers.Adam(2e-2), "cross_entropy", metrics=["accuracy"], precision=precision)
    model.fit(*_data(), batch_size=32, epochs=2, verbose=0, device=merging, babysit=False)
    names = [node.name for node in found[0].graph.nodes]
    assert len(names) == nodes, names


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_graph_gives_the_bits_of_its_calls(cuda, precision):
    weights = [
        b"".join(w.tobytes() for w in _fit(cuda, precision, epochs=3, replay=replay)[0].get_weights())
        for replay in (True, False)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_babysitter_watches_it(cuda, precision):
    cuda.misses.clear()
    results = []
    for babysit in (True, False):
        db.set_seed(1)
        model = db.Sequential([L.Dense(32, activation="relu"), L.BatchNorm(0.9), L.Dense(2)])
        model.compile(db.optimizers.Adam(2e-2), "cross_entropy", precision=precision)
        history = model.fit(*_data(), batch_size=32, epochs=4, verbose=0, device=cuda, babysit=babysit)
        results.append(b"".join(w.tobytes() for w in model.get_weights()))
    assert results[0] == results[1]
    assert not cuda.misses
    assert not [f for f in history.findings if f.severity == "error"]
