"""Pooling over one or two axes of space; a sequence is an image of one row."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import threads
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_MAX, _MAX_GRADIENT = Compiled("pooling", "max_pool"), Compiled("pooling", "max_pool_gradient")
_HALVED_GRADIENT = Compiled("pooling", "halved_gradient")
_AVG, _AVG_GRADIENT = Compiled("pooling", "avg_pool"), Compiled("pooling", "avg_pool_gradient")
_ASLEEP = 4  # outside of programs parts are so many times as long: a thread that sleeps takes 100 microseconds to wake


def _image(array: Any) -> Any:
    """Return (N, height, width, C)."""
    return array if array.ndim == 4 else array.reshape(array.shape[0], 1, *array.shape[1:])


def _geometry(window: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    """Return window, stride and the border before, as (rows, columns)."""
    before = tuple(pair[0] for pair in padding)
    if len(window) == 1:
        return (1, *window), (1, *stride), (0, *before)
    return tuple(window), tuple(stride), before


def _takes(forms: Any, *, window: Any, stride: Any, padding: Any, space: Any = ()) -> bool:
    size = prod(forms[0].shape)
    same = all(form.dtype == forms[0].dtype for form in forms)
    wide = forms[0].shape[-1] >= LEAST["pool channels"]  # with fewer, NumPy's loops over positions are longer
    return same and wide and len(window) <= 2 and size >= LEAST["pool"] and size > 0 and available()


def _parts(shape: Any, times: int = 1) -> int:
    return team.parts(shape[0], float(prod(shape)), max(times * LEAST["pool part"], 1))


def _run(function: Compiled, parts: int, image: Any, *arguments: Any) -> None:
    """Run it in as many parts as were planned, or fewer: who works on which images changes no bit."""
    parts = min(parts, threads.count()) if team.in_program() else min(parts, _parts(image, _ASLEEP))
    team.TEAM.run(function, arguments[0].dtype, parts, *arguments)


def _line(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    x = forms[0]
    return (Form((_parts(x.shape), x.shape[-2] * x.shape[-1]), x.dtype),)


def _max_pool(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, padding: Any) -> None:
    (lines,) = ctx.scratch
    _run(_MAX, len(lines), x.shape, _image(x), _image(outs[0]), lines, *_geometry(window, stride, padding))


def _lines(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    x = forms[1]
    return (Form((_parts(x.shape), 2, x.shape[-2] * x.shape[-1]), x.dtype),)


def _max_pool_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, y: Any, *, window: Any, stride: Any, padding: Any
) -> None:
    (lines,) = ctx.scratch
    arrays = (_image(g), _image(x), _image(y), _image(outs[0]))
    if window == stride == (2, 2) and not any(map(any, padding)):
        _run(_HALVED_GRADIENT, len(lines), x.shape, *arrays, lines)
    else:
        _run(_MAX_GRADIENT, len(lines), x.shape, *arrays, lines, *_geometry(window, stride, padding))


def _avg_pool(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, padding: Any) -> None:
    (lines,) = ctx.scratch
    _run(_AVG, len(lines), x.shape, _image(x), _image(outs[0]), lines, *_geometry(window, stride, padding))


def _avg_pool_gradient(
    ctx: Any, outs: Any, g: Any, *, space: Any, window: Any, stride: Any, padding: Any
) -> None:
    result = _image(outs[0])
    _run(_AVG_GRADIENT, _parts(result.shape), result.shape, _image(g), result, *_geometry(window, stride, padding))


VARIANTS: dict[str, Kernel] = {
    "max_pool": Kernel(_max_pool, scratch=_line, dtypes=_DTYPES, supports=_takes, contiguous=True),
    "max_pool_gradient": Kernel(_max_pool_gradient, scratch=_lines, dtypes=_DTYPES, supports=_takes, contiguous=True),
    "avg_pool": Kernel(_avg_pool, scratch=_line, dtypes=_DTYPES, supports=_takes, contiguous=True),
    "avg_pool_gradient": Kernel(_avg_pool_gradient, dtypes=_DTYPES, supports=_takes, contiguous=True),
}
