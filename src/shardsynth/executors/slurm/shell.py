"""What of the shell that submits counts for a run: variables of sbatch, and the cluster that they name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from shardsynth.executors.slurm.clusters import keep_cluster, where_to_submit
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.python_environment import what_goes_along
from shardsynth.executors.slurm.shell_options import keep_variables, variables_of_run, with_shell
from shardsynth.executors.slurm.site import Site, load_site
from shardsynth.job import Job
from shardsynth.run.rundir import RunDir


@contextlib.contextmanager
def site_from_here(run: RunDir, job: Job, say: Callable[[str], Any] = lambda line: None) -> Iterator[Site]:
    """The site file, with what the shell says where it and the job say nothing; Slurm's commands ask the run's cluster.

    Args:
        run: The run directory.
        job: The job.
        say: Called with a line for what is taken from the shell.

    Raises:
        InputError: The site file or a variable is wrong, or Slurm does not answer.
    """
    ledger = Ledger(run)
    site, lines = with_shell(load_site(job.cluster.profile), job.cluster, variables_of_run(ledger.folder))
    if job.cluster.container is None and site.python is None and (line := what_goes_along()):
        lines.append(line)
    for line in lines:
        say(line)
    with where_to_submit(ledger, site, job):
        yield site


def keep_for_resume(ledger: Ledger) -> None:
    """Write down what was taken from the shell; called before the first job is submitted."""
    keep_variables(ledger.folder, variables_of_run(ledger.folder))
    keep_cluster(ledger)
