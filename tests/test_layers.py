"""Layers: the base, dense, activations, dropout, shapes, joins, names, configurations, messages."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import check_slopes, draw, gradients, inferred, scramble

import deepbabysit as db
from deepbabysit import initializers
from deepbabysit.layers.registry import LAYERS, find_layer, layer_from_config, layer_to_config
from deepbabysit.runtime.random import streams

L = db.layers

# one of every kind: (constructor, shape of a sample, dtype)
EVERY: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Dense": (
        lambda: L.Dense(3, "relu", kernel_initializer=initializers.he_normal(0.1), kernel_regularizer="l2"),
        (5,),
    ),
    "Dense_cwn": (
        lambda: L.Dense(3, "tanh", reparametrize="centered_weight_norm", kernel_constraint="unit_norm"),
        (5,),
    ),
    "Activation": (lambda: L.Activation("gelu"), (5,)),
    "LeakyReLU": (lambda: L.LeakyReLU(0.2), (5,)),
    "Dropout": (lambda: L.Dropout(0.3, per="channel"), (4, 4, 3)),
    "BatchNorm": (lambda: L.BatchNorm(momentum=0.9), (4, 4, 3)),
    "LayerNorm": (lambda: L.LayerNorm(1e-4, center=False), (5,)),
    "GroupNorm": (lambda: L.GroupNorm(2), (4, 4, 6)),
    "RMSNorm": (lambda: L.RMSNorm(), (5,)),
    "Flatten": (lambda: L.Flatten(), (3, 4)),
    "Reshape": (lambda: L.Reshape((4, -1)), (3, 4)),
    "Conv1D": (lambda: L.Conv1D(4, 3, padding="causal"), (7, 2)),
    "Conv2D": (lambda: L.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu", groups=2), (7, 6, 2)),
    "ConvTranspose2D": (lambda: L.ConvTranspose2D(4, 3, 2, "same"), (3, 4, 2)),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (7, 6, 2)),
    "MaxPool2D": (lambda: L.MaxPool2D((2, 3)), (7, 6, 2)),
    "AvgPool2D": (lambda: L.AvgPool2D(2, 1, "same"), (7, 6, 2)),
    "GlobalAvgPool2D": (lambda: L.GlobalAvgPool2D(), (7, 6, 2)),
    "SimpleRNN": (lambda: L.SimpleRNN(4, return_sequences=True), (5, 3)),
    "LSTM": (lambda: L.LSTM(4, go_backwards=True), (5, 3)),
    "GRU": (lambda: L.GRU(4, reset_after=False), (5, 3)),
    "Bidirectional": (lambda: L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="sum"), (5, 3)),
    "MultiHeadAttention": (lambda: L.MultiHeadAttention(2, 3, output_dim=7), (5, 4)),
    "TransformerBlock": (lambda: L.TransformerBlock(2, units=8, dropout=0.1, causal=True), (5, 4)),
}


@pytest.mark.parametrize("kind", EVERY)
def test_a_description_makes_the_same_layer_and_shapes_are_inferred(kind: str) -> None:
    make, shape = EVERY[kind]
    layer = make()
    x = draw(2, *shape, dtype=np.float32)
    y = layer(x)
    text = json.loads(json.dumps(layer_to_config(layer)))
    again = layer_from_config(text)
    assert type(again) is type(layer)
    assert layer_to_config(again) == text
    assert inferred(again, shape) == y.shape[1:]
    assert list(again.state_dict()) == list(layer.state_dict())
    again.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(again(x).numpy(), y.numpy())


@pytest.mark.parametrize("kind", EVERY)
def test_gradients_are_slopes(kind: str) -> None:
    make, shape = EVERY[kind]
    check_slopes(make(), draw(2, *shape))


def test_every_layer_is_tested_here() -> None:
    others = {"Add", "Concatenate", "Lambda", "Embedding"}
    tested = {type(make()).__name__ for make, _ in EVERY.values()}
    assert {cls.__name__ for cls in LAYERS.values()} == tested | others


# -- dense -------------------------------------------------------------------------------------------------------------


def test_the_heart_network_has_497_parameters() -> None:
    hidden, output = L.Dense(16, activation="relu"), L.Dense(1, activation="sigmoid")
    y = output(hidden(db.Input(shape=29)))
    assert y.shape[1:] == (1,)
    assert hidden.count_params() + output.count_params() == 497


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "softmax", "gelu", "elu"])
def test_dense_is_activation_of_the_product(activation: str | None, use_bias: bool) -> None:
    layer = L.Dense(4, activation, use_bias=use_bias)
    x = draw(3, 2, 5)
    layer(db.tensor(x))
    scramble(layer)
    z = x @ layer.kernel.numpy() + (layer.bias.numpy() if use_bias else 0)
    expected = L.Activation(activation or "linear")(db.tensor(z)).numpy()
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), expected, rtol=1e-12)
    check_slopes(L.Dense(4, activation, use_bias=use_bias), x)


def test_outputs_of_sigmoid_and_softmax_remember_their_logits() -> None:
    for activation in ("sigmoid", "softmax"):
        layer = L.Dense(3, activation)
        y = layer(draw(2, 4, dtype=np.float32))
        assert y.logits is not None
        np.testing.assert_allclose(y.logits[1].numpy(), layer.affine(db.tensor(draw(2, 4, dtype=np.float32))).numpy())


def test_centered_weight_norm() -> None:
    layer = L.Dense(6, reparametrize="centered_weight_norm")
    x = draw(4, 9)
    layer(db.tensor(x))
    w = layer.weight().numpy()
    np.testing.assert_allclose(w.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-9)
    before = layer(db.tensor(x)).numpy()
    layer.kernel.assign(layer.kernel.numpy() * 3 + 0.5)  # neither scale nor offset of v matters
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), before, rtol=1e-9)
    assert list(layer.state_dict()) == ["kernel", "bias", "gamma"]
    with pytest.raises(ValueError, match="centered_weight_norm"):
        L.Dense(2, reparametrize="centred_weight_norm")


ACTIVATIONS = {
    "relu": "relu", "leaky_relu": "leaky_relu", "elu": "elu", "selu": "selu", "silu": "silu", "swish": "silu",
    "softplus": "softplus", "sigmoid": "sigmoid", "tanh": "tanh",
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = draw(5, 7) * 3
    theirs = getattr(torch.nn.functional, ACTIVATIONS[name])(torch.tensor(x)).numpy()
    np.testing.assert_allclose(L.Activation(name)(db.tensor(x)).numpy(), theirs, rtol=1e-9, atol=1e-12)


def test_forms_of_gelu_and_softmax_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x = draw(5, 7) * 3
    t, f = torch.tensor(x), torch.nn.functional
    for name, theirs in {
        "gelu": f.gelu(t), "gelu_tanh": f.gelu(t, approximate="tanh"), "softmax": f.softmax(t, -1),
        "log_softmax": f.log_softmax(t, -1), "linear": t,
    }.items():
        np.testing.assert_allclose(L.Activation(name)(db.tensor(x)).numpy(), theirs.numpy(), rtol=1e-8, atol=1e-12)


def test_activation_can_be_a_function_or_a_layer() -> None:
    x = draw(2, 3)
    np.testing.assert_allclose(L.Dense(2, activation=lambda z: z * 2)(db.tensor(x)).shape, (2, 2))
    layer = L.Dense(3, activation=L.LeakyReLU(0.5), kernel_initializer=initializers.constant(np.eye(3)))
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), np.where(x > 0, x, 0.5 * x))
    with pytest.raises(TypeError, match=r"LeakyReLU\(\)"):
        L.Dense(3, activation=L.LeakyReLU)


# -- dropout -----------------------------------------------------------------------------------------------------------


def test_dropout_drops_the_rate_and_keeps_the_mean() -> None:
    layer, x = L.Dropout(0.3), np.ones((200, 300), np.float32)
    with db.training():
        y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / y.size))
    np.testing.assert_array_equal(layer(x).numpy(), x)
    assert L.Dropout(0.0)(x).shape == x.shape


def test_dropout_is_a_function_of_seed_step_and_call() -> None:
    layer, x = L.Dropout(0.5), np.ones((20, 20), np.float32)

    def run(seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        db.set_seed(seed)
        streams().begin(step)
        with db.training():
            return layer(x).numpy(), layer(x).numpy()

    first, second = run(1, 0)
    np.testing.assert_array_equal(run(1, 0)[0], first)
    assert not np.array_equal(first, second)  # a layer called twice gets two masks
    assert not np.array_equal(run(1, 1)[0], first)
    assert not np.array_equal(run(2, 0)[0], first)
    other = L.Dropout(0.5, name="other")
    streams().begin(0)
    with db.training():
        assert not np.array_equal(other(x).numpy(), run(1, 0)[0])
    db.set_seed(0)


def test_dropout_of_micro_batches_is_that_of_the_batch() -> None:
    layer, x = L.Dropout(0.5), np.ones((8, 5), np.float32)
    with db.training():
        streams().begin(3)
        whole = layer(x).numpy()
        parts = []
        for start in (0, 5):
            streams().begin(3, row=start)
            parts.append(layer(x[start : start + (5 if start == 0 else 3)]).numpy())
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    streams().begin(0)


def test_dropout_per_channel_and_its_gradient() -> None:
    layer = L.Dropout(0.5, per="channel")
    x = np.ones((6, 3, 4, 8))
    with db.training():
        given = db.tensor(x, requires_grad=True)
        y = layer(given)
    y.sum().backward()
    assert ((y.numpy() == y.numpy()[:, :1, :1]).all()) and 0 < (y.numpy() == 0).mean() < 1
    np.testing.assert_array_equal(given.grad.numpy(), y.numpy())  # type: ignore[union-attr]


# -- joins and shapes --------------------------------------------------------------------------------------------------


def test_add_concatenate_lambda_reshape() -> None:
    a, b = draw(2, 3), draw(2, 3, seed=1)
    np.testing.assert_array_equal(L.Add()([db.tensor(a), db.tensor(b)]).numpy(), a + b)
    np.testing.assert_array_equal(L.Add()(db.tensor(a), db.tensor(b)).numpy(), a + b)
    joined = L.Concatenate(axis=0)([db.tensor(a), db.tensor(b)])
    np.testing.assert_array_equal(joined.numpy(), np.concatenate([a, b]))
    np.testing.assert_array_equal(L.Lambda(lambda x: x * 2)(db.tensor(a)).numpy(), a * 2)
    assert L.Reshape((3, -1, 2))(db.tensor(draw(2, 12))).shape == (2, 3, 2, 2)
    assert L.Flatten()(db.tensor(draw(2, 3, 4))).shape == (2, 12)
    _, found = gradients(_Both(), a)
    np.testing.assert_allclose(found[0], _Both.slope(a))


class _Both(db.Layer):
    """x + concat of its halves, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.add, self.join = L.Add(), L.Concatenate()

    def call(self, x: Any) -> Any:
        return self.add([x, self.join([x[:, :1], x[:, 1:]])])

    @staticmethod
    def slope(x: np.ndarray) -> np.ndarray:
        from layer_checks import weights

        return 2 * weights(x.shape)


