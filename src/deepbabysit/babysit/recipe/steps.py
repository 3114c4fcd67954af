"""What a step of the recipe says: its test, its verdict, the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, final

TITLES = {
    "look": "look at the data",
    "skeleton": "skeleton and dumb baselines",
    "overfit": "overfit",
    "regularize": "regularize",
    "tune": "tune",
    "squeeze": "squeeze",
}
WIDTH = 100


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One step that is done.

    Attributes:
        name: look, skeleton, overfit, regularize, tune or squeeze.
        passed: whether its tests are passed.
        lines: what was tried and found, in words with numbers; the first line is the verdict.
        numbers: the same numbers by name.
        trainings: how many trainings it took; `seconds` how long.
    """

    name: str
    passed: bool
    lines: tuple[str, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    trainings: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the step as a paragraph."""
        number = list(TITLES).index(self.name) + 1
        took = f"{self.trainings} training{'' if self.trainings == 1 else 's'}, {self.seconds:.1f} s"
        lines = [f"{number}. {TITLES[self.name]}: {'passed' if self.passed else 'NOT passed'} ({took})"]
        for line in self.lines:
            lines += wrap(line, WIDTH, initial_indent="   - ", subsequent_indent="     ")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {
            "name": self.name, "passed": self.passed, "lines": list(self.lines), "numbers": dict(self.numbers),
            "trainings": self.trainings, "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """Make the step again that `as_dict` described."""
        return cls(**{**values, "lines": tuple(values["lines"])})


@final
class Report:
    """Gathers what a step tries: each test with its result in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: dict[str, Any] = {}
        self.passed = True

    def tell(self, line: str, **numbers: Any) -> None:
        """Say something."""
        self.lines.append(line)
        self.numbers.update(numbers)

    def test(self, fine: bool, line: str, advice: str = "", **numbers: Any) -> bool:
        """Say what a test found; one that is not passed fails the step, and says what to do."""
        self.passed = self.passed and fine
        self.tell(f"{'ok' if fine else 'NOT ok'}: {line}" + (f" {advice}" if advice and not fine else ""), **numbers)
        return fine
