"""What of a run is queued or runs in Slurm, what is therefore left to submit, and cancelling it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.by_hand import queued_by_hand
from shardsynth.executors.slurm.clusters import where_the_run_is
from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.follow import forget, waiting_names
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.planning.plan import Plan, Task, by_group
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group, needs_any

_SETTLE_SECONDS = 15


@dataclass
class Standing:
    """What of a run is queued or runs in Slurm.

    Attributes:
        live: Task -> number of the array that will do it.
        waiting: Numbers of arrays that have not started any element, by group.
        stuck: Elements that will never start, as `scancel` names them.
        broken: Groups of the stuck elements. What waits for such a group waits for ever, even if all tasks of the group
            are committed.
    """

    live: dict[tuple[str, int], int] = field(default_factory=dict)
    waiting: dict[Group, set[int]] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    broken: set[Group] = field(default_factory=set)


def standing_of(ledger: Ledger, before: list[Submitted], missing: Sequence[Task]) -> Standing:
    """What of the missing tasks is queued or runs; waits some seconds for elements that are just ending.

    Args:
        ledger: The run's ledger.
        before: The arrays that it lists.
        missing: Tasks that are not committed.
    """
    by_name = {submitted.name: submitted for submitted in before}
    missing_by_key = {(task.stage, task.index): task for task in missing}
    end = time.monotonic() + _SETTLE_SECONDS
    while True:
        known = slurm.at_controller(ledger.prefix()) if before else []
        queued = [(name, e) for name, e in known if e.state in slurm.WAITING or e.state in slurm.RUNNING]
        ending = [
            (name, e) for name, e in queued if e.state == "COMPLETING" and _tasks(by_name, name, e, missing_by_key)
        ]
        if not ending or time.monotonic() > end:
            break
        time.sleep(0.5)
    standing = Standing()
    started = {e.job for _, e in known if e.state != "PENDING"}
    for name, element in queued:
        if element.state == "COMPLETING":
            continue
        tasks = _tasks(by_name, name, element, missing_by_key)
        if element.stuck:
            standing.stuck.append(_name(element))
            if name in by_name:
                standing.broken.add((by_name[name].stage, by_name[name].model))
            continue
        for key in tasks:
            standing.live[key] = element.job
            if element.job not in started:
                standing.waiting.setdefault(missing_by_key[key].group, set()).add(element.job)
    return standing


def _tasks(
    by_name: dict[str, Submitted], name: str, element: Element, missing: dict[tuple[str, int], Task]
) -> list[tuple[str, int]]:
    """Missing tasks of an element."""
    submitted = by_name.get(name)
    if submitted is None or not 0 <= element.number < len(submitted.elements):
        return []
    keys = [(submitted.stage, index) for index in submitted.elements[element.number]]
    return [key for key in keys if key in missing]


def _name(element: Element) -> str:
    """An element as `scancel` names it."""
    return f"{element.job}_{element.number}" if element.number >= 0 else str(element.job)


def left_to_submit(plan: Plan, missing: Sequence[Task], standing: Standing) -> list[Task]:
    """Missing tasks that nothing queued or running will do.

    An array that waits for a group which is submitted again waits for the old job of that group. So it is added to
    ``standing.stuck``, to be cancelled, and its tasks are submitted again too.

    Args:
        plan: The plan.
        missing: Tasks that are not committed, stages in order.
        standing: What is queued or runs; changed by this function.
    """
    todo: list[Task] = []
    resubmitted: set[Group] = set(standing.broken)
    for group, tasks in by_group(missing).items():
        stale: set[int] = set()
        if needs_any(plan, group, resubmitted):
            stale = standing.waiting.get(group, set())
            standing.stuck += [str(job) for job in sorted(stale)]
        left = [task for task in tasks if standing.live.get((task.stage, task.index)) in (None, *stale)]
        for task in left:
            standing.live.pop((task.stage, task.index), None)
        if left:
            resubmitted.add(group)
        todo += left
    return todo


def cancel(run: RunDir) -> list[str]:
    """Cancel everything of the run that is queued or running; what is committed stays. Returns lines that say so."""
    run.refuse_of_another()
    ledger = Ledger(run)
    with where_the_run_is(ledger):
        with ledger.exclusively():  # no element submits more meanwhile
            rest = len(waiting_names(ledger))
            forget(ledger)
        known = slurm.at_controller(ledger.prefix())
        queued = [element for _, element in known if element.state in slurm.WAITING or element.state in slurm.RUNNING]
        if ledger.by_hand:
            queued = list({(e.job, e.number): e for e in [*queued, *queued_by_hand(ledger)]}.values())
        jobs = sorted({element.job for element in queued})
        slurm.cancel(str(job) for job in jobs)
    more = f", and {rest} arrays that were not submitted yet" if rest else ""
    return [f"cancelled {len(queued)} elements of {len(jobs)} jobs{more}; `shardsynth resume {run.root}` goes on"]
