"""The quality report from counts alone: SDMetrics' ``QualityReport`` 0.32 without its subsampling.

Column Shapes: ``TVComplement`` of categories, ``KSComplement`` of numbers and datetimes. Column Pair Trends:
``CorrelationSimilarity`` of two numeric columns, ``ContingencySimilarity`` of any other pair. SDMetrics averages only
the pairs whose real |Pearson| exceeds 0.5 or whose real Cramer's V exceeds 0.3; beside that ``default`` figure stands
``all_pairs``, where every pair that has a score counts.

Where it differs on purpose: categories beyond 256 of a column are compared as one; a dictionary entry that no row uses
does not make a pair drop out (pandas' unused categories do, by an error inside SDMetrics); decimals are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.metrics.association import contingency_similarity, cramers_v
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.score_tables import ScoreTables, is_discrete

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: SDMetrics' default thresholds.
CORRELATION_THRESHOLD = 0.5
ASSOCIATION_THRESHOLD = 0.3
#: Pairs that are listed at most: those of the default score first, then the worst.
LISTED_PAIRS = 50_000

_SCORED = ("numerical", "datetime", "categorical", "ordinal", "boolean")


def quality(
    real: Counts,
    synthetic: Counts,
    coder: TableCoder,
    *,
    correlation_threshold: float = CORRELATION_THRESHOLD,
    association_threshold: float = ASSOCIATION_THRESHOLD,
) -> dict[str, Any]:
    """Quality of a synthetic table, in the form of ``metrics/<model>.json``.

    Args:
        real: Counts of the real rows, with score tables.
        synthetic: Counts of the synthetic rows, on the same coder and on their own ranges.
        coder: What both were counted with.
        correlation_threshold: A numeric pair counts in the default score where the real |r| exceeds it.
        association_threshold: Any other pair counts where the real Cramer's V exceeds it.

    Returns:
        ``score``, ``column_shapes``, ``column_pair_trends``; the same three under ``all_pairs``; ``columns``: name to
        ``metric`` and ``score``; ``pairs``: a list of ``columns``, ``metric``, ``score``, ``real`` and ``synthetic``
        (Pearson's r), ``real_association`` and ``synthetic_association`` (Cramer's V), and ``contributes`` (to the
        default score); ``pairs_total``: how many pairs there are, listed or not. What cannot be computed is None.
    """
    columns = [c for c in coder.table if c.sdtype in _SCORED and (c.name in coder.index or c.role == "empty")]
    shapes = {c.name: _shape(c, coder, real, synthetic) for c in columns}
    shape_score = _mean([s["score"] for s in shapes.values()])
    pairs = _pairs(columns, coder, real, synthetic, correlation_threshold, association_threshold)
    default, every = _mean(pairs.score[pairs.contributes]), _mean(pairs.score)
    return {
        "score": _none(_mean([shape_score, default])),
        "column_shapes": _none(shape_score),
        "column_pair_trends": _none(default),
        "all_pairs": {
            "score": _none(_mean([shape_score, every])),
            "column_shapes": _none(shape_score),
            "column_pair_trends": _none(every),
        },
        "columns": {name: {**shape, "score": _none(shape["score"])} for name, shape in shapes.items()},
        "pairs": pairs.listed(columns),
        "pairs_total": len(pairs.score),
    }


def tv_complement(real: Integers, synthetic: Integers, unseen: int = 0, unseen_distinct: int = 0) -> float:
    """SDMetrics' ``TVComplement`` of two columns of categories.

    Args:
        real: int64[k], rows per category; missing values left out.
        synthetic: int64[k], of the same categories.
        unseen: Synthetic rows with another value.
        unseen_distinct: Distinct values among those.

    Returns:
        1 minus the total variation distance, where a category that only the synthetic column has counts 1e-6 real
        rows (SDMetrics' regularisation); NaN if either column is empty.
    """
    rows = int(synthetic.sum()) + unseen
    if not real.sum() or not rows:
        return float("nan")
    expected = real + np.where((real == 0) & (synthetic > 0), 1e-6, 0.0)
    total = float(expected.sum()) + 1e-6 * unseen_distinct
    distance = np.abs(synthetic / rows - expected / total).sum() + abs(unseen / rows - 1e-6 * unseen_distinct / total)
    return float(1.0 - 0.5 * distance)


def ks_complement(real: Integers, synthetic: Integers) -> float:
    """SDMetrics' ``KSComplement`` read off at the cuts: int64[m] rows per bin in order, missing values left out."""
    if not real.sum() or not synthetic.sum():
        return float("nan")
    return float(1.0 - np.abs(np.cumsum(real) / real.sum() - np.cumsum(synthetic) / synthetic.sum()).max())


def _shape(column: Column, coder: TableCoder, real: Counts, synthetic: Counts) -> dict[str, Any]:
    metric = "TVComplement" if is_discrete(column) else "KSComplement"
    i = coder.index.get(column.name)
    if i is None:
        return {"metric": metric, "score": float("nan")}
    mine, theirs = real.hist[i][:-1], synthetic.hist[i][:-1]
    if metric == "KSComplement":
        return {"metric": metric, "score": ks_complement(mine, theirs)}
    # Values that the profile never saw: only a table other than the one that it was taken of has any.
    mine, more = np.append(mine, real.outside[i].rows), synthetic.outside[i]
    return {"metric": metric, "score": tv_complement(mine, np.append(theirs, 0), more.rows, more.distinct)}


@dataclass(frozen=True)
class _Pairs:
    """All pairs in the order of ``itertools.combinations``: arrays of one entry per pair, NaN for "none"."""

    first: Integers
    second: Integers
    score: Floats
    real: Floats
    synthetic: Floats
    association: Floats
    made_association: Floats
    numeric: Mask
    contributes: Mask

    def listed(self, columns: Sequence[Column]) -> list[dict[str, Any]]:
        chosen = np.arange(len(self.score))
        if len(chosen) > LISTED_PAIRS:
            order = np.lexsort((np.nan_to_num(self.score, nan=2.0), ~self.contributes))
            chosen = np.sort(order[:LISTED_PAIRS])
        names = [c.name for c in columns]
        return [
            {
                "columns": [names[self.first[k]], names[self.second[k]]],
                "metric": "CorrelationSimilarity" if self.numeric[k] else "ContingencySimilarity",
                "score": _none(self.score[k]),
                "real": _none(self.real[k]),
                "synthetic": _none(self.synthetic[k]),
                "real_association": _none(self.association[k]),
                "synthetic_association": _none(self.made_association[k]),
                "contributes": bool(self.contributes[k]),
            }
            for k in chosen.tolist()
        ]


def _pairs(
    columns: Sequence[Column],
    coder: TableCoder,
    real: Counts,
    synthetic: Counts,
    correlation_threshold: float,
    association_threshold: float,
) -> _Pairs:
    if real.score is None or synthetic.score is None:
        raise ValueError("quality needs counts that were taken with score ranges")
    mine, theirs = real.score.settle(), synthetic.score.settle()
    first, second = (a.astype(np.int64) for a in np.triu_indices(len(columns), 1))
    discrete = np.array([is_discrete(c) for c in columns], np.bool_)
    numeric = ~discrete[first] & ~discrete[second]
    r_real, r_synthetic = (_correlations(columns, coder, s)[first, second] for s in (mine, theirs))
    # SDMetrics gives no score where the real correlation is not beyond the threshold: at threshold 0, where it is 0.
    similarity = 1.0 - np.abs(r_real - r_synthetic) / 2.0
    similarity[r_real == 0] = np.nan
    score = np.where(numeric, similarity, np.nan)
    association = np.full(len(score), np.nan)
    made_association = association.copy()
    if mine.tables is not None and theirs.tables is not None:
        place = np.array([mine.place[c.name] for c in columns], np.int64)
        a, b = place[first], place[second]
        broken = np.array([_uncuttable(c, coder, mine, theirs) for c in columns], np.bool_)
        usable = ~numeric & ~broken[first] & ~broken[second]
        score[usable] = contingency_similarity(mine.tables, theirs.tables)[a, b][usable]
        association[usable] = cramers_v(mine.tables)[a, b][usable]
        made_association[usable] = cramers_v(theirs.tables)[a, b][usable]
    with np.errstate(invalid="ignore"):
        beyond = np.where(numeric, np.abs(r_real) > correlation_threshold, association > association_threshold)
        free = np.where(numeric, correlation_threshold <= 0, association_threshold <= 0)
    contributes = (beyond | free) & ~np.isnan(score)
    return _Pairs(first, second, score, r_real, r_synthetic, association, made_association, numeric, contributes)


def _correlations(columns: Sequence[Column], coder: TableCoder, tables: ScoreTables) -> Floats:
    """float64[c, c]: Pearson's r of the numeric columns; NaN where SDMetrics reports an error, and everywhere else."""
    r, n = tables.moments.correlations()
    ranges = tables.moments.ranges
    constant = np.array([found.constant for found in ranges], np.bool_)
    r[(n < 2) | constant[:, None] | constant] = np.nan
    found = np.full((len(columns), len(columns)), np.nan)
    names = {c.name: k for k, c in enumerate(columns)}
    at = [names[coder.columns[i].name] for i in tables.numbers]
    found[np.ix_(at, at)] = r
    return found


def _uncuttable(column: Column, coder: TableCoder, mine: ScoreTables, theirs: ScoreTables) -> bool:
    """Whether NumPy cannot cut the column's range into ten bins, in which case SDMetrics has no score."""
    if is_discrete(column) or column.name not in coder.index:
        return False
    return any(tables.ranges.by_name[column.name].edges() is None for tables in (mine, theirs))


def _mean(values: Any) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def _none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
