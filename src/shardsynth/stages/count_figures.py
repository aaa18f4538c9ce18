"""Merging a model's parts: check that they add up, compute figures of their counts, coalesce files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.metadata import keys_of
from shardsynth.data.stored_types import stored_schema
from shardsynth.errors import MergeError
from shardsynth.metrics.diagnostic import diagnostic
from shardsynth.metrics.quality import quality
from shardsynth.planning.plan import Plan, replica_group
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, RunDir
from shardsynth.standalone.files import read_json, sha256_of
from shardsynth.summaries.counts import Counts


def check_parts(run: RunDir, plan: Plan, model: str) -> list[dict[str, Any]]:
    """Compare each part with the commit record of its task; returns one entry per part for the manifest.

    Raises:
        MergeError: A part is missing, or its bytes, schema or number of rows differ from the record; names the part.
    """
    entries = []
    for task in plan.model_tasks("sample", model):
        record = run.committed("sample", task.index)
        if record is None:
            raise MergeError(
                f"{run.samples(model)}: parts {task.parts[0]} to {task.parts[1] - 1} are not committed; "
                f"`shardsynth resume {run.root}` makes them"
            )
        for part in record["parts"]:
            entries.append(_check_part(run, plan, model, part))
    expected = list(range(plan.n_parts))
    if [entry["part"] for entry in entries] != expected:
        raise MergeError(f"{run.samples(model)}: {len(entries)} parts are recorded, {len(expected)} were planned")
    rows = sum(entry["rows"] for entry in entries)
    if rows != plan.rows:
        raise MergeError(f"{run.samples(model)}: the parts hold {rows} rows, {plan.rows} were planned")
    return entries


def _check_part(run: RunDir, plan: Plan, model: str, part: dict[str, Any]) -> dict[str, Any]:
    path = run.part(model, part["part"])
    remedy = f"; delete it, then `shardsynth resume {run.root}` makes it again"
    if sha256_of(path) != part["sha256"]:
        raise MergeError(f"{path}: the checksum differs from the one recorded when it was written{remedy}")
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise MergeError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}{remedy}") from None
    planned = plan.part_rows(part["part"])
    if not schema.equals(stored_schema(plan.schema), check_metadata=True):
        raise MergeError(f"{path}: its schema differs from the input's{remedy}")
    if rows != part["rows"] or rows != len(planned):
        raise MergeError(f"{path}: holds {rows} rows, wanted {len(planned)}{remedy}")
    chunks = [planned.start // plan.chunk_rows, -(-planned.stop // plan.chunk_rows)]
    return {
        "path": path.name,
        "part": part["part"],
        "rows": rows,
        "first_row": planned.start,
        "chunks": chunks,
        "size": part["size"],
        "sha256": part["sha256"],
    }


def images_of(run: RunDir, plan: Plan, model: str) -> list[dict[str, Any]]:
    """The images in which a model was fitted and sampled, with the number of tasks in each; empty without images."""
    images: dict[str | None, dict[str, Any]] = {}
    for stage in ("fit", "sample"):
        for task in plan.model_tasks(stage, model):
            image = (run.last_record(stage, task.index) or {}).get("image")
            entry = images.setdefault(image and image["build"], {**(image or {"build": None}), "tasks": 0})
            entry["tasks"] += 1
    if len(images) > 1:
        builds = ", ".join(f"{entry['tasks']} tasks in {build or 'no image'}" for build, entry in images.items())
        print(f"mixed: {model} was fitted and sampled in several builds: {builds}", flush=True)
    return [] if set(images) == {None} else list(images.values())


def coalesce(
    run: RunDir, plan: Plan, model: str, attempt: Attempt, progress: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Write the parts again as files of about ``sample.coalesce_mb``; returns entries for the manifest."""
    limit = (plan.job.sample.coalesce_mb or 1) * 1_000_000
    sizes = [run.part(model, part).stat().st_size for part in range(plan.n_parts)]
    batches: list[list[int]] = [[]]
    batch_bytes = 0
    for part, size in enumerate(sizes):
        if batch_bytes and batch_bytes + size > limit:
            batches.append([])
            batch_bytes = 0
        batches[-1].append(part)
        batch_bytes += size
    entries, done = [], 0
    for number, parts in enumerate(batches):
        path = run.samples(model) / "_coalesced" / f"part-{number:05d}.parquet"
        temporary = attempt.output(path)
        with pq.ParquetWriter(temporary, stored_schema(plan.schema)) as writer:
            for part in parts:
                with pq.ParquetFile(run.part(model, part)) as file:
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group, use_threads=False)
                        writer.write_table(table)
                        done += table.num_rows
                        progress(done)
        digest = sha256_of(temporary)
        attempt.checksum(path, digest)
        entries.append(
            {"path": f"_coalesced/{path.name}", "parts": parts, "size": temporary.stat().st_size, "sha256": digest}
        )
    return entries


def figures(artifacts: Artifacts, model: str, counts: dict[str, Counts]) -> dict[str, Any]:
    """Figures of one model that need only counts, in the form of ``metrics/<model>.json``."""
    plan, run, coder = artifacts.plan, artifacts.run, artifacts.coder()
    real, holdout = artifacts.counts("train"), artifacts.counts("holdout")
    scores: dict[str, Any] = quality(real, counts["all"], coder)
    if holdout.rows:
        scores["holdout"] = quality(real, holdout, coder)
        scores["at_holdout_rows"] = quality(real, counts["head"], coder)
        for reference in (scores["holdout"], scores["at_holdout_rows"]):
            reference["rows"] = min(holdout.rows, counts["all"].rows)
    seconds = {}
    for stage in ("fit", "sample", "score"):
        tasks = [*plan.model_tasks(stage, model), *plan.model_tasks(stage, replica_group(model))]
        records = [run.last_record(stage, task.index) for task in tasks]
        seconds[stage] = round(sum(record["seconds"] for record in records if record), 3)
    guarantee = {} if plan.job.privacy is None else {"guarantee": read_json(run.model(model) / "run.json")["privacy"]}
    fit_record = run.committed("fit", plan.model_tasks("fit", model)[0].index) or {}
    model_options = plan.job.models[model]
    return {
        "model": model,
        "family": model_options.model,
        "engine": model_options.engine,
        "rows": {
            "real": real.rows,
            "synthetic": counts["all"].rows,
            "holdout": holdout.rows,
            "fitted": fit_record.get("rows", 0),
            "sampled": bool(fit_record.get("sampled", False)),
        },
        **guarantee,
        "quality": scores,
        # Keys are unique: a bijection of the global row number, whose capacity was checked at the fit.
        "diagnostic": diagnostic(
            artifacts.profile("train"),
            counts["all"],
            coder,
            measured={key: {"KeyUniqueness": 1.0} for key in keys_of(artifacts.metadata())},
        ),
        "seconds": seconds,
        "rows_per_second": round(counts["all"].rows / seconds["sample"]) if seconds["sample"] else None,
    }
