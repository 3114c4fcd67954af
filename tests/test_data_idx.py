"""IDX files: round trip over types and shapes, and headers that lie."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepbabysit.data import idx, read_idx, write_idx

quick = settings(
    derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(
    dtype=st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8", ">i2", ">f8"]),
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    packed=st.booleans(),
)
def test_round_trip(tmp_path, dtype, shape, packed):
    array = (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    path = tmp_path / ("a.idx.gz" if packed else "a.idx")
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=") and back.shape == array.shape
    assert np.array_equal(back, array) and back.flags.writeable and back.dtype.isnative
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_the_format_is_mnists(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    assert read_idx(path).tolist() == [5, 0, 4]
    write_idx(tmp_path / "images", np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
    content = (tmp_path / "images").read_bytes()
    assert struct.unpack(">IIII", content[:16]) == (2051, 2, 2, 2) and content[16:] == bytes(range(8))


def _header(code=8, sizes=(2, 2), axes=None, zeros=b"\0\0"):
    return zeros + bytes([code, len(sizes) if axes is None else axes]) + struct.pack(f">{len(sizes)}I", *sizes)


HOSTILE = [
    (b"", "no IDX file"),
    (b"\0\0\x08", "no IDX file"),
    (_header(zeros=b"\x89P") + b"1234", "no IDX file"),
    (_header(code=0x0A) + b"1234", "unknown IDX type 0x0a"),
    (_header(sizes=(), axes=0), "0 dimensions"),
    (_header(sizes=(1,) * 4, axes=255) + b"1", "255 dimensions"),
    (_header(sizes=(1,), axes=3), "ends inside its header"),
    (_header() + b"123", "cut off"),
    (_header() + b"12345", "(cut off or )?damaged"),
    (_header(sizes=(2**32 - 1,) * 4) + b"12", "cut off|can hold"),
    (_header(sizes=(2**32 - 1, 2**32 - 1, 1, 0)) + b"12", "damaged"),
    (_header(sizes=(2**32 - 1, 2**32 - 1, 2**32 - 1, 0)), "no array has such a shape"),
    (_header(code=0x0E, sizes=(2**31,)) + b"12", "cut off|can hold"),
]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "says"), HOSTILE)
def test_lying_headers_are_refused_before_memory_is_taken(tmp_path, monkeypatch, content, says, packed):
    taken = []
    real = np.empty
    monkeypatch.setattr(idx.np, "empty", lambda size, *rest: taken.append(size) or real(size, *rest))
    path = tmp_path / "x.idx"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=says):
        read_idx(path)
    assert sum(taken) < 100_000


def test_damaged_gzip(tmp_path):
    path = tmp_path / "x.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 255, 5000).astype(np.uint8))
    content = path.read_bytes()
    for spoiled in (content[:-20], content[:200], content[:-6] + b"\1\2" + content[-4:], content[:6]):
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match="damaged|cut off"):
            read_idx(path)


def test_compression_bombs_are_refused(tmp_path, monkeypatch):
    zeros = np.zeros(2_000_000, np.uint8)
    write_idx(tmp_path / "zeros.gz", zeros)
    assert len(read_idx(tmp_path / "zeros.gz")) == 2_000_000, "below the floor this is no attack"
    monkeypatch.setattr(idx, "_EXPANSION_FLOOR", 1_000_000)
    with pytest.raises(ValueError, match="over 100 times"):
        read_idx(tmp_path / "zeros.gz")


def test_absent_file_and_bad_arrays(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
    with pytest.raises(TypeError, match="no type for int64"):
        write_idx(tmp_path / "a", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="1 to 32 dimensions"):
        write_idx(tmp_path / "a", np.uint8(3))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from deepbabysit.io import files

    path = tmp_path / "a.idx"
    write_idx(path, np.arange(3, dtype=np.uint8))

    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_idx(path, np.zeros(9, np.uint8))
    assert read_idx(path).tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1
