"""Data of this draw: engineers' formulas, oscillations, pictures, chains of signs; photographs, relief, digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.raw import Raw, Source, needed


def _pair(x: np.ndarray, y: np.ndarray, task: str) -> Raw:
    kind = np.float32 if task == "regression" else np.int64
    return x.astype(np.float32), y.astype(kind), task


def _between(rng: np.random.Generator, count: int, *ranges: tuple[float, float]) -> np.ndarray:
    low, high = np.array(ranges).T
    return rng.uniform(low, high, (count, len(ranges)))


# -- formulas of engineers: columns whose units differ by many powers of ten -------------------------------------------


def _borehole() -> Raw:
    """Return flow of water through a borehole in cubic metres a year (Harper and Gupta 1983)."""
    rng = np.random.default_rng(3001)
    x = _between(rng, 1200, (0.02, 0.30), (100.0, 50000.0), (63070.0, 115600.0), (990.0, 1110.0), (63.1, 116.0),
                 (700.0, 820.0), (1120.0, 1680.0), (9855.0, 12045.0))
    rw, r, tu, hu, tl, hl, length, kw = x.T
    near = np.log(r / rw)
    y = 2 * np.pi * tu * (hu - hl) / (near * (1 + 2 * length * tu / (near * rw**2 * kw) + tu / tl))
    return _pair(x, y * np.exp(rng.normal(0, 0.03, 1200)), "regression")


def _piston() -> Raw:
    """Return the time that a piston takes for one cycle, in milliseconds (Kenett and Zacks 1998)."""
    rng = np.random.default_rng(3002)
    x = _between(rng, 1200, (20.0, 70.0), (0.004, 0.024), (0.001, 0.012), (500.0, 8000.0), (90000.0, 110000.0),
                 (290.0, 296.0), (340.0, 360.0))
    m, s, v0, k, p0, ta, t0 = x.T
    a = p0 * s + 19.62 * m - k * v0 / s
    v = s / (2 * k) * (np.sqrt(a**2 + 4 * k * p0 * v0 * ta / t0) - a)
    y = 2000 * np.pi * np.sqrt(m / (k + s**2 * p0 * v0 * ta / (t0 * v**2)))
    return _pair(x, y + rng.normal(0, 8.0, 1200), "regression")


def _ishigami() -> Raw:
    rng = np.random.default_rng(3003)
    x = rng.uniform(-np.pi, np.pi, (1300, 3))
    y = np.sin(x[:, 0]) + 3.0 * np.sin(x[:, 1]) ** 2 + 0.05 * x[:, 2] ** 4 * np.sin(x[:, 0])
    return _pair(x, y + rng.normal(0, 0.15, 1300), "regression")


def _pendulum() -> Raw:
    """Return angle, speed, length and friction of a pendulum; where it is after a while."""
    rng = np.random.default_rng(3004)
    x = _between(rng, 1200, (-2.0, 2.0), (-2.0, 2.0), (0.6, 2.0), (0.0, 0.8))
    angle, speed = x[:, 0].copy(), x[:, 1].copy()
    for _ in range(60):
        speed += 0.015 * (-9.81 / x[:, 2] * np.sin(angle) - x[:, 3] * speed)
        angle += 0.015 * speed
    return _pair(x, angle + rng.normal(0, 0.03, 1200), "regression")


def _lorenz() -> Raw:
    """Return eight values of Lorenz's weather, an eighth of a unit apart, and the one after them."""
    rng = np.random.default_rng(3005)
    place = rng.uniform(-10, 10, (1100, 3)) + (0.0, 0.0, 25.0)
    seen = []
    for step in range(1600):
        u, v, w = place.T
        place = place + 0.005 * np.stack([10 * (v - u), u * (28 - w) - v, u * v - 8 / 3 * w], 1)
        if step >= 800 and step % 24 == 0 and len(seen) < 9:
            seen.append(place[:, 0])
    wave = np.stack(seen, 1) + rng.normal(0, 0.3, (1100, 9))
    return _pair(wave[:, :8], wave[:, 8], "regression")


