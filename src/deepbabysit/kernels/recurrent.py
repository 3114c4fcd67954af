"""The cells of recurrent layers: what happens to the gates after the matrix products of a step.

Gates stand in Keras' order: i, f, c, o for LSTM and z, r, h for GRU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import need_floating, result_dtype, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

CELL_TOLERANCE = {"float32": Tolerance(5e-5, 5e-6)}


def _gates(z: Any, count: int) -> list[Any]:
    """Cut (N, count * units) into its gates."""
    units = z.shape[-1] // count
    return [z[:, i * units : (i + 1) * units] for i in range(count)]


def lstm_cell(xp: Any, z: Any, c: Any) -> Any:
    """One step of an LSTM from its gates: ``c' = f * c + i * g``, ``h = o * tanh(c')``.

    ``i, f, o`` are the sigmoids and ``g`` the tanh of the parts of z.

    Arguments:
        z: ``x @ kernel + h @ recurrent_kernel + bias``, (N, 4 * units), gates i, f, c, o.
        c: cell state, (N, units).

    Returns:
        h and c', both (N, units).

    Hochreiter and Schmidhuber, Neural Computation 9 (1997); forget gate: Gers et al., 2000.

    >>> import deepbabysit as db
    >>> h, c = db.ops.lstm_cell(db.tensor([[-100.0, 100.0, 0.0, 100.0]]), db.tensor([[0.5]]))
    >>> c.tolist()
    [[0.5]]
    """
    i, f, g, o = _gates(z, 4)
    after = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
    return xp.sigmoid(o) * xp.tanh(after), after


def _lstm_shape(name: str, z: Any, c: Any) -> None:
    if len(z) != 2 or len(c) != 2 or z[0] != c[0] or z[1] != 4 * c[1]:
        raise ValueError(
            f"{name}: gates must be (N, 4 * units) and the cell state (N, units); got {show_shape(z)}, {show_shape(c)}"
        )


def _lstm_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _lstm_shape("lstm_cell", *shapes)
    dtype = result_dtype(dtypes)
    need_floating("lstm_cell", dtype)
    return (Form(shapes[1], dtype), Form(shapes[1], dtype))


def _lstm_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for n, units in ((1, 1), (3, 2), (2, 5), (0, 3)):
        yield Sample((drawing.normal(rng, (n, 4 * units)), drawing.normal(rng, (n, units))))
    yield Sample((drawing.strided(drawing.normal(rng, (3, 8))), drawing.normal(rng, (2, 3)).T))
    yield Sample((np.array([[1e4, -1e4, 1e4, 1e4], [-1e4, 1e4, -1e4, -1e4]]), np.ones((2, 1))), gradient=False)


def _lstm_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    given = tuple(part is not None for part in g)
    return op.lstm_cell_gradient(x[0], x[1], out[1], *[part for part in g if part is not None], given=given)


LSTM_CELL = define(
    lstm_cell, infer=_lstm_infer, samples=_lstm_samples, composite=True, vjp=_lstm_vjp, saves_inputs=(0, 1),
    saves_outputs=(1,), tolerance=CELL_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((2, 6)), np.ones((2, 2))), {}, ValueError, "(N, 4 * units)"),
        BadInput((np.ones((2, 8), int), np.ones((2, 2), int)), {}, TypeError, "needs floating numbers"),
    ],
)


def lstm_cell_gradient(
    xp: Any, z: Any, c: Any, after: Any, *gradients: Any, given: tuple[bool, bool] = (True, True)
) -> Any:
    """Gradient of `lstm_cell` for z and c.

    Arguments:
        z, c: what the cell was given.
        after: its new cell state c'.
        gradients: of h and of c', those that arrived.
        given: which of the two arrived.
    """
    if not gradients:
        raise ValueError("lstm_cell_gradient needs the gradient of h, of c, or of both")
    i, f, g, o = _gates(z, 4)
    i, f, g, o = xp.sigmoid(i), xp.sigmoid(f), xp.tanh(g), xp.sigmoid(o)
    level = xp.tanh(after)
    by_after = gradients[-1] if given[1] else None
    if given[0]:
        through = gradients[0] * o * (1.0 - level * level)
        by_after = through if by_after is None else by_after + through
        by_o = gradients[0] * level * o * (1.0 - o)
    else:
        by_o = xp.zeros_like(o)
    by_z = xp.concat(
        (by_after * g * i * (1.0 - i), by_after * c * f * (1.0 - f), by_after * i * (1.0 - g * g), by_o), axis=1
    )
    return by_z, by_after * f


def _lstm_gradient_infer(shapes: Any, dtypes: Any, *, given: tuple[bool, bool] = (True, True)) -> tuple[Form, ...]:
    name = "lstm_cell_gradient"
    _lstm_shape(name, *shapes[:2])
    if len(given) != 2 or sum(given) != len(shapes) - 3 or not any(given):
        raise ValueError(f"{name}: given={given} must say which of the two gradients follow; {len(shapes) - 3} came")
    if any(shape != shapes[1] for shape in shapes[2:]):
        raise ValueError(f"{name}: states and gradients must all be {show_shape(shapes[1])}; got {shapes[2:]}")
    return (Form(shapes[0], dtypes[0]), Form(shapes[1], dtypes[1]))


def _lstm_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for given in ((True, True), (True, False), (False, True)):
        for n, units in ((1, 1), (3, 2), (0, 3)):
            states = tuple(drawing.normal(rng, (n, units)) for _ in range(2 + sum(given)))
            yield Sample((drawing.normal(rng, (n, 4 * units)), *states), {"given": given})
    states = tuple(drawing.strided(drawing.normal(rng, (3, 2))) for _ in range(4))
    yield Sample((drawing.strided(drawing.normal(rng, (3, 8))), *states))


LSTM_CELL_GRADIENT = define(
    lstm_cell_gradient, infer=_lstm_gradient_infer, samples=_lstm_gradient_samples, composite=True,
    tolerance=CELL_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((2, 4)), *[np.ones((2, 1))] * 3), {}, ValueError, "which of the two gradients"),
        BadInput((np.ones((2, 4)), np.ones((2, 1)), np.ones((2, 1)), np.ones((1, 1)), np.ones((2, 1))), {}, ValueError,
                 "must all be (2, 1)"),
    ],
)


def gru_cell(xp: Any, zx: Any, zh: Any, h: Any) -> Any:
    """One step of a GRU from its gates, reset after the product: ``h' = z * h + (1 - z) * n``.

    ``z = sigmoid(zx_z + zh_z)``, ``r = sigmoid(zx_r + zh_r)``, ``n = tanh(zx_h + r * zh_h)``.

    Arguments:
        zx: ``x @ kernel + input bias``, (N, 3 * units), gates z, r, h.
        zh: ``h @ recurrent_kernel + recurrent bias``, (N, 3 * units).
        h: state, (N, units).

    Returns:
        h', (N, units).

    Cho et al., EMNLP 2014, in the form with ``reset_after`` of Keras and cuDNN.

    >>> import deepbabysit as db
    >>> gates = db.tensor([[100.0, 0.0, 0.0]])
    >>> db.ops.gru_cell(gates, gates, db.tensor([[0.5]])).tolist()
    [[0.5]]
    """
    (xz, xr, xn), (hz, hr, hn) = _gates(zx, 3), _gates(zh, 3)
    update = xp.sigmoid(xz + hz)
    level = xp.tanh(xn + xp.sigmoid(xr + hr) * hn)
    return update * h + (1.0 - update) * level


def _gru_shape(name: str, zx: Any, zh: Any, h: Any) -> None:
    if len(zx) != 2 or zx != zh or len(h) != 2 or zx != (h[0], 3 * h[1]):
        raise ValueError(
            f"{name}: both gates must be (N, 3 * units) and the state (N, units); got {show_shape(zx)}, "
            f"{show_shape(zh)}, {show_shape(h)}"
        )


def _gru_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _gru_shape("gru_cell", *shapes)
    dtype = result_dtype(dtypes)
    need_floating("gru_cell", dtype)
    return (Form(shapes[2], dtype),)


def _gru_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for n, units in ((1, 1), (3, 2), (2, 5), (0, 3)):
        gates = (drawing.normal(rng, (n, 3 * units)), drawing.normal(rng, (n, 3 * units)))
        yield Sample((*gates, drawing.normal(rng, (n, units))))
    gates = (drawing.strided(drawing.normal(rng, (3, 6))), drawing.normal(rng, (6, 3)).T)
    yield Sample((*gates, drawing.normal(rng, (2, 3)).T))
    yield Sample((np.array([[1e4, -1e4, 1e4]]), np.array([[1e4, -1e4, 1.0]]), np.ones((1, 1))), gradient=False)


GRU_CELL = define(
    gru_cell, infer=_gru_infer, samples=_gru_samples, composite=True, saves_inputs=(0, 1, 2), tolerance=CELL_TOLERANCE,
    vjp=lambda op, g, x, out, needs: op.gru_cell_gradient(g[0], *x),
    errors=lambda: [BadInput((np.ones((2, 6)), np.ones((2, 6)), np.ones((2, 3))), {}, ValueError, "(N, 3 * units)")],
)


def gru_cell_gradient(xp: Any, g: Any, zx: Any, zh: Any, h: Any) -> Any:
    """Gradient of `gru_cell` for zx, zh and h."""
    (xz, xr, xn), (hz, hr, hn) = _gates(zx, 3), _gates(zh, 3)
    update, reset = xp.sigmoid(xz + hz), xp.sigmoid(xr + hr)
    level = xp.tanh(xn + reset * hn)
    by_update = g * (h - level) * update * (1.0 - update)
    by_level = g * (1.0 - update) * (1.0 - level * level)
    by_reset = by_level * hn * reset * (1.0 - reset)
    by_zx = xp.concat((by_update, by_reset, by_level), axis=1)
    by_zh = xp.concat((by_update, by_reset, by_level * reset), axis=1)
    return by_zx, by_zh, g * update


def _gru_gradient_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    name = "gru_cell_gradient"
    _gru_shape(name, *shapes[1:])
    if shapes[0] != shapes[3]:
        raise ValueError(f"{name}: gradient {show_shape(shapes[0])} and state {show_shape(shapes[3])} differ")
    return tuple(Form(shape, dtype) for shape, dtype in zip(shapes[1:], dtypes[1:], strict=True))


def _gru_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _gru_samples(rng):
        g = drawing.normal(rng, sample.inputs[2].shape)
        yield Sample((g, *sample.inputs), {}, sample.gradient)


GRU_CELL_GRADIENT = define(
    gru_cell_gradient, infer=_gru_gradient_infer, samples=_gru_gradient_samples, composite=True,
    tolerance=CELL_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 2)), np.ones((2, 6)), np.ones((2, 6)), np.ones((2, 2))), {}, ValueError, "differ"),
    ],
)
