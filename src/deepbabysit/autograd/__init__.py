"""Tensor, the tape, the operations users call, and what is built on derivatives."""

from deepbabysit.autograd import operations  # noqa: F401  (hands the tape what it needs)
