"""What is known of one finding code."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from deepbabysit.babysit.finding import Severity

_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding, in words.

    Attributes:
        name: the stable name.
        title: what is wrong, in one line.
        phases: when it can be seen: check, step, epoch, end.
        seen: what is measured.
        why: why it matters.
        remedies: what to do, the likeliest first.
        source: the paper, book or tool that it is known from.
        severity: what it usually is; a finding may say otherwise.
        picture: a drawing in ASCII, or an empty string.
        also: codes that look alike, or that cause it or follow from it.
    """

    name: str
    title: str
    phases: tuple[str, ...]
    seen: str
    why: str
    remedies: tuple[str, ...]
    source: str
    severity: Severity = "warning"
    picture: str = ""
    also: tuple[str, ...] = ()

    def text(self) -> str:
        """Return all of it as plain text."""
        lines = [f"{self.name}: {self.title}", ""]
        lines += _block("what is seen", self.seen) + _block("why it matters", self.why)
        lines.append("what to do")
        for number, remedy in enumerate(self.remedies, 1):
            lines += wrap(remedy, _WIDTH, initial_indent=f"  {number}. ", subsequent_indent="     ")
        if self.picture:
            lines += ["", *self.picture.strip("\n").splitlines()]
        words = {"check": "before training", "step": "at steps", "epoch": "at epoch ends", "end": "at the end"}
        lines += ["", f"found    {', '.join(words[phase] for phase in self.phases)}; usually: {self.severity}"]
        lines += wrap(self.source, _WIDTH, initial_indent="source   ", subsequent_indent="         ")
        if self.also:
            lines.append(f"see also {', '.join(self.also)}")
        return "\n".join(line.rstrip() for line in lines)


def _block(head: str, words: str) -> list[str]:
    return [head, *wrap(words, _WIDTH, initial_indent="  ", subsequent_indent="  ")]


class Explanation(str):
    """Text that a prompt shows as it stands, line by line."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
