"""Runs a plan's tasks with submitit's local and debug executors, on this machine.

An element is a range of one group's tasks, so that libraries are imported once per element and not once per task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shardsynth.executors.local.pool import Outcome
from shardsynth.executors.slurm.pickled import Element
from shardsynth.executors.slurm.ranges import format_ranges, parse_ranges
from shardsynth.planning.plan import Plan, Task, by_group, split_range
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group, needs_any
from shardsynth.standalone.cpus import available_cpus, limit_threads


def run_answers(element: Element, threads: int) -> list[dict[str, Any]]:
    """Run the tasks of an element one after the other, each with so many threads; an answer of ``run_logged`` each."""
    limit_threads(threads)  # before numpy and torch are imported
    from shardsynth.stages.task import TaskRunner, run_logged

    runner = TaskRunner(Path(element.run))
    return [run_logged(runner, element.stage, index) for index in parse_ranges(element.tasks)]


def execute_with_submitit(
    run: RunDir,
    plan: Plan,
    tasks: Sequence[Task],
    executor: str,
    on_start: Callable[[Task], None],
    on_end: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run tasks group after group with submitit's local or debug executor.

    Args:
        run: The run directory.
        plan: The plan.
        tasks: Tasks to do, stages in order.
        executor: ``submitit`` (local processes) or ``debug`` (this process).
        on_start: Called with each task that starts.
        on_end: Called with each outcome.

    Returns:
        One outcome per task that was started.
    """
    import submitit

    folder = run.private / "submitit"
    folder.mkdir(parents=True, exist_ok=True)
    slots = plan.job.cluster.workers or available_cpus()
    outcomes: list[Outcome] = []
    failed: set[Group] = set()
    for group, members in by_group(tasks).items():
        if needs_any(plan, group, failed):
            continue
        pool = submitit.AutoExecutor(folder, cluster="local" if executor == "submitit" else "debug")
        pool.update_parameters(name=f"shardsynth-{group[0]}", timeout_min=60 * 24 * 7)
        ranges = split_range(len(members), max(1, slots // members[0].threads))
        elements = [
            Element(str(run.root), group[0], format_ranges(task.index for task in members[first:last]))
            for first, last in ranges
        ]
        for task in members:
            on_start(task)
        jobs = [pool.submit(run_answers, element, members[0].threads) for element in elements]
        for element, job in zip(elements, jobs):
            for outcome in _collect(element, job, members):
                outcomes.append(outcome)
                on_end(outcome)
                if not outcome.ok:
                    failed.add(group)
    return outcomes


def _collect(element: Element, job: Any, members: Sequence[Task]) -> list[Outcome]:
    """Outcomes of an element's tasks, also if its process died."""
    tasks = {task.index: task for task in members}
    indices = parse_ranges(element.tasks)
    started = time.monotonic()
    try:
        answers = job.result()
    except Exception as error:  # submitit raises errors of many classes if the process died
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        seconds = time.monotonic() - started
        return [Outcome(tasks[i], False, seconds=seconds, error=f"its process ended: {reason}") for i in indices]
    return [Outcome(tasks[index], **answer) for index, answer in zip(indices, answers)]
