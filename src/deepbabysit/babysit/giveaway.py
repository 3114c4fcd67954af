"""Features that give the label away: what one of them knows alone, and what all the others know together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

BINS = 16  # so many at most, of 15 rows or more each
BESIDE = 2  # so many rows on either side, in the order of the feature, say what a row's label is
KNOWING = 0.95  # a feature that knows so much alone is looked at again without it
OWN = 0.98  # so is one whose variance the label explains
FILLED, FEWEST, SURE_FILLED = (0.3, 0.9), 40, 0.97  # a feature known for some rows only, and sure of those
NEAR = 5  # neighbours that the others are judged by
PROVEN, TRIED = 0.5, 8  # of features that know so much alone, so many are looked at for proofs
PAIRS, SAME, DIFFERENT = 60, 1e-4, 20  # lines through two rows; how close others are to it; so many targets on it
LEVEL, LEVELLED, PIECE = 5, 0.9, 0.03  # rows of a level; share of rows in such levels; share of rows in a piece
PURE, PURE_ROWS = 0.97, 20  # share and number of rows of one class with the same value
EXACT, SUMMED = 1e-9, 3  # variance that a sum of so many features at most may leave, to be the target itself
MULTIPLIED = 16  # of so many columns at most it is tried whether two multiply to the target
USEFUL = 0.15  # what all other features know where the task is no toy


@dataclass(frozen=True, slots=True)
class Proof:
    """How a feature was made of the label, as no honest feature comes about.

    Attributes:
        feature: which one, and its `score` alone.
        copied: share of the rows in which it is the target itself, but for one scale and shift (numbers).
        pieces: into so many pieces it cuts the range of the targets, without any overlap (numbers).
        pure: share of the rows in which it has the one value that only rows of their class have (classes).
    """

    feature: int
    score: float
    copied: float = 0.0
    pieces: int = 0
    pure: float = 0.0


@dataclass(frozen=True, slots=True)
class Giveaway:
    """What single features know of the label: 0 is chance, 1 perfect.

    Attributes:
        alone: score of the best feature, `second` of the second best, `feature` and `runner` which these are.
        grouped: share of the best feature's variance that the label explains.
        givers: features that know nearly everything alone, or are made of the label; empty where there are none, or too
            many for that.
        given, rest: what those know together, and what all others do, by neighbours and by a linear model.
        made: share of the variance of the givers that the label explains, of the one of which it explains least.
        proof: how one of them was made of the label, where that can be seen.
    """

    alone: float
    second: float
    feature: int
    grouped: float
    givers: tuple[int, ...] = ()
    given: float = 0.0
    rest: float = 0.0
    made: float = 0.0
    proof: Proof | None = None
    runner: int = 0


def giveaway(values: np.ndarray, tried: np.ndarray, goal: np.ndarray, numbers: bool) -> Giveaway | None:
    """Score features alone; None where one class is nearly everything.

    Arguments:
        values: all features, standardized (rows, features).
        tried: those to try.
        goal: standardized targets: a column for each class, or one of numbers.
        numbers: whether targets are numbers.
    """
    classes = goal.argmax(axis=1)
    base = 0.0 if numbers else float(np.bincount(classes).max()) / len(values)
    if base > 0.999:
        return None
    chosen = values[:, tried]
    scores = np.array([
        max(_binned_score(chosen[:, c], goal, numbers, base), _beside_score(chosen[:, c], goal, numbers, base))
        for c in range(len(tried))
    ])
    grouped = _grouped(chosen, goal, numbers)
    order = np.argsort(-scores, kind="stable")
    best = int(order[0])
    proofs = [
        _proof(int(tried[c]), float(scores[c]), chosen[:, c], goal, numbers)
        for c in order[:TRIED] if scores[c] >= PROVEN
    ]
    found = Giveaway(
        float(scores[best]), float(scores[order[1]]), int(tried[best]), float(grouped[best]),
        proof=max(proofs, key=lambda p: (p.copied + p.pure, p.pieces), default=None), runner=int(tried[order[1]]),
    )
    givers = np.flatnonzero((scores >= KNOWING) | (grouped >= OWN))
    others = np.setdiff1d(np.arange(values.shape[1]), tried[givers])
    summed = _summed(values, goal, found) if numbers else None
    if summed is not None:
        return summed
    if not len(others) or len(givers) > max(2, 0 if numbers else goal.shape[1]):
        return found
    if not len(givers):
        return _where_filled(values, tried, goal, numbers, found)
    told = [together(values[:, part], goal, numbers, base) for part in (tried[givers], others)]
    return replace(
        found, givers=tuple(int(g) for g in tried[givers]), given=max(told[0], float(scores[givers].max())),
        rest=told[1], made=float(grouped[givers].min()),
    )


def _summed(values: np.ndarray, goal: np.ndarray, found: Giveaway) -> Giveaway | None:
    """Return the few features of which the target is the sum, the product or the ratio; None where there are none."""
    if values.shape[1] <= SUMMED or len(values) < 2 * values.shape[1]:
        return None
    wanted = goal[:, 0] - goal[:, 0].mean()
    factors = np.linalg.lstsq(values, wanted, rcond=None)[0]
    if float((wanted - values @ factors).var()) <= EXACT * float(wanted.var()):
        parts = tuple(np.flatnonzero(np.abs(factors) > 1e-3 * np.abs(factors).max(initial=0.0)).tolist())
    else:
        parts = _exact_products(values, wanted)
    if not 1 < len(parts) <= SUMMED:
        return None
    rest = together(np.delete(values, parts, axis=1), goal, True, 0.0)
    # what two columns decide while all others know nothing is a made-up task: those are not made of the target
    return replace(found, givers=parts, given=1.0, rest=rest, made=1.0 if rest >= USEFUL else 0.0)


def _exact_products(values: np.ndarray, wanted: np.ndarray) -> tuple[int, ...]:
    """Return two columns of which the target is the product or the ratio, whatever was added to them by scaling.

    Of a ratio ``t = (a + p) / (b + q)`` the product ``t b`` is a sum of ``a``, ``t`` and a constant.
    """
    columns = values.shape[1]
    if columns > MULTIPLIED or len(values) < 6 * columns:
        return ()
    whole, some = np.ones((len(values), 1)), 6 * columns  # more than twice as many rows as factors
    for by in range(columns):
        beside = np.delete(np.arange(columns), by)
        times = values[:, by : by + 1]
        for terms in ((values, values[:, beside] * times, whole), (values, wanted[:, None] * times, whole)):
            table = np.concatenate(terms, axis=1)
            factors = np.linalg.lstsq(table[:some], wanted[:some], rcond=None)[0]
            if float((wanted - table @ factors).var()) > EXACT * float(wanted.var()):
                continue
            used = np.abs(factors) > 1e-3 * np.abs(factors).max(initial=0.0)
            others = set(np.flatnonzero(used[:columns]).tolist())
            if len(terms[1][0]) > 1:
                others |= set(beside[used[columns:-1]].tolist())
            parts = tuple(sorted(others | {by}))
            if len(parts) == 2:
                return parts
    return ()


def _where_filled(
    values: np.ndarray, tried: np.ndarray, goal: np.ndarray, numbers: bool, found: Giveaway
) -> Giveaway:
    """Return what a feature gives away in the rows where it has another value than its most common one."""
    for column in tried.tolist():
        levels, number, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        filled = number.reshape(-1) != counts.argmax()
        if not FILLED[0] <= filled.mean() <= FILLED[1] or filled.sum() < FEWEST or len(levels) == 2:
            continue
        part = goal[filled] - (goal[filled].mean(axis=0) if numbers else 0.0)
        base = 0.0 if numbers else float(np.bincount(part.argmax(axis=1)).max()) / len(part)
        if base > 0.9 or (numbers and not part.std()):
            continue
        alone = values[filled, column]
        score = max(_binned_score(alone, part, numbers, base), _beside_score(alone, part, numbers, base))
        if score >= SURE_FILLED:
            rest = together(np.delete(values[filled], column, axis=1), part, numbers, base)
            made = float(_grouped(alone[:, None], part, numbers)[0])
            return replace(found, givers=(column,), given=score, rest=rest, made=made)
    return found


def _proof(feature: int, score: float, column: np.ndarray, goal: np.ndarray, numbers: bool) -> Proof:
    if numbers:
        return Proof(feature, score, _copied(column, goal[:, 0]), _pieces(column, goal[:, 0]))
    return Proof(feature, score, pure=_pure(column, goal.argmax(axis=1)))


def _copied(column: np.ndarray, goal: np.ndarray) -> float:
    """Return the share of the rows that lie on one line of column and target, as a line through two rows finds it."""
    rng = np.random.Generator(np.random.Philox(23))
    a, b = rng.integers(0, len(goal), (2, PAIRS))
    apart = np.abs(column[a] - column[b]) > 0.1
    a, b = a[apart], b[apart]
    slope = (goal[a] - goal[b]) / (column[a] - column[b])
    off = np.abs(goal - goal[a][:, None] - slope[:, None] * (column - column[a][:, None]))
    near = (off < SAME) & (np.abs(slope) > 0.1)[:, None]
    if not len(a):
        return 0.0
    best = near[int(near.sum(axis=1).argmax())]
    return float(best.mean()) if len(np.unique(goal[best])) >= DIFFERENT else 0.0


def _pieces(column: np.ndarray, goal: np.ndarray) -> int:
    """Return into how many pieces of some rows the levels of a column cut the range of the targets."""
    levels, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    if counts[counts >= LEVEL].sum() < LEVELLED * len(goal) or len(levels) < 2:
        return 1
    least, most = np.full(len(levels), np.inf), np.full(len(levels), -np.inf)
    np.minimum.at(least, place, goal)
    np.maximum.at(most, place, goal)
    order = np.argsort(least + most, kind="stable")
    below = np.maximum.accumulate(most[order])[:-1]
    above = np.minimum.accumulate(least[order][::-1])[::-1][1:]
    cut = np.concatenate((below < above, [True]))
    rows = np.diff(np.concatenate(([0], np.cumsum(counts[order])[cut])))
    return int((rows >= PIECE * len(goal)).sum())


def _pure(column: np.ndarray, classes: np.ndarray) -> float:
    """Return the share of the rows whose value is the only one of its kind: rows of one class have it, and many."""
    levels, place = np.unique(column, return_inverse=True)
    table = np.zeros((len(levels), int(classes.max()) + 1))
    np.add.at(table, (place.reshape(-1), classes), 1.0)
    counts = table.sum(axis=1)
    pure = (table.max(axis=1) >= PURE * counts) & (counts >= PURE_ROWS)
    owners = table.argmax(axis=1)[pure]
    alone = len(owners) >= 2 and len(np.unique(owners)) == len(owners) and not pure.all()
    return float(counts[pure].sum() / len(classes)) if alone else 0.0


def _accuracy(said: np.ndarray, goal: np.ndarray, base: float) -> float:
    return (float((said == goal.argmax(axis=1)).mean()) - base) / (1.0 - base)


def carried_score(
    column: np.ndarray, goal: np.ndarray, theirs: np.ndarray, other: np.ndarray, numbers: bool
) -> float:
    """Return what the bins of a feature, filled with training rows, know of the targets of validation rows."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, max(3, min(BINS, len(column) // 15)) + 1)[1:-1]))
    place, their = (np.searchsorted(edges, values, "right") for values in (column, theirs))
    mine = goal if numbers else np.eye(goal.shape[1])[goal.argmax(axis=1)]
    table = np.zeros((len(edges) + 1, goal.shape[1]))
    np.add.at(table, place, mine)
    counts = np.maximum(np.bincount(place, minlength=len(table)), 1)[:, None]
    said = (table / counts)[their]
    if numbers:
        return 1.0 - float(((other - said) ** 2).mean()) / max(float(other.var()), 1e-300)
    base = float(np.bincount(other.argmax(axis=1)).max()) / len(other)
    return _accuracy(said.argmax(axis=1), other, min(base, 0.999))


