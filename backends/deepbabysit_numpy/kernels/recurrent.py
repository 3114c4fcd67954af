"""The cells of recurrent layers; float16 is computed in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel


def _sigmoid(x: Any) -> Any:
    """Return the logistic function in a new array."""
    y = np.multiply(x, 0.5)
    np.tanh(y, y)
    np.multiply(y, 0.5, y)
    return np.add(y, 0.5, y)


def _wide(x: Any) -> Any:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _gates(z: Any, count: int) -> list[Any]:
    units = z.shape[1] // count
    return [z[:, i * units : (i + 1) * units] for i in range(count)]


def _lstm_cell(ctx: Any, outs: Any, z: Any, c: Any) -> None:
    h, after = outs
    units = c.shape[1]
    z, before = _wide(z), _wide(c)
    both = _sigmoid(z[:, : 2 * units])  # i and f in one pass
    state = np.multiply(both[:, units:], before)
    level = np.tanh(z[:, 2 * units : 3 * units])
    np.multiply(level, both[:, :units], level)
    np.add(state, level, state)
    after[...] = state
    np.tanh(state, level)
    np.multiply(level, _sigmoid(z[:, 3 * units :]), out=h, casting="same_kind")


def _lstm_cell_gradient(
    ctx: Any, outs: Any, z: Any, c: Any, after: Any, *gradients: Any, given: Any = (True, True)
) -> None:
    by_z, by_c = outs
    units = c.shape[1]
    z, c, after = _wide(z), _wide(c), _wide(after)
    both = _sigmoid(z[:, : 2 * units])
    i, f = both[:, :units], both[:, units:]
    g = np.tanh(z[:, 2 * units : 3 * units])
    by_i, by_f, by_g, by_o = _gates(by_z, 4)
    if given[0]:
        o = _sigmoid(z[:, 3 * units :])
        level = np.tanh(after)
        flow = np.multiply(gradients[0], o, dtype=o.dtype)  # shared by the paths through o and through tanh
        np.multiply(flow * level, 1.0 - o, out=by_o, casting="same_kind")
        total = flow * (1.0 - level * level)
        if given[1]:
            np.add(total, gradients[1], total)
    else:
        by_o.fill(0)
        total = _wide(gradients[0])
    np.multiply(total * g, i * (1.0 - i), out=by_i, casting="same_kind")
    share = np.multiply(total, f)
    np.multiply(share * c, 1.0 - f, out=by_f, casting="same_kind")
    np.multiply(total * i, 1.0 - g * g, out=by_g, casting="same_kind")
    by_c[...] = share


def _gru_parts(zx: Any, zh: Any, units: int) -> tuple[Any, Any, Any, Any]:
    """Return update, reset, the candidate, and the recurrent part of the candidate."""
    zx, zh = _wide(zx), _wide(zh)
    both = _sigmoid(zx[:, : 2 * units] + zh[:, : 2 * units])
    inner = zh[:, 2 * units :]
    level = np.multiply(both[:, units:], inner)
    np.add(level, zx[:, 2 * units :], level)
    return both[:, :units], both[:, units:], np.tanh(level, level), inner


def _gru_cell(ctx: Any, outs: Any, zx: Any, zh: Any, h: Any) -> None:
    update, _, level, _ = _gru_parts(zx, zh, h.shape[1])
    kept = np.multiply(update, _wide(h))
    np.multiply(level, 1.0 - update, level)
    np.add(kept, level, out=outs[0], casting="same_kind")


def _gru_cell_gradient(ctx: Any, outs: Any, g: Any, zx: Any, zh: Any, h: Any) -> None:
    by_zx, by_zh, by_h = outs
    update, reset, level, inner = _gru_parts(zx, zh, h.shape[1])
    flow = _wide(g)
    kept = np.multiply(flow, update)
    by_h[...] = kept
    away = 1.0 - update
    by_update = kept * away * (_wide(h) - level)
    by_level = flow * away * (1.0 - level * level)
    back = by_level * reset
    by_reset = back * inner * (1.0 - reset)
    units = h.shape[1]
    for target, last in ((by_zx, by_level), (by_zh, back)):
        target[:, :units] = by_update
        target[:, units : 2 * units] = by_reset
        target[:, 2 * units :] = last


KERNELS: dict[str, Kernel] = {
    "lstm_cell": Kernel(_lstm_cell),
    "lstm_cell_gradient": Kernel(_lstm_cell_gradient),
    "gru_cell": Kernel(_gru_cell),
    "gru_cell_gradient": Kernel(_gru_cell_gradient),
}
