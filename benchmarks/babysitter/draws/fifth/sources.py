"""Data of this draw: turbines, flats, orbits, rivers, triangles, motors, phones, walks, smiles, scratches, words."""

from __future__ import annotations

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.raw import Raw, Source, needed


def _pair(x: np.ndarray, y: np.ndarray, task: str) -> Raw:
    kind = np.float32 if task == "regression" else np.int64
    return x.astype(np.float32), y.astype(kind), task


def _between(rng: np.random.Generator, count: int, *ranges: tuple[float, float]) -> np.ndarray:
    low, high = np.array(ranges).T
    return rng.uniform(low, high, (count, len(ranges)))


# -- numbers -----------------------------------------------------------------------------------------------------------


def _turbine() -> Raw:
    """Return wind, density of the air, pitch and diameter of a turbine; its power in kilowatts, at most the rated."""
    rng = np.random.default_rng(5001)
    x = _between(rng, 1200, (3.0, 18.0), (1.0, 1.3), (0.0, 12.0), (60.0, 120.0))
    wind, air, pitch, wide = x.T
    power = 0.5 * air * np.pi * (wide / 2) ** 2 * wind**3 * 0.42 * np.exp(-((pitch / 14) ** 2)) / 1000
    return _pair(x, 3000.0 * np.tanh(power / 3000.0) + rng.normal(0, 50.0, 1200), "regression")


def _exchanger() -> Raw:
    """Return two flows, an area, two temperatures; how warm the cold side leaves a counter-flow heat exchanger."""
    rng = np.random.default_rng(5002)
    x = _between(rng, 1200, (0.5, 4.0), (0.5, 4.0), (1.0, 12.0), (320.0, 380.0), (278.0, 300.0))
    hot, cold, area, warm, cool = x.T
    least, most = np.minimum(hot, cold), np.maximum(hot, cold)
    ratio, units = least / most * 0.999, 0.8 * area / least
    fading = np.exp(-units * (1 - ratio))
    y = cool + (1 - fading) / (1 - ratio * fading) * least / cold * (warm - cool)
    return _pair(x, y + rng.normal(0, 1.2, 1200), "regression")


def _epidemic() -> Raw:
    """Return how fast it spreads, how fast it heals, who is ill, who is vaccinated; the worst day's share of ill."""
    rng = np.random.default_rng(5003)
    x = _between(rng, 1200, (0.15, 0.7), (0.05, 0.25), (0.0005, 0.02), (0.0, 0.6))
    ill, well = x[:, 2].copy(), 1.0 - x[:, 2] - x[:, 3]
    worst = ill.copy()
    for _ in range(300):
        new = 0.5 * x[:, 0] * ill * well
        well, ill = well - new, ill + new - 0.5 * x[:, 1] * ill
        worst = np.maximum(worst, ill)
    return _pair(x, 100.0 * worst + rng.normal(0, 0.8, 1200), "regression")


def _orbits() -> Raw:
    """Return mean anomaly, eccentricity and axis of an orbit; how far the planet is from its sun."""
    rng = np.random.default_rng(5004)
    x = _between(rng, 1200, (0.0, 2 * np.pi), (0.0, 0.7), (0.6, 3.0))
    turn = x[:, 0].copy()
    for _ in range(20):
        turn -= (turn - x[:, 1] * np.sin(turn) - x[:, 0]) / (1 - x[:, 1] * np.cos(turn))
    return _pair(x, x[:, 2] * (1 - x[:, 1] * np.cos(turn)) + rng.normal(0, 0.04, 1200), "regression")


