"""Whether an element must listen for the beginning of a pre-emption's grace by a step of its own (`srun`).

Slurm signals only steps then, not the batch script: a step costs 0.25 s an element. It is spared where jobs are not
pre-empted, or without a grace, and where the site sets ``SlurmctldParameters=preempt_send_user_signal``: then the
script gets the signal of `sbatch --signal`.
"""

from __future__ import annotations

import contextlib
import functools

from shardsynth.executors.slurm.commands import SlurmError, call, freshness, read_config
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
            graces, default = _qos_graces(*freshness()), ""
            return graces.get(asked.qos, True) if asked.qos else any(graces.values())
        graces, default = _partition_graces(*freshness())
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
    partitions, _ = _partition_graces(*freshness())
    graces = sorted(name for name, grace in partitions.items() if grace)
    if not graces and not (config["PreemptType"].endswith("qos") and any(_qos_graces(*freshness()).values())):
        return ""
    where = f"in {', '.join(graces)} " if graces else ""
    return (
        f"{where}with a grace, of which only job steps are told: each element there runs one more step (srun, 0.25 s); "
        "with SlurmctldParameters=preempt_send_user_signal the site would spare it"
    )


@functools.lru_cache(maxsize=4)
def _partition_graces(*fresh: object) -> tuple[dict[str, bool], str]:
    """Whether jobs of a partition are pre-empted with a grace, by its name; and the default partition."""
    graces, default = {}, ""
    for line in call("scontrol", "show", "partition", "--all", "--oneliner").splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        name = words.get("PartitionName", "")
        grace = words.get("GraceTime", "0") not in ("", "0")
        graces[name] = grace and words.get("PreemptMode", "").upper() != "OFF"
        default = name if words.get("Default") == "YES" else default
    return graces, default


@functools.lru_cache(maxsize=4)
def _qos_graces(*fresh: object) -> dict[str, bool]:
    """Whether jobs of a QOS are pre-empted with a grace, by its name."""
    graces = {}
    text = call("sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,GraceTime,PreemptMode")
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            name, grace, mode = line.split("|")[:3]
            graces[name] = bool(grace.strip("0:")) and mode.upper() != "OFF"
    return graces
