"""The model's graph as plain facts: traced from one forward pass, so that written models are seen like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepbabysit.autograd.function import Function
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit.memory import Memory, memories
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, TensorVitals
from deepbabysit.initializers import compute_fans
from deepbabysit.layers.affine import Affine
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.registry import LAYERS
from deepbabysit.layers.updates import Updates
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.random import Streams

ACTIVATIONS = frozenset({
    "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax", "log_softmax",
})
# what leaves an affine map affine
PLAIN = frozenset({
    "reshape", "flatten_rows", "permute_dims", "astype", "copy", "expand_dims", "squeeze", "stop_gradient", "getitem",
    "to", "dropout", "batch_norm", "batch_norm_inference", "avg_pool", "mean", "sum", "broadcast_to",
})
AFFINE_OPERATIONS = frozenset({
    "linear", "matmul", "conv", "affine_conv", "conv_transpose", "depthwise_conv", "add", "subtract",
})
THINNED, LEAST_ROWS = 200_000, 16  # of larger results of filters so many numbers, and so many rows, are looked at
SETTINGS = (
    "rate", "per", "momentum", "epsilon", "use_bias", "units", "filters", "kernel_size", "groups", "input_dim",
    "output_dim", "slope", "return_sequences",
)


@dataclass(frozen=True, slots=True)
class Signal:
    """What one layer gave on the batch, in training mode.

    Attributes:
        std: standard deviation over the batch, averaged over units (root of the mean square).
        raw: the same before the activation, without the bias, where the layer has a kernel; else None.
        incoming: root of the mean square of the layer's input.
        mean: mean of the output; `zero` share of units that are 0 for every row.
        nonfinite: how many values were not finite.
    """

    std: float
    raw: float | None
    incoming: float
    mean: float
    zero: float
    nonfinite: int


@dataclass(slots=True)
class Traced:
    """What a forward pass showed: facts about the graph, signals by layer, the output, and what entered first.

    `memories`: what each direction of a recurrent layer does with the batch, by path.
    """

    model: ModelFacts
    signals: dict[str, Signal]
    output: Tensor
    entering: dict[str, np.ndarray]
    embedded: tuple[bool, ...] = ()
    memories: Mapping[str, Memory] = field(default_factory=dict)


@dataclass(slots=True)
class _Visit:
    path: str
    layer: Layer
    sources: tuple[str, ...]
    through: tuple[str, ...]
    given: Tensor
    result: Tensor


@dataclass(slots=True)
class _Walker:
    """Notes every call of a layer, and from which layers its input came."""

    made: dict[tuple[int, int], tuple[Any, str]] = field(default_factory=dict)
    visits: list[_Visit] = field(default_factory=list)
    functions: dict[str, None] = field(default_factory=dict)
    embedded: dict[int, bool] = field(default_factory=dict)

    def behind(self, tensor: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return (layers, operations) behind a tensor, as far back as the nearest layers."""
        sources: dict[str, None] = {}
        through: dict[str, None] = {}
        waiting: list[tuple[Any, int]] = [_key(tensor)]
        seen: set[tuple[int, int]] = set()
        while waiting:
            thing, index = waiting.pop()
            key = (id(thing), index)
            if key in seen:
                continue
            seen.add(key)
            if key in self.made:
                sources[self.made[key][1]] = None
            elif index >= 0:
                through[thing.name()] = None
                waiting.extend(edge for edge in thing.parents if edge is not None)
        return tuple(sources), tuple(through)


def _key(tensor: Tensor) -> tuple[Any, int]:
    return (tensor, -1) if tensor.node is None else (tensor.node, tensor.index)


def independent_copy(model: Any) -> Any:
    """Return a copy of a model without its trainer and hooks: nothing that happens to it reaches the model."""
    memo: dict[int, Any] = {}
    keep: list[Any] = []
    for _, layer in model.walk():
        empty: list[Any] = []
        memo[id(layer._hooks)] = empty
        keep.append(empty)
        trainer = getattr(layer, "_trainer", None)
        if trainer is not None:
            memo[id(trainer)] = None
    return deepcopy(model, memo)


