"""Rules about first weights and first signals, asked before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.blueprint import Blueprint
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import batch_norm, initial, rectify
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import clipped
from deepbabysit.babysit.vitals import LayerFacts, Record

RECTIFIERS = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"})
NORMALIZATIONS = frozenset({"BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm"})


def weighted(record: Record) -> list[LayerFacts]:
    """Return the layers with a kernel, in order, each once."""
    seen: dict[str, LayerFacts] = {}
    for layer in record.model.layers:
        if layer.inputs is not None and layer.path not in seen:
            seen[layer.path] = layer
    return list(seen.values())


def activation_after(record: Record, layer: LayerFacts) -> str:
    """Return the activation that a layer's output meets first: its own, a layer's, or an operation's."""
    if layer.activation not in (None, "linear"):
        return str(layer.activation)
    waiting, seen = [layer.path], set()
    while waiting:
        path = waiting.pop()
        for follower in record.model.layers:
            if path not in follower.sources or follower.path in seen:
                continue
            seen.add(follower.path)
            for operation in follower.through:
                if operation in RECTIFIERS or operation in ("tanh", "sigmoid", "selu"):
                    return operation
            if follower.kind in ("Activation", "LeakyReLU"):
                return follower.activation or "linear"
            if follower.inputs is None:
                waiting.append(follower.path)
    return "linear"


def normalized_after(record: Record, layer: LayerFacts) -> bool:
    """Tell whether a normalization takes the layer's output before the next weights do."""
    waiting, seen = [layer.path], set()
    while waiting:
        path = waiting.pop()
        for follower in record.model.layers:
            if path in follower.sources and follower.path not in seen:
                seen.add(follower.path)
                if follower.kind in NORMALIZATIONS:
                    return True
                if follower.inputs is None and follower.kind != "Add":
                    waiting.append(follower.path)
    return False


def advised(activation: str) -> str:
    """Return the initializer for an activation."""
    if activation in RECTIFIERS:
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"


@rule(
    "symmetric_init", phase="check", spread=1e-6,
    why="Random weights of a kernel differ by about 3 times their size from unit to unit; copies differ by rounding "
    "only. A last layer of zeros is a good start and is left alone.",
)
def symmetric_init(record: Record, limits: Any) -> Iterator[Finding]:
    """Hidden layers whose units all start equal."""
    layers = weighted(record)
    gradients = record.probes.get("gradients") or {}
    found = []
    for layer in layers[:-1]:
        if (layer.units or 1) < 2 or not layer.trainable or not layer.settings.get("kernel_initializer"):
            continue
        spread = layer.settings.get("unit_spread")
        if spread is None or spread > limits.spread:
            continue
        gradient = gradients.get(f"{layer.path}.kernel")
        stuck = gradient is None or gradient.norm == 0.0 or gradient.unit_spread <= 1e-3
        found.append((layer, float(spread), gradient, stuck))
    for layer, spread, gradient, stuck in found:
        kernel = layer.parameters["kernel"]
        residual = kernel.largest == 0.0 and not stuck
        grad_text = "" if gradient is None else (
            " The gradient is 0 as well." if gradient.norm == 0.0 else
            f" Their gradients differ by {gradient.unit_spread:.2g} times their size."
        )
        activation = activation_after(record, layer)
        yield Finding(
            "symmetric_init", "error" if stuck else "note" if residual else "warning",
            0.97 if stuck else 0.4 if residual else 0.8,
            f"layer {layer.path}: all {layer.units} units start with equal weights (spread {spread:.2g}, limit "
            f"{limits.spread:g}; every weight is about {kernel.mean:.3g}).{grad_text} Equal units stay equal: the "
            f"layer is as good as one unit. Draw the kernel at random.",
            {"spread": spread, "limit": limits.spread, "mean": kernel.mean, "std": kernel.std,
             "gradient_norm": None if gradient is None else gradient.norm,
             "gradient_spread": None if gradient is None else gradient.unit_spread},
            layer=layer.path,
            remedies=(initial(advised(activation), words="Draw the kernels of the hidden layers at random."),),
        )


def expected_stds(layer: LayerFacts) -> tuple[float, float]:
    """Return the smallest and largest standard deviation among He's, Glorot's and LeCun's for a kernel."""
    fan_in, fan_out = max(layer.inputs or 1, 1), max(int(layer.settings.get("fan_out", 1)), 1)
    values = (math.sqrt(2 / fan_in), math.sqrt(2 / (fan_in + fan_out)), math.sqrt(1 / fan_in))
    return min(values), max(values)


