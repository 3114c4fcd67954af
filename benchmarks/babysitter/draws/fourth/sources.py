"""Data of this draw: circuits, wings, prices, hares, patients, radio, stars, flags, codons, calls, scrambled prose."""

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


# -- numbers from formulas and from simulations ------------------------------------------------------------------------


def _amplifier() -> Raw:
    """Return the mid-point voltage of an output transformerless circuit (Ben-Ari and Steinberg 2007), in millivolts."""
    rng = np.random.default_rng(4001)
    x = _between(rng, 1200, (50.0, 150.0), (25.0, 70.0), (0.5, 3.0), (1.2, 2.5), (0.25, 1.2), (50.0, 300.0))
    rb1, rb2, rf, rc1, rc2, beta = x.T
    vb1, gain = 12 * rb2 / (rb1 + rb2), beta * (rc2 + 9)
    y = (vb1 + 0.74) * gain / (gain + rf) + 11.35 * rf / (gain + rf) + 0.74 * rf * gain / ((gain + rf) * rc1)
    return _pair(x, 1000.0 * (y + rng.normal(0, 0.05, 1200)), "regression")


def _wing() -> Raw:
    """Return the weight of a light aircraft's wing in pounds (Forrester et al. 2008), of ten measures."""
    rng = np.random.default_rng(4002)
    x = _between(rng, 1200, (150.0, 200.0), (220.0, 300.0), (6.0, 10.0), (-10.0, 10.0), (16.0, 45.0), (0.5, 1.0),
                 (0.08, 0.18), (2.5, 6.0), (1700.0, 2500.0), (0.025, 0.08))
    area, fuel, aspect, sweep, pressure, taper, thick, load, heavy, paint = x.T
    cos = np.cos(np.radians(sweep))
    y = (0.036 * area**0.758 * fuel**0.0035 * (aspect / cos**2) ** 0.6 * pressure**0.006 * taper**0.04
         * (100 * thick / cos) ** -0.3 * (load * heavy) ** 0.49 + area * paint)
    return _pair(x, y + rng.normal(0, 5.0, 1200), "regression")


def _option() -> Raw:
    """Return what a call costs by the formula of Black and Scholes: price, strike, years, interest, volatility."""
    rng = np.random.default_rng(4003)
    x = _between(rng, 1200, (60.0, 140.0), (70.0, 130.0), (0.1, 2.0), (0.0, 0.08), (0.1, 0.6))
    now, strike, years, interest, wide = x.T
    up = (np.log(now / strike) + (interest + wide**2 / 2) * years) / (wide * np.sqrt(years))

    def normal(z: np.ndarray) -> np.ndarray:
        return 0.5 * (1.0 + np.tanh(0.7978846 * (z + 0.044715 * z**3)))

    y = now * normal(up) - strike * np.exp(-interest * years) * normal(up - wide * np.sqrt(years))
    return _pair(x, y + rng.normal(0, 0.4, 1200), "regression")


def _hares() -> Raw:
    """Return hares, lynxes and how both grow (Lotka and Volterra); the hares, as a logarithm, two years later."""
    rng = np.random.default_rng(4004)
    x = _between(rng, 1200, (5.0, 40.0), (3.0, 20.0), (0.6, 1.1), (0.03, 0.06))
    hares, lynxes = x[:, 0].copy(), x[:, 1].copy()
    for _ in range(200):
        hares, lynxes = (hares + 0.01 * hares * (x[:, 2] - x[:, 3] * lynxes),
                         lynxes + 0.01 * lynxes * (0.025 * hares - 0.6))
    return _pair(x, np.log(hares) + rng.normal(0, 0.05, 1200), "regression")


def _throw() -> Raw:
    """Return speed, angle, drag and height of a throw; how far it goes, in metres."""
    rng = np.random.default_rng(4005)
    x = _between(rng, 1200, (10.0, 40.0), (10.0, 80.0), (0.0, 0.04), (0.0, 20.0))
    speed, angle = x[:, 0], np.radians(x[:, 1])
    u, v, far, high = speed * np.cos(angle), speed * np.sin(angle), np.zeros(1200), x[:, 3].copy()
    for _ in range(450):
        flies = high >= 0.0
        slow = x[:, 2] * np.hypot(u, v)
        u, v = u - 0.02 * slow * u, v - 0.02 * (9.81 + slow * v)
        far, high = far + 0.02 * flies * u, high + 0.02 * flies * v
    return _pair(x, far + rng.normal(0, 1.0, 1200), "regression")


