"""Facts about a model and a run, read from the objects that make it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from deepbabysit.babysit.facts import LabelFacts, label_facts
from deepbabysit.babysit.sampling import activation_of
from deepbabysit.babysit.task import setup_facts, with_task
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, RunFacts
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.training.events import Controls, RunInfo

_ROWS = 10_000  # targets that are looked at


def model_facts(model: Any) -> ModelFacts:
    """Return the layers of a model in the order in which they are found; the check before training sees more."""
    layers = []
    for path, layer in model.walk():
        if not path or any(True for _ in layer.children()):
            continue
        kernel = getattr(layer, "kernel", None)
        settings: dict[str, Any] = {}
        for name in ("rate", "use_bias", "momentum", "units"):
            value = getattr(layer, name, None)
            if isinstance(value, bool | int | float):
                settings[name] = value
        if kernel is not None:
            settings["l1"], settings["l2"] = float(kernel.l1), float(kernel.l2)
            if kernel.constraint is not None:
                settings["constraint"] = repr(kernel.constraint)
        if layer.output_shape and len(layer.output_shape) > 2 and None not in layer.output_shape[1:]:
            settings["positions"] = int(np.prod(layer.output_shape[1:-1]))
        inputs = None if kernel is None else int(np.prod(kernel.shape[:-1]))
        units = layer.output_shape[-1] if layer.output_shape else getattr(layer, "units", None)
        layers.append(
            LayerFacts(
                path, type(layer).__name__, activation_of(layer), units, inputs, layer.trainable, settings
            )
        )
    last = layers[-1] if layers else None
    return ModelFacts(
        tuple(layers), last.units if last else None, last.activation if last else None, model.count_params(),
        model.count_params(trainable_only=True),
    )


def run_facts(info: RunInfo, controls: Controls, model: ModelFacts, callbacks: Any = ()) -> RunFacts:
    """Return how a run is set up, the task and the loss of guessing included."""
    optimizer, loader = controls.optimizer, controls.data
    schedule = optimizer.schedule
    facts = setup_facts(
        controls.layer, controls.loss, optimizer, samples=info.samples or 0,
        validation_samples=info.validation_samples, batch_size=(info.batch_size or 0) * info.accumulate or None,
        epochs=info.epochs, weighted=controls.weighted, metrics=dict.fromkeys(info.metrics, ""),
    )
    facts = replace(
        facts, steps=info.steps, rate=float(schedule.rate(0) if schedule.name == "constant" else schedule.base),
        augmented=loader.augment is not None, shuffled=loader.shuffle,
        early_stopping=any(type(c).__name__ == "EarlyStopping" for c in callbacks),
    )
    return with_task(facts, controls.loss, _labels(loader.y), model)


def _labels(y: Any) -> LabelFacts | None:
    """Return facts about targets that are one array; of many rows some are enough."""
    if not isinstance(y, np.ndarray) or not y.size:
        return None
    rows = y if len(y) <= _ROWS else y[:: -(-len(y) // _ROWS)]
    return label_facts(rows) if not is_floating(y.dtype) or np.isfinite(rows).all() else None
