"""What is shown: a live table on a terminal, plain lines in a pipe, one cell in a notebook."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepbabysit.training.display import (
    Board,
    NotebookDisplay,
    PlainDisplay,
    TerminalDisplay,
    display_for,
    duration,
    label,
)
from deepbabysit.training.events import LazyLogs, Listener, RunInfo, StepInfo

SOURCE = Path(__file__).parent.parent / "src"
NAMES = ("loss", "accuracy")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Reads:
    """Counts how often numbers are fetched from the device."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Mapping[str, float]:
        self.count += 1
        return {"loss": 0.5, "accuracy": 0.25}


def play(
    display: Listener, clock: Clock, epochs: int = 3, steps: int = 40, step_s: float = 0.1, stopped: str = "epochs"
) -> int:
    """Play a run to a display; return how often the numbers of a step were read."""
    reads = Reads()
    run = RunInfo(
        epochs=epochs, steps=steps, samples=1280, metrics=NAMES, validation="held out 320 of 1,600 samples",
        batch_size=32, parameters=12345, seed=7, monitor="val_loss", device="cpu",
    )  # fmt: skip
    display.run_begin(run)
    for epoch in range(epochs):
        display.epoch_begin(epoch)
        for step in range(steps):
            clock.now += step_s
            display.step_end(StepInfo(epoch, step, 0, 0, LazyLogs(NAMES, reads)))
        display.epoch_end(
            epoch,
            {"loss": 0.5 / (epoch + 1), "accuracy": 0.5, "val_loss": [0.4, 0.3, 0.35][epoch % 3], "val_accuracy": 0.75,
             "learning_rate": 1e-3},
        )  # fmt: skip
    display.run_end(stopped)
    return reads.count


def test_plain_lines_hold_no_escape_byte_and_one_line_per_epoch() -> None:
    out, clock = io.StringIO(), Clock()
    play(PlainDisplay(out, clock=clock), clock, stopped="early stopping: val_loss did not improve for 1 epoch")
    assert out.getvalue().splitlines() == [
        "training on cpu, 12,345 parameters, 1,280 samples, batches of 32, 40 steps per epoch, seed 7",
        "held out 320 of 1,600 samples",
        "epoch 1/3  loss (running) 0.5  accuracy 0.5  val_loss 0.4  val_accuracy 0.75  rate 0.001  4.0 s  * best",
        "epoch 2/3  loss (running) 0.25  accuracy 0.5  val_loss 0.3  val_accuracy 0.75  rate 0.001  4.0 s  * best",
        "epoch 3/3  loss (running) 0.1667  accuracy 0.5  val_loss 0.35  val_accuracy 0.75  rate 0.001  4.0 s",
        "ended after 3 of 3 epochs in 12.0 s: early stopping: val_loss did not improve for 1 epoch; "
        "best val_loss 0.3 in epoch 2",
    ]


def test_plain_lines_are_throttled_in_time() -> None:
    out, clock = io.StringIO(), Clock()
    # an hour of one epoch: a line every half minute, and only then are numbers read
    reads = play(PlainDisplay(out, clock=clock), clock, epochs=1, steps=36_000)
    progress = [line for line in out.getvalue().splitlines() if "/step" in line]
    assert reads == len(progress)
    assert 110 <= len(progress) <= 120
    assert re.match(
        r"epoch 1/1  \[\.{20}\] 30\d/36000  loss \(running\) 0\.5  accuracy 0\.25  100 ms/step", progress[0]
    )
    out = io.StringIO()
    play(PlainDisplay(out, progress=False, clock=clock), clock, epochs=1, steps=36_000)
    assert "/step  " not in out.getvalue()


def test_a_thousand_quick_epochs_do_not_flood_a_log() -> None:
    out, clock = io.StringIO(), Clock()
    play(PlainDisplay(out, clock=clock), clock, epochs=1000, steps=1, step_s=0.01)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("epoch ")]
    assert len(lines) <= 12
    assert lines[0].startswith("epoch 1/1000 ")
    assert lines[-1].startswith("epoch 1000/1000 ")
    out = io.StringIO()
    play(PlainDisplay(out, progress=False, clock=clock), clock, epochs=1000, steps=1, step_s=0.01)
    assert sum(line.startswith("epoch ") for line in out.getvalue().splitlines()) == 1000


