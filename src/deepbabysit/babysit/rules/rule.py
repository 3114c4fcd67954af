"""How a rule is written: a pure function over the record of a run, with its limits beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.vitals import Record

Phase = Literal["check", "step", "epoch", "end"]
Judge = Callable[[Record, Any], Finding | Iterable[Finding] | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One code's rule.

    Attributes:
        codes: the codes that it can find.
        phase: when it is asked: before training, at steps, at epoch ends, at the end of the run.
        judge: ``judge(record, limits)`` -> what it finds.
        limits: its limits by name; `why` says where each comes from.
        causes: codes that explain this one: where one of them is found too, it stands first.
    """

    codes: tuple[str, ...]
    phase: Phase
    judge: Judge
    limits: Mapping[str, float]
    why: str
    causes: tuple[str, ...] = ()
    _named: SimpleNamespace = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_named", SimpleNamespace(**self.limits))

    def ask(self, record: Record) -> list[Finding]:
        """Return what the rule finds in the record."""
        found = self.judge(record, self._named)
        if found is None:
            return []
        return [found] if isinstance(found, Finding) else list(found)


RULES: list[Rule] = []


def rule(
    *codes: str, phase: Phase, why: str, causes: tuple[str, ...] = (), **limits: float
) -> Callable[[Judge], Judge]:
    """Register a rule: ``@rule("dead_relu", phase="step", why="...", share=0.5)`` above its judge."""

    def register(judge: Judge) -> Judge:
        RULES.append(Rule(codes, phase, judge, dict(limits), why, causes))
        return judge

    return register
