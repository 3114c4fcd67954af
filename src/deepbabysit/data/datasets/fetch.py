"""Finding the files of a data set on this machine, or downloading them with a checksum."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepbabysit.io.files import atomic_write

TIMEOUT = 30.0  # seconds without a byte
_PIECE = 1 << 20


@dataclass(frozen=True)
class Remote:
    """One published file: name, exact size in bytes, checksum as ``md5:...`` or ``sha256:...``, addresses to try.

    other_names: names under which a local copy is fine too. text: the checksum is of the text with LF line ends and no
    newline at the end, so that copies which differ only there pass; size is then a bound.
    """

    name: str
    size: int
    checksum: str
    urls: tuple[str, ...]
    other_names: tuple[str, ...] = ()
    text: bool = False


def find(
    dataset: str,
    folders: Sequence[str],
    files: Sequence[Remote],
    root: str | os.PathLike[str] | None,
    download: bool = True,
) -> list[Path]:
    """Return where the files are: in root, ``$DEEPBABYSIT_DATA``, the cache; else download them into the cache.

    folders: names of the data set's folder below ``root`` or ``$DEEPBABYSIT_DATA``. Raises FileNotFoundError that says
    where was looked, why the download failed, and which files to put where.
    """
    looked: list[Path] = []
    if root is not None:
        looked += [Path(root), *(Path(root) / folder for folder in folders)]
    shared = os.environ.get("DEEPBABYSIT_DATA")
    if shared:
        looked += [Path(shared) / folder for folder in folders]
    cache = cache_folder() / dataset
    looked.append(cache)
    for folder in looked:
        found = [_present(folder, file) for file in files]
        if all(found):
            return [path for path in found if path is not None]
    if not download or os.environ.get("DEEPBABYSIT_OFFLINE"):
        raise FileNotFoundError(_absent(dataset, files, looked, ["downloading was switched off"]))
    failures: list[str] = []
    paths = [_present(cache, file) or _download(file, cache, failures) for file in files]
    if not all(paths):
        raise FileNotFoundError(_absent(dataset, files, looked, failures))
    return [path for path in paths if path is not None]


def cache_folder() -> Path:
    """Return the folder of the user's cache for data sets; it is made when something is downloaded."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "deepbabysit" / "datasets"


def _present(folder: Path, file: Remote) -> Path | None:
    for name in (file.name, *file.other_names):
        if (folder / name).is_file():
            return folder / name
    return None


def _absent(dataset: str, files: Sequence[Remote], looked: Sequence[Path], failures: Sequence[str]) -> str:
    where = "\n".join(f"  {path}" for path in looked)
    wanted = "\n".join(f"  {f.name}  ({f.size} bytes, {f.checksum})\n    {f.urls[0]}" for f in files)
    why = "\n".join(f"  {reason}" for reason in dict.fromkeys(failures))
    return (
        f"the files of {dataset} are not on this machine. Looked in:\n{where}\nDownload:\n{why}\n"
        f"Put these files into one of the folders above:\n{wanted}"
    )


def _download(file: Remote, folder: Path, failures: list[str]) -> Path | None:
    """Fetch one file into the cache, whole and with the right checksum, or say why not."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    for url in file.urls:
        print(f"downloading {file.name} ({file.size / 1e6:.1f} MB) from {url}", file=sys.stderr)
        try:
            return _fetch(url, file, folder)
        except (OSError, ValueError, HTTPException) as error:
            reason = None if isinstance(error, HTTPError) else getattr(error, "reason", None)
            failures.append(f"{url}: {reason or error or type(error).__name__}")
    return None


def _fetch(url: str, file: Remote, folder: Path) -> Path:
    import hashlib
    import urllib.request

    class CheckedRedirect(urllib.request.HTTPRedirectHandler):
        """Refuse to be sent to an address that would not have been asked for."""

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            _check_address(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    _check_address(url)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    kind, _, wanted = file.checksum.partition(":")
    request = urllib.request.Request(url, headers={"User-Agent": "deepbabysit"})
    opener = urllib.request.build_opener(CheckedRedirect)

    def receive(out: Any) -> None:
        digest = hashlib.new(kind, usedforsecurity=False)
        received = 0
        text = bytearray()
        while piece := answer.read(_PIECE):
            received += len(piece)
            if received > file.size:
                raise ValueError(f"sends more than the expected {file.size} bytes")
            digest.update(piece)
            if file.text:
                text += piece
            out.write(piece)
        if file.text:
            digest = hashlib.new(kind, plain_text(bytes(text)), usedforsecurity=False)
        elif received != file.size:
            raise ValueError(f"sent {received} of {file.size} bytes")
        if digest.hexdigest() != wanted:
            raise ValueError(f"sent another file: {kind} {digest.hexdigest()} instead of {wanted}")

    with opener.open(request, timeout=TIMEOUT) as answer:
        atomic_write(target, receive)
    return target


def plain_text(content: bytes) -> bytes:
    """Return a text with LF line ends and no newline at the end: what the checksum of a text is taken of."""
    return content.replace(b"\r\n", b"\n").rstrip(b"\n")


def _check_address(url: str) -> None:
    """Allow https only; plain http to this very machine is what tests use."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1")):
        raise ValueError(f"refused, not an https address: {url}")