def _blood() -> Raw:
    """Return ten values of Mackey and Glass' blood cells, four hours apart, and the one after them."""
    rng = np.random.default_rng(4006)
    past = [rng.uniform(0.4, 1.4, 1100) for _ in range(18)]
    for _ in range(260):
        past.append(past[-1] + 0.2 * past[-18] / (1 + past[-18] ** 10) - 0.1 * past[-1])
    wave = np.stack(past[-81::8], 1)[:, :11]
    return _pair(wave[:, :10] + rng.normal(0, 0.01, (1100, 10)), wave[:, 10], "regression")


def _boilers() -> Raw:
    """Return a made-up table of heated houses: floor, glass, thickness, frost, people, kind; kilowatt hours a year."""
    rng = np.random.default_rng(4007)
    floor, glass = rng.uniform(60, 320, 1200), rng.beta(2, 5, 1200)
    thick, frost = rng.uniform(2, 30, 1200), rng.normal(3200, 500, 1200)
    people, kind = rng.integers(1, 7, 1200), rng.integers(0, 3, 1200)
    loss = floor * (0.25 + 1.8 * glass + 6.0 / (4.0 + thick)) * np.array([1.0, 0.75, 0.6])[kind]
    y = loss * frost * 0.024 + 850.0 * people - 900.0 * glass * (kind == 2) * people
    x = np.stack([floor, glass, thick, frost, people], 1)
    return _pair(np.concatenate([x, np.eye(3)[kind]], 1), y * np.exp(rng.normal(0, 0.04, 1200)), "regression")


def _ackley() -> Raw:
    """Return a bowl with dents (Ackley 1987) in three directions."""
    rng = np.random.default_rng(4008)
    x = rng.uniform(-1.2, 1.2, (1400, 3))
    y = -20 * np.exp(-0.2 * np.sqrt((x**2).mean(1))) - 2.0 * np.exp(np.cos(np.pi * x).mean(1)) + 25
    return _pair(x, y + rng.normal(0, 0.05, 1400), "regression")


# -- classes of tables -------------------------------------------------------------------------------------------------


def _crops() -> Raw:
    """Return nitrogen, phosphorus, potassium, degrees, damp, acidity, rain of fields; what grows there, of four."""
    rng = np.random.default_rng(4010)
    y = rng.permutation(np.arange(1300) % 4)
    middle = np.array([[80, 48, 40, 23.7, 82, 6.4, 236], [78, 48, 20, 22.4, 65, 6.2, 85],
                       [40, 68, 80, 18.9, 17, 7.3, 80], [22, 12, 10, 22.7, 92, 7.0, 108]])
    wide = np.array([24, 14, 14, 2.9, 11, 0.55, 38])
    return _pair(middle[y] + rng.normal(size=(1300, 7)) * wide, y, "multiclass")


def _triage() -> Raw:
    """Return temperature, pulse, pressure, oxygen, age and pain of patients; how urgent they are, of three grades."""
    rng = np.random.default_rng(4011)
    x = np.stack([rng.normal(37.2, 0.9, 2800), rng.normal(86, 18, 2800), rng.normal(128, 22, 2800),
                  100 - rng.gamma(2.0, 1.8, 2800), rng.uniform(1, 95, 2800), rng.integers(0, 11, 2800)], 1)
    hot, pulse, pressure, oxygen, age, pain = x.T
    score = 1.2 * np.maximum(hot - 37.8, 0) ** 1.5 + np.abs(pulse - 82) / 16 + np.maximum(105 - pressure, 0) / 8
    score = score + np.maximum(95 - oxygen, 0) * 0.8 + (age > 68) * 0.9 + 0.16 * pain + rng.normal(0, 0.1, 2800)
    return _pair(x, np.digitize(score, np.quantile(score, (1 / 3, 2 / 3))), "multiclass")


def _waveform() -> Raw:
    """Return Breiman's waves (1984): 21 values, a mixture of two of three triangles, with noise."""
    rng = np.random.default_rng(4012)
    y = rng.permutation(np.arange(1400) % 3)
    t = np.arange(1, 22)
    hats = np.stack([np.maximum(6 - np.abs(t - place), 0) for place in (11, 15, 7)])
    share = rng.uniform(size=(1400, 1))
    first, second = np.array([0, 0, 1])[y], np.array([1, 2, 2])[y]
    return _pair(share * hats[first] + (1 - share) * hats[second] + rng.normal(0, 0.8, (1400, 21)), y, "multiclass")