def _rents() -> Raw:
    """Return a made-up table of flats: area, rooms, year, kilometres, floor, lift, kind of house; euros a month."""
    rng = np.random.default_rng(5005)
    area, far = rng.gamma(7.0, 10.0, 1300) + 18, rng.gamma(2.0, 2.2, 1300)
    rooms = np.clip(np.round(area / 24 + rng.normal(0, 0.6, 1300)), 1, 7)
    year, floor, lift = rng.integers(1880, 2025, 1300), rng.integers(0, 9, 1300), rng.integers(0, 2, 1300)
    kind = rng.integers(0, 3, 1300)
    age = np.where(year < 1920, 1.08, np.where(year < 1980, 0.86, 1.0 + (year - 1980) / 150))
    euros = (6.0 + 9.0 * np.exp(-far / 4)) * area**0.9 * age * np.array([1.0, 1.12, 0.93])[kind]
    euros = euros + 18.0 * floor * (2 * lift - 1) + 35.0 * rooms
    x = np.concatenate([np.stack([area, rooms, year, far, floor, lift], 1), np.eye(3)[kind]], 1)
    return _pair(x, euros * np.exp(rng.normal(0, 0.05, 1300)), "regression")


def _hills() -> Raw:
    """Return places on a map; the height there, of five hills and a pit."""
    rng = np.random.default_rng(5006)
    x = rng.uniform(-1.5, 1.5, (1400, 2))
    tops, wide = rng.uniform(-1.2, 1.2, (6, 2)), rng.uniform(0.35, 0.6, 6)
    high = np.array([1.0, 0.8, 1.2, 0.7, 0.9, -1.1])
    y = (high * np.exp(-((x[:, None] - tops) ** 2).sum(-1) / (2 * wide**2))).sum(1)
    return _pair(x, 700.0 * y + rng.normal(0, 20.0, 1400), "regression")


def _batteries() -> Raw:
    """Return current, degrees, cycles, voltage and rest of a battery; what it can still give, in ampere hours."""
    rng = np.random.default_rng(5007)
    x = _between(rng, 1200, (0.2, 6.0), (-10.0, 45.0), (0.0, 1500.0), (3.0, 4.15), (0.0, 48.0))
    current, warm, cycles, volt, rest = x.T
    left = 3.2 * (1 - 0.00022 * cycles * np.exp(((warm - 25) / 30) ** 2 * 0.5)) / (1 + np.exp(-9 * (volt - 3.6)))
    y = left * (1 - 0.05 * current * np.exp(-(warm + 10) / 25)) - 0.0035 * rest
    return _pair(x, y + rng.normal(0, 0.04, 1200), "regression")


def _rivers() -> Raw:
    """Return rain and water of ten days; how high the river stands on the next one, in centimetres."""
    rng = np.random.default_rng(5008)
    rain = rng.gamma(0.35, 9.0, (1100, 40))
    soil, water, seen = np.full(1100, 15.0), np.full(1100, 90.0), []
    for day in range(40):
        soil = 0.86 * soil + rain[:, day]
        water = 0.78 * water + 0.9 * np.maximum(soil - 14.0, 0.0) + 12.0
        seen.append(water + rng.normal(0, 2.0, 1100))
    x = np.stack([rain[:, 29:39], np.stack(seen, 1)[:, 29:39]], 2)
    return _pair(x.reshape(1100, 20), seen[39], "regression")


# -- classes of tables -------------------------------------------------------------------------------------------------


def _minerals() -> Raw:
    """Return density, hardness, gloss, and shares of three elements of stones of five kinds that are easy to tell."""
    rng = np.random.default_rng(5010)
    y = rng.permutation(np.arange(1300) % 5)
    middle = np.array([[2.65, 7.0, 12, 46.7, 0.3, 0.2], [2.71, 3.0, 9, 0.5, 40.0, 0.4], [5.0, 6.2, 55, 0.4, 0.3, 46.5],
                       [2.9, 2.7, 20, 21.0, 0.6, 6.0], [4.0, 5.4, 30, 18.0, 9.0, 21.0]])
    wide = np.array([0.25, 0.8, 7.0, 6.0, 5.0, 5.0])
    return _pair(middle[y] + rng.normal(size=(1300, 6)) * wide, y, "multiclass")


def _triangles() -> Raw:
    """Return three lengths in millimetres; which triangle they make: a pointed one, a blunt one, or none."""
    rng = np.random.default_rng(5011)
    x = rng.uniform(20, 300, (9000, 3))
    a, b, c = np.sort(x, 1).T
    y = np.where(c > a + b, 2, np.where(c**2 > a**2 + b**2, 1, 0))
    clear = (np.abs(c - a - b) > 12) & (np.abs(c - np.hypot(a, b)) > 9)
    rows = np.concatenate([np.flatnonzero(clear & (y == k))[:540] for k in range(3)])
    return _pair(x[rows], y[rows], "multiclass")


