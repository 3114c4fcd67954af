"""A machine for programs of kernel calls: rows of numbers, and one loop of machine code that works them off.

A row begins with the address of an adapter; what follows is what the adapter reads: the address of the function that
does the work, of arrays, lengths, strides. The adapters are a few instructions each, made by LLVM in milliseconds: one
for the inner loops of ufuncs, one for the products of BLAS, one for each pair of dtypes between which values move, and
one for each signature of the kernels that Numba compiled. No function is compiled for a model.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as binding
import numpy as np
from llvmlite import ir

OPERANDS = 4  # of a ufunc's inner loop, outputs included
_LONG, _INT, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_FLOAT, _DOUBLE, _VOID = ir.FloatType(), ir.DoubleType(), ir.VoidType()
_ADAPTER = ir.FunctionType(_INT, [_LONG.as_pointer()])
_WHOLE = "ilq"  # a C long has 32 bits on some systems
_TYPES = {
    "?": _BYTE, "f": _FLOAT, "d": _DOUBLE, **{char: ir.IntType(8 * np.dtype(char).itemsize) for char in _WHOLE},
}


class _Writer:
    """Writes one adapter: a function of a row, with values read from places of the row."""

    def __init__(self, name: str) -> None:
        self.module = ir.Module(name=name)
        self.function = ir.Function(self.module, _ADAPTER, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.row = self.function.args[0]

    def long(self, place: int) -> Any:
        """Return the number at a place of the row."""
        return self.builder.load(self.builder.gep(self.row, [_LONG(place)]))

    def value(self, place: int, kind: Any) -> Any:
        """Return what is at a place of the row, as a value of that type."""
        if isinstance(kind, ir.PointerType):
            return self.builder.inttoptr(self.long(place), kind)
        where = self.builder.gep(self.row, [_LONG(place)])
        if isinstance(kind, ir.IntType) and kind.width < 64:
            return self.builder.trunc(self.builder.load(where), kind)
        return self.builder.load(self.builder.bitcast(where, kind.as_pointer()))

    @contextmanager
    def loop(self, count: Any, carried: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
        """Repeat so often; gives values that are carried on, and a list for what they become."""
        builder = self.builder
        before = builder.block
        head, body, end = (self.function.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        number = builder.phi(_LONG)
        values = [builder.phi(value.type) for value in carried]
        builder.cbranch(builder.icmp_signed("<", number, count), body, end)
        builder.position_at_end(body)
        following: list[Any] = []
        yield values, following
        number.add_incoming(_LONG(0), before)
        number.add_incoming(builder.add(number, _LONG(1)), builder.block)
        for phi, first, then in zip(values, carried, following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, builder.block)
        builder.branch(head)
        builder.position_at_end(end)

    def finish(self, status: Any = None) -> ir.Module:
        """End the function."""
        self.builder.ret(_INT(0) if status is None else status)
        return self.module


def _ufunc() -> ir.Module:
    """Row: function, data, outer count, inner count, pointers, inner steps, outer steps (OPERANDS each)."""
    w = _Writer("ufunc")
    b = w.builder
    arrays = b.alloca(_LONG, size=_LONG(OPERANDS))
    places = [b.gep(arrays, [_LONG(i)]) for i in range(OPERANDS)]
    pointer = _LONG.as_pointer()
    kind = ir.FunctionType(_VOID, [pointer, pointer, pointer, _BYTE.as_pointer()])
    function, data = w.value(1, kind.as_pointer()), w.value(2, _BYTE.as_pointer())
    length, steps = b.gep(w.row, [_LONG(4)]), b.gep(w.row, [_LONG(5 + OPERANDS)])
    outer = [w.long(5 + 2 * OPERANDS + i) for i in range(OPERANDS)]
    with w.loop(w.long(3), [w.long(5 + i) for i in range(OPERANDS)]) as (values, following):
        for place, value in zip(places, values, strict=True):
            b.store(value, place)
        b.call(function, [arrays, length, steps, data])
        following += [b.add(value, step) for value, step in zip(values, outer, strict=True)]
    return w.finish()


def _gemm(real: Any, name: str) -> ir.Module:
    """Row: function, transposed (twice), m, n, k, a, lda, b, ldb, c, ldc."""
    w = _Writer(name)
    kind = ir.FunctionType(
        _VOID, [_INT, _INT, _INT, _LONG, _LONG, _LONG, real, _LONG, _LONG, _LONG, _LONG, real, _LONG, _LONG]
    )
    one, nothing = ir.Constant(real, 1.0), ir.Constant(real, 0.0)
    turns = [w.value(i, _INT) for i in (2, 3)]
    m, n, k, a, lda, b, ldb, c, ldc = [w.long(i) for i in range(4, 13)]
    w.builder.call(
        w.value(1, kind.as_pointer()), [_INT(101), *turns, m, n, k, one, a, lda, b, ldb, nothing, c, ldc]
    )
    return w.finish()


def _gemv(real: Any, name: str) -> ir.Module:
    """Row: function, order, m, n, a, lda, x, step of x, y, step of y; the matrix is transposed."""
    w = _Writer(name)
    kind = ir.FunctionType(
        _VOID, [_INT, _INT, _LONG, _LONG, real, _LONG, _LONG, _LONG, _LONG, real, _LONG, _LONG]
    )
    one, nothing = ir.Constant(real, 1.0), ir.Constant(real, 0.0)
    m, n, a, lda, x, x_step, y, y_step = [w.long(i) for i in range(3, 11)]
    w.builder.call(
        w.value(1, kind.as_pointer()),
        [w.value(2, _INT), _INT(112), m, n, one, a, lda, x, x_step, nothing, y, y_step],
    )
    return w.finish()


def _bytes() -> ir.Module:
    """Row: target, source, length in bytes; they do not overlap."""
    w = _Writer("bytes")
    pointer = _BYTE.as_pointer()
    copy = w.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _LONG])
    w.builder.call(copy, [w.value(1, pointer), w.value(2, pointer), w.long(3), ir.IntType(1)(0)])
    return w.finish()


def _cast(builder: Any, value: Any, source: str, target: str) -> Any:
    """Convert as NumPy does; KeyError for what needs more than one instruction."""
    kind = _TYPES[target]
    if source == target or (source in _WHOLE and target in _WHOLE and value.type == kind):
        return value
    if target in "fd":
        if source in "fd":
            return builder.fpext(value, kind) if target == "d" else builder.fptrunc(value, kind)
        return builder.uitofp(value, kind) if source == "?" else builder.sitofp(value, kind)
    if source == "?":
        return builder.zext(value, kind)
    if source in _WHOLE and target in _WHOLE and value.type.width < kind.width:
        return builder.sext(value, kind)
    raise KeyError(f"{source}->{target}")


def _move_dense(source: str, target: str, masked: bool, name: str) -> ir.Module:
    """Row as of `_move`, with elements side by side, except that the source may be one number: vectorized."""
    w = _Writer(name)
    b = w.builder
    count = 3 if masked else 2
    kinds = [_TYPES[target], _TYPES[source], _BYTE][:count]
    inner_count, single = w.long(2), b.icmp_signed("==", w.long(7), _LONG(0))
    outer = [w.long(5 + 3 * i) for i in range(count)]
    with w.loop(w.long(1), [w.long(3 + 3 * i) for i in range(count)]) as (rows, next_rows):
        bases = [b.inttoptr(row, kind.as_pointer()) for row, kind in zip(rows, kinds, strict=True)]
        first = b.load(bases[1])
        with w.loop(inner_count, [_LONG(0)]) as ((place,), following):
            value = b.select(single, first, b.load(b.gep(bases[1], [b.select(single, _LONG(0), place)])))
            new = _cast(b, value, source, target)
            to = b.gep(bases[0], [place])
            if masked:
                flag = b.load(b.gep(bases[2], [place]))
                new = b.select(b.icmp_unsigned("!=", flag, _BYTE(0)), new, b.load(to))
            b.store(new, to)
            following.append(b.add(place, _LONG(1)))
        next_rows += [b.add(value, step) for value, step in zip(rows, outer, strict=True)]
    return w.finish()


def _move(source: str, target: str, masked: bool, name: str) -> ir.Module:
    """Row: outer count, inner count, and (pointer, inner step, outer step) of target, source and mask."""
    w = _Writer(name)
    b = w.builder
    count = 3 if masked else 2
    inner_count = w.long(2)
    pointers = [w.long(3 + 3 * i) for i in range(count)]
    inner = [w.long(4 + 3 * i) for i in range(count)]
    outer = [w.long(5 + 3 * i) for i in range(count)]
    with w.loop(w.long(1), pointers) as (rows, next_rows):
        with w.loop(inner_count, rows) as (values, following):
            to, of = (b.inttoptr(v, _TYPES[t].as_pointer()) for v, t in zip(values, (target, source), strict=False))
            new = _cast(b, b.load(of), source, target)
            if masked:
                flag = b.load(b.inttoptr(values[2], _BYTE.as_pointer()))
                new = b.select(b.icmp_unsigned("!=", flag, _BYTE(0)), new, b.load(to))
            b.store(new, to)
            following += [b.add(value, step) for value, step in zip(values, inner, strict=True)]
        next_rows += [b.add(value, step) for value, step in zip(rows, outer, strict=True)]
    return w.finish()


def _native(function_type: Any, name: str) -> ir.Module:
    """Row: function, then every argument in eight bytes; Numba's convention puts result and exception before them."""
    w = _Writer(name)
    b = w.builder
    result, problem, *kinds = function_type.args
    function = w.value(1, function_type.as_pointer())
    space = b.alloca(_LONG, size=_LONG(16))
    failure = b.alloca(problem.pointee)
    arguments = [w.value(2 + i, kind) for i, kind in enumerate(kinds)]
    status = b.call(function, [b.bitcast(space, result), failure, *arguments])
    return w.finish(status)


