"""Rows against constraints: the input before anything is learned, what was written before it is handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.metadata import columns, read
from shardsynth.data.shards import Dataset, read_batches
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.sampling.constraints.by_sdv import build, check_metadata
from shardsynth.sampling.constraints.declared import (
    bind,
    check_declared,
    check_learned,
    columns_in,
    describe,
    is_programmed,
)
from shardsynth.sampling.constraints.step import ConstrainedColumn, Step

#: Rows that are checked before any task starts; the first pass over the shards checks them all.
CHECKED_AT_ONCE = 2_000_000


def check_constraints(job: Job, dataset: Dataset) -> None:
    """Check the declarations, and as many rows as can be read at once.

    Raises:
        JobError: A declaration that SDV refuses, or rows that violate a constraint.
    """
    declared = declarations(job)
    for number, one in enumerate(declared):
        check_declared(one, number, dataset.schema.names)
    checker = Checker(job, dataset.schema)
    if find_spec("sdv") is not None:  # a login node that only submits may lack it: then the first task says so
        for number, one in enumerate(declared):
            build(one, number)
        if checker.metadata is not None:
            check_metadata([one for one in declared if not is_programmed(one)], checker.metadata)
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            checker.update(batch, row)
            row += batch.num_rows
            if row >= CHECKED_AT_ONCE:
                checker.refuse()
                return
    checker.refuse_empty()
    checker.refuse()


class Checker:
    """Counts the rows of the real table that violate each constraint of SDV's own classes."""

    def __init__(self, job: Job, schema: pa.Schema) -> None:
        self.declared = declarations(job)
        self.metadata = None if job.metadata is None else read(Path(job.metadata), schema, validate=False)
        known = {} if self.metadata is None else {c.name: c for c in columns(self.metadata, schema)}
        self.found = [[0, -1] for _ in self.declared]
        self._steps: list[tuple[int, Step]] = []
        for number, one in enumerate(self.declared):
            if not is_programmed(one):
                (step,) = bind([one], lambda name, one=one: _held(one, schema.field(name), known), schema.names)  # type: ignore[misc]
                self._steps.append((number, step))
        self._empty = {name: number for number, step in self._steps for name in step.columns}

    def update(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Count a batch."""
        for name in [*self._empty]:
            if pc.is_null(batch.column(name), nan_is_null=True).false_count:
                del self._empty[name]
        for number, step in self._steps:
            fine = step.valid({name: batch.column(name) for name in step.columns}, batch.num_rows)
            count_broken(self.found[number], fine, first_row)

    def refuse_empty(self) -> None:
        """JobError if a column of a constraint had no value in any batch."""
        for name, number in self._empty.items():
            check_learned(self.declared[number], number, [Column(name, pa.null(), "unknown", "empty")])

    def refuse(self) -> None:
        """JobError if any row violates a constraint."""
        refuse_violations(self.declared, self.found)


def refuse_violations(declared: Sequence[Mapping[str, Any]], found: Sequence[Sequence[int]]) -> None:
    """JobError that says which constraints are violated, by how many rows, and the number of one of them."""
    broken = [
        f"{describe(one, number)}: {count:,} row(s) of the input violate it, the first is row {row:,}"
        for number, (one, (count, row)) in enumerate(zip(declared, found))
        if count
    ]
    if broken:
        raise JobError(
            "; ".join(broken) + " (counted from 0 over all shards); correct the data, or leave the constraint out"
        )


def sum_violations(parts: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Violations of several parts, in row order: counts added, the first row kept."""
    total: list[list[int]] = []
    for part in parts:
        if not total:
            total = [list(one) for one in part]
            continue
        for mine, (count, row) in zip(total, part):
            mine[0] += count
            mine[1] = min((r for r in (mine[1], row) if r >= 0), default=-1)
    return total


def _held(declared: Mapping[str, Any], field: pa.Field, known: Mapping[str, Column]) -> ConstrainedColumn:
    """A column before its values are known: as the metadata have it, else what the constraint takes it for."""
    if field.name in known:
        return ConstrainedColumn(known[field.name], nullable=field.nullable)
    nature = kind_of(field.type)
    sdtype, role = "categorical", "category"
    if declared["class_name"] in ("Inequality", "Range", "FixedIncrements"):
        instant = nature == "temporal" and not (pa.types.is_time(field.type) or pa.types.is_duration(field.type))
        sdtype, role = ("datetime", "datetime") if instant else ("numerical", "number")
        if nature == "text":
            raise JobError(
                f"{declared['class_name']} on the text column {field.name!r}: name metadata that give it the sdtype "
                "datetime and its datetime_format; `shardsynth init` writes them"
            )
    return ConstrainedColumn(Column(field.name, field.type, sdtype, role), nullable=field.nullable)


def count_broken(found: list[int], fine: np.ndarray[Any, np.dtype[np.bool_]], first_row: int) -> None:
    """Add a batch's violations to ``[count, first row]`` of a constraint."""
    if fine.all():
        return
    found[0] += int(len(fine) - fine.sum())
    if found[1] < 0:
        found[1] = first_row + int(np.argmin(fine))


def declarations(job: Job) -> list[dict[str, Any]]:
    """The job's constraints in SDV's form."""
    return [{"class_name": one.class_name, "parameters": dict(one.parameters)} for one in job.constraints]


def adapted(metadata: dict[str, Any], job: Job, schema: pa.Schema) -> dict[str, Any]:
    """Detected metadata in which the columns of constraints on numbers are numbers: SDV calls flags ordinal."""
    (table,) = metadata["tables"].values()
    for one in declarations(job):
        if one["class_name"] in ("Inequality", "Range", "FixedIncrements"):
            for name in columns_in(one):
                if table["columns"][name]["sdtype"] == "ordinal":
                    digits = {"decimal_places": 0} if kind_of(schema.field(name).type) == "integer" else {}
                    nullable = table["columns"][name].get("range_is_nullable", True)
                    table["columns"][name] = {"sdtype": "numerical", "range_is_nullable": nullable, **digits}
    return metadata
