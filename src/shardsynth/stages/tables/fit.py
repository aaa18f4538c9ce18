"""Fitting one model on all tables."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.relations import SUBJECT, Table
from shardsynth.planning.generators import learn_generators
from shardsynth.planning.options import native_options
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.sampling.identifiers import check_capacity
from shardsynth.stages.fit_setup import counted_values, largest_numbers
from shardsynth.stages.model_files import write_losses, write_provenance
from shardsynth.stages.persons import fit_protection, sample_persons
from shardsynth.stages.tables.views import Bucket, Tables, View
from shardsynth.standalone import signals
from shardsynth.summaries.few_persons import RowsOfFew
from shardsynth.summaries.rows import hash_row_numbers, share_threshold


def fit(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Fit one model on the training subjects."""
    from shardsynth.models.autoregressive.subjects.fit import InnerTable, SubjectsFitting, fit_subjects
    from shardsynth.models.autoregressive.subjects.sampler import BLOCK

    plan, run = artifacts.plan, artifacts.run
    tables = Tables.of(artifacts)
    inner, hide, protections = {}, {}, []
    for name, view in tables.inner.items():
        protection = fit_protection(view, task.model, view.counts("train"))
        protections.append((name, protection))
        columns = [column for column in view.columns_of(view.metadata()) if column.name != SUBJECT]
        inner[name] = InnerTable(
            view.own_schema,
            view.profile("train"),
            replace(view.coder(), table=tuple(c for c in view.coder().table if c.name != SUBJECT)),
            protection.counts,
            view.relations(),
            _generators(view, task.model, columns, plan.rows),
            {c.name: str(c.options["datetime_format"]) for c in columns if c.options.get("datetime_format")},
        )
        hide[name] = protection.rows
    generators = {t.name: _key_generator(tables, t, task.model) for t in tables.tree.tables if t.key is not None}

    loose = tables.loose()

    def check(most: Mapping[str, int]) -> None:
        blocks = -(-plan.rows // BLOCK) * (2 if loose else 1)
        for name, generator in generators.items():
            check_capacity(generator, most[name] * BLOCK * blocks, f"{name}.{tables.tree.by_name[name].key}")

    model, losses = fit_subjects(
        SubjectsFitting(
            tables.tree,
            tables.layouts,
            {name: view.own_schema for name, view in tables.outer.items()},
            inner,
            generators,
            loose,
            lambda: _training_rows(tables, hide),
            native_options(plan.job, task.model),
            plan.job.seed,
            task.model,
            task.threads,
            run.checkpoint(task.model),
            signals.asked,
            lambda line: print(line, flush=True),
            check,
        )
    )
    folder = run.model(task.model)
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        model.save(Path(temporary))
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                shutil.copyfile(path, attempt.output(folder / path.relative_to(temporary)))
    write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    write_losses(run.losses(task.model), losses, attempt)
    notes = [f"{name}: {note}" for name, protection in protections for note in protection.notes()]
    every = sum(view.real_rows for view in tables.outer.values())
    record = attempt.commit(rows=model.subjects, notes=[*model.notes, *notes], fitted_of=every)
    run.checkpoint(task.model).unlink(missing_ok=True)
    return record


def _generators(view: View, model: str, columns: list[Any], rows: int) -> dict[str, dict[str, Any]]:
    """Generators of the personal columns of a view, and of its ids that are no keys."""
    job = view.plan.job
    sample, persons = view.profile("train").sample, sample_persons(view, "train")
    counts, largest = counted_values(view), largest_numbers(view)
    return learn_generators(job, model, view.metadata(), columns, sample, rows, counts, persons, largest)


def _key_generator(tables: Tables, table: Table, model: str) -> dict[str, Any]:
    """How the primary key of a table is made."""
    column, view = table.key, tables.outer.get(table.name)
    if table.implied:
        (child,) = tables.tree.children(table.name)
        column, view = child.owner_column, tables.outer[child.name]
    assert view is not None and column is not None
    metadata = view.metadata()
    (name,) = metadata["tables"]
    with_key = {**metadata, "tables": {name: {**metadata["tables"][name], "primary_key": column}}}
    columns = [c for c in view.columns_of(metadata) if c.name == column]
    sample, persons = view.profile("train").sample, sample_persons(view, "train")
    largest = largest_numbers(view)
    return learn_generators(view.plan.job, model, with_key, columns, sample, 0, None, persons, largest)[column]


def _training_rows(
    tables: Tables, hide: Mapping[str, RowsOfFew | None]
) -> Iterator[dict[str, tuple[pa.Table, NDArray[np.int64]]]]:
    """The inner rows of the training subjects, a bucket at a time; of many, a sample of the subjects."""
    plan = tables.base.plan
    assert plan.tables is not None
    most = max(view.counts("train").rows for view in tables.inner.values())
    threshold = share_threshold(plan.job.fit.sample_rows, most) if plan.job.fit.rows == "sample" else None
    for number in range(plan.tables.buckets):
        signals.check(0)
        yield _rows_of_bucket(tables.bucket(number), threshold, hide)


def _rows_of_bucket(
    bucket: Bucket, threshold: int | None, hide: Mapping[str, RowsOfFew | None]
) -> dict[str, tuple[pa.Table, NDArray[np.int64]]]:
    tree, seed = bucket.tables.tree, bucket.tables.base.plan.job.seed
    kept: dict[str, NDArray[np.bool_]] = {}
    some: dict[str, tuple[pa.Table, NDArray[np.int64]]] = {}
    for table in tree.tables:
        owner = bucket.rows[table.name].owner
        if table.owner is None:
            kept[table.name] = ~bucket.held_out(table.name)
            if threshold is not None:
                hashes = hash_row_numbers(seed, "subjects", bucket.subjects[table.name].astype(np.uint64))
                kept[table.name] &= hashes <= np.uint64(threshold)
            place = np.arange(int(kept[table.name].sum()))
        else:
            kept[table.name] = kept[table.owner][owner]
            place = (np.cumsum(kept[table.owner]) - 1)[owner[kept[table.name]]]
        rows = bucket.inner[table.name]
        if rows.num_columns:  # Arrow does not know how many rows a table without columns has
            rows = rows.filter(pa.array(kept[table.name])).unify_dictionaries().combine_chunks()
        hidden = hide[table.name]
        if hidden is not None:
            taken_out = hidden.taken_out(rows, bucket.subjects[table.name][kept[table.name]])
            assert isinstance(taken_out, pa.Table)
            rows = taken_out
        some[table.name] = (rows, place.astype(np.int64))
    return some
