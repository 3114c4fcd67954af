"""Rules about values that are no measurements like the others, asked before training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules.data import data_of, named, normalized_first, percent
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record


@rule(
    "nan_in_data", phase="check", times=3.0, share=0.02, most=0.6,
    why="A number that stands for a missing value (-999, 9999, 0 of a year) lies far outside: `times` the range of all "
    "other values away from them, in a `share` of the rows to `most` of them. Scaling with the deviation then leaves "
    "the real values within a tenth of it. Zeros of amounts and counts lie at the end of their range, not far outside.",
)
def stand_in_values(record: Record, limits: Any) -> Iterator[Finding]:
    """One number that stands for missing values."""
    data = data_of(record)
    inputs = data.inputs if data is not None else ()
    for number, found in enumerate(inputs):
        if not found.stand_ins:
            continue
        name = named("x", len(inputs), number)
        feature, value, share, times = max(found.stand_ins, key=lambda entry: entry[2])
        yield Finding(
            "nan_in_data", "warning", 0.8,
            f"{percent(share)} of the rows have {value:g} in feature {feature} of {name}, which lies {times:.3g} times "
            f"the range of all its other values away from them (limit {limits.times:g}"
            + (f"; {len(found.stand_ins)} features are like that" if len(found.stand_ins) > 1 else "")
            + "): a number that stands for a missing value? It takes the feature's scale from the others. Put NaN "
            "there, and fill it with a statistic of the training rows.",
            {"input": name, "feature": feature, "value": value, "share": share, "times": times, "limit": limits.times,
             "features": [entry[0] for entry in found.stand_ins]},
            remedies=(Remedy(
                "Put NaN there, and fill it with the mean of the training rows.",
                f"x_train[x_train[:, {feature}] == {value:g}, {feature}] = numpy.nan; "
                "fill = db.data.MeanImputer().fit(x_train)"),),
        )


@rule(
    "input_not_normalized", phase="check", times=5.0,
    why="Where the spread is `times` the range of 98 of 100 rows, it is that of a few wrong or wild values, and after "
    "any scaling by it the feature is the same number for nearly all rows (Rousseeuw and Hubert 2011). Incomes and "
    "other long tails stay below 1.",
)
def crushed_features(record: Record, limits: Any) -> Iterator[Finding]:
    """A few values that take a feature's scale from all others."""
    data = data_of(record)
    if data is None or normalized_first(record) is not None:
        return
    for number, found in enumerate(data.inputs):
        if not found.crushed:
            continue
        name = named("x", len(data.inputs), number)
        feature, value, times = max(found.crushed, key=lambda entry: entry[2])
        yield Finding(
            "input_not_normalized", "warning", 0.75,
            f"the standard deviation of feature {feature} of {name} is {times:.3g} times the range of 98 % of its rows "
            f"(limit {limits.times:g}): a few values such as {value:g} make it"
            + (f", and {len(found.crushed)} features are like that" if len(found.crushed) > 1 else "")
            + ". For nearly all rows it is one number. Look at these rows; scale by ranks or quartiles.",
            {"input": name, "feature": feature, "value": value, "times": times, "limit": limits.times},
            remedies=(Remedy(
                "Give each value the place in a normal distribution that its rank has.",
                "x = numpy.clip(x, *numpy.quantile(x_train, [0.01, 0.99], axis=0))",
                changes.scale_inputs("normal", number) if len(found.shape) == 1 else None),),
        )


