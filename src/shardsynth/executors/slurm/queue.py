"""What Slurm holds of a run's missing tasks, and what is therefore left to submit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.schedule import Group

_SETTLE_SECONDS = 15


@dataclass
class Standing:
    """What is queued or running of a run.

    Attributes:
        live: Task -> number of the array that holds it.
        waiting: Numbers of arrays of which no element has started, by group.
        stuck: Elements that will never start, as `scancel` names them.
        broken: Their groups: what waits for one of these waits for ever, even where all of its tasks are committed.
    """

    live: dict[tuple[str, int], int] = field(default_factory=dict)
    waiting: dict[Group, set[int]] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    broken: set[Group] = field(default_factory=set)


def standing_of(ledger: Ledger, before: list[Submitted], missing: list[Task]) -> Standing:
    """What Slurm holds of the missing tasks, once nothing is in between states."""
    by_name = {submitted.name: submitted for submitted in before}
    wanted = {(task.stage, task.index): task for task in missing}
    end = time.monotonic() + _SETTLE_SECONDS
    while True:
        known = slurm.at_controller(ledger.prefix()) if before else []
        found = [(name, e) for name, e in known if e.state in slurm.WAITING or e.state in slurm.RUNNING]
        ending = [(name, e) for name, e in found if e.state == "COMPLETING" and _tasks(by_name, name, e, wanted)]
        if not ending or time.monotonic() > end:
            break
        time.sleep(0.5)
    standing = Standing()
    started = {e.job for _, e in known if e.state != "PENDING"}
    for name, element in found:
        if element.state == "COMPLETING":
            continue
        tasks = _tasks(by_name, name, element, wanted)
        if element.stuck:
            standing.stuck.append(_name(element))
            if name in by_name:
                standing.broken.add((by_name[name].stage, by_name[name].model))
            continue
        for key in tasks:
            standing.live[key] = element.job
            if element.job not in started:
                standing.waiting.setdefault(wanted[key].group, set()).add(element.job)
    return standing


def _tasks(
    by_name: dict[str, Submitted], name: str, element: Element, wanted: dict[tuple[str, int], Task]
) -> list[tuple[str, int]]:
    submitted = by_name.get(name)
    if submitted is None or not 0 <= element.number < len(submitted.elements):
        return []
    keys = [(submitted.stage, index) for index in submitted.elements[element.number]]
    return [key for key in keys if key in wanted]


def _name(element: Element) -> str:
    return f"{element.job}_{element.number}" if element.number >= 0 else str(element.job)


def left_to_submit(plan: Plan, missing: list[Task], standing: Standing) -> list[Task]:
    """Missing tasks that nothing queued or running will do; what waits for one of their groups is cancelled, too."""
    todo: list[Task] = []
    fresh: set[Group] = set(standing.broken)
    groups: dict[Group, list[Task]] = {}
    for task in missing:
        groups.setdefault(task.group, []).append(task)
    for group, tasks in groups.items():
        stale: set[int] = set()
        if _any_before(plan, group, fresh):
            stale = standing.waiting.get(group, set())
            standing.stuck += [str(job) for job in sorted(stale)]
        left = [task for task in tasks if standing.live.get((task.stage, task.index)) in (None, *stale)]
        for task in left:
            standing.live.pop((task.stage, task.index), None)
        if left:
            fresh.add(group)
        todo += left
    return todo


def _any_before(plan: Plan, group: Group, chosen: set[Group]) -> bool:
    return any(need in chosen or _any_before(plan, need, chosen) for need in plan.needs(group))
