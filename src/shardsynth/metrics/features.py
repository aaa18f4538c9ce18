"""Rows as a matrix of numbers, category codes and NaN, as scikit-learn's histogram gradient boosting reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from shardsynth.data.coding import Encoded, TableCoder

Floats = npt.NDArray[np.float64]

#: Categories of a column that the booster tells apart; all rarer ones together are one more.
_MOST_CATEGORIES = 250
#: Rows that a booster is fitted on, at most.
MOST_ROWS = 20_000
#: Columns that are shuffled, at most: those at which the splits of a booster gained most.
MOST_SHUFFLED = 40
#: Numbers (rows x columns) that a booster of a wide table is fitted on, at most; but so many rows in any case.
_MOST_NUMBERS, _FEWEST_ROWS = 500_000, 500
#: Rows per call of ``predict`` when columns are shuffled.
_AT_ONCE = 20_000


@dataclass(frozen=True)
class Features:
    """The columns that a booster sees, d in number.

    Attributes:
        coder: Codes of the learned columns.
        chosen: Indices of these columns in the coder.
    """

    coder: TableCoder
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, coder: TableCoder, without: Collection[str] = ()) -> Features:
        """All learned columns except those ``without`` names."""
        return cls(coder, tuple(i for i, c in enumerate(coder.columns) if c.name not in without))

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [self.coder.columns[i].name for i in self.chosen]

    @property
    def categorical(self) -> npt.NDArray[np.bool_]:
        """bool[d]: columns that are categories."""
        return np.array([self.coder.columns[i].is_category for i in self.chosen], np.bool_)

    def encode(self, table: pa.Table | pa.RecordBatch, *, others_missing: bool = True) -> Floats:
        """float64[n, d]: numbers and category codes, NaN where missing.

        Args:
            table: The rows.
            others_missing: Whether categories that the coder does not hold are missing; else they are one more.
        """
        encoded = self.coder.encode(table)
        matrix = np.empty((encoded.rows, len(self.chosen)))
        for k, i in enumerate(self.chosen):
            axis = encoded.axis[i]
            matrix[:, k] = axis if axis is not None else self._category(i, encoded, others_missing)
        return matrix

    def _category(self, i: int, encoded: Encoded, others_missing: bool) -> Floats:
        column = self.coder.columns[i]
        table = np.arange(column.n_codes + 1, dtype=np.float64)
        if others_missing:
            table[column.unseen] = column.missing
        if column.n_codes > _MOST_CATEGORIES:
            order = np.argsort(-column.mass[:-1], kind="stable")
            table[:] = _MOST_CATEGORIES
            table[order[:_MOST_CATEGORIES]] = np.arange(_MOST_CATEGORIES)
        table[column.missing] = np.nan
        categories: Floats = table[encoded.codes[i]]
        return categories


class Booster:
    """A booster with scikit-learn's defaults; a column without a value in the rows that it is fitted on is left out.

    scikit-learn 1.x stops at a column of NaN alone (``window shape cannot be larger than input array shape``), and a
    fold of a column with few values often is one.

    Args:
        kind: What it predicts: ``classes`` or ``numbers``.
        categorical: bool[d], columns that are categories.
        seed: Its random state.
    """

    def __init__(self, kind: str, categorical: npt.NDArray[np.bool_], seed: int) -> None:
        self.kind, self._categorical, self._seed = kind, categorical, seed
        self._model: Any = None
        self._used: npt.NDArray[np.bool_] = np.ones(len(categorical), np.bool_)

    def fit(self, x: Floats, y: npt.NDArray[Any]) -> Booster:
        """Fit on the rows ``x``, float64[n, d], and ``y``, [n]."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        self._used = np.asarray(~np.isnan(x).all(axis=0), np.bool_)
        if not self._used.any():
            self._used[:1], x = True, np.zeros_like(x)
        boosters = {"classes": HistGradientBoostingClassifier, "numbers": HistGradientBoostingRegressor}
        unfitted = boosters[self.kind](
            categorical_features=self._categorical[self._used], random_state=self._seed, early_stopping=False
        )
        self._model = unfitted.fit(x[:, self._used], y)
        return self

    @property
    def classes(self) -> npt.NDArray[Any]:
        """The classes, in the order of the columns of ``predict_proba``."""
        return np.asarray(self._model.classes_)

    @property
    def gains(self) -> Floats:
        """float64[d]: what the splits at each column gained in the fit, all trees together; 0 for an unused column."""
        place = np.flatnonzero(self._used)
        categorical = self._categorical[place]
        place = np.concatenate([place[categorical], place[~categorical]])  # scikit-learn's order of its columns
        gains = np.zeros(len(self._used))
        for trees in self._model._predictors:
            for tree in trees:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, place[splits["feature_idx"].astype(np.int64)], splits["gain"])
        return gains

    def predict(self, x: Floats) -> Floats:
        """Numbers, float64[n]."""
        return np.asarray(self._model.predict(x[:, self._used]), np.float64)

    def predict_proba(self, x: Floats) -> Floats:
        """Probabilities, float64[n, classes]."""
        return np.asarray(self._model.predict_proba(x[:, self._used]), np.float64)


def rows_for(columns: int, most: int) -> int:
    """Rows of a table of so many columns that a booster is fitted on, at most ``most``."""
    return min(most, max(_FEWEST_ROWS, _MOST_NUMBERS // max(columns, 1)))


def most_telling(gains: Floats) -> list[int]:
    """The columns to shuffle, by the gains of a booster."""
    order = np.argsort(-gains, kind="stable")[:MOST_SHUFFLED]
    return sorted(int(k) for k in order if gains[k] > 0)


def shuffle_losses(
    predict: Callable[[Floats], Floats],
    score: Callable[[Floats], float],
    x: Floats,
    generator: np.random.Generator,
    repeats: int = 1,
    columns: Sequence[int] | None = None,
) -> Floats:
    """Permutation importance (Breiman 2001), float64[d]: what a score loses when one column is shuffled.

    Args:
        predict: Predictions, [n, ...], of a matrix.
        score: Score of predictions of the rows of ``x``.
        x: float64[n, d].
        generator: Shuffles.
        repeats: Shuffles of each column; their losses are averaged.
        columns: The columns to shuffle; None: all. The others have 0.
    """
    n, d = x.shape
    full_score, lost = score(predict(x)), np.zeros(d)
    tasks = [k for k in (range(d) if columns is None else columns) for _ in range(repeats)]
    # Predict many shuffled copies in one call: a call costs much more than a few rows in it.
    for first in range(0, len(tasks), max(1, _AT_ONCE // n)):
        chosen = tasks[first : first + max(1, _AT_ONCE // n)]
        copies = np.repeat(x[None], len(chosen), axis=0)
        for place, k in enumerate(chosen):
            copies[place, :, k] = generator.permutation(x[:, k])
        predicted = predict(copies.reshape(-1, d))
        for place, k in enumerate(chosen):
            lost[k] += (full_score - score(predicted[place * n : (place + 1) * n])) / repeats
    return lost


def random_rows(table: pa.Table, rows: int, generator: np.random.Generator) -> pa.Table:
    """At most ``rows`` rows of a table, chosen at random, in their order."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(np.sort(generator.permutation(table.num_rows)[:rows])))
