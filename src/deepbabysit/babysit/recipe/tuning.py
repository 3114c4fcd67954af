"""Step 5: search coarse to fine, at random over powers of ten, on the validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from deepbabysit.babysit import changes
from deepbabysit.babysit.recipe import edits
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Halted, Outcome, Workshop
from deepbabysit.babysit.setup import Setup

COARSE, WIDER, FINE = 8, 3, 4  # trainings of each kind
DECADES = 1.0  # the rate is drawn from so many powers of ten on both sides of the one it has
WIDENED = 2  # so often the range of rates is widened, by one power of ten
LEAST_FOR = 12  # trainings that must be left to search in full; with fewer, less of each kind is made
SPARED = 6  # of those that are left for the last step
PENALTIES = (0.0, 1e-5, 1e-4, 1e-3)
DROPOUTS = (0.0, 0.1, 0.2, 0.35, 0.5)
WIDTHS = (0.5, 1.0, 2.0)


@final
@dataclass(frozen=True, slots=True)
class _Point:
    """One choice: rate, and where they can be changed dropout, L2 and width."""

    rate: float
    dropout: float | None = None
    l2: float | None = None
    width: float | None = None

    def apply(self, setup: Setup) -> Setup:
        """Return the setup with these settings; those that it cannot take stay as they are."""
        setup = _try(changes.rate(self.rate), setup)
        if self.width is not None and self.width != 1.0:
            setup = _try(changes.widen(self.width), setup)
        if self.dropout is not None:
            setup = _try(edits.dropout(self.dropout), setup)
        return setup if self.l2 is None else _try(edits.l2(self.l2), setup)

    def __str__(self) -> str:
        """Return it in words."""
        named = {"dropout": self.dropout, "L2": self.l2, "width x": self.width}
        return ", ".join([f"rate {self.rate:.2g}", *(f"{n} {v:g}" for n, v in named.items() if v is not None)])


def _try(change: changes.Change, setup: Setup) -> Setup:
    try:
        return change(setup)
    except ValueError:
        return setup


def tune(shop: Workshop, report: Report) -> None:
    """Draw settings at random, coarsely, then near the best; widen the range where the best lies at its edge."""
    base = shop.setup
    rng = np.random.default_rng([base.seed, 5])
    rate = changes.first_rate(base.optimizer)
    low, high = math.log10(rate) - DECADES, math.log10(rate) + DECADES
    start = shop.train(base)
    tried: list[tuple[_Point | None, Setup, Outcome]] = [(None, base, start)]
    stopped = 0

    def attempt(draw: Callable[[], _Point], count: int) -> None:
        nonlocal stopped
        for _ in range(count):
            point = draw()
            setup = point.apply(base)
            found = shop.train(setup)
            stopped += found.exploded
            tried.append((point, setup, found))

    share = min(1.0, max(shop.allowed - SPARED, 0) / LEAST_FOR)
    if share * COARSE < 1.0:
        raise Halted(f"{shop.allowed} trainings are left, too few to tune; allow more")
    attempt(lambda: _draw(rng, low, high, base), max(1, round(share * COARSE)))
    for _ in range(WIDENED):
        rates = [_rate(one, base) for one in tried]
        at = _rate(_best(tried), base)
        if min(rates) < at < max(rates) or share < 1.0:
            break
        low, high = (low - 1.0, low) if at == min(rates) else (high, high + 1.0)
        report.tell(
            f"the best rate, {10**at:.2g}, lies at the edge of those that were tried: also tried {10**low:.2g} to "
            f"{10**high:.2g}."
        )
        attempt(lambda a=low, b=high: _draw(rng, a, b, base), WIDER)  # type: ignore[misc]
    best = _best(tried)
    center = _rate(best, base)
    attempt(lambda: _near(rng, center, best[0]), max(1, round(share * FINE)))
    best = _best(tried)
    listed = sorted((t for t in tried[1:] if not t[2].exploded), key=lambda t: (-t[2].score.value, t[2].loss))
    for point, _, found in listed[:3]:
        report.tell(f"{point}: {found.shown()}.")
    report.tell(f"{len(tried) - 1} settings were tried, {stopped} of them exploded and were stopped.",
                tried=len(tried) - 1, exploded=stopped)
    report.test(
        not best[2].exploded, f"chosen: {'what it was' if best[0] is None else best[0]}: {best[2].shown()} on the "
        f"validation rows, before {start.shown()}.", "Every setting explodes: go back to the data.",
        before=start.score.value, after=best[2].score.value, rate=10 ** _rate(best, base),
    )
    shop.setup = best[1]


def _best(tried: list[tuple[_Point | None, Setup, Outcome]]) -> tuple[_Point | None, Setup, Outcome]:
    """Return the best on the validation rows; of equals the first."""
    best = tried[0]
    for one in tried[1:]:
        if one[2].better(best[2]):
            best = one
    return best


def _rate(one: tuple[_Point | None, Setup, Outcome], base: Setup) -> float:
    return math.log10(changes.first_rate(base.optimizer) if one[0] is None else one[0].rate)


def _draw(rng: np.random.Generator, low: float, high: float, base: Setup) -> _Point:
    rate = float(10 ** rng.uniform(low, high))
    picks = [float(rng.choice(values)) for values in (DROPOUTS, PENALTIES, WIDTHS)]
    return _Point(rate) if base.locked else _Point(rate, *picks)


def _near(rng: np.random.Generator, center: float, best: _Point | None) -> _Point:
    """Draw within a factor of about 3 of the best rate, and near the rest of it."""
    rate = float(10 ** (center + rng.uniform(-0.5, 0.5)))
    shake = rng.uniform(-0.1, 0.1), 10 ** rng.uniform(-0.5, 0.5)
    if best is None or best.dropout is None or best.l2 is None:
        return _Point(rate)
    near = round(min(max(best.dropout + shake[0], 0.0), 0.6), 3)
    return _Point(rate, near if best.dropout else 0.0, best.l2 * float(shake[1]), best.width)
