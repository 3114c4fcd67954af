"""What losses refuse, how they add up over batches, and how they are named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepbabysit as db
from deepbabysit.losses.loss import TABLE
from deepbabysit.losses.targets import CLASSES, LABELS, ONE_HOT

SETTINGS = settings(derandomize=True, max_examples=25, deadline=None)
NAMES = sorted(TABLE)
OVER_CLASSES = [n for n in NAMES if TABLE[n].kind.target in (LABELS, ONE_HOT, CLASSES)]
SAME_SHAPE = [n for n in NAMES if n not in OVER_CLASSES]
LABELLED = ["cross_entropy", "sparse_categorical_crossentropy", "nll"]


def outputs_for(name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal(shape)
    if name in ("categorical_crossentropy", "sparse_categorical_crossentropy", "kl_divergence"):
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    if name == "nll":
        return -np.abs(x)
    return rng.uniform(0.05, 0.95, shape) if name == "binary_crossentropy" else x


def case(name: str, rng: np.random.Generator, lead: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and outputs that fit a loss."""
    p = outputs_for(name, rng, (*lead, classes))
    if name in LABELLED:
        return rng.integers(0, classes, lead), p
    if name in OVER_CLASSES:
        return rng.dirichlet(np.ones(classes), lead), p
    if name == "hinge":
        return rng.choice([-1.0, 1.0], p.shape), p
    return rng.random(p.shape), p


# -- shapes ------------------------------------------------------------------------------------------------------------

BROADCAST = [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (4, 1)), ((4, 1), (4, 3)), ((3,), (4, 3)), ((1, 3), (4, 3)),
             ((), (4,)), ((1,), (4,)), ((4, 5, 1), (4, 5, 3)), ((5, 3), (4, 5, 3)), ((4, 3), (3, 4)), ((4, 2), (4, 3))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("y_shape", "p_shape"), BROADCAST)
def test_nothing_is_broadcast(name: str, y_shape: tuple[int, ...], p_shape: tuple[int, ...]) -> None:
    loss = TABLE[name]
    for dtype in (np.float64, np.int64):
        y = np.zeros(y_shape, dtype)
        if name in LABELLED and dtype == np.int64 and y_shape == p_shape[:-1] and p_shape[-1] > 1:
            continue
        p = np.full(p_shape, 0.5)
        for attempt in (
            lambda y=y, p=p: loss(y, p),
            lambda y=y, p=p: loss(db.tensor(y), db.tensor(p)),
            lambda y=y, p=p: loss.parts(db.tensor(y), db.tensor(p)),
            lambda y=y, p=p: loss.check_targets(y, (None if y.shape[:1] == p.shape[:1] else len(p), *p.shape[1:])),
        ):
            with pytest.raises((ValueError, TypeError)) as caught:
                attempt()
            message = str(caught.value)
            assert message.startswith(f"{name}: ")
            if isinstance(caught.value, ValueError) and "one class" not in message:
                assert str(y_shape) in message  # both shapes are named
                assert f"{p_shape[-1]}" in message


