"""The default job on a table, `init` and all stages, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.api import Run, plan_job
from shardsynth.commands.init import write_job
from shardsynth.job import STAGES, Job
from shardsynth.stages.task import TaskRunner

#: The models of a short job: counts alone, and a training of a few steps.
MODELS: dict[str, Any] = {"gaussian_copula": {}, "autoregressive": {"max_epochs": 1, "hidden": 8, "embedding": 8}}


def write_shards(table: pa.Table, folder: Path, shards: int = 1) -> Path:
    """Write a table as a folder of shards."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = [k * table.num_rows // shards for k in range(shards + 1)]
    for number, (start, stop) in enumerate(zip(edges, edges[1:])):
        pq.write_table(table.slice(start, stop - start), folder / f"part-{number}.parquet")
    return folder


def plan_default_job(table: pa.Table, folder: Path, shards: int = 1, models: dict[str, Any] | None = None) -> Run:
    """`init`, and the plan of the job that it wrote, with the models of ``MODELS``.

    Raises:
        InputError: `init` or the planning refuses the table.
    """
    for _ in write_job(str(write_shards(table, folder / "data", shards)), folder / "job.yaml", str(folder / "run")):
        pass
    job = Job.load(folder / "job.yaml", [f"models={models or MODELS}"])
    return plan_job(job)


def run_all_tasks(run: Run) -> Run:
    """All tasks of a plan, one after the other, in this process."""
    runner = TaskRunner(run.dir.root)
    for stage in STAGES:
        for task in runner.plan.tasks[stage]:
            runner.run_task(stage, task.index)
    return run


def run_default_job(table: pa.Table, folder: Path, shards: int = 1, models: dict[str, Any] | None = None) -> Run:
    """``plan_default_job``, then ``run_all_tasks``."""
    return run_all_tasks(plan_default_job(table, folder, shards, models))
