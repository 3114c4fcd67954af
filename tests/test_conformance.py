"""Our backends, and the strict one, do what every operation means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.autograd import ops
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import tensor
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import strict
from deepbabysit.runtime.registry import backends, find_device
from deepbabysit.testing import CHECKS, QUICK, THOROUGH, run_check

HERE = Path(__file__).parent
ROOT = HERE.parent


@pytest.fixture(autouse=True)
def strict_backend_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the strict backend's package where Python finds installed ones."""
    monkeypatch.syspath_prepend(str(HERE / "strict_backend"))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SPECS.names())
def test_cpu(name: str, check: str) -> None:
    run_check(find_device("cpu"), SPECS[name], check, THOROUGH)


@pytest.mark.parametrize("device", ["cpu:reference", "cpu:strict", "cpu:strict:references"])
@pytest.mark.parametrize("name", SPECS.names())
def test_others(name: str, device: str) -> None:
    for check in CHECKS:
        outcome = run_check(find_device(device), SPECS[name], check, QUICK)
        if check == "values" and device.endswith(("reference", "references")) and not SPECS[name].view:
            assert outcome.status == "reference", "an operation without a kernel must never count as a kernel"


@pytest.mark.parametrize("name", SPECS.names())
def test_every_derivative_is_checked(name: str) -> None:
    """An operation with a derivative has samples on which it is compared with finite differences."""
    spec = SPECS[name]
    outcome = run_check(find_device("cpu"), spec, "gradcheck", QUICK)
    claims = spec.differentiable != () and (spec.vjp is not None or spec.composite)
    assert (outcome.status != "none") == claims, outcome.detail


def test_fifty_shapes_per_derivative() -> None:
    from deepbabysit.testing.cases import draw_gradients

    for spec in SPECS:
        if spec.differentiable != () and (spec.vjp is not None or spec.composite):
            assert len(draw_gradients(spec, 50)) == 50, spec.name


def test_strict_backend_is_found_by_its_entry_point() -> None:
    info = {b.name: b for b in backends()}["strict"]
    assert info.usable
    assert info.source == "deepbabysit_strict:open_backend"
    assert info.devices == ("cpu:strict", "cpu:strict:references")


def train(device: str) -> list[float]:
    """Train a small network by hand and return its losses."""
    place = find_device(device)
    rng = np.random.default_rng(0)
    x = tensor(rng.standard_normal((64, 5)), device=place)
    labels = tensor((rng.standard_normal((64,)) > 0).astype(np.int64).reshape(64, 1), device=place)
    shapes = [(5, 16), (16,), (16, 2), (2,)]
    parameters = [Parameter(place.asarray(rng.standard_normal(s) * 0.3), place, str(i)) for i, s in enumerate(shapes)]
    losses = []
    for _ in range(30):
        w1, b1, w2, b2 = parameters
        hidden = ops.linear(x, w1, b1, activation="tanh")
        scores = ops.log_softmax(ops.linear(hidden, w2, b2))
        loss = -ops.take_along_axis(scores, labels, axis=1).mean()
        loss.backward()
        losses.append(loss.item())
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.assign(parameter.detach() - parameter.grad * 0.5, "a step")
            parameter.grad = None
    return losses


def test_training_through_the_boundary_gives_the_same_numbers() -> None:
    expected = train("cpu")
    assert expected[-1] < 0.8 * expected[0]
    with strict():
        assert train("cpu:strict") == expected
    for device in ("cpu:reference", "cpu:strict:references"):
        np.testing.assert_allclose(train(device), expected, rtol=1e-12)


def test_strict_namespace_has_only_standard_names() -> None:
    with pytest.raises(AttributeError, match="not a name of the array API"):
        _ = find_device("cpu:strict").backend.xp.einsum


# -- the command line and the pytest plug-in -------------------------------------------------------------------------


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    import os

    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "backends"), str(HERE / "strict_backend")])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=HERE,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_command_line_passes_and_names_what_ran() -> None:
    done = run_python("-m", "deepbabysit.testing", "--backend", "strict", "--only", "tanh", "--only", "var", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "device cpu:strict, backend strict" in done.stdout
    assert "device cpu:strict:references" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("tanh")]
    assert [row[1] for row in rows] == ["ok", "ref"]


def test_command_line_fails_on_a_wrong_backend(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import numpy as np\n"
        "from deepbabysit.runtime.backend import Kernel\n"
        "from deepbabysit.runtime.reference import ReferenceBackend\n"
        "def run(ctx, outs, x):\n"
        "    outs[0][...] = np.tanh(x) + 1e-3\n"
        "def open_backend():\n"
        "    backend = ReferenceBackend()\n"
        "    backend.kernels = {'tanh': Kernel(run)}\n"
        "    return backend\n"
    )
    import os

    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "backends")])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "deepbabysit.testing",
            "--backend",
            "wrong",
            "--register",
            "wrong:open_backend",
            "--only",
            "tanh",
            "--quick",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert "FAIL tanh / values" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nunpy"], "did you mean 'numpy'"),
        (["--device", "cpu", "--only", "tahn"], "did you mean 'tanh'"),
        ([], "name a --backend"),
    ],
)
def test_command_line_refuses(arguments: list[str], message: str) -> None:
    done = run_python("-m", "deepbabysit.testing", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_pytest_plugin_makes_one_test_per_operation_and_check(tmp_path: Path) -> None:
    done = run_python(
        "-m",
        "pytest",
        "-p",
        "deepbabysit.testing.plugin",
        "--deepbabysit-device",
        "cpu:reference",
        "--deepbabysit-only",
        "softmax",
        "--deepbabysit-quick",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CHECKS)} passed" in done.stdout
