"""Convolutions without columns: tiles of the result are summed in registers, straight from the image.

Windows that reach over the border form classes by the elements of the kernel that meet the image, so that no zero is
read or multiplied. What is summed is cut so that the weights of a piece stay in the first-level cache. The tables say
where rows of a tile begin; `compiled/convolution.py` makes them and names them.

Where sums run over the windows (the gradient of the kernel), a block of images, or a band of rows of one, is copied
with its border of zeros; what the next block reads is asked for while this one is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.geometry import Geometry
from deepbabysit_numpy.compiled.code.tiles import outer, prefetch, tile
from deepbabysit_numpy.compiled.jit import jit

_LANES = 128  # numbers that are added at a time, at least


@jit
def _copy(source: Any, target: Any) -> None:
    for i in range(target.size):
        target[i] = source[i]


@jit
def _clear(target: Any) -> None:
    zero = target.dtype.type(0.0)
    for i in range(target.size):
        target[i] = zero


@jit
def pack(part: Any, parts: Any, kernel: Any, taps: Any, weights: Any, lengths: Any, turned: Any, packed: Any,
         bias: Any, init: Any) -> None:
    """Write a kernel (taps, in of a group, out) in the order in which tiles read it, with zeros behind the columns.

    Where it is turned, sums run over the outputs and the columns are the inputs. What the sums begin with is written,
    too: the bias, which may be empty, and zeros.
    """
    if part == 0:
        _copy(bias, init[: bias.size])
        _clear(init[bias.size :])
    geo = Geometry(*lengths)
    groups, inner, columns, wide = geo.groups, geo.inner, geo.columns, geo.wide
    zero = packed.dtype.type(0.0)
    unit = 0
    for group in range(groups):
        for part_of_taps in range(weights.shape[0]):
            begin, end, start = weights[part_of_taps]
            for panel in range(-(-columns // wide)):
                at = group * geo.packed + start + panel * (end - begin) * inner * wide
                valid = min(wide, columns - panel * wide)
                for number in range(begin, end):
                    unit += 1
                    if unit % parts != part:
                        at += inner * wide
                        continue
                    tap = taps[number]
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
                    at += inner * wide


@jit
def _fill(border: Any, x: Any, first: Any, count: Any, top: Any, rows: Any, geo: Any) -> None:
    """Copy rows of images, counted from the border's first, with zeros around them."""
    line, inside = geo.bordered * geo.channels, geo.width * geo.channels
    before = geo.left * geo.channels
    at = 0
    for image in range(first, first + count):
        for row in range(top - geo.top, top - geo.top + rows):
            here = border[at : at + line]
            if 0 <= row < geo.height:
                source = (image * geo.height + row) * inside
                _clear(here[:before])
                _copy(x[source : source + inside], here[before : before + inside])
                _clear(here[before + inside :])
            else:
                _clear(here)
            at += line


