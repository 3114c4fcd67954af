"""What users hand to fit, evaluate and predict, made into arrays that a step can take; bad data is refused here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.data.checks import check_finite
from deepbabysit.data.loader import Loader
from deepbabysit.data.rows import take
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.losses.targets import CLASSES, LABELS
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.picked import Picked

Leaves = tuple[np.ndarray, ...]

_GATHERED = 1 << 18  # bytes gathered at once, so that they are in the cache when the step reads them


def arrange(x: Any, layer: Any) -> Any:
    """Return inputs in the order of the model's `Input`s: a dict by their names, a list as a tuple.

    Raises:
        KeyError: a dict has other names than the inputs.
    """
    inputs = list(getattr(layer, "inputs", ()))
    if isinstance(x, Mapping) and not hasattr(x, "to_numpy") and inputs:
        names = layer.input_names
        if len(x) == len(inputs) == 1:
            return x
        if len(set(names)) < len(names):
            raise KeyError(
                f"x is a dict, and the model's inputs have no names to tell them apart ({names}); name them: "
                f"db.Input(..., name='left'), or pass a list in the order of the inputs"
            )
        if set(names) != set(x):
            raise KeyError(f"x has the names {sorted(map(str, x))}; the model's inputs are {names}")
        return tuple(x[name] for name in names)
    if isinstance(x, list) and inputs:
        alone = len(x) == len(inputs) == 1 and len(getattr(x[0], "shape", ())) == len(inputs[0].shape)
        return tuple(x) if alone or len(inputs) > 1 else x
    return x


def read_rows(value: Any) -> tuple[Any, float]:
    """Return rows that are no array as one, read one by one, and the seconds that those after the first one took.

    The first row is left out of the time: a file is opened, a cache filled. Arrays, lists and what makes an array of
    itself come back as they are.
    """
    known = (list, tuple, str, bytes, Mapping, Loader, Tensor)
    if isinstance(value, known) or not (hasattr(value, "__getitem__") and hasattr(value, "__len__")):
        return value, 0.0
    if any(hasattr(value, name) for name in ("__array__", "__array_interface__", "to_numpy", "get", "__buffer__")):
        return value, 0.0
    rows = iter(value)
    read = list(islice(rows, 1))
    began = perf_counter()
    read += rows
    seconds = perf_counter() - began
    try:
        return np.asarray(read), seconds
    except ValueError:  # of different lengths: what takes the data says so
        return read, seconds


def read_pair(given: Any) -> tuple[Any, float]:
    """Read what is no array of (x, y) or (x, y, sample_weight); return it and the seconds that this took."""
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        return given, 0.0
    (x, of_x), (y, of_y) = read_rows(given[0]), read_rows(given[1])
    return (x, y, *given[2:]), of_x + of_y


def as_arrays(name: str, value: Any, dtype: np.dtype[Any], notes: list[str]) -> Leaves:
    """Return the arrays in what a user gave: one array, or several for several inputs.

    Arguments:
        name: "x" or "y", for messages; "validation x" is an x, too.
        value: an array, Tensor, data frame, nested lists; a tuple or dict of them for several.
        dtype: the model's dtype; other floating arrays are converted once, and `notes` says so.
        notes: gets a line for each conversion.

    Raises:
        TypeError: the values are not numbers.
        ValueError: a value is not finite (with row numbers), or there are no rows.
    """
    if value is None:
        raise ValueError(f"{name} is missing: pass an array with one row per sample, or a db.data.Loader")
    if isinstance(value, Mapping):
        items: Sequence[Any] = list(value.values())
    elif isinstance(value, tuple) and value and all(np.ndim(v) == 0 for v in value if not hasattr(v, "shape")):
        items = [value] if not any(hasattr(v, "shape") and len(v.shape) for v in value) else list(value)
    elif isinstance(value, tuple):
        items = list(value)
    else:
        items = [value]
    result = []
    for number, item in enumerate(items):
        label = name if len(items) == 1 else f"{name}[{number}]"
        result.append(_as_array(label, item, dtype, notes))
    rows = {len(a) for a in result}
    if len(rows) > 1:
        raise ValueError(
            f"the arrays of {name} have different numbers of rows: {_few([len(a) for a in result])}. A tuple or a "
            f"dict means several inputs; rows of one array come as a list or an array"
        )
    return tuple(result)


def _as_array(name: str, value: Any, dtype: np.dtype[Any], notes: list[str]) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.numpy()
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif hasattr(value, "get") and hasattr(value, "__cuda_array_interface__"):
        value = value.get()
    if hasattr(value, "__iter__") and not hasattr(value, "__len__") and not hasattr(value, "__array__"):
        raise TypeError(
            f"{name} is a {type(value).__name__}, which is read once and has no length; collect it into arrays, or "
            f"use db.data.Loader(x, y, batch_size=32)"
        )
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(
            f"{name} is a masked array with {int(np.ma.getmaskarray(value).sum())} masked cells; fill them first: "
            f"{name.rpartition(' ')[2]}.filled(...), or leave these rows out"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: its rows have different lengths ({error})") from error
    if array.dtype.kind in "OUS":
        raise TypeError(
            f"{name} must hold numbers; got {array.dtype} such as {array.reshape(-1)[0]!r}. Encode text first: "
            f"db.data.read_table for tables, numpy.unique(labels, return_inverse=True) for labels"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have one row per sample; got a single number {value!r}")
    if len(array) == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}. There is nothing to learn from")
    if array.dtype.kind == "f":
        check_finite(name, array)
        if array.dtype != dtype:
            if not isinstance(value, list | tuple):
                notes.append(f"{name}: {array.dtype} converted to {dtype}")
            array = _narrowed(name, array, dtype)
    elif array.dtype.kind == "b":
        array = array.astype(np.int64 if name.rpartition(" ")[2].startswith("y") else dtype)
    return array


def _narrowed(name: str, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert finite floating numbers; refuse those that the dtype cannot hold."""
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    lost = ~np.isfinite(result) if dtype.itemsize < array.dtype.itemsize else None
    if lost is not None and lost.any():
        place = tuple(int(i) for i in np.argwhere(lost)[0])
        raise ValueError(
            f"{name} holds {array[place]:g} at {list(place)}, which {dtype} cannot hold (largest: "
            f"{np.finfo(dtype).max:.3g}). Scale the data first, for example with db.data.ZScore()"
        )
    return result


