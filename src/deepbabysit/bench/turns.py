"""Contenders in turns: every round times each of them once, while the others are stopped."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepbabysit.bench.contenders import ContenderError, Pool, library

WARM = 5  # steps before the first timing: compiled, recorded, agreed on
SLOWER = 1.5  # a variant that is slower than the best of its own library by this factor waits outside


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure.

    Attributes:
        rounds: turns of each contender.
        seconds: length of one turn.
    """

    rounds: int = 7
    seconds: float = 0.15


QUICK = Pace(5, 0.08)


@dataclass(slots=True)
class Turns:
    """What came of a task.

    Attributes:
        times: contender -> seconds per step, one for each round.
        first: contender -> what its first steps returned (losses).
        checks: contender -> what its result and gradients are about, where it says so.
        failed: contender -> why it has no times.
        slower: contender -> seconds per step of a variant that was left out, taken before the rounds.
        kernels: which of our operations ran compiled, plain, or as references, for each of our contenders.
    """

    times: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)
    checks: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    slower: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def summary(times: Mapping[str, Sequence[float]], base: str = "") -> dict[str, dict[str, float]]:
    """Return, per contender: median, interquartile spread over median, median and spread of the ratios to the base.

    The ratios are those of the pairs: two contenders' times in the same round.
    """
    first = times[base or next(iter(times))]
    found = {}
    for name, seconds in times.items():
        low, middle, high = quartiles(seconds)
        less, ratio, more = quartiles([t / b for t, b in zip(seconds, first, strict=True)])
        found[name] = {
            "median": middle, "spread": (high - low) / middle, "ratio": ratio, "ratio_spread": (more - less) / ratio,
        }  # fmt: skip
    return found


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first, second and third quartile; one value stands for all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def run_turns(pool: Pool, tasks: Mapping[str, tuple[str, dict[str, Any]]], pace: Pace, warm: int = WARM) -> Turns:
    """Time contenders in turns, the order reversed every round.

    Arguments:
        pool: the children.
        tasks: label -> (contender, what it has to do); labels are often the contenders' names.
        pace: how long.
        warm: steps before the first timing.
    """
    found = Turns()
    single: dict[str, float] = {}
    for label, (name, task) in tasks.items():
        try:
            built = pool.ask(name, do="build", task=task)["report"]
            if "check" in built:
                found.checks[label] = built["check"]
            found.first[label] = pool.ask(name, do="run", steps=warm)["results"]
            single[label] = _single(pool, name, pace.seconds)
            if library(name) == "ours":
                found.kernels[label] = pool.ask(name, do="report")["report"]
        except ContenderError as error:
            found.failed[label] = str(error)
    best: dict[str, float] = {}
    for label, seconds in single.items():
        own = library(tasks[label][0])
        best[own] = min(seconds, best.get(own, seconds))
    for label, seconds in list(single.items()):
        own = library(tasks[label][0])
        if own != "ours" and seconds > SLOWER * best[own]:
            found.slower[label] = single.pop(label)
    steps = {label: max(1, min(5000, round(pace.seconds / seconds))) for label, seconds in single.items()}
    found.times = {label: [] for label in single}
    for n in range(pace.rounds):
        for label in list(single)[:: -1 if n % 2 else 1]:
            name = tasks[label][0]
            try:
                if single[label] < pace.seconds:  # wakes its threads, fills its caches
                    pool.ask(name, do="measure", steps=1 if single[label] > pace.seconds / 10 else 3)
                found.times[label].append(pool.ask(name, do="measure", steps=steps[label])["seconds"])
            except ContenderError as error:
                found.failed[label] = str(error)
                del found.times[label], single[label]
    return found


def _single(pool: Pool, name: str, seconds: float) -> float:
    """Return the seconds of one step, the least of a few short looks: somebody else may have disturbed the others."""
    least = pool.ask(name, do="measure", steps=2)["seconds"]
    for _ in range(max(1, min(8, int(seconds / least)))):
        least = min(least, pool.ask(name, do="measure", steps=2)["seconds"])
    return float(least)