# -- names, weights, modes ---------------------------------------------------------------------------------------------


class Net(db.Layer):
    """A layer of layers."""

    def __init__(self, units: int = 4, name: str | None = None) -> None:
        super().__init__(name=name)
        self.encoder = L.Dense(units, "relu")
        self.blocks = [L.Dense(units), L.BatchNorm(name="norm")]

    def call(self, x: Any) -> Any:
        for layer in (self.encoder, *self.blocks):
            x = layer(x)
        return x


def test_names_of_the_state() -> None:
    net = Net()
    net(draw(3, 5))
    names = ["encoder.kernel", "encoder.bias", "blocks.0.kernel", "blocks.0.bias", "norm.gamma", "norm.beta",
             "norm.moving_mean", "norm.moving_var"]
    assert list(net.state_dict()) == names
    assert [p.name for p in net.parameters()] == [f"net.{n}" for n in names[:6]]
    weights = net.get_weights()
    net.set_weights([w * 0 + 1 for w in weights])
    assert all((w == 1).all() for w in net.get_weights())
    with pytest.raises(KeyError, match=r"near: .*encoder.kernel"):
        net.load_state_dict(
            {**{n: w for n, w in net.state_dict().items() if n != "encoder.kernel"}, "encoder.kernal": 1}
        )


