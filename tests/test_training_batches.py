"""What the loop hands to its steps: the loader's batches, gathered in pieces of many where rows are small."""

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.data.loader import Loader
from deepbabysit.runtime import record
from deepbabysit.training import arrays
from deepbabysit.training.arrays import Source


def source(rows, width, batch_size, shuffle=True, dtype=np.float32, stored=None, weighted=False, two=False, **options):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (rows, width)).astype(stored or dtype)
    xs = (x, rng.standard_normal((rows, 2, 3)).astype(dtype)) if two else x
    y = rng.integers(0, 9, rows)
    weight = rng.random(rows).astype(np.float32) if weighted else None
    loader = Loader(
        xs, y, batch_size=batch_size, shuffle=shuffle, seed=5, prefetch=0, sample_weight=weight, **options
    )
    all_x = xs if two else (x,)
    return Source(loader, len(all_x), 1, weighted, rows, [a.shape[1:] for a in all_x], [np.dtype(dtype)] * len(all_x))


CASES = {
    "small rows": {"rows": 1000, "width": 3, "batch_size": 16},
    "ragged": {"rows": 1003, "width": 3, "batch_size": 16},
    "in order": {"rows": 1003, "width": 3, "batch_size": 16, "shuffle": False},
    "dropped": {"rows": 1003, "width": 3, "batch_size": 16, "drop_last": True},
    "large rows": {"rows": 70, "width": 20_000, "batch_size": 16},
    "pixels": {"rows": 333, "width": 50, "batch_size": 10, "stored": np.uint8, "dtype": np.float64},
    "weighted": {"rows": 333, "width": 5, "batch_size": 10, "weighted": True},
    "two inputs": {"rows": 333, "width": 5, "batch_size": 10, "two": True},
    "one batch": {"rows": 7, "width": 5, "batch_size": 7},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("piece", [1, 2000, 1 << 18])
def test_the_batches_are_those_of_the_loader(name, piece, monkeypatch):
    monkeypatch.setattr(arrays, "_GATHERED", piece)
    made = source(**CASES[name])
    for epoch in (0, 3):
        expected = [(made.arrays(batch), len(batch.rows)) for batch in made.loader.epoch(epoch)]
        found = list(made.batches(epoch))
        assert len(found) == len(expected) == len(made.loader)
        for (some, rows), (others, count) in zip(found, expected, strict=True):
            assert rows == count
            assert len(some) == len(others)
            for one, other in zip(some, others, strict=True):
                assert one.dtype == other.dtype
                assert one.shape == other.shape
                assert (one == other).all()


def test_batches_are_gathered_when_somebody_looks(monkeypatch):
    """Rows of many small batches at once, and none for those that nobody looks at."""
    asked = []
    monkeypatch.setattr(arrays, "take", lambda data, rows: asked.append(rows) or data[rows])
    monkeypatch.setattr(arrays, "_GATHERED", 4 * 10 * (12 + 8))  # four batches
    made = source(100, 3, 10)
    batches = [batch for batch, _ in made.batches(0)]
    order = made.loader.order(0)
    assert not asked
    for number in (5, 6, 8, 2, 9, 2):
        x, y = batches[number]
        assert (x == made.loader.x[order[10 * number : 10 * number + 10]]).all()
        assert (y == made.loader.y[order[10 * number : 10 * number + 10]]).all()
        assert batches[number].forms() == [(a.shape, a.dtype) for a in (x, y)]
    assert [len(rows) for rows in asked[::2]] == [40, 40, 10]  # 5 to 8, 2 to 5, 9 to the end
    assert (asked[0] == order[50:90]).all()


@pytest.mark.parametrize("width", [5, 3000])
def test_programs_take_rows_themselves(width, monkeypatch):
    """Small batches and large ones, a shorter last one: the bits of steps from Python, and nothing is gathered."""
    pytest.importorskip("numba")
    asked = []

    def trained(calls):
        monkeypatch.setattr(record, "PROGRAM_CALLS", calls)
        monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((300, width)).astype("f"), rng.integers(0, 3, 300)
        db.set_seed(3)
        model = db.Sequential([db.layers.Dense(8, "relu", input_shape=width), db.layers.Dense(3)])
        model.compile(db.optimizers.Adam(0.01), "cross_entropy", metrics=["accuracy"])
        weight = rng.random(300)
        monkeypatch.setattr(arrays, "take", lambda data, rows: asked.append(len(rows)) or data.take(rows, axis=0))
        history = model.fit(x, y, batch_size=64, epochs=5, sample_weight=weight, verbose=0, babysit=False, seed=4)
        return [p.data.tobytes() for p in model.parameters()], history.history["loss"]

    expected = trained(10**9)
    asked.clear()
    assert trained(1) == expected
    assert len(asked) <= 18  # the first steps of each kind: eager, recorded, made a program; three arrays each


def test_a_source_is_asked_batch_by_batch_and_closed():
    class Rows:
        asked = 0

        def __len__(self):
            return 40

        def __getitem__(self, rows):
            Rows.asked += 1
            return np.zeros((len(rows), 3), np.float32)

    loader = Loader(Rows(), np.zeros(40, int), batch_size=8, prefetch=2)
    made = Source(loader, 1, 1, False, 40, [(3,)], [np.dtype(np.float32)])
    batches = made.batches(0)
    first, rows = next(batches)
    assert (first[0].shape, rows) == ((8, 3), 8)
    batches.close()
    assert Rows.asked <= 5


def test_augmented_batches_are_augmented():
    x, y = np.ones((20, 2), np.float32), np.zeros(20, int)
    loader = Loader(x, y, batch_size=8, prefetch=0, augment=lambda x, y, rng: (x * 2, y))
    made = Source(loader, 1, 1, False, 20, [(2,)], [np.dtype(np.float32)])
    assert all((arrays[0] == 2).all() for arrays, _ in made.batches(0))
