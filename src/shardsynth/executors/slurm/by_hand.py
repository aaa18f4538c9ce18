"""What is known of a run's elements of plain scripts: their names in the queue, and what they say when they start.

The scripts that `shardsynth sbatch` writes give their jobs a name with the run's id. An element writes down which tasks
it has. So `status` and `cancel` know all elements that have started, of any plain script, and those that wait of the
scripts that were written for the run.
"""

from __future__ import annotations

import contextlib

from shardsynth.errors import InputError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.element import by_hand_folder
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.packing import REPLICAS
from shardsynth.executors.slurm.ranges import parse_ranges
from shardsynth.job import STAGES
from shardsynth.run.documents import StartedByHand, read_document


def started_by_hand(ledger: Ledger) -> list[Submitted]:
    """The arrays of plain scripts of which an element has started, with the tasks of these elements."""
    arrays: dict[tuple[int, str], dict[int, list[int]]] = {}
    for path in by_hand_folder(ledger.run.root).glob("*_*.json"):
        with contextlib.suppress(OSError, ValueError, InputError):
            job, number = (int(word) for word in path.stem.split("_"))
            data = read_document(path, StartedByHand)
            arrays.setdefault((job, data["stage"]), {})[number] = parse_ranges(data["tasks"])
    return [
        Submitted(f"{job} by hand", stage, "", {}, job, [elements.get(n, []) for n in range(max(elements) + 1)])
        for (job, stage), elements in sorted(arrays.items())
    ]


def queued_by_hand(ledger: Ledger) -> list[Element]:
    """Elements of plain scripts of the run that wait or run.

    Raises:
        SlurmError: Slurm does not answer.
    """
    started, queued = started_by_hand(ledger), slurm.at_controller("shardsynth-")
    numbers = {array.job for array in started}
    running = [element for _, element in queued if element.job in numbers and element.state in slurm.RUNNING]
    return [*running, *(element for _, element in waiting_by_hand(ledger, started, queued))]


def waiting_by_hand(
    ledger: Ledger, started: list[Submitted], queued: list[tuple[str, Element]]
) -> list[tuple[str, Element]]:
    """Elements of plain scripts of the run that wait and may start, with the names of their jobs.

    Args:
        ledger: The run's ledger.
        started: Arrays of which an element has started.
        queued: What the controller knows of the user's jobs.
    """
    numbers = {array.job for array in started}
    submitted = {array.name for array in ledger.read()}
    prefix = ledger.prefix()
    return [
        (name, element)
        for name, element in queued
        if (element.job in numbers or (name.startswith(prefix) and name not in submitted))
        and element.state in slurm.WAITING
        and not element.stuck
    ]


def waiting_line(ledger: Ledger, waiting: list[tuple[str, Element]]) -> str:
    """A line on elements that wait, for `status`; empty if there are none."""
    prefix = ledger.prefix()
    stages = {name.removeprefix(prefix).removeprefix("shardsynth-").partition("-")[0] for name, _ in waiting}
    fit = STAGES.index("fit")
    listed = [stage for stage in (*STAGES[:fit], REPLICAS, *STAGES[fit:]) if stage in stages] or sorted(stages)
    if not waiting:
        return ""
    return f"{len(waiting):,} elements of plain scripts wait: " + " to ".join(dict.fromkeys([listed[0], listed[-1]]))
