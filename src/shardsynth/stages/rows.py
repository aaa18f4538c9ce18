"""Real rows as tasks read them: keys are replaced by pseudonyms, and holdout rows are marked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.shards import read_batches
from shardsynth.errors import RunError
from shardsynth.planning.personal import pseudonyms
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Progress
from shardsynth.sampling.pseudonyms import Pseudonyms
from shardsynth.stages.persons import row_persons, sample_persons
from shardsynth.standalone import signals
from shardsynth.summaries.persons import Hashes
from shardsynth.summaries.rows import holdout_mask


def training_rows(artifacts: Artifacts) -> Iterator[pa.RecordBatch]:
    """All rows except those of the holdout, shard after shard; under constraints, in the inner table."""
    plan = artifacts.plan
    table = artifacts.constraints() if plan.job.constraints else None
    for task in plan.tasks["count"]:
        for batch, _, is_holdout in input_rows(plan, task, signals.check):
            rows = batch.filter(pa.array(~is_holdout)) if is_holdout.any() else batch
            if table is None:
                yield rows
            elif rows.num_rows:
                yield table.transform(rows)


def training_persons(artifacts: Artifacts, streams: bool) -> Hashes:
    """Hashes of the persons of the rows that a model is trained on, uint64[rows], in the order of these rows.

    Args:
        artifacts: Of a run whose job names persons.
        streams: Whether these rows are all training rows, not the row sample.
    """
    plan = artifacts.plan
    if not streams:
        sample = sample_persons(artifacts, "train")
        assert sample is not None
        return sample
    parts = [np.zeros(0, np.uint64)]
    for task in plan.tasks["count"]:
        for batch, row, is_holdout in input_rows(plan, task, signals.check):
            persons = row_persons(plan, batch, row)
            assert persons is not None
            parts.append(persons[~is_holdout])
    return np.concatenate(parts)


Rows = Iterator[tuple[pa.RecordBatch, int, npt.NDArray[np.bool_]]]


def input_rows(plan: Plan, task: Task, progress: Progress) -> Rows:
    """Batches of a task's row groups.

    Yields:
        The batch, the global number of its first row, and bool[n], which rows belong to the holdout.
    """
    rows_done = 0
    holdout_key = plan.job.holdout_key
    replace = pseudonyms(plan.job)
    for piece in task.pieces:
        row = piece.first_row
        groups = range(piece.first_group, piece.last_group)
        for batch in read_batches(plan.shards[piece.shard], plan.schema, groups):
            key = batch.column(holdout_key) if holdout_key else None
            rows = batch if replace is None else replace.replaced(batch)
            yield rows, row, holdout_mask(plan.job.seed, plan.job.evaluate.holdout, row, batch.num_rows, key)
            row += batch.num_rows
            rows_done += batch.num_rows
            progress(rows_done)


def check_keys(artifacts: Artifacts, pseudonyms_used: Pseudonyms | None) -> None:
    """Check that the key files are those of the first pass: the rows of a run must share their pseudonyms.

    Raises:
        RunError: A key file changed.
    """
    record = artifacts.run.last_record("profile", 0) or {}
    if pseudonyms_used is not None and record.get("keys") != pseudonyms_used.fingerprints():
        raise RunError(
            f"{artifacts.run.root}: a key file of pseudonymize changed since the run began; put the old key back, or "
            "start another run"
        )
