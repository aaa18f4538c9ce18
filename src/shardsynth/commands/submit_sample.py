"""`shardsynth sample --submit`: rows of a fitted model as arrays on Slurm."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from shardsynth.commands.sample import SampleRequest, prepare
from shardsynth.errors import JobError
from shardsynth.executors.slurm.script import check_path
from shardsynth.executors.slurm.submit import submit_plan
from shardsynth.job import apply_overrides, load_yaml
from shardsynth.run.cluster import plan_kept
from shardsynth.run.rundir import RunDir
from shardsynth.sources.sources import private_of
from shardsynth.standalone.image import identify
from shardsynth.standalone.regular import read_regular


def cluster_section(model: Path, overrides: list[str] | None, *, as_fitted: bool) -> dict[str, Any]:
    """The section ``cluster`` of a sample: that of the run which fitted the model, where it is here, and ``--set``.

    Args:
        model: The model folder.
        overrides: Texts ``cluster.KEY=VALUE``.
        as_fitted: Whether to begin with the section of the run; else with an empty one.

    Raises:
        JobError: An override is not of ``cluster``.
    """
    cluster: Any = {}
    job = private_of(model).parent / "job.yaml"
    if as_fitted:
        with contextlib.suppress(OSError, UnicodeDecodeError):  # the run may be gone, or another user's
            data = load_yaml(read_regular(job).decode("utf-8"), str(job))
            cluster = (data.get("cluster") if isinstance(data, dict) else None) or {}
    for override in overrides or []:
        if override.partition("=")[0].strip().partition(".")[0] != "cluster":
            raise JobError(
                f"--set {override}: a sample takes keys of `cluster` only, such as cluster.stages.sample.mem_gb=4"
            )
    section: dict[str, Any] = apply_overrides({"cluster": cluster}, overrides or [])["cluster"]
    return section


def submit_sample(
    request: SampleRequest, *, dry_run: bool = False, confirm: Any = lambda: True, say: Any = lambda line: None
) -> RunDir:
    """Submit what is missing of a sample to Slurm; returns at once.

    Args:
        request: What to sample.
        dry_run: Show the scripts; write, reserve and submit nothing.
        confirm: Called if the estimate is large: nothing is submitted if it returns false.
        say: Called with each line to show.

    Returns:
        The run directory.

    Raises:
        InputError: The request or the site file is wrong, or Slurm refuses.
    """
    check_path(request.output.absolute(), "--output")
    wanted = prepare(request, elsewhere=True)
    if wanted.source is None:
        say("a library of this model is not installed here: only the tasks check its condition and the disk")
    container = wanted.plan.job.cluster.container
    plan = dataclasses.replace(wanted.plan, image=None if container is None else identify(Path(container)))
    wanted.plan = plan_kept(wanted.run, plan)
    submit_plan(wanted.run, wanted.plan, wanted.write, dry_run=dry_run, confirm=confirm, say=say)
    return wanted.run