@rule(
    "bad_init_scale", phase="check", low=0.5, high=2.0, shrunk=0.02, grown=4.0,
    why="low, high: RULES, against the smallest and largest of He's, Glorot's and LeCun's standard deviation, so that "
    "a usual initializer on another activation stays silent. What counts is the product over the layers, those that "
    "miss by a little included: below `shrunk` or above `grown` it is a warning, else a note. Normalized layers do not "
    "mind.",
    causes=("symmetric_init",),
)
def bad_init_scale(record: Record, limits: Any) -> Iterator[Finding]:
    """First weights too large or too small for their activation."""
    signals = record.probes.get("signals") or {}
    layers = weighted(record)
    off: list[tuple[LayerFacts, float, float, float]] = []
    for number, layer in enumerate(layers):
        kernel = layer.parameters.get("kernel")
        if kernel is None or not _drawn(record, layer):
            continue
        low, high = expected_stds(layer)
        ratio = kernel.std / low if kernel.std < low else kernel.std / high if kernel.std > high else 1.0
        last = number == len(layers) - 1
        if ratio == 1.0 or (last and ratio < 1):
            continue  # a small last layer is a good start
        signal = signals.get(layer.path)
        if signal is not None and signal.raw is not None and signal.incoming > 0 and math.isfinite(signal.raw):
            gain = signal.raw / signal.incoming
            if (ratio < limits.low and gain > limits.low) or (ratio > limits.high and gain < limits.high):
                continue  # trained, or scaled by data: the signal keeps its size
        off.append((layer, ratio, low, high))
    product = math.prod(ratio for _, ratio, _, _ in off)
    strong = product < limits.shrunk or product > limits.grown
    for layer, ratio, low, high in off:
        if limits.low <= ratio <= limits.high and not strong:
            continue
        kernel = layer.parameters["kernel"]
        activation = activation_after(record, layer)
        name = advised(activation)
        yield Finding(
            "bad_init_scale", "warning" if strong else "note",
            min(0.95, 0.6 + 0.15 * max(abs(math.log10(ratio)), abs(math.log10(product)) / len(off))) if strong else 0.5,
            f"layer {layer.path}: the kernel's standard deviation is {kernel.std:.3g}; for {layer.inputs} inputs "
            f"initializers give {low:.3g} to {high:.3g}, so it is {ratio:.3g} times (limits {limits.low:g} and "
            f"{limits.high:g}; all such layers together {product:.3g}, limits {limits.shrunk:g} and {limits.grown:g}). "
            f'Signals and gradients change by this factor. Use "{name}" for {activation}.',
            {"std": kernel.std, "expected_low": low, "expected_high": high, "ratio": ratio, "product": product,
             "limit_low": limits.low, "limit_high": limits.high, "activation": activation},
            layer=layer.path, remedies=(_drawn_anew(layer, activation),),
        )


def _drawn(record: Record, layer: LayerFacts) -> bool:
    """Tell whether a layer's first weights count: drawn, enough of them, and nothing behind them that rescales."""
    kernel = layer.parameters.get("kernel")
    if kernel is None or kernel.count < 16 or kernel.std == 0.0 or normalized_after(record, layer):
        return False
    equal = (layer.units or 1) > 1 and layer.settings.get("unit_spread", 1.0) <= 1e-6
    return not equal and bool(layer.settings.get("kernel_initializer"))


def _drawn_anew(layer: LayerFacts, activation: str) -> Remedy:
    name = advised(activation)
    return Remedy(
        f"Initialize for {activation}, and the other layers for theirs.", f'kernel_initializer="{name}"',
        changes.both(changes.initialize(), changes.initialize(name, (layer.path,))),
    )


