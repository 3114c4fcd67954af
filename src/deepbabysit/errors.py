"""How the package speaks of wrong input: nearest names, foreign spellings, missing extras.

Every message says what was expected, what came, where, and one fix. Exceptions stay the builtin types
(``ValueError``, ``TypeError``, ``KeyError``, ``ImportError``), so that existing ``except`` clauses work.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import wraps
from types import ModuleType
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# What other libraries call our arguments. Only spellings that mean exactly the same thing stand here.
FOREIGN_SPELLINGS: dict[str, str] = {
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "n_epoch": "epochs",
    "n_epochs": "epochs",
    "nb_epoch": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "bs": "batch_size",
    "batchsize": "batch_size",
    "out_features": "units",
    "output_dim": "units",
    "bias": "use_bias",
    "in_features": "input_shape",
    "input_dim": "input_shape",
    "kernel_init": "kernel_initializer",
    "init": "kernel_initializer",
    "p": "rate",
    "dropout_rate": "rate",
    "valid_loss": "val_loss",
    "validation_loss": "val_loss",
    "val_acc": "val_accuracy",
    "valid_acc": "val_accuracy",
    "acc": "accuracy",
    "betas": "beta_1 and beta_2",
    "weight_decay_rate": "weight_decay",
    "num_classes": "units",
    "gradient_accumulation_steps": "accumulate",
    "accumulate_grad_batches": "accumulate",
    "clipnorm": "clip_norm",
    "clipvalue": "clip_value",
    "restore_best_weights": "restore_best",
    "eps": "epsilon",
    "out_channels": "filters",
    "stride": "strides",
    "dilation": "dilation_rate",
    "num_heads": "heads",
    "n_heads": "heads",
    "negative_slope": "slope",
    "alpha": "slope",
    "hidden_size": "units",
    "num_embeddings": "input_dim",
    "embedding_dim": "output_dim",
}


def nearest(name: str, valid: Iterable[str], limit: int = 3) -> list[str]:
    """Return the valid names closest to a misspelt one, best first.

    A known foreign spelling comes first when what it means is valid here.

    >>> nearest("mean_sqared_error", ["mean_squared_error", "mae", "huber"])
    ['mean_squared_error']
    >>> nearest("lr", ["learning_rate", "momentum"])
    ['learning_rate']
    """
    import difflib  # imported here: a run without mistakes never needs it

    names = list(dict.fromkeys(valid))
    found: list[str] = []
    meant = FOREIGN_SPELLINGS.get(name) or FOREIGN_SPELLINGS.get(name.lower())
    if meant in names:
        found.append(meant)
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(_fold(candidate), candidate)
    for close in difflib.get_close_matches(_fold(name), folded, n=limit, cutoff=0.6):
        if folded[close] not in found:
            found.append(folded[close])
    return found[:limit]


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """Compose the message for a name that does not exist, with the nearest valid ones.

    >>> print(unknown("loss", "mean_sqared_error", ["mse", "mean_squared_error"]))
    unknown loss 'mean_sqared_error'; did you mean 'mean_squared_error'? Valid: mean_squared_error, mse
    """
    names = sorted(set(valid))
    close = nearest(name, names) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"unknown {kind} {name!r}; {hint}Valid: {', '.join(names)}"


def unknown_keywords(where: str, given: Iterable[str], valid: Iterable[str]) -> str:
    """Compose the message for keyword arguments that a call does not have.

    >>> print(unknown_keywords("Dense", ["actvation"], ["units", "activation"]))
    Dense got an unknown keyword 'actvation'; did you mean 'activation'? Valid: activation, units
    """
    names = sorted(set(valid))
    parts = []
    for name in given:
        close = nearest(name, names)
        hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ";"
        parts.append(f"{where} got an unknown keyword {name!r}{hint}")
    return "\n".join(parts) + f" Valid: {', '.join(names)}"


def require(module: str, extra: str) -> ModuleType:
    """Import a module that belongs to an extra, or raise one line that says how to install it.

    >>> require("math", "data").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{package} is needed for this and could not be imported ({error}); install it with: '
            f'pip install "deepbabysit[{extra}]"'
        ) from error


def keywords_named(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make a function answer an unknown keyword with the nearest ones it has.

    >>> @keywords_named
    ... def fit(x, epochs=1):
    ...     return epochs
    >>> fit(0, epoch=3)
    Traceback (most recent call last):
    TypeError: fit got an unknown keyword 'epoch'; did you mean 'epochs'? Valid: epochs, x
    """
    code = function.__code__
    valid = [n for n in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if n != "self"]

    @wraps(function)
    def checked(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Result:
        foreign = [name for name in keywords if name not in valid]
        if foreign:
            raise TypeError(unknown_keywords(function.__name__, foreign, valid))
        return function(*arguments, **keywords)

    return checked