def trace(model: Layer, inputs: Sequence[Tensor], seed: int = 0) -> Traced:
    """Run a copy of a model once in training mode and return what was seen; its states stay as they are.

    Arguments:
        model: a copy that nobody else uses.
        inputs: one batch; floating inputs must require a gradient, so that the graph can be followed.
        seed: where dropout's draws begin.
    """
    walker = _Walker()
    hooks = []
    inner = _hidden(model)
    for path, layer in list(model.walk()):
        if layer is model or id(layer) in inner:
            continue
        if any(True for _ in layer.children()) and type(layer) not in LAYERS.values() and not isinstance(layer, Affine):
            continue
        hooks.append(layer.register_forward_hook(_note(walker, path or layer.path)))
    roots = {id(t): number for number, t in enumerate(inputs)}
    walker.embedded = dict.fromkeys(range(len(inputs)), False)
    try:
        with surroundings(training=True, updates=Updates(), streams=Streams(seed), grad=True, recorder=None):
            output = model(*inputs)
    finally:
        for remove in hooks:
            remove()
    for visit in walker.visits:
        if type(visit.layer).__name__ == "Embedding" and id(visit.given) in roots:
            walker.embedded[roots[id(visit.given)]] = True
    if isinstance(output, list | tuple):
        output = output[0]
    walker.functions = dict.fromkeys(node.name() for node in own_functions(output))
    facts = ModelFacts(
        layers=tuple(_layer_facts(visit) for visit in walker.visits),
        output_units=output.shape[-1] if output.ndim > 1 else 1,
        output_activation=_last_activation(walker, output),
        parameters=model.count_params(),
        trainable=model.count_params(trainable_only=True),
        output_shape=tuple(output.shape[1:]),
        functions=tuple(walker.functions),
    )
    signals: dict[str, Signal] = {}
    entering: dict[str, np.ndarray] = {}
    for visit in walker.visits:
        signals.setdefault(visit.path, _signal(visit))
        if _has_kernel(visit.layer) and not _weighted(visit.sources, walker):
            entering.setdefault(visit.path, np.array(visit.given.numpy()))
    embedded = tuple(walker.embedded[number] for number in range(len(inputs)))
    kept = {path: memory for visit in walker.visits for path, memory in memories(visit.path, visit.layer, visit.given)}
    return Traced(facts, signals, output, entering, embedded, kept)


def _hidden(model: Layer) -> set[int]:
    """Return layers that are a part of a library layer (a Dense inside of an attention): not listed by themselves."""
    found: set[int] = set()
    for _, layer in model.walk():
        if layer is not model and type(layer) in LAYERS.values():
            found.update(id(below) for _, below in layer.walk() if below is not layer)
    return found


def _note(walker: _Walker, path: str) -> Any:
    def hook(layer: Layer, inputs: tuple[Any, ...], result: Any) -> None:
        given = [t for t in _flat(inputs) if isinstance(t, Tensor)]
        results = [t for t in _flat((result,)) if isinstance(t, Tensor)]
        if not given or not results:
            return
        found = [walker.behind(t) for t in given]
        sources = tuple(dict.fromkeys(s for names, _ in found for s in names))
        through = tuple(dict.fromkeys(o for _, names in found for o in names))
        walker.visits.append(_Visit(path, layer, sources, through, given[0], results[0]))
        for t in results:
            thing, index = _key(t)
            if not any(t is g for g in given):  # what is handed through keeps its maker
                walker.made[(id(thing), index)] = (thing, path)

    return hook


