"""Published texts as character ids."""

from __future__ import annotations

import os

import numpy as np

from deepbabysit.data.datasets.dataset import Dataset
from deepbabysit.data.datasets.fetch import Remote, find

SHAKESPEARE_FILES = (
    Remote(
        "input.txt",
        1115394,
        "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    ),
)
_MOST_BYTES = 64 << 20


def tiny_shakespeare(root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset:
    """Return 40000 lines of Shakespeare as character ids: x the first 90 %, x_test the rest, as usually published.

    x: int64 (1003854,), x_test: int64 (111540,), y is None: the target is the next character, see `windows`.
    ``class_names[i]`` is the character with id i (65 of them, sorted); ``"".join(data.class_names[i] for i in x[:50])``
    gives text back.

    root: a folder with input.txt. Looked in next: ``$DEEPBABYSIT_DATA/tinyshakespeare`` (or tiny_shakespeare), the
    cache, then a checksummed download.

    Raises FileNotFoundError that says which file to put where; ValueError for a file that is no text.
    Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015.
    """
    folders = ("tinyshakespeare", "tiny_shakespeare")
    (path,) = find("tiny_shakespeare", folders, SHAKESPEARE_FILES, root, download)
    size = path.stat().st_size
    if not 10 <= size <= _MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes; the published text has {SHAKESPEARE_FILES[0].size}")
    try:
        raw = np.frombuffer(path.read_bytes().decode("ascii").encode("ascii"), np.uint8)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not plain ASCII (byte {error.start}); it is not the published text") from error
    letters, ids = np.unique(raw, return_inverse=True)
    ids = ids.astype(np.int64)
    cut = int(len(ids) * 0.9)
    return Dataset(
        name="tiny_shakespeare",
        task="text",
        x=ids[:cut],
        y=None,
        x_test=ids[cut:],
        class_names=tuple(chr(letter) for letter in letters),
        schema={"vocabulary": "".join(chr(letter) for letter in letters)},
        source="github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt",
        licence="public domain",
    )
