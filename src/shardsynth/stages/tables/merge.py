"""Merging: a model's parts are checked, described in a manifest a table, and scored, by tables and by subjects."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth._version import __version__
from shardsynth.data import archive
from shardsynth.data.columns import schema_to_text
from shardsynth.errors import MergeError
from shardsynth.metrics.sequences import Sequences, similarity
from shardsynth.metrics.subjects import MOST_SUBJECTS, SubjectTable, subjects_c2st, subjects_closeness
from shardsynth.planning.plan import Task
from shardsynth.report.number_pairs import number_pairs
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.count_figures import figures, images_of
from shardsynth.stages.persons import sample_persons
from shardsynth.stages.row_figures import fewest_rows_shown, joined, row_figures
from shardsynth.stages.tables.copied import copy_lists
from shardsynth.stages.tables.score import sampled_tables
from shardsynth.stages.tables.subject_rows import Linked, SeenSubjects, of_owned, seen
from shardsynth.stages.tables.views import Tables, View
from shardsynth.standalone.files import sha256_of
from shardsynth.summaries.counts import Counts


def merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Check that a model's parts add up; write the manifests and the figures."""
    plan, run, model = artifacts.plan, artifacts.run, task.model
    tables = sampled_tables(artifacts, model)
    tasks = plan.model_tasks("score", model)
    made: dict[str, dict[str, Any]] = {}
    started = time.monotonic()
    for name, view in tables.outer.items():
        attempt.write_json(view.run.samples(model) / "_manifest.json", _manifest(artifacts, view, model))
        made[name] = _table_figures(view, model, tasks, attempt)
        attempt.write_json(view.run.metrics(model), made[name])
    copy_lists(artifacts, model, attempt)
    synthetic = _synthetic_subjects(artifacts, tables, model)
    train, holdout = _real_subjects(tables)
    broken: dict[str, Counter[str]] = {name: Counter() for name in tables.outer}
    for each in tasks:
        for name, found in (run.last_record("score", each.index) or {"broken": {}})["broken"].items():
            broken[name].update(found)
    result = {
        "model": model,
        "family": plan.job.models[model].model,
        "engine": plan.job.models[model].engine,
        "subjects": plan.rows,
        "rows": {name: view.plan.rows for name, view in tables.outer.items()},
        "quality": _mean_quality(made),
        "c2st": subjects_c2st(train.table, holdout.table, synthetic.table, plan.job.seed),
        "closeness": subjects_closeness(train.table, holdout.table, synthetic.table, plan.job.seed),
        "sequences": _sequences(train, holdout, synthetic),
        "integrity": {name: dict(found) for name, found in broken.items()},
        "tree": tables.tree.drawing({name: view.plan.rows for name, view in tables.outer.items()}),
        "seconds": {**_stage_seconds(made), "judge": round(time.monotonic() - started, 3)},
        "tables": sorted(made),
    }
    attempt.write_json(run.metrics(model), result)
    record = attempt.commit(rows=plan.rows)
    for each in tasks:
        run.score_part(each, "subjects").unlink(missing_ok=True)
        for view in tables.outer.values():
            for name in ("all", "head", "rows"):
                view.run.score_part(each, name).unlink(missing_ok=True)
    return record


def _table_figures(view: View, model: str, tasks: Any, attempt: Attempt) -> dict[str, Any]:
    """The figures of one table, in the form of ``metrics/<model>.json`` of a run of this table alone."""
    run = view.run
    counts = {
        which: Counts.load_merged([run.score_part(each, which) for each in tasks], view.coder())
        for which in ("all", "head")
    }
    for which, merged in counts.items():
        merged.save(attempt.output(view.summary(f"synthetic.{model}.{which}")))
    started = time.monotonic()
    table, distances = joined(view, [run.score_part(each, "rows") for each in tasks])
    result = {**figures(view, model, counts), **row_figures(view, table, distances)}
    result["number_pairs"] = number_pairs(
        view.coder(),
        result["quality"],
        view.profile("train").sample,
        table,
        fewest_rows_shown(view.plan.job),
        sample_persons(view, "train"),
    )
    result["seconds"]["judge"] = round(time.monotonic() - started, 3)
    return result


