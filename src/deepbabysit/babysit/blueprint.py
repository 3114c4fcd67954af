"""Blueprint: the architecture of a model as data (`Model.get_config`), with the edits that remedies need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

from deepbabysit.layers.registry import layer_from_config, layer_to_config

ORIGIN = "origin"  # path that a layer had in the model it was read from: its weights may be kept
FRESH = ("kernel_initializer", "bias_initializer", "recurrent_initializer", "embeddings_initializer", "units",
         "filters", "kernel_size")
ACTIVATION_OPERATIONS = frozenset({"softmax", "sigmoid", "relu", "tanh", "log_softmax", "softplus"})


@dataclass(frozen=True, slots=True)
class Place:
    """One layer: its path, its description, the description of the model that holds it, and its number there."""

    path: str
    text: dict[str, Any]
    owner: dict[str, Any]
    index: int

    @property
    def kind(self) -> str:
        """The name of its class."""
        return str(self.text["class"])

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of its constructor."""
        found: dict[str, Any] = self.text["config"]
        return found

    @property
    def weighted(self) -> bool:
        """Whether it multiplies its input with a kernel."""
        return "kernel_initializer" in self.config


@final
class Blueprint:
    """A copy of an architecture that can be edited.

    Raises:
        ValueError: from every edit: the layer is not there, or cannot be changed so; the message says why.

    >>> import deepbabysit as db
    >>> model = db.Sequential([db.layers.Dense(8, "tanh", input_shape=4), db.layers.Dense(3, "softmax")])
    >>> plan = Blueprint(model.get_config())
    >>> plan.set("0", activation="relu")
    >>> plan.insert("0", db.layers.Dropout(0.2))
    >>> [(place.path, place.kind) for place in plan.layers()]
    [('0', 'Dense'), ('1', 'Dropout'), ('2', 'Dense')]
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = deepcopy(dict(config))

    @property
    def locked(self) -> str:
        """Why the layers cannot be edited; empty where they can."""
        if self.config.get("kind") in ("sequential", "functional"):
            return ""
        return (
            f"{self.config.get('class', 'the model')} is a class with a call() of its own: its layers cannot be "
            f"changed from outside, only how it is trained; change them where the class is written"
        )

    # -- looking -------------------------------------------------------------------------------------------------------

    def layers(self) -> list[Place]:
        """Return the layers in order, those of models inside of it included."""
        return list(_walk(self.config, "")) if not self.locked else []

    def find(self, path: str) -> Place:
        """Return a layer by its path, as findings name it."""
        self._open()
        for place in self.layers():
            if place.path == path:
                return place
        raise ValueError(f"there is no layer {path!r} that could be changed; there are "
                         f"{', '.join(place.path for place in self.layers())}")

    def weighted(self) -> list[Place]:
        """Return the layers with a kernel."""
        self._open()
        found = [place for place in self.layers() if place.weighted]
        if not found:
            raise ValueError("the model has no layer with a kernel")
        return found

    def hidden(self) -> list[Place]:
        """Return the layers with a kernel but the last one."""
        return self.weighted()[:-1]

    def last(self) -> Place:
        """Return the last layer with a kernel."""
        return self.weighted()[-1]

    def _open(self) -> None:
        if self.locked:
            raise ValueError(self.locked)

    # -- editing -------------------------------------------------------------------------------------------------------

    def set(self, path: str, **settings: Any) -> None:
        """Change arguments of a layer's constructor; weights that no longer fit are drawn anew."""
        place = self.find(path)
        missing = [name for name in settings if name not in place.config]
        if missing:
            raise ValueError(f"layer {path} ({place.kind}) has no argument {missing[0]!r}")
        if any(place.config[name] != value for name, value in settings.items() if name in FRESH):
            place.text.pop(ORIGIN, None)
        place.config.update(settings)

    def insert(self, path: str, layer: Any, before: bool = False) -> None:
        """Put a layer behind (or before) another."""
        place = self.find(path)
        text = layer_to_config(layer)
        if place.owner["kind"] == "sequential":
            at = place.index if before else place.index + 1
            if at == 0:
                _take_shape(place.owner)
            place.owner["layers"].insert(at, text)
            return
        _insert_in_graph(place.owner, place.index, text, before)

    def remove(self, path: str) -> None:
        """Take out a layer that leaves the shape as it is (dropout, activation, normalization)."""
        place = self.find(path)
        if place.owner["kind"] == "sequential":
            if place.index == 0:
                _take_shape(place.owner)
            del place.owner["layers"][place.index]
            return
        _remove_from_graph(place.owner, place.index)

    def set_output_activation(self, activation: str) -> None:
        """Give the output an activation, and no other: activations that stand behind the last kernel go."""
        while True:
            self._drop_output_operation()
            place = self._output()
            if place.kind not in ("Activation", "LeakyReLU"):
                break
            self.remove(place.path)
        if "activation" in place.config:
            place.config["activation"] = None if activation == "linear" else activation
        elif activation != "linear":
            self.insert(place.path, layer_from_config({"class": "Activation", "config": {"activation": activation}}))

    def _output(self) -> Place:
        self._open()
        places = [place for place in self.layers() if place.owner is self.config]
        if self.config["kind"] == "sequential":
            number = len(self.config["layers"]) - 1
        else:
            number = _step_of(self.config, self.config["outputs"][0]).get("layer", -1)
        found = next((place for place in places if place.index == number), None)
        if found is None or len(self.config.get("outputs", [0])) > 1:
            raise ValueError("the output is no single layer's, so its activation cannot be changed")
        return found

    def _drop_output_operation(self) -> None:
        if self.config["kind"] != "functional" or len(self.config["outputs"]) > 1:
            return
        step = _step_of(self.config, self.config["outputs"][0])
        if step.get("operation") in ACTIVATION_OPERATIONS:
            self.config["outputs"] = [step["inputs"][0]]
            _tidy(self.config)


