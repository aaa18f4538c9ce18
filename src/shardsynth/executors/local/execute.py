"""Run a plan to its end on this machine and show its progress; the tasks are the same for every executor."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.table import Table

from shardsynth.errors import InputError, JobError, TaskError
from shardsynth.executors.local.pool import Outcome, Pool
from shardsynth.executors.slurm.login_node import FOR_SLURM
from shardsynth.job import STAGES
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.integrity import tasks_to_do
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import missing_tasks
from shardsynth.run.trust import check_classes
from shardsynth.standalone.cpus import available_cpus


@dataclass
class Progress:
    """Counts per stage: a live table on a terminal, elsewhere a line when a stage is done.

    Attributes:
        plan: The plan.
        console: Where to show them.
        done: Tasks that are committed, by stage.
        rows: Rows of the tasks that this process has done, by stage.
        failed: Failed tasks, by stage.
        running: Tasks that run, and the rows that each has done.
        first: Time at which the first task of a stage started, by stage (``time.monotonic``).
        last: Time at which the latest task of a stage ended, by stage.
        live: The live table; None elsewhere than on a terminal.
    """

    plan: Plan
    console: Console
    done: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    running: dict[Task, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    live: Live | None = None

    def start(self, task: Task) -> None:
        """Note that a task has started."""
        self.running[task] = 0
        self.first.setdefault(task.stage, time.monotonic())
        self._refresh()

    def advance(self, task: Task, rows: int) -> None:
        """Note how many rows of a running task are done."""
        if task in self.running:
            self.running[task] = rows
            self._refresh()

    def end(self, outcome: Outcome) -> None:
        """Note how a task ended."""
        stage = outcome.task.stage
        self.running.pop(outcome.task, None)
        self.last[stage] = time.monotonic()
        if outcome.ok:
            self.done[stage] = self.done.get(stage, 0) + 1
            self.rows[stage] = self.rows.get(stage, 0) + outcome.rows
        else:
            self.failed[stage] = self.failed.get(stage, 0) + 1
        self._refresh()
        if self.live is None and (not outcome.ok or self.done[stage] == len(self.plan.tasks[stage])):
            self.console.print(self._line(stage), highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        if self.live is not None:
            self.live.update(self.table())

    def _figures(self, stage: str) -> tuple[str, str, str, str]:
        """State, rows, rows a second and seconds of a stage, as text."""
        total = len(self.plan.tasks[stage])
        active = [(task, rows) for task, rows in self.running.items() if task.stage == stage]
        rows = self.rows.get(stage, 0) + sum(rows for _, rows in active)
        end = time.monotonic() if active else self.last.get(stage, time.monotonic())
        seconds = max(end - self.first.get(stage, end), 1e-9)
        state = f"{self.done.get(stage, 0)}/{total}"
        if self.failed.get(stage):
            state += f", {self.failed[stage]} failed"
        names = ", ".join(task.model or "…" for task, _ in active[:4])
        speed = f"{rows / seconds:,.0f}" if rows and seconds > 0.05 else ""
        return state + (f"  {names}" if active else ""), f"{rows:,}" if rows else "", speed, f"{seconds:.1f} s"

    def _line(self, stage: str) -> str:
        state, rows, speed, seconds = self._figures(stage)
        detail = ", ".join(part for part in (rows and f"{rows} rows", speed and f"{speed} rows/s", seconds) if part)
        return f"{stage:<14} {state}  {detail}"

    def table(self) -> Table:
        """The stages that have started or are done, as a table."""
        table = Table(box=None, pad_edge=False)
        table.add_column("stage")
        table.add_column("tasks")
        for name in ("rows", "rows/s", "seconds"):
            table.add_column(name, justify="right")
        for stage in STAGES:
            if stage in self.first:
                table.add_row(stage, *self._figures(stage))
            elif stage in self.done:
                table.add_row(stage, f"{self.done[stage]}/{len(self.plan.tasks[stage])}", "", "", "before")
        return table


def execute(run: RunDir, plan: Plan, *, console: Console, debug: bool = False, verify: bool = False) -> None:
    """Run every task that is not committed.

    Args:
        run: The run directory, with its plan written.
        plan: The plan.
        console: Where to show the progress.
        debug: Print tracebacks of failed tasks.
        verify: Compare checksums of committed outputs. A task whose output differs, and all that needs it, run again.

    Raises:
        InputError: All failed tasks failed because the input is wrong.
        JobError: The job is for Slurm.
        RunError: The job names constraint classes, and this user did not sign it.
        TaskError: A task failed. All tasks that do not need it have run.
    """
    check_classes(run.private, [constraint.class_name for constraint in plan.job.constraints])
    tasks = tasks_to_do(plan, run, partial(console.print, highlight=False, markup=False), verify=verify)
    progress = Progress(plan, console)
    for stage in STAGES:
        left = len(tasks.of(stage))
        progress.done[stage] = len(plan.tasks[stage]) - left
    if not tasks:
        return
    for note in plan.notes:
        console.print(f"metadata: {note}", markup=False, highlight=False)
    executor = plan.job.cluster.executor
    live = console.is_terminal and sys.stderr.isatty()
    if live:
        progress.live = Live(progress.table(), console=console, refresh_per_second=5)
        progress.live.start()
    try:
        if executor in ("auto", "local"):
            slots = plan.job.cluster.workers or available_cpus()
            pool = Pool(run, plan, slots, debug, progress.start, progress.advance, progress.end, progress._refresh)
            outcomes = pool.execute(tasks)
        elif executor in ("submitit", "debug"):
            from shardsynth.executors.local.submitit_pool import execute_with_submitit

            outcomes = execute_with_submitit(run, plan, tasks, executor, progress.start, progress.end)
        else:
            raise JobError(FOR_SLURM)
    finally:
        if progress.live is not None:
            progress.live.stop()
    raise_failures(run, plan, outcomes)


def raise_failures(run: RunDir, plan: Plan, outcomes: list[Outcome]) -> None:
    """Raise one error for all failed tasks; it names the first five, with their logs.

    Raises:
        InputError: All failed tasks failed because the input is wrong.
        TaskError: Any other failure.
    """
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if not failed:
        return
    lines = [f"{describe(o.task)}: {o.error} (log: {run.log(o.task.stage, o.task.index)})" for o in failed[:5]]
    if len(failed) > len(lines):
        lines.append(f"and {len(failed) - len(lines)} more")
    left = len(missing_tasks(plan, run))
    lines.append(f"{left} tasks are left; `shardsynth resume {run.root}` runs only those")
    kind = InputError if all(outcome.exit_code == InputError.exit_code for outcome in failed) else TaskError
    raise kind("\n".join(lines))


def describe(task: Task) -> str:
    """A task as ``shardsynth task`` names it, with its model."""
    return f"task {task.stage} {task.index}" + (f" (model {task.model})" if task.model else "")
