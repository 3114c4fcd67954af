"""From which number of elements a compiled kernel takes over: below, the plain one is as fast or too short to matter.

Chosen where one call saves ten microseconds or more, so that small programs never wait for Numba.
"""

from __future__ import annotations

LEAST: dict[str, int] = {
    "update": 4096,
    "dropout": 2048,
    "linear": 8192,
    "linear_gradient": 4096,
    "loss": 512,
    "statistics": 1024,
}
