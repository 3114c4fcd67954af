"""What other libraries call methods of tensors, and how it is written here."""

from __future__ import annotations

from collections.abc import Iterable

from deepbabysit.errors import nearest

# Only for messages: these spellings differ in meaning or have no method here.
_ELSEWHERE = {
    "view": "x.reshape(shape)",
    "permute": "x.transpose(axes)",
    "unsqueeze": "db.ops.expand_dims(x, axis) or x[:, None]",
    "clamp": "db.ops.clip(x, low, high)",
    "clip": "db.ops.clip(x, low, high)",
    "dim": "x.ndim",
    "float": "x.astype('float32')",
    "double": "x.astype('float64')",
    "long": "x.astype('int64')",
    "int": "x.astype('int64')",
    "clone": "nothing: tensors never change",
    "copy": "nothing: tensors never change",
    "contiguous": "nothing: operations take any layout",
    "requires_grad_": "db.tensor(values, requires_grad=True)",
    "zero_": "parameter.grad = None, or optimizer.zero_grad()",
    "data_ptr": "x.data",
    "flatten": "x.reshape(-1)",
    "ravel": "x.reshape(-1)",
    "pow": "x ** exponent",
    "matmul": "x @ y",
    "dot": "x @ y",
    "mm": "x @ y",
    "cuda": "x.to('cuda')",
}


def absent(name: str, methods: Iterable[str], operations: Iterable[str]) -> str:
    """Compose the message for an attribute that tensors do not have.

    >>> absent("view", ["reshape"], [])
    "a tensor has no attribute 'view'; write x.reshape(shape)"
    >>> absent("softmax", ["sum"], ["softmax"])
    "a tensor has no attribute 'softmax'; write db.ops.softmax(x)"
    """
    told = f"a tensor has no attribute {name!r}"
    if name in _ELSEWHERE:
        return f"{told}; write {_ELSEWHERE[name]}"
    if name in operations:
        return f"{told}; write db.ops.{name}(x)"
    close = nearest(name, [m for m in methods if not m.startswith("_")])
    return f"{told}; did you mean {' or '.join(close)}?" if close else told
