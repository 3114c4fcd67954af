"""From outcomes to figures: rates with exact bounds, per-code precision and recall, calibration, times, baselines."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Outcome = Mapping[str, Any]
ENOUGH = 10  # cases that a code needs before anything is claimed for it


def bounds(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a proportion (Clopper and Pearson, Biometrika 1934).

    The bounds are the proportions at which so many hits, or more (fewer), have half of the remaining probability.

    >>> [round(b, 4) for b in bounds(10, 20)]
    [0.272, 0.728]
    """
    if of == 0:
        return 0.0, 1.0
    tail = (1.0 - level) / 2.0
    low = 0.0 if hits == 0 else _solve(lambda p: 1.0 - _below(hits - 1, of, p) - tail)
    high = 1.0 if hits == of else _solve(lambda p: tail - _below(hits, of, p))
    return low, high


def _below(hits: int, of: int, p: float) -> float:
    """Return the probability of at most so many hits."""
    if p <= 0.0 or p >= 1.0:
        return 1.0 if p <= 0.0 else float(hits >= of)
    log = [
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(p) + (of - k) * math.log1p(-p)
        for k in range(hits + 1)
    ]
    return math.fsum(math.exp(v) for v in log)


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rising(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0


def rate(hits: int, of: int) -> dict[str, Any]:
    """Return a rate with its bounds."""
    low, high = bounds(hits, of)
    return {"hits": hits, "of": of, "rate": hits / of if of else None, "low": low, "high": high}


def loud(found: Outcome) -> list[Mapping[str, Any]]:
    """Return the findings that are no notes, ranked."""
    return [f for f in found["findings"] if f["severity"] != "note"]


def first(found: Outcome) -> Mapping[str, Any] | None:
    """Return the first finding that is no note."""
    return next(iter(loud(found)), None)


def figures(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return everything that is claimed, of outcomes whose truth is ``faulty`` or ``healthy``."""
    known = list(outcomes)
    faulty = [o for o in known if o["truth"] == "faulty"]
    healthy = [o for o in known if o["truth"] == "healthy"]
    by_kind = {kind: [o for o in healthy if o["kind"] == kind] for kind in ("clean", "lookalike", "fault")}
    guesses = [(f["confidence"], f["code"] in o["codes"]) for o in faulty + healthy if (f := first(o)) is not None]
    bad = [o for o in known if o["named"] is not None]
    watched = [o for o in known if o["same"] is not None]
    codes = per_code(faulty, healthy)
    claimed = {code: row for code, row in codes.items() if row["cases"] >= ENOUGH}
    return {
        "cases": len(known), "faulty": len(faulty), "healthy": len(healthy),
        "left_out": sum(o["truth"] == "out" for o in known),
        "detected": rate(sum(bool(loud(o)) for o in faulty), len(faulty)),
        "first": rate(sum(_right(o, 1) for o in faulty), len(faulty)),
        "first_three": rate(sum(_right(o, 3) for o in faulty), len(faulty)),
        "first, no note": rate(sum(_right(o, 1, loud(o)) for o in faulty), len(faulty)),
        "first_three, no note": rate(sum(_right(o, 3, loud(o)) for o in faulty), len(faulty)),
        "macro_f1": sum(row["f1"] for row in claimed.values()) / len(claimed) if claimed else None,
        "codes": codes,
        "brier": sum((c - right) ** 2 for c, right in guesses) / len(guesses) if guesses else None,
        "calibration": calibration(guesses),
        "false_alarms": {
            "clean and look-alikes": _alarms(by_kind["clean"] + by_kind["lookalike"]),
            "clean": _alarms(by_kind["clean"]), "look-alikes": _alarms(by_kind["lookalike"]),
            "faults without harm": _alarms(by_kind["fault"]), "all": _alarms(healthy),
        },
        "time_to_finding": median(times) if (times := [_time(o) for o in faulty]) else None,
        "nan_named": rate(sum(bool(o["named"]) for o in bad), len(bad)),
        "same_weights": rate(sum(bool(o["same"]) for o in watched), len(watched)),
        "seconds": median([o["seconds"] for o in known]) if known else None,
        "baselines": {name: baseline(name, faulty, healthy) for name in _tools(known)},
    }


def _right(found: Outcome, among: int, findings: Sequence[Mapping[str, Any]] | None = None) -> bool:
    said = found["findings"] if findings is None else findings
    return any(f["code"] in found["codes"] for f in said[:among])


def _alarms(healthy: Sequence[Outcome]) -> dict[str, Any]:
    return rate(sum(bool(loud(o)) for o in healthy), len(healthy))


def _time(found: Outcome) -> float:
    """Return the share of the planned steps after which a right name was said; 1 where it never was."""
    when = [f["at"] for f in found["findings"] if f["code"] in found["codes"]]
    return min(min(when) / max(found["steps"], 1), 1.0) if when else 1.0


def per_code(faulty: Sequence[Outcome], healthy: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return precision, recall and F1 of the first finding, for each code that is the main label of a case.

    A first finding that is any of a case's labels counts for its main label.
    """
    cases: Counter[str] = Counter(o["codes"][0] for o in faulty)
    hits: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for o in (*faulty, *healthy):
        found = first(o)
        if found is None:
            continue
        right = o["truth"] == "faulty" and found["code"] in o["codes"]
        code = o["codes"][0] if right else found["code"]
        said[code] += 1
        hits[code] += right
    rows = {}
    for code, count in sorted(cases.items()):
        precision = hits[code] / said[code] if said[code] else 0.0
        recall = hits[code] / count
        both = precision + recall
        rows[code] = {
            "cases": count, "precision": precision, "recall": recall, "said": said[code],
            "f1": 2 * precision * recall / both if both else 0.0,
        }
    return rows


def calibration(guesses: Sequence[tuple[float, bool]]) -> list[dict[str, float]]:
    """Return how often a first finding is right, by its confidence."""
    groups: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in guesses:
        groups[min(int(confidence * 10), 9)].append((confidence, right))
    return [
        {"from": k / 10, "count": len(group), "said": sum(c for c, _ in group) / len(group),
         "right": sum(r for _, r in group) / len(group)}
        for k, group in sorted(groups.items())
    ]


def _tools(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for o in outcomes for name in o["baselines"]))


def baseline(name: str, faulty: Sequence[Outcome], healthy: Sequence[Outcome]) -> dict[str, Any]:
    """Return what another tool's limits do on the same records (a refused run is found by nobody but us)."""
    said = [list(o["baselines"].get(name, {})) for o in faulty]
    alarms = [o for o in healthy if o["baselines"].get(name)]
    labels = [o["codes"] for o in faulty]
    return {
        "detected": rate(sum(bool(s) for s in said), len(faulty)),
        "first": rate(sum(bool(s) and s[0] in c for s, c in zip(said, labels, strict=True)), len(faulty)),
        "first_three": rate(sum(bool(set(s[:3]) & set(c)) for s, c in zip(said, labels, strict=True)), len(faulty)),
        "false_alarms": rate(len(alarms), len(healthy)),
    }


def misses(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return faulty cases whose first finding is not right, and healthy ones with an alarm."""
    return [
        o for o in outcomes
        if (o["truth"] == "faulty" and not _right(o, 1)) or (o["truth"] == "healthy" and loud(o))
    ]
