"""Data of this draw: shapes and signals of our own, tables with odd scales, digits in another form, text."""

from __future__ import annotations

from functools import cache

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.raw import Raw, Source, needed


def _pair(x: np.ndarray, y: np.ndarray, task: str) -> Raw:
    kind = np.float32 if task == "regression" else np.int64
    return x.astype(np.float32), y.astype(kind), task


def _iris() -> Raw:
    data = db.datasets.iris()
    return _pair(np.asarray(data.x), np.asarray(data.y), "multiclass")


def _hastie() -> Raw:
    """Return ten normal numbers; yes where the sum of their squares is large (Hastie et al., example 10.2)."""
    x = np.random.default_rng(901).normal(size=(1600, 10))
    return _pair(x, (x**2).sum(1) > 9.34, "binary")


def _quantiles() -> Raw:
    """Return a normal cloud, cut into three shells of the same size."""
    x = np.random.default_rng(902).normal(size=(1300, 4))
    return _pair(x, np.digitize((x**2).sum(1), np.quantile((x**2).sum(1), (1 / 3, 2 / 3))), "multiclass")


def _circuit(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Return resistance, frequency, inductance, capacity of Friedman's circuits (1991): scales that differ by 1000."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(1100, 4)) * (100.0, 520.0 * np.pi, 1.0, 10.0) + (0.0, 40.0 * np.pi, 0.0, 1.0)
    return x, rng


def _friedman2() -> Raw:
    x, rng = _circuit(903)
    y = np.sqrt(x[:, 0] ** 2 + (x[:, 1] * x[:, 2] - 1.0 / (x[:, 1] * x[:, 3])) ** 2)
    return _pair(x, y + rng.normal(0, 30.0, len(y)), "regression")


def _friedman3() -> Raw:
    x, rng = _circuit(904)
    y = np.arctan((x[:, 1] * x[:, 2] - 1.0 / (x[:, 1] * x[:, 3])) / x[:, 0])
    return _pair(x, y + rng.normal(0, 0.03, len(y)), "regression")


def _s_curve() -> Raw:
    """Return points of a bent sheet, and how far along it they lie."""
    rng = np.random.default_rng(905)
    t = 3.0 * np.pi * (rng.uniform(size=1000) - 0.5)
    x = np.stack([np.sin(t), 2.0 * rng.uniform(size=1000), np.sign(t) * (np.cos(t) - 1.0)], 1)
    return _pair(x + rng.normal(0, 0.05, x.shape), t, "regression")


def _swiss_roll() -> Raw:
    """Return points of a rolled sheet in four parts along it."""
    rng = np.random.default_rng(906)
    t = 1.5 * np.pi * (1.0 + 2.0 * rng.uniform(size=1300))
    x = np.stack([t * np.cos(t), 21.0 * rng.uniform(size=1300), t * np.sin(t)], 1)
    return _pair(x + rng.normal(0, 0.3, x.shape), np.digitize(t, np.quantile(t, (0.25, 0.5, 0.75))), "multiclass")


def _redundant() -> Raw:
    """Return five columns that tell the class, five that are mixtures of them, five of noise."""
    rng = np.random.default_rng(907)
    y = rng.permutation(np.arange(1300) % 4)
    centers = rng.normal(0, 1.5, (4, 2, 5))
    real = centers[y, rng.integers(0, 2, 1300)] + rng.normal(0, 0.8, (1300, 5))
    return _pair(np.concatenate([real, real @ rng.normal(size=(5, 5)), rng.normal(size=(1300, 5))], 1), y, "multiclass")


def _checkerboard() -> Raw:
    x = np.random.default_rng(908).uniform(0, 3, (1600, 2))
    return _pair(x, np.floor(x).sum(1) % 2, "binary")


def _arm() -> Raw:
    """Return two angles and two lengths of an arm, and how far its hand is from its shoulder's left."""
    rng = np.random.default_rng(909)
    x = np.concatenate([rng.uniform(-np.pi / 2, np.pi / 2, (1100, 2)), rng.uniform(0.5, 1.5, (1100, 2))], 1)
    hand = x[:, 2] * np.cos(x[:, 0]) + x[:, 3] * np.cos(x[:, 0] + x[:, 1])
    high = x[:, 2] * np.sin(x[:, 0]) + x[:, 3] * np.sin(x[:, 0] + x[:, 1])
    return _pair(x, np.hypot(hand + 1.0, high) + rng.normal(0, 0.03, 1100), "regression")


def _uneven_noise() -> Raw:
    """Return numbers whose noise grows with an input."""
    rng = np.random.default_rng(910)
    x = rng.uniform(-2, 2, (1100, 3))
    y = np.sin(2.0 * x[:, 0]) + x[:, 1] * np.abs(x[:, 2])
    return _pair(x, y + rng.normal(size=1100) * (0.05 + 0.2 * np.abs(x[:, 0])), "regression")


def _counts() -> Raw:
    """Return counts of a Poisson law whose mean depends on five inputs."""
    rng = np.random.default_rng(911)
    x = rng.normal(size=(1200, 5))
    mean = np.exp(1.8 + 0.5 * x[:, 0] - 0.4 * x[:, 1] + 0.4 * np.sin(2 * x[:, 2]) * (x[:, 3] > 0))
    return _pair(x, rng.poisson(mean), "regression")


def _series() -> Raw:
    """Return twelve values of an oscillation (each row has its own), and the one after them."""
    rng = np.random.default_rng(912)
    t = np.arange(13)
    high, speed, phase = (rng.uniform(low, top, (1100, 1)) for low, top in ((0.5, 2.0), (0.3, 1.4), (0.0, 6.3)))
    wave = high * np.sin(speed * t + phase)
    wave = wave + rng.normal(0, 0.05, wave.shape) + 5.0
    return _pair(wave[:, :12], wave[:, 12], "regression")


def _loans() -> Raw:
    """Return a table of mixed columns: money, years, shares, and two choices as 0 and 1."""
    rng = np.random.default_rng(913)
    income, age = rng.lognormal(10.3, 0.5, 1300), rng.uniform(20, 70, 1300)
    share, debts = rng.beta(2, 4, 1300), rng.poisson(1.5, 1300)
    home, work = rng.integers(0, 3, 1300), rng.integers(0, 4, 1300)
    risk = -0.9 * (np.log(income) - 10.3) / 0.5 + 6 * (share - 0.33) + 0.7 * (debts - 1.5) * (home != 1)
    risk = risk + 0.8 * (work == 2) - 0.02 * (age - 45) - 0.9 + rng.logistic(0, 0.5, 1300)
    x = np.stack([income, age, share, debts], 1)
    return _pair(np.concatenate([x, np.eye(3)[home], np.eye(4)[work]], 1), risk > 0, "binary")


def _signals() -> Raw:
    """Return waves of 32 values: round, square, or like a saw."""
    rng = np.random.default_rng(914)
    y = rng.permutation(np.arange(1200) % 3)
    turn = rng.uniform(1.5, 3.0, (1200, 1)) * np.arange(32) / 32 + rng.uniform(0, 1, (1200, 1))
    kinds = np.stack([np.sin(2 * np.pi * turn), np.sign(np.sin(2 * np.pi * turn)), 2 * (turn % 1) - 1])
    return _pair(0.8 * kinds[y, np.arange(1200)] + rng.normal(0, 0.2, (1200, 32)), y, "multiclass")


def _pulses() -> Raw:
    """Return signals of 32 values with a bump, and where it is."""
    rng = np.random.default_rng(915)
    place = rng.uniform(4, 28, (1100, 1))
    bump = np.exp(-0.5 * ((np.arange(32) - place) / rng.uniform(1.0, 3.0, (1100, 1))) ** 2)
    return _pair(bump + rng.normal(0, 0.1, bump.shape), place[:, 0], "regression")


def _shapes() -> Raw:
    """Return images of 12 x 12 with a disc, a frame or a cross."""
    rng = np.random.default_rng(916)
    y = rng.permutation(np.arange(1100) % 3)
    rows, columns = np.mgrid[0:12, 0:12]
    images = np.zeros((1100, 12, 12))
    for i, kind in enumerate(y.tolist()):
        size, top, left = rng.uniform(2.0, 4.0), rng.uniform(4, 7), rng.uniform(4, 7)
        down, right = np.abs(rows - top), np.abs(columns - left)
        far = np.maximum(down, right)
        cross = (np.minimum(down, right) < 0.8) & (far < size)
        frame = (far < size) & (far > size - 1.3)
        images[i] = (np.hypot(down, right) < size, frame, cross)[kind]
    return _pair((0.8 * images + rng.uniform(0, 0.25, images.shape)).reshape(1100, -1), y, "multiclass")


def _dots() -> Raw:
    """Return images of 10 x 10 with one, two or three dots."""
    rng = np.random.default_rng(917)
    y = rng.permutation(np.arange(1200) % 3)
    rows, columns = np.mgrid[0:10, 0:10]
    images = np.zeros((1200, 10, 10))
    for i, count in enumerate((y + 1).tolist()):
        cells = rng.permutation(9)[:count]  # one of nine cells each, so that no two meet
        for cell in cells.tolist():
            top, left = 1.5 + 3 * (cell // 3) + rng.uniform(-0.5, 0.5), 1.5 + 3 * (cell % 3) + rng.uniform(-0.5, 0.5)
            images[i] += np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / 1.2)
    return _pair((0.85 * images + rng.uniform(0, 0.15, images.shape)).reshape(1200, -1), y, "multiclass")


@cache
def _test_digits() -> tuple[np.ndarray, np.ndarray]:
    data = db.datasets.mnist(needed("mnist"))
    return np.asarray(data.x_test), np.asarray(data.y_test)


def _digits(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = _test_digits()
    return x[first : first + count].astype(np.float32), y[first : first + count]


def _parity() -> Raw:
    """Return images of 28 x 28: is the digit odd?"""
    x, y = _digits(0, 3000)
    return _pair(x.reshape(len(x), -1), y % 2, "binary")


def _high_digits() -> Raw:
    """Return every second pixel of digits from 5 to 9."""
    x, y = _digits(3000, 6000)
    keep = y >= 5
    return _pair(x[keep, ::2, ::2].reshape(int(keep.sum()), -1), y[keep] - 5, "multiclass")


def _tokens() -> Raw:
    """Return twelve of eight signs; the class is which of the first three stands there most often."""
    rng = np.random.default_rng(918)
    x = rng.integers(0, 8, (9000, 12))
    often = np.stack([(x == k).sum(1) for k in range(3)], 1)
    clear = np.sort(often, 1)[:, 2] > np.sort(often, 1)[:, 1]
    return _pair(x[clear][:1500], often[clear][:1500].argmax(1), "multiclass")


def _order() -> Raw:
    """Return ten of six signs; yes where the first 1 stands before the first 2."""
    rng = np.random.default_rng(919)
    x = rng.integers(0, 6, (6000, 10))
    x = x[(x == 1).any(1) & (x == 2).any(1)][:1500]
    return _pair(x, (x == 1).argmax(1) < (x == 2).argmax(1), "binary")


def _text() -> Raw:
    """Return ten letters of Shakespeare; what comes next: a vowel, a consonant, or the end of a word."""
    text = (needed("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")[20_000:90_000].lower()
    letters = {c: i + 4 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")} | {" ": 1, "\n": 2, "'": 3}
    ids = np.array([letters.get(c, 0) for c in text])
    starts = np.arange(0, len(ids) - 11, 11)  # no two windows share a letter
    x, after = np.stack([ids[s : s + 10] for s in starts]), ids[starts + 10]
    vowels = [letters[c] for c in "aeiou"]
    y = np.where(np.isin(after, vowels), 0, np.where(after >= 4, 1, 2))
    return _pair(x, y, "multiclass")


SOURCES: dict[str, Source] = {
    "iris": Source("multiclass", 4, 3, _iris),
    "hastie": Source("binary", 10, 2, _hastie),
    "quantiles": Source("multiclass", 4, 3, _quantiles),
    "friedman2": Source("regression", 4, 0, _friedman2),
    "friedman3": Source("regression", 4, 0, _friedman3),
    "s_curve": Source("regression", 3, 0, _s_curve),
    "swiss_roll": Source("multiclass", 3, 4, _swiss_roll),
    "redundant": Source("multiclass", 15, 4, _redundant),
    "checkerboard": Source("binary", 2, 2, _checkerboard),
    "arm": Source("regression", 4, 0, _arm),
    "uneven_noise": Source("regression", 3, 0, _uneven_noise),
    "counts": Source("regression", 5, 0, _counts),
    "series": Source("regression", 12, 0, _series),
    "loans": Source("binary", 11, 2, _loans),
    "signals": Source("multiclass", 32, 3, _signals, brightest=1.0),
    "pulses": Source("regression", 32, 0, _pulses, brightest=1.0),
    "shapes": Source("multiclass", 144, 3, _shapes, brightest=1.0),
    "dots": Source("multiclass", 100, 3, _dots, brightest=1.0),
    "parity": Source("binary", 784, 2, _parity, brightest=255.0),
    "high_digits": Source("multiclass", 196, 5, _high_digits, brightest=255.0),
    "tokens": Source("multiclass", 12, 3, _tokens, signs=8),
    "order": Source("binary", 10, 2, _order, signs=6),
    "text": Source("multiclass", 10, 3, _text, signs=30),
}
