"""What the babysitter measures comes to the host while steps go on: nobody waits inside an epoch."""

import numpy as np
import pytest
from emulated_memory import EmulatorError

import deepbabysit as db
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.training import loop

STEPS = 12


def _fit(device, sitter, epochs=3, broken=None, precision="float32"):
    db.set_seed(4)
    ones = "glorot_uniform" if broken is None else "ones"
    model = db.Sequential([db.layers.Dense(20, activation="relu"), db.layers.Dense(4, kernel_initializer=ones)])
    model.compile(db.optimizers.Adam(0.01), loss="cross_entropy", metrics=["accuracy"], precision=precision)
    x = np.random.default_rng(3).normal(size=(16 * STEPS, 6)).astype(np.float32)
    y = x[:, :4].argmax(1)
    if broken is not None:
        x[16 * broken] = 3e38  # twenty such numbers make an infinite one
    model.fit(
        x, y, batch_size=16, epochs=epochs, device=device, verbose=0, babysit=sitter, shuffle=False
    )
    return model


@pytest.fixture
def waits(emulation, monkeypatch):
    """How often the host waited in the steps of each epoch."""
    counted = []
    before = loop.Trainer._run_epoch

    def run(self, *args):
        waited = emulation.synchronizations
        found = before(self, *args)
        counted.append(emulation.synchronizations - waited)
        return found

    monkeypatch.setattr(loop.Trainer, "_run_epoch", run)
    return counted


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_no_look_waits_for_the_device(cuda, waits, precision):
    sitter = Sitter(every=3, check=False)
    _fit(cuda, sitter, precision=precision)
    assert waits[1:] == [0, 0]
    assert len(sitter.record.losses) == 3 * STEPS
    assert len(sitter.record.steps) >= STEPS  # float16 skips its first ones
    without = [step.step for step in sitter.record.steps[:-1] if step.noise is None]
    assert len(without) <= 2 * (precision == "float16"), without  # where the next one overflowed


def test_a_look_that_waits_is_counted(cuda, waits, monkeypatch):
    monkeypatch.setattr(cuda.backend, "fetch", None)
    _fit(cuda, Sitter(every=3, check=False))
    assert min(waits) >= 4  # looks of an epoch


NEVER = 1 << 30  # there when somebody waits, not before


def test_the_numbers_do_not_depend_on_when_they_arrive(cuda, emulation, monkeypatch):
    found = []
    for refusals in (None, 0, 3, NEVER):
        with monkeypatch.context() as patch:
            if refusals is None:
                patch.setattr(cuda.backend, "fetch", None)
            else:
                patch.setattr(emulation, "refusals", refusals)
            sitter = Sitter(every=3, check=False)
            _fit(cuda, sitter, epochs=2)
        steps = [
            (s.step, s.epoch, s.loss, s.gradient_norm, repr(s.layers), repr(s.parameters), s.noise, s.turn,
             repr(s.predicted), repr(s.actual))
            for s in sitter.record.steps
        ]
        found.append((steps, list(sitter.record.losses)))
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize(("refusals", "stop"), [(2, False), (2, True), (NEVER, True)])
def test_a_number_that_is_not_finite_is_named_in_its_step(cuda, emulation, monkeypatch, refusals, stop):
    monkeypatch.setattr(emulation, "refusals", refusals)
    sitter = Sitter(every=5, check=False, stop=stop, verdict=False)
    _fit(cuda, sitter, broken=7, epochs=2)
    first = next(f for f in sitter.findings if f.severity == "error")
    assert first.step == 7 and first.epoch == 0
    assert sitter.record.probes["origin"]["step"] == 7
    if stop:
        assert sitter.record.stopped.startswith("babysit")
        assert len(sitter.record.losses) <= STEPS


def test_a_copy_that_does_not_wait_for_the_step_is_found_out(cuda, monkeypatch):
    cuda.backend.free()
    monkeypatch.setattr(cuda.backend._staging._home, "wait_event", lambda event: None)
    with pytest.raises(EmulatorError, match="waits for no event"):
        _fit(cuda, Sitter(every=3, check=False))
    monkeypatch.undo()
    cuda.backend.synchronize()
    cuda.backend.free()


def test_a_landing_that_is_written_before_it_was_left_is_found_out(cuda):
    backend = cuda.backend
    backend.free()
    values = backend.asarray(np.arange(1000.0))
    arrivals = [backend.fetch([values]) for _ in range(2)]
    before, type(backend.stream).wait_event = type(backend.stream).wait_event, lambda self, event: None
    try:
        with pytest.raises(EmulatorError, match="waits for no event"):
            arrivals.append(backend.fetch([values]))
    finally:
        type(backend.stream).wait_event = before
    for arrival in arrivals:
        np.testing.assert_array_equal(arrival.values()[0], np.arange(1000.0))
    backend.free()


def test_values_are_those_of_the_moment(cuda, emulation):
    backend = cuda.backend
    values, odd = backend.asarray(np.arange(5.0)), backend.asarray(np.arange(12, dtype=np.int32).reshape(3, 4))
    before = emulation.synchronizations
    arrival = backend.fetch([values, odd.T])
    backend.write(values, np.zeros(5))
    assert not arrival.ready
    assert arrival.ready
    late = backend.fetch([values])  # not into what is not read yet
    assert not late.ready and late.ready
    first, second = arrival.values()
    np.testing.assert_array_equal(first, np.arange(5.0))
    np.testing.assert_array_equal(second, np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(late.values()[0], np.zeros(5))
    assert emulation.synchronizations == before
    late = backend.fetch([values])
    np.testing.assert_array_equal(late.values()[0], np.zeros(5))
    assert emulation.synchronizations == before + 1


def test_values_that_are_looked_at_too_early_are_found_out(cuda, monkeypatch):
    from deepbabysit_cupy.staging import _Homeward

    arrival = cuda.backend.fetch([cuda.backend.asarray(np.arange(5.0))])
    with monkeypatch.context() as patch:
        patch.setattr(_Homeward, "ready", True)
        with pytest.raises(EmulatorError, match="has not waited"):
            arrival.values()
    arrival.values()


def test_nothing_is_read_while_a_step_is_captured(cuda):
    backend = cuda.backend
    values = backend.asarray(np.zeros(3))
    backend.stream.begin_capture()
    try:
        with pytest.raises(RuntimeError, match="captured"):
            backend.fetch([values])
    finally:
        backend.stream.end_capture()
