"""Reproduce a published table of MNIST test accuracies for dense networks.

Each row fixes layers, sizes, the kind of loss and (row 6) an L1 term; optimizer, rate, schedule, dropout and epochs are
free and chosen on a validation part of the training set. The 60000 training images are split into 50000 for training
and 10000 for validation (stratified, by seed); the weights with the best validation accuracy are scored once on the
10000 test images.

    python examples/mnist_table.py                  # rows 1 to 6 and the worked example, three seeds each
    python examples/mnist_table.py --rows 5 --seeds 1
    python examples/mnist_table.py --json table.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import deepbabysit as db


@dataclass(frozen=True)
class Row:
    """One row of the table and how it is trained here."""

    name: str
    hidden: tuple[int, ...]
    loss: str
    published: float | None
    epochs: int
    rate: float = 1e-3
    batch: int = 128
    dropout: float = 0.0
    input_dropout: float = 0.0
    l1: float = 0.0
    decay: bool = True  # cosine decay of the rate to zero over all epochs
    patience: int = 0


ROWS = {
    "1": Row("2 layers, 300, MSE", (300,), "mse", 95.3, 12),
    "2": Row("2 layers, 100, MSE", (100,), "mse", 95.5, 12),
    "3": Row("3 layers, 300-100, MSE", (300, 100), "mse", 96.95, 12),
    "4": Row("3 layers, 500-150, MSE", (500, 150), "mse", 97.05, 12),
    "5": Row("2 layers, 800, cross-entropy", (800,), "cross_entropy", 98.4, 30, dropout=0.5, input_dropout=0.1),
    "6": Row("3 layers, 500-300, cross-entropy + L1", (500, 300), "cross_entropy", 98.47, 40, dropout=0.35,
             input_dropout=0.1, l1=1e-6),
    "worked": Row("worked example as printed: 512-256, rate 0.01, L1 0.001, dropout 0.1", (512, 256), "cross_entropy",
                  None, 60, rate=1e-2, batch=64, dropout=0.1, l1=1e-3, decay=False, patience=10),
}


def network(row: Row) -> db.Sequential:
    """Build the network of a row."""
    penalty = db.regularizers.l1(row.l1) if row.l1 else None
    layers: list[Any] = [db.Input(shape=784)]
    if row.input_dropout:
        layers.append(db.layers.Dropout(row.input_dropout))
    for units in row.hidden:
        layers.append(db.layers.Dense(units, activation="relu", kernel_regularizer=penalty))  # Xavier by default
        if row.dropout:
            layers.append(db.layers.Dropout(row.dropout))
    layers.append(db.layers.Dense(10, activation="softmax", kernel_regularizer=penalty))
    return db.Sequential(layers)


def run(row: Row, seed: int, verbose: int, limit: int | None = None) -> float:
    """Train once; returns the test accuracy in percent."""
    data = db.datasets.mnist()
    x = (data.x.reshape(-1, 784) / np.float32(255)).astype(np.float32)
    test = (data.x_test.reshape(-1, 784) / np.float32(255)).astype(np.float32)
    one_hot = np.eye(10, dtype=np.float32)[data.y]
    parts = db.data.split(x, one_hot, fractions=(50_000, 10_000), stratify=True, seed=seed)
    (tx, ty), (vx, vy) = parts
    if limit is not None:
        tx, ty = tx[:limit], ty[:limit]
    db.set_seed(seed)
    model = network(row)
    steps = -(-len(tx) // row.batch) * row.epochs
    rate: Any = db.schedules.cosine(row.rate, steps) if row.decay else row.rate
    loss = "mse" if row.loss == "mse" else "categorical_crossentropy"
    model.compile(db.optimizers.Adam(rate), loss, metrics=["accuracy"])
    stop = db.callbacks.EarlyStopping(monitor="val_accuracy", mode="max", patience=row.patience or row.epochs)
    model.fit(tx, ty, batch_size=row.batch, epochs=row.epochs, validation_data=(vx, vy), callbacks=[stop], seed=seed,
              verbose=verbose)
    return 100.0 * model.evaluate(test, np.eye(10, dtype=np.float32)[data.y_test])["accuracy"]


def main() -> None:
    """Run the rows that are asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    results = []
    print(f"{'row':7} {'network':72} {'published':>9} {'mean':>7} {'runs':24} {'seconds/run':>11}")
    for key in options.rows:
        row = ROWS[key]
        start = time.perf_counter()
        scores = [run(row, seed, options.verbose) for seed in range(options.seeds)]
        seconds = (time.perf_counter() - start) / options.seeds
        mean = statistics.fmean(scores)
        results.append({"row": key, "network": row.name, "published": row.published, "mean": mean, "runs": scores,
                        "seconds_per_run": seconds})
        runs = ", ".join(f"{s:.2f}" for s in scores)
        published = f"{row.published:.2f}" if row.published else "90..93"
        print(f"{key:7} {row.name:72} {published:>9} {mean:7.2f} {runs:24} {seconds:11.0f}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
