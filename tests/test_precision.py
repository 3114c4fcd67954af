"""compile(precision=...): storage in half precision, sums and parameters in float32."""

import builtins
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_half
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.optimizers.scaling import scaling
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

L = db.layers
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = ("bfloat16", "float16")
SPACING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the distance from 1 to the next number
DEVICES = ("cpu:reference", "cpu")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# -- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_every_operation_takes_bfloat16(device: str) -> None:
    settings = Settings(draws=1, dtypes=("bfloat16",))
    for spec in SPECS:
        run_check(find_device(device), spec, "values", settings)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
def test_sums_are_taken_in_float32(device: str, dtype: str) -> None:
    """4096 ones: added up in half precision they would stay at 256 or 2048."""
    ones = db.tensor(np.ones((4096, 2)), dtype, device)
    assert ones.sum(axis=0).tolist() == [4096.0, 4096.0]
    assert db.ops.matmul(ones.T, ones).tolist() == [[4096.0, 4096.0]] * 2
    assert ones.sum(axis=0).dtype.name == dtype


@pytest.mark.parametrize("device", DEVICES)
def test_an_operation_in_bfloat16_is_the_one_in_float32_rounded(device: str) -> None:
    place = find_device(device)
    arrays = [numbers(5, 7), numbers(7, 4), numbers(4)]
    halves = tuple(place.asarray(a, BFLOAT16) for a in arrays)
    (found,) = call(place, SPECS["linear"], halves, {"activation": "tanh"})
    (wide,) = call(place, SPECS["linear"], tuple(h.astype(np.float32) for h in halves), {"activation": "tanh"})
    assert found.dtype == BFLOAT16
    assert found.tobytes() == wide.astype(BFLOAT16).tobytes()


def test_statistics_of_a_normalization_are_float32() -> None:
    x = db.tensor(numbers(8, 3), BFLOAT16)
    vector = db.tensor(np.ones(3), BFLOAT16)
    y, mean, var = db.ops.batch_norm(x, vector, vector, epsilon=1e-3)
    assert (y.dtype, mean.dtype.name, var.dtype.name) == (BFLOAT16, "float32", "float32")
    wide = x.numpy().astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), wide.var(axis=0), rtol=1e-6)


# -- models ------------------------------------------------------------------------------------------------------------


def network(precision: str | None = None, optimizer: Any = None, norm: bool = True) -> Any:
    db.set_seed(3)
    inside = [L.BatchNorm()] if norm else []
    model = db.Sequential([L.Dense(32, activation="relu", input_shape=64), *inside, L.Dense(10)])
    model.compile(
        db.optimizers.Adam(3e-3) if optimizer is None else optimizer, "cross_entropy", metrics=["accuracy"],
        precision=precision,
    )
    return model


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = db.datasets.digits()
    return data.x.reshape(len(data.x), -1).astype(np.float32) / 16, data.y


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16", "float64"])
def test_digits_are_learned_in_every_precision(device: str, precision: str) -> None:
    x, y = digits()
    model = network(precision)
    history = model.fit(
        x[:1500], y[:1500], batch_size=64, epochs=8, device=device, verbose=0, seed=0,
        validation_data=(x[1500:], y[1500:]),
    )
    assert history.history["accuracy"][-1] > 0.96
    assert model.evaluate(x[1500:], y[1500:])["accuracy"] == history.history["val_accuracy"][-1]
    wide = "float64" if precision == "float64" else "float32"
    assert model.predict(x[:3]).dtype.name == wide
    assert {v.dtype.name for v in model.state_dict().values()} == {wide}


