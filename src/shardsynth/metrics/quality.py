"""The quality report, computed from counts only: SDMetrics' ``QualityReport`` 0.32 without its subsampling.

Column Shapes: ``TVComplement`` of categories, ``KSComplement`` of numbers and datetimes. Column Pair Trends:
``CorrelationSimilarity`` of two numeric columns, ``ContingencySimilarity`` of any other pair. SDMetrics averages only
the pairs whose real |Pearson| exceeds 0.5 or whose real Cramer's V exceeds 0.3. ``all_pairs`` has the average of every
pair that has a score.

Intended differences: of a column with more than 256 categories, the rarest count as one; a dictionary entry that no row
uses does not remove a pair (in SDMetrics an unused category of pandas does, by an error); decimals are numbers.
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
#: Pairs that are listed, at most: first those of the default score, then those with the worst scores.
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
        coder: Codes that both were counted with.
        correlation_threshold: A numeric pair counts in the default score if the real |r| exceeds it.
        association_threshold: Any other pair counts if the real Cramer's V exceeds it.

    Returns:
        ``score``, ``column_shapes``, ``column_pair_trends``; the same three under ``all_pairs``; under ``real_bins``
        the scores with pairs of a category and a number on the bins of the real table, if these were counted
        (``summaries.real_bins``), and ``all_pairs`` of them; ``columns``: name to
        ``metric`` and ``score``; ``pairs``: a list of ``columns``, ``metric``, ``score``, ``real`` and ``synthetic``
        (Pearson's r), ``real_association`` and ``synthetic_association`` (Cramer's V), and ``contributes`` (to the
        default score); ``pairs_total``: number of pairs, listed or not. What cannot be computed is None.

    Raises:
        ValueError: The counts have no score tables.
    """
    columns = [c for c in coder.table if c.sdtype in _SCORED and (c.name in coder.index or c.role == "empty")]
    shapes = {c.name: _shape(c, coder, real, synthetic) for c in columns}
    shape_score = _mean([s["score"] for s in shapes.values()])
    pairs = _pairs(columns, coder, real, synthetic, correlation_threshold, association_threshold)
    default, every = _mean(pairs.score[pairs.contributes]), _mean(pairs.score)
    on_real = (
        {} if pairs.on_real is None else {"real_bins": _on_real_bins(shape_score, pairs.on_real, pairs.contributes)}
    )
    return {
        "score": none_if_nan(_mean([shape_score, default])),
        "column_shapes": none_if_nan(shape_score),
        "column_pair_trends": none_if_nan(default),
        "all_pairs": {
            "score": none_if_nan(_mean([shape_score, every])),
            "column_shapes": none_if_nan(shape_score),
            "column_pair_trends": none_if_nan(every),
        },
        **on_real,
        "columns": {name: {**shape, "score": none_if_nan(shape["score"])} for name, shape in shapes.items()},
        "pairs": pairs.listed(columns),
        "pairs_total": len(pairs.score),
    }


def _on_real_bins(shapes: float, scores: Floats, contributes: Mask) -> dict[str, Any]:
    """The scores that depend on pairs, on the real table's bins."""
    default, every = _mean(scores[contributes]), _mean(scores)
    return {
        "score": none_if_nan(_mean([shapes, default])),
        "column_pair_trends": none_if_nan(default),
        "all_pairs": {"score": none_if_nan(_mean([shapes, every])), "column_pair_trends": none_if_nan(every)},
    }


def tv_complement(real: Integers, synthetic: Integers, unseen: int = 0, unseen_distinct: int = 0) -> float:
    """SDMetrics' ``TVComplement`` of two columns of categories.

    Args:
        real: int64[k], rows per category, without missing values.
        synthetic: int64[k], likewise, of the same categories.
        unseen: Synthetic rows with another value.
        unseen_distinct: Distinct values in those rows.

    Returns:
        1 minus the total variation distance. A category that only the synthetic column has counts as 1e-6 real rows
        (SDMetrics' regularisation). NaN if either column is empty.
    """
    rows = int(synthetic.sum()) + unseen
    if not real.sum() or not rows:
        return float("nan")
    expected = real + np.where((real == 0) & (synthetic > 0), 1e-6, 0.0)
    total = float(expected.sum()) + 1e-6 * unseen_distinct
    distance = np.abs(synthetic / rows - expected / total).sum() + abs(unseen / rows - 1e-6 * unseen_distinct / total)
    return float(1.0 - 0.5 * distance)


def ks_complement(real: Integers, synthetic: Integers) -> float:
    """SDMetrics' ``KSComplement`` of two numeric columns, with their cdfs compared at the cuts of the bins.

    Args:
        real: int64[m], rows per bin in order, without missing values.
        synthetic: int64[m], likewise, of the same bins.

    Returns:
        1 minus the Kolmogorov-Smirnov distance; NaN if either column is empty.
    """
    if not real.sum() or not synthetic.sum():
        return float("nan")
    return float(1.0 - np.abs(np.cumsum(real) / real.sum() - np.cumsum(synthetic) / synthetic.sum()).max())


