"""The tasks of a stage. Those that make or score output parts are a range: none is an object before it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union, overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Piece:
    """Neighbouring row groups of a shard.

    Attributes:
        shard: Number of the shard.
        first_group: First row group.
        last_group: Last row group + 1.
        first_row: Global number of the first row.
        rows: Number of rows.
    """

    shard: int
    first_group: int
    last_group: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Task:
    """One unit of work, commit and retry.

    Attributes:
        stage: One of ``STAGES``.
        index: Number in the stage.
        model: Name of its model; "" for a stage that is not about one model.
        pieces: Input row groups (profile, count).
        parts: First and last + 1 output part (sample, score).
        threads: Number of CPUs it uses; the result of a training depends on it.
        replica: Number of the candidate that a fit trains (`replicas: k`); -1: it fits the model itself, or chooses one
            of the candidates.
    """

    stage: str
    index: int
    model: str = ""
    pieces: tuple[Piece, ...] = ()
    parts: tuple[int, int] = (0, 0)
    threads: int = 1
    replica: int = -1

    @property
    def group(self) -> tuple[str, str]:
        """Stage and model. Tasks of one group wait for the same groups."""
        return (self.stage, self.model if self.replica < 0 else replica_group(self.model))


def replica_group(model: str) -> str:
    """Name of the group of a model's candidates; a model's name holds no slash."""
    return f"{model}/replicas"


@dataclass(frozen=True)
class PartTasks:
    """Tasks that share the output parts of a model: contiguous ranges of nearly equal length.

    Attributes:
        stage: Their stage.
        model: The model.
        first: Number of the first task in the stage.
        parts: Number of parts.
        tasks: Number of tasks, from 1 to ``parts``.
    """

    stage: str
    model: str
    first: int
    parts: int
    tasks: int

    def __len__(self) -> int:
        return self.tasks

    def task(self, place: int) -> Task:
        """One of them, counted from 0."""
        edges = (self.parts * place // self.tasks, self.parts * (place + 1) // self.tasks)
        return Task(self.stage, self.first + place, self.model, parts=edges)

    def edges(self) -> npt.NDArray[np.int64]:
        """int64[tasks + 1]: the first part of each task, then the number of parts."""
        return np.arange(self.tasks + 1, dtype=np.int64) * self.parts // self.tasks


#: Tasks of a stage that stand together: one, or a range.
Block = Union[Task, PartTasks]


class StageTasks(Sequence[Task]):
    """The tasks of one stage by their number.

    Args:
        blocks: What they are made of, in the order of their numbers.
    """

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks = tuple(blocks)
        self._starts: list[int] = []
        self._length = 0
        for block in self.blocks:
            self._starts.append(self._length)
            self._length += 1 if isinstance(block, Task) else len(block)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> list[Task]: ...
    def __getitem__(self, place: int | slice) -> Task | list[Task]:
        """The task of a number; of a slice, a list."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = int(place)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(place)
        at = bisect_right(self._starts, place) - 1
        block = self.blocks[at]
        return block if isinstance(block, Task) else block.task(place - self._starts[at])

    def __iter__(self) -> Iterator[Task]:
        for block in self.blocks:
            if isinstance(block, Task):
                yield block
            else:
                yield from (block.task(place) for place in range(len(block)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageTasks) and self.blocks == other.blocks

    def __hash__(self) -> int:
        return hash(self.blocks)

    def groups(self) -> list[tuple[tuple[str, str], Sequence[int]]]:
        """Every group, and the numbers of its tasks, in the order of their first ones."""
        found: dict[tuple[str, str], Any] = {}
        for start, block in zip(self._starts, self.blocks):
            if isinstance(block, PartTasks):
                numbers: Sequence[int] = range(start, start + len(block))
                key = (block.stage, block.model)
                found[key] = [*found[key], *numbers] if key in found else numbers
            else:
                found.setdefault(block.group, []).append(start)
        return list(found.items())


#: Numbers of tasks in their stage.
Numbers = Union[Sequence[int], npt.NDArray[np.int64]]


class ChosenTasks(Sequence[Task]):
    """Some of a stage's tasks, or of several stages', by their numbers.

    Args:
        chosen: The tasks of a stage, and the numbers of those that are meant, in order.
    """

    def __init__(self, chosen: Sequence[tuple[Sequence[Task], Numbers]]) -> None:
        self.chosen = [(tasks, numbers) for tasks, numbers in chosen if len(numbers)]
        self._ends = list(np.cumsum([len(numbers) for _, numbers in self.chosen], dtype=np.int64).tolist())

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> ChosenTasks: ...
    def __getitem__(self, place: int | slice) -> Task | ChosenTasks:
        """The task at a place; of a slice without steps, some of them again."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError("wanted neighbouring tasks")
            some, before = [], 0
            for (tasks, numbers), end in zip(self.chosen, self._ends):
                some.append((tasks, numbers[max(0, start - before) : max(0, min(stop, end) - before)]))
                before = end
            return ChosenTasks(some)
        place = int(place)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(place)
        at = bisect_right(self._ends, place)
        tasks, numbers = self.chosen[at]
        return tasks[numbers[place - (self._ends[at - 1] if at else 0)]]

    def __iter__(self) -> Iterator[Task]:
        for tasks, numbers in self.chosen:
            for number in numbers:
                yield tasks[number]

    def of(self, stage: str) -> ChosenTasks:
        """Those of one stage."""
        return ChosenTasks([(tasks, each) for tasks, each in self.chosen if tasks[each[0]].stage == stage])

    def stages(self) -> list[str]:
        """The stages of which there is any, in order."""
        return list(dict.fromkeys(tasks[each[0]].stage for tasks, each in self.chosen))

    def by_group(self) -> dict[tuple[str, str], ChosenTasks]:
        """The tasks of each group, in the order of their first ones."""
        found: dict[tuple[str, str], list[tuple[Sequence[Task], Numbers]]] = {}
        for tasks, numbers in self.chosen:
            found.setdefault(tasks[numbers[0]].group, []).append((tasks, numbers))
        return {group: ChosenTasks(members) for group, members in found.items()}


def by_group(tasks: Iterable[Task]) -> dict[tuple[str, str], Sequence[Task]]:
    """Tasks by group, groups in the order of their first tasks."""
    if isinstance(tasks, ChosenTasks):
        return {**tasks.by_group()}
    found: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        found.setdefault(task.group, []).append(task)
    return {**found}


def split_range(count: int, tasks: int) -> list[tuple[int, int]]:
    """Cut ``range(count)`` into at most ``tasks`` contiguous ranges of nearly equal length."""
    tasks = max(1, min(count, tasks))
    edges = [count * i // tasks for i in range(tasks + 1)]
    return list(zip(edges[:-1], edges[1:]))


def part_tasks(stage: str, model: str, first: int, parts: int, tasks: int | None) -> PartTasks:
    """Tasks of a stage for a model's parts, cut as `split_range` does; ``tasks`` None: one a part."""
    return PartTasks(stage, model, first, parts, max(1, min(parts, tasks or parts)))


def tasks_to_json(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The tasks of a stage as plain data: an entry a task, or one for a range of tasks."""
    blocks: Sequence[Block] = tasks.blocks if isinstance(tasks, StageTasks) else tasks
    return [
        _task_to_json(block)
        if isinstance(block, Task)
        else {"model": block.model, "parts": [0, block.parts], "tasks": block.tasks}
        for block in blocks
    ]


def tasks_from_json(stage: str, entries: Sequence[dict[str, Any]]) -> StageTasks:
    """Inverse of ``tasks_to_json``; also of plans of version 1, which have an entry for every task."""
    blocks: list[Block] = []
    number, at = 0, 0
    if not isinstance(entries, list):
        raise TypeError("wanted a list of tasks")
    while at < len(entries):
        entry = entries[at]
        same = _range_from(stage, number, entries, at)
        if "tasks" in entry:
            blocks.append(part_tasks(stage, entry["model"], number, entry["parts"][1], entry["tasks"]))
            number, at = number + len(blocks[-1]), at + 1  # type: ignore[arg-type]
        elif same is not None:
            blocks.append(same)
            number, at = number + len(same), at + len(same)
        else:
            blocks.append(_task_from_json(stage, number, entry))
            number, at = number + 1, at + 1
    return StageTasks(blocks)


def check_tasks(tasks: StageTasks, models: Collection[str], parts: int, groups: Sequence[int]) -> None:
    """Check that tasks are of this plan.

    Args:
        tasks: The tasks of a stage.
        models: Names of the models.
        parts: Number of output parts of a model.
        groups: Number of row groups of each shard.

    Raises:
        ValueError: A model, a part or a row group is none of the plan.
    """
    for block in tasks.blocks:
        if block.model and block.model not in models:
            raise ValueError("a task of an unknown model")
        if isinstance(block, PartTasks):
            if not 1 <= block.tasks <= block.parts == parts:
                raise ValueError("tasks of other parts")
        elif not 0 <= block.parts[0] <= block.parts[1] <= parts or block.threads < 1:
            raise ValueError("a task of other parts, or without a thread")
        else:
            for piece in block.pieces:
                if not 0 <= piece.first_group < piece.last_group <= groups[piece.shard] or piece.shard < 0:
                    raise ValueError("a task of other row groups")


def _range_from(stage: str, number: int, entries: Sequence[dict[str, Any]], at: int) -> PartTasks | None:
    """Entries of single tasks of one model as the range that they are; None where they are none."""
    if entries[at].keys() != {"model", "parts"} or entries[at]["parts"][0] != 0:
        return None
    model, end = entries[at]["model"], at
    while end < len(entries) and entries[end].get("model") == model and entries[end].keys() == {"model", "parts"}:
        end += 1
    found = part_tasks(stage, model, number, entries[end - 1]["parts"][1], end - at)
    edges = found.edges().tolist()
    same = len(found) == end - at and all(
        list(entry["parts"]) == edges[place : place + 2] for place, entry in enumerate(entries[at:end])
    )
    return found if same else None


def _task_to_json(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if task.model:
        data["model"] = task.model
    if task.pieces:
        data["pieces"] = [[p.shard, p.first_group, p.last_group, p.first_row, p.rows] for p in task.pieces]
    if task.parts != (0, 0):
        data["parts"] = list(task.parts)
    if task.threads != 1:
        data["threads"] = task.threads
    if task.replica >= 0:
        data["replica"] = task.replica
    return data


def _task_from_json(stage: str, index: int, data: dict[str, Any]) -> Task:
    return Task(
        stage,
        index,
        data.get("model", ""),
        tuple(Piece(*piece) for piece in data.get("pieces", [])),
        _pair(data.get("parts", (0, 0))),
        data.get("threads", 1),
        data.get("replica", -1),
    )


def _pair(value: Sequence[int]) -> tuple[int, int]:
    first, last = value
    return first, last
