"""Model: a layer that can be compiled, fitted, evaluated, used and saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit import losses, metrics
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit.blame import blame
from deepbabysit.babysit.findings import FindingsFile
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.errors import spelled, unknown
from deepbabysit.kernels.shapes import BATCH, show_shape
from deepbabysit.layers.fusion import fusible, rectifies
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.symbolic import symbolic
from deepbabysit.models.architecture import build_whole, describe_whole
from deepbabysit.models.functional import Step, as_inputs, flat, pair, run_steps, trace
from deepbabysit.models.summary import summarize
from deepbabysit.models.writing import describe_training, write_model
from deepbabysit.optimizers import get as get_optimizer
from deepbabysit.runtime.context import CONFIGURATION, surroundings
from deepbabysit.training.folder import RunFolder
from deepbabysit.training.history import History
from deepbabysit.training.loop import Trainer
from deepbabysit.training.precision import Precision

MODEL_FILE = "model.dbs"  # in the folder of a run


class Model(Layer):
    """A network: ``Model(inputs, outputs)`` from symbolic tensors, or a subclass that writes ``call``.

    Arguments:
        inputs: a symbolic tensor of `Input`, or a list of them.
        outputs: what was computed from them.
        name: name for messages.

    >>> import deepbabysit as db
    >>> x = db.Input(shape=29)
    >>> h = db.layers.Dense(16, activation="relu")(x)
    >>> model = db.Model(x, db.layers.Dense(1, activation="sigmoid")(h))
    >>> model.count_params()
    497
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> Model:
        """Make a functional model where inputs and outputs are given."""
        if cls is Model:
            return super().__new__(Functional, *arguments, **keywords)
        return super().__new__(cls, *arguments, **keywords)

    _kind = "class"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.stop_training = False
        self.built_for: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self._trainer: Trainer | None = None
        self._replay: bool | None = None
        self._tune = False

    def is_model(self) -> bool:
        """Tell that paths begin below this layer."""
        return True

    @property
    def kind(self) -> str:
        """How a file describes the model: "class", "functional" or "sequential"."""
        return self._kind

    @property
    def replayable(self) -> bool:
        """Whether steps are recorded and replayed without being asked to (a written `call` has to ask)."""
        return self.kind != "class"

    @property
    def compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self._trainer is not None

    # -- compile -------------------------------------------------------------------------------------------------------

    @spelled
    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Sequence[Any] = (),
        precision: str | None = None,
        replay: bool | None = None,
        tune: bool = False,
    ) -> Model:
        """Say how the model is trained.

        Arguments:
            optimizer: a name or an optimizer.
            loss: a name, a loss, or a function ``(y_true, y_pred) -> Tensor``.
            metrics: names, metrics, or functions.
            precision: "float32" (default), "tf32", "bfloat16", "float16" or "float64". With bfloat16 and float16 the
                parameters stay float32 (and so they are saved); steps, `evaluate` and `predict` compute with copies of
                them and store activations and gradients in half precision, sums, statistics, losses and metrics in
                float32. float16 scales the loss by itself and skips steps whose gradients overflow. tf32 lets products
                of float32 round their operands on a GPU.
            replay: record the training step and replay it; None means yes for Sequential and functional models.
            tune: let the device choose by timing, on a GPU: which algorithm a product runs with, which operations of a
                recorded step the matrix library does in one, and which of its convolutions cuDNN does (extras
                `cudnn12`, `cudnn13`). What is chosen is kept in a file, used again in later processes, and part of the
                history (``history.choices``). Recorded steps may then differ in their last bits from the same
                operations one by one, and a watched run from one that is not; without it they never do.

        Raises:
            ValueError: a name does not exist; the nearest ones are offered.
            ImportError: "bfloat16" without the package ml_dtypes.

        >>> import deepbabysit as db
        >>> model = db.Sequential([db.layers.Dense(1, input_shape=3)])
        >>> _ = model.compile("adam", "mse", metrics=["mae"])
        """
        found_loss = losses.get(loss) if loss is not None else None
        found_metrics = [_metric(m, found_loss) for m in ([metrics] if isinstance(metrics, str) else metrics)]
        found = Precision(precision)
        if not isinstance(tune, bool | np.bool_):
            raise TypeError(f"tune is True or False; got {tune!r}")
        self._replay = self.replayable if replay is None else replay
        self._tune = bool(tune)
        self._trainer = Trainer(self, get_optimizer(optimizer), found_loss, found_metrics, found, self._replay)
        if self.built:
            self.astype(found.dtype)
        CONFIGURATION.bump()
        return self

    @property
    def trainer(self) -> Trainer:
        """What trains the model, once it is compiled."""
        if self._trainer is None:
            raise RuntimeError('compile the model first: model.compile("adam", "cross_entropy", metrics=["accuracy"])')
        return self._trainer

    @property
    def optimizer(self) -> Any:
        """The optimizer given to `compile`."""
        return self.trainer.optimizer

    @property
    def loss(self) -> Any:
        """The loss given to `compile`."""
        return self.trainer.loss

    @property
    def metrics(self) -> list[Any]:
        """The metrics given to `compile`."""
        return self.trainer.metrics

    def astype(self, dtype: Any) -> Model:
        """Convert all floating parameters and states to a dtype."""
        target = np.dtype(dtype)
        changed = self._trainer is not None and self._trainer.precision.dtype != target
        if self._trainer is not None and changed:
            self._trainer.precision = Precision(target.name)
        for _, value in self._named():
            if value.dtype.kind == "f" and value.dtype != target:
                value.data = value.device.asarray(value.device.to_host(value.data), target)
                value.grad = None
                if value.extra:
                    value.extra.pop("slot", None)
                    value.extra.pop("copy", None)
                changed = True
        if changed:
            CONFIGURATION.bump()
        return self

    # -- training and use ----------------------------------------------------------------------------------------------

    @spelled
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Any] = (),
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        accumulate: int = 1,
        device: Any = "auto",
        seed: int | None = None,
        verbose: Any = "auto",
        babysit: Any = True,
        run_dir: Any = None,
        resume: bool = False,
        split: str = "shuffle",
    ) -> History:
        """Train the model.

        Arguments:
            x: inputs (N, ...): an array, a tuple of arrays for several inputs, or a `db.data.Loader`.
            y: targets (N, ...); left out with a Loader.
            batch_size: samples per update (times `accumulate`).
            epochs: passes over the data.
            validation_data: ``(x, y)`` or ``(x, y, sample_weight)`` or a Loader.
            validation_split: fraction of the data to hold out for validation, shuffled and stratified.
            callbacks: `db.callbacks`.
            shuffle: a new order each epoch, a pure function of seed and epoch.
            class_weight: class -> weight.
            sample_weight: (N,) weights.
            accumulate: batches whose gradients make one update; equal to one batch of that size.
            device: "auto", a device name, or None for where the model is.
            seed: start of every random number of the run; None takes that of `db.set_seed`.
            verbose: "auto", 0 silent, 1 lines or table, 2 one line per epoch.
            babysit: True watches the run and says what is wrong, without changing a bit of it; "stop" also ends it at
                an error; False watches nothing.
            run_dir: folder for the run's files, one run each: ``config.json``, ``env.json``, ``metrics.jsonl`` and
                ``findings.jsonl`` (readable while it goes on), ``checkpoints/``, at the end ``model.dbs``.
            resume: continue the run in `run_dir` where it was cut off, up to `epochs` in all, with the bits of a run
                that was not; data, settings, layers and callbacks have to be the same.
            split: "shuffle" or "time" (the last part is held out, in order).

        Raises:
            TypeError, ValueError: something is surely wrong before the first step; ``error.finding`` is the finding
                where the data are at fault.
            FileExistsError: there is a run in `run_dir`, and `resume` is not set. FileNotFoundError: there is none to
                resume. RuntimeError: another process trains in it.

        Returns:
            The History; its `findings` are what the babysitter found, likeliest cause first, and ``verdict()`` is its
            summary. The best weights are in the model when an EarlyStopping asked for that.

        >>> import deepbabysit as db
        >>> model = db.Sequential([db.layers.Dense(1, input_shape=1)])
        >>> _ = model.compile(db.optimizers.SGD(0.1), "mse")
        >>> history = model.fit([[0.0], [1.0]], [[1.0], [3.0]], batch_size=2, epochs=200, verbose=0)
        >>> round(float(model.predict([[2.0]])[0, 0]), 2)
        5.0
        """
        sitter = _sitter(babysit, callbacks)
        listeners: list[Any] = [] if sitter is None else [sitter]
        if sitter is not None and run_dir is not None:
            listeners.insert(0, FindingsFile(run_dir, sitter, resume))
        try:
            with self._tuned(), _folder(run_dir, resume) as folder:
                history = self.trainer.fit(
                    x, y, batch_size=batch_size, epochs=epochs, validation_data=validation_data,
                    validation_split=validation_split, callbacks=callbacks, shuffle=shuffle, class_weight=class_weight,
                    sample_weight=sample_weight, accumulate=accumulate, device=device, seed=seed, verbose=verbose,
                    folder=folder, split=split, listeners=listeners,
                )
        except (TypeError, ValueError) as error:
            if sitter is not None and not sitter.begun:
                error.finding = blame(error, self, x, y)  # type: ignore[union-attr]
            raise
        if sitter is not None:
            history.findings, history.judge = sitter.findings, sitter.verdict
        choices = self.device.backend.choices
        if self._tune and choices is not None:
            history.choices = choices()
        if run_dir is not None:
            try:
                write_model(Path(run_dir) / MODEL_FILE, self)
            except (TypeError, OSError) as error:  # the run itself is there
                warnings.warn(f"{MODEL_FILE} was not written: {error}", stacklevel=3)
        return history

    @spelled
    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 256, sample_weight: Any = None, verbose: Any = 0
    ) -> dict[str, float]:
        """Return loss and metrics over data, exact for any batch size.

        Arguments:
            x, y, sample_weight: as in `fit`.
            batch_size: samples at a time.
            verbose: whether to print the result.

        Returns:
            A dict such as ``{"loss": 0.31, "accuracy": 0.92}``.
        """
        with self._tuned():
            return self.trainer.evaluate(x, y, batch_size, sample_weight, verbose)

    @spelled
    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """Return the outputs for inputs as a NumPy array (a tuple of them for several outputs).

        Arguments:
            x: inputs (N, ...).
            batch_size: samples at a time.
        """
        trainer = self._trainer or Trainer(self, None, None, [], Precision(), self.replayable)
        with self._tuned():
            return trainer.predict(x, batch_size)

    @spelled
    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train one step on one batch.

        Returns:
            A mapping ``{"loss": ..., ...}`` whose entries become real floats when they are read.
        """
        with self._tuned():
            return self.trainer.train_on_batch(x, y, sample_weight)

    def _tuned(self) -> AbstractContextManager[Any]:
        """Let the device choose by timing for the duration of a block, where that was asked for."""
        return surroundings(tune=True) if self._tune else nullcontext()

    # -- building and looking ------------------------------------------------------------------------------------------

    def build_for(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any]) -> Any:
        """Build by a symbolic call with inputs of these shapes (one sample each); returns the symbolic outputs."""
        inputs = [symbolic((BATCH, *shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        outputs = self(*inputs)
        self.built_for = [(tuple(shape), np.dtype(dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
        return outputs

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by its path (``"head"``, ``"encoder.1"``) or by its place.

        Raises:
            KeyError: there is none of that path; the nearest are named.
            IndexError: there are fewer layers.
        """
        if (name is None) == (index is None):
            raise TypeError("get_layer takes a name or an index")
        if index is not None:
            found = [layer for _, layer in self.children()]
            if not -len(found) <= index < len(found):
                raise IndexError(f"get_layer: index {index}; the model has {len(found)} layers")
            return found[index]
        by_path = {path: layer for path, layer in self.walk() if path}
        if name not in by_path:
            raise KeyError(unknown("layer", name, by_path))
        return by_path[str(name)]

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> str:
        """Print and return a table of the layers: path, kind, output shape, parameters."""
        text = summarize(self)
        (print_fn or print)(text)
        return text

    # -- description and files -----------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the architecture as plain values (JSON), without weights; `from_config` makes a model of it again.

        Raises:
            TypeError: a layer cannot say how it is made (a Lambda whose function is not registered).
            ValueError: a subclassed model has not seen any input yet.

        >>> import deepbabysit as db
        >>> model = db.Sequential([db.layers.Dense(2, input_shape=3)])
        >>> twin = db.Sequential.from_config(model.get_config())
        >>> twin.count_params()
        8
        """
        return describe_whole(self)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return optimizer, loss, metrics and precision as plain values (JSON); None where it is not compiled.

        Of functions of the user's own only the names are kept.

        Raises:
            TypeError: the learning rate is computed by a function.
        """
        return describe_training(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], objects: Mapping[str, Any] | None = None) -> Any:
        """Make a model with new weights of what `get_config` returned.

        Arguments:
            config: the architecture.
            objects: name -> class or function of the caller's own; a subclass knows itself.

        Raises:
            KeyError: it uses a class that is not known here.
            TypeError: it describes another kind of model than the class that is asked.
        """
        model = build_whole(config, {cls.__name__: cls, **(objects or {})}, KINDS)
        if not isinstance(model, cls):
            raise TypeError(f"this describes a {type(model).__name__}; use db.Model.from_config(config)")
        return model

    def save(self, path: str | Path) -> Path:
        """Save the model: one safetensors file with architecture and settings as JSON inside; nothing executable.

        The file is written to a temporary name and renamed: it is whole or absent.

        Raises:
            TypeError: a layer cannot say how it is saved.
        """
        return write_model(path, self)


