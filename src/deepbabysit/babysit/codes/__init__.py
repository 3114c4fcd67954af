"""The table of all finding codes, and what `db.babysit.explain` says about each."""

from __future__ import annotations

from deepbabysit.babysit.codes.code import Code, Explanation
from deepbabysit.babysit.codes.curves import CODES as _CURVES
from deepbabysit.babysit.codes.data import CODES as _DATA
from deepbabysit.babysit.codes.model import CODES as _MODEL
from deepbabysit.babysit.codes.steps import CODES as _STEPS
from deepbabysit.errors import nearest, unknown

__all__ = ["CODES", "Code", "Explanation", "explain", "find"]

CODES: dict[str, Code] = {code.name: code for code in (*_DATA, *_MODEL, *_STEPS, *_CURVES)}


def find(code: str) -> Code:
    """Return the entry of a code.

    Raises:
        ValueError: there is none of that name; the nearest are offered.
    """
    found = CODES.get(code) if isinstance(code, str) else None
    if found is None:
        close = nearest(code, CODES) if isinstance(code, str) else []
        raise ValueError(unknown("finding code", code, close or CODES))
    return found


def explain(code: str) -> Explanation:
    """Return what a finding code means: what is seen, why it matters, what to do, where it is known from.

    Arguments:
        code: the `code` of a Finding, such as ``"dead_relu"``.

    Returns:
        A string; a prompt shows it line by line.

    Raises:
        ValueError: there is no such code; the nearest are offered.

    >>> print(explain("split_leak").splitlines()[0])
    split_leak: the same rows stand in training and validation data
    >>> explain("split_leek")
    Traceback (most recent call last):
    ValueError: unknown finding code 'split_leek'; did you mean 'split_leak'? Valid: split_leak
    """
    return Explanation(find(code).text())
