"""fit, evaluate, predict, train_on_batch: what a training loop must get right."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest

import deepbabysit as db

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.5)


def classifier(dropout: float = 0.0, norm: bool = False, **compile_options: Any) -> db.Sequential:
    db.set_seed(3)
    stack: list[Any] = [db.layers.Dense(8, "relu", input_shape=6)]
    if norm:
        stack.append(db.layers.BatchNorm())
    if dropout:
        stack.append(db.layers.Dropout(dropout))
    stack.append(db.layers.Dense(3))
    model = db.Sequential(stack)
    options = {"optimizer": db.optimizers.Adam(1e-2), "loss": "cross_entropy", "metrics": ["accuracy"]}
    model.compile(**(options | compile_options))
    return model


def same_weights(a: db.Model, b: db.Model) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a.get_weights(), b.get_weights(), strict=True))


def test_fit_learns_and_history_holds_an_entry_per_epoch() -> None:
    model = classifier()
    history = model.fit(X, Y, batch_size=16, epochs=40, validation_data=(X, Y), verbose=0)
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(history.history)
    assert all(len(values) == 40 for values in history.history.values())
    assert history.history["loss"][-1] < 0.6 * history.history["loss"][0]
    assert all(isinstance(v, float) for v in history.history["loss"])


def test_same_seed_same_bits_and_another_seed_other_bits() -> None:
    models = [classifier(dropout=0.3) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        model.fit(X, Y, batch_size=16, epochs=3, verbose=0, seed=seed)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


@pytest.mark.parametrize("norm", [False, True])
def test_replay_and_eager_give_the_same_bits(norm: bool) -> None:
    replayed, eager = (classifier(0.2, norm, replay=flag) for flag in (True, False))
    histories = [
        m.fit(X, Y, batch_size=16, epochs=4, validation_data=(X, Y), verbose=0, seed=1) for m in (replayed, eager)
    ]
    assert same_weights(replayed, eager)
    assert histories[0].history["val_loss"] == histories[1].history["val_loss"]
    assert histories[0].history["loss"] == histories[1].history["loss"]


def test_replay_really_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepbabysit.runtime.record import Recording

    count = 0
    original = Recording.replay

    def counted(self: Recording) -> None:
        nonlocal count
        count += 1
        original(self)

    monkeypatch.setattr(Recording, "replay", counted)
    classifier().fit(X[:64], Y[:64], batch_size=16, epochs=5, verbose=0, babysit=False)
    assert count == 5 * 4 - 2  # all but the eager first step and the recorded second


def test_a_ragged_last_batch_counts_as_what_it_is() -> None:
    model = classifier()
    whole = model.evaluate(X, Y, batch_size=90)
    ragged = model.evaluate(X, Y, batch_size=32)
    assert ragged["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert ragged["accuracy"] == whole["accuracy"]
    logits = model.predict(X).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exact = np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(90), Y])
    assert whole["loss"] == pytest.approx(exact, rel=1e-6)
    assert whole["accuracy"] == np.mean(logits.argmax(axis=1) == Y)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("rows", [64, 90])
def test_accumulated_gradients_equal_the_large_batch(dropout: float, rows: int) -> None:
    options = {"optimizer": db.optimizers.SGD(0.1)}
    large, small = (classifier(dropout, **options) for _ in range(2))
    options["optimizer"] = db.optimizers.SGD(0.1)
    small.compile(**({"loss": "cross_entropy", "metrics": ["accuracy"]} | options))
    weight = np.linspace(0.5, 2.0, rows).astype(np.float32)
    a = large.fit(X[:rows], Y[:rows], batch_size=32, epochs=3, verbose=0, seed=2, sample_weight=weight)
    b = small.fit(X[:rows], Y[:rows], batch_size=8, accumulate=4, epochs=3, verbose=0, seed=2, sample_weight=weight)
    for p, q in zip(large.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(p, q, rtol=2e-4, atol=2e-6)
    assert a.history["loss"] == pytest.approx(b.history["loss"], rel=1e-5)


def test_class_weights_equal_sample_weights() -> None:
    a, b = classifier(), classifier()
    table = {0: 0.5, 1: 1.0, 2: 3.0}
    a.fit(X, Y, epochs=2, verbose=0, seed=0, class_weight=table)
    b.fit(X, Y, epochs=2, verbose=0, seed=0, sample_weight=np.array([table[int(c)] for c in Y]))
    assert same_weights(a, b)


def test_weight_zero_is_as_if_the_row_was_not_there() -> None:
    model = classifier()
    weight = (np.arange(90) < 45).astype(np.float32)
    weighted = model.evaluate(X, Y, sample_weight=weight)["loss"]
    assert weighted == pytest.approx(model.evaluate(X[:45], Y[:45])["loss"], rel=1e-6)


def test_penalty_is_part_of_the_loss_and_data_loss_is_told_apart() -> None:
    model = db.Sequential([db.layers.Dense(3, input_shape=6, kernel_regularizer=db.regularizers.l1_l2(0.01, 0.02))])
    model.compile(db.optimizers.SGD(0.0), "cross_entropy")
    history = model.fit(X, Y, epochs=1, verbose=0)
    kernel = model.get_weights()[0].astype(np.float64)
    penalty = 0.01 * np.abs(kernel).sum() + 0.02 * (kernel**2).sum()
    assert history.history["loss"][0] - history.history["data_loss"][0] == pytest.approx(penalty, rel=1e-4)


def test_early_stopping_gives_back_the_best_weights() -> None:
    model = classifier(optimizer=db.optimizers.Adam(0.1))
    seen: list[tuple[float, list[np.ndarray]]] = []

    class Keep(db.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append((logs["val_loss"], model.get_weights()))

    history = model.fit(
        X[:40], Y[:40], epochs=200, validation_data=(X[40:], Y[40:]), verbose=0, seed=1,
        callbacks=[Keep(), db.callbacks.EarlyStopping(monitor="val_loss", patience=4)],
    )
    best = min(range(len(seen)), key=lambda i: seen[i][0])
    assert len(seen) < 200
    assert "val_loss" in history.stopped
    assert history.best_epoch == best
    assert all(np.array_equal(p, q) for p, q in zip(seen[best][1], model.get_weights(), strict=True))


def test_stop_training_ends_the_run() -> None:
    model = classifier()

    class Stop(db.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                self.model.stop_training = True

    history = model.fit(X, Y, epochs=50, verbose=0, callbacks=[Stop()])
    assert len(history.history["loss"]) == 3
    assert not history.stopped.startswith("all epochs")


def test_interrupt_ends_after_the_step_and_returns_the_history() -> None:
    model = classifier()

    class Press(db.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    history = model.fit(X, Y, epochs=50, verbose=0, callbacks=[Press()])
    assert history.stopped == "interrupt"
    assert len(history.history["loss"]) == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_frozen_layer_stays_as_it_is() -> None:
    model = classifier()
    model.freeze("0")
    before = model.get_weights()
    model.fit(X, Y, epochs=2, verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert not np.array_equal(before[2], after[2])


def test_freezing_between_fits_is_seen_by_the_replayed_step() -> None:
    model = classifier()
    model.fit(X, Y, epochs=2, verbose=0)
    model.freeze("1")
    frozen = model.get_weights()[2]
    model.fit(X, Y, epochs=2, verbose=0)
    assert np.array_equal(frozen, model.get_weights()[2])


def test_schedule_is_followed_and_a_changed_rate_is_seen() -> None:
    model = classifier(optimizer=db.optimizers.SGD(db.schedules.exponential(0.1, factor=0.5, every=6)))
    history = model.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    rates = history.history["learning_rate"]
    assert rates[0] > rates[1] > rates[2]


def test_train_on_batch_returns_real_floats() -> None:
    model = classifier()
    logs = model.train_on_batch(X[:32], Y[:32])
    first = logs["loss"]
    assert type(first) is float
    for _ in range(30):
        logs = model.train_on_batch(X[:32], Y[:32])
    assert logs["loss"] < first
    assert 0.0 <= logs["accuracy"] <= 1.0


def test_fit_from_a_loader_equals_fit_from_arrays() -> None:
    a, b = classifier(), classifier()
    a.fit(X, Y, batch_size=16, epochs=2, verbose=0, seed=4)
    b.fit(db.data.Loader(X, Y, batch_size=16, seed=4), epochs=2, verbose=0, seed=4)
    assert same_weights(a, b)


def test_validation_split_holds_out_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    history = model.fit(X, Y, epochs=1, validation_split=0.2, verbose=1)
    assert "val_loss" in history.history
    assert "held out 18 of 90" in capsys.readouterr().out


def test_float64_precision() -> None:
    model = classifier(precision="float64")
    model.fit(X.astype(np.float64), Y, epochs=1, verbose=0)
    assert all(w.dtype == np.float64 for w in model.get_weights())
    assert model.predict(X).dtype == np.float64


def test_uint8_images_become_floating_numbers_batch_by_batch() -> None:
    images = RNG.integers(0, 255, (40, 5, 5, 1), dtype=np.uint8)
    model = db.Sequential([db.layers.Flatten(), db.layers.Dense(2)])
    model.compile("adam", "cross_entropy")
    model.fit(images, np.arange(40) % 2, epochs=1, verbose=0)
    assert model.predict(images).shape == (40, 2)


def test_models_with_two_inputs() -> None:
    a, b = db.Input(shape=3), db.Input(shape=3)
    joined = db.layers.Concatenate()([db.layers.Dense(4, "relu")(a), db.layers.Dense(4, "relu")(b)])
    model = db.Model([a, b], db.layers.Dense(3)(joined))
    model.compile("adam", "cross_entropy", metrics=["accuracy"])
    history = model.fit((X[:, :3], X[:, 3:]), Y, epochs=20, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.predict((X[:, :3], X[:, 3:])).shape == (90, 3)


def test_subclassed_model_trains_and_asks_for_replay() -> None:
    class Net(db.Model):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = db.layers.Dense(8, "relu")
            self.out = db.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.out(self.hidden(x))

    for replay in (None, True):
        db.set_seed(0)
        model = Net()
        model.compile("adam", "cross_entropy", replay=replay)
        history = model.fit(X, Y, epochs=10, verbose=0, seed=0)
        assert history.history["loss"][-1] < history.history["loss"][0]
        assert list(model.state_dict()) == ["hidden.kernel", "hidden.bias", "out.kernel", "out.bias"]


def test_hundred_epochs_leave_memory_where_it_was() -> None:
    import gc
    import tracemalloc

    model = classifier(0.1)  # so few steps that no program is made of them, which loads a compiler
    model.fit(X, Y, batch_size=32, epochs=3, verbose=0)
    gc.collect()
    tracemalloc.start()
    model.fit(X, Y, batch_size=32, epochs=1, verbose=0)
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    model.fit(X, Y, batch_size=32, epochs=100, verbose=0)
    gc.collect()
    last = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert last - first < 200_000, f"{last - first} bytes more after 100 epochs"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": Y[:50]}, ValueError, "90 rows and y has 50"),
        ({"y": Y + 5}, ValueError, "class"),
        ({"y": Y - 1}, ValueError, "class"),
        ({"x": np.full((90, 6), np.nan, np.float32)}, ValueError, "row"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "empty"),
        ({"x": X[:, :4]}, ValueError, "6"),
        ({"x": np.array([["a"] * 6] * 90)}, TypeError, "numbers"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"epochs": 2.5}, ValueError, "epochs"),
        ({"accumulate": -1}, ValueError, "accumulate"),
        ({"sample_weight": np.ones(5)}, ValueError, "90"),
        ({"class_weight": {0: 1.0}}, ValueError, "class 1"),
        ({"device": "cuda:7"}, ValueError, "not available"),
        ({"device": "gpu"}, ValueError, "gpu"),
        ({"validation_data": (X,)}, TypeError, "validation_data"),
        ({"validation_split": 1.5}, ValueError, "fraction"),
        ({"callbacks": [object()]}, TypeError, "Callback"),
        ({"callbacks": [db.callbacks.EarlyStopping(monitor="val_acc")]}, ValueError, "val"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = classifier()
    before = model.get_weights()
    arguments: dict[str, Any] = {"x": X, "y": Y, "verbose": 0} | change
    with pytest.raises(error, match=message):
        model.fit(**arguments)
    assert all(np.array_equal(p, q) for p, q in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cros_entropy"}, "cross_entropy"),
        ({"optimizer": "adma"}, "adam"),
        ({"metrics": ["acuracy"]}, "accuracy"),
        ({"precision": "float23"}, "float"),
    ],
)
def test_misspelt_names_offer_the_nearest(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**options)


def test_fit_before_compile_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="compile"):
        db.Sequential([db.layers.Dense(1, input_shape=2)]).fit(X[:, :2], Y)


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    history = classifier().fit(X, Y, batch_size=1000, epochs=1, verbose=0)
    assert len(history.history["loss"]) == 1


def test_a_plateau_schedule_follows_its_metric() -> None:
    rate = db.schedules.plateau(0.1, factor=0.5, patience=1, monitor="val_loss", min_delta=1e9)
    model = classifier(optimizer=db.optimizers.SGD(rate))
    history = model.fit(X, Y, batch_size=90, epochs=4, validation_data=(X, Y), verbose=0)
    assert history.history["learning_rate"] == [0.1, 0.1, 0.05, 0.025]
    with pytest.raises(ValueError, match="val_loss"):
        classifier(optimizer=db.optimizers.SGD(rate)).fit(X, Y, verbose=0)


@pytest.mark.parametrize("replay", [False, True])
def test_gradients_can_be_added_up_over_workers_between_compute_and_update(replay: bool) -> None:
    """Two workers with half of each batch, exchanging sums, train as one with the whole batch."""
    import threading

    from deepbabysit.runtime.random import Streams
    from deepbabysit.runtime.registry import find_device
    from deepbabysit.training.precision import Precision
    from deepbabysit.training.step import Signature, TrainStep

    device = find_device("cpu")
    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 80, 16)]

    def step_of(exchange: Any) -> tuple[db.Sequential, TrainStep]:
        model = classifier()
        optimizer = db.optimizers.SGD(0.1, momentum=0.9)
        optimizer.bind(model.parameters())
        return model, TrainStep(
            model, optimizer, model.loss, [], device, Streams(0), Signature(1, 1, False), Precision(), replay,
            exchange=exchange,
        )

    whole, step = step_of(None)
    for number, batch in enumerate(batches):
        step([batch], number)

    meeting = threading.Barrier(2)
    shared: list[list[np.ndarray]] = [[], []]

    def exchange_of(rank: int) -> Any:
        def exchange(arrays: list[np.ndarray]) -> None:
            shared[rank] = [np.array(a) for a in arrays]
            meeting.wait(30)
            for array, mine, other in zip(arrays, shared[0], shared[1], strict=True):
                array[...] = mine + other
            meeting.wait(30)

        return exchange

    def work(rank: int) -> None:
        models[rank], mine = step_of(exchange_of(rank))
        half = slice(0, 8) if rank == 0 else slice(8, 16)
        for number, (x, y) in enumerate(batches):
            mine([(x[half], y[half])], number)

    models: dict[int, db.Sequential] = {}
    workers = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert same_weights(models[0], models[1])
    for p, q in zip(whole.get_weights(), models[0].get_weights(), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-6)
