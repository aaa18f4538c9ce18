"""Nearest records among rows of mixed type, exactly and in flat memory.

A distance is the number of categories that differ plus a city-block distance of the numbers, over the number of
columns. Differences of categories are counted in bytes for all pairs of a tile, which takes a hundredth of the time of
the numbers. They are a lower bound: only pairs whose bound is not above the k-th nearest distance so far get their
numbers compared. Where the bound leaves too many (few categories), it is made of the numbers in float32 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: Rows of a tile: its counts fit in the cache.
_QUERIES, _REFERENCES = 256, 4_096
#: Distances are rounded to multiples of this, so that sums that differ only in their last bits are ties.
STEP = 2.0**-20
#: Share of the pairs of a tile up to which their numbers are compared one by one.
_FEW = 1 / 16


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
        index: int64[n, k], indices of the references, the lowest first among ties; -1 where there are fewer than k.
    """

    distance: Floats
    index: Integers


def nearest_points(queries: Points, references: Points, columns: int, k: int = 1, *, same: bool = False) -> Nearest:
    """The ``k`` nearest references of each query.

    Args:
        queries: Rows whose neighbours are searched.
        references: Rows among which they are searched.
        columns: Number of columns that are compared; none: nothing is near.
        k: Neighbours of each query.
        same: The queries are the references: a row is not its own neighbour.
    """
    search = _Search(queries, references, columns, k, same)
    if columns:
        for start in range(0, len(queries), _QUERIES):
            search.of_queries(start, min(start + _QUERIES, len(queries)))
    return Nearest((search.steps * STEP).astype(np.float32), search.index)


