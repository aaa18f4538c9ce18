"""Submits a run to Slurm: the same plan as `run`, as arrays chained by `afterok`. No process stays on the login node.

`resume` does the same: it submits what is neither committed nor queued nor running. What waits for an element that will
never start is cancelled and submitted again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shardsynth.errors import JobError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm import follow
from shardsynth.executors.slurm.array_scripts import check_arrays, parameters_of, script_of, text_of
from shardsynth.executors.slurm.causes import Cause
from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.element import elements_file
from shardsynth.executors.slurm.estimate import estimate_lines, worth_asking
from shardsynth.executors.slurm.fit_cpus import fit_cpus
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.limits import Limits, SubmitLimit, read_limits
from shardsynth.executors.slurm.packing import Array, Throttle, make_arrays, shown_group
from shardsynth.executors.slurm.pickled import Element, run_element
from shardsynth.executors.slurm.queue import Standing, left_to_submit, standing_of
from shardsynth.executors.slurm.ranges import format_ranges
from shardsynth.executors.slurm.retry import causes_of, raised
from shardsynth.executors.slurm.script import check_path, options
from shardsynth.executors.slurm.shell import keep_for_resume, site_from_here
from shardsynth.executors.slurm.sick_nodes import leave_out, nodes_left_out
from shardsynth.executors.slurm.site import Site, limits_at, resources
from shardsynth.job import STAGES, Job, Resources
from shardsynth.planning.plan import Plan, Task, by_group
from shardsynth.run.cluster import keep, plan_kept
from shardsynth.run.integrity import tasks_to_do
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group, missing_tasks
from shardsynth.run.trust import check_classes
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import differences, identify


def plan_for_slurm(job: Job) -> Plan:
    """Plan a job as `run` does, but for the CPUs of fits; writes nothing.

    Raises:
        InputError: The job, the shards or the run's path are wrong.
    """
    from shardsynth.planning.preflight import checked_plan

    check_path(Path(job.output).absolute())
    image = None if job.cluster.container is None else identify(Path(job.cluster.container))
    with site_from_here(RunDir(Path(job.output).absolute()), job) as site:
        return checked_plan(job, image, fit_cpus(job, site))


def check_site(site: Site, plan: Plan, say: Any = lambda line: None) -> Limits:
    """Check that every stage's resources can be asked for; says which partitions Slurm does not list.

    Returns:
        What the site allows.

    Raises:
        JobError: A resource cannot be asked for.
        SlurmError: Slurm does not answer.
    """
    limits = limits_at(site, read_limits())
    unlisted: set[str] = set()
    for stage in STAGES:
        for model in {task.model for task in plan.tasks[stage]}:
            asked = resources(site, plan.job.cluster, stage, model)
            options(asked, 1, site.mail)
            unlisted |= {name for name in (asked.partition or "").split(",") if name} - set(limits.partitions)
    for name in sorted(unlisted):
        listed = ", ".join(sorted(limits.partitions)) or "none"
        say(f"warning: partition {name!r} is not among those that Slurm lists ({listed}): sbatch decides")
    return limits


def _with_image(run: RunDir, plan: Plan, say: Any) -> Plan:
    """The plan with the image as it is now; if the run began in another image, says what may differ."""
    if plan.job.cluster.container is None:
        return plan
    path = Path(plan.job.cluster.container)
    before = run.read_plan().get("image") if run.plan_file.exists() else None
    now = identify(path, plan.image or before)
    for line in differences(before, now) if before else []:
        say(line)
    return dataclasses.replace(plan, image=now)


def submit_missing(
    run: RunDir,
    plan: Plan,
    *,
    verify: bool = False,
    dry_run: bool = False,
    say: Any = lambda line: None,
) -> list[Submitted]:
    """Submit what is neither committed nor queued nor running.

    Args:
        run: The run directory. Its plan must be written, except for a dry run.
        plan: The plan; where its section `cluster` is not that of the run, it is kept in the run once Slurm takes it.
        verify: Compare checksums of committed outputs. A task whose output differs, and all that needs it, run again.
        dry_run: Print the scripts and submit nothing.
        say: Called with each line to show.

    Returns:
        The arrays that were submitted.

    Raises:
        SlurmError: Slurm refuses. The ledger has the arrays that were submitted before.
        JobError: The plan does not fit the limits of the site.
        RunError: Another process is submitting this run.
    """
    root = run.root.absolute()
    run = RunDir(root)
    check_path(root)
    with site_from_here(run, plan.job, say) as site:
        return _submit_missing(run, plan, site, verify=verify, dry_run=dry_run, say=say)


def _submit_missing(
    run: RunDir,
    plan: Plan,
    site: Site,
    *,
    verify: bool,
    dry_run: bool,
    say: Any,
    limits: Limits | None = None,
) -> list[Submitted]:
    root = run.root
    limits = limits or check_site(site, plan, say)
    plan = _with_image(run, plan, say)
    if dry_run:
        tasks = missing_tasks(plan, run)
        arrays = _pack(plan, site, limits, tasks)
        for number, array in enumerate(arrays):
            script = script_of(plan, site, limits, root, array, f"shardsynth-00000000-{number:04d}-{array.stage}", {})
            after = [
                f"afterok:{i + 1}"
                for i, a in enumerate(arrays[:number])
                if a.group in _waits_for(plan, array.group, arrays)
            ]
            say(f"# sbatch --parsable {script.name}.sbatch   (job numbers here count from 1)")
            say(text_of(script, after, site, root))
        return []
    check_classes(run.private, [constraint.class_name for constraint in plan.job.constraints])
    ledger = Ledger(run)
    with ledger.exclusively():
        keep_for_resume(ledger)
        missing = tasks_to_do(plan, run, say, verify=verify)
        before = ledger.read()
        standing = standing_of(ledger, before, missing)
        todo = left_to_submit(plan, missing, standing)
        if standing.stuck:
            say(f"cancelled: {len(standing.stuck)} elements that waited for something that will never happen")
            slurm.cancel(standing.stuck)
        if {(task.stage, task.index) for task in todo} <= follow.waiting_tasks(ledger, before):
            packed = _pack(plan, site, limits, missing)
            _keep(run, plan, say, lambda: check_arrays(plan, site, limits, root, packed, say))
            say(f"nothing to submit: {len(missing)} tasks are queued or running" if missing else "all done")
        else:
            causes = causes_of(before, todo, say) if before else {}
            leave_out(ledger, (cause.node for cause, _ in causes.values() if cause.kind == "sick"))
            if nodes := nodes_left_out(ledger):
                say(f"left out, since they cannot write {root}: {', '.join(nodes)}")
            arrays = _pack(plan, site, limits, todo)
            if before:
                check_arrays(plan, site, limits, root, arrays, say)
            _keep(run, plan, say, queued=len(missing) > len(todo))
            follow.forget(ledger)
            _submit(plan, site, limits, ledger, arrays, standing, causes, len(before), say)
    if follow.waiting_names(ledger):
        follow.submit_what_fits(ledger)
        submitted = [array for array in ledger.read()[len(before) :] if array.job is not None]
        follow.check_begun(ledger, bool(submitted or standing.live))
        say(follow.rest_line(ledger))
    return [array for array in ledger.read()[len(before) :] if array.job is not None]


def _keep(run: RunDir, plan: Plan, say: Any, check: Callable[[], None] = lambda: None, *, queued: bool = True) -> None:
    """Keep the plan's section `cluster` in the run if the check allows it, and say what changed."""
    lines = keep(run, plan, check)
    for line in lines:
        say(line)
    if lines and queued:
        say("what is queued or running already keeps what it asked for; `shardsynth cancel`, then `resume`, asks anew")


