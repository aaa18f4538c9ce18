"""Which tasks are still to do, and which may start now. Pure but for reading commit records."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from shardsynth.planning.plan import READ_BY, Plan, Task
from shardsynth.run.rundir import RunDir

Group = tuple[str, str]


def missing_tasks(plan: Plan, run: RunDir, *, verify: bool = False) -> list[Task]:
    """Tasks that are not committed and that something still needs, stages in order.

    Intermediates may be deleted once nothing reads them: they count as missing only while a stage that reads them does.
    """
    found: list[Task] = []
    missing: set[Group] = set()
    if run.closed:
        return found
    for task in reversed(list(plan.all_tasks())):
        readers = READ_BY.get(task.stage)
        if readers and not any(stage in readers and task.model in ("", model) for stage, model in missing):
            continue
        if run.committed(task.stage, task.index, verify=verify) is None:
            found.append(task)
            missing.add(task.group)
    return found[::-1]


@dataclass
class Schedule:
    """Hands out tasks whose needs are met.

    Attributes:
        plan: The plan.
        waiting: Tasks not yet handed out, by group.
        open: Tasks of a group that are not done.
        failed: Groups with a failed task: nothing that needs them starts.
    """

    plan: Plan
    waiting: dict[Group, deque[Task]] = field(default_factory=dict)
    open: dict[Group, int] = field(default_factory=dict)
    failed: set[Group] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Plan, tasks: Iterable[Task]) -> Schedule:
        """Schedule of the tasks that are to do."""
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
        return any(
            self.open.get(need, 0) or need in self.failed or self._blocked(need) for need in self.plan.needs(group)
        )

    def done(self, task: Task, *, ok: bool) -> None:
        """A task ended."""
        if ok:
            self.open[task.group] -= 1
        else:
            self.failed.add(task.group)

    def blocked_tasks(self) -> int:
        """Tasks that were never handed out."""
        return sum(len(tasks) for tasks in self.waiting.values())
