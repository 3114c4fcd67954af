"""Scaling features by statistics of the training rows: fitted once, applied everywhere, undone on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deepbabysit.data.checks import check_finite
from deepbabysit.data.rows import as_rows
from deepbabysit.data.scaled import ScaledRows
from deepbabysit.errors import unknown

_BLOCK = 1 << 18  # elements worked on at a time: the float64 temporaries stay in cache


class Normalizer(ABC):
    """Affine scaling ``(x - shift) / scale`` with a shift and a scale per feature; subclasses say which.

    axis: what one statistic is taken over. 0 (default): every feature has its own. None: one for everything, as for
    the pixels of images. A tuple with 0 in it: those axes, for instance (0, 1, 2) for one per channel of (N, H, W, C).
    columns: numbers of the columns to touch, for tables (N, D) with one-hot columns; the rest pass unchanged.
    """

    def __init__(self, axis: int | Sequence[int] | None = 0, columns: Sequence[int] | None = None) -> None:
        self.axis = _as_axis(axis)
        self.columns = None if columns is None else _as_columns(columns)
        if self.columns is not None and self.axis != (0,):
            raise ValueError(f"columns= picks columns of a table and goes with axis=0 only, got axis={axis!r}")
        self.features: tuple[int, ...] | None = None  # shape of one row; None until fitted
        self.shift: NDArray[np.float64] = np.zeros(())
        self.scale: NDArray[np.float64] = np.ones(())

    @abstractmethod
    def _statistics(self, x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (shift, scale) with kept axes; a scale of 0 marks a constant feature."""

    def fit(self, x: Any) -> Self:
        """Take the statistics of x, shape (N, ...), in float64. Give it training rows only. Returns itself."""
        array = self._array(x, "fit")
        features = array.shape[1:]
        if self.columns is not None:
            array = self._pick(array, features)
        elif self.axis is not None and max(self.axis) >= array.ndim:
            raise ValueError(f"axis {self.axis} does not exist in x of shape {array.shape}")
        axes = tuple(range(array.ndim)) if self.axis is None else self.axis
        with np.errstate(over="ignore", invalid="ignore"):
            shift, scale = self._statistics(array, axes)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
            raise ValueError(f"{type(self).__name__}: the range of x overflows float64; divide x by a constant first")
        self.shift = np.asarray(shift[0], np.float64)
        self.scale = np.asarray(np.where(scale == 0, 1.0, scale)[0], np.float64)
        self.features = features
        return self

    def transform(self, x: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return ``(x - shift) / scale``, a new array; float64 stays float64, anything else becomes float32."""
        array = self._checked(x, "transform")
        return self._apply(array, _float_of(array, dtype), forward=True)

    def lazy(self, x: Any, dtype: DTypeLike | None = None) -> ScaledRows:
        """Return x as a source for `Loader` whose rows are scaled when they are asked for, with transform's values.

        Nothing is copied: pixels stay bytes, a quarter of the memory, until they are in a batch.

        >>> pixels = np.array([[0, 255], [51, 102]], np.uint8)
        >>> MinMax(axis=None).fit(pixels).lazy(pixels)[np.array([1, 0])].tolist()
        [[0.2, 0.4], [0.0, 1.0]]
        """
        array = self._checked(x, "lazy")
        shift, scale = self.shift, self.scale
        if self.columns is not None:
            whole = np.zeros(array.shape[1:]), np.ones(array.shape[1:])
            whole[0][self.columns], whole[1][self.columns] = shift, scale
            shift, scale = whole
        elif shift.size > 1:
            shift, scale = np.broadcast_to(shift, array.shape[1:]), np.broadcast_to(scale, array.shape[1:])
        return ScaledRows(array, shift, scale, _float_of(array, dtype))

    def inverse(self, x: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return ``x * scale + shift``: what transform came from."""
        array = self._checked(x, "inverse")
        return self._apply(array, _float_of(array, dtype), forward=False)

    def fit_transform(self, x: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Fit to x and transform it: for the training rows."""
        return self.fit(x).transform(x, dtype)

    def to_config(self) -> dict[str, Any]:
        """Return the fitted state as JSON-able numbers and lists."""
        if self.features is None:
            raise RuntimeError(f"{type(self).__name__} is not fitted yet: call fit(x_train) first")
        return {
            "type": type(self).__name__,
            "axis": None if self.axis is None else list(self.axis),
            "columns": self.columns,
            "features": list(self.features),
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make the fitted normalizer that a config describes."""
        made = normalizer_from_config(config)
        if not isinstance(made, cls):
            raise ValueError(f"the config describes a {config['type']}, not a {cls.__name__}")
        return made

    def _restore(self, config: dict[str, Any]) -> None:
        features = tuple(int(n) for n in config["features"])
        shift = np.asarray(config["shift"], np.float64)
        scale = np.asarray(config["scale"], np.float64)
        if self.columns is not None:
            wanted: tuple[int, ...] = (len(self.columns),)
        elif self.axis is None:
            wanted = (1,) * len(features)
        else:
            wanted = tuple(1 if i + 1 in self.axis else n for i, n in enumerate(features))
        if shift.shape != wanted or scale.shape != wanted:
            raise ValueError(f"statistics must have shape {wanted}, got {shift.shape} and {scale.shape}")
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("statistics must be finite and scales above 0")
        self.features, self.shift, self.scale = features, shift, scale

    def _array(self, x: Any, doing: str) -> NDArray[Any]:
        name = type(self).__name__
        array = as_rows("x", x)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name}.{doing} takes one array; use one normalizer for each input")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}.{doing} needs numbers, got dtype {array.dtype}; encode text with db.data.one_hot")
        if array.size == 0 and doing == "fit":
            raise ValueError(f"{name}.fit: x is empty, shape {array.shape}; give at least one row")
        check_finite("x", array)
        return array

    def _checked(self, x: Any, doing: str) -> NDArray[Any]:
        if self.features is None:
            raise RuntimeError(f"{type(self).__name__} is not fitted yet: call fit(x_train) before {doing}")
        array = self._array(x, doing)
        if array.shape[1:] != self.features:
            raise ValueError(
                f"{type(self).__name__} was fitted on rows of shape {self.features}, got rows of shape "
                f"{array.shape[1:]} (x has shape {array.shape}); give the same features in the same order"
            )
        return array

    def _pick(self, array: NDArray[Any], features: tuple[int, ...]) -> NDArray[Any]:
        if len(features) != 1:
            raise ValueError(f"columns= needs a table (N, D), got x of shape {array.shape}")
        assert self.columns is not None
        if self.columns and max(self.columns) >= features[0]:
            raise ValueError(f"column {max(self.columns)} does not exist in x with {features[0]} columns")
        return array[:, self.columns]

    def _apply(self, array: NDArray[Any], dtype: np.dtype[Any], forward: bool) -> NDArray[Any]:
        out = np.empty(array.shape, dtype)
        step = max(1, _BLOCK // max(1, array.size // max(1, len(array))))
        for start in range(0, len(array), step):
            block = array[start : start + step]
            target = out[start : start + step]
            if self.columns is None:
                target[...] = self._scaled(block, forward)
            else:
                target[...] = block
                target[:, self.columns] = self._scaled(block[:, self.columns], forward)
        return out

    def _scaled(self, block: NDArray[Any], forward: bool) -> NDArray[np.float64]:
        wide = block.astype(np.float64)
        if forward:
            wide -= self.shift
            wide /= self.scale
        else:
            wide *= self.scale
            wide += self.shift
        return wide

    def __repr__(self) -> str:
        told = "not fitted" if self.features is None else f"fitted on rows of shape {self.features}"
        return f"{type(self).__name__}({told})"


@final
class MinMax(Normalizer):
    """Scale to 0..1 by the training minimum and maximum: ``(x - min) / (max - min)``.

    A constant feature has no range: it becomes 0 everywhere (its scale is taken as 1, nothing is divided by zero).
    Values outside the training range land outside 0..1; nothing is clipped.

    Arguments: see `Normalizer`. Raises ValueError for NaN or infinity (with the rows), for other features than fitted.

    >>> scaler = MinMax().fit([[0.0, 5.0], [10.0, 5.0]])
    >>> scaler.transform(np.array([[5.0, 5.0], [20.0, 5.0]])).tolist()
    [[0.5, 0.0], [2.0, 0.0]]
    """

    def _statistics(self, x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = x.min(axis=axes, keepdims=True).astype(np.float64)
        high = x.max(axis=axes, keepdims=True).astype(np.float64)
        return low, high - low


@final
class ZScore(Normalizer):
    """Scale to mean 0 and standard deviation 1 of the training rows: ``(x - mean) / std``, std over N (not N - 1).

    Two passes in float64, so that large offsets do not spoil the variance. A constant feature becomes 0 everywhere (its
    scale is taken as 1, nothing is divided by zero).

    Arguments: see `Normalizer`. Raises ValueError for NaN or infinity (with the rows), for other features than fitted.

    >>> ZScore().fit_transform(np.array([[1.0, 7.0], [3.0, 7.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    def _statistics(self, x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = x.min(axis=axes, keepdims=True).astype(np.float64)
        # Distances from the minimum are exactly 0 in a constant feature, and so is its variance.
        mean = _mean(x, axes, low, power=1) + low
        return mean, np.sqrt(_mean(x, axes, mean, power=2))


def _mean(x: NDArray[Any], axes: tuple[int, ...], origin: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    """Return the mean of (x - origin)**power over the axes, kept, in float64, block by block."""
    total = np.zeros_like(origin)
    step = max(1, _BLOCK // max(1, x.size // len(x)))
    for start in range(0, len(x), step):
        wide = x[start : start + step].astype(np.float64)
        wide -= origin
        if power == 2:
            wide *= wide
        total += wide.sum(axis=axes, keepdims=True)
    return total / (x.size // max(1, origin.size))


@final
class MeanImputer:
    """Fill missing cells (NaN) of a table with the mean of their column in the training rows.

    ``out[i, j] = x[i, j] if present else mean_j``; float64 statistics. Fit it on the training rows only, then transform
    every part: a mean over all rows would leak the test part into training.

    Raises ValueError when a column has no value at all in the rows it is fitted on, for infinity, for another number of
    columns than fitted.

    >>> imputer = MeanImputer().fit([[1.0, 2.0], [3.0, float("nan")]])
    >>> imputer.transform(np.array([[float("nan"), float("nan")]])).tolist()
    [[2.0, 2.0]]
    """

    def __init__(self) -> None:
        self.mean: NDArray[np.float64] | None = None

    def fit(self, x: Any) -> MeanImputer:
        """Take the column means of x, shape (N, D), over the cells that are present. Returns itself."""
        array = self._table(x)
        present = ~np.isnan(array)
        counts = present.sum(axis=0)
        if len(array) == 0 or (counts == 0).any():
            empty = [int(i) for i in np.flatnonzero(counts == 0)]
            raise ValueError(f"columns {empty} have no value in the {len(array)} rows to fit on; leave them out")
        self.mean = np.where(present, array, 0.0).sum(axis=0) / counts
        return self

    def transform(self, x: Any) -> NDArray[Any]:
        """Return x with its missing cells filled, a new array; float64 stays float64, anything else becomes float32."""
        if self.mean is None:
            raise RuntimeError("MeanImputer is not fitted yet: call fit(x_train) before transform")
        array = self._table(x)
        if array.shape[1] != len(self.mean):
            raise ValueError(f"MeanImputer was fitted on {len(self.mean)} columns, got {array.shape[1]}")
        filled = np.where(np.isnan(array), self.mean, array)
        return filled.astype(_float_of(np.asarray(x), None))

    def fit_transform(self, x: Any) -> NDArray[Any]:
        """Fit to x and fill it: for the training rows."""
        return self.fit(x).transform(x)

    def to_config(self) -> dict[str, Any]:
        """Return the fitted state as a JSON-able mapping."""
        if self.mean is None:
            raise RuntimeError("MeanImputer is not fitted yet: call fit(x_train) first")
        return {"type": "MeanImputer", "mean": self.mean.tolist()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MeanImputer:
        """Make the fitted imputer that a config describes."""
        made = normalizer_from_config(config)
        if not isinstance(made, cls):
            raise ValueError(f"the config describes a {config['type']}, not a MeanImputer")
        return made

    @staticmethod
    def _table(x: Any) -> NDArray[np.float64]:
        array = np.asarray(x)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise TypeError(f"MeanImputer needs numbers of shape (N, D), got shape {array.shape}, dtype {array.dtype}")
        wide = array.astype(np.float64)
        if np.isinf(wide).any():
            row = int(np.flatnonzero(np.isinf(wide).any(axis=1))[0])
            raise ValueError(f"x holds infinity in row {row} (counting from 0); only NaN marks a missing cell")
        return wide


def normalizer_from_config(config: dict[str, Any]) -> Normalizer | MeanImputer:
    """Make the fitted normalizer or imputer that ``to_config`` described.

    Raises ValueError for an unknown type or statistics that do not fit together.

    >>> config = MinMax().fit([[0.0], [4.0]]).to_config()
    >>> normalizer_from_config(config).transform(np.array([[1.0]])).tolist()
    [[0.25]]
    """
    kinds: dict[str, type[MinMax] | type[ZScore]] = {"MinMax": MinMax, "ZScore": ZScore}
    kind = config.get("type")
    if kind == "MeanImputer":
        imputer = MeanImputer()
        imputer.mean = np.asarray(config["mean"], np.float64)
        if imputer.mean.ndim != 1 or not np.isfinite(imputer.mean).all():
            raise ValueError("the mean of a MeanImputer must be one row of finite numbers")
        return imputer
    if kind not in kinds:
        raise ValueError(unknown("normalizer", kind, [*kinds, "MeanImputer"]))
    made = kinds[kind](axis=config["axis"], columns=config["columns"])
    made._restore(config)
    return made


def _as_axis(axis: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if axis is None:
        return None
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    if any(isinstance(a, bool) or not isinstance(a, (int, np.integer)) or a < 0 for a in axes):
        raise TypeError(f"axis must be None, an axis number or a tuple of them (counted from the front), got {axis!r}")
    if 0 not in axes or len(set(axes)) != len(axes):
        raise ValueError(f"axis must name axis 0, the rows, and none twice, got {axis!r}; axis=None takes all of them")
    return tuple(sorted(int(a) for a in axes))


def _as_columns(columns: Sequence[int]) -> list[int]:
    array = np.asarray(columns)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"columns must be a list of column numbers, got {columns!r}")
    numbers = [int(c) for c in array]
    if len(set(numbers)) != len(numbers) or any(c < 0 for c in numbers):
        raise ValueError(f"columns must be different numbers from 0 up, got {numbers}")
    return numbers


def _float_of(array: NDArray[Any], dtype: DTypeLike | None) -> np.dtype[Any]:
    if dtype is not None:
        wanted = np.dtype(dtype)
        if wanted.kind != "f":
            raise TypeError(f"dtype must be a floating type, got {wanted}; scaled values would be cut to integers")
        return wanted
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
