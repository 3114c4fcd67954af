"""History: the numbers of a run, epoch by epoch, and why it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from deepbabysit.errors import require
from deepbabysit.training.curves import draw
from deepbabysit.training.events import Best, Listener, RunInfo, direction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(Listener):
    """What a run leaves: a list of numbers per name, findings, and why it ended.

    Attributes:
        history: lists of floats by name (``loss``, ``data_loss`` where there are penalties, metrics, ``val_*``,
            ``learning_rate``), one number per epoch; NaN where an epoch did not report the name.
        epoch: the epochs, from 0.
        findings: what the babysitter found, likeliest cause first.
        stopped: why the run ended, in words: ``epochs``, ``interrupt``, ``stop requested``, ``early stopping: ...``.
        monitor: the name that the best epoch is chosen by.
        best: its best value, or None; `best_epoch` is the epoch (from 0, as in `epoch`).
        seconds: how long the run took.
        judge: returns the babysitter's verdict; None where nobody watched.
        choices: what the device chose by timing (``compile(tune=True)``), and which device and library that was.

    >>> from deepbabysit.training.events import RunInfo
    >>> history = History()
    >>> history.run_begin(RunInfo(epochs=2))
    >>> for epoch, loss in enumerate([0.5, 0.25]):
    ...     history.epoch_end(epoch, {"loss": loss})
    >>> history.run_end("epochs")
    >>> history.history["loss"], history.best_epoch, history.stopped
    ([0.5, 0.25], 1, 'epochs')
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.findings: list[Any] = []
        self.stopped = ""
        self.monitor = "loss"
        self.mode = "min"
        self.epochs = 0
        self.seconds = 0.0
        self.judge: Callable[[], str] | None = None
        self.choices: dict[str, Any] = {}
        self._before = 0.0
        self._began: float | None = None

    # -- what the loop reports -----------------------------------------------------------------------------------------

    def run_begin(self, run: RunInfo) -> None:
        """Begin, or go on after the epochs that are there already."""
        self.monitor, self.mode, self.epochs = run.monitor, run.mode, run.epochs
        self.stopped = ""
        self._before, self._began = self.seconds, time.monotonic()

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the numbers of an epoch as floats."""
        count = len(self.epoch)
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, [math.nan] * count).append(float(value))
        for values in self.history.values():
            if len(values) == count:
                values.append(math.nan)
        self._tick()

    def run_end(self, stopped: str) -> None:
        """Keep why the run ended."""
        self.stopped = stopped
        self._tick()

    def _tick(self) -> None:
        if self._began is not None:
            self.seconds = self._before + time.monotonic() - self._began

    # -- what users read -----------------------------------------------------------------------------------------------

    def _best(self) -> Best:
        best = Best(self.mode)
        for epoch, value in zip(self.epoch, self.history.get(self.monitor, ()), strict=False):
            best.update(value, epoch)
        return best

    @property
    def best_epoch(self) -> int | None:
        """The epoch (from 0) with the best finite value of `monitor`, the first of equals; None without one."""
        return self._best().epoch

    @property
    def best(self) -> float | None:
        """The best finite value of `monitor`, or None."""
        return self._best().value

    def verdict(self) -> str:
        """Return one screen about the run: what happened, likely causes with evidence, what to try first."""
        if self.judge is None:
            return "nobody watched this run (babysit=False), so there is no verdict"
        return self.judge()

    def plot(self, path: Any = None) -> Figure:
        """Draw the curves of training and validation, the learning rate and the best epoch.

        Arguments:
            path: where to save the picture (.png, .svg or .pdf), or None.

        Returns:
            The matplotlib Figure; notebooks show it.

        Raises:
            ImportError: matplotlib is missing; the message holds the install command.
            ValueError: there is no epoch yet, or the kind of file is unknown.
        """
        return draw(self, path)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row per epoch.

        Raises:
            ImportError: pandas is missing; the message holds the install command.
        """
        pandas = require("pandas", "data")
        return pandas.DataFrame(self.history, index=pandas.Index(self.epoch, name="epoch"))

    def to_config(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; numbers that are not finite become texts (``nan``, ``inf``)."""
        return {
            "history": {name: [_plain(value) for value in values] for name, values in self.history.items()},
            "epoch": list(self.epoch),
            "findings": [_finding(finding) for finding in self.findings],
            "stopped": self.stopped,
            "monitor": self.monitor,
            "mode": self.mode,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best": self.best,
            "seconds": self.seconds,
            "choices": self.choices,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> History:
        """Make the history again from what `to_config` returned (findings stay as they are there).

        Raises:
            ValueError: something is missing, or a list has not one number per epoch.
        """
        made = cls()
        try:
            made.history = {str(name): [float(v) for v in values] for name, values in config["history"].items()}
            made.epoch = [int(epoch) for epoch in config["epoch"]]
            made.findings = list(config["findings"])
            made.stopped, made.monitor = str(config["stopped"]), str(config["monitor"])
            made.mode = direction(made.monitor, config["mode"])
            made.epochs, made.seconds = int(config["epochs"]), float(config["seconds"])
            made.choices = dict(config.get("choices", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is not what History.to_config() returns: {error!r}") from error
        for name, values in made.history.items():
            if len(values) != len(made.epoch):
                raise ValueError(f"{name!r} has {len(values)} numbers for {len(made.epoch)} epochs")
        return made

    def __repr__(self) -> str:
        if not self.epoch:
            return "History(no epoch yet)"
        parts = [f"{len(self.epoch)} epochs"]
        for name in dict.fromkeys(["loss", self.monitor]):
            if name in self.history:
                parts.append(f"{name} {self.history[name][0]:.4g} -> {self.history[name][-1]:.4g}")
        if self.best_epoch is not None:
            parts.append(f"best {self.monitor} {self.best:.4g} (best_epoch={self.best_epoch})")
        parts.append(f"stopped: {self.stopped!r}" if self.stopped else "running")
        if self.findings:
            parts.append(f"{len(self.findings)} findings")
        return f"History({', '.join(parts)})"


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _finding(finding: Any) -> Any:
    to_config = getattr(finding, "to_config", None) or getattr(finding, "as_dict", None)
    return to_config() if callable(to_config) else finding if isinstance(finding, dict | str) else str(finding)
