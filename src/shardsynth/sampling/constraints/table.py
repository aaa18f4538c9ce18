"""All constraints of a table: the table that a model sees, and the way back to the one that is written."""

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
from shardsynth.sampling.constraints.programmed import Programmed
from shardsynth.sampling.constraints.step import Mask, Step

_KINDS: dict[str, Any] = {
    "ordered": OrderedStep,
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
    """

    schema: pa.Schema
    steps: tuple[Step, ...]
    programs: tuple[Programmed, ...] = ()

    @property
    def base(self) -> pa.Schema:
        """Schema on which the steps work."""
        return self.programs[-1].inner if self.programs else self.schema

    @cached_property
    def inner(self) -> pa.Schema:
        """Schema of the table that a model sees: made columns stand where the first that they stand for stood."""
        made_at: dict[str, list[pa.Field]] = {}
        for step in self.steps:
            if step.taken:
                made_at.setdefault(step.taken[0], []).extend(made.field for made in step.made)
        taken = self.taken
        fields: list[pa.Field] = []
        for one in self.base:
            fields += made_at.get(one.name, []) if one.name in taken else [one]
        return pa.schema(fields)

    @cached_property
    def taken(self) -> frozenset[str]:
        """Columns that no model sees."""
        return frozenset(name for step in self.steps for name in step.taken)

    def metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """SDV metadata of the inner table, from those of the table (after the programs: of their result)."""
        result = copy.deepcopy(dict(metadata))
        if self.programs:
            result = copy.deepcopy(self.programs[-1].metadata)
        table = table_of(result)
        made = {m.field.name: m.described for step in self.steps for m in step.made}
        described = {name: made.get(name) or table["columns"][name] for name in self.inner.names}
        gone = self.taken
        (name,) = result["tables"]
        result["tables"][name] = {
            **table,
            "columns": described,
            "column_relationships": [
                one for one in table.get("column_relationships", []) if not gone & set(one["column_names"])
            ],
        }
        return result

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows as a model sees them."""
        for program in self.programs:
            batch = program.transform(batch)
        arrays = {name: batch.column(name) for name in batch.schema.names}
        made: dict[str, pa.Array] = {}
        for step in self.steps:
            made.update(step.transform(arrays))
        return pa.RecordBatch.from_arrays(
            [made[f.name] if f.name in made else arrays[f.name] for f in self.inner], schema=self.inner
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
        fine = np.ones(n, np.bool_)
        for step in self.steps:
            restored, broken = step.restore(arrays, n)
            arrays.update(restored)
            fine &= ~broken
        found = pa.RecordBatch.from_arrays([_fitting(arrays[f.name], f, fine) for f in self.base], schema=self.base)
        for program in reversed(self.programs):
            found, broken = program.restore(found)
            fine &= ~broken
        for mask in self.valid(found):
            fine &= mask
        return found, fine

    def valid(self, batch: pa.RecordBatch) -> list[Mask]:
        """Rows that satisfy each constraint, bool[n] by constraint: the steps, then the programs."""
        arrays = {name: batch.column(name) for name in batch.schema.names}
        masks = [s.valid(arrays, batch.num_rows) for s in self.steps if set(s.columns) <= set(arrays)]
        return masks + [program.valid(batch) for program in self.programs]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; the programs, which are objects of a user's class, are not in it."""
        return {
            "format": _FORMAT,
            "schema": schema_to_text(self.schema),
            "base": schema_to_text(self.base),
            "steps": [step.to_json() for step in self.steps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], programs: Sequence[Programmed] = ()) -> TableConstraints:
        """Inverse of ``to_json``."""
        base = schema_from_text(data["base"])
        steps = tuple(_KINDS[step["kind"]].from_json(step, base) for step in data["steps"])
        return cls(schema_from_text(data["schema"]), steps, tuple(programs))


def _fitting(array: pa.Array, field: pa.Field, fine: Mask) -> pa.Array:
    """The array, with what a field that is not nullable cannot hold put away: those rows are drawn again."""
    if field.nullable or not array.null_count or pa.types.is_floating(field.type):
        return array
    fine &= ~np.asarray(array.is_null().to_numpy(zero_copy_only=False), np.bool_)
    return array