def _equilibria() -> Raw:
    """Return the four numbers of a linear system: it comes to rest, swings to rest, runs away, or has a saddle."""
    rng = np.random.default_rng(5012)
    x = rng.normal(0, 1.0, (9000, 4))
    trace, area = x[:, 0] + x[:, 3], x[:, 0] * x[:, 3] - x[:, 1] * x[:, 2]
    y = np.where(area < 0, 3, np.where(trace > 0, 2, np.where(trace**2 < 4 * area, 1, 0)))
    clear = (np.abs(area) > 0.12) & ((area < 0) | ((np.abs(trace) > 0.15) & (np.abs(trace**2 - 4 * area) > 0.2)))
    rows = np.concatenate([np.flatnonzero(clear & (y == k))[:430] for k in range(4)])
    return _pair(x[rows], y[rows], "multiclass")


def _queens() -> Raw:
    """Return files and ranks of two queens; does one attack the other?"""
    rng = np.random.default_rng(5013)
    x = np.stack(np.meshgrid(*[np.arange(8)] * 4, indexing="ij"), -1).reshape(-1, 4)
    over, up = np.abs(x[:, 0] - x[:, 2]), np.abs(x[:, 1] - x[:, 3])
    y = (over == 0) | (up == 0) | (over == up)
    keep = (over + up > 0) & (y | (rng.uniform(size=len(x)) < 0.57))
    rows = rng.permutation(np.flatnonzero(keep))
    return _pair(x[rows] + 1, y[rows], "binary")


def _shells() -> Raw:
    """Return points in four directions: of the core, the shell around it, or the outside."""
    rng = np.random.default_rng(5014)
    y = rng.permutation(np.arange(1500) % 3)
    far = np.array([0.6, 1.3, 2.0])[y] + rng.normal(0, 0.14, 1500)
    way = rng.normal(size=(1500, 4))
    return _pair(way / np.linalg.norm(way, axis=1, keepdims=True) * far[:, None], y, "multiclass")


def _visitors() -> Raw:
    """Return pages, minutes, price looked at, days since the last visit, device and source of visitors; who buys."""
    rng = np.random.default_rng(5015)
    pages, minutes = rng.poisson(6.0, 1500) + 1, rng.gamma(1.6, 4.0, 1500)
    price, days = rng.lognormal(3.8, 0.8, 1500), rng.exponential(18.0, 1500)
    device, source = rng.integers(0, 3, 1500), rng.integers(0, 4, 1500)
    score = 1.1 * np.log(pages) + 0.8 * np.log1p(minutes) * (device != 1) - 0.9 * np.abs(np.log(price) - 3.4)
    score = score + 1.2 * np.exp(-days / 10) - 0.8 * (source == 3) + 0.3 * pages * (device == 2) / 6
    buys = score + rng.logistic(0, 0.16, 1500) > np.median(score)
    x = np.concatenate([np.stack([pages, minutes, price, days], 1), np.eye(3)[device], np.eye(4)[source]], 1)
    return _pair(x, buys, "binary")


def _rains() -> Raw:
    """Return degrees, dew point, pressure, its change, wind, clouds and month of days; is the next one wet?"""
    rng = np.random.default_rng(5016)
    month = rng.integers(1, 13, 1500)
    warm = 11 - 9 * np.cos(2 * np.pi * (month - 1) / 12) + rng.normal(0, 4, 1500)
    dew, pressure = warm - rng.gamma(2.0, 2.4, 1500), rng.normal(1014, 9, 1500)
    falls, wind, clouds = rng.normal(0, 5, 1500), rng.gamma(2.2, 6.0, 1500), rng.beta(1.2, 1.0, 1500)
    score = 1.3 - 0.42 * (warm - dew) - 0.05 * (pressure - 1014) - 0.22 * falls + 1.6 * clouds
    score = score + 0.05 * wind * (falls < 0) + rng.logistic(0, 0.3, 1500)
    x = np.stack([warm, dew, pressure, falls, wind, clouds, month], 1)
    return _pair(x, score > np.median(score), "binary")


