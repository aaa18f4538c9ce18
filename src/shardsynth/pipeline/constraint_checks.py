"""Rows against constraints: the input before anything is learned, what was written before it is handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError, MergeError
from shardsynth.job import Job
from shardsynth.pipeline.constrained import constraints, declarations, inner_coder

if TYPE_CHECKING:
    from shardsynth.data.shards import Dataset
    from shardsynth.pipeline.tasks import Worker
    from shardsynth.sampling.constraints.step import Held, Step

#: Rows that are checked before any task starts; the first pass over the shards checks them all.
CHECKED_AT_ONCE = 2_000_000


def check_constraints(job: Job, dataset: Dataset) -> None:
    """Check the declarations, and as many rows as can be read at once.

    Raises:
        JobError: A declaration that SDV refuses, or rows that violate a constraint.
    """
    from shardsynth.data.shards import read_batches
    from shardsynth.sampling.constraints.by_sdv import build, check_metadata
    from shardsynth.sampling.constraints.declared import check_declared, is_programmed

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
        from shardsynth.data.metadata import columns, read
        from shardsynth.sampling.constraints.declared import bind, is_programmed

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
            _count_broken(self.found[number], fine, first_row)

    def refuse_empty(self) -> None:
        """JobError if a column of a constraint had no value in any batch."""
        from shardsynth.sampling.constraints.declared import check_learned

        for name, number in self._empty.items():
            check_learned(self.declared[number], number, [Column(name, pa.null(), "unknown", "empty")])

    def refuse(self) -> None:
        """JobError if any row violates a constraint."""
        refuse_violations(self.declared, self.found)


def refuse_violations(declared: Sequence[Mapping[str, Any]], found: Sequence[Sequence[int]]) -> None:
    """JobError that says which constraints are violated, by how many rows, and the number of one of them."""
    from shardsynth.sampling.constraints.declared import describe

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


def _held(declared: Mapping[str, Any], field: pa.Field, known: Mapping[str, Column]) -> Held:
    """A column before its values are known: as the metadata have it, else what the constraint takes it for."""
    from shardsynth.sampling.constraints.step import Held

    if field.name in known:
        return Held(known[field.name], nullable=field.nullable)
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
    return Held(Column(field.name, field.type, sdtype, role), nullable=field.nullable)


class InnerCounts:
    """Counts of the inner table, and of the real rows that violate a constraint of a user's class."""

    def __init__(self, worker: Worker) -> None:
        from shardsynth.sampling.constraints.declared import is_programmed
        from shardsynth.summaries.counts import Counts

        job = worker.plan.job
        self._table = constraints(worker)
        self._programs = [number for number, one in enumerate(declarations(job)) if is_programmed(one)]
        self.counts = Counts.empty(
            inner_coder(worker),
            fit=True,
            score=None,
            seed=job.seed,
            total_rows=worker.profile("train").rows,
            relations=worker.relations(),
        )
        self.violations = [[0, -1] for _ in job.constraints]

    def update(self, batch: pa.RecordBatch, row: int, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Count the training rows of a batch."""
        if not batch.num_rows:
            return
        for number, program in zip(self._programs, self._table.programs):
            _count_broken(self.violations[number], program.valid(batch), row)
        self.counts.update(self._table.transform(batch), row, keep)


def arbiter(worker: Worker) -> Any:
    """SDV's own constraint objects, fitted on the row sample."""
    from shardsynth.sampling.constraints.by_sdv import Arbiter

    def load() -> Arbiter:
        metadata = worker.metadata()
        sample = worker.profile("train").sample
        return Arbiter(declarations(worker.plan.job), sample, worker.columns_of(metadata), metadata)

    return worker.cached("arbiter", load)


class Judge:
    """Counts, by SDV's own ``is_valid``, the written rows that violate each constraint."""

    def __init__(self, worker: Worker) -> None:
        self._arbiter, self._table = arbiter(worker), constraints(worker)
        self.found = [[0, -1] for _ in worker.plan.job.constraints]

    def update(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Count a batch."""
        masks = dict(self._arbiter.valid(batch))
        others = [number for number in range(len(self.found)) if number not in masks]
        masks.update({number: program.valid(batch) for number, program in zip(others, self._table.programs)})
        for number, fine in masks.items():
            _count_broken(self.found[number], fine, first_row)


def _count_broken(found: list[int], fine: np.ndarray[Any, np.dtype[np.bool_]], first_row: int) -> None:
    if fine.all():
        return
    found[0] += int(len(fine) - fine.sum())
    if found[1] < 0:
        found[1] = first_row + int(np.argmin(fine))


def refuse_input(worker: Worker, stage: str) -> None:
    """JobError if the tasks of a stage saw real rows that violate a constraint."""
    records = [worker.run.last_record(stage, task.index) or {} for task in worker.plan.tasks[stage]]
    found = sum_violations([record["violations"] for record in records])
    refuse_violations(declarations(worker.plan.job), found)


def verdict(worker: Worker, model: str) -> dict[str, Any]:
    """What the scoring tasks found, for the manifest.

    Raises:
        MergeError: A written row violates a constraint.
    """
    from shardsynth.sampling.constraints.declared import describe

    run, plan = worker.run, worker.plan
    declared = declarations(plan.job)
    scored = [run.last_record("score", task.index) or {} for task in plan.model_tasks("score", model)]
    found = sum_violations([record["violations"] for record in scored])
    for number, (one, (count, row)) in enumerate(zip(declared, found)):
        if count:
            raise MergeError(
                f"{run.samples(model)}: {describe(one, number)}: {count:,} rows violate it, the first is row {row:,}; "
                "its class must restore rows that its own is_valid accepts"
            )
    sampled = [run.last_record("sample", task.index) or {} for task in plan.model_tasks("sample", model)]
    drawn = sum((record.get("acceptance") or {}).get("drawn", 0) for record in sampled)
    kept = sum((record.get("acceptance") or {}).get("kept", 0) for record in sampled)
    return {
        "checked": [{"class_name": one["class_name"], "violations": count} for one, (count, _) in zip(declared, found)],
        "acceptance": kept / drawn if drawn else None,
    }
