"""Products of many rows, what is fused with them, and programs that read their inputs where they lie."""

import numpy as np
import pytest

pytest.importorskip("numba")

import deepbabysit as db
from deepbabysit.autograd import replay
from deepbabysit.runtime import record, threads
from deepbabysit.runtime.registry import default_device
from deepbabysit_numpy.compiled import packed, thin
from deepbabysit_numpy.compiled.code import registers
from deepbabysit_numpy.program import building, fusing

KINDS = [False, True] if registers.matrix_registers() else [False]  # whether matrix registers multiply


@pytest.fixture(autouse=True, params=KINDS, ids=lambda kind: "matrix" if kind else "vectors")
def all_sizes(request, monkeypatch):
    plans = default_device().plans  # they know how much memory products take
    plans.clear()
    monkeypatch.setattr(registers, "matrix_registers", lambda: request.param)
    monkeypatch.setitem(packed.LEAST, "packed", 1)
    monkeypatch.setitem(packed.LEAST, "thin", 1 << 62)
    monkeypatch.setitem(packed.LEAST, "packed part", 1)
    yield
    plans.clear()


def product(x, y, count, monkeypatch, bias=None, rectify=False):
    monkeypatch.setattr(threads, "_CHOSEN", [count])
    (m, k), n = x.shape, y.shape[1]
    out = np.full((m, n), np.nan, x.dtype)
    rooms = tuple([np.full(form.shape, np.nan, form.dtype) for form in thin.rooms_of(x, y)])
    assert packed.fits(x, y, out, rooms) and packed.rooms_of(m, k, n, x.dtype)[0].shape == rooms[0].shape
    assert thin.multiply(x, y, out, rooms, bias, rectify)
    return out


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 1, 1), (14, 16, 32), (32, 32, 32), (257, 2100, 65), (33, 7, 10), (65, 17, 16), (130, 1030, 48)],
)
def test_products(monkeypatch, dtype, columns, m, k, n):
    monkeypatch.setattr(packed, "by_columns", lambda *sizes: columns)
    rng = np.random.default_rng(m)
    x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), n))
    plain = x.astype(np.float64) @ w
    near = (3e-6 if dtype == np.float32 else 1e-14) * np.sqrt(k) * 4
    first = None
    for left in (x, np.ascontiguousarray(x.T).T):
        for right in (w, np.ascontiguousarray(w.T).T):
            for count in (1, 2, 5):
                found = product(left, right, count, monkeypatch)
                assert np.abs(found - plain).max() < near
                first = found.tobytes() if first is None else first
                assert found.tobytes() == first  # neither the layout nor the number of threads shows
    found = product(x, w, 2, monkeypatch, bias, False)
    assert np.abs(found - (plain + bias)).max() < near
    assert np.array_equal(product(x, w, 2, monkeypatch, bias, True), np.maximum(found, 0))


@pytest.mark.parametrize("columns", [False, True])
def test_nan_and_infinity_pass_through(monkeypatch, columns):
    monkeypatch.setattr(packed, "by_columns", lambda *sizes: columns)
    x, w = np.ones((100, 300), np.float32), np.ones((300, 70), np.float32)
    x[1, 3], x[99, 299], w[5, 69], x[50] = np.nan, np.nan, np.inf, -1
    for rectify in (False, True):
        found = product(x, w, 2, monkeypatch, np.zeros(70, np.float32), rectify)
        expected = np.maximum(x @ w, 0) if rectify else x @ w
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("columns", [False, True])
def test_what_is_too_large_is_infinite(monkeypatch, columns):
    monkeypatch.setattr(packed, "by_columns", lambda *sizes: columns)
    x, w = np.ones((70, 1100), np.float32), np.full((1100, 40), 1e-3, np.float32)
    x[3], x[40], x[41] = 1e30, np.finfo(np.float32).max, 1e38  # sums, numbers and products beyond the largest
    w[:, 7], w[5, 9] = -1e10, -np.inf
    with np.errstate(over="ignore"):
        expected = (x.astype(np.float64) @ w).astype(np.float32)
    for count in (1, 3):
        found = product(x, w, count, monkeypatch, np.zeros(40, np.float32))
        assert np.array_equal(np.isfinite(found), np.isfinite(expected))
        finite = np.isfinite(expected)
        assert np.array_equal(found[~finite], expected[~finite])
        assert np.allclose(found[finite], expected[finite], rtol=1e-4)


