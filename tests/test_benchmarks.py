"""The measuring instrument: its protocol, its figures on fake timings, a dying child."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("benchmarks.steps")
from benchmarks.cases import CASES, work
from benchmarks.contenders import Contender, ContenderError
from benchmarks.steps import summary


def test_medians_and_paired_ratios() -> None:
    found = summary({"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0, 8.0]})
    assert found["a"]["median"] == 2.0
    assert found["a"]["ratio"] == 1.0
    assert found["b"]["ratio"] == 2.0
    assert found["b"]["median"] == 8.0


def test_work_of_the_worked_example() -> None:
    flops, parameters = work(CASES["worked@64"])
    assert parameters == 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert flops == 2 * 64 * (2 * 784 * 512 + 3 * (512 * 256 + 256 * 10))


def test_a_dying_child_is_reported_with_its_stderr() -> None:
    child = Contender("dead", 1, [sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(ContenderError, match="no such thing"):
        child.ask(do="measure", steps=1)
    child.close()
