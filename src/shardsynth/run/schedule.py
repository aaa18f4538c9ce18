"""Which tasks are missing, and which may start now. It only reads commit records."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shardsynth.planning.plan import READ_BY, ChosenTasks, Plan, StageTasks, Task, by_group
from shardsynth.run.rundir import RunDir

Group = tuple[str, str]


def needs_any(plan: Plan, group: Group, groups: Collection[Group]) -> bool:
    """Whether a group needs one of ``groups``, also through others."""
    return any(need in groups or needs_any(plan, need, groups) for need in plan.needs(group))


def missing_tasks(plan: Plan, run: RunDir) -> ChosenTasks:
    """Tasks that are not committed and whose output is still needed, stages in order; 8 bytes of memory each.

    An intermediate may be deleted once nothing reads it. So it counts as missing only while a stage that reads it is
    missing.

    Args:
        plan: The plan.
        run: The run directory.
    """
    backwards: list[tuple[Sequence[Task], npt.NDArray[np.int64]]] = []
    missing: set[Group] = set()
    if run.closed:
        return ChosenTasks([])
    for stage in reversed(list(plan.tasks)):
        tasks = plan.tasks[stage]
        readers = READ_BY.get(stage)
        of_stage: list[tuple[Sequence[Task], npt.NDArray[np.int64]]] = []
        for group, numbers in _groups(tasks):
            model = "" if not len(numbers) else tasks[numbers[0]].model
            if readers and not any(other in readers and model in ("", of) for other, of in missing):
                continue
            left = _uncommitted(run, stage, numbers)
            if len(left):
                of_stage.append((tasks, left))
                missing.add(group)
        backwards += reversed(of_stage)
    return ChosenTasks(backwards[::-1])


def _groups(tasks: Sequence[Task]) -> list[tuple[Group, Sequence[int]]]:
    """Groups of a stage, and the numbers of their tasks."""
    return tasks.groups() if isinstance(tasks, StageTasks) else StageTasks(tasks).groups()


def _uncommitted(run: RunDir, stage: str, numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """Which of a stage's tasks are not committed. Where a folder has no record of a task, none is looked for."""
    every = np.asarray(numbers, dtype=np.int64)
    left: list[npt.NDArray[np.int64]] = []
    cuts = np.flatnonzero(np.diff(every // 1000)) + 1
    for some in np.split(every, cuts):
        if not len(some):
            continue
        try:
            names = os.listdir(run.record(stage, int(some[0])).parent)
        except FileNotFoundError:
            left.append(some)
            continue
        known = {name.partition(".")[0] for name in names}
        is_left = [str(i) not in known or run.committed(stage, i) is None for i in some.tolist()]
        left.append(some[np.array(is_left, dtype=bool)])
    return np.concatenate(left) if left else every


@dataclass
class Schedule:
    """Gives out tasks whose needs are met.

    Attributes:
        plan: The plan.
        waiting: Tasks that may be given out, by group; the first that was not is ``first``.
        first: The next task of each group.
        open: How many tasks of a group are not done.
        failed: Groups with a failed task: nothing that needs them starts.
    """

    plan: Plan
    waiting: dict[Group, Iterator[Task]] = field(default_factory=dict)
    first: dict[Group, Task] = field(default_factory=dict)
    open: dict[Group, int] = field(default_factory=dict)
    failed: set[Group] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Plan, tasks: Iterable[Task]) -> Schedule:
        """A schedule of tasks, in their order within each group."""
        schedule = cls(plan)
        for group, members in by_group(tasks).items():
            schedule.waiting[group] = iter(members)
            schedule.open[group] = len(members)
            schedule._advance(group)
        return schedule

    def _advance(self, group: Group) -> None:
        """Put the next task of a group first."""
        task = next(self.waiting[group], None)
        if task is None:
            self.first.pop(group, None)
        else:
            self.first[group] = task

    def next(self, slots: int) -> Task | None:
        """A task that may start now and needs at most ``slots`` CPUs, or None."""
        for group, task in self.first.items():
            if task.threads <= slots and not self._blocked(group):
                self._advance(group)
                return task
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