def _houses() -> Raw:
    """Return a made-up table of houses: area, rooms, age, distance, floor, garden; the price in dollars."""
    rng = np.random.default_rng(3006)
    area, age, far = rng.gamma(6.0, 18.0, 1300) + 20, rng.uniform(0, 110, 1300), rng.exponential(6.0, 1300)
    rooms, floor = np.clip(np.round(area / 27 + rng.normal(0, 0.7, 1300)), 1, 9), rng.integers(0, 8, 1300)
    garden = (rng.uniform(size=1300) < 0.4) * rng.gamma(2.0, 120.0, 1300)
    price = 2600 * area * np.exp(-far / 12) * (1 - 0.004 * np.minimum(age, 60) + 0.006 * np.maximum(age - 70, 0))
    price = price + 90 * garden * (floor == 0) + 9000 * rooms + 6000 * (floor > 4)
    return _pair(np.stack([area, rooms, age, far, floor, garden], 1), price * np.exp(rng.normal(0, 0.06, 1300)),
                 "regression")


def _relief() -> Raw:
    """Return longitude and latitude of points of a coast; the height there (a file that matplotlib brings)."""
    import matplotlib

    with np.load(Path(matplotlib.get_data_path()) / "sample_data" / "topobathy.npz") as file:
        height, east, north = file["topo"], file["longitude"], file["latitude"]
    rows, columns = (a.reshape(-1) for a in np.mgrid[0 : len(north) : 2, 0 : len(east) : 2])
    smooth = sum(height[np.clip(rows + i, 0, len(north) - 1), np.clip(columns + k, 0, len(east) - 1)]
                 for i in (-2, -1, 0, 1, 2) for k in (-2, -1, 0, 1, 2)) / 25.0
    return _pair(np.stack([east[columns], north[rows]], 1), smooth, "regression")


# -- classes ----------------------------------------------------------------------------------------------------------


def _birds() -> Raw:
    """Return millimetres, grams and degrees of three kinds of birds that are easy to tell apart."""
    rng = np.random.default_rng(3010)
    y = rng.permutation(np.arange(1200) % 3)
    middle = np.array([[38.8, 18.3, 190.0, 3700.0, 12.0], [48.8, 18.4, 196.0, 3730.0, 15.0],
                       [47.5, 15.0, 217.0, 5080.0, 9.0]])
    mixing = np.tril(rng.normal(0, 0.35, (5, 5)), -1) + np.eye(5)
    wide = np.array([2.0, 0.8, 5.0, 330.0, 1.6])
    return _pair(middle[y] + (rng.normal(size=(1200, 5)) @ mixing.T) * wide, y, "multiclass")


def _star() -> Raw:
    """Return points of a square; yes inside of a star with five arms."""
    rng = np.random.default_rng(3011)
    x = rng.uniform(-1.3, 1.3, (2000, 2))
    edge = 0.85 + 0.35 * np.cos(5 * np.arctan2(x[:, 1], x[:, 0]))
    far = np.hypot(x[:, 0], x[:, 1])
    keep = np.abs(far - edge) > 0.03
    return _pair(x[keep][:1600], (far < edge)[keep][:1600], "binary")


def _products() -> Raw:
    """Return six numbers; yes where the sum of three products of two is positive."""
    rng = np.random.default_rng(3012)
    x = rng.normal(size=(2600, 6))
    value = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3]
    keep = np.abs(value) > 0.25
    return _pair(x[keep][:1700], (value > 0)[keep][:1700], "binary")


def _churn() -> Raw:
    """Return a table of customers: months, fee, calls, gigabytes, contract, payment; whether they leave."""
    rng = np.random.default_rng(3013)
    months, fee = rng.exponential(26.0, 1500) + 1, rng.uniform(18.0, 120.0, 1500)
    calls, use = rng.poisson(1.2, 1500), rng.gamma(2.0, 14.0, 1500)
    contract, payment = rng.integers(0, 3, 1500), rng.integers(0, 4, 1500)
    tired = 1.4 * (np.exp(-months / 9) - 0.35) * (contract == 0) + 0.035 * (fee - 65) * (contract != 2)
    score = 2.2 * tired + 1.3 * (calls - 1.2) - 0.04 * (use - 28) + 0.9 * (payment == 1) - 0.4
    x = np.stack([months, fee, calls, use], 1)
    leaves = score + rng.logistic(0, 0.35, 1500) > 0
    return _pair(np.concatenate([x, np.eye(3)[contract], np.eye(4)[payment]], 1), leaves, "binary")


def _pinwheel() -> Raw:
    rng = np.random.default_rng(3014)
    y = rng.permutation(np.arange(1300) % 5)
    along, across = 1.0 + 0.3 * rng.normal(size=1300), 0.07 * rng.normal(size=1300)
    angle = 2 * np.pi * y / 5 + 0.55 * np.exp(along)
    x = np.stack([along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)], 1)
    return _pair(x, y, "multiclass")


