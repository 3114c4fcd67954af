"""The CPU backend: NumPy arrays, kernels that write into given buffers, BLAS matrix products."""

from deepbabysit_numpy.backend import open_backend

__all__ = ["open_backend"]
