"""Pictures that a small network learns within seconds."""

import numpy as np


def bars():
    """Return images with a bar at one of three heights, and the heights."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    x = 0.3 * rng.normal(size=(96, 8, 8, 1)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        image[2 * label : 2 * label + 3, 2:6] += 1.0
    return x, y
