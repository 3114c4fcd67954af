"""Pooling of channels-last images: rows of a window first, in long loops, then its columns.

Most inner loops run over slices: numbers that are added up as indices may be negative to Numba, which looks at each.
"""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.jit import jit


@jit
def _reach(place: Any, step: Any, before: Any, size: Any, length: Any) -> Any:
    """Return the first real element of a window and the one after its last."""
    start = place * step - before
    return max(start, 0), min(start + size, length)


@jit
def _lines(x: Any) -> Any:
    """Return images as lines: their columns and channels are one axis."""
    images, height, width, channels = x.shape
    return x.reshape(images, height, width * channels)


@jit
def max_pool(
    part: Any, parts: Any, x: Any, y: Any, lines: Any, window: Any, stride: Any, before: Any
) -> None:
    """Largest value of each window; NaN stays."""
    line = lines[part]
    images, height, width, channels = x.shape
    rows, columns = y.shape[1], y.shape[2]
    flat, target = _lines(x), _lines(y)
    for n in range(images * part // parts, images * (part + 1) // parts):
        for p in range(rows):
            first, last = _reach(p, stride[0], before[0], window[0], height)
            one, two = flat[n, first], flat[n, min(first + 1, last - 1)]
            for k in range(line.size):
                a, b = one[k], two[k]
                line[k] = b if (b > a) | (b != b) else a
            for r in range(first + 2, last):
                two = flat[n, r]
                for k in range(line.size):
                    a, b = line[k], two[k]
                    line[k] = b if (b > a) | (b != b) else a
            out = target[n, p]
            for q in range(columns):
                left, right = _reach(q, stride[1], before[1], window[1], width)
                place = min(left + 1, right - 1) * channels
                here, there = line[left * channels : (left + 1) * channels], line[place : place + channels]
                to = out[q * channels : (q + 1) * channels]
                for c in range(channels):
                    a, b = here[c], there[c]
                    to[c] = b if (b > a) | (b != b) else a
                for s in range(left + 2, right):
                    there = line[s * channels : (s + 1) * channels]
                    for c in range(channels):
                        a, b = to[c], there[c]
                        to[c] = b if (b > a) | (b != b) else a


@jit
def halved_gradient(
    part: Any, parts: Any, g: Any, x: Any, y: Any, out: Any, lines: Any
) -> None:
    """Gradient of the maximum over 2 x 2 windows side by side; what they leave out becomes 0."""
    real = x.dtype.type
    zero, one = real(0.0), real(1.0)
    images, height, width, channels = x.shape
    rows, columns = y.shape[1], y.shape[2]
    flat, target, tops, flows = _lines(x), _lines(out), _lines(y), _lines(g)
    top, share = lines[part, 0], lines[part, 1]
    used = 2 * columns * channels
    for n in range(images * part // parts, images * (part + 1) // parts):
        for p in range(rows):
            found, flow = tops[n, p], flows[n, p]
            for q in range(columns):
                here, there, to = 2 * q * channels, (2 * q + 1) * channels, q * channels
                for c in range(channels):
                    top[here + c] = found[to + c]
                for c in range(channels):
                    top[there + c] = found[to + c]
            above, below = flat[n, 2 * p], flat[n, 2 * p + 1]
            for k in range(used):
                share[k] = (one if above[k] == top[k] else zero) + (one if below[k] == top[k] else zero)
            for q in range(columns):
                here, there, to = 2 * q * channels, (2 * q + 1) * channels, q * channels
                for c in range(channels):
                    share[here + c] = flow[to + c] / (share[here + c] + share[there + c])
                for c in range(channels):
                    share[there + c] = share[here + c]
            by_above, by_below = target[n, 2 * p], target[n, 2 * p + 1]
            for k in range(used):
                by_above[k] = (one if above[k] == top[k] else zero) * share[k]
            for k in range(used):
                by_below[k] = (one if below[k] == top[k] else zero) * share[k]
            for k in range(used, width * channels):
                by_above[k] = zero
                by_below[k] = zero
        for r in range(2 * rows, height):
            target[n, r] = zero


@jit
def max_pool_gradient(
    part: Any, parts: Any, g: Any, x: Any, y: Any, out: Any, lines: Any, window: Any, stride: Any, before: Any
) -> None:
    """Each window gives its gradient to its largest elements, in equal parts; a window of NaN gives NaN."""
    real = x.dtype.type
    zero, one = real(0.0), real(1.0)
    line = lines[part, 0]
    images, height, width, channels = x.shape
    for n in range(images * part // parts, images * (part + 1) // parts):
        out[n] = zero
        for p in range(y.shape[1]):
            first, last = _reach(p, stride[0], before[0], window[0], height)
            for q in range(y.shape[2]):
                left, right = _reach(q, stride[1], before[1], window[1], width)
                top, flow = y[n, p, q], g[n, p, q]
                for c in range(channels):
                    line[c] = zero
                for r in range(first, last):
                    for s in range(left, right):
                        source = x[n, r, s]
                        for c in range(channels):
                            line[c] += one if source[c] == top[c] else zero
                for c in range(channels):
                    line[c] = flow[c] / line[c]
                for r in range(first, last):
                    for s in range(left, right):
                        source, target = x[n, r, s], out[n, r, s]
                        for c in range(channels):
                            target[c] += line[c] * (one if source[c] == top[c] else zero)


@jit
def avg_pool(
    part: Any, parts: Any, x: Any, y: Any, lines: Any, window: Any, stride: Any, before: Any
) -> None:
    """Mean of the real elements of each window."""
    real = x.dtype.type
    line = lines[part]
    images, height, width, channels = x.shape
    rows, columns = y.shape[1], y.shape[2]
    flat, target = _lines(x), _lines(y)
    for n in range(images * part // parts, images * (part + 1) // parts):
        for p in range(rows):
            first, last = _reach(p, stride[0], before[0], window[0], height)
            one = flat[n, first]
            if last - first == 1:
                for k in range(line.size):
                    line[k] = one[k]
            else:
                two = flat[n, first + 1]
                for k in range(line.size):
                    line[k] = one[k] + two[k]
            for r in range(first + 2, last):
                two = flat[n, r]
                for k in range(line.size):
                    line[k] += two[k]
            out = target[n, p]
            for q in range(columns):
                left, right = _reach(q, stride[1], before[1], window[1], width)
                share = real(1.0) / real((last - first) * (right - left))
                here, to = left * channels, q * channels
                if right - left == 1:
                    for c in range(channels):
                        out[to + c] = line[here + c] * share
                    continue
                there = here + channels
                for c in range(channels):
                    out[to + c] = (line[here + c] + line[there + c]) * share
                for s in range(left + 2, right):
                    there = s * channels
                    for c in range(channels):
                        out[to + c] += line[there + c] * share


@jit
def avg_pool_gradient(
    part: Any, parts: Any, g: Any, out: Any, window: Any, stride: Any, before: Any
) -> None:
    """Each window gives equal parts of its gradient to its real elements."""
    real = g.dtype.type
    zero = real(0.0)
    images, height, width, channels = out.shape
    for n in range(images * part // parts, images * (part + 1) // parts):
        out[n] = zero
        for p in range(g.shape[1]):
            first, last = _reach(p, stride[0], before[0], window[0], height)
            for q in range(g.shape[2]):
                left, right = _reach(q, stride[1], before[1], window[1], width)
                share, flow = real(1.0) / real((last - first) * (right - left)), g[n, p, q]
                for r in range(first, last):
                    for s in range(left, right):
                        target = out[n, r, s]
                        for c in range(channels):
                            target[c] += flow[c] * share
