"""Convolutions by cuDNN: graphs on the real frontend, choices and fallbacks on an emulated one."""

import ctypes
import json
import subprocess
import sys

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit import cli
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.notices import NOTICES
from deepbabysit.runtime.record import Recorder
from deepbabysit.runtime.registry import find_device

BY = "cuDNN 9.28.0, frontend 1.28.0"

# -- the real frontend, where its wheel is installed: graphs need no GPU, plans do -------------------------------------


def _driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("make", "more", "sizes", "steps"), [
        ("result", {}, [4, 16, 9, 6], [864, 1, 96, 16]), ("result", {"bias": True}, [4, 16, 9, 6], [864, 1, 96, 16]),
        ("result", {"bias": True, "relu": True}, [4, 16, 9, 6], [864, 1, 96, 16]),
        ("image", {}, [4, 8, 10, 12], [960, 1, 96, 8]), ("kernel", {}, [16, 4, 3, 3], [36, 1, 12, 4]),
    ],
)  # fmt: skip
def test_graphs_on_the_real_frontend(emulation, monkeypatch, make, more, sizes, steps, dtype):
    from deepbabysit_cupy import dnn

    monkeypatch.setattr(dnn, "load", emulation.load_dnn)
    try:
        module = dnn.load()
    except dnn.DnnUnavailable:
        pytest.skip("the wheels of cuDNN are not installed")
    task = dnn.Task(make, (4, 10, 12, 8), (4, 9, 6, 16), (3, 3), (1, 2), (1, 1), (0, 1), (1, 1), 2, dtype, **more)
    graph, out = dnn.build(module, {}, task)
    graph.validate()
    assert (list(out.get_dim()), list(out.get_stride())) == (sizes, steps)
    for name in ("deselect_numeric_notes", "build_plan_at_index", "get_plan_name_at_index", "get_execution_plan_count",
                 "get_workspace_size_plan_at_index", "execute_plan_at_index", "create_execution_plans"):  # fmt: skip
        assert callable(getattr(graph, name))
    assert {"A", "FALLBACK"} <= set(dir(module.heur_mode))
    assert {"NONDETERMINISTIC", "FFT", "WINOGRAD", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION",
            "TENSOR_CORE"} <= set(dir(module.numerical_note))  # fmt: skip
    if not _driver():
        with pytest.raises(dnn.DnnUnavailable, match=r"cuDNN .* frontend .* cannot be opened"):
            dnn.Dnn(0)


# What the library knows of a GPU: an H200, as its driver would describe it. Heuristics ask for nothing else.
GPU = {
    "deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 12090, "cudaDeviceId": 0, "pciDeviceId": 0,
    "multiProcessorCount": 132, "smCountOrigin": 0, "warpSize": 32, "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64], "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32,
    "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024, "oversizedSharedMemoryPerBlock": 0,
    "l2CacheSize": 62914560, "totalGlobalMem": 150754820096, "memoryBusWidth": 6144, "memClockRateKHz": 3201000,
    "smClockRateKHz": 1980000, "isTccDriver": 0, "supportCoopLaunch": 1,
}  # fmt: skip
# In the driver's place: cuDNN's libraries are linked with it, and planning calls none of this.
NO_DRIVER = "".join(f'extern "C" int {name}() {{ return 100; }}\n' for name in (
    "cuInit", "cuGetErrorString", "cuModuleGetFunction", "cuModuleLoadData", "cuModuleUnload",
    "cuTensorMapEncodeIm2col", "cuTensorMapEncodeTiled",
))  # fmt: skip
PLANNING = """
import ctypes, json, sys
from itertools import product
driver, gpu = sys.argv[1:]
ctypes.CDLL(driver, ctypes.RTLD_GLOBAL)
from deepbabysit_cupy import dnn, libraries
for name, folder in (("nvrtc", "cuda_nvrtc"), ("cublasLt", "cublas")):
    libraries.load_library(name, folder)
module = dnn.load()
where = {"device_property": module.create_device_properties(gpu)}
found = {}
for kind, made in product(("float32", "tf32", "float16", "bfloat16"), ("result", "bias", "relu", "image", "kernel")):
    for groups, channels, border in ((1, 64, (1, 1)), (1, 64, (0, 1)), (64, 64, (1, 1)), (4, 64, (1, 1))):
        task = dnn.Task(
            "result" if made in ("bias", "relu") else made, (8, 28, 28, channels), (8, 27 + border[0], 28, channels),
            (3, 3), (1, 1), (1, 1), (border[0], 1), (1, 1), groups, "float32" if kind == "tf32" else kind,
            kind == "tf32", made in ("bias", "relu"), made == "relu",
        )
        offer = dnn.plans_for(module, where, task)
        found[f"{kind} {made} {groups} {border}"] = [[p.name for p in offer.plans], offer.why]
print(json.dumps(found))
"""


