"""BLAS from compiled code: NumPy's own products, on parts of arrays too, found by kernels from the disk as well."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from deepbabysit.runtime import blas as runtime_blas
from deepbabysit_numpy.compiled import blas

if not blas.available():
    pytest.skip("NumPy here brings another BLAS than OpenBLAS", allow_module_level=True)

from deepbabysit_numpy.compiled.code.blas import product, set_threads, threads

ROOT = Path(__file__).resolve().parents[1]


def part(rng, rows, columns, dtype, gap):
    """Return an array that is part of a wider one."""
    wide = rng.standard_normal((rows, columns + gap)).astype(dtype)
    return wide[:, :columns] if gap else np.ascontiguousarray(wide)


@given(
    st.tuples(*[st.integers(0, 20)] * 3), st.booleans(), st.booleans(), st.sampled_from(["f", "d"]),
    st.sampled_from([0.0, 1.0, 0.5]), st.integers(0, 3), st.integers(0, 2**32 - 1),
)
def test_products_are_numpys(sizes, turn_a, turn_b, dtype, beta, gap, seed):
    rng = np.random.default_rng(seed)
    rows, columns, inner = sizes
    a = part(rng, *((inner, rows) if turn_a else (rows, inner)), dtype, gap)
    b = part(rng, *((columns, inner) if turn_b else (inner, columns)), dtype, gap)
    c = part(rng, rows, columns, dtype, gap)
    wide = (a.T if turn_a else a).astype("d") @ (b.T if turn_b else b).astype("d") + beta * c.astype("d")
    around = None if c.base is None else c.base[:, columns:].copy()
    product(a, turn_a, b, turn_b, c, beta)
    np.testing.assert_allclose(c, wide, rtol=0, atol=20 * (inner + 1) * np.finfo(dtype).eps)
    assert around is None or c.base[:, columns:].tobytes() == around.tobytes()


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_the_bits_are_numpys_and_nan_in_the_target_does_not_count(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((33, 70)).astype(dtype), rng.standard_normal((70, 21)).astype(dtype)
    c = np.full((33, 21), np.nan, dtype)
    product(a, False, b, False, c, 0.0)
    assert c.tobytes() == np.matmul(a, b).tobytes()
    product(np.ascontiguousarray(a.T), True, np.ascontiguousarray(b.T), True, c, 0.0)
    assert c.tobytes() == np.matmul(np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T).tobytes()


def test_threads_are_set_from_inside():
    before = threads()
    try:
        set_threads(1)
        assert threads() == 1
        set_threads(2)
        assert threads() == 2
    finally:
        set_threads(before)


def test_another_blas_is_not_available(monkeypatch, tmp_path):
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    blas.addresses.cache_clear()
    runtime_blas.libraries.cache_clear()
    try:
        assert not blas.available()
    finally:
        blas.addresses.cache_clear()
        runtime_blas.libraries.cache_clear()


CHILD = """
import numpy as np
from deepbabysit_numpy.compiled.code.blas import product
a, c = np.eye(3), np.empty((3, 3))
product(a, False, a, False, c, 0.0)
assert (c == a).all()
print(sum(product.stats.cache_hits.values()))
"""


def test_a_fresh_process_finds_the_symbol_for_a_kernel_from_the_disk(tmp_path):
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "backends")))
    environment = {**os.environ, "PYTHONPATH": path, "DEEPBABYSIT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", CHILD]
    hits = [
        subprocess.run(command, env=environment, text=True, check=True, capture_output=True).stdout for _ in range(2)
    ]
    assert [int(n) for n in hits] == [0, 1]
