"""float16: the scale of the loss as a state machine, and steps that are skipped without a trace."""

from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.scaling import FIRST, INTERVAL, LEAST, MOST
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.optimizers.scaling import scaling
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device

L = db.layers
DEVICES = ("cpu:reference", "cpu")


def move(device: str, numbers: tuple[float, float, float], applied: float, interval: int) -> list[float]:
    place = find_device(device)
    arrays = [place.asarray(np.array(n, np.float32)) for n in numbers]
    outs = call(place, SPECS["move_loss_scale"], (*arrays, place.asarray(np.array(applied))), {"interval": interval})
    return [float(place.to_host(out)) for out in outs]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("before", "applied", "after"),
    [
        ((1024.0, 0.0, 5.0), 1.0, [1024.0, 1.0, 5.0]),  # a good step is counted
        ((1024.0, 2.0, 5.0), 1.0, [2048.0, 0.0, 5.0]),  # the third good step in a row lets it grow
        ((1024.0, 2.0, 5.0), 0.0, [512.0, 0.0, 6.0]),  # an overflow halves it, and counting begins again
        ((LEAST, 1.0, 0.0), 0.0, [LEAST, 0.0, 1.0]),
        ((MOST, 2.0, 0.0), 1.0, [MOST, 0.0, 0.0]),
    ],
)
def test_the_scale_is_a_state_machine(device: str, before: Any, applied: float, after: list[float]) -> None:
    assert move(device, before, applied, 3) == after


def model_of(layers: Any = None, optimizer: Any = None, **given: Any) -> Any:
    db.set_seed(0)
    model = db.Sequential(layers or [L.Dense(8, input_shape=4), L.BatchNorm(), L.Activation("relu"), L.Dense(1)])
    model.compile(optimizer or db.optimizers.Adam(0.01, ema=0.9), "mse", precision="float16", **given)
    return model


X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = X[:, :1] * 2


def everything(model: Any) -> dict[str, bytes]:
    """Return every bit that training changes: weights, states, states and averages of the optimizer."""
    found = {name: value.tobytes() for name, value in model.state_dict().items()}
    state = model.optimizer.state_dict()
    found.update((name, value.tobytes()) for name, value in state["arrays"].items())
    return found


def put_scale(model: Any, **numbers: float) -> None:
    """Change the numbers of the scale where they lie."""
    model.optimizer.load_state_dict(
        {**model.optimizer.state_dict(), "scaling": {**scaling(model.optimizer), **numbers}}
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: db.optimizers.Adam(0.01, ema=0.9), lambda: db.optimizers.SGD(0.01, momentum=0.9, clip_norm=1.0),
        lambda: db.optimizers.NAdam(0.01), lambda: db.optimizers.AdamW(0.01),
    ],
    ids=["adam", "sgd", "nadam", "adamw"],
)
def test_a_step_that_overflows_leaves_every_bit(device: str, optimizer: Any) -> None:
    layers = [
        L.Dense(8, input_shape=4, kernel_constraint="max_norm", kernel_regularizer="l2"), L.BatchNorm(),
        L.Activation("relu"), L.Dense(1),
    ]
    model = model_of(layers, optimizer())
    model.to(device)
    for _ in range(8):  # the scale comes down to what these gradients bear
        model.train_on_batch(X, Y)
    before, now = everything(model), scaling(model.optimizer)
    assert now["good"] > 1.0
    model.train_on_batch(X, Y * 1e5)  # finite in float32; times the scale it is not in float16
    assert everything(model) == before
    after = scaling(model.optimizer)
    assert (after["scale"], after["skipped"], after["good"]) == (now["scale"] / 2, now["skipped"] + 1.0, 0.0)
    model.train_on_batch(X, Y)
    assert everything(model) != before


@pytest.mark.parametrize("replay", [True, False])
def test_micro_batches_of_a_skipped_step_leave_no_states(replay: bool) -> None:
    model = model_of(replay=replay)
    seen = []

    class Look(db.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append((scaling(model.optimizer)["skipped"], everything(model)))

    y = Y.copy()
    y[8] = 1e5  # in the third of four micro-batches: the second step of the epoch
    for epochs in (1, 3):
        model.fit(X, y, batch_size=3, accumulate=2, epochs=epochs, shuffle=False, verbose=0, device="cpu",
                  callbacks=[Look()], babysit=False)
    skips = [(b[0] > a[0], a[1] == b[1]) for a, b in zip(seen, seen[1:], strict=False)]
    assert all(skipped == same for skipped, same in skips)
    assert {skipped for skipped, _ in skips} == {True, False}


def test_a_scaled_step_is_the_plain_one() -> None:
    """The scale is a power of two: what it multiplies and divides comes out bit for bit, where nothing is lost."""
    results = []
    for scale in (1.0, 2.0**12):
        model = model_of(optimizer=db.optimizers.SGD(0.1))
        model.train_on_batch(X, Y)
        put_scale(model, scale=scale)
        model.train_on_batch(X, Y)
        results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(results[0], results[1], rtol=2e-4, atol=2e-5)


def test_small_gradients_survive() -> None:
    """A gradient of 1e-9 is 0 in float16 (the smallest number is 6e-8); times the scale it is not."""
    db.set_seed(0)
    model = db.Sequential([L.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=1)])
    model.compile(db.optimizers.SGD(1.0), lambda y, p: (p * 1e-9).sum(axis=-1), precision="float16")
    start = model.get_weights()[0].copy()
    model.optimizer.bind(model.parameters())
    model.train_on_batch([[1.0]], [[0.0]])
    (flat,) = flats_of(model.optimizer)
    gradient = float(np.asarray(flat.g, np.float64).ravel()[0]) / FIRST
    assert abs(gradient / 1e-9 - 1) < 2e-3
    assert model.get_weights()[0] <= start


