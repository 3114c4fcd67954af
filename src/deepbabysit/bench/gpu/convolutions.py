"""Single convolutions by our own kernels, by cuDNN, and by PyTorch in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.bench.gpu.peers import captured, child, missing
from deepbabysit.bench.gpu.report import Report
from deepbabysit.bench.gpu.sizes import Sizes
from deepbabysit.runtime.device import Device

KINDS = ("bfloat16", "tf32", "float32", "float16")
MADE = ("forward", "by image", "by parameters")


class Shape(NamedTuple):
    """A convolution with "same" padding: images (n, height, width, channels), outputs, window, stride, groups."""

    image: tuple[int, int, int, int]
    outputs: int
    window: int
    stride: int = 1
    groups: int = 1

    @property
    def result(self) -> tuple[int, int, int, int]:
        """Shape of the result."""
        n, h, w, _ = self.image
        return n, -(-h // self.stride), -(-w // self.stride), self.outputs

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """Shape of the kernel."""
        return self.window, self.window, self.image[3] // self.groups, self.outputs

    @property
    def border(self) -> int:
        """Zeros on each side."""
        return self.window // 2


SHAPES = {
    "tiny": Shape((2, 5, 5, 4), 8, 3), "first 3x3": Shape((64, 32, 32, 3), 32, 3),
    "wide 3x3": Shape((32, 56, 56, 64), 64, 3), "stride 2": Shape((32, 56, 56, 64), 128, 3, 2),
    "deep 3x3": Shape((32, 14, 14, 256), 256, 3), "grouped": Shape((32, 28, 28, 128), 128, 3, 1, 32),
    "depthwise": Shape((32, 28, 28, 128), 128, 3, 1, 128),
}  # fmt: skip


def _cases(names: Sequence[str]) -> Iterator[tuple[str, Shape, str, str]]:
    for kind in KINDS:
        for name in names:
            for made in MADE:
                yield f"{name} {kind} {made}", SHAPES[name], kind, made


def compared(report: Report, device: Device, plugin: Any, sizes: Sizes) -> None:
    """Time each convolution by our own kernels and by cuDNN's plans, which are compared with ours; then by PyTorch."""
    backend: Any = device.backend
    for remark in backend.remarks():
        report.keep("who does convolutions", remark)
    best: dict[str, dict[str, float]] = {}
    until = report.left / 2  # the other half is the peer's
    for key, shape, kind, made in _cases(sizes.convolutions):
        if report.left < until:
            report.keep(key, None, "not reached")
            continue
        if not report.begins(key):
            continue
        before, backend.tf32 = backend.tf32, kind == "tf32"
        try:
            found = plugin.timed_convolution(device, *_ours(device, shape, kind, made))
        except Exception as error:
            report.fail(key, f"{type(error).__name__}: {error}")
            continue
        finally:
            backend.tf32 = before
        for refused in found.get("refused", ()):
            report.fail(key, refused)
        times = found["seconds"]
        theirs = {way: t for way, t in times.items() if way.startswith("cuDNN")}
        both = {"own": times.get(plugin.OWN), "cuDNN": min(theirs.values(), default=None)}
        best[key] = {name: t for name, t in both.items() if t is not None}
        text = ", ".join(f"{name} {t * 1e6:.1f} us" for name, t in best[key].items())
        report.keep(key, found, f"{text or 'nothing to choose from'}; {found.get('why') or found['way']}")
    if reason := missing("torch"):
        report.keep("PyTorch", {"skipped": reason}, f"skipped: {reason}")
        return
    if not report.begins("PyTorch"):
        return
    answer = child("convolutions", [str(sizes.repeats), *sizes.convolutions], report.left)
    if missed := answer.pop("error", ""):
        report.keep("PyTorch", {"error": missed}, f"not all of it: {missed}")
    for key, seconds in answer.items():
        ours = min(best.get(key, {}).values(), default=float("nan"))
        report.keep(f"{key}, PyTorch", seconds, f"{seconds * 1e6:.1f} us, {seconds / ours:.2f} times our best")


def _ours(device: Device, shape: Shape, kind: str, made: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return operation, inputs and attributes."""
    rng = np.random.default_rng()
    dtype: Any = "float32" if kind == "tf32" else kind
    if kind == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16

    def drawn(size: tuple[int, ...]) -> Any:
        return device.asarray(rng.standard_normal(size, np.float32).astype(dtype))

    steps = {
        "stride": (shape.stride, shape.stride), "dilation": (1, 1), "groups": shape.groups,
        "padding": ((shape.border, shape.border), (shape.border, shape.border)),
    }
    image, kernel, result = shape.image, shape.kernel, shape.result
    if made == "forward":
        return "affine_conv", (drawn(image), drawn(kernel), drawn(kernel[-1:])), {**steps, "activation": "relu"}
    if made == "by image":
        return "conv_input_gradient", (drawn(result), drawn(kernel)), {**steps, "space": image[1:3]}
    return "conv_parameter_gradients", (drawn(image), drawn(result)), {**steps, "window": kernel[:2]}


def _torch(shape: Shape, kind: str, made: str) -> Callable[[], Any]:
    import torch

    dtype = getattr(torch, "float32" if kind == "tf32" else kind)
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    last: Any = {"device": "cuda", "dtype": dtype}

    def drawn(size: tuple[int, ...]) -> Any:
        n, h, w, c = size
        return torch.randn((n, c, h, w), **last).contiguous(memory_format=torch.channels_last)

    k = shape.kernel
    image, kernel, result = drawn(shape.image), drawn((k[3], k[0], k[1], k[2])), drawn(shape.result)
    bias = torch.randn(shape.outputs, **last)
    stride, border = [shape.stride] * 2, [shape.border] * 2
    if made == "forward":
        return lambda: torch.relu_(torch.nn.functional.conv2d(image, kernel, bias, stride, border, 1, shape.groups))
    mask = [made == "by image", made != "by image", made != "by image"]
    return lambda: torch.ops.aten.convolution_backward(
        result, image, kernel, [shape.outputs], stride, border, [1, 1], False, [0, 0], shape.groups, mask
    )


def main() -> None:
    """Time PyTorch's convolutions, captured, its fastest deterministic algorithms; print a line of JSON for each."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU")
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = True
    repeats, names = int(sys.argv[1]), sys.argv[2:]
    for key, shape, kind, made in _cases(names):
        run = captured(_torch(shape, kind, made), repeats)
        times = []
        for _ in range(4):
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / repeats)
        print(json.dumps({key: min(times)}), flush=True)


if __name__ == "__main__":
    main()
