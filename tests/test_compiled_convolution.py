"""Compiled convolutions: every shape against float64, the same bits again and again, values that are not finite."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.convolution import output_length
from deepbabysit.runtime import threads
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit_numpy import open_backend
from deepbabysit_numpy.compiled import convolution, sizes
from deepbabysit_numpy.compiled.code import registers

DOUBLE = {"f": 3e-5, "d": 1e-13}


@pytest.fixture
def teams(monkeypatch):
    """A function that gives a CPU with so many threads, whose kernels take arrays of every size."""
    for name in sizes.LEAST:
        monkeypatch.setitem(sizes.LEAST, name, 0)

    def make(number):
        monkeypatch.setattr(threads, "_CHOSEN", [number])
        for kept in (convolution._job, convolution._kernel_job):
            kept.cache_clear()
        return Device("cpu", open_backend())

    yield make
    for kept in (convolution._job, convolution._kernel_job):
        kept.cache_clear()


def draw(rng, shape, dtype="f"):
    return rng.standard_normal(shape).astype(dtype)


def arguments(rng, image, kernel, attrs, dtype="f"):
    """Return the inputs of the three products: x, kernel, gradient."""
    steps = zip(image[1:3], kernel[:2], attrs["stride"], attrs["padding"], attrs["dilation"], strict=True)
    out = (image[0], *(output_length(*axis) for axis in steps), kernel[-1])
    return draw(rng, image, dtype), draw(rng, kernel, dtype), draw(rng, out, dtype)


def three(device, x, kernel, g, attrs):
    """Run the convolution and both gradients; every one by its compiled kernel."""
    found = []
    for name, inputs, more in (
        ("conv", (x, kernel), {}), ("conv_input_gradient", (g, kernel), {"space": x.shape[1:3]}),
        ("conv_kernel_gradient", (x, g), {"window": kernel.shape[:2]}),
    ):
        assert find_plan(device, SPECS[name], inputs, {**more, **attrs}).kernel in device.backend.kernels[name].variants
        found.append(call(device, SPECS[name], inputs, {**more, **attrs})[0])
    return found


@np.errstate(invalid="ignore")
def wide(x, kernel, g, attrs):
    """Compute the same in float64, one element of the window after the other."""
    x, kernel, g = (a.astype("d") for a in (x, kernel, g))
    (sh, sw), (dh, dw), groups = attrs["stride"], attrs["dilation"], attrs["groups"]
    border = np.pad(x, ((0, 0), *attrs["padding"], (0, 0)))
    y, dx, dk = np.zeros_like(g), np.zeros_like(border), np.zeros_like(kernel)
    depth, out = kernel.shape[2], kernel.shape[3] // groups
    for i, j, group in itertools.product(range(kernel.shape[0]), range(kernel.shape[1]), range(groups)):
        c, f = slice(group * depth, (group + 1) * depth), slice(group * out, (group + 1) * out)
        at = (slice(None), slice(i * dh, i * dh + (g.shape[1] - 1) * sh + 1, sh),
              slice(j * dw, j * dw + (g.shape[2] - 1) * sw + 1, sw), c)
        y[..., f] += border[at] @ kernel[i, j, :, f]
        dx[at] += g[..., f] @ kernel[i, j, :, f].T
        dk[i, j, :, f] += np.einsum("nhwc,nhwf->cf", border[at], g[..., f])
    (top, _), (left, _) = attrs["padding"]
    return y, dx[:, top : top + x.shape[1], left : left + x.shape[2]], dk


@given(
    st.integers(1, 5), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 20), st.integers(1, 40),
    st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.integers(0, 2)] * 4), st.sampled_from([1, 1, 1, 2, 3]), st.sampled_from(["f", "d"]),
    st.integers(1, 3), st.integers(0, 2**32 - 1),
)
def test_every_shape_is_the_reference_in_float64(
    images, extra, depth, out, window, stride, dilation, border, groups, dtype, number, seed
):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        for name in sizes.LEAST:
            patch.setitem(sizes.LEAST, name, 0)
        patch.setattr(threads, "_CHOSEN", [number])
        patch.setattr(convolution, "_BLOCK", int(rng.integers(1, 20000)))
        patch.setattr(convolution, "_PIECE", int(rng.integers(1, 9000)))
        for kept in (convolution._job, convolution._kernel_job):
            kept.cache_clear()
        if depth == 1 and groups > 1:
            groups, out = out, 1  # every channel by itself
        attrs = {"stride": stride, "padding": (border[:2], border[2:]), "dilation": dilation, "groups": groups}
        space = tuple(max((w - 1) * d + e - sum(p), 1) for w, d, e, p in zip(
            window, dilation, extra, attrs["padding"], strict=True))
        values = arguments(rng, (images, *space, depth * groups), (*window, depth, out * groups), attrs, dtype)
        device = Device("cpu", open_backend())
        for found, expected in zip(three(device, *values, attrs), wide(*values, attrs), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=DOUBLE[dtype] * (1 + np.abs(expected).max()))
    for kept in (convolution._job, convolution._kernel_job):
        kept.cache_clear()


SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_same_bits_run_after_run_and_for_every_number_of_threads_in_what_is_no_sum_over_images(teams, number):
    values = arguments(np.random.default_rng(0), (7, 9, 8, 5), (3, 3, 5, 18), SAME)
    alone = [out.tobytes() for out in three(teams(1), *values, SAME)]
    device = teams(number)
    first = [out.tobytes() for out in three(device, *values, SAME)]
    for _ in range(5):
        assert [out.tobytes() for out in three(device, *values, SAME)] == first
    assert first[:2] == alone[:2]


def test_scratch_of_another_number_of_threads_still_serves(teams, monkeypatch):
    values = arguments(np.random.default_rng(0), (6, 9, 8, 5), (3, 3, 5, 18), SAME)
    device = teams(3)
    expected = [out.tobytes() for out in three(device, *values, SAME)]
    for number in (1, 2, 4):
        monkeypatch.setattr(threads, "_CHOSEN", [number])
        assert [out.tobytes() for out in three(device, *values, SAME)] == expected


@pytest.mark.parametrize("number", [1, 2])
def test_values_that_are_not_finite_reach_what_they_touch_and_nothing_else(teams, number):
    rng = np.random.default_rng(1)
    x, kernel, g = arguments(rng, (3, 6, 6, 4), (3, 3, 4, 20), SAME)
    device = teams(number)
    x[1, 2, 3, 1], x[2, 0, 0, 0] = np.nan, np.inf
    y, _, dk = three(device, x, kernel, g, SAME)
    touched = np.zeros(y.shape, bool)
    touched[1, 1:4, 2:5] = touched[2, :2, :2] = True
    np.testing.assert_array_equal(np.isfinite(y), ~touched)
    expected = np.isfinite(wide(x, kernel, g, SAME)[2])
    np.testing.assert_array_equal(np.isfinite(dk), expected)
    assert expected.any() and not expected.all()


@pytest.mark.parametrize("columns", [1, 5, 16, 17, 31, 32, 33, 48, 50, 64, 80, 100, 128])
def test_tiles_of_every_width_write_their_columns_only(teams, columns):
    rng = np.random.default_rng(2)
    attrs = {**SAME, "padding": ((0, 0), (0, 0))}
    x, kernel, g = arguments(rng, (2, 5, 4, 3), (2, 3, 3, columns), attrs)
    device = teams(2)
    buffer = np.full((g.size + 64,), 7, "f")
    target = buffer[:g.size].reshape(g.shape)
    call(device, SPECS["conv"], (x, kernel), attrs, (target,))
    np.testing.assert_allclose(target, wide(x, kernel, g, attrs)[0], rtol=0, atol=1e-4)
    assert (buffer[g.size :] == 7).all()


@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("number", [1, 2])
def test_bias_and_activation_are_those_of_the_parts(teams, number, activation):
    rng = np.random.default_rng(4)
    x, kernel, _ = arguments(rng, (3, 6, 7, 4), (3, 3, 4, 20), SAME)
    x[0, 0, 0, 0], bias, device = np.nan, draw(rng, 20), teams(number)
    y = call(device, SPECS["conv"], (x, kernel), SAME)[0] + bias
    if activation != "linear":
        y = call(device, SPECS[activation], (y,))[0]
    found = call(device, SPECS["affine_conv"], (x, kernel, bias), {**SAME, "activation": activation})[0]
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)
    assert np.isnan(found[0, :2, :2]).all() and np.isfinite(found[1:]).all()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_kernel_and_bias_gradient_come_in_one_pass(teams, number):
    rng = np.random.default_rng(5)
    x, _, g = arguments(rng, (5, 6, 7, 8), (3, 3, 8, 20), SAME)
    device, attrs = teams(number), {**SAME, "window": (3, 3)}
    by_kernel, by_bias = call(device, SPECS["conv_parameter_gradients"], (x, g), attrs)
    assert by_kernel.tobytes() == call(device, SPECS["conv_kernel_gradient"], (x, g), attrs)[0].tobytes()
    np.testing.assert_allclose(by_bias, g.astype("d").sum(axis=(0, 1, 2)), rtol=1e-5, atol=1e-5)


def test_the_widths_of_tiles_follow_from_the_columns():
    lanes = registers.register_bytes() // 4
    assert [registers.vectors_for(n * lanes, 4) for n in (1, 2, 3, 4, 8, 12)] == [1, 2, 3, 4, 4, 4]
    assert registers.vectors_for(1, 4) == 1


def test_small_convolutions_and_several_outputs_of_a_channel_keep_the_plain_kernel():
    device = Device("cpu", open_backend())
    rng = np.random.default_rng(3)
    small, kernel = draw(rng, (1, 3, 3, 2)), draw(rng, (3, 3, 2, 2))
    compiled = device.backend.kernels["conv"].variants
    assert find_plan(device, SPECS["conv"], (small, kernel), SAME).kernel not in compiled
    large, attrs = draw(rng, (8, 20, 20, 16)), {**SAME, "groups": 16}
    for multiplier, taken in ((1, True), (2, False)):
        by_channel = draw(rng, (3, 3, 1, 16 * multiplier))
        assert (find_plan(device, SPECS["conv"], (large, by_channel), attrs).kernel in compiled) == taken
    kernel = draw(rng, (3, 3, 16, 16))
    assert find_plan(device, SPECS["conv"], (large, kernel), SAME).kernel in compiled