def test_first_weights_follow_from_seed_and_path() -> None:
    def make() -> list[np.ndarray]:
        net = Net()
        net(draw(3, 4))
        return net.get_weights()

    db.set_seed(5)
    a = make()
    db.set_seed(5)
    b = make()
    db.set_seed(6)
    c = make()
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a[0], c[0])
    assert not np.array_equal(a[0], a[2])  # both (4, 4)
    db.set_seed(0)


def test_weights_of_a_model_are_a_function_of_seed_and_path() -> None:
    def functional() -> db.Model:
        x = db.Input(shape=4)
        return db.Model(x, L.Dense(4)(L.Dense(4)(x)))

    a, b = functional(), functional()
    stack = db.Sequential([L.Dense(4, input_shape=4), L.Dense(4)])
    late = db.Sequential([L.Dense(4), L.Dense(4)])
    late(draw(2, 4))
    for other in (b, stack, late):
        assert list(other.state_dict()) == list(a.state_dict())
        for one, two in zip(a.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(a.get_weights()[0], a.get_weights()[2])


def test_layers_on_their_own_do_not_share_first_weights() -> None:
    x = draw(3, 4)
    one, two = L.Dense(4), L.Dense(4)
    one(x), two(x)
    assert not np.array_equal(one.kernel.numpy(), two.kernel.numpy())
    left, right = L.Bidirectional(L.SimpleRNN(2)), L.Bidirectional(L.SimpleRNN(2))
    left(draw(2, 3, 4)), right(draw(2, 3, 4))
    assert not np.array_equal(left.forward.kernel.numpy(), right.forward.kernel.numpy())
    assert not np.array_equal(left.forward.kernel.numpy(), left.backward.kernel.numpy())


def test_paths_follow_what_is_added_renamed_and_shared() -> None:
    net, other, x = Net(), Net(name="other"), draw(3, 4)
    net(x)
    net.blocks.append(L.Dense(4))  # a list changes in place
    net(x)
    assert net.blocks[2].path == "net.blocks.2"
    net.encoder.name = "first"
    net(x)
    assert net.encoder.kernel.name == "net.first.kernel"
    other.encoder = net.encoder
    other(x)
    assert net.encoder.path == "other.first"
    net(x)
    assert net.encoder.path == "net.first"
    del net.blocks[0]
    net(x)
    assert net.blocks[1].path == "net.blocks.1"


def test_weights_that_were_changed_stay_when_the_path_changes() -> None:
    class Holder(db.Layer):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.inner = layer

        def call(self, x: Any) -> Any:
            return self.inner(x)

    layer, x = L.Dense(4), draw(3, 4)
    layer(x)
    layer.kernel.assign(np.eye(4))
    Holder(layer)(x)
    assert layer.path == "holder.inner"
    np.testing.assert_array_equal(layer.kernel.numpy(), np.eye(4))


def test_freezing() -> None:
    net = Net()
    net(draw(3, 5))
    net.freeze("encoder")
    assert [p.trainable for p in net.parameters()] == [False, False, True, True, True, True]
    _, found = gradients(net, draw(3, 5, dtype=np.float32))
    assert not found[1].any()
    assert found[3].any()
    net.trainable = False
    assert net.count_params(trainable_only=True) == 0
    net.unfreeze("norm")
    assert net.count_params(trainable_only=True) == 8
    with pytest.raises(KeyError, match="encoder"):
        net.freeze("encodr")


def test_hooks_see_and_change_outputs() -> None:
    layer, seen = L.Dense(2), []
    remove = layer.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0].shape, output.shape)))
    layer(draw(3, 4))
    assert seen == [((3, 4), (3, 2))]
    assert layer.hooked
    remove()
    change = layer.register_forward_hook(lambda layer, inputs, output: output * 0)
    assert not layer(draw(3, 4)).numpy().any()
    change()
    assert layer(draw(3, 4)).numpy().any()


