"""The suite finds what it is there to find: each planted fault is caught by the check that is meant for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import BadInput, KernelSpec
from deepbabysit.runtime.backend import Kernel
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.reference import ReferenceBackend
from deepbabysit.testing import QUICK, ConformanceError, run_check, run_suite, show_table


def device_with(name: str, run: Any, **limits: Any) -> Device:
    """Return a device with one kernel."""
    backend = ReferenceBackend()
    backend.kernels = {name: Kernel(run, **limits)}
    return Device("cpu:faulty", backend)


def tanh_right(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x, outs[0])


def test_a_right_kernel_passes() -> None:
    device = device_with("tanh", tanh_right)
    for check in ("values", "layouts", "empty", "aliasing", "errors", "vjp", "gradcheck", "second", "replay"):
        assert run_check(device, SPECS["tanh"], check, QUICK).status == "kernel"


def off_by_little(ctx: Any, outs: Any, x: Any) -> None:
    outs[0][...] = np.tanh(x) * (1 + 1e-4)


def one_element(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x, outs[0])
    if outs[0].size > 3:
        outs[0].reshape(-1)[-1] += 0.25


def leaves_a_hole(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x[..., :-1] if x.ndim else x, outs[0][..., :-1] if x.ndim else outs[0])


def adds_to_the_buffer(ctx: Any, outs: Any, x: Any) -> None:
    outs[0][...] = np.nan_to_num(outs[0]) * 0.5 + np.tanh(x)


def writes_beside(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x, outs[0])
    base = outs[0].base
    if base is not None and base.size > 128:
        base[64 + outs[0].size] = 7.0


def changes_its_input(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x, outs[0])
    x *= 2.0


class ForgetsNothing:
    """Gives another result the second time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, ctx: Any, outs: Any, x: Any) -> None:
        self.count += 1
        np.tanh(x, outs[0])
        outs[0][...] *= 1 + 1e-15 * (self.count % 2) if outs[0].dtype == np.float64 else 1


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (off_by_little, "elements differ"),
        (one_element, "elements differ"),
        (leaves_a_hole, "elements differ"),
        (adds_to_the_buffer, "elements differ"),
        (writes_beside, "outside of its output"),
        (changes_its_input, "input 0 was changed"),
        (ForgetsNothing(), "other values in the buffer before"),
    ],
)
def test_values_catches(run: Any, message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        run_check(device_with("tanh", run), SPECS["tanh"], "values", QUICK)


def test_a_kernel_that_says_it_is_not_deterministic_may_differ_in_the_last_bit() -> None:
    device = device_with("tanh", ForgetsNothing(), deterministic=False)
    assert run_check(device, SPECS["tanh"], "values", QUICK).status == "kernel"


def ignores_strides(ctx: Any, outs: Any, x: Any) -> None:
    flat = np.ndarray((x.size,), x.dtype, np.ascontiguousarray(x)) if x.flags.c_contiguous else x.ravel(order="K")
    outs[0].reshape(-1)[...] = np.tanh(flat)


def test_layouts_catches_a_kernel_that_ignores_strides() -> None:
    device = device_with("tanh", ignores_strides)
    with pytest.raises(ConformanceError, match=r"from (transposed|reversed|strided) inputs"):
        run_check(device, SPECS["tanh"], "layouts", QUICK)
    limited = device_with("tanh", ignores_strides, contiguous=True)
    assert run_check(limited, SPECS["tanh"], "layouts", QUICK).status == "kernel"


def fails_on_nothing(ctx: Any, outs: Any, x: Any) -> None:
    np.tanh(x, outs[0])
    if x.size == 0:
        raise ZeroDivisionError("no rows")


def test_empty_catches_a_kernel_that_needs_rows() -> None:
    outcomes = list(run_suite(device_with("tanh", fails_on_nothing), ["tanh"], QUICK, ["empty"]))
    assert outcomes[0].status == "failed"
    assert "ZeroDivisionError" in outcomes[0].detail


def reads_after_writing(ctx: Any, outs: Any, x: Any) -> None:
    outs[0][...] = np.exp(-np.abs(2 * x))
    outs[0][...] = np.sign(x) * (1 - outs[0]) / (1 + outs[0])


def test_aliasing_catches_a_kernel_that_reads_after_writing() -> None:
    device = device_with("tanh", reads_after_writing)
    with pytest.raises(ConformanceError, match="in place"):
        run_check(device, SPECS["tanh"], "aliasing", QUICK)


def spec_like(name: str, **changes: Any) -> KernelSpec:
    return replace(SPECS[name], **changes)


REFERENCE = Device("cpu:plain", ReferenceBackend())


def test_errors_catches_what_is_accepted_and_what_says_something_else() -> None:
    good = np.ones((2,))
    bad = [BadInput((good,), {}, ValueError, "never")]
    with pytest.raises(ConformanceError, match="was accepted"):
        run_check(REFERENCE, spec_like("tanh", errors=lambda: bad), "errors", QUICK)
    wrong_text = [BadInput((np.ones(2, int),), {}, TypeError, "another text")]
    with pytest.raises(ConformanceError, match="lacks 'another text'"):
        run_check(REFERENCE, spec_like("tanh", errors=lambda: wrong_text), "errors", QUICK)
    wrong_kind = [BadInput((np.ones(2, int),), {}, IndexError, "floating")]
    with pytest.raises(ConformanceError, match="raised TypeError"):
        run_check(REFERENCE, spec_like("tanh", errors=lambda: wrong_kind), "errors", QUICK)


def test_gradcheck_catches_a_wrong_vjp_and_names_the_element() -> None:
    wrong = spec_like("tanh", vjp=lambda op, g, x, out, needs: (op.multiply(g[0], out[0]),))
    with pytest.raises(ConformanceError, match=r"worst element: input 0 at \[.*\]: numeric .*, analytic"):
        run_check(REFERENCE, wrong, "gradcheck", QUICK)


def test_gradcheck_catches_a_relative_error_of_1e_4() -> None:
    def nearly(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
        return (op.multiply(op.multiply(g[0], 1.0001), op.subtract(1.0, op.multiply(out[0], out[0]))),)

    with pytest.raises(ConformanceError, match="numeric"):
        run_check(REFERENCE, spec_like("tanh", vjp=nearly), "gradcheck", QUICK)


def test_vjp_catches_a_fused_derivative_that_differs_from_the_references() -> None:
    wrong = spec_like("sigmoid", vjp=lambda op, g, x, out, needs: (op.multiply(g[0], out[0]),))
    with pytest.raises(ConformanceError, match="gradient by input 0"):
        run_check(REFERENCE, wrong, "vjp", QUICK)


def test_vjp_catches_a_derivative_that_is_wrong_when_one_input_is_wanted_alone() -> None:
    def both_needed(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
        if needs == (True, True):
            return op.multiply(g[0], x[1]), op.multiply(g[0], x[0])
        return (op.multiply(g[0], x[0]) if needs[0] else None, op.multiply(g[0], x[0]) if needs[1] else None)

    samples = spec_like("multiply", vjp=both_needed, samples=lambda rng: SPECS["maximum"].samples(rng))
    device = device_with("multiply", lambda ctx, outs, x, y: np.multiply(x, y, outs[0]))
    oracle = replace(samples, composite=True, reference=lambda xp, x, y: xp.multiply(x, y))
    with pytest.raises(ConformanceError, match=r"\(of \[0\]\)"):
        run_check(device, oracle, "vjp", QUICK)


def test_second_catches_a_derivative_that_hides_its_dependence() -> None:
    def hides(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
        square = op.stop_gradient(op.multiply(out[0], out[0]))
        return (op.multiply(g[0], op.subtract(1.0, square)),)

    wrong = spec_like("tanh", vjp=hides)
    assert run_check(REFERENCE, wrong, "gradcheck", QUICK).status == "reference"
    with pytest.raises(ConformanceError, match="second derivative"):
        run_check(REFERENCE, wrong, "second", QUICK)


def test_graph_catches_a_reference_that_changes_the_dtype() -> None:
    wrong = spec_like("sigmoid", reference=lambda xp, x: xp.astype(0.5 * xp.tanh(0.5 * x) + 0.5, np.float64))
    with pytest.raises(ConformanceError, match="infer says float32"):
        run_check(REFERENCE, wrong, "graph", QUICK)


def test_replay_catches_a_kernel_that_remembers_its_input() -> None:
    seen: dict[int, np.ndarray] = {}

    def remembers(ctx: Any, outs: Any, x: Any) -> None:
        outs[0][...] = np.tanh(seen.setdefault(id(x), x.copy()))

    with pytest.raises(ConformanceError, match="replayed"):
        run_check(device_with("tanh", remembers), SPECS["tanh"], "replay", QUICK)


def test_a_missing_kernel_is_not_counted_as_one() -> None:
    outcomes = list(run_suite(REFERENCE, ["tanh"], QUICK))
    assert {o.status for o in outcomes} <= {"reference", "none", "kernel"}
    assert {o.check for o in outcomes if o.status == "kernel"} == {"errors"}
    table = show_table(outcomes)
    assert "1 operations, 0 with a kernel" in table


@pytest.fixture
def partly() -> Device:
    return device_with("tanh", tanh_right, dtypes=frozenset({"float32"}))


def test_a_kernel_for_some_dtypes_is_reported_as_partly(partly: Device) -> None:
    assert run_check(partly, SPECS["tanh"], "values", QUICK).status == "partly"
