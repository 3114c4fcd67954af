"""Initializers, regularizers, constraints."""

from __future__ import annotations

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit import constraints, initializers, regularizers

RNG = np.random.default_rng


def spread(name: str, shape: tuple[int, ...], **arguments: float) -> float:
    return float(np.var(initializers.get({"name": name, **arguments})(shape, RNG(0), np.float64)))


@pytest.mark.parametrize("form", ["uniform", "normal"])
@pytest.mark.parametrize(
    ("family", "variance"),
    [("glorot", 2 / (300 + 500)), ("he", 2 / 300), ("lecun", 1 / 300)],
)
def test_variances_of_the_papers(family: str, form: str, variance: float) -> None:
    values = initializers.get(f"{family}_{form}")((300, 500), RNG(0), np.float64)
    assert np.var(values) == pytest.approx(variance, rel=0.02)
    assert abs(values.mean()) < 4 * np.sqrt(variance / values.size)
    if form == "uniform":
        assert np.abs(values).max() <= np.sqrt(3 * variance)
        assert np.abs(values).max() > 0.99 * np.sqrt(3 * variance)


def test_fans_of_convolutions() -> None:
    assert initializers.compute_fans((3, 3, 16, 32)) == (144, 288)
    assert spread("he_normal", (5, 5, 20, 100)) == pytest.approx(2 / 500, rel=0.03)


def test_dropout_correction() -> None:
    # keep rate p: He p / (n E[f^2]) = 2 p / n; Glorot 2 / (in E[f^2] / p + out p E[f'^2])
    assert spread("he_normal", (400, 500), dropout_rate=0.25) == pytest.approx(2 * 0.75 / 400, rel=0.02)
    expected = 2 / (400 * 0.5 / 0.75 + 500 * 0.75 * 0.5)
    found = initializers.glorot_normal(0.25, "relu")((400, 500), RNG(0), np.float64)
    assert np.var(found) == pytest.approx(expected, rel=0.02)
    # as printed: columns of length 1 over sqrt(E[f^2] / p + p E[f'^2])
    found = initializers.hendrycks(0.25, "relu")((40, 6), RNG(0), np.float64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1 / np.sqrt(0.5 / 0.75 + 0.75 * 0.5))


def test_dropout_correction_keeps_the_second_moment() -> None:
    rng = RNG(1)
    h = np.maximum(rng.standard_normal((200, 2000)), 0)
    dropped = h * (rng.random(h.shape) < 0.6) / 0.6
    w = initializers.he_normal(0.4)((2000, 500), rng, np.float64)
    assert np.var(dropped @ w) == pytest.approx(1.0, rel=0.05)


def test_moments_of_activations() -> None:
    assert initializers.activation_moments("relu") == pytest.approx((0.5, 0.5), abs=1e-4)
    assert initializers.activation_moments("tanh") == pytest.approx((0.39429, 0.46440), abs=1e-4)
    assert initializers.activation_moments("selu")[0] == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ValueError, match="relu"):
        initializers.activation_moments("rleu")


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (9, 4), (2, 2, 3, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = initializers.orthogonal(2.0)(shape, RNG(0), np.float64).reshape(-1, shape[-1])
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)
    # drawn evenly: both signs occur even where there is nothing else to draw
    assert {initializers.orthogonal()((1, 1), RNG(seed)).item() for seed in range(20)} == {1.0, -1.0}
    with pytest.raises(ValueError, match="two axes"):
        initializers.orthogonal()((3,), RNG(0))


def test_plain_draws() -> None:
    values = initializers.truncated_normal(1.0, 0.5)((20_000,), RNG(0), np.float64)
    assert np.abs(values - 1).max() <= 1.0
    assert np.var(values) == pytest.approx(0.774 * 0.25, rel=0.03)
    assert initializers.uniform(-1, 3)((1000,), RNG(0)).min() >= -1
    assert initializers.normal(2.0, 0.1)((1000,), RNG(0)).mean() == pytest.approx(2.0, abs=0.02)
    assert initializers.get(0.25)((2, 3), RNG(0)).tolist() == [[0.25] * 3] * 2
    np.testing.assert_array_equal(initializers.constant(np.arange(3.0))((3,), RNG(0)), [0, 1, 2])
    with pytest.raises(ValueError, match="do not fit"):
        initializers.constant([1.0, 2.0])((3,), RNG(0))


def test_names_of_other_libraries() -> None:
    for spelling, name in {
        "GlorotUniform": "glorot_uniform", "xavier_uniform": "glorot_uniform", "xavier_normal_": "glorot_normal",
        "kaiming_normal": "he_normal", "kaiming_uniform_": "he_uniform", "HeNormal": "he_normal", "Zeros": "zeros",
        "RandomNormal": "normal", "lecun_normal": "lecun_normal",
    }.items():
        assert initializers.get(spelling).name == name  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")
    with pytest.raises(TypeError, match="initializer"):
        initializers.get(object())
    own = lambda shape, rng, dtype: np.full(shape, 3, dtype)  # noqa: E731
    assert initializers.get(own) is own
    assert initializers.get(initializers.he_normal).name == "he_normal"  # type: ignore[attr-defined]


def test_configurations_come_back() -> None:
    for found in (initializers.he_normal(0.2, "elu"), initializers.constant(2.0), initializers.normal(0.1, 0.3)):
        again = initializers.get(found.config())
        np.testing.assert_array_equal(found((4, 5), RNG(2)), again((4, 5), RNG(2), np.float32))


