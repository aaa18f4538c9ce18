"""Pairs of a category and a number on the bins of the *real* table, as SDMetrics' ``ContingencySimilarity`` has them.

SDMetrics' quality report cuts a number into ten bins on each table's own range. One outlier then moves all rows into
other bins, and a column that was shifted scores as before. Its metric alone cuts both tables on the real range: the
first and the last bin are open, missing values are a bin of their own. About 200,000 rows of a table are counted,
chosen by hash.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data.coding import Encoded
from shardsynth.summaries.pair_tables import packed, unpacked
from shardsynth.summaries.ranges import ScoreRanges
from shardsynth.summaries.score_tables import ScoreTables

Integers = npt.NDArray[np.int64]

#: Codes of a number: ten bins, and missing values.
NUMBER_CODES = 11
#: About how many rows are counted.
ROWS = 200_000
_BLOCK = 8192


class RealBins:
    """Tables of every pair of a category and a number of one table, on the ranges of another.

    Args:
        tables: Score tables of the same table; they say how categories are coded.
        ranges: Ranges of the real table.

    Attributes:
        ranges: Likewise.
        vector: int64, the tables of one category with all numbers side by side, category after category.
    """

    def __init__(self, tables: ScoreTables, ranges: ScoreRanges) -> None:
        self._tables, self.ranges = tables, ranges
        self._categories = [i for i, codes in enumerate(tables.score_codes) if codes is not None]
        self._numbers = tables.numbers
        columns = tables.coder.columns
        self._edges = [ranges.by_name[columns[i].name].edges() for i in self._numbers]
        self._width = NUMBER_CODES * len(self._numbers)
        sizes = [int(codes.max()) + 1 for codes in tables.score_codes if codes is not None]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64) * self._width]).astype(np.int64)
        self.vector: Integers = np.zeros(int(self._starts[-1]), np.int64)

    def update(self, encoded: Encoded, chosen: npt.NDArray[np.bool_]) -> None:
        """Count the rows of a batch that are chosen, bool[rows]."""
        rows = np.flatnonzero(chosen)
        if not (self._width and len(self.vector) and len(rows)):
            return
        values, missing = self._tables.native_numbers(encoded)
        numbers = np.empty((len(self._numbers), len(rows)), np.int64)
        for k, edges in enumerate(self._edges):
            absent = missing[k]
            codes = (
                0 if edges is None else np.searchsorted(edges[1:-1], values[k][rows].astype(np.float64), side="right")
            )
            numbers[k] = codes if absent is None else np.where(absent[rows], NUMBER_CODES - 1, codes)
            numbers[k] += NUMBER_CODES * k
        for first in range(0, len(rows), _BLOCK):
            part = numbers[:, first : first + _BLOCK]
            for place, i in enumerate(self._categories):
                score_codes = self._tables.score_codes[i]
                assert score_codes is not None
                codes = score_codes[encoded.codes[i][rows[first : first + _BLOCK]]].astype(np.int64)
                cells = self.vector[self._starts[place] : self._starts[place + 1]]
                cells += np.bincount((codes * self._width + part).ravel(), minlength=len(cells))

    def pair(self, category: int, number: int) -> Integers:
        """Table of two columns by their numbers in the coder, int64[codes of the category, 11]."""
        place, k = self._categories.index(category), self._numbers.index(number)
        table = self.vector[self._starts[place] : self._starts[place + 1]].reshape(-1, self._width)
        return table[:, NUMBER_CODES * k : NUMBER_CODES * (k + 1)]

    def similarity(self, synthetic: RealBins, category: int, number: int) -> float:
        """SDMetrics' ``ContingencySimilarity`` of this real table and a synthetic one; NaN where one has no rows.

        Args:
            synthetic: The same of the synthetic table.
            category: Number of the category in the coder.
            number: Of the number.
        """
        real, other = self.pair(category, number), synthetic.pair(category, number)
        if not (self.cut(number) and real.sum() and other.sum()):
            return float("nan")
        return float(1.0 - 0.5 * np.abs(real / real.sum() - other / other.sum()).sum())

    def cut(self, number: int) -> bool:
        """Whether NumPy can cut the real range of a number into bins."""
        return self._edges[self._numbers.index(number)] is not None

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive, by name."""
        return packed(self.vector, "real_bins")

    def from_arrays(self, arrays: dict[str, Any]) -> None:
        """Take in the counts that ``to_arrays`` gave."""
        self.vector = unpacked(arrays, "real_bins")
