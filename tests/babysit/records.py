"""Records made by hand: what a run would have measured."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.vitals import (
    EpochVitals,
    LayerFacts,
    LayerVitals,
    ModelFacts,
    ParameterVitals,
    Record,
    RunFacts,
    StepVitals,
    TensorVitals,
    UnitVitals,
)


def tensor(count: int = 100, norm: float = 1.0, std: float = 0.1, zeros: int = 0, nonfinite: int = 0) -> TensorVitals:
    return TensorVitals(count, 0.0, std, -1.0, 1.0, 1.0, zeros, nonfinite, norm)


def kernel(
    path: str, gradient: float | None = 0.1, update: float | None = 1e-3, weight: float = 1.0, **more: Any
) -> ParameterVitals:
    """A kernel of 100 numbers with these norms."""
    std = more.pop("std", 0.1)
    zeros = more.pop("zeros", 0)
    seen = None if gradient is None else tensor(norm=gradient)
    return ParameterVitals(path, tensor(norm=weight, std=std, zeros=zeros), seen, update, **more)


def units(path: str, dead: int = 0, of: int = 10, rows: int = 1000, saturated: float | None = None) -> LayerVitals:
    return LayerVitals(path, tensor(), UnitVitals(of, dead, saturated, rows))


def step(
    number: int, parameters: Sequence[ParameterVitals] = (), layers: Sequence[LayerVitals] = (), **more: Any
) -> StepVitals:
    norm = math.sqrt(sum((p.gradient.norm if p.gradient else 0.0) ** 2 for p in parameters))
    settings = {"epoch": 0, "rate": 0.01, "gradient_norm": norm, **more}
    return StepVitals(
        step=number, parameters={p.path: p for p in parameters}, layers={v.path: v for v in layers}, **settings
    )


CLASSIFIER = RunFacts(
    task="multiclass", loss="cross_entropy", optimizer="Adam", rate=1e-3, batch_size=32, samples=960,
    validation_samples=240, steps=30, epochs=20, chance=math.log(10), classes=10,
)


def record(
    curves: Mapping[str, Sequence[float]] | None = None,
    steps: Sequence[StepVitals] = (),
    losses: Sequence[float] | None = None,
    layers: Sequence[LayerFacts] = (),
    stopped: str = "epochs",
    probes: dict[str, Any] | None = None,
    **run: Any,
) -> Record:
    """A record of a run of 30 steps per epoch whose epochs have these logs."""
    curves = curves or {}
    count = max((len(v) for v in curves.values()), default=0)
    epochs = [
        EpochVitals(e, {name: values[e] for name, values in curves.items() if e < len(values)}) for e in range(count)
    ]
    if losses is None:
        train = list(curves.get("data_loss", curves.get("loss", ())))
        start = [run.pop("start", 2.4)] if train else []
        points = start + train
        losses = [
            a + (b - a) * i / 30 for a, b in zip(points, points[1:], strict=False) for i in range(30)
        ]
    run.pop("start", None)
    if "per_epoch" in run:
        run["steps"] = run.pop("per_epoch")
    made = Record(
        run=replace(CLASSIFIER, **{"epochs": count or 20, **run}), model=ModelFacts(layers=tuple(layers)),
        steps=list(steps), epochs=epochs, losses=array("d", losses), stopped=stopped,
    )
    made.probes.update(probes or {})
    return made


def found(made: Record, *phases: str) -> dict[str, Finding]:
    """Ask the rules of these phases (all but the check by default)."""
    engine = Engine(made)
    for phase in phases or ("step", "epoch", "end"):
        engine.ask(phase)  # type: ignore[arg-type]
    assert not engine.failed, engine.failed
    return engine.found


def codes(made: Record, *phases: str) -> set[str]:
    """Return the codes of what is more than a note."""
    return {code for code, finding in found(made, *phases).items() if finding.severity != "note"}
