"""Rules about which classes are predicted, and which the loss asks for."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import slower, weigh_classes
from deepbabysit.babysit.rules.curves import STUCK
from deepbabysit.babysit.rules.data import data_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import done, last_epoch
from deepbabysit.babysit.vitals import Record


@rule("class_collapse", phase="check", times=10.0, worse=3.0,
      why="weights (of classes, rows or the loss) times rows are what each class counts in the loss; weights are there "
          "to make that more even. A class that counts `times` as much as another, and `worse` times as uneven as the "
          "rows alone, is what a model in doubt says: the odds of the classes in its answers are moved by that factor. "
          "Costs that differ on purpose rarely differ so much; where inputs tell the classes for sure it does no harm, "
          "which the end of the run shows")
def lopsided_weights(record: Record, limits: Any) -> Finding | None:
    """Weights make the loss ask for one class far more than for another."""
    data = data_of(record)
    if data is None or data.labels is None or len(data.pulls) < 2:
        return None
    counts, pulls = data.labels.counts, data.pulls
    heavy, light = max(pulls, key=lambda c: pulls[c]), min(pulls, key=lambda c: pulls[c])
    rows = max(counts[c] for c in pulls) / min(counts[c] for c in pulls)
    if pulls[heavy] <= limits.times * pulls[light] or pulls[heavy] <= limits.worse * rows * pulls[light]:
        return None
    often = "for ever" if not pulls[light] else f"{pulls[heavy] / pulls[light]:.3g} times as much"
    words = "is not asked for at all" if not pulls[light] else f"counts {pulls[light]:.2g} of it"
    return Finding(
        "class_collapse", "warning", 0.85,
        f"with the weights that were given class {heavy} is {pulls[heavy]:.1%} of the loss and class {light} {words}: "
        f"{often} (limit {limits.times:g}), while the largest class has {rows:.3g} times as many rows as the smallest. "
        f"In doubt the model will say {heavy}. Are the weights those of these classes, and not turned round?",
        {"pulls": {str(c): share for c, share in pulls.items()}, "rows": rows, "limit": limits.times},
        remedies=(weigh_classes(), Remedy("or train without weights", "class_weight=None")),
    )


@rule("class_collapse", phase="epoch",
      why="nearly all rows get one class although several occur; early on that is usual, so two epochs must agree",
      causes=("class_imbalance", "batch_too_large", *STUCK), share=0.95, most=0.8, epochs=2, rows=100)
def class_collapse(record: Record, limits: Any) -> Finding | None:
    """One class is predicted for nearly every row."""
    if len(record.epochs) < limits.epochs or done(record) < 0.2:
        return None
    recent = [s for s in record.steps if s.epoch >= record.epochs[-2].epoch and s.predicted]
    guessed: dict[int, int] = {}
    meant: dict[int, int] = {}
    for step in recent:
        for into, counts in ((guessed, step.predicted), (meant, step.actual)):
            for label, count in counts.items():
                into[label] = into.get(label, 0) + count
    total, known = sum(guessed.values()), sum(meant.values())
    if len(meant) < 2 or total < limits.rows or not known:
        return None
    label, count = max(guessed.items(), key=lambda item: item[1])
    most = max(meant.values()) / known
    if count / total < limits.share or most > limits.most:
        return None
    return Finding(
        "class_collapse", "warning", 0.85,
        f"class {label} was predicted for {count / total:.0%} of the last {total} rows measured (limit "
        f"{limits.share:.0%}), although {len(meant)} classes occur and the largest is {most:.0%} of them.",
        {"class": label, "share": count / total, "largest_class": most, "limit": limits.share},
        epoch=last_epoch(record),
        remedies=(slower(record), weigh_classes(), Remedy("start the last bias at the log-odds of the classes")),
    )
