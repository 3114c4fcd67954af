"""Side runs: they answer what one run's numbers cannot, within their budget, and change nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit import changes
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.experiments import (
    QUESTIONS,
    Experiments,
    State,
    confidence,
    gain,
    investigate,
    questions,
)
from deepbabysit.babysit.preparation import Score
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.babysit.vitals import Record, RunFacts

L = db.layers


def rings() -> Any:
    """Points inside and outside of a circle: a linear model sees nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    y = ((x**2).sum(axis=1) > 1.4).astype(np.float32)[:, None]
    return x[:300], y[:300], (x[300:], y[300:])


def setup(optimizer: Any, **options: Any) -> Setup:
    model = db.Sequential([L.Dense(16, "relu", kernel_initializer="he_normal", input_shape=2), L.Dense(1, "sigmoid")])
    return setup_of(model.compile(optimizer, "binary_crossentropy"), **{"epochs": 20, "batch_size": 16, **options})


def test_an_optimizer_that_crawls_is_found_by_adam_beside_it() -> None:
    tried = Experiments(setup(db.optimizers.SGD(1e-3)), *rings(), steps=200)
    record = Record(run=RunFacts(optimizer="SGD", rate=1e-3))
    sure = investigate(tried, record)
    assert sure["wrong_optimizer"] > 0.6 and sure["learning_rate_too_low"] > 0.6
    assert sure["learning_rate_too_high"] < 0.5
    probe = record.probes["other_optimizer"]
    assert 150 < probe["steps"] < 250
    assert probe["other"] < probe["own"]
    assert tried.spent >= 6 * 150 * 16
    engine = Engine(Record(run=record.run, probes={"other_optimizer": {**probe, "other": 0.4 * probe["own"]}}))
    engine.ask("end")
    assert "wrong_optimizer" in engine.found


def test_a_sound_setup_is_not_blamed() -> None:
    record = Record()
    sure = investigate(Experiments(setup(db.optimizers.Adam(0.01)), *rings(), steps=200), record)
    assert "wrong_optimizer" not in sure and sure["learning_rate_too_low"] < 0.75
    assert "batch_too_large" not in sure  # 16 is a usual batch, there is nothing to ask


def test_a_run_goes_on_where_it_stands() -> None:
    short = setup(db.optimizers.Adam(0.01), epochs=2)
    data = rings()
    trained = short.fit(*data)
    state = State.of(short, trained.model)
    before = trained.model.state_dict()
    tried = Experiments(short, *data, steps=200)
    answer = tried.longer(state)
    assert answer["longer"] > 0.3
    assert all((before[name] == value).all() for name, value in trained.model.state_dict().items())
    wide = changes.widen(2.0)(short)
    with pytest.raises(ValueError, match="layers differ"):
        state.give(wide, wide.build())


def test_a_lower_rate_is_tried_from_where_the_run_stands() -> None:
    wild = setup(db.optimizers.Adam(0.3), epochs=10)
    data = rings()
    state = State.of(wild, wild.fit(*data).model)
    calm = changes.rate(0.03)
    here = Experiments(wild, *data, steps=60, state=state)
    gained = here.ask(calm)
    assert gained is not None and gained.gain > 0.0
    assert list(here._own) == [((), True)]
    assert here.ask(changes.widen(2.0)) is not None and ((), False) in here._own
    broken = State(wild, {name: np.full_like(w, np.nan) for name, w in state.weights.items()}, state.optimizer)
    assert not broken.fits(calm(wild)) and state.fits(calm(wild)) and not state.fits(changes.scale_inputs()(wild))


def test_batches_of_another_size_see_as_many_rows() -> None:
    large = setup(db.optimizers.Adam(0.01), batch_size=150, epochs=10)
    tried = Experiments(large, *rings(), steps=10)
    trial = tried.ask(changes.fields(batch_size=30))
    assert trial is not None and trial.steps == 50 and tried.spent == 2 * 5 * 300


def test_moments_go_on_only_in_the_same_kind_of_optimizer() -> None:
    short = setup(db.optimizers.Adam(0.01), epochs=1)
    state = State.of(short, short.fit(*rings()).model)
    other = changes.rate(0.5)(short)
    model = other.build()
    state.give(other, model)
    assert model.optimizer.learning_rate == 0.5 and model.optimizer.steps == 19


def test_the_budget_is_kept_and_the_same_question_gets_the_same_answer() -> None:
    plain = setup(db.optimizers.SGD(0.01))
    assert Experiments(plain, *rings()).planned() == 38  # a tenth of 20 epochs of 19 steps
    none = Experiments(plain, *rings(), budget=0.0)
    assert none.ask(changes.clip(1.0)) is None and none.spent == 0 and investigate(none, Record()) == {}
    one, two = (Experiments(plain, *rings(), steps=40).ask(changes.rate(0.1)) for _ in range(2))
    assert one is not None and one == two
    few = Experiments(plain, *rings(), steps=5)
    assert few.ask(changes.rate(0.1)).steps == 5  # type: ignore[union-attr]
    assert few.spent == 10 * 16
    with pytest.raises(ValueError, match="already"):
        few.ask(changes.rate(0.01))
    assert Experiments(plain, *rings()[:2], None).ask(changes.clip(1.0)) is None


def test_every_question_belongs_to_a_code() -> None:
    asked = set(questions(setup("sgd", batch_size=512))) | {"longer"}
    assert asked == {name for names in QUESTIONS.values() for name in names}
    assert asked - set(questions(setup("adam", batch_size=512))) == {"adam", "longer"}


def test_gains() -> None:
    assert gain(Score(0.5, "accuracy", None, 9), Score(0.75, "accuracy", None, 9)) == 0.5
    assert gain(Score(0.5, "accuracy", 0.2, 9), Score(0.9, "accuracy", 0.5, 9)) == -1.0
    assert gain(Score(-math.inf, "r2", None, 9), Score(0.0, "r2", 1.0, 9)) == 0.5
    assert confidence(0.0) == 0.5
