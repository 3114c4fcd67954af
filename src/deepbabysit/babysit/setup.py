"""Setup: everything that a training is made of, as plain data. Remedies change it: ``remedy.apply(setup) -> setup``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from time import monotonic
from typing import Any, NamedTuple, final

import numpy as np

from deepbabysit import losses, metrics, optimizers
from deepbabysit.babysit.blueprint import ORIGIN, Blueprint
from deepbabysit.babysit.preparation import Prepared, Score, as_tuple, bare, classes_of, prepare, score
from deepbabysit.errors import unknown_keywords
from deepbabysit.layers.registry import LAYERS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.random import Streams
from deepbabysit.training.callback import Callback
from deepbabysit.training.callbacks import EarlyStopping
from deepbabysit.training.history import History

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a setup came from: what cannot be written as JSON.

    Attributes:
        model: the class of the model; its ``from_config(config, objects)`` builds.
        objects: classes and functions of the user's own, by name.
        weights: arrays by path that the user set (pretrained, scaled by data); drawn ones are not kept.
        make: builds a model that cannot be described; None elsewhere.
    """

    model: Any
    objects: Plain = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    make: Callable[[], Any] | None = None


class Trained(NamedTuple):
    """What a training gave: the model, its history, and its score on the validation rows (None without any)."""

    model: Any
    history: History
    score: Score | None


