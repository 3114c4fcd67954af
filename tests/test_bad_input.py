"""What users get wrong: a message before the first step, and a model that is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import deepbabysit as db

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 40)


def classifier(loss: str = "cross_entropy", units: int = 3, activation: str | None = None) -> db.Model:
    db.set_seed(0)
    model = db.Sequential(
        [db.layers.Dense(8, activation="relu", input_shape=5), db.layers.Dense(units, activation=activation)]
    )
    return model.compile(db.optimizers.SGD(0.1), loss)


@contextmanager
def refused(model: db.Model, kind: type[BaseException], match: str) -> Iterator[None]:
    """Expect an error that leaves the weights as they are."""
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(kind, match=match):
        yield
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((X, Y + 1), "validation data: cross_entropy: label 3 in row"),
        ((X[:, :4], Y), "validation data: layer 0 .*expected .*5"),
        ((np.where(X > 2, np.nan, X), Y), "validation x holds NaN"),
        ((X[:0], Y[:0]), "validation x is empty"),
        ((X, Y[:30]), "x has 40 rows and y has 30"),
        (db.data.Loader(X, Y + 1, batch_size=8, shuffle=False), "validation data: .*label 3"),
    ],
)
def test_validation_data_are_looked_at_before_the_first_step(data: Any, match: str) -> None:
    model = classifier()
    with refused(model, ValueError, match):
        model.fit(X, Y, validation_data=data, verbose=0)


def test_integer_inputs_are_validated_as_they_are_trained() -> None:
    counts = RNG.integers(0, 9, (40, 5))
    history = classifier().fit(counts, Y, validation_split=0.25, epochs=1, verbose=0)
    assert np.isfinite(history.history["val_loss"][0])


def test_a_loader_is_looked_at_before_the_first_step() -> None:
    bad = X.copy()
    bad[37, 2] = np.nan
    model = classifier()
    with refused(model, ValueError, r"x\[37, 2\]"):
        model.fit(db.data.Loader(bad, Y, batch_size=8), verbose=0)
    with refused(model, ValueError, "label 7 in row 39"):
        model.fit(db.data.Loader(X, np.where(np.arange(40) == 39, 7, Y), batch_size=8, shuffle=False), verbose=0)
    with refused(model, ValueError, "y is missing"):
        model.fit(db.data.Loader(X, batch_size=8), verbose=0)


def test_a_source_is_looked_at_batch_by_batch() -> None:
    class Rows:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return X[rows], np.where(rows == 39, 7, Y[rows])

    with pytest.raises(ValueError, match="label 7"):
        classifier().fit(db.data.Loader(Rows(), batch_size=8, shuffle=False), verbose=0)


@pytest.mark.parametrize("name", ["sample_weight", "class_weight"])
def test_weights_beside_a_loader_are_refused(name: str) -> None:
    model = classifier()
    with refused(model, ValueError, f"{name} goes with arrays"):
        model.fit(db.data.Loader(X, Y, batch_size=8), verbose=0, **{name: np.ones(40)})


@pytest.mark.parametrize(
    ("weight", "kind", "match"),
    [
        (np.zeros(40), ValueError, "every weight is 0"),
        (np.where(np.arange(40) == 7, np.nan, 1.0), ValueError, "row 7 has nan"),
        (np.where(np.arange(40) == 7, -1.0, 1.0), ValueError, "row 7 has -1"),
        (["a"] * 40, TypeError, "sample_weight must hold numbers"),
        (np.ones(39), ValueError, "40 in all"),
        (np.ones((40, 1)), ValueError, r"sample_weight.reshape\(-1\)"),
        (np.ones((40, 3)), ValueError, "sample_weight has shape"),
    ],
)
def test_sample_weights(weight: Any, kind: type[Exception], match: str) -> None:
    model = classifier()
    with refused(model, kind, match):
        model.fit(X, Y, sample_weight=weight, verbose=0)


@pytest.mark.parametrize(
    ("weights", "kind", "match"),
    [
        ({0: 1.0, 1: 2.0}, ValueError, "no weight for class 2"),
        ({"0": 1.0, "1": 2.0, "2": 1.0}, TypeError, "whole numbers.*got '0'"),
        ({0: 1.0, 1: 2.0, 2: -1.0}, ValueError, "class 2 has -1.0"),
        ("balanced", TypeError, "bincount"),
    ],
)
def test_class_weights(weights: Any, kind: type[Exception], match: str) -> None:
    model = classifier()
    with refused(model, kind, match):
        model.fit(X, Y, class_weight=weights, verbose=0)


def test_class_weight_of_a_class_below_zero_does_not_reach_the_last_class() -> None:
    plain, more = classifier(), classifier()
    plain.fit(X, Y, class_weight={0: 1.0, 1: 2.0, 2: 3.0}, verbose=0, seed=0)
    more.fit(X, Y, class_weight={0: 1.0, 1: 2.0, 2: 3.0, -1: 50.0}, verbose=0, seed=0)
    for a, b in zip(plain.get_weights(), more.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_class_weight_is_refused_for_several_labels_per_sample() -> None:
    model = classifier("binary_crossentropy", activation="sigmoid")
    with refused(model, ValueError, "not one-hot rows"):
        model.fit(X, (X[:, :3] > 0).astype(np.float32), class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0)


def test_weights_of_the_positions_of_sequences_are_counted() -> None:
    x = RNG.normal(size=(20, 6, 5)).astype(np.float32)
    y = RNG.integers(0, 3, (20, 6))
    weight = RNG.random((20, 6)).astype(np.float32)
    model = db.Sequential([db.layers.Dense(3, input_shape=(6, 5))]).compile("adam", "cross_entropy", ["accuracy"])
    right = model.predict(x).argmax(axis=-1) == y
    found = model.evaluate(x, y, batch_size=7, sample_weight=weight)
    assert found["accuracy"] == pytest.approx((right * weight).sum() / weight.sum(), rel=1e-5)
    by_class = np.asarray([1.0, 2.0, 5.0])[y]
    a, b = model, db.Sequential([db.layers.Dense(3, input_shape=(6, 5))]).compile("adam", "cross_entropy")
    b.set_weights(a.get_weights())
    a.fit(x, y, class_weight={0: 1.0, 1: 2.0, 2: 5.0}, verbose=0, seed=0)
    b.fit(x, y, sample_weight=by_class, verbose=0, seed=0)
    for one, two in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"split": "tme"}, ValueError, "did you mean 'time'"),
        ({"shuffle": "batch"}, TypeError, "shuffle is True or False"),
        ({"validation_split": "0.2"}, TypeError, "fraction such as 0.1"),
        ({"x": None}, ValueError, "x is missing"),
        ({"x": X.astype(np.float64) * 1e300}, ValueError, "float32 cannot hold"),
        ({"x": np.ma.masked_array(X, X > 1)}, ValueError, "masked cells"),
        ({"x": (X, X)}, ValueError, "takes one input; got 2"),
        ({"x": tuple(X.tolist())}, ValueError, "a tuple means several arrays"),
        ({"y": (Y, Y)}, ValueError, "y holds 2 arrays and cross_entropy takes one"),
    ],
)
def test_what_fit_is_given(change: dict[str, Any], kind: type[Exception], match: str) -> None:
    model = classifier()
    with refused(model, kind, match):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **change})


def test_targets_may_be_a_tuple_of_numbers() -> None:
    history = classifier().fit(X, tuple(Y.tolist()), verbose=0)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize("y", [Y + 1, Y - 1], ids=["above", "below"])
def test_every_batch_of_train_on_batch_is_looked_at(y: np.ndarray) -> None:
    model = classifier()
    for _ in range(3):
        model.train_on_batch(X, Y)
    with refused(model, ValueError, "label"):
        model.train_on_batch(X, y)


def test_the_logs_of_train_on_batch_are_those_of_their_step() -> None:
    model, same = classifier(), classifier()
    late = [model.train_on_batch(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
    early = [same.train_on_batch(X[i : i + 8], Y[i : i + 8])["loss"] for i in range(0, 40, 8)]
    assert [logs["loss"] for logs in late] == early
    assert len(set(early)) > 1


def test_a_layer_added_between_batches_is_trained() -> None:
    model = classifier()
    for _ in range(3):
        model.train_on_batch(X, Y)
    model.add(db.layers.Dense(3))
    before = [w.copy() for w in model.get_weights()]
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_converted_model_stays_converted() -> None:
    model = classifier()
    model.fit(X, Y, verbose=0)
    model.astype("float64")
    model.fit(X, Y, verbose=0)
    assert {w.dtype for w in model.get_weights()} == {np.dtype(np.float64)}
    assert model.predict(X).dtype == np.float64


@pytest.mark.parametrize("bad", [7, -1])
def test_an_id_in_a_late_batch_is_named_by_its_layer(bad: int) -> None:
    ids = RNG.integers(0, 5, (40, 2))
    ids[38, 1] = bad
    table = db.layers.Embedding(5, 3)
    model = db.Sequential([table, db.layers.Flatten(), db.layers.Dense(1)]).compile("adam", "mse")
    model.fit(ids[:8], np.zeros((8, 1)), batch_size=4, verbose=0)
    with pytest.raises(ValueError, match=rf"layer 0 \(Embedding\): expected ids 0 to 4; got {bad}"):
        model.fit(ids, np.zeros((40, 1)), batch_size=4, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=rf"layer 0 \(Embedding\): expected ids 0 to 4; got {bad}"):
        model.predict(ids, batch_size=4)
    assert np.isfinite(model.predict(ids[:8], batch_size=4)).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: m.fit(X, Y, n_epochs=3), "'n_epochs'; did you mean 'epochs'"),
        (lambda m: m.fit(X, Y, valdiation_data=(X, Y)), "did you mean 'validation_data'"),
        (lambda m: m.fit(X, Y, random_state=0), "did you mean 'seed'"),
        (lambda m: m.fit(X, Y, bs=8), "did you mean 'batch_size'"),
        (lambda m: m.compile(optimiser="adam"), "did you mean 'optimizer'"),
        (lambda m: m.compile(criterion="mse"), "did you mean 'loss'"),
        (lambda m: m.predict(X, batchsize=3), "did you mean 'batch_size'"),
        (lambda m: m.evaluate(X, Y, batchsize=3), "did you mean 'batch_size'"),
        (lambda m: db.schedules.step(0.1, step_size=2), "Step got .*did you mean 'every'"),
        (lambda m: db.schedules.exponential(0.1, gamma=0.9), "did you mean 'factor'"),
        (lambda m: db.schedules.cosine(0.1, T_max=9), "did you mean 'steps'"),
        (lambda m: db.callbacks.ModelCheckpoint(filepath="x"), "ModelCheckpoint got .*did you mean 'path'"),
        (lambda m: db.callbacks.CSVLogger("x", seperator=";"), "did you mean 'separator'"),
    ],
)
def test_unknown_keywords_get_the_nearest_ones(call: Callable[[db.Model], Any], match: str) -> None:
    model = classifier()
    with refused(model, TypeError, match):
        call(model)


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        ("optimizers", "Adm", "Adam"), ("callbacks", "EarlyStoping", "EarlyStopping"), ("schedules", "cosin", "cosine"),
        ("initializers", "he_normall", "he_normal"), ("regularizers", "l22", "l2"),
        ("constraints", "max_nrm", "max_norm"),
        ("losses", "msee", "mse"), ("layers", "Dnese", "Dense"), ("ops", "rleu", "relu"), ("datasets", "mnst", "mnist"),
    ],
)  # fmt: skip
def test_misspelt_names_of_modules_get_the_nearest_ones(module: str, name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"did you mean .*'{meant}'"):
        getattr(getattr(db, module), name)


@pytest.mark.parametrize(
    ("name", "match"), [("gpu", "a GPU is named 'cuda'"), ("cpu:7", "one CPU device"), ("cdua", "did you mean 'cuda'")]
)
def test_devices_that_are_not_there(name: str, match: str) -> None:
    model = classifier()
    with refused(model, ValueError, match):
        model.fit(X, Y, device=name, verbose=0)


def test_an_absent_model_file(tmp_path: Any) -> None:
    classifier().save(tmp_path / "digits.dbs")
    with pytest.raises(FileNotFoundError, match="there is no file .*did you mean 'digits.dbs'"):
        db.load_model(tmp_path / "digit.dbs")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        db.load_model(tmp_path)


class Written(db.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = db.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def test_a_written_model_that_was_only_called_can_be_loaded(tmp_path: Any) -> None:
    model = Written()
    with pytest.raises(ValueError, match="before you save it|no weights yet"):
        model.save(tmp_path / "empty.dbs")
    assert not list(tmp_path.iterdir())
    expected = model(db.tensor(X)).numpy()
    model.save(tmp_path / "net.dbs")
    again = db.load_model(tmp_path / "net.dbs", objects={"Written": Written})
    np.testing.assert_array_equal(again(db.tensor(X)).numpy(), expected)


def test_the_message_of_a_missing_input_shows_the_batch_axis() -> None:
    a, b = db.Input(shape=3), db.Input(shape=4)
    with pytest.raises(ValueError, match=r"of shape \(None, 3\)"):
        db.Model(b, db.layers.Dense(3)(a))
