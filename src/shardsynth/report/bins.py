"""From the fine histogram of a number or date to frequent single values, and to a few wide bins that hold many rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardsynth.report.grids import Grid

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Slots of a histogram.
MOST_SLOTS = 60
#: Single values of a column that have bars of their own.
MOST_SPIKES = 4
#: A value has a bar of its own from these shares of the rows on: where possible values are few, and elsewhere.
_SPIKE_DENSE, _SPIKE = 0.4, 0.05


@dataclass(frozen=True)
class FineBins:
    """The meaning of the codes of a number or datetime column, and the real rows of each code.

    Code k covers ``[cuts[k-1], cuts[k])``, code 0 all below, code ``len(cuts)`` all from the last cut on.

    Attributes:
        cuts: float64[m], strictly increasing.
        real: int64[m + 1], the real rows per code, without rows where the value is missing.
    """

    cuts: Floats
    real: Integers

    @property
    def is_point(self) -> npt.NDArray[np.bool_]:
        """bool[m + 1]: codes that hold one value only."""
        m = len(self.cuts)
        point = np.zeros(m + 1, dtype=bool)
        if m > 1:
            point[1:m] = np.nextafter(self.cuts[:-1], np.inf) >= self.cuts[1:]
        if m:
            point[m] = self.real[m] > 0  # nothing real lies above the largest value, which is the last cut
        return point

    @property
    def low(self) -> Floats:
        """float64[m + 1]: lower end of each code (of code 0: its upper end)."""
        return np.concatenate([self.cuts[:1], self.cuts])

    @property
    def high(self) -> Floats:
        """float64[m + 1]: upper end of each code (of a point: itself)."""
        return np.where(self.is_point, self.low, np.concatenate([self.cuts, self.cuts[-1:]]))

    def below(self, counts: Integers, at: Floats) -> Floats:
        """Number of rows below some values.

        Args:
            counts: int64[m + 1], rows per code.
            at: float64[n], the values.

        Returns:
            float64[n]. Rows of a code that covers a range are spread evenly over it, so the numbers are not whole.
        """
        m, point = len(self.cuts), self.is_point
        in_ranges = np.where(point, 0, counts).astype(np.float64)
        spread = np.interp(at, self.cuts, np.concatenate([[0.0], np.cumsum(in_ranges[1:m])]))
        values, rows_at = self.low[point], counts[point].astype(np.float64)
        points = np.concatenate([[0.0], np.cumsum(rows_at)])[np.searchsorted(values, at, side="left")]
        rows: Floats = in_ranges[0] + spread + points
        return rows

    def spread_over(self, counts: Integers, grid: Grid) -> Integers:
        """int64[slots + 2]: rows below the grid, in each slot, above the grid."""
        cumulative = np.rint(self.below(counts, grid.edges)).astype(np.int64)
        total = int(counts.sum())
        return np.diff(np.concatenate([[0], np.clip(cumulative, 0, total), [total]]))

    def span(self, counts: Integers, least: int) -> tuple[float, float]:
        """Ends of the range that a histogram covers.

        At least ``least`` rows lie at or beyond either end. Where that range is over 1.6 times as wide as the range
        without the outer 0.5 % at either side, the narrower one is taken: a few far values would make all bars narrow.
        """
        total = int(counts.sum())

        def ends(rows: float) -> tuple[float, float]:
            first = int(np.searchsorted(np.cumsum(counts), rows))
            last = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), rows))
            return float(self.low[first]), float(self.high[last])

        whole, bulk = ends(min(least, total)), ends(min(max(least, 0.005 * total), total))
        has_far_values = whole[1] - whole[0] > 1.6 * (bulk[1] - bulk[0]) > 0
        low, high = bulk if has_far_values else whole
        return min(low, high), max(low, high)

    def spikes(self, least: int, dense: bool) -> list[int]:
        """Codes of frequent single values, which have bars of their own; most frequent first.

        Args:
            least: Fewest real rows of a bar.
            dense: Whether the possible values are so few that a histogram can show each.
        """
        total = int(self.real.sum())
        rows_needed = max(least, (_SPIKE_DENSE if dense else _SPIKE) * total)
        codes = np.flatnonzero(self.is_point & (self.real >= rows_needed))
        if dense and 1 < len(codes) == np.count_nonzero(self.real):
            return []  # the histogram shows the same bars
        return [int(code) for code in codes[np.argsort(-self.real[codes], kind="stable")][:MOST_SPIKES]]


def slots_for(rows: int) -> int:
    """Slots for a histogram of ``rows`` rows, 10 to 60: 1.5 times Rice's rule, as round edges make them fewer."""
    return int(np.clip(math.ceil(3 * max(rows, 1) ** (1 / 3)), 10, MOST_SLOTS))


@dataclass(frozen=True)
class SlotRange:
    """Neighbouring slots that are one bar: ``first`` to ``stop`` (exclusive), and whether it is open to a side."""

    first: int
    stop: int
    below: bool = False
    above: bool = False


def merged(real: Integers, grid: Grid, others: Sequence[Integers], least: int) -> list[tuple[SlotRange, slice]]:
    """Join neighbouring slots, until each bar holds no real row or at least ``least``.

    Args:
        real: int64[slots + 2] from ``spread_over``.
        grid: The slots.
        others: The same for the other tables; they only decide whether an empty end is needed.
        least: Fewest real rows of a bar.

    Returns:
        The bars in order, each with the slice of ``real`` that it adds up. Where slots are wider than one value, the
        first and last bar are open, so that they do not show the smallest and largest value.
    """
    size = len(real)
    groups = [[k, k + 1] for k in range(size)]
    if not grid.single:
        groups = _join_empty_ends(groups, real)

    def count(group: list[int]) -> int:
        return int(real[group[0] : group[1]].sum())

    while len(groups) > 1:
        rare = [k for k, group in enumerate(groups) if 0 < count(group) < least]
        if not rare:
            break
        k = min(rare, key=lambda k: count(groups[k]))
        join_left = k > 0 and (k + 1 == len(groups) or count(groups[k - 1]) <= count(groups[k + 1]))
        k = k - 1 if join_left else k
        groups[k : k + 2] = [[groups[k][0], groups[k + 1][1]]]
    bars = []
    for start, stop in groups:
        at_end = (start, stop) in ((0, 1), (size - 1, size))
        if at_end and not any(int(table[start:stop].sum()) for table in (real, *others)):
            continue  # no table has a row beyond this end of the grid
        below, above = start == 0, stop == size
        first = 0 if below else start - 1
        last = grid.slots if above else stop - 1
        if below and stop == 1:
            first, last = 0, 0
        if above and start == size - 1:
            first, last = grid.slots, grid.slots
        bars.append((SlotRange(first, last, below, above), slice(start, stop)))
    return bars


def _join_empty_ends(groups: list[list[int]], real: Integers) -> list[list[int]]:
    """The groups, where an open end without a real row is joined to its neighbour."""
    if len(groups) > 2 and real[0] == 0:
        groups = [[0, groups[1][1]], *groups[2:]]
    if len(groups) > 1 and real[-1] == 0:
        groups = [*groups[:-2], [groups[-2][0], groups[-1][1]]]
    return groups