@rule(
    "nan_in_data", phase="check", outside=1.5, share=0.02, most=0.6, features=2,
    why="A -1 or 0 that stands for a missing value lies near the others, but outside of them: by `outside` times the "
    "distance between their last value and the twentieth part before it, where amounts that are often 0 reach down to "
    "0 (concrete without ash: 0.8). One such feature may be honest (no fee, or one of 50 and more), and so are words "
    "that most texts lack: so there must be `features` of them, and no more than `most` of all.",
)
def codes_for_missing(record: Record, limits: Any) -> Iterator[Finding]:
    """Numbers beside all others that many rows have, in several features."""
    data = data_of(record)
    inputs = data.inputs if data is not None else ()
    for number, found in enumerate(inputs):
        coded = [s for s in found.spikes if s[3] >= limits.outside and limits.share <= s[2] <= limits.most]
        if found.stand_ins or not limits.features <= len(coded) <= limits.most * len(found.std):
            continue
        name = named("x", len(inputs), number)
        shown = ", ".join(f"{feature} ({value:.4g} in {percent(share)})" for feature, value, share, _ in coded[:5])
        yield Finding(
            "nan_in_data", "warning", 0.7,
            f"{len(coded)} features of {name} have one value in many rows, outside of all their others: {shown} of the "
            f"rows (limits: {int(limits.features)} features; {limits.outside:g} times the tail of the others). "
            "Does -1 or 0 stand for a missing value there? Put NaN, and fill it with a statistic of the training rows.",
            {"input": name, "features": [s[0] for s in coded], "values": [s[1] for s in coded],
             "shares": [s[2] for s in coded], "limit": limits.outside},
            remedies=(Remedy("Put NaN there, and fill it with the mean of the training rows.",
                             "fill = db.data.MeanImputer().fit(x_train); x_train = fill.transform(x_train)"),),
        )


@rule(
    "constant_feature", phase="check", share=0.5, features=2, most=0.4,
    why="A measurement that has one and the same value in half of the rows, with others on both sides of it, stood "
    "still or was filled in. One feature may be so by nature (a change that is mostly 0); not `most` of a table.",
)
def stuck_features(record: Record, limits: Any) -> Iterator[Finding]:
    """Features that stand still in most rows."""
    data = data_of(record)
    inputs = data.inputs if data is not None else ()
    for number, found in enumerate(inputs):
        stuck = [s for s in found.spikes if s[3] == 0.0 and s[2] >= limits.share]
        if len(stuck) < max(limits.features, limits.most * len(found.std)):
            continue
        name = named("x", len(inputs), number)
        feature, value, share, _ = max(stuck, key=lambda entry: entry[2])
        yield Finding(
            "constant_feature", "warning", 0.75,
            f"{len(stuck)} of {len(found.std)} features of {name} have one value in most rows and others on both sides "
            f"of it (limit {percent(limits.most)} of the features): feature {feature} is {value:.4g} in "
            f"{percent(share)} of the rows (limit {percent(limits.share)}). They stood still, or were filled in. See "
            "from where on; leave those rows out.",
            {"input": name, "features": [s[0] for s in stuck], "shares": [s[2] for s in stuck], "limit": limits.share},
            remedies=(Remedy("See from which row on they stand still, and leave those rows out."),),
        )


@rule(
    "input_not_normalized", phase="check", features=1,
    why="Rows that look like all others of the feature, twice or more as wide and as far from the same zero, with "
    "nothing between, are in another unit (feet, grams, cents). Groups that differ by nature have another shape, "
    "or another zero.",
)
def mixed_units(record: Record, limits: Any) -> Iterator[Finding]:
    """Some rows in another unit."""
    data = data_of(record)
    inputs = data.inputs if data is not None else ()
    for number, found in enumerate(inputs):
        if len(found.units) < limits.features:
            continue
        name = named("x", len(inputs), number)
        feature, times, share = max(found.units, key=lambda entry: entry[1])
        yield Finding(
            "input_not_normalized", "warning", 0.7,
            f"feature {feature} of {name} is {times:.3g} times as large in some rows (limit 2 times), with the same "
            f"distribution and nothing between: {percent(share)} of the rows are in one unit, the others in another"
            + (f"; {len(found.units)} features are like that" if len(found.units) > 1 else "")
            + ". Bring all rows to one unit.",
            {"input": name, "feature": feature, "times": times, "share": share, "limit": 2.0,
             "features": [entry[0] for entry in found.units]},
            remedies=(Remedy("Bring all rows to one unit before anything else."),),
        )