@final
@dataclass(frozen=True, slots=True)
class Setup:
    """A training as data: what is built, how it is compiled, on what it is fitted. Frozen; changes make a new one.

    Attributes:
        model: the architecture (`Model.get_config`).
        optimizer, loss, metrics, precision: as `Model.get_compile_config` gives them.
        batch_size, epochs, shuffle: as for `fit`.
        class_weight: None, ``"balanced"`` (each class ``rows / (classes * its rows)``), or class -> weight.
        patience: epochs without a better validation loss after which the run ends, best weights back; None runs all.
        inputs, targets, rows: preparation steps (`babysit.preparation.prepare`), fitted on the training rows.
        frozen: paths of parameters that are not trained.
        seed: of weights and order.
        source: what is no JSON: classes, functions, weights that were set; not compared, not written.
    """

    model: Plain
    optimizer: Plain
    loss: Plain | None
    metrics: tuple[Plain, ...] = ()
    precision: str = "float32"
    batch_size: int = 32
    epochs: int = 1
    shuffle: bool = True
    class_weight: Any = None
    patience: int | None = None
    inputs: tuple[Plain, ...] = ()
    targets: tuple[Plain, ...] = ()
    rows: tuple[Plain, ...] = ()
    frozen: tuple[str, ...] = ()
    seed: int = 0
    source: Source = field(default=Source(None), compare=False, repr=False)

    # -- as data -------------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return everything but `source` as values for JSON; `from_dict` makes the setup again."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "source"}
        for name in ("metrics", "inputs", "targets", "rows", "frozen"):
            found[name] = [dict(v) if isinstance(v, Mapping) else v for v in found[name]]
        if isinstance(self.class_weight, Mapping):
            found["class_weight"] = {str(label): weight for label, weight in self.class_weight.items()}
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], model: Any, objects: Plain | None = None) -> Setup:
        """Make a setup of what `as_dict` returned.

        Arguments:
            values: the setup.
            model: the class that builds it: ``db.Model``, or the user's own.
            objects: classes and functions of the user's own that it names.

        Raises:
            TypeError: a name is unknown, or one is missing.
        """
        known = [f.name for f in fields(cls) if f.name != "source"]
        wrong = [name for name in values if name not in known]
        if wrong:
            raise TypeError(unknown_keywords("Setup", wrong, known))
        given = dict(values)
        for name in ("metrics", "inputs", "targets", "rows", "frozen"):
            given[name] = tuple(given.get(name, ()))
        if isinstance(given.get("class_weight"), Mapping):
            given["class_weight"] = {int(label): weight for label, weight in given["class_weight"].items()}
        return cls(**given, source=Source(model, dict(objects or {})))

    def with_(self, **changes: Any) -> Setup:
        """Return the setup with other values."""
        return replace(self, **changes)

    @property
    def locked(self) -> str:
        """Why the layers cannot be changed; empty where they can."""
        if self.source.make is not None:
            return "the model cannot be described as data, so only the way it is trained can be changed"
        return Blueprint(self.model).locked

    def edit(self, change: Callable[[Blueprint], Any]) -> Setup:
        """Return the setup with another architecture.

        Arguments:
            change: changes the blueprint that it is given.

        Raises:
            ValueError: the layers cannot be changed (so); the message says why.
        """
        if self.locked:
            raise ValueError(self.locked)
        plan = Blueprint(self.model)
        change(plan)
        return replace(self, model=plan.config)

    # -- as a training -------------------------------------------------------------------------------------------------

    def build(self, seed: int | None = None) -> Any:
        """Return the compiled model: weights drawn anew from the seed, weights that the user set as they were."""
        with surroundings(streams=Streams(self.seed if seed is None else seed)):
            if self.source.make is not None:
                model = self.source.make()
            else:
                model = self.source.model.from_config(self.model, self.source.objects)
        self._restore(model)
        loss = None if self.loss is None else losses.from_config(self.loss, self.source.objects)
        model.compile(
            optimizers.get(dict(self.optimizer)), loss, [metrics.from_config(m, self.source.objects)
                                                         for m in self.metrics], precision=self.precision,
        )
        return model

    def _restore(self, model: Any) -> None:
        """Give layers that were not changed the weights that were set, and freeze what was frozen."""
        named = {**dict(model.named_parameters()), **dict(model.named_states())}
        origins = {place.path: place.text.get(ORIGIN) for place in Blueprint(self.model).layers()}
        for name, value in named.items():
            at = next((p for p in _prefixes(name) if p in origins), None)
            before = name if not origins else None if at is None or not origins[at] else origins[at] + name[len(at) :]
            kept = None if before is None else self.source.weights.get(before)
            if kept is not None and kept.shape == value.shape:
                value.assign(kept, "a setup")
            if before in self.frozen:
                value.trainable = False

    def prepare(self, x: Any, y: Any, validation_data: Any = None) -> Prepared:
        """Return the data as this setup prepares them; see `babysit.preparation`."""
        return prepare(x, y, validation_data, self.inputs, self.targets, self.rows, self.seed)

    def fit(
        self, x: Any, y: Any, validation_data: Any = None, *, epochs: int | None = None, seconds: float | None = None,
        babysit: Any = False, seed: int | None = None, prepared: Prepared | None = None, verbose: Any = 0,
    ) -> Trained:
        """Prepare, build and train.

        Arguments:
            x, y, validation_data: raw data, as for `fit`.
            epochs: instead of the setup's.
            seconds: end the run at the first epoch end after so many seconds.
            babysit: as for `fit`.
            seed: of weights and order, instead of the setup's.
            prepared: what `prepare` returned for these data, to save doing it twice.
            verbose: as for `fit`.

        Returns:
            (model, history, score): the score is in the targets' own units; None without validation rows.
        """
        data = self.prepare(x, y, validation_data) if prepared is None else prepared
        model = self.build(seed)
        history = self.train(model, data, epochs=epochs, seconds=seconds, babysit=babysit, seed=seed, verbose=verbose)
        return Trained(model, history, self.score(model, data))

    def train(
        self, model: Any, data: Prepared, *, epochs: int | None = None, seconds: float | None = None,
        babysit: Any = False, seed: int | None = None, validate: bool = True, verbose: Any = 0,
    ) -> History:
        """Train a model that `build` made on prepared data; arguments as for `fit`, `validate` after each epoch."""
        held = data.validation if validate else None
        callbacks: list[Callback] = [] if seconds is None else [_Deadline(seconds)]
        if self.patience is not None:
            callbacks.append(EarlyStopping("loss" if held is None else "val_loss", patience=self.patience))
        history: History = model.fit(
            bare(data.x), data.y, batch_size=self.batch_size, epochs=self.epochs if epochs is None else epochs,
            validation_data=None if held is None else (bare(held[0]), held[1]), callbacks=callbacks,
            shuffle=self.shuffle, class_weight=self._weights(data.y), seed=self.seed if seed is None else seed,
            verbose=verbose, babysit=babysit,
        )
        return history

    def score(self, model: Any, data: Prepared) -> Score | None:
        """Return how good a model is on the validation rows of these data, in the targets' own units."""
        if data.validation is None or data.truth is None:
            return None
        with np.errstate(all="ignore"):
            said = data.outputs(np.asarray(model.predict(bare(data.validation[0]))))
        threshold = 0.5 if model.loss is None else float(model.loss.threshold)
        units = said.shape[-1] if said.ndim > 1 else 1
        return score(data.truth, said, classes_of(data.truth, model.loss, units), threshold)

    def _weights(self, y: np.ndarray) -> Any:
        if self.class_weight != "balanced":
            return self.class_weight
        labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[1] > 1 else y.reshape(-1).astype(np.int64)
        counts = np.bincount(labels)
        present = int((counts > 0).sum())
        return {c: len(labels) / (present * int(n)) for c, n in enumerate(counts) if n}


