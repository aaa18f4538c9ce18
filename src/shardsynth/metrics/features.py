"""Rows as the matrix that scikit-learn's histogram gradient boosting reads: numbers, category codes, NaN."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from shardsynth.data.coding import Encoded, TableCoder

Floats = npt.NDArray[np.float64]

#: Categories of one column that the booster tells apart; rarer ones are one.
_MOST_CATEGORIES = 250
#: Rows that a booster is fitted on, at most.
MOST_ROWS = 20_000
#: Rows that are predicted in one call when columns are shuffled.
_AT_ONCE = 20_000


@dataclass(frozen=True)
class Features:
    """The columns that a classifier sees.

    Attributes:
        coder: Codes of the learned columns.
        chosen: Indices of the columns seen.
    """

    coder: TableCoder
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, coder: TableCoder, without: Collection[str] = ()) -> Features:
        """Every learned column but some."""
        return cls(coder, tuple(i for i, c in enumerate(coder.columns) if c.name not in without))

    @property
    def names(self) -> list[str]:
        """Names of the columns seen."""
        return [self.coder.columns[i].name for i in self.chosen]

    @property
    def categorical(self) -> npt.NDArray[np.bool_]:
        """bool[d]: which are categories."""
        return np.array([self.coder.columns[i].is_category for i in self.chosen], np.bool_)

    def encode(self, table: pa.Table | pa.RecordBatch) -> Floats:
        """float64[n, d]."""
        encoded = self.coder.encode(table)
        found = np.empty((encoded.rows, len(self.chosen)))
        for k, i in enumerate(self.chosen):
            axis = encoded.axis[i]
            found[:, k] = axis if axis is not None else self._category(i, encoded)
        return found

    def _category(self, i: int, encoded: Encoded) -> Floats:
        column = self.coder.columns[i]
        table = np.arange(column.n_codes + 1, dtype=np.float64)
        table[column.unseen] = column.missing
        if column.n_codes > _MOST_CATEGORIES:
            order = np.argsort(-column.mass[:-1], kind="stable")
            table[:] = _MOST_CATEGORIES
            table[order[:_MOST_CATEGORIES]] = np.arange(_MOST_CATEGORIES)
        table[column.missing] = np.nan
        found: Floats = table[encoded.codes[i]]
        return found


def booster(kind: str, categorical: npt.NDArray[np.bool_], seed: int) -> Any:
    """An unfitted booster, scikit-learn's defaults: ``classes`` or ``numbers``."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    chosen = HistGradientBoostingClassifier if kind == "classes" else HistGradientBoostingRegressor
    return chosen(categorical_features=categorical, random_state=seed, early_stopping=False)


def shuffle_losses(
    predict: Callable[[Floats], Floats],
    score: Callable[[Floats], float],
    x: Floats,
    generator: np.random.Generator,
    repeats: int = 1,
) -> Floats:
    """Breiman's permutation importance, float64[d]: what a score loses when one column is shuffled.

    Args:
        predict: Predictions, [n, ...], of a matrix.
        score: Score of predictions of the rows of ``x``.
        x: float64[n, d].
        generator: Shuffles.
        repeats: Shuffles of each column; the mean loss is given.
    """
    n, d = x.shape
    whole, lost = score(predict(x)), np.zeros(d)
    tasks = [k for k in range(d) for _ in range(repeats)]
    # Many shuffled copies in one call: most of a small prediction is what it costs to begin.
    for first in range(0, len(tasks), max(1, _AT_ONCE // n)):
        chosen = tasks[first : first + max(1, _AT_ONCE // n)]
        copies = np.repeat(x[None], len(chosen), axis=0)
        for place, k in enumerate(chosen):
            copies[place, :, k] = generator.permutation(x[:, k])
        predicted = predict(copies.reshape(-1, d))
        for place, k in enumerate(chosen):
            lost[k] += (whole - score(predicted[place * n : (place + 1) * n])) / repeats
    return lost


def picked(table: pa.Table, rows: int, generator: np.random.Generator) -> pa.Table:
    """At most so many rows, chosen at random."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(np.sort(generator.permutation(table.num_rows)[:rows])))
