"""``deepbabysit train``: from data to a scored, saved model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit import optimizers, regularizers
from deepbabysit.cli import tasks
from deepbabysit.cli.usage import UsageError
from deepbabysit.data.normalizers import MinMax, ZScore
from deepbabysit.errors import unknown
from deepbabysit.layers.basic import Dropout
from deepbabysit.layers.dense import Dense
from deepbabysit.models.model import Sequential
from deepbabysit.models.writing import write_model
from deepbabysit.runtime.random import set_seed
from deepbabysit.training.callbacks import EarlyStopping

REMAIN = 3  # exit status: findings of severity "error" remain
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu")  # He's initialization is derived for these


@dataclass(slots=True)
class Prepared:
    """A task made ready: a compiled model, and the parts of the data as it takes them.

    Attributes:
        parts: "train", "validation", "test" -> (x, y), x normalized, y in its own unit.
        scale: of a regression target, or None.
    """

    task: tasks.Task
    settings: tasks.Settings
    normalizer: MinMax | ZScore | None
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    scale: _TargetScale | None
    model: Sequential

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, y) of a part as the model learns them."""
        x, y = self.parts[name]
        return x, y if self.scale is None else self.scale.forward(y)


def prepare(options: argparse.Namespace, say: Callable[[str], Any]) -> Prepared:
    """Read the data, normalize them and compile a model for them, as the command line says."""
    task = _task(options)
    settings = tasks.change(task.settings, options.settings)
    for line in task.text:
        say(line)
    set_seed(options.seed)
    normalizer = _normalizer(settings.normalize, task)
    parts = {
        name: (part[0] if normalizer is None else normalizer.transform(part[0]), targets(task, part[1]))
        for name, part in (("train", task.train), ("validation", task.validation), ("test", task.test))
    }
    scale = _TargetScale(parts["train"][1]) if task.kind == "regression" else None
    model = _network(task, settings)
    loss = {"binary": "binary_crossentropy", "multiclass": "cross_entropy", "regression": "mse"}[task.kind]
    metric = [] if task.kind == "regression" else ["accuracy"]
    model.compile(_optimizer(settings), loss, metrics=metric)
    say(
        f"network: {_describe(task, settings)}; loss {loss}; {model.count_params():,} parameters; "
        f"normalize {settings.normalize}"
    )
    return Prepared(task, settings, normalizer, parts, scale, model)


def train(options: argparse.Namespace) -> int:
    """Train, score and save; returns the exit status: 3 where findings of severity "error" remain."""
    if options.resume and options.out is None:
        raise UsageError("--resume goes on with the run in a folder: name it with --out DIR")
    ready = prepare(options, (lambda text: None) if options.quiet else print)
    task, settings, model = ready.task, ready.settings, ready.model
    folder = _folder(options.out, task.name)
    history = model.fit(
        *ready.part("train"), batch_size=settings.batch_size, epochs=settings.epochs,
        validation_data=ready.part("validation"),
        callbacks=[EarlyStopping(monitor="val_loss", patience=settings.patience)],
        device=options.device, seed=options.seed, verbose=0 if options.quiet else "auto", run_dir=folder,
        resume=options.resume,
    )
    scores = _score(task, model, ready.parts, ready.scale)
    path = write_model(
        folder / "model.dbs", model,
        extra={
            "data": task.name, "kind": task.kind, "classes": task.class_names, "schema": task.schema,
            "imputer": task.imputer,
            "normalizer": None if ready.normalizer is None else ready.normalizer.to_config(),
            "target_scale": None if ready.scale is None else ready.scale.config(), "settings": asdict(settings),
            "scores": scores,
        },
    )
    _report(task, scores)
    print(f"saved {path}")
    errors = [finding.code for finding in history.findings if finding.severity == "error"]
    if errors:
        print(f"errors remain: {', '.join(errors)}; see deepbabysit findings {folder}", file=sys.stderr)
    return REMAIN if errors else 0


def _task(options: argparse.Namespace) -> tasks.Task:
    path = Path(options.data)
    if path.suffix.lower() in (".csv", ".tsv", ".txt") or path.exists():
        if options.target is None:
            raise UsageError(f"{path} is a table: name the column to predict with --target COL")
        return tasks.table(path, options.target, options.categorical, options.missing, options.seed)
    if options.target is not None or options.categorical is not None or options.missing is not None:
        raise UsageError(
            f"--target, --categorical and --missing are for tables; {options.data!r} is the name of a data set"
        )
    return tasks.known(options.data, options.seed)


def _normalizer(kind: str, task: tasks.Task) -> MinMax | ZScore | None:
    """Return a normalizer fitted on the training part only."""
    if kind == "none":
        return None
    kinds: dict[str, type[MinMax] | type[ZScore]] = {"zscore": ZScore, "minmax": MinMax}
    if kind not in kinds:
        raise UsageError(unknown("setting normalize", kind, [*kinds, "none"]))
    made = kinds[kind](axis=None if task.image else 0, columns=task.numeric)
    made.fit(task.train[0])
    return made


