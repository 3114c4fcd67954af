"""The verdict: one screen after a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.recipe.standing import standing
from deepbabysit.babysit.vitals import Record, RunFacts

WIDTH = 100
SHOWN = 3  # causes that are told in full


def verdict(record: Record, findings: Sequence[Finding], checks: int) -> str:
    """Return one screen: what happened, the three likeliest causes with evidence, what to try first, where it stands
    in the recipe, what passed.

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
        lines += [f"    {line}" for line in runnable(code, record.run).splitlines()]
    lines += wrap(standing(record, findings), WIDTH, subsequent_indent="   ")
    more = [f.code for f in findings if f not in told]
    if more:
        lines += wrap(f"also seen: {', '.join(more)}", WIDTH, subsequent_indent="   ")
    seen = {f.code for f in findings}
    lines.append(f"{max(checks - len(seen), 0)} of {checks} checks passed, which does not mean that nothing is wrong")
    if record.probes.get("hurried"):
        lines.append("there was no time for others in so short a run: db.babysit.check(model, x, y, validation_data)")
    return "\n".join(lines)


def runnable(code: str, run: RunFacts) -> str:
    """Return a remedy's code with the run's own settings in place of the dots, and the line that trains again.

    >>> run = RunFacts(loss="mse", batch_size=16, epochs=5, validation_samples=20)
    >>> print(runnable("model.compile(db.optimizers.SGD(0.01), ...)", run))
    model.compile(db.optimizers.SGD(0.01), loss='mse')
    model.fit(x, y, batch_size=16, epochs=5, validation_data=(x_val, y_val))
    """
    how = {"batch_size": run.batch_size, "epochs": run.epochs}
    rest = "".join(f", {name}={value}" for name, value in how.items() if value and f"{name}=" not in code)
    held = ", validation_data=(x_val, y_val)" if run.validation_samples else ""
    if code.startswith("model.fit(...,"):
        return code.replace("...", "x, y", 1)[:-1] + f"{rest}{held})"
    if code.startswith("model.compile("):
        metrics = f", metrics={list(run.metrics)!r}" if run.metrics else ""
        again = f"model.fit(x, y{rest}{held})"
        return f"{code.replace('...', f'loss={run.loss!r}{metrics}')}\n{again}" if run.loss else code
    return code


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