def test_plans_of_the_real_library_for_a_gpu_that_is_not_here(emulation, monkeypatch, tmp_path):
    """Every convolution and gradient has plans under our conditions, with bias and ReLU, on borders of two lengths."""
    from deepbabysit_cupy import dnn
    from deepbabysit_cupy.libraries import load_library

    monkeypatch.setattr(dnn, "load", emulation.load_dnn)
    try:
        dnn.load()
    except dnn.DnnUnavailable:
        pytest.skip("the wheels of cuDNN are not installed")
    if load_library("cublasLt", "cublas") is None:
        pytest.skip("the wheel of cuBLAS is not installed")
    driver = tmp_path / "libcuda.so.1"
    (tmp_path / "driver.cpp").write_text(NO_DRIVER)
    command = ["g++", "-shared", "-fPIC", f"-Wl,-soname,{driver.name}", "-o", str(driver), str(tmp_path / "driver.cpp")]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", PLANNING, str(driver), json.dumps(GPU)], capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(found) == 80
    assert {key: why for key, (plans, why) in found.items() if not plans} == {}
    for made in ("result", "relu", "image", "kernel"):  # the tensor cores' plans are not those of whole float32
        exact, rounded = (set(found[f"{kind} {made} 1 (1, 1)"][0]) for kind in ("float32", "tf32"))
        assert not exact & rounded


# -- every operation, against float64 ----------------------------------------------------------------------------------

_SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
_ODD = {"stride": (2, 1), "padding": ((0, 1), (2, 1)), "dilation": (1, 2)}
CASES = {
    "conv": ("conv", [(2, 6, 5, 4), (3, 3, 4, 8)], _SAME), "odd": ("conv", [(2, 7, 8, 4), (3, 2, 4, 8)], _ODD),
    "grouped": ("conv", [(2, 6, 5, 8), (3, 3, 4, 16)], {**_SAME, "groups": 2}),
    "sequence": ("conv", [(2, 9, 4), (3, 4, 8)], {"stride": (2,), "padding": ((2, 0),), "dilation": (1,)}),
    "not read": ("conv", [(2, 8, 8, 4), (3, 3, 4, 8)], {**_SAME, "stride": (3, 3), "padding": ((0, 0), (0, 0))}),
    "bias": ("affine_conv", [(2, 6, 5, 4), (3, 3, 4, 8), (8,)], {**_SAME, "activation": "linear"}),
    "relu": ("affine_conv", [(2, 6, 5, 4), (3, 3, 4, 8), (8,)], {**_SAME, "activation": "relu"}),
    "tanh": ("affine_conv", [(2, 6, 5, 4), (3, 3, 4, 8), (8,)], {**_SAME, "activation": "tanh"}),
    "depthwise": ("depthwise_conv", [(2, 6, 5, 4), (3, 3, 4, 2)], _SAME),
    "by image": ("conv_input_gradient", [(2, 6, 5, 8), (3, 3, 4, 8)], {**_SAME, "space": (6, 5)}),
    "by image, grouped": (
        "conv_input_gradient", [(2, 6, 5, 16), (3, 3, 4, 16)], {**_SAME, "space": (6, 5), "groups": 2},
    ),
    "transposed": ("conv_transpose", [(2, 3, 4, 8), (3, 3, 4, 8)],
                   {**_SAME, "stride": (2, 2), "output_padding": (1, 0)}),
    "by kernel": ("conv_kernel_gradient", [(2, 6, 5, 4), (2, 6, 5, 8)], {**_SAME, "window": (3, 3)}),
    "by kernel, grouped": (
        "conv_kernel_gradient", [(2, 6, 5, 8), (2, 6, 5, 16)], {**_SAME, "window": (3, 3), "groups": 2},
    ),
    "by parameters": ("conv_parameter_gradients", [(2, 6, 5, 4), (2, 6, 5, 8)], {**_SAME, "window": (3, 3)}),
}  # fmt: skip


