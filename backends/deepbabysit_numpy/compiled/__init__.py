"""Kernels compiled by Numba, as faster variants of the plain NumPy ones.

Nothing here imports Numba; the modules in `code` do, and `loading` imports those when a kernel first runs. Without
Numba the plain kernels serve, and the run says so in one line.
"""
