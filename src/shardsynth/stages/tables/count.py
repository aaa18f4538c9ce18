"""Pass 2 over the gathered rows: counts of every view on the bins of pass 1."""

from __future__ import annotations

from typing import Any

from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.persons import no_persons
from shardsynth.stages.tables.views import Tables, View
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.ranges import ScoreRanges


def _names(view: View) -> tuple[str, ...]:
    return ("train", "holdout") if view.kind == "outer" else ("train",)


def _empty(view: View, name: str) -> Counts:
    coder, learns = view.coder(), view.kind == "inner"
    return Counts.empty(
        coder,
        fit=learns,
        score=None if learns else ScoreRanges.from_profile(view.profile(name), coder.columns),
        seed=view.plan.job.seed,
        total_rows=view.profile(name).rows,
        relations=view.relations() if learns else (),
        persons=no_persons(view, coder, name, pairs=learns),
    )


def count(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Count some buckets in every view."""
    tables = Tables.of(artifacts)
    parts = {view: {name: _empty(view, name) for name in _names(view)} for view in tables.views}
    buckets = range(*task.parts)
    for view, batch, first, held_out, persons in tables.batches(buckets, progress):
        for name, part in parts[view].items():
            part.update(batch, first, held_out if name == "holdout" else ~held_out, persons)
    for view, own in parts.items():
        for name, part in own.items():
            part.save(attempt.output(view.run.count_part(task.index, name)))
    return attempt.commit(rows=tables.rows(buckets))


def count_merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the counts of every view."""
    tables = Tables.of(artifacts)
    tasks = artifacts.plan.tasks["count"]
    for view in tables.views:
        for name in _names(view):
            merged = Counts.load_merged([view.run.count_part(each.index, name) for each in tasks], view.coder())
            merged.save(attempt.output(view.summary(f"counts.{name}")))
        if view.kind == "outer":
            attempt.write_json(view.summary("drift.json"), {"groups": [], "columns": {}})
    record = attempt.commit(rows=sum(view.real_rows for view in tables.outer.values()))
    for view in tables.views:
        for name in _names(view):
            for each in tasks:
                view.run.count_part(each.index, name).unlink(missing_ok=True)
    return record
