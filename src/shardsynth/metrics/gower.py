"""Gower distance between rows of mixed type, and nearest records in flat memory, with tensors.

Gower (1971): the mean over the columns of |x - y| / range for numbers and dates, and of 0 (equal) or 1 for categories.
Two missing values have distance 0, a missing and a present one 1. The sum over the columns is computed in one step:
categories as a matrix product of indicators (the number of equal ones, exact in float32), numbers as a city-block
distance. A number in a column with missing values is the point (x/2, (1-x)/2, 0), and a missing one (0, 0, 1/2): the
city-block distance of two such points is the rule above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.values import decoded

if TYPE_CHECKING:
    import torch

    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: Rows compared at a time: 2 MiB of distances, which fit in the cache.
_QUERIES, _REFERENCES = 256, 2_048
#: Bytes of indicators of references that are in memory at a time.
_INDICATOR_BYTES = 1 << 26
#: A column with fewer codes than this has an indicator for each; others are compared code by code.
_MOST_INDICATORS = 256
#: Distances are rounded to multiples of this, so that sums that differ only in their last bits are ties.
STEP = 2.0**-20


@dataclass(frozen=True)
class Points:
    """Rows in the form in which they are compared, n in number.

    Attributes:
        numbers: float32[n, c], city-block coordinates.
        small: int16[n, a], codes of columns of few categories.
        large: int64[n, b], codes of columns of many categories.
        keys: uint64[n], hash of the exact values: equal rows have equal keys.
    """

    numbers: Floats
    small: npt.NDArray[np.int16]
    large: Integers
    keys: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: npt.NDArray[Any]) -> Points:
        """Some of the rows, by index or mask."""
        return Points(self.numbers[rows], self.small[rows], self.large[rows], self.keys[rows])


@dataclass(frozen=True)
class Nearest:
    """Nearest references of each query.

    Attributes:
        distance: float32[n, k], ascending; inf where there are fewer than k references.
        index: int64[n, k], indices of the references; -1 where there are fewer than k.
    """

    distance: Floats
    index: Integers


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
                if column.n_codes < _MOST_INDICATORS:
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
        import torch

        n = len(queries)
        best = torch.full((n, k), float("inf"))
        where = torch.full((n, k), -1, dtype=torch.int64)
        if not len(references) or not self.chosen:
            return Nearest(best.numpy(), where.numpy())
        sizes = _indicator_sizes(queries.small, references.small)
        loaded = _REFERENCES * max(1, _INDICATOR_BYTES // (4 * _REFERENCES * max(1, sum(sizes))))
        for base in range(0, len(references), loaded):
            firsts = range(base, min(base + loaded, len(references)), _REFERENCES)
            blocks = [_Block(part, sizes) for part in _split(references, firsts, _REFERENCES)]
            for start in range(0, n, _QUERIES):
                stop = min(start + _QUERIES, n)
                query_block = _Block(queries.take(np.arange(start, stop)), sizes)
                values, ids = [best[start:stop]], [where[start:stop]]
                for first, block in zip(firsts, blocks):
                    distances = query_block.distances(block)
                    if same:
                        itself = torch.arange(max(start, first), min(stop, first + block.rows))
                        distances[itself - start, itself - first] = float("inf")
                    near, places = _smallest(distances, min(k, block.rows))
                    # Rounding is monotone, so the nearest before it are the nearest after it.
                    values.append(near.div_(self.columns).div_(STEP).round_().mul_(STEP))
                    ids.append(places + first)
                candidates = torch.cat(values, dim=1)
                order = candidates.argsort(dim=1, stable=True)[:, :k]
                best[start:stop] = candidates.gather(1, order)
                where[start:stop] = torch.cat(ids, dim=1).gather(1, order)
        return Nearest(best.numpy(), where.masked_fill_(torch.isinf(best), -1).numpy())


def _split(points: Points, firsts: range, rows: int) -> list[Points]:
    return [points.take(np.arange(first, min(first + rows, firsts.stop))) for first in firsts]


def _smallest(distances: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    if k == 1:
        values, places = distances.min(dim=1, keepdim=True)
        return values, places
    values, places = distances.topk(k, dim=1, largest=False)
    return values, places


def _indicator_sizes(first: npt.NDArray[np.int16], second: npt.NDArray[np.int16]) -> list[int]:
    """Codes of each column in the two tables together (unseen values have one too)."""
    tables = [table for table in (first, second) if len(table)]
    return [1 + max(int(table[:, k].max()) for table in tables) for k in range(first.shape[1])]


class _Block:
    """Points as tensors. ``sizes`` are the indicators of each column of few categories."""

    def __init__(self, points: Points, sizes: list[int]) -> None:
        import torch

        self.rows = len(points)
        self.numbers = torch.from_numpy(points.numbers)
        self.large = torch.from_numpy(points.large)
        self.indicator_columns = len(sizes)
        self.indicators = torch.zeros((self.rows, sum(sizes)))
        if sizes:
            offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
            self.indicators.scatter_(1, torch.from_numpy(points.small.astype(np.int64) + offsets), 1.0)

    def distances(self, other: _Block) -> torch.Tensor:
        """float32[rows, other.rows]: distances, times the number of columns."""
        import torch

        total = torch.full((self.rows, other.rows), float(self.indicator_columns))
        if self.indicator_columns:
            total.addmm_(self.indicators, other.indicators.T, alpha=-1.0)
        if self.numbers.shape[1]:
            total += torch.cdist(self.numbers, other.numbers, p=1.0)
        for column in range(self.large.shape[1]):
            total += (self.large[:, column, None] != other.large[None, :, column]).float()
        return total


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
