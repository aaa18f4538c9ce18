"""Contingency similarity and Cramer's V of all column pairs at once, as SDMetrics and SciPy define them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shardsynth.summaries.pair_tables import PairTables

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def cramers_v(tables: PairTables) -> Floats:
    """Cramer's V of every pair that has a table.

    Equal to ``scipy.stats.contingency.association(table, method="cramer")`` of the table without its empty rows and
    columns (which leaves 2 x 2 tables without Yates' correction).

    Returns:
        float64[d, d], symmetric; NaN without a table, and where fewer than two rows or columns are left.
    """
    d = len(tables.sizes)
    found = np.full((d, d), np.nan)
    for i in range(tables.leaders):
        found[i, i + 1 :] = found[i + 1 :, i] = _cramers_v(tables.side_by_side(i), tables.first_columns(i))
    return found


def _cramers_v(matrix: Integers, starts: Integers) -> Floats:
    """V of the tables that stand side by side in ``matrix`` from the columns ``starts`` on."""
    counts = matrix.astype(np.float64)
    total = counts.sum() / len(starts)
    widths = np.diff(np.append(starts, matrix.shape[1]))
    rows = np.add.reduceat(counts, starts, axis=1)
    columns = counts.sum(axis=0)
    if total == 0:
        return np.full(len(starts), np.nan)
    expected = np.repeat(rows, widths, axis=1) * columns / total
    shape = np.stack([(rows > 0).sum(axis=0), np.add.reduceat((columns > 0).astype(np.int64), starts)])
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.where(expected > 0, (counts - expected) ** 2 / expected, 0.0)
        phi2 = np.add.reduceat(cells.sum(axis=0), starts) / total
        v = np.sqrt(phi2 / (shape.min(axis=0) - 1))
    v[shape.min(axis=0) < 2] = np.nan
    return np.asarray(v, np.float64)


def contingency_similarity(real: PairTables, synthetic: PairTables) -> Floats:
    """One minus the total variation distance of every pair that has a table, missing values and unseen ones included.

    Returns:
        float64[d, d], symmetric; NaN without a table, or without rows.
    """
    d = len(real.sizes)
    found = np.full((d, d), np.nan)
    for i in range(real.leaders):
        mine, theirs = real.side_by_side(i).astype(np.float64), synthetic.side_by_side(i).astype(np.float64)
        starts = real.first_columns(i)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs(mine / (mine.sum() / len(starts)) - theirs / (theirs.sum() / len(starts)))
        found[i, i + 1 :] = found[i + 1 :, i] = 1.0 - np.add.reduceat(distance.sum(axis=0), starts) / 2.0
    return found
