"""What is shown while a model trains: a live table on a terminal, plain lines in a pipe, one cell in a notebook.

Every epoch leaves one row that stays. What moves is one line below the rows, drawn at most twice a second; the numbers
are read from the device only when it is drawn. Terminal codes are made by rich at the very end, never put into texts.
"""

from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast, final

from deepbabysit.io.text import printable
from deepbabysit.training.events import Best, Listener, RunInfo, StepInfo

REDRAW_S = 0.5
SOON_S, LATE_S = 0.02, 0.1  # between two looks at the clock
_MOST_STEPS = 4096
PROGRESS_LINE_S = 30.0
# A run of more epochs than this writes its plain lines at most once a second.
MANY_EPOCHS = 200
_MANY_LINE_S = 1.0
_BAR = 20
_NOTEBOOK_STYLE = "max-height:32em;overflow:auto;line-height:1.25"


def display_for(verbose: Any = "auto", stream: TextIO | None = None) -> Listener | None:
    """Return who shows a run, or None where nothing is to be shown.

    Arguments:
        verbose: ``"auto"`` or True chooses by where the output goes (terminal, notebook, pipe); 0 or False is silent; 1
            writes plain lines; 2 writes one plain line per epoch and nothing in between.
        stream: where to write; None is standard output.

    Raises:
        ValueError: another value of verbose.
    """
    stream = sys.stdout if stream is None else stream
    if verbose == "auto" or verbose is True:
        if stream is sys.stdout and _in_notebook():
            return NotebookDisplay()
        if _is_terminal(stream):
            return TerminalDisplay(stream)
        return PlainDisplay(stream)
    if verbose in (0, 1, 2):
        return None if verbose == 0 else PlainDisplay(stream, progress=verbose == 1)
    raise ValueError(f"verbose is 'auto', 0 (silent), 1 (plain lines) or 2 (one line per epoch); got {verbose!r}")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except (AttributeError, ValueError):  # a stand-in without isatty, or a closed stream
        return False


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def duration(seconds: float) -> str:
    """Return a time as people write it.

    >>> duration(0.0123), duration(12.34), duration(200), duration(3723)
    ('12 ms', '12.3 s', '3:20', '1:02:03')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float) -> str:
    """Return a number with four digits.

    >>> number(0.123456), number(1e-5), number(float("nan"))
    ('0.1235', '1e-05', 'nan')
    """
    return f"{value:.4g}"


def label(name: str) -> str:
    """Return what a column is called: the training loss is a running mean over the epoch, and says so.

    >>> label("loss"), label("val_loss"), label("learning_rate")
    ('loss (running)', 'val_loss', 'rate')
    """
    if name in ("loss", "data_loss"):
        return f"{name} (running)"
    return "rate" if name == "learning_rate" else printable(name)


@final
class Board:
    """The texts of a run, as plain single lines: what all displays have in common.

    Arguments:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.run = RunInfo(epochs=0)
        self.best = Best("min")
        self.columns: list[tuple[str, int]] = []
        self.done = 0
        self._began = self._epoch_began = clock()

    def begin(self, run: RunInfo) -> list[str]:
        """Take the facts of a run; return the lines that tell them."""
        self.run, self.best, self.done = run, Best(run.mode), 0
        self._began = self._epoch_began = self.clock()
        self.columns = [(name, max(len(label(name)), 9)) for name in run.names()]
        facts = [f"training {run.model} on {run.device}" if run.model else f"training on {run.device}"]
        facts.append(f"{run.parameters:,} parameters")
        if run.samples is not None:
            facts.append(f"{run.samples:,} samples")
        if run.batch_size is not None:
            facts.append(f"batches of {run.batch_size}" + (f" x {run.accumulate}" if run.accumulate > 1 else ""))
        if run.steps is not None:
            facts.append(f"{run.steps:,} steps per epoch")
        if run.seed is not None:
            facts.append(f"seed {run.seed}")
        lines = [printable(", ".join(facts))]
        if run.first_epoch:
            lines.append(f"continues after epoch {run.first_epoch} of {run.epochs}")
        if run.validation:
            lines.append(printable(run.validation))
        return lines

    def epoch_begin(self) -> None:
        """Take the time."""
        self._epoch_began = self.clock()

    def _epoch(self, epoch: int) -> str:
        return f"{epoch + 1}/{self.run.epochs}"

    def header(self) -> str:
        """Return the names of the columns."""
        width = len(self._epoch(self.run.epochs - 1))
        cells = [
            "epoch".rjust(max(width, 5)),
            *[label(name).rjust(wide) for name, wide in self.columns],
            "time".rjust(8),
        ]
        return "  ".join(cells)

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> tuple[str, str]:
        """Take the numbers of an epoch; return its row of the table, and the same in words."""
        self.done += 1
        took = duration(self.clock() - self._epoch_began)
        value = logs.get(self.run.monitor)
        mark = "  * best" if value is not None and self.best.update(float(value), epoch) else ""
        names = [name for name, _ in self.columns]
        more = [f"{label(name)} {number(float(logs[name]))}" for name in logs if name not in names]
        cells = [self._epoch(epoch).rjust(max(len(self._epoch(self.run.epochs - 1)), 5))]
        for name, wide in self.columns:
            cells.append((number(float(logs[name])) if name in logs else "-").rjust(wide))
        cells += [took.rjust(8), *more]
        words = [f"{label(name)} {number(float(logs[name]))}" for name in names if name in logs]
        return "  ".join(cells) + mark, "  ".join([f"epoch {self._epoch(epoch)}", *words, *more, took]) + mark

    def progress(self, step: StepInfo) -> str:
        """Return where an epoch stands; reads the numbers of the step."""
        passed = self.clock() - self._epoch_began
        done, steps = step.step + 1, self.run.steps
        parts = [f"epoch {self._epoch(step.epoch)}"]
        if steps:
            filled = min(_BAR, _BAR * done // steps)
            parts.append(f"[{'=' * filled}{'.' * (_BAR - filled)}] {done}/{steps}")
        else:
            parts.append(f"step {done}")
        parts += [f"{label(name)} {number(float(value))}" for name, value in step.logs.items()]
        parts.append(f"{duration(passed / done)}/step")
        if steps and done < steps:
            parts.append(f"{duration(passed / done * (steps - done))} left in epoch")
        return "  ".join(parts)

    def end(self, stopped: str) -> str:
        """Return why the run ended and which epoch was best."""
        took = duration(self.clock() - self._began)
        count = self.run.first_epoch + self.done
        if stopped == "epochs":
            text = f"all {count} epochs done in {took}"
        else:
            text = f"ended after {count} of {self.run.epochs} epochs in {took}: {printable(stopped)}"
        if self.best.epoch is not None and self.best.value is not None:
            text += f"; best {printable(self.run.monitor)} {number(self.best.value)} in epoch {self.best.epoch + 1}"
        return text


@final
class _Shelter:
    """A stream that never ends the training: a reader that goes away only ends the watching.

    rich answers a broken pipe by leaving the process; it therefore never sees one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False

    def write(self, text: str) -> int:
        """Write; characters that the stream's encoding lacks are written as codes."""
        if not self._gone:
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            try:
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError):  # broken pipe, full disk, closed stream
                self._gone = True
        return len(text)

    def flush(self) -> None:
        """Flush."""
        if not self._gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._gone = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@final
