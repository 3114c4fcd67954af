"""Training steps: forward, loss, backward, Adam, the loss read on the host; every contender from the same weights."""

from __future__ import annotations

import importlib.util
from typing import Any

from deepbabysit.bench.agreement import check
from deepbabysit.bench.cases import CASES, work
from deepbabysit.bench.contenders import fits
from deepbabysit.bench.session import OURS, Session
from deepbabysit.bench.turns import Turns, run_turns

ADAM_BYTES = 28  # per parameter: weight, gradient and two states read, weight and states written, four bytes each
ADAM_STATE = 16
LARGE = 4096  # parameters; below, plain kernels are chosen as the faster ones


def measure(session: Session) -> None:
    """Time the training steps of every network."""
    for key in session.cases:
        case = CASES[key]
        names = [name for name in session.names if fits(name, case)]
        task = {"kind": "step", "case": case}
        turns = run_turns(session.pool, {n: (n, task) for n in names}, session.pace)
        operations, parameters = work(case)
        different = check(session.pool, task, turns.first)
        extra: dict[str, Any] = {"net": case["net"], "batch": case["batch"], "operations": operations,
                                 "parameters": parameters, "different": different}  # fmt: skip
        session.add("steps", key, turns, extra)
        _compiled(session, key, turns)
        if different:
            session.found["failed"][f"steps[{key}]"] = f"the contenders compute different things: {different}"
            session.say(f"{key}: the contenders compute different things: {different}")


def _compiled(session: Session, key: str, turns: Turns) -> None:
    """Say when our contender did not run the compiled kernels that it is there to measure."""
    ran = turns.kernels.get(OURS)
    if ran is None or ran["compiled"] or work(CASES[key])[1] < LARGE:
        return
    if importlib.util.find_spec("numba") is None:
        session.found["skipped"]["compiled kernels"] = "numba is not installed: ours ran its plain kernels"
    else:
        session.found["failed"][f"steps[{key}-{OURS}]"] = "no operation ran compiled although numba is installed"


def floor(operations: float, parameters: int, limits: dict[str, Any]) -> float:
    """Return the least seconds of a step: products at the BLAS rate, Adam's bytes at the bandwidth, one call.

    The bandwidth is that over as many bytes as the optimizer holds: what fits into a cache is measured there.

    >>> limits = {"flops": 1e11, "bandwidth": [[1 << 20, 1e11], [1 << 30, 1e10]], "call": 1e-6}
    >>> round(floor(1e9, 1_000_000, limits) * 1e3, 3)
    12.801
    """
    state = ADAM_STATE * parameters
    rates = limits["bandwidth"]
    rate = next((rate for size, rate in rates if size >= state), rates[-1][1])
    return float(operations / limits["flops"] + ADAM_BYTES * parameters / rate + limits["call"])
