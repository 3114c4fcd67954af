"""Derivatives of one operation on a device, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tape import collect, edge_of
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Attrs, KernelSpec
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.testing.cases import Host, derivable, expect

STEP = 1e-4
RTOL = 1e-5


def leaves(device: Device, inputs: Sequence[np.ndarray], positions: Sequence[int]) -> list[Tensor]:
    """Return the inputs as tensors; those at the positions require a gradient."""
    return [Tensor(device.asarray(x), device, requires_grad=i in positions) for i, x in enumerate(inputs)]


def run(
    spec: KernelSpec, tensors: Sequence[Tensor], attrs: Attrs, through_reference: bool = False
) -> tuple[Tensor, ...]:
    """Run the operation on tensors: as users do, or as the graph that its reference is."""
    with surroundings(grad=True):
        if through_reference:
            results = spec.reference(tensor_operations(tensors[0].device), *tensors, **attrs)
        else:
            results = apply(spec, tuple(tensors), attrs)
    return results if isinstance(results, tuple) else (results,)


def cotangents(rng: np.random.Generator, outputs: Sequence[Any]) -> list[np.ndarray | None]:
    """Draw a gradient for each floating output."""
    return [rng.standard_normal(tuple(o.shape)) if is_floating(o.dtype) else None for o in outputs]


def pull(
    outputs: Sequence[Tensor], seeds: Sequence[Any], wanted: Sequence[Tensor], create_graph: bool = False
) -> list[Any]:
    """Return the gradients of the wanted leaves (None where nothing arrives); raw, or Tensors with `create_graph`."""
    roots, given = [], []
    for output, seed in zip(outputs, seeds, strict=True):
        if seed is not None and output.requires_grad:
            roots.append(output)
            given.append(seed)
    arrived = {
        (id(target), index): gradient
        for target, index, gradient in (collect(roots, given, create_graph, 0) if roots else [])
    }
    result = []
    for tensor in wanted:
        edge = edge_of(tensor)
        result.append(None if edge is None else arrived.get((id(edge[0]), edge[1])))
    return result


def gradients(
    device: Device,
    spec: KernelSpec,
    inputs: Sequence[np.ndarray],
    attrs: Attrs,
    weights: Sequence[np.ndarray | None],
    positions: Sequence[int],
    through_reference: bool = False,
) -> list[np.ndarray]:
    """Return the gradient of ``sum(weights * outputs)`` by each input at the positions, on the host."""
    tensors = leaves(device, inputs, positions)
    outputs = run(spec, tensors, attrs, through_reference)
    seeds = [None if w is None else device.asarray(w.astype(o.dtype)) for o, w in zip(outputs, weights, strict=True)]
    found = pull(outputs, seeds, [tensors[i] for i in positions])
    return [
        np.zeros(inputs[i].shape, inputs[i].dtype) if g is None else np.array(device.to_host(g))
        for i, g in zip(positions, found, strict=True)
    ]


def weighted_reference(
    spec: KernelSpec, inputs: Sequence[np.ndarray], attrs: Attrs, weights: Sequence[np.ndarray | None]
) -> float:
    """Return ``sum(weights * outputs)`` of the reference in float64."""
    total = 0.0
    for output, weight in zip(expect(spec, inputs, attrs), weights, strict=True):
        if weight is not None:
            total += float(np.vdot(weight, output))
    return total


def difference(function: Any, inputs: Host, moves: dict[int, np.ndarray], step: float) -> float:
    """Return a directional derivative by five points."""

    def at(distance: float) -> float:
        return float(function(tuple(x + distance * moves[i] if i in moves else x for i, x in enumerate(inputs))))

    return (at(-2 * step) - 8 * at(-step) + 8 * at(step) - at(2 * step)) / (12 * step)


def agree(analytic: float, numeric: float, size: float) -> bool:
    """Tell whether a derivative agrees with its finite difference; `size` is that of the terms it is made of."""
    return abs(analytic - numeric) <= 1e-8 + RTOL * max(abs(numeric), size)


def moves_for(rng: np.random.Generator, inputs: Host, positions: Sequence[int]) -> dict[int, np.ndarray]:
    """Draw a direction; no element is nearly left out."""
    return {
        i: np.asarray(rng.uniform(0.5, 1.5, inputs[i].shape) * rng.choice([-1.0, 1.0], inputs[i].shape))
        for i in positions
    }


def first_order(device: Device, spec: KernelSpec, inputs: Host, attrs: Attrs, rng: np.random.Generator) -> str | None:
    """Compare the gradient with finite differences of the reference; returns what is wrong, or None."""
    positions = derivable(spec, inputs)
    weights = cotangents(rng, expect(spec, inputs, attrs))
    moves = moves_for(rng, inputs, positions)
    found = gradients(device, spec, inputs, attrs, weights, positions)
    for i, g in zip(positions, found, strict=True):
        if g.shape != inputs[i].shape or g.dtype != inputs[i].dtype:
            return f"input {i} is {inputs[i].dtype}{list(inputs[i].shape)}, its gradient {g.dtype}{list(g.shape)}"
    parts = [g * moves[i] for i, g in zip(positions, found, strict=True)]
    analytic = sum(float(p.sum()) for p in parts)
    size = max((float(np.abs(p).max()) for p in parts if p.size), default=0.0)

    def function(values: Host) -> float:
        return weighted_reference(spec, values, attrs, weights)

    numeric = 0.0
    for step in (STEP, STEP * 1e-2):  # a kink between the points is no mistake: look closer before saying so
        numeric = difference(function, inputs, moves, step)
        if agree(analytic, numeric, size):
            return None
    worst = ""
    best = -1.0
    for i, g in zip(positions, found, strict=True):
        for index in np.ndindex(*inputs[i].shape):
            unit = np.zeros(inputs[i].shape)
            unit[index] = 1.0
            n = difference(function, inputs, {i: unit}, STEP * 1e-2)
            if abs(n - float(g[index])) > best:
                best = abs(n - float(g[index]))
                worst = f"input {i} at {list(index)}: numeric {n:.10g}, analytic {float(g[index]):.10g}"
    return f"along a direction: numeric {numeric:.10g}, analytic {analytic:.10g}; worst element: {worst}"


def second_order(device: Device, spec: KernelSpec, inputs: Host, attrs: Attrs, rng: np.random.Generator) -> str | None:
    """Compare the gradient of the gradient with finite differences of the gradient; what is wrong, or None.

    The cotangents count as inputs too: the derivative of a vjp by its cotangent is checked with the rest.
    """
    positions = derivable(spec, inputs)
    weights = cotangents(rng, expect(spec, inputs, attrs))
    vectors = [rng.uniform(0.5, 1.5, inputs[i].shape) for i in positions]
    everything = (*inputs, *[w for w in weights if w is not None])
    seeds_at = iter(range(len(inputs), len(everything)))
    seed_place = [None if w is None else next(seeds_at) for w in weights]
    moving = [*positions, *[p for p in seed_place if p is not None]]
    moves = moves_for(rng, everything, moving)

    def slope(values: Host) -> float:
        given = [None if p is None else values[p] for p in seed_place]
        found = gradients(device, spec, values[: len(inputs)], attrs, given, positions)
        return float(sum(np.vdot(v, g) for v, g in zip(vectors, found, strict=True)))

    tensors = leaves(device, inputs, positions)
    seeds = [None if w is None else Tensor(device.asarray(w), device, requires_grad=True) for w in weights]
    outputs = run(spec, tensors, attrs)
    roots, given = [], []
    for g, v in zip(pull(outputs, seeds, [tensors[i] for i in positions], True), vectors, strict=True):
        if g is not None and g.requires_grad:
            roots.append(g)
            given.append(device.asarray(v))
    sources = [*[tensors[i] for i in positions], *[s for s in seeds if s is not None]]
    second = pull(roots, given, sources) if roots else [None] * len(sources)
    parts = [device.to_host(g) * moves[i] for i, g in zip(moving, second, strict=True) if g is not None]
    analytic = sum(float(p.sum()) for p in parts)
    size = max((float(np.abs(p).max()) for p in parts if p.size), default=0.0)
    numeric = 0.0
    for step in (STEP, STEP * 1e-2):
        numeric = difference(slope, everything, moves, step)
        if agree(analytic, numeric, size):
            return None
    return f"second derivative along a direction: numeric {numeric:.10g}, analytic {analytic:.10g}"
