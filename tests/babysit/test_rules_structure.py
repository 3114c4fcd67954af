"""Rules about how a model is built and whether it works at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_tasks import L, check, loud, model_for, raw, scaled
from test_rules_data import ask

import deepbabysit as db
from deepbabysit.babysit.graph import vitals_of
from deepbabysit.babysit.probes import DerivativeProbe, FitProbe, IgnoreProbe, LeakProbe, ModeProbe
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, Record, RunFacts

ops = db.ops


def dense(path: str, units: int, inputs: int, source: str = "", activation: str = "linear", **more: Any) -> LayerFacts:
    return LayerFacts(path, "Dense", activation, units, inputs, sources=(source,) if source else (), **more)


def stack(*layers: LayerFacts, run: RunFacts | None = None, **probes: Any) -> Record:
    return Record(run=run or RunFacts(), model=ModelFacts(layers, output_units=layers[-1].units if layers else None),
                  probes=probes)


def test_two_affine_layers_in_a_row_unless_one_is_a_bottleneck() -> None:
    (found,) = ask("missing_hidden_activation", stack(dense("a", 32, 13), dense("b", 3, 32, "a")))
    assert found.layer == "a" and found.evidence["next"] == "b"
    through = LayerFacts("d", "Dropout", units=32, sources=("a",), settings={"rate": 0.2})
    assert ask("missing_hidden_activation", stack(dense("a", 32, 13), through, dense("b", 3, 32, "d")))
    assert not ask("missing_hidden_activation", stack(dense("a", 4, 13), dense("b", 13, 4, "a")))  # a linear code
    assert not ask("missing_hidden_activation", stack(dense("a", 32, 13, activation="relu"), dense("b", 3, 32, "a")))
    written = dense("b", 3, 32, "a", through=("relu",))  # relu(self.a(x)) in a written call
    assert not ask("missing_hidden_activation", stack(dense("a", 32, 13), written))
    norm = LayerFacts("n", "LayerNorm", units=32, sources=("a",))
    assert not ask("missing_hidden_activation", stack(dense("a", 32, 13), norm, dense("b", 3, 32, "n")))


def test_dropout_beyond_a_half() -> None:
    for rate, count in ((0.8, 1), (0.51, 1), (0.5, 0), (0.0, 0)):
        drop = LayerFacts("d", "Dropout", settings={"rate": rate})
        assert len(ask("dropout_too_high", stack(drop))) == count


def norm(**settings: Any) -> LayerFacts:
    known = {"momentum": 0.99, "fresh_moving_mean": True, "fresh_moving_var": True, **settings}
    return LayerFacts("n", "BatchNorm", sources=("a",), settings=known)


def test_batch_normalization_that_cannot_work() -> None:
    before = dense("a", 8, 4, settings={"use_bias": False})
    usual = RunFacts(batch_size=32, steps=10, epochs=30)

    def severities(run: RunFacts, *layers: LayerFacts) -> list[str]:
        return [f.severity for f in ask("batchnorm_misuse", stack(*layers, run=run))]

    assert not severities(usual, before, norm())
    assert severities(replace(usual, batch_size=1), before, norm()) == ["error"]
    assert severities(replace(usual, batch_size=2), before, norm()) == ["warning"]
    assert not severities(replace(usual, batch_size=1), before, norm(positions=49))  # an image has many positions
    assert severities(usual, before, norm(momentum=1.0)) == ["error"]
    assert severities(usual, before, norm(frozen=True)) == ["error"]
    assert not severities(usual, before, norm(frozen=True, fresh_moving_var=False))  # fine-tuning
    assert severities(replace(usual, epochs=4), before, norm()) == ["warning"]
    assert not severities(replace(usual, epochs=4), before, norm(momentum=0.9))
    for size, momentum, said in ((5, 0.1, ["note"]), (32, 0.1, []), (5, 0.9, [])):  # is it the old value's weight?
        assert severities(replace(usual, batch_size=size), before, norm(momentum=momentum)) == said
    assert not severities(replace(usual, batch_size=5), before, norm(momentum=0.1, positions=49))
    drop = LayerFacts("a", "Dropout", settings={"rate": 0.5})
    assert severities(usual, drop, norm()) == ["warning"]
    assert severities(usual, dense("a", 8, 4, settings={"use_bias": True}), norm()) == ["note"]


def test_rules_over_probes_speak_at_their_limits() -> None:
    for code, name, wrong, right in (
        ("mode_bug", "modes", ModeProbe(0.5, None, False), ModeProbe(1e-7, 0.0, False)),
        ("batch_leak", "leak", LeakProbe(0.2, "a"), LeakProbe(1e-6, None)),
        ("output_ignores_input", "ignores", IgnoreProbe(0.0, 0.0, 1.0), IgnoreProbe(0.4, 0.5, 1.0)),
        ("wrong_gradient", "derivative", DerivativeProbe(0.5, "a.kernel", 1.0, 2.0, ("F",)),
         DerivativeProbe(1e-6, "a.kernel", 1.0, 1.0, ("F",))),
    ):
        layers = (dense("a", 8, 4, activation="relu"), dense("b", 3, 8, "a"))
        (found,) = ask(code, stack(*layers, **{name: wrong}))
        assert found.severity == "error" and found.remedies and str(found.evidence["limit"])
        assert not ask(code, stack(*layers, **{name: right}))
        assert not ask(code, stack(*layers))


def test_rows_that_cannot_be_learned_by_heart() -> None:
    probe = FitProbe(0.4, "classes", 16, 0.01, 200, 1.1, 0.9, True)
    deep = (dense("a", 8, 4, activation="relu"), dense("b", 3, 8, "a"))
    assert [f.severity for f in ask("underfitting", stack(*deep, fit=probe))] == ["warning"]
    assert [f.severity for f in ask("underfitting", stack(dense("a", 3, 4), fit=probe))] == ["note"]  # a linear model
    assert not ask("underfitting", stack(*deep, fit=replace(probe, error=0.0)))
    assert not ask("underfitting", stack(*deep, fit=replace(probe, decided=False)))  # the time was spent
    code = (dense("a", 2, 8, activation="relu"), dense("b", 8, 2, "a"))
    assert [f.severity for f in ask("underfitting", stack(*code, fit=replace(probe, kind="numbers")))] == ["note"]


# -- on real models ----------------------------------------------------------------------------------------------------


class Leaky(db.Function):
    """A leaky rectifier; `right` says whether its backward is."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def forward(self, x: Any) -> Any:
        self.save(x)
        return ops.where(x > 0.0, x, x * 0.1)

    def backward(self, gradient: Any) -> Any:
        (x,) = self.saved
        return ops.where(x > 0.0, gradient, gradient * 0.1) if self.right else gradient


