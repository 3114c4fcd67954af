"""Numbers that are not finite: the layer, the operation and the rows are named in the same step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.sitter import Sitter

RNG = np.random.default_rng(0)
X = RNG.standard_normal((96, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def fit(model: Any, x: np.ndarray = X, y: np.ndarray = Y, rate: float = 0.01, **options: Any) -> tuple[Any, Any]:
    model.compile(db.optimizers.SGD(rate), options.pop("loss", "cross_entropy"))
    sitter = Sitter(stop=options.pop("stop", False))
    settings = {"batch_size": 16, "epochs": 2, "verbose": 0, "seed": 1, "babysit": sitter}
    history = model.fit(x, y, **{**settings, **options})
    assert not sitter.engine.failed
    return sitter, history


def by_code(sitter: Any) -> dict[str, Any]:
    return {finding.code: finding for finding in sitter.findings}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_operation_and_the_rows_of_a_forward_pass(accumulate: int) -> None:
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Lambda(lambda t: db.ops.log(t), input_shape=4), db.layers.Dense(8, activation="relu"),
        db.layers.Dense(2),
    ])
    x = np.abs(X) + 0.5
    x[[37, 50], 2] = 0.0  # log(0) is -inf
    sitter, _ = fit(model, x, accumulate=accumulate, shuffle=False)
    found = by_code(sitter)["nan_in_layer"]
    first = 37 // 16 if accumulate == 1 else 37 // 32
    assert found.layer == "0"
    assert found.evidence["operation"] == "log"
    assert found.step == by_code(sitter)["nan_loss"].step == first
    if accumulate == 1:
        assert found.evidence["rows"] == [37]
        assert "Rows concerned: 37" in found.message


class Steep(db.Function):
    """Passes values on; its gradient is NaN."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * float("nan")


def test_the_layer_of_a_backward_pass() -> None:
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Dense(8, activation="relu", input_shape=4, name="first"),
        db.layers.Lambda(lambda t: Steep.apply(t), name="steep"), db.layers.Dense(2, name="last"),
    ])
    sitter, _ = fit(model)
    found = by_code(sitter)["nan_in_layer"]
    # the loss of step 0 is finite; its gradient is not, and the weights were kept before that update
    assert found.evidence["pass"] == "backward"
    assert found.layer == "steep"
    assert found.step == 0


def test_a_rate_that_is_far_too_high_stands_before_the_nan() -> None:
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Dense(32, activation="relu", input_shape=4), db.layers.Dense(32, activation="relu"),
        db.layers.Dense(1),
    ])
    sitter, history = fit(model, X, X[:, :1] * 3, rate=50.0, loss="mse")
    codes = [finding.code for finding in sitter.findings]
    assert codes[0] == "learning_rate_too_high"
    assert {"nan_in_layer", "nan_loss"} <= set(codes)
    assert "Try 5" in sitter.findings[0].message
    assert "learning_rate_too_high" in history.verdict().splitlines()[1]


def test_stop_ends_the_run_at_an_error() -> None:
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dense(1)])
    _, history = fit(model, X, X[:, :1], rate=1e6, loss="mse", stop=True, epochs=50)
    assert history.stopped.startswith("babysit: ")
    assert len(history.epoch) < 50


def test_weights_are_the_same_bits_after_the_search() -> None:
    weights = []
    for babysit in (True, False):
        db.set_seed(0)
        model = db.Sequential([
            db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dropout(0.2), db.layers.BatchNorm(),
            db.layers.Dense(1),
        ])
        model.compile(db.optimizers.SGD(1e8, momentum=0.9), "mse")
        model.fit(X, X[:, :1], batch_size=16, epochs=3, verbose=0, seed=1, babysit=babysit)
        weights.append(model.get_weights())
    assert not all(np.isfinite(w).all() for w in weights[1])
    for mine, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_finite_runs_name_nothing() -> None:
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dense(2)])
    sitter, _ = fit(model)
    assert not {"nan_loss", "nan_in_layer", "loss_diverging"} & set(by_code(sitter))


@pytest.mark.parametrize(
    ("x", "y", "code"),
    [
        (np.where(np.arange(4) == 1, np.nan, X).astype(np.float32), Y, "nan_in_data"),
        (X, Y + 5, "target_out_of_range"),
        (X, np.stack([Y, Y, Y], axis=1), "loss_shape_mismatch"),
    ],
)
def test_what_fit_refuses_carries_its_finding(x: np.ndarray, y: np.ndarray, code: str) -> None:
    model = db.Sequential([db.layers.Dense(2, input_shape=4)])
    model.compile("sgd", "cross_entropy")
    with pytest.raises(ValueError, match=".") as caught:
        model.fit(x, y, verbose=0)
    assert caught.value.finding.code == code  # type: ignore[attr-defined]
    assert caught.value.finding.message == str(caught.value)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="batch_size") as other:
        model.fit(X, Y, batch_size=0, verbose=0)
    assert other.value.finding is None  # type: ignore[attr-defined]


