"""How a team of threads works off the rows of a program together, without a word of Python between two jobs.

A job is a table of parts; each part is a list of rows. Whoever is there takes the next part that nobody has taken: the
caller runs all of them where no worker is awake, and waits only for parts that a worker has begun. Which rows are in
which part is fixed, so the bits do not depend on who ran them.

Workers watch for the next job for a millisecond (the threads of OpenBLAS do so for thirty) and then sleep; the next
call of a program wakes them, and does not wait for them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from deepbabysit_numpy.compiled.team import TEAM
from deepbabysit_numpy.program import machine
from deepbabysit_numpy.program.machine import Row

# Places in the crew's memory, each in a cache line of its own. The claim says in one word which job it is, how many
# parts it has and how many are taken: a worker that read an old table cannot take a part of a new job with it.
_CLAIM, _TABLE, _DONE, _FAILED, _BUSY, _PATIENCE, _AWAKE = range(0, 56, 8)
_CORE = 1  # behind a worker's word: the core that it is on, counted from 1, or 0 where nobody knows
_MOST = 64  # workers
ASLEEP = -1  # what `watching` makes a program say
_WATCH = 1e-3  # seconds before a worker goes to sleep
_TRIED = 10_000  # turns of watching that are timed once
_TURNS = 2000  # pauses before who waits for a part lets others have the core
_LONG, _INT, _VOID = ir.IntType(64), ir.IntType(32), ir.VoidType()
_POINTER = _LONG.as_pointer()
_RUN = ir.FunctionType(_LONG, [_POINTER, _LONG])
_PAUSES = {
    **dict.fromkeys(("x86_64", "AMD64"), "llvm.x86.sse2.pause"),
    **dict.fromkeys(("aarch64", "arm64"), "llvm.aarch64.hint"),
}


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


@cache
def _system(name: str) -> int:
    """Return the address of a function of the C library, or 0: ``int name(void)``."""
    with suppress(OSError, AttributeError, TypeError):
        return ctypes.cast(ctypes.CDLL(None)[name], ctypes.c_void_p).value or 0
    return 0


class _Writer:
    """Writes functions that share the crew's memory."""

    def __init__(self, name: str, kind: Any) -> None:
        self.module = ir.Module(name=name)
        self.function = ir.Function(self.module, kind, name)
        self.b = ir.IRBuilder(self.function.append_basic_block())

    def block(self) -> Any:
        return self.function.append_basic_block()

    def place(self, memory: Any, number: int) -> Any:
        return self.b.gep(memory, [_long(number)])

    def load(self, memory: Any, number: int) -> Any:
        return self.b.load_atomic(self.place(memory, number), "acquire", 8)

    def store(self, value: Any, memory: Any, number: int) -> None:
        self.b.store_atomic(value, self.place(memory, number), "release", 8)

    def system(self, name: str) -> Any:
        """Call a function of the C library."""
        return self.b.call(self.b.inttoptr(_long(_system(name)), ir.FunctionType(_INT, []).as_pointer()), [])

    def core(self) -> Any:
        """Return the core that this runs on, counted from 1, or 0."""
        if not _system("sched_getcpu"):
            return _long(0)
        return self.b.sext(self.b.add(self.system("sched_getcpu"), _INT(1)), _LONG)

    def pause(self) -> None:
        name = _PAUSES.get(platform.machine())
        if name is not None:
            numbers = [ir.Constant(_INT, 1)] if "hint" in name else []  # hint 1: yield
            kind = ir.FunctionType(_VOID, [number.type for number in numbers])
            known = self.module.globals.get(name)
            self.b.call(known or ir.Function(self.module, kind, name), numbers)

    def left(self, claim: Any) -> tuple[Any, Any]:
        """Return which part comes next, and whether there is one."""
        number = self.b.and_(claim, _long(0xFFFF))
        parts = self.b.and_(self.b.lshr(claim, _long(16)), _long(0xFFFF))
        return number, self.b.icmp_unsigned("<", number, parts)

    def run(self, table: Any, number: Any) -> Any:
        """Run a part of a table; returns what `machine` says: 0, or the number of the row that failed."""
        entry = self.b.gep(table, [self.b.mul(number, _long(2))])
        rows = self.b.inttoptr(self.b.load(entry), _POINTER)
        count = self.b.load(self.b.gep(entry, [_long(1)]))
        return self.b.call(self.b.inttoptr(_long(machine.runner()), _RUN.as_pointer()), [rows, count])

    def work(self, memory: Any) -> None:
        """Take parts and run them until none is left."""
        b = self.b
        head, take, mine, failed, counted, end = (self.block() for _ in range(6))
        b.branch(head)
        b.position_at_end(head)
        claim = self.load(memory, _CLAIM)
        number, some = self.left(claim)
        b.cbranch(some, take, end)
        b.position_at_end(take)
        table = b.inttoptr(self.load(memory, _TABLE), _POINTER)
        got = b.cmpxchg(self.place(memory, _CLAIM), claim, b.add(claim, _long(1)), "acq_rel", "acquire")
        b.cbranch(b.extract_value(got, 1), mine, head)
        b.position_at_end(mine)
        b.cbranch(b.icmp_signed("!=", self.run(table, number), _long(0)), failed, counted)
        b.position_at_end(failed)
        self.store(_long(1), memory, _FAILED)
        b.branch(counted)
        b.position_at_end(counted)
        b.atomic_rmw("add", self.place(memory, _DONE), _long(1), "acq_rel")
        b.branch(head)
        b.position_at_end(end)