def _recorded(device, name, arrays, attrs, tune=True):
    """Record one operation and replay it; returns its results as float64, and the recording."""
    recorder = Recorder(device)
    with surroundings(recorder=recorder, tune=tune):
        outs = call(device, SPECS[name], tuple(device.asarray(a) for a in arrays), attrs)
        recording = recorder.finish()
    for out in outs:
        out.fill(float("nan"))
    recording.replay()
    return [np.asarray(device.backend.to_host(out)).astype(np.float64) for out in outs], recording


def _random(shapes, dtype):
    import ml_dtypes

    rng = np.random.default_rng(3)
    return [rng.normal(size=s).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype) for s in shapes]


def _reference(name, arrays, attrs):
    return call(find_device("cpu:reference"), SPECS[name], tuple(a.astype(np.float64) for a in arrays), attrs)


def _close(found, expected, bound):
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() <= bound * np.abs(theirs).max()


def _choices(tuned):
    found = tuned.device.backend.tuning.record()["choices"]
    return {key: choice for key, choice in found.items() if not key.startswith("product")}


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("case", CASES)
def test_every_operation(tuned, cudnn, case, dtype, bound):
    name, shapes, attrs = CASES[case]
    arrays = _random(shapes, dtype)
    found, recording = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), bound)
    ((key, choice),) = _choices(tuned).items()
    assert key.startswith(f"{name}: {dtype}")
    assert choice["way"].endswith("eng5 split") and choice["by"] == BY
    assert set(choice) == {"way", "by", "seconds"}
    # deterministic, of a bounded workspace, and in float32 without TF32
    tried = {"eng4", "eng5 split", *(() if dtype == "float32" else ("eng2 tf32",))}
    assert {plan for _, plan in cudnn.ran} == tried
    nodes = cudnn.ran[-1][0]
    assert ("bias" in nodes) == (name == "affine_conv") and ("relu" in nodes) == (attrs.get("activation") == "relu")
    assert recording.program is not None
    assert "cuDNN" in [node.name for node in recording.program.graph.nodes]


def test_tf32_only_where_it_is_allowed(tuned, cudnn, monkeypatch):
    name, shapes, attrs = CASES["conv"]
    arrays = _random(shapes, "float32")
    _recorded(tuned.device, name, arrays, attrs)
    assert "eng2 tf32" not in {plan for _, plan in cudnn.ran}
    monkeypatch.setattr(tuned.device.backend, "tf32", True)
    cudnn.wrong = {"eng4", "eng5 split"}
    found, _ = _recorded(tuned.device, name, arrays, attrs)
    assert cudnn.ran[-1][1] == "eng2 tf32"
    _close(found, _reference(name, arrays, attrs), 2e-3)
    assert sorted(key.split()[1] for key in _choices(tuned)) == ["float32", "tf32"]


def test_float64_stays_with_our_own_kernels(tuned, cudnn):
    name, shapes, attrs = CASES["conv"]
    arrays = _random(shapes, "float64")
    found, _ = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), 1e-12)
    (choice,) = _choices(tuned).values()
    assert (choice["way"], choice["why"]) == ("own kernels", "cuDNN is not asked for float64")
    assert not cudnn.asked


