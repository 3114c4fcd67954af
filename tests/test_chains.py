"""Elementwise chains of recorded steps: one pass over memory, the same bits, nothing held that nobody reads."""

from __future__ import annotations

import functools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepbabysit as db
from deepbabysit.autograd import replay
from deepbabysit.kernels import SPECS
from deepbabysit.runtime import chains, record
from deepbabysit.runtime.funnel import find_plan

DEVICE = db.devices()[0]


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[record.Recording]:
    """Chains of every size are merged, in small pieces; returns the recordings that are made."""
    recordings: list[record.Recording] = []
    finish = record.Recorder.finish

    def kept(self: Any, *given: Any) -> record.Recording:
        recordings.append(finish(self, *given))
        return recordings[-1]

    monkeypatch.setattr(chains, "PIECE", 640)
    monkeypatch.setattr(chains, "LEAST", 0)
    monkeypatch.setattr(record, "PROGRAM_CALLS", 10**9)
    monkeypatch.setattr(replay.Recorder, "finish", kept)
    return recordings


def replayed(step: Any, arrays: list[np.ndarray]) -> list[bytes]:
    """Return the bits of what the third run, a replay, gives; the first two saw other values."""
    run = replay.Replay(step, DEVICE)
    for scale in (0.25, 0.5):
        run([(a * scale).astype(a.dtype) for a in arrays])
    return [t.numpy().tobytes() for t in run(arrays)]


def eager(step: Any, arrays: list[np.ndarray]) -> list[bytes]:
    result = step(*[db.tensor(a) for a in arrays])
    return [t.numpy().tobytes() for t in (result if isinstance(result, tuple) else (result,))]


# -- every operation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3 * 640 + 77, 20_011])  # for plain kernels, and for compiled ones
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(chains.ELEMENTWISE))
def test_pieces_have_the_bits_of_the_whole(name, dtype, size):
    rng = np.random.default_rng(0)
    spec = SPECS[name]
    count = spec.reference.__code__.co_argcount - 1
    inputs = []
    for i in range(count):
        if name.startswith("logical") or (name == "where" and i == 0):
            inputs.append(rng.integers(0, 2, size).astype(bool))
            continue
        values = rng.standard_normal(size) * 3
        if name in ("log", "sqrt", "power", "log1p"):
            values = np.abs(values)
        inputs.append(values.astype(dtype))
        inputs[-1][::97] = 0.0
    attrs = {"dtype": np.dtype("float64")} if name == "astype" else {}
    plan = find_plan(DEVICE, spec, tuple(inputs), attrs)
    outs = tuple(np.empty(f.shape, f.dtype) for f in plan.outputs)
    again = np.empty_like(outs[0])
    scratch = tuple(np.empty(f.shape, f.dtype) for f in plan.scratch)
    copy = find_plan(DEVICE, SPECS["copy"], (outs[0],), {})
    calls = [(plan.run, outs, tuple(inputs), scratch), (copy.run, (again,), (outs[0],), ())]
    with np.errstate(all="ignore"):
        record.run_calls(DEVICE, calls)
        expected = [a.tobytes() for a in (*outs, again)]
        for a in (*outs, again):
            a[...] = 0
        (merged,) = chains.merge_chains(calls, [True, True], lambda a: False, DEVICE)
        record.run_calls(DEVICE, [merged])
    assert [a.tobytes() for a in (*outs, again)] == expected


def test_the_names_are_operations_and_none_is_missing():
    assert all(name in SPECS for name in chains.ELEMENTWISE)
    alike = {spec.name for spec in SPECS if spec.infer.__qualname__.startswith("elementwise") and not spec.view}
    assert alike <= chains.ELEMENTWISE


# -- chains of users ---------------------------------------------------------------------------------------------------

