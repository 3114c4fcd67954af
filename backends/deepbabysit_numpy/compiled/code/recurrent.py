"""The cells of recurrent layers, forward and backward.

Backward goes over a row in several short loops: with all its arrays in one loop, LLVM would give up proving that none
of them overlap, and would not vectorize it. The row stays in the first cache.
"""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.code.mathematics import sigmoid, tanh
from deepbabysit_numpy.compiled.jit import jit


@jit
def _quarters(row: Any, units: Any) -> Any:
    """Cut a row into four gates."""
    return row[:units], row[units : 2 * units], row[2 * units : 3 * units], row[3 * units : 4 * units]


@jit
def _thirds(row: Any, units: Any) -> Any:
    """Cut a row into three gates."""
    return row[:units], row[units : 2 * units], row[2 * units : 3 * units]


@jit
def lstm_cell(z: Any, c: Any, h: Any, after: Any) -> None:
    """``c' = f c + i g; h = o tanh(c')``; gates i, f, c, o."""
    rows, units = c.shape
    for n in range(rows):
        for j in range(units):
            kept = sigmoid(z[n, units + j]) * c[n, j]
            state = kept + sigmoid(z[n, j]) * tanh(z[n, 2 * units + j])
            after[n, j] = state
            h[n, j] = sigmoid(z[n, 3 * units + j]) * tanh(state)


@jit
def lstm_cell_gradient(
    z: Any, c: Any, after: Any, by_h: Any, by_after: Any, has_h: Any, has_after: Any, by_z: Any, by_c: Any
) -> None:
    """Gradients for z and c; a gradient that did not arrive is another array, which counts as 0."""
    zero, one = z.dtype.type(0.0), z.dtype.type(1.0)
    rows, units = c.shape
    for n in range(rows):
        i, f, g, o = _quarters(by_z[n], units)
        from_i, from_f, from_g, from_o = _quarters(z[n], units)
        total, state = by_c[n], after[n]
        flow_h, flow_after, before = by_h[n], by_after[n], c[n]
        for j in range(units):
            i[j] = sigmoid(from_i[j])
        for j in range(units):
            f[j] = sigmoid(from_f[j])
        for j in range(units):
            g[j] = tanh(from_g[j])
        if has_h:
            for j in range(units):
                o[j] = sigmoid(from_o[j])
            for j in range(units):
                total[j] = tanh(state[j])
            for j in range(units):
                gate, level = o[j], total[j]
                flow = flow_h[j] * gate
                total[j] = flow * (one - level * level)
                o[j] = flow * level * (one - gate)
            if has_after:
                for j in range(units):
                    total[j] += flow_after[j]
        else:
            for j in range(units):
                o[j] = zero
            for j in range(units):
                total[j] = flow_after[j]
        for j in range(units):
            gate, level = i[j], g[j]
            i[j] = total[j] * level * (gate * (one - gate))
            g[j] = total[j] * gate * (one - level * level)
        for j in range(units):
            gate = f[j]
            share = total[j] * gate
            f[j] = share * before[j] * (one - gate)
            total[j] = share


@jit
def gru_cell(zx: Any, zh: Any, h: Any, after: Any) -> None:
    """``h' = z h + (1 - z) n``; gates z, r, h."""
    one = h.dtype.type(1.0)
    rows, units = h.shape
    for n in range(rows):
        for j in range(units):
            update = sigmoid(zx[n, j] + zh[n, j])
            reset = sigmoid(zx[n, units + j] + zh[n, units + j])
            level = tanh(zx[n, 2 * units + j] + reset * zh[n, 2 * units + j])
            after[n, j] = update * h[n, j] + (one - update) * level


@jit
def gru_cell_gradient(g: Any, zx: Any, zh: Any, h: Any, by_zx: Any, by_zh: Any, by_h: Any) -> None:
    """Gradients for zx, zh and h."""
    one = h.dtype.type(1.0)
    rows, units = h.shape
    for n in range(rows):
        update, reset, level = _thirds(by_zx[n], units)
        same_update, same_reset, back = _thirds(by_zh[n], units)
        x_update, x_reset, x_level = _thirds(zx[n], units)
        h_update, h_reset, inner = _thirds(zh[n], units)
        flow, state, kept = g[n], h[n], by_h[n]
        for j in range(units):
            update[j] = sigmoid(x_update[j] + h_update[j])
        for j in range(units):
            reset[j] = sigmoid(x_reset[j] + h_reset[j])
        for j in range(units):
            level[j] = tanh(x_level[j] + reset[j] * inner[j])
        for j in range(units):
            kept[j] = flow[j] * update[j]
        for j in range(units):
            same_update[j] = kept[j] * (one - update[j]) * (state[j] - level[j])
        for j in range(units):
            level[j] = flow[j] * (one - update[j]) * (one - level[j] * level[j])
        for j in range(units):
            back[j] = level[j] * reset[j]
        for j in range(units):
            reset[j] = back[j] * inner[j] * (one - reset[j])
        for j in range(units):
            update[j] = same_update[j]
        for j in range(units):
            same_reset[j] = reset[j]
