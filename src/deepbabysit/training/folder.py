"""The folder of a run: what it is, its numbers, and everything that it takes to go on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import numpy as np

from deepbabysit.io.files import FolderLock, LineFile, atomic_write, clear_leftovers
from deepbabysit.io.tensors import read_tensors, write_tensors
from deepbabysit.io.text import printable
from deepbabysit.runtime.context import current
from deepbabysit.training.arrays import Source
from deepbabysit.training.callback import CallbackList
from deepbabysit.training.events import Controls, Listener, RunInfo
from deepbabysit.training.history import History

CONFIG, METRICS, ENVIRONMENT, CHECKPOINT = "config.json", "metrics.jsonl", "env.json", "checkpoints/last.safetensors"
CHOICES = "tuning.json"
FORMAT = 1
KEY = "run"
WEIGHT, STATE, CALLBACK = "weight:", "optimizer:", "callback:"
SHARE = 0.05  # of the time of the run that checkpoints may take
_ROWS = 64  # rows that tell data apart
_PACKAGES = ("deepbabysit", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x")


@final
class RunFolder(Listener):
    """Writes the files of a run, and gives back its state when it is resumed.

    ``config.json`` (what was asked for, why it ended), ``env.json`` (versions), ``metrics.jsonl`` (a line per epoch),
    ``checkpoints/last.safetensors``: weights, states, optimizer, callbacks, history at the end of an epoch;
    ``tuning.json``: what a device chose by timing, where it was asked to. Files are whole or absent; nothing in them is
    executable. A checkpoint is written as often as it costs 5 % of the time, and at the end of the run. Orders of
    rows and random numbers are functions of seed, epoch and step, so that a resumed run repeats the epoch that was cut
    off and has the bits of one that was not.

    Arguments:
        path: the folder; made where it is not there.
        resume: go on with the run in it.

    Raises:
        FileExistsError: there is a run in it already, and it is not to be resumed.
        FileNotFoundError: there is no run in it to resume.
        RuntimeError: another process trains in it.
        ValueError: a file in it is damaged, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool) -> None:
        self.path = Path(path)
        there = (self.path / CONFIG).exists()
        if resume and not there:
            raise FileNotFoundError(
                f"there is no run in {str(path)!r} to resume: no {CONFIG}; begin one with fit(run_dir=...)"
            )
        if there and not resume:
            raise FileExistsError(
                f"{str(path)!r} holds a run already: continue it with resume=True (--resume), or name another folder"
            )
        (self.path / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        clear_leftovers(self.path)
        clear_leftovers((self.path / CHECKPOINT).parent)
        self._config: dict[str, Any] = self._read_config() if resume else {}
        self._resume = resume
        self._trainer: Any = None
        self._watchers: CallbackList | None = None
        self._history = History()
        self._info = RunInfo(epochs=0)
        self._lines: LineFile | None = None
        self._done = 0  # whole epochs
        self._steps = self._begun = 0  # steps of the optimizer at the end of the last whole epoch; at the last begin
        self._unsaved = False
        self._saved, self._cost = 0.0, 0.0

    def _read_config(self) -> dict[str, Any]:
        path = self.path / CONFIG
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            known = found["format"], dict(found["run"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it does not describe a run ({error!r})") from error
        if known[0] != FORMAT:
            raise ValueError(f"{path} has format {known[0]!r}; this version reads {FORMAT}. Update deepbabysit")
        return dict(found)

    def seed(self, given: int | None, default: int) -> int:
        """Return the seed of the run: that which it was begun with."""
        begun = self._config.get("run", {}).get("seed")
        return begun if given is None and begun is not None else default if given is None else given

    @property
    def ended(self) -> str:
        """Why a callback or the babysitter ended the run that is resumed; empty where it may go on."""
        return str(self._config.get("ended", ""))

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._lines is not None:
            self._lines.close()
        self._lock.release()

    def begin(
        self, trainer: Any, watchers: CallbackList, info: RunInfo, source: Source, shuffle: bool,
        say: Callable[[str], None],
    ) -> tuple[RunInfo, History]:
        """Write what the run is, or take over the state that it stopped in; returns the plan and the history.

        Raises:
            ValueError: the run was begun with other data, settings, layers or callbacks.
        """
        self._trainer, self._watchers = trainer, watchers
        settings = json.loads(json.dumps({
            "seed": info.seed, "batch_size": info.batch_size, "accumulate": info.accumulate, "shuffle": bool(shuffle),
            "samples": info.samples, "validation_samples": info.validation_samples, "metrics": info.metrics,
            "inputs": source.shapes, "data": fingerprint(source.loader.x, source.loader.y), "model": info.model,
            "parameters": {name: p.shape for name, p in trainer.layer.named_parameters()}, "loss": trainer.loss.name,
            "optimizer": trainer.optimizer.name, "precision": trainer.precision.name,
        }))
        here = _environment()
        if self._resume:
            self._compare(settings)
            self._restore()
            self._say_versions(here, say)
        self._config = {"format": FORMAT, "run": settings, "epochs": info.epochs, "stopped": "", "ended": self.ended}
        self._lines = LineFile(self.path / METRICS, self._done)
        self._steps = trainer.optimizer.steps
        if not self._resume:
            self._save()
        self._write(ENVIRONMENT, here)
        self._write(CONFIG, self._config)
        return replace(info, first_epoch=self._done), self._history

    def _compare(self, settings: Mapping[str, Any]) -> None:
        begun = self._config["run"]
        for name in dict.fromkeys([*begun, *settings]):
            was, now = begun.get(name), settings.get(name)
            if was == now:
                continue
            if name == "data":
                was, now = "other rows", "these"
            raise ValueError(
                f"the run in {str(self.path)!r} was begun with {name}={_short(was)}; got {_short(now)}: give the same "
                f"to resume it, or name another run_dir"
            )

    def _say_versions(self, here: Mapping[str, Any], say: Callable[[str], None]) -> None:
        path = self.path / ENVIRONMENT
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [f"{k} {before[k]} (now {v})" for k, v in here.items() if before.get(k, v) != v]
        except (OSError, ValueError, TypeError, KeyError):
            return
        if other:
            say(f"the run was begun with {', '.join(map(printable, other))}: its last bits may differ from here on")

    # -- state ---------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the checkpoint."""
        began = time.perf_counter()
        trainer, watchers = self._trainer, self._watchers
        assert watchers is not None
        optimizer = trainer.optimizer.state_dict()
        arrays = {STATE + name: np.asarray(value) for name, value in optimizer.pop("arrays").items()}
        arrays |= {WEIGHT + name: value for name, value in trainer.layer.state_dict().items()}
        callbacks = watchers.state_dict()
        arrays |= {CALLBACK + name: value for name, value in callbacks.items() if isinstance(value, np.ndarray)}
        state = {
            "format": FORMAT, "epochs": self._done, "steps": trainer.steps, "optimizer": optimizer,
            "callbacks": {name: value for name, value in callbacks.items() if not isinstance(value, np.ndarray)},
            "history": self._history.to_config(),
        }
        write_tensors(self.path / CHECKPOINT, arrays, {KEY: json.dumps(state)})
        self._unsaved = False
        self._saved = time.perf_counter()
        self._cost = self._saved - began

    def _restore(self) -> None:
        """Take over the state of the checkpoint."""
        path = self.path / CHECKPOINT
        trainer, watchers = self._trainer, self._watchers
        assert watchers is not None
        tensors, metadata = read_tensors(path)
        try:
            state = json.loads(metadata[KEY])
            found = state["format"]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it holds no state of a run ({error!r})") from error
        if found != FORMAT:
            raise ValueError(f"{path} has format {found!r}; this version reads {FORMAT}. Update deepbabysit")

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

        watchers.load_state_dict({**state["callbacks"], **part(CALLBACK)})
        trainer.layer.load_state_dict(part(WEIGHT))
        trainer.optimizer.load_state_dict({**state["optimizer"], "arrays": part(STATE)})
        trainer.steps = int(state["steps"])
        self._done, self._history = int(state["epochs"]), History.from_config(state["history"])

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        atomic_write(self.path / name, (json.dumps(values, indent=1) + "\n").encode())

    # -- events --------------------------------------------------------------------------------------------------------

    def run_begin(self, run: RunInfo) -> None:
        """Know the plan."""
        self._info = run
        self._saved = time.perf_counter()

    def handed(self, controls: Controls) -> None:
        """Nothing is needed."""

    def epoch_begin(self, epoch: int) -> None:
        """Count the steps of an epoch."""
        self._begun = self._trainer.optimizer.steps

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the numbers of a whole epoch, and now and then the state."""
        steps = self._trainer.optimizer.steps
        cut_off = self._info.steps is not None and steps - self._begun < self._info.steps
        if cut_off or (self._info.validated and "val_loss" not in logs) or self._lines is None:
            return  # it is repeated when the run is resumed
        line = {name: float(v) if math.isfinite(v) else str(float(v)) for name, v in logs.items()}
        self._lines.write(json.dumps({"epoch": epoch, **line}))
        self._done, self._steps, self._unsaved = epoch + 1, steps, True
        if time.perf_counter() - self._saved >= self._cost / SHARE:
            self._save()

    def run_end(self, stopped: str) -> None:
        """Write the state, if it is that of a whole epoch (callbacks have not given best weights back yet)."""
        try:
            if self._unsaved and self._trainer.optimizer.steps == self._steps:
                self._save()
            failed = sys.exc_info()[0] is not None
            self._config["stopped"] = stopped
            self._config["ended"] = "" if failed or stopped in ("epochs", "interrupt") else stopped
            self._config |= {"epochs_done": self._done, "seconds": self._history.seconds, "best": self._history.best,
                             "best_epoch": self._history.best_epoch, "monitor": self._history.monitor}
            self._write(CONFIG, self._config)
            choices = self._trainer.layer.device.backend.choices
            if current().tune and choices is not None:
                self._write(CHOICES, choices())
        finally:
            self.close()


def _short(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def fingerprint(*parts: Any) -> str:
    """Return a checksum over some rows of arrays, for telling data apart; parts that are no arrays do not count.

    >>> import numpy as np
    >>> fingerprint(np.arange(3)) == fingerprint(np.arange(3)), fingerprint(np.arange(3)) == fingerprint(np.arange(4))
    (True, False)
    """
    found = hashlib.sha256()
    for part in parts:
        for array in part if isinstance(part, list | tuple) else (part,):
            if isinstance(array, np.ndarray) and array.ndim:
                found.update(repr((array.shape, array.dtype.str)).encode())
                found.update(np.ascontiguousarray(array[:: max(len(array) // _ROWS, 1)]).tobytes())
    return found.hexdigest()


def _environment() -> dict[str, Any]:
    """Return versions and machine."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": f"{sys.platform} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
