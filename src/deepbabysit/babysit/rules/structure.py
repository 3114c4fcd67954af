"""Rules about how the model is built and whether it works at all, asked before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import batches, wider
from deepbabysit.babysit.rules.data import data_of, percent
from deepbabysit.babysit.rules.initialization import activation_after, weighted
from deepbabysit.babysit.rules.reach import yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import LayerFacts, Record

AFFINE = frozenset({"Dense", "Conv1D", "Conv2D"})
LINEAR_LAYERS = frozenset({"Flatten", "Reshape", "Dropout", "BatchNorm", "AvgPool2D", "GlobalAvgPool2D"})
LINEAR_OPERATIONS = frozenset({
    "reshape", "flatten_rows", "permute_dims", "astype", "copy", "expand_dims", "squeeze", "stop_gradient", "to",
})


def rows_remembered(norm: LayerFacts, batch: int) -> float:
    """Return of how many rows running statistics are as good as the mean: ``batch (1 + momentum) / (1 - momentum)``.

    Places of an image count as rows.
    """
    momentum = min(float(norm.settings.get("momentum", 0.99)), 1.0 - 1e-9)
    return batch * float(norm.settings.get("positions", 1)) * (1.0 + momentum) / (1.0 - momentum)


def by_path(record: Record) -> dict[str, LayerFacts]:
    """Return the layers by path (the last call of a layer that is called twice)."""
    return {layer.path: layer for layer in record.model.layers}


def _linear(layer: LayerFacts) -> bool:
    return layer.kind in LINEAR_LAYERS or _idle(layer)


def _idle(layer: LayerFacts) -> bool:
    """Tell whether a layer hands its input through as it is: what comes behind it has the input's own source."""
    return (layer.kind == "Activation" and layer.activation in (None, "linear")) or (
        layer.kind == "LeakyReLU" and layer.settings.get("slope") == 1.0)


def _affine_before(record: Record, layer: LayerFacts) -> tuple[LayerFacts, bool] | None:
    """Return the affine layer whose output reaches this one through linear steps only, and whether others join in."""
    layers = by_path(record)
    here = layer
    for _ in range(len(record.model.layers) + 1):
        if len(here.sources) != 1 or not set(here.through) <= LINEAR_OPERATIONS:
            return None
        before = layers.get(here.sources[0])
        if before is None:
            return None
        if before.kind in AFFINE:
            joined = sum(before.path in other.sources and not _idle(other) for other in record.model.layers) > 1
            return (before, joined) if before.activation in (None, "linear") else None
        if not _linear(before):
            return None
        here = before
    return None


@rule(
    "missing_hidden_activation", phase="check", layers=1, bent=0.03, straight=0.1, away=5.0, large=10.0,
    why="Two affine maps are one affine map. A layer narrower than what comes before and behind it is a bottleneck, "
    "which is often meant so, and an output that others use as well may be meant so, too. Where a linear model is "
    "better than guessing by `bent`, and a kernel model no better than that, a linear one is enough, and it is only "
    "noted. Whatever the layers are called: a model with several kernels that maps sums of rows to sums of outputs, "
    "within `straight` of how outputs differ (float32 rounds to 1e-5 of that; networks with tanh or elu are 0.3 away "
    "and more), is as good as one affine map. Units with an activation are never bent where inputs lie so "
    "far `away` from 0 in their own spread, or are so `large`: that is a matter of their scale, and only noted.",
)
def missing_hidden_activation(record: Record, limits: Any) -> Iterator[Finding]:
    """Affine layers whose output goes into another affine layer unchanged, or a model that is linear as a whole."""
    found = list(_two_in_a_row(record, limits))
    yield from found
    deviation, kernels = record.probes.get("straight"), weighted(record)
    if deviation is None or deviation > limits.straight or len(kernels) < 2 or found:
        return
    bends = any(activation_after(record, k) != "linear" for k in kernels[:-1])
    enough = _straight(record, limits) or (bends and _off(record, limits))
    named = ", ".join(layer.path for layer in kernels[:-1])
    yield Finding(
        "missing_hidden_activation", "note" if enough else "warning", 0.5 if enough else 0.9,
        f"the whole model is as good as linear: for sums of rows it gives the sums of their outputs, within "
        f"{deviation:.2g} of how outputs differ (limit {limits.straight:g}), although it has {len(kernels)} layers "
        f"with weights. They are as good as one. Give the hidden layers ({named}) an activation that bends.",
        {"deviation": deviation, "limit": limits.straight, "kernels": len(kernels)}, layer=kernels[0].path,
        remedies=(Remedy(
            "Give the hidden layers relu.", 'activation="relu", kernel_initializer="he_normal"',
            changes.activate("relu", tuple(layer.path for layer in kernels[:-1]), "he_normal")),),
    )


