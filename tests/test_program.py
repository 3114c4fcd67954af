"""Recorded steps as programs: bit for bit what eager steps give, for any small network, and nothing held or lost."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

import deepbabysit as db
from deepbabysit.autograd import replay
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.updates import TABLE_ROWS, host_control
from deepbabysit.runtime import record
from deepbabysit.runtime.device import Device
from deepbabysit_numpy import open_backend
from deepbabysit_numpy.program import building, machine, tracing
from deepbabysit_numpy.program import rows as make
from deepbabysit_numpy.program.forms import FORMS
from deepbabysit_numpy.program.ufuncs import find_loop

DEVICE = db.devices()[0]


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[record.Recording]:
    """Recordings become programs at their first replay; returns all that are made."""
    recordings: list[record.Recording] = []
    finish = record.Recorder.finish

    def kept(self: Any, *given: Any) -> record.Recording:
        recordings.append(finish(self, *given))
        return recordings[-1]

    monkeypatch.setattr(record, "PROGRAM_CALLS", 1)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
    monkeypatch.setattr(replay.Recorder, "finish", kept)
    return recordings


# -- whole networks ----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda p: db.optimizers.SGD(p, 0.1),
    "momentum": lambda p: db.optimizers.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: db.optimizers.Adam(p, 0.01),
    "adamw": lambda p: db.optimizers.AdamW(p, 0.01, weight_decay=0.1),
    "rmsprop": lambda p: db.optimizers.RMSprop(p, 0.01),
    "lion": lambda p: db.optimizers.Lion(p, 0.01),
    "clipped": lambda p: db.optimizers.Adam(p, 0.01, clip_norm=0.1),
}
LOSSES = ("ce", "smooth", "soft", "bce", "mse", "mae")


def network(sizes: list[int], activation: str, extra: str, dtype: str) -> db.Sequential:
    db.set_seed(3)
    layers: list[Any] = []
    for size in sizes[1:-1]:
        layers.append(db.layers.Dense(size, activation))
        if extra == "dropout":
            layers.append(db.layers.Dropout(0.3))
        elif extra == "norm":
            layers.append(db.layers.BatchNorm())
    model = db.Sequential([*layers, db.layers.Dense(sizes[-1])])
    model(db.tensor(np.zeros((2, sizes[0]), dtype)))
    return model


def train(
    recorded: bool, sizes: list[int], batch: int, activation: str, extra: str, loss: str, optimizer: str, dtype: str,
    steps: int = 5,
) -> list[bytes]:
    """Return the bits of all losses and of the weights at the end."""
    model = network(sizes, activation, extra, dtype)
    parameters = model.parameters()
    opt = OPTIMIZERS[optimizer](parameters)
    function = {
        "ce": db.losses.cross_entropy, "mse": db.losses.get("mse"), "mae": db.losses.get("mae"),
        "bce": db.losses.BCEWithLogitsLoss(), "smooth": db.losses.CrossEntropyLoss(label_smoothing=0.1),
        "soft": db.losses.CrossEntropyLoss(label_smoothing=0.1),
    }[loss]

    def step(x: Any, y: Any) -> Any:
        with db.training():
            value = function(y, model(x))
        opt.zero_grad()
        value.backward()
        opt.step()
        return value

    run = db.record(step) if recorded else step
    rng = np.random.default_rng(5)
    found = []
    for _ in range(steps):
        x = rng.standard_normal((batch, sizes[0])).astype(dtype)
        if loss in ("ce", "smooth"):
            y = rng.integers(0, sizes[-1], batch)
        elif loss == "bce":
            y = rng.integers(0, 2, (batch, sizes[-1])).astype(dtype)
        elif loss == "soft":
            y = np.eye(sizes[-1], dtype=dtype)[rng.integers(0, sizes[-1], batch)]
        else:
            y = rng.standard_normal((batch, sizes[-1])).astype(dtype)
        found.append(run(db.tensor(x), db.tensor(y)).numpy().tobytes())
    return [*found, *[w.tobytes() for w in model.get_weights()]]


@settings(max_examples=40)
@given(
    st.lists(st.integers(2, 20), min_size=2, max_size=4), st.integers(1, 70),
    st.sampled_from(["relu", "tanh", "sigmoid", "gelu", "elu", "linear"]), st.sampled_from(["", "dropout", "norm"]),
    st.sampled_from(LOSSES), st.sampled_from(sorted(OPTIMIZERS)), st.sampled_from(["float32", "float64"]),
)
def test_random_networks_train_with_the_same_bits(sizes, batch, activation, extra, loss, optimizer, dtype):
    case = (sizes, batch, activation, extra, loss, optimizer, dtype)
    assert train(True, *case) == train(False, *case)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize(("loss", "activation"), [("ce", "relu"), ("mse", "tanh"), ("bce", "sigmoid")])
@pytest.mark.parametrize("outputs", [1, 3])
def test_nothing_of_a_small_network_stays_in_python(made, loss, activation, optimizer, outputs):
    outputs = max(outputs, 2) if loss == "ce" else outputs
    train(True, [29, 16, outputs], 64, activation, "dropout", loss, optimizer, "float32")
    (recording,) = made
    assert recording.program is not None
    assert [call[0] for call in recording.program.calls] == []
    assert recording.program.rows >= len(recording)


def test_compiled_kernels_are_called_by_their_addresses(made):
    """A network large enough for compiled kernels: the rows call the very functions that eager steps call."""
    case = ([60, 90, 10], 128, "relu", "dropout", "ce", "adam", "float32")
    assert train(True, *case) == train(False, *case)
    (recording,) = made
    assert [call[0] for call in recording.program.calls] == []


def test_a_product_with_few_results_is_none_that_threads_of_blas_share(made):
    """Beside products that a crew shares it would run in one thread of BLAS, which adds up otherwise than two."""
    case = ([784, 100, 10], 64, "relu", "", "mse", "adam", "float32")
    assert train(True, *case) == train(False, *case)
    (recording,) = made
    assert [call[0] for call in recording.program.calls] == []


@pytest.mark.parametrize("shape", [(16, 12, 24), (200, 9, 40)])
def test_a_mask_for_whole_channels(made, shape):
    """What is drawn has fewer elements than what it is multiplied with: nothing is written beyond it."""
    x = db.tensor(np.random.default_rng(0).standard_normal(shape).astype("f"))

    def losses(recorded: bool) -> list[float]:
        db.set_seed(3)
        model = db.Sequential([db.layers.Dropout(0.8, per="channel"), db.layers.Flatten(), db.layers.Dense(3)])
        model(x)
        optimizer = db.optimizers.SGD(model.parameters(), 0.1)

        def step(x: Any) -> Any:
            with db.training():
                value = (model(x) ** 2).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value

        run = db.record(step) if recorded else step
        return [run(x).item() for _ in range(6)]

    assert losses(True) == losses(False)
    (recording,) = made
    assert recording.program is not None


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_fit_with_metrics_has_the_same_numbers_and_no_python(made, loss):
    def run(replays: bool) -> tuple[list[Any], list[bytes]]:
        model = network([9, 8, 3], "relu", "dropout", "float32")
        metric = "accuracy" if loss == "cross_entropy" else "mae"
        model.compile("adam", loss, metrics=[metric], replay=replays)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((64, 9)).astype("f")
        y = rng.integers(0, 3, 64) if loss == "cross_entropy" else rng.standard_normal((64, 3)).astype("f")
        history = model.fit(x, y, batch_size=16, epochs=3, verbose=0)
        return [history.history["loss"], history.history[metric]], [w.tobytes() for w in model.get_weights()]

    assert run(True) == run(False)
    (recording,) = [r for r in made if r.program is not None]
    assert recording.program.calls == []


# -- what changes between steps ----------------------------------------------------------------------------------------


def test_shapes_rates_and_modes_are_followed():
    def run(recorded: bool) -> list[bytes]:
        model = network([6, 5, 3], "relu", "dropout", "float32")
        opt = db.optimizers.Adam(model.parameters(), 0.01)
        training = [True]

        def step(x: Any, y: Any) -> Any:
            with db.training() if training[0] else contextlib.nullcontext():
                loss = db.losses.cross_entropy(y, model(x))
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        call = db.record(step) if recorded else step
        rng = np.random.default_rng(0)
        found = []
        for n in range(24):
            if n == 8:
                opt.learning_rate = 0.1
            if n == 14:
                training[0] = False
                model.layers[0].trainable = False
            batch = 7 if n % 4 == 3 else 16
            x, y = rng.standard_normal((batch, 6)).astype("f"), rng.integers(0, 3, batch)
            found.append(call(db.tensor(x), db.tensor(y)).numpy().tobytes())
        return [*found, *[w.tobytes() for w in model.get_weights()]]

    assert run(True) == run(False)


def test_a_bad_index_is_reported_as_in_an_eager_step_and_the_next_step_is_right(made):
    table = db.tensor(np.arange(12.0, dtype="f").reshape(6, 2), requires_grad=True)
    look = db.record(lambda rows: (db.ops.take(table, rows, axis=0) * 2.0).sum())
    good = np.array([0, 5, 3])
    values = [look(good).item() for _ in range(5)]
    with pytest.raises(IndexError) as recorded:
        look(np.array([0, 6, 3]))
    with pytest.raises(IndexError) as eager:
        db.ops.take(table, db.tensor(np.array([0, 6, 3])), axis=0)
    assert str(recorded.value) == str(eager.value)
    assert [look(good).item() for _ in range(2)] == values[:2]
    assert made[0].program is not None


def test_a_label_that_is_no_class_gives_the_same_message(made):
    def error(replays: bool) -> str:
        model = network([4, 5, 3], "relu", "", "float32")
        model.compile("adam", "cross_entropy", replay=replays)
        x, y = np.zeros((8, 4), "f"), np.zeros(8, int)
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
        y[5] = 3
        with pytest.raises((ValueError, IndexError)) as caught:
            model.fit(x, y, batch_size=4, epochs=1, verbose=0)
        return str(caught.value)

    assert error(True) == error(False)


def test_labels_that_do_not_count_are_followed(made):
    logits = np.random.default_rng(0).standard_normal((6, 4)).astype("f")
    loss = db.record(lambda x, y: db.ops.softmax_cross_entropy(x, y, ignore_index=2)[0])
    for labels in ([0, 1, 2, 3, 0, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], [2, 2, 4, -1, 9, 0], [2] * 6):
        y = np.array(labels)
        expected = db.ops.softmax_cross_entropy(db.tensor(logits), db.tensor(y), ignore_index=2)[0]
        assert loss(logits, y).numpy().tobytes() == expected.numpy().tobytes()
    assert made[0].program is not None
    assert made[0].program.calls == []


# -- update rules ------------------------------------------------------------------------------------------------------

_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
ATTRS: dict[str, dict[str, Any]] = {
    "sgd_update": {}, "momentum_update": {"momentum": 0.9, "nesterov": True}, "adagrad_update": {"epsilon": 1e-10},
    "rmsprop_update": {"rho": 0.9, "epsilon": 1e-7}, "adadelta_update": {"rho": 0.95, "epsilon": 1e-6},
    "rmsprop_momentum_update": {"rho": 0.9, "epsilon": 1e-7, "momentum": 0.9}, "adam_update": _ADAM,
    "adamw_update": _ADAM, "nadam_update": {**_ADAM, "momentum_decay": 0.004},
    "lion_update": {"beta_1": 0.9, "beta_2": 0.99},
}
STATES = {"sgd_update": 0, "momentum_update": 1, "adagrad_update": 1, "rmsprop_update": 1, "lion_update": 1}


@settings(max_examples=120)
@given(
    st.sampled_from(sorted(ATTRS)), st.sampled_from(["f", "d"]), st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.data(),
)
def test_update_rules_have_the_bits_of_the_plain_kernels(name, dtype, lengths, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    size, count = sum(lengths), len(lengths)
    draw = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    control = host_control(
        3, draw(0.1, 1e-3), draw(1.0, 0.5, 1 / 3), clip_value=draw(np.inf, 0.3), skip=False
    )
    control[6], control[7] = draw(1.0, 0.7), draw(1.0, 1.0, 1.0, 0.0)
    table = np.ones((TABLE_ROWS, count))
    for row, values in enumerate([(1.0, 0.0), (1.0, 0.0), (1.0, 0.3), (0.0, 0.1), (0.0, 0.01), (0.0, 0.02)]):
        table[row] = [draw(*values) for _ in range(count)]
    starts = np.cumsum([0, *lengths[:-1]])
    progress = np.stack([rng.integers(0, 4, count).astype(float), np.ones(count)])
    w, g, *states = (rng.standard_normal(size).astype(dtype) for _ in range(2 + STATES.get(name, 2)))
    g[::3] = draw(0.0, np.nan, np.inf, -2.0)
    states = [np.abs(s) for s in states]
    device = Device("cpu", open_backend())
    kernel = device.backend.kernels[name]

    def inputs() -> list[np.ndarray]:
        return [a.copy() for a in (control, table, starts, progress, w, g, *states)]

    plain, exact = inputs(), inputs()
    space = (np.empty(size, dtype), np.empty(size, dtype))
    with np.errstate(all="ignore"):
        device.scratch = space
        kernel.run(device, (plain[3], plain[4], *plain[6:]), *plain, **ATTRS[name])
    outs = (exact[3], exact[4], *exact[6:])
    found = building.trace(device, (functools.partial(kernel.run, device, **ATTRS[name]), outs, tuple(exact), space))
    assert found is not None
    assert machine.Rows(found.rows)() == 0
    assert [a.tobytes() for a in exact] == [a.tobytes() for a in plain]


@pytest.mark.parametrize("taken", [0.0, 4.0])
@pytest.mark.parametrize(("loss", "gradient"), [(1.0, 1.0), (np.nan, 1.0), (1.0, np.inf), (1.0, np.nan), (1.0, 3e38)])
def test_weights_are_kept_when_something_breaks(loss, gradient, taken):
    probe = np.full(30, gradient, "f")
    kept, mark, ring = np.zeros(30, "f"), np.array([taken]), np.zeros(4)
    ins = (np.array(loss, "f"), probe, host_control(7, 0.1), np.ones(30, "f"), kept, mark, ring)
    outs = (kept, mark, ring)
    call = (functools.partial(DEVICE.backend.kernels["keep_step"].run, DEVICE), outs, ins, ())
    found = building.trace(DEVICE, call)
    assert found is not None
    assert machine.Rows(found.rows)() == 0
    results = [a.copy() for a in outs]
    outs[0][...], outs[1][...], outs[2][...] = 0.0, taken, 0.0
    with np.errstate(over="ignore"):
        call[0](outs, *ins)
    assert [a.tobytes() for a in outs] == [a.tobytes() for a in results]
    broken = not (np.isfinite(loss) and np.isfinite(gradient)) and taken == 0.0
    assert outs[0].all() == broken


def test_every_form_belongs_to_a_kernel():
    runs = {kernel.run for kernel in DEVICE.backend.kernels.values()}
    assert set(FORMS) <= runs
    assert all(name in SPECS for name in ATTRS)


# -- tracing -----------------------------------------------------------------------------------------------------------


def rows_of(run: Any, outs: Any, ins: Any) -> tracing.Trace | None:
    return building.trace(DEVICE, (run, tuple(outs), tuple(ins), ()))


@pytest.mark.parametrize("look", [
    lambda x: float(x[0, 0]), lambda x: bool((x > 0).any()), lambda x: x.tolist(), lambda x: int(x.sum()),
    lambda x: x[x > 0], lambda x: list(x), lambda x: x.item(0), lambda x: np.sort(x), lambda x: x.astype("d"),
    lambda x: x.T.reshape(-1), lambda x: x.argmax(), lambda x: np.add.at(x, 0, 1), lambda x: x.data,
])
def test_a_kernel_that_looks_at_values_stays_in_python(look):
    def run(outs: Any, x: Any) -> None:
        look(x)
        np.add(x, 1, outs[0])

    x = np.ones((3, 4), "f")
    assert rows_of(run, [np.empty_like(x)], [x]) is None


def test_rows_with_other_bits_are_not_taken(monkeypatch):
    calls: list[int] = []

    def run(outs: Any, x: Any) -> None:
        calls.append(1)
        np.add(x, len(calls) % 2, outs[0])  # depends on what no row can see

    x, y = np.ones(4, "f"), np.empty(4, "f")
    program = building.build(DEVICE, [(run, (y,), (x,), ())])
    assert program.rows == 0
    assert len(program.calls) == 1


@settings(max_examples=80)
@given(st.data())
def test_ufuncs_copies_and_sums_of_any_layout_have_numpys_bits_or_no_row(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    dtype = data.draw(st.sampled_from(["f", "d"]))

    def operand(name: str) -> np.ndarray:
        wide = rng.standard_normal(tuple(2 * n for n in shape)).astype(dtype)
        kind = data.draw(st.sampled_from(["whole", "part", "reversed", "row", "number"]), label=name)
        if kind == "whole":
            return rng.standard_normal(shape).astype(dtype)
        if kind == "part":
            return wide[tuple(slice(0, 2 * n, 2) for n in shape)]
        if kind == "reversed":
            return np.asfortranarray(rng.standard_normal(shape).astype(dtype))
        if kind == "row":
            return np.broadcast_to(rng.standard_normal(shape[-1:]).astype(dtype), shape)
        return np.broadcast_to(rng.standard_normal(()).astype(dtype), shape)

    x, y = operand("x"), operand("y")
    what = data.draw(st.sampled_from(["add", "tanh", "copy", "cast", "sum", "max", "mask"]))
    axis = data.draw(st.integers(0, len(shape) - 1))
    keep = shape[:axis] + shape[axis + 1 :]
    out = {"sum": np.empty(keep, dtype), "max": np.empty(keep, dtype), "cast": np.empty(shape, "d")}.get(
        what, np.full(shape, 7.0, dtype)
    )

    def run(outs: Any, x: Any, y: Any) -> None:
        {
            "add": lambda: np.add(x, y, outs[0]),
            "tanh": lambda: np.tanh(x, outs[0]),
            "copy": lambda: np.copyto(outs[0], x),
            "cast": lambda: np.copyto(outs[0], x),
            "sum": lambda: np.add.reduce(x, axis=axis, out=outs[0]),
            "max": lambda: x.max(axis=axis, out=outs[0]),
            "mask": lambda: np.copyto(outs[0], x, where=np.logical_not(y > 0)),
        }[what]()

    found = rows_of(run, [out], [x, y])
    if found is None:
        return
    before = out.copy()
    run([out], x, y)
    expected = out.tobytes()
    out[...] = before
    assert machine.Rows(found.rows)() == 0
    if what == "sum" and out.tobytes() != expected:  # another order of adding: found out before use
        out[...] = before
        assert not building.same_bits(DEVICE, (run, (out,), (x, y), ()))
        return
    assert out.tobytes() == expected


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("m", "k", "n"), [
    (7, 5, 3), (64, 16, 1), (64, 1, 16), (16, 64, 1), (1, 16, 8), (1, 1, 5), (5, 1, 1), (2, 2, 2), (33, 29, 16),
])
def test_products_of_all_shapes_have_numpys_bits(m, k, n, turned, dtype):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m)).astype(dtype).T if turned else rng.standard_normal((m, k)).astype(dtype)
    b = rng.standard_normal((k, n)).astype(dtype)
    a[0] = -0.0
    out = np.full((m, n), np.nan, dtype)
    found = rows_of(lambda outs, a, b: np.matmul(a, b, outs[0]), [out], [a, b])
    assert found is not None
    assert machine.Rows(found.rows)() == 0
    assert out.tobytes() == np.matmul(a, b).tobytes()


def test_a_call_is_tried_out_on_copies_only():
    memory = np.arange(40, dtype="f")
    x, y = memory[4:24].reshape(4, 5), memory[20:40].reshape(4, 5)[:, ::-1]  # they overlap
    seen: list[tuple[int, int]] = []

    def run(outs: Any, x: Any, y: Any) -> None:
        if type(x) is np.ndarray:  # else it is being traced
            seen.append((make.address(y) - make.address(x), make.address(x) % 64))
        np.add(x, 1.0, outs[0])

    before, out = memory.tobytes(), np.full((4, 5), 7.0, "f")
    assert building.same_bits(DEVICE, (run, (out,), (x, y), ()))
    assert memory.tobytes() == before
    assert (out == 7.0).all()
    assert len(seen) == 2
    assert set(seen) == {(make.address(y) - make.address(x), make.address(x) % 64)}


def test_loops_are_numpys_own():
    f, d = np.dtype("f"), np.dtype("d")
    assert find_loop(np.add, (f, f, f)) not in (None, find_loop(np.add, (d, d, d)))
    assert find_loop(np.add, (f, f, d)) is None
    assert find_loop(np.matmul, (f, f, f)) is None  # a loop of another kind


def test_programs_of_several_threads_are_made_and_run_at_once():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4, 16, 9)).astype("f")
    weight = db.tensor(rng.standard_normal((9, 7)).astype("f"), requires_grad=True)
    function = lambda x: db.ops.softmax(db.ops.tanh(db.ops.matmul(x, weight)) * 2.0)  # noqa: E731
    expected = [function(db.tensor(x)).numpy().tobytes() for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        run = db.record(function)
        for _ in range(200):
            if run(inputs[number]).numpy().tobytes() != expected[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_runs_in_a_forked_process(made):
    run = db.record(lambda x: db.ops.tanh(x * 2.0).sum(axis=0))
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("f")
    values = [run(x).numpy().tobytes() for _ in range(5)]
    assert made[0].program is not None
    child = os.fork()
    if not child:
        code = 1
        try:
            code = int(run(x).numpy().tobytes() != values[0])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_thousand_steps_hold_nothing(made):
    model = network([6, 5, 3], "relu", "dropout", "float32")
    opt = db.optimizers.Adam(model.parameters(), 0.01)

    def step(x: Any, y: Any) -> Any:
        loss = db.losses.cross_entropy(y, model(x))
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    run = db.record(step)
    x, y = db.tensor(np.ones((8, 6), "f")), db.tensor(np.zeros(8, int))
    for _ in range(10):
        run(x, y).item()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        run(x, y).item()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
    assert made[0].program is not None


def test_a_program_keeps_its_memory_and_lets_go_of_it(made):
    def make() -> tuple[Any, weakref.ref]:
        w = np.arange(5.0, dtype="f")
        held = db.tensor(w)
        return db.record(lambda x: (x * held).sum()), weakref.ref(held.data)

    run, held = make()
    for n in range(5):
        gc.collect()
        junk = [np.full(5, 99.0, "f") for _ in range(50)]
        assert run(np.full(5, float(n), "f")).item() == 10.0 * n
        del junk
    assert made[0].program is not None
    made.clear()
    del run
    gc.collect()
    assert held() is None
