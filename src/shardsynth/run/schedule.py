"""Which tasks are missing, and which may start now. It only reads commit records."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from shardsynth.planning.plan import READ_BY, Plan, Task
from shardsynth.run.rundir import RunDir

Group = tuple[str, str]


def needs_any(plan: Plan, group: Group, groups: Collection[Group]) -> bool:
    """Whether a group needs one of ``groups``, also through others."""
    return any(need in groups or needs_any(plan, need, groups) for need in plan.needs(group))


def missing_tasks(plan: Plan, run: RunDir) -> list[Task]:
    """Tasks that are not committed and whose output is still needed, stages in order.

    An intermediate may be deleted once nothing reads it. So it counts as missing only while a stage that reads it is
    missing.

    Args:
        plan: The plan.
        run: The run directory.
    """
    backwards: list[Task] = []
    missing: set[Group] = set()
    if run.closed:
        return []
    for task in reversed(list(plan.all_tasks())):
        readers = READ_BY.get(task.stage)
        if readers and not any(stage in readers and task.model in ("", model) for stage, model in missing):
            continue
        if run.committed(task.stage, task.index) is None:
            backwards.append(task)
            missing.add(task.group)
    return backwards[::-1]


@dataclass
class Schedule:
    """Gives out tasks whose needs are met.

    Attributes:
        plan: The plan.
        waiting: Tasks that were not given out yet, by group.
        open: How many tasks of a group are not done.
        failed: Groups with a failed task: nothing that needs them starts.
    """

    plan: Plan
    waiting: dict[Group, deque[Task]] = field(default_factory=dict)
    open: dict[Group, int] = field(default_factory=dict)
    failed: set[Group] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Plan, tasks: Iterable[Task]) -> Schedule:
        """A schedule of tasks, in their order within each group."""
        schedule = cls(plan)
        for task in tasks:
            schedule.waiting.setdefault(task.group, deque()).append(task)
            schedule.open[task.group] = schedule.open.get(task.group, 0) + 1
        return schedule

    def next(self, slots: int) -> Task | None:
        """A task that may start now and needs at most ``slots`` CPUs, or None."""
        for group, tasks in self.waiting.items():
            if tasks and tasks[0].threads <= slots and not self._blocked(group):
                return tasks.popleft()
        return None

    def _blocked(self, group: Group) -> bool:
        """Whether a group that this one needs, also through others, has failed or is not done."""
        return any(
            self.open.get(need, 0) or need in self.failed or self._blocked(need) for need in self.plan.needs(group)
        )

    def done(self, task: Task, *, ok: bool) -> None:
        """Note that a task has ended; ``ok``: it is committed."""
        if ok:
            self.open[task.group] -= 1
        else:
            self.failed.add(task.group)
