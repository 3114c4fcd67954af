"""Folders of runs: what they hold, that a cut-off run goes on to the same bits, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit.findings import read_findings
from deepbabysit.io.files import FolderLock
from deepbabysit.training import folder as module
from deepbabysit.training.folder import CHECKPOINT, CONFIG, METRICS, RunFolder

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


class Cut(db.callbacks.Callback):
    """Ends a run by force at an epoch or in the middle of it."""

    needs_batch_values = False

    def __init__(self, epoch: int | None, batch: int | None = None) -> None:
        self.epoch, self.batch, self.now = epoch, batch, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.now == self.epoch and batch == self.batch:
            raise RuntimeError("power cut")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch and self.batch is None:
            raise RuntimeError("power cut")


class Interrupt(Cut):
    """Presses Ctrl-C after a batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.now == self.epoch and batch == self.batch:
            signal.raise_signal(signal.SIGINT)


def made(optimizer: Any = None, precision: str | None = None) -> db.Sequential:
    db.set_seed(5)
    model = db.Sequential([
        db.layers.Dense(16, "relu", input_shape=6, kernel_regularizer=db.regularizers.l2(1e-3)),
        db.layers.BatchNorm(), db.layers.Dropout(0.3), db.layers.Dense(3),
    ])
    model.compile(optimizer or db.optimizers.Adam(0.02, ema=0.9), "cross_entropy", metrics=["accuracy"],
                  precision=precision)
    return model


def fit(model: db.Sequential, cut: Cut, **options: Any) -> db.History:
    """Train with early stopping (that gives weights back), a plateau, a CSV file."""
    csv = options.pop("csv", None)
    callbacks = [
        db.callbacks.EarlyStopping("val_loss", patience=4), db.callbacks.ReduceLROnPlateau(patience=1, factor=0.7), cut,
        *([] if csv is None else [db.callbacks.CSVLogger(csv)]),
    ]
    return model.fit(X, Y, **{
        "batch_size": 32, "epochs": 9, "validation_split": 0.2, "callbacks": callbacks, "verbose": 0, "device": "cpu",
        **options,
    })


def everything(model: db.Sequential) -> dict[str, bytes]:
    """Return weights, states, optimizer states and the next steps as bytes."""
    state = model.optimizer.state_dict()
    found = {name: value.tobytes() for name, value in model.state_dict().items()}
    found |= {f"optimizer {name}": np.asarray(value).tobytes() for name, value in state.pop("arrays").items()}
    found["rest"] = json.dumps(state).encode()
    logs = model.train_on_batch(X[:32], Y[:32])
    return found | {"next": repr(float(logs["loss"])).encode()}


@pytest.mark.parametrize("precision", [None, "float16"])
@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (3, None), (4, 2)])
def test_a_cut_off_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int | None, precision: str | None
) -> None:
    monkeypatch.setattr(module, "SHARE", 1e9)  # a checkpoint after every epoch
    whole = made(precision=precision)
    straight = fit(whole, Cut(None), seed=3, csv=tmp_path / "straight.csv")
    first = made(precision=precision)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(first, Cut(epoch, batch), seed=3, run_dir=tmp_path / "run", csv=tmp_path / "cut.csv")
    second = made(precision=precision)
    second.layers[0].kernel.assign(np.zeros((6, 16), np.float32))  # whatever it begins with is replaced
    history = fit(second, Cut(None), run_dir=tmp_path / "run", resume=True, csv=tmp_path / "cut.csv")
    assert history.history == straight.history
    assert history.epoch == straight.epoch and history.stopped == straight.stopped
    assert (tmp_path / "cut.csv").read_text() == (tmp_path / "straight.csv").read_text()
    assert everything(second) == everything(whole)
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [line["loss"] for line in lines] == straight.history["loss"]
    assert [line["epoch"] for line in lines] == straight.epoch


@pytest.mark.parametrize("batch", [1, 3])  # in the middle of an epoch; at its end, where the validation is left out
def test_an_interrupted_run_goes_on(tmp_path: Path, batch: int) -> None:
    straight = fit(whole := made(), Cut(None), seed=3)
    interrupted = fit(made(), Interrupt(2, batch), seed=3, run_dir=tmp_path / "run")
    assert interrupted.stopped == "interrupt"
    assert len((tmp_path / "run" / METRICS).read_text().splitlines()) == 2
    again = made()
    callbacks = [
        db.callbacks.EarlyStopping("val_loss", patience=4), db.callbacks.ReduceLROnPlateau(patience=1, factor=0.7),
        Interrupt(None),
    ]
    history = fit(again, Cut(None), run_dir=tmp_path / "run", resume=True, callbacks=callbacks)
    assert history.history == straight.history
    assert everything(again) == everything(whole)


