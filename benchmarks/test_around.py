"""What is around the steps: data loading, an epoch through fit (watched and not), memory, start-up, installed size.

    pytest benchmarks/test_around.py -s
"""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from benchmarks.conftest import measured_by_children
from deepbabysit.bench import results
from deepbabysit.bench.around import EPOCHS, LOADERS, MNIST_ROWS, memory, startup
from deepbabysit.bench.cases import CASES
from deepbabysit.bench.contenders import NAMES, Pool, missing
from deepbabysit.bench.session import Session

_ROWS = 12_800


@measured_by_children
@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_of_batches(replayed: Any, name: str) -> None:
    task = {"kind": "loading", "case": CASES["worked@64"], "rows": _ROWS}
    turns = replayed("loading", name, {n: (n, task) for n in LOADERS})
    assert set(turns.first[name]) == {_ROWS}


@measured_by_children
@pytest.mark.parametrize("name", EPOCHS)
def test_an_epoch_through_fit(replayed: Any, name: str) -> None:
    task = {"kind": "epoch", "case": CASES["worked@64"], "rows": MNIST_ROWS}
    turns = replayed("one epoch", name, {n: (n, task) for n in EPOCHS})
    ratio = statistics.median(
        a / b for a, b in zip(turns.times[name], turns.times["ours-bare"], strict=True)
    )
    print(f"{name}: {ratio:.3f} of the bare steps")


@pytest.mark.parametrize("part", [memory, startup], ids=["memory", "startup"])
def test_figures(pool: Pool, part: Any, pytestconfig: pytest.Config) -> None:
    names = [name for name in NAMES if not missing(name)]
    found = results.new(pool.threads)
    quick = not pytestconfig.getoption("--long")
    part(Session(pool, pool.threads, quick, ["worked@64"], names, False, print, found))
    assert found["figures"]
    assert not found["failed"]
