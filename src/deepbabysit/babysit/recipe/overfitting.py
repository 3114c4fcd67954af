"""Step 3: learn a few rows by heart, then the training part; a network that cannot is too small or not well trained."""

from __future__ import annotations

from deepbabysit.babysit import changes
from deepbabysit.babysit.changes import Change
from deepbabysit.babysit.recipe import edits
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Outcome, Workshop
from deepbabysit.babysit.setup import Setup

BY_HEART = {"accuracy": 0.99, "r2": 0.99}  # of one batch
NEARLY = {"accuracy": 0.98, "r2": 0.95}  # of the training part
BATCH_EPOCHS = 300
LONGER, LEAST = 2, 60  # the training part is learned this many times as long as planned, and so many epochs at least
LATER = 30  # epochs without progress after which learning it by heart is given up
GROWTH: dict[str, Change] = {
    "a rate three times as high": lambda setup: changes.rate(3.0 * changes.first_rate(setup.optimizer))(setup),
    "twice as wide": changes.widen(2.0),
    "four times as wide": changes.widen(4.0),
    "one layer more": changes.deepen(64),
}


def overfit(shop: Workshop, report: Report) -> None:
    """Train without regularization until the rows are known by heart; grow the network while they are not."""
    bare = edits.unregularized(shop.setup)
    batch = shop.train(bare, BATCH_EPOCHS, kind="batch")
    report.test(
        _known(batch, BY_HEART),
        f"{batch.score.rows} rows learned by heart: {batch.shown()} after {batch.epochs} epochs (wanted "
        f"{BY_HEART[batch.score.name]}).",
        "What cannot learn a few rows has a fault in model, loss or labels.", batch=batch.score.value,
    )
    best, name = _learn(shop, bare), "the network as it is"
    report.tell(f"{best.score.rows} training rows, no regularization: {best.shown()} after {best.epochs} epochs.")
    grown, setup = shop.setup, bare
    for words, change in GROWTH.items():
        if _known(best, NEARLY):
            break
        try:
            wider = change(bare)
        except ValueError:
            continue  # the network cannot be changed so
        found = _learn(shop, wider)
        report.tell(f"{words}: {found.shown()}.")
        if found.better(best):
            best, setup, name = found, wider, words
    if setup is not bare:
        grown = GROWTH[name](shop.setup)
        report.tell(f"kept: {name}.", grown=name)
    report.test(
        _known(best, NEARLY), f"the training rows are known with {best.shown()} (wanted {NEARLY[best.score.name]}).",
        "Rows that contradict each other, or too little capacity, keep it from more: look at the rows it gets wrong.",
        training=best.score.value,
    )
    shop.setup = grown


def _learn(shop: Workshop, setup: Setup) -> Outcome:
    return shop.train(setup.with_(patience=LATER), max(LONGER * setup.epochs, LEAST), kind="whole")


def _known(found: Outcome, wanted: dict[str, float]) -> bool:
    return not found.exploded and found.score.value >= wanted[found.score.name]
