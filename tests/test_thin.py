"""Products of few rows, workers that serve programs, and weights that are updated right after the product."""

import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("numba")

from llvmlite import ir

import deepbabysit as db
from deepbabysit.autograd import replay
from deepbabysit.runtime import record, threads
from deepbabysit.runtime.subnormals import flushed
from deepbabysit_numpy.compiled import thin
from deepbabysit_numpy.compiled.code.registers import tile_rows
from deepbabysit_numpy.compiled.loading import Compiled
from deepbabysit_numpy.compiled.team import TEAM
from deepbabysit_numpy.program import crew, fusing, machine
from deepbabysit_numpy.program import rows as make
from deepbabysit_numpy.program.crew import Crew, table_of
from deepbabysit_numpy.program.machine import Rows

HEIGHT = tile_rows(3)


@pytest.fixture
def two(monkeypatch):
    """Products are divided as on two cores."""
    monkeypatch.setattr(threads, "_CHOSEN", [2])


def rooms(x, y):
    return tuple([np.full(form.shape, np.nan, form.dtype) for form in thin.rooms_of(x, y, True)])


# -- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("inner", "columns"), [(300, 48), (129, 257), (1000, 65), (67, 784)])
@pytest.mark.parametrize("tiles", [1, 4, 8])
def test_products_of_few_rows(monkeypatch, dtype, count, inner, columns, tiles):
    monkeypatch.setattr(threads, "_CHOSEN", [count])
    monkeypatch.setitem(thin.LEAST, "thin", 1)
    monkeypatch.setitem(thin.LEAST, "thin part", 1)
    rows = HEIGHT * tiles
    assert thin.thin(rows, inner, columns)
    rng = np.random.default_rng(columns)
    x, w, g = (rng.standard_normal(s).astype(dtype) for s in ((rows, inner), (inner, columns), (rows, columns)))
    y, by_x, by_w = (np.full(s, np.nan, dtype) for s in ((rows, columns), (rows, inner), (inner, columns)))
    thin.multiply(x, w, y, rooms(x, w))
    thin.multiply(g, w.T, by_x, rooms(g, w.T))
    thin.multiply(x.T, g, by_w, ())
    wide = [a.astype(np.float64) for a in (x, w, g)]
    near = 3e-6 if dtype == np.float32 else 1e-14
    for found, expected in ((y, wide[0] @ wide[1]), (by_x, wide[2] @ wide[1].T), (by_w, wide[0].T @ wide[2])):
        size = np.sqrt(max(inner, columns))
        assert np.abs(found - expected).max() < near * size * 4, np.abs(found - expected).max()


def test_nan_and_infinity_pass_through(two):
    x, w = np.ones((HEIGHT * 4, 512), np.float32), np.ones((512, 96), np.float32)
    x[1, 3], w[5, 7] = np.nan, np.inf
    y = np.empty((HEIGHT * 4, 96), np.float32)
    thin.multiply(x, w, y, rooms(x, w))
    expected = x @ w
    assert np.array_equal(np.isnan(y), np.isnan(expected)) and np.array_equal(np.isinf(y), np.isinf(expected))


def test_what_lies_otherwise_goes_to_blas(two):
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((HEIGHT * 4, 1024)).astype(np.float32)
    x, w = wide[:, ::2], rng.standard_normal((512, 96)).astype(np.float32)
    y = np.empty((HEIGHT * 4, 96), np.float32)
    thin.multiply(x, w, y, rooms(x, w))
    assert y.tobytes() == np.matmul(x, w).tobytes()


def test_rooms_of_another_call_are_not_used(two):
    x, w = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    y = np.empty((3, 5), np.float32)
    thin.multiply(x, w, y, (np.empty(7, np.float32),))
    assert (y == 4).all()


# -- the crew ----------------------------------------------------------------------------------------------------------


def shared(mine, out, parts):
    """Return rows in which each part of a crew adds 1 to its elements."""
    ones = np.ones_like(out)
    lists = [Rows([make.native("rules", "average", (p, parts, out, ones, 1.0))]) for p in range(parts)]
    table = table_of(lists)
    return Rows([mine.row(table, parts)]), (lists, table, ones)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_all_parts_run_whoever_is_awake(parts):
    mine = Crew()
    out = np.zeros(1000, np.float32)
    rows, kept = shared(mine, out, parts)
    for wake in (False, True, True, False):
        out[:] = 0
        if wake:
            mine.call(parts - 1)
            time.sleep(0.0002)
        with flushed():
            assert rows() == 0
        assert (out == 1).all()
    slept(mine)  # when nothing comes
    assert kept


