"""Rules about curves, penalties and batches: what is planted is found, what looks alike is not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from records import codes, found, kernel, record, step

import deepbabysit as db
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.babysit.vitals import LayerFacts
from deepbabysit.babysit.yardstick import Yardstick

FALLING = [2.0, 1.5, 1.1, 0.8, 0.6, 0.45, 0.35, 0.3, 0.27, 0.25]
DOWN = [2.0 * 0.6**i for i in range(12)]
TURNED = [1.9, 1.4, 1.0, 0.8, 0.75, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1]


def test_a_healthy_run_is_silent() -> None:
    better = [0.5 + v / 20 for v in range(10)]
    curves = {"loss": FALLING, "val_loss": [v + 0.05 for v in FALLING], "val_accuracy": better}
    assert codes(record(curves, [step(i, [kernel("0.kernel")]) for i in range(5)])) == set()


# -- not learning ------------------------------------------------------------------------------------------------------


def test_a_loss_that_stays_where_it_began() -> None:
    flat = record({"loss": [2.31, 2.30, 2.30, 2.30, 2.31]}, start=2.31, steps=[])
    assert found(flat)["not_learning"].severity == "warning"
    long = record({"loss": [2.31, 2.30] * 5}, start=2.31)
    assert found(long)["not_learning"].severity == "error"
    assert "no_better_than_baseline" in codes(long)


@pytest.mark.parametrize(
    ("curves", "start"),
    [
        ({"loss": [0.2, 0.2, 0.2, 0.2]}, 0.2),  # fine-tuning
        ({"loss": [0.5] * 12}, 2.4),  # a late plateau
        ({"loss": [2.5] * 5, "val_loss": [2.2, 2.0, 1.8, 1.6, 1.5]}, 2.5),  # dropout hides it
    ],
)
def test_losses_that_stand_still_for_good_reasons(curves: Any, start: float) -> None:
    assert "not_learning" not in found(record(curves, start=start))


def test_a_loss_that_swings_without_progress() -> None:
    swings = {"loss": [1.5, 0.9, 1.6, 0.8, 1.5, 0.9, 1.6, 0.9, 1.5, 0.8]}
    assert "oscillating_loss" in codes(record(swings))
    assert "oscillating_loss" not in found(record(swings, schedule="custom"))
    assert "oscillating_loss" not in found(record({"loss": FALLING}))
    small = {"loss": [v / 10 for v in swings["loss"]]}
    assert "oscillating_loss" not in found(record(small))


# -- validation --------------------------------------------------------------------------------------------------------


def test_validation_that_turns_up() -> None:
    seen = found(record({"loss": DOWN, "val_loss": TURNED}))
    assert seen["overfitting"].severity == "warning"
    assert "best in epoch 5 (0.8167)" in seen["overfitting"].message
    assert seen["overtraining"].severity == "warning"


@pytest.mark.parametrize(
    "val",
    [
        [v + 0.1 for v in DOWN],  # a small gap
        [*DOWN[:6], *[DOWN[5]] * 6],  # a plateau
        [*DOWN[:8], *(DOWN[7] * (1 + 0.1 * i) for i in range(4))],  # a rise that harms nothing
    ],
)
def test_validation_that_does_no_harm(val: list[float]) -> None:
    curves = {"loss": DOWN, "val_loss": val, "accuracy": [0.99] * 12, "val_accuracy": [0.97] * 12}
    assert not {"overfitting", "overtraining"} & codes(record(curves))


def test_early_stopping_has_dealt_with_overtraining() -> None:
    assert "overtraining" not in found(record({"loss": DOWN, "val_loss": TURNED}, early_stopping=True))


def test_running_statistics_that_lag_are_no_overfitting() -> None:
    norm = LayerFacts("0", "BatchNorm", settings={"momentum": 0.99})
    curves = {"loss": [1.0 * 0.7**i for i in range(5)], "val_loss": [3.0, 3.1, 3.2, 3.1, 3.0]}
    lagging = record(curves, layers=[norm], losses=np.linspace(2, 0.2, 100))
    assert codes(lagging) == {"batchnorm_misuse"}
    quick = LayerFacts("0", "BatchNorm", settings={"momentum": 0.9})
    assert "batchnorm_misuse" not in found(record(curves, layers=[quick], losses=np.linspace(2, 0.2, 100)))


def test_labels_learned_by_heart_only() -> None:
    shuffled = {"loss": [2.3 * 0.85**i for i in range(12)], "val_loss": [2.31 + 0.1 * i for i in range(12)]}
    assert "corrupted_labels" in codes(record(shuffled))
    assert "corrupted_labels" not in found(record({"loss": DOWN, "val_loss": TURNED}))


def test_validation_far_better_than_training() -> None:
    odd = {"loss": [1.5, 1.2, 1.0, 0.95, 0.93, 0.92, 0.91, 0.91, 0.9], "val_loss": [0.3] * 9}
    assert "suspicious_validation" in codes(record(odd))
    assert "suspicious_validation" not in found(record(odd, dropout=0.5))
    assert "suspicious_validation" not in found(record({"loss": [0.05] * 9, "val_loss": [0.01] * 9}))


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_fit_its_rows() -> None:
    poor = {"loss": [1.5, 1.4, 1.39, 1.385, 1.384, 1.384], "val_loss": [1.5, 1.45, 1.42, 1.41, 1.41, 1.41]}
    assert "underfitting" in codes(record(poor))
    assert "underfitting" not in found(record({"loss": FALLING, "val_loss": FALLING}))


def test_a_run_that_ends_while_it_is_getting_better() -> None:
    unfinished = [2.2, 2.0, 1.8, 1.6, 1.4]
    assert "stopped_too_early" in codes(record({"loss": unfinished, "val_loss": unfinished}))
    done = [2.0, 0.8, 0.5, 0.45, 0.44]
    assert "stopped_too_early" not in found(record({"loss": done, "val_loss": done}))
    broken_off = record({"loss": unfinished, "val_loss": unfinished}, stopped="interrupt")
    assert "stopped_too_early" not in found(broken_off)


def test_a_run_of_few_epochs_that_was_still_falling() -> None:
    falling = record({"loss": [2.0, 1.6]}, losses=[2.4 - 0.02 * i for i in range(60)])
    assert "stopped_too_early" in codes(falling, "end")
    by_validation = record({"loss": [2.0, 1.6], "val_loss": [2.0, 1.5]}, losses=[1.8] * 60)
    assert "stopped_too_early" not in found(record({"loss": [1.8, 1.8], "val_loss": [1.8, 1.79]}, losses=[1.8] * 60))
    by_validation.losses[0] = 2.4
    assert "stopped_too_early" in codes(by_validation, "end")
    learned = [0.3 + 2.1 * 0.9**i for i in range(60)]
    assert "stopped_too_early" not in found(record({"loss": [0.5, 0.3]}, losses=learned))
    assert "stopped_too_early" not in found(record({"loss": [0.5, 0.4]}, losses=[0.6 - 0.004 * i for i in range(60)]))
    noisy = [2.4, *[1.8 + 0.4 * (-1) ** i for i in range(59)]]
    assert "stopped_too_early" not in found(record({"loss": [1.8, 1.8]}, losses=noisy))


def test_training_rows_that_their_neighbours_contradict() -> None:
    hard = {"loss": [2.0, 1.7, 1.6, 1.6, 1.6, 1.6], "val_loss": [1.5, 1.1, 1.0, 1.0, 1.0, 1.0]}
    told = record(hard)
    told.data = SimpleNamespace(association=SimpleNamespace(contradicted=0.4))
    seen = found(told, "end")
    assert seen["corrupted_labels"].severity == "warning"
    assert "underfitting" not in seen  # what holds for other rows was learned
    for other in (record(hard, dropout=0.5), record({**hard, "val_loss": hard["loss"]}), record(hard)):
        share = 0.1 if other.run.dropout == 0.0 and other.logs("val_loss") != hard["loss"] else 0.4
        other.data = SimpleNamespace(association=SimpleNamespace(contradicted=share))
        assert "corrupted_labels" not in found(other, "end")


def test_swings_on_top_of_what_was_learned() -> None:
    swings = {"loss": [1.0, 0.6, 1.0, 0.6, 1.0, 0.6, 1.0, 0.6]}
    assert "oscillating_loss" in codes(record(swings, start=1.0))
    assert "oscillating_loss" not in found(record({**swings, "val_loss": [0.1] * 8}, start=1.0))


def test_one_class_for_everything() -> None:
    steps = [step(i, epoch=i // 3, predicted={3: 31, 1: 1}, actual=dict.fromkeys(range(4), 8)) for i in range(12)]
    assert "class_collapse" in codes(record({"loss": [1.4] * 4}, steps, start=1.4))
    imbalanced = [step(i, epoch=i // 3, predicted={3: 31, 1: 1}, actual={3: 30, 1: 2}) for i in range(12)]
    assert "class_collapse" not in found(record({"loss": [1.4] * 4}, imbalanced))
    even = dict.fromkeys(range(4), 8)
    spread = [step(i, epoch=i // 3, predicted=even, actual=even) for i in range(12)]
    assert "class_collapse" not in found(record({"loss": [1.4] * 4}, spread))


# -- penalties, dropout, batches ---------------------------------------------------------------------------------------


def pulled(penalty: float | None) -> list[Any]:
    return [step(i, [kernel("0.kernel", gradient=0.5, penalty=penalty)], epoch=4) for i in range(4)]


def test_a_penalty_that_outweighs_the_data() -> None:
    curves = {"loss": [5.0] * 5, "data_loss": [1.0] * 5}
    seen = found(record(curves, pulled(0.8), l1=0.01))["regularization_too_strong"]
    assert seen.evidence["pull"] == pytest.approx(1.6)
    assert "l1(0.0001)" in seen.remedies[0].code
    assert "80%" in seen.message
    assert "regularization_too_strong" not in found(record(curves, pulled(0.02), l1=0.01))
    fitted = {"loss": [0.2] * 5, "data_loss": [0.02] * 5}
    assert "regularization_too_strong" not in found(record(fitted, pulled(0.8), l1=0.01))


def test_a_weight_decay_that_outweighs_the_data() -> None:
    steps = [step(i, [kernel("0.kernel", update=1e-3)], epoch=4, rate=1e-3) for i in range(4)]
    flat = {"loss": [2.0] * 5}
    seen = found(record(flat, steps, optimizer_settings={"weight_decay": 0.5}))["regularization_too_strong"]
    assert seen.evidence["taken"] == pytest.approx(5e-4) and "weight decay 0.005" in seen.remedies[0].text
    assert "regularization_too_strong" in found(  # momentum adds up what is taken
        record(flat, steps, optimizer_settings={"weight_decay": 0.05, "momentum": 0.9}))
    for settings in ({"weight_decay": 0.05}, {}):
        assert "regularization_too_strong" not in found(record(flat, steps, optimizer_settings=settings))
    fitted = record({"loss": [0.1] * 5}, steps, optimizer_settings={"weight_decay": 0.5})
    assert "regularization_too_strong" not in found(fitted)


def test_a_few_rows_with_losses_that_no_answer_has() -> None:
    curves = {"loss": DOWN, "val_loss": [3.0 + 50.0 * i for i in range(12)], "accuracy": [0.99] * 12}
    far = {**curves, "val_accuracy": [0.97] * 12}  # inputs that lie far from all others
    assert not {"overfitting", "overtraining", "regularization_missing", "no_better_than_baseline"} & codes(record(far))
    wrong = {**curves, "val_accuracy": [0.1] * 12}
    assert "no_better_than_baseline" in codes(record(wrong))


def test_nothing_that_regularizes() -> None:
    curves = {"loss": [2.0 * 0.3**i for i in range(8)], "val_loss": [1.5, 1.3, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7]}
    assert "regularization_missing" in codes(record(curves))
    assert "regularization_missing" not in found(record(curves, dropout=0.3))
    assert "regularization_missing" not in found(record({**curves, "val_accuracy": [0.99] * 8}))


def test_dropout_that_takes_nearly_everything() -> None:
    held = {"loss": [2.4, 2.2, 2.1, 2.1], "val_loss": [1.8, 1.5, 1.3, 1.2]}
    assert "dropout_too_high" in codes(record(held, dropout=0.9))
    assert "dropout_too_high" not in found(record(held, dropout=0.5))
    assert "dropout_too_high" not in found(record({"loss": [1.0, 0.5, 0.3], "val_loss": [0.5, 0.2, 0.1]}, dropout=0.6))


def test_statistics_that_remember_a_few_rows() -> None:
    stick = Yardstick("classes", 900, 240, 0.1, 0.9, 0.9, 0.9, 0.9)
    for momentum, batch, accurate, said in (
        (0.1, 5, 0.6, True), (0.1, 5, 0.9, False), (0.1, 64, 0.6, False), (0.9, 5, 0.6, False), (0.9, 4, 0.6, True),
    ):
        norm = LayerFacts("1", "BatchNorm", settings={"momentum": momentum})
        curves = {"loss": [1.0] * 6, "val_loss": [1.2] * 6, "val_accuracy": [accurate] * 6}
        made = record(curves, layers=[norm], batch_size=batch, probes={"yardstick": stick})
        assert ("batchnorm_misuse" in codes(made, "end")) == said, (momentum, batch, accurate)


def test_constraints_that_hold_weights_short() -> None:
    flat = {"loss": [2.0] * 5}
    for length, taken, limit, losses, said in (
        (0.1, 1e-3, "max_norm(max_value=0.1)", flat, True),
        (0.1, 1e-3, "max_norm(max_value=0.1)", {"loss": [0.1] * 5}, False),  # it learns all the same
        (1.3, 1e-3, "max_norm(max_value=3)", flat, False),
        (0.1, 1e-3, None, flat, False),  # nobody holds them
        (0.7, 1.0, "min_max_norm()", flat, True),
        (1.0, 0.41, "unit_norm()", flat, False),
    ):
        layer = LayerFacts("0", "Dense", units=4, settings={"constraint": limit} if limit else {})
        steps = [step(i, [kernel("0.kernel", weight=2.0 * length, update=2.0 * length * taken)]) for i in range(3)]
        seen = found(record(losses, steps, layers=[layer]))
        assert ("regularization_too_strong" in seen) == said, (length, taken, limit)
        if said:
            assert limit in seen["regularization_too_strong"].message
    added = [kernel("0.kernel", weight=1.4, update=1.4)]  # what may only add is too little, not too short
    added = [p._replace(weight=p.weight._replace(minimum=0.0)) for p in added]
    layer = LayerFacts("0", "Dense", units=4, settings={"constraint": "non_neg()"})
    assert "regularization_too_strong" not in found(record(flat, [step(i, added) for i in range(3)], layers=[layer]))


def noisy(noise: float, update: float) -> list[Any]:
    return [step(i, [kernel("0.kernel", update=update)], epoch=4, noise=noise) for i in range(8)]


def test_batches_that_are_mostly_noise() -> None:
    stuck = {"loss": [1.2, 1.1, 1.1, 1.1, 1.1]}
    assert "batch_too_small" in codes(record(stuck, noisy(5000.0, 0.01), batch_size=2))
    assert "batch_too_small" not in found(record(stuck, noisy(5000.0, 1e-4), batch_size=2))
    assert "batch_too_small" not in found(record({"loss": DOWN[:5]}, noisy(5000.0, 0.01), batch_size=2))


def test_batches_that_leave_no_steps() -> None:
    slow = {"loss": [2.3, 2.2, 2.1, 2.0]}
    large = record(slow, noisy(50.0, 0.01), losses=[2.3, 2.2, 2.1, 2.0], batch_size=960, per_epoch=1, epochs=4)
    assert "batch_too_large" in codes(large)
    assert "batch_too_large" not in found(record(slow, noisy(50.0, 0.01)))


def test_another_optimizer_that_is_far_better() -> None:
    made = record({"loss": FALLING}, probes={"other_optimizer": {"name": "Adam", "own": 1.2, "other": 0.3}})
    assert "wrong_optimizer" in codes(made)
    made.probes["other_optimizer"]["other"] = 1.0
    assert "wrong_optimizer" not in found(made)


# -- small real trainings ----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(2)
X = RNG.standard_normal((900, 10)).astype(np.float32)
Y = X[:, :3].argmax(axis=1).astype(np.int64)


def train(
    build: Any, y: np.ndarray = Y, rate: float = 1e-3, epochs: int = 15, rows: int = 900, **fit: Any
) -> list[str]:
    db.set_seed(0)
    model = db.Sequential(build)
    model.compile(db.optimizers.Adam(rate), "cross_entropy", metrics=["accuracy"])
    sitter = Sitter(every=6)
    settings = {"batch_size": 32, "epochs": epochs, "verbose": 0, "seed": 1, "validation_split": 0.2, **fit}
    model.fit(X[:rows], y[:rows], babysit=sitter, **settings)
    assert not sitter.engine.failed
    return [f.code for f in sitter.findings if f.severity != "note"]


def layers(width: int = 32, dropout: float = 0.0, penalty: Any = None) -> list[Any]:
    made: list[Any] = []
    for i in range(2):
        made.append(db.layers.Dense(
            width, activation="relu", kernel_initializer="he_normal", kernel_regularizer=penalty,
            input_shape=None if i else 10,
        ))
        if dropout:
            made.append(db.layers.Dropout(dropout))
    return [*made, db.layers.Dense(3, kernel_regularizer=penalty)]


def test_shuffled_labels() -> None:
    shuffled = np.random.default_rng(0).permutation(Y)
    assert train(layers(256), shuffled, rate=3e-3, epochs=50, rows=400, batch_size=64)[0] == "corrupted_labels"


def test_a_huge_model_on_few_rows() -> None:
    assert "overfitting" in train(layers(512), rows=80, epochs=80, rate=3e-3)


@pytest.mark.parametrize("penalty", [db.regularizers.l1(0.05), db.regularizers.l2(0.5)])
def test_far_too_strong_penalties(penalty: Any) -> None:
    assert train(layers(penalty=penalty))[0] == "regularization_too_strong"


def test_dropout_of_nine_tenths() -> None:
    assert train(layers(dropout=0.95))[0] == "dropout_too_high"


@pytest.mark.parametrize(
    ("build", "epochs", "more"),
    [
        (lambda: layers(), 20, {}),
        (lambda: layers(64, dropout=0.5), 30, {}),
        (lambda: layers(penalty=db.regularizers.l2(1e-4)), 20, {}),
        (lambda: layers(), 30, {"class_weight": {0: 1.0, 1: 2.0, 2: 1.0}}),
        (lambda: [db.layers.BatchNorm(input_shape=10), *layers()], 25, {"batch_size": 16}),
    ],
)
def test_healthy_look_alikes_are_silent(build: Any, epochs: int, more: dict[str, Any]) -> None:
    made = build()
    for layer in made[1:]:
        if isinstance(made[0], db.layers.BatchNorm):
            layer.input_shape = None
    assert train(made, epochs=epochs, **more) == []


def test_imbalanced_classes_with_weights_are_silent() -> None:
    rare = np.where((X[:, 0] > 1.3) & (X[:, 1] > -0.5), 1, 0).astype(np.int64)
    share = float(rare.mean())
    assert share < 0.1
    weights = {0: 0.5 / (1 - share), 1: 0.5 / share}
    model = [db.layers.Dense(32, activation="relu", input_shape=10), db.layers.Dense(2)]
    assert train(model, rare, epochs=30, class_weight=weights) == []


@pytest.mark.parametrize("every", [None, 20, 10_000])  # whatever is seen beside the first steps and powers of four
def test_the_worked_example_is_diagnosed(data_dir: Any, monkeypatch: pytest.MonkeyPatch, every: int | None) -> None:
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(data_dir))
    data = db.datasets.mnist()
    x = data.x.reshape(len(data.x), -1)[:12_000].astype(np.float32) / 255.0
    penalty = db.regularizers.l1(0.001)
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Dense(512, activation="relu", kernel_regularizer=penalty, input_shape=784),
        db.layers.Dropout(0.1),
        db.layers.Dense(256, activation="relu", kernel_regularizer=penalty), db.layers.Dropout(0.1),
        db.layers.Dense(10, activation="softmax", kernel_regularizer=penalty),
    ])
    model.compile(db.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    # by patience the run ends long before its plan: what half of a plan must be over for is asked then
    history = model.fit(
        x[:10_000], data.y[:10_000], validation_data=(x[10_000:], data.y[10_000:12_000]), batch_size=64, epochs=100,
        seed=0, verbose=0, babysit=Sitter(every=every), callbacks=[db.callbacks.EarlyStopping(patience=2)],
    )
    assert len(history.epoch) < 20
    assert [f.code for f in history.findings[:2]] == ["regularization_too_strong", "learning_rate_too_high"]
    assert math.isfinite(history.history["loss"][-1])


def test_a_run_that_knows_much_is_not_stuck() -> None:
    for level, count in ((2.2, 1), (1.2, 0)):  # guessing costs 2.3; the first epoch may bring it all
        made = record({"loss": [level] * 5}, losses=[level] * 200)
        assert len([f for f in found(made, "epoch").values() if f.code == "not_learning"]) == count
