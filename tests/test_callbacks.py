"""Callbacks: Keras' events, early stopping that gives the best weights back, files, resume."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deepbabysit.training import callbacks as db_callbacks
from deepbabysit.training.callback import EVENTS, CallbackList, split_state
from deepbabysit.training.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from deepbabysit.training.events import LazyLogs, RunInfo, StepInfo


class Model:
    """A stand-in: one weight that says which epoch it is from."""

    def __init__(self) -> None:
        self.stop_training = True
        self.optimizer = SimpleNamespace(learning_rate=0.1)
        self.weight = np.zeros(2)
        self.saved: list[str] = []

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"0.kernel": self.weight.copy()}

    def load_state_dict(self, values: dict[str, np.ndarray]) -> None:
        self.weight[...] = values["0.kernel"]

    def save(self, path: str) -> None:
        self.saved.append(path)
        Path(path).write_text(str(self.weight[0]))


def fit(
    model: Model,
    callbacks: Callback | Sequence[Callback],
    values: Sequence[float],
    name: str = "val_loss",
    steps: int = 2,
    first: int = 0,
    state: dict[str, Any] | None = None,
    metrics: tuple[str, ...] = ("loss",),
    interrupt: int | None = None,
) -> tuple[str, CallbackList, list[str]]:
    """Do what the loop does: events in order, stop when asked, the end whatever happens."""
    said: list[str] = []
    listener = CallbackList(callbacks, model, said.append)
    if state is not None:
        listener.load_state_dict(state)
    validation = 5 if name.startswith("val_") else None
    stopped = "epochs"
    listener.run_begin(
        RunInfo(
            epochs=first + len(values), first_epoch=first, steps=steps, metrics=metrics, validation_samples=validation
        )
    )
    for epoch, value in enumerate(values, first):
        listener.epoch_begin(epoch)
        for step in range(steps):
            listener.step_begin(epoch, step)
            model.weight += 1.0
            logs = dict.fromkeys(metrics, value)
            listener.step_end(StepInfo(epoch, step, 0, 0, LazyLogs(logs, lambda logs=logs: logs)))  # type: ignore[misc]
            if listener.stop_reason or interrupt == epoch:
                break
        if interrupt == epoch:
            stopped = "interrupt"
            break
        model.weight[...] = epoch + 1
        logs = dict.fromkeys(metrics, value) | {name: value, "learning_rate": model.optimizer.learning_rate}
        listener.epoch_end(epoch, logs)
        if listener.stop_reason:
            stopped = listener.stop_reason
            break
    listener.run_end(stopped)
    return stopped, listener, said


# -- the protocol ------------------------------------------------------------------------------------------------------


def test_all_events_arrive_in_keras_order() -> None:
    seen: list[str] = []

    class Recorder(Callback):
        pass

    for event in EVENTS:
        setattr(Recorder, event, lambda self, *args, event=event: seen.append(event))
    model = Model()
    recorder = Recorder()
    listener = CallbackList([recorder], model)
    listener.run_begin(RunInfo(epochs=1, steps=1))
    listener.epoch_begin(0)
    listener.step_begin(0, 0)
    listener.step_end(StepInfo(0, 0, 1, 1, {}))
    listener.evaluation_begin(1)
    listener.evaluation_step_begin(0)
    listener.evaluation_step_end(0, {})
    listener.evaluation_end({})
    listener.epoch_end(0, {})
    listener.run_end("epochs")
    listener.predict_begin()
    listener.predict_step_begin(0)
    listener.predict_step_end(0, None)
    listener.predict_end()
    assert seen == [
        "on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_test_begin",
        "on_test_batch_begin", "on_test_batch_end", "on_test_end", "on_epoch_end", "on_train_end",
        "on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end",
    ]  # fmt: skip
    assert recorder.model is model
    assert recorder.params["epochs"] == 1 and recorder.params["metrics"] == ["loss", "learning_rate"]


def test_stop_training_ends_the_run_after_the_step_or_the_epoch() -> None:
    class AfterStep(Callback):
        steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            self.model.stop_training = True

    class AfterEpoch(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    model, after_step = Model(), AfterStep()
    assert fit(model, after_step, [1.0, 1.0])[0] == "stop requested"
    assert after_step.steps == 1
    assert fit(model, AfterEpoch(), [1.0, 1.0])[0] == "stop requested"
    assert fit(model, [], [1.0, 1.0])[0] == "epochs"  # a stop of the run before does not stay


def test_only_callbacks_that_look_at_batches_force_reads() -> None:
    class Looks(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    class Counts(Callback):
        needs_batch_values = False

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    quiet = [EarlyStopping(), CSVLogger("x"), ReduceLROnPlateau(), Counts(), ModelCheckpoint("a", save_freq=3)]
    assert CallbackList(quiet, Model()).readers == []
    assert not CallbackList(quiet, Model()).needs_batch_values
    loud = [Looks(), TerminateOnNaN(), LambdaCallback(on_train_batch_end=print), ModelCheckpoint("{loss}", save_freq=3)]
    assert CallbackList(loud, Model()).readers == ["Looks", "TerminateOnNaN", "LambdaCallback", "ModelCheckpoint"]


def test_lazy_logs_are_not_read_unless_a_callback_reads_them() -> None:
    reads = []
    listener = CallbackList([EarlyStopping("loss"), ModelCheckpoint("a", save_freq=99)], Model())
    listener.step_end(StepInfo(0, 0, 1, 1, LazyLogs(["loss"], lambda: reads.append(1) or {"loss": 1.0})))
    assert not reads


def test_what_is_no_callback_is_refused_before_the_run() -> None:
    class Misspelt(Callback):
        def on_epoch_ends(self, epoch: int, logs: Any = None) -> None: ...

    class Old(Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None: ...

    with pytest.raises(TypeError, match="'on_epoch_ends', which is never called; did you mean 'on_epoch_end'"):
        CallbackList([Misspelt()], Model())
    with pytest.raises(TypeError, match="did you mean 'on_train_batch_end'"):
        CallbackList([Old()], Model())
    with pytest.raises(TypeError, match=r"make one: EarlyStopping\("):
        CallbackList([EarlyStopping], Model())  # type: ignore[list-item]
    with pytest.raises(TypeError, match="holds a str"):
        CallbackList(["early"], Model())  # type: ignore[list-item]
    with pytest.raises(TypeError, match="did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ende=print)


def test_every_callback_is_ended_even_if_one_fails() -> None:
    class Fails(Callback):
        def on_train_end(self, logs: Any = None) -> None:
            raise RuntimeError("mine")

    model = Model()
    with pytest.raises(RuntimeError, match="mine"):
        fit(model, [Fails(), EarlyStopping(patience=9)], [0.1, 0.5])
    assert model.weight[0] == 1  # the best weights are back all the same


def test_lambda_callbacks_are_called() -> None:
    seen: list[Any] = []
    fit(Model(), LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["val_loss"]))), [0.5, 0.25])
    assert seen == [(0, 0.5), (1, 0.25)]
    with pytest.raises(TypeError, match="takes functions"):
        LambdaCallback(on_epoch_end=3)  # type: ignore[arg-type]


# -- early stopping ----------------------------------------------------------------------------------------------------


def test_early_stopping_stops_and_gives_the_best_weights_back() -> None:
    model, stopping = Model(), EarlyStopping(patience=2)
    stopped, _, said = fit(model, stopping, [0.5, 0.3, 0.4, 0.35, 0.1])
    assert stopped == "early stopping: val_loss did not improve for 2 epochs"
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (0.3, 1, 3)
    assert model.weight.tolist() == [2.0, 2.0]
    assert said == ["weights of epoch 2 given back (val_loss 0.3)"]


@pytest.mark.parametrize("interrupt", [None, 3])
def test_the_best_weights_come_back_whatever_ended_the_run(interrupt: int | None) -> None:
    model = Model()
    fit(model, EarlyStopping(patience=9), [0.5, 0.3, 0.4, 0.35], interrupt=interrupt)
    assert model.weight[0] == 2.0
    model = Model()
    stop = LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == 2 and setattr(model, "stop_training", True))
    assert fit(model, [EarlyStopping(patience=9), stop], [0.5, 0.3, 0.4, 0.35])[0] == "stop requested"
    assert model.weight[0] == 2.0


def test_an_interrupt_in_the_step_after_the_best_epoch_gives_the_best_weights_back() -> None:
    model = Model()
    fit(model, EarlyStopping(patience=9), [0.5, 0.3, 0.2], interrupt=2)
    assert model.weight[0] == 2.0


def test_restore_can_be_turned_off_in_both_spellings() -> None:
    for arguments in ({"restore_best": False}, {"restore_best_weights": False}):
        model = Model()
        fit(model, EarlyStopping(patience=1, verbose=1, **arguments), [0.3, 0.5])
        assert model.weight[0] == 2.0


def test_nan_is_never_best() -> None:
    model, stopping = Model(), EarlyStopping(patience=3)
    fit(model, stopping, [math.nan, 0.5, math.nan, -math.inf, math.nan])
    assert (stopping.best, stopping.best_epoch) == (0.5, 1)
    assert model.weight[0] == 2.0
    model = Model()
    fit(model, EarlyStopping(patience=3), [math.nan, math.nan])
    assert model.weight[0] == 2.0  # nothing to give back


def test_modes_deltas_baselines_and_the_start() -> None:
    stopping = EarlyStopping("val_accuracy", patience=1)
    stopped, *_ = fit(Model(), stopping, [0.5, 0.6, 0.6], "val_accuracy", metrics=("loss", "accuracy"))
    assert stopped == "early stopping: val_accuracy did not improve for 1 epoch"
    assert stopping.best_epoch == 1
    assert fit(Model(), EarlyStopping(min_delta=-0.1, patience=1), [0.5, 0.45, 0.1])[0] != "epochs"
    stopped, *_ = fit(Model(), EarlyStopping(baseline=0.2, patience=2), [0.5, 0.5, 0.5, 0.5])
    assert stopped == "early stopping: val_loss did not improve beyond the baseline 0.2 for 2 epochs"
    late = EarlyStopping(patience=1, start_from_epoch=3)
    assert fit(Model(), late, [0.1, 0.2, 0.3, 0.4, 0.5])[0].startswith("early stopping")
    assert late.best_epoch == 3


def test_a_second_run_begins_anew() -> None:
    model, stopping = Model(), EarlyStopping(patience=1)
    fit(model, stopping, [0.1, 0.2])
    assert fit(model, stopping, [0.9, 0.8, 0.7])[0] == "epochs"
    assert stopping.best == 0.7


@pytest.mark.parametrize(
    "make", [EarlyStopping, ReduceLROnPlateau, lambda m: ModelCheckpoint("a", m, save_best_only=True)]
)
def test_a_monitor_that_will_not_be_there_is_refused_before_the_first_step(make: Any) -> None:
    begun: list[int] = []
    watch = LambdaCallback(on_train_begin=lambda logs: begun.append(1))
    with pytest.raises(ValueError, match="did you mean 'val_loss'"):
        fit(Model(), [watch, make("val_los")], [1.0])
    with pytest.raises(ValueError, match="did you mean 'val_accuracy'"):
        fit(Model(), [watch, make("val_acc")], [1.0], metrics=("loss", "accuracy"))
    with pytest.raises(ValueError, match=r"no validation data; give fit validation_data= .* monitor='loss'"):
        fit(Model(), [watch, make("val_loss")], [1.0], "loss")
    with pytest.raises(ValueError, match="say mode='max' or mode='min'"):
        fit(Model(), [watch, make("odd")], [1.0], metrics=("loss", "odd"))
    assert not begun


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="'patiance'; did you mean 'patience'"):
        EarlyStopping(patiance=3)
    with pytest.raises(ValueError, match="patience is a number of epochs"):
        EarlyStopping(patience=-1)
    with pytest.raises(ValueError, match="did you mean 'max'"):
        EarlyStopping(mode="maxx")
    with pytest.raises(ValueError, match="between 0 and 1"):
        ReduceLROnPlateau(factor=2.0)
    with pytest.raises(ValueError, match="save_freq"):
        ModelCheckpoint("a", save_freq=0)


# -- learning rates ----------------------------------------------------------------------------------------------------


def test_the_scheduler_sets_the_rate() -> None:
    model, rates = Model(), []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: rates.append(model.optimizer.learning_rate))
    fit(model, [LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate), watch], [1.0] * 3, steps=1)
    assert rates == [0.1, 0.05, 0.025]
    fit(model, LearningRateScheduler(lambda epoch: 1.0 / (epoch + 1)), [1.0] * 2)
    assert model.optimizer.learning_rate == 0.5
    for wrong, error in (("x", TypeError), (None, TypeError), (-1.0, ValueError), (math.nan, ValueError)):
        with pytest.raises(error, match="epoch 0"):
            fit(model, LearningRateScheduler({0: wrong}.get), [1.0])

    def broken(epoch: int) -> float:
        raise TypeError("inside")

    with pytest.raises(TypeError, match=r"^inside$"):
        fit(model, LearningRateScheduler(broken), [1.0])


@pytest.mark.parametrize("callback", [LearningRateScheduler(lambda epoch: 0.1), ReduceLROnPlateau("loss")])
def test_a_rate_that_follows_a_schedule_is_not_overwritten(callback: Callback) -> None:
    model = Model()
    model.optimizer.learning_rate = SimpleNamespace()
    with pytest.raises(TypeError, match="already follows the schedule"):
        fit(model, callback, [1.0])


def test_the_rate_falls_on_a_plateau() -> None:
    model, rates = Model(), []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(round(model.optimizer.learning_rate, 6)))
    plateau = ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_lr=0.02)
    _, _, said = fit(model, [plateau, watch], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.02]
    assert said[0] == "learning rate 0.1 -> 0.05 after epoch 3: val_loss did not improve for 2 epochs"


@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_the_plateau_agrees_with_torch(cooldown: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = (np.exp(-np.arange(60) / 8) + rng.normal(0, 0.05, 60)).tolist()
    model, rates = Model(), []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(model.optimizer.learning_rate))
    fit(model, [ReduceLROnPlateau(factor=0.5, patience=3, min_delta=1e-3, cooldown=cooldown), watch], values)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    # torch acts when patience is exceeded, Keras (and we) when it is reached
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=1e-3, threshold_mode="abs", cooldown=cooldown
    )
    expected = []
    for value in values:
        theirs.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert len(set(rates)) > 3


def test_terminate_on_nan() -> None:
    model = Model()
    stopped, *_ = fit(model, TerminateOnNaN(), [1.0, math.nan, 1.0], "loss")
    assert stopped == "the loss became nan in step 1 of an epoch"


# -- files -------------------------------------------------------------------------------------------------------------


def test_checkpoints_have_names_from_the_logs(tmp_path: Path) -> None:
    model = Model()
    checkpoint = ModelCheckpoint(tmp_path / "new" / "e{epoch:02d}-{val_loss:.3f}.dbs")
    fit(model, checkpoint, [0.5, 0.25])
    assert [Path(p).name for p in model.saved] == ["e01-0.500.dbs", "e02-0.250.dbs"]
    assert checkpoint.saved == model.saved
    assert (tmp_path / "new" / "e02-0.250.dbs").read_text() == "2.0"


def test_only_the_best_is_saved_and_never_a_poisoned_one(tmp_path: Path) -> None:
    model = Model()
    path = tmp_path / "best.dbs"
    fit(model, ModelCheckpoint(path, save_best_only=True), [math.nan, 0.5, 0.7, 0.4, math.nan, -math.inf])
    assert path.read_text() == "4.0"
    assert len(model.saved) == 2


def test_a_save_function_and_a_number_of_batches(tmp_path: Path) -> None:
    saved: list[str] = []
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=3, save=saved.append)
    fit(Model(), checkpoint, [0.5, 0.25, 0.1], steps=2)
    assert [Path(p).name for p in saved] == ["2-1", "3-2"]


def test_names_that_cannot_be_filled_in_are_refused_before_the_first_step(tmp_path: Path) -> None:
    for path, text in (
        ("{val_los}", r"asks for \{val_los\}.*did you mean \{val_loss\}"),
        ("{epoch.__class__}", "asks for"),
        ("{}", "asks for"),
    ):
        with pytest.raises(ValueError, match=text):
            fit(Model(), ModelCheckpoint(tmp_path / path), [1.0])
    with pytest.raises(ValueError, match="is no format"):
        ModelCheckpoint("a{")
    with pytest.raises(ValueError, match="val_loss"):
        fit(Model(), ModelCheckpoint(tmp_path / "{val_loss}", save_freq=1), [1.0])
    with pytest.raises(ValueError, match="val_loss"):
        fit(Model(), ModelCheckpoint(tmp_path / "a", save_best_only=True, save_freq=1), [1.0])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        fit(Model(), ModelCheckpoint(tmp_path / "file" / "a"), [1.0])


def test_a_full_disk_does_not_end_the_training_unless_asked(tmp_path: Path) -> None:
    def full(path: str) -> None:
        raise OSError(28, "no room left on the disk", path)

    stopped, _, said = fit(Model(), ModelCheckpoint(tmp_path / "a", save=full), [1.0, 0.5])
    assert stopped == "epochs"
    assert len(said) == 2 and "checkpoint not saved, training goes on" in said[0] and str(tmp_path / "a") in said[0]
    with pytest.raises(OSError, match="no room"):
        fit(Model(), ModelCheckpoint(tmp_path / "a", save=full, on_error="raise"), [1.0])


def read_csv(path: Path, separator: str = ",") -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def test_csv_lines_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    seen: list[int] = []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(len(read_csv(path))))
    fit(Model(), [CSVLogger(path), watch], [0.5, math.nan, -0.25])
    assert seen == [2, 3, 4]
    assert read_csv(path) == [
        ["epoch", "loss", "val_loss", "learning_rate"],
        ["0", "0.5", "0.5", "0.1"],
        ["1", "nan", "nan", "0.1"],
        ["2", "-0.25", "-0.25", "0.1"],
    ]
    fit(Model(), CSVLogger(path), [9.0])
    assert len(read_csv(path)) == 2  # begun anew
    fit(Model(), CSVLogger(path, append=True), [8.0])
    assert [row[1] for row in read_csv(path)] == ["loss", "9.0", "8.0"]
    listener = CallbackList(CSVLogger(path, separator=";", append=True), Model())
    with pytest.raises(ValueError, match=r"has the columns .*append=False"):
        listener.run_begin(RunInfo(epochs=1))


def test_csv_text_cannot_become_a_formula_or_a_second_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    names = ("=HYPERLINK(1)", "+a", "-b", "@c", 'a,"b\nc')
    fit(Model(), CSVLogger(path), [-1.0], "loss", metrics=("loss", *names))
    header, row = read_csv(path)
    assert header == ["epoch", "loss", "'=HYPERLINK(1)", "'+a", "'-b", "'@c", 'a,"b c', "learning_rate"]
    assert row == ["0", *["-1.0"] * 6, "0.1"]
    assert len(path.read_text().splitlines()) == 2
    fit(Model(), CSVLogger(path, append=True), [-2.0], "loss", metrics=("loss", *names))
    assert read_csv(path)[2] == ["0", *["-2.0"] * 6, "0.1"]


def test_a_column_that_comes_late_is_announced(tmp_path: Path) -> None:
    def add(epoch: int, logs: dict[str, float]) -> None:
        if epoch:
            logs["late"] = 1.0

    _, _, said = fit(Model(), [LambdaCallback(on_epoch_end=add), CSVLogger(tmp_path / "a")], [1.0, 1.0, 1.0])
    assert len(said) == 1 and "no column for late" in said[0]


def test_tensorboard_scalars_can_be_read_back(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    fit(Model(), TensorBoard(tmp_path), [0.5, 0.25])
    for part, tag in (("train", "epoch_loss"), ("validation", "epoch_loss")):
        (file,) = (tmp_path / part).iterdir()
        found = [
            (event.step, value.simple_value or value.tensor.float_val[0])
            for event in loader.EventFileLoader(str(file)).Load()
            for value in event.summary.value
            if value.tag == tag
        ]
        assert found == [(0, 0.5), (1, 0.25)]


def test_a_missing_tensorboard_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(ImportError, match=r'pip install "deepbabysit\[tensorboard\]"'):
        fit(Model(), TensorBoard(tmp_path), [0.5])


# -- resume ------------------------------------------------------------------------------------------------------------

VALUES = [0.9, 0.5, 0.6, 0.55, 0.52, 0.51, 0.505]


def make(folder: Path) -> list[Callback]:
    return [
        EarlyStopping(patience=4),
        ReduceLROnPlateau(patience=2, factor=0.5, cooldown=1),
        ModelCheckpoint(folder / "best-{epoch}", save_best_only=True),
        CSVLogger(folder / "log.csv"),
    ]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path: Path, cut: int) -> None:
    whole_folder, folder = tmp_path / "whole", tmp_path / "cut"
    whole_folder.mkdir()
    folder.mkdir()
    whole = Model()
    whole_stopped, whole_list, _ = fit(whole, make(whole_folder), VALUES)

    first = Model()
    states: list[dict[str, Any]] = []
    callbacks = make(folder)
    snap = LambdaCallback(on_epoch_end=lambda epoch, logs: states.append(CallbackList(callbacks, first).state_dict()))
    fit(first, [*callbacks, snap], VALUES[: cut + 1], interrupt=None)  # one epoch more than the checkpoint holds
    plain, arrays = split_state(states[cut - 1])
    assert ("0.EarlyStopping.weights/0.kernel" in arrays) and all(isinstance(v, np.ndarray) for v in arrays.values())
    state = json.loads(json.dumps(plain, allow_nan=False)) | arrays

    second = Model()
    second.weight[...] = cut
    second.optimizer.learning_rate = [0.1, 0.1, 0.1, 0.05, 0.05][cut - 1]
    stopped, second_list, _ = fit(second, make(folder), VALUES[cut:], first=cut, state=state)
    assert stopped == whole_stopped == "early stopping: val_loss did not improve for 4 epochs"
    assert second.weight.tolist() == whole.weight.tolist()
    assert second.optimizer.learning_rate == whole.optimizer.learning_rate
    assert split_state(second_list.state_dict())[0] == split_state(whole_list.state_dict())[0]
    assert (folder / "log.csv").read_text() == (whole_folder / "log.csv").read_text()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole_folder.iterdir())


def test_other_callbacks_cannot_continue_a_run() -> None:
    state = CallbackList([EarlyStopping(), TerminateOnNaN()], Model()).state_dict()
    with pytest.raises(ValueError, match=r"begun with the callbacks \['EarlyStopping', 'TerminateOnNaN'\]; got \["):
        CallbackList([TerminateOnNaN(), EarlyStopping()], Model()).load_state_dict(state)
    with pytest.raises(ValueError, match="begun with"):
        CallbackList([EarlyStopping()], Model()).load_state_dict(state)
    CallbackList([EarlyStopping(), TerminateOnNaN()], Model()).load_state_dict(state)


def test_the_public_names_are_there() -> None:
    for name in db_callbacks.__all__:
        assert getattr(db_callbacks, name).__doc__
