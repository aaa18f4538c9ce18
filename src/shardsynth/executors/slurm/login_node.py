"""Keeps a run off a login node."""

from __future__ import annotations

import os

from shardsynth.errors import JobError, RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.job import Job

#: What to say where a job for Slurm is to be run.
FOR_SLURM = (
    "cluster.executor: slurm: `shardsynth submit` hands this job to Slurm; `run --here` or `executor: local` runs it "
    "on this machine"
)


def refuse_on_login_node(job: Job, *, here: bool) -> None:
    """Refuse `run` of a job for Slurm, and one with ``executor: auto`` on what looks like a login node.

    That is a machine where a Slurm controller answers and this process is not in a job.

    Args:
        job: The job.
        here: Whether the user asked for this machine.

    Raises:
        JobError: The job says ``executor: slurm``.
        RunError: This looks like a login node.
    """
    if job.cluster.executor == "slurm" and not here:
        raise JobError(FOR_SLURM)
    if here or job.cluster.executor != "auto" or "SLURM_JOB_ID" in os.environ:
        return
    if slurm.answers():
        raise RunError(
            "this looks like a login node (a Slurm controller answers, and this is no job): `shardsynth submit` runs "
            "the job on the cluster; `--here` or `cluster: {executor: local}` runs it on this machine"
        )
