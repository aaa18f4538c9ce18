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
#: How a job gets to the cluster.
ON_THE_CLUSTER = "`shardsynth submit JOB` runs the job on the cluster"
#: How a command gets there that is no job.
IN_A_JOB = "call it in a job, as in `srun -c 8 shardsynth ...`, or with `--here` on this machine"


def refuse_on_login_node(job: Job, *, here: bool, instead: str = ON_THE_CLUSTER) -> None:
    """Refuse to run a job for Slurm, and one with ``executor: auto`` on what looks like a login node.

    Args:
        job: The job.
        here: Whether the user asked for this machine.
        instead: How it gets to the cluster.

    Raises:
        JobError: The job says ``executor: slurm``.
        RunError: This looks like a login node.
    """
    if job.cluster.executor == "slurm" and not here:
        raise JobError(FOR_SLURM)
    if job.cluster.executor == "auto":
        refuse_to_compute(here=here, instead=f"{instead}; `--here` or `cluster: {{executor: local}}` runs it here")


def refuse_to_compute(*, here: bool, instead: str) -> None:
    """Refuse on what looks like a login node what would use all its CPUs.

    Args:
        here: Whether the user asked for this machine.
        instead: What to do.

    Raises:
        RunError: A Slurm controller answers, and this process is not in a job.
    """
    if not here and "SLURM_JOB_ID" not in os.environ and slurm.answers():
        raise RunError(f"this looks like a login node (a Slurm controller answers, and this is no job): {instead}")
