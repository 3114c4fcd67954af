"""MNIST, Fashion-MNIST and CIFAR-10 from their published binary files; nothing is unpickled or unpacked to disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepbabysit.data.datasets.dataset import Dataset
from deepbabysit.data.datasets.fetch import Remote, find
from deepbabysit.data.idx import read_idx

_PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_files(bases: tuple[str, ...], facts: tuple[tuple[int, str], ...]) -> tuple[Remote, ...]:
    return tuple(
        Remote(f"{part}.gz", size, f"md5:{md5}", tuple(f"{base}/{part}.gz" for base in bases), (part,))
        for part, (size, md5) in zip(_PARTS, facts, strict=True)
    )


MNIST_FILES = _idx_files(
    ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist"),
    (
        (9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        (28881, "d53e105ee54ea40749a09fcbcd1e9432"),
        (1648877, "9fb629c4189551a2d022fa330f9573f3"),
        (4542, "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
)
FASHION_FILES = _idx_files(
    ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",),
    (
        (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        (29515, "25c81989df183df01b3e8a0aad5dffbe"),
        (4422102, "bef4ecab320f06d8554ea6380940ec79"),
        (5148, "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
)
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def mnist(root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset:
    """Return MNIST: 60000 + 10000 handwritten digits, uint8 (N, 28, 28), 0 is background; labels int64.

    root: a folder with the four IDX files (``.gz`` or unpacked). Looked in next: ``$DEEPBABYSIT_DATA/mnist``, the
    user's cache, then a checksummed download (unless ``download=False`` or ``$DEEPBABYSIT_OFFLINE`` is set).

    Raises FileNotFoundError that says which files to put where; ValueError for damaged files.
    LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
    """
    paths = find("mnist", ("mnist", "MNIST"), MNIST_FILES, root, download)
    return _idx_dataset(
        "mnist",
        paths,
        tuple(str(i) for i in range(10)),
        "LeCun, Cortes, Burges, The MNIST database of handwritten digits",
        "CC BY-SA 3.0, copyright Yann LeCun and Corinna Cortes",
    )


def fashion_mnist(root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset:
    """Return Fashion-MNIST: 60000 + 10000 pictures of clothes, uint8 (N, 28, 28); labels int64.

    Arguments and errors as in `mnist`; folder names fashion_mnist, fashion-mnist, FashionMNIST. The files are named
    like MNIST's: those are recognized and refused. Xiao, Rasul, Vollgraf, arXiv:1708.07747.
    """
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST")
    paths = find("fashion_mnist", folders, FASHION_FILES, root, download)
    source = "Xiao, Rasul, Vollgraf, Fashion-MNIST (2017), github.com/zalandoresearch/fashion-mnist"
    return _idx_dataset("fashion_mnist", paths, _FASHION, source, "MIT, copyright Zalando SE")


def _idx_dataset(name: str, paths: list[Path], classes: tuple[str, ...], source: str, licence: str) -> Dataset:
    _refuse_the_other(name, paths)
    parts: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
    for images_path, labels_path in (paths[0:2], paths[2:4]):
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
            raise ValueError(f"{images_path} holds {images.dtype} {images.shape}; expected uint8 images (N, 28, 28)")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(f"{labels_path} holds {labels.dtype} {labels.shape}; expected uint8 ({len(images)},)")
        if len(labels) and labels.max() >= len(classes):
            row = int(np.flatnonzero(labels >= len(classes))[0])
            raise ValueError(f"{labels_path}: label {labels[row]} in row {row}; expected 0..{len(classes) - 1}")
        parts.append((images, labels.astype(np.int64)))
    (x, y), (x_test, y_test) = parts
    return Dataset(
        name, "multiclass", x, y, x_test, y_test,
        class_names=classes,
        schema={"image_shape": [28, 28, 1], "range": [0, 255]},
        source=source,
        licence=licence,
    )  # fmt: skip


def _refuse_the_other(name: str, paths: list[Path]) -> None:
    """MNIST and Fashion-MNIST share their file names: one folder for the other must not pass."""
    import hashlib

    others = {"mnist": FASHION_FILES, "fashion_mnist": MNIST_FILES}[name]
    told = {"mnist": "Fashion-MNIST", "fashion_mnist": "MNIST"}[name]
    known = {(file.size, file.checksum) for file in others}
    sizes = {size for size, _ in known}
    for path in paths:
        size = path.stat().st_size
        if size in sizes:
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if (size, f"md5:{digest}") in known:
                raise ValueError(f"{path} is a file of {told}, not of {name}; the two share their file names")


CIFAR10_FILES = (
    Remote(
        "cifar-10-binary.tar.gz",
        170052171,
        "md5:c32a1d4ab5d03f1284b67883e8d87530",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    ),
)
_CIFAR_ROWS = 10000  # per member
_CIFAR_BYTES = 1 + 3 * 32 * 32  # label, then the red, green and blue planes
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset:
    """Return CIFAR-10: 50000 + 10000 colour pictures, uint8 (N, 32, 32, 3), channels last; labels int64.

    The binary version (``cifar-10-binary.tar.gz``) is read member by member from the archive; the Python version is
    pickled and is not read. Arguments and errors as in `mnist`; folder names cifar10, cifar-10.
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    (archive,) = find("cifar10", ("cifar10", "cifar-10"), CIFAR10_FILES, root, download)
    members = _read_members(archive, (*_CIFAR_TRAIN, "test_batch.bin"), _CIFAR_ROWS * _CIFAR_BYTES)
    x, y = _cifar_arrays(archive, [members[name] for name in _CIFAR_TRAIN])
    x_test, y_test = _cifar_arrays(archive, [members["test_batch.bin"]])
    return Dataset(
        "cifar10", "multiclass", x, y, x_test, y_test,
        class_names=_CIFAR,
        schema={"image_shape": [32, 32, 3], "range": [0, 255]},
        source="Krizhevsky (2009), www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; free for research use with citation, as its page is commonly read",
    )  # fmt: skip


def _read_members(archive: Path, names: tuple[str, ...], size: int) -> dict[str, bytes]:
    """Read regular members of exactly this size from a .tar.gz; nothing touches the disk."""
    import tarfile
    import zlib

    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name not in names:
                    if member.size > size:
                        raise ValueError(f"{archive} holds the unexpected large member {member.name!r}")
                    continue
                if not member.isreg() or member.size != size or name in found:
                    raise ValueError(f"{archive}: member {name} is no single regular file of {size} bytes")
                stream = tar.extractfile(member)
                found[name] = stream.read() if stream is not None else b""
                if len(found) == len(names):
                    break
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is a damaged archive ({error}); download it again") from error
    lacking = [name for name in names if len(found.get(name, b"")) != size]
    if lacking:
        raise ValueError(f"{archive} lacks {', '.join(lacking)}; it is not the published binary version")
    return found


def _cifar_arrays(archive: Path, contents: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_BYTES) for content in contents])
    labels = rows[:, 0].astype(np.int64)
    if labels.max() > 9:
        row = int(np.flatnonzero(labels > 9)[0])
        raise ValueError(f"{archive}: label {labels[row]} in row {row}; expected 0..9")
    images = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, labels
