"""Convolutions without columns: tiles of the result are summed in registers, straight from the image.

A block of images, or a band of rows of one, is copied once with its border of zeros, so that every window is complete;
where there is no border the image itself is read. What is summed is cut so that the weights of a piece stay in the
first-level cache. The tables say where rows of a tile begin; `compiled/convolution.py` makes them and names them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.tiles import outer, tile
from deepbabysit_numpy.compiled.jit import jit


@jit
def pack(part: Any, parts: Any, kernel: Any, taps: Any, phases: Any, geo: Any, turned: Any, packed: Any) -> None:
    """Write a kernel (taps, in of a group, out) in the order in which tiles read it, with zeros behind the columns.

    Where it is turned, sums run over the outputs and the columns are the inputs.
    """
    groups, inner, columns, wide = geo.groups, geo.inner, geo.columns, geo.wide
    zero = packed.dtype.type(0.0)
    unit = 0
    for group in range(groups):
        for phase in range(phases.shape[0]):
            depth = phases[phase, 6]
            for panel in range(-(-columns // wide)):
                start = group * geo.packed + phases[phase, 5] + panel * depth * wide
                valid = min(wide, columns - panel * wide)
                for number in range(phases[phase, 7], phases[phase, 8]):
                    unit += 1
                    if unit % parts != part:
                        continue
                    tap = taps[number]
                    at = start + (number - phases[phase, 7]) * inner * wide
                    if turned:
                        for column in range(valid):
                            for k in range(inner):
                                packed[at + k * wide + column] = kernel[tap, panel * wide + column, group * inner + k]
                    else:
                        first = group * columns + panel * wide
                        for k in range(inner):
                            for column in range(valid):
                                packed[at + k * wide + column] = kernel[tap, k, first + column]
                    for k in range(inner):
                        for column in range(valid, wide):
                            packed[at + k * wide + column] = zero


@jit
def _fill(border: Any, x: Any, first: Any, count: Any, top: Any, rows: Any, geo: Any) -> None:
    """Copy rows of images, counted from the border's first, with zeros around them."""
    zero = border.dtype.type(0.0)
    line, inside = geo.bordered * geo.channels, geo.width * geo.channels
    before = geo.left * geo.channels
    at = 0
    for image in range(first, first + count):
        for row in range(top - geo.top, top - geo.top + rows):
            if 0 <= row < geo.height:
                for i in range(before):
                    border[at + i] = zero
                source = (image * geo.height + row) * inside
                for i in range(inside):
                    border[at + before + i] = x[source + i]
                for i in range(before + inside, line):
                    border[at + i] = zero
            else:
                for i in range(line):
                    border[at + i] = zero
            at += line


@jit
def direct(part: Any, parts: Any, width: Any, x: Any, packed: Any, init: Any, y: Any, border: Any, geo: Any,
           phases: Any, pieces: Any, runs: Any, places: Any, targets: Any, rectify: Any) -> None:
    """Write the convolution of this part's blocks; see `compiled/convolution.py` for the tables."""
    size, tall = x.itemsize, geo.tall
    mine = border[part]
    bands = -(-geo.lines // geo.rows)
    total = -(-geo.images // geo.count) * bands
    tail = np.empty((2, tall), np.int64)
    panels = -(-geo.columns // geo.wide)
    for block in range(part * total // parts, (part + 1) * total // parts):
        first, top = block // bands * geo.count, block % bands * geo.rows
        count, lines = min(geo.count, geo.images - first), min(geo.rows, geo.lines - top)
        if geo.padded:
            _fill(mine, x, first, count, top * geo.down, (lines - 1) * geo.down + geo.span, geo)
            source = mine.ctypes.data
        else:
            source = x.ctypes.data + (first * geo.height + top * geo.down) * geo.width * geo.channels * size
        for phase in range(phases.shape[0]):
            pixels = count * min(lines, phases[phase, 0] - top) * phases[phase, 1]
            if pixels <= 0:
                continue
            table = phases[phase, 2]
            result = y.ctypes.data + phases[phase, 9]
            result += (first * geo.out_height + top * geo.out_down) * geo.out_width * geo.out_channels * size
            for job in range(geo.groups * panels):
                group, panel = job // panels, job % panels
                w = packed.ctypes.data
                w += (group * geo.packed + phases[phase, 5] + panel * phases[phase, 6] * geo.wide) * size
                from_here = source + group * geo.inner * size
                column = group * geo.columns + panel * geo.wide
                to, valid = result + column * size, geo.columns - panel * geo.wide
                begin = phases[phase, 10]
                for piece in range(phases[phase, 3], phases[phase, 4]):
                    end = pieces[piece]
                    fresh = 1 if piece == phases[phase, 3] else 0
                    last = rectify if piece == phases[phase, 4] - 1 else 0
                    for pixel in range(0, pixels, tall):
                        at = 8 * (table + pixel)
                        rows_at, to_at = places.ctypes.data + at, targets.ctypes.data + at
                        if pixel + tall > pixels:
                            for i in range(tall):
                                j = table + min(pixel + i, pixels - 1)
                                tail[0, i] = places[j]
                                tail[1, i] = targets[j]
                            rows_at = tail.ctypes.data
                            to_at = rows_at + 8 * tall
                        tile(width, x, from_here, rows_at, runs.ctypes.data + 24 * begin, end - begin, w, to, to_at,
                             init.ctypes.data + column * size, fresh, last, valid)
                    begin = end


@jit
def by_kernel(part: Any, parts: Any, width: Any, x: Any, g: Any, gradients: Any, border: Any, geo: Any, runs: Any,
              places: Any, targets: Any) -> None:
    """Write the gradient for the kernel by this part's blocks into its own copy."""
    size, tall = x.itemsize, geo.tall
    mine, result = border[part], gradients[part]
    zero = result.dtype.type(0.0)
    for i in range(result.size):
        result[i] = zero
    bands = -(-geo.lines // geo.rows)
    total = -(-geo.images // geo.count) * bands
    panels = -(-geo.columns // geo.wide)
    for block in range(part * total // parts, (part + 1) * total // parts):
        first, top = block // bands * geo.count, block % bands * geo.rows
        count, lines = min(geo.count, geo.images - first), min(geo.rows, geo.lines - top)
        if geo.padded:
            _fill(mine, x, first, count, top * geo.down, (lines - 1) * geo.down + geo.span, geo)
            source = mine.ctypes.data
        else:
            source = x.ctypes.data + (first * geo.height + top * geo.down) * geo.width * geo.channels * size
        slopes = g.ctypes.data + (first * geo.out_height + top) * geo.out_width * geo.out_channels * size
        for begin in range(0, count * lines, geo.piece):
            amount = min(geo.piece, count * lines - begin)
            for job in range(geo.groups * panels):
                group, panel = job // panels, job % panels
                column = (group * geo.columns + panel * geo.wide) * size
                for k in range(0, places.size, tall):
                    outer(width, x, source + group * geo.inner * size, places.ctypes.data + 8 * k,
                          runs.ctypes.data + 24 * begin, amount, slopes + column, result.ctypes.data + column,
                          targets.ctypes.data + 8 * k, geo.columns - panel * geo.wide,
                          geo.along * geo.channels * size, geo.out_channels * size)