def _straight(record: Record, limits: Any) -> bool:
    """Tell whether a linear model is enough: it knows something, and a kernel model no more."""
    known = yardstick_of(record)
    return known is not None and known.own_curved - known.own_linear < limits.bent and (
        known.own_linear > known.own_guess + limits.bent)


def _off(record: Record, limits: Any) -> bool:
    """Tell whether inputs are so scaled that no unit's activation is bent by them."""
    data = data_of(record)
    for found in data.inputs if data is not None else ():
        away = [abs(mean) / std for mean, std in zip(found.mean, found.std, strict=True) if std > 0]
        if not found.ids and away and (median(away) > limits.away or max(found.std) > limits.large):
            return True
    return False


def _two_in_a_row(record: Record, limits: Any) -> Iterator[Finding]:
    """Find affine layers whose output goes into another affine layer unchanged."""
    for layer in record.model.layers:
        if layer.kind not in AFFINE:
            continue
        found = _affine_before(record, layer)
        if found is None:
            continue
        before, joined = found
        narrow = (before.units or 0) < min(before.inputs or 0, layer.units or 0)
        if narrow or joined:
            continue
        enough = _straight(record, limits)
        yield Finding(
            "missing_hidden_activation", "note" if enough else "warning", 0.5 if enough else 0.9,
            f"layer {before.path} ({before.kind}, {before.units} units) has no activation and its output goes into "
            f"{layer.path} ({layer.kind}, {layer.units} units): 2 affine layers in a row, limit {int(limits.layers)}. "
            f"Together they are one linear layer, and {before.units} units add nothing. Add an activation.",
            {"layers": 2, "limit": int(limits.layers), "units": before.units, "next": layer.path},
            layer=before.path,
            remedies=(
                Remedy(f"Give layer {before.path} an activation.",
                       f'Dense({before.units}, activation="relu", kernel_initializer="he_normal")'
                       if before.kind == "Dense" else 'activation="relu", kernel_initializer="he_normal"',
                       changes.activate("relu", (before.path,), "he_normal")),
            ),
        )


@rule(
    "dropout_too_high", phase="check", rate=0.5, extreme=0.7,
    why="0.5 is what the paper found best for hidden layers (Srivastava et al. 2014); RULES: above 0.5.",
)
def dropout_too_high(record: Record, limits: Any) -> Iterator[Finding]:
    """Dropout rates above a half."""
    for layer in by_path(record).values():
        rate = layer.settings.get("rate") if layer.kind == "Dropout" else None
        if not isinstance(rate, float) or rate <= limits.rate:
            continue
        yield Finding(
            "dropout_too_high", "warning", 0.9 if rate >= limits.extreme else 0.7,
            f"layer {layer.path} drops {percent(rate)} of its inputs in training (limit {percent(limits.rate)}): what "
            f"is left is multiplied by {1 / (1 - rate):.3g}, and its noise outweighs the signal. Use "
            f"{limits.rate:g} or less.",
            {"rate": rate, "limit": limits.rate}, layer=layer.path,
            remedies=(Remedy(f"Use {limits.rate:g} or less.", f"Dropout({limits.rate:g})",
                             changes.dropout_at_most(limits.rate)),),
        )


