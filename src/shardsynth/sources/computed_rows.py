"""Computed columns of completed rows: what a known one says of its parents, and where known values contradict it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from shardsynth.data.gaps import filled
from shardsynth.data.values import kind_of
from shardsynth.models.base import NativeModel
from shardsynth.models.columns.formulas import LinearRelation
from shardsynth.sampling.constraints.known import KnownRows
from shardsynth.sampling.constraints.step import Mask, missing_of
from shardsynth.sampling.constraints.table import TableConstraints


def tell_parents(model: NativeModel, table: TableConstraints, known: KnownRows) -> None:
    """Tell the model of columns that no user has, in place of known columns that it computes from them.

    A known duration says how large the gap between two dates is. Where it does not follow from a known column what the
    others are, the known column becomes one that is not told. This changes ``known``.

    Args:
        model: A model of the inner table.
        table: The constraints.
        known: Known rows.
    """
    for relation in getattr(model, "relations", ()):
        if relation.name not in known.inner or set(relation.parents) <= set(table.schema.names):
            continue
        value = known.inner.pop(relation.name)
        told = np.zeros(len(value), np.bool_)
        if isinstance(relation, LinearRelation):
            told = _tell(model.schema, relation, value, known.inner)
        if relation.name in known.rows:
            known.untold[relation.name] = ~missing_of(known.rows[relation.name]) & ~told


def _tell(schema: pa.Schema, relation: LinearRelation, value: pa.Array, inner: dict[str, pa.Array]) -> Mask:
    """Add the only parent that is not known to ``inner``; bool[n]: rows whose parents then give the known value."""
    n = len(value)
    of_parent = {p.name: inner.get(p.name, pa.nulls(n, schema.field(p.name).type)) for p in relation.parents_}
    batch = pa.RecordBatch.from_arrays([*of_parent.values(), value], [*of_parent, relation.name])
    read = [parent.read(batch) for parent in relation.parents_]
    values, absent = relation.derived.read(batch)
    lacking = np.sum([missing for _, missing in read], axis=0)
    rest = values - relation.offset
    for factor, (amounts, missing) in zip(relation.factors, read):
        rest = rest - np.where(missing, 0.0, factor * amounts)
    solved = {}
    for place, (factor, parent, (amounts, missing)) in enumerate(zip(relation.factors, relation.parents_, read)):
        type_ = schema.field(parent.name).type
        if kind_of(type_) not in ("integer", "float") or parent.nanoseconds or not factor:
            continue
        solvable = missing & (lacking == 1) & ~absent & np.isfinite(rest)
        found = np.where(solvable, rest / factor, 0.0)
        found = np.rint(found) if kind_of(type_) == "integer" else found
        solvable &= np.abs(found) < 2.0**53
        read[place] = (np.where(solvable, found, np.where(missing, 0.0, amounts)), missing & ~solvable)
        solved[parent.name] = (solvable, found, type_)
    whole = ~np.logical_or.reduce([missing for _, missing in read])
    computed = relation.compute([np.where(missing, 0.0, amounts) for amounts, missing in read])
    told = whole & ~absent & (np.abs(computed - np.where(absent, 0.0, values)) <= relation.tolerance)
    for name, (solvable, found, type_) in solved.items():
        usable = solvable & told
        if usable.any():
            array = pa.array(np.where(usable, found, 0.0), mask=~usable).cast(type_)
            inner[name] = filled(inner[name], array) if name in inner else array
    return np.asarray(told, np.bool_)


def computed_rows(
    table: TableConstraints, rows: pa.RecordBatch, known: Mapping[str, pa.Array]
) -> tuple[pa.RecordBatch, Mask]:
    """Rows with their computed columns, where these are not known.

    Args:
        table: The constraints.
        rows: Rows with the known values.
        known: Columns of known values.

    Returns:
        The rows; bool[n]: those whose known values are what they are computed as.
    """
    n = rows.num_rows
    agree: Mask = np.ones(n, np.bool_)
    if not table.computed:
        return rows, agree
    arrays = {name: rows.column(name) for name in rows.schema.names}
    for column in table.computed:
        if column.name in known:
            for name, array in column.parents_of(arrays, known[column.name]).items():
                if name not in table.replaced:
                    arrays[name] = filled(known[name], array) if name in known else array
    for column in table.computed:
        made = column.compute(arrays, n)
        if column.name in known:
            agree &= missing_of(known[column.name]) | column.equal(made, known[column.name])
            made = filled(known[column.name], made)
        arrays[column.name] = made
    return pa.RecordBatch.from_arrays([arrays[name] for name in rows.schema.names], schema=rows.schema), agree
