"""Real rows as tasks read them: keys replaced, the holdout told apart."""

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
from shardsynth.standalone import signals
from shardsynth.summaries.rows import holdout_mask


def training_rows(artifacts: Artifacts) -> Iterator[pa.RecordBatch]:
    """All rows but those of the holdout, shard after shard, as the model sees them."""
    plan = artifacts.plan
    table = artifacts.constraints() if plan.job.constraints else None
    for task in plan.tasks["count"]:
        for batch, _, held in input_rows(plan, task, signals.check):
            kept = batch.filter(pa.array(~held)) if held.any() else batch
            if table is None:
                yield kept
            elif kept.num_rows:
                yield table.transform(kept)


Rows = Iterator[tuple[pa.RecordBatch, int, npt.NDArray[np.bool_]]]


def input_rows(plan: Plan, task: Task, progress: Progress) -> Rows:
    """Batches of a task's pieces, their first global row number, and which rows are held out."""
    done = 0
    evaluate = plan.job.evaluate
    replace = pseudonyms(plan.job)
    for piece in task.pieces:
        row = piece.first_row
        groups = range(piece.first_group, piece.last_group)
        for batch in read_batches(plan.shards[piece.shard], plan.schema, groups):
            key = batch.column(evaluate.group) if evaluate.group else None
            rows = batch if replace is None else replace.replaced(batch)
            yield rows, row, holdout_mask(plan.job.seed, evaluate.holdout, row, batch.num_rows, key)
            row += batch.num_rows
            done += batch.num_rows
            progress(done)


def check_keys(artifacts: Artifacts, found: Pseudonyms | None) -> None:
    """RunError where a key file changed since the first pass: half of the rows would have other pseudonyms."""
    record = artifacts.run.last_record("profile", 0) or {}
    if found is not None and record.get("keys") != found.fingerprints():
        raise RunError(
            f"{artifacts.run.root}: a key file of pseudonymize changed since the run began; put the old key back, or "
            "start another run"
        )
