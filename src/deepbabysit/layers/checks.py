"""How layers speak of inputs that do not fit: expected axes by name, what came, one fix that makes it fit."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from deepbabysit.kernels.shapes import is_floating, show_shape

IMAGE = ("N", "H", "W", "C")
SEQUENCE = ("N", "T", "C")


def show_axes(axes: Sequence[str], shape: Sequence[int]) -> str:
    """Write a shape with its axis names.

    >>> show_axes(("N", "C"), (32, 7))
    '(N=32, C=7)'
    """
    lengths = show_shape(shape).strip("(),").split(", ")
    return "(" + ", ".join(f"{axis}={length}" for axis, length in zip(axes, lengths, strict=True)) + ")"


def expected_axes(axes: Sequence[str], last: int | None) -> str:
    """Write the axes that a layer takes; the last one with its length where it is known."""
    return "(" + ", ".join((*axes[:-1], axes[-1] if last is None else f"{axes[-1]}={last}")) + ")"


def refuse(layer: Any, expected: str, got: str, fix: str) -> ValueError:
    """Return the exception for an input that does not fit."""
    return ValueError(f"layer {layer.path} ({type(layer).__name__}): expected {expected}; got {got}. {fix}")


def need_axes(layer: Any, shape: tuple[int, ...], axes: Sequence[str], last: int | None = None) -> None:
    """Refuse an input with another number of axes, or another length of the last one."""
    if len(shape) == len(axes) and (last is None or shape[-1] == last):
        return
    expected = expected_axes(axes, last)
    rank, wanted = len(shape), len(axes)
    got = show_shape(shape)
    fix = f"Give it an input of {wanted} axes"
    if rank == wanted:
        got = show_axes(axes, shape)
        fix = f"The layer was built for {last} {_words(axes[-1])}; use a new layer for another number"
        if shape[1] == last and rank > 2:
            first = (axes[0], axes[-1], *axes[1:-1])
            got = show_axes(first, shape)
            order = (0, *range(2, rank), 1)
            fix = f"The channels stand first; put them last: numpy.transpose(x, {order})"
    elif rank == wanted - 1 and (shape[-1] != last if last is not None else shape[-1] > 4):
        fix = "The last axis is missing; add it: x[..., None]" if last in (None, 1) else (
            f"An axis is missing; the last one must have length {last}")
    elif rank == wanted - 1:
        fix = "The batch axis is missing; add it: x[None]"
    elif last is not None and rank == 2 and wanted == 4 and shape[1] % last == 0:
        side = round((shape[1] // last) ** 0.5)
        if side * side * last == shape[1]:
            fix = f"The images are flat; give them their shape: x.reshape(-1, {side}, {side}, {last})"
    raise refuse(layer, expected, got, fix)


def need_features(layer: Any, shape: tuple[int, ...], features: int | None) -> None:
    """Refuse an input (N, ..., features) of one axis, or with another number of features."""
    if len(shape) >= 2 and (features is None or shape[-1] == features):
        return
    expected = f"(N, ..., features={features})" if features is not None else "(N, ..., features)"
    if len(shape) < 2:
        fix = (
            "The batch axis is missing; for one sample use x[None]"
            if features in (None, shape[0] if shape else 0)
            else "For one feature per sample use x[:, None]"
        )
    elif features == prod(shape[1:]):
        fix = "Put Flatten() before this layer"
    elif len(shape) == 2 and shape[0] == features:
        fix = "Samples and features are swapped; use x.T"
    else:
        fix = f"The layer was built for {features} features; use a new layer, or give it those columns"
    got = show_axes(("N", "features"), shape) if len(shape) == 2 else show_shape(shape)
    raise refuse(layer, expected, got, fix)


def need_floats(layer: Any, dtype: Any) -> None:
    """Refuse whole numbers where a product is computed (they would make everything float64)."""
    if not is_floating(dtype):
        raise TypeError(
            f"layer {layer.path} ({type(layer).__name__}): expected floating numbers; got {dtype}. "
            f"Convert first: x.astype('float32')"
        )


def _words(axis: str) -> str:
    return {"C": "channels"}.get(axis, axis)
