"""Operations with a derivative of their own, and checkpointing."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from deepbabysit.autograd import ops
from deepbabysit.autograd.checkpointing import checkpoint
from deepbabysit.autograd.function import Function
from deepbabysit.autograd.gradcheck import gradcheck
from deepbabysit.autograd.parameter import Parameter, State
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.updates import training
from deepbabysit.runtime.context import current, no_grad, surroundings
from deepbabysit.runtime.random import stream_number, streams
from deepbabysit.runtime.registry import find_device

CPU = find_device("cpu")


def leaf(values: Any) -> Tensor:
    return tensor(np.asarray(values, np.float64), requires_grad=True)


# -- Function --------------------------------------------------------------------------------------------------------


class Square(Function):
    def forward(self, x: Tensor) -> Tensor:
        assert not (x * 1.0).requires_grad, "forward runs without recording"
        self.save(x)
        return x * x

    def backward(self, gradient: Tensor) -> Tensor:
        (x,) = self.saved
        return gradient * x * 2.0


class Split(Function):
    """Two outputs, an option, a whole-number input."""

    def forward(self, x: Tensor, k: Tensor, *, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        self.factor = factor
        y = x.exp()
        self.save(y)
        return y, x * factor

    def backward(self, by_exp: Tensor, by_scaled: Tensor) -> tuple[Tensor, None]:
        (y,) = self.saved
        return by_exp * y + by_scaled * self.factor, None


def test_function_first_and_second_order() -> None:
    x = np.array([0.5, -1.5])
    assert gradcheck(Square(), tensor(x), order=2)
    assert gradcheck(lambda v: Square.apply(v) * Square()(v), tensor(x), order=2)
    assert gradcheck(lambda v, k: Split()(v, k, factor=3.0), [tensor(x), tensor([1, 2])], order=2)
    assert gradcheck(lambda v: Split.apply(v, tensor([1]))[1], tensor(x))


def test_one_function_object_called_twice() -> None:
    square = Square()
    x, y = leaf(3.0), leaf(5.0)
    (square(x) + square(y)).backward()
    assert x.grad is not None
    assert y.grad is not None
    assert (x.grad.item(), y.grad.item()) == (6.0, 10.0)


def bad(result: Any) -> type[Function]:
    class Bad(Function):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * y

        def backward(self, gradient: Tensor) -> Any:
            return result(gradient)

    return Bad


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda g: g, ValueError, r"Bad\.backward returned 1 gradients; forward has 2 inputs"),
        (lambda g: (g, g.sum()), ValueError, r"Bad\.backward: gradient 1 has shape \(\); the input has \(2,\)"),
        (lambda g: (g, 1.0), TypeError, r"Bad\.backward: gradient 1 is a float"),
        (lambda g: (g.to("cpu:reference"), g), ValueError, "gradient 0 is on cpu:reference, the input on cpu"),
    ],
)
def test_function_with_wrong_gradients_is_named(result: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bad(result)()(leaf([1.0, 2.0]), leaf([3.0, 4.0])).sum().backward()


def test_function_messages() -> None:
    class NoTensor(Function):
        def forward(self, x: Tensor) -> Any:
            return 1.0

        def backward(self, gradient: Tensor) -> Tensor:
            return gradient

    with pytest.raises(TypeError, match=r"NoTensor\.forward must return a Tensor"):
        NoTensor()(leaf([1.0]))

    class SavesInner(Function):
        def forward(self, x: Tensor) -> Tensor:
            self.save(x * 2.0)
            return x * x

        def backward(self, gradient: Tensor) -> Tensor:
            return gradient * self.saved[0]

    assert gradcheck(SavesInner(), tensor([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="neither an input nor an output"):
        gradcheck(SavesInner(), tensor([1.0, 2.0]), order=2)
    w = Parameter(CPU.asarray(np.ones(2)), CPU, "w")
    y = Square()(w).sum()
    w.assign([2.0, 2.0])
    with pytest.raises(RuntimeError, match="Square saved for backward"):
        y.backward()


# -- checkpoint ------------------------------------------------------------------------------------------------------


def dropout(x: Tensor, path: str) -> Tensor:
    here = streams()
    control = Tensor(here.control(x.device), x.device)
    return ops.dropout(x, control, rate=0.5, stream=stream_number(path), call=here.next_call(path))[0]


def test_checkpoint_same_gradients_for_arguments_and_captured() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s) for s in ((3, 4), (4, 4), (4,))]

    def run(through: bool) -> list[np.ndarray]:
        x, w, b = (leaf(v) for v in values)
        shift = b * 2.0  # captured, and not a leaf

        def block(h: Tensor) -> Tensor:
            return (dropout(h @ w, "block.dropout") + shift).tanh()

        streams().begin(0)
        h = x
        for _ in range(3):
            h = checkpoint(block, h) if through else block(h)
        (h * h).sum().backward()
        return [t.grad.numpy() for t in (x, w, b)]  # type: ignore[union-attr]

    for one, other in zip(run(False), run(True), strict=True):
        assert one.tobytes() == other.tobytes()


def test_checkpoint_repeats_masks_even_when_the_streams_have_moved_on() -> None:
    x = leaf(np.ones((4, 6)))
    streams().begin(5, row=8)
    y = checkpoint(lambda v: dropout(v * v, "late"), x)
    mask = y.numpy()
    streams().begin(6)
    calls = dict(streams().calls)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), 2 * mask)
    assert (streams().step, streams().row, streams().calls) == (6, 0, calls)


def test_checkpoint_second_order_and_nesting() -> None:
    x = tensor(np.array([[0.3, -0.4], [0.7, 0.2]]))
    w = tensor(np.array([[0.5, 0.1], [-0.3, 0.8]]))
    assert gradcheck(lambda a, b: checkpoint(lambda v: (v @ b).tanh() * v, a), [x, w], order=2)
    assert gradcheck(lambda a, b: checkpoint(lambda v: checkpoint(lambda u: (u @ b).exp(), v) * v, a), [x, w], order=2)


def test_checkpoint_hooks_see_complete_gradients_once() -> None:
    w = leaf([2.0, 3.0])
    seen: list[list[float]] = []
    w.register_hook(lambda g: seen.append(g.tolist()))
    x = leaf([1.0, 1.0])
    (checkpoint(lambda v: v * w, x) + w).sum().backward()
    assert seen == [[2.0, 2.0]]


def test_checkpoint_keeps_only_arguments_and_outputs() -> None:
    alive: list[Any] = []

    def block(v: Tensor) -> Tensor:
        inner = v.exp()
        alive.append(weakref.ref(inner))
        return inner.tanh()

    x = leaf([0.1, 0.2])
    gc.disable()
    try:
        y = checkpoint(block, x)
        assert alive[0]() is None
        y.sum().backward()
        assert all(a() is None for a in alive)
    finally:
        gc.enable()
    assert len(alive) == 2


class Statistics:
    """Stands in for a layer: leaves a new state each call, and reads the latest."""

    def __init__(self) -> None:
        self.state = State(CPU.asarray(np.ones(2)), CPU, "mean")

    def __call__(self, x: Tensor) -> Tensor:
        updates = current().updates
        before = updates.latest(self.state)
        after = before.detach() * 0.5 + x.detach().mean(axis=0)
        updates.leave(self.state, after)
        return x * before


class Pending:
    """Stands in for the step's store of new states."""

    def __init__(self) -> None:
        self.left: list[tuple[Any, Tensor]] = []

    def leave(self, state: Any, value: Tensor) -> None:
        self.left.append((state, value))

    def latest(self, state: Any) -> Tensor:
        found = [v for s, v in self.left if s is state]
        return found[-1] if found else state


