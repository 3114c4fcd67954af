"""Values, gradients and second derivatives of the losses, against float64 formulas and torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepbabysit as db
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device

SETTINGS = settings(derandomize=True, max_examples=25, deadline=None)
HOT = [
    "softmax_cross_entropy", "softmax_cross_entropy_gradient", "softmax_cross_entropy_soft",
    "softmax_cross_entropy_soft_gradient", "sigmoid_cross_entropy", "sigmoid_cross_entropy_gradient",
    "log_probability", "log_cosh",
]

FUSED = ["softmax_cross_entropy", "softmax_cross_entropy_soft", "sigmoid_cross_entropy", "log_cosh"]

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def gradient(loss: Any, y: Any, p: np.ndarray, **kwargs: Any) -> tuple[float, np.ndarray]:
    x = db.tensor(p, requires_grad=True)
    value = loss(y, x, **kwargs)
    value.backward()
    assert x.grad is not None and x.grad.shape == x.shape
    return value.item(), x.grad.numpy()


# -- the kernels against their references ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_agree_with_the_float64_reference(name: str, dtype: str) -> None:
    spec = SPECS[name]
    fast, plain = find_device("cpu"), find_device("cpu:reference")
    seen = 0
    for sample in spec.samples(np.random.default_rng(5)):
        arrays = [np.asarray(a) for a in sample.inputs]
        narrow = tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays)
        reference = dtype if sample.by_dtype else np.float64  # limits of the dtype are part of some meanings
        wide = tuple(a.astype(reference) if a.dtype.kind == "f" else a for a in arrays)
        tolerance = spec.tolerance[dtype]
        kept = [a.copy() for a in narrow]
        for got, expected in zip(
            call(fast, spec, narrow, sample.attrs), call(plain, spec, wide, sample.attrs), strict=True
        ):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, tolerance.rtol, tolerance.atol, err_msg=str(sample))
        for before, after in zip(kept, narrow, strict=True):
            np.testing.assert_array_equal(before, after)
        seen += 1
    assert seen >= 7
    assert not fast.misses[name]


@pytest.mark.parametrize("name", HOT)
def test_bad_inputs_are_refused(name: str) -> None:
    spec = SPECS[name]
    for bad in spec.errors():
        with pytest.raises(bad.error) as caught:
            call(find_device("cpu"), spec, tuple(np.asarray(a) for a in bad.inputs), bad.attrs)
        assert bad.message in str(caught.value)


@pytest.mark.parametrize("name", FUSED)
def test_fused_derivatives_are_those_of_the_reference(name: str) -> None:
    """Every output's cotangent is used, so the way through the probabilities is tested as well."""
    spec = SPECS[name]
    rng = np.random.default_rng(2)
    for sample in spec.samples(rng):
        if not sample.gradient or not np.asarray(sample.inputs[0]).size:
            continue
        results = []
        for run in ("fused", "reference"):
            tensors = [
                db.tensor(np.asarray(a), requires_grad=np.asarray(a).dtype.kind == "f") for a in sample.inputs
            ]
            operations = db.autograd.operations.tensor_operations(tensors[0].device)
            if run == "fused":
                outs = getattr(operations, name)(*tensors, **sample.attrs)
            else:
                outs = spec.reference(operations, *tensors, **sample.attrs)
            outs = outs if isinstance(outs, tuple) else (outs,)
            seeds = np.random.default_rng(9)
            total = sum((o * db.tensor(np.asarray(seeds.standard_normal(o.shape)))).sum() for o in outs)
            total.backward()
            results.append([t.grad.numpy() for t in tensors if t.requires_grad])
        for fused, plain in zip(*results, strict=True):
            np.testing.assert_allclose(fused, plain, rtol=1e-9, atol=1e-12)


# -- formulas ----------------------------------------------------------------------------------------------------------


