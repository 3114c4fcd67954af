"""A training as data: it builds what it was read from, can be written as JSON, and can be changed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit.blueprint import Blueprint
from deepbabysit.babysit.preparation import Score, prepare, score
from deepbabysit.babysit.setup import Setup, setup_of

L = db.layers


def blobs(rows: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return (rng.normal(size=(rows, 4)) + 2.0 * np.eye(3, 4)[y]).astype(np.float32), y


def stack() -> Any:
    layers = [L.Dense(8, "relu", input_shape=4), L.Dropout(0.1), L.Dense(3, "softmax")]
    return db.Sequential(layers).compile(db.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])


def graph() -> Any:
    x = db.Input(shape=4)
    h = L.Dense(8, "relu")(x)
    h = L.Add()([h, L.Dense(8, "tanh")(h)]) * 0.5 + np.ones(8, np.float32)
    out = L.Dense(3, "softmax")(h)
    return db.Model(x, out).compile("adam", "sparse_categorical_crossentropy", ["accuracy"])


class Net(db.Model):
    def __init__(self, units: int = 8) -> None:
        super().__init__()
        self.hidden = L.Dense(units, "relu")
        self.out = L.Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))


def written() -> Any:
    return Net(6).compile("adam", "sparse_categorical_crossentropy", ["accuracy"])


@pytest.mark.parametrize("make", [stack, graph, written])
def test_it_trains_as_the_model_it_was_read_from(make: Any) -> None:
    x, y = blobs()
    db.set_seed(3)
    model = make()
    setup = setup_of(model, x, batch_size=16, epochs=2, seed=3)
    text = json.loads(json.dumps(setup.as_dict()))
    again = Setup.from_dict(text, type(model), setup.source.objects)
    assert again == setup
    history = model.fit(x, y, batch_size=16, epochs=2, seed=3, verbose=0, babysit=False).history["loss"]
    assert setup.fit(x, y).history.history["loss"] == history
    assert again.fit(x, y).history.history["loss"] == history
    assert setup.fit(x, y, seed=4).history.history["loss"] != history


def test_a_config_makes_the_same_architecture() -> None:
    for model in (stack(), graph()):
        config = json.loads(json.dumps(model.get_config()))
        twin = type(model).from_config(config)
        assert twin.get_config() == model.get_config()
        twin.load_state_dict(model.state_dict())
        x, _ = blobs(5)
        np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    with pytest.raises(TypeError, match="Functional"):
        db.Sequential.from_config(graph().get_config())


def test_weights_that_were_set_stay_where_nothing_draws_them_anew() -> None:
    model = stack()
    model.layers[0].kernel.assign(np.full((4, 8), 0.25))
    model.freeze("0")
    setup = setup_of(model)
    assert set(setup.source.weights) == {"0.kernel"}
    moved = setup.edit(lambda plan: plan.insert("0", L.BatchNorm(), before=True))
    built = moved.build(1)
    assert [type(layer).__name__ for layer in built.layers] == ["BatchNorm", "Dense", "Dropout", "Dense"]
    assert (built.layers[1].kernel.numpy() == 0.25).all() and built.layers[1].frozen and not built.layers[3].frozen
    fresh = setup.edit(lambda plan: plan.set("0", kernel_initializer="he_normal")).build(1)
    assert fresh.layers[0].kernel.numpy().std() > 0.1
    assert not (setup.build(1).layers[2].kernel.numpy() == setup.build(2).layers[2].kernel.numpy()).all()


def test_edits_of_a_stack() -> None:
    plan = Blueprint(stack().get_config())
    plan.set("0", activation="tanh", units=5)
    plan.remove("1")
    plan.insert("0", L.BatchNorm())
    plan.set_output_activation("linear")
    model = db.Model.from_config(plan.config)
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "BatchNorm", "Dense"]
    assert model.layers[2].activation.name == "linear" and model.layers[0].units == 5
    with pytest.raises(ValueError, match="no layer '9'"):
        plan.set("9", units=3)
    with pytest.raises(ValueError, match="no argument 'rate'"):
        plan.set("0", rate=3)


def test_edits_of_a_graph_keep_its_joins() -> None:
    model = graph()
    plan = Blueprint(model.get_config())
    paths = {place.path: place.kind for place in plan.layers()}
    assert paths == {"0": "Dense", "1": "Dense", "2": "Add", "3": "Dense"}
    plan.insert("0", L.BatchNorm())
    made = db.Model.from_config(plan.config)
    assert [type(layer).__name__ for layer in made.layers] == [place.kind for place in plan.layers()]
    assert [place.kind for place in plan.layers()] == ["Dense", "BatchNorm", "Dense", "Add", "Dense"]
    assert made.get_config() == plan.config
    # what follows takes the normalized values, on both ways to the sum
    weights = model.state_dict()
    for old, new in (("0", "0"), ("1", "2"), ("3", "4")):
        for name in ("kernel", "bias"):
            made.get_layer(new).__dict__[name].assign(weights[f"{old}.{name}"])
    x, _ = blobs(7)
    h = np.maximum(x @ weights["0.kernel"], 0) / np.sqrt(1 + 1e-3)
    h = 0.5 * (h + np.tanh(h @ weights["1.kernel"])) + 1
    z = h @ weights["3.kernel"]
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made.predict(x), expected, rtol=2e-5)
    plan.remove("1")
    assert plan.config == model.get_config()
    plan.insert("3", L.Dropout(0.5), before=True)
    assert [place.kind for place in plan.layers()] == ["Dense", "Dense", "Add", "Dropout", "Dense"]


def test_a_written_class_says_why_its_layers_stay() -> None:
    x, _ = blobs()
    setup = setup_of(written(), x)
    assert "Net is a class with a call() of its own" in setup.locked
    with pytest.raises(ValueError, match="Net is a class"):
        setup.edit(lambda plan: plan.set("hidden", activation="tanh"))
    with pytest.raises(ValueError, match="Net is a class"):
        setup.edit(lambda plan: plan.last())


def test_a_model_that_cannot_be_described_is_made_again() -> None:
    def make() -> Any:
        layers = [L.Lambda(lambda x: x * 2.0, input_shape=4), L.Dense(3, "softmax")]
        return db.Sequential(layers).compile("adam", "sparse_categorical_crossentropy")

    with pytest.raises(TypeError, match="Register it first"):
        setup_of(make())
    setup = setup_of(make(), make=make, epochs=2)
    x, y = blobs()
    assert "cannot be described" in setup.locked
    assert len(setup.fit(x, y).history.epoch) == 2


def test_losses_of_ones_own_are_kept() -> None:
    def own(y: Any, p: Any) -> Any:
        return ((p - y) ** 2).mean(axis=-1)

    model = db.Sequential([L.Dense(1, input_shape=4)]).compile("sgd", own)
    setup = setup_of(model, epochs=1)
    x, _ = blobs()
    assert np.isfinite(setup.fit(x, x[:, :1]).history.history["loss"][0])


def test_preparation_is_fitted_on_training_rows_and_undone_for_scores() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [1.0, 100.0, 1.0] + [0, 0, 5]
    y = (x[:, 0] + x[:, 1] / 100) * 1000.0 + 40_000.0
    model = db.Sequential([L.Dense(1, input_shape=3)]).compile(db.optimizers.Adam(0.05), "mse")
    setup = setup_of(model, epochs=60, batch_size=16).with_(
        inputs=({"step": "zscore"},), targets=({"step": "column"}, {"step": "zscore"}),
    )
    data = setup.prepare(x[:150], y[:150], (x[150:], y[150:]))
    assert abs(data.x[0].mean()) < 1e-6 and abs(data.validation[0][0].mean()) > 1e-3  # type: ignore[index]
    trained = setup.fit(x[:150], y[:150], (x[150:], y[150:]))
    assert trained.score is not None and trained.score.name == "r2" and trained.score.value > 0.99
    assert trained.score.error is not None and trained.score.error < 200
    said = data.predict(trained.model, x[150:])
    assert abs(said[:, 0] - y[150:]).mean() < 200


def test_rows_are_cleaned() -> None:
    x = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0]])
    y = np.array([0, 1, 0, 0, 1])
    held = (np.array([[3.0, 4.0], [7.0, 8.0]]), np.array([0, 1]))
    done = prepare(x, y, held, rows=({"step": "finite"}, {"step": "unique"}, {"step": "unseen"}))
    assert done.x[0].tolist() == [[1, 2], [3, 4], [5, 6]] and done.y.tolist() == [0, 0, 1] and done.left == (2, 1)
    assert done.validation is not None and done.validation[0][0].tolist() == [[7, 8]]
    moved = prepare(x[2:], y[2:], None, rows=({"step": "shift", "by": -1},))
    assert moved.x[0].tolist() == [[3, 4], [5, 6]] and moved.y.tolist() == [0, 0]
    anew = prepare(np.arange(20.0)[:, None], np.arange(20) % 2, (np.arange(5.0)[:, None], np.arange(5) % 2),
                   rows=({"step": "resplit", "fraction": 0.25},))
    assert anew.validation is not None and len(anew.y) == 15 and len(anew.validation[1]) == 5
    assert not set(anew.x[0][:, 0]) & set(anew.validation[0][0][:, 0])


def test_other_preparations() -> None:
    x = np.array([[0.0, 5.0, np.nan], [10.0, 5.0, 4.0]])
    done = prepare(x, np.array([[0, 1.0], [1.0, 0]]), None, ({"step": "impute"}, {"step": "drop_columns",
                   "columns": [1]}, {"step": "divide", "by": 2}), ({"step": "numbers"},))
    assert done.x[0].tolist() == [[0, 2], [5, 2]] and done.y.tolist() == [1, 0]
    assert prepare(x[:, :2], np.array([1, 2]), None, ({"step": "minmax"},), ({"step": "minus", "by": 1},
                   {"step": "one_hot", "classes": 2})).y.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="did you mean"):
        prepare(x, x[:, 0], None, ({"step": "zskore"},))


def test_class_weights_follow_from_the_rows() -> None:
    setup = setup_of(stack()).with_(class_weight="balanced")
    assert setup._weights(np.array([0, 0, 0, 2])) == {0: pytest.approx(4 / 6), 2: pytest.approx(2.0)}


def test_patience_gives_the_best_weights_back() -> None:
    x, y = blobs(300)
    setup = setup_of(stack(), epochs=40, batch_size=8).with_(patience=2)
    trained = setup.fit(x[:30], y[:30], (x[30:], y[30:]))
    losses = trained.history.history["val_loss"]
    assert len(losses) < 40
    assert trained.model.evaluate(x[30:], y[30:])["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_scores() -> None:
    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = score(np.array([0, 1, 1]), soft, True)
    assert (found.value, found.name, found.rows) == (pytest.approx(2 / 3), "accuracy", 3)
    assert found.error == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean())
    assert score(np.eye(2)[[0, 1, 1]], soft, True).value == found.value
    assert score(np.array([0.0, 1.0, 1.0]), np.array([[-1.0], [2.0], [-3.0]]), True, 0.0).value == found.value
    assert score(np.array([0, 1, 1]), np.full((3, 2), np.nan), True).value == 0.0
    logits = np.log(soft) + 3.0
    assert score(np.array([0, 1, 1]), logits, True).error == pytest.approx(found.error)
    yes = score(np.array([0.0, 1.0]), np.array([[-2.0], [1.0]]), True, 0.0)
    assert yes.error == pytest.approx(np.log1p(np.exp([-2.0, -1.0])).mean())
    amounts = score(np.array([1.0, 2.0, 3.0]), np.array([[1.0], [2.0], [3.0]]), False)
    assert amounts.value == 1.0 and amounts.error == 0.0
    assert amounts.better(Score(0.5, "r2", 0.1, 3)) and not Score(0.5, "r2", 0.3, 3).better(Score(0.5, "r2", 0.1, 3))
