"""Step 1: look at the data before anything is trained on them."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.findings import Findings
from deepbabysit.babysit.preflight import check
from deepbabysit.babysit.preparation import as_tuple, bare
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Halted, Workshop
from deepbabysit.babysit.setup import Setup

ENOUGH = 60.0  # seconds of the check: as many as it wants, so that what is found does not depend on the machine
MENDED = 4  # remedies that are taken at most
REFUSED = ("nan_in_data", "loss_shape_mismatch", "target_out_of_range")  # `fit` itself refuses these


def examine(shop: Workshop, setup: Setup) -> Findings:
    """Check a setup with the data as it prepares them."""
    data = shop.prepared(setup)
    assert data.validation is not None
    return check(
        setup.build(), bare(data.x), data.y, (bare(data.validation[0]), data.validation[1]),
        batch_size=setup.batch_size, epochs=setup.epochs, class_weight=setup.class_weight, budget=ENOUGH,
    )


def look(shop: Workshop, report: Report) -> None:
    """Say what the data are, find what is wrong with them, and mend what can be mended."""
    found = examine(shop, shop.setup)
    _describe(shop, found, report)
    for _ in range(MENDED):
        better = _mend(shop, found, report)
        if better is None:
            break
        found = better
    facts = found.record.data
    twice = data_facts(as_tuple(shop.parts.train[0]), None, (as_tuple(shop.parts.test[0]), None)).overlap
    shared = 0 if twice is None else twice.rows
    report.test(
        shared == 0, f"{shared} of {len(shop.parts.test[1])} test rows stand in the training part.",
        "Split again: db.data.split after the copies are gone.", test_overlap=shared,
    )
    report.numbers["duplicates"] = facts.duplicates
    for finding in found:
        if finding.severity != "note":
            advice = f"Try first: {finding.remedies[0].text.rstrip('.')}." if finding.remedies else ""
            report.test(finding.severity != "error", f"{finding.code}: {finding.message}", advice)
    report.numbers["codes"] = [f.code for f in found if f.severity != "note"]
    left = [f.code for f in found if f.code in REFUSED and f.severity == "error"]
    report.tell(f"{len(found.asked)} checks were made; {len(report.numbers['codes'])} of them found something.")
    if found.failure or left:
        raise Halted(f"nothing can be trained: {found.failure or ', '.join(left)}")


def _describe(shop: Workshop, found: Findings, report: Report) -> None:
    facts, run = found.record.data, found.record.run
    rows = [len(y) for _, y in shop.parts]
    report.tell(
        f"{rows[0]} rows to train on, {rows[1]} to choose by, {rows[2]} to be tested once; {facts.features} numbers "
        f"each; task: {run.task or 'unknown'}.", rows=rows, features=facts.features, task=run.task,
    )
    labels = facts.labels
    if labels is not None and labels.counts:
        most, least = max(labels.counts.values()), min(labels.counts.values())
        share = most / sum(labels.counts.values())
        report.tell(
            f"{labels.classes} classes; the commonest has {most} rows ({share:.1%}), the rarest {least}.",
            classes=labels.classes, majority=share,
        )
    elif labels is not None:
        report.tell(f"targets from {labels.minimum:.4g} to {labels.maximum:.4g}, mean {labels.mean:.4g}, "
                    f"standard deviation {labels.std:.4g}.")
    for entry in facts.inputs:
        spreads = [s for s in entry.std if s > 0.0]
        if spreads:
            report.tell(
                f"features spread by {min(spreads):.3g} to {max(spreads):.3g} (standard deviations); values from "
                f"{entry.all_minimum:.4g} to {entry.all_maximum:.4g}; {len(entry.constant)} constant."
            )
    report.tell(f"{facts.duplicates} rows are copies of earlier ones, {facts.conflicts} copies have another label.")


def _mend(shop: Workshop, found: Findings, report: Report) -> Findings | None:
    """Apply the first remedy that makes its finding go away; returns what is found then."""
    for finding in found:
        if finding.severity == "note":
            continue
        for remedy in finding.remedies:
            if remedy.apply is None:
                continue
            try:
                changed: Any = remedy.apply(shop.setup)
                after = examine(shop, changed)
            except (ValueError, TypeError):
                continue  # it cannot be applied to this model
            if finding.code not in [f.code for f in after if f.severity != "note"] and not after.failure:
                shop.setup = changed
                report.tell(f"mended: {finding.code}: {remedy.text.rstrip('.')}.")
                report.numbers.setdefault("mended", []).append(finding.code)
                return after
    return None
