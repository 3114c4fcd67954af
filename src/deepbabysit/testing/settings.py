"""How thoroughly the suite looks."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """How much is drawn.

    Attributes:
        dtypes: floating dtypes in which values are compared.
        draws: how often the samples of an operation are drawn for values.
        gradients: how many drawn inputs each derivative is compared with finite differences on.
        second: the same for second derivatives.
        replays: how many drawn inputs are recorded and replayed.
    """

    dtypes: tuple[str, ...] = ("float64", "float32", "float16")
    draws: int = 2
    gradients: int = 50
    second: int = 12
    replays: int = 6


THOROUGH = Settings()
QUICK = Settings(("float64", "float32"), 1, 8, 3, 2)