def test_all_digits_count():
    """Errors are no larger than those of sums in float32, whatever the sizes of the numbers."""
    rng = np.random.default_rng(3)
    size = (96, 600)
    for low, high in ((0, 1), (-20, 20), (-60, -40)):
        x = (rng.standard_normal(size) * 2.0 ** rng.integers(low, high, size)).astype(np.float32)
        w = (rng.standard_normal(size).T * 2.0 ** rng.integers(low, high, size).T).astype(np.float32)
        y = np.empty((96, 96), np.float32)
        rooms = tuple([np.empty(form.shape, form.dtype) for form in thin.rooms_of(x, w)])
        assert thin.multiply(x, w, y, rooms)
        exact, sizes = x.astype(np.float64) @ w.astype(np.float64), np.abs(x).astype(np.float64) @ np.abs(w)
        plain = sum((x[:, k : k + 1] * w[k] for k in range(600)), np.zeros((96, 96), np.float32))
        errors, theirs = np.abs(y - exact) / sizes, np.abs(plain - exact) / sizes
        assert errors.max() <= 1.2 * theirs.max() and np.sqrt((errors**2).mean()) <= np.sqrt((theirs**2).mean())
    one = np.float32(1 + 2**-12 + 2**-23)  # a product of whole numbers that needs the last bits of both
    x, w = np.full((96, 32), one), np.zeros((32, 96), np.float32)
    w[5] = one
    rooms = tuple([np.empty(form.shape, form.dtype) for form in thin.rooms_of(x, w)])
    assert thin.multiply(x, w, y, rooms) and np.abs(y / (float(one) ** 2) - 1).max() < 2.0**-23


def test_what_lies_otherwise_goes_to_blas():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((100, 300)).astype(np.float32)[:, ::2], rng.standard_normal((150, 40)).astype(np.float32)
    y = np.empty((100, 40), np.float32)
    rooms = tuple([np.empty(form.shape, form.dtype) for form in thin.rooms_of(x, w)])
    assert not thin.multiply(x, w, y, rooms)
    assert y.tobytes() == np.matmul(x, w).tobytes()


# -- whole steps -------------------------------------------------------------------------------------------------------