def setup_of(
    model: Any, x: Any = None, *, batch_size: int = 32, epochs: int = 1, shuffle: bool = True,
    class_weight: Any = None, patience: int | None = None, seed: int = 0, make: Callable[[], Any] | None = None,
) -> Setup:
    """Return the setup of a compiled model.

    Arguments:
        model: compiled.
        x: inputs, for a subclassed model that has not seen any.
        batch_size, epochs, shuffle, class_weight, patience, seed: as planned.
        make: builds such a model again; needed where layers hold functions that are not registered.

    Raises:
        RuntimeError: the model is not compiled.
        TypeError: it cannot be described, and there is no `make`.

    >>> import deepbabysit as db
    >>> model = db.Sequential([db.layers.Dense(1, input_shape=3)]).compile(db.optimizers.SGD(0.1), "mse")
    >>> setup = setup_of(model, epochs=5)
    >>> setup.with_(epochs=10).as_dict()["epochs"], setup.optimizer["learning_rate"]
    (10, 0.1)
    """
    if not getattr(model, "compiled", False):
        raise RuntimeError('compile the model first: model.compile("adam", "cross_entropy", metrics=["accuracy"])')
    if not model.built and x is not None:
        arrays = as_tuple(x)
        model.build_for([a.shape[1:] for a in arrays], [a.dtype if a.dtype.kind in "iu" else np.float32
                                                        for a in arrays])
    training = model.get_compile_config()
    weights = {
        name: np.array(value.numpy()) for name, value in (*model.named_parameters(), *model.named_states())
        if value.overwritten or "slot" in (value.extra or ())
    }
    frozen = tuple(name for name, value in model.named_parameters() if not value.trainable)
    objects = {type(layer).__name__: type(layer) for _, layer in model.walk() if type(layer) not in LAYERS.values()}
    for thing in (model.loss, *model.metrics):
        function = getattr(getattr(thing, "kind", None), "function", None)
        if function is not None:
            objects[thing.name] = function
    source = Source(type(model), objects, weights)
    try:
        plan = Blueprint(model.get_config())
        for place in plan.layers():
            place.text[ORIGIN] = place.path
        plan.config["frozen"] = []
    except TypeError:
        if make is None:
            raise
        plan, source = Blueprint({"kind": "made"}), replace(source, make=make)
    return Setup(
        model=plan.config, optimizer=training["optimizer"], loss=training["loss"], metrics=tuple(training["metrics"]),
        precision=training["precision"], batch_size=batch_size, epochs=epochs, shuffle=shuffle,
        class_weight=class_weight, patience=patience, frozen=frozen, seed=seed, source=source,
    )


def _prefixes(name: str) -> Sequence[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


@final
class _Deadline(Callback):
    """End a run at the first epoch end after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = math.inf

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._until = monotonic() + self._seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the clock."""
        if monotonic() >= self._until:
            self.model.stop_training = True
