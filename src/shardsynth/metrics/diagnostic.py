"""The diagnostic report from counts alone, by the rules of SDMetrics' ``DiagnosticReport`` 0.32.

Data Validity: ``BoundaryAdherence`` of numbers and datetimes, ``CategoryAdherence`` of categories, against the
metadata's ranges where it has them, else against the real rows. Data Structure: the same columns of the same types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.columns import Column
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile
from shardsynth.summaries.score_tables import is_discrete


def diagnostic(
    profile: Profile,
    real: Counts,
    synthetic: Counts,
    coder: TableCoder,
    *,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    structure: float = 1.0,
) -> dict[str, Any]:
    """Validity of a synthetic table, in the form of ``metrics/<model>.json``.

    Args:
        profile: Of the real rows.
        real: Counts of the real rows.
        synthetic: Counts of the synthetic rows, on the same coder.
        coder: What both were counted with.
        measured: What counts cannot tell, by column and metric: ``KeyUniqueness`` of a key, ``RegexFormatAdherence``.
        structure: ``TableStructure``: 1 where every part was checked to have the input's schema.

    Returns:
        ``score``, ``data_validity``, ``data_structure`` and ``columns``: name to ``metric`` and ``score``; a column's
        further metrics stand under its ``more``. What cannot be computed is None.
    """
    columns: dict[str, dict[str, Any]] = {}
    for column in coder.table:
        found = _adherence(column, profile, real, synthetic, coder)
        found.update((measured or {}).get(column.name, {}))
        if found:
            (metric, score), *more = found.items()
            columns[column.name] = {"metric": metric, "score": _none(score)}
            if more:
                columns[column.name]["more"] = {name: _none(value) for name, value in more}
    scores = [c["score"] for c in columns.values()] + [v for c in columns.values() for v in c.get("more", {}).values()]
    known = [s for s in scores if s is not None]
    validity = float(np.mean(known)) if known else float("nan")
    return {
        "score": _none(float(np.nanmean([validity, structure]))),
        "data_validity": _none(validity),
        "data_structure": structure,
        "columns": columns,
    }


def _adherence(
    column: Column, profile: Profile, real: Counts, synthetic: Counts, coder: TableCoder
) -> dict[str, float]:
    if column.name not in coder.index:
        if column.role != "empty":
            return {}
        # Real and synthetic values are all missing: allowed as a category, nothing to judge as a number.
        return {"CategoryAdherence": 1.0} if is_discrete(column) else {"BoundaryAdherence": float("nan")}
    i = coder.index[column.name]
    tally = profile[column.name]
    nullable = bool(column.options.get("range_is_nullable", tally.present < tally.rows))
    if is_discrete(column):
        return {"CategoryAdherence": category_adherence(coder.columns[i], synthetic, i, nullable)}
    return {"BoundaryAdherence": boundary_adherence(synthetic, i, nullable)}


def boundary_adherence(synthetic: Counts, i: int, nullable: bool) -> float:
    """SDMetrics' ``BoundaryAdherence`` of numeric column i: the share of values within the bounds.

    Where the column is nullable missing values are left out, else they are violations.
    """
    present = int(synthetic.hist[i][:-1].sum())
    rows = present if nullable else present + int(synthetic.hist[i][-1])
    return (present - synthetic.unseen[i]) / rows if rows else float("nan")


def category_adherence(coder: ColumnCoder, synthetic: Counts, i: int, nullable: bool) -> float:
    """SDMetrics' ``CategoryAdherence`` of category column i: the share of rows with an allowed category.

    Allowed are the metadata's ``range_values``, else the real rows' categories; and missing where nullable. A category
    that ``range_values`` lists but no real row has counts as not allowed.
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


def _none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
