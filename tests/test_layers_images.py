"""Convolution, pooling and normalization layers against PyTorch; the rules of BatchNorm's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layer_checks import check_slopes, draw, gradients, scramble, weights

import deepbabysit as db
from deepbabysit.layers.updates import Updates
from deepbabysit.runtime.context import surroundings

L = db.layers


def compare(layer: Any, theirs: Any, x: np.ndarray, layouts: dict[str, Any], training: bool = False) -> None:
    """Compare output and gradients with a PyTorch module that takes (N, C, ...); layouts map our arrays to theirs."""
    torch = pytest.importorskip("torch")
    layer(db.tensor(x))
    scramble(layer)
    last = x.ndim - 1
    first = (0, last, *range(1, last))
    back = (0, *range(2, x.ndim), 1)
    own = dict(layer.named_parameters())
    theirs.zero_grad()
    with torch.no_grad():
        for name, layout in layouts.items():
            getattr(theirs, layout[0]).copy_(torch.tensor(layout[1](own[name].numpy())))
    t = torch.tensor(x.transpose(first), requires_grad=True)
    out = theirs(t)
    expected = out.detach().numpy()
    shown = expected.transpose(back) if expected.ndim == x.ndim else expected
    y, found = gradients(layer, x, training=training)
    np.testing.assert_allclose(y, shown, rtol=1e-9, atol=1e-9)
    w = torch.tensor(weights(shown.shape))
    (out * (w.permute(0, last, *range(1, last)) if expected.ndim == x.ndim else w)).sum().backward()
    np.testing.assert_allclose(found[0], t.grad.numpy().transpose(back), rtol=1e-8, atol=1e-8)
    for name, gradient in zip(own, found[1:], strict=True):
        attribute, change = layouts[name]
        np.testing.assert_allclose(
            change(gradient), getattr(theirs, attribute).grad.numpy(), rtol=1e-8, atol=1e-8, err_msg=name
        )


def same(a: np.ndarray) -> np.ndarray:
    return a


OIHW = ("weight", lambda k: k.transpose(3, 2, 0, 1))
BIAS = ("bias", same)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), ((1, 2), (2, 1), 2, 1), (3, 0, 1, 4)]
)
def test_conv2d(stride: Any, padding: Any, dilation: int, groups: int) -> None:
    torch = pytest.importorskip("torch")
    compare(
        L.Conv2D(8, (3, 2), stride, padding, dilation, groups),
        torch.nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups).double(), draw(2, 9, 8, 4),
        {"kernel": OIHW, "bias": BIAS},
    )


def test_conv2d_same_padding_is_that_of_jax() -> None:
    lax = pytest.importorskip("jax.lax")
    for h, w, window, stride in ((7, 8, (3, 2), (2, 2)), (5, 5, (4, 4), (1, 3)), (6, 9, (1, 5), (3, 1))):
        layer, x = L.Conv2D(3, window, stride, "same", use_bias=False), draw(2, h, w, 2, dtype=np.float32)
        layer(x)
        expected = lax.conv_general_dilated(
            x, layer.kernel.numpy(), stride, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_allclose(layer(x).numpy(), np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_conv1d_and_causal_padding() -> None:
    torch = pytest.importorskip("torch")
    kernel = ("weight", lambda k: k.transpose(2, 1, 0))
    compare(
        L.Conv1D(5, 3, 2, 1), torch.nn.Conv1d(4, 5, 3, 2, 1).double(), draw(2, 9, 4), {"kernel": kernel, "bias": BIAS}
    )
    layer, x = L.Conv1D(3, 3, padding="causal", dilation_rate=2), draw(1, 10, 2)
    before = layer(db.tensor(x)).numpy()
    assert before.shape == (1, 10, 3)
    x[0, 6] += 1.0
    after = layer(db.tensor(x)).numpy()
    np.testing.assert_array_equal(after[0, :6], before[0, :6])  # the past does not see the future
    assert (after[0, [6, 8]] != before[0, [6, 8]]).all()


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), ((3, 2), 0, (2, 1))])
def test_conv_transpose2d(stride: Any, padding: Any, extra: Any) -> None:
    torch = pytest.importorskip("torch")
    compare(
        L.ConvTranspose2D(5, 3, stride, padding, output_padding=extra),
        torch.nn.ConvTranspose2d(4, 5, 3, stride, padding, extra).double(), draw(2, 4, 5, 4),
        {"kernel": ("weight", lambda k: k.transpose(3, 2, 0, 1)), "bias": BIAS},
    )


@pytest.mark.parametrize(
    ("window", "stride", "padding", "size"),
    [
        (3, 2, "same", 10),
        (3, 2, "valid", 11),
        (2, 4, "valid", 20),
        (2, 4, "same", 20),
        (4, 1, "same", 5),
        (1, 3, "valid", 15),
    ],
)
def test_conv_transpose2d_has_keras_sizes_and_is_the_adjoint(window: int, stride: int, padding: str, size: int) -> None:
    layer = L.ConvTranspose2D(2, window, stride, padding, use_bias=False)
    x = draw(1, 5, 5, 3)
    y = layer(db.tensor(x)).numpy()
    assert y.shape == (1, size, size, 2)
    # the adjoint of the convolution with the same settings: <conv_transpose(x), u> = <x, conv(u)>
    conv = L.Conv2D(3, window, stride, padding, use_bias=False)
    u = draw(1, size, size, 2)
    conv(db.tensor(u))
    conv.kernel.assign(layer.kernel.numpy())
    down = conv(db.tensor(u)).numpy()
    assert (y * u).sum() == pytest.approx((x * down).sum(), rel=1e-5)


def test_depthwise_conv2d() -> None:
    torch = pytest.importorskip("torch")
    compare(
        L.DepthwiseConv2D(3, 2, 1, depth_multiplier=2),
        torch.nn.Conv2d(4, 8, 3, 2, 1, groups=4).double(),
        draw(2, 7, 6, 4),
        {"kernel": ("weight", lambda k: k.reshape(3, 3, 8).transpose(2, 0, 1)[:, None]), "bias": BIAS},
    )


def test_pools() -> None:
    torch = pytest.importorskip("torch")
    nn, x = torch.nn, draw(2, 7, 8, 3)
    compare(L.MaxPool2D(2), nn.MaxPool2d(2), x, {})
    compare(L.MaxPool2D(3, 2, 1), nn.MaxPool2d(3, 2, 1), -np.abs(x), {})
    compare(L.AvgPool2D((2, 3)), nn.AvgPool2d((2, 3)), x, {})
    compare(L.AvgPool2D(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False), x, {})
    compare(L.GlobalAvgPool2D(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), x, {})
    assert L.GlobalAvgPool2D(keepdims=True)(db.tensor(x)).shape == (2, 1, 1, 3)


def test_fused_and_separate_activations_agree() -> None:
    for activation in ("relu", "tanh", "softmax", "gelu"):
        x = db.tensor(draw(2, 6, 6, 2))
        fused, plain = L.Conv2D(3, 3, activation=activation), L.Conv2D(3, 3)
        fused(x), plain(x)
        plain.set_weights(fused.get_weights())
        np.testing.assert_allclose(fused(x).numpy(), L.Activation(activation)(plain(x)).numpy(), rtol=1e-12)


# -- normalizations ----------------------------------------------------------------------------------------------------

AFFINE = {"gamma": ("weight", same), "beta": BIAS}


@pytest.mark.parametrize("shape", [(16, 3), (4, 5, 6, 3)])
def test_batch_norm_in_training_and_its_state(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    theirs = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(3, eps=1e-3, momentum=0.1).double()
    layer, x = L.BatchNorm(momentum=0.9), draw(*shape) * 2 + 1
    compare(layer, theirs, x, AFFINE, training=True)
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean.numpy(), theirs.running_mean.numpy(), rtol=1e-6)
    # the biased variance (Keras); PyTorch keeps the unbiased one
    np.testing.assert_allclose(layer.moving_var.numpy(), 0.9 + 0.1 * flat.var(axis=0), rtol=1e-6)
    theirs.eval()
    with torch.no_grad():
        theirs.running_var.copy_(torch.tensor(layer.moving_var.numpy()))
    compare(layer, theirs, x, AFFINE)


def test_batch_norm_slopes_in_training() -> None:
    check_slopes(L.BatchNorm(), draw(6, 3), training=True)
    check_slopes(L.BatchNorm(center=False, scale=False), draw(6, 3), training=True)


def test_batch_norm_defaults_are_those_of_keras() -> None:
    layer = L.BatchNormalization()
    assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)
    layer(draw(2, 3))
    assert list(layer.state_dict()) == ["gamma", "beta", "moving_mean", "moving_var"]
    assert layer.count_params() == 6


def test_state_is_committed_once_at_the_end_of_an_accepted_step() -> None:
    layer, x = L.BatchNorm(momentum=0.5), np.array([[1.0], [3.0]], np.float32)
    layer(x)
    updates = Updates()
    with surroundings(training=True, updates=updates):
        layer(x)
        assert layer.moving_mean.item() == 0.0  # nothing yet
    updates.commit()
    assert layer.moving_mean.item() == 1.0
    updates.commit()  # a second time there is nothing left
    assert layer.moving_mean.item() == 1.0
    with surroundings(training=True, updates=Updates()):
        layer(x)  # a refused step: no commit
    assert layer.moving_mean.item() == 1.0

    def stopped() -> None:
        with db.training():
            layer(x)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert layer.moving_mean.item() == 1.0


def test_a_layer_called_twice_counts_both_calls() -> None:
    layer = L.BatchNorm(momentum=0.5)
    a, b = np.array([[2.0], [2.0]], np.float32), np.array([[8.0], [8.0]], np.float32)
    layer(a)
    with db.training():
        layer(a)
        layer(b)
    assert layer.moving_mean.item() == (0 * 0.5 + 2 * 0.5) * 0.5 + 8 * 0.5


def test_inference_checks_and_frozen_layers_leave_the_state_alone() -> None:
    layer, x = L.BatchNorm(), draw(8, 3, dtype=np.float32)
    first = layer(x).numpy()
    np.testing.assert_allclose(first, x / np.sqrt(1 + 1e-3), rtol=1e-5)
    with surroundings(training=True, updates=None):  # gradcheck, recomputation
        layer(x)
    assert not layer.moving_mean.numpy().any()
    layer.trainable = False
    with db.training():
        np.testing.assert_array_equal(layer(x).numpy(), first)  # frozen: the running statistics
    assert not layer.moving_mean.numpy().any()
    layer.trainable = True
    with db.training():
        assert not np.array_equal(layer(x).numpy(), first)
    assert layer.moving_mean.numpy().any()


def test_layer_group_and_rms_norm() -> None:
    torch = pytest.importorskip("torch")
    nn, x = torch.nn, draw(4, 5, 6, 8)
    compare(L.GroupNorm(4), nn.GroupNorm(4, 8).double(), x, AFFINE)
    flat = draw(5, 8)
    compare(L.LayerNorm(), nn.LayerNorm(8).double(), flat, AFFINE)
    compare(L.RMSNorm(), nn.RMSNorm(8, eps=1e-5).double(), flat, {"gamma": ("weight", same)})
    assert L.LayerNorm(center=False, scale=False)(flat).shape == (5, 8)
    layer = L.LayerNorm()
    layer(flat)
    with pytest.raises(ValueError, match="features=8"):
        layer(draw(5, 7))
