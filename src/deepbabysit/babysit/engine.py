"""The engine: asks the rules, keeps one finding per code, and ranks causes before symptoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from deepbabysit.babysit.changes import both
from deepbabysit.babysit.finding import SEVERITIES, Finding, Remedy
from deepbabysit.babysit.rules import load
from deepbabysit.babysit.rules.rule import RULES, Phase, Rule
from deepbabysit.babysit.vitals import Record

_GROUP = 6  # layers that are named in one finding


class Engine:
    """Asks rules about one record.

    Arguments:
        record: what is known of the run.
        heard: called with each finding when it appears for the first time, or becomes graver.

    Attributes:
        found: code -> finding.
        failed: code -> the exception of a rule that could not judge.
        asked: how many different rules have been asked, over all phases.
        before: codes that were asked about before the run, by somebody else.
    """

    def __init__(self, record: Record, heard: Callable[[Finding], None] | None = None) -> None:
        load()
        self.record = record
        self.found: dict[str, Finding] = {}
        self.failed: dict[str, Exception] = {}
        self._heard = heard
        self.before: set[str] = set()
        self._asked: set[int] = set()

    @property
    def asked(self) -> int:
        """How many checks were made: codes of the rules that were asked."""
        return len(self.before.union(code for rule in RULES if id(rule) in self._asked for code in rule.codes))

    def ask(self, phase: Phase) -> list[Finding]:
        """Ask the rules of a phase; returns what is new."""
        fresh: list[Finding] = []
        for rule in RULES:
            if rule.phase == phase:
                self._asked.add(id(rule))
                try:
                    fresh += rule.ask(self.record)
                except Exception as error:  # a rule that fails must not end somebody's training
                    self.failed[rule.codes[0]] = error
        return self.take(fresh)

    def take(self, findings: Iterable[Finding]) -> list[Finding]:
        """Take findings from wherever they come; returns those that are new or graver than before."""
        new = []
        for finding in merge(findings):
            known = self.found.get(finding.code)
            if known is not None and not _graver(finding, known):
                if finding.confidence > known.confidence and finding.severity == known.severity:
                    self.found[finding.code] = replace(known, confidence=finding.confidence)
                continue
            self.found[finding.code] = finding
            new.append(finding)
        if new and self._heard is not None:
            for finding in rank(new):
                self._heard(finding)
        return new

    def ranked(self) -> list[Finding]:
        """Return the findings, likeliest cause first."""
        return rank(self.found.values())


def _graver(new: Finding, old: Finding) -> bool:
    return SEVERITIES.index(new.severity) < SEVERITIES.index(old.severity)


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding per code: the gravest, with the other layers it was seen in as evidence."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.code, []).append(finding)
    merged = []
    for group in groups.values():
        best = min(group, key=lambda f: (SEVERITIES.index(f.severity), -f.confidence))
        layers = list(dict.fromkeys(f.layer for f in group if f.layer))
        if len(layers) > 1:
            named = ", ".join(layers[:_GROUP]) + (", ..." if len(layers) > _GROUP else "")
            best = replace(
                best, remedies=_everywhere(best, group), evidence={**best.evidence, "layers": layers},
                message=f"{best.message} The same in {len(layers)} places: {named}.",
            )
        merged.append(best)
    return merged


def _everywhere(best: Finding, group: Sequence[Finding]) -> tuple[Remedy, ...]:
    """Return the remedies of a finding so that each is applied in all places of the group."""
    alike = [f for f in group if len(f.remedies) == len(best.remedies)]
    found = []
    for number, remedy in enumerate(best.remedies):
        parts = [part for f in alike if (part := f.remedies[number].apply) is not None]
        found.append(remedy if remedy.apply is None or len(parts) < 2 else replace(remedy, apply=both(*parts)))
    return tuple(found)


def _causes(rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    causes: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        for code in rule.codes:
            causes[code] = (*causes.get(code, ()), *rule.causes)
    return causes


def causes_of(code: str) -> frozenset[str]:
    """Return the codes that can explain a code."""
    load()
    return frozenset(_causes(RULES).get(code, ()))


def rank(findings: Iterable[Finding], rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Return findings with errors first, causes before their symptoms, then by confidence.

    A cause of an error stands before it even when it is a warning itself. Of equally grave findings, those that nothing
    else explains come first.
    """
    load()
    known = RULES if rules is None else rules
    causes = _causes(known)
    by_code = {finding.code: finding for finding in findings}

    def causes_of_it(finding: Finding) -> list[Finding]:
        """Return what was found that explains codes like it; only errors where it says that it has no other cause."""
        alone = finding.evidence.get("unexplained")
        return [
            by_code[code] for code in causes.get(finding.code, ())
            if code in by_code and code != finding.code and not (alone and by_code[code].severity != "error")
        ]

    def explained(finding: Finding) -> bool:
        """Whether a cause of it was found that is not a mere note beside it."""
        found = causes_of_it(finding)
        return any(cause.severity != "note" or finding.severity == "note" for cause in found)

    waiting = sorted(
        by_code.values(), key=lambda f: (SEVERITIES.index(f.severity), explained(f), -f.confidence)
    )
    ranked: list[Finding] = []
    visiting: set[str] = set()

    def place(finding: Finding) -> None:
        if finding in ranked or finding.code in visiting:
            return
        visiting.add(finding.code)
        first = causes_of_it(finding)
        # a cause that is only a note explains nothing that is worse
        for cause in sorted(first, key=lambda f: (SEVERITIES.index(f.severity), -f.confidence)):
            if cause.severity != "note" or finding.severity == "note":
                place(cause)
        visiting.discard(finding.code)
        ranked.append(finding)

    for finding in waiting:
        place(finding)
    return ranked
