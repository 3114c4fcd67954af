"""Rules about features and labels, asked before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.babysit import changes
from deepbabysit.babysit.facts import DataFacts, InputFacts, NotFinite
from deepbabysit.babysit.finding import Finding, Remedy, Severity
from deepbabysit.babysit.relations import Drift
from deepbabysit.babysit.remedies import standardize, standardize_target, weigh_classes
from deepbabysit.babysit.rules.reach import yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record

NORMALIZING = frozenset({"BatchNorm"})


def named(name: str, count: int, number: int) -> str:
    """Return how one of several arrays is called."""
    return name if count == 1 else f"{name}[{number}]"


def number_of(name: str) -> int:
    """Return the number of an input from what it is called.

    >>> number_of("x"), number_of("validation x[2]")
    (0, 2)
    """
    return int(name.partition("[")[2].rstrip("]") or 0)


def data_of(record: Record) -> DataFacts | None:
    """Return the data facts of a record, where there are any."""
    return record.data if isinstance(record.data, DataFacts) else None


OTHERWISE, SPREAD = 4.0, 5.0  # standard errors by which parts are told apart, and by which spreads differ


def otherwise(found: Drift) -> bool:
    """Tell whether inputs of the parts differ more than chance explains, however little that is."""
    return (
        found.distance > found.chance or found.told > OTHERWISE * found.told_error or found.widened > SPREAD
    )


def alone_in(data: DataFacts, limits: Any) -> bool:
    """Tell whether rows stand for themselves: neither copied nor nearly the same as others."""
    return data.copies <= limits.copies * data.rows and (data.near is None or data.near.share < limits.near)


def percent(share: float) -> str:
    """Show a share.

    >>> percent(0.031), percent(0.0004)
    ('3.1 %', '0.04 %')
    """
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def rows_text(rows: Any) -> str:
    """Show the first rows of a list."""
    shown = ", ".join(str(r) for r in list(rows)[:5])
    return f"row {shown}" if len(rows) == 1 else f"rows {shown}" + (", ..." if len(rows) > 5 else "")


_REMOVE = Remedy(
    "Remove the rows.", "good = numpy.isfinite(x).all(axis=1); x, y = x[good], y[good]", changes.clean("finite")
)


def _fill(array: str) -> Remedy:
    return Remedy(
        "Fill the cells with statistics of the training rows.",
        "fill = db.data.MeanImputer().fit(x_train); x_train = fill.transform(x_train)",
        changes.before_scaling("impute", number_of(array)),
    )


def _fillable(found: NotFinite, data: DataFacts | None) -> bool:
    """Tell whether missing cells can be filled with means: in a table of inputs, and no infinity among them."""
    number = number_of(found.array)
    inputs = data.inputs if data else ()
    table = number < len(inputs) and len(inputs[number].shape) == 1
    return "y" not in found.array and table and math.isnan(found.value)


@rule("nan_in_data", phase="check", rows=0, why="One value that is not finite makes the whole loss NaN.")
def nan_in_data(record: Record, limits: Any) -> Iterator[Finding]:
    """Rows with NaN or infinity."""
    data = data_of(record)
    for found in data.not_finite if data else ():
        if found.rows <= limits.rows:
            continue
        yield Finding(
            "nan_in_data", "error", 1.0,
            f"{found.array} holds NaN or infinity in {found.rows} of {found.of} rows ({rows_text(found.first)}, "
            f"counting from 0; the first value is {found.value:g}); {int(limits.rows)} are allowed. One of them makes "
            f"the loss and then every weight NaN. Remove the rows or fill the cells.",
            {"array": found.array, "rows": found.rows, "of": found.of, "first": list(found.first),
             "limit": int(limits.rows)},
            remedies=(_fill(found.array), _REMOVE) if _fillable(found, data) else (_REMOVE,),
        )


def normalized_first(record: Record) -> str | None:
    """Return the path of a batch normalization that sees the inputs before any weights do."""
    for layer in record.model.layers:
        if layer.kind in NORMALIZING and all(_plain(record, s) for s in layer.sources):
            return layer.path
        if layer.inputs is not None or layer.kind == "Embedding":
            return None
    return None


def _plain(record: Record, path: str) -> bool:
    found = next((layer for layer in record.model.layers if layer.path == path), None)
    return found is not None and found.kind in ("Flatten", "Reshape", "Activation", "Dropout", "Lambda")


@rule(
    "input_not_normalized", phase="check",
    large=10.0, apart=10.0, notable=3.0, pixels=100.0,
    why="apart: features whose spreads differ by 10 times (RULES; LeCun et al. 1998). large: standard "
    "deviation of 10, or a mean of 15, against the 1 that initializers assume. notable: from here on to `large` it is "
    "only noted; below nothing is said even where spreads differ, since sparse and one-hot features, border pixels "
    "and min-max scaled outliers differ harmlessly. pixels: a maximum from which whole numbers from 0 are taken for "
    "pixels.",
)
def input_not_normalized(record: Record, limits: Any) -> Iterator[Finding]:
    """Features on very different or very large scales, as the first weights see them."""
    data = data_of(record)
    if data is None or normalized_first(record) is not None:
        return
    entering = record.probes.get("entering") or {}
    for number, found in enumerate(data.inputs):
        if found.ids:
            continue
        name = named("x", len(data.inputs), number)
        scales = _scales(found)
        if entering and len(data.inputs) == 1:
            seen = max(value["largest"] for value in entering.values())
            if seen < 0.3 * max(scales.max(initial=0.0), 1e-30):
                continue  # the model scales its inputs itself
        finding = _unscaled(name, found, scales, limits)
        if finding is not None:
            yield finding


def _scales(found: InputFacts) -> np.ndarray:
    """Return the size of each feature: its spread, or its mean where that is far from 0 against any spread."""
    return np.maximum(np.array(found.std), np.abs(np.array(found.mean)) / 1.5)


def _unscaled(name: str, found: InputFacts, scales: np.ndarray, limits: Any) -> Finding | None:
    top = int(scales.argmax()) if scales.size else 0
    if not scales.size:
        return None
    largest = float(scales[top])
    std = np.array(found.std)
    dense = std[(np.array(found.common) < 0.5) & (std > 0)]
    ratio = float(dense.max() / dense.min()) if dense.size > 1 else 1.0
    if largest <= limits.notable:
        return None
    clear = largest > limits.large or ratio > limits.apart
    pixels = found.whole and found.all_minimum >= 0 and limits.pixels <= found.all_maximum <= 255 and len(std) >= 16
    evidence = {
        "input": name, "feature": top, "std": found.std[top], "mean": found.mean[top], "ratio_of_std": ratio,
        "minimum": found.all_minimum, "maximum": found.all_maximum,
        "limit_std": limits.large, "limit_ratio": limits.apart, "rows_looked_at": found.rows,
    }
    if pixels:
        text = (
            f"{name} holds whole numbers from {found.all_minimum:g} to {found.all_maximum:g}, such as pixels, with "
            f"standard deviation {found.all_std:.3g} (limit {limits.large:g})."
        )
        divide = Remedy("Divide the pixels by 255.", "x_train, x_val = x_train / 255.0, x_val / 255.0",
                        changes.scale_inputs("divide", number_of(name), by=255.0))
        remedies: tuple[Remedy, ...] = (divide, standardize(number_of(name)))
    else:
        text = (
            f"feature {top} of {name} has mean {found.mean[top]:.4g} and standard deviation {found.std[top]:.4g} "
            f"(limit {limits.large:g})"
        )
        text += f"; standard deviations of features differ by {ratio:.3g} times (limit {limits.apart:g})." if (
            ratio > limits.apart) else "."
        remedies = (standardize(number_of(name)), Remedy(
            "Or begin the model with BatchNorm.", "db.layers.BatchNorm(momentum=0.9)", changes.normalize_first()))
    text += " Gradients of the first layer grow with its inputs, so no one rate suits it. Scale the inputs."
    sure = min(0.95, 0.6 + 0.15 * math.log10(max(largest / limits.notable, 1.0)) + (0.1 if ratio > limits.apart else 0))
    severity: Severity = "warning" if clear else "note"
    return Finding("input_not_normalized", severity, sure if clear else 0.4, text, evidence, remedies=remedies)


@rule(
    "input_normalized_twice", phase="check", largest=0.1, std=0.02, outliers=0.5, below=5.0, most=0.5, spread=0.3,
    lost=0.03, tails=12.0, measured=0.05,
    why="Data scaled once have values near 1; pixels divided by 255 twice end below 0.004, digits by 16 twice below "
    "0.063. In sparse text features the words that occur are above `std`; others may "
    "have outliers up to `outliers`. Statistics of raw numbers that are taken off scaled ones leave "
    "features that lie far `below` 0 in their own spread, which is small: `most` of them, when raw numbers, where they "
    "lie far from 0, lie above it. Or they leave `most` of the `measured` features (no value as often as that) with a "
    "spread below `lost` beside others that are larger; outliers (values beyond `tails` spreads) explain that, too.",
)
def input_normalized_twice(record: Record, limits: Any) -> Iterator[Finding]:
    """All inputs are tiny."""
    data = data_of(record)
    if data is None or normalized_first(record) is not None:
        return
    entering = record.probes.get("entering") or {}
    for number, found in enumerate(data.inputs):
        size = max(abs(found.all_minimum), abs(found.all_maximum))
        small = size < limits.largest and found.typical <= limits.std * 2
        outliers = size < limits.outliers and found.typical < limits.std
        if found.ids or size == 0.0:
            continue
        if not (small or outliers):
            yield from _scaled_again(found, named("x", len(data.inputs), number), limits, number)
            continue
        if entering and max(value["top"] for value in entering.values()) > 10 * size:
            continue
        name = named("x", len(data.inputs), number)
        yield Finding(
            "input_normalized_twice", "warning", 0.85 if size < limits.largest / 2 else 0.7,
            f"all values of {name} lie within {size:.3g} of 0 (limit {limits.largest:g}), with standard deviation "
            f"{found.all_std:.3g} (limit {limits.std:g}): as if scaled twice. The first layer's signal and gradient "
            "are that small. Scale once.",
            {"input": name, "largest": size, "std": found.all_std, "limit": limits.largest},
            remedies=(Remedy("Remove one of the two scalings."), standardize(number)),
        )


def _scaled_again(found: InputFacts, name: str, limits: Any, number: int) -> Iterator[Finding]:
    mean, std = np.array(found.mean), np.array(found.std)
    mean, std = mean[std > 0], std[std > 0]
    below = (mean < -limits.below * std) & (std < limits.spread)
    if not len(std) or found.rows < 30:
        return
    if below.mean() < limits.most:
        yield from _lost_beside_others(found, name, limits, number)
        return
    yield Finding(
        "input_normalized_twice", "warning", 0.85,
        f"{int(below.sum())} of {len(std)} features of {name} that vary lie more than {limits.below:g} of their "
        f"standard deviations below 0 (usual mean {float(np.median(mean[below])):.3g}, standard deviation "
        f"{float(np.median(std[below])):.3g}; limit {percent(limits.most)} of the features): as if the mean of raw "
        "numbers was taken off scaled ones. Scale once.",
        {"input": name, "features": int(below.sum()), "of": len(std), "limit": limits.most},
        remedies=(Remedy("Remove one of the two scalings."), standardize(number)),
    )


def _lost_beside_others(found: InputFacts, name: str, limits: Any, number: int) -> Iterator[Finding]:
    std = np.array(found.std)
    wide = np.array(found.maximum) - np.array(found.minimum)
    measured = (np.array(found.common) < limits.measured) & (std > 0)
    lost = measured & (std < limits.lost) & (wide < limits.tails * std)
    if not lost.any() or lost.sum() < limits.most * measured.sum():
        return
    if std.max() < limits.tails * float(np.median(std[lost])):
        return
    yield Finding(
        "input_normalized_twice", "warning", 0.75,
        f"{int(lost.sum())} of {int(measured.sum())} measured features of {name} have standard deviations of "
        f"{float(std[lost].min()):.2g} to {float(std[lost].max()):.2g} (limit {limits.lost:g}), without outliers, and "
        f"others of up to {float(std.max()):.2g}: as if they were scaled once more with the range of the raw numbers. "
        "The first layer hardly sees them. Scale once.",
        {"input": name, "features": int(lost.sum()), "of": int(measured.sum()), "limit": limits.lost},
        remedies=(Remedy("Remove one of the two scalings."), standardize(number)),
    )


@rule(
    "target_not_normalized", phase="check", large=10.0, center=20.0, small=0.01,
    why="A new network gives outputs near 0 with a spread near 1, and squared errors of a target of size 10 are 100 "
    "times those of a scaled one; a constant far from 0 (center, in its own unit) has to be learned by one bias first. "
    "Below `small` the outputs' own noise hides the target.",
)
def target_not_normalized(record: Record, limits: Any) -> Finding | None:
    """A regression target far from unit scale."""
    data = data_of(record)
    labels = None if data is None else data.labels
    if labels is None or record.run.task != "regression":
        return None
    output = record.probes.get("output")
    spread = max(1.0, output.std) if output is not None else 1.0
    center = output.mean if output is not None else 0.0
    std, away = math.sqrt(labels.spread), abs(labels.mean - center)
    size = math.sqrt(labels.spread + labels.mean**2)
    far = std > limits.large * spread or (away > limits.center * spread and away > 2 * std)
    tiny = 0.0 < size < limits.small and (output is None or output.std > 10 * size)
    if not far and not tiny:
        return None
    text = (
        f"the target has mean {labels.mean:.4g} and standard deviation {std:.4g}; the untrained outputs have mean "
        f"{center:.3g} and standard deviation {output.std if output is not None else 1.0:.3g} (limits: "
        f"{limits.large:g} times for the spread, {limits.center:g} for the mean, {limits.small:g} from below). First "
        f"gradients grow with this distance. Scale the target and undo it in predictions."
    )
    return Finding(
        "target_not_normalized", "warning", 0.85 if size > 3 * limits.large or tiny else 0.7, text,
        {"mean": labels.mean, "std": std, "output_mean": center, "output_std": spread, "limit_std": limits.large,
         "limit_mean": limits.center},
        remedies=(
            standardize_target(),
            *((Remedy("Or start the last bias at the target's mean.",
                      f"bias_initializer=db.initializers.constant({labels.mean:.4g})",
                      changes.last_layer(bias_initializer={"name": "constant", "value": labels.mean})),)
              if labels.shape in ((), (1,)) else ()),
        ),
    )


@rule(
    "constant_feature", phase="check", features=0, lost=0.4, most=0.8, sigma=3.5, dense=0.75, half=0.5, nearly=0.95,
    told=0.95, seen=200,
    why="A feature with one value tells nothing. Borders and padding of images and signals, and rare levels of "
    "categories, are such features and harmless. But columns of a table are measured for a reason: where `half` of "
    "those that vary take many values (and have none of them in `dense` of the rows), a share of `lost` that is empty "
    "was not read. So it is in an image or a sequence where places that vary fill less than `half` of the box around "
    "them, or `nearly` nothing varies; and where `most` are constant and what is left does not tell the labels "
    "(`sigma` as in corrupted_labels). Where what is left tells all (`told`) nothing was lost; and where fewer "
    "than `seen` of more rows were looked at, rare values may be among the others.",
)
def constant_feature(record: Record, limits: Any) -> Iterator[Finding]:
    """Features with one value only."""
    data = data_of(record)
    inputs = data.inputs if data else ()
    for number, found in enumerate(inputs):
        count = len(found.constant)
        if found.ids or count <= limits.features:
            continue
        name = named("x", len(inputs), number)
        everything = count == len(found.std)
        left = data.association if data else None
        empty = 1.0 if everything else _unread(found, limits)
        enough = data is not None and found.rows >= min(data.rows, limits.seen)
        lost = enough and empty >= limits.lost and (left is None or max(left.neighbours, left.linear) < limits.told)
        lost |= count > limits.most * len(found.std) and left is not None and (
            max(left.neighbours_sigma, left.linear_sigma) < limits.sigma)
        droppable = not everything and len(found.shape) == 1
        shown = ", ".join(map(str, found.constant[:8])) + (", ..." if count > 8 else "")
        yield Finding(
            "constant_feature", "error" if everything else "warning" if lost else "note",
            1.0 if found.rows >= 30 and (everything or not lost) else 0.85 if found.rows >= 30 else 0.6,
            f"{count} of {len(found.std)} features of {name} have one value in all {found.rows} rows looked at: "
            f"{shown} (limit {int(limits.features)}; they should be less than {percent(limits.lost)}). "
            "They tell nothing"
            + (": there is nothing to learn from." if everything else ". Drop them, or see why they are empty."),
            {"input": name, "count": count, "features": list(found.constant[:50]), "rows": found.rows,
             "unread": empty, "limit": int(limits.features), "limit_unread": limits.lost},
            remedies=(Remedy("Drop these columns.", "x = x[:, x_train.std(axis=0) > 0]",
                             changes.drop_columns(found.constant, number) if droppable else None),),
        )


def _unread(found: InputFacts, limits: Any) -> float:
    """Return the share of the features that are constant and should not be: no border, no padding, no rare level."""
    mean, std, common = np.array(found.mean), np.array(found.std), np.array(found.common)
    varies = std > 0
    empty = float(1.0 - varies.mean())
    low, wide = np.array(found.minimum)[varies], (np.array(found.maximum) - np.array(found.minimum))[varies]
    share = (mean[varies] - low) / wide
    # what has two values only has the spread of a coin that falls so often
    measured = (np.abs((std[varies] / wide) ** 2 - share * (1.0 - share)) > 1e-6) & (common[varies] < limits.dense)
    if measured.mean() < limits.half:
        return 0.0
    if len(found.shape) == 1 or empty > limits.nearly:
        return empty
    places = np.argwhere(varies.reshape(found.shape))
    around = int(np.prod(places.max(axis=0) - places.min(axis=0) + 1))
    return empty if len(places) < limits.half * around else 0.0


@rule(
    "duplicate_rows", phase="check", share=0.05, most=0.8, evened=1.5, missed=0.02, half=0.5,
    causes=("conflicting_labels", "corrupted_labels", "constant_feature"),
    why="Real tables hold a few repeats (iris 1 of 150); beyond 5 % of rows with many measured values they are copies. "
    "Rows of few values repeat by nature, but then validation rows are among them as often; and hardly four of five "
    "of them do, target included. Copies of rare classes that make the classes `evened` times more equal were made on "
    "purpose and are only noted; so are up to `half` of the rows where some are validation rows, too, and cheap models "
    "that see none twice explain all but `missed` of those.",
)
def duplicate_rows(record: Record, limits: Any) -> Finding | None:
    """Rows that are exact copies of others."""
    data = data_of(record)
    if data is None or not data.duplicates:
        return None
    ids = any(found.ids for found in data.inputs)
    share = data.duplicates / data.rows
    numbers = data.labels is not None and data.labels.kind == "numbers" and not data.labels.few
    measured = (data.continuous and not ids) or data.copied
    known = yardstick_of(record)
    leaked = data.overlap is not None and data.overlap.rows > 0  # then the copies are those of validation rows
    enough = leaked and share < limits.half and known is not None and known.fresh is not None and (
        1.0 - known.fresh < limits.missed)
    copied = (share > limits.share and measured or share > limits.most and numbers) and not (
        enough or evened(data, limits.evened))
    if ids and not copied:
        return None
    return Finding(
        "duplicate_rows", "warning" if copied else "note", 0.9 if copied else 0.5,
        f"{data.duplicates} of {data.rows} rows ({percent(share)}, limit {percent(limits.share)}) equal an earlier "
        f"row in inputs and target. Copies count double, and a random split puts them on both sides. Remove them "
        f"before splitting.",
        {"duplicates": data.duplicates, "rows": data.rows, "share": share, "limit": limits.share},
        remedies=(
            Remedy("Remove copies before splitting.",
                   "_, keep = numpy.unique(x, axis=0, return_index=True); x, y = x[keep], y[keep]",
                   changes.clean("unique")),
        ),
    )


def evened(data: DataFacts, limit: float) -> bool:
    """Tell whether copies make classes more equal: rare ones were oversampled on purpose."""
    counts = sorted(data.labels.counts.values()) if data.labels is not None else []
    counts = [count for count in counts if count]
    if len(counts) < 2 or len(data.once) != len(counts) or not min(data.once):
        return False
    return max(data.once) / min(data.once) > limit * counts[-1] / counts[0]


@rule(
    "conflicting_labels", phase="check", share=0.01, near=0.3, apart=0.25, numbers=0.4,
    why="A label error rate that one would call clean is below 1 %; rows of few categories conflict naturally and are "
    "only noted, unless validation rows, of which as many would, do not; so are they where labels are of other inputs "
    "(corrupted_labels). "
    "Rows that are nearly the same (likeness.py) from a share of `near` on conflict where `apart` of them have other "
    "labels, or `numbers` of the variance lies between them.",
)
def conflicting_labels(record: Record, limits: Any) -> Finding | None:
    """Equal inputs with different labels."""
    data = data_of(record)
    if data is None:
        return None
    if not data.conflicts:
        return _near_conflicts(data, limits)
    ids = any(found.ids for found in data.inputs)
    share = data.conflicts / data.rows
    wrong = share > limits.share and ((data.continuous and not ids) or data.copied)
    if ids and not wrong:
        return None
    random = strangers(data)
    pairs = "; ".join(f"{a} and {b}" for a, b in data.examples[:3])
    agreed = "" if data.agreement is None else (
        f"; labels of equal rows agree {data.agreement:.1f} standard errors more than by chance "
        f"(limit {ALIKE:g})")
    return Finding(
        "conflicting_labels", "warning" if wrong and not random else "note", 0.9 if wrong and not random else 0.6,
        f"{data.conflicts} of {data.rows} rows ({percent(share)}, limit {percent(limits.share)}) have the inputs of an "
        f"earlier row and another label (rows {pairs}){agreed}. No model can be right about both. Look at these rows.",
        {"conflicts": data.conflicts, "rows": data.rows, "share": share, "examples": [list(p) for p in data.examples],
         "limit": limits.share, "agreement": data.agreement},
        remedies=(Remedy("Look at these rows; remove them or decide by majority."),),
    )


ALIKE, AMONG, KNOWN = 2.0, 0.3, (0.06, 0.15)  # standard errors; share of rows; scores of neighbours and of a line


def strangers(data: DataFacts) -> bool:
    """Tell whether many rows equal others, and their labels agree no more than those of any two rows.

    Opinions about the same thing agree, or contradict, more than that; these labels are not of these inputs.
    """
    told = data.association
    if data.agreement is None or abs(data.agreement) > ALIKE or told is None or data.copies < AMONG * data.rows:
        return False
    return told.neighbours < KNOWN[0] and told.linear < KNOWN[1]


def _near_conflicts(data: DataFacts, limits: Any) -> Finding | None:
    """Rows that are nearly the same, with different labels."""
    near = data.near
    apart = limits.numbers if data.labels is not None and data.labels.kind == "numbers" else limits.apart
    if near is None or near.share < limits.near or 1.0 - near.alike < apart:
        return None
    pairs = "; ".join(f"{a} and {b}" for a, b in near.examples[:3])
    return Finding(
        "conflicting_labels", "warning", 0.8,
        f"{near.rows} of {near.of} rows ({percent(near.share)}, limit {percent(limits.near)}) are nearly the same as "
        f"another row, and {percent(1.0 - near.alike)} of them have another label (limit {percent(apart)}; rows "
        f"{pairs}). No model can be right about both. Look at these rows.",
        {"rows": near.rows, "of": near.of, "share": near.share, "alike": near.alike, "limit": apart},
        remedies=(Remedy("Look at these rows; remove them or decide by majority."),),
    )


@rule(
    "class_imbalance", phase="check", ratio=10.0, recall=0.8, moved=0.15,
    why="ratio: SageMaker Debugger and RULES say 10. recall: where the nearest neighbours find 80 % of the rarest "
    "class "
    "anyway, being rare does no harm and it is only noted, as it is where weights are given. Shares of classes that "
    "differ by more than `moved` from those of the validation part are no property of the task.",
)
def class_imbalance(record: Record, limits: Any) -> Finding | None:
    """Some classes are much rarer than others."""
    data = data_of(record)
    labels = None if data is None else data.labels
    if labels is None or labels.kind not in ("classes", "one_hot") or record.run.task == "regression":
        return None
    counts = {c: n for c, n in labels.counts.items() if n}
    if len(counts) < 2:
        return _one_class(labels.counts, data.rows)  # type: ignore[union-attr]
    rare, common = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
    ratio = counts[common] / counts[rare]
    if ratio <= limits.ratio:
        return None
    found = data.association.rare if data is not None and data.association is not None else None
    drift = None if data is None else data.drift
    # classes that are rare among training rows only: what is learned of them is not what validation asks
    moved = drift is not None and drift.labels is not None and drift.labels_chance is not None and (
        drift.labels > max(drift.labels_chance, limits.moved))
    # where the other part lacks other classes, the parts were cut wrongly
    split = moved and drift is not None and drift.uneven > limits.ratio
    harmless = record.run.weighted or split or (found is not None and found >= limits.recall and not moved)
    total = sum(counts.values())
    weights = {int(c): round(total / (len(counts) * n), 3) for c, n in sorted(counts.items())}
    reason = "; weights are given" if record.run.weighted else (
        "" if found is None else f"; {percent(found)} of the neighbours of class {rare} belong to it")
    return Finding(
        "class_imbalance", "note" if harmless else "warning", 0.8,
        f"class {common} has {counts[common]} rows and class {rare} only {counts[rare]}: {ratio:.3g} times as many "
        f"(limit {limits.ratio:g}){reason}. Always saying {common} is right in {percent(counts[common] / total)} of "
        f"cases. Weigh the classes, and watch recall or AUC instead of accuracy.",
        {"counts": {str(c): n for c, n in counts.items()}, "ratio": ratio, "limit": limits.ratio,
         "neighbour_recall": found, "weighted": record.run.weighted},
        remedies=(
            weigh_classes(f"model.fit(..., class_weight={weights})") if len(weights) <= 20 else weigh_classes(),
            Remedy("Watch another metric.", 'metrics=["auc", "recall"]'),
        ),
    )


def _one_class(counts: Any, rows: int) -> Finding | None:
    if not counts:
        return None
    only = next((c for c, n in counts.items() if n), None)
    return Finding(
        "class_imbalance", "error", 0.95,
        f"all {rows} targets are of class {only}: 1 class, and at least 2 are needed. There is nothing to tell apart. "
        f"See how the rows were chosen.",
        {"classes": 1, "rows": rows, "limit": 2},
        remedies=(Remedy("See how the rows were chosen: a sorted file cut in two?"),),
    )
