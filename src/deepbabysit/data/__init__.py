"""Data: splits, normalizers, tables, loaders and data sets, on plain NumPy arrays.

Everything here is served lazily: importing this package imports none of its modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepbabysit.data import datasets
    from deepbabysit.data.checks import check_finite
    from deepbabysit.data.idx import read_idx, write_idx
    from deepbabysit.data.loader import Batch, Loader, LoaderError
    from deepbabysit.data.normalizers import MeanImputer, MinMax, Normalizer, ZScore, normalizer_from_config
    from deepbabysit.data.order import epoch_order
    from deepbabysit.data.sequences import windows
    from deepbabysit.data.splits import Holdout, Part, Split, holdout, split
    from deepbabysit.data.table import Table, read_table
    from deepbabysit.data.targets import one_hot

# Public name -> module. No module is named like a public function: importing one would hide the other.
_HOME = {
    "Batch": "loader",
    "Holdout": "splits",
    "Loader": "loader",
    "LoaderError": "loader",
    "MeanImputer": "normalizers",
    "MinMax": "normalizers",
    "Normalizer": "normalizers",
    "Part": "splits",
    "Split": "splits",
    "Table": "table",
    "ZScore": "normalizers",
    "check_finite": "checks",
    "epoch_order": "order",
    "holdout": "splits",
    "normalizer_from_config": "normalizers",
    "one_hot": "targets",
    "read_idx": "idx",
    "read_table": "table",
    "split": "splits",
    "windows": "sequences",
    "write_idx": "idx",
}

__all__ = [
    "Batch",
    "Holdout",
    "Loader",
    "LoaderError",
    "MeanImputer",
    "MinMax",
    "Normalizer",
    "Part",
    "Split",
    "Table",
    "ZScore",
    "check_finite",
    "datasets",
    "epoch_order",
    "holdout",
    "normalizer_from_config",
    "one_hot",
    "read_idx",
    "read_table",
    "split",
    "windows",
    "write_idx",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "datasets":
        return importlib.import_module("deepbabysit.data.datasets")
    home = _HOME.get(name)
    if home is None:
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from deepbabysit.errors import unknown

        raise AttributeError(unknown(f"name in {__name__}", name, __all__))
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