FORMULAS = {
    "mae": lambda y, p: np.abs(y - p),
    "mse": lambda y, p: (y - p) ** 2,
    "huber": lambda y, p: np.where(np.abs(y - p) <= 1, 0.5 * (y - p) ** 2, np.abs(y - p) - 0.5),
    "log_cosh": lambda y, p: np.log(np.cosh(y - p)),
}
SLOPES = {
    "mae": lambda y, p: np.sign(p - y),
    "mse": lambda y, p: 2 * (p - y),
    "huber": lambda y, p: np.clip(p - y, -1, 1),
    "log_cosh": lambda y, p: np.tanh(p - y),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@SETTINGS
@given(shape=shapes, seed=seeds)
def test_regression_losses(name: str, dtype: Any, shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = (rng.standard_normal(shape).astype(dtype) * 2 for _ in range(2))
    value, slope = gradient(getattr(db.losses, name), y, p)
    rtol = 2e-5 if dtype == np.float32 else 1e-11
    wide_y, wide_p = y.astype(np.float64), p.astype(np.float64)
    np.testing.assert_allclose(value, FORMULAS[name](wide_y, wide_p).mean(), rtol=rtol, atol=rtol / 10)
    np.testing.assert_allclose(slope, SLOPES[name](wide_y, wide_p) / y.size, rtol=rtol, atol=rtol / 10)
    value, slope = gradient(db.losses.rmse, y, p)
    root = np.sqrt(((wide_y - wide_p) ** 2).mean())
    np.testing.assert_allclose(value, root, rtol=rtol)
    np.testing.assert_allclose(slope, (wide_p - wide_y) / (y.size * root), rtol=rtol, atol=rtol / 10)


def test_options_of_losses() -> None:
    assert db.losses.huber([0.0], [4.0], delta=2.0).item() == 6.0
    assert db.losses.Huber(delta=2.0)([0.0], [4.0]).item() == 6.0
    assert db.losses.hinge([1, 0, -1], [0.25, 0.25, -2.0]).item() == pytest.approx((0.75 + 1.25 + 0.0) / 3)
    np.testing.assert_allclose(gradient(db.losses.hinge, [1, -1, 1], np.array([0.0, 0.0, 1.0]))[1], [-1 / 3, 1 / 3, 0])
    assert gradient(db.losses.rmse, [1.0], np.array([1.0]))[1].tolist() == [0.0]
    assert db.losses.huber.with_(delta=3.0).options == {"delta": 3.0} and db.losses.huber.options == {"delta": 1.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@SETTINGS
@given(lead=shapes, classes=st.integers(2, 6), seed=seeds, smoothing=st.sampled_from([0.0, 0.1]))
def test_cross_entropies(dtype: Any, lead: tuple[int, ...], classes: int, seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((*lead, classes)) * 4).astype(dtype)
    labels = rng.integers(0, classes, lead)
    rows = np.eye(classes)[labels]
    soft = rng.dirichlet(np.ones(classes), lead)
    wide = x.astype(np.float64)
    rtol, atol = (3e-5, 1e-6) if dtype == np.float32 else (1e-11, 1e-13)
    count = labels.size

    def expect(t: np.ndarray, found: tuple[float, np.ndarray]) -> None:
        mixed = (1 - smoothing) * t + smoothing / classes
        np.testing.assert_allclose(found[0], -(mixed * log_softmax(wide)).sum(-1).mean(), rtol=rtol, atol=atol)
        np.testing.assert_allclose(found[1], (np.exp(log_softmax(wide)) - mixed) / count, rtol=rtol, atol=atol)

    options = {"label_smoothing": smoothing}
    losses = db.losses
    expect(rows, gradient(losses.cross_entropy.with_(**options), labels, x))
    expect(rows, gradient(losses.cross_entropy.with_(**options), rows, x))
    expect(soft, gradient(losses.cross_entropy.with_(**options), soft.astype(dtype), x))
    expect(rows, gradient(losses.CategoricalCrossentropy(from_logits=True, **options), rows, x))
    expect(rows, gradient(losses.SparseCategoricalCrossentropy(from_logits=True, **options), labels, x))
    # through an activation, the memory of the logits gives the same
    for loss, y in ((losses.categorical_crossentropy, rows), (losses.sparse_categorical_crossentropy, labels)):
        expect(rows, gradient(lambda y, t, loss=loss: loss(y, db.ops.softmax(t), **options), y, x))
    if not smoothing:
        expect(rows, gradient(lambda y, t: losses.nll(y, db.ops.log_softmax(t)), labels, x))
        # and so do bare probabilities, where nothing is extreme
        p = np.exp(log_softmax(wide))
        value, slope = gradient(losses.categorical_crossentropy, soft, p)
        np.testing.assert_allclose(value, -(soft * np.log(p)).sum(-1).mean(), rtol=1e-11)
        np.testing.assert_allclose(slope, -soft / p / count, rtol=1e-9)
        value, slope = gradient(losses.sparse_categorical_crossentropy, labels, p)
        np.testing.assert_allclose(slope, -rows / p / count, rtol=1e-9)
        value, slope = gradient(losses.nll, labels, log_softmax(wide))
        np.testing.assert_allclose(slope, -rows / count, rtol=1e-12)
        np.testing.assert_allclose(
            losses.kl_divergence(soft, p).item(), (soft * (np.log(soft) - np.log(p))).sum(-1).mean(), rtol=1e-9
        )
        value, slope = gradient(lambda y, t: losses.kl_divergence(y, db.ops.softmax(t)), soft.astype(dtype), x)
        np.testing.assert_allclose(value, (soft * (np.log(soft) - log_softmax(wide))).sum(-1).mean(), rtol, atol * 10)
        np.testing.assert_allclose(slope, (np.exp(log_softmax(wide)) - soft) / count, rtol, atol)
    else:
        p = np.exp(log_softmax(wide))
        for loss, y in ((losses.categorical_crossentropy, rows), (losses.sparse_categorical_crossentropy, labels)):
            mixed = (1 - smoothing) * rows + smoothing / classes
            np.testing.assert_allclose(
                loss(y, p, **options).item(), -(mixed * np.log(p)).sum(-1).mean(), rtol=1e-9
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@SETTINGS
@given(shape=shapes, seed=seeds, smoothing=st.sampled_from([0.0, 0.2]))
def test_binary_cross_entropies(dtype: Any, shape: tuple[int, ...], seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 4).astype(dtype)
    t = rng.random(shape)
    wide, mixed = x.astype(np.float64), t * (1 - smoothing) + smoothing / 2
    value = (np.logaddexp(0, wide) - wide * mixed).mean()
    slope = (sigmoid(wide) - mixed) / x.size
    rtol, atol = (3e-5, 1e-6) if dtype == np.float32 else (1e-11, 1e-13)
    given_t = t.astype(dtype)
    for found in (
        gradient(db.losses.binary_crossentropy_with_logits, given_t, x, label_smoothing=smoothing),
        gradient(db.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing), given_t, x),
        gradient(
            lambda y, z: db.losses.binary_crossentropy(y, db.ops.sigmoid(z), label_smoothing=smoothing), given_t, x
        ),
    ):
        np.testing.assert_allclose(found[0], value, rtol, atol)
        np.testing.assert_allclose(found[1], slope, rtol, atol)
    p = sigmoid(wide)
    found = gradient(db.losses.binary_crossentropy, t, p, label_smoothing=smoothing)
    np.testing.assert_allclose(found[0], value, rtol=1e-9)
    np.testing.assert_allclose(found[1], (-mixed / p + (1 - mixed) / (1 - p)) / x.size, rtol=1e-8, atol=1e-12)


# -- extremes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_ten_thousand(dtype: Any) -> None:
    x = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 9999.0], [1e4, -1e4, 0.0]], dtype)
    labels = np.array([1, 2, 0])
    expected = np.array([2e4, 1 + math.log1p(math.exp(-1)), 0.0])
    for loss, outputs in (
        (db.losses.cross_entropy, lambda t: t),
        (db.losses.sparse_categorical_crossentropy, db.ops.softmax),
        (db.losses.nll, db.ops.log_softmax),
    ):
        np.testing.assert_allclose(loss.per_sample(labels, outputs(db.tensor(x))).numpy(), expected, rtol=1e-6)
        slope = gradient(lambda y, t, loss=loss, outputs=outputs: loss(y, outputs(t)), labels, x)[1] * 3
        share = 1 / (1 + math.exp(1.0))
        np.testing.assert_allclose(slope, [[1, -1, 0], [0, 1 - share, share - 1], [0, 0, 0]], rtol=1e-5, atol=1e-7)
    logits = np.array([-1e4, 1e4, -1e4, 1e4, 0.0], dtype)
    t = np.array([1.0, 0.0, 0.0, 1.0, 1.0], dtype)
    for loss, outputs in (
        (db.losses.binary_crossentropy_with_logits, lambda z: z), (db.losses.binary_crossentropy, db.ops.sigmoid),
    ):
        np.testing.assert_allclose(
            loss.per_sample(t, outputs(db.tensor(logits))).numpy(), [1e4, 1e4, 0, 0, math.log(2)], rtol=1e-6
        )
        slope = gradient(lambda y, z, loss=loss, outputs=outputs: loss(y, outputs(z)), t, logits)[1] * 5
        np.testing.assert_allclose(slope, [-1, 1, 0, 0, -0.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_zero_and_one(dtype: Any) -> None:
    worst = -math.log(np.finfo(dtype).tiny)
    steepest = 1 / float(np.finfo(dtype).eps) ** 2
    p = np.array([0.0, 1.0, 1.0, 0.0], dtype)
    t = np.array([1.0, 0.0, 1.0, 0.0], dtype)
    np.testing.assert_allclose(db.losses.binary_crossentropy.per_sample(t, p).numpy(), [worst, worst, 0, 0], rtol=1e-6)
    slope = gradient(db.losses.binary_crossentropy, t, p)[1] * 4
    np.testing.assert_allclose(slope, [-steepest, steepest, -1, 1], rtol=1e-5)
    assert np.isfinite(slope.astype(dtype) ** 2).all()  # an optimizer squares it
    rows = np.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    for loss, y in (
        (db.losses.categorical_crossentropy, np.array([[1.0, 0.0], [1.0, 0.0]])),
        (db.losses.sparse_categorical_crossentropy, np.array([0, 0])),
        (db.losses.kl_divergence, np.array([[1.0, 0.0], [1.0, 0.0]])),
    ):
        np.testing.assert_allclose(loss.per_sample(y, rows).numpy(), [worst, 0], rtol=1e-6)
        found = gradient(loss, y, rows)[1] * 2
        np.testing.assert_allclose(found, [[-steepest, 0], [-1, 0]], rtol=1e-5)
    # a normal small probability is exact, in value and slope
    tiny = np.array([[1e-12, 1 - 1e-12]], dtype)
    value, slope = gradient(db.losses.categorical_crossentropy, [[1.0, 0.0]], tiny)
    assert value == pytest.approx(-math.log(1e-12), rel=1e-6)
    assert slope[0, 0] == pytest.approx(-1e12, rel=1e-5)


def test_what_is_no_probability_gives_nan() -> None:
    for bad in (-0.5, 1.5, 30.0):
        assert math.isnan(db.losses.categorical_crossentropy([[0.0, 1.0]], [[0.5, bad]]).item())
        assert math.isnan(db.losses.binary_crossentropy([[1.0]], [[bad]]).item())
    rounding = np.float32(1.0) + np.float32(2e-7)
    assert db.losses.binary_crossentropy([1.0], np.array([rounding])).item() == pytest.approx(0.0, abs=1e-6)


# -- second order ------------------------------------------------------------------------------------------------------


SECOND = {
    "mse": (lambda y, x: db.losses.mse(y, x), "values"),
    "rmse": (lambda y, x: db.losses.rmse(y, x), "values"),
    "huber": (lambda y, x: db.losses.huber(y, x), "values"),
    "log_cosh": (lambda y, x: db.losses.log_cosh(y, x), "values"),
    "bce_logits": (lambda y, x: db.losses.binary_crossentropy_with_logits(y, x), "shares"),
    "bce": (lambda y, x: db.losses.binary_crossentropy(y, 0.1 + 0.8 * db.ops.sigmoid(x)), "shares"),
    "bce_sigmoid": (lambda y, x: db.losses.binary_crossentropy(y, db.ops.sigmoid(x)), "shares"),
    "cross_entropy": (lambda y, x: db.losses.cross_entropy(y, x, label_smoothing=0.1), "labels"),
    "cross_entropy_rows": (lambda y, x: db.losses.cross_entropy(y, x, label_smoothing=0.1), "rows"),
    "ignore": (lambda y, x: db.losses.cross_entropy(y, x, ignore_index=1, class_weight=[1.0, 2.0, 3.0]), "labels"),
    "categorical": (lambda y, x: db.losses.categorical_crossentropy(y, 0.1 + 0.5 * db.ops.softmax(x)), "rows"),
    "kl": (lambda y, x: db.losses.kl_divergence(y, db.ops.softmax(x)), "rows"),
    "nll": (lambda y, x: db.losses.nll(y, db.ops.log_softmax(x)), "labels"),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name: str) -> None:
    function, kind = SECOND[name]
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4, 3)) * 2
    direction = rng.standard_normal((4, 3))
    y = {
        "values": rng.standard_normal((4, 3)) * 2, "shares": rng.random((4, 3)), "labels": np.array([0, 1, 2, 2]),
        "rows": rng.dirichlet(np.ones(3), 4),
    }[kind]

    def slope(at: np.ndarray) -> np.ndarray:
        point = db.tensor(at, requires_grad=True)
        function(y, point).backward()
        return point.grad.numpy()  # type: ignore[union-attr]

    point = db.tensor(x, requires_grad=True)
    function(y, point).backward(create_graph=True)
    first = point.grad
    assert first is not None
    np.testing.assert_allclose(first.numpy(), slope(x), rtol=1e-10, atol=1e-13)
    point.grad = None
    (first * db.tensor(direction)).sum().backward()
    h = 1e-6
    expected = (slope(x + h * direction) - slope(x - h * direction)) / (2 * h)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(point.grad.numpy(), expected, rtol=2e-6, atol=1e-8)


