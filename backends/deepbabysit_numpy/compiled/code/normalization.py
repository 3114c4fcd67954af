"""Normalizations over flat channels-last arrays.

Few channels would make the inner loops short, so a run of rows is read as one row of `width` elements, a multiple of
the channels: element j belongs to channel j modulo the channels ("lanes"). Sums over lanes are kept for some kilobytes
of input and then added in float64; the variance of such a block is taken around the block's own mean while it is in the
cache (Chan, Golub and LeVeque, 1979), so that the input is read once and nothing cancels.
"""

from __future__ import annotations

import math
from typing import Any

from deepbabysit_numpy.compiled.jit import jit

_BLOCK = 16384  # elements between two additions in float64


@jit
def _rows_of_block(width: Any) -> Any:
    return width * max(_BLOCK // width, 1)


@jit
def _add_lanes(x: Any, lanes: Any) -> None:
    """Write the sum of each lane over the input."""
    width, zero = lanes.size, lanes.dtype.type(0.0)
    for j in range(width):
        lanes[j] = zero
    for at in range(0, x.size, width):
        part = x[at : at + width]
        for j in range(part.size):
            lanes[j] += part[j]


@jit
def _square_lanes(x: Any, center: Any, lanes: Any) -> None:
    """Write the sum of ``(x - center)^2`` of each lane."""
    width, zero = lanes.size, lanes.dtype.type(0.0)
    for j in range(width):
        lanes[j] = zero
    for at in range(0, x.size, width):
        part = x[at : at + width]
        for j in range(part.size):
            v = part[j] - center[j]
            lanes[j] += v * v


@jit
def _fold(lanes: Any, total: Any) -> None:
    """Write the sum over the lanes of each channel, in float64."""
    channels = total.size
    for j in range(channels):
        total[j] = lanes[j]
    for start in range(channels, lanes.size, channels):
        part = lanes[start : start + channels]
        for j in range(channels):
            total[j] += part[j]


@jit
def _repeat(vector: Any, lanes: Any) -> None:
    """Write the vector over the channels into the lanes, again and again."""
    real, channels = lanes.dtype.type, vector.size
    for start in range(0, lanes.size, channels):
        part = lanes[start : start + channels]
        for j in range(channels):
            part[j] = real(vector[j])


@jit
def _moments(x: Any, lanes: Any, center: Any, mean: Any, square: Any, part_mean: Any, part_square: Any) -> None:
    """Write mean and sum of squared distances from it of each channel, in one pass over the input."""
    channels = mean.size
    step = _rows_of_block(lanes.size)
    for j in range(channels):
        mean[j] = 0.0
        square[j] = 0.0
    done = 0.0
    for begin in range(0, x.size, step):
        block = x[begin : begin + step]
        count = float(block.size // channels)
        _add_lanes(block, lanes)
        _fold(lanes, part_mean)
        for j in range(channels):
            part_mean[j] /= count
        _repeat(part_mean, center)
        _square_lanes(block, center, lanes)
        _fold(lanes, part_square)
        if done == 0.0:
            for j in range(channels):
                mean[j] = part_mean[j]
                square[j] = part_square[j]
        else:
            share = count / (done + count)
            for j in range(channels):
                far = part_mean[j] - mean[j]
                square[j] += part_square[j] + far * far * (done * share)
                mean[j] = mean[j] * (1.0 - share) + part_mean[j] * share
        done += count


@jit
def _scale_lanes(x: Any, y: Any, center: Any, scale: Any, shift: Any) -> None:
    """``y = (x - center) * scale + shift``."""
    width = center.size
    for at in range(0, x.size, width):
        source, target = x[at : at + width], y[at : at + width]
        for j in range(source.size):
            target[j] = (source[j] - center[j]) * scale[j] + shift[j]


@jit
def batch_norm(
    x: Any, gamma: Any, beta: Any, y: Any, mean: Any, var: Any, epsilon: Any, lanes: Any, totals: Any
) -> None:
    """Statistics in one pass, the result in a second."""
    real, channels = x.dtype.type, gamma.size
    center, scale, shift = lanes[1], lanes[2], lanes[3]
    _moments(x, lanes[0], center, totals[0], totals[1], totals[2], totals[3])
    count = float(x.size // channels)
    for j in range(channels):
        mean[j] = real(totals[0, j])
        variance = totals[1, j] / count
        var[j] = real(variance)
        totals[2, j] = gamma[j] / math.sqrt(variance + epsilon)
    _repeat(mean, center)
    _repeat(totals[2], scale)
    _repeat(beta, shift)
    _scale_lanes(x, y, center, scale, shift)


@jit
def batch_norm_inference(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, y: Any, epsilon: Any, lanes: Any, totals: Any
) -> None:
    """One pass with given statistics."""
    center, scale, shift = lanes[0], lanes[1], lanes[2]
    for j in range(gamma.size):
        totals[0, j] = gamma[j] / math.sqrt(var[j] + epsilon)
    _repeat(mean, center)
    _repeat(totals[0], scale)
    _repeat(beta, shift)
    _scale_lanes(x, y, center, scale, shift)


@jit
def _gradient_sums(g: Any, x: Any, center: Any, lanes: Any, others: Any, total: Any, product: Any, part: Any) -> None:
    """Write the sums of ``g`` and of ``g (x - center)`` of each channel."""
    channels, width, zero = total.size, lanes.size, lanes.dtype.type(0.0)
    step = _rows_of_block(width)
    for j in range(channels):
        total[j] = 0.0
        product[j] = 0.0
    for begin in range(0, x.size, step):
        for j in range(width):
            lanes[j] = zero
            others[j] = zero
        for at in range(begin, min(begin + step, x.size), width):
            flow, source = g[at : at + width], x[at : at + width]
            for j in range(flow.size):
                v = flow[j]
                lanes[j] += v
                others[j] += v * (source[j] - center[j])
        _fold(lanes, part)
        for j in range(channels):
            total[j] += part[j]
        _fold(others, part)
        for j in range(channels):
            product[j] += part[j]


@jit
def batch_norm_gradient(
    g: Any, x: Any, gamma: Any, mean: Any, var: Any, by_input: Any, by_gamma: Any, by_beta: Any, epsilon: Any,
    lanes: Any, totals: Any,
) -> None:
    """Both sums in one pass, the gradient of the input in a second: ``factor g - slope (x - mean) - shift``."""
    real, channels = x.dtype.type, gamma.size
    center = lanes[0]
    _repeat(mean, center)
    total, product = totals[0], totals[1]
    _gradient_sums(g, x, center, lanes[1], lanes[2], total, product, totals[2])
    count = float(x.size // channels)
    for j in range(channels):
        inverse = 1.0 / math.sqrt(var[j] + epsilon)
        scaled = product[j] * inverse
        by_gamma[j] = real(scaled)
        by_beta[j] = real(total[j])
        factor = gamma[j] * inverse
        totals[2, j] = factor
        totals[3, j] = factor * total[j] / count
        product[j] = factor * inverse * scaled / count
    factors, slopes, shifts = lanes[1], lanes[2], lanes[3]
    _repeat(totals[2], factors)
    _repeat(product, slopes)
    _repeat(totals[3], shifts)
    width = center.size
    for at in range(0, x.size, width):
        flow, source, target = g[at : at + width], x[at : at + width], by_input[at : at + width]
        for j in range(flow.size):
            target[j] = flow[j] * factors[j] - (source[j] - center[j]) * slopes[j] - shifts[j]


# -- rows ------------------------------------------------------------------------------------------------------------


@jit
def row_norm(x: Any, gamma: Any, beta: Any, y: Any, epsilon: Any, centered: Any) -> None:
    """Each row with mean square 1, and mean 0 where `centered`, times gamma, plus beta."""
    real = x.dtype.type
    rows, width = x.shape
    zero, one, count, small = real(0.0), real(1.0), real(width), real(epsilon)
    for i in range(rows):
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


@jit
def _group_mean(total: Any, width: Any, count: Any) -> None:
    """Give every channel its group's sum divided by the count."""
    for start in range(0, total.size, width):
        mean = 0.0
        for j in range(start, start + width):
            mean += total[j]
        mean /= count
        for j in range(start, start + width):
            total[j] = mean


@jit
def _group_moments(x: Any, lanes: Any, center: Any, mean: Any, square: Any, others: Any, width: Any) -> None:
    """Write mean and mean square distance from it of each channel's group; `center` has the mean in lanes."""
    channels = mean.size
    count = float(x.size // channels * width)
    step = _rows_of_block(lanes.size)
    for j in range(channels):
        mean[j] = 0.0
        square[j] = 0.0
    for begin in range(0, x.size, step):
        _add_lanes(x[begin : begin + step], lanes)
        _fold(lanes, others)
        for j in range(channels):
            mean[j] += others[j]
    _group_mean(mean, width, count)
    _repeat(mean, center)
    for begin in range(0, x.size, step):
        _square_lanes(x[begin : begin + step], center, lanes)
        _fold(lanes, others)
        for j in range(channels):
            square[j] += others[j]
    _group_mean(square, width, count)


@jit
def group_norm(
    x: Any, gamma: Any, beta: Any, y: Any, groups: Any, epsilon: Any, lanes: Any, totals: Any
) -> None:
    """Sample by sample: mean, variance, result."""
    channels = gamma.size
    width = channels // groups
    center, scale, shift = lanes[1], lanes[2], lanes[3]
    _repeat(beta, shift)
    for i in range(x.shape[0]):
        _group_moments(x[i], lanes[0], center, totals[0], totals[1], totals[2], width)
        for j in range(channels):
            totals[2, j] = gamma[j] / math.sqrt(totals[1, j] + epsilon)
        _repeat(totals[2], scale)
        _scale_lanes(x[i], y[i], center, scale, shift)


@jit
def group_norm_gradient(
    g: Any, x: Any, gamma: Any, by_input: Any, by_gamma: Any, by_beta: Any, groups: Any, epsilon: Any, lanes: Any,
    totals: Any, sums: Any,
) -> None:
    """Sample by sample; the sums over samples in float64."""
    real, channels = x.dtype.type, gamma.size
    group = channels // groups
    center, others, more, last = lanes[0], lanes[1], lanes[2], lanes[3]
    mean, inverse, total, product, spare = totals[0], totals[1], totals[2], totals[3], totals[4]
    for j in range(channels):
        sums[0, j] = 0.0
        sums[1, j] = 0.0
    for i in range(x.shape[0]):
        source, flow, target = x[i], g[i], by_input[i]
        _group_moments(source, others, center, mean, inverse, spare, group)
        _gradient_sums(flow, source, center, others, more, total, product, spare)
        count = float(source.size // channels * group)
        for j in range(channels):
            inverse[j] = 1.0 / math.sqrt(inverse[j] + epsilon)
            sums[0, j] += product[j] * inverse[j]
            sums[1, j] += total[j]
            product[j] *= gamma[j] * inverse[j]
            total[j] *= gamma[j]
            spare[j] = gamma[j] * inverse[j]
        _group_mean(product, group, count)
        _group_mean(total, group, count)
        for j in range(channels):
            product[j] *= inverse[j] * inverse[j]
            total[j] *= inverse[j]
        _repeat(spare, others)
        _repeat(product, more)
        _repeat(total, last)
        width = center.size
        for at in range(0, source.size, width):
            f, s, t = flow[at : at + width], source[at : at + width], target[at : at + width]
            for j in range(f.size):
                t[j] = f[j] * others[j] - (s[j] - center[j]) * more[j] - last[j]
    for j in range(channels):
        by_gamma[j] = real(sums[0, j])
        by_beta[j] = real(sums[1, j])
