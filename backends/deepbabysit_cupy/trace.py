"""From a reference to CUDA C++: the Python function that defines an operation is run once on symbols.

The same function gives the values on NumPy and the body of the kernel, so the two cannot mean different things. What it
may use is what works element by element; anything else raises `NotTraceable`, and the operation needs a kernel of its
own or runs as the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating


class NotTraceable(TypeError):
    """A reference does something that no elementwise kernel can do."""


STORED = {
    "bool": "bool", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t",
    "uint32": "uint32_t", "int64": "int64_t", "uint64": "uint64_t", "float16": "float16", "bfloat16": "bfloat16",
    "float32": "float", "float64": "double",
}  # fmt: skip
COMPUTED = {**STORED, "float16": "float", "bfloat16": "float"}


class Symbol:
    """An element of an array that has no value yet: an operation on other symbols and numbers."""

    __slots__ = ("dtype", "operands", "operation")
    __array_ufunc__ = None
    shape = ()

    def __init__(self, operation: str, operands: tuple[Any, ...], dtype: Any) -> None:
        self.operation = operation
        self.operands = operands
        self.dtype = np.dtype(dtype)

    __hash__ = object.__hash__

    def __neg__(self) -> Symbol:
        return Symbol("negative", (self,), self.dtype)

    def __invert__(self) -> Symbol:
        return Symbol("!", (_cast(self, np.bool_),), np.bool_)

    def __abs__(self) -> Symbol:
        return Symbol("abs", (self,), self.dtype)

    def __bool__(self) -> bool:
        raise NotTraceable("the reference branches on a value")

    def __getattr__(self, name: str) -> Any:
        raise NotTraceable(f"the reference asks an element for {name}")


def _operator(operation: str, turned: bool = False) -> Callable[[Any, Any], Symbol]:
    def operate(self: Any, other: Any) -> Symbol:
        return _BINARY[operation](other, self) if turned else _BINARY[operation](self, other)

    return operate


def _joined(*operands: Any) -> np.dtype[Any]:
    """Return the dtype that arrays of these dtypes and Python numbers give together."""
    found = np.result_type(*[x.dtype for x in operands if isinstance(x, Symbol)])
    # NumPy lets numbers take the dtype of its own types only, and bfloat16 is not one of them
    return found if is_floating(found) else np.result_type(found, *[x for x in operands if not isinstance(x, Symbol)])


def _arithmetic(operation: str, x: Any, y: Any) -> Symbol:
    return Symbol(operation, (x, y), _joined(x, y))


def _divide(x: Any, y: Any) -> Symbol:
    dtype = _joined(x, y)
    return Symbol("/", (x, y), dtype if is_floating(dtype) else np.float64)


def _compare(operation: str, x: Any, y: Any) -> Symbol:
    # both sides are compared in the type they have together
    dtype = _joined(x, y)
    return Symbol(operation, (_cast(x, dtype), _cast(y, dtype)), np.bool_)


def _logical(operation: str, x: Any, y: Any) -> Symbol:
    return Symbol(operation, (_cast(x, np.bool_), _cast(y, np.bool_)), np.bool_)


def _cast(x: Any, dtype: Any, copy: bool = True) -> Any:
    dtype = np.dtype(dtype)
    if isinstance(x, Symbol) and x.dtype == dtype:
        return x
    return Symbol("cast", (x,), dtype)


_BINARY: dict[str, Callable[[Any, Any], Symbol]] = {
    "+": partial(_arithmetic, "+"),
    "-": partial(_arithmetic, "-"),
    "*": partial(_arithmetic, "*"),
    "/": _divide,
    "pow": partial(_arithmetic, "pow"),
    "maximum": partial(_arithmetic, "maximum"),
    "minimum": partial(_arithmetic, "minimum"),
    **{name: partial(_compare, name) for name in ("<", "<=", ">", ">=", "==", "!=")},
    "&": partial(_logical, "&&"),
    "|": partial(_logical, "||"),
}
for _method, _name in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("pow", "pow")):
    setattr(Symbol, f"__{_method}__", _operator(_name))
    setattr(Symbol, f"__r{_method}__", _operator(_name, turned=True))
for _method, _name in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!="),
                       ("and", "&"), ("or", "|")):  # fmt: skip
    setattr(Symbol, f"__{_method}__", _operator(_name))

_FLOATING = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "erf", "floor")
_TESTS = ("isfinite", "isnan")


class Tracer:
    """The namespace that a reference is given in place of an array library."""

    inf, nan, pi = math.inf, math.nan, math.pi

    def __getattr__(self, name: str) -> Any:
        if name in STORED:
            return np.dtype(name)
        spec = SPECS.get(name)
        if spec is not None:
            return partial(spec.reference, self)
        raise NotTraceable(f"the reference uses {name}")

    def astype(self, x: Any, dtype: Any, copy: bool = True) -> Any:
        """Return the element in another dtype."""
        return _cast(x, dtype)

    def where(self, condition: Any, x: Any, y: Any) -> Symbol:
        """Return `x` or `y`."""
        return Symbol("where", (_cast(condition, np.bool_), x, y), _joined(x, y))

    def stop_gradient(self, x: Any) -> Any:
        """Return the element itself."""
        return x

    def zeros_like(self, x: Symbol, dtype: Any = None) -> Symbol:
        """Return 0 of its dtype."""
        return Symbol("cast", (0,), dtype or x.dtype)

    def ones_like(self, x: Symbol, dtype: Any = None) -> Symbol:
        """Return 1 of its dtype."""
        return Symbol("cast", (1,), dtype or x.dtype)

    def full_like(self, x: Symbol, value: Any, dtype: Any = None) -> Symbol:
        """Return a number of its dtype."""
        return Symbol("cast", (value,), dtype or x.dtype)

    def full(self, shape: Any, value: Any, dtype: Any = None) -> Any:
        """Return a number for every element."""
        return self.asarray(value, dtype)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        """Return a number, of a dtype if one is given."""
        return value if dtype is None else _cast(value, dtype)


def _unary(operation: str) -> Any:
    def apply(self: Tracer, x: Any) -> Symbol:
        if not isinstance(x, Symbol):
            raise NotTraceable(f"{operation} of a number")
        dtype = x.dtype if is_floating(x.dtype) or operation in ("abs", "negative", "sign") else np.dtype(np.float64)
        return Symbol(operation, (_cast(x, dtype),), np.bool_ if operation in _TESTS else dtype)

    return apply


def _binary(operation: str) -> Any:
    return lambda self, x, y: _BINARY[operation](x, y)


for _name in (*_FLOATING, *_TESTS, "abs", "negative", "sign"):
    setattr(Tracer, _name, _unary(_name))
for _method, _name in (
    ("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/"), ("pow", "pow"), ("maximum", "maximum"),
    ("minimum", "minimum"), ("equal", "=="), ("not_equal", "!="), ("less", "<"), ("less_equal", "<="),
    ("greater", ">"), ("greater_equal", ">="), ("logical_and", "&"), ("logical_or", "|"),
):  # fmt: skip
    setattr(Tracer, _method, _binary(_name))
Tracer.logical_not = lambda self, x: ~_cast(x, np.bool_)  # type: ignore[attr-defined]
Tracer.absolute = Tracer.abs  # type: ignore[attr-defined]
Tracer.power = Tracer.pow  # type: ignore[attr-defined]


def trace(reference: Callable[..., Any], dtypes: Sequence[Any], attrs: dict[str, Any]) -> list[Symbol]:
    """Run a reference on symbols of these dtypes; returns one symbol per output.

    Raises:
        NotTraceable: it does something else than computing element by element.
    """
    inputs = [Symbol("input", (place,), dtype) for place, dtype in enumerate(dtypes)]
    try:
        results = reference(Tracer(), *inputs, **attrs)
    except (AttributeError, TypeError) as error:
        raise NotTraceable(str(error)) from error
    results = results if isinstance(results, tuple) else (results,)
    if not all(isinstance(result, Symbol) for result in results):
        raise NotTraceable("a result does not depend on the inputs")
    return list(results)


# -- printing ----------------------------------------------------------------------------------------------------------


def body(outputs: Sequence[Symbol]) -> tuple[list[str], list[str]]:
    """Return the statements that compute the outputs from ``x0, x1, ...``, and the names of the results."""
    lines: list[str] = []
    names: dict[int, str] = {}

    def write(symbol: Symbol) -> str:
        found = names.get(id(symbol))
        if found is None:
            kind = COMPUTED[symbol.dtype.name]
            if symbol.operation == "input":
                found = f"x{symbol.operands[0]}"
            else:
                value = _value(symbol, kind, write)
                found = f"t{len(lines)}"
                lines.append(f"{kind} {found} = {value};")
            names[id(symbol)] = found
        return found

    return lines, [write(symbol) for symbol in outputs]


def _number(value: Any, kind: str) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = f"{value}" if abs(value) < 2**31 else f"{value}{'u' if value >= 2**63 else ''}ll"
    elif math.isnan(value):
        text = "NAN"
    elif math.isinf(value):
        text = "INFINITY" if value > 0 else "-INFINITY"
    else:
        text = repr(float(value))
    return f"({kind})({text})"


def _value(symbol: Symbol, kind: str, write: Callable[[Symbol], str]) -> str:
    operation = symbol.operation

    def operand(x: Any, into: str | None = None) -> str:
        if not isinstance(x, Symbol):
            return _number(x, into or kind)
        own = COMPUTED[x.dtype.name]
        return write(x) if into is None or own == into else f"({into}){write(x)}"

    if operation == "cast":
        (x,) = symbol.operands
        if symbol.dtype == np.bool_ and isinstance(x, Symbol):
            return f"{write(x)} != 0"
        value = operand(x, kind)
        # a number that is stored in half the width loses its digits here, not at the end
        half = symbol.dtype.itemsize == 2 and kind == "float"
        return f"widen(Narrow<{symbol.dtype.name}>::of({value}))" if half else f"({kind})({value})"
    if operation in ("<", "<=", ">", ">=", "==", "!="):
        x, y = symbol.operands
        shared = next(COMPUTED[o.dtype.name] for o in (x, y) if isinstance(o, Symbol))
        return f"{operand(x, shared)} {operation} {operand(y, shared)}"
    if operation in ("&&", "||"):
        return f" {operation} ".join(operand(x, "bool") for x in symbol.operands)
    if operation == "where":
        condition, x, y = symbol.operands
        return f"{write(condition)} ? {operand(x, kind)} : {operand(y, kind)}"
    values = [operand(x, kind) for x in symbol.operands]
    if operation in ("+", "-", "*", "/"):
        return f"{values[0]} {operation} {values[1]}"
    if operation in ("maximum", "minimum"):
        return f"{'Largest' if operation == 'maximum' else 'Smallest'}()({', '.join(values)})"
    if operation == "negative":
        return f"-{values[0]}"
    if operation == "!":
        return f"!{values[0]}"
    if operation == "sign":
        return f"{values[0]} != {values[0]} ? {values[0]} : ({kind})(({values[0]} > 0) - ({values[0]} < 0))"
    if operation in _TESTS:
        return f"{operation}({write(symbol.operands[0])})"
    if operation == "abs":
        return f"fabs{'f' if kind == 'float' else ''}({values[0]})" if is_floating(symbol.dtype) else (
            f"{values[0]} < 0 ? ({kind})-{values[0]} : {values[0]}"
        )
    if not is_floating(symbol.dtype):
        raise NotTraceable(f"{operation} of whole numbers")
    return f"{operation}{'f' if kind == 'float' else ''}({', '.join(values)})"