# -- torch -------------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@SETTINGS
@given(n=st.integers(1, 5), classes=st.integers(2, 5), seed=seeds)
def test_torch_agrees(n: int, classes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, classes)) * 3
    labels = rng.integers(0, classes, n)
    soft = rng.dirichlet(np.ones(classes), n)
    weights = rng.uniform(0.5, 2.0, classes)
    numbers = rng.standard_normal((n, classes))
    shares = rng.random((n, classes))
    ignored = int(labels[0]) if n > 1 and len(set(labels.tolist())) > 1 else -100
    losses = db.losses
    rows = torch.tensor(labels)
    cases = [
        (losses.cross_entropy, labels, lambda t: f.cross_entropy(t, rows)),
        (losses.CrossEntropy(label_smoothing=0.2), labels, lambda t: f.cross_entropy(t, rows, label_smoothing=0.2)),
        (losses.CrossEntropy(label_smoothing=0.2), soft,
         lambda t: f.cross_entropy(t, torch.tensor(soft), label_smoothing=0.2)),
        (losses.CrossEntropy(class_weight=weights), labels, lambda t: f.cross_entropy(t, rows, torch.tensor(weights))),
        (losses.CrossEntropy(ignore_index=ignored), labels, lambda t: f.cross_entropy(t, rows, ignore_index=ignored)),
        (losses.CrossEntropy(ignore_index=ignored, class_weight=weights), labels,
         lambda t: f.cross_entropy(t, rows, torch.tensor(weights), ignore_index=ignored)),
        (losses.nll, labels, lambda t: f.nll_loss(t, rows)),
        (losses.NLLLoss(class_weight=weights), labels, lambda t: f.nll_loss(t, rows, torch.tensor(weights))),
        (losses.mse, numbers, lambda t: f.mse_loss(t, torch.tensor(numbers))),
        (losses.mae, numbers, lambda t: f.l1_loss(t, torch.tensor(numbers))),
        (losses.Huber(delta=0.7), numbers, lambda t: f.huber_loss(t, torch.tensor(numbers), delta=0.7)),
        (losses.binary_crossentropy_with_logits, shares,
         lambda t: f.binary_cross_entropy_with_logits(t, torch.tensor(shares))),
    ]
    for loss, y, other in cases:
        t = torch.tensor(x, requires_grad=True)
        expected = other(t)
        expected.backward()
        value, slope = gradient(loss, y, x)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-10, atol=1e-12, err_msg=repr(loss))
        np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=repr(loss))
    p = sigmoid(x)
    np.testing.assert_allclose(
        losses.binary_crossentropy(shares, p).item(),
        f.binary_cross_entropy(torch.tensor(p), torch.tensor(shares)).item(), rtol=1e-10,
    )
    q = np.exp(log_softmax(x))
    np.testing.assert_allclose(
        losses.kl_divergence(soft, q).item(),
        f.kl_div(torch.tensor(np.log(q)), torch.tensor(soft), reduction="batchmean").item(), rtol=1e-9, atol=1e-12,
    )


