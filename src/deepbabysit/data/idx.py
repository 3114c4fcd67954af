"""The IDX format of MNIST: a big-endian header with the shape, then the numbers.

Format: two zero bytes, a type byte, the number of dimensions, each dimension as 4 bytes, the data in C order
(LeCun, Cortes, Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from deepbabysit.io.files import atomic_write

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(text).newbyteorder("="): code for code, text in _TYPES.items()}
_MOST_AXES = 32
# A compressed file may declare at most this much: deflate cannot shrink by more than 1032, and beyond a floor
# a file that expands a hundredfold is no data set but an attack on the memory.
_DEFLATE_LIMIT = 1040
_EXPANSION_LIMIT = 100
_EXPANSION_FLOOR = 256 << 20


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or gzip-compressed (recognized by its first bytes), into an array in native byte order.

    path: the file. The declared size is checked against the bytes present before memory is taken; for a compressed file
    against what these bytes can expand to.

    Raises FileNotFoundError; ValueError for a wrong magic number, type or dimension count, too few or too many bytes, a
    damaged compressed stream, or an expansion beyond 100 times the file (from 256 MiB on).
    """
    file = Path(path)
    with open(file, "rb") as raw:
        present = os.fstat(raw.fileno()).st_size
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            return _read(raw, file, present, compressed=False)
        import gzip
        import zlib

        try:
            with gzip.open(raw, "rb") as unpacked:
                return _read(cast(IO[bytes], unpacked), file, present, compressed=True)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file} is a damaged gzip file ({error}); download it again") from error


def _read(stream: IO[bytes], file: Path, present: int, compressed: bool) -> NDArray[Any]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise ValueError(f"{file} is no IDX file: it begins with {head!r}, expected two zero bytes, type, dimensions")
    if head[2] not in _TYPES:
        known = ", ".join(f"0x{code:02x}" for code in _TYPES)
        raise ValueError(f"{file} declares the unknown IDX type 0x{head[2]:02x}; known: {known}")
    axes = head[3]
    if not 1 <= axes <= _MOST_AXES:
        raise ValueError(f"{file} declares {axes} dimensions; expected 1 to {_MOST_AXES}")
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError(f"{file} ends inside its header: {axes} dimensions are declared")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_TYPES[head[2]])
    wanted = dtype.itemsize
    for size in shape:  # Python integers: the product cannot overflow
        wanted *= size
    header = 4 + 4 * axes
    told = f"{file} declares shape {shape} of {dtype.newbyteorder('=')}, {wanted} bytes"
    if not compressed and wanted != present - header:
        raise ValueError(f"{told}, but {present - header} bytes follow its header; the file is cut off or damaged")
    if compressed and wanted > present * _DEFLATE_LIMIT:
        raise ValueError(f"{told}, more than its {present} compressed bytes can hold; the file is damaged")
    if compressed and wanted > max(_EXPANSION_FLOOR, present * _EXPANSION_LIMIT):
        raise ValueError(
            f"{told}, over {_EXPANSION_LIMIT} times its {present} compressed bytes; unpack it first if you trust it"
        )
    data = np.empty(wanted, np.uint8)
    filled = _fill(stream, data.data) if wanted else 0
    if filled < wanted:
        raise ValueError(f"{told}, but only {filled} bytes are there; the file is cut off")
    if stream.read(1):
        raise ValueError(f"{told}, but more bytes follow; the file is damaged")
    try:
        array = data.view(dtype).reshape(shape)
    except ValueError as error:  # a zero among sizes whose product overflows
        raise ValueError(f"{told}; no array has such a shape, the file is damaged") from error
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False))


def _fill(stream: IO[bytes], buffer: memoryview) -> int:
    """Read until the buffer is full or the stream ends; a gzip stream gives less than asked for."""
    filled = 0
    while filled < len(buffer):
        piece = stream.read(min(len(buffer) - filled, 1 << 20))
        if not piece:
            break
        buffer[filled : filled + len(piece)] = piece
        filled += len(piece)
    return filled


def write_idx(path: str | os.PathLike[str], array: Any) -> None:
    """Write an array as an IDX file, gzip-compressed when the name ends in ``.gz``; whole or not at all.

    array: uint8, int8, int16, int32, float32 or float64, 1 to 32 dimensions below 2**32 each.

    Raises TypeError for another dtype, ValueError for another number of dimensions.
    """
    data = np.asarray(array)
    code = _CODES.get(data.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(dtype) for dtype in _CODES)
        raise TypeError(f"IDX has no type for {data.dtype}; convert to one of {known}")
    if not 1 <= data.ndim <= _MOST_AXES or any(size >= 1 << 32 for size in data.shape):
        raise ValueError(f"IDX holds 1 to {_MOST_AXES} dimensions below 2**32, got shape {data.shape}")
    content = struct.pack(f">BBBB{data.ndim}I", 0, 0, code, data.ndim, *data.shape)
    content += data.astype(data.dtype.newbyteorder(">"), copy=False).tobytes()
    if str(path).endswith(".gz"):
        import gzip

        content = gzip.compress(content, mtime=0)
    atomic_write(path, content)