def _pack(plan: Plan, site: Site, limits: Limits, tasks: Sequence[Task]) -> list[Array]:
    def cpus(stage: str, model: str) -> tuple[int, int]:
        return limits.cpus_of(resources(site, plan.job.cluster, stage, model))

    asked = [resources(site, plan.job.cluster, *group) for group in by_group(tasks)]
    left = [limits.submit.tightest(one).left for one in asked]
    return make_arrays(plan, tasks, plan.job.cluster.pack, limits, cpus, min(left, default=0))


def _wanted(plan: Plan, site: Site, arrays: list[Array]) -> list[tuple[Resources, int]]:
    return [(resources(site, plan.job.cluster, a.stage, a.model), len(a.elements)) for a in arrays]


def _submit(
    plan: Plan,
    site: Site,
    limits: Limits,
    ledger: Ledger,
    arrays: list[Array],
    standing: Standing,
    causes: dict[tuple[str, int], tuple[Cause, dict[str, Any]]],
    number: int,
    say: Any,
) -> None:
    """Submit arrays; those that the limits keep from being queued now are written to the rest, cut small.

    ``number`` is how many arrays the ledger has.
    """
    # Imported late: `status`, and plain scripts, do without submitit.
    from submitit.core.utils import DelayedSubmission

    from shardsynth.executors.slurm.executor import ShardsynthExecutor

    root = ledger.run.root
    prefix = ledger.prefix()
    executor = ShardsynthExecutor(ledger)
    throttle = Throttle(plan.job.cluster.throttle)
    jobs: dict[Group, set[str]] = {}
    for (stage, index), job in standing.live.items():
        # Not `afterok`: if an element of that array has failed already, what waits for it would never start. Tasks
        # check themselves that what they need is committed.
        jobs.setdefault(plan.tasks[stage][index].group, set()).add(f"afterany:{job}")

    def prepare(array: Array, after: list[str]) -> tuple[str, list[Element]]:
        """Write down an array before it is submitted; its name, and its elements for submitit."""
        nonlocal number
        name = f"{prefix}{number:04d}-{array.stage}"
        number += 1
        script = script_of(plan, site, limits, root, array, name, raised(plan, array, causes))
        lines = "".join(f"{array.stage} {format_ranges(element)}\n" for element in array.elements)
        write_atomic(elements_file(root, name), lines, 0o600)
        asked = script.asked.model_dump(exclude_none=True, include={"mem_gb", "time", "cpus"})
        ledger.append(name=name, stage=array.stage, model=array.model, asked=asked, after=after)
        executor.update_parameters(**parameters_of(script, after, site))
        return name, [Element(str(root), array.stage, format_ranges(element)) for element in array.elements]

    wanted = _wanted(plan, site, arrays)
    direct = [] if follow.is_needed(limits.submit, wanted) else list(arrays)
    for position, array in enumerate(direct):
        _, elements = prepare(array, _dependencies(plan, array.group, jobs) + throttle.after(array))
        try:
            job = int(executor.map_array(run_element, elements)[0].job_id.partition("_")[0])
        except SlurmError as error:
            if not follow.is_of_limits(str(error)):
                raise
            direct = direct[:position]
            break
        jobs.setdefault(array.group, set()).add(f"afterok:{job}")
        throttle.submitted(array, f"afterany:{job}")
        tasks = sum(len(element) for element in array.elements)
        group = " ".join(filter(None, shown_group(array.stage, array.model)))
        say(f"job {job}: {group}: {tasks} tasks in {len(array.elements)} elements")
    groups: dict[Group, int] = {}
    keys: dict[tuple[SubmitLimit, ...], int] = {}
    waiting = []
    for array, (asked, _) in list(zip(arrays, wanted))[len(direct) :]:
        needs = _dependencies(plan, array.group, jobs)
        group_number = groups.setdefault(array.group, len(groups))
        jobs.setdefault(array.group, set()).add(f"group:{group_number}")
        key = keys.setdefault(limits.submit.of(asked), len(keys))
        for piece in follow.cut(array, limits.submit.tightest(asked).most):
            name, elements = prepare(piece, [])
            executor.write([DelayedSubmission(run_element, element) for element in elements])
            after = needs + throttle.after(piece)
            waiting.append(follow.Waiting(name, group_number, after, key, len(elements)))
            throttle.submitted(piece, f"name:{name}")
    if waiting:
        last = resources(site, plan.job.cluster, STAGES[-1], "")
        follow.write_rest(ledger, waiting, follow.follower_options(last, site))


