"""Checkpointing: keep the inputs of a part of the network, and compute what lies inside a second time in backward.

Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174 (2016).

The first run is on a tape of its own, which shows what the part depends on (its arguments, and the parameters and
tensors that the function captured); that tape is then dropped. In backward the function runs again, the sweep ends at
those same places, and the gradients go on from there in the sweep that is under way. So hooks see complete gradients,
captured parameters get theirs, and higher derivatives work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tape import Edge, Node, collect, edge_of, next_number
from deepbabysit.autograd.tensor import Tensor, check_saved, memory_of
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.context import Mode, current, surroundings
from deepbabysit.runtime.random import Streams, streams


def checkpoint(f: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Compute ``f(*args)`` and forget what lies inside; it is computed again when the gradient passes.

    Memory falls from all values inside `f` to its arguments and outputs; the price is a second forward pass. Random
    draws repeat, and states that layers leave (running statistics) are left once.

    Arguments:
        f: a function or a layer; returns a Tensor or a tuple of Tensors. It must give the same result when it is
            called again.
        args: its arguments; gradients flow to the Tensors among them and to every parameter or tensor that `f` uses.
        options: keyword arguments of `f`, passed on.

    Raises:
        TypeError: `f` returned something else.
        RuntimeError: in backward, when a saved argument or a parameter was overwritten since, or the second run gave
            another form.

    >>> import deepbabysit as db
    >>> x = db.tensor([0.5], requires_grad=True)
    >>> db.checkpoint(lambda v: v.tanh() * v, x).backward()
    >>> round(x.grad.item(), 4)
    0.8553
    """
    mode = current()
    tensors = [a for a in args if isinstance(a, Tensor)]
    if not mode.grad or any(t.device.abstract for t in tensors):
        return f(*args, **options)
    source = streams()
    calls, place = dict(source.calls), (source.step, source.row)
    watch = _Watch(mode.updates)
    start = next_number()
    with surroundings(updates=watch):
        inner = [Tensor(t.data, t.device, requires_grad=t.requires_grad) for t in tensors]
        for copy, t in zip(inner, tensors, strict=True):
            copy.owner = memory_of(t)
            copy.extra = {"logits": t.logits} if t.logits is not None else None
        results = f(*_put(args, inner), **options)
    outputs = results if isinstance(results, tuple) else (results,)
    for output in outputs:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"a checkpointed function must return a Tensor or a tuple of Tensors; got {type(output).__name__}"
            )
    if mode.training is None and mode.updates is None:
        watch.commit()  # a layer in training mode, called on its own, keeps its new state at once
    captured = _captured(outputs, start, {id(t) for t in inner})
    edges = [edge_of(t) for t in tensors]
    node = None
    if captured or any(edge is not None for edge in edges):
        node = _CheckpointNode(
            _Run(f, args, options, mode, source, calls, place, watch), tuple(tensors), edges, captured, outputs
        )
    made = []
    for index, output in enumerate(outputs):
        flows = node if output.requires_grad else None
        result = Tensor(output.data, output.device, flows, index, flows is not None)
        result.owner = output.owner
        made.append(result)
    return tuple(made) if isinstance(results, tuple) else made[0]


