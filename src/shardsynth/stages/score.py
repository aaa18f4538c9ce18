"""Scoring: a task counts a range of synthetic parts on the bins of the real rows."""

from __future__ import annotations

from typing import Any

from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.sources.parts import read_part
from shardsynth.stages.constraints import PartChecker
from shardsynth.stages.row_figures import ScoredRows
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.ranges import ScoreRanges


def score(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Count a range of synthetic parts on the bins of the real rows, and keep the rows for row-based figures.

    The first rows, as many as the holdout has, are counted once more on their own (``head``).
    """
    plan, run, coder = artifacts.plan, artifacts.run, artifacts.coder()
    head_rows = artifacts.profile("holdout").rows
    ranges = artifacts.synthetic_ranges(task.model)
    real = ScoreRanges.from_profile(artifacts.profile("train"), coder.columns)
    everything = Counts.empty(coder, fit=False, score=ranges["all"], real=real, total_rows=plan.rows)
    head = Counts.empty(coder, fit=False, score=ranges["head"], real=real, total_rows=head_rows)
    scored_rows = ScoredRows(artifacts, task.model)
    checker = PartChecker(artifacts) if plan.job.constraints else None
    first = row = plan.part_rows(task.parts[0]).start
    for part in range(*task.parts):
        for batch in read_part(run.part(task.model, part)):
            everything.update(batch, row)
            scored_rows.add(batch, row)
            if checker is not None:
                checker.update(batch, row)
            if row < head_rows:
                head.update(batch.slice(0, head_rows - row), row)
            row += batch.num_rows
            progress(row - first)
    everything.save(attempt.output(run.score_part(task, "all")))
    head.save(attempt.output(run.score_part(task, "head")))
    scored_rows.save(attempt.output(run.score_part(task, "rows")))
    violations: dict[str, Any] = {} if checker is None else {"violations": checker.violations}
    return attempt.commit(rows=row - first, **violations)