def _few(items: Sequence[Any]) -> str:
    """Show the first few items of a list."""
    return str(list(items)) if len(items) <= 4 else f"[{', '.join(map(str, items[:3]))}, ... {len(items)} in all]"


def check_rows(x: Leaves, y: Leaves | None) -> int:
    """Return the number of samples; x and y must agree."""
    rows = len(x[0])
    if y is not None and len(y[0]) != rows:
        raise ValueError(
            f"x has {rows} rows and y has {len(y[0])}; every sample needs one target. "
            f"Shapes: {_few([a.shape for a in x])} and {_few([a.shape for a in y])}"
            + ("; a tuple means several arrays, rows of one array come as a list or an array" if len(x) > 4 else "")
        )
    return rows


def weights_of(
    sample_weight: Any, class_weight: Any, y: Leaves, rows: int, dtype: np.dtype[Any], target: str = CLASSES
) -> np.ndarray | None:
    """Return one weight per sample (or per position of a sequence) from sample and class weights, or None."""
    weight: np.ndarray | None = None
    if sample_weight is not None:
        try:
            weight = np.asarray(sample_weight, dtype=dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"sample_weight must hold numbers, one per row ({error})") from error
        if weight.ndim < 1 or len(weight) != rows:
            raise ValueError(f"sample_weight must hold one weight per row, {rows} in all; got shape {weight.shape}")
        wrong = ~(np.isfinite(weight) & (weight >= 0))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"sample_weight must be finite and not negative; row {place[0]} has {weight[place]:g} "
                f"({int(wrong.sum())} weights are wrong)"
            )
    if class_weight is not None:
        factor = _class_factor(class_weight, y[0], dtype, target)
        if weight is not None:
            weight = weight.reshape(*weight.shape, *[1] * (factor.ndim - weight.ndim))
        weight = factor if weight is None else weight * factor
    if weight is not None and not weight.any():
        raise ValueError(
            "every weight is 0, so there is nothing to learn from: sample_weight (times class_weight) must be above 0 "
            "for some rows"
        )
    return weight


