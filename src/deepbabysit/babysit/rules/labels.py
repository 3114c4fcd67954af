"""Rules about labels, asked before training: what cheap models that saw other rows say of them."""

from __future__ import annotations

import math
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.facts import DataFacts
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.relations import Association
from deepbabysit.babysit.rules.data import (
    ALIKE,
    AMONG,
    KNOWN,
    alone_in,
    data_of,
    otherwise,
    percent,
    strangers,
)
from deepbabysit.babysit.rules.reach import yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record
from deepbabysit.babysit.yardstick import Yardstick


@rule(
    "corrupted_labels", phase="check", sigma=3.5, shifted=6.0, rows=60, known=8.0, carried=2.0, held=30,
    contradicted=0.25, causes=("class_imbalance", "constant_feature"),
    why="Neighbours and a linear model on the true pairing are compared with 24 pairings whose rows are shuffled. On "
    "real "
    "tables they win by 9 to 150 standard deviations; shuffled labels stay below 3.5 in 99 of 100 cases. A pairing "
    "shifted by one row that wins by 6 names the shift. Validation labels that training neighbours do not know "
    "although they know their own (`known`) are wrong, or their inputs are. Where neighbours agree on a class real "
    "data contradict in up to 0.2 of the cases; overlapping classes may exceed `contradicted`, so that is a note.",
)
def corrupted_labels(record: Record, limits: Any) -> Finding | None:
    """Labels that have nothing to do with the inputs."""
    data = data_of(record)
    found = None if data is None else data.association
    if data is None or found is None or found.rows < limits.rows:
        return None
    sigma = max(found.neighbours_sigma, found.linear_sigma)
    if strangers(data):
        return _of_strangers(data, found)
    if sigma >= limits.sigma:
        drifted = data.drift is not None and otherwise(data.drift)
        return (None if drifted else _validation_labels(found, sigma, limits)) or _contradictions(found, limits)
    if not found.telling:
        return None
    moved = found.shifted >= limits.shifted
    text = (
        f"the inputs do not tell the labels: neighbours and a linear model score {found.neighbours:.3f} and "
        f"{found.linear:.3f}, which is {sigma:.1f} standard deviations above shuffled labels (limit {limits.sigma:g}, "
        f"on {found.rows} rows). "
    )
    if moved:
        text += (
            f"With each input paired with the label {'before' if found.shift < 0 else 'after'} it the score is "
            f"{found.shifted:.1f} deviations above: labels are shifted by one row. Align x and y."
        )
        back = "x, y = x[1:], y[:-1]" if found.shift < 0 else "x, y = x[:-1], y[1:]"
        remedies = (
            Remedy("Undo the shift.", back, changes.clean("shift", by=-1 if found.shift < 0 else 1)),
            Remedy("See where x or y lost a row (a header, a filter)."),
        )
    else:
        text += "A network can only learn them by heart. See that x and y are in the same order."
        remedies = (
            Remedy("See that every sort, filter and shuffle moved x and y together."),
            Remedy("Look at ten rows with their labels by eye."),
        )
    return Finding(
        "corrupted_labels", "warning", 0.95 if moved else min(0.9, 0.6 + 0.1 * math.log10(found.rows)), text,
        {"neighbours": found.neighbours, "linear": found.linear, "sigma": sigma, "limit": limits.sigma,
         "rows": found.rows, "shift": found.shift if moved else 0, "shifted_sigma": found.shifted},
        remedies=remedies,
    )


def _of_strangers(data: DataFacts, found: Association) -> Finding:
    share = data.copies / data.rows
    return Finding(
        "corrupted_labels", "warning", 0.9,
        f"{data.copies} of {data.rows} rows ({percent(share)}, limit {percent(AMONG)}) have the inputs of an earlier "
        f"row, and their labels agree no more than those of any two rows ({data.agreement:.1f} standard "
        f"errors, limit {ALIKE:g}); neighbours know {percent(max(found.neighbours, 0.0))} of the labels (limit "
        f"{percent(KNOWN[0])}). Inputs were joined to rows that they do not belong to. Join by the right key.",
        {"copies": data.copies, "rows": data.rows, "agreement": data.agreement, "neighbours": found.neighbours,
         "linear": found.linear, "limit": AMONG},
        remedies=(Remedy("See by which key inputs and labels were joined, and over which rows means were taken."),),
    )