@rule(
    "bad_init_scale", phase="check", lean=0.8, common=4.0, surely=6.0, trained=0.7,
    why="Weights are drawn around 0. Where their mean is as large as their deviation (`lean`), or adds up over the "
    "inputs to `common` times what chance gives, all units say the same: the mean of their inputs, with one sign. The "
    "mean itself must be beyond chance `surely`. A model that begins below `trained` of guessing was trained before.",
    causes=("symmetric_init",),
)
def one_sided_init(record: Record, limits: Any) -> Iterator[Finding]:
    """First weights of one sign."""
    loss, guess, signals = record.probes.get("loss"), record.run.chance, record.probes.get("signals") or {}
    if loss is not None and guess and loss.first < limits.trained * guess:
        return
    for layer in weighted(record)[:-1]:
        kernel = layer.parameters.get("kernel")
        if kernel is None or not _drawn(record, layer) or not layer.trainable:
            continue
        if layer.path in signals and signals[layer.path].zero > 0.9:
            continue  # dead_relu says it
        lean = abs(kernel.mean) / kernel.std
        together = lean * math.sqrt(max(layer.inputs or 1, 1))
        if lean * math.sqrt(kernel.count) < limits.surely or (lean < limits.lean and together < limits.common):
            continue
        activation = activation_after(record, layer)
        side = "above" if kernel.mean > 0.0 else "below"
        yield Finding(
            "bad_init_scale", "warning", 0.85,
            f"layer {layer.path}: the weights begin on one side of 0: their mean is {kernel.mean:.3g}, {side} 0 by "
            f"{lean:.2g} of their deviation {kernel.std:.3g} (limit {limits.lean:g}; over {layer.inputs} inputs "
            f"{together:.2g} times what chance gives, limit {limits.common:g}). All units say the same then. Draw them "
            f"around 0.",
            {"mean": kernel.mean, "std": kernel.std, "lean": lean, "common": together, "limit": limits.lean},
            layer=layer.path, remedies=(_drawn_anew(layer, activation),),
        )


@rule(
    "bad_init_scale", phase="check", growth=3.0,
    why="A memory forgets: from the start that is usual (an orthogonal matrix from step to step) the last answer of a "
    "gated layer hangs on the first step a hundredth to a tenth as much as on the last one, that of a plain layer up "
    "to as much. Where it is more than `growth` times, everything grows from step to step: signals, or their gradients "
    "where the activation holds the signals (Pascanu et al. 2013). Clipped gradients are an answer to it.",
    causes=("nan_in_data", "input_not_normalized"),
)
def growing_memory(record: Record, limits: Any) -> Iterator[Finding]:
    """Recurrent weights with which a sequence grows from step to step."""
    for path, memory in (record.probes.get("memories") or {}).items():
        if not memory.growth > limits.growth or not math.isfinite(memory.raw):
            continue
        held = clipped(record.run)
        layer = path.removesuffix(".forward").removesuffix(".backward")
        yield Finding(
            "bad_init_scale", "note" if held else "warning", 0.5 if held else 0.85,
            f"recurrent layer {path}: the last answer hangs on the first of {memory.steps} steps {memory.growth:.3g} "
            f"times as much as on the last (limit {limits.growth:g}; sound ones forget): the weights from step to step "
            f"(deviation {memory.scale:.3g} times that of an orthogonal matrix) make everything grow, and gradients "
            f"explode on their way back. Start them orthogonal.",
            {"growth": memory.growth, "limit": limits.growth, "steps": memory.steps, "scale": memory.scale,
             "size": memory.size}, layer=layer,
            remedies=(Remedy("Start the recurrent weights orthogonal.", 'recurrent_initializer="orthogonal"',
                             changes.edited(partial(_orthogonal, layer))),),
        )


def _orthogonal(path: str, plan: Blueprint) -> None:
    plan.set(path, recurrent_initializer="orthogonal")


