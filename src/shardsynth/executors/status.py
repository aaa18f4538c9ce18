"""Where a run stands: its tasks by stage, from the run directory and, for a submitted run, from Slurm.

Commit records come first: they say what is done. Any shell can ask, also days later.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.causes import NOT_SUBMITTED, Cause, cause_of, task_errors
from shardsynth.executors.slurm.commands import Element, SlurmError
from shardsynth.executors.slurm.follow import follower_is_queued, rest_line
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.task_states import TaskKey, read_task_states
from shardsynth.job import STAGES
from shardsynth.planning.plan import Plan
from shardsynth.run.committed import Committed, recorded
from shardsynth.run.integrity import Damage, find_damage
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import missing_tasks
from shardsynth.standalone.regular import read_regular

#: `status` opens the records of a run that was not submitted, if there are no more tasks.
MOST_OPENED = 20_000


@dataclass
class StageStatus:
    """Counts of one stage's tasks.

    Attributes:
        tasks: All tasks.
        done: Tasks that are committed.
        running: Tasks of elements that run.
        pending: Tasks of elements that wait, or are not submitted yet.
        failed: Tasks whose latest element ended badly.
        requeued: How often Slurm started elements again.
        rows: Rows of the tasks that are done.
        seconds: Seconds that these tasks took; 0 where no record was opened.
        rows_per_second: Over the time since the stage's first commit; 0 where it is not known.
        eta_seconds: Estimated seconds until the stage is done; None where that is not known.
    """

    tasks: int = 0
    done: int = 0
    running: int = 0
    pending: int = 0
    failed: int = 0
    requeued: int = 0
    rows: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    eta_seconds: float | None = None


@dataclass
class RunStatus:
    """All stages, and why tasks failed.

    Attributes:
        submitted: Whether the run was ever submitted to Slurm, by `submit` or by a plain script.
        stages: The stages, in order.
        causes: Why the latest element of a task ended badly.
        errors: What a failed task, or its element, wrote as its error.
        waits: Why the element of a task waits, where that is more than its turn.
        message: What Slurm cannot tell, and why; empty if it told everything.
        blocked: Whether all that is queued waits for elements that will never start.
        of_another: Whether the run is another user's: only commit records can be read.
        left_out: Nodes that elements leave out, since they could not write the run directory.
        answered: Whether Slurm's controller answered, if it was asked: if not, tasks may run all the same.
        by_hand: How many elements of plain scripts wait; their tasks are not known before they start.
        damage: Outputs that are not what their tasks wrote, where checksums were compared.
        unsubmitted: Tasks that are submitted as soon as the site's limits allow.
        rest: What of the run is not submitted yet and why, as a line; empty if all is.
        follows: Whether an element or the follower is queued, which will submit the rest.
    """

    submitted: bool
    stages: dict[str, StageStatus] = field(default_factory=dict)
    causes: dict[TaskKey, Cause] = field(default_factory=dict)
    errors: dict[TaskKey, str] = field(default_factory=dict)
    waits: dict[TaskKey, str] = field(default_factory=dict)
    message: str = ""
    blocked: bool = False
    of_another: bool = False
    left_out: set[str] = field(default_factory=set)
    answered: bool = True
    by_hand: int = 0
    damage: list[Damage] = field(default_factory=list)
    unsubmitted: int = 0
    rest: str = ""
    follows: bool = False

    @property
    def done(self) -> bool:
        """Whether every task is committed."""
        return all(stage.done == stage.tasks for stage in self.stages.values())

    @property
    def live(self) -> bool:
        """Whether Slurm runs anything, or will start something that is queued; so it may in another user's run."""
        queued = sum(stage.pending + stage.running for stage in self.stages.values()) - self.unsubmitted
        return self.of_another or (not self.blocked and (queued > 0 or self.by_hand > 0 or self.follows))


