"""Data of this draw."""

from __future__ import annotations

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.raw import Raw, Source, blobs, bundled, needed, table


def _mnist(side: int) -> Raw:
    """Return 6000 digits, averaged down to `side` by `side`."""
    data = db.datasets.mnist(needed("mnist"))
    images = np.asarray(data.x[:6000], np.float32).reshape(6000, side, 28 // side, side, 28 // side)
    return images.mean(axis=(2, 4)).reshape(6000, -1), np.asarray(data.y[:6000], np.int64), "multiclass"


def _spirals() -> Raw:
    rng = np.random.default_rng(103)
    y = np.arange(1200) % 3
    t = np.sqrt(rng.uniform(0.02, 1, 1200))
    angle = 5.0 * t + y * 2 * np.pi / 3 + rng.normal(0, 0.12, 1200)
    return np.stack([t * np.cos(angle), t * np.sin(angle)], 1).astype(np.float32), y, "multiclass"


def _friedman() -> Raw:
    """Return Friedman's first function (1991), the usual test of regressions."""
    rng = np.random.default_rng(105)
    x = rng.uniform(0, 1, (1000, 8))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x.astype(np.float32), (y + rng.normal(0, 1, 1000)).astype(np.float32), "regression"


def _gratings() -> Raw:
    """Return images of 10 x 10 with stripes in one of four directions."""
    rng = np.random.default_rng(106)
    y = np.arange(1000) % 4
    rows, columns = np.mgrid[0:10, 0:10] / 10.0
    angle = y * np.pi / 4 + rng.normal(0, 0.12, 1000)
    phase = rng.uniform(0, 2 * np.pi, 1000)
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    images = 0.5 + 0.35 * np.sin(12.0 * along + phase[:, None, None]) + rng.normal(0, 0.15, (1000, 10, 10))
    return images.reshape(1000, -1).astype(np.float32), y, "multiclass"


SOURCES: dict[str, Source] = {
    "breast_cancer": Source("binary", 30, 2, lambda: bundled("breast_cancer")),
    "heart": Source("binary", 29, 2, lambda: bundled("heart")),
    "concrete": Source("regression", 8, 0, lambda: table("concrete", -1)),
    "mnist": Source("multiclass", 196, 10, lambda: _mnist(14), brightest=255.0),
    "spirals": Source("multiclass", 2, 3, _spirals),
    "blobs6": Source("multiclass", 10, 6, lambda: blobs(108, 6, 10, 1.0)),
    "friedman": Source("regression", 8, 0, _friedman),
    "gratings": Source("multiclass", 100, 4, _gratings, brightest=1.0),
}
