"""Time: what a check may take, and what runs and looks at models roughly take."""

from __future__ import annotations

from deepbabysit.babysit.vitals import ModelFacts, RunFacts
from deepbabysit.runtime import threads

BUDGET = 2.0  # seconds
UNHURRIED = 60.0  # seconds where findings must not depend on the machine's speed
SHARE = 0.05  # of the planned run, and no more than `BUDGET`
# for a rough plan: seconds until the first step, of an epoch and a step around its operations; operations per second of
# a thread (large products reach 1.6e11, and inputs need no gradient)
START_SECONDS, EPOCH_SECONDS, STEP_SECONDS, OPERATIONS = 0.05, 1e-4, 6e-6, 1.8e11
LIGHT = ("Dense", "Activation", "LeakyReLU", "ReLU", "Dropout", "Flatten", "Reshape")
LAYER_SECONDS, HEAVY_SECONDS = 2e-6, 4e-5  # of such a layer in a step beside its products, of any other
LOOK_SECONDS, LOOKED_LAYER = 4e-3, 4e-4  # what tracing a model takes around its operations, and for each layer
TRACED = 0.01  # seconds of tracing that every run may spend: without it nothing is known of the model
TRIED = 64  # rows of the batch on which experiments are made


def budget_for(seconds: float | None) -> float:
    """Return the seconds that the check may take before a run of so many seconds: 5 % of it, at most 2 s.

    >>> budget_for(10.0), budget_for(1000.0), budget_for(None)
    (0.5, 2.0, 2.0)
    """
    return BUDGET if seconds is None else min(BUDGET, SHARE * seconds)


def planned_seconds(run: RunFacts, model: ModelFacts, products: int | None = None) -> float | None:
    """Return roughly how long a run will take, from its steps and the products per sample; None without a plan."""
    if not run.steps or not run.epochs:
        return None
    products = model.parameters if products is None else products
    layers = sum(LAYER_SECONDS if layer.kind in LIGHT else HEAVY_SECONDS for layer in model.layers)
    step = STEP_SECONDS + layers + 6.0 * products * (run.batch_size or 1) / (OPERATIONS * threads.count())
    return START_SECONDS + run.epochs * (EPOCH_SECONDS + run.steps * step)


def products_of(model: ModelFacts) -> int:
    """Return how many products of a weight and a number one sample takes: filters work at many places."""
    return sum(
        (layer.inputs or 0) * (layer.units or 0) * int(layer.settings.get("positions", 1)) for layer in model.layers
    )


def looking(facts: ModelFacts, run: RunFacts) -> float:
    """Return the seconds that tracing a model roughly takes: a copy, forward and backward on a batch."""
    products = 6.0 * facts.parameters * min(TRIED, run.samples or TRIED)
    return LOOK_SECONDS + LOOKED_LAYER * len(facts.layers) + products / OPERATIONS
