"""Rules about the parts of the data, and about features that know too much, asked before training."""

from __future__ import annotations

import math
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.facts import DataFacts
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.relations import Association, Drift
from deepbabysit.babysit.remedies import split_again
from deepbabysit.babysit.rules.data import alone_in, data_of, evened, otherwise, percent
from deepbabysit.babysit.rules.reach import yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record


@rule(
    "split_leak", phase="check", rows=2, share=0.01, natural=3.0, most=0.1, least=8, near=0.3, alike=0.97,
    numbers=0.99, lift=0.8, missed=0.02,
    causes=("constant_feature",),
    why="Any copied row is too many (RULES: more than 0), but real tables hold a few repeats that a random split puts "
    "on both sides: up to `rows` of them, up to `share` of the part, or up to `natural` times the share of repeats "
    "inside the training part (where rows hold categories) are only noted, and so is anything in a part of fewer than "
    "`least` rows. Of measured rows that were split at random twice the share of repeats inside the training part is "
    "expected: up to three standard errors more of it, and up to `most` of the part, are only noted. Rows far nearer "
    "to a training row than chance explains (likeness.py: up to 0.25 of clean validation rows) are copies with "
    "noise, or rows of one group, from a share of `near` on, where they have its label, too (`alike`; `numbers` of "
    "the variance; `lift` of what is beyond guessing). Where cheap models that never saw the rows explain all but "
    "`missed` of them, a score cannot be better than it should be, and it is a note.",
)
def split_leak(record: Record, limits: Any) -> Finding | None:
    """The same rows in training and validation data."""
    data = data_of(record)
    found = None if data is None else data.overlap
    if data is None or found is None:
        return None
    near = _near_leak(data, limits)
    if not found.rows:
        return near
    share, repeats = found.rows / found.of, data.copies / data.rows
    discrete = not data.continuous or any(i.ids for i in data.inputs)
    tiny = found.of < limits.least
    expected = 2.0 * repeats * found.of
    chance = expected + 3.0 * math.sqrt(expected * (1.0 + 2.0 * found.of / data.rows))
    usual = max(limits.natural * repeats, chance / found.of) if discrete else min(chance / found.of, limits.most)
    natural = tiny or found.rows <= limits.rows or share <= max(limits.share, usual)
    known = yardstick_of(record)
    missed = math.inf if known is None or known.fresh is None else 1.0 - known.fresh
    harmless = (natural and (share < 0.5 or discrete or tiny)) or missed < limits.missed
    if harmless and near is not None:
        return near
    pairs = ", ".join(f"{a} = training row {b}" for a, b in found.examples[:3])
    return Finding(
        "split_leak", "note" if harmless else "error", 0.4 if harmless else 0.97 if not discrete else 0.8,
        f"{found.rows} of {found.of} validation rows ({percent(share)}) stand in the training data, too (validation "
        f"row {pairs}); inside the training data {percent(repeats)} of rows are repeats (limit {int(limits.rows)} "
        f"rows, {percent(limits.share)}). "
        + (
            f"Cheap models know all but {percent(max(missed, 0.0))} of such rows without their copies (limit "
            f"{percent(limits.missed)}), so a score is hardly better than it should be." if missed < limits.missed else
            "These look like natural repeats." if harmless else
            "Validation then measures memory. Split again, without copies."
        ),
        {"missed": missed, "rows": found.rows, "of": found.of, "share": share, "repeats_in_training": repeats,
         "limit_rows": limits.rows, "limit_share": limits.share, "limit_missed": limits.missed,
         "examples": [list(p) for p in found.examples]},
        remedies=(
            Remedy("Leave these rows out of the validation part.", "x_val, y_val = x_val[unseen], y_val[unseen]",
                   changes.clean("unseen")),
            split_again(), Remedy("Split by group (person, day, source) where rows belong together."),
        ),
    )


