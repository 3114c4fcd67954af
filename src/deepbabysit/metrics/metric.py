"""The Metric: sums that add up exactly over batches, and the number that is made of them at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from deepbabysit import losses
from deepbabysit.autograd.operations import TensorOperations, tensor_operations
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.errors import unknown, unknown_keywords
from deepbabysit.losses import Loss
from deepbabysit.losses.loss import LossClass
from deepbabysit.losses.loss import find as _find_loss
from deepbabysit.losses.loss import spellings as _loss_spellings
from deepbabysit.losses.targets import check_weight_shape, check_weights
from deepbabysit.runtime.context import no_grad


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a metric sees of a batch.

    Attributes:
        xp: operations on Tensors.
        y, p: targets and outputs.
        weight: sample weights in float64, or None.
        loss: the loss the model is trained with, or None.
        name: the metric's name, for messages.
    """

    xp: TensorOperations
    y: Tensor
    p: Tensor
    weight: Tensor | None
    loss: Loss | None
    name: str

    def spread(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the weights, one for each position of that shape; None where every position counts 1."""
        weight = self.weight
        if weight is None:
            return None
        check_weight_shape(self.name, weight.shape, shape)
        wide = weight.reshape(*weight.shape, *[1] * (len(shape) - weight.ndim))
        return wide if wide.shape == shape else self.xp.broadcast_to(wide, shape)

    def total(self, values: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted sum of values as one float64 number; yes-or-no values are counted exactly."""
        if weight is None:
            return self.xp.sum(values if values.dtype.kind in "iub" else values.astype(np.float64)).astype(np.float64)
        return self.xp.sum(values.astype(np.float64) * weight)

    def count(self, shape: tuple[int, ...], weight: Tensor | None) -> Tensor:
        """Return the sum of the weights of that many positions."""
        if weight is not None:
            return self.xp.sum(weight)
        number = float(np.prod(shape, dtype=np.int64))
        return Tensor(self.p.device.constant(number, np.dtype(np.float64)), self.p.device)

    def join(self, *numbers: Tensor) -> Tensor:
        """Return single numbers as one vector."""
        return self.xp.concat([n.reshape(-1) for n in numbers], axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A measure.

    Arguments:
        name: its name.
        totals: ``totals(batch, choose, **options)`` -> 1-D float64 Tensor; ``choose(text)`` says which form was picked.
        result: ``result(totals, **options)`` -> float, from sums on the host; for a gathering one from the list of what
            was gathered.
        options: keyword options with their defaults.
        gather: ``gather(batch, **options)`` -> host arrays, for a measure that needs every prediction at once.
        source: the loss it measures, where it measures one.
        function: the user's function, where it is one.
    """

    name: str
    totals: Callable[..., Tensor] | None
    result: Callable[..., float]
    options: Mapping[str, Any] = field(default_factory=dict)
    gather: Callable[..., Any] | None = None
    source: Loss | None = None
    function: Callable[..., Any] | None = None


@final
class Metric:
    """A metric: ``metric(y_true, y_pred, sample_weight=None)`` is a float; `totals` and `result` are its two halves.

    The totals of batches add up to those of the whole, also where the last batch is shorter; no mean of means is taken.
    A gathering metric (``gathers`` is True: `auc`) cannot be made of sums: it keeps what `gather` returns per batch.

    Arguments:
        kind: what is measured.
        options: keyword options.
        loss: the loss of the model; it tells probabilities from logits and which labels are left out.
        name: another name.

    >>> import deepbabysit as db
    >>> db.metrics.accuracy([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    0.6666666666666666
    """

    def __init__(
        self, kind: Kind, options: Mapping[str, Any] | None = None, loss: Loss | None = None, name: str | None = None
    ) -> None:
        given = dict(options or {})
        strange = [o for o in given if o not in kind.options]
        if strange:
            raise TypeError(unknown_keywords(kind.name, strange, kind.options))
        self.kind = kind
        self.options = {**kind.options, **given}
        self.loss = loss
        self.name = name or kind.name
        self.chosen: str | None = None  # which form `accuracy` and its like picked, once they have seen a batch
        self._given = given

    @property
    def gathers(self) -> bool:
        """Whether it needs every prediction on the host at once."""
        return self.kind.gather is not None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"{self.name}({given})" if given else self.name

    def with_(self, name: str | None = None, **options: Any) -> Metric:
        """Return the same metric with other options, or under another name.

        >>> import deepbabysit as db
        >>> db.metrics.top_k_accuracy.with_(k=2, name="top2")
        top2(k=2)
        """
        return Metric(self.kind, {**self._given, **options}, self.loss, name or self.name)

    def config(self) -> dict[str, Any]:
        """Return name and options as plain data; `from_config` makes the metric of it again.

        Of a user's own function only the name is kept.
        """
        kind = self.kind
        if kind.function is not None:
            return {"own": kind.name}
        config: dict[str, Any] = {"metric": kind.name, "name": self.name, "options": dict(self._given)}
        if kind.source is not None:
            config["loss"] = kind.source.config()
        return config

    def _batch(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Batch:
        p = y_pred if isinstance(y_pred, Tensor) else tensor(
            y_pred, device=y_true.device if isinstance(y_true, Tensor) else None
        )
        if p.dtype.kind != "f":
            p = p.astype(np.float32)
        y = y_true if isinstance(y_true, Tensor) else tensor(y_true, device=p.device)
        if y.device is not p.device:
            raise ValueError(f"{self.name}: y_true is on {y.device} and y_pred on {p.device}; move one with .to(...)")
        if y.ndim and p.ndim and y.shape[0] != p.shape[0]:
            raise ValueError(f"{self.name}: there are {y.shape[0]} targets and {p.shape[0]} outputs")
        weight = None
        if sample_weight is not None:
            if not isinstance(sample_weight, Tensor):
                array = np.asarray(sample_weight, np.float64)
                check_weights(self.name, array)
                sample_weight = tensor(array, device=p.device)
            weight = sample_weight.astype(np.float64)
        return Batch(tensor_operations(p.device), y, p, weight, self.loss, self.name)

    def _choose(self, form: str) -> None:
        self.chosen = form

    def totals(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the sums of a batch as a 1-D float64 Tensor; made of operations only, so it can be recorded.

        Raises:
            TypeError: the metric gathers; use `gather`.
            ValueError: shapes do not fit.
        """
        if self.kind.totals is None:
            raise TypeError(f"{self.name} cannot be made of sums; it gathers: use gather(y_true, y_pred) per batch")
        with no_grad():
            batch = self._batch(y_true, y_pred, sample_weight)
            return self.kind.totals(batch, self._choose, **self.options)

    def gather(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return what a gathering metric keeps of a batch, on the host; `result` takes the list of them.

        Raises:
            TypeError: the metric is made of sums; use `totals`.
        """
        if self.kind.gather is None:
            raise TypeError(f"{self.name} is made of sums; use totals(y_true, y_pred) for each batch")
        with no_grad():
            return self.kind.gather(self._batch(y_true, y_pred, sample_weight), **self.options)

    def result(self, totals: Any) -> float:
        """Return the metric of summed totals (or of the list of what was gathered); NaN where there was nothing."""
        if self.gathers:
            return float(self.kind.result(list(totals), **self.options))
        return float(self.kind.result(np.asarray(totals, np.float64), **self.options))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the metric of arrays or Tensors.

        Arguments:
            y_true: targets (N, ...): class numbers, one-hot rows, or numbers.
            y_pred: outputs (N, ...); predicted class numbers are understood, too.
            sample_weight: (N,) weights.
        """
        y_true, y_pred = _labels_as_rows(y_true, y_pred)
        if self.gathers:
            return self.result([self.gather(y_true, y_pred, sample_weight)])
        return self.result(self.totals(y_true, y_pred, sample_weight).numpy())


def _labels_as_rows(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Make one-hot rows of predicted class numbers above 1, which are no scores."""
    p = y_pred.numpy() if isinstance(y_pred, Tensor) else np.asarray(y_pred)
    if p.dtype.kind not in "iu" or not p.size or int(p.max()) < 2:
        y = np.asarray(y_true.numpy() if isinstance(y_true, Tensor) else y_true)
        if p.dtype.kind not in "iu" or y.dtype.kind not in "iu" or y.shape != p.shape or not y.size or int(y.max()) < 2:
            return y_true, y_pred
    y = np.asarray(y_true.numpy() if isinstance(y_true, Tensor) else y_true)
    if y.shape != p.shape or y.dtype.kind not in "iu":
        return y_true, y_pred
    classes = int(max(p.max(), y.max())) + 1
    return y, np.eye(classes, dtype=np.float32)[p]


# -- the table ---------------------------------------------------------------------------------------------------------

TABLE: dict[str, Metric] = {}
_BY_SPELLING: dict[str, Metric] = {}
_SPELLINGS: list[str] = []


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()


def register(metric: Metric, *spellings: str) -> Metric:
    """Put a metric into the table, under its name and other spellings."""
    TABLE[metric.name] = metric
    for spelling in (metric.name, *spellings):
        if _BY_SPELLING.setdefault(_fold(spelling), metric) is not metric:
            raise ValueError(f"the spelling {spelling!r} is taken")
        _SPELLINGS.append(spelling)
    return metric


def define(*spellings: str, result: Callable[..., float]) -> Callable[[Callable[..., Any]], Metric]:
    """Make a Metric of a function ``(batch, choose, *, options) -> totals``."""

    def make(function: Callable[..., Any]) -> Metric:
        metric = Metric(Kind(function.__name__, function, result, dict(function.__kwdefaults__ or {})))
        metric.__doc__ = function.__doc__
        return register(metric, *spellings)

    return make


def ratio(totals: np.ndarray, **_: Any) -> float:
    """Return the first sum divided by the second."""
    return float(totals[0] / totals[1]) if totals[1] else float("nan")


def of_loss(loss: Loss, name: str | None = None) -> Metric:
    """Return a metric that measures a loss; its totals are the parts of the loss in float64."""

    def totals(batch: Batch, choose: Any) -> Tensor:
        total, weight = loss.parts(batch.y, batch.p, batch.weight, dtype=np.float64)
        return batch.join(total, weight)

    metric = Metric(Kind(loss.name, totals, lambda found: loss.value(found[0], found[1]), source=loss), name=name)
    metric.__doc__ = loss.__doc__
    return metric


@final
class MetricClass:
    """A class-style name such as ``TopKCategoricalAccuracy``: called with options it returns a Metric."""

    def __init__(self, name: str, metric: Metric) -> None:
        self.__name__ = name
        self.__doc__ = metric.__doc__
        self.metric = metric

    def __call__(self, name: str | None = None, **options: Any) -> Metric:
        """Return the metric with these options."""
        return self.metric.with_(name, **options)

    def __repr__(self) -> str:
        return f"<metric class {self.__name__}>"


def find(name: str) -> Metric | None:
    """Return the metric of a name in any spelling, a loss of that name included, or None."""
    found = _BY_SPELLING.get(_fold(name))
    if found is None:
        loss = _find_loss(name)
        found = None if loss is None else of_loss(loss)
    return found


def spellings() -> list[str]:
    """Return every name that is understood."""
    return [*_SPELLINGS, *(s for s in _loss_spellings() if _fold(s) not in _BY_SPELLING)]


def offered(name: str) -> list[str]:
    """Return the names that a misspelt one is compared with: those of its style."""
    classes = name[:1].isupper()
    return [s for s in spellings() if s[0].isupper() == classes]


def get(metric: Any, loss: Any = None) -> Metric:
    """Return the metric that is meant, told about the model's loss.

    Arguments:
        metric: a name (``"accuracy"``, ``"acc"``, ``"TopKCategoricalAccuracy"``, the name of any loss), a Metric, a
            Loss, a class-style name of this module, a dict ``{"name": ..., options}``, or a function
            ``(y_true, y_pred) -> Tensor``: values (N, ...), or one number for the batch.
        loss: the loss the model is trained with, in any form `losses.get` takes.

    Raises:
        ValueError: there is no metric of that name; the nearest ones are offered.
        TypeError: it is nothing of the kind.

    >>> import deepbabysit as db
    >>> db.metrics.get("acc", loss="cross_entropy")
    acc
    >>> db.metrics.get("acuracy")
    Traceback (most recent call last):
    ValueError: unknown metric 'acuracy'; did you mean 'accuracy' ...
    """
    known = None if loss is None else losses.get(loss)
    if isinstance(metric, str):
        found = find(metric)
        if found is None:
            raise ValueError(unknown("metric", metric, offered(metric)))
        # a snake-case name is kept as it was written: it is the key in the history
        return _with_loss(found, known, metric if metric.islower() else found.name)
    if isinstance(metric, MetricClass):
        metric = metric()
    if isinstance(metric, Metric):
        return _with_loss(metric, known, metric.name)
    if isinstance(metric, Loss | LossClass):
        return of_loss(losses.get(metric))
    if isinstance(metric, Mapping):
        if "metric" in metric or "own" in metric:
            return get(from_config(metric), known)
        options = dict(metric)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise TypeError(f"a metric given as a dict needs its 'name'; got {dict(metric)!r}")
        return get(name, known).with_(**options)
    if callable(metric):
        return _own(metric)
    raise TypeError(
        f"a metric is a name, a Metric or a function (y_true, y_pred) -> Tensor; got {type(metric).__name__}"
    )


def from_config(config: Mapping[str, Any] | str, objects: Mapping[str, Any] | None = None) -> Metric:
    """Return the metric that `Metric.config` described.

    Arguments:
        config: name and options.
        objects: the user's own functions by name.

    Raises:
        ValueError: it was the user's own function, and `objects` does not hold it.
    """
    if isinstance(config, str) or "metric" not in config and "own" not in config:
        return get(config)
    own = config.get("own")
    if own is not None:
        if own not in (objects or {}):
            raise ValueError(
                f"the metric {own!r} is a function of its own and was not handed in; "
                f"give it when loading: load_model(path, objects={{{own!r}: {own}}})"
            )
        return get((objects or {})[own])
    if "loss" in config:
        return of_loss(losses.from_config(config["loss"], objects), config["name"])
    return get(config["metric"]).with_(config["name"], **config["options"])


def _with_loss(metric: Metric, loss: Loss | None, name: str) -> Metric:
    return Metric(metric.kind, metric._given, loss or metric.loss, name)


def _own(function: Callable[..., Any]) -> Metric:
    """Wrap a user's function."""
    name = getattr(function, "__name__", type(function).__name__)

    def totals(batch: Batch, choose: Any) -> Tensor:
        values = function(batch.y, batch.p)
        if not isinstance(values, Tensor):
            raise TypeError(f"the metric {name!r} must return a Tensor made of operations; got {type(values).__name__}")
        if not values.ndim:
            if batch.weight is not None:
                raise ValueError(f"the metric {name!r} returns one number for the whole batch and cannot be weighted")
            rows = batch.count(batch.p.shape[:1], None)
            return batch.join(values.astype(np.float64) * rows, rows)
        weight = batch.spread(values.shape)
        return batch.join(batch.total(values, weight), batch.count(values.shape, weight))

    return Metric(Kind(name, totals, ratio, function=function))


def host_rows(values: Sequence[Any]) -> np.ndarray:
    """Return gathered arrays as one."""
    return np.concatenate([np.asarray(v) for v in values])
