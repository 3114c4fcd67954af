"""Rules about first weights and first signals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_tasks import TABLES, L, check, loud, model_for, network, scaled
from test_rules_data import ask

import deepbabysit as db
from deepbabysit.babysit.graph import Signal, trace, vitals_of
from deepbabysit.babysit.probes import GradientProbe, IgnoreProbe, LossProbe
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, Record, RunFacts

RNG = np.random.default_rng(0)
NORMAL, CONSTANT = db.initializers.normal, db.initializers.constant


def layer(path: str, std: float, sources: tuple[str, ...] = (), bias: float = 0.0, **settings: Any) -> LayerFacts:
    kernel = RNG.normal(0, std, (64, 64))
    known = {"kernel_initializer": "normal", "fan_out": 64, "unit_spread": 3.0, **settings}
    return LayerFacts(
        path, "Dense", "relu", 64, 64, True, known, sources,
        {"kernel": vitals_of(kernel), "bias": vitals_of(np.full(64, bias))},
    )


def stack(*layers: LayerFacts, **probes: Any) -> Record:
    return Record(model=ModelFacts(layers), probes=probes)


def signal(raw: float, std: float | None = None, incoming: float = 1.0) -> Signal:
    return Signal(raw if std is None else std, raw, incoming, 0.0, 0.0, 0)


def test_equal_units_are_an_error_where_their_gradients_are_equal_too() -> None:
    flat = layer("0", 0.0, unit_spread=0.0)
    last = layer("1", 0.1, ("0",))
    for gradient, severity in ((GradientProbe(0.0, 1.0, 0.0, 0), "error"), (GradientProbe(1.0, 1.0, 1e-9, 0), "error"),
                               (GradientProbe(1.0, 1.0, 2.0, 0), "note")):
        (found,) = ask("symmetric_init", stack(flat, last, gradients={"0.kernel": gradient}))
        assert found.severity == severity and found.layer == "0"
    assert not ask("symmetric_init", stack(layer("0", 0.1), layer("1", 0.0, ("0",), unit_spread=0.0)))  # the last one
    assert not ask("symmetric_init", stack(layer("0", 0.1), last))


def test_a_kernel_is_judged_by_its_standard_deviation_and_by_what_it_does() -> None:
    he = (2 / 64) ** 0.5
    for factor, severity in ((0.01, "warning"), (0.3, "note"), (1.0, None), (10.0, "warning")):
        record = stack(layer("0", he * factor), layer("1", he, ("0",)), signals={"0": signal(factor)})
        found = [f for f in ask("bad_init_scale", record) if f.layer == "0"]
        assert [f.severity for f in found] == ([] if severity is None else [severity])
    trained = stack(layer("0", he * 4), layer("1", he, ("0",)), signals={"0": signal(1.0)})
    assert not ask("bad_init_scale", trained)  # the signal keeps its size
    normed = stack(layer("0", he * 9), LayerFacts("n", "BatchNorm", sources=("0",)), layer("1", he, ("n",)))
    assert not ask("bad_init_scale", normed)
    assert not ask("bad_init_scale", stack(layer("0", he), layer("1", he / 100, ("0",))))  # a small last layer


def test_a_signal_that_shrinks_through_the_depth() -> None:
    def deep(factor: float, count: int = 7) -> Record:
        layers = [layer(str(i), 0.15, (str(i - 1),) if i else ()) for i in range(count)]
        return stack(*layers, signals={str(i): signal(factor**i) for i in range(count)})

    assert ask("unstable_activation_scale", deep(0.25))
    assert ask("unstable_activation_scale", deep(4.0))
    assert not ask("unstable_activation_scale", deep(0.71))  # ReLU under Glorot
    assert not ask("unstable_activation_scale", deep(0.25, 3))  # too shallow to matter


def test_biases_against_what_they_are_added_to() -> None:
    for bias, raw, found in ((10.0, 1.0, True), (-5.0, 1.0, True), (0.1, 0.01, False), (1.0, 1.0, False)):
        record = stack(layer("0", 0.1, bias=bias), layer("1", 0.1, ("0",)), signals={"0": signal(raw)})
        assert bool(ask("bad_bias_init", record)) is found


# -- on real data ------------------------------------------------------------------------------------------------------

FAULTS: dict[str, Any] = {
    "zeros": ({"kernel": "zeros"}, "symmetric_init"),
    "ones": ({"kernel": "ones"}, "symmetric_init"),
    "constant": ({"kernel": CONSTANT(0.1)}, "symmetric_init"),
    "constant tanh": ({"kernel": CONSTANT(0.1), "activation": "tanh"}, "symmetric_init"),
    "0.001": ({"kernel": NORMAL(stddev=0.001)}, "bad_init_scale"),
    "0.01": ({"kernel": NORMAL(stddev=0.01)}, "bad_init_scale"),
    "3": ({"kernel": NORMAL(stddev=3.0)}, "bad_init_scale"),
    "deep and small": ({"kernel": NORMAL(stddev=0.05), "hidden": (32,) * 6}, "bad_init_scale"),
    "deep sigmoid": ({"kernel": "glorot_uniform", "hidden": (32,) * 6, "activation": "sigmoid"},
                     "unstable_activation_scale"),
    "bias 10": ({"bias": CONSTANT(10.0)}, "bad_bias_init"),
    "bias -10": ({"bias": CONSTANT(-10.0)}, "bad_bias_init"),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("name", ["wine", "diabetes", "digits"])
def test_a_bad_start_is_found_first(name: str, case: str) -> None:
    options, code = FAULTS[case]
    x, y, xv, yv, _ = scaled(name)
    found = check(model_for(name, **options), x, y, (xv, yv))
    assert found.codes[0] == code and code in loud(found), str(found)


def test_a_last_bias_that_is_far_off() -> None:
    x, y, _, _, _ = scaled("breast_cancer")
    found = check(model_for("breast_cancer", last=L.Dense(1, "sigmoid", bias_initializer=CONSTANT(8.0))), x, y)
    assert found.codes[0] == "bad_bias_init" and found[0].layer == "2"
    x, y, _, _, _ = scaled("diabetes")
    wrong = model_for("diabetes", last=L.Dense(1, bias_initializer=CONSTANT(9.0)))
    assert check(wrong, x, y).codes[0] == "bad_bias_init"
    right = model_for("diabetes", last=L.Dense(1, bias_initializer=CONSTANT(20.0)))
    assert not loud(check(right, x, y + 20))


HEALTHY: dict[str, Any] = {
    "glorot relu": {"kernel": "glorot_uniform"},
    "wide glorot relu": {"kernel": "glorot_uniform", "hidden": (256, 128)},
    "deep he": {"hidden": (32,) * 8},
    "deep tanh": {"kernel": "glorot_uniform", "hidden": (32,) * 8, "activation": "tanh"},
    "deep selu": {"kernel": "lecun_normal", "hidden": (32,) * 8, "activation": "selu"},
    "orthogonal": {"kernel": "orthogonal"},
    "normal 0.05": {"kernel": NORMAL(stddev=0.05)},
    "one sigmoid layer": {"kernel": "glorot_uniform", "hidden": (32,), "activation": "sigmoid"},
    "small bias": {"bias": CONSTANT(0.1)},
    "linear model": {"hidden": ()},
}


@pytest.mark.parametrize("case", HEALTHY)
@pytest.mark.parametrize("name", ["wine", "diabetes", "digits"])
def test_good_starts_are_silent(name: str, case: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    assert not loud(check(model_for(name, **HEALTHY[case]), x, y, (xv, yv)))


@pytest.mark.parametrize("name", TABLES)
def test_trained_weights_are_silent(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    model = model_for(name)
    model.fit(x, y, epochs=15, verbose=0, babysit=False)
    assert not loud(check(model, x, y, (xv, yv)))


def test_normalized_and_residual_stacks_do_not_mind_the_scale() -> None:
    x, y, _, _, _ = scaled("wine")
    first: list[Any] = []
    for number in range(6):
        shape = {"input_shape": 13} if not number else {}
        first += [L.Dense(32, kernel_initializer=NORMAL(stddev=0.01), use_bias=False, **shape), L.BatchNorm(),
                  L.Activation("relu")]
    assert not loud(check(network(13, "multiclass", hidden=(), first=first), x, y))
    entry = db.Input(13)
    h = L.Dense(32, "relu")(entry)
    for _ in range(6):
        h = L.Add()([h, L.Dense(32)(L.Dense(32, "relu", kernel_initializer="he_normal")(L.LayerNorm()(h)))])
    model = db.Model(entry, L.Dense(3, "softmax")(L.LayerNorm()(h)))
    model.compile("adam", "sparse_categorical_crossentropy")
    assert not loud(check(model, x, y))


def leaning(mean: float, std: float = 0.1) -> LayerFacts:
    kernel = RNG.normal(mean, std, (64, 64))
    return replace(layer("0", std), parameters={"kernel": vitals_of(kernel), "bias": vitals_of(np.zeros(64))})


def test_first_weights_of_one_sign_say_all_the_same() -> None:
    last = layer("1", 0.1, ("0",))
    for mean, count in ((0.0, 0), (0.002, 0), (0.2, 1), (-0.2, 1), (0.06, 1)):  # 0.06 adds up over 64 inputs
        found = [f for f in ask("bad_init_scale", stack(leaning(mean), last)) if "one side" in f.message]
        assert len(found) == count, mean
    trained = stack(leaning(0.2), last, loss=LossProbe(0.5, 0.5, 64))
    trained.run = RunFacts(chance=1.1)
    assert not [f for f in ask("bad_init_scale", trained) if "one side" in f.message]  # it knows something already
    dead = stack(leaning(-0.2), last, signals={"0": replace(signal(1.0), zero=1.0)})
    assert not [f for f in ask("bad_init_scale", dead) if "one side" in f.message]  # dead_relu says it


def test_many_layers_that_each_lose_a_little_lose_everything() -> None:
    glorot = (1 / 64) ** 0.5

    def deep(count: int, factor: float) -> list[str]:
        layers = [layer(str(i), glorot * factor, (str(i - 1),) if i else ()) for i in range(count)]
        return [f.severity for f in ask("bad_init_scale", stack(*layers))]

    assert deep(3, 0.6) == [] and deep(12, 0.6) == ["warning"] * 11 and deep(12, 1.0) == []


def test_layers_that_are_born_dead() -> None:
    last = layer("1", 0.1, ("0",))
    for zero, severity in ((1.0, "error"), (0.95, "warning"), (0.6, None)):
        record = stack(layer("0", 0.1), last, signals={"0": replace(signal(1.0), zero=zero)})
        assert [f.severity for f in ask("dead_relu", record)] == ([] if severity is None else [severity])
    (found,) = ask("dead_relu", stack(leaning(-0.2), last, signals={"0": replace(signal(1.0), zero=1.0)}))
    assert "nearly all below 0" in found.message
    cut = stack(layer("0", 0.1), last, signals={"0": replace(signal(1.0), zero=1.0)}, ignores=IgnoreProbe(0, 0, 1.0))
    assert not ask("dead_relu", cut)  # no path leads there: what is behind sees nothing


def test_negative_weights_behind_a_rectifier_are_found_dead_before_training() -> None:
    x, y, xv, yv, _ = scaled("wine")
    negative = {"name": "uniform", "minval": -0.5, "maxval": -0.01}
    for start, expected in ((negative, True), ("he_normal", False)):
        model = db.Sequential([L.Dense(32, "relu", input_shape=13), L.Dense(16, "relu", kernel_initializer=start),
                               L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        said = [f.code for f in check(model, x, y, (xv, yv)) if f.severity != "note"]
        assert (said[:1] == ["dead_relu"]) is expected and "output_ignores_input" not in said


def test_a_deep_stack_that_loses_the_signal_bit_by_bit_is_no_path_that_is_cut_off() -> None:
    layers = [layer(str(i), 0.1, (str(i - 1),) if i else ()) for i in range(20)]

    def said(stds: list[float]) -> list[str]:
        signals = {str(i): signal(std) for i, std in enumerate(stds)}
        return [f.code for f in ask("unstable_activation_scale", stack(*layers, signals=signals))]

    assert said([0.1**i for i in range(9)]) == ["unstable_activation_scale"]
    (slow,) = ask("unstable_activation_scale", stack(*layers, signals={
        str(i): signal(0.7**i) for i in range(20)}))  # 0.7 a layer is little, 0.002 of the signal is next to nothing
    assert slow.severity == "warning" and slow.confidence < 0.8
    assert said([0.7**i for i in range(9)]) == []
    assert said([1.0, 1.0, 1.0, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9]) == []
    x, y, xv, yv, _ = scaled("wine")
    model = db.Sequential([*[L.Dense(20, "sigmoid") for _ in range(12)], L.Dense(3, "softmax")])
    model.build_for([(13,)], [np.float32])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert check(model, x, y, (xv, yv)).codes[0] == "unstable_activation_scale"


# -- recurrent layers --------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(5).normal(size=(24, 12, 3)).astype(np.float32)


def said_of(layer: Any, code: str, **settings: Any) -> list[str]:
    """What is said of a layer that reads sequences."""
    model = db.Sequential([layer, L.Dense(1)])
    traced = trace(model, [db.tensor(ROWS, requires_grad=True)])
    made = Record(run=RunFacts(optimizer_settings=settings), probes={"memories": traced.memories})
    return [f.severity for f in ask(code, made)]


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM", "relu", "both ways"])
def test_a_memory_that_makes_everything_grow(kind: str) -> None:
    def layer(**options: Any) -> Any:
        if kind in ("relu", "both ways"):
            inner = L.SimpleRNN(16, "relu" if kind == "relu" else "tanh", **options)
            return inner if kind == "relu" else L.Bidirectional(inner)
        return getattr(L, kind)(16, **options)

    wide, both = NORMAL(stddev=4.0 if kind in ("GRU", "LSTM") else 1.0), 1 + (kind == "both ways")
    assert said_of(layer(recurrent_initializer=wide), "bad_init_scale") == ["warning"] * both
    assert said_of(layer(recurrent_initializer=wide), "bad_init_scale", clip_norm=1.0) == ["note"] * both
    assert said_of(layer(), "bad_init_scale") == []  # orthogonal
    assert said_of(layer(recurrent_initializer="glorot_uniform"), "bad_init_scale") == []


def test_gates_that_biases_hold_shut() -> None:
    for value, severity in ((-8.0, ["warning"]), (8.0, ["warning"]), (1.0, []), (2.0, [])):
        assert said_of(L.GRU(16, bias_initializer=CONSTANT(value)), "bad_bias_init") == severity, value
    assert said_of(L.LSTM(16), "bad_bias_init") == []
    assert said_of(L.SimpleRNN(16, bias_initializer=CONSTANT(3.0)), "bad_bias_init") == ["warning"]


def test_a_softmax_between_layers_leaves_nothing_and_one_that_gates_is_meant() -> None:
    def seen(model: Any) -> list[Any]:
        traced = trace(model, [db.tensor(ROWS[:, 0], requires_grad=True)])
        return ask("unstable_activation_scale", Record(model=traced.model, probes={"signals": traced.signals}))

    def between(activation: str) -> Any:
        return db.Sequential([L.Dense(32, activation), L.Dense(16), L.Activation(activation), L.Dense(3, "softmax")])

    assert [f.layer for f in seen(between("softmax"))] == ["0", "2"] and not seen(between("tanh"))
    entry = db.Input(3)
    gates, values = L.Dense(8, "softmax")(entry), L.Dense(8, "relu", kernel_initializer="he_normal")(entry)
    assert not seen(db.Model(entry, L.Dense(3, "softmax")(gates * values)))
