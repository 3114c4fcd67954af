"""Rules about gradients and activations: what is planted is found, what looks alike is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from records import codes, found, kernel, record, step, units

import deepbabysit as db
from deepbabysit.babysit.graph import Signal
from deepbabysit.babysit.sitter import Sitter

LOSSES = list(np.linspace(2.4, 2.0, 60))


def flow(*gradients: float, count: int = 5, weight: float = 1.0) -> list[Any]:
    return [
        step(i + 1, [kernel(f"{n}.kernel", gradient=g, weight=weight) for n, g in enumerate(gradients)])
        for i in range(count)
    ]


def test_a_gradient_that_vanishes_on_its_way() -> None:
    seen = found(record(losses=LOSSES, steps=flow(1e-7, 1e-5, 1e-3, 0.1)))["vanishing_gradient"]
    assert seen.layer == "0"
    assert seen.evidence["ratio"] == pytest.approx(1e-6)


@pytest.mark.parametrize("gradients", [(0.01, 0.1, 0.1), (1e-7, 1e-7, 1e-7), (1e-7, 0.1)])
def test_gradients_that_do_not_vanish(gradients: tuple[float, ...]) -> None:
    assert "vanishing_gradient" not in found(record(losses=LOSSES, steps=flow(*gradients)))


def test_one_odd_batch_says_nothing_about_gradients() -> None:
    steps = [*flow(0.1, 0.1, 0.1, count=4), *flow(1e-8, 1e-3, 0.1, count=1), *flow(0.1, 0.1, 0.1, count=1)]
    assert "vanishing_gradient" not in found(record(losses=LOSSES, steps=steps))


def test_gradients_that_grow_without_end() -> None:
    steps = [step(i, [kernel("0.kernel", gradient=g)]) for i, g in enumerate([0.1, 0.1, 0.2, 5.0, 50.0, 80.0])]
    assert "exploding_gradient" in codes(record(losses=LOSSES, steps=steps))
    steep = flow(500.0, 50.0, 1.0)
    assert found(record(losses=LOSSES, steps=steep))["exploding_gradient"].layer == "0"


def test_gradients_that_are_clipped_do_not_explode() -> None:
    steps = [step(i, [kernel("0.kernel", gradient=g)]) for i, g in enumerate([0.1, 0.1, 0.2, 5.0, 50.0, 80.0])]
    made = record(losses=LOSSES, steps=steps, optimizer_settings={"clip_norm": 1.0})
    assert "exploding_gradient" not in found(made)


def test_units_that_are_dead() -> None:
    seen = found(record(losses=LOSSES, steps=[step(9, layers=[units("0", dead=6), units("1", dead=10)])]))["dead_relu"]
    assert seen.severity == "error"
    assert seen.layer == "1"
    assert seen.evidence["layers"] == ["1", "0"] or seen.evidence["layers"] == ["0", "1"]


def test_dead_units_that_did_no_harm_are_a_note() -> None:
    learned = [2.4, *[0.1] * 40]
    half, whole = units("0", dead=6), units("0", dead=10)
    assert found(record(losses=learned, steps=[step(9, layers=[half])]))["dead_relu"].severity == "note"
    assert found(record(losses=learned, steps=[step(9, layers=[whole])]))["dead_relu"].severity == "error"


def test_units_that_were_closed_by_chance_before_the_first_step() -> None:
    for born, dead, severity in ((0.6, 6, "note"), (0.1, 6, "warning"), (1.0, 10, "error")):
        made = record(losses=LOSSES, steps=[step(9, layers=[units("0", dead=dead)])],
                      probes={"signals": {"0": Signal(1.0, 1.0, 1.0, 0.0, born, 0)}})
        assert found(made)["dead_relu"].severity == severity


@pytest.mark.parametrize(
    "layer", [units("0", dead=5), units("0", dead=8, rows=32), units("0", dead=10, saturated=0.0), units("0")]
)
def test_units_that_rest_are_not_dead(layer: Any) -> None:
    assert "dead_relu" not in found(record(losses=LOSSES, steps=[step(9, layers=[layer])]))


def test_saturated_units_of_hidden_layers() -> None:
    full = [step(i, layers=[units("0", saturated=0.8), units("1", saturated=0.9)]) for i in range(3)]
    seen = found(record(losses=LOSSES, steps=full))["saturated_activation"]
    assert seen.layer == "0"  # the output layer may be sure of itself
    brief = [*full[:2], step(3, layers=[units("0", saturated=0.2), units("1")])]
    assert "saturated_activation" not in found(record(losses=LOSSES, steps=brief))


# -- small real trainings ----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.standard_normal((320, 10)).astype(np.float32)
Y = (X[:, :3].argmax(axis=1)).astype(np.int64)


def train(model: Any, rate: float = 1e-3, epochs: int = 6, optimizer: str = "Adam", **fit: Any) -> set[str]:
    model.compile(getattr(db.optimizers, optimizer)(rate), "cross_entropy", metrics=["accuracy"])
    sitter = Sitter(every=4)
    model.fit(X, Y, batch_size=32, epochs=epochs, verbose=0, seed=1, babysit=sitter, validation_split=0.2, **fit)
    assert not sitter.engine.failed
    return {f.code for f in sitter.findings if f.severity != "note"}


def stack(activation: str, depth: int, initializer: Any, width: int = 32) -> Any:
    db.set_seed(0)
    hidden = [
        db.layers.Dense(width, activation=activation, kernel_initializer=initializer, input_shape=None if i else 10)
        for i in range(depth)
    ]
    return db.Sequential([*hidden, db.layers.Dense(3)])


def test_ten_sigmoids_starve_the_first() -> None:
    assert "vanishing_gradient" in train(stack("sigmoid", 10, "glorot_uniform"), 0.01, optimizer="SGD")


def test_deep_tanh_with_a_good_start_is_silent() -> None:
    assert train(stack("tanh", 8, "glorot_normal"), epochs=12) == set()


def test_relu_with_large_negative_biases_is_dead() -> None:
    model = stack("relu", 2, "he_normal")
    model.layers[0].bias.assign(np.full(32, -50.0, np.float32))
    assert "dead_relu" in train(model)


def test_a_layer_with_four_fifths_of_zeros_is_alive() -> None:
    model = stack("relu", 2, "he_normal", 64)
    model.layers[0].bias.assign(np.full(64, -1.2, np.float32))
    sitter = Sitter(every=4)
    model.compile(db.optimizers.Adam(1e-3), "cross_entropy")
    model.fit(X, Y, batch_size=32, epochs=40, verbose=0, seed=1, babysit=sitter)
    seen = sitter.record.steps[0].layers["0"].output
    assert seen.zeros > 0.7 * seen.count
    assert [f.code for f in sitter.findings if f.severity != "note"] == []


def test_tanh_with_far_too_large_weights_is_saturated() -> None:
    def wide(shape: Any, rng: np.random.Generator, dtype: Any) -> np.ndarray:
        return rng.normal(0.0, 5.0, shape).astype(dtype)

    assert "saturated_activation" in train(stack("tanh", 3, wide))


def test_a_clipped_recurrent_network_is_silent() -> None:
    db.set_seed(0)
    model = db.Sequential([db.layers.Reshape((10, 1), input_shape=10), db.layers.SimpleRNN(24), db.layers.Dense(3)])
    model.compile(db.optimizers.Adam(3e-3, clip_norm=1.0), "cross_entropy")
    sitter = Sitter(every=4)
    model.fit(X, Y, batch_size=32, epochs=8, verbose=0, seed=1, babysit=sitter)
    assert not {"exploding_gradient", "vanishing_gradient", "saturated_activation", "learning_rate_too_high"} & {
        f.code for f in sitter.findings
    }
