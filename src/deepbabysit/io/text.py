"""Text from elsewhere, made harmless at the place where it is shown: terminals and spreadsheets."""

from __future__ import annotations

# C0 and C1 control characters, and the marks that reverse the direction of text.
_HIDDEN = (*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_STRIPPED = dict.fromkeys(_HIDDEN) | dict.fromkeys((9, 10, 11, 12, 13, 133), " ")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object) -> str:
    """Return text as one line without control characters (terminal codes, line breaks, reversed writing).

    >>> printable("loss\\x1b[31m\\nred")
    'loss[31m red'
    """
    return str(text).translate(_STRIPPED)


def spreadsheet_cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe.

    >>> spreadsheet_cell("=HYPERLINK(1)"), spreadsheet_cell(-0.5), spreadsheet_cell("loss")
    ("'=HYPERLINK(1)", '-0.5', 'loss')
    """
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return "'" + text if text.startswith(_FORMULA) else text
