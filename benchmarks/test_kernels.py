"""Single operations, forward and backward: the references, the plain kernels, the compiled ones, PyTorch, JAX.

    pytest benchmarks/test_kernels.py -k "gelu"
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.conftest import measured_by_children
from deepbabysit.bench.kernels import KERNELS, different, names_for
from deepbabysit.bench.session import OURS

_ALL = [(label, name) for label, k in KERNELS.items() for name in (*names_for(k, quick=False), f"{OURS}:cuda")]


@measured_by_children
@pytest.mark.parametrize(("label", "name"), _ALL, ids=[f"{label}-{name}" for label, name in _ALL])
def test_kernel(replayed: Any, label: str, name: str) -> None:
    kernel = KERNELS[label]
    names = (*names_for(kernel, quick=False), f"{OURS}:cuda")
    turns = replayed(label, name, {n: (n, {"kind": "kernel", "kernel": kernel}) for n in names})
    assert different(turns.checks, kernel["op"]) == ""
    if name == OURS:
        assert turns.kernels[name]["reference"] == []
