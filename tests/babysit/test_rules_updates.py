"""Rules about updates, weights and the learning rate: what is planted is found, what looks alike is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from records import codes, found, kernel, record, step, units

import deepbabysit as db
from deepbabysit.babysit.engine import rank
from deepbabysit.babysit.graph import Signal
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.babysit.vitals import Record


def moves(ratio: float, first: int = 10, count: int = 6, epoch: int = 4, **more: Any) -> list[Any]:
    return [
        step(first + i, [kernel("0.kernel", update=ratio), kernel("1.kernel", update=ratio)], epoch=epoch, **more)
        for i in range(count)
    ]


FLAT = {"loss": [1.01, 1.0, 1.0, 1.0, 1.0]}
CRAWL = {"loss": [2.39, 2.38, 2.37, 2.36, 2.35]}
GOOD = {"loss": [1.0, 0.5, 0.3, 0.2, 0.15]}


def test_updates_that_wipe_out_the_weights() -> None:
    assert "update_too_large" in codes(record(FLAT, moves(0.3)))
    assert "update_too_large" not in found(record(FLAT, moves(0.02)))


def test_the_first_steps_may_be_large() -> None:
    assert "update_too_large" not in found(record(GOOD, moves(0.3, first=0, count=5)))


def test_updates_that_change_nothing() -> None:
    assert "update_too_small" in codes(record(CRAWL, moves(1e-6)))
    assert "update_too_small" not in found(record(CRAWL, moves(1e-3)))
    assert "update_too_small" not in found(record(GOOD, moves(1e-6)))


def test_fine_tuning_with_tiny_updates_is_silent() -> None:
    tuned = record({"loss": [0.30, 0.299, 0.298, 0.297, 0.297]}, moves(1e-6), start=0.3)
    assert codes(tuned) == set()


def test_steps_that_are_too_large_hold_the_loss_up() -> None:
    seen = found(record(FLAT, moves(0.06), rate=0.01))["learning_rate_too_high"]
    assert seen.evidence["ratio"] == pytest.approx(0.06)
    assert "Try 0.001" in seen.message


@pytest.mark.parametrize(
    ("curves", "ratio", "more"),
    [
        (FLAT, 0.003, {}),  # at the bottom of what it can do, with quiet steps
        (GOOD, 0.06, {}),  # still getting better
        ({"loss": [0.05] * 5}, 0.06, {}),  # fitted
        (FLAT, 0.06, {"schedule": "custom"}),  # a rate that cycles
        (FLAT, 0.06, {"epochs": 20}),  # before half of the run is over
    ],
)
def test_fast_steps_that_do_no_harm(curves: Any, ratio: float, more: Any) -> None:
    assert "learning_rate_too_high" not in found(record(curves, moves(ratio), **more))


def test_gradients_that_point_against_each_other() -> None:
    jumping = record(FLAT, moves(0.02, turn=-0.8), losses=[2.4, *[1.5] * 100])
    assert "learning_rate_too_high" in codes(jumping, "step")
    assert "learning_rate_too_high" not in found(
        record(FLAT, moves(0.02, turn=0.1), losses=[2.4, *[1.5] * 100]), "step"
    )


def test_first_steps_that_kill_all_units() -> None:
    early = [step(i, [kernel("0.kernel", update=0.8)], [units("0", dead=10)]) for i in range(6)]
    seen = found(record(losses=[2.4] * 60, steps=early), "step")
    assert seen["learning_rate_too_high"].severity == "error"
    assert [f for f in ("dead_relu", "learning_rate_too_high") if f in seen]


def test_first_steps_that_leave_nothing_of_the_start() -> None:
    stands, wild = [2.4] * 60, moves(0.2, first=0, count=4)
    assert "learning_rate_too_high" in codes(record(losses=stands, steps=wild), "step")
    assert "learning_rate_too_high" not in found(record(losses=stands, steps=moves(0.06, first=0, count=4)), "step")
    warm = [*moves(1e-3, first=0, count=1), *moves(0.2, first=1, count=3)]
    assert "learning_rate_too_high" not in found(record(losses=stands, steps=warm), "step")


def test_small_networks_may_take_such_steps_and_learn() -> None:
    wild = moves(0.2, first=0, count=4)
    assert "learning_rate_too_high" not in found(record(losses=[2.4] * 30, steps=wild), "step")
    assert "learning_rate_too_high" not in found(record(losses=[2.4] * 20 + [1.0] * 40, steps=wild), "step")


def test_units_that_died_while_the_loss_rose_and_came_back() -> None:
    early = [step(i, [kernel("0.kernel", update=0.2)], [units("0", dead=10)]) for i in range(0, 60, 10)]
    losses = [0.7, 0.7, 0.7, *[3.0] * 20, *[0.69] * 60]
    assert "learning_rate_too_high" in codes(record(losses=losses, steps=early), "step")
    assert "learning_rate_too_high" not in found(record(losses=[0.7] * 83, steps=early), "step")


def killing(ratio: float, dead: int = 8, born: float = 0.1, gradient: float = 0.1) -> dict[str, Any]:
    """Steps in which a layer loses its units (or its gradient) from the third look on."""
    steps = [
        step(i * 16, [kernel("0.kernel", update=ratio, gradient=gradient if i > 2 else 0.1)],
             [units("0", dead=dead if i > 2 else 1)]) for i in range(8)
    ]
    signal = Signal(1.0, 1.0, 1.0, 0.0, born, 0)
    return {"steps": steps, "probes": {"signals": {"0": signal}}}


def test_units_that_large_steps_closed_long_after_the_start() -> None:
    stands = [2.4, *[1.5] * 120]
    seen = found(record(losses=stands, **killing(0.06)), "step")
    assert "since step 49" in seen["learning_rate_too_high"].message and "dead_relu" in seen
    assert [f.code for f in rank(seen.values())][0] == "learning_rate_too_high"  # the cause before what it left
    gone = killing(0.06, dead=0, gradient=0.0)  # of other activations: no gradient comes back any more
    assert "learning_rate_too_high" in found(record(losses=stands, **gone), "step")


@pytest.mark.parametrize(
    ("losses", "how"),
    [
        ([2.4, *[1.5] * 120], {"ratio": 0.003}),  # usual steps: something else closed them
        ([2.4, *[0.2] * 120], {"ratio": 0.06}),  # what is left has learned
        ([2.4, *[1.5] * 120], {"ratio": 0.06, "born": 0.8}),  # they were born so
        ([2.4, *[1.5] * 120], {"ratio": 0.06, "dead": 4}),  # half of them work
    ],
)
def test_units_that_no_large_step_closed(losses: list[float], how: Any) -> None:
    assert "learning_rate_too_high" not in found(record(losses=losses, **killing(**how)), "step")


def test_a_loss_that_falls_in_every_epoch_is_not_held_up_by_its_steps() -> None:
    slow = [1.00, 0.98, 0.96, 0.94, 0.92]
    swinging = [1.0, 0.9, 1.1, 0.95, 1.0]
    assert "learning_rate_too_high" in found(record({"loss": slow, "val_loss": swinging}, moves(0.06)))
    assert "learning_rate_too_high" not in found(record({"loss": slow, "val_loss": slow}, moves(0.06)))


def test_a_loss_that_crawls() -> None:
    seen = found(record(CRAWL, moves(1e-5), rate=1e-6))["learning_rate_too_low"]
    assert "db.optimizers.Adam(0.0001)" in seen.remedies[0].code  # 1e-5 of the weights is a hundredth of what is usual
    assert "learning_rate_too_low" not in found(record(GOOD, moves(1e-5)))
    assert "learning_rate_too_low" not in found(record(CRAWL, moves(1e-3)))


def test_a_warm_up_may_crawl() -> None:
    warming = record(CRAWL, moves(1e-5, rate=1e-5), rate=1e-3, schedule="warmup", epochs=20)
    assert codes(warming, "step", "epoch") == set()


def test_weights_that_never_change() -> None:
    for gradient, word in ((None, "nothing in the loss"), (0.0, "its gradient is 0"), (1e-9, "rounding")):
        steps = [step(i, [kernel("0.kernel", gradient=gradient, update=0.0)]) for i in range(3)]
        assert word in found(record(FLAT, steps))["unchanged_weights"].message


@pytest.mark.parametrize(
    "steps",
    [
        [step(i, [kernel("0.kernel", update=None, trainable=False)]) for i in range(3)],
        [step(i, [kernel("0.kernel", update=0.0)], rate=0.0) for i in range(3)],
        [step(0, [kernel("0.kernel", update=0.0)]), *moves(1e-3)],
    ],
)
def test_weights_that_may_rest(steps: Any) -> None:
    assert "unchanged_weights" not in found(record(GOOD, steps))


def test_weights_that_grow_without_end() -> None:
    grown = [step(i, [kernel("0.kernel", weight=1.6**i)], epoch=i // 3) for i in range(9)]
    assert "weights_diverging" in codes(record(FLAT, grown))
    assert "weights_diverging" not in found(record(GOOD, grown))
    assert "weights_diverging" not in found(record(FLAT, moves(1e-3)))


def test_weights_that_are_nearly_gone() -> None:
    gone = [step(0, [kernel("0.kernel", std=0.1)]), step(9, [kernel("0.kernel", std=0.001)])]
    assert "dead_weights" in codes(record(FLAT, gone))
    zeros = [step(0, [kernel("0.kernel")]), step(9, [kernel("0.kernel", zeros=97)])]
    assert "dead_weights" in codes(record(FLAT, zeros))
    sparse = [step(0, [kernel("0.kernel")]), step(9, [kernel("0.kernel", zeros=80, std=0.05)])]
    assert "dead_weights" not in found(record(FLAT, sparse))


# -- small real trainings ----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
X = RNG.standard_normal((960, 12)).astype(np.float32)
Y = X[:, :4].argmax(axis=1).astype(np.int64)


def train(optimizer: Any, epochs: int = 12, babysit: Any = None, **fit: Any) -> tuple[list[str], Sitter]:
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Dense(32, activation="relu", kernel_initializer="he_normal", input_shape=12),
        db.layers.Dense(32, activation="relu", kernel_initializer="he_normal"),
        db.layers.Dense(4, activation="softmax"),
    ])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    sitter = Sitter(every=4)
    settings = {"batch_size": 32, "epochs": epochs, "verbose": 0, "seed": 1, "validation_split": 0.2, **fit}
    model.fit(X, Y, babysit=sitter, **settings)
    assert not sitter.engine.failed
    return [f.code for f in sitter.findings if f.severity != "note"], sitter


@pytest.mark.parametrize("optimizer", [("Adam", 1.0), ("Adam", 0.3), ("SGD", 30.0)])
def test_a_rate_that_is_far_too_high(optimizer: tuple[str, float]) -> None:
    assert train(getattr(db.optimizers, optimizer[0])(optimizer[1]))[0][0] == "learning_rate_too_high"


@pytest.mark.parametrize("optimizer", [("Adam", 1e-7), ("SGD", 1e-6)])
def test_a_rate_that_is_far_too_low(optimizer: tuple[str, float]) -> None:
    assert train(getattr(db.optimizers, optimizer[0])(optimizer[1]))[0][0] == "learning_rate_too_low"


def cyclic(step: int) -> float:
    return 1e-4 + 3e-3 * abs((step % 60) / 30 - 1)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: db.optimizers.Adam(1e-3), lambda: db.optimizers.SGD(0.02, momentum=0.9),
        lambda: db.optimizers.Adam(4e-3),
        lambda: db.optimizers.Adam(db.schedules.warmup(1e-3, 60)), lambda: db.optimizers.Adam(cyclic),
        lambda: db.optimizers.RMSprop(1e-3), lambda: db.optimizers.AdamW(1e-3, weight_decay=0.01),
    ],
)
def test_usual_rates_warm_up_and_cycles_are_silent(optimizer: Any) -> None:
    assert train(optimizer(), epochs=25)[0] == []


def test_batches_of_two_are_noisy_and_silent() -> None:
    assert train(db.optimizers.SGD(0.005), epochs=8, batch_size=2)[0] == []


def test_fine_tuning_a_trained_model_is_silent() -> None:
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(32, activation="relu", input_shape=12), db.layers.Dense(4)])
    model.compile(db.optimizers.Adam(3e-3), "cross_entropy")
    model.fit(X, Y, batch_size=32, epochs=30, verbose=0, babysit=False)
    model.compile(db.optimizers.Adam(1e-6), "cross_entropy")
    sitter = Sitter(every=4)
    model.fit(X, Y, batch_size=32, epochs=10, verbose=0, babysit=sitter)
    assert math.isfinite(sitter.record.losses[-1])
    assert [f.code for f in sitter.findings if f.severity != "note"] == []


def scheduled(rates: Sequence[float], **more: Any) -> Record:
    steps = [step(30 * n, [kernel("0.kernel")], rate=rate, epoch=n) for n, rate in enumerate(rates)]
    known = {"loss": [2.0] * len(rates), "val_loss": [2.0] * len(rates), **more.pop("curves", {})}
    return record(known, steps, **{"schedule": "step", "rate": 0.01, **more})


def test_a_schedule_that_leaves_no_rate() -> None:
    halved = [0.01 * 0.5**n for n in range(20)]  # every epoch: most of the run has less than a fiftieth
    assert "learning_rate_too_low" in codes(scheduled(halved), "epoch")
    assert "learning_rate_too_low" not in codes(scheduled(halved, schedule="constant"), "epoch")
    assert "learning_rate_too_low" not in codes(scheduled([0.01 * 0.9**n for n in range(20)]), "epoch")
    thirds = [0.01] * 6 + [0.001] * 6 + [0.0001] * 8
    assert "learning_rate_too_low" not in codes(scheduled(thirds), "epoch")
    warm = found(scheduled([1e-6 * n for n in range(20)], schedule="warmup"), "epoch")["learning_rate_too_low"]
    assert "has not ended its warm-up" in warm.message
    learned = {"loss": [2.0] * 5 + [0.1] * 15, "val_loss": [2.0] * 5 + [0.1] * 15}
    assert "learning_rate_too_low" not in codes(scheduled(halved, curves=learned), "epoch")
    still = [step(30 * n, [kernel("0.kernel", update=0.0)], rate=1e-9) for n in range(4)]
    assert "unchanged_weights" not in found(record({"loss": [2.0] * 4}, still, rate=0.01), "step")


def test_a_schedule_that_raises_the_rate_without_end() -> None:
    grown, up = [0.01 * 1.5**n for n in range(10)], {"loss": [2.0, 1.5, 1.2, 1.1, 1.0, 1.1, 1.3, 1.6, 1.9, 2.2]}
    assert "learning_rate_too_high" in codes(scheduled(grown, curves=up), "epoch")
    assert "learning_rate_too_high" not in codes(scheduled(grown, curves={"loss": up["loss"][:5] * 2}), "epoch")
    cycle = [0.01 * (1 + n % 5) for n in range(10)]
    assert "learning_rate_too_high" not in codes(scheduled(cycle, curves=up), "epoch")


def test_weights_that_rest_because_all_is_learned_are_not_forgotten() -> None:
    steps = [step(n, [kernel("0.kernel", gradient=0.0, update=0.0)]) for n in range(4)]
    assert "unchanged_weights" in found(record({"loss": [2.0] * 4}, steps), "step")
    assert "unchanged_weights" not in found(record({"loss": [2.0] * 4}, steps, losses=[1e-7] * 60), "step")
