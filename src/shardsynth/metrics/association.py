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
    columns; like SciPy, no Yates' correction of 2 x 2 tables.

    Args:
        tables: Contingency tables of the d columns.

    Returns:
        float64[d, d], symmetric; NaN for a pair without a table, or with fewer than two rows or columns that are not
        empty.
    """
    d = len(tables.sizes)
    v = np.full((d, d), np.nan)
    for i in range(tables.leaders):
        v[i, i + 1 :] = v[i + 1 :, i] = _cramers_v(tables.side_by_side(i), tables.first_columns(i))
    return v


def _cramers_v(matrix: Integers, starts: Integers) -> Floats:
    """V of the tables that are side by side in ``matrix``: table k starts at column ``starts[k]``."""
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
    """One minus the total variation distance of every pair that has a table. Missing and unseen values count too.

    Args:
        real: Contingency tables of the real rows.
        synthetic: Those of the synthetic rows, of the same columns and codes.

    Returns:
        float64[d, d], symmetric; NaN for a pair without a table, or without rows.
    """
    d = len(real.sizes)
    similarity = np.full((d, d), np.nan)
    for i in range(real.leaders):
        of_real, of_synthetic = (tables.side_by_side(i).astype(np.float64) for tables in (real, synthetic))
        starts = real.first_columns(i)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs(
                of_real / (of_real.sum() / len(starts)) - of_synthetic / (of_synthetic.sum() / len(starts))
            )
        one_minus = 1.0 - np.add.reduceat(distance.sum(axis=0), starts) / 2.0
        similarity[i, i + 1 :] = similarity[i + 1 :, i] = one_minus
    return similarity
