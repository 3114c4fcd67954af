"""Rows of a program from what a kernel does to arrays; None where no row does it with NumPy's bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from deepbabysit_numpy.program import machine
from deepbabysit_numpy.program.blas import addresses
from deepbabysit_numpy.program.machine import Row
from deepbabysit_numpy.program.ufuncs import find_loop


def address(array: np.ndarray) -> int:
    """Return where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


def same_place(x: np.ndarray, y: np.ndarray) -> bool:
    """Tell whether two arrays of one shape and dtype are the same memory in the same order."""
    return address(x) == address(y) and (x.strides == y.strides or (x.flags.c_contiguous and y.flags.c_contiguous))


def _planes(arrays: Sequence[np.ndarray]) -> tuple[int, int, list[tuple[int, int]]] | None:
    """Return arrays of one shape as (outer count, inner count, steps of each): axes that lie alike become one."""
    shape = arrays[0].shape
    axes = [i for i in range(len(shape)) if shape[i] != 1]
    merged: list[tuple[int, tuple[int, ...]]] = []
    for i in axes:
        steps = tuple(a.strides[i] for a in arrays)
        if merged and merged[-1][1] == tuple(step * shape[i] for step in steps):
            merged[-1] = (merged[-1][0] * shape[i], steps)
        else:
            merged.append((shape[i], steps))
    if len(merged) > 2:
        return None
    while len(merged) < 2:
        merged.insert(0, (1, (0,) * len(arrays)))
    (outer, outer_steps), (inner, inner_steps) = merged
    return outer, inner, list(zip(inner_steps, outer_steps, strict=True))


def _overlaps(out: np.ndarray, x: np.ndarray) -> bool:
    """Tell whether an input shares memory with the output other than element by element."""
    return bool(np.may_share_memory(out, x)) and not (out.shape == x.shape and same_place(out, x))


def elementwise(ufunc: Any, dtypes: tuple[Any, ...], arrays: Sequence[np.ndarray]) -> Row | None:
    """Return the row of a ufunc call; the last array is written."""
    loop = find_loop(ufunc, dtypes)
    if loop is None or len(arrays) > machine.OPERANDS:
        return None
    *inputs, out = arrays
    if any(_overlaps(out, x) for x in inputs):
        return None
    together = [*[np.broadcast_to(x, out.shape) for x in inputs], out]
    plan = _planes(together)
    if plan is None:
        return None
    outer, inner, steps = plan
    return machine.ufunc_row(
        loop, outer, inner, [address(a) for a in together], [s for s, _ in steps], [s for _, s in steps]
    )


def reduction(
    ufunc: Any, x: np.ndarray, out: np.ndarray, axes: tuple[int, ...], constant: Callable[..., Any]
) -> list[Row | None]:
    """Return the rows of a reduction; `out` has length 1 on the reduced axes."""
    loop = find_loop(ufunc, (x.dtype, x.dtype, x.dtype))
    if loop is None or np.may_share_memory(x, out):
        return [None]
    begin: Row | None
    if ufunc is np.add:
        begin = move(out, np.broadcast_to(constant(0, out.dtype), out.shape), None)
    elif ufunc in (np.maximum, np.minimum):  # no number is neutral: the first elements are, and the rest is compared
        if len(axes) != 1:
            return [None]
        first, rest = [slice(None)] * x.ndim, [slice(None)] * x.ndim
        first[axes[0]], rest[axes[0]] = slice(0, 1), slice(1, None)
        begin = move(out, x[tuple(first)], None)
        x = x[tuple(rest)]
        if not x.size:
            return [begin]
    else:
        return [None]
    repeated = np.broadcast_to(out, x.shape)
    plan = _planes([x, repeated])
    if plan is None:
        return [None]
    outer, inner, ((x_inner, x_outer), (o_inner, o_outer)) = plan
    if x_inner > x_outer and outer > 1:  # NumPy walks along memory
        outer, inner, x_inner, x_outer, o_inner, o_outer = inner, outer, x_outer, x_inner, o_outer, o_inner
    to, of = address(out), address(x)
    steps, outer_steps = [o_inner, x_inner, o_inner], [o_outer, x_outer, o_outer]
    return [begin, machine.ufunc_row(loop, outer, inner, [to, of, to], steps, outer_steps)]


def move(to: np.ndarray, of: np.ndarray, mask: np.ndarray | None) -> Row | None:
    """Return the row that copies values; all arrays have one shape."""
    if not to.size:
        return None
    if np.may_share_memory(to, of) and not (to.dtype == of.dtype and same_place(to, of)):
        return None
    if mask is None and to.dtype == of.dtype and to.flags.c_contiguous and of.flags.c_contiguous:
        return machine.bytes_row(address(to), address(of), to.nbytes)
    arrays = [to, of] if mask is None else [to, of, mask]
    plan = _planes(arrays)
    if plan is None:
        return None
    outer, inner, steps = plan
    places = [(address(a), *step) for a, step in zip(arrays, steps, strict=True)]
    return machine.move_row(of.dtype.char, to.dtype.char, outer, inner, places)


