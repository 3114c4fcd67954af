"""Parameter and State: the tensors that a model keeps and that change in place."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from deepbabysit.autograd.tape import Node, next_number
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.spec import Array, Form
from deepbabysit.runtime.context import CONFIGURATION, current
from deepbabysit.runtime.device import Device


class CopyNode(Node):
    """The copy of a parameter in half precision: its gradient is the parameter's."""

    __slots__ = ()

    def __init__(self, parameter: Parameter, dtype: np.dtype[Any]) -> None:
        self.number = next_number()
        self.parents = ((parameter, -1),)
        self.device = parameter.device
        self.outputs = (Form(parameter.shape, dtype),)
        self.scope = current().scope
        self.hooks = None

    def name(self) -> str:
        """Return what users know this step as."""
        return "a copy in half precision"

    def release(self) -> None:
        """Nothing was saved."""

    def pull(self, gradients: list[Any], op: Any, create_graph: bool) -> Sequence[Any]:
        """Hand the gradient on."""
        return gradients


class Parameter(Tensor):
    """A leaf that an optimizer changes.

    Its memory may become a part of a flat buffer (`place`); from then on values are always copied into it.

    Attributes:
        name: path in the model, such as ``0.kernel``.
        l1, l2: strength of the penalties ``l1 * sum(abs(w))`` and ``l2 * sum(w * w)``; optimizers add their gradient.
        constraint: called with the values after each update, or None.
        rate: factor on the learning rate.
    """

    __slots__ = ("_trainable", "constraint", "l1", "l2", "name", "rate")

    def __init__(
        self,
        data: Array,
        device: Device,
        name: str = "",
        trainable: bool = True,
        l1: float = 0.0,
        l2: float = 0.0,
        constraint: Any = None,
    ) -> None:
        super().__init__(data, device, requires_grad=trainable)
        self.name = name
        self._trainable = trainable
        self.l1 = l1
        self.l2 = l2
        self.constraint = constraint
        self.rate = 1.0

    @property
    def trainable(self) -> bool:
        """Whether optimizers change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if value != self._trainable:
            self._trainable = value
            self.requires_grad = value
            self.grad = None
            CONFIGURATION.bump()

    def assign(self, values: Any, by: str = "an assignment") -> None:
        """Copy new values into the parameter's memory.

        Raises:
            ValueError: the shape is another one.
        """
        _assign(self, values, by)

    def place(self, memory: Array, gradient: Array, copy: Array | None = None) -> None:
        """Move the values into a part of a flat buffer, and let gradients accumulate in a part of another.

        Arguments:
            memory: where the values will be.
            gradient: where gradients accumulate.
            copy: where a copy of the values in half precision is kept, if one is.
        """
        memory[...] = self.data
        self.data = memory
        self.extra = self.extra or {}
        self.extra.update(slot=gradient, copy=copy)
        self.grad = None
        CONFIGURATION.bump()

    def in_half(self, dtype: np.dtype[Any]) -> Tensor:
        """Return the values in half precision: the copy that an optimizer keeps, or a converted one."""
        copy = None if self.extra is None else self.extra.get("copy")
        if copy is None or copy.dtype != dtype:
            return self.astype(dtype)
        node = CopyNode(self, copy.dtype) if self.requires_grad and current().grad else None
        result = Tensor(copy, self.device, node, 0, node is not None)
        result.owner = self
        return result

    def _changed(self, values: Tensor) -> Parameter:
        """Take new values in ``p -= rate * p.grad``, which without this would only bind the name `p` anew."""
        if current().grad:
            raise RuntimeError(
                f"{self.name or 'a parameter'} is changed in place while gradients are recorded; write it inside of "
                f"`with db.no_grad():`, or use an optimizer"
            )
        self.assign(values, "an assignment in place")
        return self

    def __iadd__(self, other: Any) -> Parameter:
        return self._changed(self + other)

    def __isub__(self, other: Any) -> Parameter:
        return self._changed(self - other)

    def __imul__(self, other: Any) -> Parameter:
        return self._changed(self * other)

    def __itruediv__(self, other: Any) -> Parameter:
        return self._changed(self / other)

    def __deepcopy__(self, memo: Any) -> Parameter:
        """Return a parameter with memory of its own: no gradient, no place in an optimizer's buffers."""
        values = self.device.asarray(self.data)
        twin = Parameter(values, self.device, self.name, self._trainable, self.l1, self.l2, deepcopy(self.constraint))
        twin.rate = self.rate
        twin.mark_overwritten("a copy")  # not drawn again when the copy gets its paths
        return twin

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={list(self.shape)}, dtype={self.dtype}, trainable={self.trainable})"


class State(Tensor):
    """A tensor that a layer keeps and that no gradient changes (running statistics)."""

    __slots__ = ("name",)

    def __init__(self, data: Array, device: Device, name: str = "") -> None:
        super().__init__(data, device)
        self.name = name

    def assign(self, values: Any, by: str = "an assignment") -> None:
        """Copy new values into the state's memory."""
        _assign(self, values, by)

    def __deepcopy__(self, memo: Any) -> State:
        """Return a state with memory of its own."""
        return State(self.device.asarray(self.data), self.device, self.name)

    def __repr__(self) -> str:
        return f"State({self.name!r}, shape={list(self.shape)}, dtype={self.dtype})"


def _assign(target: Parameter | State, values: Any, by: str) -> None:
    device = target.device
    recorder = current().recorder
    if recorder is not None and not (isinstance(values, Tensor) and values.device is device):
        recorder.refuse("values from the host are assigned here and a replay would not see new ones")
    if isinstance(values, Tensor):
        array = values.data if values.device is device else device.asarray(values.numpy())
    else:
        array = device.asarray(np.asarray(values, dtype=target.dtype))
    if tuple(array.shape) != target.shape:
        raise ValueError(
            f"{target.name or 'the parameter'} has shape {list(target.shape)}; the new values have {list(array.shape)}"
        )
    if array.dtype != target.dtype:
        array = device.asarray(array, target.dtype)
    target.overwrite(array, by)
