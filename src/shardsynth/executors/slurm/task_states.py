"""What Slurm knows of a run's tasks that are not committed: one `squeue`, and at most one `sacct`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.accounting import NoAccountingError, in_accounting, with_peaks
from shardsynth.executors.slurm.by_hand import started_by_hand, waiting_by_hand, waiting_line
from shardsynth.executors.slurm.causes import cause_of
from shardsynth.executors.slurm.clusters import where_the_run_is
from shardsynth.executors.slurm.commands import Element, Known, SlurmError
from shardsynth.executors.slurm.follow import waiting_tasks
from shardsynth.executors.slurm.ledger import Ledger, Submitted, known_as
from shardsynth.executors.slurm.sick_nodes import nodes_left_out, noted_nodes

#: Stage and number of a task.
TaskKey = tuple[str, int]


@dataclass
class TaskStates:
    """What Slurm knows of the missing tasks of a run.

    Attributes:
        latest: The latest element that has the task, and the resources that its array asked for.
        unsubmitted: Tasks of arrays that are submitted as soon as the site's limits allow.
        dropped: Tasks of arrays that are not submitted, since an element that they need failed.
        restarts: How often Slurm started elements again, by stage.
        blocked: Whether all that is queued waits for elements that will never start.
        by_hand: How many elements of plain scripts wait, whose tasks are not known before they start.
        message: What Slurm cannot tell, and why; empty if it told everything.
        left_out: Nodes that waiting elements leave out, since they could not write the run directory.
        answered: Whether the controller answered: if not, tasks may run all the same.
    """

    latest: dict[TaskKey, tuple[Element, dict[str, Any]]] = field(default_factory=dict)
    unsubmitted: set[TaskKey] = field(default_factory=set)
    dropped: set[TaskKey] = field(default_factory=set)
    restarts: Counter[str] = field(default_factory=Counter)
    blocked: bool = False
    by_hand: int = 0
    message: str = ""
    left_out: set[str] = field(default_factory=set)
    answered: bool = True


def read_task_states(ledger: Ledger, missing: set[TaskKey]) -> TaskStates:
    """Ask Slurm for the missing tasks of a run; it is not called if there are none."""
    states = TaskStates()
    every = ledger.read()
    arrays = [array for array in every if array.job is not None]
    states.unsubmitted = waiting_tasks(ledger, every) & missing
    for array in every:
        keys = {(array.stage, index) for element in array.elements for index in element} & missing
        states.dropped = states.dropped | keys if array.dropped else states.dropped - keys
    started = started_by_hand(ledger)
    if not missing or not (arrays or ledger.exists or ledger.by_hand):
        return states
    try:
        with where_the_run_is(ledger):
            queued = slurm.at_controller("shardsynth-")
            waiting = waiting_by_hand(ledger, started, queued)
            states.by_hand = len(waiting)
            arrays += started
            prefix, numbers = ledger.prefix(), {array.job for array in started}
            known = {(e.job, e.number): e for name, e in queued if name.startswith(prefix) or e.job in numbers}
            known, message = _ask_accounting(known, arrays, missing) if arrays else (known, "")
    except SlurmError as error:
        states.answered = False
        states.message = f"Slurm does not answer ({error}): only what is committed is known"
        return states
    states.message = "; ".join(filter(None, [waiting_line(ledger, waiting), message]))
    elements: list[Element] = []  # also those of committed tasks: one that Slurm holds back blocks what depends on it
    for array in arrays:
        for number, indices in enumerate(array.elements):
            element = array.element(known, number)
            if element is None:
                continue
            elements.append(element)
            states.left_out |= noted_nodes(element)
            states.restarts[array.stage] += element.restarts
            for index in indices:
                if (array.stage, index) in missing:
                    states.latest[array.stage, index] = (element, array.asked)
    states.left_out |= {*nodes_left_out(ledger)}
    for key in states.unsubmitted | states.dropped:  # what an array before did with them is past
        states.latest.pop(key, None)
    states.blocked = (
        not states.unsubmitted and any(element.stuck for element in elements) and not any(map(_may_move, elements))
    )
    return states


def _may_move(element: Element) -> bool:
    """Whether it runs, or waits for something other than an element of the same run."""
    waits = element.state in slurm.WAITING and element.reason != "Dependency" and not element.stuck
    return waits or element.state in slurm.RUNNING


def _ask_accounting(known: Known, arrays: list[Submitted], missing: set[TaskKey]) -> tuple[Known, str]:
    """What the controller knows, and what the accounting knows too if that does not explain all missing tasks.

    The accounting learns of an element only when its dependencies are met, and late of its end. So the controller
    comes first.
    """
    if missing <= _tasks_of(arrays, {key for key, element in known.items() if cause_of(element, {}) is None}):
        return known, ""
    try:
        return with_peaks(known, in_accounting(known_as(arrays))), ""
    except SlurmError as error:
        if missing <= _tasks_of(arrays, set(known)):
            return known, ""
        absent = isinstance(error, NoAccountingError)
        why = "no accounting here" if absent else f"the accounting does not answer now ({error})"
        return known, f"{why}: why some elements ended is not known"


def _tasks_of(arrays: list[Submitted], elements: set[tuple[int, int]]) -> set[TaskKey]:
    return {
        (array.stage, index)
        for array in arrays
        for number, indices in enumerate(array.elements)
        if (array.job or 0, number) in elements
        for index in indices
    }
