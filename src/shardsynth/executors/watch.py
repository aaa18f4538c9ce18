"""A run's status as text, shown once or until nothing is queued any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.live import Live
from rich.text import Text

from shardsynth.errors import RunError
from shardsynth.executors.slurm.commands import require_command
from shardsynth.executors.slurm.follow import is_of_limits, submit_what_fits
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.ranges import format_ranges
from shardsynth.executors.status import RunStatus, read_status
from shardsynth.job import STAGES
from shardsynth.planning.plan import READ_BY, Plan
from shardsynth.run.rundir import RunDir

_MOST_FAILURES = 10
_MOST_CHARACTERS = 40


def status_lines(run: RunDir, plan: Plan, status: RunStatus) -> list[str]:
    """A status as lines: a table of the stages, what failed and why, and what to do."""
    lines = _table_of_elements(status) if status.submitted else _table(status)
    lines += failure_lines(plan, status) + _as_lines(waits(plan, status), "reasons to wait")
    if status.left_out:
        nodes = ", ".join(sorted(status.left_out))
        lines.append(f"left out: {nodes}: cannot write {run.root}; tell the site, and see `shardsynth doctor`")
    lines += [str(damage) for damage in status.damage[:_MOST_FAILURES]]
    if status.damage:
        lines.append(f"{len(status.damage)} outputs are damaged: shardsynth resume {run.root} --verify")
        return lines
    lines += [line for line in (status.message, status.rest) if line]
    left = sum(stage.tasks - stage.done for stage in status.stages.values())
    if not left or _only_intermediates_left(status):
        lines.append("all done")
    elif status.of_another:
        lines.append(f"{left} tasks are left")
    elif not status.submitted:
        lines.append(f"{left} tasks are left: shardsynth resume {run.root}")
    elif not status.answered:
        lines.append(f"{left} tasks are left; whether Slurm runs any of them is not known")
    elif status.live:
        lines.append(f"{left} tasks are left; Slurm holds some of them")
    else:
        reason = "what is queued cannot start" if status.blocked else "nothing is queued"
        lines.append(f"{left} tasks are left and {reason}: shardsynth resume {run.root}")
    return lines


def _table(status: RunStatus) -> list[str]:
    lines = [f"{'stage':<13} {'done':>13} {'rows':>16} {'task seconds':>13}"]
    for name, stage in status.stages.items():
        rows = f"{stage.rows:,}" if stage.rows else ""
        seconds = "" if stage.done and not stage.seconds else f"{stage.seconds:,.1f}"  # not known without the records
        lines.append(f"{name:<13} {f'{stage.done}/{stage.tasks}':>13} {rows:>16} {seconds:>13}")
    return lines


def _table_of_elements(status: RunStatus) -> list[str]:
    """The table of a submitted run, which also says what Slurm runs and holds; at most 80 characters wide."""
    lines = [
        f"{'stage':<13} {'done':>13} {'running':>7} {'pending':>7} {'failed':>6} {'rows':>9} {'rows/s':>8} {'ETA':>7}"
    ]
    for name, stage in status.stages.items():
        eta = "" if stage.eta_seconds is None else _duration(stage.eta_seconds)
        lines.append(
            f"{name:<13} {f'{stage.done}/{stage.tasks}':>13} {stage.running or '':>7} {stage.pending or '':>7} "
            f"{stage.failed or '':>6} {_count(stage.rows):>9} {_count(stage.rows_per_second):>8} {eta:>7}".rstrip()
        )
    again = ", ".join(f"{name} {stage.requeued}" for name, stage in status.stages.items() if stage.requeued)
    return [*lines, *([f"requeued by Slurm: {again}"] if again else [])]


def _count(number: float) -> str:
    """A number of rows in at most 9 characters, such as ``999,999`` or ``10,000 M``; empty for none."""
    if not number:
        return ""
    return (
        f"{number:,.0f}"
        if number < 999_999.5
        else f"{number / 1e6:,.1f} M"
        if number < 1e9
        else f"{number / 1e6:,.0f} M"
    )


def _only_intermediates_left(status: RunStatus) -> bool:
    """Whether all that is missing are outputs that a merge has read and deleted: what reads them is done."""
    return all(stage.done == stage.tasks for name, stage in status.stages.items() if name not in READ_BY)


@dataclass(frozen=True)
class Failure:
    """Tasks of a stage and model that failed, or wait, and say the same.

    Attributes:
        stage: The stage.
        model: The model, or "".
        tasks: Numbers of the tasks.
        kind: Kind of the cause, as `causes.Cause` has it, or ``waits``; "" where only the task's own error is known.
        reason: What happened, and what to change.
    """

    stage: str
    model: str
    tasks: tuple[int, ...]
    kind: str
    reason: str


def failures(plan: Plan, status: RunStatus) -> list[Failure]:
    """What happened to failed tasks and what to change, stages in order."""
    grouped: dict[tuple[str, str, str, str], list[int]] = {}
    for stage, index in sorted({*status.causes, *status.errors}, key=lambda key: (STAGES.index(key[0]), key[1])):
        cause = status.causes.get((stage, index))
        error = status.errors.get((stage, index), "")
        # For memory and time, Slurm's cause is more useful than the task's own error.
        reason = (cause.advice if cause else "") if not error or (cause and cause.kind in ("oom", "time")) else error
        if cause and cause.kind in ("oom", "time"):
            more = "mem_gb=N" if cause.kind == "oom" else "time=H:00:00"
            reason += f"; `resume RUN --set cluster.stages.{stage}.{more}`"
        if reason:
            key = (stage, plan.tasks[stage][index].model, cause.kind if cause else "", reason)
            grouped.setdefault(key, []).append(index)
    return [Failure(stage, model, tuple(tasks), *rest) for (stage, model, *rest), tasks in grouped.items()]


def failure_lines(plan: Plan, status: RunStatus) -> list[str]:
    """`failures` as text, one line each.

    Args:
        plan: The plan.
        status: The run's status.

    Returns:
        At most ten lines, and one that says how many more there are.
    """
    return _as_lines(failures(plan, status), "kinds of failure")


def waits(plan: Plan, status: RunStatus) -> list[Failure]:
    """Why tasks wait, where that is more than their turn, stages in order."""
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for stage, index in sorted(status.waits, key=lambda key: (STAGES.index(key[0]), key[1])):
        grouped.setdefault((stage, plan.tasks[stage][index].model, status.waits[stage, index]), []).append(index)
    return [Failure(stage, model, tuple(tasks), "waits", reason) for (stage, model, reason), tasks in grouped.items()]


def _as_lines(found: list[Failure], what: str) -> list[str]:
    lines = [f"{f.stage} {_shortened(list(f.tasks))}{f' ({f.model})' if f.model else ''}: {f.reason}" for f in found]
    left_out = len(lines) - _MOST_FAILURES
    return lines[:_MOST_FAILURES] + ([f"and {left_out} more {what}"] if left_out > 0 else [])


def _shortened(indices: list[int]) -> str:
    text = format_ranges(indices)
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS].rpartition(',')[0]} and others, {len(indices):,} tasks"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d}" if whole < 360_000 else f"{whole // 86400} d"


def wait(run: RunDir, plan: Plan, *, seconds: float | None = None, pause: float = 10.0, show: Any = None) -> RunStatus:
    """Look at a submitted run until everything is committed or nothing is queued any more.

    While the controller does not answer, nothing is known of the queue, and the waiting goes on: a controller that is
    restarted is away for a minute, and the jobs run on.

    Args:
        run: The run directory.
        plan: The plan.
        seconds: How long to wait at most; None: for ever.
        pause: Seconds between two looks.
        show: Called with each status.

    Returns:
        The last status.

    Raises:
        RunError: The time is up.
        SlurmError: This machine has no Slurm to ask.
    """
    end = None if seconds is None else time.monotonic() + seconds
    quiet_looks = 0
    while True:
        status = read_status(run, plan)
        if not status.answered:
            require_command("squeue")
        if status.unsubmitted and not status.live:
            # No element is left that would submit the rest: then this process does.
            submit_what_fits(Ledger(run))
            status.follows = is_of_limits(status.rest)
        if show is not None:
            show(status)
        quiet_looks = quiet_looks + 1 if status.answered and not status.live else 0
        if status.done or quiet_looks > 1:  # between two elements the accounting may lag
            return status
        if end is not None and time.monotonic() > end:
            raise RunError(f"{run.root}: not done after {seconds:.0f} s; it goes on in Slurm")
        time.sleep(min(pause, 2.0) if quiet_looks else pause)


def say_when_away(say: Callable[[str], None]) -> Callable[[RunStatus], None]:
    """A ``show`` for ``wait`` that says one line when Slurm's controller goes away, and one when it is back."""
    away = False

    def show(status: RunStatus) -> None:
        nonlocal away
        if status.answered == away:
            away = not status.answered
            say(f"{status.message}; waiting, jobs may run on" if away else "Slurm answers again")

    return show


@contextlib.contextmanager
def watch_screen(run: RunDir, plan: Plan, console: Any) -> Iterator[Any]:
    """A function that shows a status: on a terminal it draws over the last one, elsewhere it prints what changed."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            yield lambda status: live.update(Text("\n".join(status_lines(run, plan, status))))
        return
    shown: list[str] = []

    def show(status: RunStatus) -> None:
        lines = status_lines(run, plan, status)
        if lines != shown:
            shown[:] = lines
            console.print("\n".join([*lines, ""]), highlight=False, markup=False, soft_wrap=True)

    yield show
