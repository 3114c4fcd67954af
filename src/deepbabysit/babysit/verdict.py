"""The verdict: one screen after a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.vitals import Record

WIDTH = 100
SHOWN = 3  # causes that are told in full


def verdict(record: Record, findings: Sequence[Finding], checks: int) -> str:
    """Return one screen: what happened, the three likeliest causes with evidence, what to try first, what passed.

    Arguments:
        record: the run.
        findings: ranked.
        checks: how many codes were looked for.
    """
    lines = ["verdict: " + _happened(record)]
    grave = [f for f in findings if f.severity != "note"]
    told = (grave or list(findings))[:SHOWN]
    for number, finding in enumerate(told, 1):
        head = f"{number}. {finding.code} ({finding.severity}, confidence {finding.confidence:.0%})"
        if finding.layer:
            head += f" in {finding.layer}"
        lines.append(head)
        lines += wrap(finding.message, WIDTH, initial_indent="   ", subsequent_indent="   ")
        for remedy in finding.remedies[:2]:
            lines += wrap(f"- {remedy.text}", WIDTH, initial_indent="   ", subsequent_indent="     ")
    code = next((r.code for f in told for r in f.remedies if r.code), "")
    if code:
        lines.append("try first:")
        lines += [f"    {line}" for line in code.splitlines()]
    more = [f.code for f in findings if f not in told]
    if more:
        lines += wrap(f"also seen: {', '.join(more)}", WIDTH, subsequent_indent="   ")
    seen = {f.code for f in findings}
    lines.append(f"{max(checks - len(seen), 0)} of {checks} checks passed, which does not mean that nothing is wrong")
    return "\n".join(lines)


def _happened(record: Record) -> str:
    """Tell in one sentence what the losses did and why the run ended."""
    parts = []
    names = [n for n in ("loss", "val_loss", "val_accuracy", "accuracy") if record.logs(n)]
    for name in names[:3]:
        values = record.logs(name)
        finite = [v for v in values if math.isfinite(v)]
        if not finite:
            parts.append(f"{name} was never finite")
            continue
        best = max(finite) if "accuracy" in name else min(finite)
        parts.append(f"{name} {values[0]:.4g} -> {values[-1]:.4g} (best {best:.4g})")
    if not parts:
        curve = record.curve()
        if len(curve):
            parts.append(f"loss {curve[0]:.4g} -> {curve[-1]:.4g} in {len(curve)} steps")
    done = len(record.epochs)
    planned = record.run.epochs
    end = f"{done} of {planned} epochs" if planned else f"{done} epochs"
    if record.stopped and record.stopped != "epochs":
        end += f", ended by: {record.stopped}"
    return f"{'; '.join(parts) or 'no step was made'}; {end}"