def _countries() -> Raw:
    """Return points of a cube; the class is that of the nearest of sixteen capitals, of which four share one."""
    rng = np.random.default_rng(3015)
    capitals, x = rng.uniform(0, 1, (16, 3)), rng.uniform(0, 1, (2600, 3))
    far = ((x[:, None] - capitals[None]) ** 2).sum(-1)
    land = far.argmin(1) % 4
    near = np.sort(np.stack([np.where(np.arange(16) % 4 == k, far, 9.0).min(1) for k in range(4)], 1), 1)
    keep = np.sqrt(near[:, 1]) - np.sqrt(near[:, 0]) > 0.02
    return _pair(x[keep][:1700], land[keep][:1700], "multiclass")


def _clusters() -> Raw:
    """Return scikit-learn's clusters at the corners of a cube, with columns that are mixtures or say nothing."""
    from sklearn.datasets import make_classification

    x, y = make_classification(2000, 12, n_informative=6, n_redundant=3, n_classes=3, n_clusters_per_class=2,
                               class_sep=1.4, flip_y=0.0, random_state=3016)
    return _pair(x, y, "multiclass")


# -- signals -----------------------------------------------------------------------------------------------------------


def _chirps() -> Raw:
    """Return sounds of 40 values; yes where the tone rises."""
    rng = np.random.default_rng(3020)
    y = rng.permutation(np.arange(1300) % 2)
    t = np.arange(40) / 40
    low, wide = rng.uniform(2.0, 3.5, (1300, 1)), rng.uniform(1.5, 3.0, (1300, 1))
    tone = np.where(y[:, None] == 1, low * t + wide * t**2, (low + 2 * wide) * t - wide * t**2)
    wave = np.sin(2 * np.pi * (tone + rng.uniform(size=(1300, 1))))
    return _pair(0.5 + 0.35 * wave + rng.normal(0, 0.06, wave.shape), y, "binary")


def _beats() -> Raw:
    """Return windows of 36 values around a beat: as usual, without its wave before, or too wide."""
    rng = np.random.default_rng(3021)
    y = rng.permutation(np.arange(1200) % 3)
    t = np.arange(36) + rng.uniform(-3, 3, (1200, 1))

    def bump(middle: float, wide: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
        return high * np.exp(-0.5 * ((t - middle) / wide) ** 2)

    before = np.where(y == 1, 0.0, 0.17)[:, None] * rng.uniform(0.8, 1.2, (1200, 1))
    wide = np.where(y == 2, 2.6, 1.2)[:, None] * rng.uniform(0.85, 1.15, (1200, 1))
    wave = bump(9.0, 1.8, before) + bump(16.0, wide, rng.uniform(0.8, 1.1, (1200, 1))) + bump(26.0, 3.0, 0.25)
    return _pair(0.1 + 0.8 * wave + rng.normal(0, 0.035, wave.shape), y, "multiclass")


def _gestures() -> Raw:
    """Return 15 times two places of a hand that draws a circle, a line, a hook, or lies still."""
    rng = np.random.default_rng(3022)
    y = rng.permutation(np.arange(1200) % 4)
    t, turn = np.linspace(0, 1, 15), rng.uniform(0, 2 * np.pi, 1200)
    kinds = np.stack([
        np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], 1), np.stack([2 * t - 1, 0 * t], 1),
        np.stack([np.minimum(2 * t, 1), np.maximum(2 * t - 1, 0)], 1), np.zeros((15, 2)),
    ])
    size = rng.uniform(0.6, 1.0, (1200, 1))
    along, across = kinds[y, :, 0] * size, kinds[y, :, 1] * size
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    path = np.stack([cos * along - sin * across, sin * along + cos * across], 2)
    return _pair((path + rng.normal(0, 0.12, path.shape)).reshape(1200, 30), y, "multiclass")


# -- pictures ----------------------------------------------------------------------------------------------------------


def _textures() -> Raw:
    """Return grey pictures of 12 x 12: grains that are fine, coarse, or long in one direction."""
    rng = np.random.default_rng(3030)
    y = rng.permutation(np.arange(1100) % 3)
    down, right = np.meshgrid(np.fft.fftfreq(12), np.fft.fftfreq(12), indexing="ij")
    far = 1e-9 + down**2 + right**2
    keep = np.stack([np.exp(-((np.sqrt(far) - 0.35) ** 2) / 0.01), np.exp(-far / 0.012),
                     np.exp(-(down**2) / 0.004 - (right**2) / 0.12)])
    grain = np.fft.ifft2(np.fft.fft2(rng.normal(size=(1100, 12, 12))) * keep[y]).real
    grain /= grain.std((1, 2), keepdims=True)
    return _pair(np.clip(0.5 + 0.17 * grain + rng.normal(0, 0.05, grain.shape), 0, 1).reshape(1100, -1), y,
                 "multiclass")


