"""Rules about gradients and activations on their way through the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import batch_norm, cooler, initial, rectify, slower
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import chance, clipped, gradient_rms, kernels, last_level, layer_of
from deepbabysit.babysit.vitals import Record, StepVitals

_SKIP = Remedy("add skip connections around pairs of layers")


def _spread(step: StepVitals, depth: int) -> tuple[str, str, float, float] | None:
    """Return (first, last, rms of the first kernel's gradient, rms of the last one's)."""
    found = [(p.path, g) for p in kernels(step) if (g := gradient_rms(p)) is not None]
    if len(found) < depth or not all(math.isfinite(g) for _, g in found):
        return None
    # the weakest of the early half against the strongest of the late half would find noise: ends only
    return found[0][0], found[-1][0], found[0][1], found[-1][1]


@rule("vanishing_gradient", phase="step",
      why="first/last < 1e-3 and first < 1e-4 (UMLAUT, DeepLocalize); seen in several measured steps, so that one odd "
          "batch says nothing; layers count from 3 on",
      causes=("saturated_activation", "dead_relu", "bad_init_scale", "unstable_activation_scale", "symmetric_init",
              "input_not_normalized", "learning_rate_too_high", "nan_loss", "regularization_too_strong"),
      ratio=1e-3, smallest=1e-4, depth=3, times=3)
def vanishing_gradient(record: Record, limits: Any) -> Finding | None:
    """The gradient of the first layer is far below that of the last one."""
    recent = record.steps[-int(limits.times) :]
    spreads = [_spread(s, int(limits.depth)) for s in recent]
    known = [s for s in spreads if s is not None]
    if len(known) < limits.times or any(late == 0.0 for *_, late in known):
        return None
    if not all(early < limits.smallest and early / late < limits.ratio for *_, early, late in known):
        return None
    first, last, early, late = known[-1]
    share = median(e / g for *_, e, g in known)
    # first layers that get exactly nothing are cut off, not starved: dead units or a broken path say so
    confidence = 0.95 if share < limits.ratio / 100 else 0.8
    return Finding(
        "vanishing_gradient", "warning", confidence,
        f"the gradient of {first} is {early:.2g} per weight, {share:.2g} times that of {last} ({late:.2g}, limit "
        f"{limits.ratio:g}), in the last {len(known)} measured steps. The first layers hardly learn.",
        {"first": early, "last": late, "ratio": share, "limit": limits.ratio}, layer=layer_of(first),
        step=recent[-1].step, epoch=recent[-1].epoch, remedies=(rectify(), batch_norm(), _SKIP),
    )


@rule("exploding_gradient", phase="step",
      why="first/last > 70 (DeepDiagnosis); growth of the norm without end; a norm that outweighs the weights moves "
          "them farther in one step than they are long",
      causes=("bad_init_scale", "unstable_activation_scale", "input_not_normalized", "target_not_normalized"),
      ratio=70.0, growth=100.0, weight=1.0, times=2, depth=3)
def exploding_gradient(record: Record, limits: Any) -> Finding | None:
    """Gradients grow on their way back through the layers, or from step to step."""
    steps = [s for s in record.steps if s.gradient_norm is not None and math.isfinite(s.gradient_norm)]
    if clipped(record.run) or len(steps) < 2:
        return None
    recent = steps[-int(limits.times) :]
    norms = [s.gradient_norm or 0.0 for s in steps]
    lengths = [math.sqrt(sum(p.weight.norm**2 for p in kernels(s))) for s in recent]
    start = median(norms[:3])
    heavy = all((s.gradient_norm or 0.0) > limits.weight * max(w, 1e-12) for s, w in zip(recent, lengths, strict=True))
    evidence: dict[str, Any] = {"gradient_norm": norms[-1], "first_norm": start, "weight_norm": lengths[-1]}
    if len(steps) > 3 and heavy and min(n.gradient_norm or 0.0 for n in recent) > limits.growth * max(start, 1e-12):
        text = (
            f"the norm of the gradient grew from {start:.3g} to {norms[-1]:.3g}, {norms[-1] / max(start, 1e-12):.0f} "
            f"times (limit {limits.growth:g}); the weights have the norm {lengths[-1]:.3g}."
        )
        return _exploding(record, recent[-1], text, {**evidence, "limit": limits.growth}, 0.85, None)
    spreads = [_spread(s, int(limits.depth)) for s in recent]
    known = [s for s in spreads if s is not None and s[3] > 0.0]
    if heavy and len(known) == len(recent) and all(e / g > limits.ratio for *_, e, g in known):
        first, last, early, late = known[-1]
        text = (
            f"the gradient of {first} is {early / late:.0f} times that of {last} per weight (limit {limits.ratio:g}), "
            f"and its norm {norms[-1]:.3g} is larger than that of the weights ({lengths[-1]:.3g})."
        )
        evidence |= {"ratio": early / late, "limit": limits.ratio}
        return _exploding(record, recent[-1], text, evidence, 0.85, layer_of(first))
    return None


def _exploding(
    record: Record, step: StepVitals, text: str, evidence: dict[str, Any], confidence: float, layer: str | None
) -> Finding:
    return Finding(
        "exploding_gradient", "warning", confidence, text + " One step throws the weights far off.", evidence,
        layer=layer, step=step.step, epoch=step.epoch,
        remedies=(*cooler(record)[::-1], Remedy(
            "use initial weights that fit the activation: he_normal for ReLU, glorot_uniform for tanh",
            'kernel_initializer="he_normal"', changes.initialize())),
    )


@rule("dead_relu", phase="step",
      why="95th percentile < 1e-5 in > 50 % of a layer (UMLAUT); a unit counts as dead when it was 0 for every one of "
          "the last rows, so that sparse layers (80 % zeros) stay silent. It is a note where the rest learned well, "
          "and where not `more` of them are closed than before the first step: of a few filters as many are by chance",
      causes=("learning_rate_too_high", "bad_init_scale", "bad_bias_init", "input_not_normalized",
              "regularization_too_strong", "dead_weights", "symmetric_init", "dropout_too_high", "batchnorm_misuse",
              "missing_output_activation", "wrong_loss_for_output", "target_out_of_range", "unstable_activation_scale",
              "input_normalized_twice", "target_not_normalized", "corrupted_labels", "conflicting_labels",
              "missing_zero_grad", "loss_reduction_sum"),
      share=0.5, rows=192, most=0.9, few=64, learned=0.15, more=0.15)
def dead_relu(record: Record, limits: Any) -> list[Finding]:
    """More than half of a layer's units give 0 for every sample."""
    if not record.steps or _cut_off(record):
        return []
    step = record.steps[-1]
    guess, level = chance(record), last_level(record.curve())
    learned = bool(guess and level is not None and level < limits.learned * guess)
    born = record.probes.get("signals") or {}
    found = []
    for path, layer in step.layers.items():
        units = layer.units
        if units is None or units.saturated is not None or units.units < 2:
            continue
        share = units.dead / units.units
        # a whole layer at 0 is seen with fewer rows than single units that may only be rare
        if share <= limits.share or units.rows < (limits.few if share > limits.most else limits.rows):
            continue
        everything = units.dead == units.units
        natural = path in born and share <= born[path].zero + limits.more and share <= limits.most
        harmless = not everything and (learned or natural)
        found.append(
            Finding(
                "dead_relu", "error" if everything else "note" if harmless else "warning", min(0.6 + 0.4 * share, 0.99),
                f"{units.dead} of {units.units} units of layer {path} gave 0 for every one of the last rows measured "
                f"({units.rows} or more; limit {limits.share:.0%} of the units). Their gradient is 0, so they stay dead"
                + (": no gradient passes to the layers before." if everything else "."),
                {"dead": units.dead, "units": units.units, "share": share, "limit": limits.share}, layer=path,
                step=step.step, epoch=step.epoch,
                remedies=(_leaky(path), initial("he_normal"), slower(record)),
            )
        )
    return found


