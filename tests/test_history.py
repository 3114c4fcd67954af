"""History, the events it is made from, and its picture."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deepbabysit.report.plots import compare, curves_svg
from deepbabysit.training import curves
from deepbabysit.training.events import Best, LazyLogs, RunInfo, direction
from deepbabysit.training.history import History


def run(values: Mapping[str, list[float]], monitor: str = "val_loss", mode: str = "min", stopped: str = "") -> History:
    history = History()
    count = len(next(iter(values.values())))
    history.run_begin(RunInfo(epochs=count, monitor=monitor, mode=mode))
    for epoch in range(count):
        history.epoch_end(epoch, {name: numbers[epoch] for name, numbers in values.items()})
    if stopped:
        history.run_end(stopped)
    return history


EXAMPLE = {
    "loss": [1.0, 0.5, 0.25, 0.125],
    "accuracy": [0.5, 0.6, 0.7, 0.8],
    "val_loss": [1.1, 0.6, 0.5, 0.7],
    "val_accuracy": [0.4, 0.5, 0.6, 0.55],
    "learning_rate": [0.1, 0.1, 0.01, 0.01],
}


def test_numbers_are_floats_and_the_best_epoch_points_at_them() -> None:
    import numpy as np

    history = run({name: [np.float32(v) for v in values] for name, values in EXAMPLE.items()}, stopped="epochs")
    assert all(type(value) is float for values in history.history.values() for value in values)
    assert history.epoch == [0, 1, 2, 3]
    assert history.best_epoch == 2
    assert history.best == history.history["val_loss"][history.best_epoch] == 0.5
    assert history.stopped == "epochs"
    assert history.seconds >= 0
    assert run(EXAMPLE, "val_accuracy", "max").best_epoch == 2
    assert run(EXAMPLE, "loss").best_epoch == 3


def test_what_is_not_finite_is_never_best_and_the_first_of_equals_is() -> None:
    nan, inf = math.nan, math.inf
    assert run({"val_loss": [nan, -inf, 0.5, 0.25, 0.25, nan]}).best_epoch == 3
    assert run({"val_loss": [nan, inf]}).best_epoch is None
    assert run({"loss": [1.0]}).best is None
    assert History().best_epoch is None


def test_lists_stay_as_long_as_the_epochs() -> None:
    history = History()
    history.run_begin(RunInfo(epochs=3))
    for epoch, logs in enumerate([{"loss": 1.0}, {"loss": 2.0, "val_loss": 3.0}, {"loss": 4.0}]):
        history.epoch_end(epoch, logs)
    assert history.history["loss"] == [1.0, 2.0, 4.0]
    assert [str(v) for v in history.history["val_loss"]] == ["nan", "3.0", "nan"]


def test_a_config_is_json_and_makes_the_same_history_again() -> None:
    class Finding:
        def to_config(self) -> dict[str, str]:
            return {"code": "loss_spike"}

    history = run(EXAMPLE | {"odd": [math.nan, math.inf, -math.inf, 0.1 + 0.2]}, stopped="interrupt")
    history.findings.append(Finding())
    text = json.dumps(history.to_config(), allow_nan=False)
    again = History.from_config(json.loads(text))
    assert repr(again.history) == repr(history.history)
    assert again.findings == [{"code": "loss_spike"}]
    assert (again.stopped, again.epoch, again.best_epoch) == ("interrupt", history.epoch, 2)
    assert json.dumps(again.to_config()) == text
    config = history.to_config()
    for wrong in ({}, config | {"history": 3}, config | {"epoch": [0]}, config | {"mode": "odd"}):
        with pytest.raises(ValueError):
            History.from_config(wrong)


def test_a_resumed_history_goes_on() -> None:
    first = run(EXAMPLE, stopped="interrupt")
    again = History.from_config(first.to_config())
    again.run_begin(RunInfo(epochs=6, first_epoch=4, monitor="val_loss"))
    assert again.stopped == ""
    again.epoch_end(4, dict.fromkeys(EXAMPLE, 0.1))
    again.run_end("epochs")
    assert again.epoch == [0, 1, 2, 3, 4]
    assert again.best_epoch == 4
    assert again.seconds >= first.seconds


def test_repr_says_what_happened() -> None:
    assert repr(History()) == "History(no epoch yet)"
    assert repr(run(EXAMPLE)).endswith("running)")
    assert repr(run(EXAMPLE, stopped="early stopping: x")) == (
        "History(4 epochs, loss 1 -> 0.125, val_loss 1.1 -> 0.7, best val_loss 0.5 (best_epoch=2), "
        "stopped: 'early stopping: x')"
    )


def test_a_table_for_pandas() -> None:
    pytest.importorskip("pandas")
    frame = run(EXAMPLE).to_pandas()
    assert frame.index.name == "epoch"
    assert list(frame["val_loss"]) == EXAMPLE["val_loss"]


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_the_picture_shows_the_curves_the_best_epoch_and_why_it_ended(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = run(EXAMPLE, stopped="early stopping: val_loss did not improve for 1 epoch")
    figure = history.plot()
    upper, lower, rate = figure.axes
    lines = {line.get_label(): line for line in upper.get_lines()}
    assert list(lines["loss (training, running mean)"].get_ydata()) == EXAMPLE["loss"]
    assert list(lines["loss (validation)"].get_ydata()) == EXAMPLE["val_loss"]
    assert list(lines["loss (validation)"].get_xdata()) == [1, 2, 3, 4]
    assert list(lines["best val_loss 0.5, epoch 3"].get_xdata()) == [3]
    assert list(lower.get_lines()[0].get_ydata()) == EXAMPLE["accuracy"]
    assert list(rate.get_lines()[0].get_ydata()) == EXAMPLE["learning_rate"]
    assert figure.get_suptitle() == "4 epochs; ended: early stopping: val_loss did not improve for 1 epoch"
    assert "matplotlib.pyplot" not in sys.modules
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        history.plot(tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
        history.plot(tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_pictures_of_odd_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert len(run({"loss": [1.0]}, "loss").plot(tmp_path / "one.png").axes) == 1
    run({"loss": [math.nan, math.nan]}, "loss").plot(tmp_path / "nan.png")
    run({"val_loss": [1.0, 1e-6], "loss": [1e6, 1.0], "$x_$\x1b": [1.0, 2.0]}).plot(tmp_path / "odd.png")
    with pytest.raises(ValueError, match="no epoch has ended"):
        History().plot()
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        run(EXAMPLE).plot(tmp_path / "a.txt")


def test_a_missing_matplotlib_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "deepbabysit\[plot\]"'):
        run(EXAMPLE).plot()


def test_report_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    svg = curves_svg(run({"loss": [1.0, 2.0], "<script>": [1.0, 2.0]}, stopped="<b>"))
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    assert "<script" not in svg and "<b>" not in svg
    figure = compare({"a": run(EXAMPLE), "b": run(EXAMPLE)}, path=tmp_path / "c.svg")
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["a", "b"]
    assert list(figure.axes[0].get_lines()[1].get_ydata()) == EXAMPLE["val_loss"]
    with pytest.raises(KeyError, match="did you mean 'val_loss'"):
        compare({"a": run(EXAMPLE)}, "val_los")
    with pytest.raises(ValueError, match="at least one"):
        compare({})
    assert curves.literal("a$b$\x1b") == r"a\$b\$"


# -- events ------------------------------------------------------------------------------------------------------------


def test_lazy_logs_read_once_and_only_when_asked() -> None:
    calls = []

    def read() -> dict[str, float]:
        calls.append(1)
        return {"loss": 1, "accuracy": 0.5}

    logs = LazyLogs(["loss", "accuracy"], read)
    assert list(logs) == ["loss", "accuracy"] and len(logs) == 2 and "loss" in logs.keys()  # noqa: SIM118
    assert "not read yet" in repr(logs)
    with pytest.raises(KeyError):
        logs["other"]
    assert not calls
    assert type(logs["loss"]) is float
    assert dict(logs) == {"loss": 1.0, "accuracy": 0.5}
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "min"), ("val_loss", "min"), ("val_accuracy", "max"), ("sparse_top_k_categorical_accuracy", "max"),
        ("val_auc", "max"), ("f1", "max"), ("f1_score", "max"), ("mean_squared_error", "min"), ("r2_score", "max"),
        ("val_rmse", "min"), ("cosine_similarity", "max"), ("categorical_crossentropy", "min"),
        ("balancedaccuracy", "max"),
    ],
)  # fmt: skip
def test_directions_follow_from_names(name: str, expected: str) -> None:
    assert direction(name) == expected


def test_directions_that_metrics_give_and_unknown_ones() -> None:
    assert direction("val_mine", "auto", {"mine": "max"}) == "max"
    assert direction("accuracy", "min") == "min"
    with pytest.raises(ValueError, match="say mode='max' or mode='min'"):
        direction("val_mine")
    with pytest.raises(ValueError, match="mode is"):
        direction("loss", "up")


def test_best_needs_more_than_min_delta() -> None:
    best = Best("max", min_delta=0.1)
    assert [best.update(v, i) for i, v in enumerate([0.5, 0.6, 0.601, 0.75])] == [True, False, True, True]
    assert (best.value, best.epoch) == (0.75, 3)


def test_a_run_names_what_an_epoch_will_hold() -> None:
    info = RunInfo(epochs=1, metrics=("loss", "data_loss", "accuracy"))
    assert info.names() == ["loss", "data_loss", "accuracy", "learning_rate"]
    info = RunInfo(epochs=1, metrics=("loss", "data_loss", "accuracy"), validation_samples=3)
    assert info.names() == ["loss", "data_loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
