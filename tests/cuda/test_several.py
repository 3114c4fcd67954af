"""Several steps by one launch: the bits of single steps, wherever data lie on the device and nobody looks between."""

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.training import together

STEPS = 6  # whole batches of an epoch, and a part of one


def _fit(device, epochs=4, shuffle=True, callbacks=(), rows=16 * STEPS + 5, **options):
    db.set_seed(7)
    model = db.Sequential([
        db.layers.Dense(12, activation="relu"), db.layers.Dropout(0.3), db.layers.Dense(3),
    ])
    rate = db.schedules.cosine(0.02, steps=30)
    model.compile(db.optimizers.Adam(rate, clip_norm=0.5), loss="cross_entropy", metrics=["accuracy"])
    x = np.random.default_rng(3).normal(size=(rows, 5)).astype(np.float32)
    settings = {"babysit": False, "verbose": 0, **options}
    history = model.fit(
        x, x[:, :3].argmax(1), batch_size=16, epochs=epochs, device=device, shuffle=shuffle, callbacks=list(callbacks),
        **settings,
    )
    return history.history, [p.numpy().copy() for p in model.parameters()]


def _same(first, second):
    assert first[0] == second[0]
    for a, b in zip(first[1], second[1], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.fixture
def launches(emulation):
    before = emulation.launches["graph"]
    return lambda: emulation.launches["graph"] - before


@pytest.fixture
def single(monkeypatch):
    """Run single steps."""
    def run(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(together, "MOST", 1)
            return _fit(*args, **options)

    return run


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_bits_of_single_steps(cuda, emulation, single, shuffle):
    expected = single(cuda, shuffle=shuffle)
    before = emulation.launches["graph"]
    found = _fit(cuda, shuffle=shuffle)
    _same(expected, found)
    # the first epoch: one step eager, one recorded, four replayed; the part of a batch is its own recording:
    # eager, recorded, replayed twice; then three times one launch for all whole batches
    assert emulation.launches["graph"] - before == 4 + 2 + 3


def test_odd_steps_are_done_singly(cuda, launches, monkeypatch, single):
    expected = single(cuda)
    before = launches()
    monkeypatch.setattr(together, "MOST", 4)
    _same(expected, _fit(cuda))
    assert launches() - before == 4 + 2 + 3 * (1 + 2)


def test_the_host_sends_little(cuda, emulation):
    sent = []
    for epochs in (4, 6):
        before = emulation.sent
        _fit(cuda, epochs=epochs)
        sent.append(emulation.sent - before)
    order, told, sums = 8 * (16 * STEPS + 5), 32 + 80, 4 * 8
    # an order, a table of what the steps are told (seed and step, rate and clipping), what the last one is told
    assert (sent[1] - sent[0]) / 2 == order + STEPS * told + told + sums


def test_a_callback_for_batches_sees_every_one(cuda, launches, single):
    class Count(db.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch, logs=None):
            Count.seen += 1

    expected = single(cuda)
    _same(expected, _fit(cuda, callbacks=[Count()]))
    assert Count.seen == 4 * (STEPS + 1)


def test_a_display_is_shown_the_last_of_them(cuda, single, launches, capsys):
    expected = single(cuda)
    before = launches()
    _same(expected, _fit(cuda, verbose=2))
    assert launches() - before == 4 + 2 + 3
    assert "epoch" in capsys.readouterr().out


def test_what_cannot_be_captured_together_runs_one_after_the_other(cuda, launches, monkeypatch, single):
    expected = single(cuda)
    plain = cuda.backend.program

    def program(device, calls, times=1):
        return plain(device, calls) if times == 1 else None

    monkeypatch.setattr(cuda.backend, "program", program)
    _same(expected, _fit(cuda))


def test_losses_come_back_through_the_ring(cuda, single, launches, monkeypatch):
    from deepbabysit.babysit.sitter import Sitter

    monkeypatch.setattr(together, "MOST", 4)  # the sitter wakes up before the last step of an epoch
    found = []
    for run in (single, _fit):
        before, sitter = launches(), Sitter(every=20, check=False)
        run(cuda, babysit=sitter, epochs=8)
        found.append((list(sitter.record.losses), launches() - before))
    assert len(found[0][0]) == 8 * (STEPS + 1)
    assert found[0][0] == found[1][0]
    assert found[1][1] <= found[0][1] - 5 * 3  # three launches less in each epoch without a measured step
