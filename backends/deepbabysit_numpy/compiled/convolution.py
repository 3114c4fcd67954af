"""Convolutions in compiled code: tables of what a tile reads and writes, blocks for the caches, parts for the team.

One kernel serves the convolution and its adjoint. The adjoint of a convolution with stride s is made of s convolutions
with stride 1 (for each axis), each with the elements of the kernel that meet its outputs: `phases`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import threads
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.code import registers
from deepbabysit_numpy.compiled.code.geometry import Geometry
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels import convolution as plain
from deepbabysit_numpy.kernels.convolution import Layout, planes
from deepbabysit_numpy.kernels.products import activate

_DTYPES = frozenset({"float32", "float64"})
_PACK, _DIRECT, _BY_KERNEL, _JOIN = (
    Compiled("convolution", name) for name in ("pack", "direct", "by_kernel", "join")
)
_BLOCK = 384 << 10  # bytes of a block's image and result: a share of the second-level cache
_PIECE = 40 << 10  # bytes of weights that stay in the first-level cache
_SLOPES = 16 << 10  # bytes of a result's gradient that stay there
_MANY_CHANNELS = 6
_LONG = np.dtype(np.int64)


class Job(NamedTuple):
    """Everything about a convolution that follows from shapes and the number of threads.

    `places` and `targets` say where the windows of a class begin in the images of a block and where their results go.
    Columns of `classes`: first and last row of windows, windows in a row, begin in `places`, begin and end in
    `pieces`, begin in `runs`, begin in the packed weights, length of the whole sum. Columns of `weights`: begin and
    end in `taps`, begin in the packed weights.
    """

    geo: tuple[int, ...]  # a Geometry; plain tuples reach compiled code faster
    first: int  # numbers that sums begin with
    packed: int  # numbers in the packed weights
    width: tuple[int | bool, ...]  # as tiles want it
    height: tuple[int, ...]  # a tuple as long as a tile of the kernel's gradient is high
    parts: int
    buffer: int  # numbers in the border of a part
    classes: np.ndarray
    weights: np.ndarray
    pieces: np.ndarray
    runs: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    taps: np.ndarray


class _Axis(NamedTuple):
    """Windows of one axis that meet the same elements of the kernel.

    Window q reads the image at ``q * step + offset`` and gives the output ``q * stride + first``.
    """

    begin: int  # q of the first window
    end: int
    first: int
    taps: tuple[tuple[int, int], ...]  # (element of the kernel, offset)

    def classes(self, step: int, length: int) -> list[_Axis]:
        """Return the axis cut by which elements of the kernel meet the image, and which its border."""
        found: list[_Axis] = []
        for q in range(self.begin, self.end):
            taps = tuple(tap for tap in self.taps if 0 <= q * step + tap[1] < length)
            if found and found[-1].taps == taps:
                found[-1] = found[-1]._replace(end=q + 1)
            else:
                found.append(_Axis(q, q + 1, self.first, taps))
        return found


def _table(rows: Any, columns: int = 0) -> np.ndarray:
    return np.array(rows, _LONG).reshape((-1, columns) if columns else -1)


def _forward_axis(window: int, dilation: int, before: int, out: int) -> list[_Axis]:
    return [_Axis(0, out, 0, tuple((i, i * dilation - before) for i in range(window)))]


def _adjoint_axis(window: int, stride: int, dilation: int, before: int, length: int) -> list[_Axis]:
    """Return the phases of an axis: output ``q * stride + first`` is made of the positions ``q + offset``."""
    found = []
    for first in range(min(stride, length)):
        taps = []
        for i in range(window):
            if (first + before - i * dilation) % stride == 0:
                taps.append((i, (first + before - i * dilation) // stride))
        found.append(_Axis(0, -(-(length - first) // stride), first, tuple(sorted(taps, key=lambda tap: tap[1]))))
    return found


def _blocks(images: int, lines: int, line_bytes: int, parts: int) -> tuple[int, int]:
    """Return (images, rows of windows) of a block."""
    rows = max(min(lines, _BLOCK // max(line_bytes, 1)), 1)
    if rows < lines or (images < 4 * parts and images * lines > 4 * parts):
        bands = -(-lines // rows)
        if images < 4 * parts:
            bands = max(bands, min(4 * parts, lines))
        return 1, -(-lines // bands)
    count = max(min(images, _BLOCK // max(line_bytes * lines, 1)), 1)
    blocks = -(-images // count)
    blocks = -(-blocks // parts) * parts
    return max(-(-images // blocks), 1), lines


def _runs(taps: list[tuple[int, int, int]], geo: Geometry, size: int) -> tuple[list[list[int]], list[int]]:
    """Return (runs, ends of pieces) for elements (row, column, number): what is read in one go, cut into pieces."""
    most = max(_PIECE // (geo.wide * size), 1)
    whole = geo.inner == geo.channels
    spans: list[list[int]] = []  # begin in the image, begin in the weights, length
    for row, column, number in taps:
        begin, weights = (row * geo.width + column) * geo.channels, number * geo.inner
        last = spans[-1] if spans and whole else [0, 0, -1]
        if last[0] + last[2] == begin and last[1] + last[2] == weights:
            last[2] += geo.inner
        else:
            spans.append([begin, weights, geo.inner])
    total = sum(length for _, _, length in spans)
    most = max(-(-total // max(-(-total // most), 1)), 1)
    runs: list[list[int]] = []
    ends: list[int] = []
    held = 0
    for begin, weights, length in spans:
        while length:
            if held == most:
                ends.append(len(runs))
                held = 0
            taken = min(length, most - held)
            runs.append([begin * size, weights * geo.wide * size, taken])
            begin, weights, length, held = begin + taken, weights + taken, length - taken, held + taken
    return runs, [*ends, len(runs)]


@lru_cache(maxsize=512)
def _job(lay: Layout, adjoint: bool, size: int, number: int) -> Job:
    """Return the tables for a convolution, or for its adjoint, with at most `number` parts."""
    depth, out = lay.depth, lay.f // lay.groups
    if adjoint:
        vertical = _adjoint_axis(lay.kh, lay.sh, lay.dh, lay.top, lay.h)
        horizontal = _adjoint_axis(lay.kw, lay.sw, lay.dw, lay.left, lay.w)
        image, result = (lay.oh, lay.ow, lay.f), (lay.h, lay.w, lay.c)
        step, stride, inner, columns = (1, 1), (lay.sh, lay.sw), out, depth
    else:
        vertical = _forward_axis(lay.kh, lay.dh, lay.top, lay.oh)
        horizontal = _forward_axis(lay.kw, lay.dw, lay.left, lay.ow)
        image, result = (lay.h, lay.w, lay.c), (lay.oh, lay.ow, lay.f)
        step, stride, inner, columns = (lay.sh, lay.sw), (1, 1), depth, out
    groups, apart = (1, True) if lay.depthwise else (lay.groups, False)
    if apart:
        inner, columns = 1, lay.c
    vectors = registers.vectors_for(columns, size)
    lines = max(axis.end for axis in vertical)
    work = 2.0 * lay.n * lay.oh * lay.ow * lay.f * depth * lay.kh * lay.kw
    parts = team.parts(max(lay.n * lines, 1), work, LEAST["conv_part"], number)
    line_bytes = (step[0] * image[1] * image[2] + stride[0] * result[1] * result[2]) * size
    together, rows = _blocks(lay.n, lines, line_bytes, parts)
    geo = Geometry(
        images=lay.n, height=image[0], width=image[1], channels=image[2], out_height=result[0], out_width=result[1],
        out_channels=result[2], groups=groups, inner=inner, columns=columns,
        wide=vectors * (registers.register_bytes() // size), tall=registers.tile_rows(vectors), together=together,
        rows=rows,
        lines=lines,
    )
    geo = geo._replace(shift=geo.wide * apart)
    classes: list[list[int]] = []
    weights: list[list[int]] = []
    runs: list[list[int]] = []
    pieces: list[int] = []
    taps: list[int] = []
    places: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    table = start = 0
    panels = -(-columns // geo.wide)
    for v in vertical:
        for h in horizontal:
            found = [i * lay.kw + j for i, _ in v.taps for j, _ in h.taps]
            numbers = {tap: number for number, tap in enumerate(found)}
            weights.append([len(taps), len(taps) + len(found), start])
            for up in v.classes(step[0], image[0]):
                for across in h.classes(step[1], image[1]):
                    met = [(r, c, numbers[i * lay.kw + j]) for i, r in up.taps for j, c in across.taps]
                    new, ends = _runs(met, geo, size)
                    classes.append([
                        up.begin, up.end, across.end - across.begin, table, len(pieces), len(pieces) + len(ends),
                        len(runs), start, inner * len(found),
                    ])
                    pieces += [len(runs) + end for end in ends]
                    runs += new
                    grid = np.ogrid[:together, up.begin : up.end, across.begin : across.end]
                    at = (grid[0] * image[0] + grid[1] * step[0]) * image[1] + grid[2] * step[1]
                    to = (grid[0] * result[0] + grid[1] * stride[0] + v.first) * result[1]
                    places.append((at * image[2] * size).reshape(-1))
                    targets.append(((to + grid[2] * stride[1] + h.first) * result[2] * size).reshape(-1))
                    table += places[-1].size
            taps += found
            start += inner * len(found) * geo.wide * panels
    return Job(
        tuple(geo._replace(packed=start)), result[2] + geo.wide, start * groups, _width(vectors, apart), (), parts, 0,
        _table(classes, 9), _table(weights, 3),
        _table(pieces), _table(runs, 3), np.concatenate(places), np.concatenate(targets), _table(taps),
    )


def _ranges(window: int, stride: int, dilation: int, before: int, length: int, out: int) -> list[tuple[int, int]]:
    """Return for each element of the kernel the first and last window in which it meets the image."""
    found = []
    for i in range(window):
        offset = i * dilation - before
        first = min(max(-(offset // stride), 0), out)
        last = min(max((length - 1 - offset) // stride + 1, first), out)
        found.append((first, last))
    return found


def _members(lay: Layout, bordered: bool) -> dict[tuple[int, int, int, int], list[int]]:
    """Return classes: (first and last row of windows, first and last window in a row) -> elements of the kernel."""
    members: dict[tuple[int, int, int, int], list[int]] = {}
    if lay.depthwise:  # an element alone is one row of a tile: windows that meet the same elements go together
        vertical = _forward_axis(lay.kh, lay.dh, lay.top, lay.oh)[0].classes(lay.sh, lay.h)
        horizontal = _forward_axis(lay.kw, lay.dw, lay.left, lay.ow)[0].classes(lay.sw, lay.w)
        for up in vertical:
            for across in horizontal:
                taps = [i * lay.kw + j for i, _ in up.taps for j, _ in across.taps]
                members[up.begin, up.end, across.begin, across.end] = taps
        return members
    if bordered:
        down, beside = [(0, lay.oh)] * lay.kh, [(0, lay.ow)] * lay.kw
    else:
        down = _ranges(lay.kh, lay.sh, lay.dh, lay.top, lay.h, lay.oh)
        beside = _ranges(lay.kw, lay.sw, lay.dw, lay.left, lay.w, lay.ow)
    for i in range(lay.kh):
        for j in range(lay.kw):
            members.setdefault((*down[i], *beside[j]), []).append(i * lay.kw + j)
    return members


@lru_cache(maxsize=512)
def _kernel_job(lay: Layout, size: int, number: int) -> Job:
    """Return the tables for the gradient of the kernel: the sums run over the windows.

    Here a class has the elements of the kernel that meet the image in the same windows. Columns of `classes`: first
    and last row of windows, begin in `runs`, begin and end in `places`.
    """
    groups, apart = (1, True) if lay.depthwise else (lay.groups, False)
    out = lay.f // groups
    vectors = registers.vectors_for(out, size)
    wide = vectors * (registers.register_bytes() // size)
    work = 2.0 * lay.n * lay.oh * lay.ow * lay.f * lay.depth * lay.kh * lay.kw
    parts = team.parts(max(lay.n * lay.oh, 1), work, LEAST["conv_part"], number)
    # with few channels a class would have fewer elements than a tile has rows: then the border is written; where every
    # channel stays by itself, reading all images once more for it costs too much
    bordered = lay.padded and lay.depth < _MANY_CHANNELS and not lay.depthwise
    line = lay.w + (lay.left + lay.right if bordered else 0)
    line_bytes = (lay.sh * line * lay.c + lay.ow * lay.f) * size
    together, rows = _blocks(lay.n, lay.oh, line_bytes, parts)
    span = (lay.kh - 1) * lay.dh + 1
    top, left = (0, 0) if bordered else (lay.top, lay.left)
    height = (rows - 1) * lay.sh + span if bordered else lay.h
    members = _members(lay, bordered)
    tall = registers.best_rows(vectors, [len(taps) * lay.depth for taps in members.values()])
    classes: list[list[int]] = []
    runs: list[np.ndarray] = []
    places: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    run = place = 0
    for (first, last, begin, end), taps in members.items():
        if first >= last or begin >= end or not taps:
            continue
        grid = np.ogrid[:together, first:last]
        at = ((grid[0] * height + grid[1] * lay.sh - top) * line + begin * lay.sw - left) * lay.c
        slopes = ((grid[0] * lay.oh + grid[1]) * lay.ow + begin) * lay.f
        runs.append(np.stack([at.reshape(-1) * size, slopes.reshape(-1) * size, np.full(at.size, end - begin)], 1))
        number_of = np.array(taps)[:, None]
        channels = np.arange(lay.depth)
        offsets = ((number_of // lay.kw * lay.dh * line + number_of % lay.kw * lay.dw) * lay.c + channels).reshape(-1)
        results = ((number_of * lay.depth + channels) * lay.f).reshape(-1)
        # rows behind the last repeat it
        kept = np.minimum(np.arange(-(-offsets.size // tall) * tall), offsets.size - 1)
        places.append(offsets[kept] * size)
        targets.append(results[kept] * size)
        classes.append([first, last, run, place, place + kept.size])
        run += at.size
        place += kept.size
    geo = Geometry(
        images=lay.n, height=lay.h, width=lay.w, channels=lay.c, top=lay.top, left=lay.left, bordered=line,
        padded=int(bordered), lines=lay.oh, down=lay.sh, along=lay.sw, span=span, out_height=lay.oh, out_width=lay.ow,
        out_channels=lay.f, groups=groups, inner=lay.depth, shift=wide * apart, columns=out, wide=wide, tall=tall,
        together=together, rows=rows, piece=max(_SLOPES // (lay.ow * wide * size), 1),
    )
    pieces = -(-together * rows // geo.piece)
    nothing = _table([])
    return Job(
        tuple(geo._replace(calls=max(pieces * groups * -(-out // wide) * (place // tall), 1))), 0, 0,
        _width(vectors, apart), (0,) * tall, parts, together * height * line * lay.c if bordered else 0,
        _table(classes, 5), nothing, nothing, _table(np.concatenate(runs or [np.zeros((0, 3))]), 3), _joined(places),
        _joined(targets), nothing,
    )


def _joined(tables: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([*tables, np.zeros(0, _LONG)]).astype(_LONG)


def _width(vectors: int, apart: bool) -> tuple[int | bool, ...]:
    """Return what tells tiles how wide they are: see `code/tiles.py`."""
    return (False if apart else 0,) * vectors


# -- the kernels -----------------------------------------------------------------------------------------------------


def _seen(lay: Layout) -> Layout:
    """Return the layout that is computed: where every window is one element, all images are one."""
    if not lay.pointwise:
        return lay
    return lay._replace(n=1, h=lay.n * lay.h, oh=lay.n * lay.h)


def _scratch(job: Job, dtype: Any) -> tuple[Form, ...]:
    return Form((job.parts, job.buffer), dtype), Form((job.packed,), dtype), Form((job.first,), dtype)


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
    kind = (dtype, len(job.width), lay.depthwise)
    weights = kernel.reshape(lay.kh * lay.kw, lay.depth, lay.f)
    if job.parts > 1:
        team.LOAN.take()
    some = job.parts if weights.size > 1 << 15 else 1
    team.TEAM.run(_PACK, dtype, some, weights, job.taps, job.weights, geo,
                  adjoint and not lay.depthwise, packed, init[:0] if bias is None else bias, init)
    team.TEAM.run(
        _DIRECT, kind, job.parts, job.width, x.reshape(-1), packed, init, y.reshape(-1), geo, job.classes,
        job.pieces, job.runs, job.places, job.targets, rectify,
    )


def _kernel_scratch(lay: Layout, dtype: Any, bias: bool) -> tuple[Form, ...]:
    job = _kernel_job(_seen(lay), dtype.itemsize, threads.count())
    lengths = (job.buffer, lay.kh * lay.kw * lay.depth * lay.f, lay.f if bias else 0)
    return tuple(Form((job.parts, length), dtype) for length in lengths)


def _kernel_gradient(lay: Layout, scratch: Any, x: Any, g: Any, outs: Any) -> None:
    """Write the gradients for the kernel and, where there is a second place, for the bias."""
    dk = outs[0]
    lay = _seen(lay)
    border, gradients, sums = scratch
    job = _kernel_job(lay, dk.itemsize, len(border))
    kind = (dk.dtype, len(job.width), lay.depthwise, len(job.height))
    if job.parts > 1:
        team.LOAN.take()
    team.TEAM.run(
        _BY_KERNEL, kind, job.parts, job.width, job.height, x.reshape(-1), g.reshape(-1), gradients, sums,
        border, job.geo, job.classes, job.runs, job.places, job.targets,
    )
    for out, copies in zip(outs, (gradients, sums), strict=False):
        _JOIN(dk.dtype, copies, out.reshape(-1))


def _wide_enough(found: plain.Shapes, *dtypes: Any) -> bool:
    """Tell whether the compiled kernels take a convolution."""
    lay = found.layout
    if lay is None or (lay.depthwise and lay.f != lay.c) or any(dtype != found.dtype for dtype in dtypes):
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


def _affine(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear", **attrs: Any) -> None:
    lay = plain.of_conv(x, kernel, attrs).layout
    assert lay is not None
    _convolve(lay, False, ctx.scratch, planes(x), kernel, bias, planes(outs[0]), activation == "relu")
    if activation != "relu":
        activate(outs[0], activation)


def _affine_scratch(forms: Any, *, activation: str = "linear", **attrs: Any) -> tuple[Form, ...]:
    assert _CONV.scratch is not None
    return _CONV.scratch(forms[:2], **attrs)


def _takes_affine(forms: Any, *, activation: str = "linear", **attrs: Any) -> bool:
    x, kernel, bias = forms
    return _wide_enough(plain.of_conv(x, kernel, attrs), *(form.dtype for form in forms))


def _gradients(bias: bool) -> Kernel:
    """Return the kernel of the gradients for the kernel and perhaps the bias."""

    def run(ctx: Any, outs: Any, x: Any, g: Any, **attrs: Any) -> None:
        lay = plain.of_kernel_gradient(x, g, attrs).layout
        assert lay is not None
        _kernel_gradient(lay, ctx.scratch, planes(x), planes(g), outs)

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        x, g = forms
        found = plain.of_kernel_gradient(x, g, attrs)
        assert found.layout is not None
        return _kernel_scratch(found.layout, found.dtype, bias)

    def supports(forms: Any, **attrs: Any) -> bool:
        x, g = forms
        return _wide_enough(plain.of_kernel_gradient(x, g, attrs), x.dtype, g.dtype)

    return Kernel(run, scratch=scratch, dtypes=_DTYPES, supports=supports, contiguous=True)


_CONV = _kernel(plain.of_conv, False)
VARIANTS: dict[str, Kernel] = {
    "affine_conv": Kernel(_affine, scratch=_affine_scratch, dtypes=_DTYPES, supports=_takes_affine, contiguous=True),
    "conv": _CONV,
    "depthwise_conv": _kernel(plain.of_depthwise, False),
    "conv_input_gradient": _kernel(plain.of_input_gradient, True),
    "conv_transpose": _kernel(plain.of_transpose, True),
    "conv_kernel_gradient": _gradients(False),
    "conv_parameter_gradients": _gradients(True),
}
_RUNS = {kernel.run for kernel in VARIANTS.values()}


def convolves(call: Any) -> bool:
    """Tell whether a recorded call is a convolution of this module."""
    return getattr(call[0], "func", None) in _RUNS
