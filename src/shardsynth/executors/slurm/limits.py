"""How many elements a user may have queued: limits of the controller, of accounts, of QOS and of partitions.

Slurm counts every element of an array. Which limits count for a job depends on its account, QOS and partition, so the
stages of one run may be under different ones. What others of a group have queued is not known: sbatch decides.
"""

from __future__ import annotations

import functools
import getpass
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from shardsynth.executors.slurm.commands import SlurmError, asked_cluster, call, freshness, local_cluster, read_config
from shardsynth.executors.slurm.partitions import Partition, read_partitions
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Resources


@dataclass(frozen=True)
class Association:
    """A user's, or an account's, limits on queued elements.

    Attributes:
        account: The account.
        user: The user; "" for the account's own limits.
        parent: The account above; "" for a user's.
        partition: The only partition that it is for; "" for all.
        most: MaxSubmitJobs: elements of one user; None without a limit.
        group: GrpSubmitJobs: elements of all users together.
        default_qos: QOS of jobs that name none.
        max_wall: Longest time limit of a job, as Slurm writes it; "" without one.
    """

    account: str
    user: str
    parent: str
    partition: str
    most: int | None
    group: int | None
    default_qos: str
    max_wall: str = ""


@dataclass(frozen=True)
class Qos:
    """Limits of a quality of service on queued elements.

    Attributes:
        name: Its name.
        per_user: MaxSubmitJobsPerUser.
        per_account: MaxSubmitJobsPerAccount.
        group: GrpSubmitJobs: elements of all jobs together.
        max_wall: Longest time limit of a job, as Slurm writes it; "" without one.
        grace: Whether its jobs are pre-empted, and are told before.
    """

    name: str
    per_user: int | None = None
    per_account: int | None = None
    group: int | None = None
    max_wall: str = ""
    grace: bool = False


@dataclass(frozen=True)
class Accounting:
    """What the accounting says of the user.

    Attributes:
        associations: Of the user, and of accounts.
        qos: By name.
        default_account: Account of jobs that name none.
    """

    associations: tuple[Association, ...] = ()
    qos: Mapping[str, Qos] = field(default_factory=dict)
    default_account: str = ""


def read_accounting() -> Accounting:
    """Limits of the user; none without accounting. One call of sacctmgr, once a minute at most."""
    return _accounting(*freshness())


@functools.lru_cache(maxsize=4)
def _accounting(*fresh: object) -> Accounting:
    user = getpass.getuser()
    where = f"cluster={asked_cluster() or local_cluster()}"
    columns = "format=Account,User,ParentName,Partition,MaxSubmit,GrpSubmit,DefaultQOS,MaxWall"
    questions = (
        f"show assoc user={user} {where} {columns}",
        f"show assoc user= {where} {columns}",
        "show qos format=Name,MaxSubmitPU,MaxSubmitPA,GrpSubmit,MaxWall,GraceTime,PreemptMode",
        f"show user {user} format=User,DefaultAccount",
    )
    try:
        text = call("sacctmgr", "--noheader", "--parsable2", text="".join(f"{line}\n" for line in questions))
    except SlurmError:
        return Accounting()
    associations, qos, account = [], {}, ""
    for line in text.splitlines():
        words = line.split("|")
        if len(words) == 8:
            name, who, parent, partition, most, group, default, wall = words
            associations.append(Association(name, who, parent, partition, _limit(most), _limit(group), default, wall))
        elif len(words) == 7:
            limits = [_limit(word) for word in words[1:4]]
            grace = bool(words[5].strip("0:")) and words[6].upper() != "OFF"
            qos[words[0]] = Qos(words[0], limits[0], limits[1], limits[2], words[4], grace)
        elif len(words) == 2 and words[0] == user:
            account = words[1]
    return Accounting(tuple(associations), qos, account)


def _limit(word: str) -> int | None:
    return int(word) if word.isdigit() else None


