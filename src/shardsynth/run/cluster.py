"""The section `cluster` of a run that exists: it belongs to the run, and what changes it is kept.

It stands in ``plan.json``. All other keys of the job decide the rows, so they stay as they were planned; so do the
tasks, and the threads of a training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shardsynth.cluster import Cluster
from shardsynth.errors import JobError
from shardsynth.job import Job, apply_overrides
from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.access import readable_by_group
from shardsynth.standalone.files import write_atomic


def with_overrides(plan: Plan, overrides: list[str], image: Path | None = None) -> Plan:
    """The plan of a run with other keys of its section `cluster`; writes nothing.

    Args:
        plan: The run's plan.
        overrides: Texts ``cluster.KEY=VALUE``.
        image: Another Apptainer image for the tasks, instead of ``cluster.container``.

    Raises:
        JobError: A key is not of `cluster` or cannot be changed, or its value is wrong.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.partition(".")[0] != "cluster":
            raise JobError(
                f"--set {key}: a run that exists can only change keys of `cluster`; every other key was planned with "
                "its tasks, and rows of two jobs would be mixed: change the job file, with another `output:`"
            )
        if key in ("cluster", "cluster.rows_per_task"):
            what = "names no key of it" if key == "cluster" else "has cut the tasks of this run already"
            raise JobError(f"--set {key}: {what}; wanted such as cluster.stages.sample.mem_gb=16")
    data = apply_overrides(plan.job.to_dict(), overrides)
    if image is not None:
        data["cluster"]["container"] = str(image)
    return dataclasses.replace(plan, job=Job.planned(data, "--set"))


def plan_kept(run: RunDir, plan: Plan) -> Plan:
    """The plan that counts: that of the run, if it exists, with the section `cluster` of the new one.

    Args:
        run: The run directory, which need not exist.
        plan: A plan that was made just now.
    """
    if not run.plan_file.exists():
        return plan
    kept = run.read_plan()
    if kept["identity"] != plan.to_json()["identity"]:
        return plan  # `write_plan` refuses it
    before = Plan.from_json(kept)
    cluster = plan.job.cluster.model_copy(update={"rows_per_task": before.job.cluster.rows_per_task})
    job = before.job.model_copy(update={"cluster": cluster})
    return dataclasses.replace(before, job=job, image=plan.image)


def keep(run: RunDir, plan: Plan, check: Callable[[], None] = lambda: None) -> list[str]:
    """Write a plan's section `cluster` into its run; returns a line for each key that changed.

    Args:
        run: The run directory, with its plan written.
        plan: The plan.
        check: Called before a changed section is written: its error leaves the run as it was.
    """
    data = run.read_plan()
    before, after = Cluster.model_validate(data["job"]["cluster"]), plan.job.cluster
    lines = changes(before, after)
    if not lines:
        return []
    check()
    data["job"]["cluster"] = plan.job.to_dict()["cluster"]
    group = plan.job.access == "group"
    with readable_by_group(group):
        run.change_plan(data)
        if run.job_file.exists():
            # from the plan: the copy of the job that a person reads may be damaged
            write_atomic(run.job_file, plan.job.to_yaml(), 0o640 if group else 0o600)
    if any(line.partition(":")[0].endswith(".cpus") for line in lines) and any(
        task.threads > 1 for task in plan.tasks["fit"]
    ):
        lines.append("a training keeps the threads of its plan, on which the model's bytes depend")
    return lines


def changes(before: Cluster, after: Cluster) -> list[str]:
    """What differs between two sections, one line a key, such as ``cluster.stages.sample.mem_gb: 4.0 -> 16.0``."""
    old, new = dict(_keys("cluster", before.model_dump())), dict(_keys("cluster", after.model_dump()))
    return [
        f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _keys(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every key that says something, with its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(f"{prefix}.{key}", inner)
    elif value is not None:
        yield prefix, value


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
