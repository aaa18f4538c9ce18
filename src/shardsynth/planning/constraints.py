"""Check the rows of the input against the constraints of a job, and count violations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
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
from shardsynth.sampling.constraints.declared import (
    bind,
    check_declared,
    check_learned,
    columns_in,
    describe,
    is_programmed,
)
from shardsynth.sampling.constraints.sdv_constraints import build, check_metadata
from shardsynth.sampling.constraints.step import ConstrainedColumn, Step

#: Number of rows that are checked before any task starts; the first pass over the shards checks all rows.
CHECKED_AT_ONCE = 2_000_000


def check_constraints(job: Job, dataset: Dataset) -> None:
    """Check the declarations, and the first ``CHECKED_AT_ONCE`` rows.

    Raises:
        JobError: SDV refuses a declaration, or rows violate a constraint.
    """
    declared = declarations(job)
    for number, declaration in enumerate(declared):
        check_declared(declaration, number, dataset.schema.names)
    checker = InputChecker(job, dataset.schema)
    if find_spec("sdv") is not None:  # a login node that only submits may lack it; then the first task checks this
        for number, declaration in enumerate(declared):
            build(declaration, number)
        if checker.metadata is not None:
            check_metadata(
                [declaration for declaration in declared if not is_programmed(declaration)], checker.metadata
            )
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


class InputChecker:
    """Counts the rows of the input that violate each constraint of SDV's own classes.

    Attributes:
        declared: The job's constraints in SDV's form.
        metadata: The job's metadata; None where it names none.
        violations: By constraint ``[rows that violate it, number of the first one]``; -1 where there is none.
    """

    def __init__(self, job: Job, schema: pa.Schema) -> None:
        self.declared = declarations(job)
        self.metadata = None if job.metadata is None else read(Path(job.metadata), schema, validate=False)
        known = {} if self.metadata is None else {c.name: c for c in columns(self.metadata, schema)}
        self.violations = [[0, -1] for _ in self.declared]
        self._steps: list[tuple[int, Step]] = []
        for number, declaration in enumerate(self.declared):
            if not is_programmed(declaration):
                describe_column = partial(_column_of, declaration, schema, known)
                (step,) = bind([declaration], describe_column, schema.names)
                self._steps.append((number, step))
        self._empty = {name: number for number, step in self._steps for name in step.columns}

    def update(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Count the violations of a batch, whose first row has the global number ``first_row``."""
        for name in [*self._empty]:
            if pc.is_null(batch.column(name), nan_is_null=True).false_count:
                del self._empty[name]
        for number, step in self._steps:
            is_valid = step.valid({name: batch.column(name) for name in step.columns}, batch.num_rows)
            count_broken(self.violations[number], is_valid, first_row)

    def refuse_empty(self) -> None:
        """JobError if a column of a constraint had no value in any batch."""
        for name, number in self._empty.items():
            check_learned(self.declared[number], number, [Column(name, pa.null(), "unknown", "empty")])

    def refuse(self) -> None:
        """JobError if any row violates a constraint."""
        refuse_violations(self.declared, self.violations)


def refuse_violations(declared: Sequence[Mapping[str, Any]], violations: Sequence[Sequence[int]]) -> None:
    """JobError if a constraint is violated; it says by how many rows, and the number of the first one."""
    broken = [
        f"{describe(declaration, number)}: {count:,} row(s) of the input violate it, the first is row {row:,}"
        for number, (declaration, (count, row)) in enumerate(zip(declared, violations))
        if count
    ]
    if broken:
        raise JobError(
            "; ".join(broken) + " (counted from 0 over all shards); correct the data, or leave the constraint out"
        )


def sum_violations(parts: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Violations of several tasks added up: the counts, and the first of the row numbers."""
    total: list[list[int]] = []
    for part in parts:
        if not total:
            total = [list(entry) for entry in part]
            continue
        for entry, (count, row) in zip(total, part):
            entry[0] += count
            entry[1] = min((r for r in (entry[1], row) if r >= 0), default=-1)
    return total


def _column_of(
    declared: Mapping[str, Any], schema: pa.Schema, known: Mapping[str, Column], name: str
) -> ConstrainedColumn:
    """A column before its values are known: as the metadata describe it, else of the type that the constraint needs."""
    field = schema.field(name)
    if name in known:
        return ConstrainedColumn(known[name], nullable=field.nullable)
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


def count_broken(entry: list[int], is_valid: np.ndarray[Any, np.dtype[np.bool_]], first_row: int) -> None:
    """Add a batch's violations to the entry ``[rows, first row]`` of a constraint.

    Args:
        entry: Is changed in place.
        is_valid: bool[n], the rows of the batch that fulfil the constraint.
        first_row: Global number of the first row of the batch.
    """
    if is_valid.all():
        return
    entry[0] += int(len(is_valid) - is_valid.sum())
    if entry[1] < 0:
        entry[1] = first_row + int(np.argmin(is_valid))


def declarations(job: Job) -> list[dict[str, Any]]:
    """The job's constraints in SDV's form."""
    return [
        {"class_name": constraint.class_name, "parameters": dict(constraint.parameters)}
        for constraint in job.constraints
    ]


def with_numbers_for_constraints(metadata: dict[str, Any], job: Job, schema: pa.Schema) -> dict[str, Any]:
    """Detected metadata in which columns with constraints on numbers are numbers; detection calls flags ordinal."""
    (table,) = metadata["tables"].values()
    for declaration in declarations(job):
        if declaration["class_name"] in ("Inequality", "Range", "FixedIncrements"):
            for name in columns_in(declaration):
                if table["columns"][name]["sdtype"] == "ordinal":
                    digits = {"decimal_places": 0} if kind_of(schema.field(name).type) == "integer" else {}
                    nullable = table["columns"][name].get("range_is_nullable", True)
                    table["columns"][name] = {"sdtype": "numerical", "range_is_nullable": nullable, **digits}
    return metadata