def weights_after(precision: str, steps: int, optimizer: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    x, y = digits()
    model = network(precision, optimizer(), norm=False)
    losses = [float(model.train_on_batch(x[i : i + 64], y[i : i + 64])["loss"]) for i in range(0, 64 * steps, 64)]
    return np.array(losses), np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("optimizer", [lambda: db.optimizers.SGD(0.1), lambda: db.optimizers.Adam(1e-3)])
@pytest.mark.parametrize("precision", HALVES)
def test_master_weights_follow_those_of_float32(precision: str, optimizer: Any) -> None:
    losses, weights = weights_after("float32", 20, optimizer)
    near_losses, near = weights_after(precision, 20, optimizer)
    assert np.abs(near_losses / losses - 1).max() < 2 * SPACING[precision]
    start = weights_after("float32", 0, optimizer)[1]
    # what 20 steps change is right up to a few roundings of half precision, on average over the weights
    assert np.linalg.norm(near - weights) / np.linalg.norm(weights - start) < 8 * SPACING[precision]
    assert (near != near.astype(precision).astype(np.float32)).mean() > 0.9  # float32, not copies of rounded numbers


@pytest.mark.parametrize("precision", HALVES)
def test_small_steps_add_up_in_the_master_weights(precision: str) -> None:
    """A change far below the spacing of half precision at 1 is not lost: after 100 of them it is there."""
    model = db.Sequential([L.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=1)])
    model.compile(db.optimizers.SGD(1e-5), lambda y, p: p.sum(axis=-1), precision=precision)
    for _ in range(100):
        model.train_on_batch([[1.0]], [[0.0]])
    steps = 100 - scaling(model.optimizer).get("skipped", 0.0)  # float16 looks for its scale first
    assert steps > 90
    np.testing.assert_allclose(model.get_weights()[0], 1.0 - steps * 1e-5, rtol=5e-6)


