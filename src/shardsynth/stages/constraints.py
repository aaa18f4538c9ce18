"""Rows against constraints: what tasks counted of the input, and what was written before it is handed out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.errors import MergeError
from shardsynth.planning.constraints import count_broken, declarations, refuse_violations, sum_violations
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.constraint_card import FILE
from shardsynth.run.rundir import Attempt
from shardsynth.sampling.constraints.by_sdv import Arbiter
from shardsynth.sampling.constraints.declared import describe, is_programmed
from shardsynth.summaries.counts import Counts


def write_card(artifacts: Artifacts, attempt: Attempt, folder: Path) -> None:
    """Copy the constraints into a model's folder."""
    if artifacts.plan.job.constraints:
        attempt.output(folder / FILE).write_bytes(artifacts.summary(FILE).read_bytes())


class InnerCounts:
    """Counts of the inner table, and of the real rows that violate a constraint of a user's class."""

    def __init__(self, artifacts: Artifacts) -> None:
        job = artifacts.plan.job
        self._table = artifacts.constraints()
        self._programs = [number for number, one in enumerate(declarations(job)) if is_programmed(one)]
        self.counts = Counts.empty(
            artifacts.inner_coder(),
            fit=True,
            score=None,
            seed=job.seed,
            total_rows=artifacts.profile("train").rows,
            relations=artifacts.relations(),
        )
        self.violations = [[0, -1] for _ in job.constraints]

    def update(self, batch: pa.RecordBatch, row: int, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Count the training rows of a batch."""
        if not batch.num_rows:
            return
        for number, program in zip(self._programs, self._table.programs):
            count_broken(self.violations[number], program.valid(batch), row)
        self.counts.update(self._table.transform(batch), row, keep)


def arbiter(artifacts: Artifacts) -> Any:
    """SDV's own constraint objects, fitted on the row sample."""

    def load() -> Arbiter:
        metadata = artifacts.metadata()
        sample = artifacts.profile("train").sample
        return Arbiter(declarations(artifacts.plan.job), sample, artifacts.columns_of(metadata), metadata)

    return artifacts.cached("arbiter", load)


class Judge:
    """Counts, by SDV's own ``is_valid``, the written rows that violate each constraint."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._arbiter, self._table = arbiter(artifacts), artifacts.constraints()
        self.found = [[0, -1] for _ in artifacts.plan.job.constraints]

    def update(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Count a batch."""
        masks = dict(self._arbiter.valid(batch))
        others = [number for number in range(len(self.found)) if number not in masks]
        masks.update({number: program.valid(batch) for number, program in zip(others, self._table.programs)})
        for number, fine in masks.items():
            count_broken(self.found[number], fine, first_row)


def refuse_input(artifacts: Artifacts, stage: str) -> None:
    """JobError if the tasks of a stage saw real rows that violate a constraint."""
    records = [artifacts.run.last_record(stage, task.index) or {} for task in artifacts.plan.tasks[stage]]
    found = sum_violations([record["violations"] for record in records])
    refuse_violations(declarations(artifacts.plan.job), found)


def verdict(artifacts: Artifacts, model: str) -> dict[str, Any]:
    """What the scoring tasks found, for the manifest.

    Raises:
        MergeError: A written row violates a constraint.
    """
    run, plan = artifacts.run, artifacts.plan
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
