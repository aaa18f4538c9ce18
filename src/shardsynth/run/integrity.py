"""Compares every output of a run with its commit record, and lets what is changed be made again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from shardsynth.errors import RunError, ShardsynthError
from shardsynth.job import STAGES
from shardsynth.planning.plan import READ_BY, ChosenTasks, Plan, Task
from shardsynth.run.records import DAMAGED
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group, missing_tasks, needs_any
from shardsynth.standalone.files import is_no_space, sha256_of, tidy_away

#: Intermediates that a merge reads and deletes: a damaged one matters only while the merge is missing.
_READ_ONCE = ("partition", "profile", "count", "score")
#: Stages of a run under differential privacy whose outputs cannot be made again.
_NOISY = ("count_merge", "fit")


@dataclass(frozen=True)
class Damage:
    """An output that is not what its task wrote.

    Attributes:
        task: The task.
        path: The file, relative to the run directory.
    """

    task: Task
    path: str

    def __str__(self) -> str:
        """For a line of `status` or `resume`."""
        return f"{self.path}: damaged, not what {self.task.stage} {self.task.index} wrote"


def outputs_of(plan: Plan, run: RunDir) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Every output of every task, as its commit record names it, stages in order."""
    for task in plan.all_tasks():
        record = run.last_record(task.stage, task.index)
        for output in (record or {"outputs": []})["outputs"]:
            yield task, output


def find_damage(plan: Plan, run: RunDir) -> list[Damage]:
    """Every output that is there, but has another checksum than its record says, stages in order; reads all files."""
    for task in plan.all_tasks():
        run.committed(task.stage, task.index)  # gives final names where a kill prevented it
    found = []
    for task, output in outputs_of(plan, run):
        if _is_damaged(run, output):
            found.append(Damage(task, output["path"]))
    return found


def _is_damaged(run: RunDir, output: dict[str, Any]) -> bool:
    """Whether something else than the output is there in its place; one that was deleted is not damaged."""
    path = run.root / output["path"]
    if not path.is_file():
        return os.path.lexists(path)
    return bool(path.stat().st_size != output["size"] or sha256_of(path) != output["sha256"])


@contextlib.contextmanager
def damage_is_named(plan: Plan, run: RunDir, task: Task) -> Iterator[None]:
    """Let an error of a task that nobody expected name the damaged output that it comes from, if there is one.

    Where the disk or the memory is full, nothing is looked at.

    Args:
        plan: The plan.
        run: The run directory.
        task: The task: only what it reads is looked at.

    Raises:
        RunError: An output is damaged: which, and what makes it again.
    """
    try:
        yield
    except ShardsynthError:
        raise
    except Exception as error:
        if is_no_space(error) or _is_no_memory(error):
            raise
        remedy = f"`shardsynth resume {run.root} --verify` makes it again"
        for other in _read_by(plan, task):
            record = run.last_record(other.stage, other.index)
            if record is None and (damaged := _damaged_record(run, other, young=True)) is not None:
                raise RunError(f"{run.root}: {Damage(other, damaged)}; {remedy}") from error
            for output in (record or {"outputs": []})["outputs"]:
                if _is_damaged(run, output):
                    raise RunError(f"{run.root}: {Damage(other, output['path'])}; {remedy}") from error
        raise


def _is_no_memory(error: Exception) -> bool:
    """Whether the memory of the machine or of a GPU was full; torch, which need not be loaded, has an error for it."""
    return any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)


def _read_by(plan: Plan, task: Task) -> Iterator[Task]:
    """The tasks that a task needs and whose outputs can stop it, stages in order.

    Intermediates are read by the next stage only. A scoring task reads its own parts, and the report reads none. Ranges
    of all parts are checked as they are read.
    """
    direct = plan.needs(task.group)
    for stage, model in sorted(_all_needs(plan, task.group), key=lambda group: (STAGES.index(group[0]), group[1])):
        if (stage in _READ_ONCE and (stage, model) not in direct) or (stage, task.stage) == ("sample", "report"):
            continue
        for other in plan.model_tasks(stage, model):
            if (task.stage, stage) != ("score", "sample") or _share_parts(task, other):
                yield other


def _all_needs(plan: Plan, group: Group) -> set[Group]:
    """Groups that one needs, also through others."""
    direct = plan.needs(group)
    return set(direct).union(*(_all_needs(plan, need) for need in direct))


def _share_parts(task: Task, other: Task) -> bool:
    return task.model == other.model and task.parts[0] < other.parts[1] and other.parts[0] < task.parts[1]


