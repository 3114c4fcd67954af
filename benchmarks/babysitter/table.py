"""The figures and the misses as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.babysitter.repairs import harmed, restored
from benchmarks.babysitter.scoring import ENOUGH, loud, misses


def percent(found: Mapping[str, Any]) -> str:
    """Return a rate with its bounds in words."""
    if not found["of"]:
        return "no cases"
    return f"{found['rate']:.1%} ({found['hits']} of {found['of']}; {found['low']:.1%} to {found['high']:.1%})"


def table(figures: Mapping[str, Any], pool: str) -> str:
    """Return the figures of a pool."""
    alarms = figures["false_alarms"]
    number = lambda v, form: "-" if v is None else format(v, form)  # noqa: E731
    rows = [
        ("detected (any warning or error)", percent(figures["detected"]), ">= 95 %"),
        ("right cause first", percent(figures["first"]), ">= 75 %"),
        ("right cause among the first three", percent(figures["first_three"]), ">= 90 %"),
        ("right cause first, notes not counted", percent(figures["first, no note"]), ""),
        ("right cause among the first three, notes not counted", percent(figures["first_three, no note"]), ""),
        (f"macro-F1 over codes with {ENOUGH} cases or more", number(figures["macro_f1"], ".3f"), ">= 0.85"),
        ("Brier score of the first finding's confidence", number(figures["brier"], ".3f"), "printed"),
        *((f"alarms on healthy runs: {name}", percent(found), "<= 1 %" if name == "clean and look-alikes" else "")
          for name, found in alarms.items()),
        ("median time to the finding, share of planned steps", number(figures["time_to_finding"], ".1%"), "<= 5 %"),
        ("not finite: named with its step", percent(figures["nan_named"]), "100 %"),
        ("weights bit-identical with and without", percent(figures["same_weights"]), "100 %"),
    ]
    lines = [
        f"## {pool} pool: {figures['cases']} cases: {figures['faulty']} faulty, {figures['healthy']} healthy, "
        f"{figures['left_out']} left out (harm unclear)", "",
        f"Median watched run {number(figures['seconds'], '.2f')} s. Bounds: Clopper-Pearson, 95 %.", "",
        "| figure | here | asked |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows), "",
        "| code | cases | precision | recall | F1 | said first |", "|---|---|---|---|---|---|",
    ]
    for code, row in figures["codes"].items():
        mark = "" if row["cases"] >= ENOUGH else " (too few)"
        lines.append(f"| {code}{mark} | {row['cases']} | {row['precision']:.2f} | {row['recall']:.2f} | "
                     f"{row['f1']:.2f} | {row['said']} |")
    lines += ["", "| limits of | detected | first | first three | alarms on healthy |", "|---|---|---|---|---|"]
    for name, found in figures["baselines"].items():
        lines.append(f"| {name} | " + " | ".join(
            percent(found[key]) for key in ("detected", "first", "first_three", "false_alarms")) + " |")
    lines += ["", "| confidence | findings | said | right |", "|---|---|---|---|"]
    lines += [f"| {row['from']:.1f} | {row['count']} | {row['said']:.2f} | {row['right']:.2f} |"
              for row in figures["calibration"]]
    return "\n".join(lines)


def table_of_groups(outcomes: Iterable[Mapping[str, Any]]) -> str:
    """Return what went wrong by operator: how often, of how many, and what was said first in place of the label."""
    known = list(outcomes)
    wrong = misses(known)
    lines = ["| operator | truth | label | wrong | of | said first |", "|---|---|---|---|---|---|"]
    groups = sorted({(o["truth"], o["operator"]) for o in wrong})
    for truth, operator in groups:
        some = [o for o in wrong if (o["truth"], o["operator"]) == (truth, operator)]
        of = sum((o["truth"], o["operator"]) == (truth, operator) for o in known)
        said = Counter(next((f["code"] for f in loud(o)), "nothing") for o in some)
        label = some[0]["codes"][0] if truth == "faulty" else "none"
        words = ", ".join(f"{code} {count}" for code, count in said.most_common())
        lines.append(f"| {operator} | {truth} | {label} | {len(some)} | {of} | {words} |")
    return "\n".join(lines)


def table_of_repairs(figures: Mapping[str, Any], outcomes: Iterable[Mapping[str, Any]], pool: str) -> str:
    """Return the figures of repair, and what did not go well case by case."""
    rows = [(name, percent(figures[name]), ">= 85 %" if name == "restored" else "") for name in figures
            if name.startswith("restored")]
    rows += [(f"restored by {name}, as many trainings", percent(found), "less than repair")
             for name, found in figures.get("rivals", {}).items()]
    rows += [(f"median passes over the data: {name}", f"{passes:.0f}", "")
             for name, passes in figures.get("passes", {}).items()]
    rows += [(f"healthy, left alone: {name}", percent(found), "") for name, found in figures["left alone"].items()]
    rows += [(f"healthy, harmed: {name}", percent(found), "none") for name, found in figures["harmed"].items()]
    rows.append(("median trainings of a faulty one", str(figures["trainings"]), "<= 6"))
    lines = [f"## {pool} pool, repaired: {figures['faulty']} faulty", "",
             "Restored: within two points of the healthy twin, on rows that no training has seen.", "",
             "| figure | here | asked |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows), "",
             "| not restored, or harmed | truth | twin | before | after | kept | failed |",
             "|---|---|---|---|---|---|---|"]
    for o in sorted(outcomes, key=lambda o: (o["truth"], o["operator"], o["name"])):
        if (o["truth"] == "faulty" and not restored(o)) or (o["truth"] == "healthy" and harmed(o)):
            values = ["-" if o[key] is None else f"{o[key]:.3f}" for key in ("twin", "before", "after")]
            lines.append(f"| {o['name']} | {o['truth']} | " + " | ".join(values)
                         + f" | {', '.join(o['kept'])} | {o['failed']} |")
    return "\n".join(lines)


def table_of_truths(found: Mapping[str, Mapping[str, int]]) -> str:
    """Return how many cases of each label are faulty, healthy, or left out, before anybody has watched one."""
    rows = [("label", "faulty", "healthy", "left out"), ("---",) * 4]
    kinds = ("faulty", "healthy", "out")
    rows += [(code, *(str(counts.get(kind, 0)) for kind in kinds)) for code, counts in sorted(found.items())]
    rows.append(("all", *(str(sum(counts.get(kind, 0) for counts in found.values())) for kind in kinds)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def table_of_misses(outcomes: Iterable[Mapping[str, Any]]) -> str:
    """Return the cases that went wrong, one by one."""
    lines = ["| case | truth | label | found (first three) |", "|---|---|---|---|"]
    for o in sorted(misses(outcomes), key=lambda o: (o["truth"], o["operator"], o["name"])):
        label = ", ".join(o["codes"]) if o["truth"] == "faulty" else "none"
        lines.append(f"| {o['name']} | {o['truth']} | {label} | {_said(o['findings'][:3] or loud(o))} |")
    return "\n".join(lines)


def _said(findings: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{f['code']} ({f['severity']} {f['confidence']:.2f})" for f in findings) or "nothing"
