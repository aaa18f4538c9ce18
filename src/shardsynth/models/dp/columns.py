"""Fitted columns from noisy counts, without reading an exact count or a real row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.errors import MetadataError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import BIN_REACH, category_marginal, grid_unit
from shardsynth.models.columns.ordering import correspondence_order
from shardsynth.models.dp.tables import NoisyTables, on_simplex

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Fewer missing rows than this, in units of the noise, count as none.
_SIGNAL = 3.0


def dp_columns(
    tables: NoisyTables, coder: TableCoder, schema: pa.Schema, orders: Mapping[int, Integers]
) -> list[FittedColumn]:
    """Every column of the table, in schema order, as its noisy histogram describes it.

    Args:
        tables: Drawn with ``coder``.
        coder: The public codes.
        schema: The shards' schema.
        orders: By learned column: its groups in latent order, missing left out.
    """
    fitted: dict[str, FittedColumn] = {}
    for i, column in enumerate(coder.columns):
        absent = _absent(tables, i) if schema.field(column.name).nullable else 0.0
        mass = on_simplex(tables.hist[i][:-1].astype(np.float64))
        if mass.sum() <= 0:
            mass = np.ones_like(mass)
        make = _category if column.is_category else _axis
        fitted[column.name] = make(column, mass, tables.groups[i], orders[i], absent)
    return [fitted.get(c.name) or _unlearned(c.name, c.role) for c in coder.table]


def _absent(tables: NoisyTables, i: int) -> float:
    """Share of missing rows; 0 where the noise alone could be as large."""
    missing = float(tables.hist[i][-1])
    if missing < _SIGNAL * tables.guarantee.scale:
        return 0.0
    return min(missing / max(float(tables.hist[i].sum()), missing), 1.0)


def latent_order(tables: NoisyTables, coder: TableCoder, i: int) -> Integers:
    """Groups of a column in latent order, int64[groups], missing left out.

    Args:
        tables: Drawn with ``coder``.
        coder: The public codes.
        i: Index of the column in the coder.
    """
    size = int(tables.groups[i][-1])
    column = coder.columns[i]
    if not column.is_category or column.column.ordered or size < 3:
        return np.arange(size)
    others = [tables.pair(i, j) for j in range(len(coder.columns)) if j != i and int(tables.groups[j][-1]) > 1]
    return correspondence_order(others, size)


def _category(column: ColumnCoder, mass: Floats, groups: Integers, order: Integers, absent: float) -> FittedColumn:
    keep = mass > 0
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    place = rank[groups[:-1]][keep]
    by_latent = np.lexsort((np.arange(len(place)), place)).astype(np.int64)
    marginal = category_marginal(np.asarray(mass[keep]), by_latent, absent)
    assert column.values is not None
    values = column.values.filter(pa.array(keep))
    is_constant = len(values) == 1 and absent == 0
    return FittedColumn(
        column.name,
        column.column.role,
        "constant" if is_constant else "latent",
        marginal,
        values,
        column.precision,
        False,
        {"distribution": "categorical", "learned_parameters": {"categories": len(values)}},
    )


def _axis(column: ColumnCoder, mass: Floats, groups: Integers, order: Integers, absent: float) -> FittedColumn:
    keep = mass > 0
    lo, hi = column.cuts[:-1][keep], _ends(column)[keep]
    unit = grid_unit(column.precision)
    if unit:
        is_bin = hi > lo + 0.5 * unit
        lo, hi = np.where(is_bin, lo - BIN_REACH * unit, lo), np.where(is_bin, hi + BIN_REACH * unit, lo)
    marginal = Marginal("axis", mass[keep] / mass[keep].sum(), lo, hi, absent)
    is_constant = len(lo) == 1 and lo[0] == hi[0] and absent == 0
    return FittedColumn(
        column.name,
        column.column.role,
        "constant" if is_constant else "latent",
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


def _unlearned(name: str, role: str) -> FittedColumn:
    return FittedColumn(name, role, role if role in ("id", "pii") else "empty")


def check_dp_columns(columns: Sequence[Any]) -> None:
    """Check that the metadata say the format of every id column.

    Raises:
        MetadataError: The format of an id column could be learned from the table only.
    """
    for column in columns:
        if column.role == "id" and not column.options.get("regex_format"):
            raise MetadataError(
                f"column {column.name!r}: differential privacy needs the format of an id from the metadata, not from "
                "the table: write its regex_format"
            )
