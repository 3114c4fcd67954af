"""Values reach the device through pinned memory, in order, while the host goes on."""

import numpy as np
import pytest


@pytest.fixture
def staging(cuda, monkeypatch):
    from deepbabysit_cupy import staging

    monkeypatch.setattr(staging, "PIECE", 8192)  # so that several pieces are needed
    cuda.backend.free()
    return staging


def test_the_host_does_not_wait(cuda, staging, emulation):
    backend = cuda.backend
    target = backend.empty((8,), np.float32)
    before = emulation.synchronizations
    backend.write(target, np.arange(8, dtype=np.float32))
    assert emulation.synchronizations == before
    assert emulation.pending
    np.testing.assert_array_equal(backend.to_host(target), np.arange(8))


def test_memory_is_not_written_over_before_it_was_read(cuda, staging):
    backend = cuda.backend
    targets = [backend.empty((100,), np.int64) for _ in range(3 * staging.BUFFERS)]
    for number, target in enumerate(targets):
        backend.write(target, np.full(100, number))
    for number, target in enumerate(targets):
        assert set(backend.to_host(target).tolist()) == {number}


@pytest.mark.parametrize("size", [0, 1, 1000, 20000])
def test_large_arrays_go_in_pieces(cuda, staging, size):
    host = np.random.default_rng(1).normal(size=size)
    np.testing.assert_array_equal(cuda.backend.to_host(cuda.backend.asarray(host)), host)


def test_layouts_and_numbers(cuda, staging):
    backend = cuda.backend
    host = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(backend.to_host(backend.asarray(host.T)), host.T)
    made = backend.asarray(np.zeros((4, 3)))
    backend.write(made.T, host)  # not contiguous on the device
    np.testing.assert_array_equal(backend.to_host(made), host.T)
    backend.write(made, 7.0)
    assert set(backend.to_host(made).ravel().tolist()) == {7.0}


def test_nothing_is_sent_while_a_step_is_captured(cuda, staging):
    backend = cuda.backend
    target = backend.empty((3,), np.float32)
    backend.stream.begin_capture()
    try:
        with pytest.raises(RuntimeError, match="captured"):
            backend.write(target, np.zeros(3))
    finally:
        backend.stream.end_capture()


def test_a_tensor_of_a_tensor_stays_on_the_device(cuda, emulation):
    import deepbabysit as db

    first = db.tensor(np.arange(3.0), device=cuda)
    before = emulation.synchronizations
    second = db.tensor(first, device=cuda)
    assert emulation.synchronizations == before
    assert second.data.data.ptr != first.data.data.ptr
    np.testing.assert_array_equal(second.numpy(), first.numpy())


def _fit(device, x, epochs, **options):
    import deepbabysit as db

    db.set_seed(2)
    model = db.Sequential([db.layers.Dense(8, activation="relu"), db.layers.Dense(3)])
    model.compile("adam", loss="cross_entropy", metrics=["accuracy"])
    y = x[:, :3].argmax(1)
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, verbose=0, device=device, babysit=False, validation_data=(x[:20], y[:20]),
        **options,
    )
    return history.history, [p.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize("shuffle", [True, False])
def test_small_data_stay_on_the_device(cuda, emulation, monkeypatch, shuffle):
    x = np.random.default_rng(4).normal(size=(70, 40)).astype(np.float32)
    sent = []
    for epochs in (3, 4):
        before = emulation.sent
        kept = _fit(cuda, x, epochs, shuffle=shuffle)
        sent.append(emulation.sent - before)
    assert sent[1] - sent[0] < x.nbytes / 4  # another epoch sends the order of its rows, and what steps are told
    monkeypatch.setattr(cuda.backend, "keeps", lambda size: False)
    before = emulation.sent
    away = _fit(cuda, x, 4, shuffle=shuffle)
    assert emulation.sent - before > 4 * x.nbytes
    assert kept[0] == away[0]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(kept[1], away[1], strict=True))


def test_large_data_stay_on_the_host(cuda, emulation, monkeypatch):
    monkeypatch.setattr(emulation, "limit", emulation.used + 40_000_000)
    assert cuda.backend.keeps(1_000_000)
    assert not cuda.backend.keeps(11_000_000)


def _batches(backend, count=5):
    target = backend.empty((200, 100), np.float32)
    sums = []
    for number in range(count):
        backend.write(target, np.full((200, 100), number, np.float32))
        sums.append(target.sum())
    return [float(backend.to_host(s)) for s in sums]


def test_batches_come_over_a_stream_of_their_own(cuda, emulation, monkeypatch):
    backend = cuda.backend
    streams = []
    copy = backend._staging.copy
    monkeypatch.setattr(backend._staging, "copy", lambda t, v, s: (streams.append(s), copy(t, v, s)))
    assert _batches(backend) == [20000.0 * n for n in range(5)]
    assert len(streams) == 5 and backend.stream not in streams
    assert len(set(map(id, streams))) == 1


@pytest.mark.parametrize("deaf", ["copies", "steps"])
def test_a_stream_that_does_not_wait_is_found_out(cuda, monkeypatch, deaf):
    """Steps must wait for what arrives, and the next copy for what has left."""
    from emulated_memory import EmulatorError

    backend = cuda.backend
    stream = backend.stream if deaf == "steps" else backend._staging._copies
    monkeypatch.setattr(stream, "wait_event", lambda event: None)
    with pytest.raises(EmulatorError, match="waits for no event"):
        _batches(backend)
    monkeypatch.undo()
    backend.synchronize()
    backend.free()
