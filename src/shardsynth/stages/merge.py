"""Merging: a model's parts are checked, described in a manifest and scored."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth._version import __version__
from shardsynth.data.columns import schema_to_text
from shardsynth.planning.plan import Task
from shardsynth.planning.quotas import block_entries
from shardsynth.report.number_pairs import number_pairs
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.sources.blocks import blocks_of
from shardsynth.stages.constraints import constraint_results
from shardsynth.stages.count_figures import check_parts, coalesce, figures, images_of
from shardsynth.stages.persons import sample_persons
from shardsynth.stages.row_figures import fewest_rows_shown, joined, row_figures
from shardsynth.summaries.counts import Counts


def merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Check that a model's parts add up; write the manifest, the figures and, if the job says so, coalesced files."""
    plan, run, model = artifacts.plan, artifacts.run, task.model
    parts = check_parts(run, plan, model)
    rows = sum(part["rows"] for part in parts)
    records = [run.last_record("sample", each.index) or {} for each in plan.model_tasks("sample", model)]
    manifest = {
        "model": model,
        "family": plan.job.models[model].model,
        "engine": plan.job.models[model].engine,
        "rows": rows,
        "seed": plan.job.seed,
        "chunk_rows": plan.chunk_rows,
        "schema": schema_to_text(plan.schema),
        "columns": [{"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in plan.schema],
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        # Rows of a trained model differ in their last bits between kinds of device, so the manifest lists these.
        "devices": sorted({str(r.get("device", "cpu")) for r in records}),
        "parts": parts,
    }
    if images := images_of(run, plan, model):
        manifest["images"] = images
    if blocks := blocks_of(artifacts):
        manifest["conditions"] = block_entries(blocks, records)
    if plan.job.constraints:
        manifest["constraints"] = constraint_results(artifacts, model)
    if plan.job.sample.coalesce_mb:
        manifest["coalesced"] = coalesce(run, plan, model, attempt, progress)
    attempt.write_json(run.samples(model) / "_manifest.json", manifest)
    tasks = plan.model_tasks("score", model)
    scored = [run.score_part(t, name) for name in ("all", "head", "rows") for t in tasks]
    counts = {
        name: Counts.load_merged([run.score_part(t, name) for t in tasks], artifacts.coder())
        for name in ("all", "head")
    }
    for name, merged in counts.items():
        merged.save(attempt.output(run.private / "summary" / f"synthetic.{model}.{name}"))
    started = time.monotonic()
    table, distances = joined(artifacts, [run.score_part(t, "rows") for t in tasks])
    result = {**figures(artifacts, model, counts), **row_figures(artifacts, table, distances)}
    result["number_pairs"] = number_pairs(
        artifacts.coder(),
        result["quality"],
        artifacts.profile("train").sample,
        table,
        fewest_rows_shown(plan.job),
        sample_persons(artifacts, "train"),
    )
    result["seconds"]["judge"] = round(time.monotonic() - started, 3)
    attempt.write_json(run.metrics(model), result)
    record = attempt.commit(rows=rows)
    for path in scored:
        path.unlink(missing_ok=True)
    return record