def _mean_quality(made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the tables of what each table's quality is; ``holdout``: of the held-out rows."""

    def mean(parts: list[Any], key: str) -> float | None:
        values = [part[key] for part in parts if part and part.get(key) is not None]
        return float(np.mean(values)) if values else None

    keys = ("score", "column_shapes", "column_pair_trends")
    own = [figures_of["quality"] for figures_of in made.values()]
    quality: dict[str, Any] = {key: mean(own, key) for key in keys}
    real = [figures_of["quality"].get("holdout") for figures_of in made.values()]
    if any(real):
        quality["holdout"] = {key: mean(real, key) for key in keys}
    return quality


def _stage_seconds(made: dict[str, dict[str, Any]]) -> dict[str, float]:
    first = next(iter(made.values()))["seconds"]
    return {stage: first[stage] for stage in ("fit", "sample", "score")}


def _manifest(artifacts: Artifacts, view: View, model: str) -> dict[str, Any]:
    """The manifest of one table's parts.

    Raises:
        MergeError: A part is missing, or is not what its task wrote.
    """
    plan, run = artifacts.plan, artifacts.run
    parts = []
    remedy = f"; delete it, then `shardsynth resume {run.root}` makes it again"
    records = [run.committed("sample", each.index) for each in plan.model_tasks("sample", model)]
    for record in records:
        for part in (record or {"tables": {view.table: []}})["tables"][view.table]:
            path, subjects = view.run.part(model, part["part"]), plan.part_rows(part["part"])
            if sha256_of(path) != part["sha256"]:
                raise MergeError(f"{path}: the checksum differs from the one recorded when it was written{remedy}")
            with pq.ParquetFile(path) as file:
                if not file.schema_arrow.equals(view.own_schema, check_metadata=True):
                    raise MergeError(f"{path}: its schema differs from the input's{remedy}")
                if file.metadata.num_rows != part["rows"]:
                    raise MergeError(f"{path}: holds {file.metadata.num_rows} rows, wanted {part['rows']}{remedy}")
            entry = {"path": path.name, "part": part["part"], "rows": part["rows"], "first_subject": subjects.start}
            parts.append({**entry, "subjects": len(subjects), "size": part["size"], "sha256": part["sha256"]})
    if [part["part"] for part in parts] != list(range(plan.n_parts)):
        raise MergeError(f"{view.run.samples(model)}: {len(parts)} parts are recorded, {plan.n_parts} were planned")
    manifest = {
        "model": model,
        "table": view.table,
        "family": plan.job.models[model].model,
        "engine": plan.job.models[model].engine,
        "rows": sum(part["rows"] for part in parts),
        "subjects": plan.rows,
        "seed": plan.job.seed,
        "schema": schema_to_text(view.own_schema),
        "columns": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in view.own_schema],
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        "devices": sorted({str(record.get("device", "cpu")) for record in records if record}),
        "parts": parts,
    }
    if images := images_of(run, plan, model):
        manifest["images"] = images
    return manifest


def _sequences(train: SeenSubjects, holdout: SeenSubjects, synthetic: SeenSubjects) -> dict[str, Any]:
    """By table that has an owner: how its rows follow each other, beside the held-out subjects."""
    found: dict[str, Any] = {}
    for name, own in synthetic.sequences.items():
        found[name] = similarity(train.sequences[name], own)
        if len(holdout.table.values):
            held_out = similarity(train.sequences[name], holdout.sequences[name])
            held_out.pop("columns")
            found[name]["holdout"] = held_out
    return found


def _synthetic_subjects(artifacts: Artifacts, tables: Tables, model: str) -> SeenSubjects:
    """The synthetic subjects that the scoring tasks kept."""
    found = _no_subjects(tables)
    values, sequences = [found.table.values], dict(found.sequences)
    for each in artifacts.plan.model_tasks("score", model):
        members = archive.read(artifacts.run.score_part(each, "subjects"))
        if not len(members["values"]):
            continue
        values.append(np.asarray(members["values"]))
        for place, name in enumerate(found.sequences):
            start = f"{place} "
            own = {key[len(start) :]: array for key, array in members.items() if key.startswith(start)}
            sequences[name] = sequences[name].merge(Sequences.from_members(own))
    table = SubjectTable(found.table.names, found.table.categorical, np.concatenate(values))
    return SeenSubjects(table, sequences)


def _no_subjects(tables: Tables) -> SeenSubjects:
    rows = {name: view.own_schema.empty_table() for name, view in tables.outer.items()}
    none = np.zeros(0, np.int64)
    subject = {table.name: none for table in tables.tree.tables}
    owner = {table.name: none for table in tables.tree.files if table.owner is not None}
    return seen(tables, Linked(rows, subject, owner, 0, {}), np.zeros(0, np.bool_))


def _real_subjects(tables: Tables) -> tuple[SeenSubjects, SeenSubjects]:
    """Training and held-out subjects, from as many buckets as it needs."""

    def load() -> tuple[SeenSubjects, SeenSubjects]:
        plan = tables.base.plan
        assert plan.tables is not None
        sides = [_no_subjects(tables), _no_subjects(tables)]
        for number in range(plan.tables.buckets):
            bucket = tables.bucket(number)
            linked = of_owned(bucket.rows, tables.tree)
            held_out = bucket.held_out(tables.tree.root.name)
            sides = [_added(side, seen(tables, linked, own)) for side, own in zip(sides, (~held_out, held_out))]
            if len(sides[0].table.values) >= 2 * MOST_SUBJECTS:
                break
        return sides[0], sides[1]

    found: tuple[SeenSubjects, SeenSubjects] = tables.base.cached("real subjects", load)
    return found


def _added(first: SeenSubjects, second: SeenSubjects) -> SeenSubjects:
    values = np.concatenate([first.table.values, second.table.values])
    table = SubjectTable(first.table.names, first.table.categorical, values)
    return SeenSubjects(table, {name: own.merge(second.sequences[name]) for name, own in first.sequences.items()})