def _binned_score(column: np.ndarray, goal: np.ndarray, numbers: bool, base: float) -> float:
    """Return what is known of the label where only the feature's bin is known."""
    rows = len(column)
    place = _binned(column, max(3, min(BINS, rows // 15)))
    if numbers:
        counts = np.maximum(np.bincount(place), 1)
        means = np.bincount(place, goal[:, 0]) / counts
        within = float(((goal[:, 0] - means[place]) ** 2).mean())
        lost = within * rows / max(rows - len(counts), 1)  # each bin's mean was fitted
        return 1.0 - lost / float((goal[:, 0] ** 2).mean())
    table = np.zeros((int(place.max()) + 1, goal.shape[1]))
    np.add.at(table, (place, goal.argmax(axis=1)), 1.0)
    return (float(table.max(axis=1).sum()) / rows - base) / (1.0 - base)


def _binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each value: one per value where there are few, else bins of equal counts."""
    levels, place = np.unique(values, return_inverse=True)
    if len(levels) <= bins:
        return place.reshape(-1)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, "right")


def _beside_score(column: np.ndarray, goal: np.ndarray, numbers: bool, base: float) -> float:
    """Return what the rows beside a row know of its label, where rows stand in the order of the feature."""
    ordered = goal[np.argsort(column, kind="stable")]
    padded = np.concatenate((ordered[BESIDE:0:-1], ordered, ordered[-2 : -BESIDE - 2 : -1]))
    around = sum(
        padded[BESIDE + step : BESIDE + step + len(ordered)] * (1.5 if abs(step) == 1 else 1.0)
        for step in range(-BESIDE, BESIDE + 1) if step
    )
    if not numbers:
        return _accuracy(np.asarray(around).argmax(axis=1), ordered, base)
    said = np.asarray(around)[:, 0] / 5.0
    # two and two neighbours with these weights add a quarter of their own noise
    return 1.0 - float(((ordered[:, 0] - said) ** 2).mean()) / 1.26 / float((ordered[:, 0] ** 2).mean())


def _grouped(values: np.ndarray, goal: np.ndarray, numbers: bool) -> np.ndarray:
    """Return the share of each feature's variance that the label explains."""
    spread = np.maximum(values.var(axis=0), 1e-300)
    if numbers:
        along = ((values - values.mean(axis=0)) * goal[:, :1]).mean(axis=0)
        found: np.ndarray = along**2 / (spread * float((goal[:, 0] ** 2).mean()))
        return found
    classes = goal.argmax(axis=1)
    within = np.zeros(values.shape[1])
    for label in range(goal.shape[1]):
        mine = values[classes == label]
        if len(mine):
            within += ((mine - mine.mean(axis=0)) ** 2).sum(axis=0)
    return 1.0 - within / len(values) / spread


def together(values: np.ndarray, goal: np.ndarray, numbers: bool, base: float) -> float:
    """Return what features know together: the better of neighbours and a linear model, each row left out of its own."""
    gram = values @ values.T
    squares = np.diagonal(gram)
    distances = squares[:, None] + squares - 2.0 * gram
    np.fill_diagonal(distances, np.inf)
    near = np.argpartition(distances, NEAR - 1, axis=1)[:, :NEAR]
    gram.flat[:: len(gram) + 1] += 1.0 + 0.02 * len(gram)
    inverse = np.linalg.inv(gram)
    # of ridge regression each row without itself: y - (K^-1 y) / diag(K^-1), in kernel form
    line = goal - (inverse @ goal) / np.diagonal(inverse)[:, None]
    scores = []
    for said in (goal[near].mean(axis=1), line):
        if numbers:
            scores.append(1.0 - float(((said - goal) ** 2).mean()) / float((goal**2).mean()))
        else:
            scores.append(_accuracy(said.argmax(axis=1), goal, base))
    return max(scores)