# -- what is not offered, slower or wrong ------------------------------------------------------------------------------


def _relu(tuned, activation="relu"):
    name, shapes, attrs = CASES["relu"]
    arrays = _random(shapes, "float32")
    attrs = {**attrs, "activation": activation}
    found, _ = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), 1e-6)
    return next(iter(_choices(tuned).values()))


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_where_no_bias_is_offered_it_is_added_behind(tuned, cudnn, activation):
    cudnn.refused = {"bias"}
    assert _relu(tuned, activation)["way"] == "cuDNN: eng5 split"
    assert cudnn.ran[-1][0] == ("conv_fprop",)


def test_a_shape_without_a_plan(tuned, cudnn):
    cudnn.refused = {"conv_fprop"}
    choice = _relu(tuned)
    assert choice["way"] == "own kernels"
    assert choice["why"] == "not offered: No valid engine configs for ['conv_fprop']"
    assert not cudnn.ran


def test_what_is_slower_is_not_used(tuned, cudnn):
    tuned.faster = False
    choice = _relu(tuned)
    assert choice["way"] == "own kernels" and "why" not in choice
    assert list(choice["seconds"]) == [
        "own kernels", "cuDNN, bias and ReLU: eng4", "cuDNN, bias and ReLU: eng5 split",
    ]


def test_a_plan_that_is_wrong_is_refused(tuned, cudnn):
    cudnn.wrong = {"eng5 split"}
    choice = _relu(tuned)
    assert choice["way"] == "cuDNN, bias and ReLU: eng4"
    (refused,) = choice["refused"]
    assert refused.startswith("cuDNN, bias and ReLU: eng5 split: ") and refused.endswith("from our own kernels")


def test_a_plan_that_hides_nan_is_refused(tuned, cudnn):
    cudnn.forgetful = True
    choice = _relu(tuned)
    assert choice["way"] == "own kernels"
    assert [text.rpartition(": ")[2] for text in choice["refused"]] == ["NaN is lost or spread"] * 2


def test_no_memory_to_time_in(tuned, cudnn, monkeypatch):
    said = []
    monkeypatch.setattr(NOTICES, "tell", said.append)
    from deepbabysit_cupy.tuning import Tuning

    monkeypatch.setattr(Tuning, "drawn", _full)
    name, shapes, attrs = CASES["conv"]
    arrays = _random(shapes, "float32")
    found, _ = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), 1e-6)
    assert "there is no memory to time convolutions in; our own kernels do them" in said


def _full(*_, **__):
    raise MemoryError


@pytest.mark.parametrize("installed", [False, True])
def test_without_cudnn(tuned, monkeypatch, installed):
    from deepbabysit_cupy import dnn

    def load():
        raise dnn.DnnUnavailable("the frontend of cuDNN is 1.3.0, 1.24 is needed", installed)

    monkeypatch.setattr(dnn, "load", load)
    name, shapes, attrs = CASES["relu"]
    arrays = _random(shapes, "float32")
    found, _ = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), 1e-6)
    choices = _choices(tuned)
    if installed:  # what is too old is said in the file
        (choice,) = choices.values()
        assert (choice["way"], choice["by"]) == ("own kernels", "the frontend of cuDNN is 1.3.0, 1.24 is needed")
    else:
        assert not choices


def test_a_library_that_refuses_this_gpu(tuned, cudnn):
    cudnn.broken = "CUDNN_STATUS_ARCH_MISMATCH\nmore"
    assert _relu(tuned)["by"] == f"{BY} cannot be opened: CUDNN_STATUS_ARCH_MISMATCH"


