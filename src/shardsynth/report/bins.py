"""Fine histograms of numbers and dates -> frequent single values, and few wide bins with none of them rare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardsynth.report.grids import Grid

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MOST_SLOTS = 60
MOST_SPIKES = 4
#: A value is shown on its own above these shares of the rows: on a dense grid, and elsewhere.
_SPIKE_DENSE, _SPIKE = 0.4, 0.05


@dataclass(frozen=True)
class FineBins:
    """What the codes of one number or datetime column stand for.

    Code k covers ``[cuts[k-1], cuts[k])``, code 0 all below, code ``len(cuts)`` all from the last cut on.

    Attributes:
        cuts: float64[m], strictly increasing.
        real: int64[m + 1], the real rows per code, missing rows left out.
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
        """float64: rows of ``counts`` under each value of ``at``; rows inside a bin are spread evenly over it."""
        m, point = len(self.cuts), self.is_point
        inside = np.where(point, 0, counts).astype(np.float64)
        spread = np.interp(at, self.cuts, np.concatenate([[0.0], np.cumsum(inside[1:m])]))
        values, masses = self.low[point], counts[point].astype(np.float64)
        points = np.concatenate([[0.0], np.cumsum(masses)])[np.searchsorted(values, at, side="left")]
        rows: Floats = inside[0] + spread + points
        return rows

    def spread_over(self, counts: Integers, grid: Grid) -> Integers:
        """int64[slots + 2]: rows below the grid, in each slot, above the grid."""
        rising = np.rint(self.below(counts, grid.edges)).astype(np.int64)
        total = int(counts.sum())
        return np.diff(np.concatenate([[0], np.clip(rising, 0, total), [total]]))

    def span(self, counts: Integers, least: int) -> tuple[float, float]:
        """Low and high end of the bulk of ``counts``: both tails beyond hold at least ``least`` rows or 0.5 %."""
        total = int(counts.sum())

        def ends(rows: float) -> tuple[float, float]:
            rising = np.cumsum(counts)
            first = int(np.searchsorted(rising, rows))
            last = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), rows))
            return float(self.low[first]), float(self.high[last])

        whole, bulk = ends(min(least, total)), ends(min(max(least, 0.005 * total), total))
        wide = whole[1] - whole[0] > 1.6 * (bulk[1] - bulk[0]) > 0
        low, high = bulk if wide else whole
        return min(low, high), max(low, high)

    def spikes(self, least: int, dense: bool) -> list[int]:
        """Codes of single values so frequent that they are shown on their own, most frequent first."""
        total = int(self.real.sum())
        need = max(least, (_SPIKE_DENSE if dense else _SPIKE) * total)
        point = np.flatnonzero(self.is_point & (self.real >= need))
        if len(point) == np.count_nonzero(self.real):
            point = point[:0] if len(point) > 1 and dense else point
        return [int(code) for code in point[np.argsort(-self.real[point], kind="stable")][:MOST_SPIKES]]


def slots_for(rows: int) -> int:
    """Slots for a histogram of so many rows (1.5 times Rice's rule, which rounding lowers), 10 to 60."""
    return int(np.clip(math.ceil(3 * max(rows, 1) ** (1 / 3)), 10, MOST_SLOTS))


@dataclass(frozen=True)
class Span:
    """A run of slots shown as one bar: slots ``first`` to ``stop`` (exclusive), open to a side or not."""

    first: int
    stop: int
    below: bool = False
    above: bool = False


def merged(real: Integers, grid: Grid, others: Sequence[Integers], least: int) -> list[tuple[Span, slice]]:
    """Bars such that each holds no real row or at least ``least``.

    Args:
        real: int64[slots + 2] as of ``spread_over``.
        grid: The slots.
        others: The same of the other tables; they only decide whether an empty end is needed.
        least: Fewest real rows of a bar.

    Returns:
        The bars in order, each with the slice of the input that it sums. Where slots are wider than one value, the
        first and last bar are open, so that no smallest or largest value is given away.
    """
    size = len(real)
    groups = [[k, k + 1] for k in range(size)]
    if not grid.single:
        groups = _join_empty_ends(groups, real)
    count: Callable[[list[int]], int] = lambda group: int(real[group[0] : group[1]].sum())  # noqa: E731
    while len(groups) > 1:
        rare = [k for k, group in enumerate(groups) if 0 < count(group) < least]
        if not rare:
            break
        k = min(rare, key=lambda k: count(groups[k]))
        left = k > 0 and (k + 1 == len(groups) or count(groups[k - 1]) <= count(groups[k + 1]))
        k = k - 1 if left else k
        groups[k : k + 2] = [[groups[k][0], groups[k + 1][1]]]
    bars = []
    for start, stop in groups:
        at_end = (start, stop) in ((0, 1), (size - 1, size))
        if at_end and not any(int(table[start:stop].sum()) for table in (real, *others)):
            continue  # nothing beyond the grid's end in any table
        below, above = start == 0, stop == size
        first = 0 if below else start - 1
        last = grid.slots if above else stop - 1
        if below and stop == 1:
            first, last = 0, 0
        if above and start == size - 1:
            first, last = grid.slots, grid.slots
        bars.append((Span(first, last, below, above), slice(start, stop)))
    return bars


def _join_empty_ends(groups: list[list[int]], real: Integers) -> list[list[int]]:
    """The two open ends, where they hold no real row, joined to their neighbour."""
    if len(groups) > 2 and real[0] == 0:
        groups = [[0, groups[1][1]], *groups[2:]]
    if len(groups) > 1 and real[-1] == 0:
        groups = [*groups[:-2], [groups[-2][0], groups[-1][1]]]
    return groups