def _petals() -> Raw:
    """Return points of a square; yes inside of a flower with four petals around a hole."""
    rng = np.random.default_rng(5017)
    x = rng.uniform(-1.1, 1.1, (4200, 2))
    far, edge = np.hypot(*x.T), 0.72 + 0.28 * np.cos(4 * np.arctan2(x[:, 1], x[:, 0]))
    y = (far < edge) & (far > 0.3)
    clear = (np.abs(far - edge) > 0.03) & (np.abs(far - 0.3) > 0.03)
    rows = np.concatenate([np.flatnonzero(clear & (y == k))[:800] for k in (False, True)])
    return _pair(x[rows], y[rows], "binary")


def _islands() -> Raw:
    """Return points in eight directions of five kinds, each of which lives on three islands."""
    rng = np.random.default_rng(5018)
    places = rng.normal(0, 1.25, (15, 8))
    home = rng.permutation(np.arange(1700) % 15)
    return _pair(places[home] + rng.normal(0, 0.55, (1700, 8)), home % 5, "multiclass")


# -- signals -----------------------------------------------------------------------------------------------------------


def _motors() -> Raw:
    """Return 48 values of a motor's shaking: a sound one, one out of balance, one whose bearing knocks."""
    rng = np.random.default_rng(5020)
    y = rng.permutation(np.arange(1300) % 3)
    t = np.arange(48)
    turn = 2 * np.pi * (rng.uniform(0.06, 0.09, (1300, 1)) * t + rng.uniform(size=(1300, 1)))
    wave = np.where(y == 1, 0.3, 0.1)[:, None] * rng.uniform(0.8, 1.2, (1300, 1)) * np.sin(turn)
    since = (t - rng.uniform(0, 9, (1300, 1))) % rng.uniform(8, 11, (1300, 1))
    knock = np.where(y == 2, 0.42, 0.0)[:, None] * np.exp(-since / 1.6) * np.cos(2.4 * since)
    return _pair(0.5 + wave + knock + rng.normal(0, 0.04, wave.shape), y, "multiclass")


def _breaths() -> Raw:
    """Return 40 values of a chest that rises and falls; breaths in a minute."""
    rng = np.random.default_rng(5021)
    rate = rng.uniform(8, 24, (1200, 1))
    turn = rate / 60 * np.arange(40) * 0.5 + rng.uniform(size=(1200, 1))
    wave = rng.uniform(0.2, 0.4, (1200, 1)) * np.sin(2 * np.pi * turn)
    return _pair(0.5 + wave + rng.normal(0, 0.03, wave.shape), rate[:, 0], "regression")


def _taps() -> Raw:
    """Return 36 values of a plate that is tapped twice, three or four times."""
    rng = np.random.default_rng(5022)
    y = rng.permutation(np.arange(1300) % 3)
    wave = np.zeros((1300, 36))
    for row, kind in zip(wave, y.tolist(), strict=True):
        places = np.cumsum(rng.integers(5, 8, kind + 2)) + rng.integers(-4, 3)
        for place in places:
            length = min(4, 36 - place)
            row[place : place + length] += rng.uniform(0.55, 0.9) * 0.5 ** np.arange(length)
    return _pair(0.1 + wave + rng.normal(0, 0.04, wave.shape), y, "multiclass")


def _phones() -> Raw:
    """Return 48 values of a key's two tones; in which of four rows the key lies."""
    rng = np.random.default_rng(5023)
    y = rng.permutation(np.arange(1300) % 4)
    t, low = np.arange(48), np.array([0.105, 0.125, 0.148, 0.175])[y][:, None]
    high = np.array([0.24, 0.27, 0.31])[rng.integers(0, 3, 1300)][:, None]
    turns = rng.uniform(0, 0.35, (2, 1300, 1))
    wave = 0.2 * np.sin(2 * np.pi * (low * t + turns[0])) + 0.16 * np.sin(2 * np.pi * (high * t + turns[1]))
    return _pair(0.5 + wave + rng.normal(0, 0.05, wave.shape), y, "multiclass")


