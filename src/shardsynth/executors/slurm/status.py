"""A run on Slurm, looked at from any shell, days later, with the run directory alone: status, cancel, waiting.

Commit records come first: they say what is done. Slurm is asked once, for what is pending, running or has failed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.causes import Cause, cause_of, own_words
from shardsynth.executors.slurm.commands import Element, Known, SlurmError
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.packing import task_rows
from shardsynth.executors.slurm.ranges import format_ranges
from shardsynth.job import STAGES, Job
from shardsynth.planning.plan import READ_BY, Plan
from shardsynth.run.rundir import RunDir


@dataclass
class StageStatus:
    """Tasks of one stage by what becomes of them.

    Attributes:
        tasks: All of them.
        done: Committed.
        running: In an element that runs.
        pending: In an element that waits.
        failed: In an element that ended badly, and in nothing since.
        requeued: Elements that Slurm started again.
        rows: Rows of the tasks done.
        rows_per_second: Over the time since the stage's first commit, or 0.
        eta_seconds: Estimated seconds left, or None.
    """

    tasks: int = 0
    done: int = 0
    running: int = 0
    pending: int = 0
    failed: int = 0
    requeued: int = 0
    rows: int = 0
    rows_per_second: float = 0.0
    eta_seconds: float | None = None

    @property
    def left(self) -> int:
        """Tasks that nothing holds."""
        return self.tasks - self.done - self.running - self.pending - self.failed


@dataclass
class RunStatus:
    """All stages, and why tasks failed."""

    stages: dict[str, StageStatus] = field(default_factory=dict)
    causes: dict[tuple[str, int], Cause] = field(default_factory=dict)
    words: dict[tuple[str, int], str] = field(default_factory=dict)
    slurm_says: str = ""
    blocked: bool = False  # what is left waits for elements that will never start

    @property
    def done(self) -> bool:
        """Whether every task is committed."""
        return all(stage.done == stage.tasks for stage in self.stages.values())

    @property
    def live(self) -> bool:
        """Whether anything is queued or running."""
        return not self.blocked and any(stage.pending or stage.running for stage in self.stages.values())


def recorded(run: RunDir, plan: Plan) -> dict[str, dict[int, float]]:
    """Committed tasks by stage, and when, from the names of the records alone: 10^5 of them take well under a second.

    An output that a purge took is not noticed here; `resume` looks at every file.
    """
    found: dict[str, dict[int, float]] = {}
    for stage in STAGES:
        times: dict[int, float] = {}
        folder = run.root / "tasks" / stage
        try:
            groups = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
        except FileNotFoundError:
            groups = []
        for group in groups:
            for entry in os.scandir(group):
                index, _, rest = entry.name.partition(".")
                if index.isdigit() and rest.endswith("json"):
                    times[int(index)] = max(times.get(int(index), 0.0), entry.stat().st_mtime)
        found[stage] = {index: when for index, when in times.items() if index < len(plan.tasks[stage])}
    for model in plan.job.models:  # what can be seen without opening a record: parts that were deleted
        present = _parts(run.samples(model))
        for task in plan.model_tasks("sample", model):
            if task.index in found["sample"] and any(part not in present for part in range(*task.parts)):
                del found["sample"][task.index]
    return found


def _parts(folder: Path) -> set[int]:
    """Numbers of the parts in a folder; one that a kill left unrenamed beside its record counts."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return set()
    numbers = set()
    for name in names:
        digits = name.lstrip(".").removeprefix("part-") if hasattr(str, "removeprefix") else name.lstrip(".")[5:]
        digits = digits.partition(".")[0]
        if digits.isdigit():
            numbers.add(int(digits))
    return numbers


def read_status(run: RunDir, plan: Plan) -> RunStatus:
    """Where every stage stands: commit records, then at most one `squeue` and one `sacct`."""
    committed = recorded(run, plan)
    status = RunStatus()
    for stage in STAGES:
        status.stages[stage] = _from_records(plan, stage, committed[stage])
    arrays = [array for array in Ledger(run).read() if array.job is not None]
    missing = {
        (stage, task.index) for stage in STAGES for task in plan.tasks[stage] if task.index not in committed[stage]
    }
    latest: dict[tuple[str, int], tuple[Element, dict[str, Any]]] = {}
    elements: list[Element] = []  # also of committed tasks: one that is held keeps back what depends on it
    if arrays and missing:
        known, status.slurm_says = _ask_slurm(Ledger(run), arrays, missing)
        for array in arrays:
            for number, indices in enumerate(array.elements):
                element = known.get((array.job or 0, number))
                if element is None:
                    continue
                elements.append(element)
                status.stages[array.stage].requeued += element.restarts
                for index in indices:
                    if (array.stage, index) in missing:
                        latest[array.stage, index] = (element, array.asked)
    status.blocked = any(e.stuck for e in elements) and not any(map(_may_move, elements))
    for (stage, index), (element, asked) in latest.items():
        cause = cause_of(element, asked)
        if element.state in slurm.WAITING and not element.stuck:
            status.stages[stage].pending += 1
        elif element.state in slurm.RUNNING:
            status.stages[stage].running += 1
        elif cause is not None:
            status.stages[stage].failed += 1
            status.causes[stage, index] = cause
    said = own_words(run.private / "slurm" / "failures")
    status.words = {
        **{key: words for key, cause in status.causes.items() if (words := _element_words(run, latest[key][0], cause))},
        **{key: words for key, words in said.items() if key in missing},
    }
    return status


