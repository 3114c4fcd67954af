"""Gradient checks: derivatives from the tape against finite differences in float64.

The five-point formula ``(f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h`` has an error of order ``h^4``, so
that a step of about ``1e-3`` leaves ten correct digits. Small inputs are checked element by element; for large ones a
random projection of the whole Jacobian is compared, which misses a wrong element with probability zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tape import collect, edge_of, next_number
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.kernels.shapes import is_floating, show_shape
from deepbabysit.runtime.context import surroundings

STEP = 1e-3
_SMALL = 64  # inputs of up to so many elements together are checked one by one
_ROWS_SHOWN = 8


class GradcheckError(AssertionError):
    """A derivative differs from its finite difference; the message is the table of the worst elements.

    Attributes:
        rows: (input number, index, numeric, analytic) of the worst elements, worst first.
    """

    def __init__(self, message: str, rows: list[tuple[int, tuple[int, ...], float, float]]) -> None:
        super().__init__(message)
        self.rows = rows


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    order: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    projections: int | None = None,
    step: float = STEP,
    seed: int = 0,
) -> bool:
    """Compare the derivatives of a function with finite differences in float64.

    Arguments:
        f: a function of Tensors that returns a Tensor or a tuple of Tensors; outputs without gradient are ignored.
        inputs: a Tensor or array, or a sequence of them; floating ones are converted to float64 and derived by.
        order: 1 checks the gradient, 2 also the gradient of the gradient.
        rtol, atol: allowed is ``|analytic - numeric| <= atol + rtol * s``, s the largest ``|numeric|`` of that input.
        projections: how many random directions to try instead of each element; None takes every element of small
            inputs (64 elements in all) and 4 directions of large ones.
        step: the distance of the points of the difference.
        seed: where the random weights start.

    Returns:
        True.

    Raises:
        GradcheckError: a derivative is wrong; the message shows input number, index, numeric and analytic value.
        TypeError: no input can have a gradient.
        ValueError: no output depends on the inputs, or `order` is neither 1 nor 2.

    >>> import deepbabysit as db
    >>> db.gradcheck(lambda x, y: (x * y).tanh(), [db.tensor([0.5, -1.0]), db.tensor([2.0, 0.3])], order=2)
    True
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order is 1 or 2; got {order}")
    given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    values = [_float64(value) for value in given]
    where = [i for i, value in enumerate(values) if is_floating(value.dtype) and value.size]
    if not any(is_floating(value.dtype) for value in values):
        raise TypeError("gradcheck: no input holds floating numbers, so there is nothing to derive by")
    rng = np.random.default_rng(seed)
    weights: list[np.ndarray | None] = []

    def weighted(args: Sequence[Tensor]) -> Tensor | None:
        """Return one number that every element of every output goes into with a weight of its own."""
        outputs = f(*args)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        total = None
        for place, output in enumerate(outputs):
            if len(weights) <= place:
                flows = isinstance(output, Tensor) and output.requires_grad and is_floating(output.dtype)
                weights.append(
                    rng.uniform(0.5, 1.5, output.shape) * rng.choice([-1, 1], output.shape) if flows else None
                )
            weight = weights[place]
            if weight is not None:
                part = (output * tensor(weight.astype(output.dtype), device=output.device)).sum()
                total = part if total is None else total + part
        return total

    def value_of(arrays: Sequence[np.ndarray]) -> float:
        args = [_like(v, a) for v, a in zip(values, arrays, strict=True)]
        with surroundings(grad=False):
            result = weighted(args)
        return 0.0 if result is None else float(result.item())

    def slope(args: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
        """Return the gradient of the weighted sum by each floating input."""
        border = next_number()
        total = weighted(args)
        if total is None or not total.requires_grad:
            raise ValueError("gradcheck: no output depends on the inputs in a way that gradients can follow")
        one = tensor_operations(total.device).full((), 1.0, total.dtype)
        arrived = collect((total,), (one if create_graph else one.data,), create_graph, border)
        table = {(id(target), index): gradient for target, index, gradient in arrived}
        result = []
        for i in where:
            target, index = edge_of(args[i])
            gradient = table.get((id(target), index))
            if gradient is None:
                gradient = tensor_operations(args[i].device).full(args[i].shape, 0.0, args[i].dtype)
            result.append(gradient if isinstance(gradient, Tensor) else Tensor(gradient, args[i].device))
        return result

    start = [v.numpy().copy() for v in values]
    with surroundings(grad=True):
        first = slope([_like(v, a, i in where) for i, (v, a) in enumerate(zip(values, start, strict=True))], False)
    analytic = [g.numpy() for g in first]
    _compare("first", value_of, start, where, analytic, rtol, atol, projections, step, rng)
    if order == 2:
        vectors = [rng.uniform(0.5, 1.5, start[i].shape) * rng.choice([-1, 1], start[i].shape) for i in where]

        def along(arrays: Sequence[np.ndarray], create_graph: bool) -> tuple[Tensor, list[Tensor]]:
            args = [_like(v, a, i in where) for i, (v, a) in enumerate(zip(values, arrays, strict=True))]
            total = None
            for g, vector in zip(slope(args, create_graph), vectors, strict=True):
                part = (g * tensor(vector, device=g.device)).sum()
                total = part if total is None else total + part
            assert total is not None
            return total, args

        def slope_value(arrays: Sequence[np.ndarray]) -> float:
            with surroundings(grad=True):
                return float(along(arrays, False)[0].item())

        with surroundings(grad=True):
            total, args = along(start, True)
            second = [np.zeros(start[i].shape) for i in where]
            if total.requires_grad:
                one = tensor_operations(total.device).full((), 1.0, total.dtype)
                for target, _, gradient in collect((total,), (one.data,), False, 0):
                    for place, i in enumerate(where):
                        if target is args[i]:
                            second[place] = args[i].device.to_host(gradient)
        _compare("second", slope_value, start, where, second, rtol, atol, projections, step, rng)
    return True


def _float64(value: Any) -> Tensor:
    found = value if isinstance(value, Tensor) else tensor(value)
    return found.detach().astype(np.float64) if is_floating(found.dtype) else found.detach()


def _like(form: Tensor, values: np.ndarray, requires_grad: bool = False) -> Tensor:
    return Tensor(form.device.asarray(values), form.device, requires_grad=requires_grad)


def _difference(
    value_of: Callable[..., float], start: list[np.ndarray], move: dict[int, np.ndarray], step: float
) -> float:
    """Return the directional derivative by five points (the middle one has weight 0)."""

    def at(distance: float) -> float:
        return value_of([v + distance * move[i] if i in move else v for i, v in enumerate(start)])

    return (at(-2 * step) - 8 * at(-step) + 8 * at(step) - at(2 * step)) / (12 * step)


def _compare(
    which: str,
    value_of: Callable[..., float],
    start: list[np.ndarray],
    where: list[int],
    analytic: list[np.ndarray],
    rtol: float,
    atol: float,
    projections: int | None,
    step: float,
    rng: np.random.Generator,
) -> None:
    total = sum(start[i].size for i in where)
    if projections is None and total <= _SMALL:
        rows = _elements(value_of, start, where, analytic, step)
        if bad := _wrong(rows, rtol, atol):
            raise GradcheckError(_table(which, start, bad), [row[:4] for row in bad])
        return
    for _ in range(projections or 4):
        move = {i: rng.standard_normal(start[i].shape) for i in where}
        numeric = _difference(value_of, start, move, step)
        parts = [float(np.vdot(a, move[i])) for i, a in zip(where, analytic, strict=True)]
        found = sum(parts)
        size = max([abs(numeric), *(float(np.abs(a * move[i]).max()) for i, a in zip(where, analytic, strict=True))])
        if not abs(found - numeric) <= atol + rtol * size:
            rows = _elements(value_of, start, where, analytic, step) if total <= 4096 else []
            bad = _wrong(rows, rtol, atol)
            if bad:
                raise GradcheckError(_table(which, start, bad), [row[:4] for row in bad])
            raise GradcheckError(
                f"gradcheck: the {which} derivative along a random direction is {found:.12g}; five-point differences "
                f"give {numeric:.12g}",
                [],
            )


Row = tuple[int, tuple[int, ...], float, float, float]


def _elements(
    value_of: Callable[..., float], start: list[np.ndarray], where: list[int], analytic: list[np.ndarray], step: float
) -> list[Row]:
    rows: list[Row] = []
    for i, gradient in zip(where, analytic, strict=True):
        mine = []
        for index in np.ndindex(*start[i].shape):
            unit = np.zeros(start[i].shape)
            unit[index] = 1.0
            mine.append((i, index, _difference(value_of, start, {i: unit}, step), float(gradient[index])))
        finite = [abs(row[2]) for row in mine if np.isfinite(row[2])]
        size = max(finite, default=0.0)
        rows.extend((*row, size) for row in mine)
    return rows


def _wrong(rows: list[Row], rtol: float, atol: float) -> list[Row]:
    """Return the elements that differ, worst first."""

    def excess(row: Row) -> float:
        difference = abs(row[3] - row[2])
        return (difference if np.isfinite(difference) else np.inf) - atol - rtol * row[4]

    return sorted((row for row in rows if excess(row) > 0), key=excess, reverse=True)


def _table(which: str, start: list[np.ndarray], bad: list[Row]) -> str:
    i, index, numeric, analytic, _ = bad[0]
    head = (
        f"gradcheck: {len(bad)} elements of the {which} derivative are wrong; the worst is by input {i} (shape "
        f"{show_shape(start[i].shape)}) at {list(index)}: numeric {numeric:.10g}, analytic {analytic:.10g}"
    )
    lines = [head, f"  {'input':>5}  {'index':<16} {'numeric':>20} {'analytic':>20} {'difference':>12}"]
    for i, index, numeric, analytic, _ in bad[:_ROWS_SHOWN]:
        lines.append(
            f"  {i:>5}  {list(index)!s:<16} {numeric:>20.12g} {analytic:>20.12g} {abs(analytic - numeric):>12.3g}"
        )
    if len(bad) > _ROWS_SHOWN:
        lines.append(f"  ... and {len(bad) - _ROWS_SHOWN} more")
    return "\n".join(lines)
