"""The inner product of a tile, in vector registers: some rows of a result, one to four vectors wide.

Numba has no vectors, so the loop is written for LLVM. All sums of the tile stay in registers while the loop runs over
what is summed: each step reads one number of every row and the vectors that they are multiplied with. Where every
channel stays by itself, it reads the vectors of every row instead. The type of `width` says both: a tuple of as many
whole numbers, or booleans, as there are vectors side by side.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deepbabysit_numpy.compiled.code.registers import register_bytes, tile_rows

_LONG, _INT, _BIT, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(1), ir.IntType(8)
_UNROLLED = 2


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


class Writer:
    """Writes the instructions of one tile."""

    def __init__(self, builder: Any, real: Any, width: Any, rows: int = 0) -> None:
        vectors = width.count
        self.b = builder
        self.apart = width.dtype == types.boolean
        self.size = 4 if real == types.float32 else 8
        self.real = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.lanes = register_bytes() // self.size
        self.vectors = vectors
        self.rows = rows or tile_rows(vectors)
        self.kind = ir.VectorType(self.real, self.lanes)
        self.mask = ir.VectorType(_BIT, self.lanes)
        self.zero = ir.Constant(self.kind, None)
        name = f"v{self.lanes}f{8 * self.size}"
        pointer, void = self.kind.as_pointer(), ir.VoidType()
        self.add = self._function(f"llvm.fmuladd.{name}", self.kind, [self.kind] * 3)
        self.get = self._function(f"llvm.masked.load.{name}.p0{name}", self.kind, [pointer, _INT, self.mask, self.kind])
        self.put = self._function(f"llvm.masked.store.{name}.p0{name}", void, [self.kind, pointer, _INT, self.mask])

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, arguments), name)

    def number(self, address: Any, place: Any) -> Any:
        """Return a number of a table."""
        return self.b.load(self.b.gep(self.b.inttoptr(address, _LONG.as_pointer()), [place]))

    def splat(self, value: Any, kind: Any) -> Any:
        """Return a vector of equal values."""
        vector = ir.VectorType(kind, self.lanes)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
        places = ir.Constant(ir.VectorType(_INT, self.lanes), None)
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), places)

    def masks(self, valid: Any) -> list[Any]:
        """Return for each vector which of its lanes are columns of the result."""
        found = []
        for vector in range(self.vectors):
            numbers = [_long(vector * self.lanes + i) for i in range(self.lanes)]
            places = ir.Constant(ir.VectorType(_LONG, self.lanes), numbers)
            found.append(self.b.icmp_signed("<", places, self.splat(valid, _LONG)))
        return found

    def where(self, address: Any, vector: int) -> Any:
        """Return a pointer to a vector of a row."""
        offset = _long(vector * self.lanes * self.size)
        return self.b.inttoptr(self.b.add(address, offset), self.kind.as_pointer())

    def load(self, address: Any, vector: int, mask: Any = None) -> Any:
        """Load a vector of a row; only the lanes of a mask, where there is one."""
        if mask is None:
            return self.b.load(self.where(address, vector), align=self.size)
        return self.b.call(self.get, [self.where(address, vector), ir.Constant(_INT, self.size), mask, self.zero])

    def store(self, value: Any, address: Any, vector: int, mask: Any) -> None:
        """Store the lanes of a mask."""
        self.b.call(self.put, [value, self.where(address, vector), ir.Constant(_INT, self.size), mask])

    def loop(self, start: Any, end: Any, step: Any, carried: list[Any], body: Any) -> tuple[Any, list[Any]]:
        """Repeat ``carried = body(number, carried)`` for numbers below `end`; returns the number after the last."""
        b = self.b
        before = b.block
        head, inside, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        number, values = b.phi(_LONG), [b.phi(value.type) for value in carried]
        b.cbranch(b.icmp_signed("<", number, end), inside, after)
        b.position_at_end(inside)
        results = body(number, values)
        for phi, first, then in zip([number, *values], [start, *carried], [b.add(number, step), *results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, b.block)
        b.branch(head)
        b.position_at_end(after)
        return number, values

    def step(
        self, places: list[Any], offset: Any, w: Any, sums: list[Any], masks: Any, own: list[Any]
    ) -> list[Any]:
        """Add one product to every sum; `masks` are those of `w`, `own` those of the columns."""
        b = self.b
        factors = [self.load(w, v, masks[v] if masks else None) for v in range(self.vectors)]
        result = []
        for row, place in enumerate(places):
            if self.apart:
                values = [self.load(b.add(place, offset), v, own[v]) for v in range(self.vectors)]
            else:
                where = b.gep(b.inttoptr(place, _BYTE.as_pointer()), [offset])
                values = [self.splat(b.load(b.bitcast(where, self.real.as_pointer())), self.real)] * self.vectors
            for v, (value, factor) in enumerate(zip(values, factors, strict=True)):
                result.append(b.call(self.add, [value, factor, sums[row * self.vectors + v]]))
        return result


def _begin(w: Writer, targets: list[Any], init: Any, fresh: Any, masks: list[Any]) -> list[Any]:
    """Return the first values of the sums: those of `init` (an address, or vectors), or what the result holds."""
    b = w.b
    new, old, start = (b.append_basic_block() for _ in range(3))
    b.cbranch(fresh, new, old)
    b.position_at_end(new)
    first = init if isinstance(init, list) else [w.load(init, v) for v in range(w.vectors)]
    b.branch(start)
    b.position_at_end(old)
    held = [w.load(target, v, masks[v]) for target in targets for v in range(w.vectors)]
    b.branch(start)
    b.position_at_end(start)
    sums = []
    for number, value in enumerate(held):
        phi = b.phi(w.kind)
        phi.add_incoming(first[number % w.vectors], new)
        phi.add_incoming(value, old)
        sums.append(phi)
    return sums


def _finish(w: Writer, sums: list[Any], targets: list[Any], rectify: Any, masks: list[Any]) -> None:
    """Store the sums, rectified where that is asked for; NaN stays."""
    b = w.b
    flag = w.splat(rectify, _BIT)
    for row, target in enumerate(targets):
        for v in range(w.vectors):
            value = sums[row * w.vectors + v]
            below = b.and_(b.fcmp_ordered("<=", value, w.zero), flag)
            w.store(b.select(below, w.zero, value), target, v, masks[v])


@intrinsic
def tile(typing: Any, width: Any, like: Any, x: Any, rows: Any, runs: Any, count: Any, w: Any, y: Any, targets: Any,
         init: Any, fresh: Any, rectify: Any, valid: Any) -> Any:
    """``y[targets[r], :valid] = sum over runs, k of x[rows[r] + run + k] * w[run, k, :]``, in one tile.

    All addresses and offsets are bytes. Numbers of a run follow each other in `x`, whole rows of the tile in `w`.

    Arguments:
        width: how many vectors side by side, see above; of booleans: `x[...]` are whole rows of the tile, too.
        like: an array of the dtype.
        rows, targets: tables of offsets in `x` and `y`.
        runs: table with three numbers for each run: offset in `x`, offset in `w`, length.
        count: how many runs.
        init: what the sums begin with (a row of the tile) where `fresh` is not 0; else with what is in `y`.
        rectify: whether numbers below 0 become 0.
        valid: how many columns there are.
    """
    signature = types.void(width, like, *[types.int64] * 11)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, width)
        b = builder
        _, _, x, rows, runs, count, w, y, targets, init, fresh, rectify, valid = args
        masks = out.masks(valid)
        places = [out.number(rows, _long(row)) for row in range(out.rows)]
        to = [b.add(y, out.number(targets, _long(row))) for row in range(out.rows)]
        sums = _begin(out, to, init, b.icmp_signed("!=", fresh, _long(0)), masks)
        row_bytes = out.vectors * out.lanes * out.size

        def run(number: Any, sums: list[Any]) -> list[Any]:
            entry = b.mul(number, _long(3))
            offset, weights, length = (out.number(runs, b.add(entry, _long(i))) for i in range(3))
            weights = b.add(w, weights)
            if out.apart:  # such runs have one number for each channel: their length is 1
                return out.step([b.add(x, place) for place in places], offset, weights, sums, None, masks)
            base = [b.add(b.add(x, offset), place) for place in places]
            rest = b.and_(length, _long(-_UNROLLED))

            def several(k: Any, sums: list[Any]) -> list[Any]:
                for i in range(_UNROLLED):
                    shifted = [b.add(place, _long(i * out.size)) for place in base]
                    at = b.add(b.add(weights, b.mul(k, _long(row_bytes))), _long(i * row_bytes))
                    sums = out.step(shifted, b.mul(k, _long(out.size)), at, sums, None, masks)
                return sums

            def one(k: Any, sums: list[Any]) -> list[Any]:
                at = b.add(weights, b.mul(k, _long(row_bytes)))
                return out.step(base, b.mul(k, _long(out.size)), at, sums, None, masks)

            reached, sums = out.loop(_long(0), rest, _long(_UNROLLED), sums, several)
            return out.loop(reached, length, _long(1), sums, one)[1]

        _, sums = out.loop(_long(0), count, _long(1), sums, run)
        _finish(out, sums, to, b.icmp_signed("!=", rectify, _long(0)), masks)
        return context.get_dummy_value()

    return signature, write


@intrinsic
def outer(typing: Any, width: Any, height: Any, like: Any, x: Any, rows: Any, runs: Any, count: Any, w: Any, y: Any,
          targets: Any, valid: Any, x_step: Any, w_step: Any) -> Any:
    """``y[targets[r], :valid] += sum over runs, k of x[rows[r] + run + k x_step] * w[run + k w_step, :valid]``.

    `height` is a tuple whose length is the number of rows; the rest as in `tile`.
    """
    signature = types.void(width, height, like, *[types.int64] * 10)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, width, height.count)
        b = builder
        _, _, _, x, rows, runs, count, w, y, targets, valid, x_step, w_step = args
        masks = out.masks(valid)
        places = [out.number(rows, _long(row)) for row in range(out.rows)]
        to = [b.add(y, out.number(targets, _long(row))) for row in range(out.rows)]
        sums = [out.load(target, v, masks[v]) for target in to for v in range(out.vectors)]

        def run(number: Any, sums: list[Any]) -> list[Any]:
            entry = b.mul(number, _long(3))
            offset, weights, length = (out.number(runs, b.add(entry, _long(i))) for i in range(3))
            base = [b.add(b.add(x, offset), place) for place in places]

            def one(k: Any, carried: list[Any]) -> list[Any]:
                at, offset, *sums = carried
                sums = out.step(base, offset, at, sums, masks, masks)
                return [b.add(at, w_step), b.add(offset, x_step), *sums]

            start = [b.add(w, weights), _long(0), *sums]
            return out.loop(_long(0), length, _long(1), start, one)[1][2:]

        _, sums = out.loop(_long(0), count, _long(1), sums, run)
        _finish(out, sums, to, ir.Constant(_BIT, 0), masks)
        return context.get_dummy_value()

    return signature, write


@intrinsic
def strip(typing: Any, width: Any, height: Any, like: Any, x: Any, x_row: Any, x_step: Any, w: Any, w_step: Any,
          count: Any, y: Any, y_row: Any, fresh: Any, valid: Any, ahead: Any) -> Any:
    """``y[r y_row, :valid] (+)= sum over k of x[r x_row + k x_step] * w[k w_step, :valid]``: rows at regular steps.

    Arguments:
        width, height, like, valid: as in `outer`.
        count: how many `k` there are.
        fresh: not 0: the sums begin with 0; else with what is in `y`.
        ahead: how far ahead of `w` the cache is asked for a line at each step.
    """
    signature = types.void(width, height, like, *[types.int64] * 11)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, width, height.count)
        b = builder
        _, _, _, x, x_row, x_step, w, w_step, count, y, y_row, fresh, valid, ahead = args
        masks = out.masks(valid)
        places = [b.add(x, b.mul(x_row, _long(row))) for row in range(out.rows)]
        to = [b.add(y, b.mul(y_row, _long(row))) for row in range(out.rows)]
        sums = _begin(out, to, [out.zero] * out.vectors, b.icmp_signed("!=", fresh, _long(0)), masks)

        def one(k: Any, carried: list[Any]) -> list[Any]:
            at, offset, *sums = carried
            sums = out.step(places, offset, at, sums, masks, masks)
            ask(b, b.add(at, ahead))
            return [b.add(at, w_step), b.add(offset, x_step), *sums]

        _, (_, _, *sums) = out.loop(_long(0), count, _long(1), [w, _long(0), *sums], one)
        _finish(out, sums, to, ir.Constant(_BIT, 0), masks)
        return context.get_dummy_value()

    return signature, write


@intrinsic
def panel(typing: Any, width: Any, height: Any, like: Any, x: Any, w: Any, count: Any, y: Any, y_row: Any, init: Any,
          fresh: Any, rectify: Any, rows: Any, valid: Any, ahead: Any, ahead_step: Any) -> Any:
    """``y[r y_row, :valid] (+)= sum over k of x[k, r] * w[k, :valid]`` for r below `rows`, in one tile.

    Arguments:
        width, height, like, valid: as in `outer`.
        x: one number for each row of the tile, step after step.
        w: two vectors for each step.
        init: what the sums begin with where `fresh` is not 0, a row like those of `y`; 0: with 0. Else with what is in
            `y`.
        rectify: whether numbers below 0 become 0.
        ahead: the line that the cache is asked for at the first step; `ahead_step`: from each to the next.
    """
    signature = types.void(width, height, like, *[types.int64] * 12)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, width, height.count)
        b = builder
        _, _, _, x, w, count, y, y_row, init, fresh, rectify, rows, valid, ahead, ahead_step = args
        masks = out.masks(valid)
        last = b.sub(rows, _long(1))
        # rows that are not there are stored where the last one is
        numbers = [b.select(b.icmp_signed("<", _long(row), rows), _long(row), last) for row in range(out.rows)]
        to = [b.add(y, b.mul(y_row, number)) for number in numbers]
        for place in to:
            for line in range(0, out.vectors * out.lanes * out.size, 64):
                ask(b, b.add(place, _long(line)), write=True)
        some = b.icmp_signed("!=", init, _long(0))
        begin = [b.and_(mask, out.splat(some, _BIT)) for mask in masks]
        first = [out.load(init, v, begin[v]) for v in range(out.vectors)]
        sums = _begin(out, to, first, b.icmp_signed("!=", fresh, _long(0)), masks)
        places = [_long(row * out.size) for row in range(out.rows)]

        def one(k: Any, carried: list[Any]) -> list[Any]:
            at, left, soon, *sums = carried
            sums = out.step([b.add(left, place) for place in places], _long(0), at, sums, None, masks)
            ask(b, soon)
            step = 2 * out.lanes * out.size
            return [b.add(at, _long(step)), b.add(left, _long(out.rows * out.size)), b.add(soon, ahead_step), *sums]

        _, (_, _, _, *sums) = out.loop(_long(0), count, _long(1), [w, x, ahead, *sums], one)
        # the last row that is there is stored after those that are not
        sums = [sums[row * out.vectors + v] for row in reversed(range(out.rows)) for v in range(out.vectors)]
        _finish(out, sums, to[::-1], b.icmp_signed("!=", rectify, _long(0)), masks)
        return context.get_dummy_value()

    return signature, write


@intrinsic
def beside(typing: Any, like: Any, source: Any, step: Any, valid: Any, count: Any, target: Any, to_step: Any,
           wide: Any) -> Any:
    """``target[k to_step, :wide] = source[k step, :valid]``, and 0 beyond `valid`: at most a vector."""
    signature = types.void(like, *[types.int64] * 7)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, types.UniTuple(types.int64, 1))
        b = builder
        _, source, step, valid, count, target, to_step, wide = args
        there, kept = out.masks(valid)[0], out.masks(wide)[0]

        def one(k: Any, carried: list[Any]) -> list[Any]:
            out.store(out.load(carried[0], 0, there), carried[1], 0, kept)
            return [b.add(carried[0], step), b.add(carried[1], to_step)]

        out.loop(_long(0), count, _long(1), [source, target], one)
        return context.get_dummy_value()

    return signature, write


def turned(b: Any, lines: list[Any]) -> list[Any]:
    """Return the columns of a square of vectors."""
    lines, lanes = list(lines), len(lines)
    step = 1
    while step < lanes:
        for r in range(lanes):
            if not r & step:
                upper, lower = lines[r], lines[r + step]
                mixed = [lane if not lane & step else lanes + lane - step for lane in range(lanes)]
                other = [lane + step if not lane & step else lanes + lane for lane in range(lanes)]
                lines[r], lines[r + step] = (
                    b.shuffle_vector(upper, lower, ir.Constant(ir.VectorType(_INT, lanes), order))
                    for order in (mixed, other)
                )
        step *= 2
    return lines


@intrinsic
def turn(typing: Any, like: Any, source: Any, row: Any, rows: Any, count: Any, target: Any, to_step: Any,
         wide: Any) -> Any:
    """``target[k to_step, r] = source[r row, k]`` for r below `wide`, at most a vector; beyond `rows` nobody asks."""
    signature = types.void(like, *[types.int64] * 7)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, like.dtype, types.UniTuple(types.int64, 1))
        b = builder
        _, source, row, rows, count, target, to_step, wide = args
        kept, lanes = out.masks(wide)[0], out.lanes
        last = b.sub(rows, _long(1))
        numbers = [b.select(b.icmp_signed("<", _long(r), rows), _long(r), last) for r in range(lanes)]
        places = [b.add(source, b.mul(row, number)) for number in numbers]
        whole = b.and_(count, _long(-lanes))

        def square(offset: Any, mask: Any) -> list[Any]:
            lines = [out.load(b.add(place, offset), 0, mask) for place in places]
            return turned(b, lines)

        def several(k: Any, carried: list[Any]) -> list[Any]:
            (to,) = carried
            for line in square(b.mul(k, _long(out.size)), None):
                out.store(line, to, 0, kept)
                to = b.add(to, to_step)
            return [to]

        def rest(k: Any, carried: list[Any]) -> list[Any]:
            (to,) = carried
            lines = square(b.mul(k, _long(out.size)), out.masks(b.sub(count, k))[0])
            none = ir.Constant(out.mask, None)
            for number, line in enumerate(lines):
                mask = b.select(b.icmp_signed("<", b.add(k, _long(number)), count), kept, none)
                out.store(line, to, 0, mask)
                to = b.add(to, to_step)
            return [to]

        _, (to,) = out.loop(_long(0), whole, _long(lanes), [target], several)
        out.loop(whole, count, _long(lanes), [to], rest)
        return context.get_dummy_value()

    return signature, write


def ask(builder: Any, address: Any, write: bool = False) -> None:
    """Ask for a cache line that is read, or written, soon."""
    pointer = _BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    use, second_level, data = (ir.Constant(_INT, n) for n in (int(write), 2, 1))
    builder.call(function, [builder.inttoptr(address, pointer), use, second_level, data])


@intrinsic
def prefetch(typing: Any, address: Any, lines: Any) -> Any:
    """Ask for cache lines that are read soon; nothing happens where the memory is not there."""
    signature = types.void(types.int64, types.int64)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, lines = args
        with cgutils.for_range(builder, lines, intp=_LONG) as loop:
            ask(builder, builder.add(address, builder.mul(loop.index, _long(64))))
        return context.get_dummy_value()

    return signature, write