def _walk(model: dict[str, Any], path: str) -> Iterator[Place]:
    for index, text in enumerate(model["layers"]):
        inner = text.get("model")
        name = (inner["name"] if inner is not None else text["config"].get("name")) or str(index)
        here = f"{path}.{name}" if path else name
        if inner is None:
            yield Place(here, text, model, index)
        elif inner["kind"] in ("sequential", "functional"):
            yield from _walk(inner, here)


def _take_shape(model: dict[str, Any]) -> None:
    """Let the stack itself keep the shape of its input, not its first layer."""
    first = model["layers"][0].get("config", {})
    if first.get("input_shape") is not None:
        shape = first["input_shape"]
        model["input_shape"] = model["input_shape"] or (list(shape) if isinstance(shape, list | tuple) else [shape])
        first["input_shape"] = None


# -- graphs ------------------------------------------------------------------------------------------------------------


def _refs(value: Any) -> Iterator[list[Any]]:
    if "ref" in value:
        yield value["ref"]
    for item in value.get("items", ()):
        yield from _refs(item)


def _arguments(step: Mapping[str, Any]) -> Iterator[list[Any]]:
    for value in (*step["inputs"], *step["options"].values()):
        yield from _refs(value)


def _step_of(model: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    where = value.get("ref", ["input"])
    found: dict[str, Any] = {} if where[0] == "input" else model["steps"][where[1]]
    return found


@dataclass(frozen=True, slots=True)
class _Moves:
    """Where results are found now: of whole steps, and of the first result of single ones."""

    steps: dict[int, int]
    first: dict[int, list[Any]]

    def value(self, value: Any) -> Any:
        """Return an argument with its references renewed."""
        if "ref" in value:
            return {"ref": self._ref(value["ref"])}
        if "items" in value:
            return {"items": [self.value(item) for item in value["items"]]}
        return value

    def _ref(self, ref: list[Any]) -> list[Any]:
        if ref[0] == "input":
            return ref
        if ref[2] == 0 and ref[1] in self.first:
            return self.first[ref[1]]
        return ["step", self.steps.get(ref[1], ref[1]), ref[2]]

    def step(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call with its references renewed."""
        return {
            **step, "inputs": [self.value(v) for v in step["inputs"]],
            "options": {name: self.value(v) for name, v in step["options"].items()},
        }


def _only_input(step: Mapping[str, Any]) -> dict[str, Any]:
    if len(step["inputs"]) != 1 or "ref" not in step["inputs"][0]:
        raise ValueError("a layer with several inputs stays as it is; change the graph where it is written")
    found: dict[str, Any] = step["inputs"][0]
    return found


def _insert_in_graph(model: dict[str, Any], number: int, text: dict[str, Any], before: bool) -> None:
    """Put one new layer behind or before every call of a layer."""
    made = len(model["layers"])
    calls = [place for place, step in enumerate(model["steps"]) if step.get("layer") == number]
    refs = [ref for step in model["steps"] for ref in _arguments(step)]
    if not before and any(ref[0] == "step" and ref[1] in calls and ref[2] for ref in refs):
        raise ValueError("a layer with several results stays as it is; change the graph where it is written")
    moves = _Moves({}, {})
    steps: list[dict[str, Any]] = []
    for old, given in enumerate(model["steps"]):
        step = moves.step(given)
        here = old in calls
        if here and before:
            steps.append({"layer": made, "inputs": [_only_input(step)], "options": {}})
            step["inputs"] = [{"ref": ["step", len(steps) - 1, 0]}]
        moves.steps[old] = len(steps)
        steps.append(step)
        if here and not before:
            steps.append({"layer": made, "inputs": [{"ref": ["step", len(steps) - 1, 0]}], "options": {}})
            moves.first[old] = ["step", len(steps) - 1, 0]
    model["layers"].append(text)
    model["steps"] = steps
    model["outputs"] = [moves.value(value) for value in model["outputs"]]
    _tidy(model)


def _remove_from_graph(model: dict[str, Any], number: int) -> None:
    """Let what used a layer's results use its input."""
    moves = _Moves({}, {})
    steps = []
    for old, given in enumerate(model["steps"]):
        step = moves.step(given)
        steps.append(step)
        if step.get("layer") == number:
            moves.first[old] = _only_input(step)["ref"]
    model["steps"] = steps
    model["outputs"] = [moves.value(value) for value in model["outputs"]]
    _tidy(model)


def _tidy(model: dict[str, Any]) -> None:
    """Put steps and layers in the order in which the built model has them, without those that nobody uses.

    Paths in findings count layers in that order.
    """
    steps: list[dict[str, Any]] = model["steps"]
    order: list[int] = []
    waiting = [(ref[1], False) for out in reversed(model["outputs"]) for ref in _refs(out) if ref[0] == "step"]
    seen: set[int] = set()
    while waiting:
        number, expanded = waiting.pop()
        if expanded:
            order.append(number)
            continue
        if number in seen:
            continue
        seen.add(number)
        waiting.append((number, True))
        waiting.extend((ref[1], False) for ref in reversed(list(_arguments(steps[number]))) if ref[0] == "step")
    moves = _Moves({old: new for new, old in enumerate(order)}, {})
    model["steps"] = [moves.step(steps[old]) for old in order]
    model["outputs"] = [moves.value(value) for value in model["outputs"]]
    used = list(dict.fromkeys(step["layer"] for step in model["steps"] if "layer" in step))
    places = {old: new for new, old in enumerate(used)}
    model["layers"] = [model["layers"][old] for old in used]
    for step in model["steps"]:
        if "layer" in step:
            step["layer"] = places[step["layer"]]
