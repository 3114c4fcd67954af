"""Rules about what a model is able to compute, asked at the end of a run that stayed far below what its data allow."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import wider
from deepbabysit.babysit.rules.initialization import activation_after, weighted
from deepbabysit.babysit.rules.reach import reach, yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import data_losses, finite, kernels, last_epoch, layer_of
from deepbabysit.babysit.vitals import LayerFacts, Record


@rule(
    "underfitting", phase="end", units=2, few=4, curved=0.1, near=0.1, gap=0.05, errors=1.5, dear=0.12, falling=0.02,
    why="A hidden layer of one or two units passes on one or two numbers of each row: `units`, where the input and the "
    "output are wider. Where the data are bent (a kernel model explains more than a linear one by `curved`) fewer than "
    "`few` units do not bend enough, nor do `few` where the loss no longer falls. A model with fewer numbers than a "
    "linear one, and a worse score, cannot even be that. A pooling that leaves so few numbers does the same. A model "
    "without a bend in it is linear: where the data are bent, and the run ended no more than `near` above the linear "
    "one, that is what is missing. Weights that a constraint keeps on one side of 0, in every layer but the first at "
    "least, add and never take away: what comes out can only rise with what comes in. With such a build a small `gap` "
    "to what cheap models reach is enough, beyond `errors` standard errors, or a loss above theirs by `dear` of "
    "guessing.",
    causes=("missing_hidden_activation", "nan_in_data", "one_unit_softmax", "output_ignores_input"),
)
def too_small(record: Record, limits: Any) -> Finding | None:
    """A bottleneck, or no hidden layer, and far less than the data allow."""
    stand, known = reach(record), yardstick_of(record)
    layers = weighted(record)
    if stand is None or known is None or not layers:
        return None
    if not stand.below(limits.gap, limits.errors) and not (stand.dear or 0.0) > limits.dear:
        return None
    if stand.train is not None and stand.train > stand.best - 0.5 * stand.gap and stand.gap > 0.0:
        return None  # the training rows were learned
    held = _one_sided(record)
    if len(layers) > 1 and {layer.path for layer in layers[1:]} <= {layer.path for layer in held}:
        return _finding(
            record, f"the constraint {held[0].settings['constraint']} keeps the weights of {len(held)} of "
            f"{len(layers)} layers on one side of 0 (limit {len(layers) - 2}), so they add and never take away: what "
            f"comes out only rises with what layer {held[0].path} is given", stand.words(),
            {"held": len(held), "of": len(layers), "limit": len(layers) - 2}, held[0].path,
            (Remedy("Take the constraints out.", "kernel_constraint=None", changes.unconstrained()),),
        )
    hidden = layers[:-1]
    outputs = layers[-1].units or 1
    curved = known.curved - known.linear >= limits.curved
    most = limits.units if outputs > limits.units + 1 else 1
    if curved:
        most = limits.few if _rests(record, limits.falling) else limits.few - 1
    narrow = [
        layer for layer in hidden
        if (layer.units or most + 1) <= most and (curved or (layer.inputs or 0) > (layer.units or 0))
    ]
    if narrow:
        layer = narrow[0]
        return _finding(
            record, f"layer {layer.path} has {layer.units} units (limit {int(most)}), so no more than "
            f"{layer.units} numbers of each row reach the output", stand.words(),
            {"units": layer.units, "limit": int(most)}, layer.path, (wider(32.0 / (layer.units or 1)),),
        )
    features = getattr(record.data, "features", None) or 0
    pooled = next((
        layer for layer in record.model.layers[:-1]
        if layer.inputs is None and layer.units and layer.units * layer.settings.get("positions", 1) <= most < features
    ), None)
    if pooled is not None:
        count = (pooled.units or 0) * int(pooled.settings.get("positions", 1))
        return _finding(
            record, f"layer {pooled.path} ({pooled.kind}) passes on {count} numbers of the {features} of each row "
            f"(limit {int(most)})", stand.words(), {"units": count, "limit": int(most), "features": features},
            pooled.path, (Remedy("Pool less, or convolve before."), wider()),
        )
    of_lines, numbers = (features + 1) * outputs, record.model.parameters
    if hidden and 0 < numbers < of_lines and stand.score < known.linear - limits.gap:
        return _finding(
            record, f"the model has {numbers} numbers to learn, fewer than the {of_lines} of a linear model of its "
            f"{features} features, which reaches {known.linear:.0%}", stand.words(),
            {"numbers": numbers, "limit": of_lines, "linear": known.linear}, hidden[0].path, (wider(8.0),),
        )
    bent = any(activation_after(record, layer) != "linear" for layer in hidden)
    if not hidden and not bent and known.curved - known.linear >= limits.curved and (
        stand.score < known.linear + limits.near
    ):
        return _finding(
            record, f"the model has no hidden layer, and what its data hold is bent: a linear model reaches "
            f"{known.linear:.0%}, a kernel model {known.curved:.0%} (limit {limits.curved:.0%} more)", stand.words(),
            {"linear": known.linear, "curved": known.curved, "limit": limits.curved}, layers[-1].path, (wider(),),
        )
    return None


def _one_sided(record: Record) -> list[LayerFacts]:
    """Return the layers whose kernels a constraint keeps on one side of 0."""
    seen = {layer_of(p.path): p.weight for p in kernels(record.steps[-1])} if record.steps else {}
    return [
        layer for layer in weighted(record) if layer.settings.get("constraint") and layer.path in seen
        and (seen[layer.path].minimum >= 0.0 or seen[layer.path].maximum <= 0.0)
    ]


def _rests(record: Record, falling: float) -> bool:
    """Tell whether the training loss has come to rest: it falls by less than a share in two epochs."""
    train = finite(data_losses(record))
    if len(train) < 5:
        return False
    before, now = fmean(train[-4:-2]), fmean(train[-2:])
    return (before - now) / max(before, 1e-12) < falling


def _finding(
    record: Record, seen: str, words: str, evidence: dict[str, Any], layer: str, remedies: tuple[Remedy, ...]
) -> Finding:
    return Finding(
        "underfitting", "warning", 0.9, f"{seen}; {words}. The model cannot be what its task asks for.",
        {**evidence, "too_small": True}, layer=layer, epoch=last_epoch(record), remedies=remedies,
    )