def test_nothing_is_asked_without_tuning(tuned, cudnn):
    name, shapes, attrs = CASES["conv"]
    _recorded(tuned.device, name, _random(shapes, "float32"), attrs, tune=False)
    assert not cudnn.asked and not tuned.asked


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "module", "version", "words", "installed"), [
        (None, None, "", r"cuDNN is not installed; pip install 'deepbabysit\[cudnn12\]'", False),
        (1, None, "", "the frontend of cuDNN cannot be imported", False),
        (1, 1, "1.23.1", r"the frontend of cuDNN is 1.23.1, 1.24 is needed; pip install", True),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(emulation, monkeypatch, library, module, version, words, installed):
    import types

    from deepbabysit_cupy import dnn

    made = types.ModuleType("cudnn")
    made.__version__ = version
    monkeypatch.setattr(dnn, "load_library", lambda *_: library)
    monkeypatch.setitem(sys.modules, "cudnn", made if module else None)
    with pytest.raises(dnn.DnnUnavailable, match=words) as caught:
        emulation.load_dnn.__wrapped__()
    assert caught.value.installed is installed


def test_devices_says_who_does_convolutions(cuda, cudnn, monkeypatch, capsys):
    from deepbabysit.runtime import registry
    from deepbabysit_cupy import dnn

    monkeypatch.setitem(registry._REGISTRY.opened, "cupy", ("cuda:0",))
    monkeypatch.setitem(registry._REGISTRY.devices, "cuda:0", cuda)
    assert cli.main(["devices"]) == 0
    assert f"\n             {BY}: convolutions where compile(tune=True) finds it faster\n" in capsys.readouterr().out

    def missing():
        raise dnn.DnnUnavailable("cuDNN is not installed; do this", installed=False)

    monkeypatch.setattr(dnn, "load", missing)
    assert cli.main(["devices"]) == 0
    expected = "\n             our own kernels do all convolutions: cuDNN is not installed; do this\n"
    assert expected in capsys.readouterr().out


# -- trainings ---------------------------------------------------------------------------------------------------------


def _fit(device, tune=True, precision=None):
    db.set_seed(5)
    model = db.Sequential([
        db.layers.Conv2D(8, 3, padding="same", activation="relu"), db.layers.Conv2D(8, 3, strides=2),
        db.layers.Activation("relu"), db.layers.GlobalAveragePooling2D(), db.layers.Dense(4),
    ])
    model.compile(db.optimizers.Adam(0.01), loss="cross_entropy", tune=tune, precision=precision)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 8, 8, 4)).astype(np.float32)
    history = model.fit(
        x, x[:, 0, 0, :4].argmax(1), batch_size=16, epochs=3, verbose=0, device=device, babysit=False, shuffle=False
    )
    return history, [p.numpy().copy() for p in model.parameters()]


def _equal(first, second):
    return all(a.tobytes() == b.tobytes() for a, b in zip(first[1], second[1], strict=True))


