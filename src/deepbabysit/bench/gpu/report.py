"""What a check of a GPU has found so far: printed line by line, and kept in one JSON file.

The file tells a process that continues a check what is done, and what the one before it did not survive.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepbabysit.io.files import atomic_write


class Report:
    """Findings by phase, and the time that is left.

    Arguments:
        path: where the JSON goes; None keeps nothing.
        budget: seconds for all phases.
        say: gets every line.
        found: what earlier processes of the same check have found.
    """

    def __init__(
        self, path: Path | None, budget: float, say: Callable[[str], None], found: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._say = say
        self._budget = budget
        self._until = budget
        self._phase: dict[str, Any] = {}
        self.found: dict[str, Any] = fresh() if found is None else found
        self.failed: list[str] = self.found["failed"]

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.time() - float(self.found["began"])

    @property
    def over(self) -> bool:
        """Whether the time of this phase is used up."""
        return self.spent >= self._until

    @property
    def left(self) -> float:
        """Seconds that this phase still has."""
        return max(0.0, self._until - self.spent)

    @property
    def begun(self) -> list[str]:
        """The pieces of this phase that were begun."""
        return list(self._phase.get("begun", ()))

    def begins(self, piece: str) -> bool:
        """Tell whether a piece of this phase is to be done: not where an earlier process has begun it."""
        begun = self._phase.setdefault("begun", [])
        if piece in begun:
            return False
        begun.append(piece)
        self.save()
        return True

    def figure(self, phase: str, name: str) -> float | None:
        """Return a figure of a phase that is done, or None."""
        value = self.found["phases"].get(phase, {}).get(name)
        return float(value) if isinstance(value, int | float) else None

    def line(self, text: str) -> None:
        """Print a line at once."""
        self._say(text)

    def keep(self, name: str, value: Any, text: str = "") -> None:
        """Keep a figure of this phase, and print it."""
        self._phase[name] = value
        self.line(f"  {name:<44} {text or value}")

    def fail(self, what: str, why: str) -> None:
        """Keep something that is wrong."""
        self.failed.append(what)
        self._phase.setdefault("failed", {})[what] = why
        self.line(f"  WRONG {what}: {why[:300]}")

    def run(self, name: str, share: float, work: Callable[[], None]) -> None:
        """Run a phase; what it raises is a finding, and the next phase follows.

        Arguments:
            name: of the phase.
            share: of the whole budget, at most; what earlier phases left is not added.
            work: does it, and looks at `over`.
        """
        begin, known = self.spent, self.found["phases"].get(name, {})
        if ended(known):
            return
        if begin >= self._budget:
            self.line(f"{name}: no time is left")
            self.found["phases"][name] = {**known, "skipped": "no time is left"}
            return
        self._until = min(self._budget, begin + share * self._budget)
        self._phase = self.found["phases"][name] = known
        self.save()
        self.line(f"{name} ({begin:.0f} s)")
        try:
            work()
        except Exception as error:  # one phase that fails is a finding, not the end
            self.fail(name, f"{type(error).__name__}: {error}")
        self._phase.pop("begun", None)
        self._phase["seconds"] = round(self.spent - begin, 2)
        self.save()

    def save(self) -> None:
        """Write what is known."""
        self.found["seconds"] = round(self.spent, 1)
        if self._path is not None:
            write(self._path, self.found)


def fresh() -> dict[str, Any]:
    """Return what is known before a check."""
    return {"began": time.time(), "phases": {}, "failed": []}


def ended(phase: dict[str, Any]) -> bool:
    """Tell whether a phase is done, or is not to be done any more."""
    return "seconds" in phase or "skipped" in phase


def write(path: Path, found: dict[str, Any]) -> None:
    """Write what was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(found, indent=1, default=str).encode())