def _ringnorm() -> Raw:
    """Return Breiman's rings (1996): two clouds in ten directions, one of them twice as wide, the other one shifted."""
    rng = np.random.default_rng(4013)
    y = rng.permutation(np.arange(1800) % 2)
    x = rng.normal(size=(1800, 10)) * np.where(y, 1.0, 2.0)[:, None] + np.where(y, 0.6, 0.0)[:, None]
    return _pair(x, y, "binary")


def _display() -> Raw:
    """Return a display of seven bars, read with noise, and five readings of nothing; which of ten digits it shows."""
    rng = np.random.default_rng(4014)
    bars = np.array([[int(c) for c in row] for row in (
        "1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011")])
    y = rng.permutation(np.arange(1700) % 10)
    seen = np.concatenate([bars[y], rng.integers(0, 2, (1700, 5))], 1)
    return _pair(seen + rng.normal(0, 0.3, seen.shape), y, "multiclass")


def _yin_yang() -> Raw:
    """Return points of a disc and their mirror images; the class is yin, yang, or one of the dots (Kriener 2022)."""
    rng = np.random.default_rng(4015)
    x = rng.uniform(-1, 1, (9000, 2))
    up, down = np.hypot(x[:, 0], x[:, 1] - 0.5), np.hypot(x[:, 0], x[:, 1] + 0.5)
    yin = (up < 0.5) | ((x[:, 0] < 0) & (down >= 0.5))
    y = np.where((up < 0.24) | (down < 0.24), 2, yin.astype(int))
    inside = np.hypot(*x.T) < 1.0
    rows = np.concatenate([np.flatnonzero(inside & (y == k))[:500] for k in range(3)])
    return _pair(np.concatenate([x, 1.0 - x], 1)[rows], y[rows], "multiclass")


def _links() -> Raw:
    """Return points of two rings in space, linked like those of a chain."""
    rng = np.random.default_rng(4016)
    y = rng.permutation(np.arange(1300) % 2)
    t = rng.uniform(0, 2 * np.pi, 1300)
    flat = np.stack([np.cos(t), np.sin(t), 0 * t], 1)
    steep = np.stack([1.0 + np.cos(t), 0 * t, np.sin(t)], 1)
    return _pair(np.where(y[:, None] == 1, steep, flat) + rng.normal(0, 0.17, (1300, 3)), y, "binary")


def _darts() -> Raw:
    """Return places where darts hit; which of four colours the field has, by ring and sector."""
    rng = np.random.default_rng(4017)
    x = rng.uniform(-1, 1, (3500, 2))
    far, turn = np.hypot(*x.T), (np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi)) % 1.0 * 6
    ring = np.digitize(far, (0.55,))
    keep = (far < 1.0) & (far > 0.1) & (np.abs(far - 0.55) > 0.03) & (np.abs(turn - np.round(turn)) > 0.05)
    return _pair(x[keep][:1800], (2 * ring + np.floor(turn) % 2)[keep][:1800], "multiclass")


def _teacher() -> Raw:
    """Return eight numbers, and which of three outputs of a drawn network is the largest."""
    rng = np.random.default_rng(4018)
    x = rng.normal(size=(3000, 8))
    out = np.tanh(x @ rng.normal(0, 0.6, (8, 6))) @ rng.normal(0, 1.0, (6, 3))
    out = (out - out.mean(0)) / out.std(0)
    best = np.sort(out, 1)
    keep = best[:, 2] - best[:, 1] > 0.25
    return _pair(x[keep][:1600], out[keep][:1600].argmax(1), "multiclass")


def _fraud() -> Raw:
    """Return euros, hour, distance, days since the last one, shops and kind of payments; which ones were reported."""
    rng = np.random.default_rng(4019)
    euros, hour = rng.lognormal(3.6, 1.0, 1600), rng.uniform(0, 24, 1600)
    far, days, shops = rng.exponential(40.0, 1600), rng.gamma(1.5, 3.0, 1600), rng.poisson(3.0, 1600)
    kind = rng.integers(0, 3, 1600)
    night = np.cos(2 * np.pi * (hour - 3) / 24)
    score = 0.9 * (np.log(euros) - 3.6) + 1.4 * night * (kind != 0) + 0.9 * np.log1p(far / 20) - 0.25 * days
    score = score + 0.35 * (shops - 3) * (kind == 2) + 0.2 + rng.logistic(0, 0.2, 1600)
    x = np.stack([euros, hour, far, days, shops], 1)
    return _pair(np.concatenate([x, np.eye(3)[kind]], 1), score > np.median(score), "binary")


