"""Rules about features and labels: one planted fault and one look-alike each, by hand and on real data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_tasks import TABLES, L, check, loud, model_for, network, raw, scaled

import deepbabysit as db
from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.relations import Association, Drift
from deepbabysit.babysit.rules import load
from deepbabysit.babysit.rules.rule import RULES
from deepbabysit.babysit.vitals import Record, RunFacts

RNG = np.random.default_rng(0)


def ask(code: str, record: Record, phase: str = "check") -> list[Finding]:
    """Ask the rules of a code that belong to the check, or to another phase."""
    load()
    return [f for rule in RULES if rule.phase == phase and code in rule.codes for f in rule.ask(record)]


def record_of(x: np.ndarray, y: np.ndarray | None = None, **run: Any) -> Record:
    return Record(run=RunFacts(**run), data=data_facts([x], y))


def test_every_check_rule_names_limits_and_their_source() -> None:
    load()
    for rule in (r for r in RULES if r.phase == "check"):
        assert len(rule.why) > 20
        assert rule.judge.__doc__


def test_messages_name_the_number_and_the_limit() -> None:
    x = RNG.normal(size=(100, 3)) * [1, 1, 500]
    (found,) = ask("input_not_normalized", record_of(x))
    assert f"{x[:, 2].std():.4g}" in found.message and "limit 10" in found.message
    assert found.evidence["feature"] == 2 and found.evidence["limit_std"] == 10
    assert "ZScore" in found.remedies[0].code


@pytest.mark.parametrize("factor", [20.0, 1e3, 1e6])
def test_large_features_are_found(factor: float) -> None:
    x = RNG.normal(size=(200, 6))
    assert [f.severity for f in ask("input_not_normalized", record_of(x * factor))] == ["warning"]
    assert ask("input_not_normalized", record_of(x + factor))
    assert not ask("input_not_normalized", record_of(x))
    assert [f.severity for f in ask("input_not_normalized", record_of(x * 5.0))] == ["note"]


def test_small_differences_of_scale_are_no_fault() -> None:
    x = RNG.random((200, 6)) * [1, 0.1, 0.001, 1, 1, 2]  # min-max scaled with outliers, border pixels
    assert not ask("input_not_normalized", record_of(x))
    rare = (RNG.random((500, 40)) < 0.02).astype(np.float32)
    assert not ask("input_not_normalized", record_of(rare))
    assert not ask("input_normalized_twice", record_of(rare))


def test_tiny_inputs_are_found_and_sparse_ones_are_not() -> None:
    x = RNG.random((200, 8))
    assert ask("input_normalized_twice", record_of(x / 255 / 255))
    words = (RNG.random((300, 200)) < 0.03) * RNG.random((300, 200))
    words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-9)
    assert not ask("input_normalized_twice", record_of(words))


def test_targets_off_scale_and_a_bias_that_starts_at_the_mean() -> None:
    x, y = RNG.normal(size=(200, 3)), RNG.normal(size=(200, 1))
    assert ask("target_not_normalized", record_of(x, 100 * y, task="regression"))
    assert ask("target_not_normalized", record_of(x, y + 50, task="regression"))
    assert ask("target_not_normalized", record_of(x, y / 1e4, task="regression"))
    assert not ask("target_not_normalized", record_of(x, y, task="regression"))
    assert not ask("target_not_normalized", record_of(x, 100 * y, task="binary"))


def test_constant_features_are_notes_unless_all_are() -> None:
    x = RNG.normal(size=(50, 3))
    x[:, 1] = 7
    (found,) = ask("constant_feature", record_of(x))
    assert found.severity == "note" and found.evidence["features"] == [1]
    (found,) = ask("constant_feature", record_of(np.ones((50, 3))))
    assert found.severity == "error"
    assert not ask("constant_feature", record_of(RNG.normal(size=(50, 3))))


def test_copies_of_measured_rows_are_a_warning_and_of_categories_a_note() -> None:
    x, y = RNG.normal(size=(100, 8)), RNG.integers(0, 2, 100)
    twice = np.r_[np.arange(100), np.arange(30)]
    assert [f.severity for f in ask("duplicate_rows", record_of(x[twice], y[twice]))] == ["warning"]
    few = RNG.integers(0, 3, (100, 3))
    assert [f.severity for f in ask("duplicate_rows", record_of(few, few[:, 0]))] == ["note"]
    assert not ask("duplicate_rows", record_of(x, y))


def test_conflicts_of_measured_rows_are_a_warning_and_of_categories_a_note() -> None:
    x, y = RNG.normal(size=(100, 8)), RNG.integers(0, 2, 100)
    twice = np.r_[np.arange(100), np.arange(30)]
    both = np.r_[y, 1 - y[:30]]
    (found,) = ask("conflicting_labels", record_of(x[twice], both))
    assert found.severity == "warning" and found.evidence["conflicts"] == 30
    assert found.evidence["examples"][0] == [0, 100]
    few = RNG.integers(0, 2, (100, 2))
    assert [f.severity for f in ask("conflicting_labels", record_of(few, y))] == ["note"]
    assert not ask("conflicting_labels", record_of(x[twice], y[twice]))


def test_labels_that_neighbours_contradict_are_noted() -> None:
    x, y, _, _, _ = raw("digits")
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(len(y)) < 0.5, rng.integers(0, 10, len(y)), y)
    (found,) = ask("corrupted_labels", record_of(x, wrong))
    assert found.severity == "note" and found.evidence["contradicted"] > 0.3
    assert not ask("corrupted_labels", record_of(x, y))


def test_imbalance_is_a_note_where_weights_are_given_or_neighbours_tell() -> None:
    x = RNG.normal(size=(220, 4))
    y = (np.arange(220) < 12).astype(int)
    (found,) = ask("class_imbalance", record_of(x, y, task="binary"))
    assert found.severity == "warning" and found.evidence["ratio"] == pytest.approx(208 / 12)
    assert [f.severity for f in ask("class_imbalance", record_of(x, y, task="binary", weighted=True))] == ["note"]
    apart = x + 20 * y[:, None]
    assert [f.severity for f in ask("class_imbalance", record_of(apart, y, task="binary"))] == ["note"]
    assert not ask("class_imbalance", record_of(apart, np.arange(220) % 2, task="binary"))
    moved = record_of(apart, y, task="binary")  # rare among training rows only
    moved.data = replace(moved.data, drift=Drift(0.1, 0, 0.2, 0, 0.4, 0.1, (220, 100)))
    assert [f.severity for f in ask("class_imbalance", moved)] == ["warning"]
    (found,) = ask("class_imbalance", record_of(x, np.zeros(220, int), task="multiclass"))
    assert found.severity == "error"


def test_corrupted_labels_need_enough_rows_and_both_probes_blind() -> None:
    record = record_of(RNG.normal(size=(200, 3)), RNG.integers(0, 2, 200))
    blind = Association(200, 0.0, 0.5, 0.0, 1.0)

    def with_(found: Association) -> Record:
        return Record(data=replace(record.data, association=found))

    assert ask("corrupted_labels", with_(blind))
    assert not ask("corrupted_labels", with_(replace(blind, neighbours_sigma=5.0)))
    assert not ask("corrupted_labels", with_(replace(blind, linear_sigma=5.0)))
    assert not ask("corrupted_labels", with_(replace(blind, rows=30)))
    (found,) = ask("corrupted_labels", with_(replace(blind, shifted=9.0, shift=-1)))
    assert "shifted by one row" in found.message and found.remedies[0].code == "x, y = x[1:], y[:-1]"


# -- on real data ------------------------------------------------------------------------------------------------------


def _faulty(name: str, fault: str) -> tuple[Any, ...]:
    """Return (model, x, y, validation) with one fault."""
    x, y, xv, yv, task = scaled(name)
    bare, _, held, _, _ = raw(name)
    rng = np.random.default_rng(1)
    part = len(x) // 3
    again = np.r_[np.arange(len(x)), np.arange(part)]
    model = model_for(name)
    if fault == "nan_in_data":
        x = x.copy()
        x[5, 2] = np.nan
    elif fault == "input_not_normalized":
        x, xv = (bare * 16, held * 16) if name == "digits" else (x * 300, xv * 300) if name == "iris" else (bare, held)
    elif fault == "input_normalized_twice":
        x, xv = x / 255, xv / 255
    elif fault == "target_not_normalized":
        y, yv = y * 77 + 152, yv * 77 + 152
    elif fault == "duplicate_rows":
        x, y = x[again], y[again]
    elif fault == "conflicting_labels":
        x, y = x[again], np.r_[y, y[rng.permutation(len(y))][:part]]
    elif fault == "corrupted_labels":
        y = y[rng.permutation(len(y))]
    elif fault == "class_imbalance":
        keep = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:6]]
        x, y, xv, yv = x[keep], y[keep], None, None
    return model, x, y, None if xv is None else (xv, yv)


CASES = [
    (name, fault)
    for fault in ("nan_in_data", "input_not_normalized", "input_normalized_twice", "duplicate_rows",
                  "conflicting_labels", "corrupted_labels")
    for name in ("iris", "breast_cancer", "diabetes", "digits")
] + [("diabetes", "target_not_normalized"), ("breast_cancer", "class_imbalance")]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_planted_fault_is_among_the_first(name: str, fault: str) -> None:
    found = check(*_faulty(name, fault))
    assert fault in found.codes[:2]
    assert fault in loud(found)


@pytest.mark.parametrize("name", TABLES)
def test_scaled_data_are_silent(name: str) -> None:
    x, y, xv, yv, _ = scaled(name)
    assert not loud(check(model_for(name), x, y, (xv, yv), epochs=30))


@pytest.mark.parametrize("name", TABLES)
def test_raw_data_behind_batch_normalization_are_silent(name: str) -> None:
    _, y, _, yv, _ = scaled(name)
    x, _, xv, _, _ = raw(name)
    model = model_for(name, first=[L.BatchNorm(input_shape=x.shape[1])])
    assert not loud(check(model, x, y, (xv, yv), epochs=50))


@pytest.mark.parametrize("name", TABLES)
def test_min_max_scaled_data_are_silent(name: str) -> None:
    x, _, xv, _, _ = raw(name)
    _, y, _, yv, _ = scaled(name)
    scale = db.data.MinMax().fit(x)
    assert not loud(check(model_for(name), scale.transform(x), y, (scale.transform(xv), yv)))


def test_models_that_scale_by_themselves_are_silent() -> None:
    x, y, _, _, _ = raw("digits")
    pixels = (x * 255 / 16).astype(np.uint8)
    model = network(64, "multiclass", 10, first=[L.Lambda(lambda t: t / 255.0, input_shape=64)])
    assert not loud(check(model, pixels, y))
    assert loud(check(model_for("digits"), pixels, y)) == ["input_not_normalized"]


def test_one_hot_sparse_and_id_inputs_are_silent() -> None:
    rng = np.random.default_rng(2)
    chosen = rng.integers(0, 6, (300, 5))
    x = np.concatenate([db.data.one_hot(chosen[:, i], 6) for i in range(5)], axis=1)
    y = ((chosen[:, 0] + chosen[:, 1]) > 5).astype(np.float32)[:, None]
    assert not loud(check(network(30, "binary"), x, y))
    words = ((rng.random((400, 100)) < 0.05) * rng.random((400, 100))).astype(np.float32)
    words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-6)
    told = (words @ rng.normal(size=100) > 0).astype(np.float32)[:, None]
    assert not loud(check(network(100, "binary", hidden=(64, 32)), words, told))
    ids = rng.integers(0, 50, (300, 8))
    model = db.Sequential([L.Embedding(50, 16), L.Flatten(), L.Dense(16, "relu"), L.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    assert not loud(check(model, ids, (ids[:, :1] < 25).astype(np.float32), epochs=10))


def test_heart_is_silent(data_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(data_dir))
    data = db.datasets.heart()
    train, held = db.data.split(np.asarray(data.x, np.float32), data.y, (0.8, 0.2))
    scale = db.data.ZScore(columns=data.schema["numeric"]).fit(train.x)
    (x, y), (xv, yv) = (
        (scale.transform(p.x), p.y.reshape(-1, 1).astype(np.float32)) for p in (train, held)
    )
    assert not loud(check(network(29, "binary", hidden=(16,)), x, y, (xv, yv)))


def test_features_that_were_scaled_again_with_the_range_of_raw_numbers() -> None:
    rng = np.random.default_rng(9)
    z = rng.normal(size=(300, 3))
    flags = rng.integers(0, 2, (300, 4))
    again = np.concatenate([z / [40.0, 90.0, 700.0], flags], 1)
    (found,) = ask("input_normalized_twice", record_of(again, rng.integers(0, 2, 300)))
    assert found.evidence["features"] == 3 and found.severity == "warning"
    assert not ask("input_normalized_twice", record_of(np.concatenate([z, flags], 1), rng.integers(0, 2, 300)))
    outliers = np.exp(4 * z)  # min-max scaled: nearly all values lie at 0
    outliers /= outliers.max(axis=0)
    assert not ask("input_normalized_twice", record_of(np.concatenate([outliers, flags], 1), rng.integers(0, 2, 300)))


def test_numbers_that_stand_for_missing_values() -> None:
    rng = np.random.default_rng(11)
    y = rng.integers(0, 2, 300)
    x = np.stack([rng.gamma(2.0, 10.0, 300), rng.normal(size=300)], 1)
    gone = x.copy()
    gone[rng.uniform(size=300) < 0.15, 0] = -999.0
    (found,) = ask("nan_in_data", record_of(gone, y))
    assert found.severity == "warning" and found.evidence["value"] == -999 and found.evidence["features"] == [0]
    gone[:, 0] = np.where(gone[:, 0] < 0, 9999.0, gone[:, 0])
    assert ask("nan_in_data", record_of((gone - gone.mean(axis=0)) / gone.std(axis=0), y))[0].evidence["value"] > 1
    zeros = x.copy()
    zeros[rng.uniform(size=300) < 0.4, 0] = 0.0  # nothing was bought
    one = x[:40].copy()
    one[3, 0] = 999.0  # the only such row of the few that were looked at
    assert not ask("nan_in_data", record_of(one, y[:40]))
    flag = np.stack([rng.integers(0, 2, 300), 100 * rng.integers(0, 2, 300) + rng.integers(0, 3, 300)], 1)
    assert not ask("nan_in_data", record_of(zeros, y)) and not ask("nan_in_data", record_of(flag, y))


def test_a_few_wild_values_take_the_scale_from_a_feature() -> None:
    rng = np.random.default_rng(12)
    y = rng.integers(0, 2, 400)
    x = rng.normal(size=(400, 3))
    x[[3, 50], 1] = 1e4, -1e4
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    (found,) = ask("input_not_normalized", record_of(x, y))
    assert found.severity == "warning" and found.evidence["feature"] == 1
    tails = np.exp(2.0 * rng.normal(size=(400, 3)))  # incomes
    assert not ask("input_not_normalized", record_of((tails - tails.mean(axis=0)) / tails.std(axis=0), y))


def in_order(labels: np.ndarray, shuffle: bool) -> list[Finding]:
    rng = np.random.default_rng(0)
    x = (np.eye(4)[labels] + 0.3 * rng.standard_normal((len(labels), 4))).astype(np.float32)
    model = db.Sequential([db.layers.Dense(16, "relu", input_shape=4), db.layers.Dense(4)])
    model.compile("sgd", "cross_entropy")
    history = model.fit(x, labels, epochs=2, batch_size=16, shuffle=shuffle, verbose=0)
    return [f for f in history.findings if f.code == "unshuffled_rows"]


def test_rows_sorted_by_class_and_not_shuffled() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 400)
    (found,) = in_order(np.sort(labels), shuffle=False)
    assert found.severity == "warning" and found.evidence["stretch"] == 100.0
    assert not in_order(np.sort(labels), shuffle=True)
    assert not in_order(labels, shuffle=False)
    rare = (rng.random(400) < 0.02).astype(np.int64)  # one class follows itself for long by chance
    assert not in_order(rare, shuffle=False)
    assert not in_order(np.tile(np.repeat(np.arange(4), 4), 25), shuffle=False)  # every class in every batch
