"""The two stages of `shardsynth sample`: parts of a fitted model's rows, and their manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth._version import __version__
from shardsynth.data.columns import schema_to_text
from shardsynth.errors import TaskError
from shardsynth.planning.plan import Sampling, Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.sources.asked import open_asked
from shardsynth.sources.parts import write_part
from shardsynth.sources.sources import Source


def source_of(artifacts: Artifacts) -> Source:
    """The rows that the plan asks for; opened once per process."""
    sampling = _sampling(artifacts)
    source: Source = artifacts.cached(
        "asked",
        lambda: open_asked(sampling.asked, trust_pickle=sampling.trust_pickle, first_row=sampling.first_row),
    )
    return source


def sample(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write a range of parts."""
    plan, run, source = artifacts.plan, artifacts.run, source_of(artifacts)
    done = 0

    def watch(batch: pa.RecordBatch) -> None:
        nonlocal done
        done += batch.num_rows
        progress(done)

    parts = []
    for part in range(*task.parts):
        path, rows = run.part(task.model, part), plan.part_rows(part)
        written = write_part(attempt.output(path), source.schema, source, rows, watch)
        attempt.checksum(path, written["sha256"])
        parts.append({"path": path.name, "part": part, "first_row": rows.start, **written})
    return attempt.commit(rows=done, parts=parts, acceptance=source.acceptance())


def merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write the manifest of all parts."""
    plan, run, sampling = artifacts.plan, artifacts.run, _sampling(artifacts)
    asked, folder = sampling.asked, run.samples(task.model)
    parts: list[dict[str, Any]] = []
    counts = {"proposals": 0, "accepted": 0}
    for each in plan.model_tasks("sample", task.model):
        record = run.committed("sample", each.index)
        if record is None:
            raise TaskError(f"{folder}: sampling task {each.index} is not committed; run the same command again")
        parts += record["parts"]
        for key in counts:
            counts[key] += (record.get("acceptance") or {}).get(key, 0)
    manifest = {
        "model": asked["name"],
        "rows": sum(part["rows"] for part in parts),
        "first_row": sampling.first_row,
        "seed": asked["seed"],
        "where": asked["where"],
        "sampling": asked.get("sampling"),
        "completed": "remaining" in asked,
        "acceptance": counts["accepted"] / counts["proposals"] if counts["proposals"] else None,
        "model_files": asked["files"],
        "chunk_rows": asked["chunk_rows"],
        "schema": schema_to_text(plan.schema),
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        "parts": parts,
    }
    if manifest["rows"] != plan.rows:
        raise TaskError(f"{folder}: the parts hold {manifest['rows']} rows, wanted {plan.rows}")
    attempt.write_json(folder / "_manifest.json", manifest)
    return attempt.commit(rows=plan.rows, acceptance=manifest["acceptance"])


def _sampling(artifacts: Artifacts) -> Sampling:
    assert artifacts.plan.sampling is not None
    return artifacts.plan.sampling
