"""CPUs of a fit on Slurm: the threads of a training, on which a model's bytes depend.

They are the same from whichever login node a job is submitted. The machine that plans is never counted.
"""

from __future__ import annotations

from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.partitions import read_partitions
from shardsynth.executors.slurm.site import Site, own_resources, resources
from shardsynth.job import Job
from shardsynth.models.families import NATIVE

#: CPUs of a training for which nothing names any; fewer where a node of its partition has fewer.
DEFAULT_CPUS = 4


def fit_cpus(job: Job, site: Site) -> dict[str, int]:
    """CPUs of each model's fit.

    The first of these that says it counts: ``cluster.models.NAME.fit``, ``cluster.stages.fit``, ``cluster.defaults``,
    the site file's entry of the stage, its defaults. Else it is ``DEFAULT_CPUS``, or the CPUs of the smallest node of
    the partition if that has fewer. A model that is not trained has the CPUs that the first two say, else 1: it is then
    made of the same bytes as by a local run.

    Args:
        job: The job.
        site: The site.
    """
    cpus: dict[str, int] = {}
    smallest: dict[str, int] | None = None
    for name, model in job.models.items():
        trains = NATIVE[model.model].trains
        asked = resources(site, job.cluster, "fit", name) if trains else own_resources(job.cluster, "fit", name)
        if asked.cpus is not None or not trains:
            cpus[name] = asked.cpus or 1
            continue
        if smallest is None:
            smallest = smallest_nodes()
        partitions = (asked.partition or "").split(",")
        cpus[name] = min([DEFAULT_CPUS, *(smallest[one] for one in partitions if one in smallest)])
    return cpus


def smallest_nodes() -> dict[str, int]:
    """CPUs of the smallest node by partition, ``""`` for the default one; empty where Slurm does not tell."""
    try:
        partitions = read_partitions().values()
    except SlurmError:
        return {}
    known = {one.name: one.node_cpus for one in partitions if one.node_cpus}
    default = next((one.name for one in partitions if one.default and one.name in known), None)
    return known if default is None else {**known, "": known[default]}
