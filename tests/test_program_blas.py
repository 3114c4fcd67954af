"""Which BLAS programs call: NumPy's own OpenBLAS, or none."""

import numpy as np

from deepbabysit.runtime import blas as libraries_of
from deepbabysit_numpy.program import blas


def test_all_products_are_found_or_none():
    assert set(blas.addresses()) in ({"sgemm", "dgemm", "sgemv", "dgemv"}, set())
    assert all(blas.addresses().values())


def test_another_blas_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    blas.addresses.cache_clear()
    libraries_of.libraries.cache_clear()
    try:
        assert blas.addresses() == {}
    finally:
        blas.addresses.cache_clear()
        libraries_of.libraries.cache_clear()