# -- signals -----------------------------------------------------------------------------------------------------------


def _modulated() -> Raw:
    """Return radio of 48 values: the height, the pitch, or the place in the wave carries what is said."""
    rng = np.random.default_rng(4020)
    y = rng.permutation(np.arange(1300) % 3)
    t = np.arange(48) / 48
    said = np.repeat(rng.integers(0, 2, (1300, 4)), 12, 1)
    said[:, :12], said[:, 12:24] = 0, 1  # something is said at least
    high = np.where(y[:, None] == 0, 0.35 + 0.65 * said, 1.0)
    pitch = np.where(y[:, None] == 1, 5.0 + 5.0 * said, 7.0)
    turn = np.cumsum(pitch, 1) / 48 + np.where(y[:, None] == 2, 0.5 * said, 0.0)
    wave = high * np.sin(2 * np.pi * (turn + rng.uniform(size=(1300, 1)) + 0 * t))
    return _pair(0.5 + 0.4 * wave + rng.normal(0, 0.04, wave.shape), y, "multiclass")


def _spectra() -> Raw:
    """Return how much light of 30 colours a mixture of three dyes takes; how much of the second dye is in it."""
    rng = np.random.default_rng(4021)
    place = np.arange(30)
    dyes = np.stack([np.exp(-0.5 * ((place - middle) / wide) ** 2) for middle, wide in ((9, 4), (15, 3.5), (20, 5))])
    much = rng.uniform(0.05, 1.0, (1100, 3))
    passed = np.exp(-1.4 * much @ dyes) * (1 + 0.04 * rng.normal(size=(1100, 1)))
    return _pair(passed + rng.normal(0, 0.012, passed.shape), 100.0 * much[:, 1], "regression")


def _quakes() -> Raw:
    """Return 40 values of the ground's unrest and a shock that fades; when it came."""
    rng = np.random.default_rng(4022)
    start = rng.uniform(5, 28, (1200, 1))
    t = np.arange(40) - start
    shock = (t > 0) * np.exp(-np.maximum(t, 0) / rng.uniform(4, 9, (1200, 1))) * np.sin(
        rng.uniform(1.0, 1.6, (1200, 1)) * t)
    wave = 0.5 + 0.4 * shock + rng.normal(0, 0.03, shock.shape)
    return _pair(wave, start[:, 0], "regression")


def _moods() -> Raw:
    """Return courses of 36 values that go on as they went, or turn back each time: yes for the first."""
    rng = np.random.default_rng(4023)
    y = rng.permutation(np.arange(1200) % 2)
    keep = np.where(y, rng.uniform(0.3, 0.8, 1200), rng.uniform(-0.5, -0.05, 1200))
    course = [rng.normal(size=1200)]
    for _ in range(35):
        course.append(keep * course[-1] + np.sqrt(1 - keep**2) * rng.normal(size=1200))
    return _pair(np.clip(0.5 + 0.15 * np.stack(course, 1), 0, 1), y, "binary")


def _meters() -> Raw:
    """Return a day of 24 hours of current: an office, a home, a bakery, a workshop."""
    rng = np.random.default_rng(4024)
    y = rng.permutation(np.arange(1300) % 4)
    t = np.arange(24) + rng.normal(0, 0.8, (1300, 1))

    def hill(middle: float, wide: float) -> np.ndarray:
        return np.exp(-0.5 * ((t - middle) / wide) ** 2)

    kinds = np.stack([hill(13, 3.2), 0.6 * hill(7.5, 1.4) + 0.9 * hill(19.5, 2.0), hill(4.5, 2.2) + 0.3 * hill(12, 3),
                      0.9 * hill(10, 1.8) + 0.8 * hill(15, 1.8)])
    wave = kinds[y, np.arange(1300)] * rng.uniform(0.5, 1.0, (1300, 1)) + 0.1
    return _pair(wave + rng.normal(0, 0.09, wave.shape), y, "multiclass")


# -- pictures ----------------------------------------------------------------------------------------------------------


def _arrows() -> Raw:
    """Return pictures of 11 x 11 with an arrow, somewhere: up, down, left or right."""
    rng = np.random.default_rng(4030)
    y = rng.permutation(np.arange(1300) % 4)
    arrow = np.array([[int(c) for c in row] for row in ["00100", "01110", "10101", "00100", "00100", "00100"]], float)
    pictures = rng.uniform(0, 60, (1300, 11, 11))
    for picture, kind in zip(pictures, y.tolist(), strict=True):
        shape = np.rot90(arrow, kind)
        high, wide = shape.shape
        top, left = rng.integers(0, 12 - high), rng.integers(0, 12 - wide)
        picture[top : top + high, left : left + wide] += shape * rng.uniform(110, 190)
    return _pair(pictures.reshape(1300, -1), y, "multiclass")