def _run() -> ir.Module:
    """Work off rows until one reports a failure; returns its number counted from one, or 0."""
    module = ir.Module(name="run")
    pointer = _LONG.as_pointer()
    function = ir.Function(module, ir.FunctionType(_LONG, [pointer, _LONG]), "run")
    rows, count = function.args
    entry, head, body, after, failed, end = (function.append_basic_block() for _ in range(6))
    b = ir.IRBuilder(entry)
    b.branch(head)
    b.position_at_end(head)
    number = b.phi(_LONG)
    b.cbranch(b.icmp_signed("<", number, count), body, end)
    b.position_at_end(body)
    row = b.inttoptr(b.load(b.gep(rows, [number])), pointer)
    adapter = b.inttoptr(b.load(row), _ADAPTER.as_pointer())
    status = b.call(adapter, [row])
    b.cbranch(b.icmp_signed("==", status, _INT(0)), after, failed)
    b.position_at_end(after)
    following = b.add(number, _LONG(1))
    b.branch(head)
    number.add_incoming(_LONG(0), entry)
    number.add_incoming(following, after)
    b.position_at_end(failed)
    b.ret(b.add(number, _LONG(1)))
    b.position_at_end(end)
    b.ret(_LONG(0))
    return module


class _Engine:
    """LLVM's compiler for this process; adapters are made when they are first asked for, and kept."""

    def __init__(self) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        self._lock = threading.RLock()  # an adapter may contain the address of another
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2
        )
        self._machine = machine
        self._compiler = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._made: dict[str, int] = {}
        self._names: dict[Any, str] = {}

    def adapter(self, name: str, make: Callable[[], ir.Module]) -> int:
        """Return the address of an adapter."""
        with self._lock:
            found = self._made.get(name)
            if found is None:
                module = make()
                module.triple = binding.get_default_triple()
                parsed = binding.parse_assembly(str(module))
                parsed.verify()
                if hasattr(binding, "create_pass_builder"):  # without it, loops are not vectorized
                    options = binding.create_pipeline_tuning_options(speed_level=3)
                    options.loop_vectorization = True
                    passes = binding.create_pass_builder(self._machine, options)
                    passes.getModulePassManager().run(parsed, passes)
                self._compiler.add_module(parsed)
                self._compiler.finalize_object()
                found = self._made[name] = self._compiler.get_function_address(module.name)
            return found

    def name_of(self, key: Any) -> str:
        """Return a name of its own for a signature."""
        return self._names.setdefault(key, f"native_{len(self._names)}")


