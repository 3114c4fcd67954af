"""Tensor files: what is written is read; what is damaged or hostile is refused before anything is allocated."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepbabysit.io import tensors as module
from deepbabysit.io.tensors import (
    DamagedFileError,
    NewerFormatError,
    inspect_tensors,
    read_tensors,
    write_tensors,
)

FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
DTYPES = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1", "?", ">f4", ">i8"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name.isprintable() and name != "__metadata__"
)


def example(path: Path) -> dict[str, np.ndarray]:
    values = {
        "0.kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
        "0.bias": np.zeros(4, np.float32),
        "empty": np.zeros((0, 3), np.int8),
        "step": np.array(7, np.int64),
    }
    write_tensors(path, values, {"architecture": '{"layers": []}'})
    return values


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@FOLDER
@given(st.dictionaries(NAMES, ARRAYS, max_size=5), st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"))))
def test_round_trip(tmp_path: Path, values: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    metadata = {key: text for key, text in metadata.items() if not key.startswith("deepbabysit.")}
    write_tensors(tmp_path / "a", values, metadata)
    read, texts = read_tensors(tmp_path / "a")
    assert list(read) == list(values)
    assert texts == metadata
    for name, value in values.items():
        assert read[name].shape == value.shape
        assert read[name].dtype == value.dtype.newbyteorder("<")
        assert read[name].tobytes() == value.astype(value.dtype.newbyteorder("<")).tobytes()
        assert read[name].flags.writeable


def test_strided_arrays_are_stored_in_their_order(tmp_path: Path) -> None:
    base = np.arange(24.0).reshape(4, 6)
    values = {"transposed": base.T, "stepped": base[::2, ::-3], "broadcast": np.broadcast_to(base[0], (3, 6))}
    write_tensors(tmp_path / "a", values)
    for name, value in read_tensors(tmp_path / "a")[0].items():
        np.testing.assert_array_equal(value, values[name])


def test_bfloat16(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    write_tensors(tmp_path / "a", {"w": value})
    assert inspect_tensors(tmp_path / "a").entries[0].dtype == "bfloat16"
    assert read_tensors(tmp_path / "a")[0]["w"].tobytes() == value.tobytes()


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key {i}": str(i) for i in range(20)}
    for name in "ab":
        write_tensors(tmp_path / name, {"w": np.ones(3)}, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_is_a_safetensors_file_and_foreign_ones_are_read_on_request(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    values = example(tmp_path / "ours")
    theirs = load_file(tmp_path / "ours")
    assert theirs.keys() == values.keys()
    np.testing.assert_array_equal(theirs["0.kernel"], values["0.kernel"])
    save_file({"w": np.ones(2)}, tmp_path / "theirs", metadata={"format": "np"})
    with pytest.raises(DamagedFileError, match="foreign=True"):
        read_tensors(tmp_path / "theirs")
    read, metadata = read_tensors(tmp_path / "theirs", foreign=True)
    assert read["w"].tolist() == [1.0, 1.0]
    assert metadata == {"format": "np"}


def test_inspect_reads_no_data(tmp_path: Path) -> None:
    example(tmp_path / "a")
    contents = inspect_tensors(tmp_path / "a")
    assert {e.name: (e.dtype, e.shape) for e in contents.entries}["0.kernel"] == ("float32", (3, 4))
    assert contents.metadata == {"architecture": '{"layers": []}'}
    assert contents.version == 1


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    values = example(path)
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        for bit in (0, 3, 7) if position > 8 else range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                read, metadata = read_tensors(path)
            except (DamagedFileError, NewerFormatError):
                noticed += 1
                continue
            # What is not noticed must not matter: white space in the header.
            assert metadata == {"architecture": '{"layers": []}'}
            for name, value in values.items():
                assert read[name].tobytes() == value.tobytes()
                assert read[name].shape == value.shape
    assert noticed > 3 * (len(whole) - 16)


def test_every_truncation_and_any_appended_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    example(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError):
            read_tensors(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedFileError, match="1 bytes follow the last tensor"):
        read_tensors(path)


def test_the_damaged_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    example(path)
    whole = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    for item in inspect_tensors(path).entries:
        if item.begin < item.end:
            changed = bytearray(whole)
            changed[start + item.end - 1] ^= 0x40
            path.write_bytes(changed)
            with pytest.raises(DamagedFileError, match=f"tensor '{item.name}' .*does not match its checksum"):
                read_tensors(path)


def test_swapped_names_and_shapes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"aa": np.array([1.0, 2.0]), "bb": np.array([3.0, 4.0])})
    whole = path.read_bytes()
    for old, new in ((b'"aa":{', b'"bb":{'), (b'"shape":[2]', b'"shape":[1]')):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(DamagedFileError):
            read_tensors(path)
    # exchange the names in the header alone: every tensor is where the other one was
    exchanged = whole.replace(b'"aa":{', b'"??":{').replace(b'"bb":{', b'"aa":{').replace(b'"??":{', b'"bb":{')
    path.write_bytes(exchanged)
    with pytest.raises(DamagedFileError, match="checksum"):
        read_tensors(path)


HOSTILE = {
    "overlap": ({"a": entry(), "b": entry()}, 4, "overlaps"),
    "hole": ({"a": entry(), "b": entry(offsets=(8, 12))}, 12, "belong to nothing"),
    "hole in front": ({"a": entry(offsets=(4, 8))}, 8, "belong to nothing"),
    "trailing": ({"a": entry()}, 5, "follow the last"),
    "cut off": ({"a": entry()}, 3, "cut off"),
    "empty inside": ({"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(shape=(0,), offsets=(4, 4))}, 8, "overlaps"),
    "empty beyond": ({"a": entry(), "b": entry(shape=(0,), offsets=(9, 9))}, 4, "belong to nothing"),
    "unknown dtype": ({"a": entry(dtype="F23")}, 4, "unknown dtype 'F23'"),
    "dtype is a list": ({"a": entry(dtype=["F32"])}, 4, "unknown dtype"),  # type: ignore[arg-type]
    "wrong size": ({"a": entry(shape=(2,))}, 4, "needs 8 bytes"),
    "product overflow": ({"a": entry(shape=(2**40, 2**40))}, 4, "64 bits"),
    "hidden overflow": ({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}, 0, "64 bits"),
    "far end": ({"a": entry(shape=(2**40,), offsets=(0, 2**42))}, 4, "cut off"),
    "negative": ({"a": entry(shape=(-1,), offsets=(0, 4))}, 4, "no valid shape"),
    "true as a size": ({"a": entry(shape=(True,))}, 4, "no valid shape"),
    "too many axes": ({"a": entry(shape=[1] * 33)}, 4, "no valid shape"),
    "offsets reversed": ({"a": entry(offsets=(4, 0))}, 4, "data_offsets"),
    "three offsets": ({"a": entry(offsets=(0, 4, 4))}, 4, "data_offsets"),
    "extra key": ({"a": entry() | {"code": "x"}}, 4, "nothing else"),
    "not an entry": ({"a": 7}, 4, "nothing else"),
    "metadata number": ({"__metadata__": {"a": 1}}, 0, "texts"),
    "metadata list": ({"__metadata__": []}, 0, "texts"),
    "fraction": (b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', 4, "whole number"),
    "NaN": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', 4, "whole number"),
    "long number": (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', 4, "digits"),
    "duplicate": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                  + b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, "'a' twice"),
    "duplicate inside": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, "twice"),
    "deep": (b'{"a":' + b"[" * 1_000_000, 0, "nested too deeply"),
    "no object": (b"[]", 0, "not a JSON object"),
    "space in front": (b" {}", 0, "not a JSON object"),
    "no UTF-8": (b'{"\xff":1}', 0, "not valid JSON"),
    "empty name": ({"": entry()}, 4, "is not a name"),
    "control in a name": ({"<script>\0": entry()}, 4, "cannot be printed"),
    "half a pair": (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, "cannot be printed"),
    "long name": ({"a" * 2000: entry()}, 4, "longer than"),
    "many tensors": ({str(i): entry(shape=(0,), offsets=(0, 0)) for i in range(20_001)}, 0, "at most 20,000"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(tmp_path: Path, name: str) -> None:
    header, size, text = HOSTILE[name]
    path = raw_file(tmp_path / "a", header, b"\0" * size)
    for read in (lambda: read_tensors(path, foreign=True), lambda: inspect_tensors(path)):
        with pytest.raises(DamagedFileError, match=text) as caught:
            read()
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()


def test_lengths_are_believed_only_as_far_as_there_are_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    tracemalloc.start()
    try:
        for length, text in ((2**63, "at most"), (module.HEADER_LIMIT, "the file has 2 after"), (3, "the file has 2")):
            path.write_bytes(length.to_bytes(8, "little") + b"{}")
            with pytest.raises(DamagedFileError, match=text):
                read_tensors(path)
        huge = raw_file(path, {"a": entry(dtype="U8", shape=(2**40,), offsets=(0, 2**40))})
        with pytest.raises(DamagedFileError, match="cut off"):
            read_tensors(huge, foreign=True)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@FOLDER
@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, length: int) -> None:
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + data)
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path / "a")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F8_E4M3", "", 4]),
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 9), min_size=2, max_size=2) | JSON,
    }
)


@FOLDER
@given(
    st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), ENTRIES | JSON, max_size=3), st.binary(max_size=9)
)
def test_any_header_is_read_or_refused_and_never_more_liberal_than_the_library(
    tmp_path: Path, header: dict[str, Any], data: bytes
) -> None:
    import safetensors

    path = raw_file(tmp_path / "a", header, data)
    try:
        read_tensors(path, foreign=True)
    except DamagedFileError:
        return
    safetensors.deserialize(path.read_bytes())


def test_newer_formats_and_broken_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    example(tmp_path / "a")
    monkeypatch.setattr(module, "FORMAT_VERSION", 1)
    with pytest.raises(NewerFormatError, match=r"format 2; this one reads up to 1\); update with: pip install -U"):
        read_tensors(tmp_path / "a")
    for text in ("0", "-1", "x", "9" * 30, "²"):
        path = raw_file(tmp_path / "b", {"__metadata__": {"deepbabysit.format": text}})
        with pytest.raises(DamagedFileError, match="format version"):
            read_tensors(path)
    path = raw_file(tmp_path / "b", {"__metadata__": {"deepbabysit.seal": "x"}})
    with pytest.raises(DamagedFileError, match="version is missing"):
        read_tensors(path)


def test_what_cannot_be_written_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for dtype in ("O", "U3", "c16", "M8[s]"):
        with pytest.raises(TypeError, match=r"tensor 'w' has dtype"):
            write_tensors(path, {"w": np.zeros(2, dtype)})
    for name, text in (("", "not a name"), ("a\n", "printed"), ("x" * 1025, "longer"), ("__metadata__", "not a name")):
        with pytest.raises(ValueError, match=text):
            write_tensors(path, {name: np.zeros(2)})
    with pytest.raises(TypeError, match="'epochs' is int"):
        write_tensors(path, {}, {"epochs": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="reserved"):
        write_tensors(path, {}, {"deepbabysit.format": "7"})
    with pytest.raises(ValueError, match="shorten the metadata"):
        write_tensors(path, {}, {"a": "x" * module.HEADER_LIMIT})
    assert not path.exists()


def test_pipes_and_folders_are_no_tensor_files(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_tensors(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "no")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DamagedFileError, match="not an ordinary file"):
            read_tensors(tmp_path / "pipe")


def test_a_duplicate_among_many_names_is_found_in_one_pass(tmp_path: Path) -> None:
    header = b"{" + b",".join(b'"%d":1' % i for i in range(200_000)) + b',"199999":1}'
    path = raw_file(tmp_path / "a", header)
    with pytest.raises(DamagedFileError, match="twice"):  # a quadratic search would take minutes here
        read_tensors(path)
