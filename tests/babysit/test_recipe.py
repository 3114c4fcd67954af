"""The recipe: each step's tests and verdicts on small data, stopping and going on, the test part used once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit.codes import CODES
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.preparation import Score
from deepbabysit.babysit.recipe import edits, overfitting, squeezing, tuning, workshop
from deepbabysit.babysit.recipe.looking import look
from deepbabysit.babysit.recipe.overfitting import overfit
from deepbabysit.babysit.recipe.parts import parts_of
from deepbabysit.babysit.recipe.regularizing import regularize
from deepbabysit.babysit.recipe.running import Recipe
from deepbabysit.babysit.recipe.skeleton import skeleton
from deepbabysit.babysit.recipe.squeezing import squeeze
from deepbabysit.babysit.recipe.standing import STEP_OF, standing
from deepbabysit.babysit.recipe.steps import Report, Step
from deepbabysit.babysit.recipe.tuning import tune
from deepbabysit.babysit.recipe.workshop import Halted, Outcome, Workshop, noise
from deepbabysit.babysit.setup import setup_of
from deepbabysit.babysit.vitals import EpochVitals, Record, RunFacts

RNG = np.random.default_rng(0)
X = RNG.standard_normal((260, 6)).astype(np.float32)
Y = ((X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)).astype(np.int64)
DATA = ((X[:160], Y[:160]), (X[160:210], Y[160:210]), (X[210:], Y[210:]))


def net(units: int = 16, rate: float = 0.02, last: Any = None, first: Any = ()) -> Any:
    stack = [*first, db.layers.Dense(units, "relu", kernel_initializer="he_normal", input_shape=6), db.layers.Dense(3)]
    model = db.Sequential(stack[:-1] + [last or db.layers.Dense(3, kernel_initializer="lecun_normal")])
    return model.compile(db.optimizers.Adam(rate), "cross_entropy", metrics=["accuracy"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make less of everything."""
    for module, name, value in (
        (overfitting, "BATCH_EPOCHS", 120), (overfitting, "LEAST", 40), (overfitting, "LATER", 15), (tuning, "FINE", 2),
        (tuning, "COARSE", 4), (squeezing, "MEMBERS", 2),
    ):
        monkeypatch.setattr(module, name, value)


def shop_of(
    model: Any = None, data: Any = DATA, trainings: int = 40, folder: Path | None = None, **plan: Any
) -> Workshop:
    settings = {"batch_size": 32, "epochs": 6, "seed": 0, **plan}
    setup = setup_of(net() if model is None else model, **settings)
    shop = Workshop(setup, parts_of(data, 0), trainings, None, folder, lambda text: None)
    shop.begin()
    return shop


def told(step: Any, shop: Workshop) -> Report:
    report = Report()
    step(shop, report)
    return report


# -- the steps ---------------------------------------------------------------------------------------------------------


def test_looking_describes_the_data_and_mends_their_scale() -> None:
    wide = tuple((x * np.array([1, 1, 1000, 1, 1, 1], np.float32), y) for x, y in DATA)
    shop = shop_of(data=wide)
    report = told(look, shop)
    assert report.passed
    assert report.numbers["rows"] == [160, 50, 50]
    assert report.numbers["classes"] == 3
    assert report.numbers["mended"] == ["input_not_normalized"]
    assert shop.setup.inputs[-1]["step"] == "zscore"
    assert report.numbers["majority"] == pytest.approx(np.bincount(Y[:160]).max() / 160)
    assert shop.made == 0
    untouched = shop_of()
    assert told(look, untouched).passed
    assert untouched.setup == untouched.first


def test_looking_sees_test_rows_in_the_training_part_and_stops_where_nothing_can_be_trained() -> None:
    mixed = (DATA[0], DATA[1], (X[:50], Y[:50]))
    report = told(look, shop_of(data=mixed))
    assert not report.passed
    assert report.numbers["test_overlap"] == 50
    beyond = ((X[:160], -1 - Y[:160]), DATA[1], DATA[2])
    with pytest.raises(Halted, match="target_out_of_range"):
        told(look, shop_of(data=beyond))


