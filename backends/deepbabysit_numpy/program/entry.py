"""Where Python enters a program: two functions of machine code that it calls as it calls its own.

Between two steps of a large network the caches hold nothing of Python's, and every object that is touched costs a
tenth of a microsecond and more. So what can be decided by comparing numbers is decided here: whether inputs are of the
kind that was recorded, whether the crew is awake. The processor's mode (`runtime.subnormals`) is set for rows alone.

A batch may be given as whole arrays and the numbers of its rows: then the rows go from there to where the step reads
them, once, by all hands, and no array is made of them in between. A large batch that is given as it is (`runtime.late`)
is read where it lies: its address is written into the rows that read it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from deepbabysit.runtime.subnormals import machine_mode
from deepbabysit_numpy.compiled.team import parts
from deepbabysit_numpy.program import machine
from deepbabysit_numpy.program.crew import ASLEEP, CREW
from deepbabysit_numpy.program.machine import Row, Rows
from deepbabysit_numpy.program.rows import address

# Places in an entry's memory; each input has a place for where it lies now, one for where the numbers of its rows do
# (0: it is the input itself), and what is known of it.
_ROWS, _COUNT, _CREW, _INPUTS, _SPANS, _SPAN_COUNT, _FIRST = range(7)
_NOW, _PICKED, _SLOT, _LATE, _BYTES, _DTYPE, _AXES, _SHAPE = range(8)
_MOST_AXES = 8
_EACH = _SHAPE + _MOST_AXES
_ROOM = 64  # bytes: more than a C fenv_t has
_PART = 1 << 14  # bytes of an input that a member of the crew copies, at least
_LINE = 64
_STEP = 16  # bytes: where NumPy's own large arrays begin
_AHEAD = 4  # rows that are asked for before they are copied: they lie anywhere in memory
_FASTCALL = 0x80  # METH_FASTCALL of Python's C interface

_LONG, _INT, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_POINTER = _LONG.as_pointer()
_CALLED = ir.FunctionType(_POINTER, [_POINTER, _POINTER, _LONG])  # (self, arguments, how many)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


# -- NumPy's arrays and Python's functions, as C sees them -------------------------------------------------------------


class _Array(ctypes.Structure):
    """NumPy's ``PyArrayObject_fields`` behind the head that every object of Python has."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("nd", ctypes.c_int),
        ("dimensions", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("base", ctypes.c_void_p),
        ("descr", ctypes.c_void_p),
        ("flags", ctypes.c_int),
    ]


_HEAD = object.__basicsize__
_DATA, _ND, _DIMENSIONS, _DESCR, _FLAGS = (
    _HEAD + getattr(_Array, name).offset for name in ("data", "nd", "dimensions", "descr", "flags")
)
_WANTED = 0x0101  # C-contiguous and aligned


class _Method(ctypes.Structure):
    """Python's ``PyMethodDef``."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    ]


@cache
def readable() -> bool:
    """Tell whether arrays lie in memory as this file takes for granted: what is read there is what Python says."""
    if _HEAD != 16 or ctypes.sizeof(ctypes.c_void_p) != 8:  # a build of Python with another object header
        return False
    whole = np.zeros((3, 5), np.float32)
    for array in (whole, whole[:, 1:3], np.zeros(7, np.int64), np.array(2.0)):
        found = _Array.from_address(id(array) + _HEAD)
        kind = ctypes.c_void_p.from_address(id(array) + _HEAD // 2).value
        said = address(array), array.ndim, id(array.dtype), id(np.ndarray), array.flags.c_contiguous
        if (found.data, found.nd, found.descr, kind, found.flags & _WANTED == _WANTED) != said:
            return False
        if tuple(found.dimensions[: array.ndim]) != array.shape:
            return False
    return True


@cache
def _method(name: str) -> _Method:
    place = machine.adapter(name, {"reads": _reads, "picks": _picks, "runs": _runs, "gives": _gives}[name])
    return _Method(name.encode(), place, _FASTCALL, None)


def _function(name: str, memory: np.ndarray) -> Callable[..., int]:
    """Return a function of Python that is machine code and knows an entry's memory."""
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(ctypes.addressof(_method(name)), memory, None)


