"""Shape arithmetic that every `infer` shares: broadcasting, axes, the symbolic batch axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from deepbabysit.errors import require
from deepbabysit.kernels.spec import Form, Shape

# The batch axis of a symbolic input: an unknown length. It is a large prime, so that products, exact divisions,
# equality and broadcasting give the right answer unchanged, and no real array has that length.
BATCH = 2_147_483_647


def is_batch(length: int) -> bool:
    """Tell whether an axis length contains the symbolic batch axis.

    >>> is_batch(BATCH * 7), is_batch(7)
    (True, False)
    """
    return length >= BATCH and length % BATCH == 0


def show_shape(shape: Sequence[int]) -> str:
    """Write a shape for people; the symbolic batch axis is shown as None.

    >>> show_shape((BATCH, 28, 28)), show_shape((5,))
    ('(None, 28, 28)', '(5,)')
    """
    parts = [
        "None" if length == BATCH else f"None*{length // BATCH}" if is_batch(length) else str(length)
        for length in shape
    ]
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def broadcast(name: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape that arrays have together.

    >>> broadcast("add", [(3, 1), (4,)])
    (3, 4)
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for axis, length in enumerate(shape):
            if length == 1:
                continue
            here = result[offset + axis]
            if here not in (1, length):
                written = " and ".join(show_shape(s) for s in shapes)
                raise ValueError(
                    f"{name}: shapes {written} do not fit together: axis {offset + axis - rank} has lengths "
                    f"{show_shape((here,))[1:-2]} and {show_shape((length,))[1:-2]}; they must be equal, or one 1"
                )
            result[offset + axis] = length
    return tuple(result)


def normalize_axis(name: str, axis: int, rank: int) -> int:
    """Return the axis counted from the front.

    >>> normalize_axis("sum", -1, 3)
    2
    """
    if not -rank <= axis < rank:
        raise ValueError(f"{name}: axis {axis} does not exist in an array of {rank} axes; use {-rank} to {rank - 1}")
    return axis % rank


def normalize_axes(name: str, axis: int | tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """Return the axes counted from the front, sorted; None means all of them.

    >>> normalize_axes("sum", (-1, 0), 3), normalize_axes("sum", None, 2)
    ((0, 2), (0, 1))
    """
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    found = tuple(sorted(normalize_axis(name, a, rank) for a in axes))
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return found


def reduced(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    """Return the shape after a reduction over the axes.

    >>> reduced((2, 3, 4), (1,), False), reduced((2, 3, 4), (1,), True)
    ((2, 4), (2, 1, 4))
    """
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def resolve_reshape(shape: Shape, target: Sequence[int]) -> Shape:
    """Return the target shape with -1 replaced by the length that keeps the number of elements.

    >>> resolve_reshape((2, 3, 4), (2, -1))
    (2, 12)
    """
    total = prod(shape)
    known = prod(n for n in target if n != -1)
    holes = sum(1 for n in target if n == -1)
    wanted = tuple(target)
    if holes == 1 and known and total % known == 0:
        wanted = tuple(total // known if n == -1 else n for n in target)
    if holes > 1 or any(n < -1 for n in target) or prod(wanted) != total or -1 in wanted:
        raise ValueError(
            f"reshape: {show_shape(shape)} cannot become {show_shape(target)}: "
            f"the number of elements must stay the same (one -1 is filled in)"
        )
    return wanted


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds floating numbers (the ones that can have gradients)."""
    return dtype.kind in "fV"  # NumPy knows bfloat16 by the kind V; tensors hold nothing else of it


def is_half(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype is float16 or bfloat16: such numbers are stored, and computed with in float32."""
    return dtype.itemsize == 2 and dtype.kind in "fV"


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which sums and statistics of numbers of a dtype are computed.

    >>> computed(np.dtype("float16")), computed(np.dtype("float64"))
    (dtype('float32'), dtype('float64'))
    """
    return np.dtype(np.float32) if is_half(dtype) else dtype


def limits(dtype: np.dtype[Any]) -> Any:
    """Return the limits of a floating dtype, as `numpy.finfo` does."""
    return np.finfo(dtype) if dtype.kind == "f" else require("ml_dtypes", "bf16").finfo(dtype)


def half(name: str) -> np.dtype[Any]:
    """Return the dtype "float16" or "bfloat16".

    Raises:
        ImportError: bfloat16 needs the package ml_dtypes; the message says how it is installed.
    """
    return np.dtype(require("ml_dtypes", "bf16").bfloat16 if name == "bfloat16" else name)


def need_floating(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse a dtype that holds no floating numbers."""
    if not is_floating(dtype):
        raise TypeError(f"{name} needs floating numbers; got {dtype}. Convert first: x.astype('float32')")


def result_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """Return the dtype that arrays have together (NumPy's promotion)."""
    first = dtypes[0]
    for dtype in dtypes:
        if dtype != first:
            return np.result_type(*dtypes)
    return first


def elementwise(name: str) -> Any:
    """Return the `infer` of an operation that works element by element and keeps the dtype."""

    def infer(shapes: Sequence[Shape], dtypes: Sequence[np.dtype[Any]], **attrs: Any) -> tuple[Form, ...]:
        shape = shapes[0] if len(shapes) == 1 else broadcast(name, shapes)
        return (Form(shape, result_dtype(dtypes)),)

    return infer


def elementwise_float(name: str) -> Any:
    """Return the `infer` of an elementwise operation that is defined for floating numbers only."""

    def infer(shapes: Sequence[Shape], dtypes: Sequence[np.dtype[Any]], **attrs: Any) -> tuple[Form, ...]:
        dtype = result_dtype(dtypes)
        need_floating(name, dtype)
        return (Form(shapes[0] if len(shapes) == 1 else broadcast(name, shapes), dtype),)

    return infer


def elementwise_bool(name: str) -> Any:
    """Return the `infer` of an elementwise comparison."""

    def infer(shapes: Sequence[Shape], dtypes: Sequence[np.dtype[Any]], **attrs: Any) -> tuple[Form, ...]:
        return (Form(shapes[0] if len(shapes) == 1 else broadcast(name, shapes), np.dtype(bool)),)

    return infer