@jit
def _column_sums(g: Any, total: Any) -> None:
    """Add rows of numbers to `total`; short rows several at a time, so that vectors are full."""
    columns = total.size
    several = max(_LANES // columns, 1) * columns
    part = np.zeros(several, total.dtype)
    for at in range(0, g.size - several + 1, several):
        row = g[at : at + several]
        for i in range(several):
            part[i] += row[i]
    for at in range(0, several, columns):
        row = part[at : at + columns]
        for i in range(columns):
            total[i] += row[i]
    for at in range(g.size // several * several, g.size, columns):
        row = g[at : at + columns]
        for i in range(columns):
            total[i] += row[i]


@jit
def _following(x: Any, block: Any, end: Any, bands: Any, geo: Any) -> Any:
    """Return (address, cache lines) of the image that a block reads."""
    if block >= end or not geo.padded:
        return x.ctypes.data, 0
    first, top = block // bands * geo.together, block % bands * geo.rows
    count, lines = min(geo.together, geo.images - first), min(geo.rows, geo.lines - top)
    line = geo.width * geo.channels * x.itemsize
    begin = max(top * geo.down - geo.top, 0)
    if bands == 1:
        lines = count * geo.height
    else:
        lines = max(min((lines - 1) * geo.down + geo.span, geo.height - begin), 0)
    return x.ctypes.data + (first * geo.height + begin) * line, lines * line // 64


@jit
def direct(part: Any, parts: Any, width: Any, x: Any, packed: Any, init: Any, y: Any, lengths: Any, classes: Any,
           pieces: Any, runs: Any, places: Any, targets: Any, rectify: Any) -> None:
    """Write the convolution of this part's blocks; see `compiled/convolution.py` for the tables."""
    geo = Geometry(*lengths)
    size, tall = x.itemsize, geo.tall
    bands = -(-geo.lines // geo.rows)
    total = -(-geo.images // geo.together) * bands
    tail = np.empty((2, tall), np.int64)
    panels = -(-geo.columns // geo.wide)
    for block in range(part * total // parts, (part + 1) * total // parts):
        first, top = block // bands * geo.together, block % bands * geo.rows
        count = min(geo.together, geo.images - first)
        source = x.ctypes.data + first * geo.height * geo.width * geo.channels * size
        result = y.ctypes.data + first * geo.out_height * geo.out_width * geo.out_channels * size
        for number in range(classes.shape[0]):
            begin_line, end_line, across, table, first_piece, end_piece, first_run, weights, depth = classes[number]
            begin_here = max(begin_line, top)
            pixels = count * (min(end_line, top + geo.rows) - begin_here) * across
            if pixels <= 0:
                continue
            table += (begin_here - begin_line) * across
            for job in range(geo.groups * panels):
                group, panel = job // panels, job % panels
                w = packed.ctypes.data + (group * geo.packed + weights + panel * depth * geo.wide) * size
                from_here = source + (group * geo.inner + panel * geo.shift) * size
                column = group * geo.columns + panel * geo.wide
                to, valid = result + column * size, geo.columns - panel * geo.wide
                begin = first_run
                for piece in range(first_piece, end_piece):
                    end = pieces[piece]
                    fresh = 1 if piece == first_piece else 0
                    last = rectify if piece == end_piece - 1 else 0
                    for pixel in range(0, pixels, tall):
                        at = 8 * (table + pixel)
                        rows_at, to_at = places.ctypes.data + at, targets.ctypes.data + at
                        if pixel + tall > pixels:  # rows behind the last repeat it
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
def by_kernel(part: Any, parts: Any, width: Any, height: Any, x: Any, g: Any, gradients: Any, sums: Any, border: Any,
              lengths: Any, classes: Any, runs: Any, places: Any, targets: Any) -> None:
    """Write the gradients for kernel and bias by this part's blocks into its own copies; `sums` may be empty."""
    geo = Geometry(*lengths)
    size, tall = x.itemsize, geo.tall
    mine, result, total_slope = border[part], gradients[part], sums[part]
    _clear(result)
    _clear(total_slope)
    bands = -(-geo.lines // geo.rows)
    total = -(-geo.images // geo.together) * bands
    panels = -(-geo.columns // geo.wide)
    for block in range(part * total // parts, (part + 1) * total // parts):
        first, top = block // bands * geo.together, block % bands * geo.rows
        count, lines = min(geo.together, geo.images - first), min(geo.rows, geo.lines - top)
        source, slopes = x.ctypes.data, g.ctypes.data
        slopes += first * geo.out_height * geo.out_width * geo.out_channels * size
        if geo.padded:
            _fill(mine, x, first, count, top * geo.down, (lines - 1) * geo.down + geo.span, geo)
            source = mine.ctypes.data - top * geo.down * geo.bordered * geo.channels * size
        else:
            source += first * geo.height * geo.width * geo.channels * size
        ahead, left = _following(x, block + 1, (part + 1) * total // parts, bands, geo)
        some = left // geo.calls + 1
        if total_slope.size:
            at = (first * geo.out_height + top) * geo.out_width * geo.out_channels
            _column_sums(g[at : at + count * lines * geo.out_width * geo.out_channels], total_slope)
        for piece in range(0, count * lines, geo.piece):
            for number in range(classes.shape[0]):
                begin_line, end_line, run, first_place, end_place = classes[number]
                before = max(begin_line, top) - begin_line
                begin = before + piece
                end = min(begin + geo.piece, before + count * (min(end_line, top + lines) - begin_line - before))
                if end <= begin:
                    continue
                for job in range(geo.groups * panels):
                    group, panel = job // panels, job % panels
                    column = (group * geo.columns + panel * geo.wide) * size
                    from_here = source + (group * geo.inner + panel * geo.shift) * size
                    for k in range(first_place, end_place, tall):
                        if left > 0:
                            prefetch(ahead, some)
                            ahead += some * 64
                            left -= some
                        outer(width, height, x, from_here, places.ctypes.data + 8 * k,
                              runs.ctypes.data + 24 * (run + begin), end - begin, slopes + column,
                              result.ctypes.data + column, targets.ctypes.data + 8 * k,
                              geo.columns - panel * geo.wide, geo.along * geo.channels * size,
                              geo.out_channels * size)


@jit
def join(copies: Any, total: Any) -> None:
    """Add up what the parts have."""
    _copy(copies[0], total)
    for part in range(1, copies.shape[0]):
        row = copies[part]
        for i in range(total.size):
            total[i] += row[i]
