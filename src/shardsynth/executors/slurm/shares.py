"""Which tasks an element of a plain array does, whatever numbers the array has.

An array of N elements divides the tasks of a stage into N shares. With ``--array=0-99`` or ``1-100`` an element's place
in the range is its share. With ``--array=3,7`` or ``0-99:10`` Slurm tells an element how many there are, but not which
ones. So each takes a share that no other element of its array has: a small file in ``private/slurm/shares/``, created
once, holds the number of the element. An element that is queued again finds the share that it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shardsynth.errors import RunError
from shardsynth.executors.slurm.packing import REPLICAS
from shardsynth.planning.plan import Plan, replica_group, split_range
from shardsynth.standalone.files import create_once


@dataclass(frozen=True)
class ArrayElement:
    """An element of an array, as the scheduler tells it.

    Attributes:
        job: The array's job number or name.
        number: The element's number.
        count: How many elements the array has.
        first: The smallest number in the array.
        last: The largest one.
    """

    job: str
    number: int
    count: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> ArrayElement:
        """Read ``JOB:NUMBER:COUNT:FIRST:LAST``; a script that runs outside of a scheduler gives ``::::``.

        Raises:
            RunError: The text is neither.
        """
        job, *numbers = text.split(":")
        if not text.strip(":"):
            return cls("", 0, 1, 0, 0)
        if len(numbers) != 4 or not all(number.isdigit() for number in numbers) or "/" in job:
            raise RunError(f"--array {text!r}: wanted JOB:NUMBER:COUNT:FIRST:LAST, as the scheduler's variables say it")
        return cls(job, *map(int, numbers))


def share_number(root: Path, stage: str, element: ArrayElement) -> tuple[int, int]:
    """The share of an element, from 0, and how many shares there are.

    Args:
        root: The run directory.
        stage: What the array does, as a file name.
        element: The element.
    """
    if element.last - element.first + 1 == element.count:  # no number of the range is left out
        return element.number - element.first, element.count
    taken = root / "private" / "slurm" / "shares" / f"{element.job}-{stage}-{element.count}"
    taken.mkdir(parents=True, exist_ok=True)
    mine = str(element.number).encode("ascii")
    for step in range(element.count):
        share = (element.number + step) % element.count
        path = taken / str(share)
        if create_once(path, mine) or path.read_bytes() == mine:
            return share, element.count
    # Slurm has used this job number before, for other elements: nothing may be lost.
    return 0, 1


def read_share(text: str) -> tuple[int, int]:
    """Read ``I/N``: the I-th of N shares, from 0; RunError if it is none."""
    number, slash, total = text.partition("/")
    if not (slash and number.isdigit() and total.isdigit() and int(number) < int(total)):
        raise RunError(f"--share {text!r}: wanted I/N with I from 0 to N-1, such as 0/100")
    return int(number), int(total)


def tasks_of_share(plan: Plan, stage: str, model: str | None, share: tuple[int, int]) -> tuple[str, list[int]]:
    """The tasks of one of N contiguous shares of a stage.

    Args:
        plan: The plan.
        stage: One of the plan's stages, or ``replicas``: the candidates that a fit chooses from.
        model: Only the tasks of this model; None: of all models.
        share: Number of the share, from 0, and how many there are.

    Returns:
        The stage of the plan, and the numbers of its tasks.

    Raises:
        RunError: There is no such stage or model.
    """
    if model is not None and model not in plan.job.models:
        raise RunError(f"no model is called {model!r}; models: {', '.join(plan.job.models)}")
    name = "fit" if stage == REPLICAS else stage
    if name not in plan.tasks:
        raise RunError(f"no stage is called {stage!r}; stages: {', '.join([*plan.tasks, REPLICAS])}")
    tasks = [task for task in plan.tasks[name] if model is None or task.model == model]
    candidates = [task for task in tasks if task.group == (name, replica_group(task.model))]
    if stage == REPLICAS:
        tasks = candidates
    elif candidates and (model is not None or share[1] > 1):
        tasks = [task for task in tasks if task not in candidates]  # they must be done before any of these starts
    number, total = share
    ranges = split_range(len(tasks), total) if tasks else []
    return name, [task.index for task in tasks[slice(*ranges[number])]] if number < len(ranges) else []
