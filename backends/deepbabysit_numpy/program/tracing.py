"""Finds out what a kernel does: it runs once on arrays that write down every operation instead of doing it.

A kernel of this backend is Python around NumPy's ufuncs, matrix products, copies and functions that Numba compiled.
For given arrays and attributes these are always the same ones, unless it looks at values. `Traced` arrays give no
values away: whatever is not known to be harmless raises `Untraceable`, and the call then stays a call of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.team import ends, parts_awake
from deepbabysit_numpy.program import rows as make
from deepbabysit_numpy.program.crew import CREW, table_of
from deepbabysit_numpy.program.machine import Row, Rows

_ROUNDED = (np.add, np.subtract, np.multiply)


class Untraceable(Exception):
    """The kernel does something that has no row."""


class Trace:
    """The rows of one kernel call, and the memory that belongs to them.

    Arguments:
        arrays: what the kernel may read and write.
        team: whether a crew may work off its rows.
    """

    def __init__(self, arrays: Sequence[np.ndarray], team: bool = True) -> None:
        self.team = team
        self.rows: list[Row] = []
        self.crew = 0  # how many workers they can use
        self.alike = True  # whether they only move values and call what the kernel calls
        self.made: list[Rows] = []  # what the crew runs
        self.also: list[Any] = []  # other calls that these rows do
        self.kept: list[Any] = []  # temporaries and constants: as long as the rows live
        self._last: tuple[Any, list[list[Row]]] | None = None  # array whose rows were divided just now, and the parts
        self._known = [_extent(a) for a in arrays]

    def wrap(self, array: np.ndarray) -> Traced:
        """Return the array as the kernel gets it."""
        traced = array.view(Traced)
        traced.rows_of = self
        return traced

    def new(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return memory for a temporary."""
        array = np.empty(shape, dtype)
        self.kept.append(array)
        self._known.append(_extent(array))
        return array

    def constant(self, value: Any, dtype: np.dtype[Any]) -> np.ndarray:
        """Return a number in memory."""
        array = np.array(value, dtype)
        self.kept.append(array)
        return array

    def known(self, array: np.ndarray) -> bool:
        """Tell whether an array lies within memory that this call may use."""
        begin, end = _extent(array)
        return any(first <= begin and end <= last for first, last in self._known)

    def operand(self, array: np.ndarray) -> np.ndarray:
        """Return an array as it is in memory; unknown memory is taken for a constant only where it is one number."""
        plain = array.view(np.ndarray)
        if not self.known(plain):
            if plain.size != 1:
                raise Untraceable("an array that the call was not given")
            return self.constant(plain, plain.dtype)
        return plain

    def target(self, array: np.ndarray) -> np.ndarray:
        """Return an array that is written; one that the kernel just made belongs to the call from here on."""
        plain = array.view(np.ndarray)
        if not self.known(plain):
            self.kept.append(plain)
            self._known.append(_extent(plain))
        return plain

    def add(self, row: Row | None, alike: bool = False) -> None:
        """Write a row down; `alike`: no other code computes there than in the kernel."""
        if row is None:
            raise Untraceable("an operation without a row")
        self.alike = self.alike and alike
        self.rows.append(row)
        self._last = None

    # -- what arrays are asked for -------------------------------------------------------------------------------------

    def ufunc(self, ufunc: Any, method: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Write a ufunc call down; returns its result."""
        outs = keywords.pop("out", (None,))
        if keywords.pop("where", True) is not True or len(outs) != 1:
            raise Untraceable("where, or several outputs")
        if method == "__call__":
            if ufunc is np.matmul:
                result = self._matmul(inputs, outs[0])
            else:
                keywords.pop("subok", None)
                dtype = keywords.pop("dtype", None)
                if keywords.pop("casting", "same_kind") not in ("same_kind", "unsafe") or keywords:
                    raise Untraceable("a ufunc with options")
                result = self._elementwise(ufunc, inputs, outs[0], dtype)
        elif method == "reduce":
            result = self._reduce(ufunc, inputs, outs[0], keywords)
        else:
            raise Untraceable(f"{ufunc.__name__}.{method}")
        return self.wrap(result)

    def _elementwise(self, ufunc: Any, inputs: tuple[Any, ...], out: Any, dtype: Any) -> np.ndarray:
        asked = [x.dtype if isinstance(x, np.ndarray | np.generic) else type(x) for x in inputs]
        try:
            loop = ufunc.resolve_dtypes((*asked, None if out is None else out.dtype))
        except TypeError as error:
            raise Untraceable(str(error)) from error
        if dtype is not None and any(kind != dtype for kind in loop):
            raise Untraceable("a ufunc that computes in another dtype")
        arrays = []
        for x, kind in zip(inputs, loop, strict=False):
            if isinstance(x, np.ndarray):
                plain = self.operand(x)
                if plain.dtype != kind:
                    if plain.size != 1 or self.known(plain):
                        raise Untraceable("a ufunc that casts")
                    plain = self.constant(plain, kind)
                arrays.append(plain)
            else:
                arrays.append(self.constant(x, kind))
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        if out is None:
            target = self.new(shape, loop[-1])
        else:
            target = self.target(out)
            if target.dtype != loop[-1] or target.shape != shape:
                raise Untraceable("a ufunc that casts or repeats its result")
        if target.size:
            self._loops(ufunc, tuple(loop), [*arrays, target])
        return target if out is None else out

    def _loops(self, ufunc: Any, loop: tuple[Any, ...], arrays: list[np.ndarray]) -> None:
        """Write an elementwise loop down; for a crew in parts, where each element is rounded once."""
        shape, size = arrays[-1].shape, arrays[-1].size
        count = 1
        if ufunc in _ROUNDED and shape and all(a.shape == shape and a.flags.c_contiguous for a in arrays):
            count = parts_awake(shape[0], float(size))
        if count == 1:
            self.add(make.elementwise(ufunc, loop, arrays))
            return
        self._add_parts([make.elementwise(ufunc, loop, [a[i:j] for a in arrays]) for i, j in ends(shape[0], count)])

    def _add_parts(self, rows: Sequence[Row | None]) -> None:
        """Write rows down that a crew may work off at the same time."""
        if len(rows) > 1 and None not in rows:
            self.add(self.together([[row] for row in rows if row is not None]), True)
            return
        for row in rows:
            self.add(row, True)

    def _reduce(self, ufunc: Any, inputs: tuple[Any, ...], out: Any, keywords: dict[str, Any]) -> np.ndarray:
        axis, dtype = (keywords.pop(name, default) for name, default in (("axis", 0), ("dtype", None)))
        keepdims = keywords.pop("keepdims", False)
        initial = keywords.pop("initial", np._NoValue)
        source = inputs[0]
        if len(inputs) > 1:
            axis = inputs[1]
        if keywords or initial is not np._NoValue or len(inputs) > 2 or not isinstance(source, np.ndarray):
            raise Untraceable("a reduction with options")
        x = self.operand(source)
        axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis).tolist())
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        final = shape if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        kind = np.dtype(dtype) if dtype is not None else (x.dtype if out is None else out.dtype)
        target = self.new(final, kind) if out is None else self.target(out)
        if target.shape != final or target.dtype != kind or not x.size:
            raise Untraceable("a reduction into another form")
        whole = target.reshape(shape)
        if x.dtype.kind in "?bi" and kind == np.int64 and ufunc is np.add:
            if target.size != 1 or not x.flags.c_contiguous:
                raise Untraceable("a sum of whole numbers over some axes")
            self.add(make.native("exact", "count", (x.reshape(-1), target.reshape(1))))
        elif x.dtype != kind:
            raise Untraceable("a reduction that casts")
        else:
            for row in make.reduction(ufunc, x, whole, axes, self.constant):
                self.add(row)
        return target if out is None else out

    def _matmul(self, inputs: tuple[Any, ...], out: Any) -> np.ndarray:
        a, b = (self.operand(x) for x in inputs)
        if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype:
            raise Untraceable("a product of several matrices")
        target = self.new((a.shape[0], b.shape[1]), a.dtype) if out is None else self.target(out)
        for row in make.product(a, b, target, self.constant):
            self.add(row)
        return target if out is None else out

    def move(self, target: np.ndarray, source: Any, mask: Any = True) -> None:
        """Write down that values are copied, with a mask if there is one."""
        to = self.target(target)
        of = self.operand(source) if isinstance(source, np.ndarray) else self.constant(source, to.dtype)
        if mask is True:
            if of.shape == to.shape and of.dtype == to.dtype and make.same_place(of, to):
                return
            of, count = np.broadcast_to(of, to.shape), 1
            if to.ndim > 1 and not of.flags.c_contiguous:
                count = parts_awake(to.shape[0], 4.0 * to.size)  # here and there in memory
            if count == 1:
                self.add(make.move(to, of, None), True)
                return
            self._add_parts([make.move(to[i:j], of[i:j], None) for i, j in ends(to.shape[0], count)])
            return
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise Untraceable("a copy with another mask")
        self.add(make.move(to, np.broadcast_to(of, to.shape), np.broadcast_to(self.operand(mask), to.shape)))

    def native(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        """Write a call of a compiled function down; for a crew in parts, where each has the bits of the whole."""
        plain = self._plain(arguments)
        if (module, name) == ("dense", "bias_relu"):
            self._by_rows(module, name, plain)
        elif (module, name) != ("dense", "gradient") or not self._by_blocks(*plain):
            self.add(make.native(module, name, plain), True)

    def _by_blocks(self, g: Any, y: Any, out: Any, by_bias: Any, kind: int, tall: int) -> bool:
        """Divide the gradient before an activation by the blocks of rows whose sums its bias is the sum of."""
        blocks = [slice(begin, begin + tall) for begin in range(0, len(y), tall)]
        count = parts_awake(len(blocks), 3.0 * y.size)
        if count == 1:
            return False
        sums = self.new((len(blocks), y.shape[1]), y.dtype)
        rows = [
            make.native("dense", "slopes", (g[some], y[some], out[some], total, kind))
            for some, total in zip(blocks, sums, strict=True)
        ]
        self.add(self.together([rows[i:j] for i, j in ends(len(rows), count)]), True)  # type: ignore[misc]
        self.add(make.native("dense", "gather", (sums, by_bias)), True)
        return True

    def _by_rows(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        """Divide a function by the rows of its first array: after what a crew did to these rows, by the same hands."""
        array, *others = arguments
        last, parts = self._last or (None, [])
        count = len(parts) if last is not None and make.same_place(last, array) else 1
        count = count if count > 1 else parts_awake(array.shape[0], 2.0 * array.size)
        rows = [make.native(module, name, (array[i:j], *others)) for i, j in ends(array.shape[0], count)]
        if count != len(parts) or None in rows:
            self._add_parts(rows)
            return
        del self.rows[-1], self.kept[-1], self.made[-count:]
        self.add(self.together([[*before, row] for before, row in zip(parts, rows, strict=True) if row]), True)

    def shared(self, module: str, name: str, parts: list[tuple[Any, ...]]) -> None:
        """Write calls of a compiled function down that may run at the same time."""
        if not self.team:
            raise Untraceable("a team where BLAS has the threads")
        plain = [self._plain(arguments) for arguments in parts]
        rows = [make.native(module, name, arguments) for arguments in plain]
        self._add_parts(rows)
        if (module, name) == ("thin", "gather"):
            self._last = plain[0][-1], [[row] for row in rows if row is not None]

    def together(self, parts: Sequence[Sequence[Row]]) -> Row:
        """Return the row that lets a crew run lists of rows at the same time."""
        made = [Rows(rows) for rows in parts]
        table = table_of(made)
        self.made += made
        self.kept.append(table)
        self.crew = max(self.crew, len(made) - 1)
        return CREW.row(table, len(made))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([self._plain(part) for part in value])
        return self.target(value) if isinstance(value, np.ndarray) else value


def _extent(array: np.ndarray) -> tuple[int, int]:
    return np.lib.array_utils.byte_bounds(array.view(np.ndarray))


def _copyto(trace: Trace, target: Any, source: Any, casting: str = "same_kind", where: Any = True) -> None:
    trace.move(target, source, where)


def _concatenate(trace: Trace, arrays: Any, axis: int = 0, out: Any = None, **options: Any) -> Any:
    if options or axis is None:
        raise Untraceable("a join with options")
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    if out is None:
        out = trace.wrap(trace.new(tuple(shape), np.result_type(*[a.dtype for a in arrays])))
    begin = 0
    for a in arrays:
        place = [slice(None)] * out.ndim
        place[axis] = slice(begin, begin + a.shape[axis])
        begin += a.shape[axis]
        trace.move(out[tuple(place)], a)
    return out


def _argmax(trace: Trace, x: Any, axis: Any = None, out: Any = None, **options: Any) -> Any:
    if options or axis not in (-1, x.ndim - 1) or out is None or not x.flags.c_contiguous or x.dtype.char not in "fd":
        raise Untraceable("argmax of another form")
    trace.native("exact", "argmax", (x.reshape(-1, x.shape[-1]), out.reshape(-1)))
    return out


def _empty_like(trace: Trace, x: Any, dtype: Any = None, **options: Any) -> Any:
    if options:
        raise Untraceable("an array with options")
    return trace.wrap(trace.new(x.shape, dtype or x.dtype))


def _may_share_memory(trace: Trace, x: Any, y: Any, max_work: Any = None) -> bool:
    return bool(np.may_share_memory(np.asarray(x), np.asarray(y)))


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.copyto: _copyto,
    np.concatenate: _concatenate,
    np.argmax: _argmax,
    np.empty_like: _empty_like,
    np.may_share_memory: _may_share_memory,
}
_VIEWS = (np.squeeze, np.reshape, np.expand_dims, np.swapaxes, np.moveaxis, np.transpose, np.broadcast_to)
# what an array may be asked without giving a value away
_HARMLESS = frozenset({
    "T", "__array_finalize__", "__array_function__", "__array_ufunc__", "__class__", "__dict__", "base", "copy",
    "dtype", "fill", "flags", "itemsize", "max", "mean", "min", "nbytes", "ndim", "reshape", "rows_of", "shape", "size",
    "strides", "sum", "swapaxes", "transpose", "view",
})


class Traced(np.ndarray):
    """An array that writes down what is done to it."""

    rows_of: Trace

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Traced):
            self.rows_of = source.rows_of

    def __getattribute__(self, name: str) -> Any:
        if name not in _HARMLESS:
            raise Untraceable(name)
        return super().__getattribute__(name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return self.rows_of.ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        known = _FUNCTIONS.get(function)
        if known is not None:
            return known(self.rows_of, *arguments, **keywords)
        if function not in _VIEWS:
            raise Untraceable(function.__name__)
        result = super().__array_function__(function, types, arguments, keywords)
        if not self.rows_of.known(result):
            raise Untraceable(f"{function.__name__} that copies")
        return result

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(part is None or part is Ellipsis or type(part) in (int, slice) for part in parts):
            raise Untraceable("an index that is an array")
        result = super().__getitem__(key)
        if not isinstance(result, Traced):
            raise Untraceable("a value that is read")
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        self.rows_of.move(self[key], value)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Return a view of another shape."""
        result = super().reshape(*shape, **options)
        if result.size and not self.rows_of.known(result):
            raise Untraceable("reshape that copies")
        return result

    def copy(self, *options: Any) -> Any:
        """Write a copy down."""
        result = self.rows_of.wrap(self.rows_of.new(self.shape, self.dtype))
        self.rows_of.move(result, self)
        return result

    def fill(self, value: Any) -> None:
        """Write down that it is filled."""
        self.rows_of.move(self, value)

    def _no_value(self, *arguments: Any) -> Any:
        raise Untraceable("a value that is read")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __contains__ = _no_value