def _class_factor(class_weight: Any, labels: np.ndarray, dtype: np.dtype[Any], target: str) -> np.ndarray:
    """Return the weight of each label's class; `target` says what the loss takes."""
    if isinstance(class_weight, str):
        raise TypeError(
            f"class_weight is a mapping class -> weight such as {{0: 1.0, 1: 5.0}}; got {class_weight!r}. Balanced "
            f"weights are len(y) / (number of classes * numpy.bincount(y))"
        )
    table: dict[int, float] = {}
    for key, value in (class_weight.items() if isinstance(class_weight, Mapping) else enumerate(class_weight)):
        if isinstance(key, str) or int(key) != key:
            raise TypeError(f"class_weight names classes by whole numbers, such as {{0: 1.0, 1: 5.0}}; got {key!r}")
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"class_weight must be finite and not negative; class {key} has {value!r}")
        table[int(key)] = float(value)
    if labels.ndim > 1 and labels.shape[-1] > 1 and target != LABELS:
        if ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=-1) == 1).all():
            labels = labels.argmax(axis=-1)
        elif target != CLASSES or labels.dtype.kind == "f":
            raise ValueError(
                f"class_weight needs one class per sample; the targets of shape {labels.shape} are not one-hot rows. "
                f"Give sample_weight= instead"
            )
    labels = labels.reshape(labels.shape[0], *[n for n in labels.shape[1:] if n != 1])
    if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
        raise ValueError("class_weight needs classes; the targets are not whole numbers")
    found, place = np.unique(labels, return_inverse=True)
    missing = [int(c) for c in found if int(c) not in table]
    if missing:
        raise ValueError(f"class_weight has no weight for class {missing[0]}; it names {sorted(table)}")
    return np.asarray([table[int(c)] for c in found], dtype)[place.reshape(labels.shape)]


class Held:
    """Data that lie on a device, and the batch that comes next.

    Arguments:
        device: where they lie.
        arrays: inputs, targets and weights, as a step takes them.
        loader: says which rows make a batch.
    """

    def __init__(self, device: Device, arrays: list[Array], loader: Loader) -> None:
        self.device = device
        self._arrays = arrays
        self._loader = loader
        self._order: Array | None = None
        self._window: Array | None = None
        self.size = loader.batch_size
        self.at = 0
        self.end = loader.rows - loader.rows % self.size if loader.drop_last else loader.rows
        self.forms = [((self.size, *a.shape[1:]), a.dtype) for a in arrays]

    def begin(self, epoch: int) -> None:
        """Begin an epoch: the host sends the order of its rows."""
        self.at = 0
        if self._loader.shuffle:
            self._sort(self._loader.order(epoch).astype(np.int64))

    def _sort(self, order: np.ndarray) -> None:
        if self._order is None:
            self._order = self.device.asarray(order)
        else:
            self.device.write(self._order, order)

    def batches(self) -> Generator[tuple[list[Array], int], None, None]:
        """Yield the batches that are left."""
        while self.at < self.end:
            start, stop = self.at, min(self.at + self.size, self.end)
            self.at = stop
            if not self._loader.shuffle:
                yield [a[start:stop] for a in self._arrays], stop - start
            else:
                assert self._order is not None
                rows = self._order[start:stop]
                yield [call(self.device, SPECS["take"], (a, rows), {"axis": 0})[0] for a in self._arrays], stop - start

    def slide(self, count: int) -> None:
        """Choose so many whole batches from the next one on for `fill`."""
        if self._order is None:
            self._sort(np.arange(self._loader.rows))
        rows = count * self.size
        if self._window is None or self._window.shape[0] != rows:
            self._window = self.device.backend.empty((rows,), np.dtype(np.int64))
        assert self._order is not None
        self.device.write(self._window, self._order[self.at : self.at + rows])
        self.at += rows

    def fill(self, number: int, slots: Sequence[Array]) -> list[Any]:
        """Return the calls that gather one of the chosen batches."""
        assert self._window is not None
        rows = self._window[number * self.size : (number + 1) * self.size]
        plans = [find_plan(self.device, SPECS["take"], (a, rows), {"axis": 0}) for a in self._arrays]
        return [
            (plan.run, (slot,), (a, rows), ()) for plan, slot, a in zip(plans, slots, self._arrays, strict=True)
        ]