def _near_leak(data: DataFacts, limits: Any) -> Finding | None:
    """Validation rows that are training rows with noise."""
    near = data.held_near
    alike = limits.numbers if data.labels is not None and data.labels.kind == "numbers" else limits.alike
    if near is None or near.share < limits.near or near.alike < alike:
        return None
    counts = list(data.labels.counts.values()) if data.labels is not None and alike == limits.alike else []
    guess = sum((count / max(sum(counts), 1)) ** 2 for count in counts)
    if near.alike < guess + limits.lift * (1.0 - guess):
        return None  # nearly all rows have that label anyway
    pairs = ", ".join(f"{a} and training row {b}" for a, b in near.examples[:3])
    return Finding(
        "split_leak", "warning", 0.85,
        f"{near.rows} of {near.of} validation rows ({percent(near.share)}, limit {percent(limits.near)}) lie far "
        f"nearer to a training row than chance explains, and have its label (validation row {pairs}): copies with "
        "noise, or "
        f"several rows of one person, day or picture. Validation then measures memory. Split by group.",
        {"rows": near.rows, "of": near.of, "share": near.share, "alike": near.alike, "limit": limits.near,
         "examples": [list(p) for p in near.examples]},
        remedies=(
            Remedy("Split by group (person, day, source) where rows belong together."),
            Remedy("Make changed copies of rows (augmentation) after splitting, of training rows only."),
        ),
    )


@rule(
    "feature_leak", phase="check", score=0.8, apart=0.3, sure=0.985, sure_apart=0.05, numbers=0.97, classes=0.97,
    less=0.1, grouped=0.98, copied=0.995, others=0.15, lines=0.25, pieces=4, pure=0.4, lost=0.4, knows=0.6,
    copies=0.05, near=0.3, causes=("split_drift",),
    why="score: Deepchecks and RULES say 0.8, but the best feature of iris or breast cancer reaches that honestly "
    "(0.95 at most of 23 tables), next to others nearly as good. So it is only noted where it stands `apart` from "
    "the second best. A warning needs a feature that is `sure` alone and not nearly equalled; or some that together "
    "know nearly all (`numbers` of the variance, `classes` of the rows beyond the largest class) where all others "
    "know `less`, and something (`others`: beside useless features one that decides everything may be honest, and is "
    "noted); or one that has nothing but the label in its variance (`copied`; `grouped` where it stands apart as "
    "well). How it was made can be seen, too: it is the target itself in a share of the rows (`lines`), cuts the "
    "target's range into `pieces` without any overlap, has the one value of its class in a share of the rows (`pure`), "
    "or `knows` the training labels and far less of validation labels (`lost`): no feature of 40 clean tables did any "
    "of that. Among `copies` and rows `near` each other any feature knows the label.",
)
def feature_leak(record: Record, limits: Any) -> Finding | None:
    """One feature, or a few, give the label away."""
    data = data_of(record)
    found = None if data is None else data.association
    if data is None or found is None or found.alone is None or found.second is None or found.grouped is None or (
        found.feature is None
    ):
        return None
    gap = found.alone - found.second
    # a row whose copies were left in knows its label by any feature
    fresh = alone_in(data, limits)
    wide = found.alone > limits.score and gap > limits.apart
    numbers = data.labels is not None and data.labels.kind == "numbers"
    enough = limits.numbers if numbers else limits.classes
    known = bool(found.givers) and found.given >= enough
    helped = found.rest >= limits.others
    made = found.grouped >= limits.grouped and (helped or not numbers)
    exact = numbers and found.alone >= limits.copied  # not even noise is left
    perfect = found.alone >= limits.sure and gap > limits.sure_apart and (helped or made or exact)
    label = (known and found.made >= limits.copied) or found.alone >= limits.score and (
        found.grouped >= limits.copied or (made and gap > 2 * limits.sure_apart))
    without = known and (helped and found.given - found.rest >= limits.less or found.made >= limits.copied)
    how = _made(found, limits) if fresh else ""
    loses = fresh and found.alone >= limits.knows and found.lost >= limits.lost
    sure = label or bool(how) or loses or (fresh and (perfect or without))
    if not (wide or sure or (known and found.given - found.rest >= limits.less)):
        return None
    proven = found.proof if how else None
    columns = (proven.feature,) if proven else found.givers if without else (found.feature,)
    shown = f"feature {columns[0]} alone predicts" if len(columns) == 1 else (
        f"features {', '.join(map(str, columns[:5]))} alone predict")
    ids = any(part.ids for part in data.inputs)
    score = proven.score if proven else found.given if without else found.alone
    seen = how or (
        f"; of validation rows it knows {percent(found.lost)} less, beyond what other features lose there" if loses else
        f"; all others together reach {found.rest:.3f}" if without else
        f"; the next best feature reaches {found.second:.3f}, and the label explains {percent(found.grouped)} of its "
        f"variance")
    return Finding(
        "feature_leak", "warning" if sure else "note", 0.95 if label else 0.9 if sure else 0.5,
        f"{shown} the target with a score of {score:.3f} (0 is chance, 1 perfect; "
        f"limit {limits.score:g}){seen}. It may be the label under another name, missing when the model is used. Ask "
        f"when its value is known; drop the column if that is after the label.",
        {"feature": columns[0], "score": score, "second": found.second, "explained": found.grouped,
         "features": list(columns), "given": found.given, "rest": found.rest, "lost": found.lost,
         "limit": limits.score, "limit_apart": limits.apart, "rows": found.rows},
        remedies=(Remedy("Drop the column.", f"x = numpy.delete(x, {list(columns)}, axis=1)",
                         None if ids else changes.drop_columns(columns)),),
    )