def _python(name: str) -> Any:
    return _long(ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0)


# -- the code ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes one function that Python calls."""

    def __init__(self, name: str) -> None:
        self.module = ir.Module(name=name)
        self.function = ir.Function(self.module, _CALLED, name)
        self.b = ir.IRBuilder(self.function.append_basic_block())
        self.own, self.arguments, self.given = self.function.args
        self.memory = self.b.inttoptr(self.at(self.b.ptrtoint(self.own, _LONG), _DATA), _POINTER)

    def at(self, base: Any, offset: int, kind: Any = _LONG) -> Any:
        """Return what lies so many bytes behind an address."""
        return self.b.load(self.b.inttoptr(self.b.add(base, _long(offset)), kind.as_pointer()))

    def known(self, place: Any, more: int = 0) -> Any:
        """Return the address of a place in the entry's memory."""
        return self.b.gep(self.memory, [self.b.add(place, _long(more))])

    def call(self, address: Any, result: Any, *arguments: Any) -> Any:
        """Call a function of C."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.b.call(self.b.inttoptr(address, kind.as_pointer()), arguments)

    def answer(self, number: Any) -> None:
        """Return a whole number to Python."""
        self.b.ret(self.call(_python("PyLong_FromLongLong"), _POINTER, number))

    def loop(self, count: Any, body: Callable[[Any], None]) -> None:
        """Do something for the numbers from 0 on."""
        b, before = self.b, self.b.block
        head, inside, end = (self.function.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        number = b.phi(_LONG)
        b.cbranch(b.icmp_unsigned("<", number, count), inside, end)
        b.position_at_end(inside)
        body(number)
        number.add_incoming(_long(0), before)
        number.add_incoming(b.add(number, _long(1)), b.block)
        b.branch(head)
        b.position_at_end(end)

    def unless(self, wrong: Any, elsewhere: Any) -> None:
        """Go on only where nothing is wrong."""
        following = self.function.append_basic_block()
        self.b.cbranch(wrong, elsewhere, following)
        self.b.position_at_end(following)

    def begin(self, number: Any) -> Any:
        """Return the first place of an input."""
        return self.b.add(self.b.mul(number, _long(_EACH)), _long(_FIRST))

    def settle(self) -> None:
        """Let every input be what lies in its slot."""
        def one(number: Any) -> None:
            place = self.begin(number)
            self.b.store(self.b.load(self.known(place, _SLOT)), self.known(place, _NOW))
            self.b.store(_long(0), self.known(place, _PICKED))

        self.loop(self.b.load(self.known(_long(_INPUTS))), one)


def _look(w: _Writer, array: Any, dtype: Any, axes: Any, refused: Any) -> Any:
    """See that an array is NumPy's, of that dtype, with so many axes, in one piece; return where its lengths are."""
    b = w.b
    w.unless(b.icmp_unsigned("!=", w.at(array, _HEAD // 2), _long(id(np.ndarray))), refused)
    w.unless(b.icmp_unsigned("!=", w.at(array, _DESCR), dtype), refused)
    w.unless(b.icmp_unsigned("!=", b.zext(w.at(array, _ND, _INT), _LONG), axes), refused)
    wanted = b.and_(w.at(array, _FLAGS, _INT), _INT(_WANTED))
    w.unless(b.icmp_unsigned("!=", wanted, _INT(_WANTED)), refused)
    return b.inttoptr(w.at(array, _DIMENSIONS), _POINTER)


def _each(w: _Writer, refused: Any, then: Callable[[Any, Any, Any, Any], None], picked: int = 0) -> None:
    """Look at every array that was given: ``then(its entry, where it lies, its slot, bytes)``, or go to `refused`.

    `picked`: how many arguments come before; then the arrays have any number of rows.
    """
    b = w.b
    count = b.load(w.known(_long(_INPUTS)))
    w.unless(b.icmp_unsigned("!=", w.given, b.add(count, _long(picked))), refused)
    w.unless(b.icmp_unsigned("==", count, _long(0)), refused)

    def one(number: Any) -> None:
        place = w.begin(number)
        array = b.load(b.gep(w.arguments, [b.add(number, _long(picked))]))
        axes, slot, size = (b.load(w.known(place, which)) for which in (_AXES, _SLOT, _BYTES))
        lengths = _look(w, array, b.load(w.known(place, _DTYPE)), axes, refused)
        if picked:
            w.unless(b.icmp_unsigned("==", axes, _long(0)), refused)

        def axis(which: Any) -> None:
            which = b.add(which, _long(picked))
            known = b.load(w.known(b.add(place, which), _SHAPE))
            w.unless(b.icmp_unsigned("!=", b.load(b.gep(lengths, [which])), known), refused)

        w.loop(b.sub(axes, _long(picked)), axis)
        begin, end = w.at(array, _DATA), b.add(slot, size)
        own = size if not picked else b.mul(b.udiv(size, b.load(w.known(place, _SHAPE))), b.load(lengths))
        # a copy onto itself is none; any other memory in common is left to NumPy
        before, behind = b.icmp_unsigned("<", begin, end), b.icmp_unsigned("<", slot, b.add(begin, own))
        other = b.icmp_unsigned("!=", begin, slot) if not picked else ir.Constant(ir.IntType(1), 1)
        w.unless(b.and_(other, b.and_(before, behind)), refused)
        then(place, begin, slot, size)

    w.loop(count, one)
    w.answer(_long(1))
    b.position_at_end(refused)


def _reads() -> ir.Module:
    """``reads(*arrays)``: 1 where the next run takes these inputs, 0 where it cannot: they have to be written."""
    w = _Writer("reads")
    b = w.b
    refused = w.function.append_basic_block()

    def one(place: Any, begin: Any, slot: Any, size: Any) -> None:
        stays, taken = (w.function.append_basic_block() for _ in range(2))
        b.cbranch(b.icmp_unsigned("!=", b.load(w.known(place, _LATE)), _long(0)), stays, taken)
        b.position_at_end(stays)
        w.unless(b.icmp_unsigned("!=", b.and_(begin, _long(_STEP - 1)), _long(0)), refused)
        spans, end = b.inttoptr(b.load(w.known(_long(_SPANS))), _POINTER), b.add(begin, size)

        def apart(number: Any) -> None:  # what the step writes itself has to be read as it was before
            first, behind = (b.load(b.gep(spans, [b.add(b.mul(number, _long(2)), _long(i))])) for i in (0, 1))
            common = b.and_(b.icmp_unsigned("<", begin, behind), b.icmp_unsigned("<", first, end))
            w.unless(common, refused)

        w.loop(b.load(w.known(_long(_SPAN_COUNT))), apart)
        b.branch(taken)
        b.position_at_end(taken)
        b.store(begin, w.known(place, _NOW))

    _each(w, refused, one)
    w.settle()
    w.answer(_long(0))
    return w.module


def _picks() -> ir.Module:
    """``picks(rows, *arrays)``: 1 where the next run takes these rows of arrays for its inputs, 0 where it cannot."""
    w = _Writer("picks")
    b = w.b
    refused = w.function.append_basic_block()
    w.unless(b.icmp_unsigned("==", w.given, _long(0)), refused)
    array = b.load(w.arguments)
    count = b.load(_look(w, array, _long(id(np.dtype(np.int64))), _long(1), refused))
    numbers = w.at(array, _DATA)

    def one(place: Any, begin: Any, slot: Any, size: Any) -> None:
        w.unless(b.icmp_unsigned("!=", count, b.load(w.known(place, _SHAPE))), refused)
        given = b.udiv(b.sub(place, _long(_FIRST)), _long(_EACH))
        source = b.load(b.gep(w.arguments, [b.add(given, _long(1))]))
        most = b.load(b.inttoptr(w.at(source, _DIMENSIONS), _POINTER))

        def inside(number: Any) -> None:
            row = b.load(b.gep(b.inttoptr(numbers, _POINTER), [number]))
            w.unless(b.icmp_unsigned(">=", row, most), refused)

        w.loop(count, inside)
        b.store(begin, w.known(place, _NOW))
        b.store(numbers, w.known(place, _PICKED))

    _each(w, refused, one, 1)
    w.settle()
    w.answer(_long(0))
    return w.module


def _gives() -> ir.Module:
    """``gives(*arrays)``: 1 where what the slots hold was copied into these arrays, 0 where one is of another kind."""
    w = _Writer("gives")
    pointer = _BYTE.as_pointer()
    copy = w.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _LONG])

    def one(place: Any, begin: Any, slot: Any, size: Any) -> None:
        to, of = (w.b.inttoptr(where, pointer) for where in (begin, slot))
        w.b.call(copy, [to, of, size, ir.IntType(1)(0)])

    _each(w, w.function.append_basic_block(), one)
    w.answer(_long(0))
    return w.module


def _runs() -> ir.Module:
    """``runs()``: 0, the number of the row that failed, or `ASLEEP`, and nothing run; ``runs(True)`` does not look."""
    w = _Writer("runs")
    b = w.b
    ready, asleep, look = (w.function.append_basic_block() for _ in range(3))
    crew = b.load(w.known(_long(_CREW)))
    any_crew = b.and_(b.icmp_unsigned("==", w.given, _long(0)), b.icmp_unsigned("!=", crew, _long(0)))
    b.cbranch(any_crew, look, ready)
    b.position_at_end(look)
    function, memory = map(_long, CREW.watching())
    watching = w.call(function, _LONG, b.inttoptr(memory, _POINTER), crew)
    b.cbranch(b.icmp_unsigned("!=", watching, _long(0)), ready, asleep)
    b.position_at_end(asleep)
    w.answer(_long(ASLEEP))

    b.position_at_end(ready)
    state = w.call(_python("PyEval_SaveThread"), _POINTER)
    rows, count = b.load(w.known(_long(_ROWS))), b.load(w.known(_long(_COUNT)))
    mode = machine_mode()
    run = _long(machine.runner())
    if mode is None:
        status = w.call(run, _LONG, b.inttoptr(rows, _POINTER), count)
    else:
        get, put, place, bits = mode
        room = b.alloca(_INT, size=_LONG(_ROOM // 4))
        word = b.gep(room, [_long(place)])
        w.call(_long(get), _INT, room)
        before = b.load(word)
        change, go = (w.function.append_basic_block() for _ in range(2))
        other = b.icmp_unsigned("!=", b.and_(before, _INT(bits)), _INT(bits))
        b.cbranch(other, change, go)
        b.position_at_end(change)
        b.store(b.or_(before, _INT(bits)), word)
        w.call(_long(put), _INT, room)
        b.branch(go)
        b.position_at_end(go)
        status = w.call(run, _LONG, b.inttoptr(rows, _POINTER), count)
        back, end = (w.function.append_basic_block() for _ in range(2))
        b.cbranch(other, back, end)
        b.position_at_end(back)
        b.store(before, word)
        w.call(_long(put), _INT, room)
        b.branch(end)
        b.position_at_end(end)
    w.settle()
    w.call(_python("PyEval_RestoreThread"), ir.VoidType(), state)
    w.answer(status)
    return w.module


def _fetch() -> ir.Module:
    """Row: place of an input's address, offset, target, rows, bytes of each, step; nothing where it lies there."""
    module = ir.Module(name="fetch")
    function = ir.Function(module, ir.FunctionType(_INT, [_POINTER]), "fetch")
    b = ir.IRBuilder(function.append_basic_block())
    place, offset, target, outer, size, step = (b.load(b.gep(function.args[0], [_long(i)])) for i in range(1, 7))
    now = b.inttoptr(place, _POINTER)
    source, picked = b.add(b.load(now), offset), b.load(b.gep(now, [_long(_PICKED - _NOW)]))
    pointer = _BYTE.as_pointer()
    copy = module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _LONG])
    ask = module.declare_intrinsic("llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer] + 3 * [_INT]))
    there, some, dense, rows, gather, end = (function.append_basic_block() for _ in range(6))

    def move(to: Any, of: Any, length: Any) -> None:
        b.call(copy, [b.inttoptr(to, pointer), b.inttoptr(of, pointer), length, ir.IntType(1)(0)])

    def each(count: Any, body: Callable[[Any], None], after: Any, by: int = 1) -> None:
        before = b.block
        head, inside = function.append_basic_block(), function.append_basic_block()
        b.branch(head)
        b.position_at_end(head)
        number = b.phi(_LONG)
        b.cbranch(b.icmp_unsigned("<", number, count), inside, after)
        b.position_at_end(inside)
        body(number)
        number.add_incoming(_long(0), before)
        number.add_incoming(b.add(number, _long(by)), b.block)
        b.branch(head)

    def row_of(number: Any) -> Any:
        return b.add(source, b.mul(b.load(b.gep(b.inttoptr(picked, _POINTER), [number])), step))

    def line(number: Any) -> None:
        move(b.add(target, b.mul(number, step)), b.add(source, b.mul(number, step)), size)

    def pick(number: Any) -> None:
        following = b.add(number, _long(_AHEAD))
        last = b.sub(outer, _long(1))
        ahead = row_of(b.select(b.icmp_unsigned("<", following, last), following, last))
        after = function.append_basic_block()
        each(size, lambda byte: b.call(ask, [b.inttoptr(b.add(ahead, byte), pointer), _INT(0), _INT(3), _INT(1)]),
             after, _LINE)  # fmt: skip
        b.position_at_end(after)
        move(b.add(target, b.mul(number, step)), row_of(number), size)

    b.cbranch(b.icmp_unsigned("==", picked, _long(0)), there, gather)
    b.position_at_end(there)
    late = b.icmp_unsigned("!=", b.load(b.gep(now, [_long(_LATE - _NOW)])), _long(0))
    b.cbranch(b.or_(late, b.icmp_unsigned("==", source, target)), end, some)
    b.position_at_end(some)
    b.cbranch(b.icmp_unsigned("==", size, step), dense, rows)
    b.position_at_end(dense)
    move(target, source, b.mul(outer, size))
    b.branch(end)
    b.position_at_end(rows)
    each(outer, line, end)
    b.position_at_end(gather)
    each(outer, pick, end)
    b.position_at_end(end)
    b.ret(_INT(0))
    return module


def _point() -> ir.Module:
    """Row: place of an input's address, table, its length: (place of a number, offset) of all that say where it is."""
    module = ir.Module(name="point")
    function = ir.Function(module, ir.FunctionType(_INT, [_POINTER]), "point")
    b = ir.IRBuilder(function.append_basic_block())
    place, table, count = (b.load(b.gep(function.args[0], [_long(i)])) for i in range(1, 4))
    now, table = b.inttoptr(place, _POINTER), b.inttoptr(table, _POINTER)
    given, picked, slot, late = (b.load(b.gep(now, [_long(i - _NOW)])) for i in (_NOW, _PICKED, _SLOT, _LATE))
    there = b.and_(b.icmp_unsigned("==", picked, _long(0)), b.icmp_unsigned("!=", late, _long(0)))
    base = b.select(there, given, slot)
    first = b.block
    head, body, end = (function.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    number = b.phi(_LONG)
    b.cbranch(b.icmp_unsigned("<", number, count), body, end)
    b.position_at_end(body)
    at = b.mul(number, _long(2))
    to, offset = (b.load(b.gep(table, [b.add(at, _long(i))])) for i in (0, 1))
    b.store(b.add(base, offset), b.inttoptr(to, _POINTER))
    number.add_incoming(_long(0), first)
    number.add_incoming(b.add(number, _long(1)), body)
    b.branch(head)
    b.position_at_end(end)
    b.ret(_INT(0))
    return module


# -- an entry ----------------------------------------------------------------------------------------------------------


class Entry:
    """Rows that Python runs by one call, and inputs that they copy first.

    Arguments:
        slots: inputs of a recording.
        late: which of them are read where they lie; `follow` says by whom.
        written: addresses between which the recording writes.

    Attributes:
        slots: the same, or none where not all of them can be looked at.
        rows: what it runs.
        run: ``run()`` returns 0, the number of the row that failed, or `ASLEEP`: then nothing was done, and
            ``run(True)`` runs the rows whoever is awake.
        reads: ``reads(*arrays)`` returns 1 where the next run reads these in place of the slots.
        picks: ``picks(rows, *arrays)`` returns 1 where it reads these rows of arrays.
        gives: ``gives(*arrays)`` returns 1 where it has copied what the slots hold now into these.
    """

    def __init__(
        self, slots: Sequence[np.ndarray] = (), late: Sequence[int] = (), written: Sequence[tuple[int, int]] = ()
    ) -> None:
        fits = readable() and all(type(a) is np.ndarray and a.flags.c_contiguous for a in slots)
        self.slots = [] if not fits or any(a.ndim > _MOST_AXES or not a.size for a in slots) else list(slots)
        self._memory = np.zeros(_FIRST + _EACH * len(self.slots), np.uint64)
        self._written = np.array(written, np.uint64).reshape(-1)
        self._tables: dict[int, np.ndarray] = {}
        self._memory[_INPUTS : _SPAN_COUNT + 1] = len(self.slots), address(self._written), len(written)
        for number, slot in enumerate(self.slots):
            where, form = address(slot), (slot.nbytes, id(slot.dtype), slot.ndim, *slot.shape)
            self._memory[(begin := self._begin(number)) : begin + _BYTES + len(form)] = [
                where, 0, where, number in late, *form
            ]
        self._kinds = [slot.dtype for slot in self.slots]  # their addresses are compared
        self.reads = _function("reads", self._memory)
        self.picks = _function("picks", self._memory)
        self.run = _function("runs", self._memory)
        self.gives = _function("gives", self._memory)

    def fetching(self, threads: bool) -> list[list[Row]]:
        """Return the rows that copy each input; several where threads may share the work."""
        found = []
        fetch = machine.adapter("fetch", _fetch)
        for number, slot in enumerate(self.slots):
            now, to = self._now(number), address(slot)
            rows = slot.shape[0] if slot.ndim else 1
            width = slot.nbytes // rows
            count = parts(width // _LINE, slot.nbytes, _PART) if threads else 1
            # columns, as products divide them: each finds its own in its cache
            ends = [width * part // count // _LINE * _LINE for part in range(count)] + [width]
            found.append([
                [fetch, now, begin, to + begin, rows, end - begin, width]
                for begin, end in zip(ends, ends[1:], strict=False)
            ])
        return found

    def _begin(self, number: int) -> int:
        return _FIRST + _EACH * number

    def _now(self, number: int) -> int:
        return address(self._memory) + 8 * (self._begin(number) + _NOW)

    def follow(self, number: int, rows: Sequence[np.ndarray]) -> Row:
        """Return the row that tells these where an input lies; what they hold now means its slot."""
        slot = self.slots[number]
        first = np.uint64(address(slot))
        last = np.uint64(address(slot) + slot.nbytes)
        inside = [(row, place) for row in rows for place in np.flatnonzero((row >= first) & (row < last)).tolist()]
        table = np.array([(address(row[place:]), row[place] - first) for row, place in inside], np.uint64)
        self._tables[number] = table
        return [machine.adapter("point", _point), self._now(number), address(table), len(inside)]

    def copied(self, number: int) -> None:
        """Let an input be copied into its slot always."""
        self._memory[self._begin(number) + _LATE] = 0

    def work_off(self, rows: Rows, crew: int) -> None:
        """Let these be the rows that are run, by so many more threads."""
        self.rows = rows
        self._memory[_ROWS : _CREW + 1] = [*rows.place, crew]
