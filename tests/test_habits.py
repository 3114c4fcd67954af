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


def test_parameters_change_in_place_without_recording_and_only_there() -> None:
    model = _sequential()
    kernel = model.layers[0].kernel
    before = kernel.numpy().copy()
    db.losses.mse(Y, model(X)).backward()
    gradient = kernel.grad.numpy().copy()
    with pytest.raises(RuntimeError, match="no_grad"):
        kernel -= 0.1 * kernel.grad
    with db.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    np.testing.assert_allclose(kernel.numpy(), before - np.float32(0.1) * gradient, rtol=1e-6)
    with db.no_grad():
        kernel *= 2.0
        kernel += 1.0
        kernel /= 2.0
    assert kernel is model.layers[0].kernel
    np.testing.assert_allclose(kernel.numpy(), before - 0.1 * gradient + 0.5, rtol=1e-5)


class Noisy(db.Layer):
    """A layer as written for Keras: `call` is told the mode."""

    def call(self, x: Any, training: Any = None) -> Any:
        return x + 1.0 if training else x


def test_training_as_an_argument_of_the_call() -> None:
    model = db.Sequential([Noisy(input_shape=4), db.layers.Dropout(0.5), db.layers.BatchNorm()])
    assert np.array_equal(Noisy()(X, training=True).numpy(), X + 1.0) and np.array_equal(Noisy()(X).numpy(), X)
    mean = model.layers[2].moving_mean.numpy().copy()
    quiet = model(X).numpy()
    assert np.array_equal(model(X, training=False).numpy(), quiet)
    assert np.array_equal(model.layers[2].moving_mean.numpy(), mean)
    assert not np.array_equal(model(X, training=True).numpy(), quiet)
    assert not np.array_equal(model.layers[2].moving_mean.numpy(), mean)
    given = db.Input(4)
    graph = db.Model(given, Noisy()(given))
    with db.training():
        np.testing.assert_array_equal(graph(X).numpy(), X + 1.0)
    np.testing.assert_array_equal(graph(X).numpy(), X)


def test_misspelt_keywords_of_fit_and_its_like_are_named() -> None:
    model = _sequential()
    with pytest.raises(TypeError, match="'optimizer'"):
        model.compile(optimiser="adam")
    model.compile("adam", "mse")
    with pytest.raises(TypeError, match="'epochs'"):
        model.fit(X, Y, epoch=3)
    with pytest.raises(TypeError, match="'batch_size'"):
        model.predict(X, batchsize=3)


def test_a_generator_is_refused_with_the_loader() -> None:
    model = _sequential()
    model.compile("adam", "mse")
    with pytest.raises(TypeError, match=r"generator.*Loader"):
        model.fit((X[i : i + 8], Y[i : i + 8]) for i in range(0, 64, 8))


def test_layers_of_other_libraries_are_translated() -> None:
    with pytest.raises(AttributeError, match=r'Activation\("relu"\)'):
        db.layers.ReLU  # noqa: B018
    with pytest.raises(AttributeError, match="Dense"):
        db.layers.Linear  # noqa: B018


def test_layers_that_hand_their_input_through_stay_in_a_functional_graph() -> None:
    given = db.Input(4)
    hidden = db.layers.Dense(3, use_bias=False, kernel_initializer="ones")(given)
    model = db.Model(given, Noisy()(db.layers.Dropout(0.5)(hidden)))
    assert [type(step.run).__name__ for step in model.steps()] == ["Dense", "Dropout", "Noisy"]
    sums = np.ones((1, 3)) * X.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(X).numpy(), sums, rtol=1e-4, atol=1e-5)
    with db.training():
        noisy = model(X).numpy() - 1.0
    kept = np.isclose(noisy, 2.0 * sums, atol=1e-4)
    assert (kept | np.isclose(noisy, 0.0, atol=1e-6)).all() and 0.3 < kept.mean() < 0.7


class Both(db.Layer):
    """Hands its input through beside a result."""

    def call(self, x: Any) -> Any:
        return x, x * 2.0


def test_a_layer_with_two_results_may_hand_its_input_through() -> None:
    given = db.Input(4)
    same, twice = Both()(db.layers.Activation("relu")(given))
    np.testing.assert_allclose(db.Model(given, twice - same).predict(X), np.maximum(X, 0.0))


@pytest.mark.parametrize(
    ("name", "told"),
    [("view", "reshape"), ("softmax", r"db\.ops\.softmax"), ("detatch", "detach"), ("float", "astype")],
)
def test_methods_of_other_libraries_are_translated(name: str, told: str) -> None:
    x = db.tensor([1.0])
    assert not hasattr(x, name)
    with pytest.raises(AttributeError, match=told):
        getattr(x, name)


class Residual(db.Layer):
    """Keras' idiom: what the base class takes goes through as keywords."""

    def __init__(self, units: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.inner = db.layers.Dense(units, activation="relu")

    def call(self, x: Any) -> Any:
        return x + self.inner(x)


def test_keywords_handed_to_the_base_class_are_saved(tmp_path: Path) -> None:
    model = db.Sequential([Residual(4, input_shape=4), Residual(4, name="second"), db.layers.Dense(1)])
    loaded = db.load_model(model.save(tmp_path / "m.dbs"), objects={"Residual": Residual})
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.layers[1].name == "second"