def _made(found: Association, limits: Any) -> str:
    """Say how a feature was made of the label, where that can be seen."""
    proof = found.proof
    if proof is None:
        return ""
    if proof.copied >= limits.lines:
        return (f"; in {percent(proof.copied)} of the rows it is the target itself, but for its scale (limit "
                f"{percent(limits.lines)})")
    if proof.pieces >= limits.pieces:
        return (f"; its values cut the range of the target into {proof.pieces} pieces without any overlap (limit "
                f"{limits.pieces:g})")
    if proof.pure >= limits.pure:
        return (f"; in {percent(proof.pure)} of the rows it has one value that only rows of that class have (limit "
                f"{percent(limits.pure)})")
    return ""


@rule(
    "split_drift", phase="check", distance=0.25, labels=0.15, told=0.3, errors=6.0, copies=0.05, near=0.3,
    evened=1.5, gap=0.06, dear=4.0, close=0.03, lost=0.25,
    why="Beyond chance (one in a thousand over all features, Kolmogorov-Smirnov; one in 100,000 for labels) and large "
    "enough to matter: a quarter of the rows for a feature, 15 % of the rows for the class shares. Random splits stay "
    "below both. Weighted classes are meant to have other shares. A part that is made of copies differs from any "
    "other. Where each feature alone is as before but neighbours or a linear model tell of which part a row is (a "
    "two-sample test by classifying, Lopez-Paz and Oquab 2017; random splits stay below 4 `errors` and 0.4), "
    "features no longer "
    "belong together as they did: columns in another order, pictures turned or noisy. Smaller differences count where "
    "cheap models know validation rows less than training rows left out of their fit, by `gap` and `dear` standard "
    "errors (clean data: 2 at most); larger ones are only noted where they know them as well (`close`).",
    causes=("duplicate_rows", "class_imbalance", "corrupted_labels"),
)
def split_drift(record: Record, limits: Any) -> Finding | None:
    """Training and validation data differ in distribution."""
    data = data_of(record)
    found = None if data is None else data.drift
    if data is None or found is None:
        return None
    if data.overlap is not None and data.overlap.rows > 0.5 * data.overlap.of:
        return None  # a part of the training rows themselves
    if found.unseen >= 1.0:
        return _no_class_shared(found)
    feature = found.distance > max(found.chance, limits.distance)
    label = found.labels is not None and found.labels_chance is not None and not evened(data, limits.evened) and (
        found.labels > max(found.labels_chance, limits.labels) or found.unseen > 0.0
    )
    fresh, known = alone_in(data, limits), yardstick_of(record)
    told = found.told > limits.told and found.told > limits.errors * found.told_error and fresh
    gap, errors = (math.nan, math.nan) if known is None else known.missed
    shares = found.labels is not None and found.labels > max(found.labels_chance or 0.0, 0.1)
    told_by = data.association
    encoded = told_by is not None and (told_by.lost >= limits.lost or told_by.proof is not None and (
        max(told_by.proof.copied, told_by.proof.pure) >= limits.lost))  # a column that knows training targets only
    costly = otherwise(found) and fresh and not shares and not encoded and (
        gap >= limits.gap and errors >= limits.dear)
    if not feature and not label and not told and not costly:
        return None
    harmless = not label and known is not None and known.telling and gap < limits.close
    if label and record.run.weighted:
        return None  # rare classes were weighted on purpose; where shares of classes differ, features do, too
    parts = []
    if feature:
        parts.append(
            f"feature {found.feature} is distributed otherwise in validation than in training (Kolmogorov-Smirnov "
            f"distance {found.distance:.2f}; chance gives {found.chance:.2f}, limit {limits.distance:g}; "
            f"{found.drifted} features are beyond chance)"
        )
    if label:
        parts.append(
            f"the labels differ by {found.labels:.2f} between the parts (chance gives {found.labels_chance:.2f}, limit "
            f"{limits.labels:g}" + (f"; {percent(found.unseen)} of the validation rows are of classes that no training "
            f"row has)" if found.unseen else ")")
        )
    if told and not feature:
        parts.append(
            f"the inputs tell of which part a row is: in {percent(0.5 + 0.5 * found.told)} of rows of equally large "
            f"parts (limit {percent(0.5 + 0.5 * limits.told)}; chance gives 50 %), though no feature alone does"
        )
    if costly and known is not None:
        parts.append(
            f"a cheap model knows {percent(max(known.own, 0.0))} of training rows left out of its fit and "
            f"{percent(max(known.best, 0.0))} of validation rows, {errors:.1f} standard errors less (limit "
            f"{limits.dear:g}), and inputs differ (told apart by {found.told:.2f}; spreads by {found.widened:.1f} "
            f"standard errors)"
        )
    if harmless:
        parts.append("a cheap model knows validation rows as well as training rows, so it may do no harm")
    return Finding(
        "split_drift", "note" if harmless else "warning",
        0.5 if harmless else 0.9 if (label and feature) or costly else 0.8,
        f"{'; '.join(parts)}. Validation then measures the difference of the parts, not the model. Shuffle and "
        f"stratify, and scale both parts with the same statistics.",
        {"distance": found.distance, "feature": found.feature, "chance": found.chance, "drifted": found.drifted,
         "labels": found.labels, "labels_chance": found.labels_chance, "rows": list(found.rows), "told": found.told,
         "gap": gap, "errors": errors, "limit_distance": limits.distance, "limit_labels": limits.labels},
        remedies=(
            split_again(),
            Remedy("Scale both parts with one normalizer, fitted on the training rows."),
        ),
    )


def _no_class_shared(found: Drift) -> Finding:
    return Finding(
        "split_drift", "error", 0.97,
        f"training and validation labels share no class: all {found.rows[1]} validation rows looked at are of classes "
        f"that no training row has (limit 0 %). No model can be right about any of them, and their score says nothing. "
        f"A file that is sorted by class was cut, or the parts were coded in two ways. Shuffle and stratify.",
        {"unseen": found.unseen, "labels": found.labels, "rows": list(found.rows), "limit": 0.0},
        remedies=(split_again(), Remedy("Code the classes of both parts with one table.")),
    )
