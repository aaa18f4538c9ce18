"""Submits a run to Slurm: the same plan as `run`, as arrays chained by `afterok`. No process stays on the login node.

`resume` does the same: it submits what is neither committed nor queued nor running. What waits for an element that will
never start is cancelled and submitted again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import JobError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.causes import Cause, cause_of
from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.container import container_of
from shardsynth.executors.slurm.element import elements_file
from shardsynth.executors.slurm.fit_cpus import fit_cpus
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.packing import Array, make_arrays, shown_group, task_rows
from shardsynth.executors.slurm.pickled import Element, run_element
from shardsynth.executors.slurm.queue import Standing, left_to_submit, standing_of
from shardsynth.executors.slurm.ranges import format_ranges
from shardsynth.executors.slurm.script import array_script, check_path, minutes, options, start_lines
from shardsynth.executors.slurm.shell import keep_for_resume, site_from_here
from shardsynth.executors.slurm.site import Site, limits_at, resources
from shardsynth.job import STAGES, Job, Resources
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.cluster import keep, plan_kept
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group, missing_tasks
from shardsynth.run.trust import check_classes
from shardsynth.standalone.files import human_bytes, write_atomic
from shardsynth.standalone.image import differences, identify


@dataclass(frozen=True)
class Script:
    """What the batch script of an array is written from.

    Attributes:
        array: The array.
        name: Its job name.
        asked: Resources that it asks for.
        lines: Options of sbatch for them.
        start: Lines that set the shell array ``python``.
        listen: Whether the site pre-empts jobs.
    """

    array: Array
    name: str
    asked: Resources
    lines: list[str]
    start: list[str]
    listen: bool


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


def check_site(site: Site, plan: Plan) -> slurm.Limits:
    """Check that the partitions exist and that every stage's resources can be asked for.

    Returns:
        What the site allows.

    Raises:
        JobError: A resource cannot be asked for.
        SlurmError: A partition does not exist, or Slurm does not answer.
    """
    limits = limits_at(site, slurm.read_limits())
    partitions = set(slurm.call("sinfo", "--noheader", "--format=%R").split())
    for stage in STAGES:
        for model in {task.model for task in plan.tasks[stage]}:
            asked = resources(site, plan.job.cluster, stage, model)
            options(asked, 1, site.mail)
            for name in (asked.partition or "").split(","):
                if name and name not in partitions:
                    raise SlurmError(
                        f"partition {name!r} does not exist here; partitions: {', '.join(sorted(partitions))}"
                    )
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
        verify: Compare checksums of committed outputs.
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


def _submit_missing(run: RunDir, plan: Plan, site: Site, *, verify: bool, dry_run: bool, say: Any) -> list[Submitted]:
    root = run.root
    limits = check_site(site, plan)
    plan = _with_image(run, plan, say)
    if dry_run:
        tasks = missing_tasks(plan, run)
        arrays = _pack(plan, site, limits, tasks)
        for number, array in enumerate(arrays):
            script = _script(plan, site, limits, root, array, f"shardsynth-00000000-{number:04d}-{array.stage}", {})
            after = [
                f"afterok:{i + 1}"
                for i, a in enumerate(arrays[:number])
                if a.group in _waits_for(plan, array.group, arrays)
            ]
            say(f"# sbatch --parsable --output=LOGS {script.name}.sbatch   (job numbers here count from 1)")
            say(_text(script, after, site, root))
        return []
    check_classes(run.private, [constraint.class_name for constraint in plan.job.constraints])
    ledger = Ledger(run)
    with ledger.exclusively():
        keep_for_resume(ledger)
        missing = missing_tasks(plan, run, verify=verify)
        before = ledger.read()
        standing = standing_of(ledger, before, missing)
        todo = left_to_submit(plan, missing, standing)
        if standing.stuck:
            say(f"cancelled: {len(standing.stuck)} elements that waited for something that will never happen")
            slurm.cancel(standing.stuck)
        if not todo:
            _keep(run, plan, say, lambda: check_arrays(plan, site, limits, root, _pack(plan, site, limits, missing)))
            say(f"nothing to submit: {len(missing)} tasks are queued or running" if missing else "all done")
            return []
        causes = causes_of(before, todo) if before else {}
        arrays = _pack(plan, site, limits, todo)
        if before:
            check_arrays(plan, site, limits, root, arrays)
        _keep(run, plan, say, queued=len(missing) > len(todo))
        return _submit(plan, site, limits, ledger, arrays, standing, causes, before, say)


def _keep(run: RunDir, plan: Plan, say: Any, check: Callable[[], None] = lambda: None, *, queued: bool = True) -> None:
    """Keep the plan's section `cluster` in the run if the check allows it, and say what changed."""
    lines = keep(run, plan, check)
    for line in lines:
        say(line)
    if lines and queued:
        say("what is queued or running already keeps what it asked for; `shardsynth cancel`, then `resume`, asks anew")