def _may_move(element: Element) -> bool:
    """Whether it runs, or waits for something other than an element of the same run."""
    waits = element.state in slurm.WAITING and element.reason != "Dependency" and not element.stuck
    return waits or element.state in slurm.RUNNING


def _element_words(run: RunDir, element: Element, cause: Cause) -> str:
    """The last error in the log of an element that came to no task: a wrong image, a folder that is not there."""
    if cause.kind not in ("image", "input"):
        return ""
    try:
        log = (run.private / "slurm" / "logs" / f"{element.job}_{element.number}.log").read_text(errors="replace")
    except OSError:
        return ""
    return next((line[12:] for line in reversed(log.splitlines()) if line.startswith("shardsynth: ")), "")


def _from_records(plan: Plan, stage: str, times: dict[int, float]) -> StageStatus:
    tasks = plan.tasks[stage]
    status = StageStatus(tasks=len(tasks), done=len(times))
    status.rows = sum(task_rows(plan, tasks[index]) for index in times)
    if len(times) >= 2 and status.done < status.tasks:
        span = max(times.values()) - min(times.values())
        if span > 0:
            rate = (len(times) - 1) / span
            status.rows_per_second = status.rows / len(times) * rate
            status.eta_seconds = (status.tasks - status.done) / rate
    return status


def _ask_slurm(ledger: Ledger, arrays: list[Submitted], missing: set[tuple[str, int]]) -> tuple[Known, str]:
    """What is queued or running, and, where that leaves missing tasks unexplained, what has ended: one call each.

    The accounting learns of an element when its dependencies are met, and of its end late: the controller comes first.
    """
    try:
        known = {(element.job, element.number): element for _, element in slurm.at_controller(ledger.prefix())}
    except SlurmError as error:
        return {}, f"Slurm does not answer ({error}): only what is committed is known"
    if missing <= _held_by(arrays, {key for key, e in known.items() if cause_of(e, {}) is None}):
        return known, ""
    try:
        return slurm.with_peaks(known, slurm.in_accounting(a.job for a in arrays if a.job is not None)), ""
    except SlurmError:
        explained = missing <= _held_by(arrays, set(known))
        return known, "" if explained else "no accounting here: why some elements ended is not known"


def _held_by(arrays: list[Submitted], elements: set[tuple[int, int]]) -> set[tuple[str, int]]:
    """Tasks of these elements."""
    return {
        (array.stage, index)
        for array in arrays
        for number, indices in enumerate(array.elements)
        if (array.job or 0, number) in elements
        for index in indices
    }


def status_lines(run: RunDir, plan: Plan, status: RunStatus) -> list[str]:
    """The status as text."""
    heads = ("done", "running", "pending", "failed", "requeued")
    lines = [
        f"{'stage':<14} {'tasks':>8}"
        + "".join(f" {head:>8}" for head in heads)
        + f" {'rows':>15} {'rows/s':>11} {'ETA':>8}"
    ]
    for name, stage in status.stages.items():
        numbers = [f" {value or '':>8}" for value in (getattr(stage, head) for head in heads)]
        rows = f"{stage.rows:,}" if stage.rows else ""
        speed = f"{stage.rows_per_second:,.0f}" if stage.rows_per_second else ""
        eta = "" if stage.eta_seconds is None else _duration(stage.eta_seconds)
        lines.append(f"{name:<14} {stage.tasks:>8}{''.join(numbers)} {rows:>15} {speed:>11} {eta:>8}".rstrip())
    lines += failure_lines(run, plan, status)
    if status.slurm_says:
        lines.append(status.slurm_says)
    left = sum(stage.tasks - stage.done for stage in status.stages.values())
    if not left or _only_intermediates_left(plan, status):
        lines.append("all done")
    elif status.live:
        lines.append(f"{left} tasks are left; Slurm holds some of them")
    else:
        what = "what is queued cannot start" if status.blocked else "nothing is queued"
        lines.append(f"{left} tasks are left and {what}: shardsynth resume {run.root}")
    return lines


