"""Function: an operation with a derivative of its own, written by a user."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, final

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tape import Node, edge_of, next_number
from deepbabysit.autograd.tensor import Tensor, as_tensor, check_saved, stand_in, tensor
from deepbabysit.kernels.shapes import is_floating, show_shape
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.context import current, surroundings
from deepbabysit.runtime.device import Device


class Function(ABC):
    """An operation that says itself how its gradient is computed.

    Subclasses write ``forward(self, *tensors, **options)``, which returns a Tensor or a tuple of Tensors, and
    ``backward(self, *gradients)``, which takes one gradient per output and returns one gradient (or None) per input.
    What `backward` needs is kept with ``self.save(...)`` and read from ``self.saved``; plain numbers may be kept as
    attributes. `forward` runs without recording. A `backward` written with operations can itself be derived
    (``create_graph=True``) as long as only inputs, outputs and integer or boolean tensors were saved.

    PyTorch's spelling works as well: static ``forward(ctx, ...)`` and ``backward(ctx, ...)`` with
    ``ctx.save_for_backward`` and ``ctx.saved_tensors``, called by ``apply``; `ctx` is the object of this call.

    Each call works on a copy of the object, so one object can be called many times.

    Raises:
        ValueError: `backward` returned another number of gradients, or a gradient of another shape.
        TypeError: `forward` or `backward` returned something that is no Tensor.

    >>> import deepbabysit as db
    >>> class Square(db.Function):
    ...     def forward(self, x):
    ...         self.save(x)
    ...         return x * x
    ...     def backward(self, gradient):
    ...         (x,) = self.saved
    ...         return gradient * x * 2.0
    >>> x = db.tensor([3.0], requires_grad=True)
    >>> Square()(x).backward()
    >>> x.grad.tolist()
    [6.0]
    """

    _saved: tuple[Tensor, ...] = ()
    _seen: tuple[Tensor, ...] | None = None

    @abstractmethod
    def forward(self, *tensors: Any, **options: Any) -> Any:
        """Compute the outputs."""

    @abstractmethod
    def backward(self, *gradients: Any) -> Any:
        """Compute one gradient (or None) per input from one gradient per output."""

    @final
    def save(self, *tensors: Tensor) -> None:
        """Keep tensors for `backward` (called in `forward`)."""
        for position, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(
                    f"{type(self).__name__}.save: argument {position} is a {type(t).__name__}, not a Tensor; "
                    f"keep other values as attributes of self"
                )
        self._saved = tensors

    @property
    def saved(self) -> tuple[Tensor, ...]:
        """The tensors that `forward` kept."""
        return self._saved if self._seen is None else self._seen

    def save_for_backward(self, *tensors: Tensor) -> None:
        """PyTorch's name of `save`."""
        self.save(*tensors)

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]:
        """PyTorch's name of `saved`."""
        return self.saved

    @final
    def _method(self, name: str) -> Any:
        """Return forward or backward; PyTorch's static spelling gets this object as its first argument, ``ctx``."""
        written = next(c.__dict__[name] for c in type(self).__mro__ if name in c.__dict__)
        found = getattr(self, name)
        return partial(found, self) if isinstance(written, staticmethod) else found

    @final
    def __call__(self, *values: Any, **options: Any) -> Any:
        """Run `forward`, and put the call on the tape where a gradient is needed."""
        name = type(self).__name__
        inputs = _as_tensors(values)
        mode = current()
        if any(t.device.abstract for t in inputs) and not mode.scope:
            raise TypeError(
                f"{name} was called with a symbolic Input outside of a layer; its own derivative would be lost. "
                f"Call it in the call() of a Layer, or wrap it: db.layers.Lambda({name}())"
            )
        run = copy.copy(self)
        run._saved = ()
        with surroundings(grad=False):
            results = run._method("forward")(*inputs, **options)
        outputs = results if isinstance(results, tuple) else (results,)
        for t in outputs:
            if not isinstance(t, Tensor):
                raise TypeError(f"{name}.forward must return a Tensor or a tuple of Tensors; got {type(t).__name__}")
        node = None
        device = inputs[0].device if inputs else None
        if device is not None and not device.abstract and mode.grad and any(t.requires_grad for t in inputs):
            node = _FunctionNode(run, inputs, outputs, mode.scope)
        wrapped = []
        for index, t in enumerate(outputs):
            flows = node if is_floating(t.dtype) else None
            result = Tensor(t.data, t.device, flows, index, flows is not None)
            result.owner = t.owner if t.owner is not None else t if any(t is x for x in inputs) else None
            wrapped.append(result)
        return tuple(wrapped) if isinstance(results, tuple) else wrapped[0]

    @classmethod
    def apply(cls, *values: Any, **options: Any) -> Any:
        """Make an object without arguments and call it: ``Square.apply(x)``."""
        return cls()(*values, **options)


