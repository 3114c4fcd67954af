"""A yardstick: what cheap models reach on the same rows, so that a run can be judged by what its data allow.

A linear model and a kernel model (ridge regression on radial basis functions around some training rows) are fitted in
closed form to standardized inputs; classes are fitted as columns of 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepbabysit.babysit.columns import Arrays, Reader, reader
from deepbabysit.babysit.facts import LabelFacts
from deepbabysit.babysit.relations import hashed

ROWS, HELD = 2000, 1000  # so many training and validation rows are used
NUMBERS = 2_000_000  # so many numbers of the training inputs
LEAST, LEAST_HELD, WELL = 40, 20, 100  # rows that are needed; validation rows of which one wrong one is little
MIXED = 200  # features of the linear model
CENTERS = 200  # training rows that functions stand around
WIDTHS = (0.5, 1.5)  # widths of the functions, in typical distances of two rows
STRENGTHS = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])  # of ridge regression, per row; the best by leave-one-out is taken
WIDE = 100  # so many numbers of a row are too many to be known well by distances
KNOWS, LEARNED = 0.85, 0.1  # unless the score is so good; and above guessing there must be so much
FAR = 5.0  # standardized inputs are cut there: a feature that hardly varies must not decide everything
SHARPNESS = (2.0, 4.0, 8.0, 16.0, 32.0)  # scores are multiplied by one of these before their softmax
SCALES = tuple(np.geomspace(0.03, 3.0, 24).tolist())  # errors of guessing times these are priced by the run's own loss
SUREST = 0.2  # share of the rows of which a model is surest
LABELLED, SIDE, CLIFF = 20, 0.5, 1.15  # rows that a class needs; share of them that lies well inside; and beyond all


@dataclass(frozen=True, slots=True)
class Split:
    """A class whose rows a model finds, although most or many of them have the name of another class.

    Attributes:
        label, other: places of both classes among all that occur.
        inside, whole: share of rows that have the class's name, of those it is surest of and of as many as have it.
        found: share of the rows of that name that stand where they should if `inside` holds for the whole class.
        mixed: share of the rows there with other names that have that of `other`.
        clear: share of the right name among the surest rows of `other`.
        base: share of the class among all rows.
    """

    label: int
    other: int
    inside: float
    whole: float
    found: float
    mixed: float
    clear: float
    base: float


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What cheap models reach; scores are accuracies of classes, or shares of the variance that are explained.

    Attributes:
        kind: ``classes`` or ``numbers``.
        rows, held_rows: how many training and validation rows were used.
        guess: score of always saying the most frequent class of the training rows (0 for numbers), on validation rows.
        linear, curved: of the linear and of the kernel model on validation rows.
        own_linear, own_curved: the same on training rows, each left out of its own fit.
        doubted: of the training rows of which the better model (that row left out) is surest, the share with another
            label; `held_doubted` the same of validation rows. None for numbers.
        loss: cross-entropy of the better model on validation rows, its scores made sharper as training rows left out
            say (classes only).
        spread: variance of the validation targets (numbers only).
        of: how many training rows there are.
        own_guess: `guess` on training rows.
        moved: of the class whose share differs most between the parts, how far the mean score of a model that was
            fitted to one of them differs as well; `expected` how far it would as the model knows the class,
            `moved_error` its standard error.
        course: where a loss is no square: what it is for the errors of guessing times each of `SCALES` (numbers only);
            `reached` what it is for those of the better model.
        fresh: `best` where no row is used twice: neither a training row that equals another, nor a row of both parts;
            None where there are no such rows, or too few others.
        split: the class whose surest rows hold another class in the same share wherever one looks (`Split`), or None.
        wide: whether the inputs are images, sequences or very many numbers, which such models do not know well.
    """

    kind: str
    rows: int
    held_rows: int
    guess: float
    linear: float
    curved: float
    own_linear: float
    own_curved: float
    doubted: float | None = None
    held_doubted: float | None = None
    loss: float | None = None
    spread: float | None = None
    of: int = 0
    own_guess: float = 0.0
    moved: float = 0.0
    expected: float = 0.0
    moved_error: float = 1.0
    wide: bool = False
    fresh: float | None = None
    split: Split | None = None
    course: tuple[float, ...] = ()
    reached: float | None = None

    def left(self, loss: float) -> float:
        """Return the share of the variance that is left with such a loss, by `course`: that of shrunken guesses."""
        scale = float(np.interp(loss, self.course, SCALES))
        if loss > self.course[-1]:  # beyond, most losses grow with the error itself
            scale = SCALES[-1] * loss / self.course[-1]
        return scale * scale

    @property
    def best(self) -> float:
        """The better score on validation rows."""
        return max(self.linear, self.curved, self.guess)

    @property
    def allowed(self) -> float:
        """The better score, as it would be with all training rows: errors fall with the root of how many there are."""
        return 1.0 - (1.0 - self.best) * min(self.rows / max(self.of, 1), 1.0) ** 0.5

    @property
    def telling(self) -> bool:
        """Whether it says what the data allow: it learned something, and knows inputs of this kind."""
        return self.own - self.own_guess >= LEARNED and (not self.wide or self.best >= KNOWS)

    @property
    def doubt(self) -> tuple[float, float]:
        """Share of wrong labels among the surest answers of both parts, and among all answers (classes only)."""
        count = self.rows + self.held_rows
        sure = (self.rows * (self.doubted or 0.0) + self.held_rows * (self.held_doubted or 0.0)) / count
        return sure, 1.0 - (self.rows * self.own + self.held_rows * self.best) / count

    @property
    def missed(self) -> tuple[float, float]:
        """How much less is known of validation rows than of training rows left out, and that in standard errors."""
        gap = self.own - self.best
        if self.kind == "numbers":
            spread = 2.0 * (1.0 / self.rows + 1.0 / self.held_rows)
            return gap, math.log(max(1.0 - self.best, 1e-3) / max(1.0 - self.own, 1e-3)) / math.sqrt(spread)
        spread = self.own * (1.0 - self.own) / self.rows + (self.best * (1.0 - self.best) + 0.01) / self.held_rows
        return gap, gap / math.sqrt(spread)

    @property
    def own(self) -> float:
        """The better score on training rows."""
        return max(self.own_linear, self.own_curved)


