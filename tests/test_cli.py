"""The command line, run as a user runs it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.cli import main
from deepbabysit.models.loading import read_model


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deepbabysit", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300,
        env={**os.environ},
    )


def table(path: Path, target: str) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "colour", "price", "kind"])
        for _ in range(200):
            length = rng.normal(10, 3)
            colour = rng.choice(["red", "green", "blue"])
            price = 3 * length + (colour == "red") * 5
            writer.writerow([f"{length:.3f}", colour, f"{price:.3f}", "big" if length > 10 else "small"])
    return path


def test_train_digits_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    done = run("train", "digits", "--set", "epochs=15", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "baseline" in done.stdout
    path = tmp_path / "runs" / "digits-1" / "model.dbs"
    model, extra = read_model(path)
    assert extra["scores"]["test_accuracy"] > 0.9 > extra["scores"]["baseline_accuracy"]
    assert f"{extra['scores']['test_accuracy']:.4f}" in done.stdout
    digits = db.datasets.digits()
    from deepbabysit.data.normalizers import normalizer_from_config

    x = normalizer_from_config(extra["normalizer"]).transform(np.asarray(digits.x, np.float32).reshape(-1, 64))
    assert np.mean(model.predict(x).argmax(axis=1) == digits.y) > 0.9


def test_a_run_is_resumed_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "things.csv", "kind")

    def train(out: str, epochs: int, *more: str) -> int:
        return main([
            "train", str(path), "--target", "kind", "--out", str(tmp_path / out), "--quiet", "--set",
            f"epochs={epochs}", *more,
        ])

    assert train("whole", 6) == train("run", 3) == train("run", 6, "--resume") == 0
    whole, run = (read_model(tmp_path / name / "model.dbs") for name in ("whole", "run"))
    assert whole[1]["scores"] == run[1]["scores"]
    assert all((whole[0].state_dict()[name] == value).all() for name, value in run[0].state_dict().items())
    assert train("run", 6) == 1 and "--resume" in capsys.readouterr().err
    assert main(["train", "digits", "--resume"]) == 2 and "--out" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("[]")
    assert main(["runs", str(tmp_path)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines[str(tmp_path / "run")] == lines[str(tmp_path / "whole")]
    assert lines[str(tmp_path / "run")].startswith("6 of 6 epochs, best val_loss ")
    assert lines[str(tmp_path / "bad")].startswith("cannot be read")
    assert main(["runs", str(tmp_path / "none")]) == 1 and "no folder" in capsys.readouterr().err
    assert main(["findings", str(tmp_path / "run")]) in (0, 3)


def test_train_a_table_with_classes_and_one_with_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "things.csv", "kind")
    assert main(["train", str(path), "--target", "kind", "--out", str(tmp_path / "a"), "--set", "epochs=60"]) == 0
    _, extra = read_model(tmp_path / "a" / "model.dbs")
    assert extra["kind"] == "binary"
    assert extra["scores"]["test_accuracy"] > 0.8
    assert main(["train", str(path), "--target", "price", "--out", str(tmp_path / "b"), "--quiet"]) == 0
    _, extra = read_model(tmp_path / "b" / "model.dbs")
    assert extra["kind"] == "regression"
    assert extra["scores"]["test_rmse"] < 0.5 * extra["scores"]["baseline_rmse"]
    assert "baseline" in capsys.readouterr().out


def test_train_heart(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(data_dir))
    assert main(["train", "heart", "--out", str(tmp_path), "--quiet"]) == 0
    model, extra = read_model(tmp_path / "model.dbs")
    assert model.count_params() == 497
    assert extra["kind"] == "binary"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "digit"], 2, "digits"),
        (["train", "digits", "--target", "x"], 2, "--target"),
        (["train", "absent.csv", "--target", "y"], 1, "absent.csv"),
        (["train", "t.csv"], 2, "--target"),
        (["train", "t.csv", "--target", "prise"], 1, "price"),
        (["train", "digits", "--set", "epoch=3"], 2, "epochs"),
        (["train", "digits", "--set", "epochs=many"], 2, "epochs"),
        (["train", "digits", "--set", "normalize=log"], 2, "zscore"),
        (["train", "digits", "--device", "cuda:9"], 1, "not available"),
    ],
)
def test_mistakes_end_with_one_line_and_a_status(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    if "digits" in arguments:
        pytest.importorskip("sklearn")
    table(tmp_path / "t.csv", "kind")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("runs/*/model.dbs"))


def test_a_table_with_gaps_is_refused_with_rows_and_a_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,b\n" + "\n".join(f"{i},{'?' if i == 7 else i * 2}" for i in range(30)))
    assert main(["train", str(path), "--target", "a"]) == 1
    assert "--missing drop" in capsys.readouterr().err
    for way in ("drop", "mean"):
        out = tmp_path / way
        assert main(["train", str(path), "--target", "a", "--missing", way, "--out", str(out), "--quiet",
                     "--set", "epochs=2"]) == 0
        _, extra = read_model(out / "model.dbs")
        assert (extra["imputer"] is None) == (way == "drop")


def test_devices_and_env(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert "numpy        cpu" in out
    assert "auto" in out
    assert f"numpy       {np.__version__}" in out


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["tran"])
    assert stop.value.code == 2
