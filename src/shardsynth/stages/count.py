"""Pass 2 over the real rows: counts on the bins of pass 1, and the merge of these counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data import archive
from shardsynth.models.dp.accounting import histogram_noise
from shardsynth.models.dp.tables import draw_histograms, draw_tables
from shardsynth.planning.options import expected_rows, is_trained
from shardsynth.planning.personal import pseudonyms
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.constraints import InnerCounts, refuse_input, write_computed
from shardsynth.stages.persons import no_persons, row_persons
from shardsynth.stages.rows import check_keys, input_rows
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.drift import ShardHistograms, group_of
from shardsynth.summaries.ranges import ScoreRanges


def count(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Count histograms and contingency tables of some row groups, as integers, on the bins of pass 1."""
    plan, run, coder = artifacts.plan, artifacts.run, artifacts.coder()
    check_keys(artifacts, pseudonyms(plan.job))
    inner = InnerCounts(artifacts) if plan.job.constraints else None
    real = ScoreRanges.from_profile(artifacts.profile("train"), coder.columns)
    train = Counts.empty(
        coder,
        fit=inner is None,
        score=real,
        real=real,
        seed=plan.job.seed,
        total_rows=artifacts.profile("train").rows,
        relations=artifacts.relations() if inner is None else (),
        persons=no_persons(artifacts, coder, "train", pairs=inner is None),
    )
    holdout = Counts.empty(
        coder,
        fit=False,
        score=ScoreRanges.from_profile(artifacts.profile("holdout"), coder.columns),
        total_rows=artifacts.profile("holdout").rows,
        persons=no_persons(artifacts, coder, "holdout", pairs=False),
        real=real,
    )
    parts = {"train": train, "holdout": holdout}
    if plan.job.privacy is not None:
        pairs = not is_trained(plan.job)  # a trained model uses histograms only
        parts["public"] = Counts.empty(artifacts.public_coder(), fit=pairs, score=None, total_rows=plan.input_rows)
    starts = np.cumsum([0, *(shard.rows for shard in plan.shards)])
    drift, shard, before = ShardHistograms(), -1, train.hist
    for batch, row, is_holdout in input_rows(plan, task, progress):
        now = int(np.searchsorted(starts, row, side="right")) - 1
        if now != shard and shard >= 0:
            _add_shard(drift, plan, shard, train, before)
        if now != shard:
            shard, before = now, [counts.copy() for counts in train.hist]
        persons = row_persons(plan, batch, row)
        train.update(batch, row, ~is_holdout, persons)
        if plan.job.privacy is not None:
            parts["public"].update(batch, row, ~is_holdout)
        if is_holdout.any():
            holdout.update(batch, row, is_holdout, persons)
        if inner is not None:
            inner.update(batch, row, ~is_holdout, persons)
    if inner is not None:
        parts["inner"] = inner.counts
    if shard >= 0:
        _add_shard(drift, plan, shard, train, before)
    archive.write(attempt.output(run.count_part(task.index, "drift")), drift.to_arrays())
    for name, part in parts.items():
        part.save(attempt.output(run.count_part(task.index, name)))
    violations: dict[str, Any] = {}
    if inner is not None:
        violations = {"violations": inner.violations, "computed": inner.computed}
    return attempt.commit(rows=sum(piece.rows for piece in task.pieces), **violations)


def _add_shard(
    drift: ShardHistograms, plan: Plan, shard: int, train: Counts, before: list[npt.NDArray[np.int64]]
) -> None:
    """Add the counts of one shard: the counts of the training rows now, less those before the shard."""
    grown = [now - then for now, then in zip(train.hist, before)]
    drift.add(group_of(shard, len(plan.shards)), train.coder, grown)


def count_merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the counts of the real rows; under dp, draw the noisy tables."""
    plan, run = artifacts.plan, artifacts.run
    noisy = plan.job.privacy is not None
    if noisy and (before := run.drawn_before("count_merge", task.index)) is not None:
        return before
    coders = {"train": artifacts.coder(), "holdout": artifacts.coder()}
    if plan.job.constraints:
        refuse_input(artifacts, "count")
        coders["inner"] = artifacts.inner_coder()
    rows = 0
    for name, coder in coders.items():
        merged = Counts.load_merged([run.count_part(i, name) for i in range(len(plan.tasks["count"]))], coder)
        merged.save(attempt.output(run.private / "summary" / f"counts.{name}"))
        if name == "train" and plan.job.constraints:
            write_computed(artifacts, attempt, merged)
        rows += merged.rows if name != "inner" else 0
    drift = ShardHistograms()
    for number in range(len(plan.tasks["count"])):
        drift.merge(ShardHistograms.from_arrays(archive.read(run.count_part(number, "drift"))))
    attempt.write_json(run.private / "summary" / "drift.json", drift.distances(artifacts.coder()))
    if noisy:
        _draw_noisy_tables(artifacts, attempt)
    record = attempt.commit(rows=rows, only_once=noisy)
    for name in (*coders, "public", "drift"):
        for number in range(len(plan.tasks["count"])):
            run.count_part(number, name).unlink(missing_ok=True)
    return record


def _draw_noisy_tables(artifacts: Artifacts, attempt: Attempt) -> None:
    """Merge the counts on public codes, and draw their noise, which is done only once in a run."""
    plan, run = artifacts.plan, artifacts.run
    budget = plan.job.privacy
    assert budget is not None
    coder = artifacts.public_coder()
    merged = Counts.load_merged([run.count_part(i, "public") for i in range(len(plan.tasks["count"]))], coder)
    if is_trained(plan.job):
        noisy_tables = draw_histograms(merged, coder, histogram_noise(budget.epsilon, budget.delta, len(coder.columns)))
    else:
        noisy_tables = draw_tables(
            merged, coder, expected_rows(plan.job, plan.input_rows), budget.epsilon, budget.delta
        )
    noisy_tables.save(attempt.output(run.private / "summary" / "private_tables"))
