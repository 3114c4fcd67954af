"""The snippets and worked examples that users bring along run as they stand."""

from __future__ import annotations

import numpy as np
import pytest

import deepbabysit as db


def test_functional_network_with_only_the_import_changed() -> None:
    import deepbabysit as keras

    input = keras.Input(shape=29)
    h = keras.layers.Dense(16, activation="relu")(input)
    output = keras.layers.Dense(1, activation="sigmoid")(h)
    model = keras.Model(input, output)
    assert model.count_params() == 497
    assert model.predict(np.zeros((3, 29))).shape == (3, 1)


def test_sequential_network_with_only_the_import_changed() -> None:
    from deepbabysit import Sequential
    from deepbabysit.layers import Dense

    model = Sequential([Dense(512, input_shape=(784,), activation="relu"), Dense(10, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 784), np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 64)]
    history = model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    assert len(history.history["loss"]) == len(history.history["accuracy"]) == 2
    assert history.history["loss"][1] < history.history["loss"][0]


def test_dense_network_by_hand_on_arrays() -> None:
    rng = np.random.default_rng(0)
    w = db.tensor(rng.standard_normal((4, 3)), requires_grad=True)
    b = db.tensor(np.zeros(4), requires_grad=True)
    x = db.tensor(rng.standard_normal(3))
    h = db.ops.tanh(w @ x + b)
    assert h.shape == (4,)
    np.testing.assert_allclose(h.numpy(), np.tanh(w.numpy() @ x.numpy()))
    h.sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), 1 - h.numpy() ** 2)


def test_gradient_descent_in_one_variable_step_by_step() -> None:
    """g(w) = (w^4 + w^2 + 10 w) / 50 from w = 2.5 with rate 1, against the derivative worked out by hand."""
    w = db.tensor(2.5, dtype="float64", requires_grad=True)
    by_hand = 2.5
    for _ in range(30):
        g = (w**4 + w**2 + 10 * w) / 50
        w.grad = None
        g.backward()
        by_hand = by_hand - (4 * by_hand**3 + 2 * by_hand + 10) / 50
        w = (w - 1.0 * w.grad).detach()
        w.requires_grad = True
        assert w.item() == pytest.approx(by_hand, rel=1e-12)
    root = np.roots([4, 0, 2, 10])
    lowest = root[np.isreal(root)].real[0]
    assert w.item() == pytest.approx(lowest, abs=1e-3)


def test_gradient_descent_in_one_variable_with_the_optimizer() -> None:
    w = db.Parameter(np.array(2.5), db.set_device("cpu"))
    optimizer = db.optimizers.SGD([w], 1.0)
    by_hand = 2.5
    for _ in range(30):
        optimizer.zero_grad()
        ((w**4 + w**2 + 10 * w) / 50).backward()
        optimizer.step()
        by_hand = by_hand - (4 * by_hand**3 + 2 * by_hand + 10) / 50
        assert w.item() == pytest.approx(by_hand, rel=1e-12)


def test_gradient_descent_in_two_variables() -> None:
    """g(w1, w2) = w1^2 + w2^2 + 2: each step with rate 0.1 multiplies both by 0.8."""
    g = db.value_and_grad(lambda w1, w2: w1**2 + w2**2 + 2, argnums=(0, 1))
    w1, w2 = db.tensor(3.0, dtype="float64"), db.tensor(-2.0, dtype="float64")
    for step in range(1, 40):
        value, (d1, d2) = g(w1, w2)
        w1, w2 = w1 - 0.1 * d1, w2 - 0.1 * d2
        assert w1.item() == pytest.approx(3.0 * 0.8**step, rel=1e-12)
        assert w2.item() == pytest.approx(-2.0 * 0.8**step, rel=1e-12)
    assert value.item() == pytest.approx(2.0, abs=1e-5)


def test_full_batch_mini_batch_and_one_sample_descent_reach_the_line() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 2)).astype(np.float32)
    y = (x @ np.array([[2.0], [-1.0]], np.float32)) + 0.5
    for batch, rate, epochs in ((64, 0.3, 150), (16, 0.1, 60), (1, 0.02, 30)):
        model = db.Sequential([db.layers.Dense(1, input_shape=2)])
        model.compile(db.optimizers.SGD(rate), "mse")
        model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, seed=1)
        kernel, bias = model.get_weights()
        np.testing.assert_allclose(kernel[:, 0], [2.0, -1.0], atol=1e-2)
        np.testing.assert_allclose(bias, [0.5], atol=1e-2)
