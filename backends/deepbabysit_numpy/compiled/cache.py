"""The folder of compiled kernels on disk: one per version of everything that made them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deepbabysit.runtime.caches import private_folder


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
    return private_folder(f"numba-{numba}-{numpy}-{_plain(cpu)}-{sources}")


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)[:40] or "cpu"
