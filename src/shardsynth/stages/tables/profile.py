"""Pass 1 over the gathered rows: a profile of every view, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shardsynth.data.coding import TableCoder
from shardsynth.data.detection import complete
from shardsynth.data.layout import count_name, first_name
from shardsynth.data.metadata import public
from shardsynth.data.relations import SUBJECT
from shardsynth.errors import MetadataError
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.planning.personal import refuse_free_text, refuse_persons
from shardsynth.planning.plan import Task, metadata_digest
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.persons import profile_persons
from shardsynth.stages.tables.views import Tables, View
from shardsynth.standalone.files import read_json
from shardsynth.summaries.profile import Profile, ProfileOptions


def profile(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Profile the training and the holdout rows of some buckets, in every view."""
    _check_metadata(artifacts)
    tables = Tables.of(artifacts)
    parts = {view: {name: _empty(view, name) for name in ("train", "holdout")} for view in tables.views}
    buckets = range(*task.parts)
    for view, batch, first, held_out, _ in tables.batches(buckets, progress):
        for name, part in parts[view].items():
            part.update(batch, first, held_out if name == "holdout" else ~held_out)
    for view, own in parts.items():
        for name, part in own.items():
            part.save(attempt.output(view.run.profile_part(task.index, name)))
    return attempt.commit(rows=tables.rows(buckets))


def _check_metadata(artifacts: Artifacts) -> None:
    plan = artifacts.plan
    if plan.metadata is not None and metadata_digest(plan.job) != plan.metadata:
        raise MetadataError(
            f"{plan.job.metadata}: the metadata changed since the run was planned; run the job again with another "
            "`output:`"
        )


def _empty(view: View, name: str) -> Profile:
    job, share = view.plan.job, view.plan.job.evaluate.holdout
    options = ProfileOptions(
        seed=job.seed,
        total_rows=round(view.real_rows * (share if name == "holdout" else 1 - share)),
        sample_rows=job.fit.sample_rows,
        extremes=job.rare.min_count,
        salt="sample" if name == "train" else "holdout sample",
    )
    return Profile.empty(view.plan.schema, options)


def profile_merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the profiles of every view: metadata, bins, relations."""
    tables = Tables.of(artifacts)
    published = {}
    for view in tables.views:
        made = _merge_view(tables, view, attempt)
        if view.kind == "outer":
            published[view.table] = made
    attempt.write_json(artifacts.run.root / "metadata.json", _published(artifacts, published))
    record = attempt.commit(rows=sum(view.real_rows for view in tables.outer.values()))
    for view in tables.views:
        for each in artifacts.plan.tasks["profile"]:
            for name in ("train", "holdout"):
                view.run.profile_part(each.index, name).unlink(missing_ok=True)
    return record


def _merge_view(tables: Tables, view: View, attempt: Attempt) -> dict[str, Any]:
    """Write the summaries of one view; returns its metadata without what could identify a person."""
    merged: dict[str, Profile] = {}
    for name in ("train", "holdout"):
        for each in tables.base.plan.tasks["profile"]:
            part = Profile.load(view.run.profile_part(each.index, name))
            merged[name] = merged[name].merge(part) if name in merged else part
        merged[name].cut()
        merged[name].check_finite()
    train, job = merged["train"], view.plan.job
    metadata = complete(view.described, train.sample, train, view.plan.schema)
    if view.kind == "outer":
        refuse_persons(metadata, train, job)
        refuse_free_text(metadata, train.sample, job)
    columns = view.columns_of(metadata)
    coder = TableCoder.from_profile(train, columns, min_count=job.rare.min_count)
    persons = profile_persons(view.plan, train)
    relations: list[Any] = []
    if view.kind == "inner":
        precisions = {column_coder.column.name: column_coder.precision for column_coder in coder.columns}
        guessed = guess_relations(columns, train.sample, precisions, job.rare.min_count, persons=persons)
        relations = [relation for relation in guessed if relation.name not in _learned(tables, view.table)]
    for name, profile_of in merged.items():
        profile_of.save(attempt.output(view.summary(f"profile.{name}")))
    coder.save(attempt.output(view.summary("coder")))
    attempt.write_json(view.summary("metadata.json"), metadata)
    attempt.write_json(view.summary("relations.json"), [relation.to_json() for relation in relations])
    return public(metadata, train, job.rare.min_count, persons)


def _learned(tables: Tables, name: str) -> set[str]:
    """Columns of an inner table that have to be learned, not computed: times and numbers of rows are made from them."""
    table, children = tables.tree.by_name[name], tables.tree.children(name)
    own = [] if table.implied else [*tables.layouts[name].after]
    return {str(table.index), *own, *(f(c.name) for c in children for f in (count_name, first_name))}


def _published(artifacts: Artifacts, by_table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The user's metadata of all tables, completed, without what could identify a person."""
    path = artifacts.plan.job.metadata
    assert path is not None
    metadata = read_json(Path(path))
    tables = {}
    for name, single in by_table.items():
        (only,) = single["tables"].values()
        own = {k: v for k, v in metadata["tables"][name].items() if k != "columns"}
        tables[name] = {"columns": {k: v for k, v in only["columns"].items() if k != SUBJECT}, **own}
    assert artifacts.plan.tables is not None
    tables |= {table.name: metadata["tables"][table.name] for table in artifacts.plan.tables.copied}
    links = metadata.get("relationships") or []
    return {"tables": tables, "relationships": links, "METADATA_SPEC_VERSION": "V2"}
