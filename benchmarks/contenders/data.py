"""The same batch for every contender."""

from __future__ import annotations

from typing import Any

import numpy as np


def batch(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 inputs (channels last) and integer classes, or one-hot float32 for the squared error."""
    rng = np.random.default_rng(0)
    x = rng.random((case["batch"], *case["input"]), dtype=np.float32)
    classes = case["layers"][-1][1]
    y = rng.integers(0, classes, case["batch"])
    return x, np.eye(classes, dtype=np.float32)[y] if case["loss"] == "mse" else y
