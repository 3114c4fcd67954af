"""Pictures for reports: the curves of one run as SVG text, and several runs in one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deepbabysit.errors import require, unknown
from deepbabysit.training.curves import COLOURS, draw, kind_of, literal, rendered, save
from deepbabysit.training.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves_svg(history: History) -> str:
    """Return the curves of a run as one ``<svg>`` element, to stand inside an HTML page.

    Raises:
        ImportError: matplotlib is missing; the message holds the install command.
        ValueError: there is no epoch yet.
    """
    text = rendered(draw(history), ".svg").decode()
    return text[text.index("<svg") :]


def compare(
    histories: Mapping[str, History], name: str | None = None, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draw one number of several runs into one picture.

    Arguments:
        histories: the runs by the name that the legend shows.
        name: which number; None takes what the first run monitors.
        path: where to save the picture (.png, .svg or .pdf), or None.

    Raises:
        ImportError: matplotlib is missing; the message holds the install command.
        KeyError: a run has no such number.
        ValueError: there are no runs, or the kind of file is unknown.
    """
    if path is not None:
        kind_of(path)
    if not histories:
        raise ValueError("there is nothing to compare: give at least one history")
    name = name or next(iter(histories.values())).monitor
    for label, history in histories.items():
        if name not in history.history:
            raise KeyError(f"run {label!r}: {unknown('number', name, history.history)}")
    figures = require("matplotlib.figure", "plot")
    figure: Figure = figures.Figure(figsize=(8.0, 4.5), dpi=120, layout="constrained")
    axis = figure.subplots()
    for index, (label, history) in enumerate(histories.items()):
        numbers = [epoch + 1 for epoch in history.epoch]
        colour = COLOURS[index % len(COLOURS)]
        marker = "o" if len(numbers) < 3 else ""
        axis.plot(numbers, history.history[name], marker=marker, color=colour, label=literal(label), linewidth=1.6)
    axis.set_xlabel("epoch")
    axis.set_ylabel(literal(name))
    axis.grid(True, alpha=0.25)
    axis.legend(fontsize=8)
    if path is not None:
        save(figure, path)
    return figure