def _levels() -> Raw:
    """Return 30 values of a tank that is filled once by a little or emptied once by a little: filled?"""
    rng = np.random.default_rng(5024)
    y = rng.permutation(np.arange(1300) % 2)
    t, when = np.arange(30), rng.uniform(6, 23, (1300, 1))
    jump = np.where(y, 0.16, -0.16)[:, None] * rng.uniform(0.7, 1.2, (1300, 1)) / (1 + np.exp(-2 * (t - when)))
    start = rng.uniform(0.4, 0.6, (1300, 1))
    return _pair(start + jump + rng.normal(0, 0.07, jump.shape), y, "binary")


def _walks() -> Raw:
    """Return 14 times three forces on a wrist: who walks, runs, climbs, or sits."""
    rng = np.random.default_rng(5025)
    y = rng.permutation(np.arange(1300) % 4)
    t = np.arange(14)
    pace = (np.array([0.16, 0.3, 0.13, 0.0])[y] * rng.uniform(0.9, 1.1, 1300))[:, None]
    high = (np.array([0.2, 0.32, 0.2, 0.03])[y] * rng.uniform(0.8, 1.2, 1300))[:, None]
    turn = 2 * np.pi * (pace * t + rng.uniform(size=(1300, 1)))
    lean = np.where(y == 2, 0.16, 0.0)[:, None]
    wave = np.stack([high * np.sin(turn), 0.6 * high * np.sin(2 * turn) + lean, 0.4 * high * np.cos(turn) - lean], 2)
    return _pair((0.5 + wave + rng.normal(0, 0.07, wave.shape)).reshape(1300, 42), y, "multiclass")


# -- pictures ----------------------------------------------------------------------------------------------------------


def _marks() -> Raw:
    """Return pictures of 10 x 10 with a mark, somewhere: a plus, a cross, a ring, or a square."""
    rng = np.random.default_rng(5030)
    y = rng.permutation(np.arange(1300) % 4)
    drawn = [["00100", "00100", "11111", "00100", "00100"], ["10001", "01010", "00100", "01010", "10001"],
             ["01110", "10001", "10001", "10001", "01110"], ["11111", "10001", "10001", "10001", "11111"]]
    marks = np.array([[[int(c) for c in row] for row in mark] for mark in drawn], float)
    pictures = rng.uniform(0, 70, (1300, 10, 10))
    for picture, kind in zip(pictures, y.tolist(), strict=True):
        top, left = rng.integers(0, 6, 2)
        picture[top : top + 5, left : left + 5] += marks[kind] * rng.uniform(90, 180)
    return _pair(pictures.reshape(1300, -1), y, "multiclass")


def _scratches() -> Raw:
    """Return pictures of 10 x 10 of brushed metal: is there a scratch?"""
    rng = np.random.default_rng(5031)
    y = rng.permutation(np.arange(1300) % 2)
    metal = 0.55 + 0.08 * rng.normal(size=(1300, 10, 1)) + 0.05 * rng.normal(size=(1300, 10, 10))
    rows, columns = np.mgrid[0:10, 0:10]
    angle, place = rng.uniform(0.5, 2.6, (1300, 1, 1)), rng.uniform(-2.5, 2.5, (1300, 1, 1))
    off = (rows - 4.5) * np.cos(angle) + (columns - 4.5) * np.sin(angle) - place
    scratch = 0.3 * np.exp(-(off**2) / 0.6) * y[:, None, None]
    return _pair((metal - scratch).reshape(1300, -1), y, "binary")


def _sunsets() -> Raw:
    """Return pictures of 8 x 8 in colour of a sky over the sea; how high the horizon lies, in per cent."""
    rng = np.random.default_rng(5032)
    horizon = rng.uniform(1.5, 6.5, (1200, 1, 1))
    rows = np.mgrid[0:8, 0:8][0]
    sky = 1 / (1 + np.exp(2.5 * (rows - horizon)))
    tops, seas = rng.uniform(0.4, 1.0, (1200, 1, 1, 3)), rng.uniform(0.0, 0.4, (1200, 1, 1, 3))
    picture = sky[..., None] * tops + (1 - sky[..., None]) * seas + rng.normal(0, 0.06, (1200, 8, 8, 3))
    return _pair(picture.reshape(1200, -1) * 250.0, 12.5 * horizon.reshape(-1), "regression")


