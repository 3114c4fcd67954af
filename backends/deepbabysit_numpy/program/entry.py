"""Where Python enters a program: two functions of machine code that it calls as it calls its own.

Between two steps of a large network the caches hold nothing of Python's, and every object that is touched costs a
tenth of a microsecond and more. So what can be decided by comparing numbers is decided here: whether inputs are of the
kind that was recorded, whether the crew is awake. The processor's mode (`runtime.subnormals`) is set for rows alone.
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

# Places in an entry's memory; each input has a place for where it lies now, and what is known of it.
_ROWS, _COUNT, _CREW, _INPUTS, _FIRST = range(5)
_NOW, _SLOT, _BYTES, _DTYPE, _AXES, _SHAPE = range(6)
_MOST_AXES = 8
_EACH = _SHAPE + _MOST_AXES
_ROOM = 64  # bytes: more than a C fenv_t has
_PART = 1 << 14  # bytes of an input that a member of the crew copies, at least
_LINE = 64
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
    place = machine.adapter(name, {"reads": _reads, "runs": _runs, "gives": _gives}[name])
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

        self.loop(self.b.load(self.known(_long(_INPUTS))), one)


def _each(w: _Writer, refused: Any, then: Callable[[Any, Any, Any, Any], None]) -> None:
    """Look at every array that was given: ``then(its entry, where it lies, its slot, bytes)``, or go to `refused`."""
    b = w.b
    count = b.load(w.known(_long(_INPUTS)))
    w.unless(b.icmp_unsigned("!=", w.given, count), refused)
    w.unless(b.icmp_unsigned("==", count, _long(0)), refused)

    def one(number: Any) -> None:
        place = w.begin(number)
        array = b.load(b.gep(w.arguments, [number]))
        w.unless(b.icmp_unsigned("!=", w.at(array, _HEAD // 2), _long(id(np.ndarray))), refused)
        w.unless(b.icmp_unsigned("!=", w.at(array, _DESCR), b.load(w.known(place, _DTYPE))), refused)
        axes = b.load(w.known(place, _AXES))
        w.unless(b.icmp_unsigned("!=", b.zext(w.at(array, _ND, _INT), _LONG), axes), refused)
        wanted = b.and_(w.at(array, _FLAGS, _INT), _INT(_WANTED))
        w.unless(b.icmp_unsigned("!=", wanted, _INT(_WANTED)), refused)
        lengths = b.inttoptr(w.at(array, _DIMENSIONS), _POINTER)

        def axis(which: Any) -> None:
            known = b.load(w.known(b.add(place, which), _SHAPE))
            w.unless(b.icmp_unsigned("!=", b.load(b.gep(lengths, [which])), known), refused)

        w.loop(axes, axis)
        begin, slot, size = w.at(array, _DATA), b.load(w.known(place, _SLOT)), b.load(w.known(place, _BYTES))
        # a copy onto itself is none; any other memory in common is left to NumPy
        before, behind = b.icmp_unsigned("<", begin, b.add(slot, size)), b.icmp_unsigned("<", slot, b.add(begin, size))
        other = b.icmp_unsigned("!=", begin, slot)
        w.unless(b.and_(other, b.and_(before, behind)), refused)
        then(place, begin, slot, size)

    w.loop(count, one)
    w.answer(_long(1))
    b.position_at_end(refused)


def _reads() -> ir.Module:
    """``reads(*arrays)``: 1 where the next run takes these inputs, 0 where it cannot: they have to be written."""
    w = _Writer("reads")
    _each(w, w.function.append_basic_block(), lambda place, begin, slot, size: w.b.store(begin, w.known(place, _NOW)))
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
    """Row: place of an input's address, offset, target, outer count, bytes, step; nothing where it lies there."""
    module = ir.Module(name="fetch")
    function = ir.Function(module, ir.FunctionType(_INT, [_POINTER]), "fetch")
    b = ir.IRBuilder(function.append_basic_block())
    now, offset, target, outer, size, step = (b.load(b.gep(function.args[0], [_long(i)])) for i in range(1, 7))
    source = b.add(b.load(b.inttoptr(now, _POINTER)), offset)
    first = b.block
    head, body, end = (function.append_basic_block() for _ in range(3))
    b.cbranch(b.icmp_unsigned("==", source, target), end, head)
    b.position_at_end(head)
    number = b.phi(_LONG)
    b.cbranch(b.icmp_unsigned("<", number, outer), body, end)
    b.position_at_end(body)
    pointer = _BYTE.as_pointer()
    copy = module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _LONG])
    behind = b.mul(number, step)
    to, of = (b.inttoptr(b.add(begin, behind), pointer) for begin in (target, source))
    b.call(copy, [to, of, size, ir.IntType(1)(0)])
    number.add_incoming(_long(0), first)
    number.add_incoming(b.add(number, _long(1)), b.block)
    b.branch(head)
    b.position_at_end(end)
    b.ret(_INT(0))
    return module


# -- an entry ----------------------------------------------------------------------------------------------------------


class Entry:
    """Rows that Python runs by one call, and inputs that they copy first.

    Arguments:
        slots: inputs of a recording.

    Attributes:
        slots: the same, or none where not all of them can be looked at.
        run: ``run()`` returns 0, the number of the row that failed, or `ASLEEP`: then nothing was done, and
            ``run(True)`` runs the rows whoever is awake.
        reads: ``reads(*arrays)`` returns 1 where the next run reads these in place of the slots.
        gives: ``gives(*arrays)`` returns 1 where it has copied what the slots hold now into these.
    """

    def __init__(self, slots: Sequence[np.ndarray] = ()) -> None:
        fits = readable() and all(type(a) is np.ndarray and a.flags.c_contiguous for a in slots)
        self.slots = [] if not fits or any(a.ndim > _MOST_AXES or not a.size for a in slots) else list(slots)
        self._memory = np.zeros(_FIRST + _EACH * len(self.slots), np.uint64)
        self._memory[_INPUTS] = len(self.slots)
        for number, slot in enumerate(self.slots):
            known = [address(slot), address(slot), slot.nbytes, id(slot.dtype), slot.ndim, *slot.shape]
            begin = _FIRST + _EACH * number
            self._memory[begin : begin + len(known)] = known
        self._kinds = [slot.dtype for slot in self.slots]  # their addresses are compared
        self.reads = _function("reads", self._memory)
        self.run = _function("runs", self._memory)
        self.gives = _function("gives", self._memory)

    def fetching(self, threads: bool) -> list[list[Row]]:
        """Return the rows that copy each input; several where threads may share the work."""
        found = []
        fetch = machine.adapter("fetch", _fetch)
        for number, slot in enumerate(self.slots):
            now, to = address(self._memory) + 8 * (_FIRST + _EACH * number + _NOW), address(slot)
            width = slot.nbytes // slot.shape[0] if slot.ndim > 1 else 0
            count = parts(width // _LINE, slot.nbytes, _PART) if threads else 1
            if count == 1:
                found.append([[fetch, now, 0, to, 1, slot.nbytes, 0]])
                continue
            # columns, as products divide them: each finds its own in its cache
            ends = [width * part // count // _LINE * _LINE for part in range(count)] + [width]
            found.append([
                [fetch, now, begin, to + begin, slot.shape[0], end - begin, width]
                for begin, end in zip(ends, ends[1:], strict=False)
            ])
        return found

    def work_off(self, rows: Rows, crew: int) -> None:
        """Let these be the rows that are run, by so many more threads."""
        self._rows = rows
        self._memory[_ROWS : _CREW + 1] = [*rows.place, crew]