def _waits_for(plan: Plan, group: Group, arrays: list[Array]) -> set[Group]:
    """The nearest groups before this one that have an array."""
    present = {array.group for array in arrays}
    nearest: set[Group] = set()
    for need in plan.needs(group):
        nearest |= {need} if need in present else _waits_for(plan, need, arrays)
    return nearest


def _dependencies(plan: Plan, group: Group, jobs: dict[Group, set[str]]) -> list[str]:
    """Jobs of the nearest groups before this one that have jobs, as dependencies of sbatch."""
    dependencies: set[str] = set()
    for need in plan.needs(group):
        dependencies |= jobs[need] if need in jobs else set(_dependencies(plan, need, jobs))
    return sorted(dependencies)


def submit_job(job: Job, *, dry_run: bool = False, confirm: Any = lambda: True, say: Any = lambda line: None) -> RunDir:
    """Plan a job, write the run directory and submit what is missing of it.

    Args:
        job: The job.
        dry_run: Show the scripts; write and submit nothing.
        confirm: Called if the estimate is large: nothing is submitted if it returns false.
        say: Called with each line to show.

    Returns:
        The run directory.

    Raises:
        InputError: The job or the site file is wrong, or Slurm refuses. If no job number was shown, nothing was
            submitted.
    """
    run = RunDir(Path(job.output).absolute())
    made = plan_for_slurm(job)
    for note in made.notes:
        say(f"# metadata: {note}" if dry_run else f"metadata: {note}")

    def write() -> None:
        run.write_plan(job.to_yaml(), made.to_json())

    for note in made.notes:
        say(f"# metadata: {note}" if dry_run else f"metadata: {note}")
    submit_plan(run, plan_kept(run, made), write, dry_run=dry_run, confirm=confirm, say=say)
    return run


def submit_plan(run: RunDir, plan: Plan, write: Callable[[], None], *, dry_run: bool, confirm: Any, say: Any) -> None:
    """Submit what is missing of a plan, after its estimate was shown and Slurm was asked whether it takes it.

    Args:
        run: The run directory, which need not exist.
        plan: The plan.
        write: Writes the plan.
        dry_run: Show the scripts; write and submit nothing.
        confirm: Called if the estimate is large: nothing is submitted if it returns false.
        say: Called with each line to show.

    Raises:
        InputError: As `submit_job`.
    """
    with site_from_here(run, plan.job, lambda line: say(f"# {line}" if dry_run else line)) as site:
        limits = check_site(site, plan, say)
        tasks = missing_tasks(plan, run)
        arrays = _pack(plan, site, limits, tasks)
        if not dry_run:
            for line in estimate_lines(plan, arrays, site):
                say(line)
            follow.is_needed(limits.submit, _wanted(plan, site, arrays))
            if worth_asking(plan, arrays, site) and not confirm():
                raise JobError("not submitted: a large run was not confirmed; `--yes` submits without asking")
            check_arrays(plan, site, limits, run.root, arrays, say)
            write()
        _submit_missing(run, plan, site, verify=False, dry_run=dry_run, say=say, limits=limits)