def test_names_and_messages_cannot_bring_terminal_codes() -> None:
    out, clock = io.StringIO(), Clock()
    display = PlainDisplay(out, clock=clock)
    evil = "m\x1b[31m\x07\u202e"
    display.run_begin(RunInfo(epochs=1, metrics=("loss", evil), model=evil, validation=evil, device=evil))
    display.epoch_begin(0)
    display.epoch_end(0, {"loss": 1.0, evil: 2.0, evil + "x": 3.0})
    display.message(evil + "\nsecond")
    display.run_end(evil)
    assert all(line.isprintable() for line in out.getvalue().splitlines())
    assert "second" in out.getvalue().splitlines()


def test_a_reader_that_goes_away_does_not_end_the_training() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    play(PlainDisplay(Gone(), clock=clock), clock)
    closed = io.StringIO()
    closed.close()
    play(PlainDisplay(closed, clock=clock), clock)
    play(TerminalDisplay(Gone(), clock), clock)


def test_an_ascii_stream_gets_ascii() -> None:
    raw, clock = io.BytesIO(), Clock()
    display = PlainDisplay(io.TextIOWrapper(raw, encoding="ascii"), clock=clock)
    display.message("Größe")
    assert raw.getvalue() == b"Gr\\xf6\\xdfe\n"


def test_verbose_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    assert display_for(0, out) is None
    assert display_for(False, terminal) is None
    assert isinstance(display_for("auto", out), PlainDisplay)
    assert isinstance(display_for(1, terminal), PlainDisplay)
    assert isinstance(display_for(2, terminal), PlainDisplay)
    assert isinstance(display_for("auto", terminal), TerminalDisplay)
    assert isinstance(display_for(True, terminal), TerminalDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for("auto", terminal), PlainDisplay)
    for wrong in ("loud", 3, None):
        with pytest.raises(ValueError, match="verbose is 'auto', 0"):
            display_for(wrong, out)


