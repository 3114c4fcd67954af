"""Files are whole or absent; errors say what to do; logs survive a cut."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepbabysit.io import files
from deepbabysit.io.files import LineFile, atomic_write, check_writable, clear_leftovers
from deepbabysit.io.text import printable, spreadsheet_cell

SOURCE = Path(__file__).parent.parent / "src"


def test_writes_bytes_and_through_a_function(tmp_path: Path) -> None:
    target = tmp_path / "mit Leer zeichen ä.bin"
    atomic_write(target, b"one")
    assert target.read_bytes() == b"one"
    atomic_write(target, lambda file: file.write(b"two"))
    assert target.read_bytes() == b"two"
    assert os.listdir(tmp_path) == [target.name]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    atomic_write(target, b"old")

    def half(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        atomic_write(target, half)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_order_is_write_sync_rename_sync_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(handle: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        sync(handle)

    def watched_replace(a: str, b: str) -> None:
        seen.append("rename")
        assert Path(a).parent == Path(b).parent
        replace(a, b)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    atomic_write(tmp_path / "a", b"12345")
    assert seen == ["file of 5", "rename", "folder"]


def test_permissions_follow_the_umask_and_are_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", b"x")
        assert os.umask(0o027) == 0o027  # the umask is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "a").chmod(0o604)
    atomic_write(tmp_path / "a", b"y")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


def test_the_temporary_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    def look(file: object) -> None:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600  # type: ignore[attr-defined]

    atomic_write(tmp_path / "a", look)


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("call", [lambda path: atomic_write(path, b"x"), check_writable], ids=["write", "probe"])
def test_errors_keep_their_type_and_say_what_to_do(tmp_path: Path, call: object) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        call(tmp_path / "no" / "a")  # type: ignore[operator]
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        call(tmp_path / "file" / "a")  # type: ignore[operator]
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        call(tmp_path)  # type: ignore[operator]
    with pytest.raises(OSError, match="shorter one"):
        atomic_write(tmp_path / ("x" * 300), b"x")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_a_full_disk_names_what_is_needed_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(tmp_path / "a", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"needed 3 bytes, .* bytes free") as caught:
        atomic_write(tmp_path / "a", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


KILLED = """
import sys, time
from deepbabysit.io.files import atomic_write
def slow(file):
    file.write(b"new" * 1000)
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
atomic_write(sys.argv[1], slow)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_kill_9_in_the_middle_leaves_the_old_file_and_the_leftover_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "model.dbs"
    atomic_write(target, b"old")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    leftover = [name for name in os.listdir(tmp_path) if name != "model.dbs"]
    assert len(leftover) == 1
    old = time.time() - 2 * files.LEFTOVER_AGE_S
    os.utime(tmp_path / leftover[0], (old, old))
    assert clear_leftovers(tmp_path) == []  # old, but still being written
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert target.read_bytes() == b"old"
    os.utime(tmp_path / leftover[0])
    assert clear_leftovers(tmp_path) == []  # nobody holds it, but it is young
    os.utime(tmp_path / leftover[0], (old, old))
    assert clear_leftovers(tmp_path) == leftover
    assert os.listdir(tmp_path) == ["model.dbs"]


def test_a_line_file_is_readable_while_it_grows_and_drops_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LineFile(path)
    log.write("a")
    assert path.read_bytes() == b"a\n"
    log.write("b")
    log.close()
    log.close()
    with path.open("ab") as file:
        file.write(b"half a li")
    with LineFile(path) as log:
        assert log.lines == 2
        log.write("c")
    assert path.read_bytes() == b"a\nb\nc\n"
    with LineFile(path, keep=1) as log:
        log.write("d")
        with pytest.raises(ValueError, match="one line"):
            log.write("two\nlines")
    assert path.read_bytes() == b"a\nd\n"
    with LineFile(path, keep=0):
        pass
    assert path.read_bytes() == b""
    with pytest.raises(FileNotFoundError, match="make it first"):
        LineFile(tmp_path / "no" / "log")


def test_text_is_harmless_where_it_is_shown() -> None:
    assert printable("a\x1b]0;title\x07b\u202ec\x9b31m\r\nd") == "a]0;titlebc31m  d"
    assert printable("Größe µ 中文") == "Größe µ 中文"
    assert [spreadsheet_cell(v) for v in ("=1", "+1", "-1", "@a", "a=1", -1.0)] == [
        "'=1", "'+1", "'-1", "'@a", "a=1", "-1.0",
    ]  # fmt: skip
