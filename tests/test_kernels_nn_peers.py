"""Operations of neural networks against PyTorch: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepbabysit.autograd.tape import sweep
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.convolution import resolve_padding, resolve_transposed_padding
from deepbabysit.runtime.registry import find_device

torch = pytest.importorskip("torch")
F = torch.nn.functional
CPU = find_device("cpu")
pytestmark = pytest.mark.peers


def first(x: Any) -> Any:
    """Move the channels to the front."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    """Move the channels to the end."""
    return x.movedim(1, -1)


def as_torch_kernel(k: Any) -> Any:
    """(window..., in, out) to (out, in, window...)."""
    return k.permute(k.ndim - 1, k.ndim - 2, *range(k.ndim - 2))


def compare(name: str, arrays: list[np.ndarray], theirs: Any, **attrs: Any) -> None:
    """Compare outputs, and the gradients of a drawn weighted sum of them."""
    rng = np.random.default_rng(7)
    ours = [Tensor(a, CPU, requires_grad=a.dtype.kind == "f") for a in arrays]
    found = apply(SPECS[name], tuple(ours), attrs)
    found = found if isinstance(found, tuple) else (found,)
    inputs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    expected = theirs(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    seeds = []
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-10)
        seeds.append(rng.standard_normal(got.shape))
    total = sum((want * torch.tensor(s)).sum() for want, s in zip(expected, seeds, strict=True))
    wanted = [x for x in inputs if x.requires_grad]
    slopes = torch.autograd.grad(total, wanted)
    mine = sweep(found, seeds, [t for t in ours if t.requires_grad], False)
    for got, want in zip(mine, slopes, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-8, atol=1e-9)


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Draw normal arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["valid", 1, "same"])
def test_conv_2d(groups: int, stride: int, dilation: int, padding: Any) -> None:
    arrays = draw((3, 9, 8, 4), (3, 2, 4 // groups, 8))
    steps = ((stride, stride), (dilation, dilation))
    pairs = resolve_padding(padding, (9, 8), (3, 2), *steps)
    compare(
        "conv", arrays,
        lambda x, k: last(F.conv2d(
            F.pad(first(x), (*pairs[1], *pairs[0])), as_torch_kernel(k), stride=stride, dilation=dilation, groups=groups
        )),
        stride=steps[0], padding=pairs, dilation=steps[1], groups=groups,
    )


@pytest.mark.parametrize("length", [5, 8])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_is_theirs_for_stride_1(length: int, window: int, dilation: int) -> None:
    arrays = draw((2, length, 3), (window, 3, 2))
    pairs = resolve_padding("same", (length,), (window,), (1,), (dilation,))
    compare(
        "conv", arrays,
        lambda x, k: last(F.conv1d(first(x), as_torch_kernel(k), padding="same", dilation=dilation)),
        stride=(1,), padding=pairs, dilation=(dilation,),
    )


@pytest.mark.parametrize(("height", "images"), [(40, 3), (7, 200)])
def test_conv_in_many_blocks(height: int, images: int) -> None:
    """Large enough that images are cut into rows, and that several images make a block."""
    arrays = draw((images, height, 40 if height == 40 else 5, 32), (3, 3, 32, 16))
    compare(
        "conv", arrays, lambda x, k: last(F.conv2d(first(x), as_torch_kernel(k), padding=1)),
        stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1),
    )
    compare(
        "conv", arrays, lambda x, k: last(F.conv2d(first(x), as_torch_kernel(k), padding=1, stride=2)),
        stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1),
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_transpose(groups: int, stride: int, padding: int, extra: int, dilation: int) -> None:
    arrays = draw((2, 4, 5, 6), (3, 3, 4 // groups, 6))
    pairs, output_padding = resolve_transposed_padding(padding, (3, 3), (stride,) * 2, (dilation,) * 2, extra)
    compare(
        "conv_transpose", arrays,
        lambda x, k: last(F.conv_transpose2d(
            first(x), as_torch_kernel(k), stride=stride, padding=padding, output_padding=extra, groups=groups,
            dilation=dilation,
        )),
        stride=(stride,) * 2, padding=pairs, dilation=(dilation,) * 2, output_padding=output_padding, groups=groups,
    )


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_sizes_are_those_of_keras(window: int, stride: int, dilation: int, padding: str) -> None:
    pairs, extra = resolve_transposed_padding(padding, (window,), (stride,), (dilation,))
    arrays = draw((1, 6, 2), (window, 3, 2))
    y = apply(SPECS["conv_transpose"], tuple(Tensor(a, CPU) for a in arrays), {
        "stride": (stride,), "padding": pairs, "dilation": (dilation,), "output_padding": extra,
    })
    span = (window - 1) * dilation + 1
    assert y.shape[1] == (6 * stride if padding == "same" else 6 * stride + max(span - stride, 0))
    if padding == "same":  # what it is the adjoint of maps the result's size back
        assert resolve_padding("same", y.shape[1:2], (window,), (stride,), (dilation,)) == pairs


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise(multiplier: int, stride: int) -> None:
    arrays = draw((3, 6, 7, 4), (3, 3, 4, multiplier))
    compare(
        "depthwise_conv", arrays,
        lambda x, k: last(F.conv2d(
            first(x), k.permute(2, 3, 0, 1).reshape(4 * multiplier, 1, 3, 3), stride=stride, padding=1, groups=4
        )),
        stride=(stride, stride), padding=((1, 1), (1, 1)), dilation=(1, 1),
    )


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (3, 3, 0)])
def test_pools(window: int, stride: int, padding: int) -> None:
    arrays = draw((2, 9, 8, 3))
    attrs = {"window": (window,) * 2, "stride": (stride,) * 2, "padding": ((padding, padding),) * 2}
    compare("max_pool", arrays, lambda x: last(F.max_pool2d(first(x), window, stride, padding)), **attrs)
    compare(
        "avg_pool", arrays,
        lambda x: last(F.avg_pool2d(first(x), window, stride, padding, count_include_pad=False)), **attrs,
    )


def test_pools_in_many_blocks() -> None:
    arrays = draw((20, 32, 32, 16))
    attrs = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}
    compare("max_pool", arrays, lambda x: last(F.max_pool2d(first(x), 2)), **attrs)
    compare("avg_pool", arrays, lambda x: last(F.avg_pool2d(first(x), 2)), **attrs)


@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 2, 5), (40, 33, 7, 16), (64, 16, 16, 8)])
def test_norms(shape: tuple[int, ...]) -> None:
    c = shape[-1]
    x, gamma, beta, mean, var = draw(shape, (c,), (c,), (c,), (c,))

    def batch(x: Any, gamma: Any, beta: Any) -> Any:
        y = last(F.batch_norm(first(x), None, None, gamma, beta, training=True, eps=1e-3))
        axes = tuple(range(x.ndim - 1))
        return y, x.mean(axes), x.var(axes, correction=0)

    compare("batch_norm", [x, gamma, beta], batch)
    compare(
        "batch_norm_inference", [x, gamma, beta, mean, np.abs(var)],
        lambda x, g, b, m, v: (x - m) / (v + 1e-3).sqrt() * g + b,
    )
    compare("layer_norm", [x, gamma, beta], lambda x, g, b: F.layer_norm(x, (c,), g, b))
    compare("rms_norm", [x, gamma], lambda x, g: F.rms_norm(x, (c,), g, eps=1e-5))
    for groups in {1, c}:
        if shape == (8, 5) and groups == c:
            continue  # groups of one element: their gradient is 0 and everything else is rounding
        compare(
            "group_norm", [x, gamma, beta], lambda x, g, b, n=groups: last(F.group_norm(first(x), n, g, b)),
            groups=groups,
        )


def test_activations() -> None:
    x = draw((50, 700))[0] * 3.0  # more than one block
    compare("leaky_relu", [x], lambda x: F.leaky_relu(x, 0.2), slope=0.2)
    compare("leaky_relu", [x], lambda x: F.leaky_relu(x, 3.0), slope=3.0)
    compare("elu", [x], lambda x: F.elu(x, 0.7), alpha=0.7)
    compare("selu", [x], F.selu)
    compare("silu", [x], F.silu)
    compare("softplus", [x], F.softplus)
    compare("gelu", [x], F.gelu)
    compare("gelu", [x], lambda x: F.gelu(x, approximate="tanh"), approximate="tanh")


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    q, k, v = draw((3, 2, 5, 4), (3, 2, 5, 4), (3, 2, 5, 6))
    compare(
        "attention", [q, k, v],
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), causal=causal,
    )
    if not causal:
        mask = draw((3, 1, 5, 5), seed=3)[0]
        compare(
            "attention", [q, k, v, mask],
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m, scale=0.7), scale=0.7,
        )
        seen = mask < 0.5
        seen[..., 0] = True
        compare("attention", [q, k, v, seen], lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m))


def test_attention_in_many_blocks() -> None:
    q, k, v = draw((6, 4, 128, 8), (6, 4, 128, 8), (6, 4, 128, 8))
    compare("attention", [q, k, v], F.scaled_dot_product_attention)


def test_lstm_cell() -> None:
    """Their gates stand in the order i, f, g, o: ours."""
    n, features, units = 4, 3, 5
    x, h, c, kernel, recurrent, bias = draw((n, features), (n, units), (n, units), (features, 4 * units),
                                            (units, 4 * units), (4 * units,))
    cell = torch.nn.LSTMCell(features, units, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih[...] = torch.tensor(kernel.T)
        cell.weight_hh[...] = torch.tensor(recurrent.T)
        cell.bias_ih[...] = torch.tensor(bias)
        cell.bias_hh.zero_()
    theirs = cell(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    found = apply(SPECS["lstm_cell"], (Tensor(x @ kernel + h @ recurrent + bias, CPU), Tensor(c, CPU)))
    for got, want in zip(found, theirs, strict=True):
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-10, atol=1e-12)

    def again(z: Any, c: Any) -> Any:
        i, f, g, o = z.chunk(4, 1)
        after = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * after.tanh(), after

    compare("lstm_cell", [x @ kernel + bias, c], again)


def test_gru_cell() -> None:
    """Their gates stand in the order r, z, n; ours z, r, h."""
    n, features, units = 4, 3, 5
    x, h, kernel, recurrent, bias, second = draw((n, features), (n, units), (features, 3 * units), (units, 3 * units),
                                                 (3 * units,), (3 * units,))

    def swapped(a: np.ndarray) -> Any:
        z, r, last_gate = np.split(a, 3, axis=-1)
        return torch.tensor(np.concatenate((r, z, last_gate), axis=-1).T)

    cell = torch.nn.GRUCell(features, units, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih[...] = swapped(kernel)
        cell.weight_hh[...] = swapped(recurrent)
        cell.bias_ih[...] = swapped(bias)
        cell.bias_hh[...] = swapped(second)
    theirs = cell(torch.tensor(x), torch.tensor(h))
    gates = (x @ kernel + bias, h @ recurrent + second)
    found = apply(SPECS["gru_cell"], tuple(Tensor(a, CPU) for a in (*gates, h)))
    np.testing.assert_allclose(found.numpy(), theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
