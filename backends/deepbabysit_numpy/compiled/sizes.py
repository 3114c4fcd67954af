"""From which number of elements a compiled kernel takes over: below, the plain one is as fast or too short to matter.

Chosen where one call saves ten microseconds or more, so that small programs never wait for Numba. What is chosen here
holds for eager steps and replays alike: a step that has become a program of machine calls runs the kernel that was
chosen, or a compiled one with the same bits (dropout, update rules).
"""

from __future__ import annotations

LEAST: dict[str, int] = {
    "update": 4096,
    "update part": 1 << 21,  # elements of a part: at half of that, BLAS' spinning threads took what a second one won
    "update part awake": 1 << 15,
    "elements awake": 1 << 14,  # of a part of other loops in programs: a few microseconds
    "dropout": 2048,
    "linear": 8192,
    "thin": 1 << 20,  # operations of a product
    "thin part": 1 << 20,  # operations of a part: 8 microseconds
    "thin team": 1 << 26,  # operations, outside of programs: a thread that sleeps takes up to 100 microseconds to wake
    "packed": 1 << 20,  # operations of a product
    "packed part": 1 << 18,  # operations of a part: narrow products take longer to copy than to multiply
    "packed team": 1 << 25,  # operations, outside of programs
    "threads": 1 << 22,  # operations from which on a product of BLAS is divided among its threads
    "linear_gradient": 4096,
    "loss": 512,
    "norm": 2048,
    "norm part": 1 << 17,  # elements of a part: 30 microseconds and more
    "take": 4096,
    "take scaled": 4096,
    "scatter": 512,
    "pool": 2048,
    "pool channels": 4,
    "pool part": 1 << 17,  # elements of a part
    "elementwise": 8192,
    "kinked": 2048,  # NumPy's copies with a mask are slow
    "beside_wide_loops": 1 << 62,  # never: NumPy's own loop has 512-bit vectors
    "softmax": 1024,
    "cell": 2048,
    "units": 32,
    "attention": 4096,
    "attention part": 1 << 26,  # operations of a part: half a millisecond
    "attention part awake": 1 << 20,
    "statistics": 1024,
    "reduction": 8192,
    "conv": 1 << 14,  # operations
    "conv_part": 1 << 20,  # operations of a part: a tenth of the time that waking a thread takes
}
