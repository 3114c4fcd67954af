"""A recorded step as one graph: the same bits as its calls, nothing of it in memory that others use."""

import gc

import numpy as np
import pytest
from emulated_cupy import call_library
from emulated_memory import POOL, EmulatorError

import deepbabysit as db
from deepbabysit.runtime.notices import NOTICES


@pytest.fixture
def programs(cuda, monkeypatch):
    """What has been captured in this test."""
    made = []
    before = cuda.backend.program

    def capture(device, calls, times=1):
        program = before(device, calls, times)
        if times == 1:
            made.append(program)
        return program

    monkeypatch.setattr(cuda.backend, "program", capture)
    return made


def _mlp(**layer):
    return db.Sequential([
        db.layers.Dense(24, activation="relu"), db.layers.Dropout(0.3), db.layers.Dense(16, activation="relu", **layer),
        db.layers.Dense(4),
    ])


def _fit(device, replay=True, epochs=3, **options):
    db.set_seed(5)
    model = _mlp()
    rate = db.schedules.cosine(0.01, steps=40)
    model.compile(
        db.optimizers.Adam(rate, **options), loss="cross_entropy", metrics=["accuracy"], replay=replay
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 10)).astype(np.float32)
    y = x[:, :4].argmax(1)
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, device=device, babysit=False)
    return history, [p.numpy().copy() for p in model.parameters()]


