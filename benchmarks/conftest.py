"""How figures that were taken in turns reach pytest-benchmark: a clock that the children's own times set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deepbabysit.bench.contenders import ContenderError, Pool, missing
from deepbabysit.bench.turns import QUICK, Pace, Turns, run_turns


class Clock:
    """Stands in for `time.perf_counter`: it moves by what a child has measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()
measured_by_children = pytest.mark.benchmark(timer=CLOCK, disable_gc=False, warmup=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=2, help="processors of each contender")
    parser.addoption("--long", action="store_true", help="turns as long as in a full run of deepbabysit bench")


@pytest.fixture(scope="session")
def pool(pytestconfig: pytest.Config) -> Iterator[Pool]:
    with Pool(pytestconfig.getoption("--threads")) as children:
        yield children


@pytest.fixture(scope="session")
def taken(pool: Pool, pytestconfig: pytest.Config) -> Callable[[str, dict[str, tuple[str, dict[str, Any]]]], Turns]:
    """Return a function that times the contenders of a group in turns, once per session."""
    known: dict[str, Turns] = {}
    pace = Pace() if pytestconfig.getoption("--long") else QUICK

    def take(group: str, tasks: dict[str, tuple[str, dict[str, Any]]]) -> Turns:
        if group not in known:
            here = {label: task for label, task in tasks.items() if not missing(task[0])}
            known[group] = run_turns(pool, here, pace)
        return known[group]

    return take


@pytest.fixture
def replayed(benchmark: Any, taken: Any) -> Callable[[str, str, dict[str, tuple[str, dict[str, Any]]]], Turns]:
    """Return a function that hands the times of one contender of a group to pytest-benchmark."""

    def replay(group: str, label: str, tasks: dict[str, tuple[str, dict[str, Any]]]) -> Turns:
        if reason := missing(tasks[label][0]):
            pytest.skip(reason)
        turns: Turns = taken(group, tasks)
        if label in turns.failed:
            raise ContenderError(turns.failed[label])
        times = iter(turns.times.get(label, [turns.slower.get(label, 0.0)]))

        def turn() -> None:
            CLOCK.now += next(times)

        benchmark.group = group
        benchmark.extra_info.update(kernels=turns.kernels.get(label), left_out=label in turns.slower)
        benchmark.pedantic(turn, rounds=len(turns.times.get(label, [0])), iterations=1)
        return turns

    return replay
