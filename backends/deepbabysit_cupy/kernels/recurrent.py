"""Recurrent cells: maps over the gates, traced from the references; a gate is a column of its array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import FUNCTIONS, run_map
from deepbabysit_cupy.trace import Tracer


class _Gates:
    """Gates side by side, one element of each: what a reference cuts into its gates."""

    ndim = 2

    def __init__(self, elements: tuple[Any, ...]) -> None:
        self.shape = (1, len(elements))
        self.elements = elements

    def __getitem__(self, key: Any) -> Any:
        return self.elements[key[1].start]


class _Tracer(Tracer):
    """Elements of one unit."""

    def concat(self, parts: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
        """Return the gates: each is written where it belongs."""
        return parts


def _by_gate(name: str, gated: tuple[int, ...], gates: int) -> Callable[..., Any]:
    """Return the reference as a function of single gates; `gated` are the inputs that hold `gates` of them."""
    reference = SPECS[name].reference

    def function(xp: Any, *elements: Any, count: int, **attrs: Any) -> Any:
        rest, inputs = list(elements), []
        for place in range(count):
            taken = gates if place in gated else 1
            inputs.append(_Gates(tuple(rest[:taken])) if taken > 1 else rest[0])
            del rest[:taken]
        results = reference(_Tracer(), *inputs, **attrs)
        flat: list[Any] = []
        for result in results if isinstance(results, tuple) else (results,):
            flat += result if isinstance(result, tuple) else (result,)
        return tuple(flat)

    return function


def _cell(name: str, gated: tuple[int, ...], gates: int, results: tuple[int, ...] = ()) -> Kernel:
    """Return the kernel of a cell; `results` are the outputs that hold gates."""
    own = f"{name}_units"
    FUNCTIONS[own] = _by_gate(name, gated, gates)

    def cut(arrays: Any, holding: tuple[int, ...]) -> tuple[Any, ...]:
        found = []
        for place, array in enumerate(arrays):
            parts = gates if place in holding else 1
            units = array.shape[1] // parts
            found += [array[:, k * units : (k + 1) * units] for k in range(parts)]
        return tuple(found)

    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> None:
        run_map(own, ctx, cut(outs, results), cut(ins, gated), {"count": len(ins), **attrs})

    def supports(forms: Any, **attrs: Any) -> bool:
        return all(form.dtype == forms[0].dtype for form in forms)

    return Kernel(run, supports=supports)


KERNELS: dict[str, Kernel] = {
    "lstm_cell": _cell("lstm_cell", (0,), 4),
    "lstm_cell_gradient": _cell("lstm_cell_gradient", (0,), 4, (0,)),
    "gru_cell": _cell("gru_cell", (0, 1), 3),
    "gru_cell_gradient": _cell("gru_cell_gradient", (1, 2), 3, (0, 1)),
}
