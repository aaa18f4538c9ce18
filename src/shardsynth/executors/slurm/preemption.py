"""Whether an element must listen for the beginning of a pre-emption's grace by a step of its own (`srun`).

Slurm signals only steps then, not the batch script: a step costs 0.25 s an element. It is spared where jobs are not
pre-empted, or without a grace, and where the site sets ``SlurmctldParameters=preempt_send_user_signal``: then the
script gets the signal of `sbatch --signal`.
"""

from __future__ import annotations

from shardsynth.executors.slurm.commands import SlurmError, read_config
from shardsynth.executors.slurm.limits import read_accounting
from shardsynth.executors.slurm.partitions import read_partitions
from shardsynth.job import Resources


def needs_listener(asked: Resources) -> bool:
    """Whether an element with these resources needs the step; true where Slurm does not tell.

    Args:
        asked: The resources: partition and QOS count.
    """
    try:
        config = read_config()
        kind = config.get("PreemptType", "")
        if kind.endswith("none") or sends_user_signal(config):
            return False
        if kind.endswith("qos"):
            graces, default = _qos_graces(), ""
            return graces.get(asked.qos, True) if asked.qos else any(graces.values())
        graces, default = _partition_graces()
    except SlurmError:
        return True
    return any(graces.get(name, True) for name in (asked.partition or default).split(","))


def sends_user_signal(config: dict[str, str]) -> bool:
    """Whether the site sends the signal of `sbatch --signal` when a pre-emption begins."""
    return "preempt_send_user_signal" in config.get("SlurmctldParameters", "").lower()


def grace_line() -> str:
    """A line for people on how an element learns of a pre-emption; "" where there is no grace.

    Raises:
        SlurmError: Slurm does not answer.
    """
    config = read_config()
    if config.get("PreemptType", "").endswith("none"):
        return ""
    if sends_user_signal(config):
        return "the site tells the batch script when one begins (preempt_send_user_signal)"
    partitions, _ = _partition_graces()
    graces = sorted(name for name, grace in partitions.items() if grace)
    if not graces and not (config["PreemptType"].endswith("qos") and any(_qos_graces().values())):
        return ""
    where = f"in {', '.join(graces)} " if graces else ""
    return (
        f"{where}with a grace, of which only job steps are told: each element there runs one more step (srun, 0.25 s); "
        "with SlurmctldParameters=preempt_send_user_signal the site would spare it"
    )


def _partition_graces() -> tuple[dict[str, bool], str]:
    """Whether jobs of a partition are pre-empted with a grace, by its name; and the default partition."""
    partitions = read_partitions().values()
    default = next((partition.name for partition in partitions if partition.default), "")
    return {partition.name: partition.grace for partition in partitions}, default


def _qos_graces() -> dict[str, bool]:
    """Whether jobs of a QOS are pre-empted with a grace, by its name."""
    return {qos.name: qos.grace for qos in read_accounting().qos.values()}
