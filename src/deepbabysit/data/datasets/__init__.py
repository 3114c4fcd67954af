"""Ready data sets: scikit-learn's bundled ones, and published ones from local files or a checksummed download.

Served lazily: importing this package imports none of its modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepbabysit.data.datasets.bundled import breast_cancer, diabetes, digits, iris, wine
    from deepbabysit.data.datasets.dataset import Dataset
    from deepbabysit.data.datasets.images import cifar10, fashion_mnist, mnist
    from deepbabysit.data.datasets.tables import heart
    from deepbabysit.data.datasets.texts import tiny_shakespeare

_HOME = {
    "Dataset": "dataset",
    "breast_cancer": "bundled",
    "cifar10": "images",
    "diabetes": "bundled",
    "digits": "bundled",
    "fashion_mnist": "images",
    "heart": "tables",
    "iris": "bundled",
    "mnist": "images",
    "tiny_shakespeare": "texts",
    "wine": "bundled",
}

__all__ = [
    "Dataset",
    "breast_cancer",
    "cifar10",
    "diabetes",
    "digits",
    "fashion_mnist",
    "heart",
    "iris",
    "mnist",
    "tiny_shakespeare",
    "wine",
]


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOME.get(name)
    if home is None:
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from deepbabysit.errors import unknown

        raise AttributeError(unknown("data set", name, [n for n in __all__ if n != "Dataset"]))
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