@rule(
    "batchnorm_misuse", phase="check", batch=2, small=4, kept=0.5, dropped=0.3, steps=20, remembered=24,
    epsilon=0.01, spread=0.5,
    why="One row has no variance and two have one number for it. `kept`: weight that the starting values 0 and 1 still "
    "have in the running statistics when the run ends. Dropout before it changes the variance between training and "
    "test (Li et al. 2019). A bias before it is only superfluous. An "
    "epsilon above `epsilon` that leaves less than `spread` of the outputs' size hides the variance.",
)
def batchnorm_misuse(record: Record, limits: Any) -> Iterator[Finding]:
    """Batch normalization that cannot work."""
    layers = by_path(record)
    norms = [layer for layer in layers.values() if layer.kind == "BatchNorm"]
    size, signals = record.run.batch_size, record.probes.get("signals") or {}
    if norms and size is not None and size <= limits.small:
        norm = norms[0]
        positions = norm.settings.get("positions", 1)
        if positions == 1:
            yield Finding(
                "batchnorm_misuse", "error" if size == 1 else "warning" if size <= limits.batch else "note",
                0.97 if size == 1 else 0.8,
                f"layer {norm.path} normalizes over batches of {size} rows (limit {int(limits.small)}): "
                + ("one row minus its own mean is 0, so the output is beta whatever the input." if size == 1 else
                   "mean and variance of so few rows are mostly noise.")
                + " Use larger batches, or LayerNorm.",
                {"batch_size": size, "limit": int(limits.small)}, layer=norm.path,
                remedies=(batches(32), Remedy("Or normalize over features.", "db.layers.LayerNorm()",
                                              changes.layer_norm(norm.path))),
            )
    for norm in norms:
        momentum = float(norm.settings.get("momentum", 0.99))
        if size is not None and size > limits.small and (kept := rows_remembered(norm, size)) < limits.remembered:
            yield Finding(
                "batchnorm_misuse", "note", 0.6,
                f"layer {norm.path}: with momentum {momentum:g} and batches of {size} the running statistics remember "
                f"about {kept:.0f} rows (limit {int(limits.remembered)}), so inference hangs on the last batch. The "
                f"momentum weighs the old value here, the new one in other libraries. Use 0.9.",
                {"rows": kept, "momentum": momentum, "batch_size": size, "limit": limits.remembered}, layer=norm.path,
                remedies=(Remedy("Remember more rows.", "db.layers.BatchNorm(momentum=0.9)", changes.momentum(0.9)),),
            )
        fresh = norm.settings.get("fresh_moving_mean", False) and norm.settings.get("fresh_moving_var", False)
        planned = (record.run.steps or 0) * (record.run.epochs or 0)
        if norm.settings.get("frozen") and fresh:
            yield _never_updated(norm, "it is frozen", 1.0, limits)
        elif momentum >= 1.0:
            yield _never_updated(norm, f"momentum is {momentum:g}", 1.0, limits)
        elif fresh and planned >= limits.steps and momentum**planned > limits.kept:
            yield _never_updated(norm, f"momentum is {momentum:g} and {planned} steps are planned", momentum**planned,
                                 limits)
        signal, gamma = signals.get(norm.path), norm.parameters.get("gamma")
        size_of = 1.0 if gamma is None else gamma.norm / math.sqrt(max(gamma.count, 1))
        epsilon = norm.settings.get("epsilon", 0.0)
        if signal is not None and epsilon > limits.epsilon and 0.0 < signal.std < limits.spread * size_of:
            yield Finding(
                "batchnorm_misuse", "warning", 0.85,
                f"layer {norm.path}: epsilon is {epsilon:g} (usual 1e-3 to 1e-5, limit {limits.epsilon:g}), so its "
                f"outputs have a deviation of {signal.std:.2g} instead of {size_of:.2g} (limit {limits.spread:g} of "
                f"it): epsilon stands beside the variance, and hides it. Use 1e-3.",
                {"epsilon": epsilon, "std": signal.std, "limit": limits.epsilon}, layer=norm.path,
                remedies=(Remedy("Use a small epsilon.", "db.layers.BatchNorm(epsilon=1e-3)",
                                 changes.epsilon(norm.path, 1e-3)),),
            )
        before = layers.get(norm.sources[0]) if len(norm.sources) == 1 else None
        if before is None:
            continue
        rate = before.settings.get("rate") if before.kind == "Dropout" else None
        if isinstance(rate, float) and rate > 0:
            yield Finding(
                "batchnorm_misuse", "warning" if rate >= limits.dropped else "note", 0.6,
                f"layer {norm.path} (BatchNorm) stands directly behind {before.path} (Dropout {rate:g}, limit "
                f"{limits.dropped:g}): in training its inputs have {1 / (1 - rate):.3g} times the power that they "
                f"have at inference, so the running variance is wrong there. Move the dropout behind the last "
                "BatchNorm.",
                {"rate": rate, "power": 1 / (1 - rate), "limit": limits.dropped}, layer=norm.path,
                remedies=(Remedy("Move the dropout behind the last BatchNorm.", "",
                                 changes.dropout_last(before.path)),),
            )
        elif before.kind in AFFINE and before.settings.get("use_bias") and before.activation in (None, "linear"):
            yield Finding(
                "batchnorm_misuse", "note", 0.5,
                f"layer {before.path} has {before.units} biases (0 are needed) and {norm.path} (BatchNorm) takes them "
                f"off again with the mean. They do nothing. Leave them out.",
                {"biases": before.units, "limit": 0}, layer=before.path,
                remedies=(Remedy("Leave the bias out.", "use_bias=False", changes.unbias(before.path)),),
            )


