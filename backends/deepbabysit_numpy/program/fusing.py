"""Weights that are updated block by block, right where the product before makes their gradient.

Memory is what a step of a large dense network waits for. Where nothing else reads a layer's gradient, a block of it is
made and used while it lies in the cache, and the other parameters follow where the update stands. A product whose
weights are read before their update (a guard keeps them) is made at the update, if what it is made of stays until then.
Every element is computed as before: the bits stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.runtime.chains import Call, Chain, extent, same_elements
from deepbabysit_numpy.compiled import dense, packed, thin, updates
from deepbabysit_numpy.program import machine
from deepbabysit_numpy.program.rows import address, same_place
from deepbabysit_numpy.program.tracing import Trace


class _Update:
    """A call of Adam over flat buffers, in place."""

    def __init__(self, number: int, call: Call, own: tuple[float, ...]) -> None:
        self.number = number
        self.own = own
        self.control, self.table, self.starts, self.progress, self.w, self.g, *self.states = call[2]
        self.begins = self.starts.tolist()
        self.ends = [*self.begins[1:], self.w.size]
        self.before = np.empty_like(self.progress)

    def segment(self, out: np.ndarray) -> int | None:
        """Return which parameter's gradient an array is, or None."""
        offset, rest = divmod(address(out) - address(self.g), self.g.itemsize)
        whole = rest == 0 and out.flags.c_contiguous and out.dtype == self.g.dtype and offset in self.begins
        found = self.begins.index(offset) if whole else None
        # a segment is padded to whole cache lines
        return found if found is not None and 0 <= self.ends[found] - offset - out.size < 64 // out.itemsize else None

    def plan(self, first: int, last: int) -> tuple[Any, ...]:
        """Return what the rule is told of some segments that follow each other, counted from the first."""
        starts = self.starts[first:last] - self.starts[first]
        parts = [a[:, first:last] for a in (self.table, self.before, self.progress)]
        return self.control, parts[0], starts, parts[1], parts[2]

    def views(self, begin: int, end: int) -> tuple[Any, ...]:
        """Return weights, gradients and states of some elements."""
        return self.w[begin:end], self.g[begin:end], tuple([state[begin:end] for state in self.states])


def _meet(array: np.ndarray, span: tuple[int, int]) -> bool:
    begin, end = extent(array)
    return begin < span[1] and span[0] < end


def _updates(calls: Sequence[Call]) -> list[_Update]:
    found = []
    for number, call in enumerate(calls):
        run = call[0]
        if isinstance(run, Chain) or isinstance(call, list):
            continue
        rule = updates.rule_of(getattr(run, "func", None), getattr(run, "keywords", {}))
        if rule is None or rule[0] != "adam":
            continue
        _, _, _, progress, w, _, *states = call[2]
        if all(map(same_elements, call[1], (progress, w, *states))):
            found.append(_Update(number, call, rule[1]))
    return found


def _when(calls: Sequence[Call], product: int, update: _Update, segment: int) -> int | None:
    """Return at which call a product can be made together with the update of its weights; None where at none.

    Nobody else may read the gradient, nobody may write settings until the weights are updated.
    """
    begin, end = update.begins[segment], update.ends[segment]
    gradient = extent(update.g[begin:end])
    weights = [extent(a[begin:end]) for a in (update.w, *update.states)]
    settings = [extent(a) for a in (update.control, update.table, update.starts, update.progress)]
    operands, own = ([extent(a) for a in some] for some in calls[product][2:])
    looked, lasting = False, True
    for number, (_, outs, ins, scratch) in enumerate(calls):
        if number in (product, update.number):
            continue
        arrays = [*outs, *ins, *scratch]
        if any(_meet(a, gradient) for a in arrays):
            return None
        written = [*outs, *scratch]
        if product < number and any(_meet(a, span) for a in written for span in settings):
            return None
        if product < number < update.number:
            looked = looked or any(_meet(a, span) for a in arrays for span in weights)
            lasting = lasting and not any(_meet(a, span) for a in written for span in operands)
            lasting = lasting and not any(_meet(a, span) for a in arrays for span in own)
    return product if not looked else update.number if lasting else None


def _divides_rows(call: Call) -> bool:
    """Tell whether a product is one as in `packed`, with rows for each part."""
    _, (out,), (x, y), scratch = call
    (m, k), n = x.shape, y.shape[1]
    return thin.many(x, y) and packed.fits(x, y, out, scratch) and not packed.by_columns(m, k, n, x.itemsize)


def _slopes_after(calls: Sequence[Call], product: int) -> int | None:
    """Return the number of the call that turns a product into the gradient before an activation, if it may come now."""
    out = calls[product][1][0]
    for number in range(product + 1, len(calls)):
        run, outs, ins, scratch = calls[number]
        touched = any(_meet(a, extent(out)) for a in (*outs, *ins, *scratch))
        if touched or getattr(run, "func", None) is dense.VARIANTS["linear_gradient"].run:
            if getattr(run, "func", None) is not dense.VARIANTS["linear_gradient"].run or ins[0].ndim != 2:
                return None
            if same_place(ins[0], out) and ins[0].shape == out.shape:
                break
            if touched:
                return None
    else:
        return None
    g, y = ins
    same = same_place(g, outs[0]) or not _meet(g, extent(outs[0]))
    flat = all(a.flags.c_contiguous and a.dtype == out.dtype for a in (y, *outs))
    if not (same and flat) or any(_meet(a, extent(b)) for a, b in ((y, outs[0]), (y, g), (outs[1], g), (outs[1], y))):
        return None
    for _, others, read, scratch in calls[product:number]:
        arrays = [*others, *scratch] if others[0] is not out else list(scratch)
        if any(_meet(a, extent(b)) for a in arrays for b in (g, y, *outs)):
            return None
        if any(_meet(a, extent(b)) for a in read for b in outs):
            return None
    return number


