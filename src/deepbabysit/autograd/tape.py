"""The tape: what was computed from what, and the sweep that carries gradients back.

Nodes are numbered as they are made, so a parent always has a smaller number than what was made from it. The sweep takes
the node with the largest number first: every gradient that flows into it is then complete. Nothing is recursive. A node
does not hold its outputs, so the graph has no cycles and goes away with the last tensor that needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from deepbabysit.autograd.raw import raw_operations
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.subnormals import flushed

if TYPE_CHECKING:
    from deepbabysit.autograd.tensor import Tensor
    from deepbabysit.runtime.device import Device

next_number: Callable[[], int] = count(1).__next__

# Where a gradient goes: (node, output position), or (leaf tensor, -1), or None.
Edge = Any


class Node(ABC):
    """One step of the computation that gradients can pass through.

    Attributes:
        number: when it was made.
        parents: for each input the edge its gradient takes.
        outputs: forms of the outputs.
        device: where it ran.
        scope: path of the layer it ran in.
        hooks: output position -> functions called with the complete gradient.
    """

    __slots__ = ("device", "hooks", "number", "outputs", "parents", "scope")

    number: int
    parents: tuple[Edge, ...]
    outputs: tuple[Form, ...]
    device: Device
    scope: str
    hooks: dict[int, list[Callable[[Tensor], Tensor | None]]] | None

    @abstractmethod
    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Return one gradient (or None) per input, computed with `op`; arrays, or Tensors where `create_graph`."""

    @abstractmethod
    def name(self) -> str:
        """Return what users know this step as."""

    @abstractmethod
    def release(self) -> None:
        """Forget saved values: backward has passed."""


def edge_of(tensor: Tensor) -> Edge:
    """Return where the gradient of a tensor goes."""
    if tensor.node is not None:
        return (tensor.node, tensor.index)
    return (tensor, -1) if tensor.requires_grad else None


class Handed:
    """What the tape needs from the floors above it, handed down when they are imported."""

    tensor_operations: Callable[[Any], Any]
    tensor: type[Any]


HANDED = Handed()


@flushed()
def sweep(
    roots: Sequence[Tensor],
    seeds: Sequence[Any],
    wanted: Sequence[Tensor] | None,
    create_graph: bool,
    release: bool = False,
    stop: int = 0,
) -> list[Any]:
    """Carry gradients from the roots back.

    Arguments:
        roots: tensors to start from.
        seeds: their gradients; raw arrays, or Tensors where `create_graph`.
        wanted: tensors whose gradients are returned (None where nothing flowed); with None every leaf
            accumulates its gradient into ``.grad`` instead.
        create_graph: record the sweep itself, for higher derivatives.
        release: forget each node's saved values once it has been passed.
        stop: nodes up to this number are not entered; nothing is looked for behind them.
    """
    found: list[Any] = [None] * len(wanted or ())
    targets: dict[Any, list[int]] = {}
    for position, tensor in enumerate(wanted or ()):
        key = id(tensor) if tensor.node is None else (tensor.node, tensor.index)
        targets.setdefault(key, []).append(position)
    leaves = _carry(roots, seeds, create_graph, release, stop, targets, found)
    operations = HANDED.tensor_operations if create_graph else raw_operations
    with surroundings(grad=create_graph):
        for leaf, index, gradient in leaves:
            if index >= 0:
                for place in targets.get((leaf, index), ()):
                    found[place] = gradient
                continue
            hooks = leaf.hooks
            if hooks:
                gradient = _run_hooks(hooks, gradient, leaf.device, create_graph)
            if wanted is not None:
                for place in targets.get(id(leaf), ()):
                    found[place] = gradient
            elif create_graph:
                leaf.grad = gradient if leaf.grad is None else operations(leaf.device).add(leaf.grad, gradient)
            else:
                leaf.accumulate(gradient)
    return found


def collect(roots: Sequence[Tensor], seeds: Sequence[Any], create_graph: bool, stop: int) -> list[list[Any]]:
    """Carry gradients back to every leaf and to every node up to the number `stop`, and no further.

    Returns:
        ``[leaf, -1, gradient]`` or ``[node, output position, gradient]`` for each place that was reached; no hook of a
        leaf has run and nothing was accumulated.
    """
    return _carry(roots, seeds, create_graph, False, stop, {}, [])


def _carry(
    roots: Sequence[Tensor],
    seeds: Sequence[Any],
    create_graph: bool,
    release: bool,
    stop: int,
    targets: dict[Any, list[int]],
    found: list[Any],
) -> list[list[Any]]:
    """Pass through the nodes made after `stop`; return what arrived at leaves and at the border."""
    operations = HANDED.tensor_operations if create_graph else raw_operations
    pending: dict[Node, list[Any]] = {}
    leaves: dict[Any, list[Any]] = {}
    heap: list[tuple[int, Node]] = []

    def send(edge: Edge, gradient: Any, device: Device) -> None:
        target, index = edge
        if index < 0 or target.number <= stop:
            key = (id(target), index)
            entry = leaves.get(key)
            if entry is None:
                leaves[key] = [target, index, gradient]
            else:
                entry[2] = operations(device).add(entry[2], gradient)
            return
        slots = pending.get(target)
        if slots is None:
            slots = pending[target] = [None] * len(target.outputs)
            heappush(heap, (-target.number, target))
        known = slots[index]
        slots[index] = gradient if known is None else operations(device).add(known, gradient)

    for root, seed in zip(roots, seeds, strict=True):
        edge = edge_of(root)
        if edge is not None:
            send(edge, seed, root.device)

    with surroundings(grad=create_graph):
        while heap:
            node = heappop(heap)[1]
            gradients = pending.pop(node)
            if node.hooks:
                for index, hooks in node.hooks.items():
                    if gradients[index] is not None:
                        gradients[index] = _run_hooks(hooks, gradients[index], node.device, create_graph)
            if targets:
                for index, gradient in enumerate(gradients):
                    for place in targets.get((node, index), ()):
                        found[place] = gradient
            results = node.pull(gradients, operations(node.device), create_graph)
            for edge, gradient in zip(node.parents, results, strict=True):
                if edge is not None and gradient is not None:
                    send(edge, gradient, node.device)
            if release:
                node.release()
    return list(leaves.values())


def _run_hooks(hooks: Sequence[Any], gradient: Any, device: Device, create_graph: bool) -> Any:
    """Show a complete gradient to hooks; what one returns takes its place."""
    for hook in hooks:
        shown = gradient if create_graph else HANDED.tensor(gradient, device)
        changed = hook(shown)
        if changed is not None:
            if tuple(changed.shape) != tuple(gradient.shape):
                raise ValueError(
                    f"a gradient hook returned shape {list(changed.shape)}; the gradient has {list(gradient.shape)}"
                )
            gradient = changed if create_graph else changed.data
    return gradient