BINARY = ["add", "subtract", "multiply", "maximum", "minimum"]
UNARY = ["tanh", "exp", "negative", "absolute", "sigmoid", "relu", "sin", "gelu"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=40)
@given(st.data())
def test_random_expressions_have_the_same_bits(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shape = data.draw(st.sampled_from([(20_011,), (150, 130), (40, 20, 30), (3, 9000)]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    arrays = [rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[-1:]).astype(dtype)]
    steps = [
        (data.draw(st.sampled_from([*BINARY, *UNARY, "number", "row", "turn", "sum"])), *data.draw(
            st.tuples(st.integers(0, 100), st.integers(0, 100))
        ))
        for _ in range(data.draw(st.integers(2, 9)))
    ]
    gradients = data.draw(st.booleans())
    weight = db.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)

    def step(x: Any, row: Any) -> Any:
        found = [x * weight if gradients else x + 1.0]
        for what, i, j in steps:
            a, b = found[i % len(found)], found[j % len(found)]
            if what in BINARY:
                found.append(getattr(db.ops, what)(a, b))
            elif what in UNARY:
                found.append(getattr(db.ops, what)(a))
            elif what == "number":
                found.append(a * 0.5 + 1.5)
            elif what == "row":
                found.append(a * row)
            elif what == "turn":
                turned = db.ops.flip(a, axis=(0,))
                found.append(turned + b)
            else:
                found.append(a - a.mean())
        if not gradients:
            return found[-1], found[len(found) // 2]
        weight.grad = None
        found[-1].sum().backward()
        return found[-1], weight.grad

    assert replayed(step, arrays) == eager(step, arrays)


def test_a_chain_is_one_call(made):
    x, y = (np.random.default_rng(n).standard_normal(20_000).astype("f") for n in range(2))
    step = lambda x, y: ((x * y + 1.0) * x - y).abs().sqrt()  # noqa: E731
    assert replayed(step, [x, y]) == eager(step, [x, y])
    assert len(made[0]) == 1


def test_what_is_read_at_another_place_ends_the_chain(made):
    x = np.random.default_rng(0).standard_normal((150, 150)).astype("f")

    def step(x: Any) -> Any:
        y = x * 2.0 + 1.0
        return y.T * 0.5 + y

    assert replayed(step, [x]) == eager(step, [x])
    assert len(made[0]) == 2


def test_results_inside_a_chain_are_kept():
    x = np.random.default_rng(0).standard_normal(20_000).astype("f")

    def step(x: Any) -> Any:
        y = x * 2.0
        z = y + 1.0
        return z * y, y, z.sum()

    assert replayed(step, [x]) == eager(step, [x])


def test_values_that_are_changed_in_place_follow(made):
    w = db.Parameter(np.zeros(20_000, "f"), DEVICE)

    def step(x: Any) -> Any:
        y = x * 2.0 + 1.0
        with db.no_grad():
            w.assign(w * 0.5 + y)
        return w * 1.0

    def run(enabled: bool) -> list[bytes]:
        w.assign(np.zeros(20_000, "f"))
        call = replay.Replay(step, DEVICE, enabled)
        return [call([np.full(20_000, n, "f")])[0].numpy().tobytes() for n in range(6)]

    assert run(True) == run(False)


def test_small_arrays_are_left_alone(made, monkeypatch):
    monkeypatch.setattr(chains, "LEAST", 1 << 20)
    x = np.ones(3000, "f")
    replayed(lambda x: x * 2.0 + 1.0 - x, [x])
    assert len(made[0]) == 3


# -- memory ------------------------------------------------------------------------------------------------------------


def held(recording: record.Recording) -> int:
    """Return the bytes of the arrays that a recording's calls name."""
    spans = {chains.extent(a) for call in recording._calls for group in call[1:] for a in group}
    return sum(end - begin for begin, end in spans)


def test_buffers_that_die_inside_a_chain_are_not_held(made, monkeypatch):
    monkeypatch.setattr(chains, "PIECE", 32 * 1024)
    x = np.random.default_rng(0).standard_normal(300_000).astype("f")

    def step(x: Any) -> Any:
        y = x * 2.0
        for _ in range(6):
            y = (y + x).tanh() * 0.5 - x
        return y.sum()

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run = replay.Replay(step, DEVICE)
        with db.no_grad():
            for _ in range(3):
                run([x])
        DEVICE.backend.free()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # the slot of x and what is summed; pieces, views and lists are a few hundred KB
    assert after - before < 2 * x.nbytes + 900_000
    assert held(made[0]) < 2 * x.nbytes + 100


def test_every_chain_call_is_known_to_be_elementwise():
    """A kernel that ran a whole array differently from its parts would show here at its real size."""
    x = np.random.default_rng(0).standard_normal(40_013).astype("f")
    step = functools.partial(lambda x: db.ops.softplus(db.ops.silu(x) * 2.0) + db.ops.erf(x))
    assert replayed(step, [x]) == eager(step, [x])
