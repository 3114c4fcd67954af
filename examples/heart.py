"""Heart disease: 29 inputs, 16 hidden units, one output; five times five-fold cross-validation with early stopping.

Inside each fold 15 % of the training rows decide when to stop; the held-out fold is scored once. (The strength of the
L2 penalty was chosen among 0, 0.001, 0.01 and 0.03 by this same cross-validation.)

    python examples/heart.py
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

import deepbabysit as db


def network() -> db.Model:
    """Build the network: 497 parameters."""
    penalty = db.regularizers.l2(0.03)
    inputs = db.Input(shape=29)
    hidden = db.layers.Dense(16, activation="relu", kernel_regularizer=penalty)(inputs)
    return db.Model(inputs, db.layers.Dense(1, activation="sigmoid", kernel_regularizer=penalty)(hidden))


def folds(labels: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cut the rows into stratified folds."""
    parts: list[list[int]] = [[] for _ in range(count)]
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        for place, row in enumerate(rows):
            parts[place % count].append(int(row))
    return [np.array(sorted(part)) for part in parts]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs in the right order, ties one half."""
    yes, no = scores[labels == 1], scores[labels == 0]
    difference = yes[:, None] - no[None, :]
    return float(np.mean(difference > 0) + 0.5 * np.mean(difference == 0))


def one_fold(x: np.ndarray, y: np.ndarray, numeric: list[int], held: np.ndarray, seed: int) -> tuple[float, float]:
    """Train without the held rows; returns (AUC, accuracy) on them."""
    rest = np.setdiff1d(np.arange(len(y)), held)
    (tx, ty), (vx, vy) = db.data.split(x[rest], y[rest], fractions=(0.85, 0.15), seed=seed)
    scale = db.data.ZScore(columns=numeric).fit(tx)
    db.set_seed(seed)
    model = network()
    model.compile(db.optimizers.Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(
        scale.transform(tx), ty.reshape(-1, 1).astype(np.float32), batch_size=32, epochs=300, seed=seed, verbose=0,
        validation_data=(scale.transform(vx), vy.reshape(-1, 1).astype(np.float32)),
        callbacks=[db.callbacks.EarlyStopping(monitor="val_loss", patience=20)],
    )
    scores = model.predict(scale.transform(x[held]))[:, 0]
    return auc(y[held], scores), float(np.mean((scores > 0.5) == y[held]))


def main() -> None:
    """Run the cross-validation and print mean and spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    data = db.datasets.heart()
    x, y = np.asarray(data.x), np.asarray(data.y)
    numeric = list(data.schema["numeric"])
    print(f"{len(y)} rows, {x.shape[1]} inputs, {network().count_params()} parameters")
    results = []
    for repeat in range(options.repeats):
        for number, held in enumerate(folds(y, 5, np.random.default_rng(repeat))):
            results.append(one_fold(x, y, numeric, held, seed=5 * repeat + number))
    areas, accuracies = zip(*results, strict=True)
    print(f"AUC      {statistics.fmean(areas):.3f} +- {statistics.stdev(areas):.3f}")
    print(f"accuracy {statistics.fmean(accuracies):.3f} +- {statistics.stdev(accuracies):.3f}")
    print(f"always no: accuracy {np.mean(y == 0):.3f}")


if __name__ == "__main__":
    main()