def test_settings_that_change_are_noticed_and_saved() -> None:
    from deepbabysit.runtime.context import CONFIGURATION

    layer = L.Dropout(0.5)
    layer(draw(2, 2))
    before = CONFIGURATION.count
    layer.rate = 0.25
    assert CONFIGURATION.count > before
    assert layer_to_config(layer)["config"]["rate"] == 0.25


# -- descriptions ------------------------------------------------------------------------------------------------------


def test_own_layers_and_functions_are_registered_or_handed_in() -> None:
    class Scale(db.Layer):
        def __init__(self, factor: float = 2.0, inner: Any = None, dtype: Any = None) -> None:
            super().__init__()
            self.factor, self.inner, self.dtype = factor, inner, dtype

        def call(self, x: Any) -> Any:
            return x * self.factor

    text = json.loads(json.dumps(layer_to_config(Scale(3.0, inner=L.Dense(2), dtype=np.dtype("float16")))))
    assert text["config"]["inner"]["class"] == "Dense"
    with pytest.raises(KeyError, match="objects="):
        layer_from_config(text)
    again = layer_from_config(text, {"Scale": Scale})
    assert (again.factor, again.dtype) == (3.0, np.float16)  # type: ignore[attr-defined]
    assert isinstance(again.inner, L.Dense)  # type: ignore[attr-defined]

    def triple(x: Any) -> Any:
        return x * 3

    with pytest.raises(TypeError, match=r"Lambda.*register\('triple'\)"):
        layer_to_config(L.Lambda(triple))
    L.register("triple for a test")(triple)
    text = json.loads(json.dumps(layer_to_config(L.Lambda(triple))))
    assert layer_from_config(text)(db.tensor([1.0])).tolist() == [3.0]
    with pytest.raises(ValueError, match="already registered"):
        L.register("triple for a test")(gradients)
    with pytest.raises(ValueError, match="already registered"):
        L.register("Dense")(gradients)
    with pytest.raises(KeyError, match="Dense"):
        find_layer("Dnese")
    with pytest.raises(ValueError, match="class"):
        layer_from_config({"class": 3})


