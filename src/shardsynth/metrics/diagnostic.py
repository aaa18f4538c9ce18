"""The diagnostic report, computed from counts only, with the rules of SDMetrics' ``DiagnosticReport`` 0.32.

Data Validity: ``BoundaryAdherence`` of numbers and datetimes, ``CategoryAdherence`` of categories. The bounds are those
of the metadata, if it has any, or else those of the real rows. Data Structure: the same columns of the same types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.columns import Column
from shardsynth.metrics.quality import none_if_nan
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile
from shardsynth.summaries.score_tables import is_discrete


def diagnostic(
    profile: Profile,
    synthetic: Counts,
    coder: TableCoder,
    *,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    structure: float = 1.0,
) -> dict[str, Any]:
    """Validity of a synthetic table, in the form of ``metrics/<model>.json``.

    Args:
        profile: Of the real rows.
        synthetic: Counts of the synthetic rows.
        coder: Codes that they were counted with, from the real rows.
        measured: Scores that counts cannot give, by column and metric: ``KeyUniqueness``, ``RegexFormatAdherence``.
        structure: ``TableStructure``: 1 if every part has the input's schema.

    Returns:
        ``score``, ``data_validity``, ``data_structure`` and ``columns``: name to ``metric`` and ``score``. A
        column's further metrics are in its ``more``. What cannot be computed is None.
    """
    columns: dict[str, dict[str, Any]] = {}
    for column in coder.table:
        scores_of_column = _adherence(column, profile, synthetic, coder)
        scores_of_column.update((measured or {}).get(column.name, {}))
        if scores_of_column:
            (metric, score), *more = scores_of_column.items()
            columns[column.name] = {"metric": metric, "score": none_if_nan(score)}
            if more:
                columns[column.name]["more"] = {name: none_if_nan(value) for name, value in more}
    scores = [c["score"] for c in columns.values()] + [v for c in columns.values() for v in c.get("more", {}).values()]
    known = [s for s in scores if s is not None]
    validity = float(np.mean(known)) if known else float("nan")
    return {
        "score": none_if_nan(float(np.nanmean([validity, structure]))),
        "data_validity": none_if_nan(validity),
        "data_structure": structure,
        "columns": columns,
    }


def _adherence(column: Column, profile: Profile, synthetic: Counts, coder: TableCoder) -> dict[str, float]:
    if column.name not in coder.index:
        if column.role != "empty":
            return {}
        # Real and synthetic values are all missing: that is an allowed category, but there is no number to check.
        return {"CategoryAdherence": 1.0} if is_discrete(column) else {"BoundaryAdherence": float("nan")}
    i = coder.index[column.name]
    tally = profile[column.name]
    nullable = bool(column.options.get("range_is_nullable", tally.present < tally.rows))
    if is_discrete(column):
        return {"CategoryAdherence": category_adherence(coder.columns[i], synthetic, i, nullable)}
    return {"BoundaryAdherence": boundary_adherence(synthetic, i, nullable)}


def boundary_adherence(synthetic: Counts, i: int, nullable: bool) -> float:
    """SDMetrics' ``BoundaryAdherence`` of numeric column i: the share of values within the bounds.

    Missing values are left out if the column is nullable; otherwise they count as violations. NaN without values.
    """
    present = int(synthetic.hist[i][:-1].sum())
    rows = present if nullable else present + int(synthetic.hist[i][-1])
    return (present - synthetic.unseen[i]) / rows if rows else float("nan")


def category_adherence(coder: ColumnCoder, synthetic: Counts, i: int, nullable: bool) -> float:
    """SDMetrics' ``CategoryAdherence`` of category column i: the share of rows with an allowed category.

    Allowed are the metadata's ``range_values``, or else the real rows' categories; also missing, if nullable. But a
    category of ``range_values`` that no real row has counts as not allowed. NaN without rows.
    """
    assert coder.values is not None
    present = synthetic.hist[i][:-1]
    listed = coder.column.options.get("range_values")
    if listed is not None:
        allowed = set(listed)
        valid = int(present[: len(coder.values)][[v in allowed for v in coder.values.to_pylist()]].sum())
    else:
        valid = int(present.sum())
    rows = int(synthetic.hist[i].sum()) + synthetic.outside[i].rows
    return (valid + (int(synthetic.hist[i][-1]) if nullable else 0)) / rows if rows else float("nan")