def read_status(run: RunDir, plan: Plan, *, exact: bool = False, verify: bool = False) -> RunStatus:
    """Where every stage stands: commit records, then at most one `squeue` and one `sacct`.

    Args:
        run: The run directory.
        plan: The plan.
        exact: Open every record and look at every output. Otherwise only the names of the records are read, which
            takes well under a second for 10^5 tasks, but does not notice all that a purge took.
        verify: With ``exact``: compare checksums too.

    Raises:
        RunError: Checksums of another user's run.
    """
    ledger = Ledger(run)
    status = RunStatus(ledger.exists or ledger.by_hand, of_another=run.of_another)
    if status.of_another:
        if verify:
            run.refuse_of_another()
        exact = False  # its private outputs cannot be looked at
        status.message = f"{run.private} is its owner's alone: what waits, runs or failed is not shown"
    stages = [stage for stage in STAGES if plan.tasks[stage]]  # a sample of a model has two
    missing: set[TaskKey] = set()
    if exact:
        status.damage = find_damage(plan, run) if verify else []
        lacking = [*missing_tasks(plan, run), *(damage.task for damage in status.damage)]
        missing = {(task.stage, task.index) for task in lacking}
        for stage in stages:
            status.stages[stage] = _from_records(run, plan, stage, missing)
    else:
        committed = recorded(run, plan)
        if not status.submitted and not status.of_another:
            status.message = "from the names of the commit records; `status --verify` opens each"
        for stage in stages:
            status.stages[stage] = _from_names(plan, stage, committed[stage])
        if status.submitted:
            missing = set().union(*(committed[stage].left() for stage in stages))
    if status.submitted:
        _add_slurm(status, ledger, missing)
    return status


def _from_records(run: RunDir, plan: Plan, stage: str, missing: set[TaskKey]) -> StageStatus:
    """A stage by the content of its records; tasks whose outputs were read and deleted count as done."""
    status = StageStatus(tasks=len(plan.tasks[stage]))
    for index in range(status.tasks):
        if (stage, index) in missing:
            continue
        status.done += 1
        record = run.last_record(stage, index)
        if record is not None:
            status.rows += record["rows"]
            status.seconds += record["seconds"]
    status.seconds = round(status.seconds, 3)
    return status


def _from_names(plan: Plan, stage: str, committed: Committed) -> StageStatus:
    """A stage by the names of its records, and when some of them were written."""
    status = StageStatus(tasks=len(plan.tasks[stage]), done=len(committed))
    status.rows = committed.rows(plan)
    if len(committed) >= 2 and status.done < status.tasks:
        rate = committed.rate()
        if rate > 0:
            status.rows_per_second = status.rows / status.done * rate
            status.eta_seconds = (status.tasks - status.done) / rate
    return status


def _add_slurm(status: RunStatus, ledger: Ledger, missing: set[TaskKey]) -> None:
    """Add what Slurm runs and holds, and why tasks failed."""
    states = read_task_states(ledger, missing)
    status.blocked, status.message, status.answered = states.blocked, states.message, states.answered
    status.by_hand = states.by_hand
    status.left_out = states.left_out
    status.unsubmitted = len(states.unsubmitted)
    for stage, _ in states.unsubmitted:
        status.stages[stage].pending += 1
    for stage, index in states.dropped:
        status.stages[stage].failed += 1
        status.causes[stage, index] = NOT_SUBMITTED
    for stage, restarts in states.restarts.items():
        status.stages[stage].requeued = restarts
    for (stage, index), (element, asked) in states.latest.items():
        cause = cause_of(element, asked)
        if element.state in slurm.WAITING and not element.stuck:
            status.stages[stage].pending += 1
            if element.why_it_waits:
                status.waits[stage, index] = str(element.why_it_waits)
        elif element.state in slurm.RUNNING:
            status.stages[stage].running += 1
        elif cause is not None:
            status.stages[stage].failed += 1
            status.causes[stage, index] = cause
            error = _element_error(ledger, element, cause)
            if error:
                status.errors[stage, index] = error
    if status.unsubmitted:
        status.rest = rest_line(ledger)
        with contextlib.suppress(SlurmError):
            status.follows = status.live or follower_is_queued(ledger)
    status.errors.update(
        {key: error for key, error in task_errors(ledger.folder / "failures").items() if key in missing}
    )


def _element_error(ledger: Ledger, element: Element, cause: Cause) -> str:
    """The last error in the log of an element that started no task: a wrong image, a line of the setup."""
    if cause.kind not in ("image", "input", "setup"):
        return ""
    logs = [read_regular(path).decode(errors="replace") for path in ledger.logs_of(element.job, element.number)]
    lines = [line for log in logs for line in log.splitlines()]
    return next((line[12:] for line in reversed(lines) if line.startswith("shardsynth: ")), "")