_ENGINE: list[_Engine] = []


def _engine() -> _Engine:
    if not _ENGINE:
        _ENGINE.append(_Engine())
    return _ENGINE[0]


Row = list[int]


def ufunc_row(
    function: tuple[int, int], outer: int, inner: int, pointers: Sequence[int], steps: Sequence[int],
    outer_steps: Sequence[int],
) -> Row:
    """Run an inner loop `outer` times over `inner` elements."""
    pad = [0] * (OPERANDS - len(pointers))
    adapter = _engine().adapter("ufunc", _ufunc)
    return [adapter, *function, outer, inner, *pointers, *pad, *steps, *pad, *outer_steps, *pad]


def gemm_row(address: int, char: str, numbers: Sequence[int]) -> Row:
    """Multiply matrices; the numbers are those of `_gemm`."""
    name = f"gemm_{char}"
    return [_engine().adapter(name, lambda: _gemm(_TYPES[char], name)), address, *numbers]


def gemv_row(address: int, char: str, numbers: Sequence[int]) -> Row:
    """Multiply a matrix by a vector; the numbers are those of `_gemv`."""
    name = f"gemv_{char}"
    return [_engine().adapter(name, lambda: _gemv(_TYPES[char], name)), address, *numbers]


def bytes_row(target: int, source: int, length: int) -> Row:
    """Copy bytes."""
    return [_engine().adapter("bytes", _bytes), target, source, length]


