"""Gower distance between rows of mixed type: which of them are nearest.

Gower (1971): the mean over the columns of |x - y| / range for numbers and dates, and of 0 (equal) or 1 for categories.
Two missing values have distance 0, a missing and a present one 1. A number in a column with missing values is the point
(x/2, (1-x)/2, 0), and a missing one (0, 0, 1/2): the city-block distance of two such points is the rule above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.values import decoded
from shardsynth.metrics.nearest import Floats, Integers, Nearest, Points, nearest_points

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

#: Codes of a column of fewer than so many are compared as bytes.
_MOST_BYTES = 256


@dataclass(frozen=True)
class Space:
    """How rows of a table become points. The coder has d columns.

    Attributes:
        coder: Codes of the learned columns.
        low: float64[d], start of each number's range (0 for categories).
        width: float64[d], width of the range; 0 for a constant column.
        gaps: bool[d], numbers that are missing in some row.
        chosen: Indices of the columns that are compared.
    """

    coder: TableCoder
    low: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]
    gaps: npt.NDArray[np.bool_]
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, coder: TableCoder, references: Sequence[pa.Table], columns: Sequence[str] | None = None) -> Space:
        """The space in which the ranges are those of real tables.

        Args:
            coder: Codes of the columns. Others (ids, personal data, empty columns) are not compared.
            references: Real rows: the range of a number is that of all tables together.
            columns: Names of the columns to compare; None: all of the coder.
        """
        d = len(coder.columns)
        low, high = np.full(d, np.inf), np.full(d, -np.inf)
        gaps = np.zeros(d, np.bool_)
        gaps[coder.missing_columns] = True  # a sample of the references may have no gap where a synthetic row has one
        for table in references:
            encoded = coder.encode(table)
            for i, axis in enumerate(encoded.axis):
                if axis is None or not len(axis):
                    continue
                gaps[i] |= bool(np.isnan(axis).any())
                if not np.isnan(axis).all():
                    low[i], high[i] = min(low[i], float(np.nanmin(axis))), max(high[i], float(np.nanmax(axis)))
        known = np.isfinite(low)
        chosen = tuple(i for i, c in enumerate(coder.columns) if columns is None or c.name in columns)
        width = np.where(known, np.where(known, high, 0.0) - np.where(known, low, 0.0), 0.0)
        return cls(coder, np.where(known, low, 0.0), width, gaps, chosen)

    def only(self, columns: Sequence[int]) -> Space:
        """The same space with some of its columns, by index in the coder."""
        return Space(self.coder, self.low, self.width, self.gaps, tuple(columns))

    @property
    def columns(self) -> int:
        """Number of columns compared."""
        return len(self.chosen)

    def encode(self, table: pa.Table | pa.RecordBatch) -> Points:
        """Rows as points."""
        encoded = self.coder.encode(table)
        n = encoded.rows
        numbers: list[Floats] = []
        small: list[npt.NDArray[np.int16]] = []
        large: list[Integers] = []
        keys = np.zeros(n, np.uint64)
        for i in self.chosen:
            column, codes, axis = self.coder.columns[i], encoded.codes[i], encoded.axis[i]
            exact: npt.NDArray[Any]
            if axis is not None:
                exact = np.where(np.isnan(axis), np.nan, axis + 0.0).view(np.uint64)
                numbers += self._coordinates(i, axis)
            elif column.other:
                exact = _hashes(table.column(column.name))
                large.append(exact.view(np.int64))
            else:
                exact = codes.astype(np.int64).view(np.uint64)
                if column.n_codes < _MOST_BYTES:
                    small.append(codes)
                else:
                    large.append(codes.astype(np.int64))
            keys = _mixed(keys, exact)
        return Points(
            np.stack(numbers, axis=1).astype(np.float32) if numbers else np.zeros((n, 0), np.float32),
            np.stack(small, axis=1) if small else np.zeros((n, 0), np.int16),
            np.stack(large, axis=1) if large else np.zeros((n, 0), np.int64),
            keys,
        )

    def _coordinates(self, i: int, axis: npt.NDArray[np.float64]) -> list[Floats]:
        absent = np.isnan(axis)
        width = self.width[i]
        scaled = np.where(absent, 0.0, axis) - self.low[i]
        # In a constant column any other value has distance 1, as in a category.
        x = (scaled != 0).astype(np.float64) if width == 0 else np.clip(scaled / width, -1.0, 2.0)
        if not self.gaps[i]:  # no real row is missing here: a missing value is farther away than any value
            return [np.where(absent, 2.0, x).astype(np.float32)]
        parts = [np.where(absent, 0.0, x / 2), np.where(absent, 0.0, (1 - x) / 2), np.where(absent, 0.5, 0.0)]
        return [part.astype(np.float32) for part in parts]

    def nearest(self, queries: Points, references: Points, k: int = 1, *, same: bool = False) -> Nearest:
        """The ``k`` nearest references of each query.

        Args:
            queries: Rows whose neighbours are searched.
            references: Rows among which they are searched.
            k: Neighbours of each query.
            same: The queries are the references: a row is not its own neighbour.
        """
        return nearest_points(queries, references, self.columns, k, same=same)


def _mixed(keys: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Keys hashed with the values of one more column (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        x = (keys * np.uint64(0x9E3779B97F4A7C15)) ^ (values + np.uint64(0xD1B54A32D192ED03))
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


def _hashes(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Hash of each value of a text column; a missing value has the hash 1."""
    from pandas.util import hash_array

    plain = decoded(array)
    texts = plain if pa.types.is_binary(plain.type) else plain.cast(pa.string())
    values = texts.to_numpy(zero_copy_only=False).astype(object)
    absent = np.asarray(plain.is_null().to_numpy(zero_copy_only=False), np.bool_)
    values[absent] = ""
    hashes: npt.NDArray[np.uint64] = hash_array(values, categorize=True)
    return np.where(absent, np.uint64(1), hashes)
