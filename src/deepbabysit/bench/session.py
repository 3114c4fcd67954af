"""What the parts of a run share: the children, the pace, the file of what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepbabysit.bench import results
from deepbabysit.bench.contenders import Pool, missing
from deepbabysit.bench.turns import QUICK, Pace, Turns, summary

OURS = "ours-replay"


@dataclass(slots=True)
class Session:
    """One run.

    Attributes:
        pool: the children.
        threads: processors of each contender.
        quick: fewer cases and rounds.
        cases: names of the networks.
        kernels: names of single operations; none means all, or those of a quick run.
        names: contenders that can run here.
        chosen: whether somebody has chosen them: then no others take part.
        say: called with a line of progress.
        found: what `results.write` writes.
        save: called with it whenever something was added: a run that is ended early leaves what it has.
        selected: whether somebody has chosen networks or operations.
        start: when the run began.
    """

    pool: Pool
    threads: int
    quick: bool
    cases: list[str]
    kernels: list[str]
    names: list[str]
    chosen: bool
    say: Callable[[str], None]
    found: results.Results = field(default_factory=dict)
    save: Callable[[results.Results], None] = lambda found: None
    selected: bool = False
    start: float = field(default_factory=time.perf_counter)

    @property
    def pace(self) -> Pace:
        """How long each contender is timed."""
        return QUICK if self.quick else Pace()

    def allowed(self, names: Iterable[str]) -> list[str]:
        """Return those that can run here and were not left out by a choice."""
        return [name for name in names if not missing(name) and (not self.chosen or name in self.names)]

    def limits(self, task: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Measure the machine's limits, now and again: the best of all times counts."""
        if task is not None:
            self.pool.ask("limits", do="build", task=dict(task))
        new = self.pool.ask("limits", do="run", steps=1)["results"][0]
        known = self.found["machine_info"]["limits"]
        if known:
            new = {
                "flops": max(new["flops"], known["flops"]),
                "bandwidth": [
                    [size, max(a, b)] for (size, a), (_, b) in zip(new["bandwidth"], known["bandwidth"], strict=True)
                ],
                "call": min(new["call"], known["call"]),
            }
        self.found["machine_info"]["limits"] = new
        return dict(new)

    def add(self, part: str, group: str, turns: Turns, extra: Mapping[str, Any], base: str = OURS) -> str:
        """Add the rows of a group; returns a line about them."""
        texts = [f"{group:20}"]
        if turns.times:
            table = summary(turns.times, base if base in turns.times else "")
            for name, row in table.items():
                own = {**extra, **row, **({"kernels": turns.kernels[name]} if name in turns.kernels else {})}
                self.found["benchmarks"].append(results.row(part, group, name, turns.times[name], own))
                texts.append(f"{name} {show_time(row['median'])} +-{row['spread'] * 100:.0f} %")
        for name, seconds in turns.slower.items():
            texts.append(f"({name} {show_time(seconds)})")
        for name, reason in turns.failed.items():
            self.found["failed"][f"{part}[{group}-{name}]"] = reason[-600:]
            texts.append(f"{name} FAILED")
        line = "  ".join(texts)
        self.tell(line)
        return line

    def tell(self, line: str) -> None:
        """Say a line of progress, and keep what there is."""
        self.say(f"{time.perf_counter() - self.start:4.0f} s  {line}")
        self.save(self.found)


def show_time(seconds: float) -> str:
    """Return a duration with three digits and its unit.

    >>> show_time(0.00123), show_time(12.0)
    ('1.23 ms', '12 s')
    """
    for unit, factor in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