class _Search:
    """A search, and the nearest so far: distances ``steps`` float64[n, k] in ``STEP``, and ``index`` int64[n, k]."""

    def __init__(self, queries: Points, references: Points, columns: int, k: int, same: bool) -> None:
        self.k, self.same, self.columns = k, same, columns
        self.queries, self.references = (_by_column(points) for points in (queries, references))
        self.rows = len(references)
        self.steps = np.full((len(queries), k), np.inf)
        self.index = np.full((len(queries), k), -1, np.int64)
        # Rounding must not lose a tie, nor the float32 sums of ``_with_numbers`` a pair.
        self.margin = columns * STEP * (2 + columns / 8)
        self.counted = np.uint8 if queries.small.shape[1] + queries.large.shape[1] < 255 else np.uint16

    def of_queries(self, start: int, stop: int) -> None:
        """Search the nearest of queries ``start`` to ``stop - 1``."""
        for first in range(0, self.rows, _REFERENCES):
            self._tile(slice(start, stop), slice(first, min(first + _REFERENCES, self.rows)))

    def _tile(self, queries: slice, references: slice) -> None:
        bound: npt.NDArray[Any] = self._differences(queries, references)
        limit = self._limit(bound, queries, references)
        near = bound <= np.floor(np.minimum(limit, 60_000.0)).astype(self.counted)[:, None]
        few = np.count_nonzero(near)
        if few > _FEW * near.size and len(self.queries[1]):
            bound = self._with_numbers(bound, queries, references)
            limit = self._limit(bound, queries, references)
            near = bound <= limit.astype(np.float32)[:, None]
        row, column = np.divmod(np.flatnonzero(near), near.shape[1])
        if self.same:
            other = row + queries.start != column + references.start
            row, column = row[other], column[other]
        steps = self._steps(bound, row, column, queries, references)
        query = row + queries.start
        better = np.flatnonzero(steps < self.steps[query, -1])  # of ties the reference that was met first stays
        if len(better):
            self._add(query[better], references.start + column[better], steps[better])

    def _differences(self, queries: slice, references: slice) -> npt.NDArray[Any]:
        """Number of categories that differ, uint8 or uint16 [queries, references]."""
        shape = (queries.stop - queries.start, references.stop - references.start)
        total, differs = np.empty(shape, self.counted), np.empty(shape, np.bool_)
        if self.counted != np.uint8 or not self.queries[0]:
            total[:] = 0
        for number, (mine, other) in enumerate(zip(self.queries[0], self.references[0])):
            first = number == 0 and self.counted == np.uint8
            np.not_equal(mine[queries, None], other[None, references], out=total.view(np.bool_) if first else differs)
            if not first:
                np.add(total, differs.view(np.uint8), out=total)
        return total

    def _with_numbers(self, differences: npt.NDArray[Any], queries: slice, references: slice) -> Floats:
        """The whole sums, in float32."""
        total = differences.astype(np.float32)
        part = np.empty_like(total)
        for mine, other in zip(self.queries[1], self.references[1]):
            np.subtract(mine[queries, None], other[None, references], out=part)
            np.abs(part, out=part)
            np.add(total, part, out=total)
        return total

    def _limit(self, bound: npt.NDArray[Any], queries: slice, references: slice) -> npt.NDArray[np.float64]:
        """Sums above which no pair is wanted, float64[queries]: the k-th found so far, or that of k of the tile."""
        limit = self.steps[queries, -1] * STEP * self.columns
        if not np.isinf(limit).any():
            return limit + self.margin
        if self.k == 1 and not self.same:
            row, column = np.arange(len(bound)), bound.argmin(axis=1)
            best = self._steps(bound, row, column, queries, references) * STEP * self.columns
            limit = np.minimum(limit, best)
        elif self.k <= bound.shape[1] - self.same:
            some = np.argpartition(bound, self.k - 1 + self.same, axis=1)[:, : self.k + self.same]
            row = np.repeat(np.arange(len(bound)), some.shape[1])
            steps = self._steps(bound, row, some.reshape(-1), queries, references).reshape(some.shape)
            limit = np.minimum(limit, steps.max(axis=1) * STEP * self.columns)
        return limit + self.margin

    def _steps(
        self, bound: npt.NDArray[Any], row: Integers, column: Integers, queries: slice, references: slice
    ) -> npt.NDArray[np.float64]:
        """Distances of pairs of a tile, whole float64[pairs] in units of ``STEP``."""
        mine, other = row + queries.start, column + references.start
        if bound.dtype.kind == "u":
            total = bound[row, column].astype(np.float64)
        else:
            total = np.zeros(len(row))
            for a, b in zip(self.queries[0], self.references[0]):
                total += a[mine] != b[other]
        for a, b in zip(self.queries[1], self.references[1]):
            total += np.abs(a[mine].astype(np.float64) - b[other])
        return np.rint(total / (self.columns * STEP))

    def _add(self, query: Integers, reference: Integers, steps: npt.NDArray[np.float64]) -> None:
        """Put pairs among the nearest found so far; they are sorted by query and reference."""
        if self.k == 1:
            starts = np.flatnonzero(np.diff(query, prepend=-1))
            least = np.minimum.reduceat(steps, starts)
            sizes = np.diff(starts, append=len(query))
            hits = np.flatnonzero(steps == np.repeat(least, sizes))
            firsts = hits[np.diff(query[hits], prepend=-1) > 0]
            self.steps[query[firsts], 0], self.index[query[firsts], 0] = steps[firsts], reference[firsts]
            return
        order = np.lexsort((reference, steps, query))
        query, reference, steps = query[order], reference[order], steps[order]
        starts = np.flatnonzero(np.diff(query, prepend=-1))
        place = np.arange(len(query)) - np.repeat(starts, np.diff(starts, append=len(query)))
        first, kept = query[starts], place < self.k
        new_steps = np.full((len(first), self.k), np.inf)
        new_index = np.full((len(first), self.k), -1, np.int64)
        at = np.repeat(np.arange(len(first)), np.diff(starts, append=len(query)))[kept], place[kept]
        new_steps[at], new_index[at] = steps[kept], reference[kept]
        both = np.concatenate([self.steps[first], new_steps], axis=1)
        indices = np.concatenate([self.index[first], new_index], axis=1)
        best = both.argsort(axis=1, kind="stable")[:, : self.k]
        self.steps[first] = np.take_along_axis(both, best, 1)
        self.index[first] = np.take_along_axis(indices, best, 1)


def _by_column(points: Points) -> tuple[list[npt.NDArray[Any]], list[Floats]]:
    """Codes of each column of categories (in bytes where they fit), and the coordinates, each contiguous."""
    codes: list[npt.NDArray[Any]] = []
    for column in points.small.T:
        fits = len(column) == 0 or int(column.max()) < 256
        codes.append(np.ascontiguousarray(column, np.uint8 if fits else np.int16))
    codes += [np.ascontiguousarray(column) for column in points.large.T]
    return codes, [np.ascontiguousarray(column) for column in points.numbers.T]