def _same(first, second):
    assert first[0].history == second[0].history
    for a, b in zip(first[1], second[1], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def eager(cuda):
    return _fit(cuda, replay=False)


def test_a_graph_gives_the_bits_of_its_calls(cuda, programs, eager):
    replayed = _fit(cuda)
    assert len(programs) == 1 and programs[0] is not None
    _same(eager, replayed)


def _fewest(programs):
    return min(([node.name for node in program.graph.nodes] for program in programs), key=len)


def _worked_example(device, replay, widths, inputs, epochs, babysit, dropout=0.0, l1=0.0):
    db.set_seed(3)
    layers = []
    for width in widths:
        penalty = db.regularizers.l1(l1) if l1 else None
        layers.append(db.layers.Dense(width, activation="relu", kernel_regularizer=penalty))
        if dropout:
            layers.append(db.layers.Dropout(dropout))
    model = db.Sequential([*layers, db.layers.Dense(10)])
    model.compile(db.optimizers.Adam(1e-3), loss="cross_entropy", metrics=["accuracy"], replay=replay)
    x = np.random.default_rng(0).normal(size=(384, inputs)).astype(np.float32)
    history = model.fit(
        x, x[:, :10].argmax(1), batch_size=128, epochs=epochs, verbose=0, device=device, babysit=babysit
    )
    return history, [p.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize(
    ("babysit", "dropout", "l1", "nodes"), [(False, 0.0, 0.0, 13), (True, 0.1, 1e-3, 14)]
)
def test_nodes_of_the_worked_example(merging, programs, monkeypatch, babysit, dropout, l1, nodes):
    """784-512-256-10 with Adam and accuracy at batch 128: launches of one step, on a GPU of 132 processors."""
    monkeypatch.setattr(merging.backend, "most_blocks", 132 * 16)
    _worked_example(merging, True, (512, 256), 784, 3 if babysit else 1, babysit, dropout, l1)
    names = _fewest(programs)  # measured steps have more
    assert len(names) == nodes, names
    assert names.count("cublasLt") == 8


def test_merged_launches_give_the_bits_of_single_ones(merging, programs):
    small = ((64, 32), 20, 4, True, 0.2, 1e-3)
    _same(_worked_example(merging, False, *small), _worked_example(merging, True, *small))
    names = _fewest(programs)
    assert len(names) == 14, names
    assert "keep_step" not in names  # it shares a launch


def _through(device, replay, width, activation):
    db.set_seed(2)
    model = db.Sequential([
        db.layers.Dense(width, activation=activation), db.layers.Dropout(0.4),
        db.layers.Dense(width, activation="relu"), db.layers.Dropout(0.4), db.layers.Dense(3),
    ])
    model.compile("adam", loss="cross_entropy", replay=replay)
    x = np.random.default_rng(1).normal(size=(128, 7)).astype(np.float32)
    history = model.fit(
        x, x[:, :3].argmax(1), batch_size=32, epochs=1, verbose=0, device=device, babysit=False
    )
    return history, [p.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize(("width", "activation"), [(16, "relu"), (33, "gelu"), (700, "tanh")])
def test_masks_are_multiplied_where_gradients_are_summed(cuda, programs, width, activation):
    """Odd widths, and sums in several pieces; a map that is not the layer's own goes along, too."""
    eager, replayed = _through(cuda, False, width, activation), _through(cuda, True, width, activation)
    _same(eager, replayed)
    names = [node.name for node in programs[0].graph.nodes]
    assert names.count("map_multiply") == (activation == "gelu"), names  # gelu's own gradient reads the other product


def test_the_same_as_on_the_cpu(cuda, eager):
    for mine, theirs in zip(eager[1], _fit("cpu")[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-5)


def test_clipping_in_a_graph(cuda, programs):
    _same(_fit(cuda, replay=False, clip_norm=0.1), _fit(cuda, clip_norm=0.1))
    assert programs[0] is not None


def test_one_launch_a_step(cuda, programs, emulation):
    _fit(cuda)
    before = emulation.launches["graph"]
    _fit(cuda, epochs=2)
    # six steps: one eager, one recorded, four replayed
    assert emulation.launches["graph"] - before == 4


def test_a_step_allocates_nothing_and_waits_for_nothing(cuda, programs, emulation):
    _fit(cuda)
    program = programs[0]
    used, waited = POOL.used_bytes(), emulation.synchronizations
    for _ in range(3):
        program()
    assert (POOL.used_bytes(), emulation.synchronizations) == (used, waited)


def test_what_cannot_be_captured_is_named_and_runs_call_by_call(cuda, programs, monkeypatch):
    said = []
    monkeypatch.setattr(NOTICES, "tell", said.append)
    monkeypatch.delitem(cuda.backend.kernels, "matmul")  # then CuPy's own product runs
    rows = db.tensor(np.ones((2, 31), np.float32), device=cuda)
    step = db.record(lambda x: (rows @ x).sum())
    results = [step(db.tensor(np.full((31, 3), n, np.float32), device=cuda)).item() for n in range(5)]
    assert results == [186.0 * n for n in range(5)]
    assert programs == [None]
    assert len(said) == 1 and "matmul cannot be captured (calling cuBLAS API during stream capture" in said[0]


@pytest.mark.parametrize("room", [0, 12, 32])  # buffers; the last one is the block that they are moved to
def test_without_memory_for_a_recorded_step_its_calls_run(cuda, eager, programs, monkeypatch, room):
    from deepbabysit_cupy import arena

    asked = []
    take = arena.StaticArena._take

    def full(self, size):
        asked.append(size)
        if len(asked) > room:
            raise MemoryError("full")
        return take(self, size)

    monkeypatch.setattr(arena.StaticArena, "_take", full)
    _same(eager, _fit(cuda))  # what had been added to the sums is not added twice
    assert len(asked) == room + 1
    assert not programs


def test_memory_of_a_step_is_planned(cuda, monkeypatch):
    from deepbabysit_cupy import arena

    made = []
    finish = arena.StaticArena.finish

    def finished(self, *rest):
        made.append(self)
        return finish(self, *rest)

    monkeypatch.setattr(arena.StaticArena, "finish", finished)
    large = np.linspace(-1, 2, 20000).astype(np.float32)

    @db.record
    def step(x):
        for _ in range(8):
            x = (x * 1.01).tanh()
        return x.sum()

    inputs = [db.tensor(large * n, device=cuda) for n in range(4)]
    assert [step(x).item() for x in inputs] == [step.__wrapped__(x).item() for x in inputs]
    assert len(made) == 1
    # sixteen arrays follow one another; two of them live at once
    assert 16 * large.nbytes <= made[0].asked < 16.1 * large.nbytes
    assert made[0].size < 3 * large.nbytes


def test_gradients_are_written_where_the_update_reads_them(cuda, programs, monkeypatch):
    seen = []
    before = cuda.backend.program

    def capture(device, calls, times=1):
        from deepbabysit_cupy.capture import _name

        seen.extend(_name(device.backend, call) for call in calls if times == 1)
        return before(device, calls, times)

    monkeypatch.setattr(cuda.backend, "program", capture)
    _fit(cuda)
    assert "adam_update" in seen
    assert seen.count("copy") <= 1  # none of the six gradients; the weights of the loss are repeated


def test_a_graph_over_memory_that_was_given_back_is_found_out(cuda):
    backend = cuda.backend
    array = backend.asarray(np.ones(1000))
    backend.stream.begin_capture()
    call_library("fill", lambda a: a.fill(2), array, out=array)
    graph = backend.stream.end_capture()
    graph.launch()
    assert backend.to_host(array).max() == 2
    del array
    gc.collect()
    with pytest.raises(EmulatorError, match="given back"):
        graph.launch()


def test_reading_on_the_host_is_refused_while_capturing(cuda):
    backend = cuda.backend
    array = backend.asarray(np.ones(3))
    backend.stream.begin_capture()
    try:
        for refused in (array.get, lambda: array.set(np.ones(3)), backend.stream.synchronize):
            with pytest.raises(RuntimeError, match="captur"):
                refused()
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            backend.xp.matmul(array, array)
    finally:
        backend.stream.end_capture()


LANES = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256, 2) total(const float* __restrict__ x, float* y, int64_t n) {
  __shared__ float scratch[32];
  float sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
  sum = block_reduce(sum, 0.0f, scratch, Sum());
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
extern "C" __global__ void __launch_bounds__(256, 2) twice(float* y, int64_t n) {
  int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = 2 * y[i] + gridDim.x;
}
"""


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_lanes_and_tail(cuda, emulation, monkeypatch, order):
    from deepbabysit_cupy.merging import Launch, merged

    monkeypatch.setattr(emulation, "order", order)
    backend = cuda.backend
    rng = np.random.default_rng(2)
    host = rng.normal(size=(7, 300)).astype(np.float32)
    made = (host, np.zeros(7, "f4"), np.zeros(1, "f4"), host[0, :200], host[1, :200])
    x, sums, total, other, once = map(backend.asarray, made)
    single, many = backend.library.made(LANES, "twice"), backend.library.made(LANES, "total")
    ticket = backend.asarray(np.zeros(1, np.uint32))
    lanes = [
        [Launch(many, LANES, "total", (7,), (256,), (x, sums, np.int64(300)), 0)],
        [Launch(single, LANES, "twice", (1,), (256,), (other, np.int64(200)), 0)] * 2,
    ]
    tail = [
        Launch(many, LANES, "total", (1,), (256,), (sums, total, np.int64(7)), 0),
        Launch(single, LANES, "twice", (1,), (256,), (total, np.int64(1)), 0),
        Launch(single, LANES, "twice", (1,), (256,), (once, np.int64(200)), 0),
    ]
    text, blocks, arguments = merged(lanes, tail, ticket)
    backend.library.made(text, "merged")((blocks,), (256,), arguments)
    np.testing.assert_allclose(backend.to_host(total), 2 * host.sum() + 1, rtol=1e-4)
    np.testing.assert_allclose(backend.to_host(other), 4 * host[0, :200] + 3, rtol=1e-6)
    np.testing.assert_allclose(backend.to_host(once), 2 * host[1, :200] + 1, rtol=1e-6)
    assert backend.to_host(ticket) == 0


def test_what_a_graph_reads_stays_though_others_need_its_place(cuda, programs, monkeypatch):
    from deepbabysit.autograd.tensor import apply
    from deepbabysit.kernels import SPECS
    from deepbabysit.runtime import device

    monkeypatch.setattr(device, "_CONSTANTS_KEPT", 8)
    monkeypatch.setattr(cuda, "_constants", {})
    segments = tuple((5 * n, 5) for n in range(30))
    step = db.record(lambda x: apply(SPECS["segment_statistics"], (x,), {"segments": segments}))
    inputs = [db.tensor(np.full(150, float(n), np.float32), device=cuda) for n in range(5)]
    for number, x in enumerate(inputs):
        for other in range(20 if programs else 0):
            cuda.constant(100.0 * number + other, np.dtype(np.float64))
        gc.collect()
        assert step(x).numpy()[:, 1].tolist() == [float(number)] * 30
    assert len(programs) == 1 and programs[0] is not None


def test_a_recording_that_is_gone_holds_no_memory(cuda, emulation):
    from deepbabysit.autograd.tensor import apply
    from deepbabysit.kernels import SPECS

    def used():
        gc.collect()
        cuda.backend.free()
        return emulation.used

    def run():
        step = db.record(lambda x: apply(SPECS["tensor_statistics"], (x,), {}))  # it needs scratch memory
        for n in range(4):
            step(db.tensor(np.full(70_000, float(n), np.float32), device=cuda))
            assert cuda.scratch == ()

    run()
    before = used()
    run()
    assert used() == before
