"""Rules about the parts of the data and about features that know too much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_tasks import TABLES, check, loud, model_for, network, scaled
from test_rules_data import ask, record_of

from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.relations import Association, Drift, Overlap
from deepbabysit.babysit.vitals import Record

RNG = np.random.default_rng(4)


def with_(**facts: Any) -> Record:
    record = record_of(RNG.normal(size=(200, 6)), RNG.integers(0, 2, 200))
    return Record(data=replace(record.data, **facts))


def test_overlap_beyond_natural_repeats_is_an_error() -> None:
    (found,) = ask("split_leak", with_(overlap=Overlap(30, 60, ((0, 5),))))
    assert found.severity == "error" and found.evidence["share"] == 0.5 and "row 0 = training row 5" in found.message
    assert [f.severity for f in ask("split_leak", with_(overlap=Overlap(1, 15, ((0, 5),))))] == ["note"]
    repeats = with_(copies=15, overlap=Overlap(12, 60, ((0, 5),)))  # 7.5 % repeats: 9 of 60 rows are expected
    assert [f.severity for f in ask("split_leak", repeats)] == ["error"]  # but a fifth of the part is too many
    repeats.data = replace(repeats.data, overlap=Overlap(12, 130, ((0, 5),)))
    assert [f.severity for f in ask("split_leak", repeats)] == ["note"]
    few = record_of(RNG.integers(0, 3, (200, 2)), RNG.integers(0, 2, 200))
    few.data = replace(few.data, overlap=Overlap(50, 60, ((0, 5),)))
    assert [f.severity for f in ask("split_leak", few)] == ["note"]  # rows of few categories
    assert not ask("split_leak", with_(overlap=Overlap(0, 60, ())))
    assert not ask("split_leak", with_())


def test_a_feature_that_stands_alone_is_a_leak_and_a_good_one_among_good_ones_is_not() -> None:
    base = Association(200, 0.5, 20.0, 0.5, 20.0, alone=0.93, second=0.85, feature=3, grouped=0.93)
    assert not ask("feature_leak", with_(association=base))  # iris
    assert ask("feature_leak", with_(association=replace(base, second=0.4)))
    assert ask("feature_leak", with_(association=replace(base, alone=1.0, grouped=1.0)))
    assert not ask("feature_leak", with_(association=replace(base, alone=None)))
    near = replace(base, alone=0.95, grouped=0.985)  # a noisy copy of the label
    assert not ask("feature_leak", with_(association=near))
    assert ask("feature_leak", with_(association=replace(near, second=0.5)))[0].severity == "warning"


def test_the_label_beside_one_other_feature() -> None:
    y = RNG.integers(0, 2, 200)
    x = np.stack([RNG.normal(size=200), y + RNG.normal(0, 0.02, 200)], 1)
    (found,) = ask("feature_leak", record_of(x, y))
    assert found.evidence["feature"] == 1 and found.severity == "warning"


def test_drift_must_be_beyond_chance_and_large() -> None:
    base = Drift(0.6, 2, 0.3, 4, 0.05, 0.2, (200, 50))
    (found,) = ask("split_drift", with_(drift=base))
    assert found.evidence["feature"] == 2 and "0.60" in found.message and "0.30" in found.message
    assert not ask("split_drift", with_(drift=replace(base, chance=0.7)))
    assert not ask("split_drift", with_(drift=replace(base, distance=0.2, chance=0.1)))
    assert ask("split_drift", with_(drift=replace(base, distance=0.1, labels=0.5)))


def test_weighted_classes_may_have_other_shares() -> None:
    base = Drift(0.6, 2, 0.3, 4, 0.5, 0.2, (200, 50))
    record = with_(drift=base)
    assert ask("split_drift", record)
    record.run = replace(record.run, weighted=True)
    assert not ask("split_drift", record)
    record.data = replace(record.data, drift=replace(base, labels=0.05))
    assert ask("split_drift", record)  # features that differ though the shares do not


# -- on real data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_validation_rows_from_training(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    model = model_for(name)
    found = check(model, x, y, (x, y))
    assert found.codes[0] == "split_leak" and found[0].severity == "error"
    found = check(model, x, y, (np.r_[xv, x[:40]], np.r_[yv, y[:40]]))
    (finding,) = [f for f in found if f.code == "split_leak"]
    # of rows that cheap models know without their copies a score promises nothing
    assert (finding.severity == "note") == (finding.evidence["missed"] < finding.evidence["limit_missed"])


def test_copies_are_an_error_where_they_promise_something_and_a_note_where_they_do_not() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    noisy = (x[:, 0] + 1.5 * rng.normal(size=400) > 0).astype(np.int64)
    for y, severity in ((noisy, "error"), ((x @ [3, 1, 0, 0, 0] > 0).astype(np.int64), "note")):
        train, held = np.r_[np.arange(300), np.arange(300, 340)], np.arange(300, 400)
        found = check(network(5, "multiclass", 2), x[train], y[train], (x[held], y[held]))
        (finding,) = [f for f in found if f.code == "split_leak"]
        assert finding.severity == severity and finding.evidence["share"] == 0.4


@pytest.mark.parametrize("name", TABLES)
def test_validation_labels_in_another_order(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    order = np.random.default_rng(1).permutation(len(yv))
    found = check(model_for(name), x, y, (xv, yv[order]))
    assert loud(found) == ["corrupted_labels"]
    (finding,) = [f for f in found if f.code == "corrupted_labels"]
    assert finding.evidence["part"] == "validation"


@pytest.mark.parametrize("name", TABLES)
def test_the_label_as_a_feature(name: str) -> None:
    x, y, _, _, task = scaled(name)
    flat = y.reshape(len(y)).astype(np.float32)
    leaking = np.c_[x, (flat - flat.mean()) / flat.std()].astype(np.float32)
    model = network(leaking.shape[1], task, classes=len(np.unique(flat)) if task == "multiclass" else 3)
    found = check(model, leaking, y)
    assert found.codes[0] == "feature_leak" and found[0].evidence["feature"] == x.shape[1]


@pytest.mark.parametrize("name", TABLES)
def test_a_split_of_sorted_rows_and_one_that_is_scaled_otherwise(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    both, targets = np.r_[x, xv], np.r_[y, yv]
    order = np.argsort(targets.reshape(len(targets)), kind="stable")
    cut = len(order) * 4 // 5
    model = model_for(name)
    late, early = order[cut:], order[:cut]
    found = check(model, both[early], targets[early], (both[late], targets[late]))
    assert "split_drift" in loud(found) and found.codes[0] == "split_drift"
    assert check(model, x, y, (xv * 8 + 3, yv)).codes[0] == "split_drift"


@pytest.mark.parametrize("seed", range(4))
def test_random_splits_are_silent(seed: int) -> None:
    for name in ("iris", "wine", "diabetes"):
        x, y, xv, yv, _ = scaled(name)
        both, targets = np.r_[x, xv], np.r_[y, yv]
        order = np.random.default_rng(seed).permutation(len(both))
        cut = len(order) * 4 // 5
        one, two = order[:cut], order[cut:]
        assert not loud(check(model_for(name), both[one], targets[one], (both[two], targets[two])))


def test_features_that_give_the_label_away_together() -> None:
    x = RNG.normal(size=(400, 5))
    y = RNG.integers(0, 3, 400)
    x[:, 0] += y  # honest, and not enough
    coded = np.concatenate([x, np.eye(3)[y]], axis=1)
    (found,) = ask("feature_leak", record_of(coded, y))
    assert found.severity == "warning" and found.evidence["features"] == [5, 6, 7]
    assert not ask("feature_leak", record_of(x, y))
    numbers = np.sin(2.0 * x[:, 1]) + x[:, 2]
    late = np.concatenate([x, np.exp(0.5 * numbers)[:, None]], axis=1)  # bent: not linear in the target
    (found,) = ask("feature_leak", record_of(late, numbers))
    assert found.severity == "warning" and found.evidence["features"] == [5] and found.evidence["rest"] < 0.9
    assert not ask("feature_leak", record_of(x, numbers))


def test_parts_whose_features_no_longer_belong_together() -> None:
    x = RNG.normal(size=(600, 4))
    x[:, 1] = x[:, 0] + RNG.normal(0, 0.2, 600)
    y = RNG.integers(0, 2, 600)
    held = x[400:][:, [0, 2, 1, 3]]  # two columns changed places; each alone is as before
    (found,) = ask("split_drift", Record(data=data_facts([x[:400]], y[:400], ([held], y[400:]))))
    assert "no feature alone" in found.message
    assert not ask("split_drift", Record(data=data_facts([x[:400]], y[:400], ([x[400:]], y[400:]))))


def leaking(kind: str, rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return a table and targets: inputs that tell the targets well, and a column that was made of them."""
    rng = np.random.default_rng(17)
    x = rng.normal(size=(rows, 4))
    y = x[:, 0] + 0.7 * x[:, 1] + 0.5 * x[:, 2] + 0.3 * rng.normal(size=rows)
    others = rng.permutation(rows)
    column = {
        "encoded": np.where(rng.uniform(size=rows) < 0.7, y, (y + y[others]) / 2),  # its own row and another one
        "bands": 10.0 * np.digitize(y, np.quantile(y, np.linspace(0, 1, 9)[1:-1])) + rng.integers(0, 3, rows),
        "noisy": y + 0.3 * rng.normal(size=rows),
    }.get(kind)
    if kind == "parts":
        part = rng.normal(size=rows)
        return np.concatenate([x, part[:, None], (y - part)[:, None]], 1), y
    return (x if column is None else np.concatenate([x, column[:, None]], 1)), y


