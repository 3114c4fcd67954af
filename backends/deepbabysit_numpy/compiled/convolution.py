"""Convolutions in compiled code: tables of what a tile reads and writes, blocks for the caches, parts for the team.

One kernel serves the convolution and its adjoint. The adjoint of a convolution with stride s is made of s convolutions
with stride 1 (for each axis), each with the elements of the kernel that meet its outputs: `phases`.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import threads
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team, tiles
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels import convolution as plain
from deepbabysit_numpy.kernels.convolution import Layout, planes

_DTYPES = frozenset({"float32", "float64"})
_PACK, _DIRECT, _BY_KERNEL = (Compiled("convolution", name) for name in ("pack", "direct", "by_kernel"))
_BLOCK = 384 << 10  # bytes of a block's image and result: a share of the second-level cache
_PIECE = 32 << 10  # bytes of weights that stay in the first-level cache
_SLOPES = 16 << 10  # bytes of a result's gradient that stay there
_LONG = np.dtype(np.int64)


class Geometry(NamedTuple):
    """Lengths that the compiled code reads.

    The image that is read has `images` of (height, width, channels), with a border (`top`, `left`) `bordered` wide if
    `padded`; a tile's sums run over `inner` channels of a group, its `columns` are channels of a group of the result.
    """

    images: int
    height: int
    width: int
    channels: int
    top: int
    left: int
    bordered: int
    padded: int
    lines: int  # rows of windows
    down: int  # rows of the image from one to the next
    along: int  # columns of the image from one window to the next
    span: int  # rows of the image that a row of windows covers
    out_height: int
    out_width: int
    out_channels: int
    out_down: int  # rows of the result from one row of windows to the next
    groups: int
    inner: int
    columns: int
    packed: int  # numbers in the weights of a group
    wide: int  # columns of a tile
    tall: int  # rows of a tile
    count: int  # images in a block
    rows: int  # rows of windows in a block
    piece: int  # rows of windows in a piece of a sum over windows


class Job(NamedTuple):
    """Everything about a convolution that follows from shapes and the number of threads.

    Columns of `phases`: rows and columns of windows, begin in `places`, begin and end in `pieces`, begin in the packed
    weights, length of the sum, begin and end in `taps`, first byte in the result, begin in `runs`.
    """

    geo: Geometry
    width: tuple[int, ...]
    parts: int
    buffer: int  # numbers in the border of a part
    phases: np.ndarray
    pieces: np.ndarray
    runs: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    taps: np.ndarray


class _Axis(NamedTuple):
    """One phase of one axis: windows, first output, and (element of the kernel, offset) for each that it meets."""

    windows: int
    first: int
    taps: tuple[tuple[int, int], ...]


def _table(rows: Any, columns: int = 0) -> np.ndarray:
    return np.array(rows, _LONG).reshape((-1, columns) if columns else -1)


def _adjoint_axis(window: int, stride: int, dilation: int, before: int, length: int) -> list[_Axis]:
    """Return the phases of an axis: output ``q * stride + first`` is made of the positions ``q + offset``."""
    found = []
    for first in range(min(stride, length)):
        taps = []
        for i in range(window):
            if (first + before - i * dilation) % stride == 0:
                taps.append((i, (first + before - i * dilation) // stride))
        found.append(_Axis(-(-(length - first) // stride), first, tuple(sorted(taps, key=lambda tap: tap[1]))))
    return found


def _bordered(axes: list[_Axis], length: int) -> tuple[list[_Axis], int, int]:
    """Return phases that count offsets from a border of zeros, and how many zeros they read before and behind."""
    offsets = [(axis.windows, offset) for axis in axes for _, offset in axis.taps]
    before = max([0, *(-offset for _, offset in offsets)])
    behind = max([0, *(windows - 1 + offset - length + 1 for windows, offset in offsets)])
    moved = [_Axis(axis.windows, axis.first, tuple((i, offset + before) for i, offset in axis.taps)) for axis in axes]
    return moved, before, behind


def _blocks(images: int, lines: int, line_bytes: int, parts: int) -> tuple[int, int]:
    """Return (images, rows of windows) of a block."""
    rows = max(min(lines, _BLOCK // max(line_bytes, 1)), 1)
    if rows < lines or images < 4 * parts:
        bands = -(-lines // rows)
        if images < 4 * parts:
            bands = max(bands, min(4 * parts, lines))
        return 1, -(-lines // bands)
    count = max(min(images, _BLOCK // max(line_bytes * lines, 1)), 1)
    blocks = -(-images // count)
    blocks = -(-blocks // parts) * parts
    return max(-(-images // blocks), 1), lines


def _runs(taps: list[tuple[int, int]], geo: Geometry, size: int) -> tuple[list[list[int]], list[int]]:
    """Return (runs, ends of pieces) for offsets (row, column) in the image: what is read in one go, cut into pieces."""
    most = max(_PIECE // (geo.wide * size), 1)
    whole = geo.inner == geo.channels
    spans: list[list[int]] = []  # begin in the image, length
    for row, column in taps:
        begin = (row * geo.bordered + column) * geo.channels
        if spans and whole and spans[-1][0] + spans[-1][1] == begin:
            spans[-1][1] += geo.inner
        else:
            spans.append([begin, geo.inner])
    total = sum(length for _, length in spans)
    most = max(-(-total // max(-(-total // most), 1)), 1)
    runs, ends, held, at = [], [], 0, 0
    for begin, length in spans:
        while length:
            if held == most:
                ends.append(len(runs))
                held = 0
            taken = min(length, most - held)
            runs.append([begin * size, at * geo.wide * size, taken])
            begin, length, held, at = begin + taken, length - taken, held + taken, at + taken
    return runs, [*ends, len(runs)]


@lru_cache(maxsize=512)
def _job(lay: Layout, adjoint: bool, size: int, number: int) -> Job:
    """Return the tables for a convolution, or for its adjoint, with at most `number` parts."""
    depth, out = lay.depth, lay.f // lay.groups
    if adjoint:
        vertical = _adjoint_axis(lay.kh, lay.sh, lay.dh, lay.top, lay.h)
        horizontal = _adjoint_axis(lay.kw, lay.sw, lay.dw, lay.left, lay.w)
        vertical, top, bottom = _bordered(vertical, lay.oh)
        horizontal, left, right = _bordered(horizontal, lay.ow)
        return _make(lay.n, (lay.oh, lay.ow, lay.f), (lay.h, lay.w, lay.c), vertical, horizontal, (1, 1),
                     (lay.sh, lay.sw), (top, bottom, left, right), lay.groups, out, depth, lay.kw, size, number)
    vertical = [_Axis(lay.oh, 0, tuple((i, i * lay.dh) for i in range(lay.kh)))]
    horizontal = [_Axis(lay.ow, 0, tuple((j, j * lay.dw) for j in range(lay.kw)))]
    return _make(lay.n, (lay.h, lay.w, lay.c), (lay.oh, lay.ow, lay.f), vertical, horizontal, (lay.sh, lay.sw), (1, 1),
                 (lay.top, lay.bottom, lay.left, lay.right), lay.groups, depth, out, lay.kw, size, number)


def _make(
    n: int, image: Any, result: Any, vertical: list[_Axis], horizontal: list[_Axis], steps: Any, strides: Any,
    border: Any, groups: int, inner: int, columns: int, window_width: int, size: int, number: int,
) -> Job:
    top, bottom, left, right = border
    vectors = tiles.vectors_for(columns, size)
    lines = max(axis.windows for axis in vertical)
    bordered = image[1] + left + right
    span = max([offset for axis in vertical for _, offset in axis.taps], default=0) + 1
    work = 2.0 * n * prod(result[:2]) * inner * columns * groups * len(vertical[0].taps) * len(horizontal[0].taps)
    parts = team.parts(max(n * lines, 1), work, LEAST["conv_part"], number)
    line_bytes = (steps[0] * bordered * image[2] + strides[0] * result[1] * result[2]) * size
    count, rows = _blocks(n, lines, line_bytes, parts)
    geo = Geometry(
        images=n, height=image[0], width=image[1], channels=image[2], top=top, left=left, bordered=bordered,
        padded=int(bool(top or bottom or left or right)), lines=lines, down=steps[0], along=steps[1], span=span,
        out_height=result[0], out_width=result[1], out_channels=result[2], out_down=strides[0], groups=groups,
        inner=inner, columns=columns, packed=0, wide=vectors * (tiles.register_bytes() // size),
        tall=tiles.tile_rows(vectors), count=count, rows=rows, piece=0,
    )
    block_rows = (rows - 1) * steps[0] + span
    plane = (block_rows if geo.padded else image[0]) * bordered * image[2]
    phases, pieces, runs, places, targets, taps = [], [], [], [], [], []
    begin_place = weights = 0
    panels = -(-columns // geo.wide)
    for v in vertical:
        for h in horizontal:
            found = [(i * window_width + j, r, c) for i, r in v.taps for j, c in h.taps]
            new, ends = _runs([(r, c) for _, r, c in found], geo, size)
            depth = inner * len(found)
            phases.append([
                v.windows, h.windows, begin_place, len(pieces), len(pieces) + len(ends), weights, depth, len(taps),
                len(taps) + len(found), (v.first * result[1] + h.first) * result[2] * size, len(runs),
            ])
            pieces += [len(runs) + end for end in ends]
            runs += new
            taps += [tap for tap, _, _ in found]
            weights += depth * geo.wide * panels
            grid = np.ogrid[:count, : min(rows, v.windows), : h.windows]
            at = grid[0] * plane + (grid[1] * steps[0] * bordered + grid[2] * steps[1]) * image[2]
            to = (grid[0] * result[0] + grid[1] * strides[0]) * result[1] + grid[2] * strides[1]
            places.append((at * size).reshape(-1))
            targets.append((to * result[2] * size).reshape(-1))
            begin_place += places[-1].size
    return Job(
        geo._replace(packed=weights), (0,) * vectors, parts, count * plane if geo.padded else 0, _table(phases, 11),
        _table(pieces), _table(runs, 3), np.concatenate(places), np.concatenate(targets), _table(taps),
    )


@lru_cache(maxsize=512)
def _kernel_job(lay: Layout, size: int, number: int) -> Job:
    """Return the tables for the gradient of the kernel: the sums run over the windows."""
    out = lay.f // lay.groups
    vectors = tiles.vectors_for(out, size)
    wide, tall = vectors * (tiles.register_bytes() // size), tiles.tile_rows(vectors)
    bordered = lay.w + lay.left + lay.right
    work = 2.0 * lay.n * lay.oh * lay.ow * lay.f * lay.depth * lay.kh * lay.kw
    parts = team.parts(max(lay.n * lay.oh, 1), work, LEAST["conv_part"], number)
    line_bytes = (lay.sh * bordered * lay.c + lay.ow * lay.f) * size
    count, rows = _blocks(lay.n, lay.oh, line_bytes, parts)
    span = (lay.kh - 1) * lay.dh + 1
    geo = Geometry(
        images=lay.n, height=lay.h, width=lay.w, channels=lay.c, top=lay.top, left=lay.left, bordered=bordered,
        padded=int(lay.padded), lines=lay.oh, down=lay.sh, along=lay.sw, span=span, out_height=lay.oh,
        out_width=lay.ow, out_channels=lay.f, out_down=1, groups=lay.groups, inner=lay.depth, columns=out, packed=0,
        wide=wide, tall=tall, count=count, rows=rows, piece=max(_SLOPES // (lay.ow * wide * size), 1),
    )
    plane = ((rows - 1) * lay.sh + span if lay.padded else lay.h) * bordered * lay.c
    grid = np.ogrid[:count, :rows]
    at = (grid[0] * plane + grid[1] * lay.sh * bordered * lay.c) * size
    slopes = (grid[0] * lay.oh + grid[1]) * lay.ow * lay.f * size
    runs = np.stack([at.reshape(-1), slopes.reshape(-1), np.full(at.size, lay.ow)], 1).astype(_LONG)
    taps = np.ogrid[: lay.kh, : lay.kw, : lay.depth]
    places = ((taps[0] * lay.dh * bordered + taps[1] * lay.dw) * lay.c + taps[2]).reshape(-1) * size
    targets = np.arange(places.size) * lay.f * size
    last = np.minimum(np.arange(-(-places.size // tall) * tall), places.size - 1)  # rows behind the last repeat it
    nothing = _table([])
    return Job(
        geo, (0,) * vectors, parts, count * plane if lay.padded else 0, nothing, nothing, runs, places[last],
        targets[last], nothing,
    )


# -- the kernels -----------------------------------------------------------------------------------------------------


def _seen(lay: Layout) -> Layout:
    """Return the layout that is computed: where every window is one element, all images are one."""
    if not lay.pointwise:
        return lay
    return lay._replace(n=1, h=lay.n * lay.h, oh=lay.n * lay.h)


def _scratch(job: Job, dtype: Any) -> tuple[Form, ...]:
    packed = job.geo.packed * job.geo.groups
    return Form((job.parts, job.buffer), dtype), Form((packed,), dtype), Form((job.geo.out_channels + job.geo.wide,), dtype)


def _convolve(
    lay: Layout, adjoint: bool, scratch: Any, x: Any, kernel: Any, bias: Any, y: Any, rectify: bool = False
) -> None:
    """Write a convolution, or its adjoint, of planes x into y."""
    if not y.size:
        return
    lay = _seen(lay)
    border, packed, init = scratch
    job = _job(lay, adjoint, y.itemsize, len(border))
    geo, dtype = job.geo, y.dtype
    init.fill(0)
    if bias is not None:
        init[: bias.size] = bias
    kind = (dtype, len(job.width))
    weights = kernel.reshape(lay.kh * lay.kw, lay.depth, lay.f)
    some = job.parts if weights.size > 1 << 15 else 1
    team.TEAM.run(_PACK, dtype, some, weights, job.taps, job.phases, geo, adjoint, packed)
    team.TEAM.run(
        _DIRECT, kind, job.parts, job.width, x.reshape(-1), packed, init, y.reshape(-1), border, geo, job.phases,
        job.pieces, job.runs, job.places, job.targets, rectify,
    )


def _kernel_scratch(lay: Layout, dtype: Any) -> tuple[Form, ...]:
    job = _kernel_job(_seen(lay), dtype.itemsize, threads.count())
    return Form((job.parts, job.buffer), dtype), Form((job.parts, lay.kh * lay.kw * lay.depth * lay.f), dtype)


def _kernel_gradient(lay: Layout, scratch: Any, x: Any, g: Any, dk: Any) -> None:
    """Write the gradient for the kernel into dk."""
    if not dk.size:
        return
    lay = _seen(lay)
    border, gradients = scratch
    job = _kernel_job(lay, dk.itemsize, len(border))
    kind = (dk.dtype, len(job.width))
    team.TEAM.run(
        _BY_KERNEL, kind, job.parts, job.width, x.reshape(-1), g.reshape(-1), gradients, border,
        job.geo, job.runs, job.places, job.targets,
    )
    total = dk.reshape(-1)
    total[...] = gradients[0]
    for other in gradients[1:]:
        np.add(total, other, out=total)


def _wide_enough(found: plain.Shapes, *dtypes: Any) -> bool:
    """Tell whether the compiled kernels take a convolution."""
    lay = found.layout
    if lay is None or lay.depthwise or any(dtype != found.dtype for dtype in dtypes):
        return False
    work = 2.0 * lay.n * lay.oh * lay.ow * lay.f * lay.depth * lay.kh * lay.kw
    return work >= LEAST["conv"] and work > 0 and available()


def _kernel(shapes: Any, adjoint: bool) -> Kernel:
    """Return the kernel of a convolution or of its adjoint: `shapes` reads the layout from the inputs."""

    def run(ctx: Any, outs: Any, x: Any, kernel: Any, **attrs: Any) -> None:
        lay = shapes(x, kernel, attrs).layout
        _convolve(lay, adjoint, ctx.scratch, planes(x), kernel, None, planes(outs[0]))

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        found = shapes(*forms, attrs)
        return _scratch(_job(_seen(found.layout), adjoint, found.dtype.itemsize, threads.count()), found.dtype)

    def supports(forms: Any, **attrs: Any) -> bool:
        return _wide_enough(shapes(*forms, attrs), *(form.dtype for form in forms))

    return Kernel(run, scratch=scratch, dtypes=_DTYPES, supports=supports, contiguous=True)


def _run_kernel_gradient(ctx: Any, outs: Any, x: Any, g: Any, **attrs: Any) -> None:
    lay = plain.of_kernel_gradient(x, g, attrs).layout
    assert lay is not None
    _kernel_gradient(lay, ctx.scratch, planes(x), planes(g), outs[0])


def _need_kernel_gradient(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    found = plain.of_kernel_gradient(*forms, attrs)
    assert found.layout is not None
    return _kernel_scratch(found.layout, found.dtype)


VARIANTS: dict[str, Kernel] = {
    "conv": _kernel(plain.of_conv, False),
    "conv_input_gradient": _kernel(plain.of_input_gradient, True),
    "conv_transpose": _kernel(plain.of_transpose, True),
    "conv_kernel_gradient": Kernel(
        _run_kernel_gradient, scratch=_need_kernel_gradient, dtypes=_DTYPES, contiguous=True,
        supports=lambda forms, **attrs: _wide_enough(
            plain.of_kernel_gradient(*forms, attrs), *(form.dtype for form in forms)
        ),
    ),
}
