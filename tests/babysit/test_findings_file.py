"""Findings as lines of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.findings import FILE, Findings, read_findings, to_line, write_findings

ONE = Finding(
    "dead_relu", "warning", 0.8, "layer 0: dead", {"share": np.float32(0.5), "rows": [1, 2], "far": float("inf")},
    "0", 12, 3, (Remedy("Lower the rate.", "optimizer.learning_rate = 1e-4", apply=lambda setup: setup),),
)
TWO = Finding("nan_in_data", "error", 1.0, "x holds NaN", {"first": np.int64(3)})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write_findings(tmp_path, [ONE, TWO])
    assert path == tmp_path / FILE and len(path.read_text().splitlines()) == 2
    for given in (tmp_path, path):
        one, two = read_findings(given)
        assert (one.code, one.severity, one.confidence, one.message) == ("dead_relu", "warning", 0.8, "layer 0: dead")
        assert (one.layer, one.step, one.epoch) == ("0", 12, 3)
        assert one.evidence == {"share": 0.5, "rows": [1, 2], "far": "inf"}
        assert one.remedies == (Remedy("Lower the rate.", "optimizer.learning_rate = 1e-4"),)
        assert two.evidence == {"first": 3} and two.layer is None
    assert read_findings(write_findings(tmp_path / "none.jsonl", [])) == []
    json.loads(to_line(ONE))


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"code": "a", "severity": "bad", "message": "b"}'])
def test_damaged_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / FILE
    path.write_text(to_line(TWO) + "\n" + line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        read_findings(path)


def test_a_missing_file_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder of a run that holds findings\.jsonl"):
        read_findings(tmp_path)


def test_a_list_of_findings() -> None:
    found = Findings([ONE, TWO], asked=["dead_relu", "nan_in_data", "split_leak"], skipped={"underfitting": "no time"})
    assert found.codes == ["dead_relu", "nan_in_data"] and found.errors == [TWO] and found.passed == ("split_leak",)
    text = str(found)
    assert text.startswith("3 checks") and "1 error, 1 warning" in text and "step 12, epoch 4" in text
    assert "not asked (no time): underfitting" in text and repr(found) == text