def _leaky(path: str) -> Remedy:
    return Remedy(f"use LeakyReLU in {path}, with he_normal weights", 'activation="leaky_relu"', changes.leaky((path,)))


def _cut_off(record: Record) -> bool:
    """Tell whether no path leads from the input to the output: then units that see nothing are no wonder."""
    found = record.probes.get("ignores")
    return found is not None and found.drawn <= 1e-6


@rule("dead_relu", phase="check",
      why="of units drawn around 0 half are open for any row, and hardly one in a thousand is closed for all of a "
          "batch; inputs far from 0 close up to half of them; where 9 of 10 give 0 for every row before the first "
          "step, the layer was born dead, and no rate wakes it",
      share=0.9)
def born_dead(record: Record, limits: Any) -> Iterator[Finding]:
    """Rectifiers that are closed for every row before training."""
    signals = record.probes.get("signals") or {}
    if _cut_off(record):
        return
    layers = {layer.path: layer for layer in record.model.layers if layer.activation == "relu"}
    for path, layer in layers.items():
        signal = signals.get(path)
        if signal is None or signal.zero <= limits.share or (layer.units or 1) < 2:
            continue
        kernel, bias = layer.parameters.get("kernel"), layer.parameters.get("bias")
        why = ""
        if kernel is not None and kernel.mean + kernel.std < 0.0:
            why = f" Its weights are nearly all below 0 (mean {kernel.mean:.3g}, largest {kernel.maximum:.3g})."
        elif bias is not None and bias.mean < 0.0:
            why = f" Its biases are {bias.mean:.3g} in the mean."
        yield Finding(
            "dead_relu", "error" if signal.zero == 1.0 else "warning", 0.95,
            f"{signal.zero:.0%} of the {layer.units} units of layer {path} give 0 for every row of a batch before the "
            f"first step (limit {limits.share:.0%}): no gradient passes, so they never learn.{why} Draw the weights "
            f"around 0.",
            {"share": signal.zero, "units": layer.units, "limit": limits.share}, layer=path,
            remedies=(initial("he_normal", words="Draw the kernels around 0, and start biases at 0."), _leaky(path)),
        )


