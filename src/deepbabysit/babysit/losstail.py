"""What the graph behind a loss shows: how rows were reduced, what stands on what, and where a number went bad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit.autograd.tape import Node, collect, edge_of
from deepbabysit.autograd.tensor import KernelNode, Tensor
from deepbabysit.babysit.broken import Origin
from deepbabysit.kernels.shapes import is_floating

_OWN = {"softmax_cross_entropy": ("softmax",), "sigmoid_cross_entropy": ("sigmoid", "softmax")}
_PAIRWISE = ("subtract", "add", "multiply", "divide", "squared_difference")
_STRAIGHT = ("subtract", "add", "multiply", "divide", "negative", "maximum", "minimum", "astype", "reshape")
_MIXED = 6  # so many of these may stand between probabilities and a loss
_SOME = 3  # losses of single rows, of which the derivatives are made
_FAR = 64  # nodes behind the loss among which a broadcast is looked for


def factors(loss: Tensor, rows: int) -> list[float]:
    """Return the mean derivatives of a loss by the numbers of the rows that it was reduced from.

    1 / n in a mean, 1 in a sum. Rows may have their losses one by one, put together by hand. Empty where nothing of so
    many rows was reduced, or what was saved for it is gone.
    """
    border: dict[tuple[int, int], tuple[Node, int]] = {}
    single: dict[tuple[int, int], tuple[Node, int]] = {}  # the losses of single rows
    waiting: list[Any] = [edge_of(loss)]
    known: set[tuple[int, int]] = set()
    while waiting:
        node, index = waiting.pop()
        if index < 0:
            continue
        shape = node.outputs[index].shape
        if math.prod(shape) == 1:
            for edge in node.parents:
                if edge is not None and (id(edge[0]), edge[1]) not in known:
                    known.add((id(edge[0]), edge[1]))
                    waiting.append(edge)
                    if edge[1] >= 0 and (given := edge[0].outputs[edge[1]].shape)[:1] == (1,) and math.prod(given) > 1:
                        single[id(node), index] = node, index
        elif shape[0] == rows:
            border[id(node), index] = node, index
    if not border and len(single) == rows:
        border = dict(list(single.items())[:_SOME])
    found = []
    seed = loss.device.asarray(np.ones(loss.shape, loss.dtype))
    for node, index in border.values():
        try:
            arrived = collect([loss], [seed], False, stop=node.number)
        except (RuntimeError, ValueError, AssertionError):
            continue
        for target, place, gradient in arrived:
            if target is node and place == index:
                found.append(float(np.abs(np.asarray(loss.device.to_host(gradient), np.float64)).mean()))
    return found


def stacked(loss: Tensor) -> tuple[str, str] | None:
    """Return (operation, what it stands on) where a loss of logits was given probabilities; else None.

    Probabilities that were scaled, shifted or mixed with constants are probabilities still.
    """
    for node in _behind(loss, _FAR):
        if node.name() not in _OWN:
            continue
        below = _given(node)
        for _ in range(_MIXED):
            if below is None or below.name() in _OWN[node.name()] or below.name() not in _STRAIGHT:
                break
            below = _given(below)
        if below is not None and below.name() in _OWN[node.name()]:
            return node.name(), below.name()
    return None


def _given(node: Node) -> Node | None:
    """Return the only operation that a node's first output was made from; None where there are several, or none."""
    first = [edge for edge in node.parents if edge is not None]
    if node.name() in _OWN:
        first = [edge for edge in node.parents[:1] if edge is not None]
    return first[0][0] if len(first) == 1 and first[0][1] >= 0 else None


def classes(loss: Tensor) -> int | None:
    """Return among how many classes a cross-entropy behind a loss chooses; None where there is none."""
    for node in _behind(loss, _FAR):
        if isinstance(node, KernelNode) and node.name() == "softmax_cross_entropy":
            return int(node.plan.inputs[0].shape[-1])
    return None


def broadcast(loss: Tensor, rows: int) -> tuple[str, str] | None:
    """Return the shapes of an output (n, 1) and of targets (n,) that were broadcast to (n, n); else None."""
    for node in _behind(loss, _FAR):
        if not isinstance(node, KernelNode) or node.name() not in _PAIRWISE or len(node.parents) != 2:
            continue
        shapes = [tuple(form.shape) for form in node.plan.inputs]
        constant = [edge is None for edge in node.parents]
        if sorted(shapes, key=len) == [(rows,), (rows, 1)] and sum(constant) == 1 and rows > 1:
            return str(shapes[constant.index(False)]), str(shapes[constant.index(True)])
    return None


def origin(loss: Tensor) -> Origin | None:
    """Return where the first number that is not finite stands among those that were saved for backward."""
    bad: dict[int, tuple[Node, np.ndarray]] = {}
    nodes = _behind(loss, 1 << 20)
    for node in nodes:
        if not isinstance(node, KernelNode):
            continue
        for array in node.saved_outputs:
            _note(bad, node, node.device.to_host(array))
        for tensor in node.saved_inputs or ():
            if tensor.node is not None:
                _note(bad, tensor.node, tensor.numpy())
    if not bad:
        return None
    node, values = bad[min(bad)]
    finite = np.isfinite(values)
    rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1)).tolist() if values.ndim else []
    nan = int(np.isnan(values).sum())
    given = [t for t in getattr(node, "saved_inputs", None) or () if is_floating(t.dtype)]
    if any(edge is not None and edge[1] < 0 and not np.isfinite(edge[0].numpy()).all() for edge in node.parents):
        return None  # weights: what put them there was an earlier step
    inputs = [np.abs(t.numpy()) for t in given if t.size]
    largest = max((float(a[np.isfinite(a)].max(initial=0.0)) for a in inputs), default=0.0)
    return Origin("forward", node.scope or "loss", node.name(), rows, 0, nan, int((~finite).sum()) - nan, largest)


def _note(bad: dict[int, tuple[Node, np.ndarray]], node: Node, values: np.ndarray) -> None:
    if node.number not in bad and is_floating(values.dtype) and not np.isfinite(values).all():
        bad[node.number] = node, values


def _behind(loss: Tensor, most: int) -> list[Node]:
    """Return the nodes behind a loss, the nearest first, no more than so many."""
    waiting = [] if loss.node is None else [loss.node]
    seen: dict[int, Node] = {}
    while waiting and len(seen) < most:
        node = waiting.pop(0)
        if id(node) not in seen:
            seen[id(node)] = node
            waiting.extend(edge[0] for edge in node.parents if edge is not None and edge[1] >= 0)
    return list(seen.values())