def seen(model: Any, x: np.ndarray, y: np.ndarray) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dtypes of outputs and of their gradients in one step, by layer."""
    outputs: dict[str, str] = {}
    gradients: dict[str, str] = {}

    def tap(layer: Any, output: Tensor) -> None:
        if output.device.abstract:
            return  # the model is being built
        outputs[layer.path] = output.dtype.name
        if output.requires_grad:
            output.register_hook(lambda g: gradients.__setitem__(layer.path, g.dtype.name))

    model._trainer.replay = False
    with surroundings(tap=tap):
        model.train_on_batch(x, y)
    return outputs, gradients


@pytest.mark.parametrize("precision", HALVES)
def test_activations_and_gradients_are_in_half_precision(precision: str) -> None:
    x, y = digits()
    outputs, gradients = seen(network(precision), x[:8], y[:8])
    assert set(outputs.values()) == set(gradients.values()) == {precision}
    assert len(outputs) >= 3


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)), L.MaxPool2D(2), L.Flatten(), L.Dense(10)],
        lambda: [L.Reshape((8, 8), input_shape=64), L.LSTM(8), L.Dense(10)],
        lambda: [L.Reshape((8, 8), input_shape=64), L.GRU(8), L.LayerNorm(), L.Dense(10)],
        lambda: [L.Reshape((8, 8), input_shape=64), L.TransformerBlock(2, 16), L.Flatten(), L.Dense(10)],
        lambda: [L.Dense(16, reparametrize="centered_weight_norm", input_shape=64), L.Dropout(0.1), L.Dense(10)],
        lambda: [L.Reshape((8, 8, 1), input_shape=64), L.Conv2D(4, 3, use_bias=False), L.GroupNorm(2), L.RMSNorm(),
                 L.Flatten(), L.Dense(10)],
    ],
    ids=["conv", "lstm", "gru", "transformer", "reparametrized", "norms"],
)
@pytest.mark.parametrize("precision", HALVES)
def test_layers_stay_in_half_precision(precision: str, layers: Any) -> None:
    x, y = digits()
    db.set_seed(0)
    made = layers()
    x = x.reshape(-1, *made[0].input_shape)
    trained = {}
    for name in ("float32", precision):
        db.set_seed(0)
        model = db.Sequential(layers())
        model.compile(db.optimizers.SGD(0.05), "cross_entropy", precision=name)
        if name == precision:
            outputs, gradients = seen(model, x[:16], y[:16])
            assert set(outputs.values()) == {precision}, outputs
            assert set(gradients.values()) <= {precision}, gradients
        trained[name] = [float(model.train_on_batch(x[:64], y[:64])["loss"]) for _ in range(8)]
    assert trained[precision][-1] < trained[precision][0]


def test_a_number_takes_the_dtype_of_the_copy() -> None:
    class Scaled(db.layers.Layer):
        def build(self, *inputs: Any) -> None:
            self.add_parameter("scale", (3,), "ones")

        def call(self, x: Any) -> Any:
            return x * (self.scale * 2.0 + 1.0)

    model = db.Sequential([Scaled(input_shape=3)])
    model.compile("sgd", "mse", precision="bfloat16")
    outputs, _ = seen(model, numbers(4, 3), numbers(4, 3))
    assert set(outputs.values()) == {"bfloat16"}


def test_checkpointed_parts_are_computed_again_in_the_same_precision() -> None:
    class Block(db.layers.Layer):
        again = True

        def __init__(self) -> None:
            super().__init__()
            self.inner = L.Dense(8, activation="tanh")

        def call(self, x: Any) -> Any:
            return db.checkpoint(self.inner, x) if Block.again else self.inner(x)

    results = []
    for again in (True, False):
        Block.again = again
        db.set_seed(0)
        model = db.Sequential([L.Dense(8, input_shape=4), Block(), L.Dense(1)])
        model.compile("sgd", "mse", precision="bfloat16")
        for _ in range(3):
            model.train_on_batch(numbers(6, 4), numbers(6, 1))
        results.append(b"".join(w.tobytes() for w in model.get_weights()))
    assert results[0] == results[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", HALVES)
def test_replays_give_the_bits_of_eager_steps(device: str, precision: str) -> None:
    x, y = digits()
    results = []
    for replay in (True, False):
        model = network(precision)
        model.compile(db.optimizers.Adam(3e-3), "cross_entropy", precision=precision, replay=replay)
        model.fit(x[:256], y[:256], batch_size=32, epochs=3, device=device, verbose=0, seed=0)
        results.append(b"".join(w.tobytes() for w in model.get_weights()))
    assert results[0] == results[1]


# -- files, messages ---------------------------------------------------------------------------------------------------


def test_files_hold_float32_and_the_precision(tmp_path: Any) -> None:
    x, y = digits()
    model = network("bfloat16")
    model.fit(x[:256], y[:256], verbose=0, device="cpu")
    model.save(tmp_path / "m.dbs")
    again = db.load_model(tmp_path / "m.dbs")
    assert again.get_compile_config()["precision"] == "bfloat16"
    assert {v.dtype.name for v in again.state_dict().values()} == {"float32"}
    for mine, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert again.predict(x[:5]).tobytes() == model.predict(x[:5]).tobytes()


def test_predictions_are_made_in_the_precision_of_the_training() -> None:
    x, _ = digits()
    model = network("bfloat16")
    found = model.predict(x[:5])
    assert (found == found.astype(BFLOAT16).astype(np.float32)).all()
    assert not (model(x[:5]).numpy() == found).all()  # a bare call computes with the parameters themselves


def test_the_cpu_says_that_it_is_not_faster(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = digits()
    for precision, words in (("bfloat16", "is not faster there"), ("tf32", "on a GPU"), ("float32", "")):
        network(precision).fit(x[:64], y[:64], device="cpu", verbose=1, babysit=False)
        said = [line for line in capsys.readouterr().out.splitlines() if "precision" in line]
        assert len(said) == bool(words) and all(words in line for line in said)


def test_bfloat16_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    real = builtins.__import__
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert real
    with pytest.raises(ImportError, match=r'pip install "deepbabysit\[bf16\]"'):
        network("bfloat16")
    network("float16")


def test_an_unknown_precision() -> None:
    with pytest.raises(ValueError, match="bfloat16"):
        network("bfloat15")


def test_whole_numbers_are_no_half_precision() -> None:
    assert [is_half(np.dtype(d)) for d in ("int16", "float16", "float32")] == [False, True, False]
    assert is_half(BFLOAT16)


@pytest.mark.peers
@pytest.mark.parametrize("precision", HALVES)
def test_one_step_is_that_of_torch_autocast(precision: str) -> None:
    torch = pytest.importorskip("torch")
    x, y = digits()
    model = network(precision, db.optimizers.SGD(0.5), norm=False)
    before = model.get_weights()
    model.train_on_batch(x[:64], y[:64])
    w1, b1, w2, b2 = (torch.nn.Parameter(torch.tensor(w)) for w in before)
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        hidden = torch.nn.functional.linear(torch.tensor(x[:64]), w1.T, b1).relu()
        logits = torch.nn.functional.linear(hidden, w2.T, b2)
    torch.nn.functional.cross_entropy(logits.float(), torch.tensor(y[:64])).backward()
    for parameter, start, end in zip((w1, b1, w2, b2), before, model.get_weights(), strict=True):
        gradient = parameter.grad.numpy()
        error = np.abs((start - end) / 0.5 - gradient).max() / np.abs(gradient).max()
        assert error < 4 * SPACING[precision]


# -- the copies in half precision --------------------------------------------------------------------------------------


def copies_are_right(model: Any, dtype: np.dtype[Any]) -> bool:
    """Tell whether every parameter's copy is the parameter, rounded."""
    return all(
        p.device.to_host(p.extra["copy"]).tobytes() == p.numpy().astype(dtype).tobytes() for p in model.parameters()
    )


