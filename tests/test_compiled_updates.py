"""Compiled update rules: the tests of the plain ones at every size, over mixed segments, and what is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import test_optimizers_kernels as kernels
import test_optimizers_trajectories as trajectories

from deepbabysit import optimizers
from deepbabysit.kernels import SPECS, updates
from deepbabysit.kernels.spec import complete_attrs
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device

RULES = [name for name in kernels.RULES if name != "average_update"]
MADE = [*RULES, "average_update", "gradient_statistics", "weight_penalty"]


@pytest.fixture
def forced(monkeypatch) -> Iterator[Device]:
    """The CPU that everybody uses, with compiled kernels at every size."""
    pytest.importorskip("numba")
    from deepbabysit_numpy.compiled import sizes

    device = find_device("cpu")
    for name in sizes.LEAST:
        monkeypatch.setitem(sizes.LEAST, name, 0)
    device.plans.clear()
    yield device
    device.plans.clear()


def ran(device: Device) -> set[str]:
    """Return the operations whose compiled kernel was chosen."""
    return {plan.spec.name for plan in device.plans.values() if plan.kernel in _variants(device, plan.spec.name)}


def _variants(device: Device, name: str) -> tuple[Any, ...]:
    kernel = device.backend.kernels.get(name)
    return kernel.variants if kernel is not None else ()


def test_every_rule_is_compiled():
    assert not [name for name in MADE if not _variants(find_device("cpu"), name)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MADE)
def test_kernel_equals_reference(forced, name, dtype):
    kernels.test_kernel_equals_reference(name, dtype)
    assert ran(forced) == {name}


@pytest.mark.parametrize("name", [*RULES, "average_update"])
def test_in_place_gives_the_same_bits(forced, name):
    kernels.test_in_place_gives_the_same_bits(name)
    assert ran(forced) == {name}


@pytest.mark.parametrize("name", RULES)
def test_idle_segments_keep_everything(forced, name):
    kernels.test_idle_segments_keep_everything(name, "cpu")
    assert ran(forced) == {name}


def test_statistics(forced):
    kernels.test_statistics_survive_extreme_values()
    kernels.test_long_buffers_are_measured_by_segment()
    kernels.test_one_broken_value_is_counted_and_skipped_only_on_request()
    assert "gradient_statistics" in ran(forced)


@pytest.mark.parametrize(("ours", "settings", "theirs", "options"), trajectories.PEERS)
def test_torch_trajectory(forced, ours, settings, theirs, options):
    trajectories.test_torch_trajectory(ours, settings, theirs, options)
    assert any(name.endswith("_update") for name in ran(forced))


@pytest.mark.parametrize("name", list(optimizers.NAMES))
def test_trajectories_and_replay(forced, name):
    trajectories.test_float32_kernel_follows_the_float64_reference(name)
    trajectories.test_replay_follows_rate_and_step(name)
    assert {"gradient_statistics", "average_update"} <= ran(forced)
    if name == "lion":
        trajectories.test_lion_follows_the_paper()


def draw(name: str, dtype: str, lengths: tuple[int, ...], **control: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Draw segments of which each has other settings; returns the inputs of a rule and its attributes."""
    rng = np.random.default_rng(len(lengths))
    states = len(SPECS[name].inplace) - 2
    count, size = len(lengths), sum(lengths)
    table = np.ones((updates.TABLE_ROWS, count))
    table[updates.TRAINABLE] = rng.random(count) < 0.8
    table[updates.TOUCHED] = rng.random(count) < 0.8
    table[updates.MULTIPLIER] = rng.uniform(0.1, 2.0, count)
    for row in (updates.DECAY, updates.L1, updates.L2):
        table[row] = rng.choice([0.0, 0.01, 0.1], count)
    starts = np.array([0, *np.cumsum(lengths)[:-1]], np.int64)
    progress = np.stack([rng.integers(0, 9, count).astype(float), rng.uniform(0.2, 0.9, count)])
    flat = [rng.standard_normal(size).astype(dtype) for _ in range(2)]
    flat += [(np.abs(rng.standard_normal(size)) + 0.05).astype(dtype) for _ in range(states)]
    attrs = dict(next(iter(SPECS[name].samples(rng))).attrs)
    return [updates.host_control(7, 0.01, **control), table, starts, progress, *flat], attrs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("control", [{}, {"scale": 0.25}, {"clip_value": 0.4, "scale": 2.0}], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_each_segment_has_its_own_settings(compiled, name, control, dtype):
    spec = SPECS[name]
    inputs, attrs = draw(name, dtype, (1, 16, 33, 500, 7, 128, 64, 3, 1000, 9), **control)
    inputs[0][updates.FACTOR] = 0.5
    wide = [x.astype(float) if x.dtype.kind == "f" else x for x in inputs]
    wanted = spec.reference(find_device("cpu:reference").namespace, *wide, **complete_attrs(spec, attrs))
    found = call(compiled, spec, tuple(inputs), attrs)
    for out, true in zip(found, wanted, strict=True):
        np.testing.assert_allclose(out, true, spec.tolerance[dtype].rtol, spec.tolerance[dtype].atol)


@pytest.mark.parametrize("clip", [np.inf, 0.5])
@pytest.mark.parametrize("name", RULES)
def test_what_is_not_finite_reaches_the_weights(compiled, name, clip):
    inputs, attrs = draw(name, "float32", (200,), clip_value=clip)
    inputs[1][[updates.TRAINABLE, updates.TOUCHED]] = 1.0
    broken = np.arange(200) % 7 == 0
    inputs[5][broken] = np.nan
    _, w, *states = call(compiled, SPECS[name], tuple(inputs), attrs)
    assert (np.isnan(w) == broken).all()
    for state in states:
        assert (np.isnan(state) == broken).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statistics_count_what_is_not_finite(compiled, value, dtype):
    rng = np.random.default_rng(5)
    w, g = (rng.standard_normal(3000).astype(dtype) for _ in range(2))
    table = np.zeros((updates.TABLE_ROWS, 3))
    table[: updates.DECAY] = 1.0
    table[[updates.L1, updates.L2], 1] = 0.1, 0.2
    starts = np.array([0, 1000, 2000])
    g[5::10] = value
    g[2000:] = 1.0
    w[1500] = value  # of a segment with penalties: its gradient and its penalty
    (rows,) = call(compiled, SPECS["gradient_statistics"], (updates.host_control(1, 0.1), table, starts, w, g))
    assert rows[updates.BROKEN].tolist() == [100.0, 101.0, 0.0]
    assert np.isnan(rows[updates.SQUARES, :2]).all() and rows[updates.SQUARES, 2] == 1000.0
    assert np.isnan(rows[updates.PENALTIES, 1]) and not rows[updates.PENALTIES, [0, 2]].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*RULES, "average_update"])
def test_a_team_gives_the_bits_of_one_thread(compiled, monkeypatch, name, dtype):
    from deepbabysit.runtime import threads

    spec = SPECS[name]
    rule = name if name in RULES else "sgd_update"
    inputs, attrs = draw(rule, dtype, (1, 16, 33, 500, 7, 128, 64, 3, 1000, 9), clip_value=0.4)
    if name != rule:
        inputs, attrs = [inputs[0], *inputs[4:6]], {"decay": 0.9}
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "count", lambda count=count: count)
        for inplace in (False, True):
            arrays = [x.copy() for x in inputs]
            outs = tuple(arrays[place] for _, place in spec.inplace) if inplace else None
            results.append([out.tobytes() for out in call(compiled, spec, tuple(arrays), attrs, outs)])
    assert all(found == results[0] for found in results)
