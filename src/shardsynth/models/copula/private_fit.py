"""Fit the Gaussian copula from noisy tables: post-processing, no row and no exact count is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.errors import MetadataError
from shardsynth.models.columns.fitted import CopulaFit, FitColumn, Latent, Marginal
from shardsynth.models.columns.marginals import REACH, category_marginal, grid_unit
from shardsynth.models.copula.latents import Dimension, tabulated_correlation
from shardsynth.models.copula.ordering import correspondence_order
from shardsynth.models.copula.private_tables import PrivateTables, on_simplex

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Missing rows fewer than this, in units of the noise, are taken for none.
_SIGNAL = 3.0


def fit_private(tables: PrivateTables, coder: TableCoder, schema: pa.Schema) -> CopulaFit:
    """The copula that the noisy tables describe.

    Args:
        tables: Drawn with ``coder``.
        coder: The public codes.
        schema: The shards' schema.
    """
    orders = {i: _order(tables, coder, i) for i in range(len(coder.columns))}
    columns = private_columns(tables, coder, schema, orders)
    place = {c.name: i for i, c in enumerate(coder.table)}
    fitted = {i: columns[place[c.name]] for i, c in enumerate(coder.columns)}
    absent = {i: _absent_of(column) for i, column in fitted.items()}
    drawn = [i for i, column in fitted.items() if column.treatment == "latent"]
    dimensions = [Dimension("value", (i,)) for i in drawn]
    dimensions += [Dimension("missing", (i,)) for i in drawn if absent[i] > 0]
    # Only ``pair`` is asked of the counts there.
    correlation, moved = tabulated_correlation(cast(Any, tables), dimensions, orders)
    latents = [
        Latent(
            d.kind,
            tuple(place[coder.columns[i].name] for i in d.columns),
            absent[d.columns[0]] if d.kind == "missing" else 0.0,
        )
        for d in dimensions
    ]
    spent = tables.guarantee
    notes = [
        f"differentially private: epsilon {spent.epsilon:.4g}, delta {spent.delta:g}, noise {spent.scale:.1f} a cell "
        f"of {spent.tables} tables",
        f"{len(correlation)} latents; correlations moved by at most {moved:.2f} to be positive definite",
    ]
    return CopulaFit(columns, latents, correlation, [], notes)


def private_columns(
    tables: PrivateTables, coder: TableCoder, schema: pa.Schema, orders: Mapping[int, Integers]
) -> list[FitColumn]:
    """Every column of the table, in schema order, as its noisy histogram describes it.

    Args:
        tables: Drawn with ``coder``.
        coder: The public codes.
        schema: The shards' schema.
        orders: By learned column: its groups in latent order, missing left out.
    """
    fitted: dict[str, FitColumn] = {}
    for i, column in enumerate(coder.columns):
        absent = _absent(tables, i) if schema.field(column.name).nullable else 0.0
        mass = on_simplex(tables.hist[i][:-1].astype(np.float64))
        if mass.sum() <= 0:
            mass = np.ones_like(mass)
        make = _category if column.is_category else _axis
        fitted[column.name] = make(column, mass, tables.groups[i], orders[i], absent)
    return [fitted.get(c.name) or _unlearned(c.name, c.role) for c in coder.table]


def _absent_of(column: FitColumn) -> float:
    assert column.marginal is not None
    return column.marginal.p_missing


def _absent(tables: PrivateTables, i: int) -> float:
    """Share of missing rows; none where the noise alone could be so large."""
    missing = float(tables.hist[i][-1])
    if missing < _SIGNAL * tables.guarantee.scale:
        return 0.0
    return min(missing / max(float(tables.hist[i].sum()), missing), 1.0)


def _order(tables: PrivateTables, coder: TableCoder, i: int) -> Integers:
    """Groups of a column in latent order, missing left out."""
    size = int(tables.groups[i][-1])
    column = coder.columns[i]
    if not column.is_category or column.column.ordered or size < 3:
        return np.arange(size)
    others = [tables.pair(i, j) for j in range(len(coder.columns)) if j != i and int(tables.groups[j][-1]) > 1]
    return correspondence_order(others, size)


def _category(column: ColumnCoder, mass: Floats, groups: Integers, order: Integers, absent: float) -> FitColumn:
    keep = mass > 0
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    place = rank[groups[:-1]][keep]
    by_latent = np.lexsort((np.arange(len(place)), place)).astype(np.int64)
    marginal = category_marginal(np.asarray(mass[keep]), by_latent, absent)
    assert column.values is not None
    values = column.values.filter(pa.array(keep))
    only = len(values) == 1 and absent == 0
    return FitColumn(
        column.name,
        column.column.role,
        "constant" if only else "latent",
        marginal,
        values,
        column.precision,
        False,
        {"distribution": "categorical", "learned_parameters": {"categories": len(values)}},
    )


def _axis(column: ColumnCoder, mass: Floats, groups: Integers, order: Integers, absent: float) -> FitColumn:
    keep = mass > 0
    lo, hi = column.cuts[:-1][keep], _ends(column)[keep]
    unit = grid_unit(column.precision)
    if unit:
        wide = hi > lo + 0.5 * unit
        lo, hi = np.where(wide, lo - REACH * unit, lo), np.where(wide, hi + REACH * unit, lo)
    marginal = Marginal("axis", mass[keep] / mass[keep].sum(), lo, hi, absent)
    only = len(lo) == 1 and lo[0] == hi[0] and absent == 0
    return FitColumn(
        column.name,
        column.column.role,
        "constant" if only else "latent",
        marginal,
        None,
        column.precision,
        False,
        {"distribution": "empirical", "learned_parameters": {"segments": len(lo)}},
    )


def _ends(column: ColumnCoder) -> Floats:
    """Largest value of each cell, from the cuts."""
    starts, unit = column.cuts[:-1], grid_unit(column.precision)
    ends = np.append(starts[1:] - unit if unit else starts[1:], column.high)
    if unit:
        return column.precision.snap(np.maximum(ends, starts))
    atom = np.append(np.nextafter(starts[:-1], np.inf) >= starts[1:], False)
    return np.where(atom, starts, np.maximum(ends, starts))


def _unlearned(name: str, role: str) -> FitColumn:
    return FitColumn(name, role, role if role in ("id", "pii") else "empty")


def check_private(columns: Sequence[Any]) -> None:
    """Refuse id columns whose format only the table knows.

    Raises:
        MetadataError: Names the column.
    """
    for column in columns:
        if column.role == "id" and not column.options.get("regex_format"):
            raise MetadataError(
                f"column {column.name!r}: differential privacy needs the format of an id from the metadata, not from "
                "the table: write its regex_format"
            )
