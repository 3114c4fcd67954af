"""Layer: what every layer and every model is.

A layer has parameters, states and sub-layers as plain attributes. `build` makes the parameters when the input's shape
is known for the first time; `call` computes. Called with a symbolic tensor (`Input`) a layer infers shapes and becomes
a part of the model's graph; the code is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from deepbabysit import constraints, initializers, regularizers
from deepbabysit.autograd.parameter import Parameter, State
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.errors import nearest
from deepbabysit.kernels.shapes import show_shape
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.construction import bind, check_shape, snake, takes_training
from deepbabysit.layers.updates import Updates
from deepbabysit.runtime.context import CONFIGURATION, Version, current, enter, leave
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.random import host_generator, streams
from deepbabysit.runtime.registry import default_device, find_device


class Layer(ABC):
    """A step of a network with its own parameters.

    Arguments:
        name: name in paths and messages; None takes the place in the parent.
        input_shape: shape of one sample, to build at once (a whole number or a tuple).

    Subclasses write `call`, and `build` when they have parameters. What the constructor was called with is kept, so
    that `config` can say how the layer is made again.
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Refuse keywords that the constructor does not have, and keep what it is called with."""
        layer = super().__new__(cls)
        object.__setattr__(layer, "_arguments", bind(cls, arguments, keywords))
        return layer

    def __init__(self, name: str | None = None, input_shape: Any = None) -> None:
        if name is not None and (not isinstance(name, str) or not name or "." in name):
            raise ValueError(f"a layer's name is a non-empty string without dots; got {name!r}")
        self.name = name
        self.path = name or snake(type(self).__name__)
        self.built = False
        self._forms: tuple[Form, ...] = ()
        self.input_shape: tuple[int, ...] | None = None if input_shape is None else as_shape(input_shape)
        self.output_shape: tuple[int, ...] | None = None
        self._mode: bool | None = None
        self._hooks: list[Callable[[Layer, tuple[Any, ...], Any], Any]] = []
        self._starts: dict[str, Callable[[np.random.Generator], np.ndarray]] = {}
        self._salt: str | None = None
        self._walked: tuple[int, list[tuple[Any, list[int]]]] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in self.__dict__.get("_arguments", ()) and self.__dict__.get("built"):
            CONFIGURATION.bump()  # a hyper-parameter changed: steps recorded before are not replayed
        if name == "name" or (isinstance(value, Layer | list | tuple | dict) and not name.startswith("_")):
            _STRUCTURE.bump()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        _STRUCTURE.bump()

    def __deepcopy__(self, memo: dict[int, Any]) -> Layer:
        """Return a layer with parameters of its own and the same values."""
        twin: Layer = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update({name: deepcopy(value, memo) for name, value in self.__dict__.items()})
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"{type(self).__name__} is not pickled: save a model with model.save(path) and read it with "
            f"db.load_model(path); copy.deepcopy(model) copies one"
        )

    # -- to be written by subclasses -----------------------------------------------------------------------------------

    def build(self, *inputs: Form) -> None:
        """Make the parameters for inputs of these forms (batch axis included). Nothing to do by default."""

    @abstractmethod
    def call(self, *inputs: Any, **options: Any) -> Any:
        """Compute the output."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, defaults included, as they stand now.

        `layers.registry` turns them into JSON and back. A layer whose constructor takes ``*args`` writes its
        own.
        """
        found = {}
        for name, value in self._arguments.items():  # type: ignore[attr-defined]
            mine = self.__dict__.get(name)
            # numbers and strings may have been changed since (layer.rate = 0.3)
            found[name] = (
                mine if isinstance(value, bool | int | float) and isinstance(mine, bool | int | float) else value
            )
        return found

    # -- calling -------------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Build on the first call, then compute; a `call` with an argument ``training`` is told the mode."""
        mode = current()
        outermost = mode.training is None
        mode_training = bool(self._mode) if mode.training is None else mode.training
        if options and options.get("training") is not None:
            mode_training = bool(options["training"])  # Keras' habit: model(x, training=True)
        updates = mode.updates
        own = None
        if outermost and mode_training and updates is None:
            own = updates = Updates()
        if mode.scope == "":
            self._begin()
        if options:
            options = {
                k: self._convert(v) if isinstance(v, np.ndarray) else v for k, v in options.items() if k != "training"
            }
        tensors = tuple([x if isinstance(x, Tensor) else self._convert(x) for x in inputs])
        if mode.scope == "" and (entering := getattr(mode.tap, "entering", None)) is not None:
            entering(self, tensors)
        token = enter(mode.scoped(self.path or type(self).__name__, mode_training, updates))
        try:
            if not self.built:
                self.build_from(*[Form(x.shape, x.dtype) for x in _flat(tensors)])
            if takes_training(type(self)):
                result = self.call(*tensors, **options, training=mode_training)
            else:
                result = self.call(*tensors, **options)
        finally:
            leave(token)
        for hook in self._hooks:
            changed = hook(self, tensors, result)
            if changed is not None:
                result = changed
        if mode.tap is not None:
            mode.tap(self, result)
        if own is not None:
            own.commit()
        if any(t.device.abstract for t in _flat(tensors)):
            result = _remember_layer(self, tensors, options, result)
        return result

    def _begin(self) -> None:
        """Give out the paths, at the outermost call, where layers were added or paths changed since the last one."""
        walked = self._walked
        if (
            walked is not None
            and walked[0] == _STRUCTURE.count
            and all(_members(container) == members for container, members in walked[1])
        ):
            return
        self._assign_own_paths()
        containers = [
            value
            for _, layer in self.walk()
            for name, value in layer.__dict__.items()
            if isinstance(value, list | dict) and not name.startswith("_")
        ]
        self._walked = (_STRUCTURE.count, [(container, _members(container)) for container in containers])

    def _assign_own_paths(self) -> None:
        """Give out the paths. Layers outside of a model draw different weights for one path."""
        if self.is_model():
            self.assign_paths(self.path if self.name else "")
            return
        if self._salt is None:
            count = streams().next_made(self.path)
            salt = f"#{count}" if count else ""
            for _, layer in self.walk():
                layer._salt = salt
        self.assign_paths(self.path)

    def _convert(self, value: Any) -> Any:
        """Return arrays and lists as tensors where the layer is; other arguments (None, masks' flags) stay.

        float64 becomes float32, unless the layer computes in float64.
        """
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            return type(value)(item if isinstance(item, Tensor) else self._convert(item) for item in value)
        converted = tensor(value, device=self.device)
        if converted.dtype == np.float64 and not any(p.dtype == np.float64 for _, p in self._named()):
            return converted.astype(np.float32)
        return converted

    def build_from(self, *forms: Form) -> None:
        """Build for inputs of these forms; does nothing the second time."""
        if self.built:
            return
        if self.input_shape is not None and forms:
            check_shape(f"layer {self.path} ({type(self).__name__})", self.input_shape, forms[0].shape[1:])
        self.build(*forms)
        self.built = True
        self._forms = forms
        if self.input_shape is None and forms:
            self.input_shape = forms[0].shape[1:]
        CONFIGURATION.bump()

    @property
    def built_forms(self) -> tuple[Form, ...]:
        """Shapes and dtypes of the inputs that the layer was built for, the batch axis first."""
        return self._forms

    def is_model(self) -> bool:
        """Tell whether this is a model: the root of its paths, without a name of its own in them."""
        return False

    def register_forward_hook(self, hook: Callable[[Layer, tuple[Any, ...], Any], Any]) -> Callable[[], None]:
        """Call ``hook(layer, inputs, output)`` after each call; what it returns (if not None) takes the output's place.

        Returns:
            A function that removes the hook.
        """
        self._hooks.append(hook)
        CONFIGURATION.bump()

        def remove() -> None:
            self._hooks.remove(hook)
            CONFIGURATION.bump()

        return remove

    @property
    def hooked(self) -> bool:
        """Whether this layer or one below it has a hook (a step is then not replayed)."""
        return any(layer._hooks for _, layer in self.walk())

    # -- parameters and states -----------------------------------------------------------------------------------------

    def add_parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        initializer: Any,
        regularizer: Any = None,
        constraint: Any = None,
        dtype: Any = np.float32,
        fans: tuple[float, float] | None = None,
    ) -> Parameter:
        """Make a parameter and keep it under `name`; its first values follow from seed and path.

        Arguments:
            name: attribute and last part of the path.
            shape: lengths of the axes.
            initializer: what `initializers.get` takes.
            regularizer: what `regularizers.get` takes.
            constraint: what `constraints.get` takes.
            dtype: type of the values.
            fans: (fan_in, fan_out) where the shape does not tell them.
        """
        fill = initializers.get(initializer)

        def start(rng: np.random.Generator) -> np.ndarray:
            values = (
                fill(shape, rng, dtype, fans) if isinstance(fill, initializers.Initializer) else fill(shape, rng, dtype)
            )
            if np.shape(values) != tuple(shape):
                raise ValueError(
                    f"layer {self.path}: the initializer of {name} returned shape {np.shape(values)}; expected {shape}"
                )
            return np.asarray(values, dtype)

        path = f"{self.path}.{name}" if self.path else name
        device = _real(default_device())
        penalty = regularizers.get(regularizer)
        parameter = Parameter(
            device.asarray(start(host_generator(path + (self._salt or ""))), dtype), device, path, l1=penalty.l1,
            l2=penalty.l2, constraint=constraints.get(constraint),
        )
        self._starts[name] = start
        setattr(self, name, parameter)
        return parameter

    def _restart(self) -> None:
        """Draw first values again for the present path, where nothing has changed them since they were drawn."""
        for name, start in self._starts.items():
            parameter = self.__dict__.get(name)
            if isinstance(parameter, Parameter) and not parameter.overwritten and "slot" not in (parameter.extra or ()):
                path = f"{self.path}.{name}" if self.path else name
                values = start(host_generator(path + (self._salt or "")))
                parameter.device.write(parameter.data, values.astype(parameter.dtype, copy=False))

    def add_state(self, name: str, values: np.ndarray) -> State:
        """Make a state (a tensor without gradient that is saved with the model) and keep it under `name`."""
        device = _real(default_device())
        state = State(device.asarray(values), device, f"{self.path}.{name}" if self.path else name)
        setattr(self, name, state)
        return state

    def update_state(self, state: State, value: Tensor) -> None:
        """Leave a new value for a state; it is written at the end of the step."""
        updates = current().updates
        if updates is not None:
            updates.leave(state, value)

    def latest_state(self, state: State) -> Tensor:
        """Return the state as this step has left it so far."""
        updates = current().updates
        return state if updates is None else updates.latest(state)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the sub-layers with their names: attributes, and the items of lists and dicts of layers."""
        for attribute, value in self.__dict__.items():
            if attribute.startswith("_"):
                continue
            if isinstance(value, Layer):
                yield value.name or attribute, value
            elif isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    if isinstance(item, Layer):
                        yield item.name or (str(index) if attribute == "layers" else f"{attribute}.{index}"), item
            elif isinstance(value, dict):
                for key, item in value.items():
                    if isinstance(item, Layer):
                        yield item.name or f"{attribute}.{key}", item

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all below it, each once, with their paths."""
        seen: set[int] = set()
        waiting: list[tuple[str, Layer]] = [(path, self)]
        while waiting:
            here, layer = waiting.pop()
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            yield here, layer
            found = [(f"{here}.{name}" if here else name, child) for name, child in layer.children()]
            waiting.extend(reversed(found))

    def assign_paths(self, root: str = "") -> None:
        """Give every layer below, and its parameters, the path that messages, files and random streams use."""
        salt = "" if self.is_model() else self._salt
        for path, layer in self.walk(root):
            if layer.path != path or layer._salt != salt:
                _STRUCTURE.bump()
                before = (layer.path, layer._salt or "")
                layer.path, layer._salt = path, salt
                for name, value in layer.own():
                    value.name = f"{path}.{name}" if path else name
                if before != (path, salt or ""):
                    layer._restart()

    def adopt(self) -> None:
        """Give paths to sub-layers that `build` has just made."""
        for path, layer in self.walk(self.path):
            layer.path, layer._salt = path, self._salt

    def own(self) -> Iterator[tuple[str, Parameter | State]]:
        """Yield this layer's own parameters and states by attribute name."""
        for name, value in self.__dict__.items():
            if isinstance(value, Parameter | State):
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield all parameters with their paths, shared ones once."""
        for name, value in self._named():
            if isinstance(value, Parameter):
                yield name, value

    def named_states(self) -> Iterator[tuple[str, State]]:
        """Yield all states with their paths, shared ones once."""
        for name, value in self._named():
            if isinstance(value, State):
                yield name, value

    def _named(self) -> Iterator[tuple[str, Parameter | State]]:
        seen: set[int] = set()
        for path, layer in self.walk(self.path if not self.is_model() and self.name else ""):
            for name, value in layer.own():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self) -> list[Parameter]:
        """Return all parameters, shared ones once."""
        return [parameter for _, parameter in self.named_parameters()]

    def count_params(self, trainable_only: bool = False) -> int:
        """Return the number of numbers that training can change."""
        return sum(p.size for p in self.parameters() if p.trainable or not trainable_only)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return all parameters and states by path, as copies."""
        return {name: np.array(value.numpy()) for name, value in self._named()}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Copy values by path into parameters and states.

        Raises:
            KeyError: a path is missing or unknown; nothing is changed then.
            ValueError: a shape is another one; nothing is changed then.
        """
        mine = dict(self._named())
        missing = [name for name in mine if name not in values]
        foreign = [name for name in values if name not in mine]
        if missing or foreign:
            hints = [f"{name!r} (near: {', '.join(nearest(name, mine)) or 'nothing'})" for name in foreign[:5]]
            raise KeyError(
                f"the state does not fit this model: missing {missing[:5] or 'nothing'}, unknown {hints or 'nothing'}"
            )
        for name, value in mine.items():
            if tuple(np.shape(values[name])) != value.shape:
                raise ValueError(
                    f"{name} has shape {show_shape(value.shape)}; the state holds {np.shape(values[name])}"
                )
        for name, value in mine.items():
            value.assign(values[name], "load_state_dict()")

    def get_weights(self) -> list[np.ndarray]:
        """Return all parameters and states in order, as copies (Keras' habit)."""
        return list(self.state_dict().values())

    def set_weights(self, values: list[Any]) -> None:
        """Copy values in the order of `get_weights`."""
        names = list(self.state_dict())
        if len(names) != len(values):
            raise ValueError(f"this model has {len(names)} arrays of weights; got {len(values)}")
        self.load_state_dict(dict(zip(names, values, strict=True)))

    # -- modes ---------------------------------------------------------------------------------------------------------

    def freeze(self, path: str | None = None) -> None:
        """Leave all parameters, or those below a path, unchanged in training."""
        self._set_trainable(path, False)

    def unfreeze(self, path: str | None = None) -> None:
        """Let all parameters, or those below a path, be trained again."""
        self._set_trainable(path, True)

    def _set_trainable(self, path: str | None, value: bool) -> None:
        found = [
            parameter
            for name, parameter in self.named_parameters()
            if path is None or name == path or name.startswith(path + ".")
        ]
        if not found and path is not None:
            prefixes = {
                name.rsplit(".", i)[0] for name, _ in self.named_parameters() for i in range(name.count(".") + 1)
            }
            close = nearest(path, prefixes)
            raise KeyError(f"no parameters below {path!r}; {'near: ' + ', '.join(close) if close else 'see summary()'}")
        for parameter in found:
            parameter.trainable = value

    @property
    def frozen(self) -> bool:
        """Whether this layer has parameters of its own and none of them is trained."""
        own = [value for _, value in self.own() if isinstance(value, Parameter)]
        return bool(own) and not any(parameter.trainable for parameter in own)

    @property
    def trainable(self) -> bool:
        """Whether at least one parameter here or below is trained; setting it freezes or unfreezes them all."""
        return any(parameter.trainable for parameter in self.parameters())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._set_trainable(None, bool(value))

    def train(self, mode: bool = True) -> Layer:
        """Let bare calls run in training mode from here on (PyTorch's habit); `fit` chooses by itself."""
        self._mode = mode
        CONFIGURATION.bump()
        return self

    def eval(self) -> Layer:
        """Let bare calls run in inference mode again."""
        return self.train(False)

    def to(self, device: str | Device) -> Layer:
        """Move all parameters and states to a device."""
        target = find_device(device)
        for _, value in self._named():
            if value.device is not target:
                value.data = target.asarray(value.device.to_host(value.data))
                value.device = target
                value.grad = None
                if value.extra:
                    value.extra.pop("slot", None)
                    value.extra.pop("copy", None)
        CONFIGURATION.bump()
        return self

    @property
    def device(self) -> Device:
        """Where the parameters are."""
        for _, value in self._named():
            return value.device
        return _real(default_device())

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {type(child).__name__}" for name, child in self.children())
        return f"{type(self).__name__}({inside or self.path})"


# counts every change by which a layer may get another place; lists and dicts of layers are compared as well
_STRUCTURE = Version()


def _members(container: Any) -> list[int]:
    return list(map(id, container.values() if isinstance(container, dict) else container))


def _real(device: Device) -> Device:
    return find_device("cpu") if device.abstract else device


def _flat(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_flat(value))
    return found


def _remember_layer(layer: Layer, inputs: tuple[Any, ...], options: dict[str, Any], result: Any) -> Any:
    """Return symbolic results that say which layer made them from what: the graph of functional models."""
    given = {id(t) for t in _flat((*inputs, *options.values()))}
    several = isinstance(result, tuple | list)  # what is handed through (dropout at rest) is a result all the same
    fresh = [Tensor(t.data, t.device) if id(t) in given else t for t in (result if several else (result,))]
    result = type(result)(fresh) if several else fresh[0]
    outputs = _flat((result,))
    layer.output_shape = outputs[0].shape if outputs else None
    for index, output in enumerate(outputs):
        if output.device.abstract:
            output.extra = output.extra or {}
            output.extra["origin"] = (layer, inputs, options, index)
    return result


def as_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape given as a whole number or a sequence.

    >>> as_shape(29), as_shape((28, 28))
    ((29,), (28, 28))
    """
    items = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if not all(isinstance(n, int | np.integer) and n > 0 for n in items):
        raise ValueError(f"a shape holds positive whole numbers; got {shape!r}")
    return tuple(int(n) for n in items)