def _validation_labels(found: Association, sigma: float, limits: Any) -> Finding | None:
    carried = found.carried_sigma
    if carried is None or found.carried_rows < limits.held:
        return None
    if found.neighbours_sigma < limits.known or carried >= limits.carried:
        return None
    return Finding(
        "corrupted_labels", "warning", 0.85,
        f"the labels of the validation part have nothing to do with its inputs: training neighbours know their own "
        f"labels ({found.neighbours_sigma:.1f} standard deviations above shuffled ones), and those of "
        f"{found.carried_rows} validation rows at {carried:.1f} (limit {limits.carried:g}). Validation then measures "
        f"nothing. Align x and y of the validation part.",
        {"neighbours_sigma": found.neighbours_sigma, "carried_sigma": carried, "rows": found.carried_rows,
         "limit": limits.carried, "part": "validation"},
        remedies=(Remedy("See that every step moved x and y of the validation part together."),),
    )


def _contradictions(found: Association, limits: Any) -> Finding | None:
    share = found.contradicted
    if share is None or share <= limits.contradicted:
        return None
    return Finding(
        "corrupted_labels", "note", 0.5,
        f"where neighbours agree on a class, {percent(share)} of the rows have another one (limit "
        f"{percent(limits.contradicted)}, on {found.rows} rows): many labels are wrong, or the classes overlap. Look "
        f"at these rows.",
        {"contradicted": share, "limit": limits.contradicted, "rows": found.rows},
        remedies=(Remedy("Look at rows whose label their neighbours contradict."),),
    )


@rule(
    "corrupted_labels", phase="check",
    doubted=0.1, held=0.5, errors=2.0, sure=3.0, wide=0.2, surer=4.5, apart=0.1, half=0.5, useless=0.06,
    rows=30,
    why="A model that never saw a row, and is surer of it than of four fifths of them, is wrong in up to 0.01 of the "
        "cases on clean tables and images, and in a share like that of the wrong labels where labels are wrong. Where "
        "it is wrong of training rows (`doubted`) and not half as often of validation rows (`held`; at least `rows` "
        "of them), and knows training rows less than those (by `apart` and `sure` standard errors), the training "
        "labels are at fault. Numbers have no sure answers: there the share of the variance that is explained must be "
        "`wide` apart between the parts, by so many standard `errors`, and that of the training part less than `half`. "
        "Where no model explains more than `useless` of any part, the targets are not of these inputs.",
    causes=("conflicting_labels", "class_imbalance"),
)
def doubted_labels(record: Record, limits: Any) -> Finding | None:
    """Training labels that contradict what the inputs say, while validation labels do not."""
    known, data = yardstick_of(record), data_of(record)
    if known is None or data is None or record.run.weighted or known.held_rows < limits.rows:
        return None
    return _of_numbers(known, limits) if known.kind == "numbers" else _of_classes(known, limits)


@rule(
    "corrupted_labels", phase="check", labels=0.1, errors=3.5, share=0.4, distance=0.25, rows=30, copies=0.05,
    why="Where inputs tell labels, a class cannot have another share in the other part while inputs are alike: the "
        "mean score that a cheap model gives the class would differ, too, by as much of it as the model explains. "
        "Where that is at least so many standard `errors`, and it differs by less than that `share` of it, labels of "
        "one part were changed: one class marked as another, a default where a label was missing. A feature that "
        "moved (`distance`) or `copies` explain it otherwise.",
)
def relabelled(record: Record, limits: Any) -> Finding | None:
    """Labels of the parts differ, and inputs do not."""
    known, data = yardstick_of(record), data_of(record)
    found = None if data is None else data.drift
    if known is None or data is None or found is None or found.labels is None or found.labels_chance is None:
        return None
    if record.run.weighted or known.held_rows < limits.rows or found.labels <= max(found.labels_chance, limits.labels):
        return None
    if found.distance > max(found.chance, limits.distance) or found.unseen or (
        data.duplicates > limits.copies * data.rows
    ):
        return None
    if known.expected < limits.errors * known.moved_error or known.moved > limits.share * known.expected:
        return None
    return _finding(
        f"the labels of the parts differ by {found.labels:.2f} (chance gives {found.labels_chance:.2f}) and their "
        f"inputs do not: the scores of a cheap model differ by {known.moved:.3f}, where {known.expected:.3f} would "
        f"follow (limit {limits.share * known.expected:.3f})",
        {"labels": found.labels, "moved": known.moved, "expected": known.expected, "limit": limits.share}, 0.85,
    )