def _put(args: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
    """Return the arguments with the Tensors among them replaced, in order."""
    replacement = iter(tensors)
    return [next(replacement) if isinstance(a, Tensor) else a for a in args]


def _captured(outputs: Sequence[Tensor], start: int, own: set[int]) -> list[Edge]:
    """Return the places outside that the outputs depend on and that were not arguments."""
    found: dict[tuple[int, int], Edge] = {}
    seen: set[int] = set()
    waiting = [edge_of(t) for t in outputs]
    while waiting:
        edge = waiting.pop()
        if edge is None:
            continue
        target, index = edge
        if index < 0 or target.number <= start:
            if not (index < 0 and id(target) in own):
                found[id(target), index] = edge
        elif id(target) not in seen:
            seen.add(id(target))
            waiting.extend(target.parents)
    return list(found.values())


class _Watch:
    """Stands where layers leave their new states during the first run; remembers what they read."""

    __slots__ = ("outer", "pending", "read")

    def __init__(self, outer: Any) -> None:
        self.outer = outer
        self.read: dict[int, Tensor] = {}
        self.pending: dict[int, tuple[Any, Tensor]] = {}

    def leave(self, state: Any, value: Tensor) -> None:
        """Pass the new value on."""
        self.pending[id(state)] = (state, value)
        if self.outer is not None:
            self.outer.leave(state, value)

    def latest(self, state: Any) -> Tensor:
        """Return the value left so far, and remember it: the memory of a state changes at the end of the step."""
        mine = self.pending.get(id(state))
        if mine is not None:
            return mine[1]
        value: Tensor = state if self.outer is None else self.outer.latest(state)
        if id(state) not in self.read:
            with surroundings(grad=False):
                self.read[id(state)] = tensor_operations(value.device).copy(value)
        return value

    def commit(self) -> None:
        """Write the new values into the states' memory."""
        for state, value in self.pending.values():
            state.assign(value, "the state update at the end of a call")


class _Again:
    """Stands where layers leave their new states during recomputation: they were left the first time."""

    __slots__ = ("_pending", "_read")

    def __init__(self, read: dict[int, Tensor]) -> None:
        self._read = read
        self._pending: dict[int, Tensor] = {}

    def leave(self, state: Any, value: Tensor) -> None:
        """Keep the value for a second call of the same layer, and for nothing else."""
        self._pending[id(state)] = value

    def latest(self, state: Any) -> Tensor:
        """Return what was read the first time."""
        found: Tensor = self._pending.get(id(state), self._read.get(id(state), state))
        return found


class _Run:
    """Everything that a second run needs to give the same bits."""

    __slots__ = ("_args", "_calls", "_function", "_mode", "_options", "_place", "_read", "_streams")

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        options: dict[str, Any],
        mode: Mode,
        source: Streams,
        calls: dict[str, int],
        place: tuple[int, int],
        watch: _Watch,
    ) -> None:
        self._function = function
        # Tensors stand in the node, which checks that they were not overwritten
        self._args = tuple(_HERE if isinstance(a, Tensor) else a for a in args)
        self._options = options
        self._mode = mode
        self._streams = source
        self._calls = calls
        self._place = place
        self._read = watch.read

    def again(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the function once more, on a tape."""
        replacement = iter(tensors)
        args = [next(replacement) if a is _HERE else a for a in self._args]
        mode = self._mode
        changes = {
            "grad": True,
            "training": mode.training,
            "scope": mode.scope,
            "streams": self._streams,
            "updates": _Again(self._read),
            "device": mode.device,
            "stand_ins": mode.stand_ins,
        }
        with surroundings(**changes), self._streams.rewound(self._calls, *self._place):
            results = self._function(*args, **self._options)
        return results if isinstance(results, tuple) else (results,)


_HERE = object()


class _CheckpointNode(Node):
    """A part of the computation that is run again when the gradient passes."""

    __slots__ = ("_captured", "_run", "_tensors")

    def __init__(
        self,
        run: _Run,
        tensors: tuple[Tensor, ...],
        edges: list[Edge],
        captured: list[Edge],
        outputs: tuple[Tensor, ...],
    ) -> None:
        self.number = next_number()
        self.device = outputs[0].device
        self.outputs = tuple(Form(t.shape, t.dtype) for t in outputs)
        self.parents = (*edges, *captured)
        self.scope = current().scope
        self.hooks = None
        self._run: _Run | None = run
        self._tensors: tuple[Tensor, ...] | None = tensors
        self._captured = captured

    def name(self) -> str:
        """Return what users know this step as."""
        return "checkpoint"

    def release(self) -> None:
        """Forget the arguments."""
        self._run = None
        self._tensors = None

    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Run again, sweep to the border, hand the gradients on."""
        leaves = tuple(target for target, index in self._captured if index < 0)
        check_saved(self, None if self._tensors is None else (*self._tensors, *leaves))
        assert self._tensors is not None and self._run is not None
        with surroundings(grad=True):
            copies = [self._entry(t, create_graph) for t in self._tensors]
        stop = next_number()
        results = self._run.again(copies)
        forms = tuple(Form(r.shape, r.dtype) for r in results)
        if forms != self.outputs:
            raise RuntimeError(
                f"a checkpointed function gave {self.outputs} the first time and {forms} the second; it must give the "
                f"same when it is called again"
            )
        roots, seeds = [], []
        for result, gradient in zip(results, gradients, strict=True):
            if gradient is not None and result.requires_grad:
                roots.append(result)
                seeds.append(gradient)
        arrived = {
            (id(target), index): gradient for target, index, gradient in collect(roots, seeds, create_graph, stop)
        }
        handed = []
        for copy in copies:
            edge = edge_of(copy)
            handed.append(None if edge is None else arrived.pop((id(edge[0]), edge[1]), None))
        for target, index in self._captured:
            handed.append(arrived.pop((id(target), index), None))
        if arrived:
            raise RuntimeError(
                "a checkpointed function used other parameters or tensors the second time; it must do the same when it "
                "is called again"
            )
        return handed

    @staticmethod
    def _entry(t: Tensor, create_graph: bool) -> Tensor:
        if create_graph and t.requires_grad:
            copy: Tensor = tensor_operations(t.device).alias(t)
        else:
            copy = Tensor(t.data, t.device, requires_grad=t.requires_grad)
            copy.owner = memory_of(t)
        copy.extra = {"logits": t.logits} if t.logits is not None else None
        return copy
