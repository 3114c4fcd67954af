"""The sound setup: what it takes from the data, what it changes in the layers, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit import sound
from deepbabysit.babysit.blueprint import Blueprint
from deepbabysit.babysit.preparation import prepare
from deepbabysit.babysit.setup import Setup, setup_of

L = db.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)


def setup(layers: list[Any], loss: str = "sparse_categorical_crossentropy", optimizer: Any = "sgd") -> Setup:
    return setup_of(db.Sequential(layers).compile(optimizer, loss), epochs=2, batch_size=100)


def made(start: Setup, x: Any = X, y: Any = None) -> Setup:
    targets = RNG.integers(0, 3, len(x)) if y is None else y
    return sound.sound(start, x, targets)(start)


def shapes(done: Setup) -> list[tuple[str, Any]]:
    return [(p.kind, p.config.get("units", p.config.get("activation"))) for p in Blueprint(done.model).layers()]


def test_a_sound_setup_is_trained_in_the_usual_way() -> None:
    done = made(setup([L.Dense(32, "relu", input_shape=6), L.Dense(3, "softmax")]))
    assert done.optimizer["name"] == "adam" and done.optimizer["learning_rate"]["name"] == "cosine"
    assert done.optimizer["clip_norm"] == 1.0 and done.batch_size == sound.USUAL_BATCH
    assert done.epochs == sound.LONGEST and done.patience == sound.LONGEST // 3
    assert done.inputs == ({"step": "zscore"},) and not done.targets
    longer = setup([L.Dense(32, "relu", input_shape=6), L.Dense(3, "softmax")]).with_(epochs=500)
    assert made(longer).epochs == 500
    assert done.build().fit(X[:64], RNG.integers(0, 3, 64), verbose=0, babysit=False)


def test_hidden_layers_bend_are_wide_enough_and_start_well() -> None:
    start = setup([
        L.Dropout(0.9, input_shape=6), L.Dense(40, kernel_initializer="zeros"), L.Activation("linear"),
        L.Dense(1, "tanh"), L.Dropout(0.6), L.Dropout(0.6), L.Dense(20, "sigmoid", kernel_regularizer="l1"),
        L.BatchNorm(momentum=0.999), L.Dense(3, "softmax", kernel_initializer="ones"), L.BatchNorm(),
    ])
    done = made(start)
    dense = [p for p in Blueprint(done.model).layers() if p.kind == "Dense"]
    assert [p.config["units"] for p in dense] == [40, sound.WIDTH, 20, 3]
    assert [p.config["activation"] for p in dense] == ["relu", "tanh", "relu", "softmax"]
    assert [p.config["kernel_initializer"] for p in dense] == [
        "he_normal", "glorot_uniform", "he_normal", "glorot_uniform"]
    assert all(p.config["kernel_regularizer"] is None for p in dense)
    others = [(p.kind, p.config.get("rate", p.config.get("momentum"))) for p in Blueprint(done.model).layers()
              if p.kind in ("Dropout", "BatchNorm")]
    assert others == [("Dropout", sound.DROPOUT), ("BatchNorm", 0.9)]
    body = sound.sound_body(start, X, RNG.integers(0, 3, 200))(start)
    assert [s for s in shapes(body) if s[0] == "Dense"] == [("Dense", sound.BODY)] * 2 + [("Dense", 3)]
    assert sound.unusual(start) and not sound.unusual(setup([L.Dense(64, input_shape=6), L.Dense(3)]))
    kept = made(setup([L.Dense(32, input_shape=6), L.Activation("tanh"), L.Dense(3, "softmax")]))
    assert shapes(kept) == [("Dense", 32), ("Activation", "tanh"), ("Dense", 3)]
    assert Blueprint(kept.model).layers()[0].config["activation"] is None  # it bends in the layer behind


@pytest.mark.parametrize(("last", "loss", "y", "wanted"), [
    (L.Dense(3, "tanh"), "sparse_categorical_crossentropy", "classes", ("softmax", "sparse_categorical_crossentropy")),
    (L.Dense(3), "cross_entropy", "one_hot", ("softmax", "categorical_crossentropy")),
    (L.Dense(1, "softmax"), "kl_divergence", "amounts", (None, "mse")),
    (L.Dense(1, "tanh"), "mae", "amounts", (None, "mae")),
    (L.Dense(1, "relu"), "hinge", "signs", ("sigmoid", "binary_crossentropy")),
    (L.Dense(1), "mse", "yes", ("sigmoid", "binary_crossentropy")),
])
def test_output_and_loss_fit_the_targets(last: Any, loss: str, y: str, wanted: Any) -> None:
    classes = RNG.integers(0, 3, 200)
    targets = {"classes": classes, "one_hot": np.eye(3, dtype=np.float32)[classes], "amounts": X[:, :1] * 7.0,
               "signs": 2 * (classes > 0) - 1, "yes": (classes > 0).astype(np.int64)}[y]
    done = made(setup([L.Dense(32, "relu", input_shape=6), last], loss), y=targets)
    assert (Blueprint(done.model).last().config["activation"], done.loss["name"]) == wanted  # type: ignore[index]
    data = done.prepare(X, targets)
    history = done.with_(epochs=1).train(done.build(), data)
    assert np.isfinite(history.history["loss"][0])
    if y == "signs":
        assert set(np.unique(data.y)) == {0, 1}
    if y == "amounts":
        assert abs(float(data.y.mean())) < 1e-5 and float(data.y.std()) == pytest.approx(1.0, abs=1e-5)


def test_inputs_are_scaled_by_what_they_are() -> None:
    start = setup([L.Dense(32, "relu", input_shape=6), L.Dense(3, "softmax")])
    money = np.exp(4.0 * X)
    assert made(start, money).inputs == ({"step": "normal"},) and sound.tailed(start, money)
    pixels = np.round(255 * RNG.uniform(size=(100, 64))).astype(np.float32)
    assert sound._scaling(pixels) == {"step": "zscore", "axis": None}
    tokens = setup([L.Embedding(9, 4, input_shape=5), L.Flatten(), L.Dense(3, "softmax")])
    assert made(tokens, RNG.integers(0, 9, (200, 5))).inputs == ()
    words, amounts = db.Input(shape=5, dtype="int32"), db.Input(shape=6)
    joined = L.Concatenate()([L.Flatten()(L.Embedding(9, 4)(words)), amounts])
    both = db.Model([words, amounts], L.Dense(3, "softmax")(L.Dense(32, "relu")(joined)))
    start = setup_of(both.compile("sgd", "sparse_categorical_crossentropy"))
    done = made(start, (RNG.integers(0, 9, (200, 5)), X), RNG.integers(0, 3, 200))
    assert done.inputs == ({"step": "zscore", "input": 1},)


def test_frozen_layers_stay() -> None:
    model = db.Sequential([L.Dense(8, "sigmoid", input_shape=6), L.Dense(8, "sigmoid"), L.Dense(3, "softmax")])
    model.layers[0].trainable = False
    start = setup_of(model.compile("sgd", "sparse_categorical_crossentropy"))
    assert "0.kernel" in start.frozen
    assert shapes_of_units(made(start)) == [(8, "sigmoid"), (sound.WIDTH, "relu"), (3, "softmax")]
    assert not made(start).build().layers[0].kernel.trainable


def shapes_of_units(done: Setup) -> list[tuple[int, str]]:
    return [(p.config["units"], p.config["activation"]) for p in Blueprint(done.model).layers()]


def test_numbers_become_classes_only_where_they_can() -> None:
    start = setup([L.Dense(32, "relu", input_shape=6), L.Dense(1)], "mse")
    codes = 10 * RNG.integers(1, 4, 200)
    change = sound.as_classes(start, codes)
    assert change is not None and change(start).targets == ({"step": "codes", "values": [10, 20, 30]},)
    assert Blueprint(change(start).model).last().config["units"] == 3
    assert sound.as_classes(start, codes.astype(np.float32)) is None  # amounts, as far as their dtype says
    assert sound.as_classes(start, np.arange(200)) is None


def test_steps_of_preparation() -> None:
    y = np.array([10, 30, 10, -1])
    done = prepare(X[:4], y, (X[4:6], np.array([30, 10])), (), ({"step": "codes", "values": [10, 30]},),
                   ({"step": "labelled"},))
    assert done.y.tolist() == [0, 1, 0] and done.truth is not None and done.truth.tolist() == [1, 0]
    with pytest.raises(ValueError, match="no class with the code -1"):
        prepare(X[:4], y, None, (), ({"step": "codes", "values": [10, 30]},))
    amounts = np.exp(X[:, :1])
    back = prepare(X, amounts, None, (), ({"step": "log"}, {"step": "zscore"}))
    np.testing.assert_allclose(back.outputs(back.y), amounts, rtol=1e-4)
    assert abs(float(back.y.mean())) < 1e-5
    with pytest.raises(ValueError, match="above 0"):
        prepare(X, X[:, :1], None, (), ({"step": "log"},))
    held = prepare(X, amounts, (3.0 * X + 7.0, amounts), rows=({"step": "align"},))
    np.testing.assert_allclose(held.validation[0][0], X, atol=1e-4)  # type: ignore[index]
    wide = np.concatenate((np.exp(4.0 * X[:, :1]), (X[:, 1:2] > 0)), axis=1)
    spread = prepare(wide, amounts, (wide[:5], amounts[:5]), ({"step": "normal"},))
    column, flags = spread.x[0].T
    assert column.std() == pytest.approx(1.0, abs=0.05) and abs(column.mean()) < 0.05
    assert np.abs(column).max() < 3.0 and len(np.unique(flags)) == 2
    order = np.argsort(wide[:, 0])
    assert (np.diff(column[order]) >= 0).all()
    np.testing.assert_allclose(spread.validation[0][0], spread.x[0][:5])  # type: ignore[index]
    with pytest.raises(ValueError, match="columns of a table"):
        prepare(X[:, :, None, None], amounts, None, ({"step": "normal"},))


def test_labels_that_were_encoded_twice_are_read_once() -> None:
    y = np.eye(2, dtype=np.float32)[np.eye(3, dtype=int)[RNG.integers(0, 3, 200)]]
    done = made(setup([L.Dense(32, "relu", input_shape=6), L.Dense(3, "softmax")]), y=y)
    assert [step["step"] for step in done.targets] == ["numbers"]
    assert done.loss is not None and done.loss["name"] == "categorical_crossentropy"
    data = done.prepare(X, y, (X, y))
    assert data.y.shape == (200, 3) and (data.y.sum(axis=1) == 1).all() and (data.y == y.argmax(axis=-1)).all()
    assert not sound.encoded_again(np.zeros((4, 3, 2))) and not sound.encoded_again(np.eye(2)[np.ones((4, 3), int)])


def test_filters_of_one_place_and_means_over_all_places_go() -> None:
    images, y = RNG.normal(size=(60, 8, 8, 1)).astype(np.float32), RNG.integers(0, 3, 60)
    start = setup([
        L.LayerNorm(input_shape=(8, 8, 1)), L.Conv2D(6, 1, activation="relu"), L.GlobalAvgPool2D(),
        L.Dense(3, "softmax"),
    ])
    eased = made(start, images, y)  # over one channel a normalization leaves nothing
    assert [kind for kind, _ in shapes(eased)] == ["Conv2D", "GlobalAvgPool2D", "Dense"]
    assert sound.unusual(start)
    body = sound.sound_body(start, images, y)(start)
    assert [kind for kind, _ in shapes(body)] == ["Conv2D", "Flatten", "Dense", "Dense", "Dense"]
    assert Blueprint(body.model).layers()[0].config["kernel_size"] == sound.SIDE
    assert body.build().predict(images[:2]).shape == (2, 3)