class _Glances:
    """How many steps pass before the clock is looked at again: a look costs a tiny network a tenth of its step."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._stride = 1

    def next(self, step: StepInfo, now: float) -> int:
        """Return the step of the trainer after which to look again."""
        passed, self._last = now - self._last, now
        if passed < SOON_S:
            self._stride = min(2 * self._stride, _MOST_STEPS)
        elif passed > LATE_S:
            self._stride = max(self._stride // 4, 1)
        return step.total + self._stride - 1


@final
class PlainDisplay(Listener):
    """Lines without any terminal code, for pipes, files and batch systems.

    One line per epoch; a run of more than 200 epochs writes at most one a second (and always the last). Within a long
    epoch a line tells every 30 seconds where it stands.
    """

    glances = True

    def __init__(self, stream: TextIO, progress: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = _Shelter(stream)
        self._progress = progress
        self._board = Board(clock)
        self._last = clock()
        self._glances = _Glances(self._last)
        self._held: str | None = None

    def run_begin(self, run: RunInfo) -> None:
        """Tell the facts of the run."""
        for line in self._board.begin(run):
            self._line(line)
        if self._throttled:
            self._line(f"{run.epochs:,} epochs: at most one line a second")

    @property
    def _throttled(self) -> bool:
        return self._progress and self._board.run.epochs > MANY_EPOCHS

    def epoch_begin(self, epoch: int) -> None:
        """Take the time."""
        self._board.epoch_begin()

    def step_end(self, step: StepInfo) -> None:
        """Tell where a long epoch stands."""
        now = self._board.clock()
        if self._progress and now - self._last >= PROGRESS_LINE_S:
            self._line(self._board.progress(step))
        self.wake = self._glances.next(step, now)

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the line of the epoch."""
        words = self._board.end_epoch(epoch, logs)[1]
        if self._throttled and self._board.done > 1 and self._board.clock() - self._last < _MANY_LINE_S:
            self._held = words
        else:
            self._held = None
            self._line(words)

    def message(self, text: str) -> None:
        """Write a text, line by line."""
        for line in str(text).splitlines():
            self._line(printable(line))

    def run_end(self, stopped: str) -> None:
        """Write the last epoch if it was held back, and why the run ended."""
        if self._held is not None:
            self._line(self._held)
            self._held = None
        self._line(self._board.end(stopped))

    def _line(self, text: str) -> None:
        self._last = self._board.clock()
        self._stream.write(text + "\n")
        self._stream.flush()


