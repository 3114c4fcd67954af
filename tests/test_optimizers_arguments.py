"""What users write: both spellings, foreign names, wrong arguments, attributes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from deepbabysit.autograd.parameter import Parameter
from deepbabysit.optimizers import SGD, Adam, NAdam, RMSprop, get, schedules
from deepbabysit.runtime.context import CONFIGURATION
from deepbabysit.runtime.registry import find_device

CPU = find_device("cpu")


def parameter(values: Any, name: str = "", dtype: str = "float32") -> Parameter:
    return Parameter(CPU.asarray(np.asarray(values, dtype)), CPU, name)


def several() -> list[Parameter]:
    return [parameter(np.ones((2, 3)), "kernel"), parameter(np.zeros(3), "bias")]


def test_both_spellings_are_told_apart_by_type() -> None:
    p = several()
    assert Adam().learning_rate == 1e-3
    assert Adam(0.01).learning_rate == Adam(learning_rate=0.01).learning_rate == Adam(lr=0.01).learning_rate == 0.01
    assert not Adam(0.01).bound
    for made in (Adam(p, 0.01), Adam(p, lr=0.01), Adam(params=p, lr=0.01), Adam(iter(p), learning_rate=0.01)):
        assert made.bound and made.learning_rate == 0.01
        assert made.parameters == p or all(a is b for a, b in zip(made.parameters, p, strict=True))
    assert Adam(schedules.cosine(0.1, steps=10)).schedule.name == "cosine"
    assert Adam({"name": "cosine", "learning_rate": 0.1, "steps": 10}).current_rate == 0.1
    assert get("AdamW", weight_decay=0.1).weight_decay == 0.1
    assert type(get(NAdam)) is NAdam


def test_foreign_names_are_understood() -> None:
    adam = Adam(lr=0.1, betas=(0.5, 0.6), eps=1e-3, amsgrad=False, fused=True)
    assert (adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon) == (0.1, 0.5, 0.6, 1e-3)
    assert RMSprop(alpha=0.5).rho == 0.5
    assert SGD(global_clipnorm=2.0).clip_norm == 2.0
    assert SGD(clipvalue=2.0).clip_value == 2.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Adam(weight_decay=0.1), TypeError, r"AdamW\(weight_decay"),
        (lambda: NAdam(weight_decay=0.1), TypeError, r"AdamW\(weight_decay"),
        (lambda: Adam(leraning_rate=0.1), TypeError, "did you mean 'learning_rate'"),
        (lambda: Adam(beta1=0.9), TypeError, "did you mean 'beta_1'"),
        (lambda: SGD(clipnorm=1.0), TypeError, "each parameter by itself in Keras"),
        (lambda: Adam(amsgrad=True), TypeError, "not offered"),
        (lambda: Adam(use_ema=True), TypeError, "ema=0.999"),
        (lambda: Adam(betas=0.9), TypeError, "pair"),
        (lambda: Adam(0.1, 0.2), TypeError, "a rate twice"),
        (lambda: Adam(0.1, lr=0.2), TypeError, "a rate twice"),
        (lambda: Adam("1e-3"), ValueError, "a fixed rate is a number"),
        (lambda: Adam("cosine"), TypeError, "needs learning_rate, steps"),
        (lambda: Adam(-1e-3), ValueError, "not negative"),
        (lambda: Adam(math.nan), ValueError, "finite"),
        (lambda: Adam(math.inf), ValueError, "finite"),
        (lambda: Adam(True), TypeError, "is a number"),
        (lambda: Adam(beta_1=1.0), ValueError, "below 1"),
        (lambda: Adam(epsilon=0.0), ValueError, "above 0"),
        (lambda: Adam(epsilon="x"), TypeError, "must be a number"),
        (lambda: SGD(momentum=-0.1), ValueError, "at least 0"),
        (lambda: SGD(nesterov=True), ValueError, "needs a momentum"),
        (lambda: SGD(nesterov=1, momentum=0.9), TypeError, "True or False"),
        (lambda: SGD(clip_norm=1.0, clip_value=1.0), ValueError, "not both"),
        (lambda: SGD(clip_norm=0.0), ValueError, "above 0"),
        (lambda: SGD(ema=1.0), ValueError, "below 1"),
        (lambda: SGD([], 0.1), ValueError, "no parameters"),
        (lambda: SGD([1.0], 0.1), TypeError, "changes parameters; got float"),
        (lambda: SGD([("a", several()[0])], 0.1), TypeError, r"use parameters\(\)"),
        (lambda: SGD(several()[0], 0.1), TypeError, r"\[parameter\]"),
        (lambda: SGD([parameter([1.0], dtype="float16")], 0.1), TypeError, "float32 or float64"),
        (lambda: SGD([{"params": several(), "betas": 1}], 0.1), TypeError, "unknown keyword 'betas'"),
        (lambda: SGD([{"learning_rate": 1}], 0.1), TypeError, "needs 'params'"),
        (lambda: SGD([{"params": several()}, several()[0]], 0.1), TypeError, "mixed"),
        (lambda: Adam([{"params": several(), "weight_decay": 0.1}]), TypeError, "use AdamW"),
        (lambda: SGD([{"params": several(), "lr": 1.0}], 0.0), ValueError, "ratio"),
        (lambda: get("adma"), ValueError, "did you mean 'adam'"),
        (lambda: get(3), TypeError, "a name such as 'adam'"),
        (lambda: SGD(0.1).step(), RuntimeError, "has no parameters yet"),
        (lambda: SGD(several(), 0.1).step(), RuntimeError, r"call loss.backward\(\)"),
        (lambda: SGD(several(), 0.1).report(), RuntimeError, "measure = True"),
        (lambda: SGD(several(), 0.1).ema_weights().__enter__(), RuntimeError, "ema=0.999"),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_attributes_are_settings_and_nothing_else() -> None:
    adam = Adam(0.1)
    version = CONFIGURATION.count
    adam.beta_1 = 0.5
    assert adam.beta_1 == 0.5 and CONFIGURATION.count > version
    with pytest.raises(ValueError, match="below 1"):
        adam.beta_1 = 2.0
    assert adam.beta_1 == 0.5
    with pytest.raises(AttributeError, match="did you mean learning_rate"):
        adam.lr = 0.1
    with pytest.raises(AttributeError, match=r"optimizer\.learning_rate"):
        _ = adam.param_groups
    version = CONFIGURATION.count
    adam.learning_rate = 0.0
    assert adam.current_rate == 0.0 and CONFIGURATION.count == version
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="finite"):
            adam.learning_rate = bad
