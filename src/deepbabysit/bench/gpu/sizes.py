"""How much is measured: whole GPUs, or a device that is emulated in tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the pieces of a check are.

    Attributes:
        copied: bytes of the array that is copied.
        product: rows and columns of a large product.
        aligned: rows and columns of the products whose epilogues are asked for.
        elements: of the arrays that memory-bound kernels run over.
        repeats: calls in a measurement.
        steps: training steps in a measurement.
        compared: training steps whose bits and losses are compared.
        operations: which operations are checked; empty means all.
        networks: names of `deepbabysit.bench.cases.GPU_CASES` that are timed.
        trained: names of those that are compared step by step.
        draws: how often samples are drawn.
        convolutions: names of `deepbabysit.bench.gpu.convolutions.SHAPES`.
    """

    copied: int = 8 << 30
    product: int = 8192
    aligned: int = 512
    elements: int = 1 << 26
    repeats: int = 20
    steps: int = 200
    compared: int = 50
    operations: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("worked@32", "worked@256", "300-mse@64", "two-conv@128", "six-conv-norm@128",
                                 "transformer-256@32", "transformer-512@32")
    trained: tuple[str, ...] = ("worked@32", "two-conv@32", "six-conv-norm@32", "transformer-128@32")
    draws: int = 2
    convolutions: tuple[str, ...] = ("first 3x3", "wide 3x3", "stride 2", "deep 3x3", "grouped", "depthwise")