@rule(
    "unstable_activation_scale", phase="check", low=0.45, high=2.0, shrunk=0.01, grown=20.0, layers=3, nothing=3e-3,
    cut=1e-5,
    why="low, high: RULES, as the geometric mean over the depth, so that tanh under Glorot (which loses a little) and "
    "ReLU under Glorot (0.7 per layer) stay silent; shrunk, grown: only where it adds up to 100 or 20 times. Of deep "
    "stacks less than `nothing` may be left although each layer loses little: that is noted, and said where the run "
    "then falls short. A single layer that leaves less than `cut` is a path that is cut off, not a scale.",
    causes=("bad_init_scale", "symmetric_init", "bad_bias_init", "input_not_normalized"),
)
def unstable_activation_scale(record: Record, limits: Any) -> Finding | None:
    """A signal that grows or shrinks from layer to layer."""
    signals = record.probes.get("signals") or {}
    path = [layer for layer in weighted(record) if layer.path in signals][:-1]  # the last layer may start small
    if len(path) < limits.layers or any(signals[layer.path].nonfinite for layer in path):
        return None
    values = [signals[layer.path].std for layer in path]
    if values[0] <= 0 or any(normalized_after(record, layer) for layer in path[1:]):
        return None
    if any(b < limits.cut * a for a, b in zip(values, values[1:], strict=False)):
        return None  # one place lets nothing through: no matter of scale
    ratio = max(values[-1], 1e-30) / values[0]
    factor = ratio ** (1 / (len(values) - 1))
    steady = limits.low <= factor <= limits.high
    if (steady and ratio >= limits.nothing) or limits.shrunk <= ratio <= limits.grown:
        return None
    worst = min(range(1, len(values)), key=lambda i: -abs(math.log(max(values[i], 1e-30) / max(values[i - 1], 1e-30))))
    layer = path[worst]
    activation = activation_after(record, layer)
    shown = ", ".join(f"{v:.2g}" for v in (values if len(values) <= 8 else [*values[:4], *values[-4:]]))
    advice = (
        f'Use "{advised(activation)}" for {activation}.' if activation not in ("sigmoid",) else
        "Use relu with he_normal instead of sigmoid, or put BatchNorm between the layers."
    )
    return Finding(
        "unstable_activation_scale", "warning", min(0.9, 0.6 + 0.1 * abs(math.log10(ratio))) - 0.2 * steady,
        f"the outputs of the {len(values)} hidden layers have standard deviations {shown}: {factor:.2g} times per "
        f"layer (limits {limits.low:g} and {limits.high:g}), {ratio:.2g} times in all (limits {limits.shrunk:g} and "
        f"{limits.grown:g}). Late layers see almost nothing, or saturate. {advice}",
        {"stds": values, "factor": factor, "ratio": ratio, "limit_low": limits.low, "limit_high": limits.high},
        layer=layer.path,
        remedies=(
            rectify() if activation == "sigmoid" else initial(advised(activation), words=advice),
            batch_norm("Or put BatchNorm between the layers."),
        ),
    )


@rule(
    "unstable_activation_scale", phase="check", left=0.1,
    why="A softmax between two layers turns what it gets into shares: of k units each is about 1/k, and they differ by "
    "that at most. What gates, or chooses places, is multiplied with something else; what goes into the next kernel as "
    "it is has lost all but `left` of its spread, and gradients as much on their way back.",
    causes=("bad_init_scale", "symmetric_init", "bad_bias_init", "input_not_normalized", "one_unit_softmax"),
)
def shares_between_layers(record: Record, limits: Any) -> Iterator[Finding]:
    """A softmax between two layers."""
    signals = record.probes.get("signals") or {}
    layers = {layer.path: layer for layer in record.model.layers}
    for layer in record.model.layers:
        for source in layer.sources if layer.inputs is not None and not layer.through else ():
            before, signal = layers.get(source), signals.get(source)
            if before is None or before.activation != "softmax" or signal is None or (before.units or 1) < 2:
                continue
            given = signal.incoming if signal.raw is None else signal.raw
            if not 0.0 < signal.std < limits.left * given:
                continue
            yield Finding(
                "unstable_activation_scale", "warning", 0.85,
                f"layer {source} gives a softmax of {before.units} units to layer {layer.path}: they sum to 1, and "
                f"their deviation is {signal.std:.2g}, {signal.std / given:.2g} times that of what the softmax gets "
                f"(limit {limits.left:g}). The next layer sees nearly the same for every row, and hardly a gradient "
                f"comes back. Use relu between layers, and the softmax at the end only.",
                {"std": signal.std, "given": given, "limit": limits.left, "units": before.units}, layer=source,
                remedies=(rectify(),),
            )


