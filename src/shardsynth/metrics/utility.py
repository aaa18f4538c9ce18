"""Can a classifier learn as much from synthetic rows? Train on synthetic, test on real (Esteban, Hyland, Raetsch 2017).

A gradient booster is fitted on real training rows, and another on the same number of synthetic rows. Both predict the
target of real rows that no model saw. A user loses the difference of their scores. They should also agree on which
columns matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import MOST_ROWS, Booster, Features, most_telling, random_rows, shuffle_losses
from shardsynth.metrics.intervals import auc
from shardsynth.metrics.persons import persons_of, resamples

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Bootstrap samples of the test rows, or of their persons.
_RESAMPLES = 200
#: Test rows in which columns are shuffled, and shuffles of each column.
_SHUFFLED, _REPEATS = 2_000, 3
#: A class with fewer test rows has no AUC in the mean.
_FEWEST = 5


@dataclass(frozen=True)
class Target:
    """The column that is predicted.

    Attributes:
        name: Its name.
        kind: ``classes`` or ``numbers``.
        index: Its index in the coder.
    """

    name: str
    kind: str
    index: int

    @classmethod
    def of(cls, coder: TableCoder, name: str) -> Target | None:
        """The target, or None if the column is not learned (an id, personal data, empty)."""
        index = coder.index.get(name)
        if index is None:
            return None
        return cls(name, "classes" if coder.columns[index].is_category else "numbers", index)

    def values(self, coder: TableCoder, table: pa.Table) -> Floats:
        """float64[n]: class codes or numbers, NaN where missing."""
        encoded, column = coder.encode(table), coder.columns[self.index]
        axis = encoded.axis[self.index]
        if axis is not None:
            return axis
        codes = encoded.codes[self.index]
        return np.where((codes == column.missing) | (codes == column.unseen), np.nan, codes.astype(np.float64))


def utility(
    coder: TableCoder, target: str, train: pa.Table, holdout: pa.Table, synthetic: pa.Table, seed: int
) -> dict[str, Any]:
    """Utility figures in the form of ``metrics/<model>.json``.

    Args:
        coder: Codes of the learned columns.
        target: Column to predict.
        train: Real training rows.
        holdout: Real rows to test on.
        synthetic: Synthetic rows.
        seed: Chooses the rows.

    Returns:
        Scores of both boosters, their ``gap`` with its 95 % interval over bootstrap samples of the test rows (or of
        their persons), and how far they agree on the ``importance`` of columns. Empty if the target cannot be learned
        or rows are too few.
    """
    predicted_column = Target.of(coder, target)
    if predicted_column is None:
        return {}
    generator = np.random.default_rng([seed, 0x75746C])
    features = Features.of(coder, without=[target])
    rows = min(MOST_ROWS, train.num_rows, synthetic.num_rows)
    sides = {
        name: _Side.of(coder, features, predicted_column, random_rows(table, size, generator))
        for name, table, size in (("real", train, rows), ("synthetic", synthetic, rows), ("test", holdout, MOST_ROWS))
    }
    test = sides["test"]
    if not features.chosen or len(test.y) < 20 or min(len(side.y) for side in sides.values()) < 20:
        return {}
    metric, score = _metric(predicted_column.kind, test.y)
    predictions, importances = {}, {}
    for name in ("real", "synthetic"):
        model = _fitted(predicted_column.kind, features, sides[name], seed)
        predictions[name] = _predict(model, test.x, test.y)
        importances[name] = _importance(model, test, score, np.random.default_rng([seed, 1]))
    scores = {name: score(predicted, test.y) for name, predicted in predictions.items()}
    draws = resamples(test.persons, len(test.y), _RESAMPLES, generator)
    gaps = np.array(
        [score(predictions["real"][d], test.y[d]) - score(predictions["synthetic"][d], test.y[d]) for d in draws]
    )
    return {
        "target": target,
        "metric": metric,
        "rows": {"trained": rows, "tested": len(test.y)},
        "train_real": scores["real"],
        "train_synthetic": scores["synthetic"],
        "guessing": 0.5 if predicted_column.kind == "classes" else 0.0,
        "gap": scores["real"] - scores["synthetic"],
        "gap_low": float(np.nanquantile(gaps, 0.025)),
        "gap_high": float(np.nanquantile(gaps, 0.975)),
        "importance": _agreement(features.names, importances["real"], importances["synthetic"]),
    }


@dataclass(frozen=True)
class _Side:
    """Rows with a known target."""

    x: Floats
    y: Floats
    persons: npt.NDArray[np.uint64] | None = None

    @classmethod
    def of(cls, coder: TableCoder, features: Features, target: Target, table: pa.Table) -> _Side:
        y = target.values(coder, table)
        persons, known = persons_of(table), ~np.isnan(y)
        return cls(features.encode(table)[known], y[known], None if persons is None else persons[known])


class _Constant:
    """A classifier fitted on rows of one class: it always predicts that class."""

    kind = "classes"

    def __init__(self, value: float) -> None:
        self.classes = np.array([value])

    def predict_proba(self, x: Floats) -> Floats:
        return np.ones((len(x), 1))


def _fitted(kind: str, features: Features, side: _Side, seed: int) -> Any:
    if kind == "classes" and len(np.unique(side.y)) < 2:
        return _Constant(float(side.y[0]))
    return Booster(kind, features.categorical, seed).fit(side.x, side.y)


def _predict(model: Any, x: Floats, y: Floats) -> Floats:
    """float64[n, classes in the test rows]: probabilities; float64[n, 1] for numbers."""
    if model.kind == "numbers":
        return np.asarray(model.predict(x), np.float64)[:, None]
    classes, predicted = np.unique(y), model.predict_proba(x)
    probabilities = np.zeros((len(x), len(classes)))
    for k, value in enumerate(model.classes):
        place = np.flatnonzero(classes == value)
        if len(place):
            probabilities[:, place[0]] = predicted[:, k]
    return probabilities


def _metric(kind: str, y: Floats) -> tuple[str, Callable[[Floats, Floats], float]]:
    """Name of the score, and the score of predictions and true values."""
    if kind == "numbers":
        return "R2", _r2
    classes = np.unique(y)
    frequent = [k for k, value in enumerate(classes) if (y == value).sum() >= _FEWEST]
    if len(classes) == 2:
        return "AUC", lambda p, t: auc(p[t == classes[1], 1], p[t == classes[0], 1])[0]

    def macro(predicted: Floats, truth: Floats) -> float:
        areas = [auc(predicted[truth == classes[k], k], predicted[truth != classes[k], k])[0] for k in frequent]
        return float(np.mean(areas)) if areas else 0.5

    return "AUC, mean over classes", macro


def _r2(predicted: Floats, truth: Floats) -> float:
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - predicted[:, 0]) ** 2).sum() / spread) if spread > 0 else float("nan")


def _importance(
    model: Any, test: _Side, score: Callable[[Floats, Floats], float], generator: np.random.Generator
) -> Floats:
    """float64[d]: what the score loses when a column of the test rows is shuffled."""
    many_columns = test.x.shape[1] > 100  # then fewer rows and shuffles, for speed
    chosen = generator.permutation(len(test.y))[: 500 if many_columns else _SHUFFLED]
    x, y = test.x[chosen], test.y[chosen]
    return shuffle_losses(
        lambda matrix: _predict(model, matrix, test.y),
        lambda predicted: score(predicted, y),
        x,
        generator,
        1 if many_columns else _REPEATS,
        most_telling(model.gains) if many_columns and hasattr(model, "gains") else None,
    )


def _agreement(names: list[str], real: Floats, synthetic: Floats) -> dict[str, Any]:
    """How far two boosters, fitted on real and on synthetic rows, agree on the importance of the columns."""
    from scipy.stats import spearmanr

    order = np.argsort(-real, kind="stable")[:10]
    constant = len(real) < 2 or np.ptp(real) == 0 or np.ptp(synthetic) == 0
    real_gains, synthetic_gains = np.maximum(real, 0.0), np.maximum(synthetic, 0.0)
    most = max(float(real_gains.sum()), float(synthetic_gains.sum()))
    return {
        # Ranks of columns that do not matter are noise. The overlap weighs columns by importance: 1 if both agree.
        "overlap": float(np.minimum(real_gains, synthetic_gains).sum() / most) if most > 0 else None,
        "spearman": None if constant else float(spearmanr(real, synthetic).statistic),
        "columns": [
            {"column": names[k], "real": float(real[k]), "synthetic": float(synthetic[k])} for k in order.tolist()
        ],
    }
