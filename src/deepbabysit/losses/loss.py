"""The Loss: a formula with its options, what it expects of targets, how it adds up over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from deepbabysit.autograd.operations import TensorOperations, tensor_operations
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.errors import unknown, unknown_keywords
from deepbabysit.kernels.shapes import is_floating, show_shape
from deepbabysit.losses import targets
from deepbabysit.runtime.context import current


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A formula.

    Arguments:
        name: its name.
        evaluate: ``evaluate(xp, y, p, **options)`` -> losses of shape (N, ...), or (losses, weights of that shape).
        target: what it is told (`losses.targets`).
        options: keyword options with their defaults.
        root: whether the loss is the root of the mean (rmse).
        logits: whether the output is taken as logits.
        threshold: where an output counts as "yes": 0.5 for probabilities, 0 for logits and margins.
        function: the user's function, where it is one.
    """

    name: str
    evaluate: Callable[..., Any]
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    root: bool = False
    logits: bool = False
    threshold: float = 0.5
    function: Callable[..., Any] | None = None


@final
class Loss:
    """A loss: ``loss(y_true, y_pred, sample_weight=None)`` gives one number as a Tensor.

    ``L = sum(w_i l_i) / sum(w_i)``, where `l_i` is the mean of the sample's losses over all axes but the first. Weights
    have shape (N,), or more leading axes of the losses (a sequence: (N, T)). With `ignore_index` or `class_weight` each
    position of a sequence counts by itself. The argument order is Keras'. Where one argument of a classification loss
    holds whole numbers and the other floating ones, PyTorch's order (outputs, targets) is understood as well; otherwise
    nothing is guessed.

    Shapes are compared before anything is computed; the values of targets that are on the host are looked at, too.

    Arguments of a call:
        y_true: targets; an array, list or Tensor.
        y_pred: outputs (N, ...), floating.
        sample_weight: weights, not negative.
        options: options of the loss for this call.

    Raises:
        ValueError: shapes that would broadcast, labels outside the classes, targets outside [0, 1].
        TypeError: labels that are not whole numbers, an unknown option.

    >>> import deepbabysit as db
    >>> db.losses.mse([[1.0], [2.0]], [[1.0], [4.0]]).item()
    2.0
    >>> soft = db.losses.cross_entropy.with_(label_smoothing=0.1)
    >>> soft
    cross_entropy(label_smoothing=0.1)
    >>> db.losses.mse([1.0, 2.0], [[1.0], [4.0]])
    Traceback (most recent call last):
    ValueError: mse: y_true has shape (2,) and y_pred (2, 1), which would broadcast to (2, 2); ...
    """

    def __init__(self, kind: Kind, given: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self._given = dict(given or {})
        unknown_names = [name for name in self._given if name not in kind.options]
        if unknown_names:
            raise TypeError(unknown_keywords(kind.name, unknown_names, kind.options))
        self.options: dict[str, Any] = {
            name: _checked(kind.name, name, self._given.get(name, default)) for name, default in kind.options.items()
        }

    @property
    def name(self) -> str:
        """The short name."""
        return self.kind.name

    @property
    def from_logits(self) -> bool:
        """Whether outputs are taken as logits."""
        return bool(self.kind.logits or self.options.get("from_logits"))

    @property
    def ignore_index(self) -> int | None:
        """The label whose positions are left out."""
        return self.options.get("ignore_index")

    @property
    def threshold(self) -> float:
        """The output above which a yes-or-no prediction is "yes": 0 for logits and margins, else 0.5."""
        return 0.0 if self.from_logits else self.kind.threshold

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"{self.name}({given})" if given else self.name

    def with_(self, **options: Any) -> Loss:
        """Return the same loss with other options.

        >>> import deepbabysit as db
        >>> db.losses.huber.with_(delta=2.0)([0.0], [4.0]).item()
        6.0
        """
        return Loss(self.kind, {**self._given, **options})

    def config(self) -> dict[str, Any]:
        """Return name and options as plain data; `from_config` makes the loss of it again.

        Of a user's own function only the name is kept.
        """
        if self.kind.function is not None:
            return {"own": self.name}
        return {"name": self.name, **{k: _plain(v) for k, v in self._given.items()}}

    # -- values --------------------------------------------------------------------------------------------------------

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, **options: Any) -> Tensor:
        """Return the weighted mean of the losses as a Tensor of one number."""
        if options:
            return self.with_(**options)(y_true, y_pred, sample_weight)
        total, weight = self._sums(y_true, y_pred, sample_weight, look=True)
        return self.mean(total, weight)

    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None, dtype: Any = None) -> tuple[Tensor, Tensor]:
        """Return (weighted sum of the losses, sum of the weights), each one number, in the dtype of the outputs.

        Both add up over micro-batches exactly to those of the whole batch; `mean` makes the loss of them. Values of
        targets that are Tensors are not looked at here (`check_targets` does it once per data set).

        Arguments:
            y_true, y_pred, sample_weight: as in a call.
            dtype: type in which the sums are taken (metrics take float64).
        """
        return self._sums(y_true, y_pred, sample_weight, look=False, dtype=dtype)

    def mean(self, total: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of sums over one or more batches: ``total / weight`` (its root for rmse).

        Where nothing had a weight the loss is 0, and so is its gradient.

        >>> import deepbabysit as db
        >>> total, weight = db.losses.rmse.parts([[0.0], [0.0]], [[3.0], [4.0]])
        >>> round(db.losses.rmse.mean(total, weight).item() ** 2, 4)
        12.5
        """
        xp = tensor_operations(total.device)
        share = total / xp.maximum(weight, float(np.finfo(weight.dtype).tiny))
        return xp.sqrt(share) if self.kind.root else share

    def scale(self, total: Tensor, weight: Tensor) -> Tensor:
        """Return the factor that makes of the gradient of `total` that of the loss: ``1 / weight``.

        For rmse it is ``1 / (2 sqrt(total weight))``.

        For micro-batches: gradients of their totals add up, and are multiplied once all totals and weights are known.
        """
        xp = tensor_operations(total.device)
        tiny = float(np.finfo(weight.dtype).tiny)
        if not self.kind.root:
            return 1.0 / xp.maximum(weight, tiny)
        flat = total == 0.0
        slope = 0.5 / xp.maximum(xp.sqrt(total) * xp.sqrt(weight), tiny)
        return xp.where(flat, 0.0, slope)

    def value(self, total: float, weight: float) -> float:
        """Return the loss of sums read on the host; NaN where nothing had a weight."""
        if not weight:
            return math.nan
        share = float(total) / float(weight)
        return math.sqrt(share) if self.kind.root else share

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return one loss per sample, (N,): the mean over the other axes, without weights."""
        xp, losses, weights = self._evaluate(y_true, y_pred, look=True)
        if not losses.ndim:
            raise ValueError(f"{self.name} returns one number for the whole batch; it has no loss per sample")
        axes = tuple(range(1, losses.ndim))
        if weights is not None:
            top, bottom = losses * weights, weights
            if axes:
                top, bottom = xp.sum(top, axis=axes), xp.sum(weights, axis=axes)
            losses = top / xp.maximum(bottom, float(np.finfo(bottom.dtype).tiny))
        elif axes:
            losses = xp.mean(losses, axis=axes)
        return xp.sqrt(losses) if self.kind.root else losses

    # -- checks --------------------------------------------------------------------------------------------------------

    def check_targets(self, y: Any, output_shape: Sequence[int | None]) -> None:
        """Look at all targets of a data set on the host, before the first step.

        Arguments:
            y: targets (N, ...).
            output_shape: shape of the outputs; None for an unknown number of rows.

        Raises:
            ValueError: shapes or values do not fit the loss; names the row, the number of classes and one fix.
            TypeError: labels are not whole numbers.

        >>> import numpy as np, deepbabysit as db
        >>> db.losses.cross_entropy.check_targets(np.array([0, 12]), (None, 10))
        Traceback (most recent call last):
        ValueError: cross_entropy: label 12 in row 1, but the output has 10 classes: labels are 0 to 9...
        """
        array = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
        shape = targets.concrete(output_shape, array.shape)
        self._check(array.shape, array.dtype.kind, shape, array, tuple(output_shape))

    def _check(
        self, y: tuple[int, ...], kind: str, p: tuple[int, ...], values: np.ndarray | None, shown: Any = None
    ) -> str:
        target = self.kind.target
        form = targets.check_shapes(self.name, target, y, kind, p, shown)
        if form == targets.ONE_HOT and self.ignore_index is not None:
            raise ValueError(f"{self.name}: ignore_index goes with class numbers; y_true holds one-hot rows")
        if values is not None:
            targets.check_values(self.name, target, form, values, p[-1] if p else 0, self.ignore_index)
        return form

    def codes(self, y_pred: Tensor) -> tuple[str, ...]:
        """Return the codes of findings that an output makes sure of (works on symbolic outputs, too).

        A loss of logits on the output of a softmax or sigmoid computes what was asked for, the softmax of a softmax,
        and this is where the babysitter learns of it: ``double_softmax``. One softmax unit: ``one_unit_softmax``.

        >>> import deepbabysit as db
        >>> db.losses.cross_entropy.codes(db.ops.softmax([[1.0, 2.0]]))
        ('double_softmax',)
        """
        found = []
        memory = y_pred.logits
        if memory is not None and self.from_logits and memory[0] in ("softmax", "sigmoid"):
            found.append("double_softmax")
        over_classes = self.kind.target in (targets.LABELS, targets.ONE_HOT, targets.CLASSES)
        softmax = memory is not None and memory[0] in ("softmax", "log_softmax")
        if (over_classes or softmax) and y_pred.ndim > 1 and y_pred.shape[-1] == 1:
            found.append("one_unit_softmax")
        return tuple(found)

    # -- how it is done ------------------------------------------------------------------------------------------------

    def prepare(self, y_true: Any, y_pred: Any, look: bool) -> tuple[Tensor, Tensor]:
        """Return targets and outputs as Tensors that belong together; `look` at values the host can see."""
        given_y, given_p = _as_given(y_true), _as_given(y_pred)
        if self.kind.target in targets.SWAPPABLE and given_p.dtype.kind in "iub" and given_y.dtype.kind == "f":
            given_y, given_p = given_p, given_y  # PyTorch's order, by type
        if isinstance(given_p, Tensor):
            p = given_p
        else:
            p = tensor(given_p, device=given_y.device if isinstance(given_y, Tensor) else None)
        if not is_floating(p.dtype):
            p = p.astype(np.float32)
        values = None
        if isinstance(given_y, np.ndarray):
            values = given_y
        elif not isinstance(given_y, Tensor):
            pass  # an array of another library: looking would copy it to the host
        elif look and current().recorder is None and given_y.device.backend.xp is np and not given_y.device.abstract:
            values = given_y.numpy()
        form = self._check(tuple(given_y.shape), given_y.dtype.kind, p.shape, values)
        return _target_tensor(self.name, given_y, p, form, self.kind.target), p

    def _evaluate(self, y_true: Any, y_pred: Any, look: bool) -> tuple[TensorOperations, Tensor, Tensor | None]:
        y, p = self.prepare(y_true, y_pred, look)
        xp = tensor_operations(p.device)
        found = self.kind.evaluate(xp, y, p, **self.options)
        losses, weights = found if isinstance(found, tuple) else (found, None)
        if not isinstance(losses, Tensor):
            raise TypeError(f"the loss {self.name!r} must return a Tensor; got {type(losses).__name__}")
        if losses.ndim and p.ndim and losses.shape[0] != p.shape[0]:
            raise ValueError(
                f"the loss {self.name!r} must return one number, or losses (N, ...) with N = {p.shape[0]}; "
                f"got shape {show_shape(losses.shape)}"
            )
        return xp, losses, weights

    def _sums(
        self, y_true: Any, y_pred: Any, sample_weight: Any, look: bool, dtype: Any = None
    ) -> tuple[Tensor, Tensor]:
        xp, losses, weights = self._evaluate(y_true, y_pred, look)
        if dtype is not None:
            losses = losses.astype(dtype)
            weights = None if weights is None else weights.astype(dtype)
        given = None if sample_weight is None else _weight_tensor(self.name, sample_weight, losses)
        if not losses.ndim:
            if given is not None:
                raise ValueError(f"{self.name} returns one number for the whole batch and cannot be weighted")
            rows = _as_given(y_pred).shape[0] if _as_given(y_pred).shape else 1
            return losses * float(rows), _constant(losses, rows)
        if given is not None:
            targets.check_weight_shape(self.name, given.shape, losses.shape)
        if weights is not None:
            if given is not None:
                weights = weights * given.reshape(*given.shape, *[1] * (losses.ndim - given.ndim))
            return xp.sum(losses * weights), xp.sum(weights)
        axes = tuple(range(1 if given is None else given.ndim, losses.ndim))
        if axes:
            losses = xp.mean(losses, axis=axes)
        if given is None:
            return xp.sum(losses), _constant(losses, losses.shape[0])
        return xp.sum(losses * given), xp.sum(given)


def _constant(like: Tensor, value: float) -> Tensor:
    return Tensor(like.device.constant(float(value), like.dtype), like.device)


def _as_given(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value
    if value is None:
        raise TypeError("a loss compares y_true with y_pred; got None")
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, np.dtype) and hasattr(value, "shape") and not hasattr(value, "iloc"):
        return value
    return _plain_array(value)


def _plain_array(value: Any) -> np.ndarray:
    """Lists become arrays; Python's floats float32, as everywhere."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 and not hasattr(value, "dtype") else array


def _target_tensor(name: str, y: Any, p: Tensor, form: str, target: str) -> Tensor:
    """Return targets on the device of the outputs: labels as int64, everything else in the outputs' dtype."""
    wanted = np.dtype(np.int64) if form == targets.LABELS else p.dtype
    if target == targets.ANYTHING and y.dtype.kind != "f":
        wanted = np.dtype(y.dtype)
    if not isinstance(y, Tensor):
        return tensor(y, dtype=wanted, device=None if p.device.abstract else p.device)
    if y.device is not p.device and not y.device.abstract and not p.device.abstract:
        raise ValueError(
            f"{name}: y_true is on {y.device} and y_pred on {p.device}; move one: y_true.to({str(p.device)!r})"
        )
    return y.astype(wanted)


def _weight_tensor(name: str, weight: Any, losses: Tensor) -> Tensor:
    if isinstance(weight, Tensor):
        return weight.astype(losses.dtype)
    array = np.asarray(weight, dtype=losses.dtype)
    targets.check_weights(name, array)
    return tensor(array, device=losses.device)


def _checked(name: str, option: str, value: Any) -> Any:
    """Refuse values of options that mean nothing; make the others hashable."""
    if option == "label_smoothing" and not 0.0 <= float(value) < 1.0:
        raise ValueError(f"{name}: label_smoothing is a share of at least 0 and below 1; got {value}")
    if option == "delta" and not float(value) > 0.0:
        raise ValueError(f"{name}: delta must be positive; got {value}")
    if option == "ignore_index" and value is not None and int(value) != value:
        raise ValueError(f"{name}: ignore_index is a whole number or None; got {value!r}")
    if option == "class_weight" and value is not None:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(np.asarray(value).tolist())
        try:
            table = tuple(sorted((int(c), float(w)) for c, w in pairs))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name}: class_weight is a list of weights or a dict class -> weight; got {value!r}"
            ) from error
        if any(w < 0 or not math.isfinite(w) for _, w in table):
            raise ValueError(f"{name}: class weights must be finite and not negative; got {value!r}")
        return table
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [[int(k), float(v)] for k, v in value.items()]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


