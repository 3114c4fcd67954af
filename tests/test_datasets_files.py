"""Data sets from files: where they are looked for, checked downloads, and archives that lie."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.data import datasets, windows, write_idx
from deepbabysit.data.datasets import fetch, images, tables, texts


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No data set of this machine, no cache of this user, no proxy."""
    shared = os.environ.get("DEEPBABYSIT_DATA")
    for name in ("DEEPBABYSIT_DATA", "DEEPBABYSIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("no_proxy", "*")
    return shared


def _shared(clean, name):
    root = Path(clean or Path(__file__).parents[2] / "shared" / "data")
    if not (root / name).exists():
        pytest.skip(f"needs {name} in DEEPBABYSIT_DATA")
    return root


def _small_mnist(folder, rows=(6, 4), packed=True, classes=10):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    end = ".gz" if packed else ""
    made = []
    for part, count in zip(("train", "t10k"), rows, strict=True):
        x = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        y = (np.arange(count) % classes).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", x)
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", y)
        made += [x, y]
    return made


class _Server:
    """Serves bytes on the loopback address and counts the requests."""

    def __init__(self):
        self.content, self.requests, self.lengths = {}, [], {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                answer = outer.content.get(self.path)
                if isinstance(answer, str):
                    self.send_response(302)
                    self.send_header("Location", answer)
                    self.end_headers()
                    return
                self.send_response(404 if answer is None else 200)
                if self.path in outer.lengths:
                    self.send_header("Content-Length", str(outer.lengths[self.path]))
                self.end_headers()
                self.wfile.write(answer or b"")

            def log_message(self, *_):
                pass

        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    made = _Server()
    yield made
    made.close()


# Looking for files


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_a_folder(tmp_path, packed):
    x, y, x_test, y_test = _small_mnist(tmp_path / "d", packed=packed)
    got = datasets.mnist(tmp_path / "d", download=False)
    assert np.array_equal(got.x, x) and np.array_equal(got.y, y) and got.x.dtype == np.uint8 and got.y.dtype == np.int64
    assert np.array_equal(got.test[0], x_test) and np.array_equal(got.test[1], y_test)
    assert got.class_names == tuple("0123456789")


def test_root_then_environment_then_cache(tmp_path, monkeypatch):
    def first_label(root=None):
        return int(datasets.mnist(root, download=False).y[0])

    for place, label in (("cache/mnist", 3), ("shared/mnist", 2), ("root/mnist", 1)):
        _small_mnist(tmp_path / place)
        write_idx(tmp_path / place / "train-labels-idx1-ubyte.gz", np.full(6, label, np.uint8))
    assert first_label() == 3
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(tmp_path / "shared"))
    assert first_label() == 2
    assert first_label(tmp_path / "root" / "mnist") == 1
    assert first_label(tmp_path / "root") == 1, "the folder above will do"
    assert first_label(tmp_path / "empty") == 2, "and what is not there is looked for further on"


@pytest.mark.parametrize("switch", ["argument", "environment"])
def test_offline_says_which_files_to_put_where(tmp_path, monkeypatch, switch):
    monkeypatch.setenv("DEEPBABYSIT_DATA", str(tmp_path / "shared"))
    if switch == "environment":
        monkeypatch.setenv("DEEPBABYSIT_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as caught:
        datasets.mnist(tmp_path / "mine", download=switch == "environment")
    told = str(caught.value)
    for place in (tmp_path / "mine", tmp_path / "shared" / "mnist", tmp_path / "cache" / "mnist"):
        assert str(place) in told
    for file in images.MNIST_FILES:
        assert file.name in told and file.checksum in told and file.urls[0] in told


def test_wrong_content_is_refused(tmp_path):
    _small_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([0, 1, 2, 3, 4, 10], np.uint8))
    with pytest.raises(ValueError, match="label 10 in row 5; expected 0..9"):
        datasets.mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(5, np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8 \(6,\)"):
        datasets.mnist(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((6, 32, 32), np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8 images \(N, 28, 28\)"):
        datasets.mnist(tmp_path)


def test_mnist_files_do_not_pass_for_fashion(tmp_path, monkeypatch):
    _small_mnist(tmp_path)
    assert datasets.fashion_mnist(tmp_path).class_names[9] == "Ankle boot"
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    known = replace(
        images.MNIST_FILES[3], size=path.stat().st_size, checksum="md5:" + hashlib.md5(path.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(images, "MNIST_FILES", (*images.MNIST_FILES[:3], known))
    with pytest.raises(ValueError, match="is a file of MNIST, not of fashion_mnist"):
        datasets.fashion_mnist(tmp_path)


# Downloading


@pytest.fixture
def remote(server, monkeypatch, tmp_path):
    """MNIST's files, small, on the loopback server."""
    _small_mnist(tmp_path / "origin")
    made = []
    for file in images.MNIST_FILES:
        content = (tmp_path / "origin" / file.name).read_bytes()
        server.content[f"/{file.name}"] = content
        checksum = "md5:" + hashlib.md5(content).hexdigest()
        made.append(replace(file, size=len(content), checksum=checksum, urls=(f"{server.base}/{file.name}",)))
    monkeypatch.setattr(images, "MNIST_FILES", tuple(made))
    return server


def _cached(tmp_path):
    folder = tmp_path / "cache" / "mnist"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_download_once_then_from_the_cache(remote, tmp_path, capsys):
    first = datasets.mnist()
    assert len(remote.requests) == 4 and _cached(tmp_path) == sorted(f.name for f in images.MNIST_FILES)
    assert "downloading train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert np.array_equal(datasets.mnist().x, first.x) and len(remote.requests) == 4
    (tmp_path / "cache" / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    datasets.mnist()
    assert len(remote.requests) == 5, "only what is missing"


def test_the_second_address_is_tried(remote, monkeypatch):
    files = images.MNIST_FILES
    two = replace(files[0], urls=(f"{remote.base}/gone", *files[0].urls))
    monkeypatch.setattr(images, "MNIST_FILES", (two, *files[1:]))
    assert len(datasets.mnist().x) == 6 and remote.requests[:2] == ["/gone", "/train-images-idx3-ubyte.gz"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "sent another file: md5"),
        (lambda c: c[:-1], "sent .* of .* bytes"),
        (lambda c: c + b"x" * 10_000_000, "more than the expected"),
        (lambda c: None, "404"),
        (lambda c: "ftp://127.0.0.1/x", "refused, not an https address: ftp://127.0.0.1/x"),
        (lambda c: "http://example.com/x", "refused, not an https address: http://example.com/x"),
    ],
)
def test_a_wrong_download_leaves_nothing(remote, tmp_path, spoil, says):
    path = "/t10k-images-idx3-ubyte.gz"
    remote.content[path] = spoil(remote.content[path])
    with pytest.raises(FileNotFoundError, match=says) as caught:
        datasets.mnist()
    assert "Put these files into one of the folders above" in str(caught.value)
    assert "t10k-images-idx3-ubyte.gz" not in _cached(tmp_path)
    assert not [name for name in _cached(tmp_path) if name.endswith(".part")]


def test_a_connection_that_breaks_off_leaves_nothing(remote, tmp_path):
    path = "/t10k-images-idx3-ubyte.gz"
    remote.lengths[path] = len(remote.content[path])
    remote.content[path] = remote.content[path][:100]
    with pytest.raises(FileNotFoundError, match="IncompleteRead|sent 100 of"):
        datasets.mnist()
    assert "t10k-images-idx3-ubyte.gz" not in _cached(tmp_path)


def test_redirects_are_followed(remote):
    remote.content["/moved"] = remote.content["/t10k-images-idx3-ubyte.gz"]
    remote.content["/t10k-images-idx3-ubyte.gz"] = f"{remote.base}/moved"
    assert len(datasets.mnist().x_test) == 4 and "/moved" in remote.requests


@pytest.mark.parametrize("url", ["http://example.com/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_https(remote, monkeypatch, url):
    file = images.MNIST_FILES[0]
    monkeypatch.setattr(images, "MNIST_FILES", (replace(file, urls=(url,)), *images.MNIST_FILES[1:]))
    with pytest.raises(FileNotFoundError, match="refused, not an https address"):
        datasets.mnist()


def test_published_addresses_are_https():
    every = (*images.MNIST_FILES, *images.FASHION_FILES, *images.CIFAR10_FILES, *tables.HEART_FILES)
    for file in (*every, *texts.SHAKESPEARE_FILES):
        assert file.urls and all(url.startswith("https://") for url in file.urls)
        kind, _, digest = file.checksum.partition(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


# CIFAR-10


def _cifar(folder, rows=3, change=None, order=None):
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (rows, 3073)).astype(np.uint8)
        records[:, 0] = rng.integers(0, 10, rows)
        contents[name] = records
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name in order or ["readme.html", *contents]:
            content = contents[name].tobytes() if name in contents else b"hello"
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            if change:
                info, content = change(info, content)
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return contents


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(images, "_CIFAR_ROWS", 3)


def test_cifar10_is_channels_last(tmp_path, small):
    contents = _cifar(tmp_path, order=["test_batch.bin", *(f"data_batch_{i}.bin" for i in (3, 1, 2, 5, 4))])
    got = datasets.cifar10(tmp_path)
    assert got.x.shape == (15, 32, 32, 3) and got.x.dtype == np.uint8 and got.x_test.shape == (3, 32, 32, 3)
    record = contents["data_batch_1.bin"][2]
    assert got.y[2] == record[0] and got.class_names[0] == "airplane"
    for channel in range(3):
        plane = record[1 + 1024 * channel : 1 + 1024 * (channel + 1)].reshape(32, 32)
        assert np.array_equal(got.x[2, :, :, channel], plane)
    assert np.array_equal(got.y[3:6], contents["data_batch_2.bin"][:, 0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cifar-10-binary.tar.gz"], "nothing is unpacked"


def _link(info, content):
    if info.name.endswith("data_batch_2.bin"):
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info, content


def _short(info, content):
    if info.name.endswith("data_batch_2.bin"):
        info.size = 10
        return info, content[:10]
    return info, content


def _renamed(info, content):
    info.name = info.name.replace("data_batch_2", "other")
    return info, content


def _bomb(info, content):
    if info.name.endswith("readme.html"):
        info.size = 100_000
        return info, bytes(100_000)
    return info, content


def _label(info, content):
    return info, (b"\x0c" + content[1:] if info.name.endswith("data_batch_2.bin") else content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_link, "no single regular file"),
        (_short, "no single regular file"),
        (_renamed, "lacks data_batch_2.bin"),
        (_bomb, "unexpected large member"),
        (_label, "label 12 in row 3"),
    ],
)
def test_lying_archives_are_refused(tmp_path, small, change, says):
    _cifar(tmp_path, change=change)
    with pytest.raises(ValueError, match=says):
        datasets.cifar10(tmp_path)


def test_damaged_archives(tmp_path, small):
    _cifar(tmp_path)
    path = tmp_path / "cifar-10-binary.tar.gz"
    content = path.read_bytes()
    for spoiled in (content[: len(content) // 2], b"no archive", gzip.compress(b"no tar")):
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match="damaged|lacks"):
            datasets.cifar10(tmp_path)


# The real files


def test_real_mnist(clean):
    got = datasets.mnist(_shared(clean, "mnist"), download=False)
    assert got.x.shape == (60000, 28, 28) and got.x_test.shape == (10000, 28, 28)
    assert np.bincount(got.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(got.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert hashlib.md5(got.x_test.tobytes()).hexdigest() == hashlib.md5(_raw(clean, 16)).hexdigest()
    with pytest.raises(ValueError, match="is a file of MNIST"):
        datasets.fashion_mnist(_shared(clean, "mnist") / "mnist")


def _raw(clean, header):
    path = _shared(clean, "mnist") / "mnist" / "t10k-images-idx3-ubyte.gz"
    return gzip.decompress(path.read_bytes())[header:]


def test_real_heart(clean, server, monkeypatch):
    root = _shared(clean, "heart")
    got = datasets.heart(root, download=False)
    assert got.x.shape == (303, 29) and got.task == "binary" and np.bincount(got.y).tolist() == [220, 83]
    assert [got.feature_names[i] for i in got.schema["numeric"]] == [
        "age", "trestbps", "chol", "thalach", "oldpeak", "slope",
    ]  # fmt: skip
    # The checksum is of the text: a copy with other line ends is the same table.
    content = (root / "heart" / "heart.csv").read_bytes()
    for copy in (content, content.replace(b"\r\n", b"\n") + b"\n"):
        server.content["/heart.csv"] = copy
        file = replace(tables.HEART_FILES[0], urls=(f"{server.base}/heart.csv",))
        monkeypatch.setattr(tables, "HEART_FILES", (file,))
        target = fetch.cache_folder() / "heart" / "heart.csv"
        target.unlink(missing_ok=True)
        assert np.array_equal(datasets.heart().x, got.x) and target.read_bytes() == copy
    target.unlink()
    server.content["/heart.csv"] = content.replace(b"63,1", b"64,1", 1)
    with pytest.raises(FileNotFoundError, match="sent another file"):
        datasets.heart()


def test_real_shakespeare(clean):
    got = datasets.tiny_shakespeare(_shared(clean, "tinyshakespeare"), download=False)
    assert got.x.shape == (1003854,) and got.x_test.shape == (111540,) and len(got.class_names) == 65
    assert "".join(got.class_names[i] for i in got.x[:14]) == "First Citizen:"
    assert got.y is None and "Vocabulary of 65" in got.describe()
    x, y = windows(got.x, 128)
    assert x.shape == y.shape and np.array_equal(x[0, 1:], y[0, :-1])


def test_text_that_is_no_text(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"abc\xff" * 10)
    with pytest.raises(ValueError, match=r"not plain ASCII \(byte 3\)"):
        datasets.tiny_shakespeare(tmp_path)
    (tmp_path / "input.txt").write_bytes(b"ab")
    with pytest.raises(ValueError, match="has 2 bytes"):
        datasets.tiny_shakespeare(tmp_path)
