"""The tape: sweeps, hooks, saved values that were overwritten, release, depth, lifetimes, devices, recordings."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from deepbabysit.autograd import ops
from deepbabysit.autograd.parameter import Parameter, State
from deepbabysit.autograd.tensor import Tensor, apply, tensor
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.backend import Kernel
from deepbabysit.runtime.context import no_grad, surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.record import Recorder, RecordingRefused
from deepbabysit.runtime.reference import ReferenceBackend
from deepbabysit.runtime.registry import find_device

CPU = find_device("cpu")


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return tensor(np.asarray(values, dtype), requires_grad=True)


def parameter(values: Any, name: str = "w") -> Parameter:
    return Parameter(CPU.asarray(np.asarray(values, np.float64)), CPU, name)


# -- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_add_up_over_uses_and_over_calls() -> None:
    x = leaf([2.0, 3.0])
    (x * x + x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 7.0]
    (x * 2.0).sum().backward()
    assert x.grad.tolist() == [7.0, 9.0]


def test_orders_up_to_four_of_a_power() -> None:
    x = leaf(2.0)
    y = x * x * x * x
    found = []
    for _ in range(4):
        x.grad = None
        y.backward(create_graph=True)
        assert x.grad is not None
        y = x.grad
        found.append(y.item())
    assert found == [32.0, 48.0, 48.0, 24.0]


@pytest.mark.parametrize("name", ["exp", "tanh", "sqrt", "log"])
def test_second_derivative_reaches_saved_outputs(name: str) -> None:
    """The derivative of exp is its output: that dependence must stay on the tape."""
    x = leaf([0.7, 1.3])
    getattr(x, name)().sum().backward(create_graph=True)
    first = x.grad
    assert first is not None
    assert first.requires_grad
    x.grad = None
    first.sum().backward()
    v = x.numpy()
    truth = {
        "exp": np.exp(v),
        "tanh": -2 * np.tanh(v) * (1 - np.tanh(v) ** 2),
        "sqrt": -0.25 * v**-1.5,
        "log": -1 / v**2,
    }[name]
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), truth, rtol=1e-12)


def test_no_grad_as_block_and_decorator() -> None:
    x = leaf([1.0])
    with no_grad():
        assert not (x * 2.0).requires_grad
        with no_grad():
            pass
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad

    @no_grad()
    def double(v: Tensor) -> Tensor:
        return v * 2.0

    assert not double(x).requires_grad
    assert (x * 2.0).requires_grad


def test_backward_without_graph_or_start_is_refused() -> None:
    with pytest.raises(RuntimeError, match="does not depend on anything with requires_grad"):
        tensor([1.0]).backward()
    x = leaf([1.0, 2.0])
    with no_grad(), pytest.raises(RuntimeError, match="under no_grad"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"starts from one number; this tensor has shape \(2,\)"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"must have the tensor's shape \(2,\); got \(3,\)"):
        (x * 2.0).backward(np.ones(3))
    (x * 2.0).backward(np.array([1.0, 10.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 20.0]


def test_whole_numbers_have_no_gradient() -> None:
    x = leaf([1.5, 2.5])
    rounded = x.astype("int64")
    assert not rounded.requires_grad
    assert not (x > 2.0).requires_grad
    assert not ops.stop_gradient(x).requires_grad
    with pytest.raises(TypeError, match="only floating numbers can have a gradient"):
        tensor([1, 2], requires_grad=True)


def test_no_gradient_enters_where_an_operation_has_none() -> None:
    """relu_gradient has no derivative by its second input: nothing is put on the tape for it."""
    y = leaf([1.0, -1.0])
    assert not ops.relu_gradient(tensor(np.ones(2)), y).requires_grad


def test_the_same_leaf_twice_among_the_wanted() -> None:
    from deepbabysit.autograd.tape import sweep

    x = leaf(3.0)
    y = x * x
    one, other = sweep((y,), (np.float64(1.0),), (x, x), False)
    assert float(one) == float(other) == 6.0


# -- hooks -----------------------------------------------------------------------------------------------------------


def test_hook_of_a_leaf_sees_the_complete_gradient_once_and_may_replace_it() -> None:
    x = leaf([1.0, 2.0])
    seen: list[list[float]] = []

    def hook(gradient: Tensor) -> Tensor:
        seen.append(gradient.tolist())
        return gradient * 10.0

    remove = x.register_hook(hook)
    (x * 3.0 + x * 4.0).sum().backward()
    assert seen == [[7.0, 7.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [70.0, 70.0]
    remove()
    x.grad = None
    x.sum().backward()
    assert len(seen) == 1
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]


def test_hook_of_an_inner_tensor() -> None:
    x = leaf([1.0, 2.0])
    h = x * 2.0
    seen: list[list[float]] = []
    remove = h.register_hook(lambda g: seen.append(g.tolist()) or g * 0.5)  # type: ignore[func-returns-value]
    (h * h + h).sum().backward()
    assert seen == [[5.0, 9.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 9.0]
    remove()
    x.grad = None
    (h * 1.0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]


def test_hook_with_create_graph_stays_derivable() -> None:
    x = leaf(3.0)
    x.register_hook(lambda g: g * x)
    (x * x).backward(create_graph=True)
    first = x.grad
    assert first is not None
    assert first.item() == 18.0  # 2x * x
    x.grad = None
    first.backward()
    assert x.grad is not None
    assert x.grad.item() == 12.0 * 3.0  # d(2x^2)/dx = 12, and the hook multiplies by x


def test_hook_of_another_shape_and_without_gradient_is_refused() -> None:
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook returned shape \[\]; the gradient has \[2\]"):
        x.sum().backward()
    with pytest.raises(RuntimeError, match="needs a tensor with requires_grad"):
        tensor([1.0]).register_hook(lambda g: None)


def test_hooks_upstream_of_a_composite_run_once() -> None:
    """A composite without a fused derivative sweeps a small graph of its own; that sweep ends at its inputs."""
    calls: list[str] = []
    x = leaf([1.0, 2.0, 4.0])
    h = x * 2.0
    h.register_hook(lambda g: calls.append("inner"))
    x.register_hook(lambda g: calls.append("leaf"))
    backend = ReferenceBackend()
    spec = SPECS["var"]
    backend.kernels = {
        "var": Kernel(lambda ctx, outs, v, axis, keepdims: np.var(v, axis=axis, keepdims=keepdims, out=outs[0]))
    }
    device = Device("cpu:one", backend)
    y = Tensor(x.data, device, requires_grad=True)
    y.register_hook(lambda g: calls.append("y"))
    v = y * 2.0
    v.register_hook(lambda g: calls.append("v"))
    result = apply(spec, (apply(spec, (v,), {"axis": None, "keepdims": True}) * v,))
    result.backward(create_graph=True)
    assert sorted(calls) == ["v", "y"]


# -- saved values ----------------------------------------------------------------------------------------------------


def test_overwriting_a_parameter_between_forward_and_backward_names_both_places() -> None:
    w = parameter([1.0, 2.0])
    with surroundings(scope="encoder.0"):
        loss = (w * w).sum()
    w.assign([5.0, 6.0], "the optimizer's step")
    with pytest.raises(RuntimeError, match=r"multiply in encoder\.0 saved .*\[2\].* by the optimizer's step"):
        loss.backward()
    (w * w).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [10.0, 12.0]


def test_views_and_views_of_views_share_the_version() -> None:
    w = parameter(np.arange(6.0))
    view = w.reshape(2, 3).T[0]
    loss = (view * view).sum()
    w.assign(np.ones(6))
    with pytest.raises(RuntimeError, match="overwritten"):
        loss.backward()


def test_a_state_that_was_overwritten_is_noticed() -> None:
    state = State(CPU.asarray(np.ones(2)), CPU, "mean")
    x = leaf([1.0, 2.0])
    loss = (x * state).sum()
    state.assign([3.0, 3.0])
    with pytest.raises(RuntimeError, match="overwritten since, by an assignment"):
        loss.backward()


def test_what_does_not_read_the_old_values_may_pass() -> None:
    w = parameter([1.0, 2.0])
    loss = (w + w).sum()
    w.assign([5.0, 6.0])
    loss.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [2.0, 2.0]


def test_release_gives_saved_values_back() -> None:
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    loss.backward()
    loss.backward(release=True)
    assert x.grad is not None
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="already passed through"):
        loss.backward()


def test_assign_refuses_another_shape_and_keeps_the_dtype() -> None:
    w = parameter([1.0, 2.0], "0.kernel")
    with pytest.raises(ValueError, match=r"0\.kernel has shape \[2\]; the new values have \[3\]"):
        w.assign([1.0, 2.0, 3.0])
    memory = w.data
    w.assign(np.array([7.0, 8.0], np.float32))
    assert w.data is memory
    assert w.dtype == np.float64
    assert w.tolist() == [7.0, 8.0]


def test_gradients_accumulate_in_the_slot_of_a_placed_parameter() -> None:
    w = parameter([1.0, 2.0])
    memory, slot = np.zeros(2), np.full(2, np.nan)
    w.place(memory, slot)
    assert memory.tolist() == [1.0, 2.0]
    (w * 3.0).sum().backward()
    (w * 4.0).sum().backward()
    assert slot.tolist() == [7.0, 7.0]
    assert w.grad is not None
    assert w.grad.data is slot


# -- depth and lifetime ----------------------------------------------------------------------------------------------


def test_twenty_thousand_steps_need_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad is not None
    assert x.grad.item() == 1.0
    y.backward(release=True)
    del y  # the chain is taken apart without recursion, too


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_graphs_go_away_without_the_cycle_collector(no_collector: None) -> None:
    x = leaf(np.ones(3))
    h = (x * 2.0).exp().tanh()
    loss = ops.softmax(h).log().sum() + h.var()
    alive = weakref.ref(h)
    loss.backward()
    del h
    assert alive() is not None
    del loss
    assert alive() is None


def test_second_order_graphs_go_away_too(no_collector: None) -> None:
    x = leaf(np.ones(3))
    h = x.exp()
    alive = weakref.ref(h)
    h.sum().backward(create_graph=True)
    assert x.grad is not None
    x.grad.sum().backward()
    x.grad = None
    del h
    assert alive() is None


def test_detached_values_and_constant_views_do_not_keep_the_graph(no_collector: None) -> None:
    x = leaf(np.ones(3))
    loss = (x * 2.0).sum()
    node = weakref.ref(loss)
    kept = [loss.detach(), ops.stop_gradient(loss)]
    with no_grad():
        kept.append(loss.reshape(1))
    del loss
    assert node() is None
    assert [k.item() for k in kept] == [6.0] * 3


# -- devices ---------------------------------------------------------------------------------------------------------


def test_mixing_devices_names_both() -> None:
    x = tensor([1.0])
    y = tensor([1.0], device="cpu:reference")
    with pytest.raises(ValueError, match=r"add: argument 0 is on cpu, argument 1 on cpu:reference; move one"):
        x + y
    with pytest.raises(ValueError, match="argument 2 on cpu:reference"):
        ops.where(tensor([True]), x, y)


def test_moving_between_devices_carries_gradients_home() -> None:
    x = leaf([1.0, 2.0])
    y = (x.to("cpu:reference") * 3.0).to("cpu")
    (y * y).sum().backward(create_graph=True)
    first = x.grad
    assert first is not None
    assert first.device is CPU
    assert first.tolist() == [18.0, 36.0]
    x.grad = None
    first.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [18.0, 18.0]


# -- the funnel ------------------------------------------------------------------------------------------------------


def test_deterministic_mode_refuses_a_kernel_that_is_not() -> None:
    backend = ReferenceBackend()
    backend.kernels = {"tanh": Kernel(lambda ctx, outs, x: np.tanh(x, outs[0]), deterministic=False)}
    x = Tensor(np.ones(2), Device("cpu:loose", backend))
    assert x.tanh().shape == (2,)
    with surroundings(deterministic=True), pytest.raises(RuntimeError, match="tanh has no deterministic kernel"):
        x.tanh()


def test_strict_refuses_to_run_a_reference_and_misses_are_counted() -> None:
    device = Device("cpu:none", ReferenceBackend())
    x = Tensor(np.ones(2), device)
    x.tanh()
    assert device.misses["tanh"] == 1
    with (
        surroundings(strict=True),
        pytest.raises(RuntimeError, match=r"tanh\(float64\[2\]\) has no kernel on cpu:none"),
    ):
        x.tanh()


def test_scratch_belongs_to_the_thread_that_runs() -> None:
    import threading

    device = Device("cpu:scratch", ReferenceBackend())
    device.scratch = (np.ones(1),)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(len(device.scratch)))
    thread.start()
    thread.join()
    assert seen == [0]
    assert len(device.scratch) == 1


def test_constants_keep_the_sign_of_zero() -> None:
    x = tensor([1.0, 1.0])
    assert np.signbit((x * 0.0).numpy()).tolist() == [False, False]
    assert np.signbit((x * -0.0).numpy()).tolist() == [True, True]


# -- recordings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cpu:reference"])
def test_a_reshape_that_copies_is_replayed(device: str) -> None:
    """reshape of a transposed array returns a view of a copy: its base is not None, and it is still no view of x."""
    place = find_device(device)
    x = Tensor(place.asarray(np.arange(6.0).reshape(2, 3)), place)
    recorder = Recorder(place)
    with surroundings(recorder=recorder):
        y = x.T.reshape(6) * 1.0
    recording = recorder.finish()
    place.write(x.data, np.arange(6.0).reshape(2, 3) + 10.0)
    recording.replay()
    assert y.tolist() == [10.0, 13.0, 11.0, 14.0, 12.0, 15.0]


def test_one_element_of_a_tensor_is_replayed() -> None:
    x = Tensor(CPU.asarray(np.arange(3.0)), CPU)
    recorder = Recorder(CPU)
    with surroundings(recorder=recorder):
        y = x[1] * 2.0
    CPU.write(x.data, np.array([5.0, 6.0, 7.0]))
    recorder.finish().replay()
    assert y.item() == 12.0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: x.sum().item(), r"item\(\) reads values on the host"),
        (lambda x: x.numpy(), r"numpy\(\) reads"),
        (lambda x: float(x.sum()), "reads values on the host"),
        (lambda x: repr(x), "reads values on the host"),
        (lambda x: x.to("cpu:reference"), "moves values through the host"),
        (lambda x: tensor(np.ones(3)), "values from the host enter"),
        (lambda x: parameter([1.0]).assign(np.ones(1)), "values from the host are assigned"),
        (lambda x: x[np.array([True, False, True])], "host"),
    ],
)
def test_host_traffic_in_a_recorded_step_is_refused_with_the_users_line(step: Any, message: str) -> None:
    x = tensor([1.0, 2.0, 3.0])
    with surroundings(recorder=Recorder(CPU)), pytest.raises(RecordingRefused, match=message) as caught:
        step(x)
    assert "test_tape.py:" in str(caught.value)


def test_a_recorded_training_step_replays_to_the_bits_of_eager_steps() -> None:
    rng = np.random.default_rng(3)
    batches = rng.standard_normal((5, 8, 4))

    def step(w: Parameter, x: Tensor) -> Tensor:
        loss = ops.softmax(ops.linear(x, w, bias, activation="tanh")).log().mean()
        loss.backward()
        assert w.grad is not None
        w.assign(w.detach() - w.grad * 0.1)
        w.grad = None
        return loss

    bias = tensor(np.zeros(3))
    eager, replayed = parameter(rng.standard_normal((4, 3))), None
    replayed = parameter(eager.numpy())
    losses = [step(eager, tensor(b)).item() for b in batches]
    slot = tensor(batches[0])
    recorder = Recorder(CPU)
    with surroundings(recorder=recorder):
        loss = step(replayed, slot)
    recording = recorder.finish()
    found = [loss.item()]
    for batch in batches[1:]:
        CPU.write(slot.data, batch)
        recording.replay()
        found.append(loss.item())
    assert found == losses
    assert replayed.numpy().tobytes() == eager.numpy().tobytes()
