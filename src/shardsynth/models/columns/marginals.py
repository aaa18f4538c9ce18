"""Empirical marginals under protections: quantile functions that hold no value of a single person.

What a model may hold of a column (``Protection``):

- Every atom and every bin stands for at least ``min_count`` rows and for at least n/1024 rows. Bins with fewer rows are
  merged with their neighbours.
- The two end knots are the fifth most extreme values; what lies beyond is fitted without the values there (``tails``).
- Knots between bins lie between the data, on the grid of the column or, without a grid, on a coarse dyadic one.
- Values inside a bin are spread evenly over it.
- Categories of fewer than ``min_count`` rows are left out.

Where the persons behind the rows are counted, ``min_count`` is a number of persons, and so is the rank of the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.empty_gaps import empty_gaps
from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import Marginal
from shardsynth.summaries.persons import Hashes, PersonEnds, union_size

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Share of a grid unit by which a bin reaches beyond its first and last grid point. It is just under one half, so that
#: no rule for ties can round a value out of the bin.
BIN_REACH = 0.498
_BINS = 1024


@dataclass(frozen=True)
class Protection:
    """What a model may hold of rare values.

    Attributes:
        min_count: Rows, or persons where these are counted, that a category, atom or bin must stand for.
        rare: What becomes of rarer categories: ``drop`` (their mass goes to the rest), ``other`` or ``keep``.
        extremes: ``clip``: the end knots are the fifth most extreme values. ``tail``: beyond them lies a tail that is
            fitted without the values there (see ``tails``). ``keep``: the end knots are minimum and maximum.
    """

    min_count: int = 5
    rare: str = "drop"
    extremes: str = "tail"

    @property
    def clip(self) -> bool:
        """Whether the minimum and the maximum are protected."""
        return self.extremes != "keep"

    @property
    def rank(self) -> int:
        """Which of the most extreme values (of persons) is an end."""
        return max(5, self.min_count)

    def rows(self, total: int) -> int:
        """Rows that a bin or atom of a column with ``total`` values must stand for."""
        return max(self.min_count, -(-total // _BINS))


@dataclass(frozen=True)
class Cells:
    """A column's values in increasing order, as non-empty cells: bins and atoms with their rows.

    Attributes:
        count: int64[m], positive.
        lo: float64[m], smallest value that the cell may hold (a point of the grid where there is one).
        hi: float64[m], largest; an atom has ``lo == hi``.
        persons: uint64[m, k], the smallest hashes of the persons of each cell; None where rows alone are counted.
    """

    count: Integers
    lo: Floats
    hi: Floats
    persons: Hashes | None = None

    def of_enough(self, start: int, stop: int, least: int) -> bool:
        """Whether the cells ``start`` to ``stop - 1`` are of at least ``least`` persons; true without persons."""
        return self.persons is None or union_size(self.persons[start:stop]) >= least


def grid_unit(precision: Precision) -> float:
    """Distance between neighbouring values of the grid; 0 without a grid."""
    if precision.kind == "integer":
        return float(precision.unit)
    return float(10.0**-precision.digits) if precision.kind == "decimal" else 0.0


def cells_of_histogram(
    count: Integers, cuts: Floats, low: float, high: float, precision: Precision, persons: Hashes | None = None
) -> Cells:
    """Cells of a fine histogram.

    Args:
        count: int64[m + 1], rows by the code ``searchsorted(cuts, v, side="right")``, missing left out.
        cuts: float64[m], strictly increasing.
        low: Minimum of the column.
        high: Maximum of the column.
        precision: Its grid.
        persons: uint64[m + 1, k], the smallest hashes of the persons of each code, where they are counted.
    """
    unit = grid_unit(precision)
    after = np.zeros(len(cuts), dtype=bool)  # cuts that only end an atom: the next value lies one step further
    after[1:] = np.nextafter(cuts[:-1], np.inf) == cuts[1:]
    # Rounded to the grid, not compared with it: the axis of a float32 column misses the grid by its own rounding.
    starts = precision.snap(cuts) if unit else cuts
    lo = np.concatenate([[low], np.where(after, starts + unit, starts)])
    hi = np.concatenate([starts - unit if unit else np.nextafter(cuts, -np.inf), [high]])
    hi[:-1][after] = lo[:-1][after]
    if unit:
        lo[0], hi[-1] = precision.snap(np.array([low, high]))
    used = np.flatnonzero(count > 0)
    lo, hi = np.minimum(lo[used], hi[-1]), hi[used]
    return Cells(count[used].astype(np.int64), lo, np.maximum(lo, hi), None if persons is None else persons[used])


def protected_marginal(
    cells: Cells, ends: tuple[float, float], precision: Precision, protection: Protection, p_missing: float
) -> Marginal:
    """Quantile function of the cells under the protections.

    Args:
        cells: In increasing order; at least ``protection.min_count`` rows in all.
        ends: The two values that the model may not go beyond.
        precision: Grid of the column.
        protection: What the model may hold.
        p_missing: Share of missing values.
    """
    need = protection.rows(int(cells.count.sum()))
    groups = _groups(cells, need, protection.min_count)
    count = np.array([cells.count[start:stop].sum() for start, stop, _ in groups], dtype=np.float64)
    starts = np.array([start for start, _, _ in groups])
    stops = np.array([stop for _, stop, _ in groups])
    keeper = np.array([atom for _, _, atom in groups])
    lo, hi = _knots(cells, starts, stops, keeper, ends, precision)
    lo, hi = _out_of_gaps(cells, starts, stops, keeper, lo, hi, _apart(cells, need), protection.min_count)
    unit = grid_unit(precision)
    if unit:
        lo, hi = precision.snap(lo), precision.snap(hi)
        is_bin = hi > lo + 0.5 * unit
        lo, hi = np.where(is_bin, lo - BIN_REACH * unit, lo), np.where(is_bin, hi + BIN_REACH * unit, lo)
    return Marginal("axis", count / count.sum(), lo, hi, p_missing)


def _groups(cells: Cells, need: int, least: int) -> list[tuple[int, int, int]]:
    """Neighbouring cells that become one segment: ``(start, stop, atom)``; it is written as cell ``atom`` (-1: a bin).

    Atoms with enough rows stand alone. Between two of them, cells are collected until they have enough rows. A rest
    with too few rows joins the bin before it. Where there is no bin, it is written as the nearer of the two atoms.
    Where persons are counted, ``least`` of them are needed as well.
    """
    atom = (cells.lo == cells.hi) & (cells.count >= need)
    atom &= np.array([cells.of_enough(k, k + 1, least) for k in range(len(atom))], np.bool_)
    apart = _apart(cells, need)
    groups: list[list[int]] = []
    place, size = 0, len(cells.count)
    while place < size:
        if atom[place]:
            groups.append([place, place + 1, place])
            place += 1
            continue
        stop = place
        while stop < size and not atom[stop] and not (apart[stop] and stop > place):
            stop += 1
        bins = _collect(cells, place, stop, need, least)
        if bins:
            groups += [[a, b, -1] for a, b in bins]
        elif groups and not apart[place] and (stop == size or apart[stop] or _nearer_left(cells, place, stop)):
            groups[-1][1] = stop
        elif stop < size and atom[stop] and not apart[stop]:
            groups.append([place, stop + 1, stop])
            stop += 1
        else:
            groups.append([place, stop, -1])
        place = stop
    return [(a, b, c) for a, b, c in groups]


def _apart(cells: Cells, need: int) -> Mask:
    """bool[m]: cells that begin after an empty gap of the column."""
    return empty_gaps(cells.lo, cells.hi, cells.count, (cells.lo == cells.hi) & (cells.count >= need))


def _out_of_gaps(
    cells: Cells,
    starts: Integers,
    stops: Integers,
    keeper: Integers,
    lo: Floats,
    hi: Floats,
    apart: Mask,
    least: int,
) -> tuple[Floats, Floats]:
    """Segments that do not reach into empty gaps: at a gap a bin ends with its fifth most extreme value."""
    for k in np.flatnonzero(apart[starts]).tolist():
        if k and keeper[k - 1] < 0:
            rows, place = 0, int(stops[k - 1])
            while place > starts[k - 1] and (rows < least or not cells.of_enough(place, int(stops[k - 1]), least)):
                place -= 1
                rows += int(cells.count[place])
            hi[k - 1] = max(lo[k - 1], min(hi[k - 1], cells.lo[place]))
        if keeper[k] < 0:
            rows, place = 0, int(starts[k]) - 1
            while place < stops[k] - 1 and (rows < least or not cells.of_enough(int(starts[k]), place + 1, least)):
                place += 1
                rows += int(cells.count[place])
            lo[k] = min(hi[k], max(lo[k], cells.hi[place]))
    return lo, hi


def _collect(cells: Cells, place: int, stop: int, need: int, least: int) -> list[tuple[int, int]]:
    """Cut a run of cells, from the left, into bins of at least ``need`` rows; no bin if there are too few rows."""
    bins: list[tuple[int, int]] = []
    start, rows = place, 0
    for here, more in enumerate(cells.count[place:stop].tolist(), place):
        rows += more
        if rows >= need and cells.of_enough(start, here + 1, least):
            bins.append((start, here + 1))
            start, rows = here + 1, 0
    if bins and start < stop:
        bins[-1] = (bins[-1][0], stop)
    return bins


def _nearer_left(cells: Cells, start: int, stop: int) -> bool:
    """Whether the run of cells lies nearer to the atom before it than to the one after it."""
    middle = 0.5 * cells.lo[start] + 0.5 * cells.hi[stop - 1]
    return bool(middle - cells.hi[start - 1] <= cells.lo[stop] - middle)


def _knots(
    cells: Cells, starts: Integers, stops: Integers, keeper: Integers, ends: tuple[float, float], precision: Precision
) -> tuple[Floats, Floats]:
    """First and last value of each segment: an atom is both; a bin reaches half way to its neighbours."""
    floor, ceiling = ends
    lo, hi = cells.lo[starts].copy(), cells.hi[stops - 1].copy()
    is_atom = keeper >= 0
    lo[is_atom] = hi[is_atom] = cells.lo[keeper[is_atom]]
    middle = 0.5 * hi[:-1] + 0.5 * lo[1:]
    unit = grid_unit(precision)
    if unit:
        # The edge lies between two grid points; the point below it is the last of the left bin.
        below = precision.snap(middle - 0.5 * unit)
        left, right = below, below + unit
    else:
        left = right = _rounded(middle, np.minimum(_widths(lo, hi)[:-1], _widths(lo, hi)[1:]))
    bins = ~is_atom
    hi[:-1] = np.where(bins[:-1], np.maximum(left, lo[:-1]), hi[:-1])
    lo[1:] = np.where(bins[1:], np.minimum(right, hi[1:]), lo[1:])
    lo[0] = max(lo[0], floor) if bins[0] else lo[0]
    hi[-1] = min(hi[-1], ceiling) if bins[-1] else hi[-1]
    lo, hi = np.clip(lo, floor, ceiling), np.clip(hi, floor, ceiling)
    return lo, np.maximum(lo, hi)


def _widths(lo: Floats, hi: Floats) -> Floats:
    """Width of each segment; of an atom, the distance to its nearer neighbour."""
    width = hi - lo
    gaps = np.concatenate([[np.inf], lo[1:] - hi[:-1], [np.inf]])
    return np.where(width > 0, width, np.minimum(gaps[:-1], gaps[1:]))


def _rounded(values: Floats, widths: Floats) -> Floats:
    """Values moved to a dyadic grid 32 to 64 times finer than ``widths``, so that they are no values of the data."""
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.exp2(np.floor(np.log2(widths)) - 5)
        moved = np.rint(values / step) * step
    return np.where(np.isfinite(moved), moved, values)


def protected_ends(
    low: tuple[Floats, Integers], high: tuple[Floats, Integers], protection: Protection
) -> tuple[float, float]:
    """The two values that a marginal may not go beyond.

    Args:
        low: The smallest distinct values in increasing order, and their rows.
        high: The largest distinct values in increasing order, and their rows.
        protection: ``clip`` takes the value that is the fifth (or ``min_count``-th) most extreme, counted with rows.

    Returns:
        Lower and upper end; equal where the two would cross (fewer than ten rows).
    """
    if not protection.clip:
        return float(low[0][0]), float(high[0][-1])
    rank = protection.rank
    first = int(np.searchsorted(np.cumsum(low[1]), rank))
    last = int(np.searchsorted(np.cumsum(high[1][::-1]), rank))
    floor, ceiling = float(low[0][min(first, len(low[0]) - 1)]), float(high[0][::-1][min(last, len(high[0]) - 1)])
    return (floor, ceiling) if floor <= ceiling else (ceiling, ceiling)


def person_ends(ends: PersonEnds, protection: Protection) -> tuple[float, float]:
    """As ``protected_ends``, by persons: the fifth (or ``min_count``-th) most extreme person's own most extreme value.

    Args:
        ends: The persons with the most extreme values of the column; of at least one.
        protection: Its ``clip`` must be set.
    """
    rank = protection.rank
    floor, ceiling = float(ends.low[:rank][-1]), float(ends.high[:rank][-1])
    return (floor, ceiling) if floor <= ceiling else (ceiling, ceiling)


def kept_categories(count: Integers, protection: Protection, persons: Integers | None = None) -> NDArray[np.bool_]:
    """Which categories a model may hold, bool[k], by their rows and, where they are counted, by their persons."""
    if protection.rare == "keep":
        return np.asarray(count > 0)
    least = max(1, protection.min_count)
    return np.asarray((count >= least) & (count >= least if persons is None else persons >= least))


def category_marginal(count: Sequence[int] | Integers, order: Integers, p_missing: float) -> Marginal:
    """Quantile function over categories.

    Args:
        count: int64[k], rows of each category of the model.
        order: int64[k], the categories in latent order.
        p_missing: Share of missing values.
    """
    rows = np.asarray(count, dtype=np.float64)[order]
    index = order.astype(np.float64)
    return Marginal("category", rows / rows.sum(), index, index, p_missing)


def atoms_marginal(values: Floats, count: Integers, p_missing: float) -> Marginal:
    """Quantile function over values that are all atoms.

    Args:
        values: float64[m], increasing.
        count: int64[m], rows of each value.
        p_missing: Share of missing values.
    """
    rows = count.astype(np.float64)
    return Marginal("axis", rows / rows.sum(), values.copy(), values.copy(), p_missing)
