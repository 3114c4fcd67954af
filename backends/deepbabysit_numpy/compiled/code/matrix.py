"""Matrix registers (AMX) that multiply numbers of bfloat16, and products of float32 with them.

A float32 number is the sum of three pieces, each the number of bfloat16 that is nearest to what is left: 3 times 8
bits. Of the nine products of two numbers' pieces the six largest are made, each exact, and added up in float32; the
other three are at most 2^-24 of the whole, as much as rounding it once takes away. Infinities, and what is too large
for float32, become NaN on the way: `settle` tells of every result that is not finite, so that it can be made otherwise.
Where numbers are below 2^-108, their last pieces count as 0.

Eight registers hold 16 rows of 64 bytes each: four a result of 32 rows by 32 columns, two a piece of 32 rows, two a
piece of 32 columns, of 32 steps of what is summed each. In memory a block of 32 rows or columns and 32 steps is three
pieces of two registers. A row's 64 bytes are 16 pairs of numbers, whose steps lie 16 apart.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deepbabysit_numpy.compiled.code.tiles import Writer, ask
from deepbabysit_numpy.compiled.code.tiles import turned as columns_of

_LONG, _INT, _SHORT, _BYTE, _VOID = (*map(ir.IntType, (64, 32, 16, 8)), ir.VoidType())
SIDE = 32  # rows, columns and steps of a block
LANES = SIDE // 2  # rows and columns of a register
BLOCK = 3 * 2 * 1024  # bytes of a block
RESULT = SIDE * SIDE * 4  # bytes of a result
_PIECE, _REGISTER, _ROW = 2048, 1024, SIDE * 4
_LAYOUT = struct.pack("<BB14x16H16B", 1, 0, *[64] * 8, *[0] * 8, *[LANES] * 8, *[0] * 8)
# pieces of left and right that are multiplied one after the other: one of the two stays where it is
_ORDER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 0), (2, 0))
_ASKED = 24  # lines that the cache is asked for while a block is multiplied


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _byte(value: int) -> Any:
    return ir.Constant(_BYTE, value)


def _call(builder: Any, name: str, arguments: list[Any], result: Any = _VOID) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


@intrinsic
def prepare(typing: Any) -> Any:
    """Shape the matrix registers of this thread; `release` gives them back."""

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.ArrayType(_BYTE, len(_LAYOUT))
        layout = cgutils.global_constant(builder.module, "matrix_registers", ir.Constant(kind, bytearray(_LAYOUT)))
        _call(builder, "ldtilecfg", [builder.bitcast(layout, _BYTE.as_pointer())])
        return context.get_dummy_value()

    return types.void(), write


@intrinsic
def release(typing: Any) -> Any:
    """Give the matrix registers back: a thread that has none is switched faster."""

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.void(), write


@intrinsic
def multiply(typing: Any, width: Any, height: Any, left: Any, right: Any, blocks: Any, to: Any, ahead: Any) -> Any:
    """Write the product of 32 rows with 32 columns at `to`, row after row: the sum over blocks that follow each other.

    Arguments:
        width, height: tuples of as many numbers as there are registers of columns, and of rows.
        left, right: addresses of the first blocks.
        ahead: the first of the lines that the cache is asked for.
    """
    signature = types.void(width, height, *[types.int64] * 5)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        b = builder
        _, _, left, right, blocks, to, ahead = args
        wide, high = width.count, height.count

        def load(number: int, address: Any, offset: int) -> None:
            place = b.inttoptr(b.add(address, _long(offset)), _BYTE.as_pointer())
            _call(b, "tileloadd64", [_byte(number), place, _long(64)])

        for row in range(high):
            for column in range(wide):
                _call(b, "tilezero", [_byte(2 * row + column)])
        with cgutils.for_range(b, blocks, intp=_LONG) as loop:
            x, y = (b.add(start, b.mul(loop.index, _long(BLOCK))) for start in (left, right))
            soon = b.add(ahead, b.mul(loop.index, _long(64 * _ASKED)))
            before = (-1, -1)
            for number, pieces in enumerate(_ORDER):
                operands = zip(pieces, before, (x, y), (4, 6), (high, wide), strict=True)
                for some, there, address, first, count in operands:
                    if some != there:
                        for i in range(count):
                            load(first + i, address, some * _PIECE + i * _REGISTER)
                before = pieces
                for row in range(high):
                    for column in range(wide):
                        _call(b, "tdpbf16ps", [_byte(n) for n in (2 * row + column, 4 + row, 6 + column)])
                for line in range(number * _ASKED // 6, (number + 1) * _ASKED // 6):
                    ask(b, b.add(soon, _long(64 * line)))
        for row in range(high):
            for column in range(wide):
                place = b.inttoptr(b.add(to, _long(row * LANES * _ROW + column * 64)), _BYTE.as_pointer())
                _call(b, "tilestored64", [_byte(2 * row + column), place, _long(_ROW)])
        return context.get_dummy_value()

    return signature, write


@intrinsic
def settle(typing: Any, width: Any, source: Any, rows: Any, valid: Any, init: Any, fresh: Any, rectify: Any,
           y: Any, y_row: Any) -> Any:
    """Bring what `multiply` wrote to its place; tells whether all of it, before it is rectified, is finite.

    Arguments:
        width: a tuple of two numbers.
        source: where it lies; `rows` and `valid`: how many of its rows and columns are wanted.
        init: a row that is added where `fresh` is not 0; 0: nothing is. Else what is in `y` is.
        rectify: whether numbers below 0 become 0.
    """
    signature = types.boolean(width, *[types.int64] * 8)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, types.float32, width)
        b = builder
        _, source, rows, valid, init, fresh, rectify, y, y_row = args
        masks = out.masks(valid)
        whole = ir.VectorType(_INT, out.lanes)
        bit = ir.IntType(1)
        new = b.icmp_signed("!=", fresh, _long(0))
        some = b.and_(new, b.icmp_signed("!=", init, _long(0)))
        old = out.splat(b.not_(new), bit)
        begin = [out.load(init, v, b.and_(mask, out.splat(some, bit))) for v, mask in enumerate(masks)]
        flag = out.splat(b.icmp_signed("!=", rectify, _long(0)), bit)
        exponent = ir.Constant(whole, [0x7F800000] * out.lanes)

        def one(k: Any, carried: list[Any]) -> list[Any]:
            of, to, seen = carried
            for v, mask in enumerate(masks):
                value = b.fadd(out.load(of, v), b.fadd(begin[v], out.load(to, v, b.and_(mask, old))))
                bits = b.and_(b.bitcast(value, whole), exponent)
                seen = b.or_(seen, b.and_(mask, b.icmp_signed("==", bits, exponent)))
                below = b.and_(b.fcmp_ordered("<=", value, out.zero), flag)
                out.store(b.select(below, out.zero, value), to, v, mask)
            return [b.add(of, _long(_ROW)), b.add(to, y_row), seen]

        nothing = ir.Constant(out.mask, None)
        seen = out.loop(_long(0), rows, _long(1), [source, y, nothing], one)[1][2]
        bits = b.bitcast(seen, ir.IntType(out.lanes))
        return b.icmp_signed("==", bits, ir.Constant(bits.type, 0))

    return signature, write


@intrinsic
def split(typing: Any, width: Any, turned: Any, source: Any, step: Any, gap: Any, lines: Any, more: Any,
          valid: Any, beyond: Any, target: Any) -> Any:
    """Write the pieces of 16 rows of pairs: of numbers of 16 lines of memory each, and of others `gap` bytes further.

    Arguments:
        width: a tuple of one number.
        turned: not 0: what follows each other in a line goes to rows of their own.
        source, step: where the first line begins, and how far it is from each to the next.
        lines, more: how many lines there are, and how many of those `gap` further; `valid`, `beyond`: numbers in each.
            The rest is 0.
        target: where the first of the pieces goes.
    """
    signature = types.void(width, *[types.int64] * 9)

    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        out = Writer(builder, types.float32, width)
        b = builder
        _, turned, source, step, gap, lines, more, valid, beyond, target = args
        first, second = out.masks(valid)[0], out.masks(beyond)[0]
        none = ir.Constant(out.mask, None)

        def line(number: Any) -> tuple[Any, Any]:
            place = b.add(source, b.mul(number, step))
            here = b.select(b.icmp_signed("<", number, lines), first, none)
            there = b.select(b.icmp_signed("<", number, more), second, none)
            return out.load(place, 0, here), out.load(b.add(place, gap), 0, there)

        with b.if_else(b.icmp_signed("!=", turned, _long(0))) as (then, otherwise):
            with then:
                pairs = [line(_long(number)) for number in range(LANES)]
                columns = [columns_of(b, list(some)) for some in zip(*pairs, strict=True)]
                for number, (low, high) in enumerate(zip(*columns, strict=True)):
                    _pieces(out, low, high, b.add(target, _long(64 * number)))
            with otherwise:

                def one(number: Any, carried: list[Any]) -> list[Any]:
                    _pieces(out, *line(number), b.add(target, b.mul(number, _long(64))))
                    return []

                out.loop(_long(0), _long(LANES), _long(1), [], one)
        return context.get_dummy_value()

    return signature, write


def _pieces(out: Any, low: Any, high: Any, to: Any) -> None:
    """Write three vectors of pairs of pieces: of `low` in the lower halves."""
    b = out.b
    whole = ir.VectorType(_INT, out.lanes)
    half, upper, sixteen = (ir.Constant(whole, [n] * out.lanes) for n in (0x8000, 0xFFFF0000, 16))
    for piece in range(3):
        bits = [b.bitcast(value, whole) for value in (low, high)]
        if piece < 2:
            bits = [b.add(some, half) for some in bits]  # the last piece has all that is left; NaN stays one
        tops = [b.and_(some, upper) for some in bits]
        pair = b.or_(b.lshr(tops[0], sixteen), tops[1])
        b.store(b.bitcast(pair, out.kind), out.where(b.add(to, _long(piece * _PIECE)), 0), align=4)
        low, high = (b.fsub(value, b.bitcast(top, out.kind)) for value, top in zip((low, high), tops, strict=True))