def _stars() -> Raw:
    """Return pictures of 10 x 10 with a blurred star before the light of the town; how bright the star is."""
    rng = np.random.default_rng(4031)
    bright = rng.uniform(0.15, 1.0, (1200, 1, 1))
    rows, columns = np.mgrid[0:10, 0:10]
    top, left = (rng.uniform(2.5, 6.5, (1200, 1, 1)) for _ in range(2))
    blur = rng.uniform(0.9, 1.6, (1200, 1, 1))
    star = bright * np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * blur**2))
    sky = rng.uniform(0, 0.25, (1200, 1, 1)) + rng.normal(0, 0.02, star.shape)
    return _pair((star + sky).reshape(1200, -1), bright.reshape(-1) * 1000.0, "regression")


def _flags() -> Raw:
    """Return flags of 8 x 8 in colour, in bad light: three bars across, three down, a cross, or one corner."""
    rng = np.random.default_rng(4032)
    y = rng.permutation(np.arange(1400) % 4)
    rows, columns = np.mgrid[0:8, 0:8]
    cross = ((np.abs(rows - 3.5) < 1) | (np.abs(columns - 2.5) < 1)).astype(int)
    corner = ((rows < 4) & (columns < 4)).astype(int)
    kinds = np.stack([rows * 3 // 8, columns * 3 // 8, cross, corner])
    pictures = np.zeros((1400, 8, 8, 3))
    for picture, kind in zip(pictures, y.tolist(), strict=True):
        colours = rng.permutation(np.array([[0.9, 0.1, 0.1], [0.9, 0.9, 0.9], [0.1, 0.2, 0.7], [0.1, 0.6, 0.2]]))
        picture[:] = colours[kinds[kind]]
    light = rng.uniform(0.6, 1.0, (1400, 1, 1, 1))
    return _pair((pictures * light + rng.normal(0, 0.08, pictures.shape)).reshape(1400, -1) * 250.0, y, "multiclass")


def _grids() -> Raw:
    """Return pictures of 9 x 9 from a microscope: is there a break in the lattice?"""
    rng = np.random.default_rng(4033)
    y = rng.permutation(np.arange(1300) % 2)
    rows, columns = np.mgrid[0:9, 0:9]
    down, right = (rng.uniform(0, 3, (1300, 1, 1)) for _ in range(2))
    lattice = 0.5 + 0.25 * (np.cos(2 * np.pi * (rows - down) / 3) + np.cos(2 * np.pi * (columns - right) / 3)) / 2
    top, left = (rng.uniform(2, 6, (1300, 1, 1)) for _ in range(2))
    hole = np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / 4.0) * y[:, None, None]
    picture = lattice * (1 - 0.9 * hole) + rng.normal(0, 0.04, lattice.shape)
    return _pair(picture.reshape(1300, -1), y, "binary")


def _hand(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's training images from one to another (28 x 28), and what they are."""
    data = db.datasets.mnist(needed("mnist"))
    return (np.asarray(data.x[first:last], np.float32).reshape(-1, 28, 28), np.asarray(data.y[first:last]))


def _alike() -> Raw:
    """Return MNIST's images of 3, 5, 7 and 9 from the 20000th on, at half the size and turned by a quarter."""
    kinds = [3, 5, 7, 9]
    images, y = _hand(20_000, 25_500)
    keep = np.isin(y, kinds)
    small = np.rot90(images[keep].reshape(-1, 14, 2, 14, 2).mean((2, 4)), axes=(1, 2))
    return _pair(small.reshape(len(small), -1), np.searchsorted(kinds, y[keep]), "multiclass")


def _upper_halves() -> Raw:
    """Return the upper halves of MNIST's images from the 30000th on, at a third of the size: a digit below 5?"""
    images, y = _hand(30_000, 33_500)
    small = images[:, 2:17, 2:26].reshape(-1, 5, 3, 8, 3).mean((2, 4))
    return _pair(small.reshape(len(small), -1), y < 5, "binary")


# -- signs -------------------------------------------------------------------------------------------------------------


def _codons() -> Raw:
    """Return twelve of four bases; which of two motifs of four bases is there, or none."""
    rng = np.random.default_rng(4040)
    x = rng.integers(0, 4, (2400, 12))
    y = rng.permutation(np.arange(2400) % 3)
    motifs = np.array([[3, 0, 3, 0], [1, 2, 2, 1]])
    for row, kind in zip(x, y.tolist(), strict=True):
        if kind < 2:
            start = rng.integers(0, 9)
            row[start : start + 4] = motifs[kind]
    has = np.stack([(np.lib.stride_tricks.sliding_window_view(x, 4, 1) == m).all(-1).any(1) for m in motifs], 1)
    right = np.where(y == 2, ~has.any(1), has.sum(1) == 1)
    return _pair(x[right], y[right], "multiclass")


def _callers() -> Raw:
    """Return twelve of eight calls; which of the first three calls came last."""
    rng = np.random.default_rng(4041)
    x = rng.integers(0, 8, (2200, 12))
    x = x[(x < 3).any(1)][:1600]
    last = 11 - (x[:, ::-1] < 3).argmax(1)
    return _pair(x, x[np.arange(len(x)), last], "multiclass")


def _scrambled() -> Raw:
    """Return sixteen letters of Shakespeare: as they were written, or in any order?"""
    rng = np.random.default_rng(4042)
    text = (needed("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")[700_000:796_000].lower()
    letters = {c: i + 2 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")} | {" ": 1, "\n": 1}
    ids = np.array([letters.get(c, 0) for c in text])
    x = ids[: len(ids) // 16 * 16].reshape(-1, 16).copy()
    y = rng.permutation(np.arange(len(x)) % 2)
    x[y == 0] = rng.permuted(x[y == 0], axis=1)
    return _pair(x, y, "binary")


def _baskets() -> Raw:
    """Return six of eight goods; what all cost together: each further one a tenth less, and some pairs less."""
    rng = np.random.default_rng(4043)
    x = rng.integers(0, 8, (2200, 6))
    cost = rng.uniform(1.0, 9.0, 8)
    y = cost[x] @ (1.0 - 0.1 * np.arange(6)) - 4.0 * ((x[:, 0] < 3) & (x[:, 1] >= 5))
    return _pair(x, y + rng.normal(0, 0.5, 2200), "regression")


SOURCES: dict[str, Source] = {
    "amplifier": Source("regression", 6, 0, _amplifier),
    "wing": Source("regression", 10, 0, _wing),
    "option": Source("regression", 5, 0, _option),
    "hares": Source("regression", 4, 0, _hares),
    "throw": Source("regression", 4, 0, _throw),
    "blood": Source("regression", 10, 0, _blood),
    "boilers": Source("regression", 8, 0, _boilers),
    "ackley": Source("regression", 3, 0, _ackley),
    "crops": Source("multiclass", 7, 4, _crops),
    "triage": Source("multiclass", 6, 3, _triage),
    "waveform": Source("multiclass", 21, 3, _waveform),
    "ringnorm": Source("binary", 10, 2, _ringnorm),
    "display": Source("multiclass", 12, 10, _display),
    "yin_yang": Source("multiclass", 4, 3, _yin_yang),
    "links": Source("binary", 3, 2, _links),
    "darts": Source("multiclass", 2, 4, _darts),
    "teacher": Source("multiclass", 8, 3, _teacher),
    "fraud": Source("binary", 8, 2, _fraud),
    "modulated": Source("multiclass", 48, 3, _modulated, brightest=1.0),
    "spectra": Source("regression", 30, 0, _spectra, brightest=1.0),
    "quakes": Source("regression", 40, 0, _quakes, brightest=1.0),
    "moods": Source("binary", 36, 2, _moods, brightest=1.0),
    "meters": Source("multiclass", 24, 4, _meters, brightest=1.0),
    "arrows": Source("multiclass", 121, 4, _arrows, brightest=250.0),
    "stars": Source("regression", 100, 0, _stars, brightest=1.0),
    "flags": Source("multiclass", 192, 4, _flags, brightest=250.0),
    "grids": Source("binary", 81, 2, _grids, brightest=1.0),
    "alike": Source("multiclass", 196, 4, _alike, brightest=255.0),
    "upper_halves": Source("binary", 40, 2, _upper_halves, brightest=255.0),
    "codons": Source("multiclass", 12, 3, _codons, signs=4),
    "callers": Source("multiclass", 12, 3, _callers, signs=8),
    "scrambled": Source("binary", 16, 2, _scrambled, signs=28),
    "baskets": Source("regression", 6, 0, _baskets, signs=8),
}