def _only_intermediates_left(plan: Plan, status: RunStatus) -> bool:
    """What a merge has read and deleted counts as done: its readers are."""
    return all(s.done == s.tasks for name, s in status.stages.items() if name not in READ_BY)


def failure_lines(run: RunDir, plan: Plan, status: RunStatus, most: int = 10) -> list[str]:
    """What happened to failed tasks and what to change: one line for all of a stage and model that say the same."""
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for stage, index in sorted({*status.causes, *status.words}, key=lambda key: (STAGES.index(key[0]), key[1])):
        cause = status.causes.get((stage, index))
        words = status.words.get((stage, index), "")
        told = (cause.advice if cause else "") if not words or (cause and cause.kind in ("oom", "time")) else words
        if told:
            grouped.setdefault((stage, plan.tasks[stage][index].model, told), []).append(index)
    lines = [
        f"{stage} {_few(indices)}{f' ({model})' if model else ''}: {told}"
        for (stage, model, told), indices in grouped.items()
    ]
    more = [f"and {len(lines) - most} more kinds of failure"] if len(lines) > most else []
    return lines[:most] + more


def _few(indices: list[int]) -> str:
    text = format_ranges(indices)
    return text if len(text) <= 40 else f"{text[:40].rpartition(',')[0]} and others, {len(indices):,} tasks"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d}"


def wait(run: RunDir, plan: Plan, *, seconds: float | None = None, pause: float = 10.0, show: Any = None) -> RunStatus:
    """Look until everything is committed or nothing is queued any more; RunError when the time is up."""
    end = None if seconds is None else time.monotonic() + seconds
    quiet = 0
    while True:
        status = read_status(run, plan)
        if show is not None:
            show(status)
        quiet = quiet + 1 if not status.live else 0
        if status.done or quiet > 1:  # between two elements the accounting may lag
            return status
        if end is not None and time.monotonic() > end:
            raise RunError(f"{run.root}: not done after {seconds:.0f} s; it goes on in Slurm")
        time.sleep(min(pause, 2.0) if quiet else pause)


@contextlib.contextmanager
def watch_screen(run: RunDir, plan: Plan, console: Any) -> Iterator[Any]:
    """A function that shows a status: drawn over the last one on a terminal, printed where it changed elsewhere."""
    from rich.live import Live
    from rich.text import Text

    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            yield lambda status: live.update(Text("\n".join(status_lines(run, plan, status))))
        return
    shown: list[str] = []

    def show(status: RunStatus) -> None:
        lines = status_lines(run, plan, status)
        if lines != shown:
            shown[:] = lines
            console.print("\n".join([*lines, ""]), highlight=False, markup=False)

    yield show


def cancel(run: RunDir) -> list[str]:
    """Cancel everything of the run that is queued or running; what is committed stays."""
    known = slurm.at_controller(Ledger(run).prefix())
    queued = [(name, e) for name, e in known if e.state in slurm.WAITING or e.state in slurm.RUNNING]
    jobs = sorted({element.job for _, element in queued})
    slurm.cancel(str(job) for job in jobs)
    return [f"cancelled {len(queued)} elements of {len(jobs)} jobs; `shardsynth resume {run.root}` goes on"]


def submitted_before(run: RunDir) -> bool:
    """Whether this run was ever handed to Slurm."""
    return (run.private / "slurm" / "jobs.jsonl").exists()


def element_log(run: RunDir, stage: str, index: int) -> Path | None:
    """Log of the latest element that holds a task."""
    for array in reversed(Ledger(run).read()):
        if array.stage == stage and array.job is not None:
            for number, indices in enumerate(array.elements):
                path = run.private / "slurm" / "logs" / f"{array.job}_{number}.log"
                if index in indices and path.exists():
                    return path
    return None


def refuse_on_login_node(job: Job, *, here: bool) -> None:
    """`run` with ``executor: auto`` is refused where a Slurm controller answers and this is no job; RunError."""
    if here or job.cluster.executor != "auto" or "SLURM_JOB_ID" in os.environ:
        return
    if slurm.answers():
        raise RunError(
            "this looks like a login node (a Slurm controller answers, and this is no job): `shardsynth submit` runs "
            "the job on the cluster; `--here` or `cluster: {executor: local}` runs it on this machine"
        )