def test_it_grows_after_many_good_steps() -> None:
    model = model_of()
    model.train_on_batch(X, Y)
    put_scale(model, good=INTERVAL - 2.0, scale=256.0)
    skipped = scaling(model.optimizer)["skipped"]
    for _ in range(2):
        model.train_on_batch(X, Y)
    assert scaling(model.optimizer) == {"scale": 512.0, "good": 0.0, "skipped": skipped}


def test_histories_tell_scale_and_skipped_steps() -> None:
    y = Y.copy()
    y[0] = 1e5
    history = model_of().fit(X, y, batch_size=6, epochs=3, verbose=0, device="cpu")
    assert history.history["skipped_steps"][-1] >= 1
    assert history.history["loss_scale"][-1] < FIRST
    assert len(history.history["loss_scale"]) == 3
    plain = db.Sequential([L.Dense(1, input_shape=4)])
    plain.compile("sgd", "mse", precision="bfloat16")
    assert "loss_scale" not in plain.fit(X, Y, verbose=0, device="cpu").history


def test_the_babysitter_does_not_take_a_skipped_step_for_a_fault() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(640, 4)).astype(np.float32)
    y = 100.0 * x[:, :1]  # its gradients overflow at first
    history = model_of().fit(x, y, batch_size=32, epochs=4, verbose=0, device="cpu")
    assert history.history["skipped_steps"][-1] > 0
    codes = {f.code for f in history.findings}
    assert not codes & {"nan_loss", "nan_in_layer", "nan_gradient", "unchanged_weights", "exploding_gradients"}, codes


def test_a_resumed_run_gives_the_same_bits() -> None:
    def run(model: Any, first: int, last: int) -> None:
        for number in range(first, last):
            model.train_on_batch(X, Y * (1e5 if number in (7, 11) else 1.0))

    whole = model_of()
    run(whole, 0, 14)
    part = model_of()
    run(part, 0, 9)
    weights, state = part.state_dict(), part.optimizer.state_dict()
    assert state["scaling"]["skipped"] > 1.0 and state["scaling"]["good"] == 1.0
    again = model_of()
    again.load_state_dict(weights)
    again.optimizer.load_state_dict(state)
    run(again, 9, 14)
    assert everything(again) == everything(whole)
    assert scaling(again.optimizer) == scaling(whole.optimizer)


def test_a_copy_has_a_scale_of_its_own() -> None:
    from copy import deepcopy

    model = model_of()
    model.train_on_batch(X, Y * 1e5)
    twin = deepcopy(model)
    assert scaling(twin.optimizer) == scaling(model.optimizer)
    twin.train_on_batch(X, Y * 1e5)
    assert scaling(twin.optimizer)["skipped"] == 2.0
    assert scaling(model.optimizer)["skipped"] == 1.0


def test_only_float16_scales_the_loss() -> None:
    model = model_of()
    model.train_on_batch(X, Y)
    assert scaling(model.optimizer)
    model.compile(model.optimizer, "mse", precision="bfloat16")
    model.train_on_batch(X, Y)
    assert scaling(model.optimizer) == {}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_run_that_is_resumed_from_its_folder_gives_the_same_bits(precision: str, tmp_path: Any) -> None:
    y = Y.copy()
    y[0] = 1e4  # float16 skips steps until the scale is small enough
    results = []
    for parts in ((6,), (2, 6)):
        for epochs in parts:
            db.set_seed(0)
            model = db.Sequential([L.Dense(8, activation="relu", input_shape=4), L.BatchNorm(), L.Dense(1)])
            model.compile(db.optimizers.Adam(0.01), "mse", precision=precision)
            model.fit(X, y, batch_size=3, epochs=epochs, verbose=0, device="cpu", seed=0, babysit=False,
                      run_dir=tmp_path / str(len(parts)), resume=epochs != parts[0])
        results.append((everything(model), scaling(model.optimizer)))
    assert results[0] == results[1]
    if precision == "float16":
        assert results[0][1]["skipped"] > 0
