"""What ``Profile`` keeps of one column: two monoids, one for numbers and one for text.

Value counts up to a limit of distinct values; beyond it they are dropped for good ("overflow"), and what they used to
tell goes on by itself: minimum, maximum, the few most extreme values, the grid. Which of the two states a column is in
depends on its values alone, never on how they came, so that any split of the rows and any order of merging end equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.grid import Grid, grid_for
from shardsynth.data.values import Array, axis_of_native, decoded, kind_of, native, to_arrow
from shardsynth.summaries.text import TextTally

Counts = npt.NDArray[np.int64]


def tally_for(type_: pa.DataType, limit: int, extremes: int) -> NumberTally | TextTally:
    """An empty tally for a column of an Arrow type.

    Args:
        type_: The column's type.
        limit: Distinct values that are counted at most.
        extremes: How many of the smallest and of the largest values are kept.
    """
    if kind_of(type_) in ("text", "binary", "null"):
        return TextTally(type_, limit)
    return NumberTally(type_, limit, extremes)


def merge_counts(values: Array, counts: Counts, more: Array, more_counts: Counts) -> tuple[Array, Counts]:
    """Union of two sorted lists of distinct values, their counts added."""
    if not len(more):
        return values, counts
    if not len(values):
        return more, more_counts
    place = np.searchsorted(values, more)
    if place[-1] < len(values) and np.array_equal(values[place], more):
        counts = counts.copy()
        counts[place] += more_counts
        return values, counts
    both = np.concatenate([values, more])
    order = np.argsort(both, kind="stable")
    both, all_counts = both[order], np.concatenate([counts, more_counts])[order]
    first = np.concatenate([[True], both[1:] != both[:-1]])
    starts = np.flatnonzero(first)
    return both[starts], np.add.reduceat(all_counts, starts)


def count_values(values: Array) -> tuple[Array, Counts]:
    """Distinct values in order (as int64, uint64 or float64), and how often each occurs."""
    if values.dtype.kind in "iu":
        wide = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False)
        low, high = wide.min(), wide.max()
        if int(high) - int(low) <= 4 * len(wide) + 1024:
            counts = np.bincount((wide - low).view(np.int64))
            present = np.flatnonzero(counts)
            return present.astype(wide.dtype) + low, counts[present]
        values = wide
    ordered = np.sort(values)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


class NumberTally:
    """Numbers, booleans, decimals, dates and times, by their native values.

    Attributes:
        rows: Rows seen.
        nulls: Arrow nulls among them.
        nans: NaN among them.
        infinite: Infinite values among them; they enter nothing else.
        first_infinite: Global row number of the first infinite value, or None.
        low: Smallest value, a Python int or float; None without values.
        high: Largest value.
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
        self._counts: Counts = np.zeros(0, np.int64)
        self.overflow = False
        self._grid: Grid = grid_for(self.type)
        self._lowest: tuple[Array, Counts] | None = None
        self._highest: tuple[Array, Counts] | None = None

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
            self._follow(values)
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

    def _add(self, values: Array, counts: Counts) -> None:
        if self._values is None:
            self._values, self._counts = values, counts
        else:
            self._values, self._counts = merge_counts(self._values, self._counts, values, counts)
        if len(self._values) > self.limit:
            self._spill()

    def _spill(self) -> None:
        """Stop counting: keep of the counts what must go on."""
        values, counts = self._known()
        self._lowest, self._highest = self._ends(values, counts)
        self._grid = grid_for(self.type).extended(values)
        self._values, self._counts, self.overflow = None, np.zeros(0, np.int64), True

    def _known(self) -> tuple[Array, Counts]:
        if self._values is None:
            return np.zeros(0, self.dtype), self._counts
        return self._values, self._counts

    @property
    def dtype(self) -> np.dtype[Any]:
        """In which the values are counted: float64, uint64 or int64."""
        if pa.types.is_floating(self.type) or (pa.types.is_decimal(self.type) and self.type.precision > 18):
            return np.dtype(np.float64)
        return np.dtype(np.uint64 if self.type == pa.uint64() else np.int64)

    def _ends(self, values: Array, counts: Counts) -> tuple[tuple[Array, Counts], tuple[Array, Counts]]:
        k = self.extremes
        high = slice(max(0, len(values) - k), None)
        return (values[:k].copy(), counts[:k].copy()), (values[high].copy(), counts[high].copy())

    def _follow(self, values: Array) -> None:
        """After the overflow: only what can still change the ends or the grid is looked at."""
        assert self._lowest is not None and self._highest is not None
        near = values[(values <= self._lowest[0][-1]) | (values >= self._highest[0][0])]
        if len(near):
            self._join_ends(*count_values(near))
        self._grid = self._grid.extended(values)

    def _join_ends(self, values: Array, counts: Counts) -> None:
        assert self._lowest is not None and self._highest is not None
        lows, highs = self._lowest, self._highest
        self._lowest = self._ends(*merge_counts(*lows, *_where(values, counts, values <= lows[0][-1])))[0]
        self._highest = self._ends(*merge_counts(*highs, *_where(values, counts, values >= highs[0][0])))[1]

    def merge(self, other: NumberTally) -> None:
        """Add another part's tally of the same column."""
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
                self._add(*other._known())
            return
        if not self.overflow:
            mine = self._known()
            self._lowest, self._highest, self._grid = other._lowest, other._highest, other._grid
            self._values, self._counts, self.overflow = None, np.zeros(0, np.int64), True
            self._absorb(*mine)
        elif not other.overflow:
            self._absorb(*other._known())
        else:
            assert other._lowest is not None and other._highest is not None
            assert self._lowest is not None and self._highest is not None
            self._lowest = self._ends(*merge_counts(*self._lowest, *other._lowest))[0]
            self._highest = self._ends(*merge_counts(*self._highest, *other._highest))[1]
            self._grid = self._grid.joined(other._grid)

    def _absorb(self, values: Array, counts: Counts) -> None:
        if len(values):
            self._join_ends(values, counts)
            self._grid = self._grid.extended(values)

    @property
    def present(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.nulls - self.nans - self.infinite

    @property
    def distinct(self) -> int | None:
        """Number of distinct values; None after an overflow."""
        return None if self.overflow else len(self._known()[0])

    def value_counts(self) -> tuple[Array, Counts] | None:
        """``(values, counts)``: distinct native values in order and int64 counts; None after an overflow."""
        return None if self.overflow else self._known()

    def values_as_arrow(self) -> pa.Array | None:
        """The distinct values as an Arrow array of the column's value type; None after an overflow."""
        return None if self.overflow else to_arrow(self._known()[0], self.type)

    @property
    def lowest(self) -> tuple[Array, Counts]:
        """The smallest distinct native values in order (at most ``extremes`` of them), and their counts."""
        return self._lowest if self._lowest is not None else self._ends(*self._known())[0]

    @property
    def highest(self) -> tuple[Array, Counts]:
        """The largest distinct native values in order, and their counts."""
        return self._highest if self._highest is not None else self._ends(*self._known())[1]

    @property
    def grid(self) -> Grid:
        """The grid on which the values lie."""
        return self._grid if self.overflow else grid_for(self.type).extended(self._known()[0])

    @property
    def axis_range(self) -> tuple[float, float] | None:
        """Minimum and maximum on the axis; None without values."""
        if self.low is None:
            return None
        ends = axis_of_native(np.array([self.low, self.high], self.dtype), self.type)
        return float(ends[0]), float(ends[1])

    def to_members(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """As a JSON object and arrays by name."""
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
            values, counts = self._known()
            return head, {"values": values, "counts": counts}
        head["grid"] = self._grid.to_json()
        names = ("lowest", "lowest_counts", "highest", "highest_counts")
        return head, dict(zip(names, (*self.lowest, *self.highest)))

    def from_members(self, head: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Inverse of ``to_members``, into an empty tally."""
        for name in ("rows", "nulls", "nans", "infinite", "first_infinite", "low", "high", "overflow"):
            setattr(self, name, head[name])
        if self.overflow:
            self._lowest = (arrays["lowest"], arrays["lowest_counts"])
            self._highest = (arrays["highest"], arrays["highest_counts"])
            self._grid = Grid.from_json(head["grid"])
        elif len(arrays["values"]):
            self._values, self._counts = arrays["values"], arrays["counts"]


def _where(values: Array, counts: Counts, keep: npt.NDArray[np.bool_]) -> tuple[Array, Counts]:
    return values[keep], counts[keep]
