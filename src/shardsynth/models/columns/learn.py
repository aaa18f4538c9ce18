"""From the counts of a table to its fitted columns: shared by the copula and the autoregressive model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.values import Precision
from shardsynth.models.columns.fit import ColumnPersons, fit_axis, fit_category
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.formulas import DatePartRelation
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.relations import FunctionRelation, Relation, SumRelation, in_order
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

Integers = NDArray[np.int64]


def verified_relations(counts: Counts, relations: Sequence[Relation] | None, notes: list[str]) -> list[Relation]:
    """Guessed relations that no row breaks, in the order in which they can be applied.

    Args:
        counts: With the violations of the guessed relations.
        relations: The guessed relations in the order of these violations; None: those that ``counts`` holds.
        notes: Gets one note for each relation that is not used.

    Raises:
        ValueError: ``relations`` are not as many as the violations.
    """
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
    """Fit every learned column, and bind the relations to the values that the fitted columns hold.

    Args:
        profile: Merged, of the training rows.
        coder: The codes of the columns.
        counts: Merged, of the training rows.
        options: How the columns are fitted.
        orders: By index into the columns of the coder: its coarse codes in latent order, missing left out.
        relations: Verified ones.
        notes: Gets facts for the report.

    Returns:
        The fitted columns by name, and the relations that can be used.
    """
    known_values = _known_values(relations)
    fitted: dict[str, FittedColumn] = {}
    for i, column in enumerate(coder.columns):
        hist = counts.hist[i]
        if column.is_category:
            rank = np.empty(max(len(orders[i]), 1), dtype=np.int64)
            rank[orders[i]] = np.arange(len(orders[i]))
            field = profile.schema.field(column.name)
            fitted_column, column_notes = fit_category(
                column,
                hist,
                rank,
                options.protection,
                known_values.get(column.name),
                bool(field.nullable),
                ColumnPersons.of(counts, i),
            )
        else:
            fitted_column, column_notes = fit_axis(
                column,
                hist,
                profile[column.name],
                options.protection,
                options.family(column.name),
                enforce=options.enforce_min_max,
                points=known_values.get(column.name),
                options=options.column_options(column.name),
                persons=ColumnPersons.of(counts, i),
            )
            if (
                not options.enforce_rounding
                and _is_float(column)
                and options.column_options(column.name).places is None
            ):
                fitted_column = _unrounded(fitted_column)
        fitted[column.name] = fitted_column
        notes += column_notes
    bound = bound_relations(coder, fitted, relations, notes)
    for relation in bound:
        if relation.name in options.columns:
            notes.append(f"column {relation.name!r}: is computed from others, so that its options are not used")
        distribution = {"distribution": "relation", "learned_parameters": {"of": list(relation.parents)}}
        categories = fitted[relation.name].categories
        if isinstance(relation, DatePartRelation) and categories is not None:
            categories = pa.array(list(relation.derived.values or ()), categories.type)
        fitted[relation.name] = replace(
            fitted[relation.name],
            treatment="relation",
            marginal=None,
            categories=categories,
            distribution=distribution,
        )
    return fitted, bound


def _is_float(column: ColumnCoder) -> bool:
    return column.column.role == "number" and pa.types.is_floating(column.column.value_type)


def _unrounded(column: FittedColumn) -> FittedColumn:
    """The column without its grid: values inside bins keep all their digits, atoms stay."""
    marginal = column.marginal
    if marginal is not None and column.precision is not None:
        snapped = column.precision.snap(np.array([marginal.lo.min(), marginal.hi.max()]))
        lo, hi = (np.clip(edge, snapped[0], snapped[1]) for edge in (marginal.lo, marginal.hi))
        marginal = replace(marginal, lo=lo, hi=hi).with_ends(marginal.ends)
    return replace(column, precision=Precision(), marginal=marginal)


def _known_values(relations: Sequence[Relation]) -> dict[str, list[Any]]:
    """By name of a parent: its values for which all functions of it are known."""
    known: dict[str, list[Any]] = {}
    for relation in relations:
        if isinstance(relation, FunctionRelation):
            name = relation.parent.name
            values = relation.known_values()
            known[name] = [v for v in known[name] if v in set(values)] if name in known else values
    return known


def bound_relations(
    coder: TableCoder, fitted: Mapping[str, FittedColumn], relations: Sequence[Relation], notes: list[str]
) -> list[Relation]:
    """The relations in the codes of the model; a relation whose values the columns do not hold is left out.

    Args:
        coder: The codes of the columns.
        fitted: The fitted columns by name.
        relations: Verified ones.
        notes: Gets a note for each relation that is left out.
    """
    categories = {n: f.categories.to_pylist() for n, f in fitted.items() if f.categories is not None}
    points = {n: f.marginal.lo.tolist() for n, f in fitted.items() if f.marginal is not None and f.role == "number"}
    bound: list[Relation] = []
    for relation in relations:
        alive = all(fitted[name].treatment != "empty" for name in (*relation.parents, relation.name))
        fits = not isinstance(relation, SumRelation) or _in_range(coder, fitted, relation)
        bound_relation: Relation | None = None
        if alive and fits:
            try:
                bound_relation = relation.bind(categories, points)
            except (KeyError, ValueError):
                bound_relation = None
        if bound_relation is None:
            notes.append(f"not used: {relation.describe()} (the model does not hold the values for it)")
        else:
            bound.append(bound_relation)
    return bound


def _in_range(coder: TableCoder, fitted: Mapping[str, FittedColumn], relation: SumRelation) -> bool:
    """Whether every sum of parts fits the total's Arrow type."""
    column = coder.columns[coder.index[relation.name]].column
    if not pa.types.is_integer(column.value_type):
        return True
    limits = np.iinfo(column.value_type.to_pandas_dtype())
    low = high = 0.0
    for name in relation.parents:
        part, marginal = coder.columns[coder.index[name]], fitted[name].marginal
        tails = marginal is not None and marginal.ends is not None
        low += float(marginal.lo[0]) if marginal is not None and tails else part.low
        high += float(marginal.hi[-1]) if marginal is not None and tails else part.high
    return bool(low >= limits.min and high <= limits.max)
