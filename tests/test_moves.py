"""Copies that a recording spares: gradients are made where the optimizer wants them, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepbabysit as db
from deepbabysit.runtime import chains, moves, record

DEVICE = db.devices()[0]


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[tuple[int, int]]:
    """Every array belongs to the pool, no step becomes a program; returns how many copies were there and stayed."""
    counts: list[tuple[int, int]] = []
    spare = moves.spare_copies

    def counted(calls: Any, copies: Any, private: Any) -> Any:
        found = spare(calls, copies, private)
        counts.append((sum(copies), sum(copies[place] for place in found[1])))
        return found

    monkeypatch.setattr("deepbabysit.runtime.buffers.spare_copies", counted)
    monkeypatch.setattr(chains, "LEAST", 1 << 40)
    monkeypatch.setattr(record, "PROGRAM_CALLS", 10**9)
    return counts


def trained(build: Any, steps: int = 5, hook: Any = None, recorded: bool = True) -> list[bytes]:
    """Return weights and losses after some steps of a network; each step sees other values."""
    rng = np.random.default_rng(0)
    model = build()
    if hook is not None:
        model.parameters()[0].register_hook(hook)
    optimizer = db.optimizers.Adam(model.parameters(), 0.01)

    def step(x: Any, y: Any) -> Any:
        loss = ((model(x) - y) ** 2.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = db.record(step) if recorded else step
    found = []
    for _ in range(steps):
        x, y = (db.tensor(rng.standard_normal((40, n)).astype("f")) for n in (300, 64))
        found.append(np.asarray(run(x, y).numpy()).tobytes())
    return found + [p.numpy().tobytes() for p in model.parameters()]


def dense() -> Any:
    db.set_seed(1)
    return db.Sequential([
        db.layers.Dense(256, "relu", input_shape=(300,)), db.layers.Dense(256, "tanh"), db.layers.Dense(64),
    ])  # fmt: skip


def test_gradients_of_kernels_are_made_in_the_flat_buffer(made):
    assert trained(dense) == trained(dense, recorded=False)
    copies, stayed = made[0]
    assert copies == 6 and stayed == 3  # small arrays (biases) are not the pool's


def test_a_gradient_that_somebody_changes_is_right(made):
    hook = lambda gradient: gradient * 0.5  # noqa: E731
    assert trained(dense, hook=hook) == trained(dense, hook=hook, recorded=False)


def test_a_weight_that_is_used_twice_is_right(made):
    def build() -> Any:
        db.set_seed(1)
        shared, x = db.layers.Dense(300, "relu"), db.Input((300,))
        return db.Model(x, db.layers.Dense(64)(shared(shared(x))))

    assert trained(build) == trained(build, recorded=False)


# -- lists of calls ----------------------------------------------------------------------------------------------------


def memory(count: int) -> list[np.ndarray]:
    room = np.zeros(count * 16 + 16, "f")
    start = -room.ctypes.data % 64 // 4
    return [room[start + 16 * i : start + 16 * (i + 1)] for i in range(count)]


def copy(outs: Any, x: Any) -> None:
    np.copyto(outs[0], x)


def double(outs: Any, x: Any) -> None:
    np.multiply(x, 2.0, outs[0])


def test_a_copy_goes_where_its_source_is_made():
    x, made, target = memory(3)
    calls = [(double, (made,), (x,), ()), (copy, (target,), (made,), ())]
    found, kept = moves.spare_copies(calls, [False, True], lambda a: a is made)
    assert kept == [0] and found[0][1][0] is not made
    x[:] = 3.0
    record.run_calls(DEVICE, found)
    assert (target == 6.0).all() and not made.any()


@pytest.mark.parametrize("why", ["read between", "read later", "target read", "target written", "not private", "input"])
def test_copies_that_somebody_would_miss_stay(why):
    x, made, target, other = memory(4)
    calls = [(double, (made,), (x,), ()), (copy, (target,), (made,), ())]
    private = lambda a: a is made and why != "not private"  # noqa: E731
    if why == "read between":
        calls.insert(1, (double, (other,), (made,), ()))
    elif why == "read later":
        calls.append((double, (other,), (made,), ()))
    elif why == "target read":
        calls.insert(1, (double, (other,), (target,), ()))
    elif why == "target written":
        calls.insert(1, (double, (target,), (x,), ()))
    elif why == "input":
        calls[0] = (double, (made,), (target,), ())
    flags = [run is copy for run, *_ in calls]
    assert moves.spare_copies(calls, flags, private) == (calls, list(range(len(calls))))


@settings(max_examples=200)
@given(st.data())
def test_any_list_of_calls_gives_the_same_values(data):
    """What nobody may miss (here: the even places) holds the same with and without the copies that were spared."""
    arrays = memory(6)
    number = st.integers(0, 5)
    calls = []
    for _ in range(data.draw(st.integers(2, 9))):
        run, out, of = data.draw(st.sampled_from([copy, double])), data.draw(number), data.draw(number)
        calls.append((run, (arrays[out],), (arrays[of],), ()))
    private = lambda a: any(a is arrays[i] for i in (1, 3, 5))  # noqa: E731
    flags = [run is copy for run, *_ in calls]
    # private memory is never read before it is written
    written: set[int] = set()
    for _, (out,), (of,), _ in calls:
        if private(of) and id(of) not in written:
            return
        written.add(id(out))
    results = []
    for listed in (calls, moves.spare_copies(calls, flags, private)[0]):
        for i, array in enumerate(arrays):
            array[:] = i + 1.0
        record.run_calls(DEVICE, listed)
        results.append([arrays[i].tolist() for i in (0, 2, 4)])
    assert results[0] == results[1]
