"""JAX: one jitted step with donated parameters and Adam states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.contenders.data import batch


def build(case: dict[str, Any], name: str, threads: int) -> Callable[[], float]:
    """Return a function that trains one step and returns the loss."""
    x, y = (jnp.asarray(v) for v in batch(case))
    rng = np.random.default_rng(1)
    draw = lambda *s: jnp.asarray(rng.normal(0, (2 / np.prod(s[:-1])) ** 0.5, s), jnp.float32)  # noqa: E731
    layers = case["layers"]

    def forward(p: Any, state: Any, h: Any, key: Any, make: bool = False) -> Any:
        p, new = list(p), list(state)
        for i, (kind, *a) in enumerate(layers):
            if kind == "dense":
                if make:
                    p[i] = (draw(h.shape[-1], a[0]), jnp.zeros(a[0]))
                h = h @ p[i][0] + p[i][1]
                h = jax.nn.relu(h) if a[1] else h
            elif kind == "conv":
                if make:
                    p[i] = (draw(a[1], a[1], h.shape[-1], a[0]), jnp.zeros(a[0]))
                axes = ("NHWC", "HWIO", "NHWC")
                h = lax.conv_general_dilated(h, p[i][0], (1, 1), a[2].upper(), dimension_numbers=axes)
                h = jax.nn.relu(h + p[i][1]) if a[3] else h + p[i][1]
            elif kind == "pool":
                h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            elif kind == "norm":
                c = h.shape[-1]
                if make:
                    p[i], new[i] = (jnp.ones(c), jnp.zeros(c)), (jnp.zeros(c), jnp.ones(c))
                m, v = h.mean((0, 1, 2)), h.var((0, 1, 2))
                new[i] = (0.9 * new[i][0] + 0.1 * m, 0.9 * new[i][1] + 0.1 * v)
                h = (h - m) * lax.rsqrt(v + 1e-5) * p[i][0] + p[i][1]
            elif kind == "relu":
                h = jax.nn.relu(h)
            elif kind == "dropout":
                keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - a[0], h.shape)
                h = jnp.where(keep, h / (1 - a[0]), 0)
            else:
                h = h.reshape(h.shape[0], -1)
        return h, new, p

    blank = [()] * len(layers)
    key = jax.random.key(0, impl="rbg")
    _, state, p = forward(blank, blank, x, key, True)
    zeros = lambda: jax.tree.map(jnp.zeros_like, p)  # noqa: E731

    def loss_of(p: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        z, new, _ = forward(p, state, x, key)
        if case["loss"] == "mse":
            return ((z - y) ** 2).mean(), new
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).mean(), new

    def update(kept: Any, x: Any, y: Any) -> Any:
        p, m, v, state, t = kept
        (loss, state), g = jax.value_and_grad(loss_of, has_aux=True)(p, state, x, y, jax.random.fold_in(key, t))
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return (p, m, v, state, t), loss

    run = jax.jit(update, donate_argnums=0)
    kept: list[Any] = [(p, zeros(), zeros(), state, jnp.int32(0))]

    def step() -> float:
        kept[0], loss = run(kept[0], x, y)
        return float(loss)

    return step
