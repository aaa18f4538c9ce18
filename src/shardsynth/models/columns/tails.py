"""The tails of a numeric column: what a model holds beyond the fifth most extreme value (``extremes: tail``).

No value beyond an end is looked at. A generalised Pareto distribution is fitted to how many rows lie in each cell
between a threshold and the end, and to how many lie at the end or beyond (Pickands 1975; the likelihood is that of
grouped and censored data). Its part beyond the end becomes segments of the quantile function. So the model stays the
same, to the last byte, whatever the values beyond the end are.

The shape has the prior N(0, 0.2^2) and lies between -1 (uniform) and 1 (no mean). A tail ends where a table of the same
size would have a row in one case of four, at four times the distance from the threshold to the end, or at a bound that
is known without these rows, whichever comes first. So synthetic rows seldom have a range that a real table of that size
would not have. The numbers bring the range of synthetic rows near that of the real ones on 113 columns of 17 tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.empty_gaps import empty_gaps
from shardsynth.data.ends import Ends
from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.marginals import BIN_REACH, Cells, Protection, grid_unit, protected_marginal

Floats = NDArray[np.float64]

#: Rows beyond the threshold: this share of all, but at least and at most so many, and at most a quarter of all.
_SHARE, _FEWEST, _MOST, _LARGEST_SHARE = 0.05, 100, 1000, 0.25
#: Fewest rows of a column that gets tails, and fewest cells between threshold and end.
_ROWS, _CELLS = 40, 3
#: Standard deviation of the prior of the shape, and its limits.
_PRIOR, _SHAPE = 0.2, 1.0
#: Rows beyond an end, as expected of the fifth most extreme value.
_BEYOND = 5.0
#: Rows that would lie beyond the far end of a tail, and its length in distances from threshold to end.
_LAST, _LENGTH = 0.25, 4.0
#: More rows than this expected beyond an end, of which at most four can be there: the column ends at the end.
_TOO_MANY = 12.0
#: With more rows at the end and beyond, the value before the end must have so many times the rows of the end.
_FALLING, _FALL = 10, 1.5
#: A density that falls by less than this from the first to the last third before the end is cut there: a window of
#: dates, a scale. A distribution that is bounded but falls (shape -0.5) falls to 0.4, an exponential one to 0.2.
_FLAT = 0.5
#: Segments of a tail.
_SEGMENTS = 14


@dataclass(frozen=True)
class Tail:
    """The segments of one tail, outwards from the end.

    Attributes:
        rows: Rows of the column that lie in the tail.
        share: float64[m], of these; sums to 1.
        first: float64[m], distance of the first value of each segment from the end.
        last: float64[m], of the last value; equal to ``first`` for a single value.
    """

    rows: int
    share: Floats
    first: Floats
    last: Floats


def with_tails(
    cells: Cells,
    ends: Ends,
    within: tuple[float, float],
    bounds: tuple[float, float],
    precision: Precision,
    protection: Protection,
    p_missing: float,
) -> Marginal:
    """Quantile function of cells under the protections, with a tail beyond each end where one can be fitted.

    Args:
        cells: In increasing order; the first and the last one hold all rows at the ends and beyond, as single values.
        ends: Those of the column.
        within: The ends, cut to those of the options.
        bounds: Least and largest value of a tail, known without the rows beyond the ends.
        precision: Grid of the column.
        protection: What the model may hold.
        p_missing: Share of missing values.
    """
    unit = grid_unit(precision)
    low, high = float(cells.lo[0]), float(cells.hi[-1])
    mirrored = Cells(cells.count[::-1], -cells.hi[::-1], -cells.lo[::-1])
    below = fitted_tail(mirrored, ends.at_low, low - bounds[0], unit, ends.each_low)
    above = fitted_tail(cells, ends.at_high, bounds[1] - high, unit, ends.each_high)
    count, total = cells.count.copy(), int(cells.count.sum())
    count[0] -= 0 if below is None else below.rows
    count[-1] -= 0 if above is None else above.rows
    held = count > 0
    persons = None if cells.persons is None else cells.persons[held]
    rest = Cells(count[held], cells.lo[held], cells.hi[held], persons)
    core = protected_marginal(rest, within, precision, protection, p_missing)
    lo, hi = core.lo.copy(), core.hi.copy()
    reach = BIN_REACH * unit
    if below is not None and hi[0] > lo[0]:
        lo[0] = min(lo[0], low - reach)
    if above is not None and hi[-1] > lo[-1]:
        hi[-1] = max(hi[-1], high + reach)
    parts = [(core.probability * (int(rest.count.sum()) / total), lo, hi)]
    if below is not None:
        first, last = (low - edge[::-1] for edge in (below.last, below.first))
        parts.insert(0, (below.share[::-1] * (below.rows / total), *_on_grid(first, last, precision)))
    if above is not None:
        first, last = high + above.first, high + above.last
        parts.append((above.share * (above.rows / total), *_on_grid(first, last, precision)))
    share, lo, hi = (np.concatenate(arrays) for arrays in zip(*parts))
    return replace(core, probability=share / share.sum(), lo=lo, hi=hi).with_ends(within)


def fitted_tail(cells: Cells, persons: int, room: float, unit: float, each: float = 1.0) -> Tail | None:
    """The upper tail of a column; None where there is nothing beyond, or too little to fit it to.

    Args:
        cells: In increasing order; the last one holds all rows at the end and beyond, as a single value.
        persons: Rows, or persons where these are counted, at the end or beyond.
        room: Distance from the end to the largest value that a tail may have.
        unit: Distance of neighbouring values; 0 without a grid.
        each: Rows that a person has near the end, on average. Of a person with more, the other rows stay at the end.
    """
    start = _threshold(cells, persons, each)
    if start is None or empty_gaps(cells.lo, cells.hi, cells.count, cells.lo == cells.hi)[start:].any():
        return None  # what lies after a gap, such as 9999 for "unknown", is no tail
    end, beyond = float(cells.lo[-1]), min(int(cells.count[-1]), round(persons * each))
    middle = 0.5 * cells.hi[start - 1 : -2] + 0.5 * cells.lo[start:-1]
    edges = np.append(middle, end - 0.5 * unit) - middle[0]
    length = float(edges[-1])
    if not (np.isfinite(length) and length > 0) or (np.diff(edges) <= 0).any():
        return None
    rows_before = np.append(0.0, np.cumsum(cells.count[start:-1]))
    third, two_thirds = np.interp([length / 3, 2 * length / 3], edges, rows_before)
    if rows_before[-1] - two_thirds >= _FLAT * third:
        return None
    scale, shape = _fitted(edges / length, np.append(cells.count[start:-1], beyond).astype(np.float64))
    half = 0.5 * unit / length
    at_end, after = (float(_survival(np.array(x), scale, shape)) for x in (1.0, 1.0 + 2 * half))
    limit = (
        min(room / length, _LENGTH)
        if not unit
        else np.floor(min(room / length, _LENGTH) / (2 * half) + 1e-9) * 2 * half
    )
    if limit <= 0 or after <= 0:
        return None
    last = float(_survival(np.array(1.0 + 2 * half + limit), scale, shape))
    share = (after - last) / max(at_end - last, 1e-300)
    expected = float(cells.count[start:-1].sum() + beyond) * (at_end - after) / beyond * persons
    if persons * share > _TOO_MANY or persons - _BEYOND > expected + 3.0 * np.sqrt(expected) + 2.0:
        return None  # many rows at the end itself: the column ends here, as ages that are cut at 90 do
    if persons > _FALLING and float(cells.count[-2]) / beyond * persons < _FALL * (persons - _BEYOND + 1):
        return None  # the counts do not fall towards the end: a scale from 0 to 10 ends at 10
    rows = round(min(persons * share, _BEYOND) / persons * beyond)
    if rows < 1:
        return None
    local = scale + shape * (1.0 + 2 * half)
    furthest = max(_LAST / _BEYOND, float(_survival(np.array(limit), local, shape)))
    levels = np.exp(np.linspace(0.0, np.log(furthest), _SEGMENTS + 1))
    places = np.minimum(_quantile(levels, local, shape), limit)
    places[0] = 0.0
    if not unit:
        held = np.diff(places) > 0
        mass = -np.diff(levels)[held]
        if not len(mass):
            return None
        return Tail(rows, mass / mass.sum(), places[:-1][held] * length, places[1:][held] * length)
    steps = np.unique(np.rint(places / (2 * half)))
    steps = steps if len(steps) > 1 else np.array([0.0, 1.0])
    mass = -np.diff(_survival(steps * 2 * half, local, shape))
    if not mass.sum() > 0:
        return None
    held = mass > 0
    return Tail(rows, (mass / mass.sum())[held], ((steps[:-1] + 1) * unit)[held], (steps[1:] * unit)[held])


def _threshold(cells: Cells, persons: int, each: float) -> int | None:
    """Number of the first cell beyond the threshold; None where there are too few rows or cells."""
    total, beyond = int(cells.count.sum()), min(int(cells.count[-1]), round(persons * each))
    if total < _ROWS or persons < 1 or cells.lo[-1] != cells.hi[-1]:
        return None
    wanted = min(max(_SHARE * total, _FEWEST), _MOST, _LARGEST_SHARE * total)
    wanted = max(wanted, 2.0 * beyond)  # the fit must see more than the rows at the end
    from_top = np.cumsum(np.append(beyond, cells.count[-2::-1]))[::-1]  # rows of each cell and of those above it
    enough = np.flatnonzero(from_top >= wanted)
    start = min(int(enough[-1]) if len(enough) else 0, len(cells.count) - 1 - _CELLS)
    while start < len(cells.count) - 1 - _CELLS and from_top[start] > 0.5 * total:
        start += 1
    return start if start >= 1 and from_top[start] <= 0.75 * total else None


def _survival(places: Floats, scale: Floats | float, shape: Floats | float) -> Floats:
    """1 - F of a generalised Pareto distribution at places from 0 on."""
    scale, shape = np.asarray(scale), np.asarray(shape)
    flat = np.abs(shape) < 1e-9
    safe = np.where(flat, 1.0, shape)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        base = np.maximum(1.0 + safe * places / scale, 0.0)
        powers = np.where(base > 0, np.exp(-np.log(np.maximum(base, 1e-300)) / safe), 0.0)
        return np.asarray(np.where(flat, np.exp(-places / scale), powers), np.float64)


def _quantile(levels: Floats, scale: float, shape: float) -> Floats:
    """Inverse of ``_survival``."""
    if abs(shape) < 1e-9:
        return np.asarray(-scale * np.log(levels))
    return np.asarray(scale * np.expm1(-shape * np.log(levels)) / shape)


def _fitted(edges: Floats, count: Floats) -> tuple[float, float]:
    """Scale and shape of the largest posterior density, by a grid that is made finer four times.

    Args:
        edges: float64[m], lower edges of the cells from 0 on; the last cell has no upper one.
        count: float64[m], rows of each.
    """
    middle = int(np.searchsorted(np.cumsum(count), 0.5 * count.sum()))
    log_scale, shape = float(np.log(edges[min(middle + 1, len(edges) - 1)])), 0.0
    wide, steep, grid = 1.6, _SHAPE, np.linspace(-1.0, 1.0, 17)
    for _ in range(4):
        scales, shapes = log_scale + wide * grid, np.clip(shape + steep * grid, -_SHAPE, _SHAPE)
        beyond = _survival(edges, np.exp(scales)[:, None, None], shapes[None, :, None])
        inside = np.concatenate([beyond[..., :-1] - beyond[..., 1:], beyond[..., -1:]], axis=-1)
        density = (count * np.log(np.maximum(inside, 1e-300))).sum(axis=-1) - 0.5 * (shapes / _PRIOR) ** 2
        i, j = np.unravel_index(int(np.argmax(density)), density.shape)
        log_scale, shape = float(scales[i]), float(shapes[j])
        wide, steep = wide / 6.0, steep / 6.0
    return float(np.exp(log_scale)), shape


def _on_grid(first: Floats, last: Floats, precision: Precision) -> tuple[Floats, Floats]:
    """First and last value of segments as a ``Marginal`` has them."""
    unit = grid_unit(precision)
    if not unit:
        return first, last
    first, last = precision.snap(first), precision.snap(last)
    several = last > first + 0.5 * unit
    reach = np.where(several, BIN_REACH * unit, 0.0)
    return first - reach, np.where(several, last, first) + reach
