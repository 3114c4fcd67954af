"""The data sets inside scikit-learn, and how light the imports are."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import deepbabysit.data as data
from deepbabysit.data import datasets

FACTS = {
    "digits": ("multiclass", (1797, 64), 10),
    "iris": ("multiclass", (150, 4), 3),
    "wine": ("multiclass", (178, 13), 3),
    "breast_cancer": ("binary", (569, 30), 2),
    "diabetes": ("regression", (442, 10), 0),
}


@pytest.mark.parametrize("name", FACTS)
def test_bundled(name):
    sklearn = pytest.importorskip("sklearn.datasets")
    task, shape, classes = FACTS[name]
    got = getattr(datasets, name)()
    assert (got.name, got.task, got.x.shape, len(got.class_names)) == (name, task, shape, classes)
    assert got.x.dtype == np.float32 and len(got.feature_names) == shape[1]
    arguments = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(sklearn, f"load_{name}")(**arguments)
    assert np.array_equal(got.x, bunch.data.astype(np.float32)) and np.array_equal(got.y, bunch.target)
    assert got.y.dtype == (np.int64 if classes else np.float32)
    assert got.train == (got.x, got.y)
    with pytest.raises(ValueError, match="no published test part"):
        _ = got.test
    json.dumps(got.schema)
    assert [c["name"] for c in got.schema["columns"]] == list(got.feature_names)
    told = got.describe()
    assert str(len(got.x)) in told and got.source in told and got.licence in told
    with pytest.raises(AttributeError):
        got.x = None


def test_bundled_schema_reads_a_csv(tmp_path):
    pytest.importorskip("sklearn")
    iris = datasets.iris()
    lines = [",".join([*iris.feature_names, "target"])]
    lines += [",".join([*map(str, row), iris.class_names[y]]) for row, y in zip(iris.x, iris.y, strict=True)]
    (tmp_path / "iris.csv").write_text("\n".join(lines))
    table = data.read_table(tmp_path / "iris.csv", schema=iris.schema)
    assert np.array_equal(table.x, iris.x) and np.array_equal(table.y, iris.y)


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "deepbabysit\[data\]"'):
        datasets.iris()


def test_every_public_name_is_there():
    for module in (data, datasets):
        for name in module.__all__:
            assert getattr(module, name) is not None and name in dir(module)
        assert set(module._HOME) | {"datasets"} >= set(module.__all__) >= set(module._HOME)
    with pytest.raises(AttributeError, match="unknown data set 'minst'; did you mean 'mnist'"):
        _ = datasets.minst
    with pytest.raises(AttributeError, match="did you mean 'read_table'"):
        _ = data.read_tabel


def test_importing_is_light():
    code = (
        "import __future__, json, sys, numpy; before = set(sys.modules); "
        "import deepbabysit.data, deepbabysit.data.datasets; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = json.loads(out)
    heavy = [m for m in loaded if not m.startswith("deepbabysit")]
    assert heavy == [] and "deepbabysit.data.loader" not in loaded and "deepbabysit.data.table" not in loaded


def test_function_names_are_not_hidden_by_modules():
    from deepbabysit.data import Loader, one_hot, split  # noqa: F401

    assert callable(data.split) and callable(data.holdout) and callable(datasets.mnist) and callable(datasets.heart)
