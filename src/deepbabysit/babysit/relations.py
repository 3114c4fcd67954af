"""How rows relate to each other and to their labels: copies, overlap, drift, and whether inputs tell the labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deepbabysit.babysit.columns import Arrays, reader
from deepbabysit.babysit.giveaway import Giveaway, Proof, carried_score, giveaway, together

if TYPE_CHECKING:
    from deepbabysit.babysit.facts import LabelFacts

KEY_COLUMNS = 16  # so many features are compared first; the whole row only where they agree
KEYED = 2_000_000  # so many rows are keyed
VERIFIED = 50_000  # so many rows are compared in full
CONFLICT = 0.5  # numbers of equal rows that are closer, in their standard deviations, were only measured twice
NEIGHBOURS = 5
VOTERS = 10  # neighbours that vote on a row's class; from `MAJORITY` of them on they are taken to know it
MAJORITY = 0.7
TWINS = 24  # shuffled twins that a probe is compared with
LINEAR_FEATURES = 200  # the linear probe takes so many features, those that vary most
FEATURES_ALONE = 64  # so many features are tried alone, those that correlate best with a column of the labels
EXAMPLES = 5
ENOUGH = 4.0  # rows for each direction of the inputs, so that silence of the probes says something
PASSED, KNOWN = 3.0, 0.4  # where validation labels are known by so many deviations, so much of that is expected
LABELS_BY_CHANCE = 1e-5  # so seldom labels of two random parts are so far apart
UNSEEN = 4  # rows of a class that training rows do not have, from which on it counts
TREMBLE = 0.05  # so much of its spread a feature may move
TOLD = 400  # rows of each part that are told apart
LOSING, MOVED = 60, 0.25  # validation rows to see what a feature loses there; how far its values may move
PAIRS = 30  # of equal rows, from which on it is told whether their labels agree


@dataclass(frozen=True, slots=True)
class Copies:
    """Rows equal to an earlier one: in x (`copies`), in x and y (`same`), in x with another label (`conflicts`).

    `agreement`: by how many standard errors the labels of equal rows agree more than those of any two rows; None where
    there are too few pairs. `once`: rows of each class without those that are the same again (classes only).
    """

    copies: int
    same: int
    conflicts: int
    examples: tuple[tuple[int, int], ...]
    agreement: float | None = None
    once: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """Validation rows that stand in the training part, too; `examples` are (validation row, training row)."""

    rows: int
    of: int
    examples: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How the two parts differ.

    Attributes:
        distance: largest Kolmogorov-Smirnov distance of a feature; `feature` which, `chance` what chance gives.
        drifted: how many features are beyond chance.
        labels: total variation distance of the class shares (KS for numbers); `labels_chance` what chance gives.
        rows: rows of training and validation compared.
        unseen: share of the validation rows whose class no training row has.
        uneven: how many times as many validation rows the largest class has as the smallest.
        told: how well neighbours or a linear model tell of which part a row is, from 0 (chance) to 1, each row left out
            of its own answer; `told_error` the standard error of it.
        widened: how far spreads of a feature differ, in standard errors (of their logarithm), beyond what the largest
            of so many features does by chance.
    """

    distance: float
    feature: int
    chance: float
    drifted: int
    labels: float | None
    labels_chance: float | None
    rows: tuple[int, int]
    unseen: float = 0.0
    uneven: float = 1.0
    told: float = 0.0
    told_error: float = 1.0
    widened: float = 0.0