def test_checkpoint_leaves_states_once_and_reads_the_old_ones_again() -> None:
    layer = Statistics()
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    pending = Pending()
    with surroundings(updates=pending, training=True):
        y = checkpoint(lambda v: layer(layer(v)), x)
    assert len(pending.left) == 2
    for state, value in pending.left:
        state.assign(value)  # the step ended before backward
    y.sum().backward()
    assert len(pending.left) == 2
    # the layer multiplied by 1, then by 0.5 + mean(x)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [[2.5, 3.5], [2.5, 3.5]])


def test_checkpoint_notices_overwritten_parameters_and_changing_functions() -> None:
    w = Parameter(CPU.asarray(np.ones(2)), CPU, "w")
    y = checkpoint(lambda v: v * w, leaf([1.0, 2.0])).sum()
    w.assign([3.0, 3.0], "the optimizer's step")
    with pytest.raises(RuntimeError, match=r"checkpoint saved .* by the optimizer's step"):
        y.backward()
    sizes = iter([2, 1])
    y = checkpoint(lambda v: v[: next(sizes)] * 1.0, leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="the first time"):
        y.sum().backward()
    y = checkpoint(lambda v: (v * 2.0).sum(), leaf([1.0]))
    y.backward(release=True)
    with pytest.raises(RuntimeError, match="already passed through checkpoint"):
        y.backward()


def test_checkpoint_outputs() -> None:
    x = leaf([1.0, 2.0])
    a, b, c = checkpoint(lambda v: (v * 2.0, v > 1, v.detach()), x)
    assert (a.requires_grad, b.requires_grad, c.requires_grad) == (True, False, False)
    a.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]
    with pytest.raises(TypeError, match="must return a Tensor"):
        checkpoint(lambda v: 1.0, x)
    with no_grad():
        assert not checkpoint(lambda v: v * 2.0, x).requires_grad


class Running(Layer):
    """A layer with a running state that its output depends on."""

    def build(self, *inputs: Form) -> None:
        self.mean = self.add_state("mean", np.ones(2))

    def call(self, x: Tensor) -> Tensor:
        before = self.latest_state(self.mean)
        if current().training:
            self.update_state(self.mean, before.detach() * 0.5 + x.detach().mean(axis=0))
        return x * before


@pytest.mark.parametrize("how", ["train", "block", "block ends before backward"])
def test_checkpointed_layer_updates_its_state_once(how: str) -> None:
    layer = Running()
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    if how == "train":
        layer.train()
        checkpoint(layer, x).sum().backward()
    elif how == "block":
        with training():
            checkpoint(layer, x).sum().backward()
    else:
        with training():
            y = checkpoint(layer, x).sum()
        y.backward()
    assert layer.mean.tolist() == [2.5, 3.5]
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_state_left_by_a_checkpointed_layer_is_that_of_the_layer_alone() -> None:
    plain = Running()
    with training():
        plain(leaf([[1.0, 2.0], [3.0, 4.0]]))
    assert plain.mean.tolist() == [2.5, 3.5]