def test_rare_checkpoints_only_cost_repeated_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 1e-9)  # never but at the begin and the end
    whole = made()
    straight = fit(whole, Cut(None), seed=3)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(made(), Cut(4, 2), seed=3, run_dir=tmp_path / "run")
    assert len((tmp_path / "run" / METRICS).read_text().splitlines()) == 4
    again = made()
    history = fit(again, Cut(None), run_dir=tmp_path / "run", resume=True)
    assert history.history == straight.history
    assert len((tmp_path / "run" / METRICS).read_text().splitlines()) == len(straight.epoch)
    assert everything(again) == everything(whole)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    model = made(db.optimizers.SGD(300.0))
    path = tmp_path / "a" / "run"
    history = model.fit(X, Y, epochs=3, verbose=0, run_dir=path, seed=1, device="cpu")
    config = json.loads((path / CONFIG).read_text())
    assert config["stopped"] == "epochs" and config["epochs_done"] == 3 and config["run"]["batch_size"] == 32
    assert json.loads((path / "env.json").read_text())["numpy"] == np.__version__
    assert len((path / METRICS).read_text().splitlines()) == 3
    assert history.findings and [f.code for f in read_findings(path)] == [f.code for f in history.findings]
    twin = db.load_model(path / "model.dbs")
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    assert sorted(p.name for p in path.rglob("*") if p.is_file()) == [
        "config.json", "env.json", "findings.jsonl", "last.safetensors", "metrics.jsonl", "model.dbs"
    ]


def test_a_run_may_be_made_longer_and_an_ended_one_stays_ended(tmp_path: Path) -> None:
    whole = made()
    straight = whole.fit(X, Y, epochs=5, verbose=0, seed=1, device="cpu")
    model = made()
    model.fit(X, Y, epochs=2, verbose=0, seed=1, run_dir=tmp_path / "run", device="cpu")
    assert model.fit(X, Y, epochs=5, verbose=0, run_dir=tmp_path / "run", resume=True, device="cpu").history == (
        straight.history
    )
    assert everything(model) == everything(whole)
    stop = [db.callbacks.EarlyStopping("loss", min_delta=1e6, patience=2)]
    ended = made().fit(X, Y, epochs=9, verbose=0, run_dir=tmp_path / "ended", callbacks=stop, device="cpu", seed=1)
    other = made()
    again = other.fit(X, Y, epochs=9, verbose=0, run_dir=tmp_path / "ended", resume=True, device="cpu", callbacks=[
        db.callbacks.EarlyStopping("loss", min_delta=1e6, patience=2)])
    assert ended.stopped.startswith("early stopping") and again.stopped == ended.stopped
    assert again.history == ended.history
    best = db.load_model(tmp_path / "ended" / "model.dbs").state_dict()
    assert all((other.state_dict()[name] == value).all() for name, value in best.items())


def test_what_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "verbose": 0, "device": "cpu"}
    with pytest.raises(ValueError, match="run_dir="):
        made().fit(X, Y, resume=True, **options)
    with pytest.raises(FileNotFoundError, match="no run in"):
        made().fit(X, Y, run_dir=tmp_path / "new", resume=True, **options)
    made().fit(X, Y, run_dir=tmp_path / "run", seed=2, **options)
    with pytest.raises(FileExistsError, match="resume=True"):
        made().fit(X, Y, run_dir=tmp_path / "run", **options)

    def resumed(x: Any = X, **more: Any) -> None:
        made().fit(x, Y, run_dir=tmp_path / "run", resume=True, **{**options, **more})

    for more, name in (({"batch_size": 16}, "batch_size=32; got 16"), ({"seed": 7}, "seed=2; got 7"),
                       ({"accumulate": 2}, "accumulate"), ({"x": X + 1}, "data")):
        with pytest.raises(ValueError, match=name):
            resumed(**more)
    with pytest.raises(ValueError, match="callbacks"):
        resumed(callbacks=[db.callbacks.TerminateOnNaN()])
    resumed()  # none of it has left the folder locked or changed
    broken = tmp_path / "run" / CHECKPOINT
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(ValueError, match="safetensors"):
        resumed()
    (tmp_path / "run" / CONFIG).write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        resumed()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    held = FolderLock(tmp_path)
    code = f"from deepbabysit.training.folder import RunFolder; RunFolder({str(tmp_path)!r}, False)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "another process trains" in other.stderr
    held.release()
    RunFolder(tmp_path, False).close()


def test_a_model_that_cannot_be_saved_is_trained_and_resumed(tmp_path: Path) -> None:
    def model() -> db.Sequential:
        db.set_seed(1)
        made = db.Sequential([db.layers.Lambda(lambda x: x * 2.0), db.layers.Dense(3)])
        made.compile("adam", "cross_entropy")
        return made

    with pytest.warns(UserWarning, match="model.dbs was not written"):
        model().fit(X, Y, epochs=1, verbose=0, run_dir=tmp_path / "run", device="cpu")
    with pytest.warns(UserWarning, match="model.dbs was not written"):
        history = model().fit(X, Y, epochs=2, verbose=0, run_dir=tmp_path / "run", resume=True, device="cpu")
    assert history.epoch == [0, 1]
