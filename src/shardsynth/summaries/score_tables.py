"""Counts that SDMetrics' scores need: contingency tables of pairs on SDMetrics' bins, and correlations.

Two categories, or a category and a number, are compared by contingency tables. A number is cut into ten bins of equal
width on its own table's range; missing values are counted with the maximum. Two numbers are compared by Pearson's r.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import Array, axis_of_native
from shardsynth.summaries.moments import Moments
from shardsynth.summaries.pair_tables import PairTables, packed, unpacked
from shardsynth.summaries.ranges import Range, ScoreRanges

if TYPE_CHECKING:
    from shardsynth.data.coding import ColumnCoder, Encoded, TableCoder

Codes = npt.NDArray[np.int16]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Codes of a number: SDMetrics' ten bins, and one for the maximum and for missing values.
NUMBER_CODES = 11
#: Most score codes of a category column.
CATEGORIES = 256
#: Most cells of all tables together; where there are more, category columns get fewer score codes.
_MOST_CELLS = 50_000_000
#: Widest range of integers whose bins are kept in a table.
_LOOKUP_RANGE = 1 << 17


class ScoreTables:
    """Score tables of one table on its own ranges.

    Attributes:
        coder: Codes of the columns.
        ranges: The table's ranges.
        numbers: Indices (in ``coder.columns``) of the numeric columns.
        place: Column name -> index in ``tables``, categories first. A column without any value has one code.
        tables: Tables of two categories, and of a category and a number; None above 500 columns.
        moments: Sums of products of the numeric columns.
        learned: Index in ``tables`` of each learned column.
        score_codes: Per category column, the score code of each fine code and of ``unseen``; None for a number.
    """

    def __init__(self, coder: TableCoder, ranges: ScoreRanges) -> None:
        self.coder = coder
        self.ranges = ranges
        self.numbers = [i for i, c in enumerate(coder.columns) if not c.is_category]
        scored = [c for c in coder.table if c.name in coder.index or c.role == "empty"]
        names = [c.name for c in scored if is_discrete(c)]
        leaders = len(names)
        names += [c.name for c in scored if not is_discrete(c)]
        self.place = {name: k for k, name in enumerate(names)}
        self.learned = [self.place[c.name] for c in coder.columns]
        most = CATEGORIES
        while True:
            self.score_codes = [_score_codes(c, most) if c.is_category else None for c in coder.columns]
            sizes = [self._size(name) for name in names]
            later = np.cumsum(sizes[::-1])[::-1]
            cells = sum(sizes[k] * int(later[k] - sizes[k]) for k in range(leaders))
            if cells <= _MOST_CELLS or most <= 8:
                break
            most //= 2
        self.tables = None if coder.wide else PairTables(sizes, leaders)
        self._scales = [None if c.is_category else _Bins(ranges.by_name[c.name]) for c in coder.columns]
        self.moments = Moments([ranges.by_name[coder.columns[i].name] for i in self.numbers])
        self._waiting: list[npt.NDArray[np.int16]] = []

    def _size(self, name: str) -> int:
        if name not in self.coder.index:
            return 1
        codes = self.score_codes[self.coder.index[name]]
        return NUMBER_CODES if codes is None else int(codes.max()) + 1

    def update(self, encoded: Encoded) -> None:
        """Count a batch."""
        numbers, missing = self.native_numbers(encoded)
        self.moments.add(numbers, missing)
        if self.tables is None:
            return
        self._waiting.append(self._codes(encoded, numbers, missing))
        if sum(c.shape[1] for c in self._waiting) >= 1 << 16:
            self.settle()

    def codes(self, encoded: Encoded) -> npt.NDArray[np.int16]:
        """Score codes of a batch, int16[columns of ``place``, rows]."""
        return self._codes(encoded, *self.native_numbers(encoded))

    def native_numbers(self, encoded: Encoded) -> tuple[list[Array], list[Mask | None]]:
        """Values of the columns ``numbers`` of a batch as SDMetrics compares them, and which are missing."""
        pairs = [encoded.native[i] for i in self.numbers]
        values = [p[0] for p in pairs if p is not None]
        missing = [encoded.missing(i) for i in self.numbers]
        types = [self.coder.columns[i].column.value_type for i in self.numbers]
        numbers = [axis_of_native(v, t) if pa.types.is_decimal(t) else v for v, t in zip(values, types)]
        return numbers, missing

    def _codes(self, encoded: Encoded, numbers: list[Array], missing: list[Mask | None]) -> npt.NDArray[np.int16]:
        codes = np.zeros((len(self.place), encoded.rows), np.int16)
        for k, i in enumerate(self.numbers):
            bins = self._scales[i]
            assert bins is not None
            codes[self.learned[i]] = bins.codes(numbers[k], missing[k])
        for i, score_codes in enumerate(self.score_codes):
            if score_codes is not None:
                codes[self.learned[i]] = score_codes[encoded.codes[i]]
        return codes

    def settle(self) -> ScoreTables:
        """Count the codes that wait, and return itself."""
        if self._waiting and self.tables is not None:
            waiting, self._waiting = self._waiting, []
            self.tables.add(waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1))
        return self

    def merge(self, other: ScoreTables) -> None:
        """Add another part of the same table, with the same codes and ranges."""
        self.settle()
        other.settle()
        self.moments.merge(other.moments)
        if self.tables is not None and other.tables is not None:
            self.tables.vector += other.tables.vector

    def pair(self, i: int, j: int) -> Integers:
        """The contingency table of columns i and j, int64; at least one of them is a category.

        Raises:
            KeyError: The table has more than 500 columns.
        """
        tables = self.settle().tables
        if tables is None:
            raise KeyError("a table this wide has no contingency tables")
        return tables.table(self.learned[i], self.learned[j])

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive, by name."""
        arrays = self.moments.to_arrays()
        tables = self.settle().tables
        if tables is not None:
            arrays.update(packed(tables.vector, "score"))
        return arrays

    def from_arrays(self, arrays: dict[str, Any]) -> None:
        """Take in the counts that ``to_arrays`` gave."""
        self.moments.from_arrays(arrays)
        if self.tables is not None:
            self.tables.vector = unpacked(arrays, "score")


