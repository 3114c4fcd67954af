"""The measuring instrument: its protocol, its figures on fake timings, a dying child, its file, its tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepbabysit.bench import agreement, results, run, tables
from deepbabysit.bench.around import EPOCHS, LOADERS, installed
from deepbabysit.bench.cases import CASES, GPU_CASES, QUICK, batches, select, shapes, weights, work
from deepbabysit.bench.contenders import Contender, ContenderError, Pool, missing
from deepbabysit.bench.kernels import KERNELS, different, differentiated, names_for
from deepbabysit.bench.networks import floor
from deepbabysit.bench.session import OURS
from deepbabysit.bench.turns import Pace, run_turns, summary
from deepbabysit.cli import main
from deepbabysit.runtime import registry

SMALL = {"net": "small", "input": [6, 6, 1], "batch": 8, "loss": "ce", "layers": [
    ["conv", 3, 3, "same", "relu"], ["norm"], ["pool"], ["flatten"], ["dense", 5, "relu"], ["dense", 3, None]]}
BLOCKS = {"net": "blocks", "input": [6, 8], "batch": 8, "loss": "ce", "layers": [
    ["block", 2], ["block", 2], ["flatten"], ["dense", 3, None]]}
DENSE = {"net": "dense", "input": [5], "batch": 8, "loss": "mse", "layers": [["dense", 4, "relu"], ["dense", 3, None]]}
TINY = Pace(2, 0.001)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """The children of all tests here: starting them takes longer than what they do."""
    with Pool(1) as children:
        yield children


def test_medians_and_paired_ratios() -> None:
    found = summary({"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0, 8.0]})
    assert found["a"]["median"] == 2.0
    assert found["a"]["ratio"] == 1.0
    assert found["b"]["ratio"] == 2.0
    assert found["b"]["median"] == 8.0
    assert summary({"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0, 8.0]}, "b")["a"]["ratio"] == 0.5


def test_work_of_the_worked_example() -> None:
    flops, parameters = work(CASES["worked@64"])
    assert parameters == 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert flops == 2 * 64 * (2 * 784 * 512 + 3 * (512 * 256 + 256 * 10))


def test_work_of_a_transformer() -> None:
    case = GPU_CASES["transformer-256@32"]
    flops, parameters = work(case)
    assert parameters == sum(v.size for layer in weights(case) for v in layer)
    # four square products and two four times as large for each token, the scores and their sums; backward twice as much
    block = 32 * 64 * (2 * 12 * 256**2) + 2 * 2 * 32 * 64 * 64 * 256
    assert flops == pytest.approx(3 * (4 * block + 2 * 32 * 64 * 256 * 10))


def test_shapes_and_work_of_a_network_with_images() -> None:
    assert shapes(CASES["lenet5@32"])[-5:] == [[5, 5, 16], [400], [120], [84], [10]]
    flops, parameters = work(CASES["lenet5@32"])
    assert parameters == sum(v.size for layer in weights(CASES["lenet5@32"]) for v in layer) == 61706
    dense = 3 * (400 * 120 + 120 * 84 + 84 * 10)
    assert flops == 2 * 32 * (2 * 784 * 25 * 6 + 3 * 100 * 150 * 16 + dense)


@pytest.mark.parametrize("key", ["tiny@64", "lenet5@32", "100-mse@32"])
def test_the_task_can_be_learned_but_not_by_heart(key: str) -> None:
    case = CASES[key]
    x, y = batches(case, 4)
    assert len(x) == 4
    assert len(y) == 32
    assert x[0].shape == (case["batch"], *case["input"])
    assert x[0].dtype == np.float32
    labels = [v.argmax(1) if case["loss"] == "mse" else v for v in y]
    same = np.mean([np.mean(labels[n] == labels[n + 4]) for n in range(28)])
    assert 0.55 < same < 0.85  # two visits of a batch differ in about a third of the labels
    again = batches(case, 4)
    assert all(np.array_equal(a, b) for a, b in zip(x + y, again[0] + again[1], strict=True))


def test_patterns_of_cases() -> None:
    assert select(["tiny"]) == ["tiny@64"]
    assert select(["lenet5@32", "worked@6*"]) == ["worked@64", "lenet5@32"]
    assert set(QUICK) <= set(CASES)
    with pytest.raises(ValueError, match="lenet5"):
        select(["lenet"])


def test_floor_uses_the_bandwidth_at_the_size_of_the_states() -> None:
    limits = {"flops": 1e9, "bandwidth": [[1000, 1e9], [100_000, 1e6]], "call": 0.5}
    assert floor(2e9, 10, limits) == pytest.approx(2 + 280 / 1e9 + 0.5)
    assert floor(2e9, 1000, limits) == pytest.approx(2 + 28_000 / 1e6 + 0.5)
    assert floor(0, 100_000, limits) == pytest.approx(2_800_000 / 1e6 + 0.5)


def test_a_dying_child_is_reported_with_its_stderr() -> None:
    child = Contender("dead", 1, [sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(ContenderError, match="no such thing"):
        child.ask(do="measure", steps=1)
    child.close()


def test_an_error_in_a_child_is_reported_and_the_child_starts_anew() -> None:
    with Pool(1) as pool:
        with pytest.raises(ContenderError, match="build comes first"):
            pool.ask(OURS, do="measure", steps=1)
        assert pool.ask(OURS, do="build", task={"kind": "step", "case": DENSE, "batches": 4}) == {"report": {}}


def test_limits_of_the_machine_are_positive_numbers() -> None:
    with Pool(1) as pool:
        pool.ask("limits", do="build", task={"size": 32, "bytes": 1 << 22, "repeats": 2})
        found = pool.ask("limits", do="run", steps=1)["results"][0]
    assert found["flops"] > 0
    assert found["call"] > 0
    assert [size for size, _ in found["bandwidth"]] == [1 << 20, 1 << 22]
    assert all(rate > 0 for _, rate in found["bandwidth"])


@pytest.mark.peers
@pytest.mark.parametrize("case", [SMALL, DENSE, BLOCKS], ids=["images", "dense", "transformer"])
def test_all_contenders_compute_the_same_losses(case: dict[str, Any], pool: Pool) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    names = [OURS, "ours-eager", "ours-plain", "torch-eager", "torch-fused", "torch-last", "jax"]
    names = [name for name in names if case is SMALL or name != "torch-last"]
    task = {"kind": "step", "case": case, "batches": 8}
    turns = run_turns(pool, {n: (n, task) for n in names}, TINY)
    assert not turns.failed
    assert list(turns.first) == names
    assert agreement.check(pool, task, turns.first) == ""
    for name in names:
        assert turns.first[name] == pytest.approx(turns.first[OURS], rel=1e-4)
        assert len(set(turns.first[name])) == 5  # it trains, and on batches that differ


def test_a_contender_that_computes_something_else_is_named() -> None:
    same = [1.0, 0.9, 0.8, 0.7, 0.6]
    close = [1e-3] * 5
    assert agreement.disagreement({"a": same, "b": same}, same, close) == ""
    other = [1.0, 0.9, 0.81, 0.7, 0.6]
    found = agreement.disagreement({"a": same, "b": other}, same, close)
    assert found == "step 3: the loss of b is 0.81, that of float64 0.8"
    assert agreement.disagreement({"a": same, "b": other}, same, [1e-3, 1e-3, 0.02, 1e-3, 1e-3]) == ""
    assert agreement.disagreement({"a": [float("nan")] * 5}, same, close) != ""


def test_rounding_may_change_losses_as_much_as_it_does_in_runs_that_round_otherwise() -> None:
    truth = [2.0, 1.0, 1.0]
    runs = {draw: [2.0, 1.0 + 1e-5 * draw, 1.0] for draw in range(1, agreement.RUNS + 1)}
    late = agreement.CLOSE + agreement.FACTOR * 1e-5 * agreement.RUNS
    assert agreement.allowed(truth, runs.__getitem__) == pytest.approx([agreement.CLOSE, late, agreement.CLOSE])


def test_what_rounding_has_amplified_is_not_compared_but_must_be_a_number() -> None:
    truth = [2.0, 1.0, 1.0]
    runs = {draw: [2.0, 1.0 + 1e-3 * draw, 1.0] for draw in range(1, agreement.RUNS + 1)}
    close = agreement.allowed(truth, runs.__getitem__)
    assert agreement.disagreement({"a": [2.0, 1.5, 0.5]}, truth, close) == ""
    assert agreement.disagreement({"a": [2.1, 1.0, 1.0]}, truth, close) != ""
    assert agreement.disagreement({"a": [2.0, 1.0, float("nan")]}, truth, close) != ""


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_wrong_loss_is_found_in_a_real_network(pool: Pool, wrong: int) -> None:
    """A thousandth in an early step is no rounding, however the losses of later steps are changed by it."""
    task = {"kind": "step", "case": DENSE, "batches": 8}
    pool.ask(OURS, do="build", task=task)
    losses = pool.ask(OURS, do="run", steps=agreement.CHECKED)["results"]
    assert agreement.check(pool, task, {"right": losses}) == ""
    losses[wrong] *= 1.001
    assert agreement.check(pool, task, {"off": losses}).startswith(f"step {wrong + 1}: the loss of off is")
    masked = {"case": {**DENSE, "layers": [["dropout", 0.1], *DENSE["layers"]]}}
    assert agreement.check(pool, masked, {"a": [1.0] * 5, "b": [1.1] * 5}) == ""
    assert "step 1: the loss of b is 1.2, that of a 1" in agreement.check(pool, masked, {"a": [1.0], "b": [1.2]})


def test_the_compiled_contender_runs_compiled_kernels_and_the_plain_one_does_not(pool: Pool) -> None:
    pytest.importorskip("numba")
    case = {**DENSE, "input": [64], "batch": 256, "layers": [["dense", 128, "relu"], ["dense", 3, None]]}
    task = {"kind": "step", "case": case, "batches": 4}
    turns = run_turns(pool, {n: (n, task) for n in (OURS, "ours-plain", "ours-reference")}, TINY)
    assert {"linear", "linear_gradient", "adam_update"} <= set(turns.kernels[OURS]["compiled"])
    assert turns.kernels[OURS]["reference"] == []
    assert turns.kernels["ours-plain"]["compiled"] == []
    assert "adam_update" in turns.kernels["ours-plain"]["plain"]
    assert "adam_update" in turns.kernels["ours-reference"]["reference"]
    assert turns.first["ours-plain"] == pytest.approx(turns.first[OURS], rel=1e-5)


def fake() -> results.Results:
    found = results.new(2)
    machine = found["machine_info"]
    machine["limits"] = {"flops": 1e11, "bandwidth": [[1 << 20, 1e11], [1 << 30, 1e10]], "call": 1e-6}
    machine["load"] = {"before": 0.1, "others": 0.0, "seconds": 5.0, "under_load": False}
    for key, torch in (("100-mse@64", 4.0), ("worked@64", 9.0), ("tiny@64", 100.0)):
        operations, parameters = work(CASES[key])
        times = {OURS: [1e-3] * 3, "torch-eager": [2e-3 * torch] * 3, "torch-fused": [1e-3 * torch] * 3,
                 "jax": [2e-3] * 3}
        for name, row in summary(times, OURS).items():
            extra = {"net": CASES[key]["net"], "operations": operations, "parameters": parameters, **row}
            found["benchmarks"].append(results.row("steps", key, name, times[name], extra))
    found["skipped"] = {"ours-replay:cuda": "no GPU: none found"}
    return found


def test_tables_of_a_run() -> None:
    text = tables.report(fake())
    assert "PyTorch's best / ours, geometric mean over 2 dense rows: 6.00 (at least 1.5: met)" in text
    assert "JAX / ours, geometric mean over 2 dense rows: 2.00 (at least 1.15: met)" in text
    row = next(line for line in text.splitlines() if line.startswith("| worked@64"))
    assert [cell.strip() for cell in row.split("|")[1:-1]][:5] == [
        "worked@64", "1 ms ±0 %", "9 ms ±0 % (fused)", "2 ms ±0 %", "2.00"]
    assert "CPU against GPU: skipped: no GPU: none found" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert "under load" not in text


def test_load_is_told() -> None:
    found = fake()
    found["machine_info"]["load"].update(others=0.9, under_load=True)
    assert "others 0.9: taken under load" in tables.report(found)


def test_the_file_is_read_back_and_by_pytest_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    path = tmp_path / "run.json"
    results.write(path, fake())
    assert tables.report(results.read(path)) == tables.report(fake())
    tool = shutil.which("pytest-benchmark", path=str(Path(sys.executable).parent)) or shutil.which("pytest-benchmark")
    assert tool is not None
    done = subprocess.run(
        [tool, "compare", str(path), "--columns=median,iqr,rounds"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "steps[worked@64-torch-fused]" in done.stdout
    assert "benchmark 'steps: tiny@64': 4 tests" in done.stdout
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"other": 1}))
    with pytest.raises(ValueError, match="holds no benchmarks"):
        results.read(bad)


def test_the_command_measures_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LIMITS", {"size": 64, "bytes": 1 << 22, "repeats": 2})
    path = tmp_path / "run.json"
    arguments = ["bench", "--quick", "--threads", "1", "--parts", "steps", "--contenders", OURS, "ours-eager"]
    assert main([*arguments, "--cases", "tiny@64", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "load of the machine" in text
    assert "| tiny@64" in text
    found = results.read(path)
    assert [row["extra_info"]["contender"] for row in found["benchmarks"]] == [OURS, "ours-eager"]
    assert all(row["stats"]["median"] > 0 for row in found["benchmarks"])
    assert main(["bench", "--show", str(path)]) == 0
    assert "| tiny@64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "workd@64"], "worked@64"),
        (["--contenders", "troch-eager"], "torch-eager"),
        (["--parts", "step"], "steps"),
        (["--threads", "0"], "at least 1"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_peer_or_device_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "deepbabysit[peers]" in missing("jax")
    assert missing(OURS) == ""
    assert missing("ours-replay:nowhere").startswith("no GPU")
    infos = [registry.BackendInfo("cupy", "", True, "", ("cuda:0", "cuda:1")),
             registry.BackendInfo("other", "", False, "no driver", ())]
    monkeypatch.setattr(registry, "backends", lambda: infos)
    assert missing("ours-replay:cuda") == missing("ours-replay:cuda:1") == ""
    assert missing("ours-replay:cuda:2") == "no GPU: no driver"


# -- single operations, and what is around the steps


def small(label: str, *shapes: list[int], **changes: Any) -> dict[str, Any]:
    kernel = {**KERNELS[label], **changes}
    return {**kernel, "shapes": list(shapes)} if shapes else kernel


OPERATIONS = [
    small("linear relu 64x784x512", [4, 5], [5, 3], [3]),
    small("gelu 256x1024", [4, 6]),
    small("batch norm 32x16x16x64", [2, 4, 4, 3], [3], [3]),
    small("embedding 64x32 of 5000x64", [7, 2], high=7, attrs={"indices": [3, 2]}),
    small("softmax cross-entropy 256x10", [6, 4], high=4),
    small("conv 3x3 32x32x32x3-32", [2, 5, 5, 3], [3, 3, 3, 4], [4]),
    small("transposed 2x2 32x8x8x64-32", [2, 3, 3, 4], [2, 2, 5, 4]),
    small("depthwise 3x3 32x16x16x64", [2, 5, 5, 3], [3, 3, 3, 1]),
    small("max pool 32x28x28x16", [2, 4, 4, 3]),
    small("attention 8x4x64x32", [2, 2, 3, 4], [2, 2, 3, 4], [2, 2, 3, 4]),
    small("gru cell 64x256", [2, 9], [2, 9], [2, 3]),
    small("lstm cell 64x256", [2, 12], [2, 3]),
    small("attention causal forward 2x4x512x64", [2, 2, 3, 4], [2, 2, 3, 4], [2, 2, 3, 4]),
    small("first conv 3x3 32x28x28x1-32", [2, 5, 5, 1], [3, 3, 1, 4], [4]),
    small("conv1d 3 32x128x64-64", [2, 7, 3], [3, 3, 4], [4]),
    small("sigmoid float16 256x1024", [4, 6]),
    small("logsumexp over rows 512x512", [5, 3]),
    small("global average pool 32x16x16x64", [2, 4, 4, 3]),
    small("adamw 535818", [6, 5], [5]),
    small("rmsprop 535818", [6, 5], [5]),
]


@pytest.mark.peers
def test_all_contenders_compute_the_same_operations(pool: Pool) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    for kernel in OPERATIONS:
        checks = {}
        for name in names_for(kernel, quick=True):
            checks[name] = pool.ask(name, do="build", task={"kind": "kernel", "kernel": kernel})["report"]["check"]
            assert pool.ask(name, do="run", steps=3) == {"results": [None] * 3}
        count = len(kernel["shapes"]) if kernel["op"] == "optimizer" else 1 + len(differentiated(kernel))
        assert different(checks, kernel["op"]) == ""
        assert all(len(values) == count and min(values) > 0 for values in checks.values())


def test_an_operation_that_computes_something_else_is_named() -> None:
    assert different({"a": [1.0, 2.0], "b": [1.0, 2.0005]}, "relu") == ""
    assert "the gradient of input 1" in different({"a": [1.0, 2.0], "b": [1.0, 2.1]}, "relu")
    assert different({"a": [1.0, 2.0], "b": [1.0, 2.06]}, "dropout") == ""
    assert different({"a": [1.0, 2.0], "b": [1.0]}, "relu") == "b has 1 results, not 2"


def test_an_epoch_through_fit_loading_and_memory(pool: Pool) -> None:
    case = {**DENSE, "loss": "ce", "layers": [["dense", 4, "relu"], ["dense", 3, None]]}
    turns = run_turns(
        pool, {n: (n, {"kind": "epoch", "case": case, "rows": 40}) for n in EPOCHS}, Pace(1, 0.001), warm=2
    )
    assert not turns.failed
    assert all(len(turns.first[name]) == 2 and turns.first[name][0] > 0.3 for name in EPOCHS)
    assert all(times[0] > 0 for times in turns.times.values())
    names = [name for name in LOADERS if name.startswith("ours")]
    loaded = run_turns(
        pool, {n: (n, {"kind": "loading", "case": case, "rows": 43}) for n in names}, Pace(1, 0.001), warm=1
    )
    assert loaded.first == {name: [43] for name in names}
    status = pool.ask("ours-fit", do="memory")
    assert status["peak"] >= status["now"] >= 0


def test_installed_sizes_follow_requirements() -> None:
    found = installed(["deepbabysit"], ("fast",))
    assert {"deepbabysit", "numpy", "rich", "safetensors"} <= set(found)
    assert found["numpy"] > 5
    assert found["deepbabysit"] > 0.3
    assert "pytest" not in found
    assert "scikit-learn" not in found
    if "numba" in found:
        assert "llvmlite" in found
    whole = installed(["numpy"], bytecode=True)["numpy"]
    files = [path for path in distribution("numpy").files or [] if path.suffix == ".pyc"]
    assert found["numpy"] == pytest.approx(whole - sum(Path(str(f.locate())).stat().st_size for f in files) / 1e6)


def test_the_table_of_kernels_lists_what_is_slower() -> None:
    found = results.new(1)
    times = {OURS: [2e-3] * 3, "ours-plain": [1e-3] * 3, "torch-eager": [4e-3] * 3, "jax": [1.9e-3] * 3}
    ran = {"compiled": ["linear"], "passed": ["linear", "softmax"], "plain": ["relu", "copy"], "reference": []}
    for name, row in summary(times, OURS).items():
        extra = {**row, **({"kernels": ran} if name == OURS else {})}
        found["benchmarks"].append(results.row("kernels", "some operation", name, times[name], extra))
    text = tables.kernels_table(found)
    assert "slower than others (their time over ours): 1 of 1\n- 0.50 some operation (NumPy 0.50, JAX 0.95)" in text
    assert "plain: relu, softmax" in text


def test_figures_have_limits() -> None:
    found = results.new(1)
    found["figures"] = [results.figure("fit", "one", 1.2, "", 1.15), results.figure("memory", "two", 10.0, "MB", 11.0)]
    lines = tables.figures_table(found).splitlines()
    assert lines[2].rstrip(" |").endswith("no")
    assert lines[3].rstrip(" |").endswith("yes")


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
def test_stopped_children_do_not_outlive_a_killed_parent() -> None:
    code = (
        "import sys\n"
        "from deepbabysit.bench.contenders import Pool\n"
        "pool = Pool(1)\n"
        "pool.ask('ours-replay', do='memory')\n"
        "print(pool.pids()['ours-replay'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=Contender.environment(OURS, 1),
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    status = Path(f"/proc/{child}/status")
    assert _becomes(status, "T (stopped)")
    parent.kill()
    parent.communicate()
    assert _becomes(status, "Z (zombie)")


def _becomes(status: Path, state: str) -> bool:
    """Wait until a process is in this state, or gone."""
    for _ in range(100):
        try:
            if state in status.read_text():
                return True
        except OSError:  # it is gone
            return "zombie" in state
        time.sleep(0.1)
    return False
