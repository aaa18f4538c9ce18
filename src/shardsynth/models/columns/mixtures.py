"""Mixtures of quantile functions: the distribution of a column, as fine in each class as the class itself has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.marginals import BIN_REACH, grid_unit

Floats = NDArray[np.float64]

#: Grid points further from 0 than so many units are not exact in halves.
_EXACT = float(2**50)
#: Segments of less probability are left out.
_LEAST = 1e-12


def mixture(
    shares: Sequence[float], parts: Sequence[Marginal], precision: Precision
) -> tuple[Marginal, list[Floats]] | None:
    """The distribution of values that come from each part with its share.

    Its segments end where one of any part ends. Inside a segment values are spread evenly, as in each of the parts.

    Args:
        shares: Of the parts.
        parts: Of kind ``axis``; all with the same probability of missing.
        precision: Grid of the column.

    Returns:
        The mixture, and per part float64[m], the probability of each of its segments in the part; None where the
        numbers are too large for their grid.
    """
    unit = grid_unit(precision)
    edges = [_edges(part, precision) for part in parts]
    if unit and max(np.abs(edge).max() for pair in edges for edge in pair) > _EXACT:
        return None
    places = np.unique(np.concatenate([edge for pair in edges for edge in pair]))
    first, last = np.repeat(places, 2)[:-1], np.repeat(places, 2)[1:]  # an atom, the way to the next one, and so on
    within = [_masses(part.probability, lo, hi, places) for part, (lo, hi) in zip(parts, edges)]
    total = np.sum([share * masses for share, masses in zip(shares, within)], axis=0)
    kept = total > _LEAST
    total, first, last = total[kept], first[kept], last[kept]
    if unit:
        low, high = _points(first + 1, unit, precision), _points(last - 1, unit, precision)
        is_bin = high > low + 0.5 * unit
        first = np.where(is_bin, low - BIN_REACH * unit, low)
        last = np.where(is_bin, high + BIN_REACH * unit, low)
    mixed = Marginal("axis", total / total.sum(), first, last, parts[0].p_missing)
    return mixed, [masses[kept] / masses[kept].sum() for masses in within]


def _edges(part: Marginal, precision: Precision) -> tuple[Floats, Floats]:
    """Where the segments begin and end; on a grid, in halves of its unit, half way between two points."""
    unit = grid_unit(precision)
    if not unit:
        return part.lo, part.hi
    reach = np.where(part.hi > part.lo, BIN_REACH, 0.0) * unit
    origin = float(precision.origin)
    first, last = (np.rint((ends - origin) / unit) for ends in (part.lo + reach, part.hi - reach))
    return 2.0 * first - 1.0, 2.0 * last + 1.0


def _points(halves: Floats, unit: float, precision: Precision) -> Floats:
    return precision.snap(halves * (0.5 * unit) + float(precision.origin))


def _masses(probability: Floats, lo: Floats, hi: Floats, places: Floats) -> Floats:
    """Probability float64[2 m - 1] of a part at each place (its atoms), and between it and the next one."""
    width = hi - lo
    wide = width > 0
    masses = np.zeros(2 * len(places) - 1)
    np.add.at(masses, 2 * np.searchsorted(places, lo[~wide]), probability[~wide])
    shares = np.clip((places[:, None] - lo[None, wide]) / width[None, wide], 0.0, 1.0)
    masses[1::2] = np.diff(shares @ probability[wide])
    return masses