_LETTERS = {
    "A": "01110 10001 10001 11111 10001 10001 10001", "E": "11111 10000 10000 11110 10000 10000 11111",
    "H": "10001 10001 10001 11111 10001 10001 10001", "K": "10001 10010 10100 11000 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110", "Z": "11111 00001 00010 00100 01000 10000 11111",
}


def _letters() -> Raw:
    """Return pictures of 11 x 9 with one of six letters, somewhere, on paper with stains."""
    rng = np.random.default_rng(3031)
    y = rng.permutation(np.arange(1800) % 6)
    shapes = [np.array([[float(c) for c in row] for row in text.split()]) for text in _LETTERS.values()]
    pictures = rng.uniform(0, 60, (1800, 11, 9))
    for picture, kind in zip(pictures, y.tolist(), strict=True):
        top, left = rng.integers(0, 5), rng.integers(0, 5)
        picture[top : top + 7, left : left + 5] += shapes[kind] * rng.uniform(120, 190)
    return _pair(pictures.reshape(1800, -1), y, "multiclass")


def _bars() -> Raw:
    """Return pictures of 10 x 10 with a bar; how far it leans to one side or the other, in degrees."""
    rng = np.random.default_rng(3032)
    lean = rng.uniform(-60, 60, 1100)
    rows, columns = np.mgrid[0:10, 0:10]
    top, left = (rng.uniform(3.5, 5.5, (1100, 1, 1)) for _ in range(2))
    a = np.radians(lean)[:, None, None]
    across = (columns - left) * np.cos(a) + (rows - top) * np.sin(a)
    along = (columns - left) * np.sin(a) - (rows - top) * np.cos(a)
    bar = np.exp(-0.5 * (across / 0.8) ** 2) * (np.abs(along) < 4.0)
    return _pair((0.9 * bar + rng.uniform(0, 0.1, bar.shape)).reshape(1100, -1), np.abs(lean), "regression")