class Binary(db.Function):
    """Signs, with a straight-through gradient."""

    def forward(self, x: Any) -> Any:
        return ops.where(x > 0.0, 1.0, -1.0)

    def backward(self, gradient: Any) -> Any:
        return gradient


def written(call: Callable[..., Any]) -> Any:
    """Return a model with a written call over two dense layers, a dropout and a normalization."""

    class Net(db.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = L.Dense(32), L.Dense(3, "softmax")
            self.drop, self.norm = L.Dropout(0.5), L.BatchNorm()

        def call(self, x: Any, training: bool = False) -> Any:
            return call(self, x, training)

    model = Net()
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


CALLS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "plain": (lambda m, x, t: m.b(ops.relu(m.a(x))), []),
    "dropout": (lambda m, x, t: m.b(m.drop(ops.relu(m.a(x)), training=t)), []),
    "batch norm": (lambda m, x, t: m.b(ops.relu(m.norm(m.a(x)))), []),
    "own normalization": (lambda m, x, t: m.b(ops.relu(m.a(x - x.mean(axis=-1, keepdims=True)))), []),
    "mean of the batch": (lambda m, x, t: m.b(ops.relu(m.a(x - x.mean(axis=0, keepdims=True)))), ["batch_leak"]),
    "softmax over rows": (lambda m, x, t: m.b(ops.softmax(m.a(x), axis=0)), ["batch_leak"]),
    "reshape for transpose": (lambda m, x, t: m.b(ops.relu(m.a(x)).reshape((32, x.shape[0])).T), ["batch_leak"]),
    "always batch statistics": (lambda m, x, t: m.b(ops.relu(m.norm(m.a(x), training=True))), ["batch_leak"]),
    "mean of deviations": (
        lambda m, x, t: m.b(x[:, :1] * 0.0 + ops.mean(m.a(x) - ops.mean(m.a(x), axis=-1, keepdims=True), axis=-1,
                                                      keepdims=True)), ["output_ignores_input"]),
    "zeros like": (lambda m, x, t: m.b(ops.relu(m.a(x * 0.0))), ["output_ignores_input"]),
    "always dropout": (lambda m, x, t: m.b(m.drop(ops.relu(m.a(x)), training=True)), ["mode_bug"]),
    "right backward": (lambda m, x, t: m.b(Leaky(True)(m.a(x))), []),
    "wrong backward": (lambda m, x, t: m.b(Leaky(False)(m.a(x))), ["wrong_gradient"]),
}