# -- what an output remembers ------------------------------------------------------------------------------------------


def test_memory_of_logits_with_and_without_a_tape() -> None:
    x = np.array([[200.0, -200.0]])
    for grad in (True, False):
        with db.no_grad() if not grad else db.device("cpu"):
            p = db.ops.softmax(db.tensor(x, requires_grad=grad))
            assert db.losses.categorical_crossentropy([[0.0, 1.0]], p).item() == 400.0
            assert db.losses.sparse_categorical_crossentropy([1], p).item() == 400.0
            s = db.ops.sigmoid(db.tensor(x)).reshape(2)
            assert db.losses.binary_crossentropy([0.0, 1.0], s).item() == 200.0
    # a softmax over another axis is no distribution over the classes: it is taken as it is
    other = db.ops.softmax(db.tensor([[0.0, 1.0], [2.0, 3.0]], dtype="float64"), axis=0)
    expected = -np.log(other.numpy()[:, 0]).mean()
    assert db.losses.sparse_categorical_crossentropy([0, 0], other).item() == pytest.approx(expected, rel=1e-12)


def test_double_softmax_computes_what_was_asked_and_is_named() -> None:
    x = np.array([[3.0, -1.0, 0.5]])
    twice = log_softmax(np.exp(log_softmax(x)))
    p = db.ops.softmax(db.tensor(x))
    assert db.losses.cross_entropy([0], p).item() == pytest.approx(-twice[0, 0], rel=1e-12)
    assert db.losses.cross_entropy.codes(p) == ("double_softmax",)
    assert db.losses.CategoricalCrossentropy(from_logits=True).codes(p) == ("double_softmax",)
    assert db.losses.binary_crossentropy_with_logits.codes(db.ops.sigmoid(db.tensor(x))) == ("double_softmax",)
    assert db.losses.categorical_crossentropy.codes(p) == ()
    assert db.losses.cross_entropy.codes(db.tensor(x)) == ()
    assert db.losses.cross_entropy.codes(db.ops.log_softmax(db.tensor(x))) == ()
    assert db.losses.mse.codes(db.ops.softmax(db.tensor([[1.0]]))) == ("one_unit_softmax",)


# -- why ---------------------------------------------------------------------------------------------------------------


def test_accuracy_is_flat_and_mse_is_weak_where_it_is_very_wrong() -> None:
    logits = np.array([-30.0, -10.0, -2.0, 0.5, 8.0])
    found = db.losses.slopes(logits, target=1.0)
    p = sigmoid(logits)
    assert found["accuracy"].tolist() == [0.0] * 5
    np.testing.assert_allclose(found["mse"], 2 * (p - 1) * p * (1 - p), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found["binary_crossentropy"], p - 1, rtol=1e-9)
    assert abs(found["mse"][0]) < 1e-12 < 0.999 < abs(found["binary_crossentropy"][0])
    assert db.losses.slopes([0.0], target=0.0)["accuracy"][0] < -1e5  # the step is seen, so 0 is flat
