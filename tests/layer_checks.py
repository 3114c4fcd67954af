"""What the tests of layers share."""

from __future__ import annotations

from typing import Any

import numpy as np

import deepbabysit as db
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.shapes import BATCH
from deepbabysit.runtime.reference import ShapeArray
from deepbabysit.runtime.registry import shapes_device


def draw(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def scramble(layer: Any, seed: int = 1) -> None:
    """Give every parameter values that are not special (no zeros, no ones)."""
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters():
        parameter.assign(rng.uniform(0.2, 0.9, parameter.shape) * rng.choice([-1, 1], parameter.shape))


def gradients(
    layer: Any, *inputs: np.ndarray, training: bool = False, **options: Any
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return output, and the gradients of a weighted sum of it: for the floating inputs, then the parameters."""
    given = [db.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    for parameter in layer.parameters():
        parameter.grad = None

    def run() -> Any:
        return layer(*given, **options)

    if training:
        with db.training():
            y = run()
    else:
        y = run()
    (y * db.tensor(weights(y.shape).astype(y.dtype))).sum().backward()
    targets = [x for x in given if x.requires_grad] + list(layer.parameters())
    return y.numpy(), [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in targets]


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([7, *shape]).uniform(0.5, 1.5, shape)


def check_slopes(layer: Any, *inputs: np.ndarray, training: bool = False, **options: Any) -> None:
    """Compare every gradient with a central difference along random directions, in float64."""
    layer(*inputs_as_tensors(inputs), **options)
    scramble(layer)
    _, found = gradients(layer, *inputs, training=training, **options)
    floating = [x for x in inputs if x.dtype.kind == "f"]
    rng = np.random.default_rng(3)
    step = 1e-6
    for position, gradient in enumerate(found):
        direction = rng.standard_normal(gradient.shape)

        def value(sign: float, position: int = position, direction: np.ndarray = direction) -> float:
            moved = list(inputs)
            parameter = None
            if position < len(floating):
                place = [i for i, x in enumerate(inputs) if x.dtype.kind == "f"][position]
                moved[place] = inputs[place] + sign * step * direction
            else:
                parameter = layer.parameters()[position - len(floating)]
                kept = parameter.numpy().copy()
                parameter.assign(kept + sign * step * direction)
            with db.no_grad():
                if training:
                    from deepbabysit.runtime.context import surroundings

                    with surroundings(training=True, updates=None):
                        y = layer(*inputs_as_tensors(moved), **options)
                else:
                    y = layer(*inputs_as_tensors(moved), **options)
            if parameter is not None:
                parameter.assign(kept)
            return float((y.numpy() * weights(y.shape)).sum())

        expected = (value(1.0) - value(-1.0)) / (2 * step)
        np.testing.assert_allclose(
            (gradient * direction).sum(), expected, rtol=2e-5, atol=1e-6, err_msg=f"gradient {position}"
        )


def inputs_as_tensors(inputs: Any) -> list[Tensor]:
    return [db.tensor(x) for x in inputs]


def inferred(layer: Any, *shapes: tuple[int, ...], dtype: Any = np.float32) -> tuple[int, ...]:
    """Return the output's shape of one sample, from shapes alone."""
    y = layer(*[Tensor(ShapeArray((BATCH, *s), dtype), shapes_device()) for s in shapes])
    assert y.shape[0] == BATCH
    return tuple(y.shape[1:])
