"""Calls of a recorded step that the matrix library can do on its way: activations, their gradients, sums for biases.

Such a product adds up in another order, so a step changed like that gives other last bits than its calls one by one. It
is done on request only (`tune=True`), where the library offers the epilogue and was found to be faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.runtime.chains import Call, extent
from deepbabysit.runtime.record import run_calls
from deepbabysit_cupy.kernels.products import fused, run_fused

_LEAD = 128  # bits: what a row of ReLU's mask is a multiple of


class Span(NamedTuple):
    """Where an array lies: in which buffer (0: memory that is not the recording's), from where to where."""

    room: int
    begin: int
    end: int

    def meets(self, other: Span) -> bool:
        """Tell whether the two share a byte."""
        return self.room == other.room and self.begin < other.end and other.begin < self.end


class Rewriting:
    """A recorded step while it is rewritten.

    Arguments:
        device: where it runs.
        calls: in order.
        names: their operations.
        room: returns a number for the buffer of an array, 0 where it is not the recording's.
        private: tells whether only the recording uses the memory of an array.
        fresh: makes a private buffer for a shape and a dtype.
        prefers: ``prefers(key, ways)`` returns which of several ways to compute the same is faster.
    """

    def __init__(
        self, device: Any, calls: Sequence[Call], names: Sequence[str], room: Callable[[Any], int],
        private: Callable[[Any], bool], fresh: Callable[[Any, Any], Any],
        prefers: Callable[[str, Sequence[Callable[[], None]]], int],
    ) -> None:
        self._device = device
        self._room = room
        self._private = private
        self._fresh = fresh
        self._prefers = prefers
        self.calls: list[Any] = list(calls)
        self._names = list(names)
        self._writes = [self._spans((*outs, *scratch)) for _, outs, _, scratch in self.calls]
        self._reads = [self._spans(ins) for _, _, ins, _ in self.calls]

    def _span(self, array: Any) -> Span:
        return Span(self._room(array), *extent(array))

    def _spans(self, arrays: Sequence[Any]) -> list[Span]:
        return [self._span(a) for a in arrays]

    def run(self) -> tuple[list[Call], list[str]]:
        """Return the calls, with those together that are faster so, and the names of their operations."""
        for place in range(len(self.calls)):
            if self._names[place] == "gelu":
                self._forward_gelu(place)
            elif self._names[place] == "linear_gradient" and not self._backward(place):
                self._by_parameters(place)
        left = [place for place, call in enumerate(self.calls) if call is not None]
        return [self.calls[place] for place in left], [self._names[place] for place in left]

    # -- what depends on what ------------------------------------------------------------------------------------------

    def _maker(self, array: Any, place: int) -> int | None:
        """Return the call before `place` whose first output is exactly this array, if it is the last to write there."""
        span = self._span(array)
        for before in range(place - 1, -1, -1):
            if any(span.meets(w) for w in self._writes[before]):
                out = self.calls[before][1][0]
                same = self._writes[before][0] == span and out.dtype == array.dtype and out.size == array.size
                return before if same and out.flags.c_contiguous else None
        return None

    def _written(self, arrays: Sequence[Any], first: int, last: int) -> bool:
        """Tell whether calls after `first` and before `last` write into one of the arrays."""
        spans = self._spans(arrays)
        return any(s.meets(w) for n in range(first + 1, last) for w in self._writes[n] for s in spans)

    def _readers(self, array: Any, after: int) -> list[int]:
        span = self._span(array)
        return [n for n in range(after + 1, len(self.calls)) if any(span.meets(r) for r in self._reads[n])]

    def _needed(self, array: Any, after: int, but: Sequence[int]) -> bool:
        """Tell whether anybody but these calls reads what a call has made."""
        return not self._private(array) or any(n not in but for n in self._readers(array, after))

    def _put(self, place: int, call: Call | None, name: str = "") -> None:
        """Put a call (or nothing) in the place of one; without a name no pattern begins with it."""
        self.calls[place] = call
        self._names[place] = name
        self._writes[place] = [] if call is None else self._spans((*call[1], *call[3]))
        self._reads[place] = [] if call is None else self._spans(call[2])

    # -- patterns ------------------------------------------------------------------------------------------------------

    def _forward_gelu(self, place: int) -> bool:
        """``y = gelu(x w + b)``: one product that keeps what went into GELU."""
        _, (y,), (p,), _ = call = self.calls[place]
        first = self._maker(p, place)
        if first is None or not _tanh(call) or not self._is_linear(first, "linear") or not y.flags.c_contiguous:
            return False
        x, w, bias = self.calls[first][2]
        # y is written earlier than it was
        if self._span(y).meets(self._span(p)) or any(
            self._span(y).meets(s) for n in range(first, place) for s in (*self._writes[n], *self._reads[n])
        ):
            return False
        made = self._product("bias+gelu+aux", (_rows(y), _rows(p)), (_rows(x), w, bias), vector=2, aux=1)
        if made is None or not self._faster("gelu", [self.calls[first], call], [made]):
            return False
        self._put(first, made)
        self._put(place, None)
        return True

    def _backward(self, place: int) -> bool:
        """``dx = g w'``, carried back through the activation that made x, with the sum for its bias: one product."""
        _, (through, by_bias), (g, y), _ = call = self.calls[place]
        activation = call[0].keywords.get("activation", "linear")
        chain = [place]
        if activation == "linear":  # the gradient of GELU stands by itself
            middle = self._maker(g, place)
            if middle is None or self._names[middle] != "gelu_gradient" or not _tanh(self.calls[middle]):
                return False
            if self._needed(g, middle, chain):
                return False
            chain.append(middle)
            g, y = self.calls[middle][2]
        elif activation != "relu":
            return False
        product = self._maker(g, chain[-1])
        if product is None or self._names[product] != "matmul" or self._needed(g, product, chain):
            return False
        a, b = self.calls[product][2]
        outs = (_rows(through), by_bias)
        if not all(x.flags.c_contiguous for x in (*outs, y)) or self._written((a, b, y), product, place):
            return False
        if any(self._span(x).meets(s) for x in outs for s in self._spans((a, b, y))):
            return False  # in place it can only be done element by element
        plain = [self.calls[n] for n in sorted([product, *chain])]
        if activation == "linear":
            made = self._product("dgelu+bgrad", outs, (a, b, _rows(y)), vector=1, aux=2)
            if made is None or not self._faster("gelu gradient", plain, [made]):
                return False
        else:
            first = self._maker(y, product)
            if first is None or not self._is_linear(first, "relu"):
                return False
            bits = self._fresh((_rows(y).shape[0], -(-y.shape[-1] // _LEAD) * _LEAD // 8), np.uint8)
            x, w, bias = self.calls[first][2]
            before = self._product("bias+relu+aux", (_rows(y), bits), (_rows(x), w, bias), vector=2, aux=1)
            made = self._product("drelu+bgrad", outs, (a, b, bits), vector=1, aux=2)
            if before is None or made is None:
                return False
            if not self._faster("relu gradient", [self.calls[first], *plain], [before, made]):
                return False
            self._put(first, before)
        for number in (product, *chain):
            self._put(number, None)
        self._put(place, made)
        return True

    def _by_parameters(self, place: int) -> bool:
        """``dw = x' g`` and the sum of g for the bias: one product; g takes the place of its copy."""
        _, (copy, by_bias), (g, _), _ = call = self.calls[place]
        readers = self._readers(copy, place)
        if call[0].keywords.get("activation", "linear") != "linear" or not self._private(copy) or not readers:
            return False
        same = self._span(copy) == self._span(g)
        if not (copy.flags.c_contiguous and g.flags.c_contiguous and by_bias.flags.c_contiguous):
            return False
        if not same and self._written((g,), place, max(readers) + 1) or self._written((copy,), place, max(readers) + 1):
            return False
        product = next((n for n in readers if self._names[n] == "matmul" and self._is_copy(n, copy)), None)
        # the sum is there only after the product
        if product is None or any(n < product for n in self._readers(by_bias, place)):
            return False
        if self._written((by_bias,), place, product):
            return False
        _, (dw,), (xt, _), _ = self.calls[product]
        if not dw.flags.c_contiguous:
            return False
        made = self._product("bgrada", (dw, by_bias), (xt, _rows(g)), vector=1)
        if made is None or not self._faster("bias gradient", [call, self.calls[product]], [made]):
            return False
        for number in readers:
            run, outs, ins, scratch = self.calls[number]
            moved = tuple([self._moved(a, copy, g) if self._span(a).meets(self._span(copy)) else a for a in ins])
            self._put(number, (run, outs, moved, scratch), self._names[number])
        self._put(product, made)
        self._put(place, None)
        return True

    def _is_copy(self, number: int, copy: Any) -> bool:
        """Tell whether a product's second operand is an array, as rows."""
        b = self.calls[number][2][1]
        return self._span(b) == self._span(copy) and b.flags.c_contiguous and b.shape == _rows(copy).shape

    def _moved(self, array: Any, before: Any, now: Any) -> Any:
        """Return the same part of another array."""
        place = now.data + (int(array.data.ptr) - int(before.data.ptr))
        return type(array)(array.shape, array.dtype, place, array.strides)

    def _is_linear(self, number: int, activation: str) -> bool:
        """Tell whether a call is a dense layer with an activation, over arrays as the library takes them."""
        call = self.calls[number]
        if self._names[number] != "linear" or call[0].keywords.get("activation", "linear") != activation:
            return False
        return all(a.flags.c_contiguous for a in (*call[1], call[2][0], call[2][2]))

    def _product(self, epilogue: str, outs: Any, ins: Any, vector: int, aux: int = -1) -> Call | None:
        """Return the call of a product with an epilogue, or None; `vector`, `aux` as in `run_fused`."""
        a, b, *more = ins
        others = (*outs, *more)
        kept = None if aux < 0 else others[aux]
        if fused(self._device, epilogue, outs[0], a, b, others[vector], kept) is None:
            return None
        return partial(run_fused, self._device, epilogue=epilogue, vector=vector, aux=aux), tuple(outs), tuple(ins), ()

    # -- which is faster -----------------------------------------------------------------------------------------------

    def _faster(self, what: str, plain: Sequence[Call], together: Sequence[Call]) -> bool:
        """Tell whether calls are slower than others that do the same; timed on other memory."""
        shapes = " ".join("x".join(map(str, a.shape)) for call in plain for a in (*call[1], *call[2]))
        ways = [self._rehearsal(calls) for calls in (plain, together)]
        return self._prefers(f"{what}: {plain[0][1][0].dtype.name} {shapes}", ways) == 1

    def _rehearsal(self, calls: Sequence[Call]) -> Callable[[], None]:
        drawn: dict[Any, Any] = {}
        tuning = self._device.backend.tuning

        def other(array: Any) -> Any:
            key = (extent(array), array.shape, array.strides, array.dtype)
            if key not in drawn:
                turned = array.ndim == 2 and not array.flags.c_contiguous
                shape = array.shape[::-1] if turned else array.shape
                made = tuning.drawn(array.size, array.dtype).reshape(shape)
                drawn[key] = made.T if turned else made
            return drawn[key]

        copies: list[Any] = [(run, *[tuple(map(other, group)) for group in groups]) for run, *groups in calls]
        return lambda: run_calls(self._device, copies)


def _tanh(call: Call) -> bool:
    """Tell whether a call is of GELU by tanh, which is the library's."""
    return bool(getattr(call[0], "keywords", {}).get("approximate") == "tanh")


def _rows(array: Any) -> Any:
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])