def test_the_skeleton_beats_guessing_and_a_blind_twin() -> None:
    report = told(skeleton, shop_of())
    numbers = report.numbers
    assert report.passed, report.lines
    assert numbers["network"] > numbers["guessing"] and numbers["network"] > numbers["blind"]
    assert numbers["guessing"] == pytest.approx((Y[160:210] == np.bincount(Y[:160]).argmax()).mean())
    assert numbers["linear"] > numbers["guessing"]
    assert numbers["same_seed"] is True
    assert numbers["penalized"] > numbers["bare"]


def test_a_skeleton_that_learns_nothing_is_not_passed() -> None:
    shuffled = ((X[:160], RNG.permutation(Y[:160])), DATA[1], DATA[2])
    report = told(skeleton, shop_of(net(rate=1e-9), data=shuffled))
    assert not report.passed
    assert any(line.startswith("NOT ok: guessing") for line in report.lines)
    far = told(skeleton, shop_of(net(last=db.layers.Dense(3, kernel_initializer=db.initializers.normal(stddev=30.0)))))
    assert any(line.startswith("NOT ok: the first loss") for line in far.lines)


def test_a_small_network_grows_until_it_knows_the_training_part() -> None:
    x = RNG.uniform(-1, 1, (200, 6)).astype(np.float32)
    y = ((x[:, 0] * x[:, 1] > 0).astype(np.int64) + 2 * (x[:, 2] > 0)) % 3
    data = ((x[:140], y[:140]), (x[140:170], y[140:170]), (x[170:], y[170:]))
    shop = shop_of(net(units=3), data=data)
    report = told(overfit, shop)
    assert "grown" in report.numbers, report.lines
    assert shop.setup.model != shop.first.model or shop.setup.optimizer != shop.first.optimizer
    enough = shop_of(net(units=64))
    report = told(overfit, enough)
    assert report.passed and "grown" not in report.numbers
    assert report.numbers["batch"] >= 0.99 and report.numbers["training"] >= 0.98
    assert enough.setup == enough.first


def test_labels_that_contradict_each_other_cannot_be_learned_by_heart() -> None:
    twice = np.repeat(X[:80], 2, axis=0)
    data = ((twice, np.tile(np.array([0, 1]), 80)), DATA[1], DATA[2])
    report = told(overfit, shop_of(data=data, epochs=2))
    assert not report.passed
    assert report.numbers["training"] == pytest.approx(0.5, abs=0.01)


def test_what_helps_is_kept_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of()
    values = {"dropout": 0.0, "l2": 0.0}

    def pretend(setup: Any, epochs: Any = None, kind: str = "all", keep: bool = False, again: int = 0) -> Outcome:
        text = json.dumps(setup.as_dict())
        value = 0.7 + 0.1 * ("Dropout" in text and '"rate": 0.5' in text) - 0.2 * ("0.001" in text and "l2" in text)
        value -= 0.15 * (kind == "half")
        return Outcome("k", Score(value, "accuracy", None, 500), 0.5, (1.0, 0.5), (1.0, 0.6), (1.0, 0.5), "epochs", 0.1)

    monkeypatch.setattr(shop, "train", pretend)
    report = told(regularize, shop)
    assert report.passed
    assert report.numbers["kept"] == ["dropout 0.5"]
    assert report.numbers["more_data"] is True
    assert "Dropout" in json.dumps(shop.setup.model) and values
    assert shop.setup.patience is None


def outcome(value: float, stopped: str = "epochs", loss: float = 0.5) -> Outcome:
    return Outcome("k", Score(value, "accuracy", None, 500), loss, (1.0,), (1.0,), (1.0,), stopped, 0.1)


def test_the_range_of_rates_is_widened_where_the_best_lies_at_its_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of(net(rate=1e-5))
    seen: list[float] = []

    def pretend(setup: Any, *_: Any, **__: Any) -> Outcome:
        rate = float(setup.optimizer["learning_rate"])
        seen.append(rate)
        if rate > 3e-3:
            return outcome(1.0, "babysit: nan_loss")
        return outcome(1.0 - abs(math.log10(rate) + 3.0) / 10)

    monkeypatch.setattr(shop, "train", pretend)
    report = told(tune, shop)
    assert report.passed
    assert any("edge" in line for line in report.lines)
    assert 2e-4 < report.numbers["rate"] < 3e-3
    assert report.numbers["exploded"] == sum(rate > 3e-3 for rate in seen)
    again = shop_of(net(rate=1e-5))
    monkeypatch.setattr(again, "train", pretend)
    assert told(tune, again).numbers == report.numbers