def _share() -> ir.Module:
    """Row: memory, table of parts, how many there are; where another thread has the crew, they run one by one."""
    w = _Writer("share", ir.FunctionType(_INT, [_POINTER]))
    b = w.b
    row = w.function.args[0]
    memory, address, parts = (b.load(b.gep(row, [_long(i)])) for i in (1, 2, 3))
    memory = b.inttoptr(memory, _POINTER)
    free, taken, wait, again, lend, done = (w.block() for _ in range(6))
    got = b.cmpxchg(w.place(memory, _BUSY), _long(0), _long(1), "acq_rel", "acquire")
    b.cbranch(b.extract_value(got, 1), free, taken)

    b.position_at_end(free)
    w.store(_long(0), memory, _DONE)
    w.store(_long(0), memory, _FAILED)
    w.store(address, memory, _TABLE)
    job = b.add(b.lshr(w.load(memory, _CLAIM), _long(32)), _long(1))
    w.store(b.or_(b.shl(job, _long(32)), b.shl(parts, _long(16))), memory, _CLAIM)
    w.work(memory)
    before = b.block
    b.branch(wait)
    b.position_at_end(wait)
    turns = b.phi(_LONG)
    turns.add_incoming(_long(0), before)
    b.cbranch(b.icmp_signed("==", w.load(memory, _DONE), parts), done, again)
    b.position_at_end(again)
    w.pause()
    following = b.add(turns, _long(1))
    if _system("sched_yield"):  # lets others have the core
        rest = w.block()
        b.cbranch(b.icmp_signed(">", turns, _long(_TURNS)), lend, rest)
        b.position_at_end(lend)
        w.system("sched_yield")
        b.branch(rest)
        b.position_at_end(rest)
        turns.add_incoming(following, rest)
        b.branch(wait)
    else:
        turns.add_incoming(following, b.block)
        b.branch(wait)
        b.position_at_end(lend)
        b.unreachable()
    b.position_at_end(done)
    status = w.load(memory, _FAILED)
    w.store(_long(0), memory, _BUSY)
    b.ret(b.trunc(status, _INT))

    b.position_at_end(taken)
    table = b.inttoptr(address, _POINTER)
    head, body, end = (w.block() for _ in range(3))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    number, worst = b.phi(_LONG), b.phi(_LONG)
    b.cbranch(b.icmp_signed("<", number, parts), body, end)
    b.position_at_end(body)
    result = b.or_(worst, w.run(table, number))
    number.add_incoming(_long(0), before)
    number.add_incoming(b.add(number, _long(1)), b.block)
    worst.add_incoming(_long(0), before)
    worst.add_incoming(result, b.block)
    b.branch(head)
    b.position_at_end(end)
    b.ret(b.zext(b.icmp_signed("!=", worst, _long(0)), _INT))
    return w.module


def _serve() -> ir.Module:
    """Function of (memory, place of this worker's word): work until nothing has come for a while."""
    w = _Writer("serve", ir.FunctionType(_VOID, [_POINTER, _LONG]))
    b = w.b
    memory, mine = w.function.args
    awake = b.gep(memory, [mine])
    b.store_atomic(w.core(), b.gep(awake, [_long(_CORE)]), "release", 8)
    head, some, none, idle, end = (w.block() for _ in range(5))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    turns = b.phi(_LONG)
    turns.add_incoming(_long(0), before)
    b.cbranch(w.left(w.load(memory, _CLAIM))[1], some, none)
    b.position_at_end(some)
    w.work(memory)
    turns.add_incoming(_long(0), b.block)
    b.branch(head)
    b.position_at_end(none)
    w.pause()
    wanted = b.icmp_signed("==", b.load_atomic(awake, "acquire", 8), _long(1))
    b.cbranch(b.and_(wanted, b.icmp_signed("<", turns, w.load(memory, _PATIENCE))), idle, end)
    b.position_at_end(idle)
    # somebody still works on a part: the next job follows
    busy = b.icmp_signed("!=", w.load(memory, _BUSY), _long(0))
    turns.add_incoming(b.select(busy, _long(0), b.add(turns, _long(1))), b.block)
    b.branch(head)
    b.position_at_end(end)
    b.store_atomic(_long(0), awake, "release", 8)
    b.ret_void()
    return w.module