@dataclass(frozen=True, slots=True)
class Association:
    """How well cheap probes see the labels in the inputs.

    Attributes:
        rows: how many were used.
        neighbours, linear: score of the probe on the true pairing, from 0 (chance) to 1; cross-validated.
        neighbours_sigma, linear_sigma: how many standard deviations that is above shuffled twins.
        shifted: the largest sigma of pairing each input with its neighbour's label, and `shift` which (-1, 1).
        alone: score of the best single feature (0 chance, 1 perfect), `second` of the second best, `feature` which;
            None where features were not tried alone.
        grouped: share of the best feature's variance that the label explains.
        givers, given, rest: features that may be made of the label, what they know together, and what others know;
            `made` the share of their variance that the label explains, of the one of which it explains least.
        proof: how a feature was made of the label, where that can be seen.
        lost: how much of what the best feature knows of training labels it does not know of those of the validation
            part, beyond what the second best loses; 0 where its values are distributed otherwise there.
        contradicted: of the rows whose neighbours agree on a class, the share that has another one; None for numbers.
        carried_sigma: how far the training neighbours of validation rows, or a linear model, know their labels, in
            standard deviations above shuffled ones; None where nothing was compared. `carried_rows` how many rows that
            were.
        rare: share of the neighbours of the rarest class that are of that class, too; None for numbers.
        spanned: how many directions the inputs vary in (participation ratio of their variances): so many columns that
            know nothing of each other would.
    """

    rows: int
    neighbours: float
    neighbours_sigma: float
    linear: float
    linear_sigma: float
    shifted: float = 0.0
    shift: int = 0
    alone: float | None = None
    second: float | None = None
    feature: int | None = None
    grouped: float | None = None
    rare: float | None = None
    contradicted: float | None = None
    carried_sigma: float | None = None
    carried_rows: int = 0
    spanned: float = 1.0
    givers: tuple[int, ...] = ()
    given: float = 0.0
    rest: float = 0.0
    made: float = 0.0
    proof: Proof | None = None
    lost: float = 0.0

    @property
    def telling(self) -> bool:
        """Whether it would show if the inputs told the labels.

        Noise columns hide what there is where few rows stand for each direction that the inputs vary in. Where the
        labels of validation rows are known, those of training rows must be known far less than their number explains.
        """
        if self.rows < ENOUGH * self.spanned:
            return False
        if self.carried_sigma is None or self.carried_sigma < PASSED or not self.carried_rows:
            return True
        expected = self.carried_sigma * (self.rows / self.carried_rows) ** 0.5
        return max(self.neighbours_sigma, self.linear_sigma) < KNOWN * expected


# -- equal rows --------------------------------------------------------------------------------------------------------


