from __future__ import annotations

import pytest

from shardsynth.errors import JobError
from shardsynth.executors.slurm.login_node import refuse_on_login_node
from shardsynth.job import Job


def job(executor: str) -> Job:
    return Job.parse(
        {"input": "x", "output": "y", "models": {"gaussian_copula": {}}, "cluster": {"executor": executor}}
    )


def test_a_job_for_slurm_is_not_run_here_unless_asked() -> None:
    with pytest.raises(JobError, match=r"executor: slurm: `shardsynth submit` hands this job to Slurm; `run --here`"):
        refuse_on_login_node(job("slurm"), here=False)
    refuse_on_login_node(job("slurm"), here=True)
    refuse_on_login_node(job("local"), here=False)