@rule(
    "batchnorm_misuse", phase="check", batch=16,
    why="A normalized output has the mean and the spread of its batch, whatever the inputs say: numbers to be "
    "predicted lose their scale, and answers before a sigmoid or softmax can never become sure. With gamma and beta to "
    "learn it back, numbers from batches of more than `batch` rows are only noted.",
)
def normalized_output(record: Record, limits: Any) -> Finding | None:
    """Batch normalization of the outputs themselves, or of the answers before the last activation."""
    behind = [layer for layer in record.model.layers if layer.kind != "Activation"]
    last = behind[-1] if behind else None
    numbers = record.run.task == "regression"
    if last is None or last.kind != "BatchNorm" or record.run.task is None:
        return None
    bare = "gamma" not in last.parameters
    if not bare and not numbers:
        return None
    size = record.run.batch_size
    loud = bare or (size is not None and size <= limits.batch)
    harm = "every batch of predictions gets the same mean and spread, whatever its targets are" if numbers else (
        "the answers keep a deviation of 1 for ever, so none can become surer than the first ones")
    return Finding(
        "batchnorm_misuse", "warning" if loud else "note", 0.8,
        f"layer {last.path} (BatchNorm) normalizes the output itself, over batches of {size} rows (limit "
        f"{int(limits.batch)})" + (", without factors that could give the scale back" if bare else "")
        + f": {harm}. Take it out.",
        {"batch_size": size, "limit": int(limits.batch), "bare": bare}, layer=last.path,
        remedies=(Remedy("Take it out.", "", changes.edited(lambda plan: plan.remove(last.path))),),
    )


def _never_updated(norm: LayerFacts, reason: str, kept: float, limits: Any) -> Finding:
    return Finding(
        "batchnorm_misuse", "error" if kept == 1.0 else "warning", 0.95 if kept == 1.0 else 0.8,
        f"layer {norm.path}: {reason}, so {percent(kept)} of the running statistics are still the starting values 0 "
        f"and 1 at the end (limit {percent(limits.kept)}). Inference then normalizes with statistics of no data. Use "
        f"momentum=0.9.",
        {"kept": kept, "limit": limits.kept, "momentum": norm.settings.get("momentum")}, layer=norm.path,
        remedies=(Remedy("Let the statistics follow faster.", "db.layers.BatchNorm(momentum=0.9)",
                         changes.momentum(0.9)),),
    )


@rule(
    "mode_bug", phase="check", difference=1e-4,
    why="Rounding differs by 1e-6 at most between two runs of the same batch; 1e-4 of the output's size is a decision "
    "of the model.",
)
def mode_bug(record: Record, limits: Any) -> Iterator[Finding]:
    """Training and inference mode that do not differ as they should."""
    found = record.probes.get("modes")
    if found is None:
        return
    if found.inference > limits.difference:
        yield Finding(
            "mode_bug", "error", 0.95,
            f"in inference mode the same batch gives outputs that differ by {found.inference:.3g} of their size from "
            f"run to run (limit {limits.difference:g}): dropout or noise acts there. Evaluation then scores another "
            f"model each time. Draw noise in training mode only.",
            {"difference": found.inference, "limit": limits.difference},
            remedies=(
                Remedy("Take the mode from the argument training of call().",
                       "def call(self, x, training=False): ..."),
                Remedy("Do not pass training=True inside of the model."),
            ),
        )
    elif found.modes is not None and found.modes > limits.difference:
        yield Finding(
            "mode_bug", "note", 0.6,
            f"without dropout and batch statistics the outputs of training and inference mode differ by "
            f"{found.modes:.3g} of their size (limit {limits.difference:g}): a layer of yours behaves otherwise in "
            f"training. See that this is meant.",
            {"difference": found.modes, "limit": limits.difference},
            remedies=(Remedy("See which layer asks for the mode, and whether that is meant."),),
        )
    if found.left:
        yield Finding(
            "mode_bug", "note", 0.7,
            "the model was left in training mode by train() (1 call, limit 0): bare calls model(x) drop units and use "
            "batch statistics. fit, evaluate and predict choose by themselves. Call eval() before using it by hand.",
            {"left_in_training": 1, "limit": 0}, remedies=(Remedy("Call eval() first.", "model.eval()"),),
        )