def test_a_break_late_in_a_long_run_is_found_in_its_step() -> None:
    weights = []
    sitter = Sitter()
    for babysit in (sitter, False):
        db.set_seed(0)
        model = db.Sequential([db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dense(1)])
        model.compile(db.optimizers.SGD(lambda step: 0.01 if step < 500 else 1e12), "mse")
        model.fit(X, X[:, :1] * 2, batch_size=16, epochs=90, verbose=0, seed=0, babysit=babysit)
        weights.append(model.get_weights())
    losses = np.array(sitter.record.losses)
    first = int(np.argmin(np.isfinite(losses)))
    assert len(losses) == 540
    assert 500 < first < 510
    found = by_code(sitter)
    assert found["nan_loss"].step == first
    assert found["nan_in_layer"].step in (first - 1, first)
    assert sitter.findings[0].code == "learning_rate_too_high"
    for mine, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("stop", [False, True])
def test_a_number_that_is_not_finite_is_heard_in_its_step(stop: bool) -> None:
    heard: dict[str, int] = {}
    sitter = Sitter(stop=stop)
    say = sitter._hear
    sitter.engine = Engine(sitter.record, lambda f: (heard.setdefault(f.code, len(sitter.record.losses)), say(f)))
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dense(1)])
    model.compile(db.optimizers.SGD(lambda step: 0.01 if step < 333 else 1e12), "mse")
    many = np.tile(X, (80, 1))
    history = model.fit(many, many[:, :1] * 2, batch_size=16, epochs=2, verbose=0, seed=0, babysit=sitter)
    first = by_code(sitter)["nan_in_layer"].step
    assert first is not None and 333 < first < 340
    assert heard["nan_in_layer"] == first + 1
    losses = np.array(sitter.record.losses)
    if stop:
        assert len(losses) <= first + 1
        assert history.stopped.startswith("babysit: ")
    else:
        assert heard["nan_loss"] == by_code(sitter)["nan_loss"].step + 1 == int(np.argmin(np.isfinite(losses))) + 1
        assert model._trainer.steps == len(losses) == 2 * -(-len(many) // 16)


def test_a_loss_that_runs_away_ends_the_run_soon() -> None:
    sitter = Sitter(stop=True)
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(8, activation="relu", input_shape=4), db.layers.Dense(1)])
    model.compile(db.optimizers.SGD(lambda step: 0.01 if step < 333 else 3.0, clip_norm=10.0), "mse")
    many = np.tile(X, (80, 1))
    history = model.fit(many, many[:, :1] * 2, batch_size=16, epochs=2, verbose=0, seed=0, babysit=sitter)
    losses = np.array(sitter.record.losses)
    # which of the two comes first depends on whether a step was measured just then
    assert history.stopped in ("babysit: loss_diverging", "babysit: learning_rate_too_high")
    assert np.isfinite(losses).all()
    assert 333 < len(losses) < 400


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1e6}])
@pytest.mark.parametrize("every", [1, None])
def test_every_loss_stands_at_its_step(options: dict[str, Any], every: int | None) -> None:
    sitter = Sitter(every=every)
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(1, input_shape=4)])
    model.compile(db.optimizers.SGD(0.01, **options), "mse")
    start = model.get_weights()
    model.fit(X, X[:, :1] * 2, batch_size=16, epochs=2, verbose=0, seed=0, babysit=sitter)
    twin = db.Sequential([db.layers.Dense(1, input_shape=4)])
    twin.set_weights(start)
    twin.compile(db.optimizers.SGD(0.01, **options), "mse")
    order = db.data.Loader(X, X[:, :1] * 2, batch_size=16, shuffle=True, seed=0, prefetch=0)
    alone = [
        twin.train_on_batch(batch.x, batch.y)["loss"] for epoch in range(2) for batch in order.epoch(epoch)
    ]
    np.testing.assert_allclose(sitter.record.losses, alone, rtol=1e-6)


def test_no_loss_of_a_long_run_is_missed() -> None:
    sitter = Sitter(check=False)
    model = db.Sequential([db.layers.Dense(1, input_shape=4)])
    model.compile(db.optimizers.SGD(1e-3), "mse")
    history = model.fit(X, X[:, :1], batch_size=16, epochs=600, verbose=0, seed=0, babysit=sitter)
    losses = np.array(sitter.record.losses).reshape(600, 6)
    np.testing.assert_allclose(losses.mean(axis=1), history.history["loss"], rtol=1e-5)