@dataclass(slots=True)
class Source:
    """Data as the loop takes it.

    Attributes:
        loader: gives the batches.
        inputs: how many arrays x has.
        targets: how many arrays y has.
        weighted: whether batches carry weights.
        rows: number of samples.
        shapes: shapes of one sample of each input.
        dtypes: dtypes of the inputs as the model sees them.
        layer: whose inputs a dict is sorted for.
        look: looks at the targets of every batch; None where all data were looked at before.
        held: the data on a device that is far from the host, where they are small enough.
    """

    loader: Loader
    inputs: int
    targets: int
    weighted: bool
    rows: int
    shapes: list[tuple[int, ...]]
    dtypes: list[np.dtype[Any]]
    layer: Any = None
    look: Callable[[np.ndarray], None] | None = None
    held: Held | None = None

    def arrays(self, batch: Any) -> list[np.ndarray]:
        """Return the arrays of a batch, flat, as the step takes them."""
        result = [
            a if a.dtype == dtype else a.astype(dtype)
            for a, dtype in zip(leaves(arrange(batch.x, self.layer)), self.dtypes, strict=True)
        ]
        if self.look is not None:
            check_finite("x", batch.x)
        if self.targets:
            result.extend(leaves(batch.y))
            if self.look is not None:
                self.look(leaves(batch.y)[0])
        if self.weighted:
            result.append(np.asarray(batch.sample_weight))
        return result

    def batches(self, epoch: int, device: Device | None = None) -> Generator[tuple[Sequence[Array], int], None, None]:
        """Return for every batch of an epoch its arrays, as the step takes them, and how many rows it has.

        The arrays are read and not kept: where nothing is shuffled they may be views of the data. With a device that
        keeps small data they are arrays of it.
        """
        loader = self.loader
        if self.layer is None and self.look is None and not loader.prefetch and loader.augment is None:
            plain = [*leaves(loader.x), *(leaves(loader.y) if self.targets else ())]
            plain += [loader.sample_weight] if self.weighted else []
            if all(isinstance(a, np.ndarray) for a in plain):
                held = None if device is None else self._hold(plain, device)
                if held is None:
                    return self._pieces(plain, epoch)
                held.begin(epoch)
                return held.batches()
        return self._loaded(epoch)

    def _loaded(self, epoch: int) -> Generator[tuple[list[Array], int], None, None]:
        """Yield the batches that the loader makes."""
        batches = self.loader.epoch(epoch)
        try:
            for batch in batches:
                yield self.arrays(batch), len(batch.rows)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _wanted(self, data: list[np.ndarray]) -> list[np.dtype[Any]]:
        """Return the dtypes in which the step takes the data."""
        return [*self.dtypes, *(a.dtype for a in data[self.inputs :])]

    def _hold(self, data: list[np.ndarray], device: Device) -> Held | None:
        """Put the data on the device once, where it keeps data of this size; None where it does not."""
        if self.held is not None and self.held.device is device:
            return self.held
        dtypes = self._wanted(data)
        size = sum(a.size * dtype.itemsize for a, dtype in zip(data, dtypes, strict=True))
        if device.backend.keeps is None or not device.backend.keeps(size):
            return None
        arrays = [device.asarray(a, dtype) for a, dtype in zip(data, dtypes, strict=True)]
        self.held = Held(device, arrays, self.loader)
        return self.held

    def _pieces(self, data: list[np.ndarray], epoch: int) -> Generator[tuple[Sequence[np.ndarray], int], None, None]:
        """Gather the rows of many small batches at once: one call costs more than the rows of a batch.

        Nothing is gathered where a program takes the rows itself.
        """
        loader = self.loader
        size = loader.batch_size
        dtypes = self._wanted(data)
        row = max(sum(a[:1].size * dtype.itemsize for a, dtype in zip(data, dtypes, strict=True)), 1)
        block = max(_GATHERED // (row * size), 1) * size
        order = loader.order(epoch) if loader.shuffle else None
        end = loader.rows - loader.rows % size if loader.drop_last else loader.rows
        if order is not None and all(a.dtype == dtype for a, dtype in zip(data, dtypes, strict=True)):
            yield from _picked(data, order[:end], size, block)
            return
        for start in range(0, end, block):
            stop = min(start + block, end)
            here = [take(a, order[start:stop]) if order is not None else a[start:stop] for a in data]
            here = [a if a.dtype == dtype else a.astype(dtype) for a, dtype in zip(here, dtypes, strict=True)]
            for at in range(0, stop - start, size):
                yield [a[at : at + size] for a in here], min(size, stop - start - at)

    def again(self, epoch: int, step: int, accumulate: int) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
        """Return the arrays of the micro-batches of a step, gathered once more, and the numbers of their rows."""
        loader = self.loader
        batches = loader.epoch(epoch, min(step * accumulate * loader.batch_size, loader.rows))
        arrays: list[list[np.ndarray]] = []
        rows: list[np.ndarray] = []
        try:
            for batch in batches:
                arrays.append(self.arrays(batch))
                rows.append(batch.rows)
                if len(arrays) == accumulate:
                    break
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()
        return arrays, rows


def _picked(
    data: Sequence[np.ndarray], order: np.ndarray, size: int, block: int
) -> Generator[tuple[Sequence[np.ndarray], int], None, None]:
    """Yield the rows of each batch; who looks into one gets those of its block gathered at once."""
    first, here = 0, [a[:0] for a in data]

    def gather(start: int, stop: int) -> list[np.ndarray]:
        nonlocal first, here
        if not first <= start <= stop <= first + len(here[0]):
            first = start
            here = [take(a, order[start : start + block]) for a in data]
        return [a[start - first : stop - first] for a in here]

    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield Picked(data, rows, partial(gather, start, start + len(rows))), len(rows)


def leaves(value: Any) -> list[np.ndarray]:
    """Return the arrays in a batch's x or y."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
