"""Derivatives of functions: ``grad(f)`` and what belongs to it. Nest them for higher orders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tape import collect, edge_of, next_number
from deepbabysit.autograd.tensor import Tensor, memory_of, tensor
from deepbabysit.kernels.shapes import is_floating, show_shape
from deepbabysit.runtime.context import current, surroundings


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return the function that computes the gradient of a scalar function.

    ``grad(f)(x) = df/dx`` at ``x``, of the form of ``x``: a Tensor, or nested lists, tuples and dicts of Tensors
    (``None`` stands where an entry cannot have a gradient: whole numbers, strings, None).

    Arguments:
        f: a function of Tensors that returns one number.
        argnums: which positional argument to derive by; a sequence gives a tuple of gradients.

    The result is itself a function of Tensors: ``grad(grad(f))`` works, and so does ``backward()`` through it where `f`
    depends on other tensors or parameters that require a gradient. ``.grad`` of nothing is changed.

    Raises:
        ValueError: `f` did not return one number.
        TypeError: an argument holds nothing that can have a gradient.
        IndexError: there is no such argument.

    >>> import deepbabysit as db
    >>> db.grad(lambda x: (x * x * x).sum())(db.tensor([2.0, 3.0])).tolist()
    [12.0, 27.0]
    >>> db.grad(db.grad(lambda x: x * x * x))(db.tensor(2.0)).item()
    12.0
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def gradient(*args: Any, **options: Any) -> Any:
        return both(*args, **options)[1]

    return gradient


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return the function that computes a scalar function's value and its gradient in one pass; see `grad`.

    >>> import deepbabysit as db
    >>> value, gradient = db.value_and_grad(lambda w: (w["a"] * w["b"]).sum())(
    ...     {"a": db.tensor([2.0]), "b": db.tensor([5.0])}
    ... )
    >>> value.item(), gradient["a"].tolist(), gradient["b"].tolist()
    (10.0, [5.0], [2.0])
    """
    positions = (argnums,) if isinstance(argnums, int | np.integer) else tuple(argnums)

    @functools.wraps(f, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def both(*args: Any, **options: Any) -> tuple[Any, Any]:
        values = list(args)
        entries: list[Tensor] = []
        chosen = []
        for position in positions:
            if not -len(args) <= position < len(args):
                raise IndexError(f"grad: argument {position} does not exist; {len(args)} were given")
            before = len(entries)
            values[position] = _enter(args[position], entries)
            if len(entries) == before:
                raise TypeError(
                    f"grad: argument {position} holds no floating numbers, so there is no gradient by it; got "
                    f"{_describe(args[position])}"
                )
            chosen.append(values[position])
        border = next_number()
        with surroundings(grad=True):
            result = f(*values, **options)
        if not isinstance(result, Tensor):
            raise ValueError(f"grad: the function must return a Tensor of one element; got {_describe(result)}")
        if result.size != 1:
            raise ValueError(
                f"grad: the function must return one number; got shape {show_shape(result.shape)}. "
                f"Reduce it first, for example with .sum()"
            )
        create_graph = current().grad and _reaches_outside(result, border, {id(t) for t in entries if t.node is None})
        arrived = {}
        if result.requires_grad:
            seed = tensor_operations(result.device).full(result.shape, 1.0, result.dtype)
            found = collect((result,), (seed if create_graph else seed.data,), create_graph, border)
            arrived = {(id(target), index): gradient for target, index, gradient in found}
        gradients = {}
        for t in entries:
            target, index = edge_of(t)
            gradient = arrived.get((id(target), index))
            if gradient is None:
                gradient = tensor_operations(t.device).full(t.shape, 0.0, t.dtype)
            elif not create_graph:
                gradient = Tensor(gradient, t.device)
            gradients[id(t)] = gradient
        if not create_graph:
            result = result.detach()
        found_by_argument = [_leave(value, gradients) for value in chosen]
        single = isinstance(argnums, int | np.integer)
        return result, found_by_argument[0] if single else tuple(found_by_argument)

    return both


def hessian_vector_product(f: Callable[[Any], Any], x: Any, vector: Any) -> Any:
    """Multiply the Hessian of a scalar function with a vector: ``H v = d/dx (df/dx . v)``, without building ``H``.

    Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994).

    Arguments:
        f: a function of one argument that returns one number.
        x: a Tensor, or nested lists, tuples and dicts of Tensors.
        vector: of the same form.

    >>> import deepbabysit as db
    >>> f = lambda x: (x * x * x).sum()
    >>> hessian_vector_product(f, db.tensor([1.0, 2.0]), db.tensor([1.0, 1.0])).tolist()
    [6.0, 12.0]
    """
    vectors: list[Tensor] = []
    _enter(vector, vectors)
    constants = [v.detach() for v in vectors]

    def slope(values: Any) -> Any:
        gradients: list[Tensor] = []
        _flatten(grad(f)(values), gradients)
        if [g.shape for g in gradients] != [v.shape for v in constants]:
            raise ValueError("hessian_vector_product: the vector must have the form of x")
        total = None
        for g, v in zip(gradients, constants, strict=True):
            part = (g * v).sum()
            total = part if total is None else total + part
        return total

    return grad(slope)(x)


def _enter(value: Any, entries: list[Tensor]) -> Any:
    """Return the argument with every floating Tensor (or array) replaced by one that gradients end at."""
    if isinstance(value, Tensor):
        if not is_floating(value.dtype):
            return value
        if value.requires_grad and current().grad:
            entry: Tensor = tensor_operations(value.device).alias(value)
            entry.extra = {"logits": value.logits} if value.logits is not None else None
        else:
            entry = Tensor(value.data, value.device, requires_grad=True)
            entry.owner = memory_of(value)
        entries.append(entry)
        return entry
    if isinstance(value, dict):
        return {key: _enter(item, entries) for key, item in value.items()}
    if isinstance(value, list | tuple) and not _is_numbers(value):
        items = [_enter(item, entries) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, float | np.ndarray | np.floating | list | tuple):
        return _enter(tensor(value), entries)
    return value


def _is_numbers(value: Any) -> bool:
    """Tell whether nested lists hold nothing but Python numbers, so that they are one array."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_numbers(item) for item in value)
    return isinstance(value, float | int) and not isinstance(value, bool)


def _leave(value: Any, gradients: dict[int, Tensor]) -> Any:
    """Return the gradients in the form of the argument."""
    if isinstance(value, Tensor):
        return gradients.get(id(value))
    if isinstance(value, dict):
        return {key: _leave(item, gradients) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_leave(item, gradients) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return None


def _flatten(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, dict):
        for item in value.values():
            _flatten(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _flatten(item, found)


def _reaches_outside(result: Tensor, border: int, own: set[int]) -> bool:
    """Tell whether a result depends on anything that requires a gradient beside the entries made here."""
    seen: set[int] = set()
    waiting = [edge_of(result)]
    while waiting:
        edge = waiting.pop()
        if edge is None:
            continue
        target, index = edge
        if index < 0:
            if id(target) not in own:
                return True
        elif target.number <= border:
            return True  # an entry that continues an outer graph, or a tensor from outside
        elif id(target) not in seen:
            seen.add(id(target))
            waiting.extend(target.parents)
    return False


def _describe(value: Any) -> str:
    return type(value).__name__ if not isinstance(value, Tensor) else f"a Tensor of {value.dtype}"
