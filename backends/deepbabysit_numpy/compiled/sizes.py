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
    "norm": 2048,
    "take": 4096,
    "scatter": 512,
    "pool": 2048,
    "pool channels": 4,
    "elementwise": 8192,
    "softmax": 4096,
    "cell": 2048,
    "units": 32,
    "attention": 4096,
    "statistics": 1024,
    "reduction": 8192,
    "conv": 1 << 14,  # operations
    "conv_part": 1 << 20,  # operations of a part: a tenth of the time that waking a thread takes
}
