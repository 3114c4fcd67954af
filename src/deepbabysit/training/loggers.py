"""Callbacks that write files: checkpoints, CSV, TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepbabysit.errors import nearest, require, spelled, unknown
from deepbabysit.io.files import LineFile, check_writable
from deepbabysit.io.text import printable, spreadsheet_cell
from deepbabysit.training.callback import Callback, check_monitor
from deepbabysit.training.events import Best, direction


class ModelCheckpoint(Callback):
    """Save the model after every epoch, when it is the best so far, or every so many batches.

    Arguments:
        path: the file; ``{epoch}`` (from 1, as in Keras), ``{batch}`` and names of the logs are filled in, with
            a format if wanted: ``"best-{epoch:02d}-{val_loss:.3f}.dbs"``. Folders are made.
        monitor, mode: what is best, and ``min``, ``max`` or ``auto`` (from the name); used with `save_best_only`.
        save_best_only: save only when `monitor` is better than ever before; NaN is never best.
        save_freq: ``"epoch"``, or a number of batches.
        save: called with the path; None takes the model's own ``save``.
        on_error: when a file cannot be written: ``"announce"`` says so and goes on training, ``"raise"`` raises.

    Raises:
        ValueError: before the first step: a name that the logs will not hold.
        OSError: before the first step: the folder cannot be written.
    """

    @spelled
    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        save: Callable[[str], Any] | None = None,
        on_error: str = "announce",
    ) -> None:
        if save_freq != "epoch" and (isinstance(save_freq, str | bool) or int(save_freq) != save_freq or save_freq < 1):
            raise ValueError(f"save_freq is 'epoch' or a positive number of batches; got {save_freq!r}")
        if on_error not in ("announce", "raise"):
            raise ValueError(unknown("on_error", on_error, ["announce", "raise"]))
        if mode not in ("auto", "min", "max"):
            raise ValueError(unknown("mode", mode, ["auto", "min", "max"]))
        self.path = os.fspath(path)
        self.monitor = monitor
        self.mode = mode
        self.save_best_only = save_best_only
        self.save_freq = save_freq
        self.saved: list[str] = []
        self._save = save
        self._on_error = on_error
        self._best = Best("min")
        self._resumed: Mapping[str, Any] | None = None
        self._epoch = 0
        self._batches = 0
        try:
            self._fields = [field for _, field, _, _ in string.Formatter().parse(self.path) if field is not None]
        except ValueError as error:
            raise ValueError(f"the path {self.path!r} is no format: {error}") from error
        by_batch = save_freq != "epoch"
        self.needs_batch_values = by_batch and (save_best_only or bool(set(self._fields) - {"epoch", "batch"}))

    @property
    def best(self) -> float | None:
        """The best value so far."""
        return self._best.value

    def check(self, available: list[str]) -> None:
        """Raise what cannot work: names in the path, the monitor, the folder."""
        if self.save_freq != "epoch":  # known between the batches of an epoch
            available = [name for name in available if not name.startswith("val_") and name != "learning_rate"]
        if self.save_best_only:
            check_monitor("ModelCheckpoint", self.monitor, available)
            direction(self.monitor, self.mode, self.params.get("directions"))
        for field in self._fields:
            if field not in ("epoch", "batch", *available):
                near = nearest(field, ["epoch", "batch", *available])
                hint = f"did you mean {{{near[0]}}}? " if near else ""
                raise ValueError(
                    f"ModelCheckpoint's path {self.path!r} asks for {{{field}}}, which will not be there; {hint}"
                    f"Valid: epoch, batch, {', '.join(available)}"
                )
        if self._save is None and not callable(getattr(self.model, "save", None)):
            raise TypeError("ModelCheckpoint needs a model with a method save(path), or the argument save=")
        fixed = self.path.split("{", 1)[0]
        folder = os.path.dirname(fixed) if fixed == self.path else os.path.dirname(fixed + "x")
        os.makedirs(folder or ".", exist_ok=True)
        check_writable(os.path.join(folder, "checkpoint"))

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin without a best value, or with that of the run that is continued."""
        mode = direction(self.monitor, self.mode, self.params.get("directions")) if self.save_best_only else "min"
        self._best = Best(mode)
        self._batches = 0
        if self._resumed is not None:
            self._best.value, self._best.epoch = self._resumed["best"], self._resumed["best_epoch"]
            self._batches = self._resumed["batches"]
            self._resumed = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch for the names of files."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save every so many batches."""
        if self.save_freq == "epoch":
            return
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._consider(self._epoch, batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._consider(epoch, None, logs or {})

    def _consider(self, epoch: int, batch: int | None, logs: Mapping[str, float]) -> None:
        if self.save_best_only and (self.monitor not in logs or not self._best.update(logs[self.monitor], epoch)):
            return
        values: dict[str, Any] = {name: logs[name] for name in self._fields if name in logs}
        values |= {"epoch": epoch + 1, "batch": (self.params.get("steps") or 0) if batch is None else batch + 1}
        try:
            path = self.path.format(**values)
        except KeyError as error:
            raise ValueError(f"{self.path!r} asks for {error}, which is not known when the file is saved") from error
        try:
            folder = os.path.dirname(path)
            if folder:
                os.makedirs(folder, exist_ok=True)
            (self._save or self.model.save)(path)
        except OSError as error:
            if self._on_error == "raise":
                raise
            self.announce(f"checkpoint not saved, training goes on: {printable(error)}")
            return
        if path not in self.saved:
            self.saved.append(path)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the count of batches."""
        return {"best": self._best.value, "best_epoch": self._best.epoch, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the best value of the run that is continued."""
        self._resumed = dict(state)


class CSVLogger(Callback):
    """Write one line per epoch into a CSV file that can be read while the run goes on (RFC 4180).

    Arguments:
        path: the file.
        separator: between cells.
        append: keep what is in the file and go on below it; False begins anew. A resumed run goes on by itself.

    Text cells that a spreadsheet would take for a formula get an apostrophe in front.

    Raises:
        OSError: before the first step: the file cannot be written.
        ValueError: the file to go on with has other columns.
    """

    @spelled
    def __init__(self, path: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        if len(separator) != 1:
            raise ValueError(f"separator is one character; got {separator!r}")
        self.path = Path(path)
        self.separator = separator
        self.append = append
        self._file: LineFile | None = None
        self._names: list[str] = []
        self._rows = 0
        self._resumed = False
        self._left_out: set[str] = set()

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the file; a resumed run cuts off the lines after its checkpoint."""
        keep = self._rows + 1 if self._resumed and self._rows else None if self.append and not self._resumed else 0
        if not self._resumed:
            self._rows, self._names = 0, []
        self._resumed = False
        self._file = LineFile(self.path, keep)
        if self._file.lines:
            with open(self.path, newline="", encoding="utf-8") as file:
                there = next(csv.reader(file, delimiter=self.separator))
            names = [spreadsheet_cell(printable(name)) for name in self._names]
            if there[:1] != ["epoch"] or (names and there[1:] != names):
                self._file.close()
                raise ValueError(f"{str(self.path)!r} has the columns {there[:8]}; give another path, or append=False")
            self._names = self._names or there[1:]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a line."""
        logs = logs or {}
        if self._file is None:
            return
        if not self._names:
            self._names = list(logs)
        if not self._file.lines:
            self._write(["epoch", *[printable(name) for name in self._names]])
        cells: dict[str, Any] = {spreadsheet_cell(printable(name)): value for name, value in logs.items()} | dict(logs)
        new = set(logs) - set(self._names) - self._left_out
        new = {name for name in new if spreadsheet_cell(printable(name)) not in self._names}
        if new:
            self._left_out |= new
            self.announce(f"{self.path}: no column for {', '.join(sorted(map(printable, new)))}, left out")
        self._write([epoch, *[_number(cells[name]) if name in cells else "" for name in self._names]])
        self._rows += 1

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, cells: list[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="").writerow([spreadsheet_cell(c) for c in cells])
        assert self._file is not None
        self._file.write(text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the number of lines and the columns."""
        return {"rows": self._rows, "names": list(self._names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the lines of the run that is continued."""
        self._rows, self._names, self._resumed = int(state["rows"]), list(state["names"]), True


def _number(value: Any) -> Any:
    return value if isinstance(value, int | str) else float(value)


class TensorBoard(Callback):
    """Write the numbers of every epoch as TensorBoard scalars, training and validation apart (Keras' layout).

    Arguments:
        log_dir: the folder; ``train`` and ``validation`` are made in it. Show it with ``tensorboard --logdir log_dir``.

    Raises:
        ImportError: the package tensorboard is missing; the message holds the install command.
    """

    @spelled
    def __init__(self, log_dir: str | os.PathLike[str] = "logs") -> None:
        self.log_dir = Path(log_dir)
        self._writers: dict[str, Any] = {}

    def check(self, available: list[str]) -> None:
        """Raise when the package is missing, before the first step."""
        require("tensorboard.summary.writer.event_file_writer", "tensorboard")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write one scalar per name."""
        import time

        events = require("tensorboard.compat.proto.event_pb2", "tensorboard")
        summaries = require("tensorboard.compat.proto.summary_pb2", "tensorboard")
        for name, value in (logs or {}).items():
            held_out = name.startswith("val_")
            tag = "epoch_" + printable(name.removeprefix("val_"))
            summary = summaries.Summary(value=[summaries.Summary.Value(tag=tag, simple_value=float(value))])
            event = events.Event(wall_time=time.time(), step=epoch, summary=summary)
            self._writer("validation" if held_out else "train").add_event(event)
        for writer in self._writers.values():
            writer.flush()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            module = require("tensorboard.summary.writer.event_file_writer", "tensorboard")
            self._writers[part] = module.EventFileWriter(str(self.log_dir / part))
        return self._writers[part]

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