def test_nothing_is_imported_by_a_name() -> None:
    for name in ("os.system", "deepbabysit.layers.dense.Dense", "builtins.eval"):
        with pytest.raises(KeyError):
            layer_from_config({"class": name, "config": {}})
        with pytest.raises(KeyError):
            layer_from_config({"class": "Lambda", "config": {"function": {"object": name}}})


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L.Dense(3, actvation="relu"), TypeError, "did you mean 'activation'"),
        (lambda: L.Dense(out_features=3), TypeError, "did you mean 'units'"),
        (lambda: L.Dropout(p=0.3), TypeError, "did you mean 'rate'"),
        (lambda: L.Conv2D(3, 3, stride=2), TypeError, "did you mean 'strides'"),
        (lambda: L.Conv2D(out_channels=3, kernel_size=3), TypeError, "did you mean 'filters'"),
        (lambda: L.BatchNorm(eps=1e-5), TypeError, "did you mean 'epsilon'"),
        (lambda: L.MultiHeadAttention(num_heads=2, key_dim=3), TypeError, "did you mean 'heads'"),
        (lambda: L.Dense(3, "rleu"), ValueError, "did you mean 'relu'"),
        (lambda: L.Dense(3, kernel_initializer="he_norml"), ValueError, "did you mean 'he_normal'"),
        (lambda: L.Dense(3, kernel_regularizer="L3"), ValueError, "l2"),
        (lambda: L.Dense(3.0), ValueError, "did you mean 3"),
        (lambda: L.Dense(0), ValueError, "at least 1"),
        (lambda: L.Dropout(1.0), ValueError, "below 1"),
        (lambda: L.Dropout(0.5, per="chanel"), ValueError, "did you mean 'channel'"),
        (lambda: L.Conv2D(3, 3, padding="smae"), ValueError, "same"),
        (lambda: L.Conv2D(3, (3, 3, 3)), ValueError, "2 of them"),
        (lambda: L.Conv2D(3, 3, groups=2)(np.zeros((1, 5, 5, 4))), ValueError, "groups=2"),
        (lambda: L.Bidirectional(L.Dense(3)), TypeError, "recurrent"),
        (lambda: L.Bidirectional(L.LSTM(3), merge_mode="cat"), ValueError, "concat"),
        (lambda: L.Dense(3, name="a.b"), ValueError, "without dots"),
        (lambda: L.Add()([db.tensor([[1.0]])]), ValueError, "at least two"),
        (lambda: L.Add()([db.tensor([[1.0]]), db.tensor([[1.0, 2.0]])]), ValueError, "one shape"),
        (lambda: L.Reshape((5,))(draw(2, 12)), ValueError, "12 per sample"),
        (lambda: L.GroupNorm(4)(draw(2, 6)), ValueError, r"\[1, 2, 3, 6\]"),
        (lambda: L.Dense(3)(np.ones((2, 3), np.int64)), TypeError, "floating"),
        (lambda: L.Dnese, AttributeError, "did you mean 'Dense'"),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_input_names_layer_axes_and_one_fix() -> None:
    dense = L.Dense(3, name="head")
    dense(draw(2, 784))
    for shape, message in (
        ((4, 100), r"layer head \(Dense\): expected \(N, ..., features=784\); got \(N=4, features=100\)"),
        ((784,), r"x\[None\]"),
        ((4, 28, 28), r"Put Flatten\(\) before"),
        ((784, 4), r"use x.T"),
    ):
        with pytest.raises(ValueError, match=message):
            dense(draw(*shape))
    conv = L.Conv2D(3, 3, name="stem")
    conv(draw(2, 28, 28, 1))
    for shape, message in (
        ((32, 1, 28, 28), r"stem \(Conv2D\): expected \(N, H, W, C=1\); got \(N=32, C=1, H=28, W=28\)"),
        ((4, 28, 28), r"x\[..., None\]"),
        ((4, 784), r"reshape\(-1, 28, 28, 1\)"),
        ((28, 28, 1), r"x\[None\]"),
        ((4, 28, 28, 3), "built for 1 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            conv(draw(*shape))
    rnn = L.LSTM(3, name="memory")
    with pytest.raises(ValueError, match=r"memory \(LSTM\): expected \(N, T, features\)"):
        rnn(draw(4, 5))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from(["valid", "same", 1]), st.integers(1, 3), st.integers(1, 2),
    st.integers(7, 11), st.integers(7, 11),
)
def test_inferred_shapes_of_drawn_convolutions_are_real(
    window: int, filters: int, padding: Any, stride: int, dilation: int, h: int, w: int
) -> None:
    makers = [lambda: L.Conv2D(filters, window, stride, padding, dilation)]
    makers.append(lambda: L.DepthwiseConv2D(window, stride, padding, dilation_rate=dilation))
    if padding != 1:
        makers.append(lambda: L.ConvTranspose2D(filters, window, stride, padding))
        makers.append(lambda: L.MaxPool2D(window, stride, padding))
    for make in makers:
        layer = make()
        assert inferred(layer, (h, w, 2)) == layer(draw(2, h, w, 2, dtype=np.float32)).shape[1:]
