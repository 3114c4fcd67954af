"""Arrays that are large enough for every path of a kernel: chunks, several elements at a time, several blocks."""

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import complete_attrs
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.testing.cases import cast, compare, expect, infer, show, tolerance

RNG = np.random.default_rng(11)
PLAIN = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}


def normal(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return np.exp(RNG.uniform(-1.0, 1.0, shape))


# name -> inputs and attributes; what has no comment: a reduction in chunks, or rows read 16 bytes at a time
CASES = {
    "sum, rows": ("sum", (normal(3, 20000),), {"axis": 1}),
    "sum, columns": ("sum", (normal(3000, 40),), {"axis": 0}),
    "sum, everything": ("sum", (normal(70001),), {}),
    "sum, both ends": ("sum", (normal(50, 30, 17),), {"axis": (0, 2)}),
    "sum, few columns": ("sum", (normal(5000, 3),), {"axis": 0}),
    "max, columns": ("max", (normal(3000, 40),), {"axis": 0}),
    "mean, rows": ("mean", (normal(40, 1000),), {"axis": 1}),
    "var, everything": ("var", (normal(300, 50) + 3.0,), {}),
    "any": ("any", (RNG.random((4000, 5)) < 1e-3,), {"axis": 0}),
    "logsumexp, columns": ("logsumexp", (normal(3000, 8),), {"axis": 0}),
    "argmax, rows": ("argmax", (normal(5, 2000),), {"axis": 1}),
    "argmin, columns": ("argmin", (normal(500, 40),), {"axis": 0}),
    "cumulative_sum, rows": ("cumulative_sum", (normal(3, 1000),), {"axis": 1}),
    "linear_gradient": ("linear_gradient", (normal(4500, 24), normal(4500, 24)), {"activation": "relu"}),
    "linear_gradient, odd": ("linear_gradient", (normal(300, 7), normal(300, 7)), {"activation": "tanh"}),
    "softmax, rows": ("softmax", (normal(5, 3000),), {}),
    "softmax, columns": ("softmax", (normal(300, 70),), {"axis": 0}),
    "log_softmax_gradient": ("log_softmax_gradient", (normal(70, 40), normal(70, 40)), {}),
    "softmax_cross_entropy": (
        "softmax_cross_entropy", (normal(40, 1000), RNG.integers(0, 1000, 40)), {"label_smoothing": 0.1}
    ),
    "softmax_cross_entropy_gradient": (
        "softmax_cross_entropy_gradient", (normal(300), positive(300, 12), RNG.integers(0, 12, 300)), {}
    ),
    "batch_norm": ("batch_norm", (normal(4500, 40) + 2.0, positive(40), normal(40)), {}),
    "batch_norm, odd": ("batch_norm_relu", (normal(60, 9, 7) + 2.0, positive(7), normal(7)), {}),
    "batch_norm_gradient": (
        "batch_norm_gradient", (normal(4500, 40), normal(4500, 40), positive(40), normal(40), positive(40)), {}
    ),
    "batch_norm_inference": (
        "batch_norm_inference", (normal(64, 32), positive(32), normal(32), normal(32), positive(32)), {}
    ),
    "layer_norm": ("layer_norm", (normal(6, 3000), positive(3000), normal(3000)), {}),
    "layer_norm_gradient": ("layer_norm_gradient", (normal(4500, 40), normal(4500, 40), positive(40)), {}),
    "rms_norm_gradient": ("rms_norm_gradient", (normal(70, 96), normal(70, 96), positive(96)), {}),
    "group_norm": ("group_norm", (normal(3, 50, 40), positive(40), normal(40)), {"groups": 4}),
    "group_norm_gradient": (
        "group_norm_gradient", (normal(3, 50, 40), normal(3, 50, 40), positive(40)), {"groups": 4}
    ),
    "add, rows that repeat": ("add", (normal(70, 32), normal(32)), {}),
    "add, odd rows": ("add", (normal(70, 31), normal(31)), {}),
    "take": ("take", (normal(50, 20), RNG.integers(-50, 50, 600)), {}),
    "scatter_add": ("scatter_add", (normal(300, 258), RNG.integers(0, 9, 300)), {"shape": (9, 258)}),
    "unstack": ("unstack", (normal(30, 11, 5),), {"axis": 1}),
    "concat": ("concat", tuple(normal(30, n, 5) for n in range(11)), {"axis": 1}),
    "random_words": ("random_words", (np.array([7, 3, 5, 0], np.uint64),), {"shape": (1000, 3), "stream": 9}),
    "dropout": ("dropout", (normal(130, 40), np.array([7, 3, 2, 0], np.uint64)), {"rate": 0.3, "stream": 9}),
    "dropout, odd": ("dropout", (normal(130, 13), np.array([7, 3, 5, 0], np.uint64)), {"rate": 0.3, "stream": 9}),
    "max_pool": (
        "max_pool", (normal(3, 20, 17, 8),), {"window": (3, 3), "stride": (2, 2), "padding": ((1, 1), (0, 1))}
    ),
    "depthwise kernel": (
        "conv_kernel_gradient", (normal(2, 50, 50, 5), normal(2, 50, 50, 10)),
        {"window": (3, 3), "groups": 5, **PLAIN},
    ),
    "attention": (
        "attention", (normal(2, 3, 40, 8), normal(2, 3, 300, 8), normal(2, 3, 300, 8), normal(1, 1, 40, 300)),
        {"causal": True},
    ),
}


def _check(cuda, name, inputs, attrs, dtype):
    spec = SPECS[name]
    inputs, attrs = cast(inputs, dtype), complete_attrs(spec, attrs)
    arrays = tuple(cuda.asarray(x) for x in inputs)
    assert find_plan(cuda, spec, arrays, attrs).kernel is not None
    outs = call(cuda, spec, arrays, attrs)
    for number, (out, form, oracle) in enumerate(
        zip(outs, infer(spec, inputs, attrs), expect(spec, inputs, attrs), strict=True)
    ):
        allowed = tolerance(spec, inputs, form)
        scale = float(np.abs(oracle).max()) if form.dtype.kind == "f" else 0.0
        compare(f"{show(spec, inputs, attrs)} output {number}", cuda.to_host(out), oracle, allowed, scale)


@pytest.mark.parametrize("case", CASES)
def test_large(cuda, case):
    _check(cuda, *CASES[case], "float32")


WIDE = ("sum, rows", "var, everything", "softmax, columns", "batch_norm", "layer_norm_gradient", "depthwise kernel")


@pytest.mark.parametrize("case", WIDE)
def test_double_precision(cuda, case):
    _check(cuda, *CASES[case], "float64")


HALVES = ("sum, columns", "softmax, rows", "batch_norm", "layer_norm_gradient", "dropout", "take", "max_pool")


@pytest.mark.parametrize("case", HALVES)
def test_half_precision(cuda, case):
    _check(cuda, *CASES[case], "float16")


# launches of a case where they are not one
LAUNCHES = {
    "sum, rows": 2, "sum, columns": 2, "sum, everything": 2, "sum, few columns": 2, "max, columns": 2, "any": 2,
    "var, everything": 4, "logsumexp, columns": 5, "linear_gradient": 2, "batch_norm": 3, "batch_norm, odd": 2,
    "batch_norm_gradient": 3, "layer_norm_gradient": 3, "rms_norm_gradient": 2, "group_norm_gradient": 2,
    "scatter_add": 2, "unstack": 2, "concat": 2, "depthwise kernel": 2, "attention": 3,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_graph_repeats_it(cuda, case):
    name, inputs, attrs = CASES[case]
    spec = SPECS[name]
    arrays = tuple(cuda.asarray(x) for x in cast(inputs, "float32"))
    plan = find_plan(cuda, spec, arrays, complete_attrs(spec, attrs))
    outs, scratch = ([cuda.empty(form.shape, form.dtype) for form in forms] for forms in (plan.outputs, plan.scratch))
    stream = cuda.backend.stream

    def run():
        cuda.scratch = tuple(scratch)
        plan.run(outs, *arrays)

    run()
    expected = [cuda.to_host(out).tobytes() for out in outs]
    with stream:
        stream.begin_capture()
        try:
            run()
        finally:
            graph = stream.end_capture()
    for array in (*outs, *scratch):
        cuda.write(array, np.full(array.shape, 77, array.dtype))
    graph.launch(stream)
    assert [cuda.to_host(out).tobytes() for out in outs] == expected
    assert len(graph.nodes) == LAUNCHES.get(case, 1)


@pytest.mark.parametrize("kernel", [(3, 3, 8, 6), (3, 3, 4, 6), (1, 1, 8, 6)])
def test_convolutions_in_blocks_of_images(cuda, monkeypatch, kernel):
    from deepbabysit_cupy.kernels import convolution

    monkeypatch.setattr(convolution, "COLUMN_BYTES", 1 << 14)
    groups = 8 // kernel[2]
    steps = {**PLAIN, "padding": ((kernel[0] // 2,) * 2,) * 2, "groups": groups}
    x, g, weights, bias = normal(7, 6, 6, 8), normal(7, 6, 6, 6), normal(*kernel), normal(6)
    cuda.plans.clear()
    _check(cuda, "affine_conv", (x, weights, bias), {**steps, "activation": "relu"}, "float32")
    _check(cuda, "conv_input_gradient", (g, weights), {"space": (6, 6), **steps}, "float32")
    _check(cuda, "conv_parameter_gradients", (x, g), {"window": kernel[:2], **steps}, "float32")


def test_numbers_outside_of_an_axis_give_nan(cuda):
    x, indices = cuda.asarray(np.ones((3, 2), np.float32)), cuda.asarray(np.array([0, 3, -4]))
    (out,) = call(cuda, SPECS["take"], (x, indices), {"axis": 0})
    assert np.array_equal(cuda.to_host(out), [[1, 1], [np.nan] * 2, [np.nan] * 2], equal_nan=True)


def test_the_same_bits_in_every_order(cuda, emulation, monkeypatch):
    for case in ("sum, columns", "sum, rows", "scatter_add", "batch_norm", "softmax, columns"):
        name, inputs, attrs = CASES[case]
        arrays = tuple(cuda.asarray(x) for x in cast(inputs, "float32"))
        found = []
        for order in ("forward", "reverse", "shuffled"):
            monkeypatch.setattr(emulation, "order", order)
            found.append([cuda.to_host(out).tobytes() for out in call(cuda, SPECS[name], arrays, attrs)])
        assert found[0] == found[1] == found[2], case
