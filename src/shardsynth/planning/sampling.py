"""The plan of `shardsynth sample`: rows of a fitted model as tasks, like those of any other run.

Its run directory is ``_run`` in the folder of the parts. The parts and their manifest lie beside it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.job import STAGES, Job
from shardsynth.planning.plan import Plan, Sampling, StageTasks, Task, part_tasks

#: Folder of the run directory, in that of the parts: readers of Parquet folders pass over it.
RUN_FOLDER = "_run"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def sampling_plan(
    sampling: Sampling, card: dict[str, Any], schema: pa.Schema, output: Path, cluster: dict[str, Any]
) -> Plan:
    """Plan the parts of a model's rows, and the manifest after them.

    Args:
        sampling: What decides the rows.
        card: ``model.json`` and ``run.json`` of the model.
        schema: Arrow schema of the rows.
        output: Folder of the parts.
        cluster: Where the tasks run, as the section ``cluster`` of a job says it; it does not decide the rows.
    """
    asked = sampling.asked
    name = asked["name"] if _MODEL_NAME.fullmatch(asked["name"]) else "model"
    job = Job.parse(
        {
            "input": asked["model"],
            "output": str(output),
            "seed": asked["seed"],
            "models": {name: {"model": card.get("family", "gaussian_copula"), "engine": card.get("engine", "native")}},
            "sample": {key: asked[key] for key in ("rows", "rows_per_shard", "tasks")},
            "cluster": cluster,
        }
    )
    plan = Plan(job, (), schema, asked["rows"], asked["chunk_rows"], {}, sampling=sampling)
    tasks = {stage: StageTasks() for stage in STAGES}
    tasks["sample"] = StageTasks([part_tasks("sample", name, 0, plan.n_parts, asked["tasks"])])
    tasks["merge"] = StageTasks([Task("merge", 0, name)])
    return Plan(job, (), schema, plan.rows, plan.chunk_rows, tasks, sampling=sampling)
