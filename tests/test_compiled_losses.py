"""Compiled softmax, cross-entropies and other losses: rows of every length, what is not finite, torch."""

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.registry import find_device

pytest.importorskip("numba")

SHAPES = [(1, 1), (3, 2), (500, 10), (7, 33), (1, 5000), (2, 4097), (2, 3, 130)]
NEAR = {np.float32: (2e-5, 2e-6), np.float64: (1e-12, 1e-13)}


def both(device, name, arrays, attrs):
    """What the compiled kernel and what the reference in float64 give."""
    plan = find_plan(device, SPECS[name], arrays, attrs)
    assert plan.kernel in device.backend.kernels[name].variants
    wide = tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays)
    found = call(device, SPECS[name], arrays, attrs)
    return found, call(find_device("cpu:reference"), SPECS[name], wide, attrs)


def check(device, name, arrays, attrs=None):
    rtol, atol = NEAR[next(a.dtype.type for a in arrays if a.dtype.kind == "f")]
    for one, other in zip(*both(device, name, arrays, attrs or {}), strict=True):
        np.testing.assert_allclose(one, other.astype(one.dtype), rtol=rtol, atol=atol)


def drawn(shape, dtype, seed=0, scale=3.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def probabilities(shape, dtype):
    p = np.exp(drawn(shape, np.float64, 5))
    return (p / p.sum(axis=-1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_its_relatives(compiled, shape, dtype):
    x, p = drawn(shape, dtype), probabilities(shape, dtype)
    g = drawn(shape, dtype, 1, 1.0)
    for name, arrays in (
        ("softmax", (x,)), ("log_softmax", (x,)), ("softmax_gradient", (g, p)), ("log_softmax_gradient", (g, np.log(p)))
    ):
        check(compiled, name, arrays)
        check(compiled, name, arrays, {"axis": len(shape) - 1})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropies_with_labels_and_with_rows(compiled, shape, dtype, smoothing):
    x, p = drawn(shape, dtype), probabilities(shape, dtype)
    labels = np.random.default_rng(2).integers(0, shape[-1], shape[:-1])
    g = drawn(shape[:-1], dtype, 3, 1.0)
    attrs = {"label_smoothing": smoothing}
    for kind in (np.int32, np.int64):
        check(compiled, "softmax_cross_entropy", (x, labels.astype(kind)), attrs)
        check(compiled, "softmax_cross_entropy_gradient", (g, p, labels.astype(kind)), attrs)
    ignoring = {**attrs, "ignore_index": int(labels.flat[0])}
    check(compiled, "softmax_cross_entropy", (x, labels), ignoring)
    check(compiled, "softmax_cross_entropy_gradient", (g, p, labels), ignoring)
    targets = np.random.default_rng(4).random(shape)
    targets = (targets / targets.sum(axis=-1, keepdims=True) * 1.7).astype(dtype)  # a sum that is not 1 counts
    check(compiled, "softmax_cross_entropy_soft", (x, targets), attrs)
    check(compiled, "softmax_cross_entropy_soft_gradient", (g, p, targets), attrs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("width", [5, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_with_values_that_are_not_finite(compiled, width, dtype):
    x = drawn((12, width), dtype)
    x[0, 1], x[1, 2], x[2, 0], x[3] = np.nan, np.inf, -np.inf, -np.inf
    x[4, 1:3], x[5, 4] = np.inf, -np.nan
    x[6] += dtype(1e4)
    x[7, 0], x[8, 0] = 1e4, -1e4
    labels = np.arange(12) % width
    labels[9], labels[10] = -1, width
    targets = np.eye(width, dtype=dtype)[labels % width]
    for name, arrays in (
        ("softmax", (x,)), ("log_softmax", (x,)), ("softmax_cross_entropy", (x, labels)),
        ("softmax_cross_entropy_soft", (x, targets)),
    ):
        check(compiled, name, arrays)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_gradient", "log_softmax_gradient"])
def test_in_the_memory_of_the_input_the_bits_are_the_same(compiled, name):
    arrays = tuple(drawn((5000, 10), "f", i) for i in range(1 + name.endswith("_gradient")))
    (apart,) = call(compiled, SPECS[name], arrays, {})
    call(compiled, SPECS[name], arrays, {}, (arrays[0],))
    assert arrays[0].tobytes() == apart.tobytes()


def test_another_axis_keeps_the_plain_kernel(compiled):
    plain = compiled.backend.kernels["softmax"]
    assert find_plan(compiled, SPECS["softmax"], (np.ones((4, 5)),), {"axis": 0}).kernel is plain


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 9, 1000])
def test_losses_element_by_element(compiled, size, dtype):
    x = np.concatenate([[np.nan, np.inf, -np.inf, 0.0, 1e4, -1e4, 90.0, -90.0], drawn(size, dtype)]).astype(dtype)
    t, g = np.random.default_rng(0).random(x.size).astype(dtype), drawn(x.size, dtype, 1, 1.0)
    check(compiled, "sigmoid_cross_entropy", (x, t))
    check(compiled, "sigmoid_cross_entropy_gradient", (g, x, t))
    check(compiled, "log_cosh", (x,))
    p = np.concatenate([[0.0, 1.0, np.nan, -0.1, 1.1, -1e-9, 1e-30, np.inf], t]).astype(dtype)
    for one, other in zip(
        call(compiled, SPECS["log_probability"], (p,)),
        call(find_device("cpu:reference"), SPECS["log_probability"], (p,)), strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=NEAR[dtype][0])


@pytest.mark.peers
@pytest.mark.parametrize("classes", [3, 10, 200])
def test_torch_agrees(compiled, classes):
    torch = pytest.importorskip("torch")
    x, labels = drawn((64, classes), "f"), np.random.default_rng(0).integers(0, classes, 64)
    logits = torch.from_numpy(x).requires_grad_()
    peer = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(labels), label_smoothing=0.1, ignore_index=1, reduction="none"
    )
    peer.sum().backward()
    attrs = {"label_smoothing": 0.1, "ignore_index": 1}
    losses, p = call(compiled, SPECS["softmax_cross_entropy"], (x, labels), attrs)
    (gradient,) = call(compiled, SPECS["softmax_cross_entropy_gradient"], (np.ones(64, "f"), p, labels), attrs)
    np.testing.assert_allclose(losses, peer.detach().numpy(), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=2e-5, atol=2e-6)