@pytest.mark.parametrize("case", CALLS)
def test_written_models(case: str) -> None:
    x, y, _, _, _ = scaled("wine")
    call, codes = CALLS[case]
    found = check(written(call), x, y)
    assert loud(found) == codes, str(found)
    assert not codes or found.codes[0] == codes[0]


def test_a_straight_through_estimate_is_not_surely_wrong() -> None:
    x, y, _, _, _ = scaled("wine")
    found = check(written(lambda m, x, t: m.b(Binary()(m.a(x)))), x, y)
    (finding,) = [f for f in found if f.code == "wrong_gradient"]
    assert finding.severity == "note" and finding.confidence <= 0.5 and "straight-through" in finding.message


class Reversed(db.Function):
    """The input as it is; its gradient turned around."""

    def forward(self, x: Any) -> Any:
        return x * 1.0

    def backward(self, gradient: Any) -> Any:
        return gradient * -0.3


def test_an_operation_that_hands_its_input_through_may_change_the_gradient() -> None:
    x, y, _, _, _ = scaled("wine")
    (finding,) = [f for f in check(written(lambda m, x, t: m.b(ops.relu(Reversed()(m.a(x))))), x, y)
                  if f.code == "wrong_gradient"]
    assert finding.severity == "note" and "hands its input through" in finding.message


