"""The small data sets that scikit-learn carries inside its package (extra ``data``); nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.data.datasets.dataset import Dataset
from deepbabysit.errors import require

_LICENCE = "CC BY 4.0 at its origin, the UCI Machine Learning Repository"


def _bunch(loader: str, **arguments: Any) -> Any:
    return getattr(require("sklearn.datasets", "data"), loader)(**arguments)


def _classes(name: str, bunch: Any, source: str) -> Dataset:
    classes = tuple(str(c) for c in bunch.target_names)
    features = tuple(str(f) for f in bunch.feature_names)
    return Dataset(
        name=name,
        task="binary" if len(classes) == 2 else "multiclass",
        x=np.ascontiguousarray(bunch.data, np.float32),
        y=bunch.target.astype(np.int64),
        feature_names=features,
        class_names=classes,
        schema=_schema(features, "binary" if len(classes) == 2 else "multiclass", classes),
        source=source,
        licence=_LICENCE,
    )


def _schema(features: tuple[str, ...], task: str, classes: tuple[str, ...]) -> dict[str, Any]:
    target: dict[str, Any] = {"name": "target", "task": task}
    if classes:
        target["classes"] = list(classes)
    return {"format": 1, "target": target, "columns": [{"name": name, "kind": "numeric"} for name in features]}


def digits() -> Dataset:
    """Return 1797 handwritten digits of 8x8 pixels, values 0..16, as rows of 64; ten classes, no published test part.

    x: float32 (1797, 64), row by row; ``x.reshape(-1, 8, 8, 1)`` gives images. From Alpaydin and Kaynak, "Optical
    recognition of handwritten digits", UCI 1998 (the test part of it, as scikit-learn carries it).

    Raises ImportError with the install command when scikit-learn is missing.
    """
    bunch = _bunch("load_digits")
    data = _classes("digits", bunch, "UCI, Optical Recognition of Handwritten Digits (1998), bundled with scikit-learn")
    data.schema["image_shape"] = [8, 8, 1]
    data.schema["range"] = [0, 16]
    return data


def iris() -> Dataset:
    """Return Fisher's 150 iris flowers: 4 measures in cm, three species.

    Raises ImportError with the install command when scikit-learn is missing.
    """
    return _classes("iris", _bunch("load_iris"), "R. A. Fisher (1936), UCI, bundled with scikit-learn")


def wine() -> Dataset:
    """Return 178 wines: 13 chemical measures on different scales, three cultivars.

    Raises ImportError with the install command when scikit-learn is missing.
    """
    return _classes("wine", _bunch("load_wine"), "Forina et al. (1991), UCI Wine, bundled with scikit-learn")


def breast_cancer() -> Dataset:
    """Return 569 tumours: 30 measures of cell nuclei; classes malignant (0) and benign (1).

    Raises ImportError with the install command when scikit-learn is missing.
    """
    source = "Wolberg, Street, Mangasarian (1995), UCI Breast Cancer Wisconsin (Diagnostic), bundled with scikit-learn"
    return _classes("breast_cancer", _bunch("load_breast_cancer"), source)


def diabetes() -> Dataset:
    """Return 442 diabetes patients: 10 measures in their own units, disease progression after a year (25..346).

    The measures are the raw ones; scikit-learn's default is scaled by statistics of all rows, test rows included.

    Raises ImportError with the install command when scikit-learn is missing.
    """
    bunch = _bunch("load_diabetes", scaled=False)
    features = tuple(str(f) for f in bunch.feature_names)
    return Dataset(
        name="diabetes",
        task="regression",
        x=np.ascontiguousarray(bunch.data, np.float32),
        y=bunch.target.astype(np.float32),
        feature_names=features,
        schema=_schema(features, "regression", ()),
        source="Efron, Hastie, Johnstone, Tibshirani, Least Angle Regression (2004), bundled with scikit-learn",
        licence="published with the paper without stated terms; scikit-learn carries it under BSD-3-Clause",
    )
