"""What a layer was constructed with, by name: for refusing unknown keywords and for saving."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from deepbabysit.errors import unknown_keywords
from deepbabysit.kernels.shapes import is_batch, show_shape


@lru_cache(maxsize=1024)
def _signature(cls: type) -> tuple[tuple[str, ...], bool, dict[str, Any]]:
    """Return the constructor's argument names, whether it takes any keyword, and its defaults."""
    function = cls.__init__  # type: ignore[misc]
    code = getattr(function, "__code__", None)
    if code is None:
        return (), True, {}
    positional = code.co_varnames[1 : code.co_argcount]
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
    return (*positional, *keyword_only), bool(code.co_flags & 0x08), {**defaults, **(function.__kwdefaults__ or {})}


def bind(cls: type, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor call by name.

    Raises:
        TypeError: a keyword is unknown; the nearest ones are named.
    """
    names, anything, defaults = _signature(cls)
    foreign = [name for name in keywords if name not in names]
    if foreign and not anything:
        raise TypeError(unknown_keywords(cls.__name__, foreign, names))
    given = {**dict(zip(names, arguments, strict=False)), **keywords}
    return {
        name: given[name] if name in given else defaults[name]
        for name in (*names, *foreign) if name in given or name in defaults
    }


@lru_cache(maxsize=1024)
def takes_training(cls: type) -> bool:
    """Tell whether `call` has an argument ``training``, as layers written for Keras have."""
    code = getattr(getattr(cls, "call", None), "__code__", None)
    return code is not None and "training" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def check_shape(where: str, made_for: tuple[int, ...], given: tuple[int, ...]) -> None:
    """Refuse a layer whose ``input_shape`` is not the shape of the samples that it is built for."""
    if given != made_for and not any(map(is_batch, given)):
        raise ValueError(
            f"{where} was made with input_shape={made_for}, and gets samples of shape {show_shape(given)}; leave "
            f"input_shape out, it is for the first layer"
        )


def snake(name: str) -> str:
    """Return a class name as a path.

    >>> snake("LeakyReLU"), snake("Conv2D")
    ('leaky_relu', 'conv2d')
    """
    import re

    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower()
