"""Attention over sequences (N, T, features), and the block that transformers are stacks of."""

from __future__ import annotations

from typing import Any, final

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.shapes import limits
from deepbabysit.layers.affine import positive_int
from deepbabysit.layers.basic import Dropout, drop
from deepbabysit.layers.checks import need_axes, refuse
from deepbabysit.layers.dense import Dense
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.normalization import LayerNorm
from deepbabysit.runtime.context import current

AXES = ("N", "T", "features")


@final
class MultiHeadAttention(Layer):
    """Attention of several heads: ``softmax(q k^T / sqrt(key_dim)) v`` in each, joined and projected.

    Vaswani et al., NIPS 2017.

    Arguments:
        heads: number of heads.
        key_dim: length of a query and a key in one head.
        value_dim: length of a value in one head; None takes `key_dim`.
        dropout: fraction of the attention weights that is dropped in training.
        use_bias: whether the four products have biases.
        output_dim: length of an output; None takes that of the queries.
        kernel_initializer, bias_initializer, kernel_regularizer: of the four products.

    Called as ``layer(x)`` (self attention) or ``layer(query, value, key=None, mask=None, use_causal_mask=False)``:
    query (N, T, a), value (N, S, b), key (N, S, c) or None for the value; mask is boolean, True where attention is
    allowed, of shape (N, T, S), (T, S) or (N, heads, T, S). Output (N, T, output_dim). Parameters: those of the Dense
    layers ``query``, ``key``, ``value``, ``output``.
    """

    def __init__(
        self,
        heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_dim: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        kind = "MultiHeadAttention"
        self.heads = positive_int(kind, "heads", heads)
        self.key_dim = positive_int(kind, "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else positive_int(kind, "value_dim", value_dim)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"{kind}: dropout is a fraction, at least 0 and below 1; got {dropout!r}")
        self.dropout = float(dropout)
        self.output_dim = None if output_dim is None else positive_int(kind, "output_dim", output_dim)
        self._settings = {
            "use_bias": use_bias, "kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer,
            "kernel_regularizer": kernel_regularizer,
        }
        self.query = Dense(self.heads * self.key_dim, **self._settings)
        self.key = Dense(self.heads * self.key_dim, **self._settings)
        self.value = Dense(self.heads * self.value_dim, **self._settings)
        self.output: Any = Dense(output_dim, **self._settings) if output_dim is not None else None

    def build(self, *inputs: Any) -> None:
        """Make the last product, whose width follows from the queries."""
        need_axes(self, inputs[0].shape, AXES)
        if self.output is None:
            self.output = Dense(inputs[0].shape[-1], **self._settings)
            self.adopt()

    def call(
        self, query: Tensor, value: Any = None, key: Any = None, mask: Any = None, use_causal_mask: bool = False
    ) -> Tensor:
        """Attend."""
        value = query if value is None else value
        key = value if key is None else key
        for tensor in (query, value, key):
            need_axes(self, tensor.shape, AXES)
        q = self._split(self.query(query), self.key_dim)
        k = self._split(self.key(key), self.key_dim)
        v = self._split(self.value(value), self.value_dim)
        allowed = None if mask is None else self._mask(mask, q, k)
        if self.dropout and current().training:
            y = self._with_dropout(q, k, v, allowed, use_causal_mask)
        elif allowed is None:
            y = ops.attention(q, k, v, causal=use_causal_mask)
        else:
            y = ops.attention(q, k, v, allowed, causal=use_causal_mask)
        y = ops.permute_dims(y, axes=(0, 2, 1, 3))
        return self.output(y.reshape((*query.shape[:2], self.heads * self.value_dim)))

    def _split(self, x: Tensor, width: int) -> Tensor:
        """Make (N, heads, T, width) of (N, T, heads * width)."""
        return ops.permute_dims(x.reshape((*x.shape[:2], self.heads, width)), axes=(0, 2, 1, 3))

    def _mask(self, mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
        n, heads, t, s = *q.shape[:3], k.shape[2]
        if mask.dtype.kind != "b":
            raise TypeError(
                f"layer {self.path} (MultiHeadAttention): expected a boolean mask, True where attention is allowed; "
                f"got {mask.dtype}. Compare first: mask > 0"
            )
        shape = mask.shape
        if len(shape) == 3:
            mask = mask.reshape((shape[0], 1, *shape[1:]))
        elif len(shape) == 2:
            mask = mask.reshape((1, 1, *shape))
        if len(mask.shape) != 4 or any(a not in (1, b) for a, b in zip(mask.shape, (n, heads, t, s), strict=True)):
            raise refuse(
                self, f"a mask (N={n}, T={t}, S={s}), (T, S) or (N, heads={heads}, T, S)", f"{list(shape)}",
                "A mask of keys (N, S) becomes mask[:, None, :]",
            )
        return mask

    def _with_dropout(self, q: Tensor, k: Tensor, v: Tensor, allowed: Any, causal: bool) -> Tensor:
        """Attend step by step, with dropout on the weights."""
        scores = ops.matmul(q * (1.0 / self.key_dim**0.5), ops.permute_dims(k, axes=(0, 1, 3, 2)))
        if causal:
            t, s = scores.shape[-2:]
            past = ops.arange(t).reshape((t, 1)) >= ops.arange(s).reshape((1, s))
            allowed = past.reshape((1, 1, t, s)) if allowed is None else ops.logical_and(allowed, past)
        if allowed is not None:
            scores = ops.where(allowed, scores, float(limits(scores.dtype).min))
        shares = ops.softmax(scores)
        if allowed is not None:
            shares = ops.where(allowed, shares, 0.0)  # a query that may see nothing gets 0
        return ops.matmul(drop(self, shares, self.dropout), v)


@final
class TransformerBlock(Layer):
    """One block of a transformer: self attention and a two-layer network, each with a residual and a normalization.

    With ``norm_first=True`` (pre-norm; Xiong et al., ICML 2020; trains without warm-up):
    ``x = x + attention(norm(x)); x = x + network(norm(x))``. With False (post-norm; Vaswani et al., NIPS 2017):
    ``x = norm(x + attention(x)); x = norm(x + network(x))``.

    Arguments:
        heads: number of heads.
        key_dim: length of a key in one head; None divides the features among the heads.
        units: width of the network's hidden layer; None takes four times the features.
        activation: of the network's hidden layer.
        dropout: rate after attention and network, and on the attention weights.
        norm_first: pre-norm or post-norm.
        causal: whether a position sees only itself and those before it.
        epsilon: of the normalizations.

    Input and output (N, T, features). Parameters: those of ``attention``, ``norm1``, ``norm2``, ``hidden``, ``output``.
    """

    def __init__(
        self,
        heads: int,
        key_dim: int | None = None,
        units: int | None = None,
        activation: Any = "gelu",
        dropout: float = 0.0,
        norm_first: bool = True,
        causal: bool = False,
        epsilon: float = 1e-5,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.heads = positive_int("TransformerBlock", "heads", heads)
        self.key_dim = key_dim
        self.units = units
        self.dropout = dropout
        self.norm_first = norm_first
        self.causal = causal
        self._activation = activation
        self.attention: Any = None
        self.norm1 = LayerNorm(epsilon)
        self.norm2 = LayerNorm(epsilon)
        self.hidden: Any = None
        self.output: Any = None
        self.drop = Dropout(dropout)

    def build(self, *inputs: Any) -> None:
        """Make the parts whose sizes follow from the features."""
        need_axes(self, inputs[0].shape, AXES)
        features = inputs[0].shape[-1]
        if self.key_dim is None and features % self.heads:
            raise refuse(
                self,
                f"features that {self.heads} heads divide",
                f"features={features}",
                "Choose key_dim, or other heads",
            )
        self.attention = MultiHeadAttention(self.heads, self.key_dim or features // self.heads, dropout=self.dropout)
        self.hidden = Dense(self.units or 4 * features, self._activation)
        self.output = Dense(features)
        self.adopt()

    def call(self, x: Tensor, mask: Any = None) -> Tensor:
        """Run the block."""
        if self.norm_first:
            x = x + self.drop(self._attend(self.norm1(x), mask))
            return x + self.drop(self.output(self.hidden(self.norm2(x))))
        x = self.norm1(x + self.drop(self._attend(x, mask)))
        return self.norm2(x + self.drop(self.output(self.hidden(x))))

    def _attend(self, x: Tensor, mask: Any) -> Tensor:
        return self.attention(x, mask=mask, use_causal_mask=self.causal)
