"""The functional model: the graph between symbolic inputs and outputs, run layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels.shapes import BATCH, show_shape
from deepbabysit.kernels.spec import KernelSpec
from deepbabysit.layers.fusion import fusible, rectifies
from deepbabysit.layers.layer import Layer


@dataclass(slots=True)
class Step:
    """One call of the graph.

    Attributes:
        run: the layer, or the operation where a user wrote ``x + y`` on symbolic tensors.
        inputs: the arguments; symbolic tensors stand for values that are computed.
        options: keyword arguments or attributes.
        outputs: the symbolic tensors that it makes (None where nobody uses them).
        then: the only call that uses its result, where both may run as one.
    """

    run: Layer | KernelSpec
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    outputs: list[Tensor | None]
    then: Step | None = None


def trace(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Step]:
    """Return the calls that lead from inputs to outputs, each after what it needs.

    Raises:
        ValueError: an output does not depend on the inputs, or needs an input that is not listed.
    """
    known = {id(x) for x in inputs}
    steps: dict[Any, Step] = {}
    order: list[Step] = []
    done: set[int] = set()
    stack: list[tuple[Tensor, bool]] = [(y, False) for y in reversed(outputs)]
    while stack:
        tensor, expanded = stack.pop()
        if id(tensor) in known or (id(tensor) in done and not expanded):
            continue
        origin = tensor.extra.get("origin") if tensor.extra else None
        if origin is None:
            if tensor.device.abstract:
                named = tensor.extra.get("input", "") if tensor.extra else ""
                raise ValueError(
                    f"the outputs depend on {named or 'a symbolic tensor'} of shape {show_shape(tensor.shape)}, which "
                    f"is not among the model's inputs; list every Input"
                )
            continue  # a constant
        run, arguments, options, index = origin
        if not expanded:
            done.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((x, False) for x in reversed(flat((arguments, tuple(options.values())))))
            continue
        # outputs of one call share it: the same arguments object marks them
        key = (id(run), id(arguments))
        step = steps.get(key)
        if step is None:
            step = steps[key] = Step(run, arguments, options, [])
            order.append(step)
        while len(step.outputs) <= index:
            step.outputs.append(None)
        step.outputs[index] = tensor
    return order


def pair(steps: Sequence[Step], outputs: Sequence[Tensor]) -> None:
    """Find the calls that may run as one: nobody else uses what the first hands to the second."""
    users: dict[int, list[Step]] = {}
    for step in steps:
        for argument in flat((step.inputs, tuple(step.options.values()))):
            users.setdefault(id(argument), []).append(step)
    kept = {id(output) for output in outputs}
    for step in steps:
        made = step.outputs[0]
        found = users.get(id(made), [])
        if len(found) == 1 and id(made) not in kept and rectifies(step.run, found[0].run) and not found[0].options:
            step.then = found[0]


def run_steps(steps: Sequence[Step], values: dict[int, Any]) -> None:
    """Run the calls in order; `values` maps ``id(symbolic tensor)`` to its value and is filled."""

    def value(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return values.get(id(argument), argument)
        if isinstance(argument, list | tuple):
            return type(argument)(value(item) for item in argument)
        return argument

    done: set[int] = set()
    for step in steps:
        if id(step) in done:
            continue
        arguments = [value(argument) for argument in step.inputs]
        then = step.then
        if then is not None and fusible(step.run, then.run, arguments[0]):
            values[id(then.outputs[0])] = step.run(*arguments, **step.options, rectify=True)  # type: ignore[operator]
            done.add(id(then))
            continue
        run: Callable[..., Any] = step.run if isinstance(step.run, Layer) else _operation(step.run)
        options = {name: value(option) for name, option in step.options.items()}
        result = run(*arguments, **options)
        results = flat((result,))
        for symbol, found in zip(step.outputs, results, strict=False):
            if symbol is not None:
                values[id(symbol)] = found


def _operation(spec: KernelSpec) -> Callable[..., Any]:
    def run(*tensors: Tensor, **attrs: Any) -> Any:
        device = next((t.device for t in tensors if t.ndim), tensors[0].device)
        here = tuple([t if t.device is device or device.abstract else t.to(device) for t in tensors])  # constants
        return apply(spec, here, _with_batch(attrs, here))

    return run


def _with_batch(attrs: dict[str, Any], tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    """Put the real batch length where an attribute holds the symbolic one (a shape to reshape to)."""
    batch = tensors[0].shape[0] if tensors and tensors[0].shape else 1
    return {
        name: tuple(n // BATCH * batch if isinstance(n, int) and n >= BATCH and n % BATCH == 0 else n for n in value)
        if isinstance(value, tuple)
        else value
        for name, value in attrs.items()
    }


def flat(values: Any) -> list[Tensor]:
    """Return the tensors in nested lists and tuples, in order."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(flat(value))
    return found


def as_inputs(value: Any, what: str) -> list[Tensor]:
    """Return what a user gave as the inputs or outputs of a model as a list of symbolic tensors.

    Raises:
        TypeError: something else was given.
    """
    if isinstance(value, dict):
        value = list(value.values())
    items = list(value) if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, Tensor) or not item.device.abstract:
            raise TypeError(
                f"the {what} of a model must be symbolic tensors (db.Input and what is computed from "
                f"it); got {type(item).__name__}"
            )
    return items
