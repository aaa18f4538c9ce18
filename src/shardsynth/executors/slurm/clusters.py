"""On which of several clusters of a site a run's jobs are, and that every command of Slurm asks there (`-M NAME`).

A run's jobs wait for each other, so all of them are on one cluster. Its name is kept with the run: `status`, `cancel`
and `resume` find the jobs from the login node of another cluster, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from shardsynth.errors import JobError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.site import Site, resources
from shardsynth.job import STAGES, Job
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.regular import read_regular

#: Variables that name clusters for sbatch, the first one set counts.
_VARIABLES = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")


@contextlib.contextmanager
def where_the_run_is(ledger: Ledger) -> Iterator[None]:
    """Let Slurm's commands ask the cluster to which the run was submitted.

    Raises:
        SlurmError: Slurm does not answer.
    """
    with slurm.on_cluster(_unless_local(kept_cluster(ledger))):
        yield


@contextlib.contextmanager
def where_to_submit(ledger: Ledger, site: Site, job: Job) -> Iterator[None]:
    """Let Slurm's commands ask the cluster to which the run is to be submitted.

    That is the one that job or site file name (``options: {clusters: NAME}``), else the shell (SBATCH_CLUSTERS,
    SLURM_CLUSTERS), else the one where the run is, else this one.

    Raises:
        JobError: Several clusters are named, or the run still has jobs on another one.
        SlurmError: Slurm does not answer.
    """
    before = kept_cluster(ledger)
    chosen = _named(site, job) or before
    if before and chosen != before:
        with slurm.on_cluster(_unless_local(before)):
            known = slurm.at_controller(ledger.prefix())
        if any(element.state in slurm.WAITING | slurm.RUNNING for _, element in known):
            raise JobError(
                f"cluster {chosen}: this run has jobs on cluster {before}; `shardsynth cancel {ledger.run.root}` ends "
                f"them, or go on there (unset {' and '.join(_VARIABLES)})"
            )
    with slurm.on_cluster(_unless_local(chosen)):
        yield


def keep_cluster(ledger: Ledger) -> None:
    """Write down on which cluster the run's jobs will be; called before the first of them is submitted."""
    name = slurm.asked_cluster() or slurm.local_cluster()
    if name and name != kept_cluster(ledger):
        ledger.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(ledger.folder / "cluster", name + "\n", 0o600)


def kept_cluster(ledger: Ledger) -> str:
    """Name of the cluster where the run's jobs are; "" for a run that was never submitted, or by an old version."""
    try:
        return read_regular(ledger.folder / "cluster").decode("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _unless_local(name: str) -> str:
    """The name, or "" if that is the cluster of this machine: only others need `-M`, which asks the accounting."""
    if not name or shutil.which("scontrol") is None:  # scripts are also written where no Slurm is, as in an image
        return name
    return "" if name == slurm.local_cluster() else name


def _named(site: Site, job: Job) -> str:
    """The cluster that job, site file or shell name; ""."""
    names: dict[str, str] = {}
    for stage in STAGES:
        for model in job.models:
            options = resources(site, job.cluster, stage, model).options
            names[str(options.get("clusters", ""))] = f"options: clusters (stage {stage})"
    if len(names) > 1:
        raise JobError(
            f"options: clusters: {', '.join(sorted(filter(None, names)))} for some of the stages; the jobs of a run "
            "wait for each other, so all are on one cluster: name it in `defaults`"
        )
    (name,) = names
    where = names[name]
    for variable in _VARIABLES if not name else ():
        if os.environ.get(variable, "").strip():
            name, where = os.environ[variable].strip(), variable
            break
    if "," in name or name == "all":
        raise JobError(
            f"{where}: {name} names several clusters; the jobs of a run wait for each other, so all are on one "
            "cluster: name one"
        )
    return name