def targets(task: tasks.Task, y: np.ndarray) -> np.ndarray:
    """Return targets as the last layer wants them: (N, 1) for one output, class numbers otherwise."""
    if task.kind == "multiclass":
        return y.astype(np.int64)
    return y.astype(np.float32).reshape(-1, 1)


class _TargetScale:
    """Mean and standard deviation of a regression target, from the training part."""

    def __init__(self, y: np.ndarray) -> None:
        self.mean = float(y.mean(dtype=np.float64))
        self.std = float(y.std(dtype=np.float64)) or 1.0

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Return the target as the network learns it."""
        return ((y - self.mean) / self.std).astype(np.float32)

    def back(self, y: np.ndarray) -> np.ndarray:
        """Return a prediction in the target's own unit."""
        return y * self.std + self.mean

    def config(self) -> dict[str, float]:
        """Return the numbers."""
        return {"mean": self.mean, "std": self.std}


def _network(task: tasks.Task, settings: tasks.Settings) -> Sequential:
    stack: list[Any] = []
    initializer = "he_normal" if settings.activation in RECTIFIERS else "glorot_uniform"
    penalty = regularizers.l2(settings.l2) if settings.l2 else None
    for number, units in enumerate(settings.hidden):
        first: dict[str, Any] = {"input_shape": task.train[0].shape[1:]} if number == 0 else {}
        stack.append(
            Dense(
                units, settings.activation, kernel_initializer=initializer, kernel_regularizer=penalty, **first
            )
        )
        if settings.dropout:
            stack.append(Dropout(settings.dropout))
    outputs = _outputs(task)
    last: dict[str, Any] = {} if stack else {"input_shape": task.train[0].shape[1:]}
    stack.append(
        Dense(outputs, "sigmoid" if task.kind == "binary" else None, kernel_regularizer=penalty, **last)
    )
    return Sequential(stack)


def _outputs(task: tasks.Task) -> int:
    if task.kind != "multiclass":
        return 1
    if task.class_names:
        return len(task.class_names)
    return int(max(part[1].max() for part in (task.train, task.validation, task.test))) + 1


def _optimizer(settings: tasks.Settings) -> Any:
    made = optimizers.get(settings.optimizer)
    made.learning_rate = settings.learning_rate
    return made


def _describe(task: tasks.Task, settings: tasks.Settings) -> str:
    sizes = [task.train[0].shape[1], *settings.hidden, _outputs(task)]
    return f"{'-'.join(map(str, sizes))} ({settings.activation}, dropout {settings.dropout:g})"


def _score(
    task: tasks.Task, model: Sequential, parts: dict[str, tuple[np.ndarray, np.ndarray]], scale: _TargetScale | None
) -> dict[str, float]:
    """Return the scores on the test part, and those of the dumbest answer: the commonest class, or the mean."""
    x, y = parts["test"]
    known = parts["train"][1]
    if scale is not None:
        prediction = scale.back(model.predict(x))
        error = prediction - y
        dumb = y - known.mean()
        return {
            "test_rmse": float(np.sqrt(np.mean(error**2))), "test_mae": float(np.mean(np.abs(error))),
            "test_r2": float(1.0 - np.sum(error**2) / np.sum((y - y.mean()) ** 2)),
            "baseline_rmse": float(np.sqrt(np.mean(dumb**2))), "baseline_mae": float(np.mean(np.abs(dumb))),
        }
    result = model.evaluate(x, y)
    values, counts = np.unique(known, return_counts=True)
    common = values[counts.argmax()]
    return {
        "test_loss": result["loss"], "test_accuracy": result["accuracy"],
        "baseline_accuracy": float(np.mean(y == common)), "baseline_class": float(common),
    }


def _report(task: tasks.Task, scores: dict[str, float]) -> None:
    rows = len(task.test[1])
    if task.kind == "regression":
        rmse, mae = (f"{scores[f'test_{name}']:.4g}" for name in ("rmse", "mae"))
        print(f"test ({rows} rows): RMSE {rmse}, MAE {mae}, R2 {scores['test_r2']:.3f}")
        rmse, mae = (f"{scores[f'baseline_{name}']:.4g}" for name in ("rmse", "mae"))
        print(f"baseline (always the training mean): RMSE {rmse}, MAE {mae}")
        return
    common = int(scores["baseline_class"])
    name = task.class_names[common] if task.class_names else common
    print(f"test ({rows} rows): accuracy {scores['test_accuracy']:.4f}, loss {scores['test_loss']:.4f}")
    print(f"baseline (always class {name}): accuracy {scores['baseline_accuracy']:.4f}")
    if scores["test_accuracy"] <= scores["baseline_accuracy"]:
        print("the network is not better than the baseline", file=sys.stderr)


def _folder(out: str | None, name: str) -> Path:
    """Return the run's own folder: the one that was named, or the first free one below runs/."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    for number in range(1, 100_000):
        folder = Path("runs") / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise OSError("there is no free folder name below runs/; name one with --out DIR")