@dataclass(frozen=True)
class Queue:
    """What the user has queued now: elements by account, QOS and partition.

    Attributes:
        elements: (account, QOS, partition) -> how many.
    """

    elements: Mapping[tuple[str, str, str], int] = field(default_factory=dict)

    def count(self, **wanted: str) -> int:
        """Elements whose account, qos or partition are the ones wanted."""
        names = ("account", "qos", "partition")
        return sum(
            count
            for key, count in self.elements.items()
            if all(value == wanted.get(name, value) for name, value in zip(names, key))
        )


def read_queue() -> Queue:
    """What the user has queued now; SlurmError if Slurm does not answer."""
    lines = call("squeue", "--noheader", "--me", "--array", "--format=%a|%q|%P").splitlines()
    return Queue(Counter((a, q, p) for a, q, p in (line.split("|") for line in lines if line.count("|") == 2)))


@dataclass(frozen=True)
class SubmitLimit:
    """One limit on queued elements, and what is left of it.

    Attributes:
        name: Slurm's name of it, and whose it is.
        most: The limit.
        left: The limit, less what the user has queued.
    """

    name: str
    most: int
    left: int


@dataclass(frozen=True)
class SubmitLimits:
    """All limits on queued elements.

    Attributes:
        accounting: What the accounting says.
        queue: What the user has queued.
        partition_qos: QOS of partitions that have one.
        default_partition: Partition of jobs that name none.
        everywhere: Limits for every job: of the controller, and of the site file.
    """

    accounting: Accounting = Accounting()
    queue: Queue = Queue()
    partition_qos: Mapping[str, str] = field(default_factory=dict)
    default_partition: str = ""
    everywhere: tuple[SubmitLimit, ...] = (SubmitLimit("MaxJobCount", 9999, 9999),)

    def of(self, asked: Resources) -> tuple[SubmitLimit, ...]:
        """The limits that count for a job with these resources."""
        account = asked.account or self.accounting.default_account
        partitions = self._partitions(asked)
        limits = list(self.everywhere)
        for one in self._mine(asked):
            limits += self._limit(f"MaxSubmitJobs of user {one.user} in account {account}", one.most, account=account)
            limits += self._limit(f"GrpSubmitJobs of user {one.user} in account {account}", one.group, account=account)
        above, seen = account, set()
        while above and above not in seen:
            seen.add(above)
            own = next((a for a in self.accounting.associations if not a.user and a.account == above), None)
            limits += self._limit(f"GrpSubmitJobs of account {above}", own.group if own else None, account=account)
            above = own.parent if own else ""
        for found in self._qos(asked):
            limits += self._of_qos(found, partitions)
        return tuple(limits)

    def walls(self, asked: Resources) -> list[str]:
        """Longest time limits of a job with these resources: by account and QOS, as Slurm writes them."""
        walls = [a.max_wall for a in self._mine(asked)] + [qos.max_wall for qos in self._qos(asked)]
        return [wall for wall in walls if wall]

    def _partitions(self, asked: Resources) -> list[str]:
        return (asked.partition or self.default_partition).split(",")

    def _mine(self, asked: Resources) -> list[Association]:
        """The user's associations that count; those for one partition before the others."""
        account = asked.account or self.accounting.default_account
        mine = [a for a in self.accounting.associations if a.user and a.account == account]
        special = [a for a in mine if a.partition and a.partition in self._partitions(asked)]
        return special or [a for a in mine if not a.partition]

    def _qos(self, asked: Resources) -> list[Qos]:
        """The job's QOS and those of its partitions."""
        own = asked.qos or next((a.default_qos for a in self._mine(asked) if a.default_qos), "normal")
        names = dict.fromkeys([own, *(self.partition_qos.get(name, "") for name in self._partitions(asked))])
        return [self.accounting.qos[name] for name in names if name in self.accounting.qos]

    def _of_qos(self, found: Qos, partitions: list[str]) -> list[SubmitLimit]:
        name = found.name
        of_partition = [p for p in partitions if self.partition_qos.get(p) == name]
        wanted = {"partition": of_partition[0]} if of_partition else {"qos": name}
        return [
            *self._limit(f"MaxSubmitJobsPerUser of QOS {name}", found.per_user, **wanted),
            *self._limit(f"MaxSubmitJobsPerAccount of QOS {name}", found.per_account, **wanted),
            *self._limit(f"GrpSubmitJobs of QOS {name}", found.group, **wanted),
        ]

    def _limit(self, name: str, most: int | None, **wanted: str) -> list[SubmitLimit]:
        if most is None:
            return []
        return [SubmitLimit(name, most, max(0, most - self.queue.count(**wanted)))]

    def exceeded_by(self, wanted: Iterable[tuple[Resources, int]]) -> SubmitLimit | None:
        """The limit that these elements exceed, all of them queued at once; the tightest of several, None if none.

        Args:
            wanted: Resources, and how many elements ask for them.
        """
        counts: Counter[SubmitLimit] = Counter()
        for asked, elements in wanted:
            for limit in self.of(asked):
                counts[limit] += elements
        return min((limit for limit, count in counts.items() if count > limit.left), key=_left, default=None)

    def tightest(self, asked: Resources) -> SubmitLimit:
        """Of the limits that count for a job with these resources, the one with the least left."""
        return min(self.of(asked), key=_left)

    def lowered(self, most: int | None) -> SubmitLimits:
        """These limits and the site file's ``max_submit_jobs``, if it has one."""
        if most is None:
            return self
        own = SubmitLimit("the site file's max_submit_jobs", most, max(0, most - self.queue.count()))
        return replace(self, everywhere=(*self.everywhere, own))