@rule(
    "bad_bias_init", phase="check", times=2.5, least=0.5, gate=4.0, spreads=3.0,
    why="A bias of 2.5 times the spread of what it is added to holds 99 % of a ReLU's inputs on one side of 0; below "
    "`least` it is harmless (0.1 and 0.01 are used on purpose). Gates begin open with 1 to 3; at `gate` they are shut "
    "or open for 98 of 100. A last bias set by hand belongs within 3 standard deviations of the target.",
)
def bad_bias_init(record: Record, limits: Any) -> Iterator[Finding]:
    """Large hidden biases, or a last bias far from the target."""
    signals = record.probes.get("signals") or {}
    layers = weighted(record)
    for path, memory in (record.probes.get("memories") or {}).items():
        least = limits.least if memory.gates == 1 else limits.gate
        if memory.bias <= least or memory.bias <= limits.times * memory.raw:
            continue
        yield Finding(
            "bad_bias_init", "warning", 0.85,
            f"recurrent layer {path}: biases have size {memory.bias:.3g} (limit {least:g}), "
            f"{memory.bias / max(memory.raw, 1e-30):.3g} times the spread {memory.raw:.3g} of what the inputs add "
            f"(limit {limits.times:g}). They decide alone what is kept and what is let in. Start biases at 0.",
            {"size": memory.bias, "spread": memory.raw, "limit": least}, layer=path, remedies=(Remedy(
                "Start biases at 0.", 'bias_initializer="zeros"', changes.bias(path, "zeros")),),
        )
    for layer in layers[:-1]:
        bias, signal = layer.parameters.get("bias"), signals.get(layer.path)
        if bias is None or signal is None or signal.raw is None or normalized_after(record, layer):
            continue
        typical = math.sqrt(bias.mean**2 + bias.std**2)
        if typical <= limits.least or typical <= limits.times * signal.raw:
            continue
        ratio = typical / max(signal.raw, 1e-30)
        activation = activation_after(record, layer)
        dead = f", and {100 * signal.zero:.0f} % of its units give 0 for every row" if signal.zero > 0.05 else ""
        yield Finding(
            "bad_bias_init", "warning", 0.85,
            f"layer {layer.path}: biases have size {typical:.3g} (mean {bias.mean:.3g}), {ratio:.3g} times the spread "
            f"{signal.raw:.3g} of what they are added to (limit {limits.times:g}){dead}. They decide alone which side "
            f"of {activation} a unit is on. Start biases at 0.",
            {"size": typical, "mean": bias.mean, "spread": signal.raw, "ratio": ratio, "limit": limits.times,
             "dead": signal.zero},
            layer=layer.path, remedies=(Remedy(
                "Start biases at 0.", 'bias_initializer="zeros"', changes.bias(layer.path, "zeros")),),
        )
    yield from _last_bias(record, layers, limits)


def _last_bias(record: Record, layers: list[LayerFacts], limits: Any) -> Iterator[Finding]:
    labels = getattr(record.data, "labels", None)
    if not layers or labels is None:
        return
    layer = layers[-1]
    bias = layer.parameters.get("bias")
    if bias is None or bias.largest <= limits.least:
        return
    goal: float | None = None
    spread = 1.0
    if record.run.task == "regression" and layer.activation in (None, "linear"):
        goal, spread = labels.mean, max(math.sqrt(labels.spread), 1e-12)
        off = abs(bias.mean - goal) / spread
        words = f"the target's mean is {goal:.3g} and its standard deviation {spread:.3g}"
    elif record.run.task == "binary" and bias.count == 1 and labels.counts:
        share = min(max(labels.mean, 1e-3), 1 - 1e-3)
        goal = math.log(share / (1 - share))
        off = abs(bias.mean - goal)
        words = f"the log-odds of class 1 are {goal:.3g}"
    elif record.run.task == "multiclass" and bias.count == labels.classes and bias.std > limits.spreads:
        off, goal = bias.std, 0.0
        words = f"they differ by {bias.std:.3g} from class to class"
    else:
        return
    if off <= limits.spreads:
        return
    yield Finding(
        "bad_bias_init", "warning", 0.85,
        f"layer {layer.path}: the last bias starts at {bias.mean:.3g}; {words}, which is {off:.3g} away (limit "
        f"{limits.spreads:g}). The first epochs go into the bias alone. Start it there, or at 0.",
        {"bias": bias.mean, "goal": goal, "away": off, "limit": limits.spreads}, layer=layer.path,
        remedies=(
            Remedy("Start it at the mean or the log-odds.", f"bias_initializer=db.initializers.constant({goal:.4g})",
                   changes.bias(layer.path, {"name": "constant", "value": goal})) if bias.count == 1 else
            Remedy("Start it at 0.", 'bias_initializer="zeros"', changes.bias(layer.path, "zeros")),
        ),
    )
