"""The picture of a history; it lies beside History, which cannot import the report (imports point up)."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deepbabysit.errors import require
from deepbabysit.io.files import atomic_write
from deepbabysit.io.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".pdf")
# Okabe and Ito's palette: told apart with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_RATE_COLOUR = "#777777"
_TITLE_LIMIT = 110


class Curves(Protocol):
    """What is drawn: the part of History that the picture needs."""

    history: dict[str, list[float]]
    epoch: list[int]
    stopped: str
    monitor: str

    @property
    def best_epoch(self) -> int | None:
        """The best epoch, from 0."""

    @property
    def best(self) -> float | None:
        """The best value of `monitor`."""


def draw(history: Curves, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw losses (upper panel, learning rate on a second axis) and metrics (lower panel); mark the best epoch.

    Raises:
        ImportError: matplotlib is missing; the message holds the install command.
        ValueError: there is no epoch yet, or the kind of file is unknown.
    """
    if path is not None:
        kind_of(path)
    if not history.epoch:
        raise ValueError("there is nothing to plot: no epoch has ended yet")
    figures = require("matplotlib.figure", "plot")
    losses, metrics = _panels(history)
    panels = 2 if metrics else 1
    figure: Figure = figures.Figure(figsize=(8.0, 2.2 + 2.4 * panels), dpi=120, layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    _panel(axes[0], history, losses, "loss")
    if metrics:
        _panel(axes[1], history, metrics, "metric")
    _rate(axes[0], history)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(literal(_title(history)), fontsize=10)
    if path is not None:
        save(figure, path)
    return figure


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a picture's path; raise ValueError for a kind that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in KINDS:
        raise ValueError(f"a picture's name ends with {', '.join(KINDS)}; got {str(path)!r}")
    return suffix


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save a picture, whole or not at all; the kind follows from the suffix."""
    atomic_write(path, rendered(figure, kind_of(path)))


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return a picture as bytes; the same picture gives the same bytes (no date inside)."""
    canvas = {".png": "matplotlib.backends.backend_agg", ".svg": "matplotlib.backends.backend_svg"}
    require(canvas.get(suffix, "matplotlib.backends.backend_pdf"), "plot")
    matplotlib = require("matplotlib", "plot")
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    with matplotlib.rc_context({"svg.hashsalt": "deepbabysit"}):
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
    return buffer.getvalue()


def literal(text: str) -> str:
    """Return text that matplotlib shows as it is: no formula between dollar signs, no control characters."""
    return printable(text).replace("$", r"\$")


def _panels(history: Curves) -> tuple[list[str], list[str]]:
    names = [name for name in history.history if name != "learning_rate" and not name.startswith("val_")]
    names += [name[4:] for name in history.history if name.startswith("val_") and name[4:] not in names]
    losses = [name for name in names if name in ("loss", "data_loss")]
    return losses, [name for name in names if name not in losses]


def _panel(axis: Axes, history: Curves, names: list[str], kind: str) -> None:
    numbers = [epoch + 1 for epoch in history.epoch]
    marker = "o" if len(numbers) < 3 else ""  # a line of one point is invisible
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        for full, style, label in (
            (name, "-", f"{name} (training, running mean)"),
            (f"val_{name}", "--", f"{name} (validation)"),
        ):
            if full in history.history:
                values = history.history[full]
                axis.plot(numbers, values, style, marker=marker, color=colour, label=literal(label), linewidth=1.6)
    best = history.best_epoch
    if best is not None:
        axis.axvline(best + 1, color="#999999", linewidth=0.9, linestyle=":")
        if history.monitor.removeprefix("val_") in names and history.best is not None:
            label = f"best {history.monitor} {history.best:.4g}, epoch {best + 1}"
            axis.plot([best + 1], [history.best], "*", color="#000000", markersize=10, label=literal(label))
    shown = [v for n in names for full in (n, f"val_{n}") for v in history.history.get(full, ()) if math.isfinite(v)]
    if shown and min(shown) > 0 and max(shown) > 100 * min(shown):
        axis.set_yscale("log")
    axis.set_ylabel(literal(names[0]) if len(names) == 1 else kind)
    axis.grid(True, alpha=0.25)
    axis.legend(fontsize=8, framealpha=0.8)


def _rate(axis: Axes, history: Curves) -> None:
    values = history.history.get("learning_rate")
    if not values:
        return
    second = axis.twinx()
    second.plot([epoch + 1 for epoch in history.epoch], values, color=_RATE_COLOUR, linewidth=1.0, alpha=0.7)
    second.set_ylabel("learning rate", color=_RATE_COLOUR, fontsize=8)
    second.tick_params(axis="y", labelsize=7, colors=_RATE_COLOUR)
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 20 * min(finite):
        second.set_yscale("log")
    else:
        second.set_ylim(bottom=0)


def _title(history: Curves) -> str:
    why = history.stopped or "still running"
    if why == "epochs":
        why = "all epochs done"
    text = f"{len(history.epoch)} epochs; ended: {why}" if history.stopped else f"{len(history.epoch)} epochs; {why}"
    return text if len(text) <= _TITLE_LIMIT else text[: _TITLE_LIMIT - 3] + "..."
