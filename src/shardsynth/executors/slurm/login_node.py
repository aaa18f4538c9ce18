"""Keeps a run off a login node."""

from __future__ import annotations

import os

from shardsynth.errors import RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.job import Job


def refuse_on_login_node(job: Job, *, here: bool) -> None:
    """Refuse `run` with ``executor: auto`` where a Slurm controller answers and this process is not in a job.

    Args:
        job: The job.
        here: Whether the user asked for this machine.

    Raises:
        RunError: This looks like a login node.
    """
    if here or job.cluster.executor != "auto" or "SLURM_JOB_ID" in os.environ:
        return
    if slurm.answers():
        raise RunError(
            "this looks like a login node (a Slurm controller answers, and this is no job): `shardsynth submit` runs "
            "the job on the cluster; `--here` or `cluster: {executor: local}` runs it on this machine"
        )
