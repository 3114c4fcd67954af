"""Lengths that compiled convolutions read."""

from __future__ import annotations

from typing import NamedTuple


class Geometry(NamedTuple):
    """Lengths that the compiled code reads.

    The image that is read has `images` of (height, width, channels). A tile's sums run over `inner` channels of a
    group, its `columns` are channels of a group of the result. A border (`top`, `left`, `bordered` wide) is written
    only for the gradient of the kernel.
    """

    images: int
    height: int
    width: int
    channels: int
    lines: int  # rows of windows
    out_height: int
    out_width: int
    out_channels: int
    groups: int
    inner: int
    columns: int
    wide: int  # columns of a tile
    tall: int  # rows of a tile
    together: int  # images in a block
    rows: int  # rows of windows in a block
    shift: int = 0  # channels from one panel of columns to the next, where every channel stays by itself
    packed: int = 0  # numbers in the weights of a group
    top: int = 0
    left: int = 0
    bordered: int = 0
    padded: int = 0
    down: int = 1  # rows of the image from one row of windows to the next
    along: int = 1  # columns of the image from one window to the next
    span: int = 1  # rows of the image that a row of windows covers
    piece: int = 1  # rows of windows in a piece of a sum over windows
    calls: int = 1  # tiles of a block, about
