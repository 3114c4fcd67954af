"""Normalizations over flat channels-last arrays.

Few channels would make the inner loops short, so a run of rows is read as one row of `width` elements, a multiple of
the channels: element j belongs to channel j modulo the channels ("lanes"). Sums over lanes are kept for some kilobytes
of input and then added in float64. Means and variances come from one pass: a block is summed up around the mean of
what came before it, and the blocks are put together after Chan, Golub and LeVeque (1979). A block that lies far from
the others loses digits of its own variance, and adds as much to the whole, so that nothing cancels. Sums over lanes
need no other order than the written one to be fast: with and without the ReLU behind it the bits are the same.
"""

from __future__ import annotations

import math
from typing import Any

from deepbabysit_numpy.compiled.jit import jit, ordered

_BLOCK = 16384  # elements between two additions in float64


@ordered
def _step(width: Any) -> Any:
    """Return the length of a block: some folded rows."""
    return width * max(_BLOCK // width, 1)


@ordered
def _bounds(part: Any, parts: Any, size: Any, channels: Any) -> Any:
    """Return where a part of the rows begins and ends."""
    rows = size // channels
    return rows * part // parts * channels, rows * (part + 1) // parts * channels


@ordered
def _clear(lanes: Any) -> None:
    zero = lanes.dtype.type(0.0)
    for i in range(lanes.shape[0]):
        for j in range(lanes.shape[1]):
            lanes[i, j] = zero


@ordered
def _add_lanes(x: Any, begin: Any, end: Any, lanes: Any) -> None:
    """Add ``v = x - lane 0`` of a block to lane 1, ``v^2`` to lane 2."""
    width = lanes.shape[1]
    center, first, second = lanes[0], lanes[1], lanes[2]
    for at in range(begin, end, width):
        part = x[at : min(at + width, end)]
        for j in range(part.size):
            v = part[j] - center[j]
            first[j] += v
            second[j] += v * v


@ordered
def _fold(lanes: Any, totals: Any) -> None:
    """Add the sum over the lanes of each channel, in float64, row by row."""
    channels = totals.shape[1]
    for i in range(totals.shape[0]):
        total = totals[i]
        for at in range(0, lanes.shape[1], channels):
            part = lanes[i, at : at + channels]
            for j in range(channels):
                total[j] += part[j]


@ordered
def _repeat(vectors: Any, lanes: Any) -> None:
    """Write vectors over the channels into the lanes, again and again, row by row."""
    real, channels = lanes.dtype.type, vectors.shape[1]
    for i in range(vectors.shape[0]):
        vector = vectors[i]
        for at in range(0, lanes.shape[1], channels):
            part = lanes[i, at : at + channels]
            for j in range(channels):
                part[j] = real(vector[j])


@ordered
def _moments(x: Any, begin: Any, end: Any, lanes: Any, totals: Any) -> None:
    """Write mean and sum of squared distances from it of each channel into totals 0 and 1; 2 and 3 are used."""
    channels = totals.shape[1]
    step = _step(lanes.shape[1])
    for j in range(channels):
        totals[0, j] = 0.0
        totals[1, j] = 0.0
    _clear(lanes[:3])
    done = 0.0
    # the first block is read twice: the first time tells about where it lies
    for first in range(begin - step, end, step):
        start, last = max(first, begin), min(max(first, begin) + step, end)
        _add_lanes(x, start, last, lanes)
        for j in range(channels):
            totals[2, j] = 0.0
            totals[3, j] = 0.0
        _fold(lanes[1:3], totals[2:4])
        count = float((last - start) // channels)
        share = count / (done + count)
        for j in range(channels):
            center = float(lanes[0, j])
            near = totals[2, j] / count
            if first < begin:
                totals[0, j] = near
            else:
                square = totals[3, j] - totals[2, j] * near
                far = center + near - totals[0, j]
                totals[1, j] += (0.0 if square < 0.0 else square) + far * far * (done * share)
                totals[0, j] = center + near if done == 0.0 else totals[0, j] + far * share
        if first >= begin:
            done += count
        _repeat(totals[0:1], lanes[0:1])
        _clear(lanes[1:3])


@ordered
def _scale_lanes(x: Any, y: Any, begin: Any, end: Any, lanes: Any, rectify: Any) -> None:
    """``y = (x - center) * scale + shift``, or the larger of that and 0; NaN stays. Lanes: center, scale, shift."""
    width, zero = lanes.shape[1], lanes.dtype.type(0.0)
    center, scale, shift = lanes[0], lanes[1], lanes[2]
    for at in range(begin, end, width):
        source, target = x[at : min(at + width, end)], y[at : min(at + width, end)]
        if rectify:
            for j in range(source.size):
                v = (source[j] - center[j]) * scale[j] + shift[j]
                target[j] = zero if v <= zero else v
        else:
            for j in range(source.size):
                target[j] = (source[j] - center[j]) * scale[j] + shift[j]


@ordered
def _affine(mean: Any, var: Any, gamma: Any, beta: Any, epsilon: Any, lanes: Any, totals: Any) -> None:
    """Write center, scale and shift for `_scale_lanes`, by channel and in lanes."""
    for j in range(gamma.size):
        totals[0, j] = mean[j]
        totals[1, j] = gamma[j] / math.sqrt(var[j] + epsilon)
        totals[2, j] = beta[j]
    _repeat(totals[:3], lanes[:3])


@jit
def moments(part: Any, parts: Any, x: Any, lanes: Any, totals: Any) -> None:
    """Mean and sum of squared distances of each channel over a part of the rows, into totals 0 and 1 of the part."""
    begin, end = _bounds(part, parts, x.size, totals.shape[2])
    _moments(x, begin, end, lanes[part], totals[part])


@jit
def join_moments(parts: Any, size: Any, totals: Any, mean: Any, var: Any) -> None:
    """Mean and variance of all rows from those of the parts."""
    real, channels = mean.dtype.type, mean.size
    for j in range(channels):
        done, middle, square = 0.0, 0.0, 0.0
        for part in range(parts):
            begin, end = _bounds(part, parts, size, channels)
            count = float((end - begin) // channels)
            share = count / (done + count)
            far = totals[part, 0, j] - middle
            square += totals[part, 1, j] + far * far * (done * share)
            middle = totals[part, 0, j] if part == 0 else middle + far * share
            done += count
        mean[j] = real(middle)
        var[j] = real(square / done)


@jit
def normalize(
    part: Any, parts: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, y: Any, epsilon: Any, lanes: Any,
    totals: Any, rectify: Any,
) -> None:
    """One pass over a part of the rows with given statistics."""
    begin, end = _bounds(part, parts, x.size, gamma.size)
    _affine(mean, var, gamma, beta, epsilon, lanes[part], totals[part])
    _scale_lanes(x, y, begin, end, lanes[part], rectify)


@ordered
def _gradient_sums(
    g: Any, x: Any, begin: Any, end: Any, lanes: Any, totals: Any, rectify: Any
) -> None:
    """Write the sums of ``g`` and of ``g (x - center)`` of each channel into totals 3 and 4.

    With `rectify`, g counts where the result is above 0.
    """
    channels, width, zero = totals.shape[1], lanes.shape[1], lanes.dtype.type(0.0)
    step = _step(width)
    center, scale, shift, sums, products = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
    for j in range(channels):
        totals[3, j] = 0.0
        totals[4, j] = 0.0
    for first in range(begin, end, step):
        last = min(first + step, end)
        for j in range(width):
            sums[j] = zero
            products[j] = zero
        for at in range(first, last, width):
            source, flow = x[at : min(at + width, last)], g[at : min(at + width, last)]
            if rectify:
                for j in range(source.size):
                    v = source[j] - center[j]
                    f = flow[j] if v * scale[j] + shift[j] > zero else zero
                    sums[j] += f
                    products[j] += f * v
            else:
                for j in range(source.size):
                    f = flow[j]
                    sums[j] += f
                    products[j] += f * (source[j] - center[j])
        _fold(lanes[3:5], totals[3:5])


@ordered
def _spread_gradient(g: Any, x: Any, out: Any, begin: Any, end: Any, lanes: Any, rectify: Any) -> None:
    """``out = factor g - slope (x - center) - constant``: factor, slope and constant are lanes 3, 4 and 5."""
    width, zero = lanes.shape[1], lanes.dtype.type(0.0)
    center, scale, shift, factor, slope, constant = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5]
    for at in range(begin, end, width):
        last = min(at + width, end)
        source, flow, target = x[at:last], g[at:last], out[at:last]
        if rectify:
            for j in range(source.size):
                v = source[j] - center[j]
                f = flow[j] if v * scale[j] + shift[j] > zero else zero
                target[j] = f * factor[j] - v * slope[j] - constant[j]
        else:
            for j in range(source.size):
                target[j] = flow[j] * factor[j] - (source[j] - center[j]) * slope[j] - constant[j]


@jit
def gradient_sums(
    part: Any, parts: Any, g: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any, lanes: Any,
    totals: Any, rectify: Any,
) -> None:
    """Both sums over a part of the rows, into totals 3 and 4 of the part."""
    begin, end = _bounds(part, parts, x.size, gamma.size)
    _affine(mean, var, gamma, beta, epsilon, lanes[part], totals[part])
    _gradient_sums(g, x, begin, end, lanes[part], totals[part], rectify)


@jit
def join_gradient(
    parts: Any, size: Any, gamma: Any, var: Any, by_gamma: Any, by_beta: Any, epsilon: Any, totals: Any
) -> None:
    """Gradients of scale and shift; what the input's gradient is made with, into totals 3 to 5 of the first part."""
    real, channels = gamma.dtype.type, gamma.size
    count = float(size // channels)
    for j in range(channels):
        total, product = 0.0, 0.0
        for part in range(parts):
            total += totals[part, 3, j]
            product += totals[part, 4, j]
        inverse = 1.0 / math.sqrt(var[j] + epsilon)
        factor, scaled = gamma[j] * inverse, product * inverse
        by_gamma[j] = real(scaled)
        by_beta[j] = real(total)
        totals[0, 3, j] = factor
        totals[0, 4, j] = factor * inverse * scaled / count
        totals[0, 5, j] = factor * total / count


@jit
def spread_gradient(part: Any, parts: Any, g: Any, x: Any, out: Any, lanes: Any, totals: Any, rectify: Any) -> None:
    """The gradient of a part of the input; lanes 0 to 2 are still those of `gradient_sums`."""
    begin, end = _bounds(part, parts, x.size, totals.shape[2])
    _repeat(totals[0, 3:6], lanes[part, 3:6])
    _spread_gradient(g, x, out, begin, end, lanes[part], rectify)


# -- rows ------------------------------------------------------------------------------------------------------------


@jit
def row_norm(
    part: Any, parts: Any, x: Any, gamma: Any, beta: Any, y: Any, epsilon: Any, centered: Any
) -> None:
    """Each row with mean square 1, and mean 0 where `centered`, times gamma, plus beta."""
    real = x.dtype.type
    rows, width = x.shape
    zero, one, count, small = real(0.0), real(1.0), real(width), real(epsilon)
    for i in range(rows * part // parts, rows * (part + 1) // parts):
        source, target = x[i], y[i]
        mean = zero
        if centered:
            for j in range(width):
                mean += source[j]
            mean /= count
        square = zero
        for j in range(width):
            v = source[j] - mean
            square += v * v
        inverse = one / math.sqrt(square / count + small)
        if centered:
            for j in range(width):
                target[j] = (source[j] - mean) * inverse * gamma[j] + beta[j]
        else:
            for j in range(width):
                target[j] = source[j] * inverse * gamma[j]


@jit
def row_norm_gradient(
    g: Any, x: Any, gamma: Any, by_input: Any, by_gamma: Any, by_beta: Any, epsilon: Any, centered: Any, lanes: Any,
    totals: Any,
) -> None:
    """Gradient of `row_norm`; sums over rows are added in float64 every 64 rows."""
    real = x.dtype.type
    rows, width = x.shape
    zero, one, count, small = real(0.0), real(1.0), real(width), real(epsilon)
    gammas, betas = lanes[0], lanes[1]
    for j in range(width):
        gammas[j] = zero
        betas[j] = zero
        totals[0, j] = 0.0
        totals[1, j] = 0.0
    for i in range(rows):
        source, flow, target = x[i], g[i], by_input[i]
        mean = zero
        if centered:
            for j in range(width):
                mean += source[j]
            mean /= count
        square, sum_flow, sum_product = zero, zero, zero
        for j in range(width):
            v = source[j] - mean
            h = flow[j] * gamma[j]
            square += v * v
            sum_flow += h
            sum_product += h * v
        inverse = one / math.sqrt(square / count + small)
        shift = sum_flow / count if centered else zero
        slope = sum_product * inverse * inverse / count
        for j in range(width):
            v = source[j] - mean
            f = flow[j]
            target[j] = (f * gamma[j] - shift - v * slope) * inverse
            gammas[j] += f * (v * inverse)
            betas[j] += f
        if i % 64 == 63 or i == rows - 1:
            for j in range(width):
                totals[0, j] += gammas[j]
                totals[1, j] += betas[j]
                gammas[j] = zero
                betas[j] = zero
    for j in range(width):
        by_gamma[j] = real(totals[0, j])
        by_beta[j] = real(totals[1, j])


# -- groups ----------------------------------------------------------------------------------------------------------


@ordered
def _group_mean(total: Any, width: Any, count: Any) -> None:
    """Give every channel its group's sum divided by the count."""
    for start in range(0, total.size, width):
        mean = 0.0
        for j in range(start, start + width):
            mean += total[j]
        mean /= count
        for j in range(start, start + width):
            total[j] = mean


@ordered
def _group_moments(x: Any, begin: Any, end: Any, lanes: Any, totals: Any, width: Any) -> None:
    """Write mean and mean square distance from it of each channel's group into totals 0 and 1; lane 0 has the mean."""
    _moments(x, begin, end, lanes, totals)
    rows = float((end - begin) // totals.shape[1])
    for j in range(totals.shape[1]):
        totals[2, j] = totals[0, j]
    _group_mean(totals[0], width, float(width))
    for j in range(totals.shape[1]):
        far = totals[2, j] - totals[0, j]
        totals[1, j] += rows * far * far
    _group_mean(totals[1], width, rows * width)
    _repeat(totals[0:1], lanes[0:1])


@jit
def group_norm(
    x: Any, gamma: Any, beta: Any, y: Any, samples: Any, groups: Any, epsilon: Any, lanes: Any, totals: Any
) -> None:
    """Sample by sample: mean, variance, result."""
    size, width = x.size // samples, gamma.size // groups
    for begin in range(0, x.size, size):
        _group_moments(x, begin, begin + size, lanes, totals, width)
        _affine(totals[0], totals[1], gamma, beta, epsilon, lanes, totals)
        _scale_lanes(x, y, begin, begin + size, lanes, False)


@jit
def group_norm_gradient(
    g: Any, x: Any, gamma: Any, by_input: Any, by_gamma: Any, by_beta: Any, samples: Any, groups: Any, epsilon: Any,
    lanes: Any, totals: Any,
) -> None:
    """Sample by sample; the sums over samples in float64."""
    real, channels = x.dtype.type, gamma.size
    size, width = x.size // samples, channels // groups
    count = float(size // channels * width)
    for j in range(channels):
        totals[6, j] = 0.0
        totals[7, j] = 0.0
    for begin in range(0, x.size, size):
        _group_moments(x, begin, begin + size, lanes, totals, width)
        _gradient_sums(g, x, begin, begin + size, lanes, totals, False)
        for j in range(channels):
            inverse = 1.0 / math.sqrt(totals[1, j] + epsilon)
            factor, total, product = gamma[j] * inverse, totals[3, j], totals[4, j]
            totals[1, j] = inverse
            totals[3, j] = factor
            totals[4, j] = factor * product
            totals[5, j] = gamma[j] * total
            totals[6, j] += product * inverse
            totals[7, j] += total
        _group_mean(totals[4], width, count)
        _group_mean(totals[5], width, count)
        for j in range(channels):
            totals[4, j] *= totals[1, j] * totals[1, j]
            totals[5, j] *= totals[1, j]
        _repeat(totals[3:6], lanes[3:6])
        _spread_gradient(g, x, by_input, begin, begin + size, lanes, False)
    for j in range(channels):
        by_gamma[j] = real(totals[6, j])
        by_beta[j] = real(totals[7, j])
