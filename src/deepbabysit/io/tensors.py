"""Named arrays in one safetensors file, with a checksum for each.

The library `safetensors` does the reading and writing. In front of it stands a stricter check of the header than its
own, so that no damaged or hostile file reaches the parser and nothing is allocated for bytes that are not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np

from deepbabysit.errors import nearest
from deepbabysit.io.files import atomic_write
from deepbabysit.io.text import printable

FORMAT_VERSION = 1
# An architecture and 20,000 tensors with their checksums fit into 8 MiB; the parser of the library takes up to 100 MB.
HEADER_LIMIT = 8 * 1024 * 1024
TENSOR_LIMIT = 20_000
NAME_LIMIT = 1024
AXES_LIMIT = 32
_SIZE_LIMIT = 2**63 - 1

_RESERVED = "deepbabysit."
_VERSION_KEY = _RESERVED + "format"
_CHECKSUM_KEY = _RESERVED + "checksums"
_SEAL_KEY = _RESERVED + "seal"

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_NAMES = {code: name for name, code in _DTYPES.items()}


class DamagedFileError(ValueError):
    """A file that is not whole: cut off, changed, or never a file of tensors."""


class NewerFormatError(ValueError):
    """A file that a newer version of the package wrote."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a header says about one tensor: name, dtype (NumPy's name), shape, first and last byte in the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, read from its header alone."""

    entries: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    checksums: dict[str, str]
    version: int | None


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays and texts into one safetensors file, whole or not at all.

    A sha256 checksum for each tensor (over dtype, shape and bytes), one over the metadata, and the version of the
    format go into the metadata.

    Arguments:
        path: the file.
        tensors: arrays by name; float64/32/16, bfloat16, signed and unsigned integers, bool.
        metadata: texts by name; names that begin with ``deepbabysit.`` are reserved.

    Raises:
        TypeError: an array's dtype or a metadata value cannot be stored; the message names it.
        ValueError: a name is empty, too long, holds control characters or is reserved; or there are too many tensors.
        OSError: the file cannot be written.
    """
    import safetensors

    texts = dict(metadata or {})
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"metadata holds texts by name; {key!r} is {type(text).__name__}: store it as JSON text")
        if key.startswith(_RESERVED):
            raise ValueError(f"metadata names that begin with {_RESERVED!r} are reserved; rename {key!r}")
    if len(tensors) > TENSOR_LIMIT:
        raise ValueError(f"a file holds at most {TENSOR_LIMIT:,} tensors; got {len(tensors):,}: write several files")
    flat: dict[str, Any] = {}
    alive: list[np.ndarray] = []
    checksums: dict[str, str] = {}
    for name, value in tensors.items():
        problem = _name_problem(name)
        if problem:
            raise ValueError(f"tensor name {name!r} {problem}")
        array = np.asarray(value)
        if array.dtype.name not in _DTYPES:
            raise TypeError(
                f"tensor {name!r} has dtype {array.dtype}, which the file format cannot hold; "
                f"convert it to one of {', '.join(_DTYPES)}"
            )
        if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
            array = array.astype(array.dtype.newbyteorder("<"))
        # The library takes memory as it lies: a transposed array would be stored in the wrong order.
        array = np.asarray(array, order="C")
        alive.append(array)
        checksums[name] = _digest(array.dtype.name, array.shape, array)
        flat[name] = safetensors.TensorSpec(
            dtype=array.dtype.name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
    texts[_VERSION_KEY] = str(FORMAT_VERSION)
    texts[_CHECKSUM_KEY] = json.dumps(checksums, separators=(",", ":"))
    texts[_SEAL_KEY] = _seal(texts)
    content = memoryview(safetensors.serialize(flat, metadata=texts))
    length = int.from_bytes(content[:8], "little")
    header = _ordered(bytes(content[8 : 8 + length]))
    if len(header) > HEADER_LIMIT:
        raise ValueError(
            f"names and metadata take {len(header):,} bytes; at most {HEADER_LIMIT:,} fit: shorten the metadata"
        )

    def write(file: BinaryIO) -> None:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(content[8 + length :])

    atomic_write(path, write)


def _ordered(header: bytes) -> bytes:
    """Return a header with its metadata in order (the library's is random): the same content gives the same file."""
    parsed = json.loads(header)
    parsed["__metadata__"] = dict(sorted(parsed["__metadata__"].items()))
    text = json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def read_tensors(path: str | os.PathLike[str], foreign: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what `write_tensors` wrote, and verify every checksum.

    Arguments:
        path: the file.
        foreign: also take safetensors files of other programs, which have no checksums.

    Returns:
        The arrays by name (writable, in the order in which they were given) and the metadata given to `write_tensors`.

    Raises:
        DamagedFileError: the file is cut off or changed; a ValueError that names the tensor where it can.
        NewerFormatError: a newer version wrote it.
        OSError: the file cannot be opened.
    """
    import safetensors

    name = _show(path)
    contents, data = _open(path, whole=True)
    if contents.version is None and not foreign:
        raise DamagedFileError(
            f"{name} was not written by deepbabysit: it has no format version and no checksums; "
            "pass foreign=True to read the tensors of another program"
        )
    tensors: dict[str, np.ndarray] = {}
    try:
        found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise DamagedFileError(f"{name} cannot be read: {error}") from error
    for entry in contents.entries:
        item = found.get(entry.name)
        if item is None or tuple(item["shape"]) != entry.shape or _NAMES.get(item["dtype"]) != entry.dtype:
            raise DamagedFileError(f"{name}: the two readers of the header disagree about tensor {entry.name!r}")
        raw = item["data"]
        array = np.frombuffer(raw if isinstance(raw, bytearray) else bytearray(raw), dtype=_dtype(entry.dtype, name))
        array = array.reshape(entry.shape)
        if contents.version is not None and _digest(entry.dtype, entry.shape, array) != contents.checksums[entry.name]:
            raise DamagedFileError(
                f"{name}: tensor {entry.name!r} (shape {list(entry.shape)}, {entry.dtype}) does not match its "
                "checksum; the file has been damaged, use an earlier copy"
            )
        tensors[entry.name] = array
    order = contents.checksums or tensors
    return {key: tensors[key] for key in order}, dict(contents.metadata)


def inspect_tensors(path: str | os.PathLike[str]) -> Contents:
    """Read and check the header alone: names, dtypes, shapes, metadata. The tensors' bytes are not read.

    Raises:
        DamagedFileError, NewerFormatError, OSError: as `read_tensors`.
    """
    return _open(path, whole=False)[0]


def _open(path: str | os.PathLike[str], whole: bool) -> tuple[Contents, bytes]:
    name = _show(path)
    # Not to wait for ever: opening a named pipe without a writer blocks.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFileError(f"{name} is not an ordinary file")
        size = status.st_size
        if size < 8:
            _damaged(name, f"{size} bytes are too few for a file of tensors")
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if length > HEADER_LIMIT:
            _damaged(name, f"the header claims {length:,} bytes; at most {HEADER_LIMIT:,} are accepted")
        if length > size - 8:
            _damaged(name, f"the header claims {length:,} bytes; the file has {size - 8:,} after its length")
        header = file.read(length)
        if len(header) != length:
            _damaged(name, "the header is cut off")
        contents = _check(name, header, size - 8 - length)
        if not whole:
            return contents, b""
        data = file.read(size - 8 - length)
        if len(data) != size - 8 - length:
            _damaged(name, "the file became shorter while it was read")
        return contents, start + header + data


def _check(name: str, header: bytes, present: int) -> Contents:
    """Check a header against the number of data bytes that are there."""
    parsed = _parse(name, header)
    raw_metadata = parsed.pop("__metadata__", {})
    if not isinstance(raw_metadata, dict) or not all(isinstance(value, str) for value in raw_metadata.values()):
        _damaged(name, "the metadata holds something else than texts")
    if len(parsed) > TENSOR_LIMIT:
        _damaged(name, f"the header lists {len(parsed):,} tensors; at most {TENSOR_LIMIT:,} are accepted")
    entries = sorted((_entry(name, key, value) for key, value in parsed.items()), key=lambda e: (e.begin, e.end))
    reached = 0
    for entry in entries:
        if entry.begin < reached:
            _damaged(name, f"tensor {entry.name!r} overlaps the one before it")
        if entry.begin > reached:
            _damaged(name, f"{entry.begin - reached} bytes before tensor {entry.name!r} belong to nothing")
        reached = entry.end
        if reached > present:
            _damaged(
                name, f"tensor {entry.name!r} ends at byte {reached:,}; {present:,} bytes of data are there: cut off"
            )
    if reached != present:
        _damaged(name, f"{present - reached:,} bytes follow the last tensor")
    version = _version(name, raw_metadata)
    checksums: dict[str, str] = {}
    if version is not None:
        if raw_metadata.get(_SEAL_KEY) != _seal(raw_metadata):
            _damaged(name, "the metadata does not match its checksum")
        checksums = _parse(name, raw_metadata.get(_CHECKSUM_KEY, "").encode())
        missing = sorted(parsed.keys() ^ checksums.keys())
        if missing:
            _damaged(name, f"tensors and checksums do not belong together: {', '.join(map(repr, missing[:3]))}")
    metadata = {key: value for key, value in raw_metadata.items() if not key.startswith(_RESERVED)}
    return Contents(tuple(entries), metadata, checksums, version)


def _parse(name: str, text: bytes) -> dict[str, Any]:
    """Parse JSON that is an object: no double keys, no fractions, no numbers beyond 64 bits, no endless nesting."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            _damaged(name, f"the header holds the name {twice[:80]!r} twice")
        return found

    def whole(digits: str) -> int:
        if len(digits) > 19 or int(digits) > _SIZE_LIMIT:
            _damaged(name, f"the header holds a number of {len(digits)} digits")
        return int(digits)

    def refused(number: str) -> NoReturn:
        _damaged(name, f"the header holds {number!r} where a whole number belongs")

    try:
        decoded = text.decode("utf-8")
        if not decoded.startswith("{"):  # the format forbids white space in front
            _damaged(name, "the header is not a JSON object")
        parsed = json.loads(
            decoded, object_pairs_hook=pairs, parse_int=whole, parse_float=refused, parse_constant=refused
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{name} is damaged: the header is not valid JSON ({error})") from error
    except RecursionError:
        raise DamagedFileError(f"{name} is damaged: the header is nested too deeply") from None
    found: dict[str, Any] = parsed  # an object, for it begins with a brace
    return found


def _entry(file: str, name: str, value: Any) -> TensorEntry:
    problem = _name_problem(name)
    if problem:
        _damaged(file, f"tensor name {name[:80]!r} {problem}")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _damaged(file, f"tensor {name!r} needs dtype, shape and data_offsets, and nothing else")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _ITEM_BYTES:
        close = nearest(code, _ITEM_BYTES) if isinstance(code, str) else []
        hint = f" (near: {', '.join(close)})" if close else ""
        _damaged(file, f"tensor {name!r} has the unknown dtype {str(code)[:40]!r}{hint}")
    if not _sizes(shape) or len(shape) > AXES_LIMIT:
        _damaged(file, f"tensor {name!r} has no valid shape: up to {AXES_LIMIT} whole numbers, none negative")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _damaged(file, f"tensor {name!r} has no valid data_offsets")
    count = _ITEM_BYTES[code]
    for length in shape:
        count *= max(length, 1)  # an axis of length 0 must not hide a product that does not fit
        if count > _SIZE_LIMIT:
            _damaged(file, f"the shape of tensor {name!r} has more elements than 64 bits can count")
    if 0 in shape:
        count = 0
    if offsets[1] - offsets[0] != count:
        _damaged(file, f"tensor {name!r} needs {count:,} bytes; its place has {offsets[1] - offsets[0]:,}")
    return TensorEntry(name, _NAMES[code], tuple(shape), offsets[0], offsets[1])


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _name_problem(name: Any) -> str:
    if not isinstance(name, str) or not name or name == "__metadata__":
        return "is not a name"
    if len(name) > NAME_LIMIT:
        return f"is longer than {NAME_LIMIT} characters"
    if not name.isprintable():  # control characters, and halves of surrogate pairs
        return "holds characters that cannot be printed"
    return ""


def _version(name: str, metadata: Mapping[str, str]) -> int | None:
    text = metadata.get(_VERSION_KEY)
    if text is None:
        if any(key.startswith(_RESERVED) for key in metadata):
            _damaged(name, "the format version is missing")
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        _damaged(name, f"{text[:40]!r} is not a format version")
    if int(text) > FORMAT_VERSION:
        raise NewerFormatError(
            f"{name} was written by a newer deepbabysit (format {int(text)}; this one reads up to {FORMAT_VERSION}); "
            "update with: pip install -U deepbabysit"
        )
    if int(text) < 1:
        _damaged(name, f"there is no format version {text}")
    return int(text)


def _digest(dtype: str, shape: tuple[int, ...], array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{dtype} {list(shape)}\n".encode())
    if array.size:
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _seal(metadata: Mapping[str, str]) -> str:
    """Return the checksum over the metadata: the checksums of the tensors are part of it."""
    items = sorted((key, value) for key, value in metadata.items() if key != _SEAL_KEY)
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()


def _dtype(dtype: str, file: str) -> np.dtype[Any]:
    if dtype != "bfloat16":
        return np.dtype(dtype).newbyteorder("<")
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(f"{file} holds bfloat16 tensors; install ml_dtypes with: pip install ml_dtypes") from error
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _show(path: str | os.PathLike[str]) -> str:
    return repr(printable(os.fspath(path)))


def _damaged(name: str, reason: str) -> NoReturn:
    raise DamagedFileError(f"{name} is damaged or no file of tensors: {reason}")
