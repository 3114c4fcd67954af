"""Where Python enters a program: which inputs it takes, how they are copied, the crew, and the processor's mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from llvmlite import ir

import deepbabysit as db
from deepbabysit.runtime import record, subnormals, threads
from deepbabysit_numpy.compiled.team import TEAM
from deepbabysit_numpy.program import building, machine
from deepbabysit_numpy.program import rows as make
from deepbabysit_numpy.program.crew import ASLEEP, CREW, table_of
from deepbabysit_numpy.program.entry import Entry, readable
from deepbabysit_numpy.program.machine import Rows

DEVICE = db.devices()[0]


@pytest.fixture
def two_threads() -> Any:
    before = threads.count()
    db.set_num_threads(2)
    yield
    db.set_num_threads(before)


@pytest.fixture
def programs(monkeypatch) -> None:
    """Recordings become programs at their first replay."""
    monkeypatch.setattr(record, "PROGRAM_CALLS", 1)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)


def entry_of(slots: list[np.ndarray], team: bool = False) -> Entry:
    """Return an entry that copies its inputs, and does nothing else."""
    entry = Entry(slots)
    entry.kept = []  # type: ignore[attr-defined]
    rows, crew = building._inputs(entry, entry.kept, team)  # type: ignore[attr-defined]
    entry.work_off(Rows(rows), crew)
    return entry


def test_arrays_lie_in_memory_as_they_are_read():
    assert readable()


@given(
    st.lists(st.lists(st.integers(1, 7), max_size=4), min_size=1, max_size=3), st.sampled_from(["f4", "f8", "i8", "?"])
)
def test_inputs_of_the_kind_that_was_recorded_are_copied(shapes, dtype):
    rng = np.random.default_rng(0)
    slots = [np.zeros(shape, dtype) for shape in shapes]
    entry = entry_of(slots)
    given = [np.asarray(rng.standard_normal(shape) * 9).astype(dtype) for shape in shapes]
    assert entry.reads(*given) == 1
    assert not any(slot.any() for slot in slots)  # nothing is copied before the run
    assert entry.run() == 0
    assert [slot.tobytes() for slot in slots] == [array.tobytes() for array in given]
    for slot in slots:
        slot.fill(1)
    assert entry.run() == 0  # what was taken is taken once
    assert all((slot == 1).all() for slot in slots)


def others() -> dict[str, list[Any]]:
    x, y = np.ones((4, 6), "f"), np.zeros(4, np.int64)
    return {
        "shape": [np.ones((5, 6), "f"), y],
        "axes": [np.ones((4, 6, 1), "f"), y],
        "fewer axes": [np.ones(4, "f"), y],
        "dtype": [np.ones((4, 6), "d"), y],
        "byte order": [np.ones((4, 6), ">f4"), y],
        "the second": [x, np.zeros(4, np.int32)],
        "columns first": [np.asfortranarray(x), y],
        "a piece": [np.ones((4, 8), "f")[:, :6], y],
        "backwards": [x[::-1], y],
        "not aligned": [np.ones(4 * 6 * 4 + 1, np.uint8)[1:].view("f").reshape(4, 6), y],
        "a class of its own": [x.view(np.matrix), y],
        "no array": [[1.0] * 6, y],
        "too few": [x],
        "too many": [x, y, y],
        "none": [],
    }


@pytest.mark.parametrize("name", others())
def test_any_other_input_is_refused_and_nothing_is_taken(name):
    slots = [np.zeros((4, 6), "f"), np.zeros(4, np.int64)]
    entry = entry_of(slots)
    assert entry.reads(np.ones((4, 6), "f"), np.ones(4, np.int64)) == 1
    assert entry.reads(*others()[name]) == 0
    assert entry.run() == 0
    assert not any(slot.any() for slot in slots)


@given(
    st.lists(st.lists(st.integers(1, 7), max_size=3), min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 30),
    st.sampled_from(["f4", "f8", "i8", "?"]),
)  # fmt: skip
def test_rows_are_taken_from_where_they_lie(shapes, batch, rows, dtype):
    rng = np.random.default_rng(rows)
    slots = [np.zeros((batch, *shape), dtype) for shape in shapes]
    data = [np.asarray(rng.standard_normal((rows, *shape)) * 9).astype(dtype) for shape in shapes]
    order = rng.integers(0, rows, 2 * batch)
    entry = entry_of(slots)
    for numbers in (order[:batch], order[batch:]):
        assert entry.picks(numbers, *data) == 1
        assert entry.run() == 0
        assert [slot.tobytes() for slot in slots] == [array[numbers].tobytes() for array in data]
    for slot in slots:
        slot.fill(1)
    assert entry.run() == 0  # what was taken is taken once
    assert all((slot == 1).all() for slot in slots)


def other_rows() -> dict[str, list[Any]]:
    x, y, rows = np.ones((9, 6), "f"), np.ones(9, np.int64), np.arange(4)
    return {
        "fewer": [rows[:3], x, y],
        "more": [np.arange(5), x, y],
        "below the first": [rows - 1, x, y],
        "behind the last": [rows + 6, x, y],
        "behind the last of the second": [rows + 3, x, y[:6]],
        "numbers of another kind": [rows.astype(np.int32), x, y],
        "numbers apart": [np.arange(8)[::2], x, y],
        "numbers in two axes": [rows.reshape(2, 2), x, y],
        "a list": [[0, 1, 2, 3], x, y],
        "wider": [rows, np.ones((9, 7), "f"), y],
        "an axis more": [rows, np.ones((9, 6, 1), "f"), y],
        "dtype": [rows, x.astype("d"), y],
        "a piece": [rows, np.ones((9, 8), "f")[:, :6], y],
        "no numbers": [x, y],
        "too few": [rows, x],
        "none": [],
    }


@pytest.mark.parametrize("name", other_rows())
def test_any_other_rows_are_refused_and_nothing_is_taken(name):
    slots = [np.zeros((4, 6), "f"), np.zeros(4, np.int64)]
    entry = entry_of(slots)
    assert entry.picks(np.arange(4), np.ones((9, 6), "f"), np.ones(9, np.int64)) == 1
    assert entry.picks(*other_rows()[name]) == 0
    assert entry.run() == 0
    assert not any(slot.any() for slot in slots)


def test_rows_of_memory_in_common_with_a_slot_are_left_to_numpy():
    room = np.arange(40.0).reshape(10, 4)
    entry = entry_of([room[3:5]])
    assert entry.picks(np.array([1, 0]), room) == 0
    assert entry.picks(np.array([1, 0]), room[5:]) == 1
    assert entry.run() == 0
    assert room[3:5].tolist() == room[[6, 5]].tolist()


@given(st.lists(st.integers(0, 2), max_size=12), st.integers(0, 3))
def test_a_large_input_is_read_where_it_lies(ways, aside):
    """Rows that read the second half of it, in any order of ways in which it is given."""
    slot, out, wrong = np.zeros(32), np.zeros(16), np.zeros(40)
    entry = Entry([slot], [0], [(out.ctypes.data, out.ctypes.data + out.nbytes)])
    rows = Rows([entry.follow(0, ()), *(row for some in entry.fetching(False) for row in some),
                 machine.bytes_row(out.ctypes.data, slot[16:].ctypes.data, out.nbytes)])  # fmt: skip
    entry.work_off(rows, 0)
    rows.numbers[0][:] = entry.follow(0, rows.numbers[2:])
    data = np.random.default_rng(aside).standard_normal((50, 1))
    for turn, way in enumerate(ways):
        given = np.arange(32.0) + turn
        if way == 0:
            assert entry.reads(given) == 1
        elif way == 1:
            given = data[turn : turn + 32, 0].copy()
            entry.reads(wrong[aside : aside + 32] if aside % 2 else out)  # refused: not on 16 bytes, or too short
            slot[:] = given
        else:
            numbers = np.random.default_rng(turn).permutation(50)[:32]
            assert entry.picks(numbers, data.reshape(50)) == 1
            given = data[numbers, 0]
        before = slot.copy()
        assert entry.run() == 0
        assert out.tolist() == given[16:].tolist()
        assert (slot == (given if way == 2 else before)).all()  # nothing is copied that is read elsewhere


def test_a_large_input_that_the_step_writes_is_not_read_where_it_lies():
    slot, room = np.zeros(8), np.zeros(64)
    room = room[(-room.ctypes.data % 16) // 8 :]
    begin = room.ctypes.data
    entry = Entry([slot], [0], [(begin + 64, begin + 128), (begin + 256, begin + 264)])
    found = {at: entry.reads(room[at : at + 8]) for at in range(0, 42, 2)}
    assert found == {at: int(not (0 < at < 16 or 24 < at < 33)) for at in found}
    assert entry.reads(room[1:9]) == 0  # no address that compilers may count on


@given(st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=3), st.sampled_from(["f4", "f8", "i8"]))
def test_results_are_copied_into_arrays_of_their_kind(shapes, dtype):
    results = [np.asarray(np.random.default_rng(n).standard_normal(s) * 9).astype(dtype) for n, s in enumerate(shapes)]
    entry = Entry(results)
    arrays = [np.zeros_like(result) for result in results]
    assert entry.gives(*arrays) == 1
    assert [a.tobytes() for a in arrays] == [r.tobytes() for r in results]
    assert entry.gives(*arrays[1:]) == entry.gives(*arrays, arrays[0]) == 0
    assert entry.gives(*arrays[:-1], np.zeros((*shapes[-1], 2), dtype)) == 0


def test_memory_in_common_with_a_slot_is_left_to_numpy():
    room = np.arange(40.0)
    entry = entry_of([room[8:24]])
    assert entry.reads(room[8:24]) == 1  # itself
    assert entry.run() == 0
    assert entry.reads(room[9:25]) == entry.reads(room[:16]) == 0
    assert entry.reads(room[24:]) == 1  # beside it
    assert entry.run() == 0
    assert room.tolist() == [*range(8), *range(24, 40), *range(24, 40)]


@pytest.mark.parametrize("shape", [(64, 784), (32, 28, 28), (40, 801), (3, 70_000)])
def test_threads_share_the_copy_of_a_large_input(two_threads, shape):
    slots = [np.zeros(shape, "f"), np.zeros(shape[0], np.int64)]
    entry = Entry(slots)
    assert [len(rows) for rows in entry.fetching(True)] == [2, 1]
    assert [len(rows) for rows in entry.fetching(False)] == [1, 1]
    entry = entry_of(slots, True)
    x, y = np.random.default_rng(1).standard_normal(shape).astype("f"), np.arange(shape[0])
    assert entry.reads(x, y) == 1
    assert entry.run(True) == 0
    assert slots[0].tobytes() == x.tobytes()
    assert slots[1].tobytes() == y.tobytes()


def test_a_crew_that_sleeps_is_called_before_anything_is_run(two_threads):
    ones, out = np.ones(8), np.zeros(8)
    half = [make.elementwise(np.add, (out.dtype,) * 3, [a, ones[:4], a]) for a in (out[:4], out[4:])]
    parts = [Rows([row]) for row in half if row is not None]
    table = table_of(parts)
    entry = Entry()
    entry.work_off(Rows([CREW.row(table, 2)]), 1)
    for worker in TEAM._workers:
        worker.settle()
    assert entry.run() == ASLEEP
    assert not out.any()
    building._settle(entry.run, 1, ASLEEP)
    assert out.tolist() == [1.0] * 8
    assert entry.run(True) == 0  # whoever is awake
    assert out.tolist() == [2.0] * 8


def test_the_crew_that_watches_is_found(two_threads):
    entry = Entry()
    entry.work_off(Rows([machine.bytes_row(0, 0, 0)]), 1)
    found = []
    for _ in range(200):  # a worker falls asleep after a millisecond, and the caller may have come to its core
        CREW.call(1)
        found.append(entry.run())
    assert set(found) <= {0, ASLEEP}
    assert 0 in found


@pytest.mark.skipif(not subnormals.supported(), reason="the processor's mode cannot be set here")
def test_rows_run_in_the_mode_and_it_is_left_as_it_was():
    x, out = np.full(32, 1e-39, "f"), np.ones(32, "f")
    row = make.elementwise(np.multiply, (x.dtype,) * 3, [x, np.full(32, 1.0, "f"), out])
    assert row is not None
    entry = Entry()
    entry.work_off(Rows([row]), 0)
    assert entry.run() == 0
    assert not out.any()
    assert not subnormals.in_force()
    out.fill(1)
    with subnormals.flushed():
        assert entry.run() == 0
        assert subnormals.in_force()
    assert not out.any()


def test_a_row_that_fails_is_counted_from_one():
    def failing() -> ir.Module:
        module, number = ir.Module(name="failing"), ir.IntType(32)
        function = ir.Function(module, ir.FunctionType(number, [ir.IntType(64).as_pointer()]), "failing")
        ir.IRBuilder(function.append_basic_block()).ret(number(7))
        return module

    entry = Entry()
    fine = machine.bytes_row(0, 0, 0)
    entry.work_off(Rows([fine, [machine.adapter("failing", failing)], fine]), 0)
    assert entry.run() == 2
    with pytest.raises(RuntimeError, match="a compiled kernel of a recorded step failed"):
        building._settle(entry.run, 0, 2)


def test_results_stay_as_they_were_returned(programs):
    """More of them than are made at once, single ones and pairs, small ones and large ones."""
    weights = db.tensor(np.ones(3000, "f"), requires_grad=True)
    single = db.record(lambda x: (x * weights).sum())
    pair = db.record(lambda x: (x.sum(), x * 2.0))
    large = db.record(lambda x: x * weights)
    nothing = db.record(lambda x: None)
    batches = [db.tensor(np.full(3000, n, "f")) for n in range(40)]
    sums, pairs = [single(x) for x in batches], [pair(x[:6]) for x in batches]
    wide = [large(x) for x in batches]
    assert [s.item() for s in sums] == [3000.0 * n for n in range(40)]
    assert [(s.item(), d.tolist()) for s, d in pairs] == [(6.0 * n, [2.0 * n] * 6) for n in range(40)]
    assert all((w.numpy() == n).all() for n, w in enumerate(wide))
    assert [nothing(x) for x in batches[:4]] == [None] * 4
    assert sums[0].data is not sums[1].data


def test_replays_of_changing_inputs_are_those_of_eager_steps(programs):
    """Arrays that the program takes, others that are written for it, and other shapes, in turns."""
    rng = np.random.default_rng(2)
    whole = rng.standard_normal((16, 12)).astype("f")
    batches = [rng.standard_normal((8, 12)).astype("f") for _ in range(4)]
    batches += [whole[::2], whole[:8], batches[0][::-1], whole[:5], batches[1], whole[3:8], batches[2], batches[2]]

    def losses(recorded: bool) -> list[float]:
        db.set_seed(5)
        model = db.Sequential([db.layers.Dense(6, "tanh", input_shape=12), db.layers.Dropout(0.2), db.layers.Dense(3)])
        optimizer = db.optimizers.Adam(model.parameters(), 0.01)

        def step(x: Any) -> Any:
            with db.training():
                loss = (model(x) ** 2.0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = db.record(step) if recorded else step
        found = []
        for number, batch in enumerate([*batches, *batches]):
            if number == 14:
                optimizer.learning_rate = 0.1
            if number == 18:
                optimizer.set(beta_1=0.5)
            found.append(run(db.Tensor(batch, DEVICE)).item())
        return found

    assert losses(True) == losses(False)
