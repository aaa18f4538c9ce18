"""Which tasks are committed, from the names of their records: a second or two for 10^6 of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardsynth.planning.plan import PartTasks, Plan, StageTasks, Task
from shardsynth.planning.tasks import Numbers
from shardsynth.run.rundir import RunDir

#: The times of so many records are looked at, to say how fast tasks are done.
_MOST_TIMES = 2_000
_RECORD = re.compile(r"([0-9]{1,17})(\.[0-9]+)?\.json")
_PART = re.compile(r"part-([0-9]{1,17})\.parquet")
_TEMPORARY = re.compile(r"\.part-([0-9]{1,17})\.parquet\..*\.tmp")


@dataclass(frozen=True)
class Committed:
    """Tasks of one stage that have a commit record.

    Attributes:
        run: The run directory.
        stage: The stage.
        has: bool[tasks], whether a task is committed.
    """

    run: RunDir
    stage: str
    has: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return int(np.count_nonzero(self.has))

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self.has).tolist())

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < len(self.has) and bool(self.has[index])

    def left(self) -> set[tuple[str, int]]:
        """Stage and number of the tasks that are not committed."""
        return {(self.stage, index) for index in np.flatnonzero(~self.has).tolist()}

    def rate(self) -> float:
        """Tasks a second between the first commit and the last one; 0 where that is not known.

        Of many tasks the times of some are looked at, evenly spread.
        """
        numbers = np.flatnonzero(self.has)
        some = numbers[:: max(1, len(numbers) // _MOST_TIMES)].tolist()
        times = []
        for index in some:
            try:
                times.append(os.stat(self.run.record(self.stage, index)).st_mtime)
            except OSError:  # of a second generation, or taken away meanwhile
                continue
        span = max(times) - min(times) if len(times) >= 2 else 0.0
        return (len(numbers) - 1) / span if span > 0 else 0.0

    def rows(self, plan: Plan) -> int:
        """Rows that the committed tasks read or made."""
        tasks = plan.tasks[self.stage]
        if self.stage in ("sample", "score") and plan.rows < 2**62 // max(1, plan.part_size):
            edges = _edges(tasks)
            size = plan.part_size
            rows = np.minimum(edges[:, 1] * size, plan.rows) - np.minimum(edges[:, 0] * size, plan.rows)
            return int(rows[self.has].sum())
        return sum(task_rows(plan, tasks[index]) for index in self)


def task_rows(plan: Plan, task: Task) -> int:
    """Rows that a task reads or makes."""
    if task.pieces:
        return sum(piece.rows for piece in task.pieces)
    size = plan.part_size
    first, last = task.parts
    if plan.tables is not None and task.stage in ("gather", "profile", "count"):  # parts are buckets
        return plan.input_rows * (last - first) // plan.tables.buckets
    return max(0, min(last * size, plan.rows) - min(first * size, plan.rows))


def recorded(run: RunDir, plan: Plan) -> dict[str, Committed]:
    """Committed tasks by stage, from the names of the records.

    Of deleted outputs only missing parts are noticed: those can be seen without opening a record. Only where a part has
    just a temporary name its record is read: whether a kill left it, or it is being written. `resume` opens every file.
    """
    committed = {
        stage: Committed(run, stage, _with_number(_records(run.root / "tasks" / stage), len(tasks)))
        for stage, tasks in plan.tasks.items()
    }
    sampled, edges = committed["sample"].has, _edges(plan.tasks["sample"])
    for model in plan.job.models:
        of_model = _of_model(plan, model)
        if sampled[of_model].any():
            folder = run.samples(model)
            names = _names(folder if plan.tables is None else folder / plan.tables.tables[0].name)
            present = _with_number(iter([_parts(names)]), plan.n_parts)
            for index, number, name in _unnamed(names, present, edges, of_model):
                present[number] = sampled[index] and _is_of_record(run, index, name)
            before = np.concatenate([[0], np.cumsum(present)])
            first, last = edges[of_model].T
            sampled[of_model] &= before[last] - before[first] == last - first
    return committed


def _edges(tasks: object) -> npt.NDArray[np.int64]:
    """int64[tasks, 2]: first and last + 1 output part of each task of a stage."""
    assert isinstance(tasks, StageTasks)
    pieces = [np.zeros((0, 2), dtype=np.int64)]
    for block in tasks.blocks:
        edges = block.edges() if isinstance(block, PartTasks) else np.array(block.parts, dtype=np.int64)
        pieces.append(np.column_stack([edges[:-1], edges[1:]]))
    return np.concatenate(pieces)


def _of_model(plan: Plan, model: str) -> slice | npt.NDArray[np.int64]:
    """Places of a model's sampling tasks in their stage."""
    tasks = plan.tasks["sample"]
    assert isinstance(tasks, StageTasks)
    numbers = next((numbers for group, numbers in tasks.groups() if group == ("sample", model)), range(0))
    if isinstance(numbers, range):
        return slice(numbers.start, numbers.stop)
    return np.array(numbers, dtype=np.int64)


