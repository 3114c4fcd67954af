"""Attention with its softmax in one pass over the scores; the products stay with BLAS."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.attention import attention_kernels

_HIDE = Compiled("softmax", "attention_hide")
_WEIGHTS, _PULL = Compiled("softmax", "attention_weights"), Compiled("softmax", "attention_pull")


def _takes(q: Any, k: Any) -> bool:
    size = prod(q.shape[:3]) * k.shape[2]
    return size >= LEAST["attention"] and size > 0 and available()


def _hide(scores: Any, seen: Any) -> None:
    seen = np.ascontiguousarray(seen).reshape((1,) * (4 - seen.ndim) + seen.shape)
    _HIDE(scores.dtype, scores, seen)


def _normalize(scores: Any, unseen: bool, causal: bool) -> None:
    _WEIGHTS(scores.dtype, scores.reshape(-1, scores.shape[3]), scores.shape[2], causal)


def _pull(product: Any, weights: Any, factor: Any) -> None:
    keys = product.shape[3]
    _PULL(product.dtype, product.reshape(-1, keys), weights.reshape(-1, keys), float(factor))


VARIANTS: dict[str, Kernel] = attention_kernels(_hide, _normalize, _pull, _takes)
