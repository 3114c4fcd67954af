"""Compiled recurrent cells and the softmax of attention: sizes around the vector's, what is not finite, torch."""

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime import threads
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.registry import find_device
from deepbabysit_numpy.compiled import sizes

pytest.importorskip("numba")

NEAR = {np.float32: (5e-5, 5e-6), np.float64: (1e-11, 1e-12)}


def check(device, name, arrays, attrs=None, dtype=None):
    """Compare the compiled kernel with the reference in float64."""
    attrs = attrs or {}
    assert find_plan(device, SPECS[name], arrays, attrs).kernel in device.backend.kernels[name].variants
    wide = tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays)
    found = call(device, SPECS[name], arrays, attrs)
    expected = call(find_device("cpu:reference"), SPECS[name], wide, attrs)
    rtol, atol = (2e-2, 2e-3) if dtype is np.float16 else NEAR[arrays[0].dtype.type]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.astype(one.dtype), rtol=rtol, atol=atol)
    return found


def drawn(dtype, *shapes, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    return tuple((rng.standard_normal(shape) * scale).astype(dtype) for shape in shapes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "units"), [(1, 1), (3, 7), (2, 16), (5, 65), (4, 200)])
def test_cells_and_their_gradients(compiled, n, units, dtype):
    z, c, after, by_h, by_c = drawn(dtype, (n, 4 * units), *[(n, units)] * 4)
    check(compiled, "lstm_cell", (z, c))
    check(compiled, "lstm_cell_gradient", (z, c, after, by_h, by_c), {"given": (True, True)})
    check(compiled, "lstm_cell_gradient", (z, c, after, by_h), {"given": (True, False)})
    check(compiled, "lstm_cell_gradient", (z, c, after, by_c), {"given": (False, True)})
    zx, zh, h, g = drawn(dtype, (n, 3 * units), (n, 3 * units), (n, units), (n, units), seed=1)
    check(compiled, "gru_cell", (zx, zh, h))
    check(compiled, "gru_cell_gradient", (g, zx, zh, h))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_with_values_that_are_not_finite(compiled, dtype):
    z, c, zx, zh = drawn(dtype, (8, 80), (8, 20), (8, 60), (8, 60))
    for row, value in enumerate((np.nan, np.inf, -np.inf, 1e4, -1e4)):
        z[row, row::7] = zx[row, row::7] = value
    c[6, 3] = np.nan
    check(compiled, "lstm_cell", (z, c))
    check(compiled, "gru_cell", (zx, zh, c))
    h, after = call(compiled, SPECS["lstm_cell"], (z, c))
    check(compiled, "lstm_cell_gradient", (z, c, after, h, after))


def test_few_units_keep_the_plain_gradient():
    device = find_device("cpu")
    for units, place in ((16, "plain"), (64, "compiled")):
        arrays = drawn(np.float32, (200, 4 * units), *[(200, units)] * 4)
        kernel = device.backend.kernels["lstm_cell_gradient"]
        expected = kernel if place == "plain" else kernel.variants[0]
        assert find_plan(device, SPECS["lstm_cell_gradient"], arrays, {}).kernel is expected


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1, 1), (2, 3, 5, 9, 4, 6), (3, 2, 40, 33, 8, 8), (1, 1, 3, 5000, 2, 2)])
def test_attention_with_every_kind_of_mask(compiled, shape, dtype):
    n, heads, t, s, d, e = shape
    shapes = (n, heads, t, d), (n, heads, s, d), (n, heads, s, e), (n, heads, t, e)
    q, k, v, g = drawn(dtype, *shapes, scale=1.0)
    added = drawn(dtype, (n, 1, t, s), seed=1)[0]
    added[:, :, t // 2, :] = -np.inf  # this query sees nothing
    seen = np.random.default_rng(0).random((n, 1, 1, s)) < 0.6
    for mask in ((), (added,), (seen,)):
        for causal in (False, True):
            check(compiled, "attention", (q, k, v, *mask), {"causal": causal}, dtype)
            attrs = {"causal": causal, "scores": True}
            check(compiled, "attention_gradient", (g, q, k, v, *mask), attrs, dtype)
            check(compiled, "attention_gradient", (g, q, k, v, *mask), {"causal": causal, "scale": 0.3}, dtype)


@pytest.mark.parametrize("shape", [(9,), (1,), (5, 9), (5, 1), (3, 1, 9), (2, 1, 5, 1), (2, 3, 1, 9), (2, 3, 5, 9)])
def test_boolean_masks_that_repeat(compiled, shape):
    q, k, v, g = drawn(np.float32, (2, 3, 5, 4), (2, 3, 9, 4), (2, 3, 9, 6), (2, 3, 5, 6), scale=1.0)
    seen = np.random.default_rng(1).random(shape) < 0.5
    for mask in (seen, ~seen, np.repeat(seen, 2, axis=0)[::2]):
        check(compiled, "attention", (q, k, v, mask))
        check(compiled, "attention_gradient", (g, q, k, v, mask), {"scores": True})


@pytest.mark.parametrize("causal", [False, True])
def test_heads_that_lie_side_by_side_and_the_same_bits_for_every_number_of_threads(compiled, causal, monkeypatch):
    shapes = (2, 150, 3, 40), (2, 300, 3, 40), (2, 300, 3, 24), (2, 150, 3, 24)
    q, k, v, g = (a.swapaxes(1, 2) for a in drawn(np.float32, *shapes, scale=1.0))
    for name in ("attention part", "attention part awake"):
        monkeypatch.setitem(sizes.LEAST, name, 1)
    found = []
    for number in (1, 2, 4):
        monkeypatch.setattr(threads, "_CHOSEN", [number])
        compiled.plans.clear()
        attrs = {"causal": causal}
        found.append([*check(compiled, "attention", (q, k, v), attrs),
                      *check(compiled, "attention_gradient", (g, q, k, v), attrs)])  # fmt: skip
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_nan_in_one_query_reaches_its_row_only(compiled):
    q, k, v = drawn(np.float32, *[(2, 2, 20, 4)] * 3)
    q[1, 0, 7, 2] = np.nan
    (y,) = call(compiled, SPECS["attention"], (q, k, v))
    wrong = np.zeros((2, 2, 20), bool)
    wrong[1, 0, 7] = True
    assert (np.isnan(y).all(axis=-1) == wrong).all()
    assert (np.isnan(y).any(axis=-1) == wrong).all()


@pytest.mark.peers
def test_torch_agrees(compiled):
    torch = pytest.importorskip("torch")
    x, h, c = drawn(np.float32, (6, 5), (6, 40), (6, 40))
    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(5, 40)
    gates = torch.from_numpy(x) @ cell.weight_ih.T + cell.bias_ih + torch.from_numpy(h) @ cell.weight_hh.T
    gates = gates + cell.bias_hh
    found = call(compiled, SPECS["lstm_cell"], (gates.detach().numpy().copy(), c))
    for one, other in zip(found, cell(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c))), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=5e-5, atol=5e-6)
    q, k, v = drawn(np.float32, *[(2, 3, 17, 8)] * 3)
    (y,) = call(compiled, SPECS["attention"], (q, k, v), {"causal": True})
    peer = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)), is_causal=True)
    np.testing.assert_allclose(y, peer.numpy(), rtol=1e-4, atol=1e-5)