def _with_number(lists: Iterator[Numbers], count: int) -> npt.NDArray[np.bool_]:
    """bool[count]: which numbers from 0 are in these lists."""
    has = np.zeros(count, dtype=bool)
    for numbers in lists:
        found = np.array(numbers, dtype=np.int64)
        has[found[(found >= 0) & (found < count)]] = True
    return has


def _records(folder: Path) -> Iterator[Numbers]:
    """Numbers of the tasks of a stage that have a record, folder after folder."""
    try:
        thousands = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    for subfolder in thousands:
        names = os.listdir(subfolder)
        plain = _numbers(names, "", ".json")
        if plain is not None:
            yield plain
        else:  # a second generation, or what was set aside
            matches = (_RECORD.fullmatch(name) for name in names)
            yield [int(match[1]) for match in matches if match]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _parts(names: list[str]) -> Numbers:
    """Numbers of the parts among the names in a folder; what was set aside is none."""
    numbers = _numbers(names, "part-", ".parquet")
    if numbers is not None:
        return numbers
    shown = [name for name in names if name.startswith("part-")]
    numbers = _numbers(shown, "part-", ".parquet")
    if numbers is not None:
        return numbers
    matches = (_PART.fullmatch(name) for name in shown)
    return [int(match[1]) for match in matches if match]


def _unnamed(
    names: list[str],
    present: npt.NDArray[np.bool_],
    edges: npt.NDArray[np.int64],
    of_model: slice | npt.NDArray[np.int64],
) -> Iterator[tuple[int, int, str]]:
    """Parts that have only a temporary name: number of the task, number of the part, and that name."""
    if np.count_nonzero(present) == len(names):
        return
    tasks = np.arange(len(edges))[of_model]
    for name in names:
        match = _TEMPORARY.fullmatch(name) if name.startswith(".part-") else None
        if match and (number := int(match[1])) < len(present) and not present[number]:
            yield int(tasks[np.searchsorted(edges[of_model, 0], number, side="right") - 1]), number, name


def _is_of_record(run: RunDir, index: int, name: str) -> bool:
    """Whether a kill left a part beside its record under this temporary name; else an attempt is writing it."""
    try:
        record = run.last_record("sample", index)
    except OSError:
        return False
    return record is not None and any(output["temporary"] == name for output in record["outputs"])


def _numbers(names: list[str], start: str, end: str) -> npt.NDArray[np.int64] | None:
    """The numbers in names that all are a start, a number and an end; None where any is not."""
    text = "/".join(names)
    digits = text.replace(end, "").replace(start, "") if start else text.replace(end, "")
    whole = len(text) - len(digits) == len(names) * len(start + end)
    if not whole or not digits.replace("/", "").isdigit() or not digits.isascii():
        return None
    numbers = np.fromstring(digits, dtype=np.int64, sep="/")
    return numbers if len(numbers) == len(names) else None
