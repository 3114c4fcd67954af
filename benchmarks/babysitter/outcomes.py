"""What came of a case, as a line of JSON: whether it hurts, what was found, what others would have said."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.babysitter.baselines import BASELINES
from benchmarks.babysitter.cases import Case
from benchmarks.babysitter.judging import Scores, judge
from benchmarks.babysitter.operators import apply
from benchmarks.babysitter.programs import BY_NAME
from benchmarks.babysitter.running import EVERY, Run, run

Outcome = dict[str, Any]
SAID = 3  # of what is said first, so much is kept
ALONE = 4  # of so many cases one is also trained with the seed of the watched run and nobody watching


def verdict_of(case: Case, scores: Scores) -> tuple[str, dict[str, float]]:
    """Return whether a case hurts (`judge`), by runs that nobody watches: no rule has a say in it."""
    if case.kind == "clean":
        return "healthy", {}
    program = BY_NAME[case.program]
    return judge(*scores.pair(apply(program, case.delta), program, case.seeds))


def outcome(case: Case, scores: Scores, keep: Any = None, every: int | None = EVERY) -> Outcome:
    """Run a case: its first seed watched; all its seeds and its twin's unwatched, where they are not known yet.

    Arguments:
        case: which one.
        scores: of runs that nobody watches.
        keep: called with the case and the watched run, where somebody wants the record.
        every: see `run`.
    """
    recipe = apply(BY_NAME[case.program], case.delta)
    verdict, worse = verdict_of(case, scores)
    watched, same = run(recipe, case.seeds[0], every=every), None
    if zlib.crc32(case.name.encode()) % ALONE == 0 and not watched.refused:
        same = watched.weights == run(recipe, case.seeds[0], watch=False).weights
    if keep is not None:
        keep(case, watched)
    return {
        "name": case.name, "operator": case.operator, "codes": list(case.codes),
        "kind": case.kind, "truth": truth(case.kind, verdict),
        "worse": {name: round(value, 4) for name, value in worse.items()},
        "findings": [  # those that the figures need: the first ones, and where the right name is said
            _short(f.as_dict(), watched) for place, f in enumerate(watched.findings)
            if place < SAID or f.code in case.codes
        ],
        "steps": watched.steps, "refused": bool(watched.refused), "named": _named(watched), "same": same,
        "seconds": round(watched.seconds, 3),
        "baselines": {} if watched.record is None else {
            name: said[:SAID] for name, say in BASELINES.items() if (said := list(say(watched.record)))},
    }


def truth(kind: str, verdict: str) -> str:
    """Return what a case is worth: ``faulty``, ``healthy``, or ``out`` (left out, and counted)."""
    if kind == "clean":
        return "healthy"
    if kind == "lookalike":  # one that does hurt is no healthy program
        return "healthy" if verdict == "harmless" else "out"
    return {"hurts": "faulty", "harmless": "healthy"}.get(verdict, "out")


def _short(finding: Mapping[str, Any], watched: Run) -> dict[str, Any]:
    return {
        "code": finding["code"], "severity": finding["severity"], "confidence": finding["confidence"],
        "at": watched.heard.get(finding["code"], watched.done),
    }


def _named(watched: Run) -> bool | None:
    """Tell whether a number that was not finite is named with its step; None where there was none."""
    if watched.bad_step is None:
        return None
    return any(f.code in ("nan_loss", "nan_in_layer") and f.step == watched.bad_step for f in watched.findings)


def places(folder: Path, pool: str) -> tuple[Path, Path]:
    """Return the files of a pool's outcomes and of its scores."""
    return folder / f"babysitter-{pool}.jsonl", folder / f"scores-{pool}.jsonl"