@pytest.mark.parametrize(("kind", "said", "columns"), [
    ("encoded", "is the target itself", [4]), ("bands", "without any overlap", [4]), ("parts", "all others", [4, 5]),
])
def test_a_column_made_of_the_target_shows_how(kind: str, said: str, columns: list[int]) -> None:
    x, y = leaking(kind)
    (found,) = ask("feature_leak", record_of(x, y))
    assert found.severity == "warning" and said in found.message and found.evidence["features"] == columns


@pytest.mark.parametrize("kind", ["noisy", "none"])
def test_a_noisy_measurement_of_the_target_is_not_said_to_be_made_of_it(kind: str) -> None:
    found = ask("feature_leak", record_of(*leaking(kind)))
    assert [f.severity for f in found] == (["note"] if kind == "noisy" else [])


def test_the_mean_class_of_small_groups_leaks() -> None:
    x, y = leaking("none")
    classes = np.digitize(y, [-0.5, 0.5])
    other = np.random.default_rng(3).permutation(900)
    own = np.arange(900) < 600
    column = np.where(own, classes, (classes + classes[other]) / 2)
    (found,) = ask("feature_leak", record_of(np.concatenate([x, column[:, None]], 1), classes))
    assert found.severity == "warning" and "one value that only rows of that class" in found.message
    levels = np.digitize(x[:, 0], [-1, 0, 1])  # an honest feature of few levels
    assert not ask("feature_leak", record_of(np.concatenate([x[:, 1:], levels[:, None]], 1), classes))