@rule(
    "corrupted_labels", phase="check", gap=0.1, errors=5.0, labels=0.1, score=0.8, apart=0.3, rows=30, copies=0.05,
    near=0.3,
    why="Cheap models know validation rows as well as training rows that were left out of their fit: on clean data the "
        "scores are at most 2 standard errors apart. Where they are this far apart and inputs are alike in both parts, "
        "labels of the validation part are wrong. Classes in other shares (`labels`), `copies` and rows `near` each "
        "other, and a feature that knows the training labels alone (`score`, `apart` from the next) explain it, too.",
)
def wrong_validation_labels(record: Record, limits: Any) -> Finding | None:
    """Validation labels that inputs do not tell, while they tell training labels."""
    known, data = yardstick_of(record), data_of(record)
    if known is None or data is None or data.drift is None or record.run.weighted or known.held_rows < limits.rows:
        return None
    gap, errors = known.missed
    if gap < limits.gap or errors < limits.errors or otherwise(data.drift) or not alone_in(data, limits):
        return None
    told = data.association
    if told is not None and told.alone is not None and told.second is not None and (
        told.alone > limits.score and told.alone - told.second > limits.apart
    ):
        return None
    moved = data.drift.labels
    if data.drift.unseen or (moved is not None and moved > max(data.drift.labels_chance or 0.0, limits.labels)):
        return None
    return _finding(
        f"a cheap model is right about {percent(known.own)} of the training targets (each row left out of its fit) and "
        f"about {percent(max(known.best, 0.0))} of the validation targets: {errors:.1f} standard errors less (limit "
        f"{limits.errors:g}), and inputs of the parts are alike. Labels of the validation part are wrong",
        {"own": known.own, "validation": known.best, "errors": errors, "limit": limits.errors, "part": "validation"},
        0.85,
    )


@rule(
    "corrupted_labels", phase="check", doubt=0.15, flat=0.78, knows=0.12, rows=100,
    why="Where classes overlap by nature a model errs least where it is surest: of 65 clean tables and image sets "
        "the surest fifth of the rows holds 0.01 wrong answers, and at most half the share of all rows where it is "
        "more (text). Labels that were guessed are wrong everywhere alike. So at least `doubt` of the surest answers "
        "of both parts must be wrong, and `flat` times the share of all answers; of a model that `knows` so much more "
        "than guessing, on so many `rows`.",
    causes=("conflicting_labels", "class_imbalance"),
)
def guessed_labels(record: Record, limits: Any) -> Finding | None:
    """Labels that are wrong as often where inputs tell them clearly as where they do not."""
    known = yardstick_of(record)
    if known is None or known.kind == "numbers" or record.run.weighted or known.held_rows < limits.rows:
        return None
    if min(known.own - known.own_guess, known.best - known.guess) < limits.knows:
        return None
    sure, every = known.doubt
    each = min(known.doubted or 0.0, known.held_doubted or 0.0)
    if sure < limits.doubt or sure < limits.flat * every or each < limits.flat * limits.doubt:
        return None
    return _finding(
        f"of the rows of which a cheap model is surest {percent(sure)} have another label (limit "
        f"{percent(limits.doubt)}), and of all rows {percent(every)}: labels are wrong where inputs tell them clearly, "
        f"as often as elsewhere (limit {limits.flat:g} times). Many labels were guessed",
        {"doubted": sure, "all": every, "limit": limits.doubt, "limit_flat": limits.flat}, 0.75,
    )