def _shape(column: Column, coder: TableCoder, real: Counts, synthetic: Counts) -> dict[str, Any]:
    metric = "TVComplement" if is_discrete(column) else "KSComplement"
    i = coder.index.get(column.name)
    if i is None:
        return {"metric": metric, "score": float("nan")}
    of_real, of_synthetic = real.hist[i][:-1], synthetic.hist[i][:-1]
    if metric == "KSComplement":
        return {"metric": metric, "score": ks_complement(of_real, of_synthetic)}
    # Values that the profile does not have: only another table than the profiled one has any.
    of_real, unseen = np.append(of_real, real.outside[i].rows), synthetic.outside[i]
    return {"metric": metric, "score": tv_complement(of_real, np.append(of_synthetic, 0), unseen.rows, unseen.distinct)}


@dataclass(frozen=True)
class _Pairs:
    """All pairs in the order of ``itertools.combinations``: arrays of one entry per pair, NaN for no value."""

    first: Integers
    second: Integers
    score: Floats
    real: Floats
    synthetic: Floats
    association: Floats
    synthetic_association: Floats
    numeric: Mask
    contributes: Mask
    on_real: Floats | None = None

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
                "score": none_if_nan(self.score[k]),
                "real": none_if_nan(self.real[k]),
                "synthetic": none_if_nan(self.synthetic[k]),
                "real_association": none_if_nan(self.association[k]),
                "synthetic_association": none_if_nan(self.synthetic_association[k]),
                "contributes": bool(self.contributes[k]),
                **({} if self.on_real is None else {"real_bins": none_if_nan(self.on_real[k])}),
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
        raise ValueError("quality needs counts with score tables")
    real_tables, synthetic_tables = real.score.settle(), synthetic.score.settle()
    first, second = (a.astype(np.int64) for a in np.triu_indices(len(columns), 1))
    discrete = np.array([is_discrete(c) for c in columns], np.bool_)
    numeric = ~discrete[first] & ~discrete[second]
    r_real, r_synthetic = (
        _correlations(columns, coder, tables)[first, second] for tables in (real_tables, synthetic_tables)
    )
    # SDMetrics gives no score if the real correlation is not beyond its threshold. Here that is 0: no score at 0.
    similarity = 1.0 - np.abs(r_real - r_synthetic) / 2.0
    similarity[r_real == 0] = np.nan
    score = np.where(numeric, similarity, np.nan)
    association = np.full(len(score), np.nan)
    synthetic_association = association.copy()
    if real_tables.tables is not None and synthetic_tables.tables is not None:
        place = np.array([real_tables.place[c.name] for c in columns], np.int64)
        a, b = place[first], place[second]
        broken = np.array([_uncuttable(c, coder, real_tables, synthetic_tables) for c in columns], np.bool_)
        usable = ~numeric & ~broken[first] & ~broken[second]
        score[usable] = contingency_similarity(real_tables.tables, synthetic_tables.tables)[a, b][usable]
        association[usable] = cramers_v(real_tables.tables)[a, b][usable]
        synthetic_association[usable] = cramers_v(synthetic_tables.tables)[a, b][usable]
    with np.errstate(invalid="ignore"):
        beyond = np.where(numeric, np.abs(r_real) > correlation_threshold, association > association_threshold)
        no_threshold = np.where(numeric, correlation_threshold <= 0, association_threshold <= 0)
    contributes = (beyond | no_threshold) & ~np.isnan(score)
    on_real = _pairs_on_real_bins(columns, coder, real, synthetic, score, first, second)
    return _Pairs(
        first, second, score, r_real, r_synthetic, association, synthetic_association, numeric, contributes, on_real
    )


def _pairs_on_real_bins(
    columns: Sequence[Column],
    coder: TableCoder,
    real: Counts,
    synthetic: Counts,
    score: Floats,
    first: Integers,
    second: Integers,
) -> Floats | None:
    """The scores of all pairs, those of a category and a number on the real bins; None where these were not counted."""
    bins = real.real_bins
    if bins is None or synthetic.real_bins is None:
        return None
    scores = score.copy()
    for k, (a, b) in enumerate(zip(first.tolist(), second.tolist())):
        category, number = (a, b) if is_discrete(columns[a]) else (b, a)
        i, j = coder.index.get(columns[category].name), coder.index.get(columns[number].name)
        if is_discrete(columns[category]) and not is_discrete(columns[number]) and i is not None and j is not None:
            scores[k] = bins.similarity(synthetic.real_bins, i, j)
    return scores


def _correlations(columns: Sequence[Column], coder: TableCoder, tables: ScoreTables) -> Floats:
    """float64[c, c]: Pearson's r of the numeric columns; NaN for other columns and where SDMetrics reports an error."""
    r, n = tables.moments.correlations()
    ranges = tables.moments.ranges
    constant = np.array([column_range.constant for column_range in ranges], np.bool_)
    r[(n < 2) | constant[:, None] | constant] = np.nan
    correlations = np.full((len(columns), len(columns)), np.nan)
    names = {c.name: k for k, c in enumerate(columns)}
    at = [names[coder.columns[i].name] for i in tables.numbers]
    correlations[np.ix_(at, at)] = r
    return correlations


def _uncuttable(column: Column, coder: TableCoder, real: ScoreTables, synthetic: ScoreTables) -> bool:
    """Whether NumPy cannot cut the column's range into ten bins. Then SDMetrics has no score."""
    if is_discrete(column) or column.name not in coder.index:
        return False
    return any(tables.ranges.by_name[column.name].edges() is None for tables in (real, synthetic))


def _mean(values: Any) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def none_if_nan(value: float) -> float | None:
    """A figure for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)
