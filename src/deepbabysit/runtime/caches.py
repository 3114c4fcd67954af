"""Folders for compiled kernels on disk, readable by their owner only.

What lies in them is run as machine code. So a folder is used only where nobody else can have written into it, and it is
never named by a file: it is the user's cache folder, or what the environment variable DEEPBABYSIT_CACHE says.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path


class UnsafeFolder(RuntimeError):
    """Somebody else could have written into the folder; the message names it and why."""


def base_folder() -> Path:
    """Return the folder below which everything is kept."""
    named = os.environ.get("DEEPBABYSIT_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "deepbabysit" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "deepbabysit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepbabysit"


def private_folder(name: str) -> Path:
    """Return a folder of that name below the base, made if need be.

    Raises:
        UnsafeFolder: it, or the folder above, belongs to somebody else, or others may write into it.
        OSError: it cannot be made.
    """
    base = base_folder()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = base / name
    folder.mkdir(mode=0o700, exist_ok=True)
    _need_own(base, 0o022)
    _need_own(folder, 0o077)
    return folder


def _need_own(folder: Path, forbidden: int) -> None:
    """Refuse a folder that is a link, belongs to another user, or is open to others."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"{folder} is no folder of its own (a link or a file)")
    if not hasattr(os, "getuid"):  # Windows: the user's own folder is protected by its access list
        return
    if found.st_uid != os.getuid():
        raise UnsafeFolder(f"{folder} belongs to another user")
    if found.st_mode & forbidden:
        raise UnsafeFolder(f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):o}); chmod 700 it")


def keep(path: Path, content: bytes) -> None:
    """Write a file under a temporary name first, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
