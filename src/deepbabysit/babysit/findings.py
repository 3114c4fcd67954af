"""The list that a check returns, and findings as lines of a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, final

from deepbabysit.babysit.finding import SEVERITIES, Finding, Remedy
from deepbabysit.io.files import atomic_write
from deepbabysit.training.events import Listener, RunInfo

FILE = "findings.jsonl"
_WIDTH = 100


@final
class Findings(list[Finding]):
    """Findings, likeliest cause first; a list that prints as text.

    Attributes:
        asked: codes that were looked for.
        skipped: codes that could not be looked for, and why.
        failure: what the model said where it could not run on these data at all, else an empty string.
        seconds: how long it took.
        record: everything that was measured.
        hurried: whether something was not looked at because the time was spent.
    """

    def __init__(
        self, found: Iterable[Finding] = (), asked: Iterable[str] = (), skipped: Mapping[str, str] | None = None,
        seconds: float = 0.0, record: Any = None, failure: str = "", hurried: bool = False,
    ) -> None:
        super().__init__(found)
        self.asked = tuple(asked)
        self.skipped = dict(skipped or {})
        self.seconds = seconds
        self.record = record
        self.failure = failure
        self.hurried = hurried

    @property
    def codes(self) -> list[str]:
        """The codes in order."""
        return [finding.code for finding in self]

    @property
    def passed(self) -> tuple[str, ...]:
        """Codes that were looked for and not found."""
        found = set(self.codes)
        return tuple(code for code in self.asked if code not in found)

    @property
    def errors(self) -> list[Finding]:
        """The findings that are surely wrong."""
        return [finding for finding in self if finding.severity == "error"]

    def __str__(self) -> str:
        head = f"{len(self.asked)} checks in {self.seconds:.2f} s: {len(self.passed)} passed"
        counts = [f"{n} {s}{'s' if n > 1 else ''}" for s in SEVERITIES if (n := sum(f.severity == s for f in self))]
        nothing = "nothing was found" if not self.failure else "the others could not be made"
        lines = [f"{head}; {', '.join(counts) if counts else nothing}"]
        if self.failure:
            lines += ["", *wrap(f"the model cannot run on these data: {self.failure}", _WIDTH)]
        for number, finding in enumerate(self, 1):
            lines += ["", *show(finding, f"{number}. ")]
        if self.skipped:
            reasons: dict[str, list[str]] = {}
            for code, reason in self.skipped.items():
                reasons.setdefault(reason, []).append(code)
            lines.append("")
            for reason, codes in reasons.items():
                lines += wrap(f"not asked ({reason}): {', '.join(codes)}", _WIDTH, subsequent_indent="  ")
        if not self and not self.failure:
            lines.append("That does not prove that there are no bugs.")
        return "\n".join(lines)

    __repr__ = __str__


def show(finding: Finding, number: str = "") -> list[str]:
    """Return a finding as lines of text."""
    where = f" in {finding.layer}" if finding.layer else ""
    if finding.step is not None:
        where += f", step {finding.step}"
    if finding.epoch is not None:
        where += f", epoch {finding.epoch + 1}"
    lines = [f"{number}{finding.severity}: {finding.code}{where} (confidence {finding.confidence:.2f})"]
    lines += wrap(finding.message, _WIDTH, initial_indent="   ", subsequent_indent="   ")
    for remedy in finding.remedies[:2]:
        lines += wrap(f"-> {remedy.text}", _WIDTH, initial_indent="   ", subsequent_indent="      ")
        if remedy.code:
            lines.append(f"      {remedy.code}")
    return lines


def _plain(value: Any) -> Any:
    """Return what JSON can hold; numbers that are not finite become their names."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def to_line(finding: Finding) -> str:
    """Return a finding as one line of JSON."""
    return json.dumps(_plain(finding.as_dict()), allow_nan=False)


def from_dict(values: Mapping[str, Any]) -> Finding:
    """Make a finding of what `Finding.as_dict` returned; remedies keep their words, not what they do.

    Raises:
        ValueError: code, severity or message are missing.
    """
    missing = [name for name in ("code", "severity", "message") if not isinstance(values.get(name), str)]
    if missing or values["severity"] not in SEVERITIES:
        raise ValueError(f"a finding has a code, a severity ({', '.join(SEVERITIES)}) and a message; got "
        f"{dict(values)!r}")
    remedies = tuple(
        Remedy(str(r.get("text", "")), str(r.get("code", "")))
        for r in values.get("remedies") or () if isinstance(r, Mapping)
    )
    return Finding(
        values["code"], values["severity"], float(values.get("confidence", 0.0)), values["message"],
        dict(values.get("evidence") or {}), values.get("layer"), values.get("step"), values.get("epoch"), remedies,
    )


def write_findings(path: str | os.PathLike[str], findings: Iterable[Finding]) -> Path:
    """Write findings as lines of JSON, best first; the file is whole or absent.

    Arguments:
        path: a file, or a run's folder, where it is called ``findings.jsonl``.
        findings: in the order in which they are shown.
    """
    target = Path(path)
    if target.is_dir():
        target = target / FILE
    atomic_write(target, "".join(to_line(f) + "\n" for f in findings).encode())
    return target


def read_findings(path: str | os.PathLike[str]) -> list[Finding]:
    """Read what `write_findings` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no finding; names the line.
    """
    target = Path(path)
    if target.is_dir():
        target = target / FILE
    if not target.exists():
        raise FileNotFoundError(
            f"there are no findings at {target}: expected the folder of a run that holds {FILE}, or the file itself"
        )
    found = []
    for number, line in enumerate(target.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, Mapping):
                raise ValueError("it is no object")
            found.append(from_dict(values))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{target}, line {number}: {error}") from error
    return found


@final
class FindingsFile(Listener):
    """Keeps the findings of a run in its folder, up to date from epoch to epoch.

    Arguments:
        folder: the run's folder.
        source: has `findings`.
        resume: keep what is there and was not found again: a resumed run is watched anew.
    """

    def __init__(self, folder: str | os.PathLike[str], source: Any, resume: bool = False) -> None:
        self._path = Path(folder) / FILE
        self._source = source
        self._resume = resume
        self._earlier: list[Finding] = []
        self._written: list[Finding] | None = None

    def run_begin(self, run: RunInfo) -> None:
        """Read what an earlier part of the run found."""
        if self._resume and self._path.exists():
            self._earlier = read_findings(self._path)

    def epoch_begin(self, epoch: int) -> None:
        """Write what the epoch before brought."""
        self._write()

    def run_end(self, stopped: str) -> None:
        """Write what the end brought."""
        self._write()

    def _write(self) -> None:
        found = list(self._source.findings)
        if found != self._written:
            self._written = found
            codes = {finding.code for finding in found}
            write_findings(self._path, [*found, *(f for f in self._earlier if f.code not in codes)])