def test_the_layer_of_a_leak_is_named() -> None:
    x, y, _, _, _ = scaled("wine")
    model = db.Sequential([
        L.Dense(16, "relu", input_shape=13), L.Lambda(lambda t: t - t.mean(axis=0, keepdims=True)),
        L.Dense(3, "softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert check(model, x, y)[0].layer == "1"


def test_a_model_left_in_training_mode_is_noted() -> None:
    x, y, _, _, _ = scaled("wine")
    model = model_for("wine")
    model.train()
    found = check(model, x, y)
    assert not loud(found) and "mode_bug" in found.codes
    model.eval()
    assert "mode_bug" not in check(model, x, y).codes


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "digits"])
def test_structure_of_real_networks(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    width = x.shape[1]

    def codes(*first: Any, **options: Any) -> list[str]:
        return loud(check(model_for(name, hidden=(), first=first), x, y, (xv, yv), **options))

    def entry(activation: Any = "relu", **options: Any) -> Any:
        return L.Dense(32, activation, input_shape=width, **options)

    assert loud(check(model_for(name, activation=None), x, y))[0] == "missing_hidden_activation"
    assert codes(entry(), L.Dropout(0.8))[0] == "dropout_too_high"
    assert codes(entry(), L.Dropout(0.5)) == []
    assert codes(entry(None), L.BatchNorm(), L.Activation("relu"), batch_size=1)[0] == "batchnorm_misuse"
    assert codes(entry(None, use_bias=False), L.BatchNorm(), L.Activation("relu"), L.Dropout(0.5), epochs=60) == []
    assert codes(entry(), L.Dropout(0.5), L.BatchNorm())[0] == "batchnorm_misuse"


def test_images_sequences_and_ids_are_silent() -> None:
    x, y, xv, yv, _ = raw("digits")
    images, held = ((t / 16).reshape(-1, 8, 8, 1) for t in (x, xv))
    model = db.Sequential([
        L.Conv2D(8, 3, activation="relu", padding="same", input_shape=(8, 8, 1)), L.BatchNorm(), L.MaxPool2D(),
        L.Conv2D(16, 3, activation="relu"), L.Flatten(), L.Dense(10, "softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert not loud(check(model, images, y, (held, yv), epochs=10))
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(200, 6, 3)).astype(np.float32)
    for layer in (L.LSTM(8), L.GRU(8), L.Bidirectional(L.LSTM(4))):
        model = db.Sequential([layer, L.Dense(1)])
        model.compile("adam", "mse")
        assert not loud(check(model, steps, steps[:, :, 0].sum(axis=1, keepdims=True) / 2.4))
    ids = rng.integers(0, 50, (200, 6))
    model = db.Sequential([L.Embedding(50, 16), L.TransformerBlock(2), L.Flatten(), L.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    assert not loud(check(model, ids, (ids[:, :1] < 25).astype(np.float32)))


def test_a_network_too_narrow_for_sixteen_rows() -> None:
    x, y, _, _, _ = scaled("digits")
    found = check(model_for("digits", hidden=(1,)), x, y)
    assert "underfitting" in loud(found)
    assert found[found.codes.index("underfitting")].evidence["rows"] == 16


def test_an_activation_that_does_nothing_is_none() -> None:
    idle = LayerFacts("i", "Activation", "linear", 32, sources=("a",))  # what it hands on keeps its source
    (found,) = ask("missing_hidden_activation", stack(dense("a", 32, 13), idle, dense("b", 3, 32, "a")))
    assert found.layer == "a"
    for slope, bends in ((1.0, 1), (0.3, 0)):
        leak = LayerFacts("l", "LeakyReLU", "leaky_relu", 32, sources=("a",), settings={"slope": slope})
        assert len(ask("missing_hidden_activation", stack(dense("a", 32, 13), leak, dense("b", 3, 32, "l")))) == bends
    both = stack(dense("a", 32, 13), dense("b", 3, 32, "a"), dense("c", 3, 32, "a"))
    assert not ask("missing_hidden_activation", both)  # two layers use what the first one gives


def test_a_model_that_maps_sums_to_sums_is_linear_whatever_its_layers_are_called() -> None:
    layers = (dense("a", 4, 13, activation="leaky_relu"), dense("b", 13, 4, "a"))
    (found,) = ask("missing_hidden_activation", stack(*layers, straight=2e-7))
    assert found.severity == "warning" and "the whole model is as good as linear" in found.message
    assert ask("missing_hidden_activation", stack(*layers, straight=0.03))  # a leak of 0.97
    assert not ask("missing_hidden_activation", stack(*layers, straight=0.2))
    for linear, curved, severity in ((0.9, 0.91, "note"), (0.7, 0.9, "warning"), (0.35, 0.36, "warning")):
        stick = SimpleNamespace(own_linear=linear, own_curved=curved, own_guess=1 / 3)  # the last one knows nothing
        (found,) = ask("missing_hidden_activation", stack(*layers, straight=2e-7, yardstick=stick))
        assert found.severity == severity, (linear, curved)
    assert not ask("missing_hidden_activation", stack(layers[1], straight=2e-7))  # one layer is meant to be linear


@pytest.mark.parametrize(
    ("middle", "straight"),
    [((L.LeakyReLU(slope=1.0),), True), ((L.Dropout(0.2), L.BatchNorm()), True), ((L.LeakyReLU(slope=0.3),), False),
     ((L.Activation("tanh"),), False)],
)
def test_outputs_of_sums_of_rows(middle: tuple[Any, ...], straight: bool) -> None:
    x, y, xv, yv, _ = scaled("wine")
    for last, loss in ((L.Dense(3, "softmax"), "sparse_categorical_crossentropy"), (L.Dense(3), "cross_entropy")):
        model = db.Sequential([L.Dense(16, input_shape=13), *middle, last])
        model.compile("adam", loss)
        probe = check(model, x, y, (xv, yv)).record.probes["straight"]
        assert (probe < 1e-5) is straight and (probe > 0.05) is not straight


def test_rows_on_one_side_of_every_bend_do_not_make_a_model_linear() -> None:
    x, y, xv, yv, _ = scaled("wine")
    model = db.Sequential([L.Dense(16, "leaky_relu", input_shape=13), L.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert check(model, 0.01 * x - 4.0, y, (0.01 * xv - 4.0, yv)).record.probes["straight"] > 0.05


def test_an_epsilon_that_hides_the_variance() -> None:
    x, y, xv, yv, _ = scaled("wine")
    for epsilon, said in ((100.0, ["batchnorm_misuse"]), (0.1, []), (1e-3, [])):
        model = db.Sequential([L.Dense(16, use_bias=False, input_shape=13), L.BatchNorm(0.9, epsilon=epsilon),
                               L.Activation("relu"), L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        assert [f.code for f in check(model, x, y, (xv, yv)) if f.severity == "warning"] == said


def test_outputs_that_are_normalized_lose_their_scale() -> None:
    end = LayerFacts("n", "BatchNorm", sources=("b",), settings={"momentum": 0.9})
    learned = replace(end, parameters={"gamma": vitals_of(np.ones(1)), "beta": vitals_of(np.zeros(1))})

    def said(layer: LayerFacts, **run: Any) -> list[str]:
        made = stack(dense("a", 8, 4, activation="relu"), dense("b", 1, 8, "a", settings={"use_bias": False}), layer,
                     run=RunFacts(**{"task": "regression", "batch_size": 32, **run}))
        return [f.severity for f in ask("batchnorm_misuse", made)]

    assert said(end) == ["warning"] and said(learned) == ["note"] and said(learned, batch_size=8) == ["warning"]
    assert said(learned, task="multiclass") == []  # logits may be
    assert said(end, task="multiclass") == ["warning"]  # but they become sure