def _photographs() -> Raw:
    """Return patches of 6 x 6 of two photographs in colour (scikit-learn's): yes for those of the flower."""
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(3033)
    rows = []
    for name in ("china.jpg", "flower.jpg"):
        picture = np.asarray(load_sample_image(name), np.float32)
        high, wide = (size // 3 * 3 for size in picture.shape[:2])
        small = picture[:high, :wide].reshape(high // 3, 3, wide // 3, 3, 3).mean((1, 3))
        tiles = [small[i : i + 6, k : k + 6] for i in range(0, high // 3 - 5, 6) for k in range(0, wide // 3 - 5, 6)]
        rows.append(np.stack([tiles[i] for i in rng.permutation(len(tiles))[:800]]))
    x = np.concatenate(rows).reshape(-1, 108)
    return _pair(x, np.repeat([0, 1], [len(part) for part in rows]), "binary")


def _holes() -> Raw:
    """Return MNIST's 40000th to 44000th training image, without its border, at a third of the size: any hole in it?"""
    data = db.datasets.mnist(needed("mnist"))
    images = np.asarray(data.x[40_000:44_000], np.float32).reshape(-1, 28, 28)[:, 2:26, 2:26]
    small = images.reshape(-1, 8, 3, 8, 3).mean((2, 4))
    return _pair(small.reshape(len(small), -1), np.isin(np.asarray(data.y[40_000:44_000]), [0, 6, 8, 9]), "binary")


def _tall_digits() -> Raw:
    """Return MNIST's images of 2, 3, 4, 5 and 8 from the 50000th on, moved a little; every second row and column."""
    data = db.datasets.mnist(needed("mnist"))
    kinds, rng = [2, 3, 4, 5, 8], np.random.default_rng(3034)
    y = np.asarray(data.y[50_000:56_000])
    keep = np.isin(y, kinds)
    images = np.asarray(data.x[50_000:56_000], np.float32).reshape(-1, 28, 28)[keep]
    moved = zip(images, *rng.integers(-2, 3, (2, len(images))).tolist(), strict=True)
    images = np.stack([np.roll(image, (down, right), (0, 1))[::2, 4:24:2] for image, down, right in moved])
    return _pair(images.reshape(len(images), -1), np.searchsorted(kinds, y[keep]), "multiclass")


# -- signs -------------------------------------------------------------------------------------------------------------


def _chains() -> Raw:
    """Return twelve of nine signs that follow each other by one of three laws: which one?"""
    rng = np.random.default_rng(3040)
    laws = np.cumsum(rng.dirichlet(np.full(9, 0.35), (3, 9)), -1)
    y = rng.permutation(np.arange(1600) % 3)
    x = [rng.integers(0, 9, 1600)]
    for _ in range(11):
        x.append((rng.uniform(size=(1600, 1)) > laws[y, x[-1]]).sum(1).clip(0, 8))
    return _pair(np.stack(x, 1), y, "multiclass")


def _follows() -> Raw:
    """Return ten of seven signs; yes where somewhere a 2 stands right behind a 5."""
    rng = np.random.default_rng(3041)
    x = rng.integers(0, 7, (12000, 10))
    hit = ((x[:, :-1] == 5) & (x[:, 1:] == 2)).any(1)
    near = (x == 5).any(1) & (x == 2).any(1)
    rows = np.concatenate([np.flatnonzero(hit)[:800], np.flatnonzero(~hit & near)[:800]])
    return _pair(x[rows], hit[rows], "binary")


def _reviews() -> Raw:
    """Return nine of ten words, one of which turns the worth of the next into its opposite; what all are worth."""
    rng = np.random.default_rng(3042)
    worth = np.append(rng.normal(0, 1.0, 9), 0.0)
    x = np.where(rng.uniform(size=(2600, 9)) < 0.25, 9, rng.integers(0, 9, (2600, 9)))
    turned = np.concatenate([np.zeros((2600, 1), bool), x[:, :-1] == 9], 1)
    y = np.where(turned, -worth[x], worth[x]).sum(1)
    return _pair(x, 10.0 + 2.0 * y + rng.normal(0, 0.5, 2600), "regression")


def _verse() -> Raw:
    """Return fourteen letters of Shakespeare: from the inside of a line, or across the end of one?"""
    text = (needed("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")[400_000:560_000].lower()
    letters = {c: i + 3 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")} | {" ": 1, "\n": 1}
    ids = np.array([letters.get(c, 0) for c in text])
    ends = np.array([c == "\n" for c in text])
    starts = np.arange(0, len(ids) - 14, 14)
    windows = np.stack([np.arange(s, s + 14) for s in starts])
    inside = ends[windows][:, 3:11].any(1)
    clear = inside | ~ends[windows].any(1)
    x, y = ids[windows][clear], inside[clear]
    rows = np.sort(np.concatenate([np.flatnonzero(y)[:1500], np.flatnonzero(~y)[:1500]]))
    return _pair(x[rows], y[rows], "binary")


SOURCES: dict[str, Source] = {
    "borehole": Source("regression", 8, 0, _borehole),
    "piston": Source("regression", 7, 0, _piston),
    "ishigami": Source("regression", 3, 0, _ishigami),
    "pendulum": Source("regression", 4, 0, _pendulum),
    "lorenz": Source("regression", 8, 0, _lorenz),
    "houses": Source("regression", 6, 0, _houses),
    "relief": Source("regression", 2, 0, _relief),
    "birds": Source("multiclass", 5, 3, _birds),
    "star": Source("binary", 2, 2, _star),
    "products": Source("binary", 6, 2, _products),
    "churn": Source("binary", 11, 2, _churn),
    "pinwheel": Source("multiclass", 2, 5, _pinwheel),
    "countries": Source("multiclass", 3, 4, _countries),
    "clusters": Source("multiclass", 12, 3, _clusters),
    "chirps": Source("binary", 40, 2, _chirps, brightest=1.0),
    "beats": Source("multiclass", 36, 3, _beats, brightest=1.0),
    "gestures": Source("multiclass", 30, 4, _gestures, brightest=1.0),
    "textures": Source("multiclass", 144, 3, _textures, brightest=1.0),
    "letters": Source("multiclass", 99, 6, _letters, brightest=250.0),
    "bars": Source("regression", 100, 0, _bars, brightest=1.0),
    "photographs": Source("binary", 108, 2, _photographs, brightest=255.0),
    "holes": Source("binary", 64, 2, _holes, brightest=255.0),
    "tall_digits": Source("multiclass", 140, 5, _tall_digits, brightest=255.0),
    "chains": Source("multiclass", 12, 3, _chains, signs=9),
    "follows": Source("binary", 10, 2, _follows, signs=7),
    "reviews": Source("regression", 9, 0, _reviews, signs=10),
    "verse": Source("binary", 14, 2, _verse, signs=29),
}
