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
