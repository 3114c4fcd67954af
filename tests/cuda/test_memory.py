"""A step that does not fit says where the memory is and which batch would fit; nothing has changed."""

import gc
from contextlib import suppress

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.optimizers.flat import flats_of

ROWS, WIDTH = 512, 256


def _model(device, precision="float32"):
    db.set_seed(1)
    model = db.Sequential([
        db.layers.Dense(WIDTH, activation="relu", input_shape=16), db.layers.Dense(WIDTH, activation="tanh"),
        db.layers.Dense(2),
    ])
    model.compile("adam", loss="cross_entropy", precision=precision)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 16)).astype(np.float32)
    y = rng.integers(0, 2, ROWS)
    model.fit(x[:8], y[:8], batch_size=8, epochs=2, verbose=0, device=device, babysit=False)
    return model, x, y


@pytest.fixture
def full(cuda, emulation, monkeypatch):
    """A device with room for the model and a small batch only."""
    model, x, y = _model(cuda)
    gc.collect()
    cuda.backend.free()
    monkeypatch.setattr(emulation, "limit", emulation.used + 1_500_000)
    return model, x, y


def test_the_error(full, cuda):
    model, x, y = full
    weights = [p.numpy().copy() for p in model.parameters()]
    states = model.optimizer.state_dict()
    with pytest.raises(MemoryError) as caught:
        model.fit(x, y, batch_size=ROWS, epochs=1, verbose=0, device=cuda, babysit=False)
    text = str(caught.value)
    assert text.startswith("a step of 512 rows does not fit into the memory of cuda:0: ")
    assert "MiB were asked for" in text
    for name in ("parameters", "gradients", "optimizer", "recorded steps", "pool, in use", "pool, idle"):
        assert f"  {name}" in text
    size = sum(w.nbytes for w in weights) / 1024
    assert f"{'  parameters':<42}{f'{size:.1f} KiB':>12}\n" in text
    flat = sum(f.g.nbytes for f in flats_of(model.optimizer)) / 1024
    assert f"{'  gradients':<42}{f'{flat:.1f} KiB':>12}\n" in text
    assert f"{'  optimizer':<42}{f'{2 * flat:.1f} KiB':>12}\n" in text
    assert text.count("512.0 KiB") == 2  # outputs of two layers: 512 x 256 numbers of 4 bytes
    for before, parameter in zip(weights, model.parameters(), strict=True):
        assert before.tobytes() == parameter.numpy().tobytes()
    after = model.optimizer.state_dict()
    assert after["steps"] == states["steps"]
    assert all(a.tobytes() == states["arrays"][name].tobytes() for name, a in after["arrays"].items())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_copies_in_half_precision_are_in_the_table(cuda, emulation, monkeypatch, precision):
    model, x, y = _model(cuda, precision)
    gc.collect()
    cuda.backend.free()
    monkeypatch.setattr(emulation, "limit", emulation.used + 300_000)
    with pytest.raises(MemoryError) as caught:
        model.fit(x, y, batch_size=ROWS, epochs=1, verbose=0, device=cuda, babysit=False)
    (flat,) = flats_of(model.optimizer)
    numbers = sum(p.size for p in model.parameters())
    assert 2 * numbers <= flat.copies.nbytes < 2.01 * numbers
    size = f"{flat.copies.nbytes / 1024:.1f} KiB"
    assert f"{f'  parameters in {precision}':<42}{size:>12}\n" in str(caught.value)
    assert f"{'  gradients':<42}{size:>12}\n" in str(caught.value)


def _fit(model, x, y, rows, cuda):
    """Run four steps: eager, recorded, captured, replayed."""
    count = 2 * rows
    model.fit(x[:count], y[:count], batch_size=rows, epochs=2, verbose=0, device=cuda, babysit=False)


def _named(error):
    (line,) = [part for part in str(error).splitlines() if part.startswith("The largest batch")]
    return line, int(line.split("passes is ")[1].split(" ")[0])


def test_the_batch_that_it_names_fits_and_the_next_does_not(full, cuda, emulation, monkeypatch):
    model, x, y = full
    with suppress(MemoryError):  # this leaves constants, which take room where every byte counts
        _fit(model, x, y, ROWS, cuda)
    gc.collect()
    cuda.backend.free()
    monkeypatch.setattr(emulation, "limit", emulation.used + 1_500_000)
    with pytest.raises(MemoryError) as caught:
        _fit(model, x, y, ROWS, cuda)
    line, rows = _named(caught.value)
    assert 8 < rows < ROWS
    assert f"batch_size={rows}, with accumulate={-(-ROWS // rows)}" in line
    del caught
    with pytest.raises(MemoryError) as caught:
        _fit(model, x, y, rows + 1, cuda)
    assert _named(caught.value)[1] == rows
    del caught
    gc.collect()
    _fit(model, x, y, rows, cuda)


def _used(cuda, emulation):
    """Return the bytes in use, but for numbers that the device keeps for later."""
    gc.collect()
    cuda.backend.free()
    kept = {array.data.mem.allocation.number: array.data.mem.allocation.size for array in cuda.constants()}
    return emulation.used - sum(kept.values())


def test_nothing_that_failed_is_kept(full, cuda, emulation):
    model, x, y = full
    before = _used(cuda, emulation)
    for _ in range(3):
        with pytest.raises(MemoryError):
            _fit(model, x, y, ROWS, cuda)
        assert _used(cuda, emulation) == before


def test_nothing_of_a_model_that_is_gone_is_kept(cuda, emulation):
    _model(cuda)  # the libraries have their workspaces then
    before = _used(cuda, emulation)
    for _ in range(2):
        _model(cuda)
        assert _used(cuda, emulation) == before


def test_free_gives_memory_back(cuda, emulation):
    big = cuda.backend.empty((1 << 20,), np.float32)
    used = emulation.used
    del big
    gc.collect()
    assert cuda.backend.free() >= 4 << 20
    assert emulation.used <= used - (4 << 20)