def test_shape_messages_name_one_fix_that_works() -> None:
    y, p = np.array([0.0, 1.0, 1.0]), np.full((3, 1), 0.5)
    for loss in (db.losses.mse, db.losses.binary_crossentropy):
        with pytest.raises(ValueError, match=r"\(3,\) and y_pred \(3, 1\).*\(3, 3\).*y_true\.reshape\(-1, 1\)"):
            loss(y, p)
        assert loss(y.reshape(-1, 1), p).shape == ()
        with pytest.raises(ValueError, match=r"y_true\.reshape\(-1\)$"):
            loss(y.reshape(-1, 1), p.reshape(-1))
    labels, scores = np.array([0, 2]), np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"db\.data\.one_hot\(y_true, 3\)"):
        db.losses.categorical_crossentropy(labels, scores)
    with pytest.raises(ValueError, match=r"sparse_categorical_crossentropy.*db\.data\.one_hot"):
        db.losses.mse(labels, scores)
    with pytest.raises(ValueError, match=r"categorical_crossentropy.*argmax"):
        db.losses.sparse_categorical_crossentropy(np.eye(3)[labels], scores)
    with pytest.raises(ValueError, match=r"y_true\.reshape\(-1\)"):
        db.losses.cross_entropy(labels.reshape(-1, 1), scores)
    with pytest.raises(ValueError, match=r"3 classes and the targets 4.*4 units"):
        db.losses.cross_entropy(np.eye(4)[labels], scores)
    with pytest.raises(ValueError, match="2 targets and 4 outputs"):
        db.losses.cross_entropy(labels, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"\(None, 1\).*reshape\(-1, 1\)"):
        db.losses.mse.check_targets(y, (None, 1))
    with pytest.raises(TypeError, match=r"astype\('int64'\)"):
        db.losses.cross_entropy(np.array([0.0, 2.0]), scores)
    for name in OVER_CLASSES:
        if name != "kl_divergence":
            with pytest.raises(ValueError, match="one unit is always 1"):
                TABLE[name].check_targets(np.zeros((4,), int) if name in LABELLED else np.ones((4, 1)), (None, 1))


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("bad", [12, -1, 10])
def test_labels_out_of_range_name_row_and_classes(name: str, bad: int) -> None:
    loss = TABLE[name]
    y = np.array([0, 3, bad, 9, bad])
    p = np.full((5, 10), 0.1)
    for attempt in (
        lambda: loss.check_targets(y, (None, 10)), lambda: loss(y, p), lambda: loss(y.tolist(), p.tolist()),
        lambda: loss(db.tensor(y), db.tensor(p)), lambda: loss.parts(y, db.tensor(p)),
    ):
        with pytest.raises(ValueError, match=rf"label {bad} in row 2 \(and 1 more\).*10 classes.*0 to 9"):
            attempt()
    # Tensors inside of a step are not looked at: the result says it
    assert math.isnan(loss.parts(db.tensor(y), db.tensor(p))[0].item())


def test_values_of_targets() -> None:
    with pytest.raises(ValueError, match=r"count from 1: y_true - 1"):
        db.losses.cross_entropy([1, 2, 3], np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"ignore_index=-100"):
        db.losses.cross_entropy([0, -100], np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"between 0 and 1; got 2 in row 1.*class numbers"):
        db.losses.binary_crossentropy([[0.0], [2.0]], [[0.5], [0.5]])
    with pytest.raises(ValueError, match=r"\(y_true \+ 1\) / 2"):
        db.losses.binary_crossentropy([-1.0, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"row 1, the first sums to 2.*binary_crossentropy"):
        db.losses.categorical_crossentropy([[0, 1], [1, 1]], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="not finite in row 1"):
        db.losses.mse([0.0, float("nan")], [0.0, 0.0])
    with pytest.raises(ValueError, match="-1 or 1"):
        db.losses.hinge([0.5], [0.5])
    with pytest.raises(ValueError, match="ignore_index goes with class numbers"):
        db.losses.cross_entropy([[0.0, 1.0]], [[0.0, 1.0]], ignore_index=0)
    with pytest.raises(ValueError, match="0 to 2; none for class 2"):
        db.losses.cross_entropy([0], np.ones((1, 3)), class_weight=[1.0, 1.0])
    with pytest.raises(ValueError, match="there is no class 3"):
        db.losses.cross_entropy([0], np.ones((1, 3)), class_weight={0: 1, 1: 1, 2: 1, 3: 1})
    db.losses.cross_entropy.check_targets(np.zeros((0,), int), (None, 3))


# -- order, kinds of input ---------------------------------------------------------------------------------------------


def test_the_order_of_torch_is_understood_where_the_types_settle_it() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 2.0]])
    labels = np.array([0, 1])
    x = db.tensor(logits, requires_grad=True)
    expected = db.losses.cross_entropy(labels, logits).item()
    assert db.losses.cross_entropy(logits, labels).item() == expected
    found = db.losses.cross_entropy(x, db.tensor(labels))
    found.backward()
    assert found.item() == expected and x.grad is not None
    flags = np.array([[1], [0]])
    p = np.array([[0.9], [0.4]])
    assert db.losses.binary_crossentropy(p, flags).item() == db.losses.binary_crossentropy(flags, p).item()
    # two floating arguments are never swapped: logits where targets belong are refused instead
    with pytest.raises(ValueError, match="order is"):
        db.losses.cross_entropy(logits, np.eye(3)[labels])
    # whole numbers as targets of a difference are numbers
    assert db.losses.mse([1, 2], [1.5, 2.0]).item() == 0.125


