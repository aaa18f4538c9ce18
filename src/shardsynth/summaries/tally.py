"""Exact counts of one column in a ``Profile``: ``NumberTally`` here, and ``TextTally`` for text.

A tally counts each distinct value, up to a limit. With more distinct values it is in *overflow*: it drops the counts
and from then on keeps only the minimum, the maximum, the few most extreme values and the grid. Whether a column is in
overflow depends on its values alone, never on their order. So any split of the rows and any order of merging give the
same tally: it is a commutative monoid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.grid import Grid, grid_for
from shardsynth.data.values import Array, axis_of_native, decoded, kind_of, native, to_arrow, wide_dtype
from shardsynth.summaries.text import TextTally

Integers = npt.NDArray[np.int64]


def tally_for(type_: pa.DataType, limit: int, extremes: int) -> NumberTally | TextTally:
    """An empty tally for a column of an Arrow type.

    Args:
        type_: The column's type.
        limit: Most distinct values that are counted.
        extremes: How many of the smallest and of the largest distinct values are kept.
    """
    if kind_of(type_) in ("text", "binary", "null"):
        return TextTally(type_, limit)
    return NumberTally(type_, limit, extremes)


def merge_counts(values: Array, counts: Integers, others: Array, other_counts: Integers) -> tuple[Array, Integers]:
    """Union of two sorted arrays of distinct values, and the sum of their counts."""
    if not len(others):
        return values, counts
    if not len(values):
        return others, other_counts
    place = np.searchsorted(values, others)
    if place[-1] < len(values) and np.array_equal(values[place], others):
        counts = counts.copy()
        counts[place] += other_counts
        return values, counts
    both = np.concatenate([values, others])
    order = np.argsort(both, kind="stable")
    both, all_counts = both[order], np.concatenate([counts, other_counts])[order]
    first = np.concatenate([[True], both[1:] != both[:-1]])
    starts = np.flatnonzero(first)
    return both[starts], np.add.reduceat(all_counts, starts)


def count_values(values: Array) -> tuple[Array, Integers]:
    """Distinct values in order (as int64, uint64 or float64), and how often each occurs."""
    if values.dtype.kind in "iu":
        integers = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False)
        low, high = integers.min(), integers.max()
        if int(high) - int(low) <= 4 * len(integers) + 1024:
            counts = np.bincount((integers - low).view(np.int64))
            present = np.flatnonzero(counts)
            return present.astype(integers.dtype) + low, counts[present]
        values = integers
    ordered = np.sort(values)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


class NumberTally:
    """Numbers, booleans, decimals, dates and times, by their native values.

    Attributes:
        rows: Number of rows counted.
        nulls: Number of Arrow nulls among them.
        nans: Number of NaN among them.
        infinite: Number of infinite values among them; they are counted nowhere else.
        first_infinite: Global row number of the first infinite value, or None.
        low: Smallest value, a Python int or float; None without values.
        high: Largest value; None without values.
        overflow: Whether there were too many distinct values to count.
    """

    def __init__(self, type_: pa.DataType, limit: int, extremes: int) -> None:
        self.type = type_.value_type if pa.types.is_dictionary(type_) else type_
        self.limit = limit
        self.extremes = extremes
        self.rows = self.nulls = self.nans = self.infinite = 0
        self.first_infinite: int | None = None
        self.low: Any = None
        self.high: Any = None
        self._values: Array | None = None
        self._counts: Integers = np.zeros(0, np.int64)
        self.overflow = False
        self._grid: Grid = grid_for(self.type)
        self._lowest: tuple[Array, Integers] | None = None
        self._highest: tuple[Array, Integers] | None = None

    def update(self, array: pa.Array, rows: npt.NDArray[np.uint64]) -> None:
        """Count a batch; ``rows`` are the global row numbers of its values."""
        self.rows += len(array)
        values, nulls = native(decoded(array))
        if nulls is not None:
            self.nulls += int(nulls.sum())
        if values.dtype.kind == "f":
            values = self._finite(values, nulls, rows)
        elif nulls is not None:
            values = values[~nulls]
        if not len(values):
            return
        low, high = values.min().item(), values.max().item()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        if self.overflow:
            self._update_overflow(values)
        else:
            self._add(*count_values(values))

    def _finite(self, values: Array, nulls: npt.NDArray[np.bool_] | None, rows: npt.NDArray[np.uint64]) -> Array:
        finite = np.isfinite(values)
        if finite.all() and nulls is None:
            return np.asarray(values, np.float64) + 0.0
        present = np.ones(len(values), np.bool_) if nulls is None else ~nulls
        self.nans += int((np.isnan(values) & present).sum())
        infinite = np.isinf(values) & present
        if infinite.any():
            self.infinite += int(infinite.sum())
            first = int(rows[infinite].min())
            self.first_infinite = first if self.first_infinite is None else min(first, self.first_infinite)
        # Adding zero turns -0.0 into 0.0: equal values are one value.
        return np.asarray(values[finite & present], np.float64) + 0.0

    def _add(self, values: Array, counts: Integers) -> None:
        if self._values is None:
            self._values, self._counts = values, counts
        else:
            self._values, self._counts = merge_counts(self._values, self._counts, values, counts)
        if len(self._values) > self.limit:
            self._spill()

    def _spill(self) -> None:
        """Go into overflow: keep the extremes and the grid of the counts, and drop the counts."""
        values, counts = self._counted()
        self._lowest, self._highest = self._ends(values, counts)
        self._grid = grid_for(self.type).extended(values)
        self._values, self._counts, self.overflow = None, np.zeros(0, np.int64), True

    def _counted(self) -> tuple[Array, Integers]:
        if self._values is None:
            return np.zeros(0, self.dtype), self._counts
        return self._values, self._counts

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the counted values: float64, uint64 or int64."""
        return wide_dtype(self.type)

    def _ends(self, values: Array, counts: Integers) -> tuple[tuple[Array, Integers], tuple[Array, Integers]]:
        k = self.extremes
        high = slice(max(0, len(values) - k), None)
        return (values[:k].copy(), counts[:k].copy()), (values[high].copy(), counts[high].copy())

    def _update_overflow(self, values: Array) -> None:
        """Take in values after the overflow: they can change the extremes and the grid."""
        assert self._lowest is not None and self._highest is not None
        near = values[(values <= self._lowest[0][-1]) | (values >= self._highest[0][0])]
        if len(near):
            self._join_ends(*count_values(near))
        self._grid = self._grid.extended(values)

    def _join_ends(self, values: Array, counts: Integers) -> None:
        assert self._lowest is not None and self._highest is not None
        lows, highs = self._lowest, self._highest
        near_low, near_high = values <= lows[0][-1], values >= highs[0][0]
        self._lowest = self._ends(*merge_counts(*lows, values[near_low], counts[near_low]))[0]
        self._highest = self._ends(*merge_counts(*highs, values[near_high], counts[near_high]))[1]

    def merge(self, other: NumberTally) -> None:
        """Add the tally of the same column in another part of the table."""
        self.rows += other.rows
        self.nulls += other.nulls
        self.nans += other.nans
        self.infinite += other.infinite
        firsts = [f for f in (self.first_infinite, other.first_infinite) if f is not None]
        self.first_infinite = min(firsts) if firsts else None
        lows, highs = [x.low for x in (self, other)], [x.high for x in (self, other)]
        self.low = min((v for v in lows if v is not None), default=None)
        self.high = max((v for v in highs if v is not None), default=None)
        if not self.overflow and not other.overflow:
            if other._values is not None:
                self._add(*other._counted())
            return
        if not self.overflow:
            values, counts = self._counted()
            self._lowest, self._highest, self._grid = other._lowest, other._highest, other._grid
            self._values, self._counts, self.overflow = None, np.zeros(0, np.int64), True
            self._add_to_overflow(values, counts)
        elif not other.overflow:
            self._add_to_overflow(*other._counted())
        else:
            assert other._lowest is not None and other._highest is not None
            assert self._lowest is not None and self._highest is not None
            self._lowest = self._ends(*merge_counts(*self._lowest, *other._lowest))[0]
            self._highest = self._ends(*merge_counts(*self._highest, *other._highest))[1]
            self._grid = self._grid.joined(other._grid)

    def _add_to_overflow(self, values: Array, counts: Integers) -> None:
        if len(values):
            self._join_ends(values, counts)
            self._grid = self._grid.extended(values)

    @property
    def present(self) -> int:
        """Number of rows with a finite value."""
        return self.rows - self.nulls - self.nans - self.infinite

    @property
    def distinct(self) -> int | None:
        """Number of distinct values; None after an overflow."""
        return None if self.overflow else len(self._counted()[0])

    def value_counts(self) -> tuple[Array, Integers] | None:
        """``(values, counts)``: distinct native values in order and int64 counts; None after an overflow."""
        return None if self.overflow else self._counted()

    def values_as_arrow(self) -> pa.Array | None:
        """The distinct values as an Arrow array of the column's value type; None after an overflow."""
        return None if self.overflow else to_arrow(self._counted()[0], self.type)

    @property
    def lowest(self) -> tuple[Array, Integers]:
        """The smallest distinct native values in order (at most ``extremes`` of them), and their counts."""
        return self._lowest if self._lowest is not None else self._ends(*self._counted())[0]

    @property
    def highest(self) -> tuple[Array, Integers]:
        """The largest distinct native values in order (at most ``extremes`` of them), and their counts."""
        return self._highest if self._highest is not None else self._ends(*self._counted())[1]

    @property
    def grid(self) -> Grid:
        """The grid of the values."""
        return self._grid if self.overflow else grid_for(self.type).extended(self._counted()[0])

    @property
    def axis_range(self) -> tuple[float, float] | None:
        """Minimum and maximum on the axis; None without values."""
        if self.low is None:
            return None
        ends = axis_of_native(np.array([self.low, self.high], self.dtype), self.type)
        return float(ends[0]), float(ends[1])

    def to_members(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A JSON object, and arrays by name, for an archive."""
        head = {
            "rows": self.rows,
            "nulls": self.nulls,
            "nans": self.nans,
            "infinite": self.infinite,
            "first_infinite": self.first_infinite,
            "low": self.low,
            "high": self.high,
            "overflow": self.overflow,
        }
        if not self.overflow:
            values, counts = self._counted()
            return head, {"values": values, "counts": counts}
        head["grid"] = self._grid.to_json()
        names = ("lowest", "lowest_counts", "highest", "highest_counts")
        return head, dict(zip(names, (*self.lowest, *self.highest)))

    def from_members(self, head: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take in what ``to_members`` gave; this tally must be empty."""
        for name in ("rows", "nulls", "nans", "infinite", "first_infinite", "low", "high", "overflow"):
            setattr(self, name, head[name])
        if self.overflow:
            self._lowest = (arrays["lowest"], arrays["lowest_counts"])
            self._highest = (arrays["highest"], arrays["highest_counts"])
            self._grid = Grid.from_json(head["grid"])
        elif len(arrays["values"]):
            self._values, self._counts = arrays["values"], arrays["counts"]