# -- the table ---------------------------------------------------------------------------------------------------------

TABLE: dict[str, Loss] = {}
_BY_SPELLING: dict[str, Loss] = {}
_SPELLINGS: list[str] = []


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()


def define(
    *spellings: str, target: str, root: bool = False, logits: bool = False, threshold: float = 0.5
) -> Callable[[Callable[..., Any]], Loss]:
    """Make a Loss of a function ``(xp, y, p, *, options)``; it is found under its name and the other spellings."""

    def make(function: Callable[..., Any]) -> Loss:
        kind = Kind(
            function.__name__, function, target, dict(function.__kwdefaults__ or {}), root, logits, threshold
        )
        loss = Loss(kind)
        loss.__doc__ = function.__doc__
        TABLE[kind.name] = loss
        for spelling in (kind.name, *spellings):
            if _BY_SPELLING.setdefault(_fold(spelling), loss) is not loss:
                raise ValueError(f"the spelling {spelling!r} is taken")
            _SPELLINGS.append(spelling)
        return loss

    return make


def find(name: str) -> Loss | None:
    """Return the loss of a name in any spelling, or None."""
    return _BY_SPELLING.get(_fold(name))


def spellings() -> list[str]:
    """Return every name that is understood."""
    return list(_SPELLINGS)


