"""Tensor, and `apply`: how an operation on tensors runs and gets on the tape.

This file is over 600 lines because the methods that users expect on an array stand in one class, and the class, its
tape node and `apply` need each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from deepbabysit.autograd.hints import absent
from deepbabysit.autograd.raw import raw_operations
from deepbabysit.autograd.tape import HANDED, Edge, Node, next_number, sweep
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.activations import REMEMBERED
from deepbabysit.kernels.shapes import is_floating, is_half, show_shape
from deepbabysit.kernels.spec import Array, Attrs, Form, KernelSpec
from deepbabysit.kernels.structure import basic_key
from deepbabysit.runtime.context import current, surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import NO_ATTRS, Plan, call, execute, find_plan
from deepbabysit.runtime.reference import ShapeArray
from deepbabysit.runtime.registry import default_device, find_device, shapes_device
from deepbabysit.runtime.sharing import HOST_MEMORY, share

_NUMBERS = (float, int, bool, np.floating, np.integer, np.bool_)
_REMEMBERED = frozenset(REMEMBERED)


class Tensor:
    """An array on a device that knows how it was computed. Its values never change.

    Attributes:
        data: the raw array of the backend.
        device: where it is.
        node: the step that made it, or None for a leaf.
        index: which output of that step it is.
        requires_grad: whether gradients flow to it.
        grad: the accumulated gradient of a leaf, or None.
        owner: the leaf whose memory it shares, or None.
    """

    __slots__ = (
        "__weakref__", "data", "device", "extra", "grad", "index", "node", "overwritten", "owner", "requires_grad",
    )
    __array_ufunc__ = None  # NumPy arrays leave mixed arithmetic to us
    __array_priority__ = 1000

    def __init__(
        self, data: Array, device: Device, node: Node | None = None, index: int = 0, requires_grad: bool = False
    ) -> None:
        self.data = data
        self.device = device
        self.node = node
        self.index = index
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.owner: Tensor | None = None
        self.overwritten = 0  # number on the tape of the last change in place
        self.extra: dict[str, Any] | None = None

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.data.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.data.shape)

    @property
    def T(self) -> Tensor:  # noqa: N802  (NumPy's name)
        """The tensor with its axes in reverse order."""
        return self.transpose()

    def __len__(self) -> int:
        if not self.data.shape:
            raise TypeError("a tensor without axes has no len()")
        return int(self.data.shape[0])

    def __repr__(self) -> str:
        tail = f", device={self.device}" if self.device.name != "cpu" else ""
        tail += ", requires_grad=True" if self.requires_grad else ""
        if self.device.abstract:
            return f"Tensor(shape={show_shape(self.shape)}, dtype={self.dtype}{tail})"
        values = np.array2string(self._host("repr()"), separator=", ", prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype}{tail})"

    def __format__(self, specification: str) -> str:
        return format(self.item() if self.size == 1 and specification else str(self), specification)

    # -- to the host -----------------------------------------------------------------------------------------------

    def _host(self, what: str) -> np.ndarray:
        recorder = current().recorder
        if recorder is not None:
            recorder.refuse(f"{what} reads values on the host, which a recorded step cannot repeat")
        return self.device.to_host(self.data)

    def numpy(self) -> np.ndarray:
        """Return the values as a NumPy array that cannot be written to."""
        view = self._host("numpy()").view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.data.shape and self.size != 1:
            raise ValueError(f"item() needs a tensor of one element; this one has shape {show_shape(self.shape)}")
        if type(self.data) is np.ndarray and current().recorder is None:
            return self.data.item()  # what loops read after every step, with few calls
        return self._host("item()").item()

    def tolist(self) -> Any:
        """Return the values as nested lists."""
        return self._host("tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.numpy()
        return np.array(values, dtype=dtype) if copy or dtype not in (None, values.dtype) else values

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Let NumPy's functions work on the values: ``np.mean(x)`` gives what ``np.mean(x.numpy())`` does."""
        return function(*_plain(args), **_plain(kwargs))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only a tensor of whole numbers can be an index; this one holds {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"a tensor of shape {show_shape(self.shape)} is neither true nor false; use .any() or .all()"
            )
        return bool(self.item())

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        recorder = current().recorder
        if recorder is not None:
            recorder.refuse("__dlpack__() hands memory over that a recorded step uses again")
        return share(self.device, self.data, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    # -- gradients -------------------------------------------------------------------------------------------------

    def backward(self, gradient: Any = None, create_graph: bool = False, release: bool = False) -> None:
        """Compute the gradient of this tensor for every leaf it was made from, and add it to their ``.grad``.

        Arguments:
            gradient: gradient of the final result with respect to this tensor, of its shape; may be left out for a
                tensor of one element.
            create_graph: record the computation of the gradients, for higher derivatives.
            release: give saved values back as soon as they are used; backward can then not be called again.

        Raises:
            RuntimeError: nothing here requires a gradient, or saved values were overwritten.
            ValueError: the gradient is missing or has another shape.

        >>> import deepbabysit as db
        >>> x = db.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad.tolist()
        [2.0, 4.0]
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() was called on a tensor that does not depend on anything with requires_grad=True"
                + (" (operations run under no_grad() are not recorded)" if not current().grad else "")
            )
        seed = self._seed(gradient)
        sweep((self,), (seed if create_graph else seed.data,), None, create_graph, release)

    def _seed(self, gradient: Any) -> Tensor:
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward() starts from one number; this tensor has shape {show_shape(self.shape)}. "
                    f"Reduce it first, for example with .mean(), or pass a gradient of that shape"
                )
            ones = np.ones(self.shape, self.dtype)
            return Tensor(
                self.device.constant(1.0, self.dtype) if not self.shape else self.device.asarray(ones), self.device
            )
        found = as_tensor(gradient, self)
        if found.shape != self.shape:
            raise ValueError(
                f"the gradient must have the tensor's shape {show_shape(self.shape)}; got {show_shape(found.shape)}"
            )
        return found if found.dtype == self.dtype else found.astype(self.dtype)

    def accumulate(self, gradient: Array) -> None:
        """Add a raw gradient to ``.grad`` (called by the tape)."""
        slot = self.extra.get("slot") if self.extra else None
        if slot is not None and slot.dtype != gradient.dtype:
            (gradient,) = call(self.device, SPECS["astype"], (gradient,), {"dtype": slot.dtype})
        if self.grad is None:
            if slot is None:
                self.grad = Tensor(gradient, self.device)
            else:
                call(self.device, SPECS["copy"], (gradient,), outs=(slot,))
                self.grad = Tensor(slot, self.device)
        elif slot is not None and self.grad.data is slot:
            call(self.device, SPECS["add"], (slot, gradient), outs=(slot,))
        else:
            self.grad = Tensor(raw_operations(self.device).add(self.grad.data, gradient), self.device)

    def detach(self) -> Tensor:
        """Return the same values as a constant."""
        result = Tensor(self.data, self.device)
        result.owner = _leaf_memory(self)
        return result

    @property
    def hooks(self) -> list[Callable[[Tensor], Tensor | None]]:
        """Functions that see the gradient of a leaf."""
        return self.extra.get("hooks", []) if self.extra else []

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call a function with this tensor's complete gradient during backward; what it returns takes its place.

        Returns:
            A function that removes the hook.
        """
        if not self.requires_grad:
            raise RuntimeError("a gradient hook needs a tensor with requires_grad=True")
        if self.node is not None:
            table = self.node.hooks = self.node.hooks or {}
            hooks = table.setdefault(self.index, [])
        else:
            self.extra = self.extra or {}
            hooks = self.extra.setdefault("hooks", [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    # -- what it remembers -----------------------------------------------------------------------------------------

    def remember(self, activation: str, logits: Tensor, attrs: Attrs) -> None:
        """Remember what an activation was computed from, so that a loss can use the logits."""
        self.extra = self.extra or {}
        self.extra["logits"] = (activation, logits, attrs.get("axis", -1))

    @property
    def logits(self) -> tuple[str, Tensor, int] | None:
        """The activation that made this tensor, its input and axis; None where it was something else."""
        return self.extra.get("logits") if self.extra else None

    def inherit(self, source: Tensor, spec: KernelSpec, attrs: Attrs) -> None:
        """Keep the memory of the logits through a reshape or a cast, by doing the same to the logits."""
        logits = source.logits
        if logits is None or spec.name not in ("reshape", "astype", "stop_gradient", "flatten_rows"):
            return
        activation, before, axis = logits
        if spec.name in ("reshape", "flatten_rows") and activation != "sigmoid":
            if self.ndim < 1 or self.shape[-1] != source.shape[-1] or axis % source.ndim != source.ndim - 1:
                return  # the classes are no longer the last axis
            axis = -1
        self.extra = self.extra or {}
        self.extra["logits"] = (activation, apply(spec, (before,), attrs), axis)

    def remember_origin(self, spec: KernelSpec, tensors: tuple[Tensor, ...], attrs: Attrs, index: int) -> None:
        """Remember, for a symbolic tensor, which operation makes it; models are built from that."""
        self.extra = self.extra or {}
        self.extra["origin"] = (spec, tensors, attrs, index)

    def overwrite(self, values: Array, by: str) -> None:
        """Copy raw values into the memory of a leaf; backward through what saved it before is an error from here on.

        Arguments:
            values: a raw array of the same shape on the same device.
            by: what does it, for the message.
        """
        call(self.device, SPECS["copy"], (values,), outs=(self.data,))
        copy = self.extra.get("copy") if self.extra else None
        if copy is not None:
            call(self.device, SPECS["astype"], (values,), {"dtype": copy.dtype}, outs=(copy,))
        self.mark_overwritten(by)

    def mark_overwritten(self, by: str) -> None:
        """Say that the memory was changed in place."""
        self.overwritten = next_number()
        self.extra = self.extra or {}
        self.extra["overwritten_by"] = by

    @property
    def overwritten_by(self) -> str:
        """Who changed the memory last."""
        return str(self.extra.get("overwritten_by", "an unknown change")) if self.extra else "an unknown change"

    # -- moving and converting -------------------------------------------------------------------------------------

    def to(self, device: str | Device) -> Tensor:
        """Return the tensor on another device; gradients flow back."""
        target = find_device(device)
        if target is self.device:
            return self
        recorder = current().recorder
        if recorder is not None:
            recorder.refuse(f"to({target.name!r}) moves values through the host, which a recorded step cannot repeat")
        moved = Tensor(target.asarray(self.device.to_host(self.data)), target)
        if self.requires_grad and current().grad:
            moved.node = _MoveNode(self, target)
            moved.requires_grad = True
        return moved

    def cpu(self) -> Tensor:
        """Return the tensor on the CPU."""
        return self.to("cpu")

    def astype(self, dtype: Any) -> Tensor:
        """Convert to another dtype."""
        target = np.dtype(dtype)
        if target == self.dtype:
            return self
        result: Tensor = apply(SPECS["astype"], (self,), {"dtype": target})
        if self.extra is not None:
            result.inherit(self, SPECS["astype"], {"dtype": target})
        return result

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return apply(_ADD, (self, other) if isinstance(other, Tensor) else _pair(self, other))

    def __radd__(self, other: Any) -> Tensor:
        return apply(_ADD, _pair(self, other)[::-1])

    def __sub__(self, other: Any) -> Tensor:
        return apply(_SUBTRACT, (self, other) if isinstance(other, Tensor) else _pair(self, other))

    def __rsub__(self, other: Any) -> Tensor:
        return apply(_SUBTRACT, _pair(self, other)[::-1])

    def __mul__(self, other: Any) -> Tensor:
        return apply(_MULTIPLY, (self, other) if isinstance(other, Tensor) else _pair(self, other))

    def __rmul__(self, other: Any) -> Tensor:
        return apply(_MULTIPLY, _pair(self, other)[::-1])

    def __truediv__(self, other: Any) -> Tensor:
        return _divide(*_pair(self, other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _divide(*_pair(self, other)[::-1])

    def __pow__(self, other: Any) -> Tensor:
        if other == 2 and isinstance(other, int | float):
            return apply(_MULTIPLY, (self, self))
        return apply(SPECS["power"], _pair(self, other))

    def __rpow__(self, other: Any) -> Tensor:
        return apply(SPECS["power"], _pair(self, other)[::-1])

    def __neg__(self) -> Tensor:
        return apply(SPECS["negative"], (self,))

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return apply(SPECS["absolute"], (self,))

    def __matmul__(self, other: Any) -> Tensor:
        return _product(self, other if isinstance(other, Tensor) else as_tensor(other, self))

    def __rmatmul__(self, other: Any) -> Tensor:
        return _product(as_tensor(other, self), self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return apply(SPECS["equal"], _pair(self, other))

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return apply(SPECS["not_equal"], _pair(self, other))

    def __lt__(self, other: Any) -> Tensor:
        return apply(SPECS["less"], _pair(self, other))

    def __le__(self, other: Any) -> Tensor:
        return apply(SPECS["less_equal"], _pair(self, other))

    def __gt__(self, other: Any) -> Tensor:
        return apply(SPECS["greater"], _pair(self, other))

    def __ge__(self, other: Any) -> Tensor:
        return apply(SPECS["greater_equal"], _pair(self, other))

    def __and__(self, other: Any) -> Tensor:
        return apply(SPECS["logical_and"], _pair(self, other))

    def __or__(self, other: Any) -> Tensor:
        return apply(SPECS["logical_or"], _pair(self, other))

    def __invert__(self) -> Tensor:
        return apply(SPECS["logical_not"], (self,))

    __hash__ = object.__hash__

    # -- indexing --------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        basic = basic_key(key, self.ndim)
        if basic is not None:
            return apply(SPECS["getitem"], (self,), {"key": basic})
        return _advanced(self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "tensors do not change: x[i] = v is not possible. Build a new one: db.ops.where(mask, v, x), or "
            "change a NumPy array first and make a tensor of it"
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say how other libraries' spellings are written here; asked only for what does not exist."""
            if name.startswith("__"):
                raise AttributeError(name)
            raise AttributeError(absent(name, dir(type(self)), SPECS))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    # -- methods as in NumPy ---------------------------------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over axes."""
        return apply(SPECS["sum"], (self,), {"axis": axis, "keepdims": keepdims})

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Arithmetic mean over axes; of booleans the share that is true, as float32."""
        if self.dtype == bool:
            return self.astype("float32").mean(axis, keepdims)
        return apply(SPECS["mean"], (self,), {"axis": axis, "keepdims": keepdims})

    def var(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Variance over axes, divided by the count."""
        return apply(SPECS["var"], (self,), {"axis": axis, "keepdims": keepdims})

    def std(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Standard deviation over axes."""
        return self.var(axis, keepdims).sqrt()

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Largest value over axes."""
        return apply(SPECS["max"], (self,), {"axis": axis, "keepdims": keepdims})

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Smallest value over axes."""
        return apply(SPECS["min"], (self,), {"axis": axis, "keepdims": keepdims})

    def argmax(self, axis: int = -1) -> Tensor:
        """Position of the largest value along an axis."""
        return apply(SPECS["argmax"], (self,), {"axis": axis})

    def argmin(self, axis: int = -1) -> Tensor:
        """Position of the smallest value along an axis."""
        return apply(SPECS["argmin"], (self,), {"axis": axis})

    def any(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Tell whether at least one element is not zero."""
        return apply(SPECS["any"], (self,), {"axis": axis, "keepdims": keepdims})

    def all(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Tell whether every element is not zero."""
        return apply(SPECS["all"], (self,), {"axis": axis, "keepdims": keepdims})

    def reshape(self, *shape: Any) -> Tensor:
        """Give another shape: ``x.reshape(2, -1)`` or ``x.reshape((2, -1))``."""
        target = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        return apply(SPECS["reshape"], (self,), {"shape": target})

    def transpose(self, *axes: int) -> Tensor:
        """Put the axes in another order; without arguments in reverse order."""
        order = axes or tuple(range(self.ndim - 1, -1, -1))
        return apply(SPECS["permute_dims"], (self,), {"axes": order})

    def squeeze(self, axis: int) -> Tensor:
        """Remove an axis of length 1."""
        return HANDED.tensor_operations(self.device).squeeze(self, axis)

    def exp(self) -> Tensor:
        """Exponential."""
        return apply(SPECS["exp"], (self,))

    def log(self) -> Tensor:
        """Natural logarithm."""
        return apply(SPECS["log"], (self,))

    def sqrt(self) -> Tensor:
        """Square root."""
        return apply(SPECS["sqrt"], (self,))

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return apply(SPECS["tanh"], (self,))

    def abs(self) -> Tensor:
        """Absolute value."""
        return apply(SPECS["absolute"], (self,))


HANDED.tensor = Tensor
_ADD, _SUBTRACT, _MULTIPLY = SPECS["add"], SPECS["subtract"], SPECS["multiply"]


def _pair(x: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """Return both sides of an operator as tensors; whole numbers meet a fraction as float32."""
    y = other if isinstance(other, Tensor) else as_tensor(other, x)
    if is_floating(y.dtype) and not is_floating(x.dtype) and not isinstance(other, Tensor):
        x = x.astype(y.dtype)
    return x, y


def _plain(value: Any) -> Any:
    """Return arguments of a NumPy function with arrays in place of Tensors."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else value


def _divide(x: Tensor, y: Tensor) -> Tensor:
    if not is_floating(x.dtype) and not is_floating(y.dtype):
        x, y = x.astype(np.float32), y.astype(np.float32)
    return apply(SPECS["divide"], (x, y))


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product that takes vectors as NumPy does."""
    if x.ndim >= 2 and y.ndim >= 2:
        return apply(SPECS["matmul"], (x, y))
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError("matmul needs vectors or matrices; for a number use *")
    left = x.reshape(1, -1) if x.ndim == 1 else x
    right = y.reshape(-1, 1) if y.ndim == 1 else y
    result: Tensor = apply(SPECS["matmul"], (left, right))
    if y.ndim == 1:
        result = result.reshape(result.shape[:-1])
    if x.ndim == 1:
        result = result.reshape((*result.shape[: -2 if y.ndim > 1 else -1], *result.shape[-1:][: y.ndim > 1]))
    return result


def _advanced(x: Tensor, key: Any) -> Tensor:
    """Index with an array of whole numbers (first axis) or a mask (eager only: its shape depends on the data)."""
    items = key if isinstance(key, tuple) else (key,)
    if len(items) != 1:
        raise TypeError(
            "only x[numbers], x[mask] and combinations of whole numbers, slices and None are supported; "
            "for one entry per row use db.ops.take_along_axis(x, indices)"
        )
    index = items[0] if isinstance(items[0], Tensor) else tensor(np.asarray(items[0]), device=x.device)
    if index.dtype.kind == "b":
        mask = index.numpy()
        if mask.shape != x.shape[: mask.ndim]:
            raise IndexError(f"a mask of shape {list(mask.shape)} does not fit a tensor of shape {list(x.shape)}")
        rows = x.reshape((-1, *x.shape[mask.ndim :]))
        index = tensor(np.flatnonzero(mask), device=x.device)
        return apply(SPECS["take"], (rows, index), {"axis": 0})
    return apply(SPECS["take"], (x, index), {"axis": 0})


def tensor(data: Any, dtype: Any = None, device: str | Device | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of values; they are copied.

    Arguments:
        data: a number, nested lists, an array, or a Tensor. Arrays keep their dtype, Python floats become float32.
        dtype: the dtype wanted, or None.
        device: where it shall be; None means the default device (the CPU unless `set_device` chose another).
        requires_grad: whether gradients shall flow to it.

    Raises:
        TypeError: the values are not numbers, or a gradient is asked of whole numbers.

    >>> import deepbabysit as db
    >>> db.tensor([1.0, 2.5]).dtype
    dtype('float32')
    """
    place = default_device() if device is None else find_device(device)
    if isinstance(data, Tensor):
        data = data.data if data.device is place and not place.abstract else data.numpy()
    elif place.backend.adopt is not None and (shared := place.backend.adopt(data)) is not None:
        data = shared
    if current().recorder is not None and np.size(data) > 1:
        current().recorder.refuse("values from the host enter here and a replay would not see new ones")  # type: ignore[union-attr]
    if not place.backend.owns(data):
        values: Any = np.asarray(_on_host(data))
        array = isinstance(data, np.ndarray | np.generic) or hasattr(data, "__dlpack__")
        if dtype is None and values.dtype == np.float64 and not array:
            dtype = np.float32
        data = values
    if data.dtype.kind not in "fiub" and not is_half(data.dtype):
        raise TypeError(
            f"a tensor holds numbers; got {data.dtype} ({type(data).__name__}). "
            f"Encode strings first, for example with db.data.one_hot"
        )
    result = Tensor(place.asarray(data, dtype), place)
    if requires_grad:
        if not is_floating(result.dtype):
            raise TypeError(f"only floating numbers can have a gradient; this tensor holds {result.dtype}")
        result.requires_grad = True
    return result


def _on_host(data: Any) -> Any:
    """Return data that NumPy can read; memory of a GPU says where it is, instead of failing inside its library."""
    ask = getattr(data, "__dlpack_device__", None)
    if ask is not None and not isinstance(data, np.ndarray):
        kind, number = ask()
        if kind not in HOST_MEMORY:
            raise TypeError(
                f"the {type(data).__name__} lies on GPU {number} and the tensor shall lie on the CPU; copy it to the "
                f"host first, or make the tensor there: db.tensor(data, device='cuda:{number}')"
            )
    return data


def memory_of(tensor: Tensor) -> Tensor:
    """Return the tensor whose memory this one uses: itself, or the one it is a view of."""
    owner = tensor.owner
    return tensor if owner is None else owner


def _leaf_memory(tensor: Tensor) -> Tensor | None:
    """Return what `memory_of` does if it can change in place; a step's result cannot, and it would keep its graph."""
    owner = memory_of(tensor)
    return owner if owner.node is None else None


def check_saved(node: Node, saved: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    """Return the tensors a node saved; refuse when they were given back, or overwritten since."""
    where = f" in {node.scope}" if node.scope else ""
    if saved is None:
        raise RuntimeError(
            f"backward has already passed through {node.name()}{where} and its saved values were given back; "
            f"compute the loss again"
        )
    for tensor in saved:
        owner = memory_of(tensor)
        if owner.overwritten > node.number:
            raise RuntimeError(
                f"an array that {node.name()}{where} saved for backward (shape {list(tensor.shape)}) was "
                f"overwritten since, by {owner.overwritten_by}; call backward() before changing it, or compute "
                f"the loss again"
            )
    return saved


class _MoveNode(Node):
    """A move between devices: the gradient moves back."""

    __slots__ = ("_away", "_home")

    def __init__(self, source: Tensor, target: Device) -> None:
        self.number = next_number()
        self.parents = ((source.node, source.index) if source.node is not None else (source, -1),)
        self.device = target
        self.outputs = (Form(source.shape, source.dtype),)
        self.scope = ""
        self.hooks = None
        self._home = source.device
        self._away = target

    def name(self) -> str:
        """Return what users know this step as."""
        return "to"

    def release(self) -> None:
        """Nothing was saved."""

    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Move the gradient back."""
        gradient = gradients[0]
        if create_graph:
            return (gradient.to(self._home),)
        return (self._home.asarray(self._away.to_host(gradient)),)


class KernelNode(Node):
    """One kernel call on the tape."""

    __slots__ = ("plan", "saved_inputs", "saved_outputs")

    def __init__(
        self, plan: Plan, device: Device, tensors: tuple[Tensor, ...], outs: tuple[Array, ...], scope: str
    ) -> None:
        self.number = next_number()
        self.plan = plan
        self.device = device
        self.scope = scope
        self.hooks = None
        self.outputs = plan.outputs
        spec = plan.spec
        only = spec.differentiable
        parents: list[Edge] = []
        for position, t in enumerate(tensors):
            node = t.node
            if node is not None:
                edge: Edge = (node, t.index)
            elif t.requires_grad:
                edge = (t, -1)
            else:
                edge = None
            if only is not None and position not in only:
                edge = None
            parents.append(edge)
        self.parents = tuple(parents)
        # a composite without a fused derivative is derived from its reference, which needs every input
        self.saved_inputs: tuple[Tensor, ...] | None = (
            tensors if spec.vjp is None else tuple([tensors[i] for i in spec.saves_inputs if i < len(tensors)])
        )
        self.saved_outputs = tuple([outs[i] for i in spec.saves_outputs])

    def name(self) -> str:
        """Return the operation's name."""
        return self.plan.spec.name

    def release(self) -> None:
        """Forget saved values."""
        self.saved_inputs = None
        self.saved_outputs = ()

    def _check_saved(self) -> tuple[Tensor, ...]:
        return check_saved(self, self.saved_inputs)

    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Run the operation's derivative."""
        plan = self.plan
        spec = plan.spec
        saved = self._check_saved()
        needs = tuple([edge is not None for edge in self.parents])
        if spec.vjp is None:
            return self._derive(gradients, saved, needs, create_graph)
        x: list[Any] = list(plan.inputs)
        out: list[Any] = list(plan.outputs)
        if create_graph:
            for position, tensor in zip(spec.saves_inputs, saved, strict=False):
                x[position] = tensor
            for position, array in zip(spec.saves_outputs, self.saved_outputs, strict=True):
                out[position] = Tensor(array, self.device, self, position, requires_grad=True)
        else:
            for position, tensor in zip(spec.saves_inputs, saved, strict=False):
                x[position] = tensor.data
            for position, array in zip(spec.saves_outputs, self.saved_outputs, strict=True):
                out[position] = array
        result: Sequence[Any] = spec.vjp(op, gradients, x, out, needs, **plan.attrs)
        return result

    def _derive(
        self, gradients: list[Any], saved: tuple[Tensor, ...], needs: tuple[bool, ...], create_graph: bool
    ) -> Sequence[Any]:
        """Derive a composite from its reference: run it on Tensors, sweep that small graph."""
        spec = self.plan.spec
        stop = 0
        with surroundings(grad=True):
            operations = HANDED.tensor_operations(self.device)
            if create_graph:
                copies = [operations.alias(t) if need else t for t, need in zip(saved, needs, strict=True)]
            else:
                copies = [
                    Tensor(t.data, t.device, requires_grad=need) for t, need in zip(saved, needs, strict=True)
                ]
            stop = next_number()  # the sweep ends at the copies: what lies before them has its own turn
            results = spec.reference(operations, *copies, **self.plan.attrs)
        if not isinstance(results, tuple):
            results = (results,)
        roots, seeds = [], []
        for result, gradient in zip(results, gradients, strict=True):
            if gradient is not None and result.requires_grad:
                roots.append(result)
                seeds.append(gradient)
        wanted = [copy for copy, need in zip(copies, needs, strict=True) if need]
        found = iter(sweep(roots, seeds, wanted, create_graph, stop=stop))
        return [next(found) if need else None for need in needs]


def apply(spec: KernelSpec, tensors: tuple[Tensor, ...], attrs: Attrs = NO_ATTRS) -> Any:
    """Run an operation on tensors and put it on the tape where a gradient is needed.

    Arguments:
        spec: the operation.
        tensors: the inputs, all on one device.
        attrs: keyword attributes.

    Returns:
        A Tensor, or a tuple of Tensors where the operation has several outputs.
    """
    mode = current()
    if mode.stand_ins is not None:
        tensors = tuple([mode.stand_ins.get(id(t), t) for t in tensors])
    if len(tensors) == 2:  # spelled out for one and two: this is the hottest code of the eager path
        x, y = tensors
        device = x.device
        if y.device is not device:
            device = _common_device(spec, tensors)
        inputs: tuple[Array, ...] = (x.data, y.data)
        needs = x.requires_grad or y.requires_grad
    elif len(tensors) == 1:
        x = tensors[0]
        device = x.device
        inputs = (x.data,)
        needs = x.requires_grad
    else:
        device = tensors[0].device
        needs = False
        for t in tensors:
            needs = needs or t.requires_grad
            if t.device is not device:
                device = _common_device(spec, tensors)
        inputs = tuple([t.data for t in tensors])
    try:
        plan = find_plan(device, spec, inputs, attrs)
    except (ValueError, TypeError) as error:
        if mode.scope:
            raise type(error)(f"layer {mode.scope}: {error}") from error
        raise
    if device.abstract:
        return _symbolic(plan.outputs, device, tensors, spec, plan.attrs)
    needs = needs and mode.grad and plan.differentiable
    if needs and plan.kernel is None and spec.composite and spec.vjp is None:
        return spec.reference(HANDED.tensor_operations(device), *tensors, **plan.attrs)
    outs = execute(device, plan, inputs)
    node = KernelNode(plan, device, tensors, outs, mode.scope) if needs else None
    if node is not None and spec.differentiable is not None and not any(node.parents):
        node = None  # what requires a gradient entered where none can flow
    if len(outs) == 1:
        array = outs[0]
        result = Tensor(array, device, node, 0, node is not None)
        if plan.special:
            if plan.view:
                result.owner = _leaf_memory(tensors[0])
                if tensors[0].extra is not None:
                    result.inherit(tensors[0], spec, plan.attrs)
            elif spec.name in _REMEMBERED:
                result.remember(spec.name, tensors[0], plan.attrs)
        return result
    return tuple(
        Tensor(array, device, node, index, node is not None)
        if is_floating(form.dtype)
        else Tensor(array, device, None, index)
        for index, (array, form) in enumerate(zip(outs, plan.outputs, strict=True))
    )


def _common_device(spec: KernelSpec, tensors: tuple[Tensor, ...]) -> Device:
    """Return the device an operation on these tensors runs on; mixing real ones is an error."""
    first = tensors[0].device
    for position, t in enumerate(tensors):
        if t.device.abstract:
            return shapes_device()
        if t.device is not first and not first.abstract:
            raise ValueError(
                f"{spec.name}: argument 0 is on {first}, argument {position} on {t.device}; "
                f"move one of them first, for example with .to({str(first)!r})"
            )
    return first


def _symbolic(outputs: Any, device: Device, tensors: tuple[Tensor, ...], spec: KernelSpec, attrs: Attrs) -> Any:
    """Return tensors without values; outside of layers the operation itself becomes part of the model's graph."""
    results = tuple(Tensor(ShapeArray(form.shape, form.dtype), device) for form in outputs)
    for index, result in enumerate(results):
        result.remember_origin(spec, tensors, attrs, index)
        if spec.name in _REMEMBERED:
            result.remember(spec.name, tensors[0], attrs)
        elif spec.view or spec.name == "astype":
            result.inherit(tensors[0], spec, attrs)
    return results[0] if len(results) == 1 else results


def stand_in(tensor: Tensor) -> Tensor:
    """Return what is computed with in place of a tensor: itself, or the copy in half precision of a parameter."""
    copies = current().stand_ins
    return tensor if copies is None else copies.get(id(tensor), tensor)


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """Return a value as a tensor on the device of another one; a Python number takes its dtype."""
    if isinstance(value, Tensor):
        return value
    dtype = stand_in(like).dtype
    if isinstance(value, _NUMBERS):
        if isinstance(value, float | np.floating) and not is_floating(dtype):
            dtype = np.dtype(np.float32)
        elif dtype.kind == "b":
            dtype = np.dtype(bool) if isinstance(value, bool | np.bool_) else np.dtype(np.int64)
        value = value.item() if isinstance(value, np.generic) else value
        device = like.device
        if device.abstract:  # the value is kept: a model that is built from symbolic tensors computes with it
            device = find_device("cpu")
        return Tensor(device.constant(value, dtype), device)
    return tensor(value, device=None if like.device.abstract else like.device)