def test_rich_is_not_imported_before_something_is_drawn() -> None:
    code = (
        "import sys, deepbabysit.training.display as d, io\n"
        "d.display_for('auto', io.StringIO())\n"
        "assert 'rich' not in sys.modules and 'IPython' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})


PLAY = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_display import Clock, play
from deepbabysit.training.display import display_for
class Both(Clock):
    pass
clock = Clock()
display = display_for("auto")
display._board.clock = clock
display._drawn = 0.0
play(display, clock, stopped="interrupt")
"""


def run_on(stdout: int | None, **environment: str) -> subprocess.Popen[bytes]:
    code = [sys.executable, "-c", PLAY, str(Path(__file__).parent)]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return subprocess.Popen(
        code,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stdin=subprocess.DEVNULL,
        env={**kept, "PYTHONPATH": str(SOURCE), "TERM": "xterm", **environment},
    )


def on_a_terminal(width: int) -> str:
    pty = pytest.importorskip("pty")
    fcntl, struct, termios = (pytest.importorskip(name) for name in ("fcntl", "struct", "termios"))
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    process = run_on(inside)
    os.close(inside)
    seen = b""
    try:
        while chunk := os.read(outside, 65536):
            seen += chunk
    except OSError:  # how Linux reports that the other side is closed
        pass
    os.close(outside)
    assert process.wait() == 0
    return seen.decode()


def screen(text: str, width: int) -> list[str]:
    """Return what a terminal shows after these bytes: the few codes that rich uses."""
    lines, row, column = [""], 0, 0
    for code, plain in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([^\x1b])", text, re.DOTALL):
        if code:
            count, kind = re.match(r"\x1b\[([0-9;?]*)([A-Za-z])", code).groups()  # type: ignore[union-attr]
            if kind == "A":
                row = max(0, row - int(count or 1))
            elif kind == "K":
                assert count == "2"
                lines[row] = ""
            else:
                assert kind in "mhl", code
        elif plain == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif plain == "\r":
            column = 0
        else:
            if column >= width:
                row, column = row + 1, 0
                if row == len(lines):
                    lines.append("")
            line = lines[row].ljust(column)
            lines[row] = line[:column] + plain + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_a_terminal_gets_a_live_table_whose_last_state_stays() -> None:
    text = on_a_terminal(120)
    assert "\x1b[" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is given back
    shown = [line for line in screen(text, 120) if line]
    assert shown[0].startswith("training on cpu, 12,345 parameters")
    assert shown[2].split() == ["epoch", "loss", "(running)", "accuracy", "val_loss", "val_accuracy", "rate", "time"]
    assert [line.split() for line in shown[3:6]] == [
        ["1/3", "0.5", "0.5", "0.4", "0.75", "0.001", "4.0", "s", "*", "best"],
        ["2/3", "0.25", "0.5", "0.3", "0.75", "0.001", "4.0", "s", "*", "best"],
        ["3/3", "0.1667", "0.5", "0.35", "0.75", "0.001", "4.0", "s"],
    ]
    assert shown[6] == "ended after 3 of 3 epochs in 12.0 s: interrupt; best val_loss 0.3 in epoch 2"
    assert len(shown) == 7  # the moving line is gone
    ends = [line.index("val_loss") + len("val_loss") for line in shown[2:3]]
    assert [line[: ends[0]].split()[-1] for line in shown[3:6]] == ["0.4", "0.3", "0.35"]  # columns are aligned
    # 12 seconds: at most 2 drawings a second
    assert 10 <= text.count("/step") <= 24


def test_a_narrow_terminal_loses_nothing() -> None:
    text = on_a_terminal(40)
    shown = screen(text, 40)
    joined = re.sub(r"\s+", " ", " ".join(shown))
    for part in ("epoch 1/3 loss (running) 0.5", "val_loss 0.35", "val_accuracy 0.75", "best val_loss 0.3 in epoch 2"):
        assert part in joined
    assert "/step" not in joined


def test_a_pipe_gets_no_escape_byte() -> None:
    process = run_on(None)
    text = process.communicate()[0]
    assert process.returncode == 0
    assert b"\x1b" not in text and b"\r" not in text
    assert len(text.splitlines()) == 6


def test_a_terminal_is_drawn_at_most_twice_a_second_and_reads_only_then() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, clock = Terminal(), Clock()
    reads = play(TerminalDisplay(out, clock), clock, epochs=100, steps=10, step_s=0.001)
    assert reads <= 2
    text = out.getvalue()
    assert all(f"{epoch}/100" in text for epoch in range(1, 101))  # every epoch has its row


def test_a_notebook_gets_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(bundle)

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw and display_id
        assert not shown  # only one display, everything else updates it
        shown.append(bundle)
        return Handle()

    fake: Any = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=object()), display=SimpleNamespace(display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython", fake)
    assert isinstance(display_for("auto"), NotebookDisplay)
    clock = Clock()
    notebook = NotebookDisplay(clock)
    reads = play(notebook, clock, stopped="<script>alert(1)</script>")
    assert reads <= 24
    assert len(shown) <= 26
    assert "\x1b" not in shown[-1]["text/plain"]
    assert shown[-1]["text/plain"].splitlines()[-1].startswith("ended after 3 of 3")
    assert [line.split()[0] for line in shown[-1]["text/plain"].splitlines()[3:6]] == ["1/3", "2/3", "3/3"]
    assert "<script>" not in shown[-1]["text/html"]
    assert "&lt;script&gt;" in shown[-1]["text/html"]
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not isinstance(display_for("auto"), NotebookDisplay)


def test_a_resumed_run_counts_from_where_it_was() -> None:
    board = Board(Clock())
    lines = board.begin(RunInfo(epochs=10, first_epoch=4))
    assert "continues after epoch 4 of 10" in lines
    board.end_epoch(4, {"loss": 1.0})
    assert board.end("interrupt").startswith("ended after 5 of 10 epochs")


def test_the_training_loss_says_what_it_is() -> None:
    assert label("loss") == "loss (running)"
    assert label("val_loss") == "val_loss"
    assert [duration(s) for s in (0, 0.9999, 99.99, 3599.9)] == ["0 ms", "1.0 s", "1:40", "1:00:00"]