def _as_tensors(values: Sequence[Any]) -> tuple[Tensor, ...]:
    like = next((v for v in values if isinstance(v, Tensor)), None)
    return tuple(
        stand_in(v) if isinstance(v, Tensor) else tensor(v) if like is None else as_tensor(v, like) for v in values
    )


class _FunctionNode(Node):
    """One call of a Function on the tape."""

    __slots__ = ("_function", "_inputs", "_made")

    def __init__(self, function: Function, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], scope: str) -> None:
        self.number = next_number()
        self.parents = tuple(edge_of(t) for t in inputs)
        self.device: Device = inputs[0].device
        self.outputs = tuple(Form(t.shape, t.dtype) for t in outputs)
        self.scope = scope
        self.hooks = None
        self._function: Function | None = function
        self._inputs = tuple((Form(t.shape, t.dtype), t.device) for t in inputs)
        # for each saved tensor: ("input", tensor), ("output", position) or ("other", tensor)
        self._made = tuple(self._origin(t, inputs, outputs) for t in function.saved)

    @staticmethod
    def _origin(t: Tensor, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> tuple[str, int]:
        for position, candidate in enumerate(inputs):
            if t is candidate:
                return ("input", position)
        for position, candidate in enumerate(outputs):
            if t is candidate:
                return ("output", position)
        return ("other", 0)

    def name(self) -> str:
        """Return the name of the Function's class."""
        return "?" if self._function is None else type(self._function).__name__

    def release(self) -> None:
        """Forget saved values."""
        self._function = None

    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Run the user's backward."""
        function = self._function
        saved = check_saved(self, None if function is None else function._saved)
        assert function is not None
        given = tuple(
            _zeros(form, self.device) if g is None else g if create_graph else Tensor(g, self.device)
            for g, form in zip(gradients, self.outputs, strict=True)
        )
        run = copy.copy(function)
        run._seen = tuple(
            self._derivable(t, kind, position, create_graph)
            for t, (kind, position) in zip(saved, self._made, strict=True)
        )
        results = run._method("backward")(*given)
        return self._checked(results if isinstance(results, tuple | list) else (results,), create_graph)

    def _derivable(self, t: Tensor, kind: str, position: int, create_graph: bool) -> Tensor:
        if not create_graph:
            return t
        if kind == "output":
            return Tensor(t.data, t.device, self, position, is_floating(t.dtype))
        if kind == "other" and is_floating(t.dtype):
            raise RuntimeError(
                f"{self.name()} saved a tensor that is neither an input nor an output of forward (shape "
                f"{show_shape(t.shape)}): its dependence on the inputs is unknown, so a second derivative would be "
                f"wrong. Save inputs and outputs, and compute the rest in backward"
            )
        return t

    def _checked(self, results: Sequence[Any], create_graph: bool) -> list[Any]:
        name = self.name()
        if len(results) != len(self._inputs):
            raise ValueError(
                f"{name}.backward returned {len(results)} gradients; forward has {len(self._inputs)} inputs, and each "
                f"needs one (None where there is none)"
            )
        checked: list[Any] = []
        for position, (result, (form, device), edge) in enumerate(
            zip(results, self._inputs, self.parents, strict=True)
        ):
            if result is None or edge is None:
                checked.append(None)
                continue
            if not isinstance(result, Tensor):
                raise TypeError(
                    f"{name}.backward: gradient {position} is a {type(result).__name__}; return a Tensor or None"
                )
            if result.shape != form.shape:
                raise ValueError(
                    f"{name}.backward: gradient {position} has shape {show_shape(result.shape)}; "
                    f"the input has {show_shape(form.shape)}"
                )
            if result.device is not device:
                raise ValueError(f"{name}.backward: gradient {position} is on {result.device}, the input on {device}")
            result = result.astype(form.dtype)
            checked.append(result if create_graph else result.data)
        return checked


def _zeros(form: Form, device: Device) -> Tensor:
    return tensor_operations(device).full(form.shape, 0.0, form.dtype)