def _pack(plan: Plan, site: Site, limits: slurm.Limits, tasks: list[Task]) -> list[Array]:
    def cpus(stage: str, model: str) -> int | None:
        return resources(site, plan.job.cluster, stage, model).cpus

    return make_arrays(plan, tasks, plan.job.cluster.pack, limits, cpus)


def check_arrays(plan: Plan, site: Site, limits: slurm.Limits, root: Path, arrays: list[Array]) -> None:
    """Ask Slurm whether it would take every array; SlurmError if it would refuse one."""
    checked: set[tuple[str, ...]] = set()
    for array in arrays:
        script = _script(plan, site, limits, root, array, "shardsynth-check", {})
        key = (str(len(array.elements)), *script.lines)
        if key not in checked:
            checked.add(key)
            slurm.check_script(_text(script, [], site, root))


def _submit(
    plan: Plan,
    site: Site,
    limits: slurm.Limits,
    ledger: Ledger,
    arrays: list[Array],
    standing: Standing,
    causes: dict[tuple[str, int], tuple[Cause, dict[str, Any]]],
    before: list[Submitted],
    say: Any,
) -> list[Submitted]:
    # Imported late: `status`, and plain scripts, do without submitit.
    from shardsynth.executors.slurm.executor import ShardsynthExecutor

    root = ledger.run.root
    prefix = ledger.prefix()
    executor = ShardsynthExecutor(ledger)
    jobs: dict[Group, set[str]] = {}
    for (stage, index), number in standing.live.items():
        # Not `afterok`: if an element of that array has failed already, what waits for it would never start. Tasks
        # check themselves that what they need is committed.
        jobs.setdefault(plan.tasks[stage][index].group, set()).add(f"afterany:{number}")
    submitted: list[Submitted] = []
    for array in arrays:
        name = f"{prefix}{len(before) + len(submitted):04d}-{array.stage}"
        script = _script(plan, site, limits, root, array, name, _raised(plan, array, causes))
        after = _dependencies(plan, array.group, jobs)
        lines = "".join(f"{array.stage} {format_ranges(element)}\n" for element in array.elements)
        write_atomic(elements_file(root, name), lines, 0o600)
        asked = script.asked.model_dump(exclude_none=True, include={"mem_gb", "time", "cpus"})
        ledger.append(name=name, stage=array.stage, model=array.model, asked=asked, after=after)
        executor.update_parameters(**_parameters(script, after, site))
        elements = [Element(str(root), array.stage, format_ranges(element)) for element in array.elements]
        job = int(executor.map_array(run_element, elements)[0].job_id.partition("_")[0])
        jobs.setdefault(array.group, set()).add(f"afterok:{job}")
        submitted.append(Submitted(name, array.stage, array.model, asked, job, [list(e) for e in array.elements]))
        tasks = sum(len(element) for element in array.elements)
        group = " ".join(filter(None, shown_group(array.stage, array.model)))
        say(f"job {job}: {group}: {tasks} tasks in {len(array.elements)} elements")
    return submitted


def _script(
    plan: Plan, site: Site, limits: slurm.Limits, root: Path, array: Array, name: str, raised: dict[str, Any]
) -> Script:
    asked = resources(site, plan.job.cluster, array.stage, array.model)
    asked = asked.model_copy(update={key: more for key, more in raised.items() if _is_more(key, more, asked)})
    threads = max(plan.tasks[array.stage][index].threads for element in array.elements for index in element)
    container = container_of(site, plan.image, plan, root, gpus=bool(asked.gpus or asked.gres))
    start = start_lines(site, container)
    return Script(array, name, asked, options(asked, threads, site.mail), start, limits.preempts)


def _parameters(script: Script, after: list[str], site: Site) -> dict[str, Any]:
    return {
        "name": script.name,
        "after": after,
        "lines": script.lines,
        "start": script.start,
        "setup": site.setup,
        "listen": script.listen,
    }


def _text(script: Script, after: list[str], site: Site, root: Path) -> str:
    return array_script(**_parameters(script, after, site), elements=len(script.array.elements), run=root)


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


def causes_of(before: list[Submitted], tasks: list[Task]) -> dict[tuple[str, int], tuple[Cause, dict[str, Any]]]:
    """Why the latest elements of tasks ended badly, as far as Slurm knows.

    Args:
        before: Arrays of the run that were submitted, oldest first.
        tasks: The tasks.

    Returns:
        Task -> the cause, and the resources that the element had asked for.
    """
    keys = {(task.stage, task.index) for task in tasks}
    latest: dict[tuple[str, int], tuple[Submitted, int]] = {}
    for submitted in before:
        for number, element in enumerate(submitted.elements):
            for index in element:
                if (submitted.stage, index) in keys and submitted.job is not None:
                    latest[submitted.stage, index] = (submitted, number)
    names = {submitted.name for submitted in before}
    known = {(e.job, e.number): e for name, e in slurm.at_controller("shardsynth-") if name in names}
    with contextlib.suppress(SlurmError):  # without accounting only the last minutes are known
        known = slurm.with_peaks(known, slurm.in_accounting(s.job for s, _ in latest.values() if s.job is not None))
    causes = {}
    for key, (submitted, number) in latest.items():
        ended = known.get((submitted.job or 0, number))
        cause = cause_of(ended, submitted.asked) if ended else None
        if cause:
            causes[key] = (cause, submitted.asked)
    return causes