def test_kinds_of_input() -> None:
    pd = pytest.importorskip("pandas")
    expected = db.losses.cross_entropy(np.array([0, 1]), np.array([[1.0, 2.0], [3.0, 4.0]])).item()
    for y in ([0, 1], (0, 1), np.array([0, 1], np.uint8), np.array([0, 1], np.int32), np.array([False, True]),
              pd.Series([0, 1], index=[7, 8]), db.tensor([0, 1])):
        assert db.losses.cross_entropy(y, np.array([[1.0, 2.0], [3.0, 4.0]])).item() == expected
    assert db.losses.mse([1.0], [2.0]).dtype == np.float32
    assert db.losses.mse(np.array([1.0]), np.array([2.0])).dtype == np.float64
    assert db.losses.mse(np.array([1.0]), db.tensor([2.0])).dtype == np.float32
    with pytest.raises(TypeError, match="got None"):
        db.losses.mse(None, [1.0])


# -- weights and parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@SETTINGS
@given(
    n=st.integers(1, 9), t=st.integers(0, 3), cuts=st.lists(st.integers(0, 9), max_size=3),
    weighted=st.sampled_from(["no", "samples", "positions"]), seed=st.integers(0, 2**32 - 1),
)
def test_parts_of_micro_batches_add_up(name: str, n: int, t: int, cuts: list[int], weighted: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lead = (n,) if t == 0 else (n, t)
    y, p = case(name, rng, lead, 3)
    loss = TABLE[name]
    if name in LABELLED and seed % 2:
        loss = loss.with_(ignore_index=1, class_weight=[1.0, 2.0, 0.5])
    weight = None if weighted == "no" else rng.uniform(0.1, 2.0, lead if weighted == "positions" else (n,))

    def parts(rows: slice) -> tuple[float, float, np.ndarray]:
        x = db.tensor(p[rows], requires_grad=True)
        total, w = loss.parts(db.tensor(y[rows]), x, None if weight is None else db.tensor(weight[rows]))
        assert total.shape == () and w.shape == () and total.dtype == np.float64
        total.backward()
        assert x.grad is not None
        return total.item(), w.item(), x.grad.numpy()

    total, w, slope = parts(slice(None))
    edges = [0, *sorted({c for c in cuts if 0 < c < n}), n]
    pieces = [parts(slice(a, b)) for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_allclose(sum(q[0] for q in pieces), total, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(sum(q[1] for q in pieces), w, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([q[2] for q in pieces]), slope, rtol=1e-11, atol=1e-14)
    # the loss is made of them, with its gradient
    x = db.tensor(p, requires_grad=True)
    whole = loss(y, x, weight)
    whole.backward()
    if w:
        assert loss.value(total, w) == pytest.approx(whole.item(), rel=1e-12)
        factor = loss.scale(db.tensor(np.array(total)), db.tensor(np.array(w))).item()
        assert x.grad is not None
        np.testing.assert_allclose(slope * factor, x.grad.numpy(), rtol=1e-10, atol=1e-14)
    else:
        assert whole.item() == 0.0 and math.isnan(loss.value(total, w))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_divided_by_their_sum(name: str) -> None:
    rng = np.random.default_rng(3)
    y, p = case(name, rng, (4,), 3)
    each = TABLE[name].per_sample(y, p).numpy()
    assert each.shape == (4,)
    weight = np.array([1.0, 0.0, 2.5, 0.5])
    if name == "rmse":
        each = each**2
    expected = (each * weight).sum() / weight.sum()
    found = TABLE[name](y, p, weight).item()
    assert (found**2 if name == "rmse" else found) == pytest.approx(expected, rel=1e-12)
    # twice a sample is a weight of 2
    twice = np.array([0, 1, 1, 2, 3])
    assert TABLE[name](y[twice], p[twice]).item() == pytest.approx(TABLE[name](y, p, [1, 2, 1, 1]).item(), rel=1e-6)


def test_sequences() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 3, 4)), rng.integers(0, 4, (2, 3))
    each = np.stack([db.losses.cross_entropy.per_sample(y[i], x[i]).numpy() for i in range(2)])
    assert db.losses.cross_entropy(y, x).item() == pytest.approx(each.mean())
    weight = rng.random((2, 3))
    assert db.losses.cross_entropy(y, x, weight).item() == pytest.approx((each * weight).sum() / weight.sum())
    one = np.array([1.0, 3.0])
    assert db.losses.cross_entropy(y, x, one).item() == pytest.approx((each.mean(axis=1) * one).sum() / 4)
    # with positions left out, every position counts the same, whatever the length of its sequence
    y[0, 0] = y[0, 1] = -1
    kept = y >= 0
    assert db.losses.cross_entropy(y, x, ignore_index=-1).item() == pytest.approx(each[kept].mean())
    assert db.losses.cross_entropy(y, x, one, ignore_index=-1).item() == pytest.approx(
        (each * kept * one[:, None]).sum() / (kept * one[:, None]).sum()
    )
    values, guess = rng.random((2, 3, 4)), rng.random((2, 3, 4))
    found = db.losses.mse(values, guess, weight).item()
    assert found == pytest.approx((((values - guess) ** 2).mean(-1) * weight).sum() / weight.sum())


def test_class_weights_of_rows_are_those_of_their_labels() -> None:
    rng = np.random.default_rng(0)
    x, labels, weights = rng.standard_normal((6, 3)), np.array([0, 1, 2, 2, 0, 1]), {0: 1.0, 1: 4.0, 2: 0.5}
    expected = db.losses.cross_entropy(labels, x, class_weight=weights).item()
    rows = np.eye(3)[labels]
    assert db.losses.cross_entropy(rows, x, class_weight=weights).item() == pytest.approx(expected, rel=1e-12)
    assert db.losses.categorical_crossentropy(rows, db.ops.softmax(db.tensor(x)), class_weight=weights).item() == (
        pytest.approx(expected, rel=1e-12)
    )
    assert db.losses.cross_entropy(labels, x, class_weight=np.array([1.0, 4.0, 0.5])).item() == expected


def test_nothing_to_count() -> None:
    x = db.tensor(np.ones((2, 3)), requires_grad=True)
    for options, weight in (({"ignore_index": 1}, None), ({}, [0.0, 0.0])):
        x.grad = None
        found = db.losses.cross_entropy([1, 1], x, weight, **options)
        found.backward()
        assert found.item() == 0.0
        assert x.grad is not None and not x.grad.numpy().any()


def test_bad_weights() -> None:
    y = p = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(3,\) or \(3, 2\)"):
        db.losses.mse(y, p, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"sample_weight\.reshape\(-1\)"):
        db.losses.mse(y, p, [[1.0], [2.0], [3.0]])
    with pytest.raises(ValueError, match="not negative"):
        db.losses.mse(y, p, [1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match="expected"):
        db.losses.mse(y, p, 2.0)


def test_losses_can_be_recorded() -> None:
    """A recorded step sees new values, weights and labels on replay."""
    from deepbabysit.autograd.replay import Replay
    from deepbabysit.runtime.registry import find_device

    def step(y: Any, x: Any, w: Any) -> Any:
        total, weight = loss.parts(y, x, w)
        return loss.mean(total, weight), metric.totals(y, x, w)

    rng = np.random.default_rng(0)
    loss = db.losses.CrossEntropy(label_smoothing=0.1, ignore_index=2, class_weight=[1.0, 2.0, 3.0])
    metric = db.metrics.get("accuracy", loss=loss)
    replay = Replay(step, find_device("cpu"))
    for _ in range(5):
        y, x, w = rng.integers(0, 3, 8), rng.standard_normal((8, 3)), rng.random(8)
        found, totals = (t.numpy().copy() for t in replay((y, x, w)))
        assert found == loss(y, x, w).item()
        np.testing.assert_array_equal(totals, metric.totals(y, x, w).numpy())
    assert replay.replays >= 3


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spelling", "name"), [
    ("mse", "mse"), ("MSE", "mse"), ("mean_squared_error", "mse"), ("MeanSquaredError", "mse"), ("mae", "mae"),
    ("mean_absolute_error", "mae"), ("root_mean_squared_error", "rmse"), ("Huber", "huber"), ("LogCosh", "log_cosh"),
    ("log_cosh", "log_cosh"), ("bce", "binary_crossentropy"), ("BinaryCrossentropy", "binary_crossentropy"),
    ("binary_crossentropy_with_logits", "binary_crossentropy_with_logits"), ("kld", "kl_divergence"),
    ("CategoricalCrossentropy", "categorical_crossentropy"), ("KLDivergence", "kl_divergence"), ("hinge", "hinge"),
    ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy"), ("cross_entropy", "cross_entropy"),
    ("CrossEntropyLoss", "cross_entropy"), ("nll", "nll"), ("NLLLoss", "nll"), ("Hinge", "hinge"),
])
def test_spellings(spelling: str, name: str) -> None:
    assert db.losses.get(spelling) is TABLE[name] is getattr(db.losses, name)
    found = getattr(db.losses, spelling)
    assert (found() if spelling[0].isupper() else found) is TABLE[name]
    assert db.losses.get(found) is TABLE[name]
    assert TABLE[name].__doc__ and ">>>" in TABLE[name].__doc__


