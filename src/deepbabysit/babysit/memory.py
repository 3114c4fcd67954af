"""What recurrent layers do with a batch before training: how far their last answer hangs on each step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.recurrent import Bidirectional, Recurrent
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.random import Streams

ROWS = 16  # of the batch


@dataclass(frozen=True, slots=True)
class Memory:
    """One recurrent layer on a batch.

    Attributes:
        steps, gates: length of the sequence; blocks of weights for each unit.
        scale: deviation of the weights from step to step, times the root of the units (1: an orthogonal matrix).
        growth: gradient of the last output by the first step, over that by the last step.
        size: root of the mean square of the last output.
        bias, raw: size of the biases, and deviation of the inputs' share of what they are added to.
    """

    steps: int
    gates: int
    scale: float
    growth: float
    size: float
    bias: float
    raw: float


def memories(path: str, layer: Layer, given: Tensor) -> Iterator[tuple[str, Memory]]:
    """Yield what each direction of a recurrent layer does with an input (N, steps, features)."""
    if isinstance(layer, Bidirectional):
        for name, inner in (("forward", layer.forward), ("backward", layer.backward)):
            yield from memories(f"{path}.{name}", inner, given)
    elif isinstance(layer, Recurrent) and given.ndim == 3 and given.shape[1] > 1:
        yield path, _memory(layer, given)


def _memory(layer: Recurrent, given: Tensor) -> Memory:
    x = Tensor(given.data[:ROWS], given.device, requires_grad=True)
    with surroundings(training=True, updates=None, streams=Streams(0), grad=True, recorder=None):
        output: Any = layer(x)
        output = output[0] if isinstance(output, list | tuple) else output
        last = output if not layer.return_sequences else output[:, -1]
        rng = np.random.Generator(np.random.Philox(37))
        weights = rng.standard_normal(last.shape).astype(np.dtype(last.dtype))
        (last * Tensor(last.device.asarray(weights), last.device)).sum().backward(release=True)
    assert x.grad is not None
    sizes = np.sqrt((np.asarray(x.grad.numpy(), np.float64) ** 2).mean(axis=(0, 2)))
    first, end = (float(sizes[0]), float(sizes[-1])) if not layer.go_backwards else (float(sizes[-1]), float(sizes[0]))
    recurrent, kernel = (np.asarray(w.numpy(), np.float64) for w in (layer.recurrent_kernel, layer.kernel))
    z = np.asarray(x.numpy(), np.float64) @ kernel
    bias = 0.0 if layer.bias is None else float(np.sqrt((np.asarray(layer.bias.numpy(), np.float64) ** 2).mean()))
    values = np.asarray(last.numpy(), np.float64)
    return Memory(
        int(given.shape[1]), layer.gates, float(recurrent.std()) * math.sqrt(layer.units),
        first / end if end > 0.0 and math.isfinite(first) else math.inf if not math.isfinite(first) else 0.0,
        float(np.sqrt((values**2).mean())), bias, float(np.sqrt(z.reshape(-1, z.shape[-1]).var(axis=0).mean())),
    )