@rule(
    "output_ignores_input", phase="check", change=1e-6,
    why="Different rows give outputs that differ by 1e-2 of their size and more in any network that reads them; below "
    "1e-6 it is rounding. With weights drawn anew, only the structure can be the reason.",
    causes=(
        "symmetric_init", "bad_bias_init", "one_unit_softmax", "nan_in_data", "wrong_loss_for_output",
        "missing_output_activation", "input_not_normalized", "bad_init_scale", "dead_relu",
        "unstable_activation_scale",
    ),
)
def output_ignores_input(record: Record, limits: Any) -> Finding | None:
    """The same output whatever the input."""
    found = record.probes.get("ignores")
    if found is None or found.inputs == 0.0 or (
        record.model.output_units == 1 and record.model.output_activation in ("softmax", "log_softmax")
    ):
        return None
    remedies: tuple[Remedy, ...] = (
        Remedy("Follow two different rows through the layers.", "model.summary()"),
        Remedy("See that call() uses its input, and not something made of its shape."),
    )
    if found.drawn <= limits.change:
        return Finding(
            "output_ignores_input", "error", 0.97,
            f"outputs of different rows, and of zeros, differ by {found.drawn:.2g} of their size (limit "
            f"{limits.change:g}), also with weights drawn anew: no path leads from the input to the output. Nothing "
            f"can be learned about the inputs. Follow the data through call().",
            {"change": found.drawn, "limit": limits.change, "inputs_differ_by": found.inputs}, remedies=remedies,
        )
    layers = weighted(record)
    last = layers[-1].parameters.get("kernel") if layers else None
    if found.now > limits.change or last is None or last.largest == 0.0:
        return None
    return Finding(
        "output_ignores_input", "warning", 0.85,  # what made the weights so is the error
        f"outputs of different rows, and of zeros, differ by {found.now:.2g} of their size (limit {limits.change:g}); "
        f"with weights drawn anew by {found.drawn:.2g}: these weights let nothing through (units that are all 0, or "
        f"saturated). Initialize them anew.",
        {"change": found.now, "drawn_anew": found.drawn, "limit": limits.change},
        remedies=(Remedy("Initialize all weights anew.", 'kernel_initializer="he_normal"', changes.both(
            changes.initialize(), changes.last_layer(kernel_initializer="glorot_normal", bias_initializer="zeros"))),
            *remedies),
    )


@rule(
    "batch_leak", phase="check", change=1e-3,
    why="One row's output may differ by rounding (1e-6) when other rows change; 1e-3 of how outputs differ is a path.",
)
def batch_leak(record: Record, limits: Any) -> Finding | None:
    """A row's output depends on other rows."""
    found = record.probes.get("leak")
    if found is None or found.change <= limits.change:
        return None
    where = f"; first seen at layer {found.layer}" if found.layer else ""
    return Finding(
        "batch_leak", "error", 0.95,
        f"the output of one row changes by {found.change:.3g} of how outputs differ when only other rows of the batch "
        f"change, in inference mode (limit {limits.change:g}){where}. A reshape or a sum runs over the batch axis. Use "
        f"axes behind the first.",
        {"change": found.change, "limit": limits.change}, layer=found.layer,
        remedies=(
            Remedy("Reduce and reshape behind the first axis only.", "x.reshape((x.shape[0], -1)); x.mean(axis=-1)"),
            Remedy("Swap axes with transpose, not with reshape.", "x.transpose((0, 2, 1))"),
        ),
    )


