"""The check of a GPU, on the emulated one: every phase runs, keeps its figures, and sees what is wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deepbabysit import cli
from deepbabysit.runtime.backend import BackendUnavailable


@pytest.fixture
def tiny(cuda):
    from deepbabysit.bench.gpu.sizes import Sizes

    return Sizes(
        copied=4096, product=16, aligned=16, elements=4096, repeats=1, steps=1, compared=4, networks=("tiny@64",),
        trained=("tiny@64", "transformer-tiny@16"), draws=1, operations=("relu", "sum", "adam_update"),
        convolutions=("tiny",),
    )


@pytest.fixture
def no_peers(cuda, monkeypatch):
    from deepbabysit.bench.gpu import peers

    monkeypatch.setattr(peers, "find_spec", lambda library: None)


SANITIZER = """#!/bin/sh
echo "========= COMPUTE-SANITIZER"
[ "$2" = racecheck ] && echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)" && exit 0
echo "========= Invalid __global__ write of size 4 bytes"
echo "========= ERROR SUMMARY: 1 error"
"""
PROFILER = """#!/bin/sh
echo "==PROF== Connected to process 1"
echo '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"'
echo '"0","map_relu(const float *, float *)","dram__throughput","%","91.25"'
echo '"1","map_relu(const float *, float *)","dram__throughput","%","93.5"'
"""
DENIED = """#!/bin/sh
echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
exit 1
"""


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Put programs in front of all others."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(**texts):
        for name, text in texts.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(text)
            path.chmod(0o755)

    return put


def _looked(report_lines):
    from deepbabysit.bench.gpu.report import Report
    from deepbabysit.bench.gpu.tools import look

    report = Report(None, 60.0, report_lines.append)
    report.run("tools", 1.0, lambda: look(report))
    return report


def test_tools_that_are_missing_are_named(install):
    found = _looked([]).found["phases"]["tools"]
    assert {name: found[name] for name in ("compute-sanitizer memcheck", "compute-sanitizer racecheck", "ncu")} == {
        "compute-sanitizer memcheck": {"skipped": "it is not installed"},
        "compute-sanitizer racecheck": {"skipped": "it is not installed"}, "ncu": {"skipped": "it is not installed"},
    }


def test_what_the_tools_say_is_kept(install):
    install(compute_sanitizer=SANITIZER, ncu=PROFILER)
    report = _looked([])
    found = report.found["phases"]["tools"]
    assert found["ncu map_relu"] == 93.5
    assert found["compute-sanitizer racecheck"] == 0
    assert report.failed == ["compute-sanitizer memcheck"]
    assert "1 errors: Invalid __global__ write" in found["failed"]["compute-sanitizer memcheck"]


def test_a_tool_that_may_not_look_is_named_with_its_reason(install):
    install(ncu=DENIED)
    assert "ERR_NVGPUCTRPERM" in _looked([]).found["phases"]["tools"]["ncu"]["skipped"]


def test_what_the_tools_run(cuda, emulation, monkeypatch):
    from deepbabysit.bench.gpu import exercise

    monkeypatch.setattr(exercise, "open_device", lambda: cuda)
    before = sum(emulation.launches.values())
    exercise.exercise(2048)
    assert sum(emulation.launches.values()) - before >= 7


def test_every_phase(cuda, tiny, no_peers, tmp_path, monkeypatch):
    from deepbabysit.bench.gpu import tools
    from deepbabysit.bench.gpu.run import run

    monkeypatch.setattr(tools, "which", lambda name: None)

    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda.backend, "_lt", None)
    monkeypatch.setattr(cuda.backend, "tuning", None)

    lines = []
    path = tmp_path / "deep" / "check.json"
    found = run(cuda, 5000.0, path, lines.append, tiny)
    assert found["failed"] == [], "\n".join(lines)
    assert json.loads(path.read_text())["phases"].keys() == found["phases"].keys()
    phases = found["phases"]
    assert phases["versions"]["GPU"] == "Emulated device"
    assert phases["ceilings"].keys() >= {"copy", "launch", "node of a graph", "product 16 float32"}
    assert found["done"] is True and not any("begun" in phase for phase in phases.values())
    assert phases["kernels against the reference"]["operations right"] == 3
    for epilogue in ("bias+relu", "bias+relu+aux", "drelu+bgrad", "bgrada", "bgradb"):
        row = phases["epilogues"][f"float32 {epilogue}"]
        assert row["aligned"] is row["odd"] is True
        assert max(row["aligned, error"], row["odd, error"]) < 1e-6
    assert phases["epilogues"]["float32 dgelu+bgrad"]["odd"] is False
    assert phases["epilogues"]["float64 bias"] == {"aligned": False, "odd": False}
    assert phases["epilogues"]["bfloat16 plain"] == {"aligned": True, "odd": True}
    assert phases["graphs"]["tiny@64: bits of a graph, losses against the CPU"] < 1e-3
    assert phases["graphs"]["transformer-tiny@16: bits of a graph, losses against the CPU"] < 1e-3
    assert phases["graphs"]["transformer-tiny@16: losses with choices by timing"] < 1e-3
    assert phases["choices by timing"]["choices"]
    assert phases["NVIDIA's tools"]["ncu"] == {"skipped": "it is not installed"}
    assert phases["training steps"].keys() >= {
        "tiny@64 merged", "tiny@64 merged, chosen by timing", "tiny@64 graph", "tiny@64 eager",
    }
    assert phases["memory-bound kernels"]["adam_update"] > 0
    assert phases["peers"]["torch-eager"] == {"skipped": "torch is not installed"}
    assert phases["peers"]["jax"] == {"skipped": "jax is not installed"}
    # without cuDNN there is one more way for the gradients of the parameters, and PyTorch is not there
    assert phases["convolutions"]["tiny float32 by parameters"]["seconds"].keys() == {
        "own kernels", "own kernels, sums for the bias in the product",
    }
    assert phases["convolutions"]["tiny bfloat16 forward"] == {"way": "own kernels", "seconds": {}}
    assert phases["convolutions"]["PyTorch"] == {"skipped": "torch is not installed"}
    assert lines[-1] == "nothing wrong"


def test_the_peers_have_time(cuda, tiny):
    from deepbabysit.bench.gpu.run import _phases

    *ours, peers = _phases(None, cuda, None, tiny)
    assert peers[0] == "peers" and sum(share for _, share, _ in ours) <= 5 / 6


def test_convolutions_by_all_ways(tuned, cudnn, tiny, monkeypatch):
    """Rows for every dtype and gradient; a plan that is wrong is a finding, and the tuning file stays as it is."""
    import deepbabysit_cupy.checking as plugin
    from deepbabysit.bench.gpu import convolutions
    from deepbabysit.bench.gpu.report import Report

    monkeypatch.setattr(convolutions, "child", lambda *_: {"tiny float32 forward": 1.0})
    monkeypatch.setattr(convolutions, "missing", lambda library: "")
    cudnn.wrong = {"eng4"}
    lines = []
    report = Report(None, 500.0, lines.append)
    report.run("convolutions", 1.0, lambda: convolutions.compared(report, tuned.device, plugin, tiny))
    found = report.found["phases"]["convolutions"]
    assert found["tiny float32 forward"]["seconds"].keys() == {"own kernels", "cuDNN, bias and ReLU: eng5 split"}
    assert "cuDNN, bias and ReLU: eng2 tf32" in found["tiny tf32 forward"]["seconds"]
    assert len(report.failed) == 12 and "from our own kernels" in found["failed"]["tiny float16 by image"]
    assert found["tiny float32 forward, PyTorch"] == 1.0
    choices = json.loads(tuned.device.backend.tuning.path.read_text())["choices"]
    assert choices and all(key.startswith("product") for key in choices)


def test_a_peer_for_convolutions_that_cannot_run_says_so(cuda):
    from deepbabysit.bench.gpu.peers import child

    assert "error" in child("convolutions", ["1", "tiny"], 60.0)


def test_what_is_wrong_is_a_finding(cuda, tiny, no_peers, monkeypatch, tmp_path):
    from deepbabysit.bench.gpu import tools
    from deepbabysit.bench.gpu.run import run

    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path))
    monkeypatch.setattr(tools, "which", lambda name: None)

    def wrong(ctx, outs, x, **attrs):
        outs[0].fill(7)

    from deepbabysit.runtime.backend import Kernel

    monkeypatch.setitem(cuda.backend.kernels, "relu", Kernel(wrong))
    cuda.plans.clear()
    try:
        found = run(cuda, 500.0, None, lambda line: None, replace(tiny, trained=()))
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

    found = peers.ask("torch-eager", ["no-such-network", "tiny@64"], 1, 60.0)
    assert found.keys() == {"no-such-network", "tiny@64"} and all("error" in answer for answer in found.values())


def test_a_peer_that_is_too_slow_keeps_what_it_has_said(tmp_path, monkeypatch):
    from deepbabysit.bench.gpu import peers

    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\necho a warning\necho '{\"a\": {\"seconds\": 1.5, \"spread\": 0.1}}'\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(peers.sys, "executable", str(slow))
    found = peers.ask("torch-eager", ["a", "b"], 1, 1.0)
    assert found == {"a": {"seconds": 1.5, "spread": 0.1}, "b": {"error": "not done within 1 s"}}


def _supervised(fault, tmp_path):
    """Check the emulated GPU in processes of their own, with a fault."""
    from deepbabysit.bench.gpu.supervising import supervise

    lines = []
    path = tmp_path / "check.json"
    command = [sys.executable, str(Path(__file__).with_name("emulated_check.py")), fault]
    found = supervise(path, 3000.0, lines.append, command)
    assert json.loads(path.read_text()) == found
    return found, lines


LAST = ("choices by timing", "statistics", "memory", "NVIDIA's tools", "peers")


def test_a_kernel_that_takes_the_process_along_costs_that_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path))
    found, lines = _supervised("kernel", tmp_path)
    assert found["done"] is True
    phases, why = found["phases"], "ended with status 11"
    # the kernel, where it is checked and where it is timed, and the network that has it
    assert why in phases["kernels against the reference"]["failed"]["relu"]
    assert phases["kernels against the reference"]["operations right"] == 2
    assert why in phases["memory-bound kernels"]["failed"]["relu"]
    assert phases["memory-bound kernels"]["add"] > 0
    assert all("seconds" in phases[name] for name in LAST)
    assert any("add" in line for line in lines) and "wrong" in lines[-1]


def test_a_phase_that_takes_the_process_along_costs_that_phase(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path))
    found, _ = _supervised("phases", tmp_path)
    assert found["done"] is True
    assert set(found["failed"]) == {"choices by timing", "memory"}
    assert "TypeError" in found["phases"]["memory"]["failed"]["memory"]
    assert all("seconds" in found["phases"][name] for name in LAST)
    assert found["phases"]["training steps"]["tiny@64 graph"] > 0


HANGS = """
import json, os, subprocess, sys, time
found = json.load(open(sys.argv[1]))
print("here", flush=True)
if "first" not in found["phases"]:
    found["phases"]["first"] = {"begun": ["a", "b"], "a": 1}
    peer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found["peer"] = peer.pid
    json.dump(found, open(sys.argv[1], "w"))
    time.sleep(60)
json.dump({**found, "done": True}, open(sys.argv[1], "w"))
"""


def test_what_hangs_is_ended(tmp_path):
    from deepbabysit.bench.gpu.supervising import supervise

    lines = []
    found = supervise(tmp_path / "check.json", 60.0, lines.append, [sys.executable, "-c", HANGS], 2.0)
    assert lines == ["here", "  WRONG b: nothing was heard for 2 s", "here"]
    assert found["done"] is True and found["failed"] == ["b"]
    assert found["phases"]["first"]["a"] == 1
    state = Path(f"/proc/{found['peer']}/stat")  # what it has started is ended, too
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_check_that_does_not_begin_ends(tmp_path):
    found, lines = _supervised("start", tmp_path)
    assert found["failed"] == ["the check"] and "status 11" in lines[-1]