def telling_columns(x: Arrays, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return (input, columns) whose values tell rows apart best."""
    part = rows[:512]
    scored: list[tuple[int, int, int]] = []
    for number, array in enumerate(x):
        values = np.sort(array[part].reshape(len(part), -1), axis=0)
        different = (values[1:] != values[:-1]).sum(axis=0)
        best = np.argsort(-different, kind="stable")[:KEY_COLUMNS]
        scored += [(int(different[c]), number, int(c)) for c in best]
    scored.sort(key=lambda entry: -entry[0])
    chosen = scored[:KEY_COLUMNS]
    return [
        (number, np.array(sorted(c for _, n, c in chosen if n == number)))
        for number in range(len(x)) if any(n == number for _, n, _ in chosen)
    ]


def _mix(words: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words (the finalizer of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def hashed(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return one 64-bit word per row of arrays; equal rows get equal words."""
    found = np.full(len(parts[0]), 0x9E3779B97F4A7C15, np.uint64)
    for part in parts:
        values = np.ascontiguousarray(part.reshape(len(part), -1), dtype=np.float64) + 0.0  # -0 becomes 0
        words = _mix(values.view(np.uint64))
        salts = _mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        found = _mix(found + _mix(words ^ salts).sum(axis=1, dtype=np.uint64))
    return found


def _keys(x: Arrays, rows: np.ndarray, columns: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    everything = len(rows) == len(x[0])
    parts = [x[number].reshape(len(x[number]), -1)[:, chosen] for number, chosen in columns]
    return hashed(parts if everything else [part[rows] for part in parts])


def copies(
    x: Arrays, y: np.ndarray | None, rows: np.ndarray, columns: Sequence[tuple[int, np.ndarray]],
    facts: LabelFacts | None = None,
) -> Copies:
    """Count rows that equal an earlier one; with facts about the labels, also see whether labels of copies agree."""
    rows = rows[:KEYED]
    keys = _keys(x, rows, columns)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    suspects = rows[counts[inverse] > 1][:VERIFIED]
    if not len(suspects):
        return Copies(0, 0, 0, ())
    full = hashed([a[suspects] for a in x])
    labels = np.zeros(len(suspects), np.uint64) if y is None else hashed([y[suspects]])
    measured, apart = None, 0.0
    if y is not None and y.dtype.kind == "f":
        measured = np.asarray(y[suspects], np.float64).reshape(len(suspects), -1)
        apart = CONFLICT * float(np.asarray(y[rows], np.float64).std())
    order = np.lexsort((suspects, full))
    first: dict[int, int] = {}
    began: dict[int, int] = {}
    seen: dict[int, set[int]] = {}
    equal = same = conflicts = 0
    again: list[int] = []
    examples: list[tuple[int, int]] = []
    for place in order.tolist():
        key, label, row = int(full[place]), int(labels[place]), int(suspects[place])
        if key not in first:
            first[key], began[key], seen[key] = row, place, {label}
            continue
        equal += 1
        if label in seen[key]:
            same += 1
            again.append(row)
        elif measured is None or float(np.abs(measured[place] - measured[began[key]]).max()) > apart:
            conflicts += 1
            seen[key].add(label)
            examples.append((first[key], row))
    found = Copies(equal, same, conflicts, tuple(sorted(examples)[:EXAMPLES]))
    if y is None or facts is None or facts.kind == "multilabel":
        return found
    pairs = np.flatnonzero(full[order][1:] == full[order][:-1])
    first_of, second_of = suspects[order[:-1][pairs]], suspects[order[1:][pairs]]
    agreement = _agreeing(y, rows, first_of, second_of, facts) if len(pairs) >= PAIRS else None
    return replace(found, agreement=agreement, once=_once(y, rows, again, facts))


def _agreeing(y: np.ndarray, rows: np.ndarray, a: np.ndarray, b: np.ndarray, facts: LabelFacts) -> float | None:
    """Return by how many standard errors the labels of pairs of rows agree more than those of any two rows."""
    if facts.kind == "numbers":
        values = np.asarray(y[rows], np.float64).reshape(len(rows), -1)
        if values.shape[1] > 1 or values.std() == 0.0:
            return None
        first, second = (np.asarray(y[part], np.float64).reshape(-1) - values.mean() for part in (a, b))
        return float((first * second).mean() / values.var() * np.sqrt(len(a)))
    classes = _classes(y)
    shares = np.unique(classes[rows], return_counts=True)[1] / len(rows)
    chance = float((shares**2).sum())
    error = float(np.sqrt(chance * (1.0 - chance) / len(a)))
    return float((classes[a] == classes[b]).mean() - chance) / error if error else None


def _once(y: np.ndarray, rows: np.ndarray, again: Sequence[int], facts: LabelFacts) -> tuple[int, ...]:
    """Return how many rows each class has without those that stand there again."""
    if facts.kind not in ("classes", "one_hot"):
        return ()
    classes = _classes(y)
    kept = np.setdiff1d(rows, np.array(again, dtype=rows.dtype))
    levels = np.unique(classes[rows])
    return tuple(int((classes[kept] == level).sum()) for level in levels)


def _classes(y: np.ndarray) -> np.ndarray:
    flat = y.reshape(len(y), -1)
    found: np.ndarray = flat.argmax(axis=1) if flat.shape[1] > 1 else flat[:, 0]
    return found


def overlap(
    x: Arrays, theirs: Arrays, rows: np.ndarray, held: np.ndarray, columns: Sequence[tuple[int, np.ndarray]]
) -> Overlap:
    """Count validation rows that stand in the training part."""
    rows, held = rows[:KEYED], held[:VERIFIED]
    mine, other = _keys(x, rows, columns), _keys(theirs, held, columns)
    suspects = held[np.isin(other, mine)]
    if not len(suspects):
        return Overlap(0, len(held), ())
    candidates = rows[np.isin(mine, other)][:VERIFIED]
    known: dict[int, int] = {}
    for key, row in zip(hashed([a[candidates] for a in x]).tolist(), candidates.tolist(), strict=True):
        known.setdefault(key, row)
    found = [
        (int(row), known[key])
        for key, row in zip(hashed([a[suspects] for a in theirs]).tolist(), suspects.tolist(), strict=True)
        if key in known
    ]
    return Overlap(len(found), len(held), tuple(found[:EXAMPLES]))


# -- train against validation ------------------------------------------------------------------------------------------


def _distance(a: np.ndarray, b: np.ndarray, moved: float = 0.0) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples; values may have `moved` by so much (Levy's distance)."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate((a, b))
    here = [np.searchsorted(part, both, "right") / len(part) for part in (a, b)]
    below = [np.searchsorted(part, both - moved, "right") / len(part) for part in (a, b)] if moved else here
    return float(max((below[0] - here[1]).max(), (below[1] - here[0]).max(), 0.0))


def drift(
    x: Arrays,
    theirs: Arrays,
    rows: np.ndarray,
    held: np.ndarray,
    targets: tuple[np.ndarray, np.ndarray] | None,
    labels: LabelFacts | None,
    ids: Sequence[bool] = (),
) -> Drift:
    """Compare the distributions of features (of ids: how often each occurs, and where) and labels."""
    read = reader(x, rows, ids)
    a, b = read(x, rows), read(theirs, held)
    columns = np.arange(a.shape[1])
    if len(columns) > 256:
        columns = np.sort(np.argsort(-a.var(axis=0), kind="stable")[:256])
    n, m = len(a), len(b)
    effective = n * m / (n + m)
    # one in a thousand by chance over all features together: 2 exp(-2 d^2 n) = 0.001 / features
    limit = float(np.sqrt(np.log(2 * len(columns) / 0.001) / (2 * effective)))
    # each part may have been scaled by itself: that moves a feature of few values as a whole, and does no harm
    slack = TREMBLE * a.std(axis=0)
    distances = np.array([_distance(a[:, c], b[:, c], slack[c]) for c in columns]) if len(columns) else np.zeros(1)
    found = share = None
    unseen, uneven = 0.0, 1.0
    if targets is not None and labels is not None:
        mine, other = (t[r].reshape(len(r), -1) for t, r in zip(targets, (rows, held), strict=True))
        if mine.shape[1] != other.shape[1]:
            pass
        elif labels.kind in ("classes", "one_hot"):
            first, second = _classes(mine), _classes(other)
            levels = np.unique(np.concatenate((first, second)))
            shares = [np.array([(part == level).mean() for level in levels]) for part in (first, second)]
            found = float(np.abs(shares[0] - shares[1]).sum() / 2)
            missed = shares[1][shares[0] == 0]
            unseen = float(missed.sum()) if (missed * m >= UNSEEN).any() else 0.0
            uneven = float(shares[1].max() / max(float(shares[1].min()), 0.5 / m))
            whole = (shares[0] * n + shares[1] * m) / (n + m)
            # three times what is expected by chance: sum over classes of sqrt(2 p (1 - p) / (pi n)) / 2
            share = float(3.0 * np.sqrt(2 * whole * (1 - whole) / (np.pi * effective)).sum() / 2)
        elif mine.shape[1] == 1:
            found = _distance(mine[:, 0], other[:, 0])
            share = float(np.sqrt(np.log(2 / LABELS_BY_CHANCE) / (2 * effective)))
    best = int(distances.argmax())
    return Drift(
        float(distances[best]), int(columns[best]) if len(columns) else 0, limit, int((distances > limit).sum()),
        found, share, (n, m), unseen, uneven, *_told(a, b), _widened(a[:, columns], b[:, columns]),
    )


def _widened(a: np.ndarray, b: np.ndarray) -> float:
    """Return by how many standard errors spreads of a feature differ most, less what that is by chance."""
    first, second = a.std(axis=0), b.std(axis=0)
    used = (first > 0) & (second > 0)
    if not used.any():
        return 0.0
    parts = [part[:, used] - part[:, used].mean(axis=0) for part in (a, b)]
    scaled = np.concatenate([part / part.std(axis=0) for part in parts])
    tails = (scaled**4).mean(axis=0) - 1.0  # 2 of a normal distribution; more where few rows decide
    error = np.sqrt(np.maximum(tails, 0.5) / 4.0 * (1.0 / len(a) + 1.0 / len(b)))
    away = np.abs(np.log(second[used] / first[used])) / error
    return float(away.max() - np.sqrt(2.0 * np.log(used.sum())))


def _told(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return how well the parts are told apart, and its standard error."""
    count = min(len(a), len(b), TOLD)
    rng = np.random.Generator(np.random.Philox(19))
    both = np.concatenate([part[np.sort(rng.permutation(len(part))[:count])] for part in (a, b)])
    spread = both.std(axis=0)
    if count < TOLD // 16 or not (spread > 0).any():
        return 0.0, 1.0
    both = np.clip((both[:, spread > 0] - both[:, spread > 0].mean(axis=0)) / spread[spread > 0], -5.0, 5.0)
    part = np.repeat([[1.0, -1.0], [-1.0, 1.0]], count, axis=0)
    return together(both, part, False, 0.5), 1.0 / float(np.sqrt(2 * count))


# -- inputs against labels ---------------------------------------------------------------------------------------------


def associate(
    x: Arrays,
    y: np.ndarray,
    rows: np.ndarray,
    labels: LabelFacts,
    deadline: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    held: tuple[Arrays, np.ndarray, np.ndarray] | None = None,
    ids: Sequence[bool] = (),
) -> Association | None:
    """Ask cheap probes whether the inputs tell the labels; None where there is too little to ask.

    Arguments:
        x, y: training data; rows: those to use.
        labels: facts about y.
        deadline: time of `clock` after which features are not tried alone any more.
        held: inputs, targets and rows of the validation part.
        ids: for each input whether it holds ids.
    """
    if len(rows) < 40 or labels.std == 0.0 or (labels.kind == "numbers" and len(labels.shape) > 1):
        return None
    read = reader(x, rows, ids)
    values = read(x, rows)
    spread = values.std(axis=0)
    values = values[:, spread > 0]
    if not values.shape[1]:
        return None
    places = np.flatnonzero(spread > 0)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    goal = _goal(y[rows], labels)
    near = _nearest(scaled)
    hat = _hat(scaled)
    rng = np.random.Generator(np.random.Philox(7))
    orders = np.stack([np.arange(len(rows)), *(rng.permutation(len(rows)) for _ in range(TWINS))], axis=1)
    twins = goal[orders]  # (rows, twins, columns); the first is the true pairing
    close, line = _agreement(twins, near), _linear(twins, hat)
    close_sigma, line_sigma = _sigma(close), _sigma(line)
    shifted, shift = 0.0, 0
    if max(close_sigma, line_sigma) < 4.0:
        for step in (-1, 1):
            twins = _goal(y[(rows + step) % len(y)], labels)[orders]
            sigma = max(_sigma(_agreement(twins, near)), _sigma(_linear(twins, hat)))
            if sigma > shifted:
                shifted, shift = sigma, step
    found = Association(
        len(rows), float(close[0]), close_sigma, float(line[0]), line_sigma, shifted, shift,
        rare=_rare(scaled, goal, labels), contradicted=_contradicted(scaled, goal, labels),
        spanned=_spanned(scaled),
    )
    theirs, other = None, None
    if held is not None and len(held[2]) >= 20:
        theirs = (read(held[0], held[2])[:, places] - values.mean(axis=0)) / values.std(axis=0)
        other = _goal_of_others(held[1][held[2]], y[rows], labels)
        carried = None if other is None else _carried(scaled, goal, theirs, other)
        found = replace(found, carried_sigma=carried, carried_rows=len(held[2]))
    single = len(labels.shape) == 0 or labels.kind == "one_hot" or labels.shape == (1,)
    if values.shape[1] < 2 or not single or (deadline is not None and clock() > deadline):
        return found
    tried = np.arange(values.shape[1])
    if len(tried) > FEATURES_ALONE:
        tried = np.sort(np.argsort(-np.abs(scaled.T @ goal).max(axis=1), kind="stable")[:FEATURES_ALONE])
    known = giveaway(scaled, tried, goal, labels.kind == "numbers")
    if known is not None and theirs is not None and other is not None and len(other) >= LOSING:
        found = replace(found, lost=_lost(scaled, goal, theirs, other, known, labels))
    return found if known is None else replace(
        found, alone=known.alone, second=known.second, feature=int(places[known.feature]), grouped=known.grouped,
        givers=tuple(int(places[g]) for g in known.givers), given=known.given, rest=known.rest, made=known.made,
        proof=None if known.proof is None else replace(known.proof, feature=int(places[known.proof.feature])),
    )


def _spanned(values: np.ndarray) -> float:
    gram = values.T @ values if values.shape[1] < len(values) else values @ values.T
    return float(np.trace(gram) ** 2 / (gram**2).sum())


def _goal(y: np.ndarray, labels: LabelFacts) -> np.ndarray:
    """Return the labels as columns: one per class, each scaled so that every class counts the same; or numbers."""
    values = np.asarray(y.reshape(len(y), -1), np.float64)
    if labels.kind == "classes":
        values = (values == np.array(sorted(labels.counts), np.float64)).astype(np.float64)
    spread = values.std(axis=0)
    used = spread > 0
    return (values[:, used] - values[:, used].mean(axis=0)) / spread[used]


def _nearest(values: np.ndarray, most: int = NEIGHBOURS) -> np.ndarray:
    squares = (values * values).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (values @ values.T)
    np.fill_diagonal(distances, np.inf)
    count = min(most, len(values) - 1)
    return np.argpartition(distances, count - 1, axis=1)[:, :count]


def _agreement(goals: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return for each twin the correlation of labels with the mean label of the neighbours (own row left out)."""
    guess = goals[near[:, 0]]
    for place in range(1, near.shape[1]):
        guess = guess + goals[near[:, place]]
    result: np.ndarray = (goals * guess).mean(axis=(0, 2)) / near.shape[1]
    return result


def _hat(values: np.ndarray) -> np.ndarray:
    """Return the matrix that maps labels to the predictions of ridge regression."""
    if values.shape[1] > LINEAR_FEATURES:
        rng = np.random.Generator(np.random.Philox(11))
        mixed = rng.standard_normal((values.shape[1], LINEAR_FEATURES)) / np.sqrt(values.shape[1])
        values = values @ mixed
    strength = 1.0 + 0.02 * len(values)
    gram = values.T @ values
    gram.flat[:: len(gram) + 1] += strength
    result: np.ndarray = values @ np.linalg.solve(gram, values.T)
    return result


def _linear(goals: np.ndarray, hat: np.ndarray) -> np.ndarray:
    """Return for each twin R2 of ridge regression, each row predicted without itself; at least -1."""
    lever = np.minimum(np.diagonal(hat), 0.99)[:, None]
    flat = goals.reshape(len(goals), -1)
    residual = ((flat - hat @ flat) / (1.0 - lever)).reshape(goals.shape)
    return np.maximum(1.0 - (residual**2).mean(axis=(0, 2)) / (goals**2).mean(axis=(0, 2)), -1.0)


def _sigma(scores: np.ndarray) -> float:
    """Return by how many standard deviations the first score beats the others, those of the shuffled twins."""
    twins = scores[1:]
    return float((scores[0] - twins.mean()) / max(float(twins.std(ddof=1)), 1e-6))


def _rare(values: np.ndarray, goal: np.ndarray, labels: LabelFacts) -> float | None:
    """Return which share of the nearest neighbours of the rarest class are of that class, too."""
    if labels.kind not in ("classes", "one_hot") or goal.shape[1] < 2:
        return None
    classes = goal.argmax(axis=1)
    counts = np.bincount(classes, minlength=goal.shape[1])
    rarest = int(np.where(counts > 0, counts, len(goal) + 1).argmin())
    mine = np.flatnonzero(classes == rarest)
    if len(mine) < 3:
        return None
    count = min(NEIGHBOURS, len(mine) - 1)
    distances = ((values[mine] ** 2).sum(axis=1)[:, None] + (values**2).sum(axis=1)) - 2.0 * values[mine] @ values.T
    distances[np.arange(len(mine)), mine] = np.inf
    near = np.argpartition(distances, count - 1, axis=1)[:, :count]
    return float((classes[near] == rarest).mean())


def _contradicted(values: np.ndarray, goal: np.ndarray, labels: LabelFacts) -> float | None:
    """Return how often a row has another class than the one its neighbours agree on."""
    if labels.kind not in ("classes", "one_hot") or goal.shape[1] < 2 or len(values) < 10 * VOTERS:
        return None
    classes = goal.argmax(axis=1)
    votes = np.zeros((len(values), goal.shape[1]))
    near = _nearest(values, VOTERS)
    for place in range(near.shape[1]):
        votes[np.arange(len(values)), classes[near[:, place]]] += 1.0 / near.shape[1]
    sure = votes.max(axis=1) >= MAJORITY
    return float((votes.argmax(axis=1) != classes)[sure].mean()) if sure.sum() >= 20 else None


def _goal_of_others(y: np.ndarray, known: np.ndarray, labels: LabelFacts) -> np.ndarray | None:
    """Return labels of the validation part as columns, those that training rows have; None where they differ."""
    mine = np.asarray(known.reshape(len(known), -1), np.float64)
    other = np.asarray(y.reshape(len(y), -1), np.float64)
    if mine.shape[1] != other.shape[1]:
        return None
    if labels.kind == "classes":
        levels = np.array(sorted(labels.counts), np.float64)
        return (other == levels).astype(np.float64)[:, (mine == levels).any(axis=0) & ~(mine == levels).all(axis=0)]
    mean, spread = mine.mean(axis=0), mine.std(axis=0)
    other = other[:, spread > 0]
    return (other - mean[spread > 0]) / spread[spread > 0] if labels.kind == "numbers" else other


def _lost(
    values: np.ndarray, goal: np.ndarray, theirs: np.ndarray, other: np.ndarray, known: Giveaway, labels: LabelFacts
) -> float:
    """Return how much more of what it knows the best feature loses in the validation part than the second best."""
    best, second = known.feature, known.runner
    if _distance(values[:, best], theirs[:, best]) > MOVED:
        return 0.0
    numbers = labels.kind == "numbers"
    held = [carried_score(values[:, c], goal, theirs[:, c], other, numbers) for c in (best, second)]
    return known.alone - held[0] - max(known.second - held[1], 0.0)


def _carried(values: np.ndarray, goal: np.ndarray, theirs: np.ndarray, other: np.ndarray) -> float | None:
    """Return how far neighbours in the training part know the labels of validation rows, against shuffled ones."""
    if other.shape[1] != goal.shape[1]:
        return None
    spread = other.std(axis=0)
    other = (other - other.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    distances = (values**2).sum(axis=1) - 2.0 * theirs @ values.T
    near = np.argpartition(distances, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    kernel = values @ values.T
    kernel.flat[:: len(kernel) + 1] += 0.02 * len(values) * values.shape[1] ** 0.5
    line = theirs @ (values.T @ np.linalg.solve(kernel, goal))
    rng = np.random.Generator(np.random.Philox(13))
    orders = [np.arange(len(other)), *(rng.permutation(len(other)) for _ in range(TWINS))]
    return max(
        _sigma(np.array([float((other[order] * guess).mean()) for order in orders]))
        for guess in (goal[near].mean(axis=1), line)
    )
