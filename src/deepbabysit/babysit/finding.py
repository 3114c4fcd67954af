"""What the babysitter says: a Finding with its evidence and its remedies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do about a finding.

    Attributes:
        text: what to do, in words, with the value to use.
        code: the same as a line of Python, or an empty string.
        apply: ``apply(setup) -> setup`` where the library can do it itself, else None.
    """

    text: str
    code: str = ""
    apply: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or worth knowing, with the numbers that show it.

    Attributes:
        code: its stable name (``db.babysit.explain(code)`` tells more).
        severity: ``error`` is surely wrong, ``warning`` likely, ``note`` worth knowing.
        confidence: how sure it is that the code names what is wrong, from 0 to 1.
        message: what was seen, the limit, why it matters, what to do first; plain text.
        evidence: the numbers behind the message, and their limits, by name.
        layer: path of the layer or parameter concerned, or None.
        step: the optimizer step at which it was seen, from 0, or None.
        epoch: the epoch, from 0, or None.
        remedies: what to do, best first.
    """

    code: str
    severity: Severity
    confidence: float
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    layer: str | None = None
    step: int | None = None
    epoch: int | None = None
    remedies: tuple[Remedy, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what can be written as JSON (remedies as their texts and code)."""
        return {
            "code": self.code,
            "severity": self.severity,
            "confidence": round(self.confidence, 4),
            "message": self.message,
            "evidence": dict(self.evidence),
            "layer": self.layer,
            "step": self.step,
            "epoch": self.epoch,
            "remedies": [{"text": remedy.text, "code": remedy.code} for remedy in self.remedies],
        }