def test_a_column_that_knows_training_targets_only() -> None:
    rng = np.random.default_rng(5)
    x, y = leaking("none")
    column = np.concatenate([y[:600] + 0.3 * rng.normal(size=600), rng.permutation(y[600:])])
    whole = np.concatenate([x, column[:, None]], 1)
    held = ([whole[600:]], y[600:])
    (found,) = ask("feature_leak", Record(data=data_facts([whole[:600]], y[:600], held)))
    assert found.severity == "warning" and "of validation rows it knows" in found.message
    column[600:] = y[600:] + 0.3 * rng.normal(size=300)  # an honest one knows both
    whole[:, 4] = column
    found = ask("feature_leak", Record(data=data_facts([whole[:600]], y[:600], ([whole[600:]], y[600:]))))
    assert [f.severity for f in found] == ["note"]


def test_one_feature_that_decides_beside_useless_ones_is_only_noted() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(900, 5))
    y = x[:, 2] + 0.13 * rng.normal(size=900)  # it explains 98 % of the variance
    assert [f.severity for f in ask("feature_leak", record_of(x, y))] == ["note"]
    sign = (x[:, 2] > 0).astype(np.int64)
    assert [f.severity for f in ask("feature_leak", record_of(x, sign))] == ["note"]


def test_parts_that_share_no_class_are_an_error_and_one_missing_class_is_a_warning() -> None:
    x, y, xv, yv, _ = scaled("wine")
    model = model_for("wine")
    found = check(model, x[y < 2], y[y < 2], (xv[yv == 2], yv[yv == 2]))
    assert found.codes[0] == "split_drift" and found[0].severity == "error" and "share no class" in found[0].message
    found = check(model, x[y < 2], y[y < 2], (xv, yv))
    assert [f.severity for f in found if f.code == "split_drift"] == ["warning"]


