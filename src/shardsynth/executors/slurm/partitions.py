"""The partitions of a site and the CPUs of their nodes: one `scontrol` and one `sinfo`.

Hidden partitions are listed too. Where only administrators may see nodes (``PrivateData=nodes``), `sinfo` fails.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from shardsynth.executors.slurm.commands import SlurmError, call, freshness, read_config


@dataclass(frozen=True)
class Partition:
    """One partition.

    Attributes:
        name: Its name.
        default: Whether jobs that name none go there.
        default_time: Time limit of a job that asks for none, as Slurm writes it; "" if that is the longest one.
        max_time: Longest time limit; "" without a limit.
        qos: QOS whose limits count for all its jobs, or "".
        exclusive: Whether a job gets, and is billed for, whole nodes.
        grace: Whether its jobs are pre-empted, and are told before.
        node_cpus: CPUs of its smallest node; 0 where Slurm does not tell.
    """

    name: str
    default: bool = False
    default_time: str = ""
    max_time: str = ""
    qos: str = ""
    exclusive: bool = False
    grace: bool = False
    node_cpus: int = 0

    @property
    def time(self) -> str:
        """The time limit of a job that asks for none; "" if there is none."""
        return self.default_time or self.max_time


def read_partitions() -> dict[str, Partition]:
    """Every partition of the site, by name; asked for once a minute at most.

    Raises:
        SlurmError: Slurm does not answer.
    """
    return _read(*freshness())


@functools.lru_cache(maxsize=4)
def _read(*fresh: object) -> dict[str, Partition]:
    whole_nodes = read_config().get("SelectType", "").endswith("linear")
    cpus = _node_cpus()
    partitions = {}
    for line in call("scontrol", "show", "partition", "--all", "--oneliner").splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" not in words:
            continue
        name = words["PartitionName"]
        partitions[name] = Partition(
            name,
            default=words.get("Default") == "YES",
            default_time=_time(words.get("DefaultTime", "NONE")),
            max_time=_time(words.get("MaxTime", "UNLIMITED")),
            qos="" if words.get("QoS", "N/A") == "N/A" else words["QoS"],
            exclusive=whole_nodes or words.get("OverSubscribe") == "EXCLUSIVE",
            grace=words.get("GraceTime", "0") not in ("", "0") and words.get("PreemptMode", "").upper() != "OFF",
            node_cpus=cpus.get(name, 0),
        )
    return partitions


def _node_cpus() -> dict[str, int]:
    """CPUs of the smallest node of each partition; none where only administrators may see nodes."""
    try:
        # %c: CPUs of a node, the least of several; %B: those that the partition lets a job use on a node
        text = call("sinfo", "--noheader", "--all", "--format=%R|%c|%B")
    except SlurmError:
        return {}
    cpus: dict[str, int] = {}
    for line in text.splitlines():
        name, *counts = (word.strip() for word in line.split("|"))
        numbers = [int(count.rstrip("+")) for count in counts if count.rstrip("+").isdigit()]
        if numbers:
            cpus[name] = max(1, min([*numbers, cpus.get(name, min(numbers))]))
    return cpus


def _time(text: str) -> str:
    return "" if text in ("NONE", "UNLIMITED", "INFINITE") else text
