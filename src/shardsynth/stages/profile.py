"""Pass 1 over the real rows: profiles, and the merge that derives metadata, bins and relations from them."""

from __future__ import annotations

from typing import Any

from shardsynth.data.coding import TableCoder
from shardsynth.data.public_codes import public_coder
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.models.dp.columns import check_dp_columns
from shardsynth.planning.constraints import InputChecker
from shardsynth.planning.options import has_tails
from shardsynth.planning.personal import pseudonyms
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.constraints import refuse_input
from shardsynth.stages.ends import end_rank, end_rule
from shardsynth.stages.learn_constraints import guess_computed, learn_constraints
from shardsynth.stages.metadata import complete_metadata
from shardsynth.stages.persons import profile_persons
from shardsynth.stages.rows import input_rows
from shardsynth.summaries.profile import Profile, ProfileOptions


def profile(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Profile the training and the holdout rows of some row groups."""
    plan, run = artifacts.plan, artifacts.run
    share = plan.job.evaluate.holdout
    parts = {}
    for name, fraction in (("train", 1 - share), ("holdout", share)):
        options = ProfileOptions(
            seed=plan.job.seed,
            total_rows=round(plan.input_rows * fraction),
            sample_rows=plan.job.fit.sample_rows,
            extremes=end_rank(plan.job) if has_tails(plan.job) else plan.job.rare.min_count,
            salt="sample" if name == "train" else "holdout sample",
        )
        parts[name] = Profile.empty(plan.schema, options)
    checker = InputChecker(plan.job, plan.schema) if plan.job.constraints else None
    for batch, row, is_holdout in input_rows(plan, task, progress):
        if checker is not None:
            checker.update(batch, row)
        parts["train"].update(batch, row, ~is_holdout)
        if share:
            parts["holdout"].update(batch, row, is_holdout)
    for name, part in parts.items():
        part.save(attempt.output(run.profile_part(task.index, name)))
    details: dict[str, Any] = {} if checker is None else {"violations": checker.violations}
    if replaced := pseudonyms(plan.job):
        details["keys"] = replaced.fingerprints()
    return attempt.commit(rows=sum(piece.rows for piece in task.pieces), **details)


def profile_merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the profiles; detect or complete the metadata; place the bins; guess relations on the row sample."""
    plan, run = artifacts.plan, artifacts.run
    if plan.job.constraints:
        refuse_input(artifacts, "profile")
    merged: dict[str, Profile] = {}
    for name in ("train", "holdout"):
        for number in range(len(plan.tasks["profile"])):
            part = Profile.load(run.profile_part(number, name))
            merged[name] = merged[name].merge(part) if name in merged else part
        merged[name].cut()
    train = merged["train"]
    train.check_finite()
    merged["holdout"].check_finite()
    metadata, public = complete_metadata(plan, train)
    columns = artifacts.columns_of(metadata)
    if plan.job.privacy is not None:
        check_dp_columns(columns)
        public_coder(columns, plan.input_rows, plan.job.seed).save(
            attempt.output(run.private / "summary" / "coder.public")
        )
    persons = profile_persons(plan, train)
    ends = end_rule(plan.job, plan.schema, persons)
    coder = TableCoder.from_profile(train, columns, min_count=plan.job.rare.min_count, ends=ends)
    learned, codes, sample = columns, coder, train.sample
    if plan.job.constraints:
        learned, codes, sample = learn_constraints(artifacts, attempt, train, coder, metadata)
        guess_computed(artifacts, attempt, train, coder, columns)
    precisions = {column_coder.column.name: column_coder.precision for column_coder in codes.columns}
    relations = guess_relations(learned, sample, precisions, plan.job.rare.min_count, persons=persons)
    for name, merged_profile in merged.items():
        merged_profile.save(attempt.output(run.private / "summary" / f"profile.{name}"))
    coder.save(attempt.output(run.private / "summary" / "coder"))
    attempt.write_json(run.private / "summary" / "metadata.json", metadata)
    attempt.write_json(run.private / "summary" / "relations.json", [relation.to_json() for relation in relations])
    attempt.write_json(run.root / "metadata.json", public)
    record = attempt.commit(rows=train.rows + merged["holdout"].rows)
    for name in merged:
        for number in range(len(plan.tasks["profile"])):
            run.profile_part(number, name).unlink(missing_ok=True)
    return record
