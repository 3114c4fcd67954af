"""Models: building, shapes, names, freezing, summaries, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import deepbabysit as db

RNG = np.random.default_rng(0)


def branches() -> db.Model:
    a, b = db.Input(shape=(4,)), db.Input(shape=(6,))
    shared = db.layers.Dense(5, "tanh")
    left = shared(db.layers.Dense(3)(a))
    right = shared(db.layers.Dense(3)(b))
    joined = db.layers.Add()([left, right]) * 0.5 + left
    return db.Model([a, b], db.layers.Dense(2, "softmax")(joined))


def images() -> db.Sequential:
    return db.Sequential([
        db.layers.Conv2D(4, 3, padding="same", activation="relu", input_shape=(8, 8, 1)),
        db.layers.BatchNorm(),
        db.layers.MaxPool2D(2),
        db.layers.Flatten(),
        db.layers.Dropout(0.2),
        db.layers.Dense(3),
    ])


def test_functional_graph_computes_what_it_says() -> None:
    model = branches()
    a, b = RNG.standard_normal((7, 4)).astype(np.float32), RNG.standard_normal((7, 6)).astype(np.float32)
    w = model.get_weights()
    (ka, ba), (ks, bs), (kb, bb), (ko, bo) = (w[i : i + 2] for i in (0, 2, 4, 6))
    left = np.tanh((a @ ka + ba) @ ks + bs)
    right = np.tanh((b @ kb + bb) @ ks + bs)
    z = ((left + right) * 0.5 + left) @ ko + bo
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict((a, b)), expected, rtol=1e-5, atol=1e-6)


def test_shared_layers_have_one_set_of_weights() -> None:
    model = branches()
    assert len(model.parameters()) == 8
    assert model.count_params() == 4 * 3 + 3 + 3 * 5 + 5 + 6 * 3 + 3 + 5 * 2 + 2


def test_paths_are_places_or_names() -> None:
    model = db.Sequential([
        db.layers.Dense(2, input_shape=3),
        db.layers.BatchNorm(name="norm"),
        db.Sequential([db.layers.Dense(2, name="inner")], name="head"),
    ])
    assert list(model.state_dict()) == [
        "0.kernel", "0.bias", "norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_var", "head.inner.kernel",
        "head.inner.bias",
    ]


@given(st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_inferred_shapes_are_the_real_ones(batch: int, units: list[int]) -> None:
    x = db.Input(shape=3)
    h = x
    for n in units:
        h = db.layers.Dense(n)(h)
    model = db.Model(x, h)
    assert model.outputs[0].shape[1:] == model.predict(np.zeros((batch, 3))).shape[1:]


def test_sequential_builds_at_first_use_or_from_input_shape() -> None:
    late = db.Sequential([db.layers.Dense(4), db.layers.Dense(2)])
    assert not late.built
    assert late.predict(np.zeros((5, 3))).shape == (5, 2)
    assert late.count_params() == 3 * 4 + 4 + 4 * 2 + 2
    early = db.Sequential([db.Input(shape=3), db.layers.Dense(4), db.layers.Dense(2)])
    assert early.count_params() == late.count_params()
    early.add(db.layers.Dense(1))
    assert early.predict(np.zeros((5, 3))).shape == (5, 1)


def test_summary_lists_layers_and_totals(capsys: pytest.CaptureFixture[str]) -> None:
    model = images()
    model.freeze("0")
    text = model.summary()
    assert text in capsys.readouterr().out
    assert "(None, 8, 8, 4)" in text
    assert "Parameters: 243 (trainable 203, frozen 40, state 8)" in text


def test_a_bare_call_is_inference_and_training_mode_can_be_asked_for() -> None:
    model = images()
    x = db.tensor(RNG.standard_normal((6, 8, 8, 1)).astype(np.float32))
    first, second = model(x).numpy(), model(x).numpy()
    np.testing.assert_array_equal(first, second)
    before = model.state_dict()["1.moving_mean"]
    with db.training():
        trained = model(x).numpy()
    assert not np.array_equal(trained, first)
    after = model.state_dict()["1.moving_mean"]
    assert not np.array_equal(before, after)
    model.train()
    assert not np.array_equal(model(x).numpy(), model.eval()(x).numpy())


def test_weights_go_in_and_out() -> None:
    a, b = images(), images()
    b.set_weights(a.get_weights())
    x = RNG.standard_normal((4, 8, 8, 1))
    np.testing.assert_array_equal(a.predict(x), b.predict(x))
    with pytest.raises(KeyError, match="kernal"):
        b.load_state_dict({**{k: v for k, v in a.state_dict().items() if k != "0.kernel"}, "0.kernal": 1})
    with pytest.raises(ValueError, match="shape"):
        b.load_state_dict({**a.state_dict(), "0.kernel": np.zeros((1, 1))})
    with pytest.raises(KeyError, match="0"):
        a.freeze("00")


@pytest.mark.parametrize("make", [branches, images])
def test_a_file_brings_the_same_model_back(tmp_path: Path, make: Any) -> None:
    model = make()
    shapes = [(4,), (6,)] if make is branches else [(8, 8, 1)]
    inputs = tuple(RNG.standard_normal((5, *shape)).astype(np.float32) for shape in shapes)
    x = inputs if len(inputs) > 1 else inputs[0]
    y = RNG.integers(0, 2, 5)
    model.compile(db.optimizers.Adam(0.01), "sparse_categorical_crossentropy" if make is branches else "cross_entropy",
                  metrics=["accuracy"])
    model.fit(x, y, epochs=2, verbose=0)
    model.freeze(next(iter(model.state_dict())).rsplit(".", 1)[0])
    path = model.save(tmp_path / "m.dbs")
    again = db.load_model(path)
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    assert model.evaluate(x, y) == again.evaluate(x, y)
    assert [p.trainable for p in model.parameters()] == [p.trainable for p in again.parameters()]
    assert again.optimizer.learning_rate == pytest.approx(0.01)
    again.fit(x, y, epochs=1, verbose=0)


def test_the_file_is_plain_safetensors_and_json(tmp_path: Path) -> None:
    path = images().save(tmp_path / "m.dbs")
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["deepbabysit"])
        assert header["format"] == 1
        assert "weight:0.kernel" in file.keys()  # noqa: SIM118
    assert [p.name for p in tmp_path.iterdir()] == ["m.dbs"]


def test_own_classes_are_handed_in(tmp_path: Path) -> None:
    class Net(db.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.units = units
            self.out = db.layers.Dense(units)

        def call(self, x: Any) -> Any:
            return self.out(x)

        def config(self) -> dict[str, Any]:
            return {"units": self.units}

    model = Net(2)
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    model.build_for([(4,)], [np.float32])
    path = model.save(tmp_path / "net.dbs")
    with pytest.raises(KeyError, match="objects"):
        db.load_model(path)
    np.testing.assert_array_equal(db.load_model(path, objects={"Net": Net}).predict(x), model.predict(x))


def test_what_cannot_be_saved_says_so_and_writes_nothing(tmp_path: Path) -> None:
    model = db.Sequential([db.layers.Lambda(lambda x: x * 2, input_shape=3), db.layers.Dense(1)])
    model.predict(np.zeros((1, 3)))
    with pytest.raises(TypeError, match="Lambda"):
        model.save(tmp_path / "m.dbs")
    with pytest.raises(ValueError, match="no weights"):
        db.Sequential([db.layers.Dense(1)]).save(tmp_path / "m.dbs")
    with pytest.raises(ValueError, match=r"another library's file.*m\.dbs"):
        images().save(tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: db.Sequential([3]), TypeError, "layers"),
        (lambda: db.Sequential([db.layers.Dense]), TypeError, "forget to call"),
        (lambda: db.Sequential([len]), TypeError, "Lambda"),
        (lambda: db.Model(db.Input(shape=2), db.tensor([1.0])), TypeError, "symbolic"),
        (lambda: db.Model(db.Input(shape=2), db.layers.Dense(1)(db.Input(shape=3))), ValueError, "not among"),
        (lambda: db.Input(shape=0), ValueError, "positive"),
        (lambda: db.layers.Dense(2, activation="rleu"), ValueError, "relu"),
        (lambda: db.layers.Dense(2, actvation="relu"), TypeError, "activation"),
        (lambda: db.layres, AttributeError, "layers"),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_input_names_the_layer_and_what_was_expected() -> None:
    model = db.Sequential([db.layers.Dense(4, input_shape=3), db.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"3.*\n?.*5|5.*3"):
        model.predict(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="channels|C="):
        images().predict(np.zeros((2, 1, 8, 8)))


def test_symbolic_tensors_passed_by_keyword_are_part_of_the_graph() -> None:
    query, value = db.Input(shape=(3, 4)), db.Input(shape=(5, 4))
    model = db.Model([query, value], db.layers.MultiHeadAttention(2, 2)(query, value=value))
    q, v = (RNG.standard_normal((2, n, 4)).astype(np.float32) for n in (3, 5))
    layer = model.layers[0]
    np.testing.assert_allclose(model.predict((q, v)), layer(q, value=db.tensor(v)).numpy(), rtol=1e-6)


def test_zeros_and_ones_of_a_symbolic_input_take_the_length_of_each_batch() -> None:
    """`ones_like(Input)` is no constant of the unknown length: batches of any length go through, NaN or not."""
    x = db.Input((5,))
    model = db.Model(x, db.ops.cumsum(db.ops.ones_like(x), axis=1) + db.ops.zeros_like(x))
    for rows in (1, 3, 8):
        values = np.full((rows, 5), np.nan, np.float32)
        np.testing.assert_array_equal(model(values).numpy(), np.tile(np.arange(1.0, 6.0, dtype=np.float32), (rows, 1)))
    counted = db.layers.Lambda(lambda v: db.ops.cumsum(db.ops.ones_like(v), axis=1))
    written = db.Sequential([counted, db.layers.Dense(2)])
    assert written.build_for([(5,)], [np.float32]).shape[1:] == (2,)