def _raised(plan: Plan, array: Array, causes: dict[tuple[str, int], tuple[Cause, dict[str, Any]]]) -> dict[str, Any]:
    """Resources that `cluster.retry` raises because a task of the array ran out of them."""
    raised: dict[str, Any] = {}
    for element in array.elements:
        for index in element:
            cause, asked = causes.get((array.stage, index), (None, {}))
            changes = plan.job.cluster.retry.get(cause.kind, {}) if cause else {}  # type: ignore[call-overload]
            if "mem_gb" in changes and asked.get("mem_gb"):
                raised["mem_gb"] = max(raised.get("mem_gb", 0.0), asked["mem_gb"] * float(changes["mem_gb"][1:]))
            if "time" in changes and asked.get("time"):
                more = math.ceil(minutes(asked["time"]) * float(changes["time"][1:]))
                raised["time"] = str(max(int(raised.get("time", 0)), more))
    return raised


def _is_more(key: str, raised: Any, asked: Resources) -> bool:
    """Whether a raised resource is more than what is asked for now: the run's own may have been raised since."""
    before = getattr(asked, key)
    if before is None:
        return True
    return bool(minutes(raised) > minutes(before) if key == "time" else raised > before)


def estimate_lines(plan: Plan, arrays: list[Array], site: Site) -> list[str]:
    """A table of rows, tasks, elements, files, bytes, CPU-hours and GPU-hours by stage, as lines."""
    row_bytes = sum(shard.size for shard in plan.shards) / max(1, plan.input_rows)
    lines = [
        f"{'stage':<14} {'rows':>16} {'tasks':>9} {'elements':>9} {'files':>9} {'size':>10} {'CPU-h':>8} {'GPU-h':>8}"
    ]
    for stage in STAGES:
        chosen = [array for array in arrays if array.stage == stage]
        if not chosen:
            continue
        tasks = [plan.tasks[stage][i] for array in chosen for element in array.elements for i in element]
        rows = sum(task_rows(plan, task) for task in tasks)
        elements = sum(len(array.elements) for array in chosen)
        files = sum(last - first for first, last in (task.parts for task in tasks)) if stage == "sample" else 0
        gpu_hours = sum(a.seconds / 3600 * _gpus(resources(site, plan.job.cluster, stage, a.model)) for a in chosen)
        lines.append(
            f"{stage:<14} {f'{rows:,}' if rows else '':>16} {len(tasks):>9,} {elements:>9,} "
            f"{f'{files:,}' if files else '':>8} {human_bytes(rows * row_bytes) if files else '':>10} "
            f"{sum(a.seconds for a in chosen) / 3600:>8.2f} {f'{gpu_hours:.2f}' if gpu_hours else '':>7}"
        )
    return lines


def _gpus(asked: Resources) -> int:
    """GPUs of an element, such as 1 for ``a100:1``."""
    text = str(asked.gres or asked.gpus or "0").rpartition(":")[2]
    return int(text) if text.isdigit() else 0


def worth_asking(plan: Plan, arrays: list[Array], site: Site) -> bool:
    """Whether the user should confirm: more than 100 CPU-hours, 1,000 elements or 4 GPU-hours."""
    cpu_hours = sum(array.seconds for array in arrays) / 3600
    gpu_hours = sum(a.seconds / 3600 * _gpus(resources(site, plan.job.cluster, a.stage, a.model)) for a in arrays)
    return cpu_hours > 100 or gpu_hours > 4 or sum(len(array.elements) for array in arrays) > 1000


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
    plan = plan_kept(run, made)
    for note in made.notes:
        say(f"# metadata: {note}" if dry_run else f"metadata: {note}")
    with site_from_here(run, job, lambda line: say(f"# {line}" if dry_run else line)) as site:
        limits = check_site(site, plan)
        tasks = missing_tasks(plan, run)
        arrays = _pack(plan, site, limits, tasks)
        if not dry_run:
            for line in estimate_lines(plan, arrays, site):
                say(line)
            if worth_asking(plan, arrays, site) and not confirm():
                raise JobError("not submitted: a large run was not confirmed; `--yes` submits without asking")
            check_arrays(plan, site, limits, run.root, arrays)
            run.write_plan(job.to_yaml(), made.to_json())
        _submit_missing(run, plan, site, verify=False, dry_run=dry_run, say=say)
    return run