def offered(name: str) -> list[str]:
    """Return the names that a misspelt one is compared with: those of its style."""
    classes = name[:1].isupper()
    return [s for s in _SPELLINGS if s[0].isupper() == classes]


@final
class LossClass:
    """A class-style name such as ``CategoricalCrossentropy``: called with options it returns a Loss."""

    def __init__(self, name: str, loss: Loss) -> None:
        self.__name__ = name
        self.__doc__ = loss.__doc__
        self._loss = loss

    def __call__(self, **options: Any) -> Loss:
        """Return the loss with these options."""
        return self._loss.with_(**options) if options else self._loss

    def __repr__(self) -> str:
        return f"<loss class {self.__name__}>"


def get(loss: Any) -> Loss:
    """Return the loss that is meant.

    Arguments:
        loss: a name (``"mse"``, ``"mean_squared_error"``, ``"CategoricalCrossentropy"``), a Loss, a class-style name of
            this module, the dict that `Loss.config` gives, or a function ``(y_true, y_pred) -> Tensor``: one
            number for the batch, or losses (N, ...).

    Raises:
        ValueError: there is no loss of that name; the nearest ones are offered.
        TypeError: it is nothing of the kind.

    >>> import deepbabysit as db
    >>> db.losses.get("MeanSquaredError")
    mse
    >>> db.losses.get("mean_sqared_error")
    Traceback (most recent call last):
    ValueError: unknown loss 'mean_sqared_error'; did you mean 'mean_squared_error' or ...
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, LossClass):
        return loss()
    if isinstance(loss, str):
        found = find(loss)
        if found is None:
            raise ValueError(unknown("loss", loss, offered(loss)))
        return found
    if isinstance(loss, Mapping):
        if "own" in loss:
            return from_config(loss)
        options = dict(loss)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise TypeError(f"a loss given as a dict needs its 'name'; got {dict(loss)!r}")
        if isinstance(options.get("class_weight"), list) and options["class_weight"]:
            first = options["class_weight"][0]
            if isinstance(first, list):
                options["class_weight"] = {int(c): float(w) for c, w in options["class_weight"]}
        return get(name).with_(**options)
    if callable(loss):
        return _own(loss)
    raise TypeError(f"a loss is a name, a Loss or a function (y_true, y_pred) -> Tensor; got {type(loss).__name__}")


def from_config(config: Mapping[str, Any] | str, objects: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss that `Loss.config` described.

    Arguments:
        config: name and options.
        objects: the user's own functions by name.

    Raises:
        ValueError: it was the user's own function, and `objects` does not hold it.
    """
    own = config.get("own") if isinstance(config, Mapping) else None
    if own is None:
        return get(config)
    if own not in (objects or {}):
        raise ValueError(
            f"the loss {own!r} is a function of its own and was not handed in; "
            f"give it when loading: load_model(path, objects={{{own!r}: {own}}})"
        )
    return get((objects or {})[own])


def _own(function: Callable[..., Any]) -> Loss:
    """Wrap a user's function."""
    name = getattr(function, "__name__", type(function).__name__)

    def evaluate(xp: TensorOperations, y: Tensor, p: Tensor) -> Any:
        return function(y, p)

    return Loss(Kind(name, evaluate, targets.ANYTHING, function=function))
