"""All constraints of a table: the *inner* table that a model sees, and the way back to the table that is written."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import schema_from_text, schema_to_text
from shardsynth.data.metadata import table_of
from shardsynth.sampling.constraints.combined import CombinationStep, OneHotStep
from shardsynth.sampling.constraints.increments import IncrementStep
from shardsynth.sampling.constraints.ordered import OrderedStep
from shardsynth.sampling.constraints.partial_order import PartialOrderStep
from shardsynth.sampling.constraints.programmed import Programmed
from shardsynth.sampling.constraints.step import Arrays, Computed, ConstrainedColumn, Mask, Step, missing_of

_KINDS: dict[str, Any] = {
    "ordered": OrderedStep,
    "partial_order": PartialOrderStep,
    "combination": CombinationStep,
    "one_hot": OneHotStep,
    "increment": IncrementStep,
}
_FORMAT = 1


@dataclass(frozen=True)
class TableConstraints:
    """The constraints of one table.

    Attributes:
        schema: The table's Arrow schema.
        steps: Constraints of SDV's own classes, in the order of restoring.
        programs: Constraints of a user's own classes; they come before the steps.
        computed: Columns that are computed from restored ones, in this order. A model sees them as well, but what it
            draws for them is not used.
    """

    schema: pa.Schema
    steps: tuple[Step, ...]
    programs: tuple[Programmed, ...] = ()
    computed: tuple[Computed, ...] = ()

    @property
    def base(self) -> pa.Schema:
        """Schema on which the steps work."""
        return self.programs[-1].inner if self.programs else self.schema

    @cached_property
    def inner(self) -> pa.Schema:
        """Schema of the table that a model sees: replacements stand where the first column that they replace was."""
        replacements: dict[str, list[pa.Field]] = {}
        for step in self.steps:
            if step.replaced:
                replacements.setdefault(step.replaced[0], []).extend(r.field for r in step.replacements)
        replaced = self.replaced
        fields: list[pa.Field] = []
        for base_field in self.base:
            fields += replacements.get(base_field.name, []) if base_field.name in replaced else [base_field]
        return pa.schema(fields)

    @cached_property
    def replaced(self) -> frozenset[str]:
        """Columns that no model sees."""
        return frozenset(name for step in self.steps for name in step.replaced)

    @cached_property
    def finished_late(self) -> frozenset[str]:
        """Columns whose values are known when the row is finished: those that no model sees, and the computed ones."""
        return self.replaced | {column.name for column in self.computed}

    @cached_property
    def _complete(self) -> list[str]:
        """Columns that steps restore, and that no training row lacks."""
        names = set()
        for step in self.steps:
            held = step.constrained
            for column in (held,) if isinstance(held, ConstrainedColumn) else held:
                if column.complete and column.column.name in step.replaced:
                    names.add(column.column.name)
        return sorted(names)

    def metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """SDV metadata of the inner table.

        Args:
            metadata: Of the table. The programs, if there are any, have changed them: then those are used.
        """
        result = copy.deepcopy(dict(metadata))
        if self.programs:
            result = copy.deepcopy(self.programs[-1].metadata)
        table = table_of(result)
        replacements = {r.field.name: r.metadata for step in self.steps for r in step.replacements}
        columns = {name: replacements.get(name) or table["columns"][name] for name in self.inner.names}
        (name,) = result["tables"]
        result["tables"][name] = {
            **table,
            "columns": columns,
            "column_relationships": [
                relationship
                for relationship in table.get("column_relationships", [])
                if not self.replaced & set(relationship["column_names"])
            ],
        }
        return result

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows as a model sees them."""
        for program in self.programs:
            batch = program.transform(batch)
        arrays = {name: batch.column(name) for name in batch.schema.names}
        replacements: dict[str, pa.Array] = {}
        for step in self.steps:
            replacements.update(step.transform(arrays))
        return pa.RecordBatch.from_arrays(
            [replacements[f.name] if f.name in replacements else arrays[f.name] for f in self.inner], schema=self.inner
        )

    def restore(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Mask]:
        """Rows as they are written.

        Args:
            batch: Of the inner schema.

        Returns:
            A batch of the table's schema, and bool[n]: the rows that satisfy every constraint.
        """
        n = batch.num_rows
        arrays = {name: batch.column(name) for name in batch.schema.names}
        valid = np.ones(n, np.bool_)
        for step in self.steps:
            restored, broken = step.restore(arrays, n)
            arrays.update(restored)
            valid &= ~broken
        for column in self.computed:
            arrays[column.name] = column.compute(arrays, n)
        valid &= self.present(arrays, n)
        rows = pa.RecordBatch.from_arrays([arrays[field.name] for field in self.base], schema=self.base)
        for program in reversed(self.programs):
            rows, broken = program.restore(rows)
            valid &= ~broken
        for mask in self.valid(rows):
            valid &= mask
        return rows, valid

    def present(self, arrays: Arrays, n: int) -> Mask:
        """bool[n]: rows that have what no field and no training row may lack."""
        present = np.ones(n, np.bool_)
        for field in self.base:
            if not field.nullable:
                present &= _storable(arrays[field.name])
        for name in self._complete:
            present &= ~missing_of(arrays[name])
        return present

    def valid(self, batch: pa.RecordBatch) -> list[Mask]:
        """Rows that satisfy each constraint, bool[n] by constraint: the steps, then the programs."""
        arrays = {name: batch.column(name) for name in batch.schema.names}
        masks = [s.valid(arrays, batch.num_rows) for s in self.steps if set(s.columns) <= set(arrays)]
        return masks + [program.valid(batch) for program in self.programs]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without the programs: they are objects of a user's class."""
        return {
            "format": _FORMAT,
            "schema": schema_to_text(self.schema),
            "base": schema_to_text(self.base),
            "steps": [step.to_json() for step in self.steps],
            **({"computed": [column.to_json() for column in self.computed]} if self.computed else {}),
        }

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], programs: Sequence[Programmed] = (), computed: Sequence[Computed] = ()
    ) -> TableConstraints:
        """Inverse of ``to_json``.

        Args:
            data: From ``to_json``.
            programs: From ``load_programs``.
            computed: The computed columns; their class is one of the models' layer.
        """
        base = schema_from_text(data["base"])
        steps = tuple(_KINDS[step["kind"]].from_json(step, base) for step in data["steps"])
        return cls(schema_from_text(data["schema"]), steps, tuple(programs), tuple(computed))


def _storable(array: pa.Array) -> Mask:
    """bool[n]: values that a field which is not nullable can hold; a missing float can be written as NaN."""
    if not array.null_count or pa.types.is_floating(array.type):
        return np.ones(len(array), np.bool_)
    return ~np.asarray(array.is_null().to_numpy(zero_copy_only=False), np.bool_)
