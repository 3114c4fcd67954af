"""Chains of elementwise operations in a recording: run piece by piece, so that memory is passed over once.

A piece of every array of the chain fits into the second-level cache. What an operation leaves there the next one reads,
and a buffer that only the chain uses shrinks to one piece. Every element is computed by the same kernels in the same
order, so the bits stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

# Operations whose outputs depend, element by element, on the inputs at the same place (after broadcasting) only.
ELEMENTWISE = frozenset({
    "absolute", "add", "astype", "copy", "cos", "divide", "elu", "elu_gradient", "equal", "erf", "erf_gradient", "exp",
    "expm1", "floor", "gelu", "gelu_gradient", "greater", "greater_equal", "isfinite", "isnan", "leaky_relu",
    "leaky_relu_gradient", "less", "less_equal", "log", "log1p", "log_cosh", "log_probability", "logical_and",
    "logical_not", "logical_or", "maximum", "minimum", "multiply", "negative", "not_equal", "power", "relu",
    "relu_gradient", "selu", "selu_gradient", "sigmoid", "sigmoid_cross_entropy", "sigmoid_cross_entropy_gradient",
    "sigmoid_gradient", "sign", "silu", "silu_gradient", "sin", "softplus", "sqrt", "subtract", "tanh", "tanh_gradient",
    "where",
})
PIECE = 32 * 1024  # elements; rows are taken 64 at a time, so that vector loops begin where they did
LEAST = 1 << 20  # bytes that a chain touches: below, they are in the cache anyway
_ROWS = 64

Call = tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def extent(array: np.ndarray) -> tuple[int, int]:
    """Return the addresses between which an array lies."""
    if isinstance(array, np.ndarray):
        return np.lib.array_utils.byte_bounds(array)
    begin = end = int(array.data.ptr)  # an array of a GPU
    for length, step in zip(array.shape, array.strides, strict=True):
        begin, end = begin + min(0, (length - 1) * step), end + max(0, (length - 1) * step)
    return (begin, end + array.dtype.itemsize) if array.size else (int(array.data.ptr),) * 2


def _overlap(x: np.ndarray, y: np.ndarray) -> bool:
    (a, b), (c, d) = extent(x), extent(y)
    return a < d and c < b


def same_elements(x: np.ndarray, y: np.ndarray) -> bool:
    """Tell whether two arrays are the same elements at the same places."""
    return (
        x.shape == y.shape and x.strides == y.strides and x.dtype.itemsize == y.dtype.itemsize
        and extent(x) == extent(y)
    )


def _uniform(array: np.ndarray) -> bool:
    """Tell whether all elements are one number in memory."""
    return all(n == 1 or step == 0 for n, step in zip(array.shape, array.strides, strict=True))


class _Cut:
    """How arrays of one shape are cut: along their flat order, or along the first axis."""

    __slots__ = ("count", "flat", "shape", "step")

    def __init__(self, shape: tuple[int, ...], flat: bool) -> None:
        self.shape = shape
        self.flat = flat
        self.count = prod(shape) if flat else shape[0]
        width = 1 if flat else max(prod(shape[1:]), 1)
        self.step = max(PIECE // width // _ROWS * _ROWS, _ROWS if width <= PIECE else 1)

    def takes(self, array: np.ndarray) -> bool:
        """Tell whether an operand can be cut with the others."""
        if _uniform(array):
            return True
        if self.flat:
            return array.shape == self.shape and array.flags.c_contiguous
        return array.shape == self.shape or self.whole(array)

    def whole(self, array: np.ndarray) -> bool:
        """Tell whether every piece uses all of an operand."""
        missing = len(self.shape) - array.ndim
        return missing > 0 or (not self.flat and missing == 0 and array.shape[0] == 1) or array.size == 1

    def pieces(self, array: np.ndarray, space: np.ndarray | None) -> list[np.ndarray]:
        """Return the pieces of an operand; those in `space` are all in the same memory."""
        bounds = [(a, min(a + self.step, self.count)) for a in range(0, self.count, self.step)]
        if space is not None:
            rest = () if self.flat else self.shape[1:]
            return [space[: (b - a) * prod(rest)].reshape(b - a, *rest) for a, b in bounds]
        if self.flat:
            if array.size != 1 and _uniform(array):
                array = array[(0,) * array.ndim + (None,)]
            if array.size == 1:
                return [array.reshape(())] * len(bounds)
            flat = array.reshape(-1)
            return [flat[a:b] for a, b in bounds]
        return [array if self.whole(array) else array[a:b] for a, b in bounds]


class Chain:
    """Calls that are run one piece after the other.

    Attributes:
        pieces: the calls of each.
        spaces: memory that all pieces use, one after the other.
    """

    def __init__(self, pieces: list[list[Call]], spaces: list[np.ndarray], device: Any) -> None:
        self.pieces = pieces
        self.spaces = spaces
        self._device = device

    def __call__(self, outs: Any, *ins: Any) -> None:
        """Run all calls on each piece."""
        device = self._device
        for piece in self.pieces:
            for run, outs, ins, scratch in piece:
                if scratch:
                    device.scratch = scratch
                run(outs, *ins)
        device.scratch = ()


def _arrays(call: Call) -> tuple[Any, ...]:
    return (*call[1], *call[2], *call[3])


def _fits(call: Call, cut: _Cut, written: list[Any], read: list[Any]) -> bool:
    """Tell whether a call can join a chain: all of it is cut alike, and nothing is read at another place."""
    _, outs, ins, scratch = call
    targets = [*outs, *scratch]
    if any(a.shape != cut.shape or _uniform(a) for a in targets) or not all(map(cut.takes, ins)):
        return False
    for a in (*ins, *targets):
        if any(_overlap(a, b) and not same_elements(a, b) for b in (*written, *targets)):
            return False
    return all(not _overlap(a, b) or same_elements(a, b) for a in targets for b in read)


def _length(calls: Sequence[Call], flags: Sequence[bool], first: int, cut: _Cut) -> int:
    """Return how many calls from `first` on make a chain under a cut."""
    written: list[Any] = []
    read: list[Any] = []
    place = first
    while place < len(calls) and flags[place] and _fits(calls[place], cut, written, read):
        written += [*calls[place][1], *calls[place][3]]
        read += calls[place][2]
        place += 1
    return place - first


def used_later(array: np.ndarray, later: Sequence[Call]) -> bool:
    """Tell whether what a buffer holds is read again before it is written anew."""
    begin, end = extent(array)
    for call in later:
        if any(_overlap(array, a) for a in call[2]):
            return True
        for out in (*call[1], *call[3]):
            first, last = extent(out)
            if first <= begin and end <= last and out.flags.c_contiguous:
                return False
    return False


def _touched(calls: Sequence[Call]) -> int:
    return sum({extent(a): a.nbytes for call in calls for a in _arrays(call) if not _uniform(a)}.values())


def _merge(
    calls: Sequence[Call], cut: _Cut, later: Sequence[Call], private: Callable[[Any], bool], device: Any
) -> Call:
    """Return the one call that runs a chain."""
    spaces: dict[int, np.ndarray] = {}
    read: set[int] = set()  # buffers whose values came from before the chain, or might have
    room = min(cut.step, cut.count) * (1 if cut.flat else prod(cut.shape[1:]))
    for call in calls:
        read.update({extent(a)[0] for a in call[2]} - spaces.keys())
        for a in (*call[1], *call[3]):
            begin = extent(a)[0]
            if begin not in spaces and begin not in read and private(a) and not used_later(a, later):
                spaces[begin] = np.empty(room * a.dtype.itemsize, np.uint8)

    def pieces(array: Any) -> list[np.ndarray]:
        memory = None if _uniform(array) else spaces.get(extent(array)[0])
        return cut.pieces(array, None if memory is None else memory.view(array.dtype))

    columns: list[Any] = []
    for run, *groups in calls:
        cuts = [[pieces(a) for a in group] for group in groups]
        columns.append((run, cuts))
    count = -(-cut.count // cut.step)
    table: list[list[Call]] = [
        [(run, *(tuple([p[i] for p in group]) for group in cuts)) for run, cuts in columns] for i in range(count)
    ]
    outs = [a for call in calls for a in call[1] if extent(a)[0] not in spaces]
    ins = [a for call in calls for a in call[2] if extent(a)[0] not in spaces]
    return Chain(table, list(spaces.values()), device), tuple(outs), tuple(ins), ()


def merge_chains(
    calls: list[Call], flags: Sequence[bool], private: Callable[[Any], bool], device: Any
) -> list[Call]:
    """Return recorded calls with each chain of elementwise ones as one call.

    Arguments:
        calls: in the order of the recording.
        flags: which of them are elementwise.
        private: tells whether only the recording uses the memory of an array.
        device: where they run.
    """
    merged: list[Call] = []
    place = 0
    while place < len(calls):
        best, length = None, 1
        if flags[place] and calls[place][1][0].ndim:
            shape = calls[place][1][0].shape
            for flat in (True, False):
                cut = _Cut(shape, flat)
                found = _length(calls, flags, place, cut) if cut.count > cut.step else 0
                if found > length:
                    best, length = cut, found
        if best is not None and _touched(calls[place : place + length]) >= LEAST:
            chain = calls[place : place + length]
            # the calls before come again at the next replay, but they write what they read first
            merged.append(_merge(chain, best, calls[place + length :], private, device))
        else:
            merged += calls[place : place + length]
        place += length
    return merged
