"""Metrics against scikit-learn and plain formulas; sums that add up over ragged batches."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepbabysit as db

SETTINGS = settings(derandomize=True, max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def over_batches(
    metric: Any, y: np.ndarray, p: np.ndarray, edges: list[int], weight: np.ndarray | None = None
) -> float:
    """What fit does: totals (or what is gathered) per batch, added, and one result at the end."""
    pieces = []
    for a, b in zip(edges, edges[1:], strict=False):
        w = None if weight is None else db.tensor(weight[a:b])
        take = metric.gather if metric.gathers else metric.totals
        pieces.append(take(db.tensor(y[a:b]), db.tensor(p[a:b]), w))
    if metric.gathers:
        return metric.result(pieces)
    for piece in pieces:
        assert piece.dtype == np.float64 and piece.ndim == 1 and not piece.requires_grad
    return metric.result(np.sum([q.numpy() for q in pieces], axis=0))


def edges_of(n: int, size: int) -> list[int]:
    return [*range(0, n, size), n]


# -- scikit-learn ------------------------------------------------------------------------------------------------------


@SETTINGS
@given(n=st.integers(1, 23), size=st.integers(1, 7), seed=seeds, weighted=st.booleans())
def test_binary_metrics(n: int, size: int, seed: int, weighted: bool) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 1))
    p = rng.random((n, 1)).round(1).astype(np.float32)  # rounded: ties, and scores of exactly one half
    weight = rng.uniform(0.1, 2.0, n) if weighted else None
    said = (p > 0.5).astype(int)[:, 0]
    options: dict[str, Any] = {"sample_weight": weight}
    for name, expected in (
        ("accuracy", sk.accuracy_score(y[:, 0], said, **options)),
        ("precision", sk.precision_score(y[:, 0], said, zero_division=0, **options)),
        ("recall", sk.recall_score(y[:, 0], said, zero_division=0, **options)),
        ("f1", sk.f1_score(y[:, 0], said, zero_division=0, **options)),
    ):
        metric = db.metrics.get(name, loss="binary_crossentropy")
        assert over_batches(metric, y, p, edges_of(n, size), weight) == pytest.approx(expected, rel=1e-12)
        assert metric(y, p, weight) == pytest.approx(expected, rel=1e-12)
    found = over_batches(db.metrics.get("auc", loss="bce"), y, p, edges_of(n, size), weight)
    if 0 < y.sum() < n:
        assert found == pytest.approx(sk.roc_auc_score(y[:, 0], p[:, 0], **options), rel=1e-12)
    else:
        assert math.isnan(found)


@SETTINGS
@given(n=st.integers(1, 23), size=st.integers(1, 7), classes=st.integers(2, 5), seed=seeds, weighted=st.booleans(),
       rows=st.booleans())
def test_class_metrics(n: int, size: int, classes: int, seed: int, weighted: bool, rows: bool) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    p = rng.dirichlet(np.ones(classes), n)
    weight = rng.uniform(0.1, 2.0, n) if weighted else None
    said = p.argmax(axis=-1)
    y = np.eye(classes)[labels] if rows else labels
    options: dict[str, Any] = {"sample_weight": weight}
    expected = {"accuracy": sk.accuracy_score(labels, said, **options)}
    averages = ["macro", "micro", "weighted"]
    for average in averages:
        kind = {"average": average, "zero_division": 0, **options}
        expected[f"precision {average}"] = sk.precision_score(labels, said, **kind)
        expected[f"recall {average}"] = sk.recall_score(labels, said, **kind)
        expected[f"f1 {average}"] = sk.f1_score(labels, said, **kind)
    for name, value in expected.items():
        short, _, average = name.partition(" ")
        for loss in ("cross_entropy", None):
            metric = db.metrics.get(short, loss=loss)
            if average:
                metric = metric.with_(average=average)
            assert over_batches(metric, y, p, edges_of(n, size), weight) == pytest.approx(value, rel=1e-12), name
    for k in range(1, classes):
        top = db.metrics.TopKCategoricalAccuracy(k=k)
        hits = (np.argsort(-p, axis=-1)[:, :k] == labels[:, None]).any(axis=1)
        value = np.average(hits, weights=weight)
        assert over_batches(top, y, p, edges_of(n, size), weight) == pytest.approx(value, rel=1e-12)
    if classes > 2 and len(set(labels.tolist())) == classes and not weighted:
        value = sk.roc_auc_score(labels, p, multi_class="ovr")
        assert over_batches(db.metrics.auc, y, p, edges_of(n, size)) == pytest.approx(value, rel=1e-12)
    np.testing.assert_array_equal(
        db.metrics.confusion_matrix(y, p), sk.confusion_matrix(labels, said, labels=range(classes))
    )


@SETTINGS
@given(n=st.integers(2, 23), size=st.integers(1, 7), columns=st.integers(1, 3), seed=seeds, weighted=st.booleans())
def test_regression_metrics(n: int, size: int, columns: int, seed: int, weighted: bool) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    y, p = rng.standard_normal((n, columns)) + 3, rng.standard_normal((n, columns)) + 3
    weight = rng.uniform(0.1, 2.0, n) if weighted else None
    mse = sk.mean_squared_error(y, p, sample_weight=weight)
    for name, expected in (
        ("mae", sk.mean_absolute_error(y, p, sample_weight=weight)), ("mse", mse), ("rmse", math.sqrt(mse)),
        ("r2", sk.r2_score(y, p, sample_weight=weight)),
    ):
        assert over_batches(db.metrics.get(name), y, p, edges_of(n, size), weight) == pytest.approx(expected, rel=1e-9)


def test_r2_of_columns_that_do_not_vary() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    y = np.array([[0.5, 1.0], [0.5, 2.0], [0.5, 4.0]])  # sums without rounding: the spread is exactly 0
    for p in (y, y + 0.5):
        assert db.metrics.r2(y, p) == pytest.approx(sk.r2_score(y, p))


# -- sums --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["accuracy", "mse", "mae", "rmse", "r2", "f1", "top_k_accuracy", "cross_entropy", "auc"]
)
def test_a_ragged_last_batch_counts_as_what_it_is(name: str) -> None:
    """The last batch holds one row that is all wrong: a mean of means would give another number."""
    rng = np.random.default_rng(7)
    labels = np.array([0, 1, 2, 0, 1, 2, 1])
    x = (np.eye(3)[labels] * 4 + rng.standard_normal((7, 3))).astype(np.float32)
    x[6] = [9.0, -9.0, 8.0]
    y = np.eye(3, dtype=np.float32)[labels] if name in ("mse", "mae", "rmse", "r2") else labels
    metric = db.metrics.get(name, loss="mse" if y.ndim > 1 else "cross_entropy")
    metric = metric.with_(k=2) if name == "top_k_accuracy" else metric
    whole = over_batches(metric, y, x, [0, 7])
    ragged = over_batches(metric, y, x, [0, 3, 6, 7])
    means = np.mean([over_batches(metric, y, x, [a, b]) for a, b in ((0, 3), (3, 6), (6, 7))])
    assert ragged == pytest.approx(whole, rel=1e-12)
    assert math.isnan(means) or abs(means - whole) > 1e-3


def test_counts_are_exact_beyond_float32() -> None:
    metric = db.metrics.get("accuracy", loss="bce")
    many = np.array([2.0**24, 2.0**24]) + metric.totals(np.array([[1]]), np.array([[0.9]])).numpy()
    assert many.tolist() == [2.0**24 + 1, 2.0**24 + 1]  # float32 would stop counting here
    small = np.full((4096, 1), 0.1, np.float32)
    own = db.metrics.get(lambda y_true, y_pred: y_pred)
    narrow = np.full((999, 1), 0.1, np.float32)
    assert own.totals(narrow, narrow).numpy()[0] == narrow.sum(dtype=np.float64)
    total, count = db.metrics.mse.totals(np.zeros((4096, 1), np.float32), small).numpy()
    assert total == pytest.approx(4096 * float(np.float32(0.1) * np.float32(0.1)), rel=1e-14) and count == 4096


def test_losses_are_metrics_and_own_functions_too() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), rng.integers(0, 3, 7)
    names = ("cross_entropy", db.losses.cross_entropy, db.losses.CrossEntropy, "sparse_categorical_crossentropy")
    for given_metric in names:
        metric = db.metrics.get(given_metric, loss="cross_entropy")
        outputs = x if "sparse" not in metric.name else np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        expected = db.losses.cross_entropy(y, x).item()
        assert over_batches(metric, y, outputs, [0, 4, 7]) == pytest.approx(expected, rel=1e-12)

    def largest(y_true: Any, y_pred: Any) -> Any:
        return y_pred.max(axis=-1)

    metric = db.metrics.get(largest)
    assert metric.name == "largest"
    assert over_batches(metric, y, x, [0, 4, 7]) == pytest.approx(x.max(-1).mean(), rel=1e-12)
    weight = rng.random(7)
    assert metric(y, x, weight) == pytest.approx(np.average(x.max(-1), weights=weight), rel=1e-12)
    whole = db.metrics.get(lambda y_true, y_pred: y_pred.mean())
    assert over_batches(whole, y, x, [0, 4, 7]) == pytest.approx(x.mean(), rel=1e-12)
    with pytest.raises(ValueError, match="cannot be weighted"):
        whole(y, x, weight)
    with pytest.raises(TypeError, match="must return a Tensor"):
        db.metrics.get(lambda y_true, y_pred: 0.0)(y, x)


# -- which form, which threshold ---------------------------------------------------------------------------------------


def test_accuracy_says_which_form_it_picked() -> None:
    x, labels = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 1])
    rows = np.eye(2)
    for loss, y, p, form in (
        ("cross_entropy", labels, x, "sparse_categorical_accuracy"), ("cross_entropy", rows, x, "categorical_accuracy"),
        ("mse", rows, x, "categorical_accuracy"), ("bce", rows, np.abs(x) / 4, "binary_accuracy"),
        (None, labels, x, "sparse_categorical_accuracy"), (None, labels, x[:, 0] / 4, "binary_accuracy"),
        ("mse", labels.reshape(-1, 1), x[:, :1], "binary_accuracy"), ("hinge", rows, x - 1.5, "binary_accuracy"),
    ):
        metric = db.metrics.get("accuracy", loss=loss)
        assert metric.chosen is None
        metric(y, p)
        assert metric.chosen == form
    assert db.metrics.accuracy.chosen is None or db.metrics.get("accuracy").chosen is None


def test_yes_means_a_logit_above_zero() -> None:
    logits = db.tensor(np.array([[0.3], [-0.3], [0.7], [1e-9]], np.float32))
    y = np.array([[1], [0], [1], [1]])
    assert db.metrics.get("accuracy", loss="binary_crossentropy_with_logits")(y, logits) == 1.0
    assert db.metrics.get("accuracy", loss=db.losses.BinaryCrossentropy(from_logits=True))(y, logits) == 1.0
    assert db.metrics.get("accuracy", loss="hinge")(y * 2 - 1, logits) == 1.0
    assert db.metrics.get("accuracy", loss="bce")(y, db.ops.sigmoid(logits)) == 1.0  # 1e-9 is remembered
    assert db.metrics.get("accuracy", loss="bce")(y, db.ops.sigmoid(logits).numpy()) == 0.75
    assert db.metrics.get("accuracy")(y, logits.numpy()) == 0.5  # taken as probabilities: 0.3 is a no
    picky = db.metrics.get("binary_accuracy", loss="binary_crossentropy_with_logits").with_(threshold=0.6)
    assert picky(y, logits) == 0.5  # sigmoid(0.3) = 0.57, sigmoid(0.7) = 0.67
    assert db.metrics.binary_accuracy.with_(threshold=0.6)(y, db.ops.sigmoid(logits)) == 0.5
    with pytest.raises(ValueError, match="threshold is a probability"):
        db.metrics.binary_accuracy.with_(threshold=2.0)(y, logits)


def test_ignored_labels_do_not_count() -> None:
    loss = db.losses.CrossEntropy(ignore_index=-1)
    y = np.array([[0, 1, -1], [1, -1, -1]])
    p = np.eye(2)[[[0, 0, 0], [1, 0, 0]]]
    assert db.metrics.get("accuracy", loss=loss)(y, p) == pytest.approx(2 / 3)
    assert db.metrics.get("top_k_accuracy", loss=loss).with_(k=2)(y, p) == 1.0
    assert db.metrics.get("accuracy", loss=loss)(y, p, [1.0, 3.0]) == pytest.approx(4 / 5)
    assert db.metrics.get("recall", loss=loss)(y, p) == pytest.approx((1 + 1 / 2) / 2)


def test_predicted_class_numbers() -> None:
    assert db.metrics.accuracy([0, 1, 2, 2], [0, 2, 2, 2]) == 0.75
    assert db.metrics.accuracy([0, 1, 1, 0], [0, 1, 0, 0]) == 0.75
    sk = pytest.importorskip("sklearn.metrics")
    y, p = np.array([0, 1, 2, 2, 1]), np.array([0, 2, 2, 2, 1])
    assert db.metrics.f1(y, p) == pytest.approx(sk.f1_score(y, p, average="macro"))
    np.testing.assert_array_equal(db.metrics.confusion_matrix(y, p), sk.confusion_matrix(y, p))
    with pytest.raises(ValueError, match="class 2 is outside 0 to 1"):
        db.metrics.confusion_matrix(y, p, classes=2)
    with pytest.raises(ValueError, match="shape"):
        db.metrics.confusion_matrix(y, p[:3])


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy", "mse", "r2", "precision", "auc"])
def test_metrics_do_not_broadcast(name: str) -> None:
    metric = db.metrics.get(name)
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
        metric(np.zeros(4), np.full((4, 1), 0.5))
    with pytest.raises(ValueError, match="3 targets and 4 outputs"):
        metric(np.zeros((3, 1)), np.full((4, 1), 0.5))
    with pytest.raises(ValueError, match="sample_weight"):
        metric(np.zeros((4, 1)), np.full((4, 1), 0.5), [1.0, 2.0])


# -- names -------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    for spelling, name in (
        ("acc", "accuracy"), ("Accuracy", "accuracy"), ("AUC", "auc"), ("F1Score", "f1"), ("R2Score", "r2"),
        ("TopKCategoricalAccuracy", "top_k_accuracy"), ("sparse_top_k_categorical_accuracy", "top_k_accuracy"),
        ("mean_squared_error", "mse"), ("RootMeanSquaredError", "rmse"), ("BinaryAccuracy", "binary_accuracy"),
    ):
        assert db.metrics.get(spelling).kind is getattr(db.metrics, name).kind
        found = getattr(db.metrics, spelling)
        assert db.metrics.get(found).kind is getattr(db.metrics, name).kind
    assert db.metrics.get("acc").name == "acc" and db.metrics.get("AUC").name == "auc"
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        db.metrics.get("acuracy")
    with pytest.raises(ValueError, match="did you mean 'Precision'"):
        db.metrics.get("Precison")
    with pytest.raises(AttributeError, match="did you mean 'recall'"):
        _ = db.metrics.recal
    with pytest.raises(TypeError, match="did you mean 'threshold'"):
        db.metrics.Precision(treshold=0.3)
    with pytest.raises(ValueError, match="k is a whole number"):
        db.metrics.top_k_accuracy.with_(k=0)([0], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="average is"):
        db.metrics.f1.with_(average="mean")([0, 1], [[0.9, 0.1], [0.3, 0.7]])
    with pytest.raises(TypeError, match="a metric is a name"):
        db.metrics.get(3)


def test_gathering_and_summing_are_told_apart() -> None:
    assert db.metrics.auc.gathers and not db.metrics.accuracy.gathers
    with pytest.raises(TypeError, match="it gathers: use gather"):
        db.metrics.auc.totals([0, 1], [0.1, 0.9])
    with pytest.raises(TypeError, match="made of sums: use totals|made of sums; use totals"):
        db.metrics.accuracy.gather([0, 1], [0.1, 0.9])
    assert math.isnan(db.metrics.auc.result([])) and math.isnan(db.metrics.accuracy.result([0.0, 0.0]))


def test_configuration_round_trip() -> None:
    def own(y_true: Any, y_pred: Any) -> Any:
        return y_pred

    top = db.metrics.top_k_accuracy.with_(k=3, name="top3")
    assert db.metrics.from_config(json.loads(json.dumps(top.config()))).options == {"k": 3}
    for metric in (db.metrics.get("acc"), db.metrics.get("mean_squared_error"), db.metrics.auc, db.metrics.get(own),
                   db.metrics.get(db.losses.Huber(delta=2.0)), db.metrics.binary_accuracy.with_(threshold=0.3)):
        again = db.metrics.from_config(json.loads(json.dumps(metric.config())), {"own": own})
        if metric.kind.function is None:
            assert db.metrics.get(metric.config(), loss="bce").name == metric.name
        assert (again.name, again.options, again.gathers) == (metric.name, metric.options, metric.gathers)
        assert again([0.0, 1.0], [0.4, 3.0]) == metric([0.0, 1.0], [0.4, 3.0])
    with pytest.raises(ValueError, match="'own' is a function of its own"):
        db.metrics.from_config(db.metrics.get(own).config())