def _flat(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found.extend(_flat(value) if isinstance(value, list | tuple) else [value])
    return found


def own_functions(output: Tensor) -> list[Any]:
    """Return the nodes behind an output whose derivative is of the user's own."""
    waiting = [output.node] if output.node is not None else []
    seen: set[int] = set()
    found = []
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(getattr(node, "_function", None), Function):
            found.append(node)
        waiting.extend(edge[0] for edge in node.parents if edge is not None and edge[1] >= 0)
    return found


def hands_through(node: Any) -> bool:
    """Tell whether a user's operation returns its only input as it is, so that it is there for its backward alone."""
    if len(node.parents) != 1 or len(node.outputs) != 1:
        return False
    values = np.random.Generator(np.random.Philox(41)).standard_normal(node.outputs[0].shape)
    given = Tensor(node.device.asarray(values.astype(node.outputs[0].dtype)), node.device)
    try:
        with surroundings(grad=False):
            return np.array_equal(node._function._method("forward")(given).numpy(), given.numpy())
    except Exception:  # it wants other inputs: what it does is not known
        return False


def _last_activation(walker: _Walker, output: Tensor) -> str | None:
    memory = output.logits
    if memory is not None:
        return memory[0]
    node = output.node
    while node is not None:
        name = node.name()
        owner = next((v for v in reversed(walker.visits) if v.result.node is node), None)
        if owner is not None:
            activation = _activation(owner.layer)
            if activation not in (None, "linear") or _has_kernel(owner.layer):
                return activation if activation in ACTIVATIONS or activation == "linear" else None
        if name in ACTIVATIONS:
            return name
        if name in AFFINE_OPERATIONS:
            return "linear"
        if name not in PLAIN or len([e for e in node.parents if e is not None]) != 1:
            return None
        edge = next(e for e in node.parents if e is not None)
        node = edge[0] if edge[1] >= 0 else None
    return None


def _activation(layer: Layer) -> str | None:
    kind = type(layer).__name__
    if kind == "LeakyReLU":
        return "leaky_relu"
    found = getattr(layer, "activation", None)
    name = getattr(found, "name", found)
    return name if isinstance(name, str) else None


def _has_kernel(layer: Layer) -> bool:
    return isinstance(getattr(layer, "kernel", None), Parameter)


def _weighted(sources: Sequence[str], walker: _Walker) -> bool:
    """Tell whether a layer with weights lies before: then this is not where data enter."""
    before = {v.path: v for v in walker.visits}
    waiting, seen = list(sources), set()
    while waiting:
        path = waiting.pop()
        if path in seen or path not in before:
            continue
        seen.add(path)
        layer = before[path].layer
        if _has_kernel(layer) or type(layer).__name__ == "Embedding":
            return True
        waiting.extend(before[path].sources)
    return False


def vitals_of(values: np.ndarray) -> TensorVitals:
    """Return the statistics of an array on the host."""
    wide = np.asarray(values, np.float64).reshape(-1)
    fine = wide[np.isfinite(wide)]
    if not fine.size:
        return TensorVitals(wide.size, 0.0, 0.0, 0.0, 0.0, 0.0, 0, int(wide.size), 0.0)
    return TensorVitals(
        int(wide.size), float(fine.mean()), float(fine.std()), float(fine.min()), float(fine.max()),
        float(np.abs(fine).max()), int((fine == 0).sum()), int(wide.size - fine.size), float(np.sqrt((fine**2).sum())),
    )


def _layer_facts(visit: _Visit) -> LayerFacts:
    layer = visit.layer
    kernel = getattr(layer, "kernel", None)
    own = {name: value for name, value in layer.own() if isinstance(value, Parameter)}
    settings: dict[str, Any] = {}
    for name in SETTINGS:
        value = getattr(layer, name, None)
        if isinstance(value, bool | int | float | str):
            settings[name] = value
    config = _config(layer)
    settings.update({k: v for k, v in config.items() if k.endswith("initializer")})
    if own:
        settings["l1"] = max(p.l1 for p in own.values())
        settings["l2"] = max(p.l2 for p in own.values())
        settings["frozen"] = layer.frozen
    for name, value in layer.own():
        if not isinstance(value, Parameter):
            values = value.numpy()
            settings[f"fresh_{name}"] = bool((values == values.reshape(-1)[0]).all()) if values.size else True
    if visit.result.ndim > 2:
        settings["positions"] = math.prod(visit.result.shape[1:-1])
    fan_in = None
    if isinstance(kernel, Parameter):
        fans = _fans(layer, kernel)
        fan_in = int(fans[0])
        settings["fan_out"] = int(fans[1])
        settings["unit_spread"] = unit_spread(kernel.numpy())
    return LayerFacts(
        path=visit.path,
        kind=type(layer).__name__,
        activation=_activation(layer),
        units=visit.result.shape[-1] if visit.result.ndim > 1 else None,
        inputs=fan_in,
        trainable=any(p.trainable for p in own.values()),
        settings=settings,
        sources=visit.sources,
        through=visit.through,
        parameters={name: vitals_of(value.numpy()) for name, value in own.items()},
    )


def _config(layer: Layer) -> Mapping[str, Any]:
    try:
        config = layer.config()
    except Exception:  # a config of the user's own may do anything
        return {}
    found = {}
    for name, value in config.items():
        named = value.get("name") if isinstance(value, Mapping) else value  # as a model file has it
        shown = getattr(named, "name", getattr(named, "__name__", named))
        if isinstance(shown, str):
            found[name] = shown
    return found


def _fans(layer: Layer, kernel: Parameter) -> tuple[float, float]:
    kind = type(layer).__name__
    shape = kernel.shape
    if kind == "ConvTranspose2D":
        window = math.prod(shape[:-2])
        return window * shape[-1], window * shape[-2]
    if kind == "DepthwiseConv2D":
        window = math.prod(shape[:-2])
        return window, window
    return compute_fans(shape)


def unit_spread(kernel: np.ndarray) -> float:
    """Return how much a kernel's units differ: the largest spread of a row over units, over the kernel's size.

    0 where all units are equal (the last axis counts units).
    """
    flat = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    size = float(np.sqrt((flat**2).mean()))
    if flat.shape[1] < 2 or size == 0.0:
        return 0.0
    return float((flat.max(axis=1) - flat.min(axis=1)).max() / size)


def _thin(values: np.ndarray) -> np.ndarray:
    """Return the first rows of an array, as many as are needed: filters that work at many places need few rows."""
    if values.ndim < 3 or values.size <= THINNED:
        return values
    return values[: max(LEAST_ROWS, THINNED * len(values) // values.size)]


def _signal(visit: _Visit) -> Signal:
    result = visit.result.numpy()
    bad = int(result.size - np.isfinite(result).sum())
    units = result.reshape(-1, result.shape[-1] if result.ndim > 1 else 1)
    values = np.asarray(_thin(result), np.float64)
    given = np.asarray(_thin(visit.given.numpy()), np.float64)
    if bad:
        values = np.where(np.isfinite(values), values, 0.0)
    rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    raw = None
    layer = visit.layer
    if isinstance(layer, Affine):
        raw = _before_activation(visit, layer)
    return Signal(
        std=float(np.sqrt(rows.var(axis=0).mean())),
        raw=raw,
        incoming=float(np.sqrt((given**2).mean())) if np.isfinite(given).all() else math.inf,
        mean=float(values.mean()),
        zero=float((units == 0).all(axis=0).mean()),
        nonfinite=bad,
    )


def _before_activation(visit: _Visit, layer: Affine) -> float:
    """Return the spread of the product before bias and activation."""
    with surroundings(grad=False, training=True, updates=None, recorder=None, streams=Streams(0)):
        inputs = visit.given.detach()
        few = len(_thin(visit.result.numpy()))
        z = np.asarray(layer.affine(inputs[:few] if few < len(inputs) else inputs).numpy(), np.float64)
    z = z.reshape(len(z), -1)
    return float(np.sqrt(z.var(axis=0).mean())) if np.isfinite(z).all() else math.inf
