"""Measuring: training steps, kernels, data loading, memory and start-up, ours against PyTorch and JAX.

Every contender is a child process; nothing here imports another library. ``deepbabysit bench`` prints the tables, the
suites in ``benchmarks/`` hand the same figures to pytest-benchmark.
"""
