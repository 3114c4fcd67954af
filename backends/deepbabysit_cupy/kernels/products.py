"""Matrix products by cuBLASLt; the dense layer with bias and activation in the product's epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array, Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import FUNCTIONS, clear, run_map
from deepbabysit_cupy.kernels.reducing import Reduction, reduction, run_reduction
from deepbabysit_cupy.lt import REAL, Product, aligned

_DTYPES = frozenset(REAL)
_EPILOGUES = {"linear": "bias", "relu": "bias+relu"}


def _stored(array: Array) -> tuple[bool, int] | None:
    """Return (transposed, elements from one stored row to the next) of the last two axes, or None for other layouts."""
    item = array.dtype.itemsize
    rows, columns = array.shape[-2:]
    down, across = array.strides[-2] // item, array.strides[-1] // item
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, max(down if rows > 1 else columns, columns, 1)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return True, max(across if columns > 1 else rows, rows, 1)
    return None


def _batched(array: Array, shape: tuple[int, ...]) -> int | None:
    """Return the elements from one matrix to the next where one number says it, else None."""
    own = array.shape[:-2]
    if prod(own) == 1:
        return 0
    if tuple(own) != tuple(shape):
        return None
    item = array.dtype.itemsize
    step = array.strides[-3] // item
    if step < 0:
        return None
    expected = step
    for axis in reversed(range(len(own))):
        if own[axis] > 1 and array.strides[axis] // item != expected:
            return None
        expected *= own[axis]
    return step


def affine(
    ctx: Any, product: Product, a: int, b: int, y: Array, bias: Array | None = None, activation: str = "linear"
) -> None:
    """Run a product of matrices at addresses into `y`, with bias and activation over its last axis.

    What the library has no epilogue for is done by a map behind it.
    """
    library, stream = ctx.backend.lt, ctx.backend.stream.ptr
    if bias is not None and product.batches == 1:
        fused = replace(product, epilogue=_EPILOGUES.get(activation, "bias"))
        if library.supports(fused, aligned(a, b, y.data.ptr, bias.data.ptr)):
            library.run(fused, a, b, y.data.ptr, bias.data.ptr, stream)
            if activation not in _EPILOGUES:
                run_map(activation, ctx, (y,), (y,), {})
            return
    library.run(product, a, b, y.data.ptr, 0, stream)
    if bias is not None:
        run_map("biased", ctx, (y,), (y, bias), {"activation": activation})


def _biased(xp: Any, y: Any, bias: Any, *, activation: str) -> Any:
    return y + bias if activation == "linear" else SPECS[activation].reference(xp, y + bias)


FUNCTIONS["biased"] = _biased


def multiply(
    ctx: Any, c: Array, a: Array, b: Array, bias: Array | None = None, activation: str = "linear", alpha: float = 1.0
) -> None:
    """Compute ``c = alpha a b`` over the last two axes, axes in front are batches; `c` is contiguous."""
    rows, columns = c.shape[-2:]
    inner = a.shape[-1]
    if c.size == 0:
        return
    if inner == 0:
        clear(ctx, c)
        return
    shape = c.shape[:-2]
    a, b = (x if _stored(x) is not None else x.copy() for x in (a, b))
    steps = [_batched(x, shape) for x in (a, b)]
    # batches that are repeated in an irregular way are written out
    if steps[0] is None:
        a = ctx.backend.xp.ascontiguousarray(ctx.backend.xp.broadcast_to(a, (*shape, *a.shape[-2:])))
    if steps[1] is None:
        b = ctx.backend.xp.ascontiguousarray(ctx.backend.xp.broadcast_to(b, (*shape, *b.shape[-2:])))
    affine(ctx, _described(ctx, c, a, b, alpha), a.data.ptr, b.data.ptr, c, bias, activation)


def _described(ctx: Any, c: Array, a: Array, b: Array, alpha: float = 1.0) -> Product:
    """Return the product of arrays whose layouts the library takes."""
    shape, (rows, columns) = c.shape[:-2], c.shape[-2:]
    steps = [_batched(x, shape) for x in (a, b)]
    (turn_a, lead_a), (turn_b, lead_b) = _stored(a), _stored(b)  # type: ignore[misc]
    return Product(
        rows, columns, a.shape[-1], turn_a, turn_b, lead_a, lead_b, columns, c.dtype.name, prod(shape), steps[0] or 0,
        steps[1] or 0, rows * columns, "", ctx.backend.tf32, alpha,
    )


# -- products with more in their epilogues: recorded steps run them where that was timed and found faster --------------


def fused(ctx: Any, epilogue: str, c: Array, a: Array, b: Array, vector: Array, aux: Array | None) -> Product | None:
    """Return ``c = a b`` with an epilogue over matrices; None where the library does not offer it.

    Arguments:
        ctx: the device.
        epilogue: a key of `lt.EPILOGUES`.
        c, a, b: matrices; c is contiguous.
        vector: the bias, or where its gradient goes.
        aux: what backward needs.
    """
    if any(x.ndim != 2 or not x.size or _stored(x) is None for x in (a, b)):
        return None
    product = replace(_described(ctx, c, a, b), epilogue=epilogue)
    return product if ctx.backend.lt.supports(product, aligned(*_addresses(c, a, b, vector, aux))) else None


def run_fused(
    ctx: Any, outs: Any, a: Any, b: Any, *more: Any, epilogue: str, vector: int = -1, aux: int = -1
) -> None:
    """Run a product with an epilogue that `fused` found.

    Arguments:
        ctx: the device.
        outs: the result first.
        a, b: matrices.
        more: other inputs.
        epilogue: as in `fused`.
        vector, aux: which of ``(*outs, *more)`` is the bias or its gradient, and what backward needs; -1: none.
    """
    others = (*outs, *more)
    c = outs[0]
    product = replace(_described(ctx, c, a, b), epilogue=epilogue)
    x, y, z, bias, kept = _addresses(c, a, b, others[vector], None if aux < 0 else others[aux])
    ctx.backend.lt.run(product, y, z, x, bias, ctx.backend.stream.ptr, kept)


def _addresses(*arrays: Array | None) -> tuple[int, ...]:
    return tuple(0 if a is None else int(a.data.ptr) for a in arrays)


def _matmul(ctx: Any, outs: Any, a: Any, b: Any) -> None:
    c = outs[0]
    if a.ndim == 1:
        a, c = a.reshape(1, -1), c.reshape(*c.shape[:-1], 1, c.shape[-1]) if b.ndim > 1 else c.reshape(1, 1)
    if b.ndim == 1:
        b, c = b.reshape(-1, 1), c if c.ndim >= 2 and c.shape[-1] == 1 else c.reshape(*c.shape, 1)
    multiply(ctx, c, a, b)


def _takes(forms: Any, **attrs: Any) -> bool:
    return all(form.dtype == forms[0].dtype for form in forms) and is_floating(forms[0].dtype)


def _linear(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear") -> None:
    y = outs[0].reshape(-1, kernel.shape[1])
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[1] == 0:  # an empty sum: the bias alone
        zero = ctx.constant(0, y.dtype)
        run_map("biased", ctx, (y,), (zero, bias), {"activation": activation})
    else:
        multiply(ctx, y, rows, kernel, bias if bias.flags.c_contiguous else bias.copy(), activation)


# -- backwards: the gradient through the activation is written while the bias' is summed -------------------------------


def _through(xp: Any, g: Any, y: Any, *, activation: str) -> Any:
    through = FUNCTIONS[f"through_{activation}"](xp, g, y)
    return through, through


FUNCTIONS["through_linear"] = lambda xp, g, y: xp.astype(g, g.dtype)
FUNCTIONS["through_relu"] = SPECS["relu_gradient"].reference
FUNCTIONS["through_sigmoid"] = SPECS["sigmoid_gradient"].reference
FUNCTIONS["through_tanh"] = SPECS["tanh_gradient"].reference
FUNCTIONS["linear_gradient_sums"] = _through


def _sums(forms: Any, activation: str) -> Reduction | None:
    axes = tuple(range(len(forms[0].shape) - 1))
    return reduction("linear_gradient_sums", ("sum",), tuple(forms), axes, (("activation", activation),))


def _linear_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, activation: str = "linear") -> None:
    found = _sums([Form(a.shape, a.dtype) for a in (g, y)], activation)
    assert found is not None
    run_reduction(found, ctx, outs[1:], (g, y), outs[:1], ctx.scratch)


def _made_through(xp: Any, *ins: Any, activation: str, before: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    return _through(xp, SPECS[before].reference(xp, *ins[:-1], **dict(settings)), ins[-1], activation=activation)


FUNCTIONS["made_linear_gradient_sums"] = _made_through


def _made(forms: Any, attrs: Any, before: str, settings: tuple[tuple[str, Any], ...]) -> Reduction | None:
    axes = tuple(range(len(forms[0].shape) - 1))
    given = (*attrs.items(), ("before", before), ("settings", settings))
    return reduction("made_linear_gradient_sums", ("sum",), tuple(forms), axes, given)


def made_sums(
    dtypes: Sequence[str], shape: tuple[int, ...], attrs: Any, before: str, settings: tuple[tuple[str, Any], ...]
) -> bool:
    """Tell whether `made_linear_gradient` sums in the order of `linear_gradient`.

    Arguments:
        dtypes: of what the elementwise operation reads.
        shape: of all arrays.
        attrs: of `linear_gradient`.
        before, settings: the elementwise operation and its attributes.
    """
    y = Form(shape, np.dtype(dtypes[0]))
    made = _made([*[Form(shape, np.dtype(d)) for d in dtypes], y], attrs, before, settings)
    plain = _sums([y, y], **attrs)
    return made is not None and plain is not None and made.cut._replace(
        kept_steps=plain.cut.kept_steps, steps=plain.cut.steps
    ) == plain.cut


def made_linear_gradient(
    ctx: Any, outs: Any, *ins: Any, before: str, settings: tuple[tuple[str, Any], ...], **attrs: Any
) -> None:
    """Run `linear_gradient` on the result of an elementwise operation that is not stored; its last input is y."""
    found = _made([Form(a.shape, a.dtype) for a in ins], attrs, before, settings)
    assert found is not None
    run_reduction(found, ctx, outs[1:], ins, outs[:1], ctx.scratch)


def _sums_scratch(forms: Any, *, activation: str = "linear") -> tuple[Form, ...]:
    found = _sums(forms, activation)
    return found.scratch if found is not None else ()


def _sums_takes(forms: Any, *, activation: str = "linear") -> bool:
    return _takes(forms) and _sums(forms, activation) is not None


KERNELS: dict[str, Kernel] = {
    "matmul": Kernel(_matmul, dtypes=_DTYPES, supports=_takes),
    "linear": Kernel(_linear, dtypes=_DTYPES, supports=_takes),
    "linear_gradient": Kernel(_linear_gradient, _sums_scratch, supports=_sums_takes, contiguous=True),
}