def withdraw_damaged(plan: Plan, run: RunDir) -> Iterator[str]:
    """Let tasks whose outputs were changed, and all that depends on these, count as not committed.

    Args:
        plan: The plan.
        run: The run directory.

    Yields:
        Lines that name what is damaged and what is made again.

    Raises:
        RunError: Noise of differential privacy is among it, which can be drawn only once.
    """
    damage = [*find_damage(plan, run), *_lost_records(plan, run)]
    if plan.job.privacy is not None and any(each.task.stage in _NOISY for each in damage):
        first = next(each for each in damage if each.task.stage in _NOISY)
        raise RunError(f"{run.root}: {first}; its noise can be drawn only once: restore the file, or start another run")
    missing = set(missing_tasks(plan, run).by_group())
    broken: dict[tuple[str, int], Task] = {}
    for each in damage:
        readers = READ_BY.get(each.task.stage, ())
        if each.task.stage in _READ_ONCE and not any(stage in readers for stage, _ in missing):
            (tidy_away if (run.root / each.path).is_dir() else os.unlink)(run.root / each.path)
            yield f"{each}; nothing reads it any more: deleted"
            continue
        yield str(each)
        broken[each.task.stage, each.task.index] = each.task
    again = dict(broken)
    for task in plan.all_tasks():
        if (task.stage, task.index) not in broken and _depends(plan, task, broken.values()):
            again[task.stage, task.index] = task
    for (stage, index), task in again.items():
        if run.last_record(stage, index) is not None:
            run.withdraw(stage, index)
            yield f"made again: {stage} {index}{f' ({task.model})' if task.model else ''}"


def _lost_records(plan: Plan, run: RunDir) -> Iterator[Damage]:
    """Intermediates that `report` and `sample` still read, and whose record was damaged: nothing vouches for them."""
    for task in plan.all_tasks():
        if task.stage in READ_BY and task.stage not in _READ_ONCE and run.last_record(task.stage, task.index) is None:
            damaged = _damaged_record(run, task)
            if damaged is not None:
                yield Damage(task, damaged)


def _damaged_record(run: RunDir, task: Task, *, young: bool = False) -> str | None:
    """The damaged record of a task that has no other, relative to the run; None if there is none.

    Args:
        run: The run directory.
        task: The task.
        young: Take one also that is too young to be set aside: somebody may still be writing it.
    """
    first = run.record(task.stage, task.index)
    paths = sorted(first.parent.glob(f"{task.index}.*{DAMAGED}"))
    paths += [first] if young and os.path.lexists(first) else []
    return next((str(path.relative_to(run.root)) for path in paths), None)


def _depends(plan: Plan, task: Task, broken: Iterable[Task]) -> bool:
    """Whether a task read, directly or through others, what one of the broken tasks wrote."""
    for other in broken:
        if (task.stage, other.stage) == ("score", "sample"):
            if _share_parts(task, other):
                return True
        elif needs_any(plan, task.group, {other.group}):
            return True
    return False


def tasks_to_do(plan: Plan, run: RunDir, say: Callable[[str], object], *, verify: bool = False) -> ChosenTasks:
    """The missing tasks, as `schedule.missing_tasks`, with what is damaged.

    Args:
        plan: The plan.
        run: The run directory.
        say: Called with lines that name what is damaged and what is made again.
        verify: Compare checksums of committed outputs. A task whose output differs, and all that needs it, is missing.

    Raises:
        RunError: See ``withdraw_damaged``.
    """
    if verify:
        for line in withdraw_damaged(plan, run):
            say(line)
    tasks = missing_tasks(plan, run)
    damaged = sorted(run.root.glob(f"tasks/*/*/*{DAMAGED}"))
    wanted = {(task.stage, task.index) for task in tasks} if damaged else set()
    for path in damaged:
        number = path.name.partition(".")[0]
        if number.isdigit() and (path.parents[1].name, int(number)) in wanted:
            say(f"{path}: a damaged record: its task is done again")
    return tasks


def check_done(plan: Plan, run: RunDir) -> None:
    """Raise RunError if a task is missing."""
    left = missing_tasks(plan, run).stages()
    if left:
        raise RunError(f"{run.root}: the run is not done ({', '.join(left)} left); resume it first")


def check_before(plan: Plan, run: RunDir, what: str) -> None:
    """Check every output before something is deleted or given away.

    Args:
        plan: The plan.
        run: The run directory.
        what: What is about to happen, for the error.

    Raises:
        RunError: An output is damaged.
    """
    damage = find_damage(plan, run)
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise RunError(f"not {what}: {damage[0]}{more}; `shardsynth resume {run.root} --verify` makes it again")
