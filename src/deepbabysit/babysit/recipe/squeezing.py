"""Step 6: squeeze out the rest: train longer with a falling rate, average several, and test once."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.babysit import changes
from deepbabysit.babysit.preparation import Score, classes_of, score
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Outcome, Workshop, noise, shown
from deepbabysit.babysit.setup import Setup

LONGER = 3  # times as long
PROMISED = 0.1  # so much of R squared may get lost between validation and test part
MEMBERS = 3  # networks of the ensemble, each from a seed of its own


def squeeze(shop: Workshop, report: Report) -> None:
    """Train longer, let the rate fall along a cosine, average the outputs of several; choose, then test once."""
    base = shop.setup
    found: dict[str, tuple[Setup, Outcome]] = {"as tuned": (base, shop.train(base, keep=True))}
    steps = -(-len(shop.parts.train[1]) // base.batch_size) * base.epochs * LONGER
    longer = base.with_(epochs=base.epochs * LONGER)
    patient = longer.with_(patience=None if base.patience is None else base.patience * LONGER)
    choices = {f"{LONGER} times as long": patient}
    try:
        choices[f"{LONGER} times as long, the rate falling to 0"] = changes.cosine(steps)(longer.with_(patience=None))
    except ValueError as error:
        report.tell(f"a falling rate was not tried: {error}.")
    for name, setup in choices.items():
        found[name] = setup, shop.train(setup, keep=True)
    for name, (_, outcome) in found.items():
        report.tell(f"{name}: {outcome.shown()} on the validation rows.")
    name = next(iter(found))
    for other in list(found)[1:]:
        if found[other][1].better(found[name][1]):
            name = other
    setup, outcome = found[name]
    members = [(setup, outcome)]
    for number in range(1, MEMBERS):
        again = setup.with_(seed=setup.seed + number)
        members.append((again, shop.train(again, keep=True)))
    whole = _together(shop, members)
    better = whole.better(outcome.score)
    report.tell(f"{MEMBERS} networks from {MEMBERS} seeds, outputs averaged: {shown(whole)}"
                f"{'; better than one.' if better else '; not better than one, so one is kept.'}", ensemble=whole.value)
    kept = members if better else members[:1]
    shop.answers["members"] = [[s.as_dict(), o.key] for s, o in kept]
    shop.setup = setup
    chosen = whole if better else outcome.score
    report.tell(f"chosen on the validation rows: {name}{f', {MEMBERS} averaged' if better else ''}: {shown(chosen)}.",
                validation=chosen.value)
    _test(shop, kept, chosen, report)


def _together(shop: Workshop, members: list[tuple[Setup, Outcome]]) -> Score:
    truth = shop.prepared(members[0][0]).truth
    assert truth is not None
    return judged(shop, members, shop.parts.validation[0], truth)


def answer(shop: Workshop, members: list[tuple[Setup, Outcome]], x: Any) -> np.ndarray:
    """Return the mean of what the networks say about raw inputs, in the targets' own units."""
    with np.errstate(all="ignore"):
        said = [shop.prepared(s).predict(shop.model(s, o.key), x) for s, o in members]
    result: np.ndarray = np.mean(said, axis=0)
    return result


def judged(shop: Workshop, members: list[tuple[Setup, Outcome]], x: Any, truth: np.ndarray) -> Score:
    """Return the score of networks together on raw rows."""
    said = answer(shop, members, x)
    loss = members[0][0].build().loss
    threshold = 0.5 if loss is None else float(loss.threshold)
    return score(truth, said, classes_of(truth, loss, said.shape[-1] if said.ndim > 1 else 1), threshold)


def _test(shop: Workshop, kept: list[tuple[Setup, Outcome]], chosen: Score, report: Report) -> None:
    """Use the test part, once: what was found is written down and never taken again."""
    form = kept[0][0].with_(rows=(), inputs=()).prepare(*shop.parts.train, shop.parts.test)
    assert form.truth is not None
    found = judged(shop, kept, shop.parts.test[0], form.truth)
    shop.answers["test"] = {"value": found.value, "name": found.name, "error": found.error, "rows": found.rows}
    report.tell(f"the test part, used once: {shown(found)} on {found.rows} rows.", test=found.value)
    width = 2.0 * noise(chosen, found) if found.name == "accuracy" else PROMISED
    report.test(
        chosen.value - found.value <= width,
        f"the validation part promised {chosen.value:.4f}, the test part kept {found.value:.4f} (limit of the loss: "
        f"{width:.4f}).", "So many choices by one validation part made it too hopeful: use a larger one.",
    )