def test_a_worker_that_slept_watches_again():
    mine = Crew()
    for _ in range(3):
        mine.call(1)
        mine._memory[crew._PATIENCE] = 1 << 40
        time.sleep(0.01)
        assert mine._memory[crew._AWAKE :: 8].any()
        mine._memory[crew._PATIENCE] = 1
        slept(mine)


def slept(mine):
    """Wait until nobody watches."""
    end = time.perf_counter() + 20
    while mine._memory[crew._AWAKE :: 8].any():
        assert time.perf_counter() < end
        time.sleep(0.001)


def test_a_team_gets_a_worker_that_watches_at_once(two):
    mine = Crew()
    mine.call(1)
    mine._memory[crew._PATIENCE] = 1 << 40
    out = np.zeros(64, np.float32)
    average = Compiled("rules", "average")
    for _ in range(2):  # the first call makes it ready
        TEAM.run(average, out.dtype, 2, out, np.ones_like(out), 1.0)
    assert (out == 1).all()
    mine._memory[crew._PATIENCE] = 1


def test_two_threads_with_one_crew():
    mine = Crew()
    failed = []

    def work():
        out = np.zeros(3000, np.float32)
        rows, kept = shared(mine, out, 3)
        for _ in range(300):
            out[:] = 0
            mine.call(2)
            if rows() or not (out == 1).all():
                failed.append(out.copy())
        del kept

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not failed


def failing():
    """Return a module with an adapter that reports a failure."""
    module = ir.Module(name="failing")
    function = ir.Function(module, machine._ADAPTER, "failing")
    ir.IRBuilder(function.append_basic_block()).ret(ir.IntType(32)(1))
    return module


@pytest.mark.parametrize("busy", [False, True])
def test_a_failing_part_is_told(busy):
    mine = Crew()
    out = np.zeros(64, np.float32)
    ones = np.ones_like(out)
    good = Rows([make.native("rules", "average", (0, 1, out, ones, 1.0))])
    bad = Rows([[machine.adapter("failing", failing)]])
    assert bad() == 1
    table = table_of([good, bad])
    rows = Rows([mine.row(table, 2)])
    mine._memory[crew._BUSY] = busy  # another thread has it: all parts run here
    assert rows() == 1
    assert (out == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_run_in_a_forked_child():
    out = np.zeros(1000, np.float32)
    rows, kept = shared(crew.CREW, out, 2)
    crew.CREW.call(1)
    assert rows() == 0
    child = os.fork()
    if not child:
        code = 1
        try:
            out[:] = 0
            for _ in range(20):
                crew.CREW.call(1)
                code = int(rows() != 0)
            code = code or int(not (out == 1).all())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kept


# -- whole steps -------------------------------------------------------------------------------------------------------


def steps(
    programs, monkeypatch, sizes=(256, 192, 96, 10), rows=32, look=None, optimizer=None, count=6, dtype="float32",
    before=(), shape=None,
):
    """Return weights, states and gradients after some steps, and the programs; `before`: layers before the dense."""
    made = []
    finish = record.Recorder.finish

    def kept(self, *given):
        made.append(finish(self, *given))
        return made[-1]

    monkeypatch.setattr(record, "PROGRAM_CALLS", 1 if programs else 1 << 40)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
    monkeypatch.setattr(replay.Recorder, "finish", kept)
    db.set_seed(4)
    dense = [db.layers.Dense(n, "relu") for n in sizes[1:-1]]
    model = db.Sequential([*[make() for make in before], *dense, db.layers.Dense(sizes[-1])])
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((rows, *(shape or sizes[:1]))).astype(dtype) for _ in range(count)]
    ys = [rng.integers(0, sizes[-1], rows) for _ in range(count)]
    model(db.tensor(xs[0]))
    chosen = (optimizer or (lambda p: db.optimizers.Adam(p, 0.01)))(model.parameters())

    @db.record
    def step(x, y):
        with db.training():
            loss = db.losses.cross_entropy(y, model(x))
        chosen.zero_grad()
        loss.backward()
        if look is not None:
            look(model)
        chosen.step()
        return loss

    losses = [float(step(db.tensor(x), db.tensor(y)).item()) for x, y in zip(xs, ys, strict=True)]
    found = [p.data.tobytes() for p in model.parameters()] + [p.grad.data.tobytes() for p in model.parameters()]
    states = [flat.states[name].tobytes() for flat in chosen._flats for name in flat.states]
    return (losses, found, states), [r.program for r in made]