@rule("saturated_activation", phase="step",
      why="pre-activation beyond 5 (tanh: 9.5) in > 50 % (DeepDiagnosis); here both where the slope is under 3 % of "
          "its largest; the output layer may saturate, that is being sure",
      causes=("bad_init_scale", "input_not_normalized", "bad_bias_init", "learning_rate_too_high", "weights_diverging",
              "batchnorm_misuse", "target_out_of_range", "target_not_normalized", "wrong_loss_for_output"),
      share=0.5, times=3)
def saturated_activation(record: Record, limits: Any) -> list[Finding]:
    """More than half of a hidden layer's values lie on the flat part of a sigmoid or tanh."""
    recent = record.steps[-int(limits.times) :]
    if len(recent) < limits.times:
        return []
    hidden = list(recent[-1].layers)[:-1]
    found = []
    for path in hidden:
        shares = [
            s.layers[path].units.saturated  # type: ignore[union-attr]
            for s in recent
            if path in s.layers and s.layers[path].units is not None
        ]
        known = [s for s in shares if s is not None]
        if len(known) < len(recent) or min(known) <= limits.share:
            continue
        share = known[-1]
        found.append(
            Finding(
                "saturated_activation", "warning", min(0.6 + 0.4 * share, 0.95),
                f"{share:.0%} of the outputs of layer {path} lie on the flat part of its activation (limit "
                f"{limits.share:.0%}), in the last {len(recent)} measured steps. Gradients hardly pass there.",
                {"share": share, "limit": limits.share}, layer=path, step=recent[-1].step, epoch=recent[-1].epoch,
                remedies=(
                    Remedy("scale the inputs to mean 0 and deviation 1", "x = db.data.ZScore().fit(x).transform(x)",
                           changes.scale_inputs()),
                    initial("glorot_normal", words="start the hidden layers with smaller weights and zero biases"),
                    rectify(),
                    batch_norm(),
                ),
            )
        )
    return found