def _with_slopes(calls: Sequence[Call], product: int, number: int) -> Trace:
    """Write down a product with what follows it."""
    call, after = calls[product], calls[number]
    trace = Trace([a for group in (*call[1:], *after[1:]) for a in group])
    (x, w), g, y = call[2], call[1][0], after[2][1]
    count, right, left = packed.operands(x, w, call[3])
    sums = trace.new((-(-g.shape[0] // packed.high(g.itemsize)), g.shape[1]), g.dtype)
    kind = dense.KINDS[after[0].keywords.get("activation", "linear")]  # type: ignore[attr-defined]
    arguments = (*left, packed.NONE[g.dtype], g, y, after[1][0], sums, kind)
    trace.shared("packed", "right", [(part, count, *right) for part in range(count)])
    trace.shared("packed", "product_slopes", [(part, count, *arguments) for part in range(count)])
    trace.native("dense", "gather", (sums, after[1][1]))
    return trace


def fuse(calls: Sequence[Call]) -> dict[int, Trace]:
    """Return the rows of the calls that are made another way, by their numbers."""
    found: dict[int, Trace] = {}
    for number, (run, *_) in enumerate(calls):
        if getattr(run, "func", None) is thin.VARIANTS["matmul"].run:
            fits = not isinstance(calls[number], list) and _divides_rows(calls[number])
            after = _slopes_after(calls, number) if fits else None
            if after is not None and after not in found:
                found[number] = _with_slopes(calls, number, after)
                found[after] = Trace([])
    for update in _updates(calls):
        taken: dict[int, int] = {}
        later: list[int] = []
        for number, (run, outs, ins, _) in enumerate(calls[: update.number]):
            if getattr(run, "func", None) is not thin.VARIANTS["matmul"].run:
                continue
            x, y = ins
            if number in found or not (thin.makes_slopes(x, y, outs[0]) or _divides_rows(calls[number])):
                continue
            segment = update.segment(outs[0])
            if segment is None or segment in taken.values():
                continue
            when = _when(calls, number, update, segment)
            if when is not None:
                taken[number] = segment
                later += [number] if when != number else []
        if not taken:
            continue
        last = _trace([*[calls[number] for number in later], calls[update.number]], update)
        first = True
        for number in sorted(taken, key=lambda number: (number in later, number)):
            trace = last if number in later else _trace([calls[number], calls[update.number]], update)
            if first:
                trace.add(_copy(update), True)
            first = False
            _fused(trace, calls[number], update, taken[number])
            found[number] = trace if number not in later else Trace([])
        last.also = [calls[number] for number in later]
        found[update.number] = _rest(last, update, set(taken.values()))
    return found


def _trace(calls: Sequence[Call], update: _Update) -> Trace:
    trace = Trace([a for call in calls for group in (*call[1:], (update.before,)) for a in group])
    trace.kept.append(update)
    return trace


def _copy(update: _Update) -> machine.Row:
    """Return the row that keeps the progress before a step: every block reads it."""
    return machine.bytes_row(address(update.before), address(update.progress), update.progress.nbytes)


def _fused(trace: Trace, call: Call, update: _Update, segment: int) -> None:
    x, g = call[2]
    out = call[1][0]
    begin = update.begins[segment]
    w, _, states = update.views(begin, begin + out.size)
    keep = np.ones(1, np.int64)
    plan = update.plan(segment, segment + 1)
    trace.kept += [keep, plan]
    arguments = (out, keep, plan, w, states, update.own)
    if thin.makes_slopes(x, g, out):
        count = thin.divided(x.shape[1], *out.shape)
        trace.shared("thin", "slopes_adam", [(part, count, x.T, g, *arguments) for part in range(count)])
        return
    count, right, left = packed.operands(x, g, call[3])
    trace.shared("packed", "right", [(part, count, *right) for part in range(count)])
    bias = packed.NONE[out.dtype]
    trace.shared("packed", "product_adam", [(part, count, *left, bias, *arguments) for part in range(count)])


def _rest(trace: Trace, update: _Update, taken: set[int]) -> Trace:
    """Write down the update of all segments that are not taken, run by run of those side by side."""
    first = 0
    count = len(update.begins)
    while first < count:
        last = first
        while last < count and last not in taken:
            last += 1
        if last > first:
            begin, end = update.begins[first], update.ends[last - 1]
            plan = update.plan(first, last)
            trace.kept.append(plan)
            parts = updates.parts_of(end - begin)
            arguments = (plan, *update.views(begin, end), update.own)
            trace.shared("rules", "adam", [(part, parts, *arguments) for part in range(parts)])
        first = last + 1
    return trace
