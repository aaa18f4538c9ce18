"""From a table's counts to its fitted columns: what the copula and the autoregressive model share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.values import Precision
from shardsynth.models.columns.fit import fit_axis, fit_category
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.relations import FunctionRelation, Relation, SumRelation, in_order
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

Integers = NDArray[np.int64]


def verified_relations(counts: Counts, relations: Sequence[Relation] | None, notes: list[str]) -> list[Relation]:
    """Guessed relations that no row breaks."""
    guessed: list[Any] = list(counts.relations if relations is None else relations)
    if len(guessed) != len(counts.violations):
        if relations is not None:
            raise ValueError(f"{len(guessed)} relations, but violations of {len(counts.violations)} were counted")
        notes.append("relations were counted but not given to the fit: none is used")
        return []
    for relation, broken in zip(guessed, counts.violations):
        if broken:
            notes.append(f"not used: {relation.describe()} ({broken} rows break it)")
    return in_order([r for r, broken in zip(guessed, counts.violations) if not broken])


def fit_columns(
    profile: Profile,
    coder: TableCoder,
    counts: Counts,
    options: FitOptions,
    orders: Mapping[int, Integers],
    relations: list[Relation],
    notes: list[str],
) -> tuple[dict[str, FittedColumn], list[Relation]]:
    """Every learned column, and the relations in terms of what the columns kept."""
    known = _known_values(relations)
    fitted: dict[str, FittedColumn] = {}
    for i, column in enumerate(coder.columns):
        hist = counts.hist[i]
        if column.is_category:
            rank = np.empty(max(len(orders[i]), 1), dtype=np.int64)
            rank[orders[i]] = np.arange(len(orders[i]))
            field = profile.schema.field(column.name)
            found, more = fit_category(
                column, hist, rank, options.protection, known.get(column.name), bool(field.nullable)
            )
        else:
            found, more = fit_axis(
                column,
                hist,
                profile[column.name],
                options.protection,
                options.family(column.name),
                enforce=options.enforce_min_max,
                points=known.get(column.name),
                asked=options.asked(column.name),
            )
            if not options.enforce_rounding and _is_float(column) and options.asked(column.name).places is None:
                found = _unrounded(found)
        fitted[column.name] = found
        notes += more
    bound = _bound(coder, fitted, relations, notes)
    for relation in bound:
        if relation.name in options.columns:
            notes.append(f"column {relation.name!r}: is computed from others, so that its options are not used")
        distribution = {"distribution": "relation", "learned_parameters": {"of": list(relation.parents)}}
        fitted[relation.name] = replace(
            fitted[relation.name], treatment="relation", marginal=None, distribution=distribution
        )
    return fitted, bound


def _is_float(column: ColumnCoder) -> bool:
    return column.column.role == "number" and pa.types.is_floating(column.column.value_type)


def _unrounded(found: FittedColumn) -> FittedColumn:
    """The column off its grid: values inside the bins keep all their digits, single values stay."""
    marginal = found.marginal
    if marginal is not None and found.precision is not None:
        snapped = found.precision.snap(np.array([marginal.lo.min(), marginal.hi.max()]))
        lo, hi = (np.clip(edge, snapped[0], snapped[1]) for edge in (marginal.lo, marginal.hi))
        marginal = replace(marginal, lo=lo, hi=hi)
    return replace(found, precision=Precision(), marginal=marginal)


def _known_values(relations: Sequence[Relation]) -> dict[str, list[Any]]:
    """Values of the parents of functions for which all of the functions are known."""
    known: dict[str, list[Any]] = {}
    for relation in relations:
        if isinstance(relation, FunctionRelation):
            name = relation.parent.name
            kept = relation.kept()
            known[name] = [v for v in known[name] if v in set(kept)] if name in known else kept
    return known


def _bound(
    coder: TableCoder, fitted: Mapping[str, FittedColumn], relations: Sequence[Relation], notes: list[str]
) -> list[Relation]:
    """The relations in the codes of the model; those that its columns cannot carry are left out."""
    categories = {n: f.categories.to_pylist() for n, f in fitted.items() if f.categories is not None}
    points = {n: f.marginal.lo.tolist() for n, f in fitted.items() if f.marginal is not None and f.role == "number"}
    bound: list[Relation] = []
    for relation in relations:
        alive = all(fitted[name].treatment != "empty" for name in (*relation.parents, relation.name))
        fits = not isinstance(relation, SumRelation) or _in_range(coder, relation)
        found: Relation | None = None
        if alive and fits:
            try:
                found = relation.bind(categories, points)
            except (KeyError, ValueError):
                found = None
        if found is None:
            notes.append(f"not used: {relation.describe()} (the model does not hold the values for it)")
        else:
            bound.append(found)
    return bound


def _in_range(coder: TableCoder, relation: SumRelation) -> bool:
    """Whether every sum of parts fits the total's Arrow type."""
    column = coder.columns[coder.index[relation.name]].column
    if not pa.types.is_integer(column.value_type):
        return True
    limits = np.iinfo(column.value_type.to_pandas_dtype())
    parts = [coder.columns[coder.index[name]] for name in relation.parents]
    return bool(sum(p.low for p in parts) >= limits.min and sum(p.high for p in parts) <= limits.max)