def trained(precision: str = "bfloat16", device: str = "cpu", steps: int = 4, **given: Any) -> Any:
    x, y = digits()
    model = network(precision, db.optimizers.Adam(3e-3, **given))
    model.to(device)
    for i in range(steps):
        model.train_on_batch(x[32 * i : 32 * i + 32], y[32 * i : 32 * i + 32])
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", HALVES)
def test_the_update_writes_the_copies(device: str, precision: str) -> None:
    model = trained(precision, device)
    dtype = np.dtype(precision)
    assert copies_are_right(model, dtype)
    for flat in flats_of(model.optimizer):
        assert (flat.w.dtype, flat.g.dtype, flat.copies.dtype) == (np.float32, dtype, dtype)
        assert all(state.dtype == np.float32 for state in flat.states.values())


def test_the_copies_follow_every_other_change() -> None:
    model = trained(ema=0.5)
    x, _ = digits()
    before = model.predict(x[:4])
    with model.optimizer.ema_weights():
        assert copies_are_right(model, BFLOAT16)
        assert not (model.predict(x[:4]) == before).all()
    assert copies_are_right(model, BFLOAT16)
    assert model.predict(x[:4]).tobytes() == before.tobytes()
    weights = model.get_weights()
    model.set_weights([2 * w for w in weights])
    assert copies_are_right(model, BFLOAT16)
    model.load_state_dict(trained(steps=2).state_dict())
    assert copies_are_right(model, BFLOAT16)
    with db.no_grad():
        p = model.parameters()[0]
        p *= 0.5
    assert copies_are_right(model, BFLOAT16)
    model.to("cpu:reference")
    trained_further = model.train_on_batch(x[:8], digits()[1][:8])
    assert trained_further["loss"] > 0 and copies_are_right(model, BFLOAT16)


