"""``check``, ``findings`` and ``explain`` as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.babysit.codes import CODES
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.findings import write_findings
from deepbabysit.cli import main


def table(path: Path, leak: bool = False) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "width", "colour", "kind"])
        rows = [
            [f"{rng.normal(10, 3):.4f}", f"{rng.normal(5, 1):.4f}", rng.choice(["red", "green"])] for _ in range(200)
        ]
        for row in [*rows, *(rows[:150] if leak else [])]:
            writer.writerow([*row, "big" if float(row[0]) + float(row[1]) > 15 else "small"])
    return path


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "double_softmax"]) == 0
    assert "softmax or sigmoid is applied twice" in capsys.readouterr().out
    assert main(["explain", "duble_softmax"]) == 2
    assert "did you mean 'double_softmax'" in capsys.readouterr().err
    assert main(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CODES)


def test_findings_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warning = Finding("overfitting", "warning", 0.7, "the gap is 0.5 (limit 0.1)", epoch=4)
    error = Finding("nan_loss", "error", 1.0, "the loss is NaN", step=3)
    write_findings(tmp_path, [warning])
    assert main(["findings", str(tmp_path)]) == 0
    assert "1. warning: overfitting, epoch 5" in capsys.readouterr().out
    write_findings(tmp_path, [error, warning])
    assert main(["findings", str(tmp_path), "--json"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["code"] for line in lines] == ["nan_loss", "overfitting"]
    assert main(["findings", str(tmp_path / "absent")]) == 1
    assert "findings.jsonl" in capsys.readouterr().err


def test_check_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path / "things.csv"))
    assert main(["check", path, "--target", "kind", "--budget", "60"]) == 0
    out = capsys.readouterr().out
    assert "nothing was found" in out and "checks in" in out
    assert not list(tmp_path.glob("runs"))
    assert main(["check", path, "--target", "kind", "--set", "dropout=0.9", "--json", "--budget", "60"]) == 0
    assert [json.loads(line)["code"] for line in capsys.readouterr().out.splitlines()] == ["dropout_too_high"]


def test_errors_that_remain_give_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path / "copied.csv", leak=True))
    assert main(["check", path, "--target", "kind", "--budget", "60"]) == 3
    out = capsys.readouterr().out
    assert "error: split_leak" in out and "warning: duplicate_rows" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["check", "digit"], 2, "digits"), (["check", "t.csv"], 2, "--target"),
        (["check", "t.csv", "--target", "kind", "--budget", "0"], 2, "--budget"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    status: int, message: str,
) -> None:
    table(tmp_path / "t.csv")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    assert message in capsys.readouterr().err


def test_train_writes_its_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path / "things.csv"))
    out = str(tmp_path / "run")
    assert main(["train", path, "--target", "kind", "--out", out, "--quiet", "--set", "epochs=5"]) == 0
    assert (tmp_path / "run" / "findings.jsonl").exists()
    capsys.readouterr()
    assert main(["findings", str(tmp_path / "run")]) == 0


def test_recipe_stops_and_goes_on_with_the_same_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(table(tmp_path / "things.csv")), tmp_path / "recipe"
    command = ["recipe", path, "--target", "kind", "--out", str(out), "--set", "epochs=2", "--set", "batch_size=64"]
    assert main([*command, "--trainings", "3"]) == 0
    first = capsys.readouterr()
    assert "1. look at the data" in first.out and "2. skeleton" not in first.out
    assert "all 3 trainings are made; the same command goes on" in first.err
    assert json.loads((out / "recipe.json").read_text())["format"] == 1
    assert main([*command, "--trainings", "6", "--quiet"]) == 0
    again = capsys.readouterr()
    assert again.out.startswith("2 of 6 steps done, 6 trainings")
    assert main([*command, "--seconds", "0"]) == 2
    assert "--seconds" in capsys.readouterr().err


def test_recipe_says_what_no_training_can_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipe", "digit"]) == 2
    assert "digits" in capsys.readouterr().err
