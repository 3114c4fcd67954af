"""Single operations of JAX, each one jitted function that returns result and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepbabysit.bench.kernels import Kernel, differentiated, inputs, upstream

_AXES = ("NHWC", "HWIO", "NHWC")


def _operation(op: str, attrs: dict[str, Any]) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp
    from jax import lax, nn

    relu = attrs.get("activation") == "relu"
    key = jax.random.key(0, impl="rbg")
    conv: Any = lax.conv_general_dilated

    def linear(x: Any, k: Any, b: Any) -> Any:
        y = x @ k + b
        return nn.relu(y) if relu else y

    def dropout(x: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 1 - attrs["rate"], x.shape), x / (1 - attrs["rate"]), 0)

    def normal(x: Any, axes: Any, epsilon: float) -> Any:
        m, v = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return (x - m) * lax.rsqrt(v + epsilon)

    def lstm(z: Any, c: Any) -> Any:
        i, g, h, o = jnp.split(z, 4, 1)
        return nn.sigmoid(o) * jnp.tanh(nn.sigmoid(g) * c + nn.sigmoid(i) * jnp.tanh(h))

    def gru(zx: Any, zh: Any, h: Any) -> Any:
        (a, b, c), (d, e, n) = jnp.split(zx, 3, 1), jnp.split(zh, 3, 1)
        update = nn.sigmoid(a + d)
        return update * h + (1 - update) * jnp.tanh(c + nn.sigmoid(b + e) * n)

    def pool(x: Any, start: float, combine: Any, size: int = 2, stride: int = 2) -> Any:
        return lax.reduce_window(x, start, combine, (1, size, size, 1), (1, stride, stride, 1), "VALID")

    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        if attrs.get("causal"):
            scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
        return nn.softmax(scores, -1) @ v

    table: dict[str, Callable[..., Any]] = {
        "linear": linear,
        "relu": nn.relu, "sigmoid": nn.sigmoid, "tanh": jnp.tanh, "silu": nn.silu,
        "gelu": lambda x: nn.gelu(x, approximate=False),
        "leaky_relu": nn.leaky_relu, "elu": nn.elu, "softplus": nn.softplus, "erf": lax.erf,
        "softmax": lambda x: nn.softmax(x, -1),
        "log_softmax": lambda x: nn.log_softmax(x, -1),
        "logsumexp": lambda x: nn.logsumexp(x, attrs["axis"]),
        "max": lambda x: x.max(attrs["axis"]),
        "chain": lambda a, x, b: jnp.tanh(a * x + b) * x,
        "dropout": dropout,
        "softmax_cross_entropy": lambda x, y: -jnp.take_along_axis(nn.log_softmax(x), y[:, None], 1)[:, 0],
        "sigmoid_cross_entropy": lambda x, y: nn.relu(x) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))),
        "batch_norm": lambda x, g, b: normal(x, (0, 1, 2), 1e-3) * g + b,
        "layer_norm": lambda x, g, b: normal(x, -1, 1e-5) * g + b,
        "rms_norm": lambda x, g: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * g,
        "embedding": lambda t, i: jnp.take(t, i, axis=0),
        "conv": lambda x, k, b: conv(x, k, (1, 1), "SAME", dimension_numbers=_AXES) + b,
        "conv1d": lambda x, k, b: conv(x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")) + b,
        "depthwise": lambda x, k: conv(
            x, k.reshape(*k.shape[:2], 1, -1), (1, 1), "SAME", dimension_numbers=_AXES, feature_group_count=x.shape[-1]
        ),
        "transposed": lambda x, k: lax.conv_transpose(
            x, k, (2, 2), "VALID", dimension_numbers=_AXES, transpose_kernel=True
        ),
        "max_pool": lambda x: pool(x, -jnp.inf, lax.max, attrs["size"], attrs["stride"]),
        "avg_pool": lambda x: pool(x, 0.0, lax.add) / 4,
        "global_pool": lambda x: x.mean((1, 2)),
        "attention": attention,
        "lstm_cell": lstm,
        "gru_cell": gru,
        "sum": lambda x: x.sum(attrs["axis"]),
    }  # fmt: skip
    return table[op]


def build(kernel: Kernel) -> tuple[Callable[[], Any], list[float]]:
    """Return a function that runs it forward and backward once, and the mean magnitude of result and gradients."""
    import jax
    import jax.numpy as jnp

    jit: Any = jax.jit  # without types
    given = [jnp.asarray(a) for a in inputs(kernel)]
    if kernel["op"] == "optimizer":
        return _optimizer(kernel, given)
    places = differentiated(kernel)
    operation = _operation(kernel["op"], kernel["attrs"])

    def both(leaves: Any, rest: Any, g: Any) -> Any:
        def of_leaves(*values: Any) -> Any:
            own, others = iter(values), iter(rest)
            return operation(*[next(own if n in places else others) for n in range(len(given))])

        y, back = jax.vjp(of_leaves, *leaves)
        return (y, *back(g)) if leaves else (y,)

    leaves = tuple(given[n] for n in places)
    rest = tuple(a for n, a in enumerate(given) if n not in places)
    start = jnp.asarray(upstream(jax.eval_shape(operation, *given).shape, kernel["dtype"]))
    run = jit(both)
    check = [float(jnp.abs(v.astype(jnp.float32)).mean()) for v in run(leaves, rest, start)]
    return lambda: jax.block_until_ready(run(leaves, rest, start)) and None, check


def _optimizer(kernel: Kernel, given: list[Any]) -> tuple[Callable[[], Any], list[float]]:
    import jax
    import jax.numpy as jnp

    rule = kernel["attrs"]["rule"]
    gradients = [jnp.asarray(upstream(w.shape)) for w in given]

    def one(w: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
        if rule == "sgd":
            return w - 1e-3 * g, m, v
        if rule == "momentum":
            m = 0.9 * m + g
            return w - 1e-3 * m, m, v
        if rule == "rmsprop":
            v = 0.9 * v + 0.1 * g * g
            return w - 1e-3 * g / (jnp.sqrt(v) + 1e-8), m, v
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w * (1 - 1e-3 * 0.01) if rule == "adamw" else w
        return w - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

    def update(kept: Any, gradients: Any) -> Any:
        ws, ms, vs, t = kept
        new = [one(w, g, m, v, t + 1) for w, g, m, v in zip(ws, gradients, ms, vs, strict=True)]
        return [n[0] for n in new], [n[1] for n in new], [n[2] for n in new], t + 1

    jit: Any = jax.jit  # without types
    run = jit(update, donate_argnums=0)
    before = [w + 0 for w in given]  # what is donated is gone
    kept = [run((given, [w * 0 for w in given], [w * 0 for w in given], jnp.int32(0)), gradients)]
    check = [float(jnp.abs(w - b).mean()) for w, b in zip(kept[0][0], before, strict=True)]

    def step() -> None:
        kept[0] = run(kept[0], gradients)
        jax.block_until_ready(kept[0])

    return step, check
