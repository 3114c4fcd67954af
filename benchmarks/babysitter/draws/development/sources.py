"""Data of this draw."""

from __future__ import annotations

import numpy as np

from benchmarks.babysitter.raw import Raw, Source, blobs, bundled, table


def _circles() -> Raw:
    rng = np.random.default_rng(101)
    y = np.arange(1000) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 1000), np.where(y, 2.0, 1.0) + rng.normal(0, 0.18, 1000)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), y, "binary"


def _moons() -> Raw:
    rng = np.random.default_rng(102)
    y = np.arange(900) % 2
    t = rng.uniform(0, np.pi, 900)
    x = np.where(y[:, None] == 0, np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1))
    return (x + rng.normal(0, 0.15, x.shape)).astype(np.float32), y, "binary"


def _waves() -> Raw:
    rng = np.random.default_rng(104)
    x = rng.uniform(-1, 1, (900, 4))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2 + rng.normal(0, 0.1, 900)
    return x.astype(np.float32), y.astype(np.float32), "regression"


SOURCES: dict[str, Source] = {
    "digits": Source("multiclass", 64, 10, lambda: bundled("digits"), brightest=16.0),
    "wine": Source("multiclass", 13, 3, lambda: bundled("wine")),
    "diabetes": Source("regression", 10, 0, lambda: bundled("diabetes")),
    "auto-mpg": Source("regression", 7, 0, lambda: table("auto-mpg", "mpg", ("name",))),
    "circles": Source("binary", 2, 2, _circles),
    "moons": Source("binary", 2, 2, _moons),
    "blobs3": Source("multiclass", 6, 3, lambda: blobs(107, 3, 6, 0.8)),
    "waves": Source("regression", 4, 0, _waves),
}