def test_with_few_trainings_left_tuning_does_less_or_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of(trainings=10)
    monkeypatch.setattr(shop, "train", lambda *_, **__: outcome(0.5))
    assert told(tune, shop).numbers["tried"] < 8
    poor = shop_of(trainings=6)
    monkeypatch.setattr(poor, "train", lambda *_, **__: outcome(0.5))
    with pytest.raises(Halted, match="too few to tune"):
        told(tune, poor)


def test_squeezing_averages_where_that_helps_and_tests_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = shop_of(epochs=2)
    used: list[int] = []
    judge = squeezing.judged

    def counted(where: Any, members: Any, x: Any, truth: Any) -> Score:
        used.append(x is shop.parts.test[0])
        return judge(where, members, x, truth)

    monkeypatch.setattr(squeezing, "judged", counted)
    report = told(squeeze, shop)
    assert sum(used) == 1
    assert shop.made == 4
    members = shop.answers["members"]
    assert len(members) in (1, 2)
    best = report.numbers["validation"]
    assert best >= max(o["score"][0] for o in shop._trainings.values() if o["stopped"] == "epochs") - 0.1
    assert shop.answers["test"]["rows"] == 50
    assert report.numbers["test"] == shop.answers["test"]["value"]


def test_the_noise_of_a_difference() -> None:
    one, other = Score(1.0, "accuracy", None, 18), Score(17 / 18, "accuracy", None, 18)
    assert noise(one, other) == pytest.approx(math.sqrt(36 / 38 * 2 / 38 * 2 / 18))
    assert noise(Score(0.3, "r2", 1.0, 9), Score(0.2, "r2", 1.0, 9)) == 0.0


def test_better_means_score_then_loss_and_never_an_explosion() -> None:
    assert outcome(0.8).better(outcome(0.7)) and not outcome(0.7).better(outcome(0.8))
    assert outcome(0.8, loss=0.1).better(outcome(0.8)) and not outcome(0.8).better(outcome(0.8))
    assert not outcome(0.9, "babysit: nan_loss").better(outcome(0.1))
    assert outcome(0.1).better(outcome(0.9, "babysit: nan_loss"))


# -- edits -------------------------------------------------------------------------------------------------------------


def test_edits_take_regularization_away_and_set_it() -> None:
    model = db.Sequential([
        db.layers.Dense(8, "relu", kernel_regularizer="l2", input_shape=6), db.layers.Dropout(0.4), db.layers.Dense(3),
    ])
    model.compile(db.optimizers.AdamW(1e-3, weight_decay=0.1), "cross_entropy")
    setup = setup_of(model, patience=3)
    bare = edits.unregularized(setup)
    assert bare.patience is None and bare.optimizer["weight_decay"] == 0.0
    built = bare.build()
    assert not any(type(layer).__name__ == "Dropout" for _, layer in built.walk())
    assert not any(p.l1 or p.l2 for p in built.parameters())
    again = edits.dropout(0.3)(edits.l2(0.01)(bare)).build()
    assert [layer.rate for _, layer in again.walk() if type(layer).__name__ == "Dropout"] == [0.3]
    assert [p.l2 for n, p in again.named_parameters() if n.endswith("kernel")] == pytest.approx([0.01, 0.01])
    with pytest.raises(ValueError, match="already"):
        edits.dropout(0.4)(setup)


# -- the whole ---------------------------------------------------------------------------------------------------------


def build(settings: Any) -> Any:
    db.set_seed(0)
    return net()


def test_a_recipe_that_is_stopped_goes_on_and_comes_to_the_same_end(tmp_path: Path) -> None:
    whole = Recipe(build, DATA, epochs=2, trainings=60, verbose=False).run()
    assert whole.done and not whole.stopped
    assert [step.name for step in whole.steps] == ["look", "skeleton", "overfit", "regularize", "tune", "squeeze"]
    pieces = []
    for most in (4, 9, 17, 60):
        recipe = Recipe(build, DATA, epochs=2, trainings=most, verbose=False, folder=tmp_path)
        found = recipe.run()
        pieces.append((found.done, len(found.steps), found.trainings))
        if not found.done:
            assert "trainings are made" in found.stopped or "too few" in found.stopped
            assert found.model is None
            with pytest.raises(RuntimeError, match="not done"):
                found.predict(X[:3])
    assert pieces[-1][0] and not pieces[0][0]
    assert [s.numbers for s in found.steps] == [s.numbers for s in whole.steps]
    assert found.test == whole.test
    np.testing.assert_array_equal(found.predict(X[:9]), whole.predict(X[:9]))
    assert not list(tmp_path.glob("*.tmp")) and (tmp_path / "recipe.json").exists()
    text = whole.text
    assert "6. squeeze" in text and "used once" in text and text.isascii()
    json.loads((tmp_path / "recipe.json").read_text())
    over = Recipe(build, DATA, epochs=2, trainings=60, verbose=False, folder=tmp_path).run()
    assert over.trainings == found.trainings and over.test == found.test
    with pytest.raises(ValueError, match="other data"):
        Recipe(build, (DATA[0], DATA[2], DATA[1]), epochs=2, folder=tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match="no state"):
        Recipe(build, DATA, epochs=2, folder=tmp_path)


