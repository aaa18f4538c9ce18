"""Sampling: a task makes a range of output parts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.sources.parts import write_part
from shardsynth.sources.sources import open_run_source
from shardsynth.summaries.ranges import ScoreRanges


def sample(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write a range of output parts, and the exact range of every numeric column."""
    plan, run = artifacts.plan, artifacts.run
    source = artifacts.cached(f"source {task.model}", lambda: open_run_source(artifacts, task.model))
    columns = artifacts.coder().columns
    head_rows = artifacts.profile("holdout").rows
    ranges = {"all": ScoreRanges.empty(columns), "head": ScoreRanges.empty(columns)}
    row = plan.part_rows(task.parts[0]).start
    first = row

    def watch(batch: pa.RecordBatch) -> None:
        nonlocal row
        ranges["all"].update(batch)
        if row < head_rows:
            ranges["head"].update(batch.slice(0, head_rows - row))
        row += batch.num_rows
        progress(row - first)

    parts = []
    for part in range(*task.parts):
        path = run.part(task.model, part)
        written = write_part(attempt.output(path), plan.schema, source, plan.part_rows(part), watch)
        attempt.checksum(path, written["sha256"])
        parts.append({"part": part, **written})
    attempt.write_json(run.ranges_file(task), {name: score_ranges.to_json() for name, score_ranges in ranges.items()})
    return attempt.commit(rows=row - first, parts=parts, acceptance=source.acceptance(), device=source.device)
