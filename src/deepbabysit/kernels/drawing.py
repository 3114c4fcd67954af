"""How samples are drawn: shapes, layouts and values that find mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Sample, Shape

Rng = np.random.Generator


def draw_shape(rng: Rng, ranks: tuple[int, int] = (0, 4), low: int = 1, high: int = 5) -> Shape:
    """Draw a small shape; odd lengths are as likely as even ones."""
    rank = int(rng.integers(ranks[0], ranks[1] + 1))
    return tuple(int(n) for n in rng.integers(low, high + 1, size=rank))


def normal(rng: Rng, shape: Shape, scale: float = 1.0) -> np.ndarray:
    """Draw normal float64 values."""
    return rng.standard_normal(shape) * scale


def positive(rng: Rng, shape: Shape) -> np.ndarray:
    """Draw values in (0.3, 3): away from the poles of log and division."""
    return np.exp(rng.uniform(-1.2, 1.1, shape))


def away_from(rng: Rng, shape: Shape, *kinks: float, gap: float = 0.05) -> np.ndarray:
    """Draw normal values that keep a distance from points where a derivative jumps."""
    values = np.asarray(rng.standard_normal(shape) * 1.5)
    for kink in kinks:
        distance = values - kink
        values = np.where(np.abs(distance) < gap, kink + np.where(distance < 0, -gap, gap) * 2, values)
    return values


def distinct(rng: Rng, shape: Shape) -> np.ndarray:
    """Draw values without ties, at least 0.1 apart (max, pooling, sorting)."""
    count = int(np.prod(shape, dtype=np.int64))
    return (rng.permutation(count) * 0.1 - count * 0.05).reshape(shape)


def strided(array: np.ndarray) -> np.ndarray:
    """Return the same values in memory that is not contiguous."""
    if array.ndim == 0:
        return array
    wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def partner_shape(rng: Rng, shape: Shape) -> Shape:
    """Draw a shape that broadcasts with the given one."""
    kept = [1 if rng.random() < 0.3 else n for n in shape]
    drop = int(rng.integers(0, len(kept) + 1)) if rng.random() < 0.4 else 0
    return tuple(kept[drop:])


def unary(draw: Any = normal, extremes: tuple[float, ...] = ()) -> Any:
    """Return `samples` for an operation on one array."""

    def samples(rng: Rng) -> Iterator[Sample]:
        for _ in range(4):
            yield Sample((draw(rng, draw_shape(rng)),))
        yield Sample((draw(rng, ()),))
        yield Sample((draw(rng, (0, 3)),))
        yield Sample((draw(rng, (1,)),))
        yield Sample((strided(draw(rng, (3, 5))),))
        yield Sample((draw(rng, (4, 3)).T,))
        yield Sample((np.array([np.nan, np.inf, -np.inf, -0.0, 0.0]),), gradient=False)
        if extremes:
            yield Sample((np.array(extremes),), gradient=False)

    return samples


def binary(draw: Any = normal, draw_second: Any = None) -> Any:
    """Return `samples` for an operation on two arrays that broadcast."""
    second = draw_second or draw

    def samples(rng: Rng) -> Iterator[Sample]:
        for _ in range(4):
            shape = draw_shape(rng)
            yield Sample((draw(rng, shape), second(rng, partner_shape(rng, shape))))
            yield Sample((draw(rng, partner_shape(rng, shape)), second(rng, shape)))
        yield Sample((draw(rng, (2, 3)), second(rng, ())))
        yield Sample((draw(rng, (0, 3)), second(rng, (3,))))
        yield Sample((draw(rng, (3, 1)), second(rng, (1, 4))))
        yield Sample((strided(draw(rng, (3, 4))), second(rng, (4, 3)).T))
        special = np.array([np.nan, 1.0, np.inf, -np.inf, 0.0, -0.0]), np.array([1.0, np.nan, np.inf, 2.0, 0.0, 1.0])
        yield Sample(special, gradient=False)

    return samples
