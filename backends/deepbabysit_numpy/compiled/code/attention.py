"""Attention in blocks of queries: scores, softmax and products while a block lies in the second-level cache.

Arrays are flat; `steps` are the bytes from one sample, head and row to the next. Keys and values that sums run along
are turned around first, once for each head.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.softmax import attention_pull, attention_weights
from deepbabysit_numpy.compiled.code.tiles import outer
from deepbabysit_numpy.compiled.jit import jit


@jit
def _product(
    tile: Any, like: Any, x: Any, x_row: Any, x_step: Any, w: Any, w_step: Any, count: Any, y: Any, y_row: Any,
    rows: Any, columns: Any, tables: Any,
) -> None:
    """``y[r, :columns] += sum_k x[r, k] w[k, :columns]`` for addresses and steps in bytes."""
    width, height, wide = tile
    tall = len(height)
    at = tables.ctypes.data
    tables[2 * tall], tables[2 * tall + 1], tables[2 * tall + 2] = 0, 0, count
    for panel in range(0, columns * like.itemsize, wide * like.itemsize):
        for first in range(0, rows, tall):
            if first == 0 or first + tall > rows:  # rows behind the last repeat it
                for i in range(tall):
                    row = min(i, rows - first - 1)
                    tables[i] = row * x_row
                    tables[tall + i] = row * y_row
            outer(width, height, like, x + first * x_row, at, at + 16 * tall, 1, w + panel, y + first * y_row + panel,
                  at + 8 * tall, columns - panel // like.itemsize, x_step, w_step)


@jit
def _turn(source: Any, begin: Any, step: Any, rows: Any, columns: Any, factor: Any, target: Any) -> None:
    """``target[j, i] = factor source[i, j]``; `begin` and `step` count numbers of `source`."""
    for i in range(rows):
        row = source[begin + i * step : begin + i * step + columns]
        for j in range(columns):
            target[j * rows + i] = factor * row[j]


@jit
def _clear(array: Any, begin: Any, step: Any, rows: Any, columns: Any) -> None:
    zero = array.dtype.type(0.0)
    for i in range(rows):
        row = array[begin + i * step : begin + i * step + columns]
        for j in range(columns):
            row[j] = zero


@jit
def _start(scores: Any, mask: Any, sample: Any, head: Any, first: Any) -> None:
    """Begin the sums of scores with the mask, or with 0 where it is empty."""
    rows, keys = scores.shape
    zero = scores.dtype.type(0.0)
    for i in range(rows):
        row = scores[i]
        if mask.size:
            added = mask[sample % mask.shape[0], head % mask.shape[1], (first + i) % mask.shape[2]]
            if added.size > 1:
                for j in range(keys):
                    row[j] = added[j]
            else:
                value = added[0]
                for j in range(keys):
                    row[j] = value
        else:
            for j in range(keys):
                row[j] = zero


@jit
def attention(
    part: Any, parts: Any, tile: Any, q: Any, k: Any, v: Any, mask: Any, y: Any, lengths: Any, steps: Any, factor: Any,
    causal: Any, space: Any,
) -> None:
    """``softmax(factor q k^T + mask) v`` for this part's heads."""
    samples, heads, queries, keys, depth, wide, block = lengths
    q_steps, k_steps, v_steps, y_steps = steps
    size = y.itemsize
    turned, scores = space[part, : depth * keys], space[part, depth * keys :]
    tables = np.empty(2 * len(tile[1]) + 3, np.int64)
    scale = y.dtype.type(factor)
    for unit in range(part * samples * heads // parts, (part + 1) * samples * heads // parts):
        sample, head = unit // heads, unit % heads
        to_q, to_k, to_v, to_y = (
            sample * q_steps[0] + head * q_steps[1], sample * k_steps[0] + head * k_steps[1],
            sample * v_steps[0] + head * v_steps[1], sample * y_steps[0] + head * y_steps[1],
        )
        _turn(k, to_k // size, k_steps[2] // size, keys, depth, scale, turned)
        _clear(y, to_y // size, y_steps[2] // size, queries, wide)
        for first in range(0, queries, block):
            rows = min(block, queries - first)
            seen = min(first + rows, keys) if causal else keys
            here = scores[: rows * seen].reshape(rows, seen)
            _start(here, mask, sample, head, first)
            _product(tile, q, q.ctypes.data + to_q + first * q_steps[2], q_steps[2], size, turned.ctypes.data,
                     keys * size, depth, here.ctypes.data, seen * size, rows, seen, tables)
            attention_weights(here, first, causal)
            _product(tile, q, here.ctypes.data, seen * size, size, v.ctypes.data + to_v, v_steps[2], seen,
                     y.ctypes.data + to_y + first * y_steps[2], y_steps[2], rows, wide, tables)


@jit
def attention_gradient(
    part: Any, parts: Any, tile: Any, g: Any, q: Any, k: Any, v: Any, mask: Any, by_q: Any, by_k: Any, by_v: Any,
    by_scores: Any, lengths: Any, steps: Any, factor: Any, causal: Any, space: Any,
) -> None:
    """Gradients for queries, keys, values and, where `by_scores` is not empty, scores, for this part's heads."""
    samples, heads, queries, keys, depth, wide, block = lengths
    g_steps, q_steps, k_steps, v_steps, by_q_steps, by_k_steps, by_v_steps = steps
    size = q.itemsize
    whole = (depth + wide) * keys
    turned_keys, turned_values = space[part, : depth * keys], space[part, depth * keys : whole]
    scores, flows = space[part, whole : whole + block * keys], space[part, whole + block * keys :]
    tables = np.empty(2 * len(tile[1]) + 3, np.int64)
    scale, one = q.dtype.type(factor), q.dtype.type(1.0)
    for unit in range(part * samples * heads // parts, (part + 1) * samples * heads // parts):
        sample, head = unit // heads, unit % heads
        to_g, to_q, to_k, to_v = (
            sample * g_steps[0] + head * g_steps[1], sample * q_steps[0] + head * q_steps[1],
            sample * k_steps[0] + head * k_steps[1], sample * v_steps[0] + head * v_steps[1],
        )
        to_by_q, to_by_k, to_by_v = (
            sample * by_q_steps[0] + head * by_q_steps[1], sample * by_k_steps[0] + head * by_k_steps[1],
            sample * by_v_steps[0] + head * by_v_steps[1],
        )
        _turn(k, to_k // size, k_steps[2] // size, keys, depth, scale, turned_keys)
        _turn(v, to_v // size, v_steps[2] // size, keys, wide, one, turned_values)
        _clear(by_q, to_by_q // size, by_q_steps[2] // size, queries, depth)
        _clear(by_k, to_by_k // size, by_k_steps[2] // size, keys, depth)
        _clear(by_v, to_by_v // size, by_v_steps[2] // size, keys, wide)
        for first in range(0, queries, block):
            rows = min(block, queries - first)
            seen = min(first + rows, keys) if causal else keys
            weights, flow = scores[: rows * seen].reshape(rows, seen), flows[: rows * seen].reshape(rows, seen)
            at_q, at_g = q.ctypes.data + to_q + first * q_steps[2], g.ctypes.data + to_g + first * g_steps[2]
            _start(weights, mask, sample, head, first)
            _product(tile, q, at_q, q_steps[2], size, turned_keys.ctypes.data, keys * size, depth, weights.ctypes.data,
                     seen * size, rows, seen, tables)
            attention_weights(weights, first, causal)
            _product(tile, q, weights.ctypes.data, size, seen * size, at_g, g_steps[2], rows,
                     by_v.ctypes.data + to_by_v, by_v_steps[2], seen, wide, tables)
            _clear(flow.reshape(rows * seen), 0, 0, 1, rows * seen)
            _product(tile, q, at_g, g_steps[2], size, turned_values.ctypes.data, keys * size, wide, flow.ctypes.data,
                     seen * size, rows, seen, tables)
            attention_pull(flow, weights)
            if by_scores.size:
                begin = (unit * queries + first) * keys
                for i in range(rows):
                    target = by_scores[begin + i * keys : begin + (i + 1) * keys]
                    target[:seen] = flow[i]
                    target[seen:] = scale * 0.0
            for i in range(rows):
                row = flow[i]
                for j in range(seen):
                    row[j] *= scale
            _product(tile, q, flow.ctypes.data, seen * size, size, k.ctypes.data + to_k, k_steps[2], seen,
                     by_q.ctypes.data + to_by_q + first * by_q_steps[2], by_q_steps[2], rows, depth, tables)
            _product(tile, q, flow.ctypes.data, size, seen * size, at_q, q_steps[2], rows,
                     by_k.ctypes.data + to_by_k, by_k_steps[2], seen, depth, tables)