OPTIMIZERS = {
    "adam": None,
    "adamw": lambda p: db.optimizers.AdamW(p, 0.01, weight_decay=0.1),
    "clipped value": lambda p: db.optimizers.Adam(p, 0.01, clip_value=1e-3),
    "clipped norm": lambda p: db.optimizers.Adam(p, 0.01, clip_norm=0.1),
    "momentum": lambda p: db.optimizers.SGD(p, 0.05, momentum=0.9),
    "averaged": lambda p: db.optimizers.Adam(p, 0.01, ema=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 2])
def test_programs_give_the_bits_of_replays(monkeypatch, count, name):
    monkeypatch.setattr(threads, "_CHOSEN", [count])
    monkeypatch.setitem(thin.LEAST, "thin part", 1 << 15)
    seen = []
    fuse = fusing.fuse
    monkeypatch.setattr("deepbabysit_numpy.program.building.fuse", lambda calls: seen.append(fuse(calls)) or seen[-1])
    expected, none = steps(False, monkeypatch, optimizer=OPTIMIZERS[name])
    found, programs = steps(True, monkeypatch, optimizer=OPTIMIZERS[name])
    assert found == expected
    assert not any(none) and all(programs)
    # two weight matrices are large enough, and their update is the third call that is made another way
    fused = {"adam": 3, "adamw": 3, "averaged": 3, "clipped value": 3}.get(name, 0)
    assert [len(calls) for calls in seen] == [fused]
    assert all((max((part[3] for part in program._parts), default=0) > 0) == (count > 1) for program in programs)


def test_gradients_that_somebody_reads_in_the_step_are_made_before(monkeypatch, two):
    seen = []
    fuse = fusing.fuse
    monkeypatch.setattr("deepbabysit_numpy.program.building.fuse", lambda calls: seen.append(fuse(calls)) or seen[-1])
    norms = []

    def look(model):
        norms.append((model.parameters()[0].grad * 2.0).sum())

    expected, _ = steps(False, monkeypatch, look=look)
    found, _ = steps(True, monkeypatch, look=look)
    assert found == expected
    # the first layer's gradient has a reader: only the second is fused
    assert [len(calls) for calls in seen] == [2]


def test_the_same_bits_run_after_run(monkeypatch, two):
    first, _ = steps(True, monkeypatch)
    assert all(steps(True, monkeypatch)[0] == first for _ in range(3))


def test_steps_of_double_precision(monkeypatch, two):
    expected, _ = steps(False, monkeypatch, dtype="float64")
    assert steps(True, monkeypatch, dtype="float64")[0] == expected


def test_where_blas_has_the_threads_no_crew_is_woken(monkeypatch, two):
    monkeypatch.setitem(thin.LEAST, "packed", 1 << 62)
    expected, _ = steps(False, monkeypatch, sizes=(300, 256, 10), rows=100)
    found, programs = steps(True, monkeypatch, sizes=(300, 256, 10), rows=100)
    assert found == expected
    assert not any(part[3] for program in programs for part in program._parts)


IMAGES = (
    lambda: db.layers.Conv2D(16, 3, padding="same", activation="relu"),
    lambda: db.layers.MaxPool2D(2),
    db.layers.Flatten,
)


@pytest.mark.parametrize("rows", [32, 100])  # of 100 rows the dense layer's products are those of BLAS
def test_a_crew_shares_convolutions_that_a_team_shares(monkeypatch, two, rows):
    monkeypatch.setitem(thin.LEAST, "packed", 1 << 62)
    options = {"sizes": (0, 256, 10), "rows": rows, "before": IMAGES, "shape": (16, 16, 3)}
    expected, _ = steps(False, monkeypatch, **options)
    found, programs = steps(True, monkeypatch, **options)
    assert found == expected
    assert all(max(part[3] for part in program._parts) == 1 for program in programs)