def test_constrained_weights_have_constrained_copies() -> None:
    x, y = digits()
    model = db.Sequential([L.Dense(10, kernel_constraint="max_norm", input_shape=64)])
    model.compile(db.optimizers.SGD(5.0), "cross_entropy", precision="bfloat16")
    for _ in range(3):
        model.train_on_batch(x[:64], y[:64])
    assert copies_are_right(model, BFLOAT16)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "optimizer",
    [lambda: db.optimizers.Adam(3e-3), lambda: db.optimizers.SGD(0.1, momentum=0.9, clip_norm=1.0),
     lambda: db.optimizers.Adadelta(), lambda: db.optimizers.Lion(1e-3)],
    ids=["adam", "momentum", "adadelta", "lion"],
)
def test_copies_train_like_parameters_that_are_converted_in_the_step(
    device: str, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without copies every step converts the parameters, and gradients become float32: the same numbers."""
    from deepbabysit.autograd.parameter import Parameter
    from deepbabysit.optimizers.optimizer import Optimizer

    x, y = digits()
    results = []
    for copies in (True, False):
        if not copies:
            monkeypatch.setattr(Optimizer, "compute_in", lambda self, half: None)
            monkeypatch.setattr(Parameter, "in_half", lambda self, dtype: self.astype(dtype))
        model = network("bfloat16", optimizer())
        model.fit(x[:256], y[:256], batch_size=32, epochs=2, device=device, verbose=0, seed=0)
        results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-7)


def test_micro_batches_are_added_up_in_float32() -> None:
    """In bfloat16 a sum of 1 and 255 times 2^-9 would stay 1."""
    sizes = np.array([1.0] + [2.0**-9] * 255, np.float32)[:, None]
    model = db.Sequential([L.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=1)])
    model.compile(db.optimizers.SGD(1.0), lambda y, p: p.sum(axis=-1), precision="bfloat16")
    model.fit(sizes, np.zeros((256, 1), np.float32), batch_size=1, accumulate=256, shuffle=False, verbose=0,
              device="cpu", babysit=False)
    mean = np.float64(sizes.mean())
    np.testing.assert_allclose(-model.get_weights()[0], mean, rtol=SPACING["bfloat16"])


@pytest.mark.parametrize("device", DEVICES)
def test_another_precision_gives_other_buffers(device: str) -> None:
    x, y = digits()
    model = trained(device=device)
    optimizer, weights = model.optimizer, model.get_weights()
    model.compile(optimizer, "cross_entropy", precision="float32")
    model.train_on_batch(x[:32], y[:32])
    assert flats_of(optimizer)[0].copies is None
    assert all(p.extra["copy"] is None for p in model.parameters())
    assert optimizer.steps == 5
    assert any((a != b).any() for a, b in zip(weights, model.get_weights(), strict=True))


def rule_arrays(half: Any) -> tuple[Any, ...]:
    from deepbabysit.kernels.updates import TABLE_ROWS, host_control

    rng = np.random.default_rng(0)
    sizes = (5, 300, 16, 1)
    table = np.ones((TABLE_ROWS, 4))
    table[3:] = 0.01
    table[0, 2] = 0.0  # frozen
    starts = np.array([0, *np.cumsum(sizes)[:-1]])
    progress = np.array([[1.0, 0.0, 2.0, 3.0], [0.9, 1.0, 0.8, 0.7]])
    n = sum(sizes)
    w = rng.standard_normal(n).astype(np.float32)
    return host_control(3, 0.01, scale=0.5), table, starts, progress, w, rng.standard_normal(n).astype(half)


RULES = tuple(spec.name for spec in SPECS if spec.name.endswith("_update") and spec.name != "average_update")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("half", HALVES)
def test_rules_take_gradients_in_half_precision(device: str, half: str) -> None:
    """Compare every rule, with gradients in half precision, with itself on the same gradients in float32."""
    for name in RULES:
        spec = SPECS[name]
        attrs = {"momentum": 0.9} if "momentum" in spec.defaults else {}
        small = rule_arrays(half)
        place = find_device(device)
        wide = [place.asarray(a) for a in (*small[:5], small[5].astype(np.float32))]
        states = [np.abs(numbers(len(small[4]), seed=n)) for n in (1, 2)]
        for count in (0, 1, 2):
            inputs = [*wide, *[place.asarray(s) for s in states[:count]]]
            try:
                expected = call(place, spec, tuple(inputs), attrs)
                break
            except (TypeError, ValueError):
                continue
        inputs[5] = place.asarray(small[5])
        found = call(place, spec, tuple(inputs), attrs)
        assert len(found) == len(expected) + 1
        for mine, theirs in zip(found[:-1], expected, strict=True):
            np.testing.assert_allclose(place.to_host(mine), place.to_host(theirs), rtol=1e-6, atol=1e-7, err_msg=name)
        assert place.to_host(found[-1]).tobytes() == place.to_host(found[1]).astype(half).tobytes(), name