def parts_of(seed: int = 8, rows: int = 700, held: int = 300) -> tuple[Any, Any, Any, Any]:
    """Return two parts of a curved task of three features, as they are on clean data."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows + held, 3))
    y = np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] ** 2 + 0.6 * x[:, 2] + 0.1 * rng.normal(size=rows + held)
    return x[:rows], y[:rows], x[rows:], y[rows:]


def judged(x: Any, y: Any, xv: Any, yv: Any, code: str) -> list[str]:
    model = network(3, "regression")
    return [f.severity for f in check(model, x, y, (xv, yv)) if f.code == code]


def test_a_noisier_sensor_costs_what_a_cheap_model_knows() -> None:
    x, y, xv, yv = parts_of()
    noisy = xv + np.random.default_rng(1).normal(size=xv.shape)
    assert judged(x, y, noisy, yv, "split_drift") == ["warning"]
    assert not judged(x, y, xv, yv, "split_drift")


def test_wrong_labels_of_the_validation_part_are_told_from_other_inputs() -> None:
    x, y, xv, yv = parts_of()
    some = np.random.default_rng(2).uniform(size=300) < 0.5
    mixed = np.where(some, np.roll(yv, 1), yv)
    assert judged(x, y, xv, mixed, "corrupted_labels") == ["warning"]
    assert not judged(x, y, xv, mixed, "split_drift")
    assert not judged(x, y, xv * 1.8 + 0.3, yv, "corrupted_labels")
    assert not judged(x, y, xv, yv, "corrupted_labels")


def test_a_difference_that_costs_nothing_is_only_noted() -> None:
    rng = np.random.default_rng(3)
    x, xv = rng.normal(size=(700, 4)), rng.normal(size=(300, 4))
    y, yv = (a[:, 0] - 0.6 * a[:, 2] + 0.3 * rng.normal(size=len(a)) for a in (x, xv))
    xv[:, 3] += 0.8  # a feature that says nothing
    assert judged(np.delete(x, 3, 1), y, np.delete(xv, 3, 1), yv, "split_drift") == []
    found = check(network(4, "regression"), x, y, (xv, yv))
    assert [f.severity for f in found if f.code == "split_drift"] == ["note"]


def test_near_rows_of_the_one_common_class_are_no_leak() -> None:
    rng = np.random.default_rng(4)
    centers = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    classes = np.r_[np.zeros(200, int), [1] * 4, [2] * 4]
    x = centers[classes] + rng.normal(size=(208, 2))
    held = rng.integers(0, 3, 300)
    found = data_facts([x], classes, ([centers[held] + rng.normal(size=(300, 2))], held))
    assert found.held_near is not None and found.held_near.share < 0.2
    assert not ask("split_leak", Record(data=found))


def test_repeats_between_the_parts_within_what_chance_brings() -> None:
    few = record_of(RNG.integers(0, 9, (1000, 3)), RNG.integers(0, 2, 1000))
    few.data = replace(few.data, copies=12, overlap=Overlap(16, 350, ((0, 5),)))
    assert [f.severity for f in ask("split_leak", few)] == ["note"]
    few.data = replace(few.data, overlap=Overlap(40, 350, ((0, 5),)))
    assert [f.severity for f in ask("split_leak", few)] == ["error"]
