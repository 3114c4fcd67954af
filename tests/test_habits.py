"""What people write from habit who come from Keras, PyTorch and scikit-learn."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.data.datasets.dataset import Dataset

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 4)).astype(np.float32)
Y = X[:, :1] * X[:, 1:2]


def _sequential() -> Any:
    return db.Sequential([
        db.layers.Dense(8, activation="tanh", input_shape=4), db.layers.BatchNorm(), db.layers.Dropout(0.2),
        db.layers.Dense(1),
    ])


def _shared() -> Any:
    given = db.Input(4)
    twice = db.layers.Dense(4)
    return db.Model(given, db.layers.Dense(1)(twice(db.ops.relu(twice(given)))))


class Wide(db.Model):
    """A model with constructor arguments and no `config` of its own."""

    def __init__(self, units: int, activation: str = "relu", sizes: tuple[int, ...] = (3, 2)) -> None:
        super().__init__()
        self.hidden = [db.layers.Dense(n, activation=activation) for n in (units, *sizes)]
        self.out = db.layers.Dense(1)

    def call(self, x: Any) -> Any:
        for layer in self.hidden:
            x = layer(x)
        return self.out(x)


@pytest.mark.parametrize("arguments", [((5,), {}), ((5, "tanh"), {}), ((), {"units": 6, "sizes": (4,)})])
def test_a_model_class_with_arguments_is_saved_without_a_config(arguments: Any, tmp_path: Path) -> None:
    model = Wide(*arguments[0], **arguments[1])
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    loaded = db.load_model(model.save(tmp_path / "m.dbs"), objects={"Wide": Wide})
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_a_misspelt_argument_of_a_model_class_is_named() -> None:
    with pytest.raises(TypeError, match="units"):
        Wide(unit=3)


def test_one_output_in_a_list_trains() -> None:
    given = db.Input(4)
    model = db.Model([given], [db.layers.Dense(1)(given)])
    model.compile("adam", "mse")
    model.fit([X], [Y], verbose=0)
    assert model.predict(X).shape == (64, 1)


def test_data_sets_unpack_as_in_keras() -> None:
    data = Dataset("d", "binary", X, np.zeros(64, np.int64), X[:8], np.ones(8, np.int64))
    (x, y), (x_test, y_test) = data
    assert x is data.x and y is data.y and x_test is data.x_test and y_test is data.y_test
    with pytest.raises(ValueError, match=r"no published test part.*split"):
        (x, y), (x_test, y_test) = Dataset("d", "binary", X, np.zeros(64, np.int64))


def test_mean_of_booleans_is_the_share() -> None:
    hits = db.tensor([[True, False], [True, True]])
    assert hits.mean().item() == 0.75
    assert hits.mean(axis=0).tolist() == [1.0, 0.5] and hits.mean().dtype == np.float32


def test_a_metric_may_be_a_mean_of_comparisons() -> None:
    def near(y_true: Any, y_pred: Any) -> Any:
        return (abs(y_true - y_pred) < 0.5).mean()

    model = _sequential()
    model.compile("adam", "mse", metrics=[near])
    model.fit(X, Y, verbose=0)
    assert model.evaluate(X, Y)["near"] == pytest.approx((abs(Y - model.predict(X)) < 0.5).mean())


def test_fit_leaves_no_gradients_to_a_loop_written_by_hand() -> None:
    model = _sequential()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert all(p.grad is None for p in model.parameters())


class Doubled(db.Function):
    """PyTorch's spelling; the derivative is wrong on purpose, so that it shows."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.factor = 2.0
        return x * 2.0

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return g * x * ctx.factor


def test_functions_in_the_spelling_of_pytorch() -> None:
    x = db.tensor([3.0, 5.0], requires_grad=True)
    y = Doubled.apply(x)
    y.sum().backward()
    assert y.tolist() == [6.0, 10.0] and x.grad.tolist() == [6.0, 10.0]


@pytest.mark.parametrize("make", [_sequential, _shared, lambda: Wide(4)])
def test_a_deep_copy_goes_on_like_the_original(make: Any) -> None:
    model = make()
    model.compile(db.optimizers.Adam(1e-2, ema=0.9), "mse", metrics=["mae"])
    model.fit(X, Y, epochs=2, verbose=0)
    twin = copy.deepcopy(model)
    before = model.predict(X)
    np.testing.assert_array_equal(twin.predict(X), before)
    assert twin.count_params() == model.count_params()
    twin.fit(X, Y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.predict(X), before)  # nothing is shared
    assert not np.array_equal(twin.predict(X), before)
    model.fit(X, Y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))  # the optimizer's states came along


def test_model_and_optimizer_copied_together_belong_together() -> None:
    model = _sequential()
    optimizer = db.optimizers.SGD(model.parameters(), 0.1, momentum=0.9)
    twin, other = copy.deepcopy((model, optimizer))
    before = model.state_dict()
    db.losses.mse(Y, twin(X)).backward()
    other.step()
    assert not np.array_equal(twin.layers[0].kernel.numpy(), before["0.kernel"])
    assert all(np.array_equal(model.state_dict()[name], value) for name, value in before.items())


def test_pickle_names_the_way_to_save() -> None:
    for thing in (_sequential(), db.layers.Dense(2), db.tensor([1.0])):
        with pytest.raises(TypeError, match=r"save|numpy"):
            pickle.dumps(thing)


def test_layers_are_found_by_name_or_place() -> None:
    model = db.Sequential([db.layers.Dense(8, input_shape=4, name="body"), db.layers.Dense(1, name="head")])
    assert model.get_layer("head") is model.layers[1] and model.get_layer(index=0) is model.layers[0]
    with pytest.raises(KeyError, match="head"):
        model.get_layer("haed")


def _two_inputs(names: tuple[Any, Any] = ("a", "b")) -> Any:
    left, right = (db.Input(2, name=name) for name in names)
    return db.Model([left, right], left - right)


def test_inputs_in_a_dict_go_by_their_names(tmp_path: Path) -> None:
    a, b = X[:, :2], X[:, 2:]
    for model in (_two_inputs(), db.load_model(_two_inputs().save(tmp_path / "m.dbs"))):
        np.testing.assert_array_equal(model.predict({"b": b, "a": a}), a - b)
        np.testing.assert_array_equal(model.predict([a, b]), a - b)
        with pytest.raises(KeyError, match="the model's inputs are"):
            model.predict({"a": a, "c": b})
    with pytest.raises(KeyError, match="name"):
        _two_inputs((None, None)).predict({"b": b, "a": a})


def test_a_batch_of_nested_lists_is_trained_whole() -> None:
    model = db.Sequential([db.layers.Dense(1, input_shape=2, use_bias=False, kernel_initializer="zeros")])
    model.compile(db.optimizers.SGD(0.5), "mse")
    model.train_on_batch([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]], [[0.0], [0.0], [3.0]])
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), [[2.0], [2.0]], rtol=1e-6)


def test_a_wrong_input_shape_shows_the_batch_as_none() -> None:
    model = _two_inputs()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"got a tensor of shape \(None, 4\)"):
        model.fit([X, X], X, verbose=0)


def test_a_loader_of_named_inputs_is_sorted_too() -> None:
    a, b = X[:, :2], X[:, 2:]
    np.testing.assert_array_equal(
        _two_inputs().predict(db.data.Loader({"b": b, "a": a}, a, batch_size=16, shuffle=False)), a - b
    )