def test_the_time_and_ctrl_c_stop_between_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(build, DATA, epochs=2, seconds=1e-9, verbose=False)
    assert recipe.run().stopped == "the time is spent"
    recipe = Recipe(build, DATA, epochs=2, verbose=False)
    fit, calls = db.Sequential.fit, []

    def pressed(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        history = fit(self, *args, **options)
        if len(calls) == 3:
            history.stopped = "interrupt"
        return history

    monkeypatch.setattr(db.Sequential, "fit", pressed)
    found = recipe.run()
    assert found.stopped == "interrupt" and found.trainings == 2
    assert [step.name for step in found.steps] == ["look"]
    assert "stopped in step 2" in found.text
    monkeypatch.setattr(workshop.Workshop, "left", property(lambda self: 5 - self.made))
    assert recipe.run().trainings == 5


def test_a_step_that_is_begun_anew_counts_all_its_trainings() -> None:
    recipe = Recipe(build, DATA, epochs=2, trainings=3, verbose=False)
    assert [step.trainings for step in recipe.run().steps] == [0]
    recipe._shop._most = 6
    found = recipe.run()
    assert [step.trainings for step in found.steps] == [0, 5] and found.trainings == 6


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (X, TypeError, "three pairs"), (DATA[:2], TypeError, "three pairs"),
        (((X[:5], Y[:4]), DATA[1], DATA[2]), ValueError, "train part has 5 rows of x and 4 of y"),
    ],
)
def test_data_of_another_kind(data: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Recipe(build, data)


def test_splits_and_data_sets_are_taken_as_they_are() -> None:
    pytest.importorskip("sklearn")
    parts = parts_of(db.datasets.iris(), 0)
    assert [len(y) for _, y in parts] == [120, 15, 15]
    assert [len(y) for _, y in parts_of(db.data.split(X, Y), 0)] == [208, 26, 26]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"trainings": 0}, {"seconds": 0.0}, {"batch_size": True}])
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(build, DATA, **wrong)
    with pytest.raises(TypeError, match="compiled"):
        Recipe(lambda settings: db.Sequential([db.layers.Dense(3, input_shape=6)]), DATA)


# -- where a run stands ------------------------------------------------------------------------------------------------


def test_every_code_belongs_to_a_step() -> None:
    assert set(STEP_OF) == set(CODES)


def test_the_verdict_says_where_the_run_stands() -> None:
    record = Record(run=RunFacts(validation_samples=10), epochs=[EpochVitals(0, {"loss": 1.0})])

    def finding(code: str, severity: Any = "warning") -> Finding:
        return Finding(code, severity, 0.9, "seen")

    assert "step 1 of 6, look at the data: because of split_leak" in standing(
        record, [finding("overfitting"), finding("split_leak")])
    assert "step 3 of 6, overfit" in standing(record, [finding("nan_loss", "error"), finding("overfitting")])
    assert "step 4 of 6" in standing(record, [finding("overfitting"), finding("split_leak", "note")])
    assert "step 5 of 6, tune" in standing(record, [])
    assert "step 2 of 6" in standing(Record(epochs=record.epochs), [])


def test_a_step_prints_its_lines() -> None:
    step = Step("overfit", False, ("NOT ok: " + "word " * 40,), {}, 1, 2.0)
    lines = str(step).splitlines()
    assert lines[0] == "3. overfit: NOT passed (1 training, 2.0 s)"
    assert max(map(len, lines)) <= 100 and len(lines) > 2
    assert Step.from_dict(step.as_dict()) == step