@rule(
    "corrupted_labels", phase="check", inside=0.7, flat=0.7, found=0.8, mixed=0.75, clear=0.85, more=1.8,
    why="Where a class is found by its inputs and many of its rows have the name of another one, the share of the "
        "right name is the same well `inside` the class and in all of it (`flat`), that region holds nearly all rows "
        "of that name (`found`), the others there are of one class (`mixed`), and that class is `clear` elsewhere. "
        "Classes that overlap are purer inside. 41 clean sources of three and more classes: none. Of two classes a "
        "rare one within a broad one looks the same, so nothing is said.",
    causes=("conflicting_labels", "class_imbalance"),
)
def renamed_class(record: Record, limits: Any) -> Finding | None:
    """Rows of one class have the name of another in a share that is the same everywhere."""
    known = yardstick_of(record)
    found = None if known is None else known.split
    if known is None or found is None or record.run.weighted:
        return None
    if found.inside > limits.inside or found.inside < limits.more * found.base or found.found < limits.found or (
        found.whole < limits.flat * found.inside or found.mixed < limits.mixed or found.clear < limits.clear
    ):
        return None
    return _finding(
        f"where a cheap model is surest of class {found.label} only {percent(found.inside)} of the rows have that name "
        f"(limit {percent(limits.inside)}), no fewer than at the border of the class ({percent(found.whole)}); "
        f"{percent(found.mixed)} of the others are called {found.other}, a class that is clear elsewhere "
        f"({percent(found.clear)}). Rows of class {found.label} were given the name {found.other}",
        {"class": found.label, "other": found.other, "share": found.inside, "limit": limits.inside}, 0.75,
    )


@rule(
    "unshuffled_rows", phase="check", batches=0.5, times=4.0,
    why="Rows of one class follow each other 1 / (1 - sum of squared shares) times by chance. Where it is so many "
        "`times` as often and so long that a batch is filled to this share (`batches`) with one class, a step forgets "
        "the others. Targets that are numbers may be a series in time: of them nothing is said.",
)
def unshuffled_rows(record: Record, limits: Any) -> Finding | None:
    """Rows that are sorted by class, in a run that does not shuffle."""
    data, run = data_of(record), record.run
    labels = None if data is None else data.labels
    if data is None or labels is None or labels.stretch is None or run.shuffled is not False or not run.batch_size:
        return None
    total = sum(labels.counts.values())
    alike = sum((count / total) ** 2 for count in labels.counts.values())
    if alike >= 1.0 or run.batch_size >= 0.5 * data.rows:
        return None  # one class; or a batch that holds most rows
    chance = 1.0 / (1.0 - alike)
    limit = max(limits.times * chance, limits.batches * run.batch_size)
    if labels.stretch < limit:
        return None
    return Finding(
        "unshuffled_rows", "warning", 0.9,
        f"rows of one class stand together: {labels.stretch:.0f} follow each other on the average (chance gives "
        f"{chance:.1f}, limit {limit:.0f}), nothing is shuffled, and a batch has {run.batch_size}. Each step then sees "
        "one class or two and forgets the others. Shuffle.",
        {"stretch": labels.stretch, "chance": chance, "batch_size": run.batch_size, "limit": limit},
        remedies=(Remedy("Shuffle the rows in each epoch.", "model.fit(..., shuffle=True)",
                         changes.fields(shuffle=True)),),
    )


def _of_classes(known: Yardstick, limits: Any) -> Finding | None:
    share, held = known.doubted, known.held_doubted
    if share is None or held is None or share < limits.doubted or held > limits.held * share:
        return None
    gap, errors = (-value for value in known.missed)
    if not (gap >= limits.wide and errors >= limits.sure) and not (gap >= limits.apart and errors >= limits.surer):
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
    if known.best - known.own < limits.wide or known.own > limits.half * known.best:
        return None
    errors = -known.missed[1]
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
        "corrupted_labels", "warning", sure,
        f"{seen}. Labels stand beside inputs that are not theirs. Align x and y, and see how labels were made.",
        evidence,
        remedies=(
            Remedy("See that every sort, filter and shuffle moved x and y together."),
            Remedy("Look at ten rows with their labels by eye."),
        ),
    )
