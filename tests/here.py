"""Whole runs inside the test's own process: no worker starts, so that torch and SDV are imported once for all tests.

For tests about what a run makes. Those about how it is made (processes, signals, crashes) call ``run_job``.
"""

from __future__ import annotations

from shardsynth import Job, Run, plan_job
from shardsynth.job import STAGES
from shardsynth.stages.task import TaskRunner


def run_here(job: Job, last: str = "report") -> Run:
    """A job planned and run up to and with the stage ``last``, task after task."""
    return go_on_here(plan_job(job), last)


def go_on_here(run: Run, last: str = "report") -> Run:
    """Every task of a run that is not committed yet, up to and with the stage ``last``."""
    wanted = STAGES[: STAGES.index(last) + 1]
    worker = TaskRunner(run.dir.root)
    for task in worker.plan.all_tasks():
        if task.stage in wanted:
            worker.run_task(task.stage, task.index)
    return run
