"""What `resume` asks for after an element ran out of memory or time (`cluster.retry`)."""

from __future__ import annotations

import math
from typing import Any

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.accounting import in_accounting, with_peaks
from shardsynth.executors.slurm.causes import Cause, cause_of
from shardsynth.executors.slurm.commands import SlurmError, SlurmSilentError
from shardsynth.executors.slurm.ledger import Submitted, known_as
from shardsynth.executors.slurm.packing import Array
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Resources
from shardsynth.planning.plan import Plan, Task


def causes_of(
    before: list[Submitted], tasks: list[Task], say: Any
) -> dict[tuple[str, int], tuple[Cause, dict[str, Any]]]:
    """Why the latest elements of tasks ended badly, as far as Slurm knows.

    Args:
        before: Arrays of the run that were submitted, oldest first.
        tasks: The tasks.
        say: Called with a line if the accounting is too slow to tell.

    Returns:
        Task -> the cause, and the resources that the element had asked for.
    """
    keys = {(task.stage, task.index) for task in tasks}
    latest: dict[tuple[str, int], tuple[Submitted, int]] = {}
    for submitted in before:
        for number, element in enumerate(submitted.elements):
            for index in element:
                if (submitted.stage, index) in keys and submitted.job is not None:
                    latest[submitted.stage, index] = (submitted, number)
    names = {submitted.name for submitted in before}
    known = {(e.job, e.number): e for name, e in slurm.at_controller("shardsynth-") if name in names}
    try:
        known = with_peaks(known, in_accounting(known_as(s for s, _ in latest.values())))
    except SlurmSilentError as error:
        say(f"{error}: why some elements ended is not known, so `cluster.retry` raises nothing for them")
    except SlurmError:  # without accounting only the last minutes are known
        pass
    causes = {}
    for key, (submitted, number) in latest.items():
        ended = submitted.element(known, number)
        cause = cause_of(ended, submitted.asked) if ended else None
        if cause:
            causes[key] = (cause, submitted.asked)
    return causes


def raised(plan: Plan, array: Array, causes: dict[tuple[str, int], tuple[Cause, dict[str, Any]]]) -> dict[str, Any]:
    """Resources that `cluster.retry` raises because a task of the array ran out of them."""
    more_of: dict[str, Any] = {}
    for element in array.elements:
        for index in element:
            cause, asked = causes.get((array.stage, index), (None, {}))
            changes = plan.job.cluster.retry.get(cause.kind, {}) if cause else {}  # type: ignore[call-overload]
            if "mem_gb" in changes and asked.get("mem_gb"):
                more_of["mem_gb"] = max(more_of.get("mem_gb", 0.0), asked["mem_gb"] * float(changes["mem_gb"][1:]))
            if "time" in changes and asked.get("time"):
                more = math.ceil(minutes(asked["time"]) * float(changes["time"][1:]))
                more_of["time"] = str(max(int(more_of.get("time", 0)), more))
    return more_of


def is_more(key: str, raised: Any, asked: Resources) -> bool:
    """Whether a raised resource is more than what is asked for now: the run's own may have been raised since."""
    before = getattr(asked, key)
    if before is None:
        return True
    return bool(minutes(raised) > minutes(before) if key == "time" else raised > before)