def test_a_training_uses_it_and_keeps_its_choices(tuned, cudnn, tmp_path):
    plain = _fit(tuned.device, tune=False)
    assert not cudnn.ran
    first = _fit(tuned.device)
    assert {nodes for nodes, _ in cudnn.ran} == {
        ("conv_fprop", "bias", "relu"), ("conv_fprop", "bias"), ("conv_dgrad",), ("conv_wgrad",),
    }
    for a, b in zip(first[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    (file,) = (tmp_path / "tuning").iterdir()
    kept = json.loads(file.read_text())
    assert first[0].choices == kept
    ways = {key.partition(":")[0]: c["way"] for key, c in kept["choices"].items() if str(c.get("by")) == BY}
    assert ways == {
        "affine_conv": "cuDNN, bias: eng5 split", "conv_input_gradient": "cuDNN: eng5 split",
        "conv_parameter_gradients": "cuDNN: eng5 split",
    }
    tuned.anew()
    tuned.faster = False  # would choose otherwise, were it asked
    again = _fit(tuned.device)
    assert tuned.asked == 0 and again[0].choices == kept and _equal(first, again)
    tuned.anew()
    cudnn.version = "9.29.0"  # what another version did says nothing
    other = _fit(tuned.device)
    assert tuned.asked > 0 and not _equal(first, other)


def _nodes(monkeypatch, device, tune=True):
    """Train; returns what `_fit` does, and the names of a step's nodes."""
    made = []
    before = device.backend.program
    monkeypatch.setattr(device.backend, "program", lambda *a, **k: made.append(before(*a, **k)) or made[-1])
    found = _fit(device, tune)
    monkeypatch.setattr(device.backend, "program", before)
    return found, [node.name for node in made[0].graph.nodes]


def test_a_kernel_is_turned_once_for_forward_and_its_gradient(tuned, cudnn, monkeypatch):
    own, names = (_nodes(monkeypatch, tuned.device, tune)[1] for tune in (False, True))
    assert names.count("cuDNN") == 5
    # two kernels before, two gradients of kernels after
    assert names.count("map_copy") == own.count("map_copy") + 4, " ".join(names)


def test_turning_kernels_shares_launches(tuned, cudnn, merging, monkeypatch):
    merging.backend.merging = False
    plain, apart = _nodes(monkeypatch, merging)
    tuned.anew()
    merging.backend.merging = True
    merged, names = _nodes(monkeypatch, merging)
    assert _equal(plain, merged) and names.count("cuDNN") == apart.count("cuDNN") == 5
    assert names.count("map_copy") + 3 <= apart.count("map_copy"), " ".join(names)


def test_a_kernel_that_was_written_is_turned_again(tuned, cudnn):
    """Forward, an update in place, forward: the second one reads the new kernel."""
    name, shapes, attrs = CASES["conv"]
    x, kernel = (tuned.device.asarray(a) for a in _random(shapes, "float32"))
    recorder = Recorder(tuned.device)
    with surroundings(recorder=recorder, tune=True):
        first = call(tuned.device, SPECS[name], (x, kernel), attrs)[0]
        again = call(tuned.device, SPECS[name], (x, kernel), attrs)[0]
        call(tuned.device, SPECS["add"], (kernel, kernel), {}, (kernel,))
        second = call(tuned.device, SPECS[name], (x, kernel), attrs)[0]
        recording = recorder.finish()
    expected = 2 * np.asarray(kernel.get())
    recording.replay()
    names = [node.name for node in recording.program.graph.nodes]
    assert names.count("cuDNN") == 3 and names.count("map_copy") == 2
    assert np.array_equal(kernel.get(), expected)
    assert np.array_equal(first.get(), again.get())
    np.testing.assert_allclose(second.get(), 2 * first.get(), rtol=1e-6)


def test_a_training_in_half_precision(tuned, cudnn):
    found, plain = _fit(tuned.device, precision="float16"), _fit(tuned.device, tune=False, precision="float16")
    assert ("conv_wgrad",) in {nodes for nodes, _ in cudnn.ran}
    for a, b in zip(found[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-2, atol=5e-3)


# -- the gradient of the bias ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{}, {"padding": ((0, 0), (0, 0)), "window": (1, 1)}, {"groups": 2}, {"dilation": (2, 1)}]
)
def test_sums_for_the_bias_in_the_product(tuned, emulation, change):
    name, shapes, attrs = CASES["by parameters"]
    attrs = {**attrs, **change}
    x, _ = _random(shapes, "float32")
    out = SPECS["conv"].infer(
        [x.shape, (*attrs["window"], 4 // attrs.get("groups", 1), 8)], [x.dtype] * 2,
        **{key: value for key, value in attrs.items() if key != "window"},
    )[0].shape
    arrays = [x, *_random([out], "float32")]
    found, recording = _recorded(tuned.device, name, arrays, attrs)
    _close(found, _reference(name, arrays, attrs), 1e-6)
    (choice,) = _choices(tuned).values() or ({"way": None},)
    if attrs.get("groups"):
        assert choice["way"] is None and 256 not in emulation.matrices.epilogues
    else:
        assert choice["way"] == "own kernels, sums for the bias in the product"
        assert emulation.matrices.epilogues[-1] == 256