def _metric(metric: Any, loss: Any) -> metrics.Metric:
    return metrics.get(metric, loss=loss)


def _sitter(babysit: Any, callbacks: Any) -> Sitter | None:
    """Return who watches a run."""
    if isinstance(babysit, Sitter):
        return babysit
    if babysit is False or babysit is None:
        return None
    if babysit is not True and babysit != "stop":
        raise ValueError(f'babysit is True, "stop" (end the run at an error) or False; got {babysit!r}')
    return Sitter(babysit == "stop", callbacks=callbacks if isinstance(callbacks, list | tuple) else (callbacks,))


def _folder(run_dir: Any, resume: bool) -> Any:
    """Return the folder of a run, or a context of nothing."""
    if run_dir is not None:
        return RunFolder(run_dir, resume)
    if resume:
        raise ValueError("resume=True continues the run in a folder: name it with run_dir=")
    return nullcontext()


class Functional(Model):
    """A model made of symbolic tensors; ``db.Model(inputs, outputs)`` returns one."""

    _kind = "functional"

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self._inputs = as_inputs(inputs, "inputs")
        self._outputs = as_inputs(outputs, "outputs")
        self.several = len(self._outputs) > 1  # a list of one output is that output, as in Keras 2
        self._steps: list[Step] = trace(self._inputs, self._outputs)
        pair(self._steps, self._outputs)
        self.layers: list[Layer] = list({id(s.run): s.run for s in self._steps if isinstance(s.run, Layer)}.values())
        self.built = True
        self.input_shape = self._inputs[0].shape[1:]
        self.assign_paths("")

    @property
    def input_names(self) -> list[str]:
        """The names given to `Input`; "input" for those without one."""
        return [str((symbol.extra or {}).get("input", "input")) for symbol in self._inputs]

    @property
    def inputs(self) -> list[Tensor]:
        """The symbolic inputs."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """The symbolic outputs."""
        return list(self._outputs)

    def steps(self) -> Iterator[Step]:
        """Yield the calls in order."""
        return iter(self._steps)

    def call(self, *inputs: Any) -> Any:
        """Run the graph."""
        given = flat(inputs)
        if len(given) != len(self._inputs):
            raise ValueError(f"this model takes {len(self._inputs)} inputs; got {len(given)}")
        for symbol, value in zip(self._inputs, given, strict=True):
            if symbol.shape[1:] != value.shape[1:]:
                raise ValueError(
                    f"the model's input must be (N, {', '.join(map(str, symbol.shape[1:]))}); got a tensor of shape "
                    f"{show_shape(value.shape)}"
                    + (f". Reshape it first: x.reshape({(-1, *symbol.shape[1:])})"
                       if np.prod(symbol.shape[1:]) == np.prod(value.shape[1:]) else "")
                )
        values: dict[int, Any] = {id(symbol): value for symbol, value in zip(self._inputs, given, strict=True)}
        run_steps(self._steps, values)
        results = tuple(values[id(symbol)] for symbol in self._outputs)
        return results if self.several else results[0]


class Sequential(Model):
    """A stack of layers, each fed with the output of the one before.

    Arguments:
        layers: the layers in order; a first item `Input(...)` or a first layer with ``input_shape`` builds it at once.
        name: name for messages.

    >>> import deepbabysit as db
    >>> model = db.Sequential([
    ...     db.layers.Dense(512, input_shape=(784,), activation="relu"),
    ...     db.layers.Dense(10, activation="softmax"),
    ... ])
    >>> model.count_params()
    407050
    """

    _kind = "sequential"

    def __init__(self, layers: Sequence[Any] = (), name: str | None = None) -> None:
        if isinstance(layers, Layer) or isinstance(name, Layer):
            raise TypeError("Sequential takes its layers in one list: Sequential([Dense(8), Dense(1)])")
        super().__init__(name=name)
        self.layers: list[Layer] = []
        self.input_dtype: Any = np.float32
        for layer in layers:
            self._append(layer)
        self._build_early()

    def add(self, layer: Any) -> None:
        """Put a layer on top."""
        self._append(layer)
        self.built = False
        self._build_early()

    def pop(self) -> Layer:
        """Take the top layer off."""
        if not self.layers:
            raise IndexError("there is no layer to take off")
        CONFIGURATION.bump()
        return self.layers.pop()

    def _append(self, layer: Any) -> None:
        if isinstance(layer, Tensor) and layer.extra and "input" in layer.extra and not self.layers:
            self.input_shape = layer.shape[1:]
            self.input_dtype = layer.dtype
            return
        if not isinstance(layer, Layer):
            raise TypeError(
                f"Sequential takes layers; item {len(self.layers)} is {type(layer).__name__}"
                + (". Did you forget to call the class, for example Dense(10)?" if isinstance(layer, type) else
                   ". Wrap a function with db.layers.Lambda(function)" if callable(layer) else "")
            )
        if any(layer is known for known in self.layers):
            raise ValueError(f"{layer} is in this stack already; make a second one, or share it in a functional model")
        self.layers.append(layer)
        if len(self.layers) == 1 and layer.input_shape is not None:
            self.input_shape = layer.input_shape

    def _build_early(self) -> None:
        self.assign_paths("")
        if self.input_shape is not None and self.layers:
            self.build_for([self.input_shape], [self.input_dtype])

    def call(self, *inputs: Any) -> Any:
        """Run the layers in order."""
        if len(inputs) != 1:
            raise ValueError(
                f"a Sequential model takes one input; got {len(inputs)}. A tuple means several inputs: pass one array, "
                f"or make the model with db.Model([input, ...], outputs)"
            )
        x = inputs[0]
        layers = iter(zip(self.layers, [*self.layers[1:], None], strict=True))
        for layer, following in layers:
            if rectifies(layer, following) and fusible(layer, following, x):
                x = layer(x, rectify=True)
                next(layers)
            else:
                x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]


KINDS: Mapping[str, Any] = {"sequential": Sequential, "functional": Functional, "class": Model}
