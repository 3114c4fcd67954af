"""Compiled normalizations: digits far from zero, shapes that fill no vector, what is not finite, another library."""

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime import threads
from deepbabysit.runtime.funnel import call, find_plan

pytest.importorskip("numba")

# rows of one channel, of lanes that end in the middle, of more channels than lanes, of more rows than a block
SHAPES = [(1, 3), (7, 1), (5000, 1), (3, 5, 4, 3), (33, 37), (130, 257), (9, 300), (6000, 7), (40, 2000)]


def draw(shape, dtype, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, *shape))
    return [a.astype(dtype) for a in (x + offset, g, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1]))]


def moments(x):
    wide = x.astype(np.float64).reshape(-1, x.shape[-1])
    return wide.mean(axis=0), wide.var(axis=0)


def forward(x, gamma, beta, epsilon=1e-3):
    mean, var = moments(x)
    return (x.astype(np.float64) - mean) / np.sqrt(var + epsilon) * gamma + beta


def backward(g, x, gamma, mean, var, epsilon=1e-3):
    axes = tuple(range(x.ndim - 1))
    inverse = 1 / np.sqrt(var.astype(np.float64) + epsilon)
    normal, count = (x - mean.astype(np.float64)) * inverse, x.size // x.shape[-1]
    by_beta, by_gamma = g.sum(axis=axes, dtype=np.float64), (g * normal).sum(axis=axes)
    return gamma * inverse * (g - by_beta / count - normal * by_gamma / count), by_gamma, by_beta


