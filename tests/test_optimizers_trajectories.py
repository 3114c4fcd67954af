"""Trajectories of every optimizer: against torch.optim, against the float64 references, against Lion's paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepbabysit import optimizers
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.record import Recorder
from deepbabysit.runtime.registry import find_device

SHAPES = ((3, 4), (4,), (), (5, 2, 2))
STEPS = 25

# ours, its arguments, torch's, its arguments
PEERS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("sgd", {"learning_rate": 0.1}, "SGD", {"lr": 0.1}),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.9}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    (
        "sgd",
        {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        "SGD",
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    ("adagrad", {"learning_rate": 0.1}, "Adagrad", {"lr": 0.1}),
    (
        "adagrad",
        {"learning_rate": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.02},
        "Adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.02},
    ),
    # torch's alpha is our rho, its default 0.99
    ("rmsprop", {"learning_rate": 0.01}, "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    (
        "rmsprop",
        {"learning_rate": 0.01, "momentum": 0.7, "weight_decay": 0.1},
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1},
    ),
    ("adadelta", {}, "Adadelta", {"lr": 1.0, "rho": 0.95}),
    ("adam", {"learning_rate": 0.01}, "Adam", {"lr": 0.01}),
    (
        "adam",
        {"learning_rate": 0.01, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2},
        "Adam",
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-2},
    ),
    ("adamw", {"learning_rate": 0.01, "weight_decay": 0.1}, "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("nadam", {"learning_rate": 0.01}, "NAdam", {"lr": 0.01}),
]


def make(dtype: str = "float64", device: str = "cpu", seed: int = 0) -> list[Parameter]:
    """Return parameters of all shapes."""
    rng = np.random.default_rng(seed)
    place = find_device(device)
    return [
        Parameter(place.asarray(rng.standard_normal(s), dtype), place, f"p{i}") for i, s in enumerate(SHAPES)
    ]


def give(parameters: list[Parameter], step: int) -> list[np.ndarray]:
    """Put the gradients of a step into `.grad`; returns them."""
    rng = np.random.default_rng(1000 + step)
    values = [rng.standard_normal(p.shape) * 0.5 ** (step % 3) for p in parameters]
    for p, g in zip(parameters, values, strict=True):
        p.grad = Tensor(p.device.asarray(g, p.dtype), p.device)
    return values


@pytest.mark.parametrize(("ours", "settings", "theirs", "options"), PEERS)
def test_torch_trajectory(ours: str, settings: dict[str, Any], theirs: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    parameters = make()
    peers = [torch.tensor(np.array(p.numpy()), requires_grad=True) for p in parameters]
    optimizer = optimizers.get(ours, **settings)
    optimizer.bind(parameters)
    peer = getattr(torch.optim, theirs)(peers, **options)
    torch.set_default_dtype(torch.float64)  # or NAdam's product of momenta is kept in float32
    try:
        for step in range(STEPS):
            for q, g in zip(peers, give(parameters, step), strict=True):
                q.grad = torch.tensor(g)
            optimizer.step()
            peer.step()
            for p, q in zip(parameters, peers, strict=True):
                np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


def test_lion_follows_the_paper() -> None:
    parameters = make()
    optimizer = optimizers.Lion(parameters, 0.01, weight_decay=0.1)
    w = [np.array(p.numpy()) for p in parameters]
    m = [np.zeros(s) for s in SHAPES]
    for step in range(STEPS):
        for i, g in enumerate(give(parameters, step)):
            c = 0.9 * m[i] + 0.1 * g
            w[i] = w[i] - 0.01 * (np.sign(c) + 0.1 * w[i])
            m[i] = 0.99 * m[i] + 0.01 * g
        optimizer.step()
    for p, wanted in zip(parameters, w, strict=True):
        np.testing.assert_allclose(p.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(optimizers.NAMES))
def test_float32_kernel_follows_the_float64_reference(name: str) -> None:
    fast, exact = make("float32"), make("float64", "cpu:reference")
    for p, q in zip(fast, exact, strict=True):
        q.assign(p.numpy().astype(np.float64))
        for parameter in (p, q):
            parameter.l1, parameter.l2 = (0.01, 0.02) if p.ndim > 1 else (0.0, 0.0)
    pair = [optimizers.get(name, learning_rate=0.01, clip_norm=1.5) for _ in range(2)]
    for optimizer, parameters in zip(pair, (fast, exact), strict=True):
        optimizer.bind(parameters)
    for step in range(STEPS):
        for optimizer, parameters in zip(pair, (fast, exact), strict=True):
            give(parameters, step)
            optimizer.step(scale=0.5)
    for p, q in zip(fast, exact, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", list(optimizers.NAMES))
def test_replay_follows_rate_and_step(name: str) -> None:
    """A recorded update gives the bits of eager ones while rate, clip limit and step count move on."""
    eager, recorded = make("float32"), make("float32")
    one = optimizers.get(name, learning_rate=0.1, clip_norm=3.0, ema=0.9)
    two = optimizers.get(name, learning_rate=0.1, clip_norm=3.0, ema=0.9)
    one.bind(eager)
    two.bind(recorded)
    for optimizer, parameters in ((one, eager), (two, recorded)):
        give(parameters, 0)
        optimizer.step()
        give(parameters, 1)
        optimizer.prepare()
    one.update()
    sources = [p.grad.data for p in recorded if p.grad is not None]  # update() copies from there into its slots
    recorder = Recorder(find_device("cpu"))
    with surroundings(recorder=recorder):
        two.update()
    recording = recorder.finish()
    for step, rate in enumerate((0.1, 0.02, 0.0, 0.3), 2):
        for optimizer in (one, two):
            optimizer.learning_rate = rate
            optimizer.clip_norm = 1.0 + step
        values = give(eager, step)
        one.step()
        for source, g in zip(sources, values, strict=True):
            source[...] = g
        two.prepare()
        recording.replay()
        for p, q in zip(eager, recorded, strict=True):
            np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert one.state_dict()["steps"] == two.state_dict()["steps"] == 6
    for key, values in one.state_dict()["arrays"].items():
        np.testing.assert_array_equal(values, two.state_dict()["arrays"][key])
