"""Facts about a model and a run, read from the objects that make it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit.babysit import measures
from deepbabysit.babysit.sampling import activation_of
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, RunFacts
from deepbabysit.losses.targets import CLASSES, LABELS, ONE_HOT, PROBABILITIES
from deepbabysit.training.events import Controls, RunInfo


def model_facts(model: Any) -> ModelFacts:
    """Return the layers of a model in the order in which they are found, with their weights' statistics."""
    layers = []
    for path, layer in model.walk():
        if not path or any(True for _ in layer.children()):
            continue
        own = {
            name: measures.of_tensor(value.device, value.data)
            for name, value in layer.own()
            if value.dtype.kind == "f"
        }
        kernel = getattr(layer, "kernel", None)
        settings: dict[str, Any] = {}
        for name in ("rate", "use_bias", "momentum", "units"):
            value = getattr(layer, name, None)
            if isinstance(value, bool | int | float):
                settings[name] = value
        if kernel is not None:
            settings["l1"], settings["l2"] = float(kernel.l1), float(kernel.l2)
        inputs = None if kernel is None else int(np.prod(kernel.shape[:-1]))
        units = layer.output_shape[-1] if layer.output_shape else getattr(layer, "units", None)
        layers.append(
            LayerFacts(
                path, type(layer).__name__, activation_of(layer), units, inputs, layer.trainable, settings,
                parameters=own,
            )
        )
    last = layers[-1] if layers else None
    return ModelFacts(
        tuple(layers), last.units if last else None, last.activation if last else None, model.count_params(),
        model.count_params(trainable_only=True),
    )


def run_facts(info: RunInfo, controls: Controls, model: ModelFacts, callbacks: Any = ()) -> RunFacts:
    """Return how a run is set up."""
    optimizer, loss = controls.optimizer, controls.loss
    settings = dict(optimizer._settings)
    for name in ("clip_norm", "clip_value", "ema"):
        settings[name] = getattr(optimizer, name)
    target = loss.kind.target
    outputs = model.output_units
    chance = classes = None
    task: str | None = "regression"
    if target in (LABELS, ONE_HOT, CLASSES) and outputs:
        task, classes, chance = "multiclass", outputs, math.log(outputs)
    elif target == PROBABILITIES:
        task, classes, chance = ("binary", 2, math.log(2.0)) if outputs == 1 else ("multilabel", None, math.log(2.0))
    parameters = controls.layer.parameters()
    schedule = optimizer.schedule
    return RunFacts(
        task=task, loss=loss.name, loss_kind=target, optimizer=type(optimizer).__name__, optimizer_settings=settings,
        rate=float(schedule.rate(0)) if schedule.name == "constant" else float(schedule.base), schedule=schedule.name,
        batch_size=(info.batch_size or 0) * info.accumulate or None, samples=info.samples,
        validation_samples=info.validation_samples, steps=info.steps, epochs=info.epochs, chance=chance,
        classes=classes, dropout=max((layer.settings.get("rate", 0.0) for layer in model.layers if "Dropout" in
                                      layer.kind), default=0.0),
        l1=max((float(p.l1) for p in parameters), default=0.0), l2=max((float(p.l2) for p in parameters), default=0.0),
        early_stopping=any(type(c).__name__ == "EarlyStopping" for c in callbacks),
        metrics={name: _better(name) for name in info.metrics},
    )


def _better(name: str) -> str:
    from deepbabysit.training.events import direction

    try:
        return direction(name)
    except ValueError:
        return "unknown"