@rule(
    "wrong_gradient", phase="check", error=1e-2,
    why="1e-2: CS231n, gradient checks: probably wrong; in float64 a right one agrees to 1e-6. Where differences see "
    "no slope at all the gradient is a straight-through estimate, made so on purpose, and an operation that hands its "
    "input through is there for its backward (gradients clipped or reversed).",
)
def wrong_gradient(record: Record, limits: Any) -> Finding | None:
    """A user's backward that disagrees with differences."""
    found = record.probes.get("derivative")
    if found is None or found.error <= limits.error:
        return None
    flat = abs(found.numeric) < 1e-6 * max(abs(found.analytic), 1e-12)
    names, meant = ", ".join(found.functions), flat or found.through
    return Finding(
        "wrong_gradient", "note" if meant else "error", 0.5 if meant else 0.95,
        f"by {found.parameter}, along a random direction, the tape gives {found.analytic:.6g} and differences "
        f"{found.numeric:.6g}: {found.error:.2g} of the gradient's size apart (limit {limits.error:g}). Operations "
        f"with a backward of their own: {names}. " + ("Differences see no slope: fine where a straight-through "
        "estimate is meant." if flat else "It hands its input through: fine where its gradient is to be changed."
        if found.through else "The optimizer follows the wrong one. Correct the backward."),
        {"error": found.error, "limit": limits.error, "analytic": found.analytic, "numeric": found.numeric,
         "functions": list(found.functions)},
        layer=found.parameter.rpartition(".")[0] or None,
        remedies=(Remedy("Compare element by element.", f"db.gradcheck({found.functions[0]}(), [x])"
                         if found.functions else "db.gradcheck(f, [x])"),),
    )


@rule(
    "underfitting", phase="check", wrong=0.05, unexplained=0.1, left=0.1, clear=6.0, useless=0.7,
    why="A sound network knows 16 rows by heart within 400 steps of Adam at one of three rates (RULES: at most 5 % "
    "wrong); for numbers 10 % of the variance may be left, for other losses 10 % of the first loss. Noisy "
    "targets and narrow layers miss these by a little: only beyond `clear` times the limit it is a warning, for "
    "numbers where `useless` of the variance is left.",
    causes=(
        "wrong_loss_for_output", "missing_output_activation", "double_softmax", "one_unit_softmax", "symmetric_init",
        "target_out_of_range", "output_ignores_input", "batch_leak", "wrong_gradient", "target_not_normalized",
        "input_not_normalized", "bad_init_scale", "bad_bias_init", "conflicting_labels", "loss_shape_mismatch",
        "missing_hidden_activation", "unstable_activation_scale", "nan_in_data", "batchnorm_misuse", "constant_feature",
        "initial_loss_off_chance",
    ),
)
def underfitting(record: Record, limits: Any) -> Finding | None:
    """One small batch cannot be learned by heart."""
    found = record.probes.get("fit")
    if found is None or not found.decided:
        return None
    limit = {"numbers": limits.unexplained, "loss": limits.left}.get(found.kind, limits.wrong)
    if found.error <= limit:
        return None
    clear = found.error > (limits.useless if found.kind == "numbers" else limits.clear * limit)
    layers = weighted(record)
    outputs = record.model.output_units or 1
    # the code of an autoencoder is meant to be narrow
    narrow = found.kind == "numbers" and any((layer.units or outputs) < outputs for layer in layers[:-1])
    bent = any(activation_after(record, layer) != "linear" for layer in layers[:-1])
    hidden = bent and not narrow
    words = {"numbers": "of the variance are unexplained", "loss": "of the first loss is left"}.get(
        found.kind, "of the rows are wrong")
    shown = percent(found.error) if math.isfinite(found.error) else "all"
    return Finding(
        "underfitting", "warning" if hidden and clear else "note", 0.8 if clear else 0.5,
        f"a copy cannot learn {found.rows} rows by heart: after {found.steps} steps of Adam, without dropout and "
        f"penalties, {shown} {words} (limit {percent(limit)}; loss {found.first:.3g} to {found.last:.3g} at the best "
        f"of 3 rates). " + (
            "More data will not help. Look at the findings above, then at the size of the layers." if hidden else
            "A narrow layer in the middle allows no more." if bent else
            "A linear model cannot do more. Add a hidden layer where that is not enough."
        ),
        {"error": found.error if math.isfinite(found.error) else None, "limit": limit, "rows": found.rows,
         "steps": found.steps, "rate": found.rate, "first": found.first, "last": found.last},
        remedies=(
            wider(),
            Remedy("See that the targets belong to these inputs."),
        ),
    )
