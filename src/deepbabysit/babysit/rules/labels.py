"""Rules about labels, asked before training: what cheap models that saw other rows say of them."""

from __future__ import annotations

import math
from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules.data import data_of, percent
from deepbabysit.babysit.rules.reach import yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record
from deepbabysit.babysit.yardstick import Yardstick


@rule(
    "corrupted_labels", phase="check", doubted=0.2, held=0.5, errors=2.0, sure=3.0, apart=0.2, half=0.5, useless=0.06,
    rows=30,
    why="A model that never saw a row, and is surer of it than of four fifths of them, is wrong in up to 0.01 of the "
        "cases on clean tables and images, and in a share like that of the wrong labels where labels are wrong. Where "
        "it is wrong of training rows (`doubted`) and not half as often of validation rows (`held`; at least `rows` "
        "of them), and knows training rows less than those (by `apart` and `sure` standard errors), the training "
        "labels are at fault. Numbers have no sure answers: there the share of the variance that is explained must be "
        "`apart` between the parts, by so many standard `errors`, and that of the training part less than `half`. "
        "Where no model explains more than `useless` of any part, the targets are not of these inputs.",
    causes=("conflicting_labels", "class_imbalance"),
)
def doubted_labels(record: Record, limits: Any) -> Finding | None:
    """Training labels that contradict what the inputs say, while validation labels do not."""
    known, data = yardstick_of(record), data_of(record)
    if known is None or data is None or record.run.weighted or known.held_rows < limits.rows:
        return None
    return _of_numbers(known, limits) if known.kind == "numbers" else _of_classes(known, limits)


def _of_classes(known: Yardstick, limits: Any) -> Finding | None:
    share, held = known.doubted, known.held_doubted
    if share is None or held is None or share < limits.doubted or held > limits.held * share:
        return None
    spread = known.own * (1.0 - known.own) / known.rows + (known.best * (1.0 - known.best) + 0.01) / known.held_rows
    if known.best - known.own < max(limits.apart, limits.sure * math.sqrt(spread)):
        return None  # as hard as the validation rows: classes that overlap
    return _finding(
        f"of the training rows of which a cheap model is surest (those rows left out of its fit) {percent(share)} have "
        f"another label (limit {percent(limits.doubted)}), of the validation rows {percent(held)}",
        {"doubted": share, "validation": held, "limit": limits.doubted, "rows": known.rows},
    )


def _of_numbers(known: Yardstick, limits: Any) -> Finding | None:
    if max(known.best, known.own) < limits.useless:
        return _finding(
            f"neither a linear nor a kernel model explains more than {percent(max(known.best, known.own, 0.0))} of the "
            f"variance of any part (limit {percent(limits.useless)}): the targets have nothing to do with the inputs",
            {"own": known.own, "validation": known.best, "limit": limits.useless, "rows": known.rows}, 0.75,
        )
    if known.best - known.own < limits.apart or known.own > limits.half * known.best:
        return None
    rows = math.sqrt(2.0 * (1.0 / known.rows + 1.0 / known.held_rows))
    errors = math.log(max(1.0 - known.own, 1e-3) / max(1.0 - known.best, 1e-3)) / rows
    if errors < limits.errors:
        return None
    return _finding(
        f"a cheap model explains {percent(known.best)} of the variance of the validation targets, and only "
        f"{percent(known.own)} of the training targets it was made from (each row left out of its fit): "
        f"{errors:.1f} standard errors apart (limit {limits.errors:g})",
        {"own": known.own, "validation": known.best, "errors": errors, "limit": limits.errors, "rows": known.rows},
    )


def _finding(seen: str, evidence: dict[str, Any], sure: float = 0.9) -> Finding:
    return Finding(
        "corrupted_labels", "warning", sure, f"{seen}. Labels stand beside inputs that are not theirs. Align x and y.",
        evidence,
        remedies=(
            Remedy("See that every sort, filter and shuffle moved x and y together."),
            Remedy("Look at ten rows with their labels by eye."),
        ),
    )