def close(found, expected, dtype):
    """Agree within some units in the last place of the largest number."""
    limit = np.finfo(dtype).eps * 40 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_and_its_gradient(compiled, shape, dtype):
    x, g, gamma, beta = draw(shape, dtype, offset=3.0)
    y, mean, var = call(compiled, SPECS["batch_norm"], (x, gamma, beta), {})
    close(mean, moments(x)[0], dtype)
    close(var, moments(x)[1], dtype)
    if shape[0] > 1:
        close(y, forward(x, gamma, beta), dtype)
    found = call(compiled, SPECS["batch_norm_gradient"], (g, x, gamma, mean, var), {})
    for one, other in zip(found, backward(g, x, gamma, mean, var), strict=True):
        close(one, other, dtype)
    (y,) = call(compiled, SPECS["batch_norm_inference"], (x, gamma, beta, beta, var), {})
    close(y, (x - beta.astype(np.float64)) / np.sqrt(var + 1e-3) * gamma + beta, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_a_relu_the_bits_are_those_of_two_operations(compiled, shape, dtype):
    x, g, gamma, beta = draw(shape, dtype)
    y, mean, var = call(compiled, SPECS["batch_norm"], (x, gamma, beta), {})
    found = call(compiled, SPECS["batch_norm_relu"], (x, gamma, beta), {})
    for one, other in zip(found, (np.maximum(y, 0), mean, var), strict=True):
        assert one.tobytes() == (other + 0).tobytes()  # + 0: no negative zero
    flow = np.where(y > 0, g, np.zeros_like(g))
    expected = call(compiled, SPECS["batch_norm_gradient"], (flow, x, gamma, mean, var), {})
    found = call(compiled, SPECS["batch_norm_relu_gradient"], (g, x, gamma, beta, mean, var), {})
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    (y,) = call(compiled, SPECS["batch_norm_inference"], (x, gamma, beta, mean, var), {})
    (z,) = call(compiled, SPECS["batch_norm_relu_inference"], (x, gamma, beta, mean, var), {})
    assert z.tobytes() == (np.maximum(y, 0) + 0).tobytes()


@pytest.mark.parametrize("offset", [1e3, -1e5, 1e7])
def test_nothing_cancels_far_from_zero(compiled, offset):
    steps = np.random.default_rng(0).integers(-4, 5, (70_000, 3))
    x = (steps + offset).astype(np.float32)  # exact in float32
    one, zero = np.ones(3, "f"), np.zeros(3, "f")
    _, mean, var = call(compiled, SPECS["batch_norm"], (x, one, zero), {})
    np.testing.assert_allclose(mean, steps.mean(axis=0) + offset, rtol=1e-7)
    np.testing.assert_allclose(var, steps.var(axis=0), rtol=1e-5)


def test_blocks_of_different_levels_add_up(compiled):
    x = np.repeat(np.array([0.0, 1e4, -1e4, 3.0], "f"), 20_000)[:, None] + np.array([0.0, 1.0], "f")
    _, mean, var = call(compiled, SPECS["batch_norm"], (x, np.ones(2, "f"), np.zeros(2, "f")), {})
    expected, variance = moments(x)
    np.testing.assert_allclose(var, variance, rtol=1e-6)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=3e-7 * np.sqrt(variance.max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (7, 33), (2, 5, 64), (130, 257)])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_rows(compiled, name, shape, dtype):
    x, g, gamma, beta = draw(shape, dtype, offset=2.0)
    centered = name == "layer_norm"
    wide = x.astype(np.float64)
    distance = wide - wide.mean(axis=-1, keepdims=True) if centered else wide
    inverse = 1 / np.sqrt((distance**2).mean(axis=-1, keepdims=True) + 1e-5)
    normal = distance * inverse
    vectors = (gamma, beta) if centered else (gamma,)
    (y,) = call(compiled, SPECS[name], (x, *vectors), {})
    close(y, normal * gamma + (beta if centered else 0.0), dtype)
    flow = g * gamma.astype(np.float64)
    by_input = flow - normal * (flow * normal).mean(axis=-1, keepdims=True)
    if centered:
        by_input -= flow.mean(axis=-1, keepdims=True)
    axes = tuple(range(x.ndim - 1))
    expected = [by_input * inverse, (g * normal).sum(axis=axes), g.sum(axis=axes, dtype=np.float64)]
    found = call(compiled, SPECS[f"{name}_gradient"], (g, x, gamma), {})
    assert len(found) == 2 + centered
    for one, other in zip(found, expected, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=np.finfo(dtype).eps * 200 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_relu", "layer_norm", "rms_norm", "group_norm"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spreads_as_in_the_reference(compiled, name, value):
    x, g, gamma, beta = draw((40, 5, 8), np.float32)
    x[3, 2, 1] = value
    attrs = {"groups": 4} if name == "group_norm" else {}
    vectors = (gamma,) if name == "rms_norm" else (gamma, beta)
    with np.errstate(invalid="ignore"):
        expected = SPECS[name].reference(compiled.namespace, x, *vectors, **attrs)
    found = call(compiled, SPECS[name], (x, *vectors), attrs)
    for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert (np.isfinite(one) == np.isfinite(other)).all()
    assert 0 < (~np.isfinite(found[0])).sum() < x.size


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "rms_norm", "group_norm"])
def test_the_compiled_kernel_runs_and_repeats_its_bits(compiled, name):
    x, g, gamma, beta = draw((64, 6, 24), np.float32)
    attrs = {"groups": 3} if name == "group_norm" else {}
    vectors = (gamma,) if name == "rms_norm" else (gamma, beta)
    plain = compiled.backend.kernels[name]
    assert find_plan(compiled, SPECS[name], (x, *vectors), attrs).kernel is plain.variants[0]
    one, two = (call(compiled, SPECS[name], (x, *vectors), attrs) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.peers
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_group_norm_agrees_with_torch(compiled, groups):
    torch = pytest.importorskip("torch")
    x, g, gamma, beta = draw((5, 7, 6, 12), np.float64, offset=1.0)
    tx, tw, tb = (torch.from_numpy(a).requires_grad_() for a in (x, gamma, beta))
    ty = torch.group_norm(tx.permute(0, 3, 1, 2), groups, tw, tb, 1e-5).permute(0, 2, 3, 1)
    ty.backward(torch.from_numpy(g))
    (y,) = call(compiled, SPECS["group_norm"], (x, gamma, beta), {"groups": groups})
    np.testing.assert_allclose(y, ty.detach().numpy(), atol=1e-12)
    found = call(compiled, SPECS["group_norm_gradient"], (g, x, gamma), {"groups": groups})
    for one, other in zip(found, (tx, tw, tb), strict=True):
        np.testing.assert_allclose(one, other.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_relu", "layer_norm"])
@pytest.mark.parametrize("number", [2, 3])
def test_several_threads_give_the_same_numbers_each_time(compiled, name, number, monkeypatch):
    x, g, gamma, beta = draw((35, 3, 24), np.float32, offset=5.0)
    alone = call(compiled, SPECS[name], (x, gamma, beta), {})
    monkeypatch.setattr(threads, "_CHOSEN", [number])
    compiled.plans.clear()
    one, two = (call(compiled, SPECS[name], (x, gamma, beta), {}) for _ in range(2))
    for a, b, c in zip(alone, one, two, strict=True):
        assert b.tobytes() == c.tobytes()
        close(b, a.astype(np.float64), np.float32)
    if name == "layer_norm":
        assert alone[0].tobytes() == one[0].tobytes()
        return
    vectors = (gamma, beta) if name == "batch_norm_relu" else (gamma,)
    arrays = (g, x, *vectors, *alone[1:])
    several = call(compiled, SPECS[f"{name}_gradient"], arrays, {})
    monkeypatch.setattr(threads, "_CHOSEN", [1])  # fewer than were planned
    fewer = call(compiled, SPECS[f"{name}_gradient"], arrays, {})
    compiled.plans.clear()
    for a, b, c in zip(call(compiled, SPECS[f"{name}_gradient"], arrays, {}), several, fewer, strict=True):
        assert a.tobytes() == c.tobytes()
        np.testing.assert_allclose(b, a, atol=1e-4)
