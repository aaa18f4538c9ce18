"""Why Slurm does not start an element that waits, in words, and whether it ever will.

Slurm's own list of reasons: https://slurm.schedmd.com/job_reason_codes.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why an element waits.

    Attributes:
        words: What it is, for the user.
        never: Whether it cannot start as it was submitted.
    """

    words: str
    never: bool = False

    def __str__(self) -> str:
        """One line."""
        return f"will not start: {self.words}" if self.never else f"waits: {self.words}"


#: These need no word: a queue, an element before, a pause before a second start, a throttle.
_ORDINARY = frozenset(
    ["", "None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", "Cleaning", "Prolog"]
)
#: A pattern of Slurm's reason, what to say of it, and whether such an element never starts. The first that fits counts.
_WORDS = (
    ("DependencyNeverSatisfied", "an element that it needs failed; `resume` submits it again", True),
    (
        "JobHoldMaxRequeue|launch fail|requeued held|held state",
        "Slurm failed to launch it and holds it; `resume` submits it again",
        True,
    ),
    ("JobHeldUser", "it is held; `scontrol release` lets it go", False),
    ("JobHeldAdmin", "an administrator holds it", False),
    ("(QOS|Assoc)MaxWall", "{whose} allows less `time` than it asks for", True),
    ("PartitionTimeLimit", "the partition allows less `time` than it asks for", True),
    ("PartitionNodeLimit|PartitionConfig", "the partition does not allow what it asks for", True),
    ("(QOS|Assoc)Max.*Min(ute)?s.*PerJob", "{whose} allows less time with so many CPUs or GPUs", True),
    ("(QOS|Assoc)Max(Cpu|CPU).*Per(Job|Node)", "{whose} allows fewer CPUs a job; set `cpus:`", True),
    ("(QOS|Assoc)MaxMem.*Per(Job|Node)|MaxMemPerLimit", "{whose} allows less memory a job; set `mem_gb:`", True),
    ("(QOS|Assoc)MaxGRES.*Per(Job|Node)", "{whose} allows fewer GPUs a job; set `gpus:`", True),
    ("(QOS|Assoc)Max.*Per(Job|Node)", "{whose} allows less a job than it asks for", True),
    ("QOSMin", "the QOS is for larger jobs; set `qos:`", True),
    ("QOSNotAllowed|InvalidQOS", "its QOS is not allowed here; set `qos:`", True),
    ("AccountNotAllowed|InvalidAccount", "its account is not allowed here; set `account:`", True),
    ("ReservationDeleted", "its reservation is over; set `options: {reservation: ...}`", True),
    ("Reservation|ReqResv|RequiresReservation", "its reservation has not begun", False),
    ("PartitionDown|PartitionInactive", "its partition is down", False),
    ("ReqNodeNotAvail|Nodes required|NodeDown", "the nodes that it needs are down, drained or reserved", False),
    ("BadConstraints", "no node that works now has what it asks for", False),
    ("(QOS|Assoc)Grp.*Minutes|QOSUsageThreshold|.*BillingMinutes", "{whose} has used up its time budget", False),
    ("(QOS|Assoc)Grp", "all jobs of {whose} together use as much as they may", False),
    ("(QOS|Assoc)MaxJobs|.*Per(User|Account)", "your jobs use as much as {whose} allows", False),
    ("Licenses", "no license is free", False),
)  # fmt: skip


def reason_of(text: str) -> Reason | None:
    """What Slurm's reason means.

    Args:
        text: The reason as `squeue` prints it, such as ``QOSMaxWallDurationPerJobLimit``.

    Returns:
        Words for it; None where there is nothing to say: it waits for its turn.
    """
    text = text.strip().strip("()").replace("_", " ")
    if text in _ORDINARY:
        return None
    whose = "the QOS" if text.startswith(("QOS", "MaxMemPerLimit")) else "the account"
    for pattern, words, never in _WORDS:
        if re.match(pattern, text) or (" " in pattern and re.search(pattern, text)):
            said = words.format(whose=whose) if "{whose}" in words else words
            return Reason(f"{said} ({text})", never)
    return Reason(text)
