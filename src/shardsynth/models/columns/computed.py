"""Columns that are computed from columns that constraints restore: after the constraints, on finished rows.

A model under constraints sees gaps in place of the columns. It cannot compute a duration from two dates that it does
not have: that is done when the dates are there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.codec import from_codes, storage_dtype, to_array, to_storage
from shardsynth.data.columns import Column
from shardsynth.data.frames import nanoseconds_of
from shardsynth.data.gaps import filled
from shardsynth.data.layouts import layout_of
from shardsynth.data.values import Precision, axis, decoded, kind_of, needs_parsing, without_view, without_views
from shardsynth.models.columns.formulas import LinearRelation
from shardsynth.models.columns.operands import Amount
from shardsynth.models.columns.relations import FunctionRelation, Relation, relation_from_json
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, missing_of


@dataclass(frozen=True)
class ComputedColumn:
    """A column of finished rows that is computed from others.

    Attributes:
        relation: How.
        held: What is known of the column.
        rule: ``always``: the relation says its values and where it is missing. ``known``: where a column of the
            relation is missing, it keeps what was drawn (a score that is completed where it was not measured).
            ``present``: as ``known``, and it is missing wherever it was drawn so.
    """

    relation: Any
    held: ConstrainedColumn
    rule: str = "always"

    @property
    def name(self) -> str:
        """Name of the column."""
        return str(self.relation.name)

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the columns that it is computed from."""
        return tuple(self.relation.parents)

    @property
    def how(self) -> str:
        """How it is computed, for a message."""
        return str(self.relation.describe())

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that contradict it."""
        names = [*self.relation.parents, self.name]
        batch = without_views(batch.select(names))
        both = np.logical_and.reduce([~missing_of(batch.column(name)) for name in names])
        counted = both if self.rule != "always" else np.ones(batch.num_rows, np.bool_)
        wrong, exact = 0, self._exact(batch)
        if exact is not None:
            found = self.relation.derived.integers(batch)
            if found is not None:
                large = exact[1] & both
                wrong = int(np.count_nonzero(large & (exact[0] != found[0])))
                counted = counted & ~large
        rest = batch.filter(pa.array(counted))
        return wrong + (int(self.relation.violations(rest)) if rest.num_rows else 0)

    def _exact(self, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], Mask] | None:
        """As ``LinearRelation.exact``; None for any other relation."""
        return self.relation.exact(batch) if isinstance(self.relation, LinearRelation) else None

    def compute(self, arrays: Arrays, n: int) -> pa.Array:
        """The column, [n], from the others by name."""
        parents = [*(getattr(self.relation, "parents_", None) or [self.relation.parent])]
        batch = pa.RecordBatch.from_arrays([arrays[p.name] for p in parents], [p.name for p in parents])
        read = {}
        for parent in parents:
            values, missing = parent.read(batch)
            if parent.values is not None and getattr(parent, "nanoseconds", None) is not None:
                # An amount reads numbers, where a relation takes the codes of its categories.
                place = {float(value): code for code, value in enumerate(parent.values)}
                values = np.array([place.get(float(v), -1) for v in values.tolist()], np.int64)
                missing = missing | (values < 0)
            read[parent.name] = (values, missing)
        values, missing = self.relation.apply(read)
        if self.rule == "present":
            missing = missing | missing_of(arrays[self.name])
        computed = self._array(values, missing, self._exact(batch))
        return computed if self.rule == "always" else filled(computed, arrays[self.name])

    def _array(self, values: NDArray[Any], missing: Mask, exact: tuple[NDArray[np.int64], Mask] | None) -> pa.Array:
        """Computed values, [n], in the type of the column; those of ``exact`` in place of what float64 cannot hold."""
        column = self.held.column
        if self.relation.derived.values is not None:
            codes = np.where(missing, -1, values).astype(np.int64)
            categories = pa.array(list(self.relation.derived.values), column.value_type)
            return from_codes(column.type, categories, codes)
        decimal = kind_of(column.type) == "decimal"
        values = np.where(missing, 0.0, values) * (self.held.scale if decimal else 1)
        dtype = storage_dtype(column.type, self.held.datetime_format)
        stored = to_storage(values, dtype)
        if dtype.kind in "iu" and dtype.itemsize == 8 and not decimal:
            if self.held.precision.kind == "integer":
                on_grid = self.held.precision.integers(values, dtype)
                stored = np.where(np.abs(values) > 2.0**53, on_grid, stored)
            if exact is not None:
                stored = np.where(exact[1], to_storage(exact[0], dtype), stored)
        return to_array(
            column.type,
            np.ascontiguousarray(stored),
            missing if missing.any() else None,
            emit_nan=self.held.emit_nan,
            datetime_format=self.held.datetime_format,
            exponent=self.held.exponent,
        )

    def equal(self, made: pa.Array, known: pa.Array) -> Mask:
        """bool[n]: known values that are what was computed, within the tolerance of the relation."""
        if self.relation.derived.values is not None:
            same = pc.equal(without_view(decoded(made)), without_view(decoded(known)))
            return np.asarray(pc.fill_null(same, False).to_numpy(zero_copy_only=False), np.bool_)
        (a, _), (b, _) = (axis(self.held.column, array) for array in (made, known))
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(a - b) <= getattr(self.relation, "tolerance", 0.0), np.bool_)

    def parents_of(self, arrays: Arrays, known: pa.Array) -> dict[str, pa.Array]:
        """A column that this one completes, with the known values of this one where it is present; else nothing."""
        if self.rule != "known" or not isinstance(self.relation, LinearRelation) or len(self.relation.parents_) != 1:
            return {}
        (parent,), target = self.relation.parents_, self.relation.derived
        drawn = arrays[parent.name]
        source = Column(parent.name, drawn.type, "numerical", "number")
        back = LinearRelation((target,), replace(parent, values=None), 0.0, Precision(), 0, (1.0,))
        column = ComputedColumn(back, ConstrainedColumn(source), "present")
        return {parent.name: column.compute({self.name: known, parent.name: drawn}, len(drawn))}

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"relation": self.relation.to_json(), "held": self.held.to_json(), "rule": self.rule}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> ComputedColumn:
        """Inverse of ``to_json``; the type comes from the schema of the table."""
        held = ConstrainedColumn.from_json(data["held"], schema)
        return cls(relation_from_json(data["relation"]), held, str(data["rule"]))


def computed_after(relations: Sequence[Relation], replaced: Collection[str]) -> list[Relation]:
    """The relations that need a column which no model sees, in their order.

    Args:
        relations: Of the table, in the order in which they can be applied.
        replaced: Columns that constraints replace.
    """
    late = set(replaced)
    chosen: list[Relation] = []
    for relation in relations:
        if late & set(relation.parents) and not isinstance(relation, FunctionRelation):
            chosen.append(relation)
            late.add(relation.name)
    return chosen


def copy_of(low: ConstrainedColumn, high: ConstrainedColumn, sample: pa.Table) -> ComputedColumn | None:
    """The upper column of an order as a copy of the lower one, if they are equal wherever both are present.

    Args:
        low: The lower column.
        high: The upper column.
        sample: Rows.
    """
    parent, target = _amount(low.column), _amount(high.column)
    factor = parent.nanoseconds / target.nanoseconds if target.nanoseconds else 1.0
    relation = LinearRelation((parent,), target, 0.0, high.precision, sample.num_rows, (factor,))
    column = ComputedColumn(relation, high, "present")
    batches = sample.select([parent.name, target.name]).combine_chunks().to_batches()
    return column if batches and not sum(map(column.violations, batches)) else None


#: Rows with both columns, and distinct values, of a column that is completed.
_FEWEST_ROWS, _FEWEST_VALUES = 50, 3
_MOST_COLUMNS = 200


def completed_columns(columns: Sequence[Column], sample: pa.Table) -> list[tuple[str, str]]:
    """Pairs of a number and a column that has its values wherever it is present, and others elsewhere.

    Args:
        columns: Numbers, or categories that are numbers.
        sample: Rows.
    """
    values = {}
    for column in columns:
        if column.role in ("number", "category") and kind_of(column.type) in ("integer", "float"):
            plain = decoded(sample.column(column.name))
            found, missing = axis(Column(column.name, plain.type, column.sdtype, "number"), plain)
            values[column.name] = np.where(missing, np.nan, found)
    roles = {column.name: column.role for column in columns}
    pairs: list[tuple[str, str]] = []
    for target in list(values)[:_MOST_COLUMNS]:
        whole = values[target]
        for source in list(values)[:_MOST_COLUMNS]:
            known = ~np.isnan(values[source])
            if source == target or roles[target] != "number" or target in {t for _, t in pairs}:
                continue
            if not _FEWEST_ROWS <= known.sum() < (~np.isnan(whole)).sum() or np.isnan(whole[known]).any():
                continue
            if (whole[known] == values[source][known]).all() and len(np.unique(whole[known])) >= _FEWEST_VALUES:
                pairs.append((source, target))
    return [pair for pair in pairs if pair[0] not in {target for _, target in pairs}]


def completed(source: Column, target: ConstrainedColumn) -> ComputedColumn:
    """The column that takes the values of another one where that is present."""
    relation = LinearRelation((_amount(source),), _amount(target.column), 0.0, target.precision, 0, (1.0,))
    return ComputedColumn(relation, target, "known")


def _amount(column: Column) -> Amount:
    layout = layout_of(column) if needs_parsing(column) else None
    return Amount(column.name, None, nanoseconds_of(column) if column.role == "datetime" else 0, layout)