def _leading(x: np.ndarray) -> tuple[bool, int] | None:
    """Return (transposed, leading dimension) of a matrix as NumPy hands it to BLAS."""
    size, (rows, columns), (down, along) = x.itemsize, x.shape, x.strides
    if along == size and down % size == 0 and down // size >= columns:
        return False, down // size
    if down == size and along % size == 0 and along // size >= rows:
        return True, along // size
    return None


def _dense(down: int, along: int, columns: int, size: int) -> bool:
    """Tell whether NumPy takes a matrix with these steps for one that BLAS reads."""
    return along == size and down % size == 0 and down // size >= columns


def _vector_product(
    matrix: np.ndarray, vector: np.ndarray, step: int, out: np.ndarray, out_step: int, address_of: int
) -> Row | None:
    """Return the row for ``out = matrix vector``, with the arguments that NumPy hands to BLAS."""
    size, (m, n), (down, along) = matrix.itemsize, matrix.shape, matrix.strides
    if not _dense(step, size, 1, size) or out_step % size:
        return None
    if _dense(down, along, n, size):
        order, lda = 102, down // size
    elif _dense(along, down, m, size):
        order, lda = 101, along // size
    else:
        return None
    numbers = [order, n, m, address(matrix), lda, address(vector), step // size, address(out), out_step // size]
    return machine.gemv_row(address_of, out.dtype.char, numbers)


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray, constant: Callable[..., Any]) -> list[Row | None]:
    """Return the rows of a matrix product: the function of BLAS that NumPy takes for these shapes and strides."""
    functions = addresses()
    char = out.dtype.char
    if not functions or char not in "fd" or a.dtype != out.dtype or not a.size or not b.size:
        return [None]
    if np.may_share_memory(a, b) or np.may_share_memory(out, a) or np.may_share_memory(out, b):
        return [None]
    (m, k), n = a.shape, b.shape[1]
    prefix = "s" if char == "f" else "d"
    if m == 1 and n == 1:
        return [None]
    if n == 1:
        return [_vector_product(a, b, b.strides[0], out, out.strides[0], functions[f"{prefix}gemv"])]
    if m == 1:
        return [_vector_product(b.T, a, a.strides[1], out, out.strides[1], functions[f"{prefix}gemv"])]
    if k == 1:  # a loop of NumPy's own, which adds to zero
        kind = (out.dtype,) * 3
        return [
            elementwise(np.multiply, kind, [a, b, out]), elementwise(np.add, kind, [out, constant(0, out.dtype), out])
        ]
    first, second = _leading(a), _leading(b)
    if first is None or second is None or not out.flags.c_contiguous:
        return [None]
    turns = [112 if turned else 111 for turned, _ in (first, second)]
    numbers = [*turns, m, n, k, address(a), first[1], address(b), second[1], address(out), n]
    return [machine.gemm_row(functions[f"{prefix}gemm"], char, numbers)]


# -- functions that Numba compiled -------------------------------------------------------------------------------------


@cache
def _compiled(module: str, name: str, signature: tuple[Any, ...]) -> tuple[int, Any] | None:
    """Return the address of a compiled function for these types, and its type in LLVM."""
    from deepbabysit_numpy.compiled.loading import Compiled

    dispatcher = Compiled(module, name).compile(signature)
    overload = dispatcher.overloads[signature]
    described = overload.fndesc
    place = overload.library.get_pointer_to_function(described.llvm_func_name)
    context = dispatcher.targetctx
    return place, context.call_conv.get_function_type(described.restype, described.argtypes)


_KNOWN: dict[Any, tuple[int, Any] | None] = {}


def _kind(value: Any) -> Any:
    """Return what Numba's type of a value depends on: asking Numba takes 20 microseconds."""
    if isinstance(value, np.ndarray):
        flags = value.flags
        layout = flags.c_contiguous, flags.f_contiguous, flags.writeable, flags.aligned
        return value.dtype, value.ndim, layout
    if type(value) is tuple:
        return tuple([_kind(part) for part in value])
    return type(value), type(value) is int and value >= 1 << 63


def native(module: str, name: str, arguments: tuple[Any, ...]) -> Row | None:
    """Return the row that calls a function which Numba compiled."""
    key = module, name, _kind(arguments)
    if key not in _KNOWN:
        import numba

        _KNOWN[key] = _compiled(module, name, tuple([numba.typeof(a) for a in arguments]))
    found = _KNOWN[key]
    if found is None:
        return None
    flat: list[int] = []
    for argument in arguments:
        _flatten(argument, flat)
    place, kind = found
    if len(flat) != len(kind.args) - 2:
        return None
    return machine.native_row(place, kind, flat)


def _flatten(value: Any, into: list[int]) -> None:
    """Write an argument as Numba hands it on: arrays and tuples in pieces, each in eight bytes."""
    if isinstance(value, np.ndarray):
        into += [0, 0, value.size, value.itemsize, address(value), *value.shape, *value.strides]
    elif isinstance(value, tuple):
        for part in value:
            _flatten(part, into)
    elif isinstance(value, bool | np.bool_ | int | np.integer):
        into.append(int(value) & (1 << 64) - 1)
    elif isinstance(value, np.float32):
        into.append(int(np.array(value).view(np.uint32)))
    elif isinstance(value, float):
        into.append(int(np.array(value, np.float64).view(np.uint64)))
    else:
        raise TypeError(f"an argument of type {type(value).__name__}")
