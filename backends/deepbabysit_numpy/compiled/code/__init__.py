"""What Numba compiles, and numbers that it depends on: only `geometry` and `registers` do not import Numba."""