def _smiles() -> Raw:
    """Return drawings of 11 x 11 of faces: glad, sad, or neither."""
    rng = np.random.default_rng(5033)
    y = rng.permutation(np.arange(1300) % 3)
    across = np.arange(-3, 4)
    pictures = rng.uniform(0.0, 0.3, (1300, 11, 11))
    for picture, kind in zip(pictures, y.tolist(), strict=True):
        up, right = rng.integers(-1, 2, 2)
        bend = (0.0, 0.2, -0.2)[kind] * rng.uniform(0.8, 1.3)
        ink = rng.uniform(0.5, 0.7)
        mouth = np.clip(np.round(8 + up + bend * (across**2 - 4)), 0, 10).astype(int)
        picture[mouth, across + 5 + right] += ink
        picture[3 + up, [3 + right, 7 + right]] += ink
    return _pair(pictures.reshape(1300, -1), y, "multiclass")


def _tiles() -> Raw:
    """Return pictures of 12 x 12 of floors: tiles of two, three or four, laid from anywhere."""
    rng = np.random.default_rng(5034)
    y = rng.permutation(np.arange(1300) % 3)
    rows, columns = np.mgrid[0:12, 0:12]
    size = (y + 2)[:, None, None]
    down, right = (rng.integers(0, 8, (1300, 1, 1)) for _ in range(2))
    dark = ((rows + down) // size + (columns + right) // size) % 2
    light = rng.uniform(0.25, 0.6, (1300, 1, 1))
    return _pair((0.2 + light * dark + rng.normal(0, 0.09, dark.shape)).reshape(1300, -1), y, "multiclass")


def _hand(first: int, last: int, kinds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's training images of some kinds from one to another (28 x 28), and what they are."""
    data = db.datasets.mnist(needed("mnist"))
    y = np.asarray(data.y[first:last])
    keep = np.isin(y, kinds)
    return np.asarray(data.x[first:last], np.float32).reshape(-1, 28, 28)[keep], np.searchsorted(kinds, y[keep])


def _round_ones() -> Raw:
    """Return MNIST's images of 0, 6, 8 and 9 from the 7000th on, at half the size, seen in a mirror."""
    images, y = _hand(7_000, 13_500, [0, 6, 8, 9])
    small = images[:, :, ::-1].reshape(-1, 14, 2, 14, 2).mean((2, 4))
    return _pair(small.reshape(len(small), -1), y, "multiclass")


def _edges() -> Raw:
    """Return where MNIST's images of 1, 2, 4 and 7 from the 14000th on change between rows, at a third of the size."""
    images, y = _hand(14_000, 19_500, [1, 2, 4, 7])
    small = images[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean((2, 4))
    return _pair(np.abs(np.diff(small, axis=1)).reshape(len(small), -1), y, "multiclass")


# -- signs -------------------------------------------------------------------------------------------------------------


def _subjects() -> Raw:
    """Return ten of twenty words; which of four subjects has the most of them, of which each has four."""
    rng = np.random.default_rng(5040)
    y = rng.permutation(np.arange(2600) % 4)
    own = rng.uniform(size=(2600, 10)) < 0.42
    x = np.where(own, 4 * y[:, None] + rng.integers(0, 4, (2600, 10)), rng.integers(0, 20, (2600, 10)))
    counts = np.stack([(x // 4 == k).sum(1) for k in range(4)], 1)
    best = np.sort(counts, 1)
    keep = best[:, 3] > best[:, 2]
    return _pair(x[keep], counts.argmax(1)[keep], "multiclass")


def _errands() -> Raw:
    """Return nine steps of six: four ways, twice as far from here on, and a rest; how far east it ends."""
    rng = np.random.default_rng(5041)
    x = rng.choice(6, (2200, 9), p=[0.22, 0.22, 0.16, 0.16, 0.12, 0.12])
    pace, east = np.ones(2200), np.zeros(2200)
    for step in x.T:
        pace = np.where(step == 4, np.minimum(2 * pace, 4.0), pace)
        east += pace * ((step == 0).astype(float) - (step == 1))
    return _pair(x, 10.0 * east + rng.normal(0, 3.0, 2200), "regression")


def _brackets() -> Raw:
    """Return twelve of three signs, two of which open and close: is all that was opened closed in order?"""
    rng = np.random.default_rng(5042)
    x = rng.choice(3, (260_000, 12), p=[0.36, 0.36, 0.28])
    depth = np.cumsum((x == 0).astype(int) - (x == 1), 1)
    good = (depth.min(1) >= 0) & (depth[:, -1] == 0)
    right, wrong = np.flatnonzero(good)[:1200], np.flatnonzero(~good & (depth[:, -1] == 0))[:1200]
    return _pair(np.concatenate([x[right], x[wrong]]), np.repeat([1, 0], [len(right), len(wrong)]), "binary")


def _backwards() -> Raw:
    """Return twelve letters from within Shakespeare's lines, or the same read backwards: forwards?"""
    rng = np.random.default_rng(5043)
    text = (needed("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")[180_000:224_000].lower()
    letters = {c: i + 2 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")} | {" ": 1, "\n": 1}
    ids = np.array([letters.get(c, 0) for c in text])
    x = ids[: len(ids) // 12 * 12].reshape(-1, 12).copy()
    y = rng.permutation(np.arange(len(x)) % 2)
    x[y == 0] = x[y == 0, ::-1]
    return _pair(x, y, "binary")


SOURCES: dict[str, Source] = {
    "turbine": Source("regression", 4, 0, _turbine),
    "exchanger": Source("regression", 5, 0, _exchanger),
    "epidemic": Source("regression", 4, 0, _epidemic),
    "orbits": Source("regression", 3, 0, _orbits),
    "rents": Source("regression", 9, 0, _rents),
    "hills": Source("regression", 2, 0, _hills),
    "batteries": Source("regression", 5, 0, _batteries),
    "rivers": Source("regression", 20, 0, _rivers),
    "minerals": Source("multiclass", 6, 5, _minerals),
    "triangles": Source("multiclass", 3, 3, _triangles),
    "equilibria": Source("multiclass", 4, 4, _equilibria),
    "queens": Source("binary", 4, 2, _queens),
    "shells": Source("multiclass", 4, 3, _shells),
    "visitors": Source("binary", 11, 2, _visitors),
    "rains": Source("binary", 7, 2, _rains),
    "petals": Source("binary", 2, 2, _petals),
    "islands": Source("multiclass", 8, 5, _islands),
    "motors": Source("multiclass", 48, 3, _motors, brightest=1.0),
    "breaths": Source("regression", 40, 0, _breaths, brightest=1.0),
    "taps": Source("multiclass", 36, 3, _taps, brightest=1.0),
    "phones": Source("multiclass", 48, 4, _phones, brightest=1.0),
    "levels": Source("binary", 30, 2, _levels, brightest=1.0),
    "walks": Source("multiclass", 42, 4, _walks, brightest=1.0),
    "marks": Source("multiclass", 100, 4, _marks, brightest=250.0),
    "scratches": Source("binary", 100, 2, _scratches, brightest=1.0),
    "sunsets": Source("regression", 192, 0, _sunsets, brightest=250.0),
    "smiles": Source("multiclass", 121, 3, _smiles, brightest=1.0),
    "tiles": Source("multiclass", 144, 3, _tiles, brightest=1.0),
    "round_ones": Source("multiclass", 196, 4, _round_ones, brightest=255.0),
    "edges": Source("multiclass", 56, 4, _edges, brightest=255.0),
    "subjects": Source("multiclass", 10, 4, _subjects, signs=20),
    "errands": Source("regression", 9, 0, _errands, signs=6),
    "brackets": Source("binary", 12, 2, _brackets, signs=3),
    "backwards": Source("binary", 12, 2, _backwards, signs=28),
}