def _left(limit: SubmitLimit) -> int:
    return limit.left


@dataclass(frozen=True)
class Limits:
    """What the site allows.

    Attributes:
        array_size: Most elements of one array (Slurm's MaxArraySize).
        submit: How many elements may be queued.
        partitions: Partitions by name.
    """

    array_size: int = 1001
    submit: SubmitLimits = SubmitLimits()
    partitions: Mapping[str, Partition] = field(default_factory=dict)

    def whole_node(self, asked: Resources) -> bool:
        """Whether a job with these resources gets, and is billed for, a whole node."""
        return bool(asked.options.get("exclusive")) or any(one.exclusive for one in self._partitions(asked))

    def cpus_of(self, asked: Resources) -> tuple[int, int]:
        """CPUs that an element with these resources may use, and those that it is billed."""
        node = min((one.node_cpus for one in self._partitions(asked) if one.node_cpus), default=1)
        billed = node if self.whole_node(asked) else 1
        return (asked.cpus or billed, max(asked.cpus or 1, billed))

    def _partitions(self, asked: Resources) -> list[Partition]:
        names = (asked.partition or self.submit.default_partition).split(",")
        return [self.partitions[name] for name in names if name in self.partitions]

    def time_of(self, asked: Resources) -> str | None:
        """The time limit that Slurm gives a job which asks for none; None if it has none, or Slurm does not tell.

        Args:
            asked: The job's resources.
        """
        times = [partition.time for partition in self._partitions(asked)]
        known = [time for time in [*times, *self.submit.walls(asked)] if time]
        return min(known, key=minutes, default=None)


def read_limits() -> Limits:
    """What controller, accounting and partitions allow: one call of each of Slurm's commands.

    Raises:
        SlurmError: Slurm does not answer.
    """
    config = read_config()
    partitions = read_partitions()
    queue = read_queue()
    jobs = int(config.get("MaxJobCount", "10000")) - 1
    enforced = {word.strip() for word in config.get("AccountingStorageEnforce", "").split(",")}
    submit = SubmitLimits(
        read_accounting() if enforced & {"limits", "safe"} else Accounting(),
        queue,
        {name: partition.qos for name, partition in partitions.items() if partition.qos},
        next((name for name, partition in partitions.items() if partition.default), ""),
        (SubmitLimit("MaxJobCount", jobs, max(0, jobs - queue.count())),),
    )
    return Limits(int(config.get("MaxArraySize", "1001")), submit, partitions)