def steps(programs, monkeypatch, activation="relu", rows=150, dtype="float32", count=5, same=False, dropout=0.0):
    """Return what some steps made, and the programs; `same`: the input is its own target."""
    made = []
    finish = record.Recorder.finish

    def kept(self, *given):
        made.append(finish(self, *given))
        return made[-1]

    monkeypatch.setattr(threads, "_CHOSEN", [2])
    monkeypatch.setattr("deepbabysit.runtime.late.LARGE", 1 << 12)
    monkeypatch.setattr(building, "LARGEST", 1 << 12)
    monkeypatch.setattr(record, "PROGRAM_CALLS", 1 if programs else 1 << 40)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
    monkeypatch.setattr(replay.Recorder, "finish", kept)
    db.set_seed(4)
    drops = [db.layers.Dropout(dropout)] if dropout else []
    model = db.Sequential([
        db.layers.Dense(190, activation), *drops, db.layers.Dense(97, activation), db.layers.Dense(250 if same else 10)
    ])  # fmt: skip
    rng = np.random.default_rng(1)
    xs = [db.tensor(rng.standard_normal((rows, 250)).astype(dtype)) for _ in range(count)]
    ys = xs if same else [db.tensor(rng.standard_normal((rows, 10)).astype(dtype)) for _ in range(count)]
    model(xs[0])
    optimizer = db.optimizers.Adam(model.parameters(), 0.01)

    @db.record
    def step(x, y):
        with db.training():
            loss = db.losses.mse(y, model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    pairs = [*zip(xs, ys, strict=True), *zip(xs, reversed(ys), strict=True)]
    losses = [float(step(x, y).item()) for x, y in pairs]
    found = [p.data.tobytes() for p in model.parameters()] + [p.grad.data.tobytes() for p in model.parameters()]
    return (losses, found), [r.program for r in made if r.program is not None]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_programs_keep_the_bits(monkeypatch, activation, dtype):
    expected, none = steps(False, monkeypatch, activation, dtype=dtype)
    found, programs = steps(True, monkeypatch, activation, dtype=dtype)
    assert found == expected and not none and programs
    assert steps(True, monkeypatch, activation, dtype=dtype)[0] == found


@pytest.mark.parametrize("same", [False, True])
def test_late_inputs_are_read_where_they_lie(monkeypatch, same):
    expected, _ = steps(False, monkeypatch, same=same)
    found, programs = steps(True, monkeypatch, same=same)
    assert found == expected
    assert programs and all(program.late for program in programs)


def test_dropout_between_layers(monkeypatch):
    expected, _ = steps(False, monkeypatch, dropout=0.3)
    assert steps(True, monkeypatch, dropout=0.3)[0] == expected


def test_what_is_fused(monkeypatch):
    seen = []
    fuse = fusing.fuse
    monkeypatch.setattr("deepbabysit_numpy.program.building.fuse", lambda calls: seen.append(fuse(calls)) or seen[-1])
    steps(True, monkeypatch, rows=330)
    # two products with Adam, what is left of it, and two products with the gradient of an activation (each two calls)
    assert [len(calls) for calls in seen] == [7]


def test_a_gradient_that_is_read_before_its_activation_is_not_fused(monkeypatch):
    seen, fuse, place = [], fusing.fuse, "deepbabysit_numpy.program.building.fuse"
    monkeypatch.setattr(place, lambda calls: seen.append(list(calls)) or fuse(calls))
    steps(True, monkeypatch)
    (given,) = seen
    product, after = next((n, fusing._slopes_after(given, n)) for n, call in enumerate(given)
                          if fusing._slopes_after(given, n) is not None)  # fmt: skip
    out = given[product][1][0]
    reader = (lambda outs, x: None, (np.empty_like(out),), (out,), ())
    assert fusing._slopes_after([*given[: product + 1], reader, *given[product + 1 :]], product) is None
    target = given[after][1][1]  # somebody writes what the gradient writes, in between
    writer = (lambda outs, x: None, (target,), (np.empty_like(target),), ())
    assert fusing._slopes_after([*given[: product + 1], writer, *given[product + 1 :]], product) is None


def test_weights_that_a_guard_keeps_are_updated_with_their_product_behind_it(monkeypatch):
    """Small batches that are copied and large ones that are read where they lie: the bits of steps from Python."""
    seen, fuse, place = [], fusing.fuse, "deepbabysit_numpy.program.building.fuse"
    monkeypatch.setattr(place, lambda calls: seen.append((list(calls), fuse(calls))) or seen[-1][1])
    monkeypatch.setattr(threads, "_CHOSEN", [2])
    monkeypatch.setattr(building, "LARGEST", 1 << 12)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((600, 250)).astype("f"), rng.integers(0, 10, 600)

    def trained(programs, watched):
        monkeypatch.setattr(record, "PROGRAM_CALLS", 1 if programs else 1 << 40)
        db.set_seed(4)
        model = db.Sequential([db.layers.Dense(190, "relu", input_shape=250), db.layers.Dense(97, "relu"),
                               db.layers.Dense(10)])  # fmt: skip
        model.compile(db.optimizers.Adam(0.01), "cross_entropy")
        model.fit(x, y, batch_size=150, epochs=8, shuffle=False, seed=2, verbose=0, babysit=watched)
        return [p.data.tobytes() for p in model.parameters()]

    expected = trained(False, False)
    for large in (1 << 19, 1 << 12):
        monkeypatch.setattr("deepbabysit.runtime.late.LARGE", large)
        seen.clear()
        assert trained(True, True) == expected
        calls, fused = seen[0]
        moved = [number for number, trace in fused.items() if trace.also]
        assert [len(fused[number].also) for number in moved] == [1]
        (update,) = moved
        product = next(n for n, call in enumerate(calls) if call is fused[update].also[0])
        assert product < update and not fused[product].rows
        (x_now, g), out = calls[product][2], calls[product][1][0]
        found = next(u for u in fusing._updates(calls) if u.number == update)
        where = (product, found, found.segment(out))
        assert fusing._when(calls, *where) == update
        scratch = np.empty(1)
        for array in (x_now, g, *calls[product][3]):  # overwritten before the update
            writer = (lambda outs, x: None, (array,), (scratch,), ())
            changed = [*calls[: product + 1], writer, *calls[product + 2 :]]
            assert fusing._when(changed, *where) is None
