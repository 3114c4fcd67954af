"""JAX as a contender: one jitted step with donated parameters and Adam states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepbabysit.bench import jax_kernels
from deepbabysit.bench.cases import batches, weights


def build(task: dict[str, Any], name: str, threads: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a function that does the task once, and what there is to say about it."""
    import jax

    jax.clear_caches()
    if task["kind"] == "kernel":
        step, check = jax_kernels.build(task["kernel"])
        return step, {"check": check}
    return _BUILDERS[task["kind"]](task), {}


def _forward(layers: list[list[Any]], p: Any, state: Any, h: Any, key: Any) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    new = list(state)
    for i, (kind, *a) in enumerate(layers):
        if kind == "dense":
            h = h @ p[i][0] + p[i][1]
            h = jax.nn.relu(h) if a[1] else h
        elif kind == "conv":
            axes = ("NHWC", "HWIO", "NHWC")
            h = lax.conv_general_dilated(h, p[i][0], (1, 1), a[2].upper(), dimension_numbers=axes) + p[i][1]
            h = jax.nn.relu(h) if a[3] else h
        elif kind == "pool":
            h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        elif kind == "norm":
            m, v = h.mean((0, 1, 2)), h.var((0, 1, 2))
            new[i] = (0.99 * new[i][0] + 0.01 * m, 0.99 * new[i][1] + 0.01 * v)
            h = (h - m) * lax.rsqrt(v + 1e-3) * p[i][0] + p[i][1]
        elif kind == "block":
            h = _block(p[i], a[0], h)
        elif kind == "relu":
            h = jax.nn.relu(h)
        elif kind == "dropout":
            keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - a[0], h.shape)
            h = jnp.where(keep, h / (1 - a[0]), 0)
        else:
            h = h.reshape(h.shape[0], -1)
    return h, new


def _block(p: Any, heads: int, h: Any) -> Any:
    """Run a block of a transformer; its weights are in the order of `cases.weights`."""
    import jax
    from jax import lax

    def norm(x: Any, gamma: Any, beta: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta

    x = norm(h, p[8], p[9])
    q, k, v = ((x @ p[n] + p[n + 1]).reshape(*h.shape[:2], heads, -1) for n in (0, 2, 4))
    h = h + jax.nn.dot_product_attention(q, k, v).reshape(h.shape) @ p[6] + p[7]
    x = jax.nn.gelu(norm(h, p[10], p[11]) @ p[12] + p[13], approximate=False)
    return h + x @ p[14] + p[15]


def _step(task: dict[str, Any]) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    case = task["case"]
    layers = case["layers"]
    xs, ys = ([jnp.asarray(v) for v in part] for part in batches(case, task.get("batches", 64)))
    p = [tuple(jnp.asarray(v) for v in values) for values in weights(case)]
    state = [
        (jnp.zeros(values[0].shape), jnp.ones(values[0].shape)) if layer[0] == "norm" else ()
        for layer, values in zip(layers, p, strict=True)
    ]
    key = jax.random.key(0, impl="rbg")
    zeros: Any = lambda: jax.tree.map(jnp.zeros_like, p)  # noqa: E731

    def loss_of(p: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        z, new = _forward(layers, p, state, x, key)
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

    jit: Any = jax.jit  # without types
    run = jit(update, donate_argnums=0)
    kept: list[Any] = [(p, zeros(), zeros(), state, jnp.int32(0))]
    count = 0

    def step() -> float:
        nonlocal count
        kept[0], loss = run(kept[0], xs[count % len(xs)], ys[count % len(ys)])
        count += 1
        return float(loss)

    return step


_BUILDERS: dict[str, Callable[[dict[str, Any]], Callable[[], Any]]] = {"step": _step}
