"""Update rules: kernels against the float64 references, in place and not, idle segments bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepbabysit.kernels import SPECS, updates
from deepbabysit.kernels.spec import KernelSpec, Sample, complete_attrs
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device

RULES = [name for name in SPECS.names() if name.endswith("_update")]
NAMES = [*RULES, "gradient_statistics", "clip_control", "weight_penalty"]


def _samples(name: str) -> list[Sample]:
    return list(SPECS[name].samples(np.random.default_rng(7)))


def _reference(spec: KernelSpec, inputs: Any, attrs: Any) -> tuple[np.ndarray, ...]:
    with np.errstate(all="ignore"):
        results = spec.reference(find_device("cpu:reference").namespace, *inputs, **complete_attrs(spec, attrs))
    return results if isinstance(results, tuple) else (results,)


def _cast(sample: Sample, dtype: str) -> tuple[np.ndarray, ...]:
    """Return copies of the inputs with the flat buffers in another dtype; control, table, progress stay float64."""
    copies = []
    for place, array in enumerate(sample.inputs):
        flat = array.ndim == 1 and array.dtype.kind == "f" and not (place == 0 and array.size == updates.CONTROL_SIZE)
        copies.append(array.astype(dtype if flat else array.dtype))
    return tuple(copies)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_equals_reference(name: str, dtype: str) -> None:
    spec, device = SPECS[name], find_device("cpu")
    assert name in device.backend.kernels
    tolerance = spec.tolerance[dtype]
    for sample in _samples(name):
        inputs = _cast(sample, dtype)
        before = [a.copy() for a in inputs]
        wanted = _reference(spec, [a.astype(float) if a.dtype.kind == "f" else a for a in inputs], sample.attrs)
        forms = spec.infer([a.shape for a in inputs], [a.dtype for a in inputs], **complete_attrs(spec, sample.attrs))
        outs = tuple(np.full(f.shape, np.nan, f.dtype) for f in forms)
        call(device, spec, inputs, sample.attrs, outs=outs)
        for found, expected, form in zip(outs, wanted, forms, strict=True):
            assert found.shape == expected.shape == form.shape
            np.testing.assert_allclose(found, expected, tolerance.rtol, tolerance.atol)
        for a, b in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [*RULES, "clip_control"])
def test_in_place_gives_the_same_bits(name: str) -> None:
    spec, device = SPECS[name], find_device("cpu")
    for sample in _samples(name):
        inputs = _cast(sample, "float32")
        apart = call(device, spec, inputs, sample.attrs)
        outs = tuple(inputs[place] for _, place in spec.inplace)
        call(device, spec, inputs, sample.attrs, outs=outs)
        for a, b in zip(outs, apart, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("device", ["cpu", "cpu:reference"])
@pytest.mark.parametrize("name", [n for n in RULES if n != "average_update"])
def test_idle_segments_keep_everything(name: str, device: str) -> None:
    spec = SPECS[name]
    attrs = _samples(name)[0].attrs
    rng = np.random.default_rng(3)
    states = len(spec.inplace) - 2
    lengths = (4, 5, 3, 2)
    starts = np.array([0, 4, 9, 12])
    table = np.ones((updates.TABLE_ROWS, 4))
    table[updates.TRAINABLE, 1] = 0.0
    table[updates.TOUCHED, 2] = 0.0
    progress = np.array([[1.0, 2.0, 3.0, 4.0], [0.9, 0.8, 0.7, 0.6]])
    flat = [np.abs(rng.standard_normal(sum(lengths))).astype(np.float32) for _ in range(2 + states)]
    flat[1][4:12] = np.nan  # stale gradients are not even read
    inputs = (updates.host_control(3, 0.1), table, starts, progress, *flat)
    outs = call(find_device(device), spec, inputs, attrs)
    np.testing.assert_array_equal(outs[0][:, 1:3], progress[:, 1:3])
    assert (outs[0][updates.AGE, [0, 3]] == [2.0, 5.0]).all()
    for out, old in zip(outs[1:], (flat[0], *flat[2:]), strict=True):
        np.testing.assert_array_equal(out[4:12], old[4:12])
        assert (out[:4] != old[:4]).all() and np.isfinite(out).all()
    skipped = updates.host_control(3, 0.1)
    skipped[updates.APPLY] = 0.0
    outs = call(find_device(device), spec, (skipped, *inputs[1:]), attrs)
    for out, old in zip(outs, (progress, flat[0], *flat[2:]), strict=True):
        np.testing.assert_array_equal(out, old)


@pytest.mark.parametrize("name", RULES)
def test_bad_input_is_refused(name: str) -> None:
    spec = SPECS[name]
    for bad in spec.errors():
        with pytest.raises(bad.error, match=bad.message.replace("(", r"\(")):
            call(find_device("cpu"), spec, bad.inputs, bad.attrs)


def test_statistics_survive_extreme_values() -> None:
    """Squares of large and tiny float32 values leave float32's range; the norm must not."""
    for size, count in ((1e25, 1000), (1e-25, 1000), (1e25, 40000), (1e-25, 40000)):
        g = np.full(count, size, np.float32)
        inputs = (updates.host_control(1, 0.1), _plain_table(1), np.array([0]), np.zeros_like(g), g)
        (found,) = call(find_device("cpu"), SPECS["gradient_statistics"], inputs)
        np.testing.assert_allclose(np.sqrt(found[updates.SQUARES, 0]), size * np.sqrt(count), rtol=1e-5)
        assert found[updates.BROKEN, 0] == 0


