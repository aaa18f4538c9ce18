"""Constraints in the stages: violations by rows of the input and by written rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.errors import MergeError
from shardsynth.models.columns.computed import ComputedColumn
from shardsynth.planning.constraints import count_broken, declarations, refuse_violations, sum_violations
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.constraint_card import COMPUTED, FILE, GUESSED
from shardsynth.run.rundir import Attempt
from shardsynth.sampling.constraints.declared import describe, is_programmed
from shardsynth.sampling.constraints.sdv_constraints import SdvConstraints
from shardsynth.sources.blocks import enough_categories
from shardsynth.stages.persons import no_persons
from shardsynth.standalone.files import read_json
from shardsynth.summaries.counts import Counts


def write_card(artifacts: Artifacts, attempt: Attempt, folder: Path) -> None:
    """Write the constraints into a model's folder."""
    if not artifacts.plan.job.constraints:
        return
    computed = artifacts.constraints().computed
    if computed:
        card = {**read_json(artifacts.summary(FILE)), "computed": [column.to_json() for column in computed]}
        attempt.write_json(folder / FILE, card)
    else:
        attempt.output(folder / FILE).write_bytes(artifacts.summary(FILE).read_bytes())


def guessed_columns(artifacts: Artifacts) -> list[ComputedColumn]:
    """Columns that are computed from restored ones, as guessed on the row sample."""
    path = artifacts.summary(GUESSED)
    if not path.exists():  # of a run that an older version began
        return []
    return [ComputedColumn.from_json(column, artifacts.plan.schema) for column in read_json(path)]


def write_computed(artifacts: Artifacts, attempt: Attempt, counts: Counts) -> None:
    """Write the columns that are computed from restored ones and that no training row contradicts.

    Args:
        artifacts: Of the run.
        attempt: Of ``count_merge``.
        counts: Merged counts of the training rows.
    """
    guessed = guessed_columns(artifacts)
    if not guessed:
        return
    counted = [artifacts.run.last_record("count", task.index) or {} for task in artifacts.plan.tasks["count"]]
    if not all("computed" in record for record in counted):
        return
    broken = np.array([record["computed"] for record in counted], np.int64).sum(axis=0)
    kept: list[ComputedColumn] = []
    categories = enough_categories(artifacts.coder(), counts, artifacts.plan.job.rare.least)
    for column, rows in zip(guessed, broken.tolist()):
        # One whose parent is no longer computed is left to the model, like its parent.
        if rows or {p for p in column.relation.parents if p in {g.name for g in guessed}} - {k.name for k in kept}:
            continue
        try:
            kept.append(replace(column, relation=column.relation.bind(categories, {})))
        except (KeyError, ValueError):  # a category that too few rows have
            continue
    attempt.write_json(artifacts.summary(COMPUTED), [column.to_json() for column in kept])


class InnerCounts:
    """Counts of the inner table, and of the real rows that violate a constraint of a user's class.

    Attributes:
        counts: Of the training rows, in the inner table.
        violations: By constraint ``[rows that violate it, number of the first one]``; -1 where there is none.
        computed: By column of ``guessed_columns``, the training rows that contradict it.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        job = artifacts.plan.job
        self._table = artifacts.constraints()
        self._programs = [number for number, declaration in enumerate(declarations(job)) if is_programmed(declaration)]
        self.counts = Counts.empty(
            artifacts.inner_coder(),
            fit=True,
            score=None,
            seed=job.seed,
            total_rows=artifacts.profile("train").rows,
            relations=artifacts.relations(),
            persons=no_persons(artifacts, artifacts.inner_coder(), "train", pairs=True),
        )
        self.violations = [[0, -1] for _ in job.constraints]
        self._guessed = guessed_columns(artifacts)
        self.computed = [0] * len(self._guessed)

    def update(
        self,
        batch: pa.RecordBatch,
        row: int,
        keep: np.ndarray[Any, np.dtype[np.bool_]],
        persons: np.ndarray[Any, np.dtype[np.uint64]] | None = None,
    ) -> None:
        """Count the training rows of a batch.

        Args:
            batch: In the schema of the input.
            row: Global number of its first row.
            keep: bool[n], which rows are training rows.
            persons: uint64[n], hashes of the rows' persons, where persons are counted.
        """
        if not batch.num_rows:
            return
        for number, program in zip(self._programs, self._table.programs):
            count_broken(self.violations[number], program.valid(batch), row)
        if self._guessed and keep.any():
            training = batch if keep.all() else batch.filter(pa.array(keep))
            for number, column in enumerate(self._guessed):
                self.computed[number] += column.violations(training)
        self.counts.update(self._table.transform(batch), row, keep, persons)


def sdv_constraints(artifacts: Artifacts) -> Any:
    """SDV's own constraint objects, fitted on the row sample; made once per process."""

    def load() -> SdvConstraints:
        metadata = artifacts.metadata()
        sample = artifacts.profile("train").sample
        return SdvConstraints(declarations(artifacts.plan.job), sample, artifacts.columns_of(metadata), metadata)

    return artifacts.cached("sdv_constraints", load)


class PartChecker:
    """Counts, by SDV's own ``is_valid``, the written rows that violate each constraint.

    Attributes:
        violations: By constraint ``[rows that violate it, number of the first one]``; -1 where there is none.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self._sdv_constraints, self._table = sdv_constraints(artifacts), artifacts.constraints()
        self.violations = [[0, -1] for _ in artifacts.plan.job.constraints]

    def update(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Count the violations of a batch, whose first row has the global number ``first_row``."""
        masks = dict(self._sdv_constraints.valid(batch))
        programmed = [number for number in range(len(self.violations)) if number not in masks]
        masks.update({number: program.valid(batch) for number, program in zip(programmed, self._table.programs)})
        for number, is_valid in masks.items():
            count_broken(self.violations[number], is_valid, first_row)


def refuse_input(artifacts: Artifacts, stage: str) -> None:
    """JobError if the tasks of a stage counted real rows that violate a constraint."""
    records = [artifacts.run.last_record(stage, task.index) or {} for task in artifacts.plan.tasks[stage]]
    violations = sum_violations([record["violations"] for record in records])
    refuse_violations(declarations(artifacts.plan.job), violations)


def constraint_results(artifacts: Artifacts, model: str) -> dict[str, Any]:
    """Violations and acceptance of a model's rows under constraints, for the manifest.

    Raises:
        MergeError: A written row violates a constraint.
    """
    run, plan = artifacts.run, artifacts.plan
    declared = declarations(plan.job)
    score_records = [run.last_record("score", task.index) or {} for task in plan.model_tasks("score", model)]
    violations = sum_violations([record["violations"] for record in score_records])
    for number, (declaration, (count, row)) in enumerate(zip(declared, violations)):
        if count:
            raise MergeError(
                f"{run.samples(model)}: {describe(declaration, number)}: {count:,} rows violate it, the first is row "
                f"{row:,}; its class must restore rows that its own is_valid accepts"
            )
    sample_records = [run.last_record("sample", task.index) or {} for task in plan.model_tasks("sample", model)]
    drawn = sum((record.get("acceptance") or {}).get("drawn", 0) for record in sample_records)
    accepted = sum((record.get("acceptance") or {}).get("kept", 0) for record in sample_records)
    return {
        "checked": [
            {"class_name": declaration["class_name"], "violations": count}
            for declaration, (count, _) in zip(declared, violations)
        ],
        "acceptance": accepted / drawn if drawn else None,
    }
