"""Step 4: give up some of the training score for the validation score; what does not help is not kept."""

from __future__ import annotations

from deepbabysit.babysit.changes import Change, fields
from deepbabysit.babysit.preparation import as_tuple
from deepbabysit.babysit.recipe import edits
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Workshop, noise

PATIENCE = 5  # epochs at least; a fifth of the plan where that is more
MORE_DATA = 0.01  # the second half of the rows brought so much, and more than chance: more of them will bring more
ARMS: dict[str, tuple[tuple[str, Change], ...]] = {
    "dropout": (("0.2", edits.dropout(0.2)), ("0.5", edits.dropout(0.5))),
    "L2": (("1e-4", edits.l2(1e-4)), ("1e-3", edits.l2(1e-3)), ("1e-2", edits.l2(1e-2))),
}


def regularize(shop: Workshop, report: Report) -> None:
    """Try early stopping, dropout and L2 in turn on the best so far; keep what helps on the validation rows."""
    start = edits.unregularized(shop.setup)
    best = first = shop.train(start)
    setup = start
    gap = _gap(first.losses, first.held)
    report.tell(f"without regularization: {first.shown()} on the validation rows"
                + ("." if gap is None else f"; the last validation loss is {gap:.2f} times the training loss."),
                unregularized=first.score.value)
    stopped = fields(patience=max(PATIENCE, setup.epochs // 5))(setup)
    arms = {"early stopping": ((f"patience {stopped.patience}", fields(patience=stopped.patience)),), **ARMS}
    kept: list[str] = []
    for name, choices in arms.items():
        chosen = None
        for words, change in choices:
            try:
                changed = change(setup)
            except ValueError as error:
                report.tell(f"{name} {words} was not tried: {error}.")
                continue
            found = shop.train(changed)
            better = found.better(best)
            report.tell(f"{name} {words}: {found.shown()}{', better' if better else ''}.")
            if better:
                best, chosen, told = found, changed, f"{name} {words}"
        if chosen is not None:
            setup = chosen
            kept.append(told)
    report.tell(f"kept: {', '.join(kept) or 'nothing; the network does as well without'}.", kept=kept)
    half = shop.train(setup, kind="half")
    gain = best.score.value - half.score.value
    helps = gain > max(MORE_DATA, noise(best.score, half.score))
    report.tell(
        f"half of the training rows give {half.shown()}: the other half brought {gain:+.4f}. " + (
            "More rows, or rows changed a little (db.data.augment), would help more than any setting."
            if helps else "That is too little to promise anything of more rows."),
        half=half.score.value, more_data=helps,
    )
    if as_tuple(shop.parts.train[0])[0].ndim > 2 and helps:
        report.tell("for images: db.data.augment.flip, crop, affine, elastic.")
    report.test(
        not best.exploded and not first.better(best),
        f"regularized {best.shown()}, without {first.shown()}.", regularized=best.score.value,
    )
    shop.setup = setup


def _gap(losses: tuple[float, ...], held: tuple[float, ...]) -> float | None:
    return held[-1] / losses[-1] if losses and held and losses[-1] > 0.0 else None