def _watching() -> ir.Module:
    """Function of (memory, count): whether so many workers watch for jobs, on other cores than this thread's."""
    w = _Writer("watching", ir.FunctionType(_LONG, [_POINTER, _LONG]))
    b = w.b
    memory, wanted = w.function.args
    here = w.core()
    before = b.block
    head, body, enough, missing = (w.block() for _ in range(4))
    b.branch(head)
    b.position_at_end(head)
    number, found = b.phi(_LONG), b.phi(_LONG)
    following = w.block()
    b.cbranch(b.icmp_signed(">=", found, wanted), enough, following)
    b.position_at_end(following)
    b.cbranch(b.icmp_signed("<", number, _long(_MOST)), body, missing)
    b.position_at_end(body)
    awake = b.gep(memory, [b.add(_long(_AWAKE), b.mul(number, _long(8)))])
    core = b.load_atomic(b.gep(awake, [_long(_CORE)]), "acquire", 8)
    elsewhere = b.or_(b.icmp_signed("==", core, _long(0)), b.icmp_signed("!=", core, here))
    there = b.and_(b.icmp_signed("==", b.load_atomic(awake, "acquire", 8), _long(1)), elsewhere)
    number.add_incoming(_long(0), before)
    number.add_incoming(b.add(number, _long(1)), b.block)
    found.add_incoming(_long(0), before)
    found.add_incoming(b.add(found, b.zext(there, _LONG)), b.block)
    b.branch(head)
    b.position_at_end(enough)
    b.ret(_long(1))
    b.position_at_end(missing)
    b.ret(_long(0))
    return w.module


class Crew:
    """The workers of this process as programs see them."""

    def __init__(self) -> None:
        room = np.zeros(_AWAKE + 8 * (_MOST + 1), np.int64)
        start = -room.ctypes.data % 64 // 8
        self._memory = room[start : start + _AWAKE + 8 * _MOST]
        self._serve: Any = None

    def forget(self) -> None:
        """Begin anew in a child after a fork: nobody is awake, and nobody has a job."""
        patience = int(self._memory[_PATIENCE])
        self._memory[:] = 0
        self._memory[_PATIENCE] = patience

    def row(self, table: np.ndarray, parts: int) -> Row:
        """Return the row that lets the crew run a table of parts; the table has to live as long as the row."""
        return [machine.adapter("share", _share), self._memory.ctypes.data, table.ctypes.data, parts]

    def watching(self) -> tuple[int, int]:
        """Return the address of a function of (memory, count), and the memory: 1 where so many workers are awake."""
        return machine.adapter("watching", _watching), self._memory.ctypes.data

    def call(self, count: int) -> None:
        """Wake so many workers that sleep; does not wait for them."""
        if self._serve is None:
            place = machine.adapter("serve", _serve)
            serve = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(place)
            alone = np.zeros_like(self._memory)
            alone[_PATIENCE] = _TRIED
            begin = time.perf_counter()
            for _ in range(2):
                alone[_AWAKE] = 1
                serve(alone.ctypes.data, _AWAKE)
            turn = max((time.perf_counter() - begin) / (2 * _TRIED), 1e-9)
            self._memory[_PATIENCE] = int(_WATCH / turn)
            self._serve = serve
        TEAM.wake(count, self._awake, self._begin)

    def _awake(self, number: int) -> bool:
        return number >= _MOST or bool(self._memory[_AWAKE + 8 * number])

    def _begin(self, number: int) -> tuple[Any, tuple[Any, ...], Callable[[], None]]:
        """Mark a worker as awake; returns what it is to do, and what makes it end soon."""
        place = _AWAKE + 8 * number

        def stop() -> None:
            self._memory[place] = 0

        self._memory[place] = 1
        return self._serve, (self._memory.ctypes.data, place), stop


CREW = Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CREW.forget)


def table_of(parts: Sequence[machine.Rows]) -> np.ndarray:
    """Return the table that `Crew.row` takes."""
    return np.array([number for rows in parts for number in rows.place], np.uint64)