@final
class _MovingLine:
    """The line below the rows; whenever rich draws it, it is the newest, cut to one line."""

    def __init__(self) -> None:
        self.text = ""

    def __rich__(self) -> Any:
        from rich.text import Text

        return Text(self.text, no_wrap=True, overflow="ellipsis", end="")


@final
class TerminalDisplay(Listener):
    """A table that grows by one row per epoch, and one moving line below it."""

    glances = True

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=cast(TextIO, _Shelter(stream)), highlight=False, markup=False, emoji=False)
        self._board = Board(clock)
        self._live: Any = None
        self._moving = _MovingLine()
        self._rows: list[str] = []
        self._drawn = clock()
        self._glances = _Glances(self._drawn)
        self._wide = False

    def run_begin(self, run: RunInfo) -> None:
        """Tell the facts of the run and print the head of the table."""
        lines = self._board.begin(run)
        header = self._board.header()
        self._wide = len(header) + len("  * best") > self._console.width
        self._print(lines, "dim")
        if not self._wide:  # a table that is too wide becomes one sentence per epoch
            self._print([header], "bold")

    def epoch_begin(self, epoch: int) -> None:
        """Start the moving line."""
        self._board.epoch_begin()
        if self._live is None:
            from rich.live import Live

            self._live = Live(self._moving, console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def step_end(self, step: StepInfo) -> None:
        """Draw, at most twice a second."""
        now = self._board.clock()
        if now - self._drawn >= REDRAW_S:
            self._draw(self._board.progress(step))
        self.wake = self._glances.next(step, now)

    def evaluation_begin(self, steps: int | None) -> None:
        """Say that held-out data are evaluated."""
        if self._board.clock() - self._drawn >= REDRAW_S:
            self._draw("validation")

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the row of the epoch; it is printed with the next drawing."""
        row, words = self._board.end_epoch(epoch, logs)
        self._rows.append(words if self._wide else row)
        if self._board.clock() - self._drawn >= REDRAW_S:
            self._draw(f"epoch {epoch + 1} done")

    def message(self, text: str) -> None:
        """Print a text above the moving line."""
        self._flush()
        self._print([printable(line) for line in str(text).splitlines()])

    def run_end(self, stopped: str) -> None:
        """Remove the moving line; what stays is the table and why the run ended."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
        self._flush()
        self._print([self._board.end(stopped)], "bold")

    def _draw(self, line: str) -> None:
        self._drawn = self._board.clock()
        self._moving.text = line
        if self._rows:  # printing draws the moving line below anew
            self._flush()
        elif self._live is not None:
            self._live.refresh()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._print(rows)

    def _print(self, lines: list[str], style: str = "") -> None:
        if lines:
            from rich.text import Text

            self._console.print(Text("\n".join(lines), style=style), soft_wrap=not self._wide)


@final
class NotebookDisplay(Listener):
    """One notebook cell that is updated at most twice a second; its last state stays."""

    glances = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = Board(clock)
        self._lines: list[str] = []
        self._handle: Any = None
        self._drawn = clock()
        self._glances = _Glances(self._drawn)

    def run_begin(self, run: RunInfo) -> None:
        """Open the cell's output."""
        self._lines = [*self._board.begin(run), self._board.header()]
        self._handle = None
        self._draw("")

    def epoch_begin(self, epoch: int) -> None:
        """Take the time."""
        self._board.epoch_begin()

    def step_end(self, step: StepInfo) -> None:
        """Draw, at most twice a second."""
        if self._due():
            self._draw(self._board.progress(step))
        self.wake = self._glances.next(step, self._board.clock())

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the row of the epoch."""
        self._lines.append(self._board.end_epoch(epoch, logs)[0])
        if self._due():
            self._draw(f"epoch {epoch + 1} done")

    def message(self, text: str) -> None:
        """Add a text below the rows."""
        self._lines += [printable(line) for line in str(text).splitlines()]
        if self._due():
            self._draw("")

    def run_end(self, stopped: str) -> None:
        """Draw the last state."""
        self._lines.append(self._board.end(stopped))
        self._draw(None)

    def _due(self) -> bool:
        return self._board.clock() - self._drawn >= REDRAW_S

    def _draw(self, moving: str | None) -> None:
        self._drawn = self._board.clock()
        # The line that moves has its place from the beginning: the height changes only when an epoch ends.
        text = "\n".join(self._lines if moving is None else [*self._lines, moving])
        bundle = {"text/plain": text, "text/html": f'<pre style="{_NOTEBOOK_STYLE}">{html.escape(text)}</pre>'}
        if self._handle is None:
            display = sys.modules["IPython"].display.display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