def test_misspelt_names_and_options() -> None:
    with pytest.raises(ValueError, match="did you mean 'mean_squared_error'"):
        db.losses.get("mean_sqared_error")
    with pytest.raises(ValueError, match="did you mean 'CategoricalCrossentropy'"):
        db.losses.get("CategoricalCrosentropy")
    with pytest.raises(AttributeError, match="did you mean 'cross_entropy'"):
        _ = db.losses.cros_entropy
    with pytest.raises(TypeError, match="unknown keyword 'label_smothing'; did you mean 'label_smoothing'"):
        db.losses.CrossEntropy(label_smothing=0.1)
    with pytest.raises(TypeError, match="mse got an unknown keyword 'delta'"):
        db.losses.mse([1.0], [1.0], delta=1.0)
    with pytest.raises(ValueError, match="label_smoothing is a share"):
        db.losses.CrossEntropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="delta must be positive"):
        db.losses.Huber(delta=0.0)
    with pytest.raises(TypeError, match="a loss is a name"):
        db.losses.get(3)


def test_configuration_round_trip() -> None:
    import json

    for loss in (db.losses.mse, db.losses.Huber(delta=2.0), db.losses.CrossEntropy(class_weight={0: 1.0, 1: 2.0}),
                 db.losses.CrossEntropy(class_weight=np.array([1.0, 2.0]), ignore_index=-1),
                 db.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)):
        again = db.losses.from_config(json.loads(json.dumps(loss.config())))
        assert again.kind is loss.kind and again.options == loss.options


