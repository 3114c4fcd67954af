"""Training steps of every network: ours on each device, PyTorch in its best configurations, JAX.

    pytest benchmarks/test_steps.py -k "worked and 64"
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.conftest import measured_by_children
from deepbabysit.bench.cases import CASES
from deepbabysit.bench.contenders import NAMES, fits
from deepbabysit.bench.session import OURS
from deepbabysit.bench.turns import disagreement

_NAMES = (*NAMES, f"{OURS}:cuda")
_ALL = [(key, name) for key, case in CASES.items() for name in _NAMES if fits(name, case)]


@measured_by_children
@pytest.mark.parametrize(("key", "name"), _ALL, ids=[f"{key}-{name}" for key, name in _ALL])
def test_step(replayed: Any, key: str, name: str) -> None:
    case = CASES[key]
    tasks = {n: (n, {"kind": "step", "case": case}) for n in _NAMES if fits(n, case)}
    turns = replayed(key, name, tasks)
    assert disagreement(turns.first, any(layer[0] == "dropout" for layer in case["layers"])) == ""
    if name == OURS:
        assert turns.kernels[name]["reference"] == []
        assert turns.kernels[name]["compiled"] or case["net"] == "tiny"
