"""Files that are whole or absent.

A file is written under a temporary name in its own folder, synced, and renamed; a crash at any moment leaves the old
file or the new one, never a part. Files that grow (logs) are written line by line, and a last line that a crash cut off
is removed when the file is opened again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY_SUFFIX = ".tmp-deepbabysit"
# A temporary file that nobody holds is removed when it is older than this; a younger one may be about to be locked.
LEFTOVER_AGE_S = 60.0
_NAME_KEPT = 64


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], Any]) -> None:
    """Write a file so that it is there whole or not at all, and is still there after a power cut.

    Temporary name in the same folder, fsync, rename, fsync of the folder. An existing file keeps its permissions; a
    new one gets those of the umask. A symbolic link is followed.

    Arguments:
        path: the file; its folder must exist.
        content: the bytes, or a function that writes them into the open binary file it is given.

    Raises:
        OSError: the subclass that the system gives (FileNotFoundError, PermissionError, ...), with what to do.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(os.path.join(folder, "a.txt"), b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    target = Path(os.path.realpath(path))
    size = len(content) if isinstance(content, bytes) else None
    temporary: str | None = None
    try:
        if target.is_dir():
            raise OSError(errno.EISDIR, "is a folder")
        handle, temporary = _open_temporary(target)
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            _give_permissions(file.fileno(), target)
            os.fsync(file.fileno())
            os.replace(temporary, target)
            temporary = None
        _sync_folder(target.parent)
    except OSError as error:
        raise explained(error, target, size) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _open_temporary(target: Path) -> tuple[int, str]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:_NAME_KEPT]}.", suffix=TEMPORARY_SUFFIX, dir=target.parent)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: the age alone decides
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle, name


def _give_permissions(handle: int, target: Path) -> None:
    if not hasattr(os, "fchmod"):
        return
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        # The umask can only be read by setting it; a strict one in between cannot open a file of another thread.
        mask = os.umask(0o077)
        os.umask(mask)
        mode = 0o666 & ~mask
    os.fchmod(handle, mode)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system whose folders cannot be synced
            raise
    finally:
        os.close(handle)


def explained(error: OSError, path: str | os.PathLike[str], size: int | None = None) -> OSError:
    """Return the same kind of error with the path and what to do about it."""
    target = Path(path)
    folder = target.parent
    advice = {
        errno.ENOENT: f"the folder {str(folder)!r} does not exist; make it first or choose another path",
        errno.ENOTDIR: f"a part of {str(folder)!r} is a file, not a folder; choose another path",
        errno.EISDIR: "this is a folder; give the name of a file in it",
        errno.EACCES: f"no permission to write in {str(folder)!r}; choose a folder of your own",
        errno.EPERM: f"no permission to write in {str(folder)!r}; choose a folder of your own",
        errno.EROFS: f"the file system of {str(folder)!r} is read-only; choose another folder",
        errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    }.get(error.errno or 0)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = "" if size is None else f"needed {size:,} bytes, "
        try:
            have = f"{shutil.disk_usage(folder).free:,} bytes free"
        except OSError:
            have = "free space unknown"
        advice = f"no room left on the disk or in the quota ({need}{have}); the file that was there before is untouched"
    if advice is None:
        advice = error.strerror or str(error)
    return OSError(error.errno or errno.EIO, advice, str(target))


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now what `atomic_write` would raise later: tried by making and removing a temporary file.

    Raises:
        OSError: as `atomic_write`.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise OSError(errno.EISDIR, "is a folder")
        handle, name = _open_temporary(target)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise explained(error, target) from error


def clear_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove temporary files that a killed process left in a folder; return their names.

    A file that a living process still writes is locked and stays.
    """
    removed = []
    for entry in os.scandir(folder):
        if not entry.name.endswith(TEMPORARY_SUFFIX) or not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < LEFTOVER_AGE_S or _held(entry.path):
                continue
            os.unlink(entry.path)
            removed.append(entry.name)
    return sorted(removed)


def _held(path: str) -> bool:
    if fcntl is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


class FolderLock:
    """Holds a folder: nobody else can take it until it is released, or the process ends, however that happens.

    Where the system has no such locks (Windows), nothing is held.

    Raises:
        RuntimeError: somebody holds it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._handle: int | None = None
        if fcntl is None:
            return
        self._handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RuntimeError(f"another process trains in {os.fspath(path)!r}; name another folder") from error

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.release()


class LineFile:
    """A text file that grows line by line and can be read while it grows.

    Every line reaches the file in one write; a last line without its end, left by a crash, is cut off when the file is
    opened again.

    Arguments:
        path: the file.
        keep: None keeps all whole lines that are there; a number keeps the first so many; 0 begins anew.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with LineFile(os.path.join(folder, "log")) as log:
    ...         log.write("first")
    ...     with LineFile(os.path.join(folder, "log")) as log:
    ...         log.write("second")
    ...     open(os.path.join(folder, "log")).read().split()
    ['first', 'second']
    """

    def __init__(self, path: str | os.PathLike[str], keep: int | None = None) -> None:
        self.path = Path(path)
        self.lines = 0
        try:
            if keep == 0 or not self.path.exists():
                self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115  (closed by close)
            else:
                self._file = open(self.path, "r+b")  # noqa: SIM115
                self._keep(keep)
        except OSError as error:
            raise explained(error, self.path) from error

    def _keep(self, keep: int | None) -> None:
        end = 0
        for line in self._file:
            if not line.endswith(b"\n") or (keep is not None and self.lines >= keep):
                break
            end += len(line)
            self.lines += 1
        self._file.truncate(end)
        self._file.seek(end)

    def write(self, line: str) -> None:
        """Add one line (without its line break) and let readers see it."""
        if "\n" in line:
            raise ValueError(f"one line at a time; got {line!r}")
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise explained(error, self.path, len(line) + 1) from error
        self.lines += 1

    def sync(self) -> None:
        """Make sure that what was written survives a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