def is_discrete(column: Column) -> bool:
    """Whether SDMetrics compares the values of a column as categories."""
    return column.sdtype in ("categorical", "ordinal", "boolean")


def _score_codes(coder: ColumnCoder, most: int) -> Codes:
    """Score code of each fine code and of ``unseen``: most frequent categories have their own, all others share one."""
    values = coder.n_codes - 1
    codes = np.arange(values + 2, dtype=np.int16)
    if values > most:
        frequent = np.sort(np.argsort(-coder.mass[:-1], kind="stable")[: most - 1])
        codes[:values] = most - 1
        codes[frequent] = np.arange(most - 1)
        codes[values:] = [most, most + 1]
    return codes


class _Bins:
    """SDMetrics' bins of one column: codes 0 to 10."""

    def __init__(self, column_range: Range) -> None:
        self.edges = column_range.edges()
        self._low = column_range.low
        self._table: npt.NDArray[np.int16] | None = None
        is_integer = isinstance(column_range.low, int) and self.edges is not None
        if (
            is_integer
            and abs(column_range.low) < 2**52
            and abs(column_range.high) < 2**52
            and column_range.high - column_range.low < _LOOKUP_RANGE
        ):
            self._table = self._digitized(np.arange(column_range.low, column_range.high + 1))

    def _digitized(self, values: Array) -> npt.NDArray[np.int16]:
        assert self.edges is not None
        codes = np.searchsorted(self.edges, np.asarray(values, np.float64), side="right") - 1
        return np.asarray(np.clip(codes, 0, NUMBER_CODES - 1), np.int16)

    def codes(self, values: Array, missing: Mask | None) -> npt.NDArray[np.int16]:
        if self.edges is None:
            return np.zeros(len(values), np.int16)
        codes: npt.NDArray[np.int16]
        if self._table is not None and values.dtype.kind in "iu":
            codes = self._table[np.clip(values.astype(np.int64) - self._low, 0, len(self._table) - 1)]
        else:
            codes = self._digitized(values)
        if missing is not None:
            codes[missing] = NUMBER_CODES - 1
        return codes