def move_row(source: str, target: str, outer: int, inner: int, places: Sequence[tuple[int, int, int]]) -> Row | None:
    """Copy values to another dtype or layout, where a mask is set if there is one; None for an unknown pair."""
    masked = len(places) == 3
    steps = [place[1] for place in places]
    sizes = [np.dtype(char).itemsize for char in (target, source, "?")][: len(places)]
    dense = all(step == size or (i == 1 and not step) for i, (step, size) in enumerate(zip(steps, sizes, strict=True)))
    name = f"move_{ord(source)}_{ord(target)}_{int(masked)}_{int(dense)}"
    if source not in _TYPES or target not in _TYPES:
        return None
    try:
        adapter = _engine().adapter(name, lambda: (_move_dense if dense else _move)(source, target, masked, name))
    except KeyError:
        return None
    return [adapter, outer, inner, *[number for place in places for number in place]]


def native_row(address: int, function_type: Any, arguments: Sequence[int]) -> Row:
    """Call a function that Numba compiled with arguments that are already flat."""
    engine = _engine()
    name = engine.name_of(str(function_type))
    return [engine.adapter(name, lambda: _native(function_type, name)), address, *arguments]


def adapter(name: str, make: Callable[[], ir.Module]) -> int:
    """Return the address of an adapter that is made elsewhere."""
    return _engine().adapter(name, make)


def runner() -> int:
    """Return the address of the loop that works off rows."""
    return adapter("run", _run)


class Rows:
    """Rows in memory, ready to run.

    Attributes:
        place: where the table of rows lies, and how many there are.
        numbers: the rows; what is changed in them holds from the next call on.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.numbers = [np.array([n & (1 << 64) - 1 for n in row], np.uint64) for row in rows]
        self._table = np.array([row.ctypes.data for row in self.numbers], np.uint64)
        self.place = (self._table.ctypes.data, len(rows))
        self._arguments = (ctypes.c_void_p(self.place[0]), ctypes.c_int64(self.place[1]))
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(runner())

    def __call__(self) -> int:
        """Run all; returns 0, or the number of the row that failed, counted from one."""
        return int(self._function(*self._arguments))