def test_long_buffers_are_measured_by_segment() -> None:
    rng = np.random.default_rng(2)
    g = rng.standard_normal(50000).astype(np.float32)
    g[20000] = np.nan
    starts = np.array([0, 10, 19000, 40000])
    inputs = (updates.host_control(1, 0.1, scale=2.0), _plain_table(4), starts, np.zeros_like(g), g)
    (found,) = call(find_device("cpu"), SPECS["gradient_statistics"], inputs)
    wanted = [float((4.0 * part.astype(float) ** 2).sum()) for part in np.split(g, starts[1:])]
    np.testing.assert_allclose(found[updates.SQUARES], wanted, rtol=1e-5)
    assert found[updates.BROKEN].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_one_broken_value_is_counted_and_skipped_only_on_request() -> None:
    g = np.ones(10, np.float32)
    g[3] = np.inf
    for skip, applied in ((True, 0.0), (False, 1.0)):
        control = updates.host_control(1, 0.1, skip=skip)
        inputs = (control, _plain_table(2), np.array([0, 5]), np.ones_like(g), g)
        (rows,) = call(find_device("cpu"), SPECS["gradient_statistics"], inputs)
        assert rows[updates.BROKEN].tolist() == [1.0, 0.0]
        (done,) = call(find_device("cpu"), SPECS["clip_control"], (control, rows))
        assert done[updates.APPLY] == applied
        assert done[updates.FACTOR] == 1.0  # nothing is clipped, so that measuring changes nothing


def test_nan_norm_without_clipping_leaves_the_factor() -> None:
    for device in ("cpu", "cpu:reference"):
        rows = np.array([[np.nan], [1.0], [0.0]])
        for limit, factor in ((np.inf, 1.0), (1.0, np.nan)):
            control = updates.host_control(1, 0.1, clip_norm=limit)
            (done,) = call(find_device(device), SPECS["clip_control"], (control, rows))
            np.testing.assert_array_equal(done[updates.FACTOR], factor)


def _plain_table(count: int) -> np.ndarray:
    table = np.zeros((updates.TABLE_ROWS, count))
    table[[updates.TRAINABLE, updates.TOUCHED, updates.MULTIPLIER]] = 1.0
    return table
