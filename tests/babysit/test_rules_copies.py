"""Rules about copies, near copies and opinions: what was done to rows, and what repeats by nature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from test_rules_data import ask

from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.likeness import nearly_same
from deepbabysit.babysit.vitals import Record
from deepbabysit.babysit.yardstick import measure

RNG = np.random.default_rng(8)


def record(x: Any, y: Any, held: tuple[Any, Any] | None = None, ids: bool = False) -> Record:
    parts = None if held is None else ([np.asarray(held[0])], np.asarray(held[1]))
    return Record(data=data_facts([np.asarray(x)], np.asarray(y), parts, ids=[ids]))


def severities(code: str, found: Record) -> list[str]:
    return [f.severity for f in ask(code, found)]


def words(rows: int) -> np.ndarray:
    return RNG.integers(0, 6, (rows, 5))


def test_tokens_that_repeat_in_training_and_never_in_validation_were_copied() -> None:
    x = np.unique(words(900), axis=0)
    x = x[RNG.permutation(len(x))]
    y = (x[:, 0] > x[:, 1]).astype(int)
    few = np.repeat(np.arange(60), 6)
    copied = record(x[few], y[few], (x[400:500], y[400:500]), ids=True)
    assert copied.data.copied and severities("duplicate_rows", copied) == ["warning"]
    short = RNG.integers(0, 4, (500, 3))  # 64 different rows: they repeat by nature, in both parts
    natural = record(short[:400], short[:400, 0], (short[400:], short[400:, 0]), ids=True)
    assert natural.data.copies > 300 and not natural.data.copied
    assert not ask("duplicate_rows", natural) and not ask("conflicting_labels", natural)


def test_opinions_about_the_same_rows_agree_more_than_chance_and_random_pairs_do_not() -> None:
    x = RNG.normal(size=(300, 4))
    y = (x[:, 0] > 0).astype(int)
    rows = np.repeat(np.arange(200), 3)
    said = np.where(RNG.uniform(size=600) < 0.3, 1 - y[rows], y[rows])
    opinions = record(x[rows], said, (x[200:], y[200:]))
    assert opinions.data.agreement > 3 and severities("conflicting_labels", opinions) == ["warning"]
    drawn = RNG.integers(0, 200, 300)  # inputs of other rows: pairs agree as often as any do
    others = record(x[drawn], y, (x[200:], y[200:]))
    assert abs(others.data.agreement) < 2 and severities("conflicting_labels", others) == ["note"]
    assert ask("corrupted_labels", others)[0].severity == "warning"
    numbers = record(x[rows], x[rows, 1] + RNG.normal(0, 1.2, 600), (x[200:], x[200:, 1]))
    assert numbers.data.agreement > 3 and severities("conflicting_labels", numbers) == ["warning"]


def test_rare_classes_may_be_copied_on_purpose() -> None:
    x = RNG.normal(size=(330, 5))
    y = np.r_[np.zeros(300, int), np.ones(30, int)]
    even = np.r_[np.arange(300), np.repeat(np.arange(300, 330), 10)]
    assert severities("duplicate_rows", record(x[even], y[even])) == ["note"]
    most = np.r_[np.repeat(np.arange(300), 3), np.arange(300, 330)]
    assert severities("duplicate_rows", record(x[most], y[most])) == ["warning"]


def test_rows_with_noise_in_validation_are_a_leak_and_neighbours_by_chance_are_not() -> None:
    x = RNG.normal(size=(400, 6))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    many = np.repeat(np.arange(100), 4)
    order = RNG.permutation(400)
    made, labels = (x[many] + RNG.normal(0, 1e-2, (400, 6)))[order], y[many][order]
    leak = record(made[:300], labels[:300], (made[300:], labels[300:]))
    (found,) = ask("split_leak", leak)
    assert found.severity == "warning" and found.evidence["share"] > 0.8
    assert not ask("split_leak", record(x[:300], y[:300], (x[300:], y[300:])))
    wrong = RNG.permutation(labels)  # near, but with other labels: nothing is remembered
    assert not ask("split_leak", record(made[:300], wrong[:300], (made[300:], wrong[300:])))
    both = record(np.r_[x, x + RNG.normal(0, 1e-3, x.shape)], np.r_[y, 1 - y])
    assert severities("conflicting_labels", both) == ["warning"]
    assert not ask("conflicting_labels", record(np.r_[x, x + RNG.normal(0, 1e-3, x.shape)], np.r_[y, y]))


def test_nearly_same_finds_every_copy_with_noise_and_few_others() -> None:
    x = RNG.normal(size=(500, 3))
    for made, low, high in ((x, 0.0, 0.05), (np.r_[x[:250], x[:250] + RNG.normal(0, 1e-3, (250, 3))], 0.95, 1.0)):
        found = nearly_same(made)
        assert found is not None
        assert low <= found[0].mean() <= high
    assert nearly_same(x[:50]) is None


def test_noise_columns_of_few_rows_prove_nothing_about_labels() -> None:
    x, y = RNG.normal(size=(120, 100)), RNG.integers(0, 2, 120)
    assert not ask("corrupted_labels", record(x, y))
    assert ask("corrupted_labels", record(RNG.normal(size=(500, 8)), RNG.integers(0, 2, 500)))


def test_a_table_that_is_nearly_all_constant_was_lost() -> None:
    x = np.ones((200, 10))
    x[:, 3] = RNG.normal(size=200)
    y = RNG.integers(0, 2, 200)
    assert severities("constant_feature", record(x, y)) == ["warning"]
    assert severities("constant_feature", record(x, (x[:, 3] > 0).astype(int))) == ["note"]


def test_columns_that_were_not_read_and_borders_padding_and_rare_levels() -> None:
    y = RNG.integers(0, 2, 300)
    table = RNG.normal(size=(300, 10)) + 0.5 * y[:, None]
    half = np.where(np.arange(10) < 5, -1.0, table)
    made = record(half, y)
    assert severities("constant_feature", made) == ["warning"]
    made.data = replace(made.data, inputs=(replace(made.data.inputs[0], rows=32),))  # in haste: 32 of 300 rows
    assert severities("constant_feature", made) == ["note"]
    levels = np.eye(60)[RNG.integers(0, 25, 300)]  # 35 of the levels never occur
    assert severities("constant_feature", record(np.c_[table[:, :4], levels], y)) == ["note"]
    pictures = RNG.normal(size=(300, 8, 8)) + 0.2 * y[:, None, None]
    scattered = np.where(RNG.permutation(64).reshape(8, 8) < 40, 0.0, pictures)
    assert severities("constant_feature", record(scattered, y)) == ["warning"]
    padded = np.pad(pictures, ((0, 0), (4, 4), (4, 4)))
    assert severities("constant_feature", record(padded, y)) == ["note"]


def test_inputs_of_other_groups_are_not_opinions() -> None:
    x, y = RNG.normal(size=(600, 5)), RNG.integers(0, 3, 600)
    x[:, 0] += y
    groups = RNG.permutation(600) // 10
    means = np.array([x[groups == g].mean(axis=0) for g in range(60)])[groups]
    assert [f.severity for f in ask("corrupted_labels", record(means, y))] == ["warning"]
    assert severities("conflicting_labels", record(means, y)) == ["note"]
    true = np.array([np.bincount(y[groups == g]).argmax() for g in range(60)])[groups]
    opinions = np.where(RNG.uniform(size=600) < 0.6, true, y)  # one thing, seen by ten people who mostly agree
    assert "warning" not in severities("corrupted_labels", record(means, opinions))
    assert severities("conflicting_labels", record(means, opinions)) == ["warning"]


def test_ids_tell_labels_and_shuffled_ones_do_not() -> None:
    x = words(600)
    y = ((x == 2).sum(axis=1) > 0).astype(int)
    assert not [f for f in ask("corrupted_labels", record(x, y, ids=True)) if f.severity != "note"]
    assert ask("corrupted_labels", record(x, RNG.permutation(y), ids=True))[0].severity == "warning"


def test_training_labels_that_moved_without_their_inputs() -> None:
    x = RNG.normal(size=(600, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    marked = np.where((y[:400] == 0) & (RNG.uniform(size=400) < 0.5), 1, y[:400])
    found = judged(x[:400], marked, x[400:], y[400:])
    assert [f.severity for f in ask("corrupted_labels", found) if "do not" in f.message] == ["warning"]
    kept = np.flatnonzero((y[:400] == 1) | (RNG.uniform(size=400) < 0.3))  # rows are missing, not labels changed
    found = judged(x[kept], y[kept], x[400:], y[400:])
    assert found.data.drift.labels > 0.15
    assert not [f for f in ask("corrupted_labels", found) if f.severity != "note"]


def judged(x: Any, y: Any, held: Any, targets: Any) -> Record:
    """Return a record with what cheap models reach."""
    found = record(x, y, (held, targets))
    found.probes["yardstick"] = measure([x], y, [held], targets, found.data.labels)
    return found


def test_classes_that_no_training_row_has() -> None:
    x = RNG.normal(size=(400, 4))
    y = RNG.integers(0, 12, 400)
    seen = np.flatnonzero(y[:300] != 5)
    (found,) = ask("split_drift", record(x[seen], y[seen], (x[300:], y[300:])))
    assert "no training row has" in found.message
    assert not ask("split_drift", record(x[:300], y[:300], (x[300:], y[300:])))


def test_raw_statistics_taken_off_scaled_numbers() -> None:
    x = RNG.normal(size=(200, 6))
    again = (x - RNG.uniform(20, 200, 6)) / RNG.uniform(5, 60, 6)
    (found,) = ask("input_normalized_twice", record(again, x[:, 0]))
    assert found.severity == "warning" and found.evidence["features"] > 3
    assert not ask("input_normalized_twice", record(x, x[:, 0]))
    assert not ask("input_normalized_twice", record(-again, x[:, 0]))  # raw numbers lie above 0


def test_a_feature_that_is_filled_in_for_some_rows_only() -> None:
    x = RNG.normal(size=(500, 4))
    y = np.sin(2.0 * x[:, 0]) + x[:, 1]
    known = np.where(RNG.uniform(size=500) < 0.7, y, 0.0)
    (found,) = ask("feature_leak", record(np.c_[x, known], y))
    assert found.severity == "warning" and found.evidence["features"] == [4]
    honest = np.where(RNG.uniform(size=500) < 0.7, y + RNG.normal(0, 1.0, 500), 0.0)
    assert not ask("feature_leak", record(np.c_[x, honest], y))


# -- values of single features -----------------------------------------------------------------------------------------


def measured(rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(12)
    x = np.c_[rng.normal(130, 18, rows), rng.normal(75, 10, rows), rng.lognormal(4.5, 0.3, rows),
              rng.normal(27, 4, rows), rng.gamma(2.0, 5.0, rows)]
    return x, (x[:, 0] + x[:, 3] + 10 * rng.normal(size=rows) > 157).astype(int), rng


def test_codes_for_missing_values_and_amounts_that_are_often_nought() -> None:
    x, y, rng = measured()
    for code in (0.0, -1.0):
        coded = np.where((rng.uniform(size=x.shape) < 0.3) & (np.arange(5) < 2), code, x)
        (found,) = ask("nan_in_data", record((coded - coded.mean(axis=0)) / coded.std(axis=0), y))
        assert found.severity == "warning" and found.evidence["features"] == [0, 1]
    nought = np.where((rng.uniform(size=x.shape) < 0.5) & (np.arange(5) > 3), 0.0, x)
    both = np.c_[nought, np.where(rng.uniform(size=600) < 0.6, 0.0, rng.exponential(size=600))]
    assert not ask("nan_in_data", record(both, y))
    assert not ask("nan_in_data", record(x, y))


def test_features_that_stand_still_and_one_change_that_is_mostly_nought() -> None:
    x, y, rng = measured()
    still = np.where((rng.uniform(size=600) < 0.8)[:, None] & (np.arange(5) < 3), x[7], x)
    assert severities("constant_feature", record(still, y)) == ["warning"]
    change = np.where(rng.uniform(size=600) < 0.8, 0.0, rng.normal(size=600))
    assert not ask("constant_feature", record(np.c_[x, change], y))


def test_rows_in_another_unit_and_groups_that_differ_by_nature() -> None:
    x, y, rng = measured()
    rows = rng.uniform(size=600) < 0.2
    feet = np.where(rows[:, None] & (np.arange(5) < 2), 3.28 * x, x)
    (found,) = ask("input_not_normalized", record((feet - feet.mean(axis=0)) / feet.std(axis=0), y))
    assert found.evidence["features"] == [0, 1] and abs(found.evidence["times"] - 3.28) < 0.5
    groups = x.copy()
    groups[rows, 0] += 200.0  # as wide as the others
    groups[rows, 1] = rng.normal(300.0, 1.0, rows.sum())
    assert not ask("input_not_normalized", record((groups - groups.mean(axis=0)) / groups.std(axis=0), y))


def test_a_target_that_is_the_ratio_or_the_product_of_two_columns_and_a_toy() -> None:
    x, _, rng = measured()
    y = 3.0 * x[:, 0] + 40.0 * x[:, 3] + 30.0 * rng.normal(size=600)
    for made in (y * x[:, 2], y / x[:, 2]):  # the target is this column by that one, or times it
        table = np.c_[x, made]
        scaled = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
        (found,) = ask("feature_leak", record(scaled, ((y - y.mean()) / y.std()).astype(np.float32)))
        assert found.severity == "warning" and found.evidence["features"] == [2, 5]
    toy = rng.normal(size=(600, 4))
    assert "warning" not in severities("feature_leak", record(toy, toy[:, 0] * toy[:, 1]))
    assert "warning" not in severities("feature_leak", record(toy, toy[:, 0] + toy[:, 1]))


def test_a_few_exact_copies_do_not_hide_many_with_noise() -> None:
    rng = np.random.default_rng(2)
    base, labels = rng.normal(size=(100, 6)), rng.integers(0, 3, 100)
    rows = rng.permutation(np.repeat(np.arange(100), 4))
    x = base[rows] + 1e-2 * rng.normal(size=(400, 6))
    x[[0, 300]] = x[0]
    (found,) = ask("split_leak", record(x[:300], labels[rows][:300], (x[300:], labels[rows][300:])))
    assert found.severity == "warning" and found.evidence["share"] > 0.8