def test_regularizers() -> None:
    w = db.tensor(np.array([[1.0, -2.0], [0.5, 0.0]]), requires_grad=True)
    assert regularizers.l1_l2(0.1, 0.2)(w).item() == pytest.approx(0.1 * 3.5 + 0.2 * 5.25)
    assert regularizers.get("l1").l1 == 0.01
    assert regularizers.get(regularizers.l2(0.3)).l2 == 0.3
    assert regularizers.get(regularizers.l2(0.3).config()).l2 == 0.3
    assert (regularizers.get(None).l1, regularizers.get(None).l2) == (0.0, 0.0)
    for bad, error in (("l3", ValueError), (0.1, TypeError)):
        with pytest.raises(error, match="l2"):
            regularizers.get(bad)
    with pytest.raises(ValueError, match=">= 0"):
        regularizers.l1(-1.0)
    layer = db.layers.Dense(2, kernel_regularizer=regularizers.l1(0.5))
    layer(np.ones((1, 3)))
    assert (layer.kernel.l1, layer.kernel.l2, layer.bias.l1) == (0.5, 0.0, 0.0)


def test_constraints() -> None:
    w = db.tensor(np.array([[3.0, 0.1, -1.0], [4.0, 0.0, 0.0]]))
    np.testing.assert_allclose(constraints.max_norm(2.0)(w).numpy(), [[1.2, 0.1, -1], [1.6, 0, 0]], rtol=1e-5)
    np.testing.assert_allclose(constraints.unit_norm()(w).numpy(), [[0.6, 1, -1], [0.8, 0, 0]], rtol=1e-5)
    np.testing.assert_array_equal(constraints.non_neg()(w).numpy(), [[3, 0.1, 0], [4, 0, 0]])
    found = constraints.min_max_norm(0.5, 2.0, rate=0.5)(w).numpy()
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), [3.5, 0.3, 1.0], rtol=1e-5)
    kernel = db.tensor(np.ones((3, 3, 2, 4)))
    np.testing.assert_allclose(
        np.sqrt((constraints.max_norm(1.0, axis=(0, 1, 2))(kernel).numpy() ** 2).sum(axis=(0, 1, 2))), 1.0, rtol=1e-5
    )
    assert constraints.get(None) is None
    again = constraints.get(constraints.max_norm(3.0).config())
    assert again is not None
    assert again(w).numpy()[0, 0] == pytest.approx(1.8)
    with pytest.raises(ValueError, match="max_norm"):
        constraints.get("maxnrom")


class Net(db.Layer):
    """Three layers in a row."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.first = db.layers.Dense(60, activation)
        self.second = db.layers.Dense(40, activation)
        self.third = db.layers.Dense(30)

    def call(self, x: db.Tensor) -> db.Tensor:
        return self.third(self.second(self.first(x)))


def test_lsuv_gives_unit_variance_before_the_activation() -> None:
    net, x = Net("relu"), RNG(0).standard_normal((200, 50)) * 7
    reached = initializers.lsuv(net, x, tolerance=0.01)
    assert list(reached) == ["net.first", "net.second", "net.third"]
    h = db.tensor(x.astype(np.float32))
    for layer in (net.first, net.second, net.third):
        assert layer.affine(h).numpy().var() == pytest.approx(1.0, abs=0.011)
        w = layer.kernel.numpy()
        small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(small, small[0, 0] * np.eye(len(small)), atol=1e-5)  # orthonormal times a number
        h = layer(h)
    assert not any(layer.hooked for layer in (net, net.first))
    with pytest.raises(ValueError, match="variance"):
        initializers.lsuv(Net("relu"), np.zeros((10, 50)))
    with pytest.raises(ValueError, match="no layer"):
        initializers.lsuv(db.layers.Flatten(), np.zeros((10, 50)))


def test_data_dependent_gives_every_unit_mean_and_spread() -> None:
    net, x = Net("tanh"), RNG(0).standard_normal((300, 50)) * 3 + 1
    initializers.data_dependent(net, x, target_std=0.5)
    h = db.tensor(x.astype(np.float32))
    for layer in (net.first, net.second, net.third):
        z = layer.affine(h).numpy()
        np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(z.std(axis=0), 0.5, rtol=1e-3)
        h = layer(h)
    with pytest.raises(ValueError, match="do not vary"):
        initializers.data_dependent(net, np.ones((10, 50)))


def test_data_dependent_scales_channels_of_convolutions() -> None:
    x = RNG(0).standard_normal((20, 6, 6, 3)).astype(np.float32)
    for layer in (
        db.layers.Conv2D(5, 3),
        db.layers.DepthwiseConv2D(3, depth_multiplier=2),
        db.layers.ConvTranspose2D(4, 3),
    ):
        initializers.data_dependent(layer, x)
        z = layer(x).numpy().reshape(-1, layer(x).shape[-1])
        np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-3)


def test_reestimated_statistics_are_those_of_all_rows_without_dropout() -> None:
    class Dropped(db.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.drop = db.layers.Dropout(0.5)
            self.norm = db.layers.BatchNorm()

        def call(self, x: db.Tensor) -> db.Tensor:
            return self.norm(self.drop(x))

    model, x = Dropped(), (RNG(0).standard_normal((70, 4)) * 2 + 3).astype(np.float32)
    with db.training():
        model(x)
    initializers.reestimate_statistics(model, x, batch_size=32)  # 32, 32 and 6 rows
    np.testing.assert_allclose(model.norm.moving_mean.numpy(), x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.norm.moving_var.numpy(), x.var(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="BatchNorm"):
        initializers.reestimate_statistics(db.layers.Dense(2), x)
