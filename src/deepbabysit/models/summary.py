"""The table that `summary` prints."""

from __future__ import annotations

from deepbabysit.kernels.shapes import show_shape
from deepbabysit.layers.layer import Layer


def summarize(model: Layer) -> str:
    """Return a table of the layers: path, kind, output shape, parameters; and totals.

    >>> import deepbabysit as db
    >>> text = db.Sequential([db.layers.Dense(2, input_shape=3)]).summary(print_fn=lambda text: None)
    >>> text.splitlines()[-1].strip()
    'Parameters: 8 (trainable 8, frozen 0, state 0)'
    """
    rows = [("layer", "kind", "output", "parameters")]
    for path, layer in model.walk(""):
        if layer is model:
            continue
        size = sum(value.size for _, value in layer.own())
        depth = path.count(".")
        shape = show_shape(layer.output_shape) if layer.output_shape is not None else "?"
        rows.append(("  " * depth + path, type(layer).__name__, shape, f"{size:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([c.ljust(w) for c, w in zip(row[:3], widths[:3], strict=True)] + [row[3].rjust(widths[3])])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    trainable = model.count_params(trainable_only=True)
    total = model.count_params()
    state = sum(value.size for _, value in model.named_states())
    lines.append("-" * len(lines[1]))
    lines.append(f"Parameters: {total:,} (trainable {trainable:,}, frozen {total - trainable:,}, state {state:,})")
    return "\n".join(line.rstrip() for line in lines)
