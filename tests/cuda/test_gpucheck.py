"""The check of a GPU, on the emulated one: every phase runs, keeps its figures, and sees what is wrong."""

import json

import pytest

from deepbabysit import cli
from deepbabysit.runtime.backend import BackendUnavailable


@pytest.fixture
def tiny(cuda):
    from deepbabysit.bench.gpu.sizes import Sizes

    return Sizes(
        copied=4096, product=16, aligned=16, elements=4096, repeats=1, steps=1, compared=4, networks=("tiny@64",),
        trained=("tiny@64",), draws=1, operations=("relu", "sum", "adam_update"),
    )


@pytest.fixture
def no_peers(cuda, monkeypatch):
    from deepbabysit.bench.gpu import peers

    monkeypatch.setattr(peers, "find_spec", lambda library: None)


def test_every_phase(cuda, tiny, no_peers, tmp_path):
    from deepbabysit.bench.gpu.run import run

    lines = []
    path = tmp_path / "deep" / "check.json"
    found = run(cuda, 500.0, path, lines.append, tiny)
    assert found["failed"] == [], "\n".join(lines)
    assert json.loads(path.read_text())["phases"].keys() == found["phases"].keys()
    phases = found["phases"]
    assert phases["versions and ceilings"]["GPU"] == "Emulated device"
    assert phases["kernels against the reference"]["operations right"] == 3
    assert phases["epilogues"]["float32 bias+relu"] == {"aligned": True, "odd": True}
    assert phases["epilogues"]["bfloat16 plain"] == {"aligned": True, "odd": True}
    assert phases["graphs"]["tiny@64: bits of a graph, losses against the CPU"] < 1e-3
    assert phases["training steps"].keys() >= {"tiny@64 merged", "tiny@64 graph", "tiny@64 eager"}
    assert phases["memory-bound kernels"]["adam_update"] > 0
    assert phases["peers"]["torch-eager"] == {"skipped": "torch is not installed"}
    assert phases["peers"]["jax"] == {"skipped": "jax is not installed"}
    assert lines[-1] == "nothing wrong"


def test_what_is_wrong_is_a_finding(cuda, tiny, no_peers, monkeypatch):
    from deepbabysit.bench.gpu.run import run

    def wrong(ctx, outs, x, **attrs):
        outs[0].fill(7)

    from deepbabysit.runtime.backend import Kernel

    monkeypatch.setitem(cuda.backend.kernels, "relu", Kernel(wrong))
    cuda.plans.clear()
    try:
        found = run(cuda, 500.0, None, lambda line: None, tiny)
    finally:
        cuda.plans.clear()
    assert "relu" in found["failed"]
    assert found["phases"]["kernels against the reference"]["operations right"] == 2
    assert "elements differ" in found["phases"]["kernels against the reference"]["failed"]["relu"]


def test_a_budget_that_is_too_short_skips_phases(cuda, tiny, no_peers):
    from deepbabysit.bench.gpu.run import run

    found = run(cuda, 1e-6, None, lambda line: None, tiny)
    assert {phase.get("skipped") for phase in found["phases"].values()} == {"no time is left"}


def test_without_a_gpu_it_says_why(emulation, monkeypatch, capsys):
    monkeypatch.setattr(emulation, "devices", 0)
    assert cli.main(["gpucheck"]) == 1
    assert capsys.readouterr().err == "no GPU can be checked: there is no NVIDIA driver on this machine\n"


def test_a_budget_is_more_than_nothing(emulation, capsys):
    assert cli.main(["gpucheck", "--budget", "0"]) == 2


def test_the_first_gpu_that_can_run_is_opened(emulation, monkeypatch):
    from deepbabysit.bench.gpu.run import open_device

    assert open_device().name == "cuda:0"
    monkeypatch.setattr(emulation, "devices", 0)
    with pytest.raises(BackendUnavailable):
        open_device()


def test_a_peer_that_cannot_run_says_so(cuda):
    """A process of its own: without a GPU, or without the library, there is an error and no figure."""
    from deepbabysit.bench.gpu import peers

    assert "error" in peers.ask("torch-eager", "no-such-network", 1, 60.0)