def test_own_functions() -> None:
    def cubic(y_true: Any, y_pred: Any) -> Any:
        return (y_pred - y_true).abs() ** 3.0

    def whole(y_true: Any, y_pred: Any) -> Any:
        return ((y_pred - y_true) ** 2).mean()

    loss = db.losses.get(cubic)
    assert loss.name == "cubic"
    assert loss([1.0, 2.0], [2.0, 4.0]).item() == pytest.approx(4.5)
    assert loss([1.0, 2.0], [2.0, 4.0], [1.0, 0.0]).item() == pytest.approx(1.0)
    total, weight = db.losses.get(whole).parts([1.0, 2.0], [2.0, 4.0])
    assert (total.item(), weight.item()) == (5.0, 2.0)
    with pytest.raises(ValueError, match="cannot be weighted"):
        db.losses.get(whole)([1.0], [2.0], [1.0])
    with pytest.raises(TypeError, match="must return a Tensor; got float"):
        db.losses.get(lambda y, p: 1.0)([1.0], [2.0])
    with pytest.raises(ValueError, match="N = 2"):
        db.losses.get(lambda y, p: p[:1])([1.0, 2.0], [2.0, 4.0])
    config = loss.config()
    assert db.losses.from_config(config, {"cubic": cubic}).kind.function is cubic
    with pytest.raises(ValueError, match="not handed in"):
        db.losses.get(config)
    with pytest.raises(ValueError, match="'cubic' is a function of its own and was not handed in"):
        db.losses.from_config(config)
