"""The folder of compiled kernels on disk: one per version of everything that made them, readable by its owner only.

What lies in it is run as machine code. So it is used only where nobody else can have written into it, and never named
by a file: it is the user's cache folder, or what the environment variable DEEPBABYSIT_CACHE says.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
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


def sources_digest(folder: Path) -> str:
    """Return a short digest of the kernels' sources: a kernel may call one from another file."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def kernel_folder(numba: str, numpy: str, cpu: str, sources: str) -> Path:
    """Return the folder for these versions, made if need be.

    Raises:
        UnsafeFolder: it, or the folder above, belongs to somebody else, or others may write into it.
        OSError: it cannot be made.
    """
    base = base_folder()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = base / f"numba-{numba}-{numpy}-{_plain(cpu)}-{sources}"
    folder.mkdir(mode=0o700, exist_ok=True)
    _need_own(base, 0o022)
    _need_own(folder, 0o077)
    return folder


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)[:40] or "cpu"


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