def seconds(rows: int, width: int) -> float:
    """Return the seconds that it roughly takes, on a slow machine."""
    used = min(rows, ROWS, max(NUMBERS // max(width, 1), LEAST))
    return 0.02 + 1e-9 * used * CENTERS * (width + 2 * CENTERS)


def measure(
    x: Arrays, y: np.ndarray, held_x: Arrays, held_y: np.ndarray, labels: LabelFacts, ids: Sequence[bool] = (),
    price: Callable[[np.ndarray], float] | None = None, again: bool = False,
) -> Yardstick | None:
    """Return what cheap models reach; None where there is too little to fit, or several targets for a row.

    Arguments:
        x, y: training rows; held_x, held_y: validation rows. Rows that are not finite are left out.
        labels: facts about y.
        ids: for each input whether it holds ids: they are written out, and known as little as images are.
        price: the loss of errors (N,), where it is not their square.
        again: whether rows are known to occur twice: then it is also measured without any.
    """
    fresh = _fresh(x, y, held_x, held_y, labels, ids) if again else None
    width = sum(max(1, int(np.prod(a.shape[1:]))) for a in x)
    of, wide = len(y), width > WIDE or any(a.ndim > 2 for a in x) or any(ids)
    x, y = _chosen(x, y, min(ROWS, max(NUMBERS // width, LEAST)))
    held_x, held_y = _chosen(held_x, held_y, HELD)
    if any(a.shape[1:] != b.shape[1:] for a, b in zip(x, held_x, strict=True)):
        return None
    goals = _goals(y, held_y, labels)
    if goals is None or len(y) < LEAST or len(held_y) < LEAST_HELD:
        return None
    goal, other = goals
    values, theirs = _standardized(x, held_x, reader(x, np.arange(len(y)), ids))
    if not values.shape[1] or not goal.std():
        return None
    classes = labels.kind != "numbers"
    center = goal.mean(axis=0)
    fits = [_ridge(*_lines(values, theirs), goal - center)]
    fits += [_ridge(a, b, goal - center) for a, b in _around(values, theirs)]
    linear, curved = fits[0], min(fits[1:], key=lambda fit: fit[2])
    scores = [
        (_score(own + center, goal, classes), _score(held + center, other, classes))
        for own, held, _ in (linear, curved)
    ]
    better = min((linear, curved), key=lambda fit: fit[2])
    guess = float(other[:, int(center.argmax())].mean()) if classes else 0.0
    priced = price is not None and not classes
    found = Yardstick(
        "classes" if classes else "numbers", len(goal), len(other), guess, scores[0][1], scores[1][1], scores[0][0],
        scores[1][0],
        doubted=_doubted(better[0] + center, goal) if classes else None,
        held_doubted=_doubted(better[1] + center, other) if classes else None,
        loss=_cross_entropy(better[0] + center, goal, better[1] + center, other) if classes else None,
        spread=None if classes else float(other.var()),
        split=_split(np.concatenate((better[0], better[1])) + center, np.concatenate(goals)) if classes else None,
        fresh=fresh, of=of, own_guess=float(center.max()) if classes else 0.0, wide=wide,
        course=tuple(price((other - center)[:, 0] * scale) for scale in SCALES) if price and priced else (),
        reached=price((other - center - better[1])[:, 0]) if price and priced else None,
    )
    if not classes:
        return found
    theirs_center = other.mean(axis=0)
    back = _ridge(*_lines(theirs, values), other - theirs_center)  # the other way round: labels of either may be wrong
    moved = max(
        _moved(better[0] + center, goal, better[1] + center, other),
        _moved(back[0] + theirs_center, other, back[1] + theirs_center, goal),
        key=lambda found: found[1] / max(found[2], 1e-12),
    )
    return replace(found, moved=moved[0], expected=moved[1], moved_error=moved[2])


def _fresh(
    x: Arrays, y: np.ndarray, held_x: Arrays, held_y: np.ndarray, labels: LabelFacts, ids: Sequence[bool]
) -> float | None:
    """Return the better score where no row is used twice."""
    mine, theirs = hashed(x), hashed(held_x)
    once = np.unique(mine, return_index=True)[1]
    unseen = np.flatnonzero(~np.isin(theirs, mine))
    without = once[~np.isin(mine[once], theirs)]
    if len(unseen) < LEAST_HELD or (len(unseen) < WELL and len(without) >= LEAST):
        once, unseen = without, np.arange(len(theirs))  # training does without those rows
    found = measure([a[once] for a in x], y[once], [a[unseen] for a in held_x], held_y[unseen], labels, ids)
    return None if found is None else found.best


def _split(said: np.ndarray, goal: np.ndarray) -> Split | None:
    """Return the class whose surest rows hold another one in the largest share; None where there are few classes."""
    labels, counts = goal.argmax(axis=1), goal.sum(axis=0).astype(int)
    if goal.shape[1] < 3:
        return None  # a rare class within another one looks the same
    found: list[Split] = []
    clear = np.zeros(goal.shape[1])
    for label, count in enumerate(counts.tolist()):
        if count < LABELLED:
            continue
        ordered = labels[np.argsort(-said[:, label], kind="stable")]
        right = np.cumsum(ordered == label)
        inner = max(int(SIDE * count), 10)
        inside = float(right[inner - 1]) / inner
        clear[label] = inside
        if not inside:
            continue
        reach = min(int(CLIFF * count / inside), len(ordered))
        around = ordered[: max(int(SIDE * count / inside), inner)]
        others = np.bincount(around[around != label], minlength=goal.shape[1])
        other = int(others.argmax())
        found.append(Split(
            label, other, inside, float(right[count - 1]) / count, float(right[reach - 1]) / count,
            float(others[other]) / max(int(others.sum()), 1), 0.0, count / len(labels)))
    worst = min(found, key=lambda entry: entry.inside, default=None)
    return None if worst is None else replace(worst, clear=float(clear[worst.other]))


def _chosen(x: Arrays, y: np.ndarray, most: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return finite rows, drawn from everywhere where there are more than are used."""
    rows = np.arange(len(y))
    if len(rows) > 2 * most:
        rows = np.sort(np.random.Generator(np.random.Philox(len(rows))).choice(len(rows), 2 * most, replace=False))
    for array in (*x, y):
        if array.dtype.kind == "f":
            rows = rows[np.isfinite(array[rows]).reshape(len(rows), -1).all(axis=1)]
    if len(rows) > most:
        rows = np.sort(np.random.Generator(np.random.Philox(most)).choice(rows, most, replace=False))
    return [a[rows] for a in x], y[rows]


def _goals(y: np.ndarray, held: np.ndarray, labels: LabelFacts) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the targets of both parts as columns, one per class, or a single column of numbers."""
    mine, other = (np.asarray(a.reshape(len(a), -1), np.float64) for a in (y, held))
    if mine.shape[1] != other.shape[1]:
        return None
    if labels.kind == "classes":
        levels = np.unique(np.concatenate((mine, other)))
        return (mine == levels).astype(np.float64), (other == levels).astype(np.float64)
    if labels.kind == "one_hot" or (labels.kind == "numbers" and mine.shape[1] == 1):
        return mine, other
    return None


def _standardized(x: Arrays, held: Arrays, read: Reader) -> tuple[np.ndarray, np.ndarray]:
    a, b = (read(part, np.arange(len(part[0]))) for part in (x, held))
    mean, std = a.mean(axis=0), a.std(axis=0)
    used = std > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    first, second = (np.clip((p[:, used] - mean[used]) / std[used], -FAR, FAR) for p in (a, b))
    return first, second


def _lines(values: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both parts with a column of ones; of very many features, random mixtures."""
    parts = [values, theirs]
    if values.shape[1] > MIXED:
        rng = np.random.Generator(np.random.Philox(11))
        mixed = rng.standard_normal((values.shape[1], MIXED)) / np.sqrt(values.shape[1])
        parts = [part @ mixed for part in parts]
    first, second = (np.concatenate((part, np.ones((len(part), 1))), axis=1) for part in parts)
    return first, second


def _around(values: np.ndarray, theirs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return radial basis functions of both parts, for every width."""
    rng = np.random.Generator(np.random.Philox(3))
    centers = values[np.sort(rng.permutation(len(values))[:CENTERS])]
    squares = [_squares(part, centers) for part in (values, theirs)]
    typical = float(np.median(squares[0][squares[0] > 1e-9])) if (squares[0] > 1e-9).any() else 1.0
    return [
        (np.exp(-squares[0] / (2.0 * width**2 * typical)), np.exp(-squares[1] / (2.0 * width**2 * typical)))
        for width in WIDTHS
    ]


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found: np.ndarray = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.maximum(found, 0.0)


def _ridge(a: np.ndarray, b: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return what ridge regression says of both parts (a row of the first part: fitted without it), and its error."""
    values, vectors = np.linalg.eigh(a.T @ a)
    values = np.maximum(values, 0.0)
    turned, weights = a @ vectors, vectors.T @ (a.T @ goal)
    best: tuple[np.ndarray, np.ndarray, float] | None = None
    for strength in STRENGTHS * len(a):
        inverse = 1.0 / (values + strength)
        lever = np.minimum((turned * turned) @ inverse, 0.999)[:, None]
        own = turned @ (inverse[:, None] * weights)
        own = goal + (own - goal) / (1.0 - lever)
        error = float(((own - goal) ** 2).mean())
        if best is None or error < best[2]:
            best = own, b @ (vectors @ (inverse[:, None] * weights)), error
    assert best is not None
    return best


def _score(said: np.ndarray, goal: np.ndarray, classes: bool) -> float:
    if classes:
        return float((said.argmax(axis=1) == goal.argmax(axis=1)).mean())
    return 1.0 - float(((said - goal) ** 2).mean()) / max(float(goal.var()), 1e-300)


def _moved(own: np.ndarray, goal: np.ndarray, held: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Return how far scores moved with the class whose share differs most, how far they should have, and the error."""
    away = other.mean(axis=0) - goal.mean(axis=0)
    worst = int(np.abs(away).argmax())
    mine, theirs, true = own[:, worst], held[:, worst], goal[:, worst]
    knows = 1.0 - float(((mine - true) ** 2).mean()) / max(float(true.var()), 1e-300)
    error = np.sqrt(float(mine.var()) / len(mine) + float(theirs.var()) / len(theirs))
    direction = float(np.sign(away[worst]))
    return (
        direction * float(theirs.mean() - mine.mean()), max(knows, 0.0) * abs(float(away[worst])), float(error),
    )


def _doubted(said: np.ndarray, goal: np.ndarray) -> float:
    """Return how often the surest answers are not the labels."""
    ordered = np.sort(said, axis=1)
    margin = ordered[:, -1] - ordered[:, -2] if said.shape[1] > 1 else ordered[:, -1]
    surest = np.argsort(-margin, kind="stable")[: max(int(SUREST * len(said)), 10)]
    return float((said.argmax(axis=1) != goal.argmax(axis=1))[surest].mean())


def _cross_entropy(own: np.ndarray, goal: np.ndarray, held: np.ndarray, other: np.ndarray) -> float:
    """Return the cross-entropy of the second part's scores, as sharp as is best for those of the first."""

    def loss(scores: np.ndarray, wanted: np.ndarray, sharp: float) -> float:
        scores = sharp * (scores - scores.max(axis=1, keepdims=True))
        return float((np.log(np.exp(scores).sum(axis=1)) - (scores * wanted).sum(axis=1)).mean())

    return loss(held, other, min(SHARPNESS, key=lambda sharp: loss(own, goal, sharp)))
