"""One element of a Slurm array: it runs tasks of one stage, in order, and ends with an exit code for the batch script.

    python -m shardsynth.executors.slurm.element RUN --stage STAGE --array J:I:N:A:B   # what a plain script calls
    python -m shardsynth.executors.slurm.element RUN --stage STAGE --share I/N         # by hand
    python -m shardsynth.executors.slurm.element RUN --elements NAME --number I        # jobs of before submitit

What `shardsynth submit` submits is started by submitit and runs the same by `run_indices` (``pickled.py``).

Exit codes: 0: all tasks are committed; 1: a task failed; 2: the input is wrong; 28: the disk or quota is full; 75: it
was asked to stop, and what was finished is committed. If an element has more CPUs than a task uses, it divides its
tasks among several processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.errors import RunError, Saved, ShardsynthError
from shardsynth.executors.slurm.ranges import format_ranges, parse_ranges
from shardsynth.standalone import signals
from shardsynth.standalone.cpus import available_cpus, limit_threads
from shardsynth.standalone.files import write_json
from shardsynth.standalone.image import check_inside, check_reads
from shardsynth.standalone.regular import open_to_append, read_regular

if TYPE_CHECKING:
    from shardsynth.planning.plan import Plan
    from shardsynth.run.artifacts import Artifacts

#: Exit code where the disk or the quota is full.
NO_SPACE = 28
#: Exit codes, best first: of several tasks or processes, the worst code counts.
_ORDER = (0, Saved.exit_code, 1, NO_SPACE, 2)


def elements_file(root: Path, name: str) -> Path:
    """File with one line per element of an array: the stage and the numbers of its tasks."""
    return root / "private" / "slurm" / f"{name}.elements"


def submitit_folder(root: Path) -> Path:
    """Folder of submitit's files: what each element is to do, its result, its logs."""
    return root / "private" / "slurm" / "submitit"


def failure_file(root: Path, stage: str, index: int) -> Path:
    """File with the error of the latest failed attempt at a task."""
    return root / "private" / "slurm" / "failures" / f"{stage}-{index}.json"


def read_element(root: Path, name: str, number: int) -> tuple[str, list[int]]:
    """Stage and task numbers of one element; RunError if the file has no such line."""
    lines = elements_file(root, name).read_text(encoding="ascii").splitlines()
    if not 0 <= number < len(lines):
        raise RunError(f"{elements_file(root, name)}: elements 0 to {len(lines) - 1}, not {number}")
    stage, _, ranges = lines[number].partition(" ")
    return stage, parse_ranges(ranges)


def run_tasks(root: Path, stage: str, indices: list[int], threads: int) -> int:
    """Run tasks one after the other in this process.

    Args:
        root: The run directory.
        stage: The stage.
        indices: Numbers of the tasks.
        threads: Threads of each task.

    Returns:
        The exit code.
    """
    limit_threads(threads)  # before numpy and torch are imported
    from shardsynth.stages.task import TaskRunner, run_logged

    runner = TaskRunner(root)
    limit_threads(threads)  # also of what was imported now
    _say_what_starts_again(runner.artifacts, stage, indices)
    code = 0
    for position, index in enumerate(indices):
        if signals.asked():
            left = sum(runner.run.committed(stage, other) is None for other in indices[position:])
            print(f"asked to stop: {left} of {len(indices)} tasks left", flush=True)
            return _worse(code, Saved.exit_code) if left else code
        answer = run_logged(runner, stage, index)
        _write_failure(runner.run.root, stage, index, answer)
        _delete_if_empty(runner.run.log(stage, index))
        print(f"{stage} {index}: {'committed' if answer['ok'] else answer['error']}, {answer['seconds']} s", flush=True)
        if not answer["ok"]:
            code = _worse(code, _code(answer))
    return code


def _code(answer: dict[str, Any]) -> int:
    """Exit code of a failed task."""
    if any(phrase in answer["error"] for phrase in ("the disk is full", "the quota is used up")):
        return NO_SPACE
    return int(answer["exit_code"])


def _worse(a: int, b: int) -> int:
    return max(a, b, key=lambda code: _ORDER.index(code) if code in _ORDER else 2)


def _write_failure(root: Path, stage: str, index: int, answer: dict[str, Any]) -> None:
    """Write a task's error for `status`; delete it if the task is committed now."""
    path = failure_file(root, stage, index)
    with contextlib.suppress(OSError):
        if answer["ok"]:
            path.unlink()
        elif answer["exit_code"] != Saved.exit_code:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"stage": stage, "index": index, "error": answer["error"], "exit_code": _code(answer)})


def _delete_if_empty(log: Path) -> None:
    """Delete the log of a task that printed nothing: 10^5 empty files are a burden on a shared file system."""
    with contextlib.suppress(OSError):
        if log.stat().st_size == 0:
            log.unlink()


def _say_what_starts_again(artifacts: Artifacts, stage: str, indices: list[int]) -> None:
    """If Slurm restarted this element: say so, and which fits begin again since they have no checkpoint."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    if restarts in ("", "0"):
        return
    print(f"started again by Slurm (restart {restarts})", flush=True)
    for index in indices:
        task = artifacts.find(stage, index)
        if stage == "fit" and artifacts.plan.job.models[task.model].engine == "sdv":
            print(f"fit {index} (stock engine): has no checkpoint and starts again from the beginning", flush=True)


def check_progress(root: Path, stage: str, indices: list[int], limit: int) -> None:
    """Give up on an element that was started too often without progress.

    Progress is one more committed task, or a newer checkpoint.

    Args:
        root: The run directory.
        stage: Stage of the element.
        indices: Numbers of its tasks.
        limit: Starts without progress that are allowed.

    Raises:
        RunError: There were more such starts; it says what to change.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if array is None or os.environ.get("SLURM_RESTART_COUNT", "0") in ("", "0"):
        return
    from shardsynth.run.rundir import RunDir

    run = RunDir(root)
    done = sum(run.record(stage, index).exists() for index in indices)
    saved = max((p.stat().st_mtime_ns for p in (run.private / "checkpoints").rglob("*") if p.is_file()), default=0)
    path = run.private / "slurm" / "starts" / f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_to_append(path), "a") as file:
        file.write(f"{done} {saved}\n")
    starts = read_regular(path).decode(errors="replace").splitlines()
    fruitless = 0
    while fruitless < len(starts) and starts[-1 - fruitless] == starts[-1]:
        fruitless += 1
    if fruitless > limit and any(run.committed(stage, index) is None for index in indices):
        raise RunError(
            f"started {fruitless} times without finishing one more task; "
            "give it more time, a partition that is not pre-empted, or smaller tasks"
        )


def run_shares(root: Path, stage: str, indices: list[int], threads: int, slots: int) -> int:
    """Divide tasks among processes of this machine.

    Args:
        root: The run directory.
        stage: The stage.
        indices: Numbers of the tasks.
        threads: Threads of each process.
        slots: How many processes.

    Returns:
        The worst of their exit codes.
    """
    from shardsynth.planning.plan import split_range

    # A child inherits that these signals are ignored: one that is just starting does not die of them. It does not see
    # them either, so they are sent again and again below.
    signals.ignore()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "shardsynth.executors.slurm.element", str(root), "--stage", stage]
            + ["--tasks", format_ranges(indices[first:last]), "--threads", str(threads)]
        )
        for first, last in split_range(len(indices), slots)
    ]
    signals.note()
    while any(child.poll() is None for child in children):
        if signals.asked():
            for child in children:
                child.send_signal(signal.SIGUSR2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            next((child for child in children if child.returncode is None), children[0]).wait(timeout=1)
    code = 0
    for child in children:
        code = _worse(code, child.returncode if child.returncode >= 0 else 128 - child.returncode)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run an element with these arguments (by default those of the process); returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m shardsynth.executors.slurm.element", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--elements", help="name of the file that lists the elements")
    parser.add_argument("--number", type=int, help="line in it, from 0")
    parser.add_argument("--stage")
    parser.add_argument("--model", help="only tasks of this model")
    parser.add_argument("--share", help="I/N: the I-th of N shares of the stage, from 0")
    parser.add_argument("--array", help="J:I:N:A:B: this is element I of array J, which has N elements from A to B")
    parser.add_argument("--tasks", help="task numbers, such as 0-9,12")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    signals.install()
    try:
        return _run(options)
    except ShardsynthError as error:
        print(f"shardsynth: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    root = options.run.absolute()
    if options.tasks is not None:
        return run_tasks(root, options.stage, parse_ranges(options.tasks), options.threads or 1)
    plan = _checked_plan(root)
    if options.elements is not None:
        stage, indices = read_element(root, options.elements, options.number)
    else:
        stage, indices = _share(root, plan, options)
        _note_by_hand(root, stage, indices)
    return _run_indices(root, plan, stage, indices)


def by_hand_folder(root: Path) -> Path:
    """Folder of small files in which elements of plain scripts say which tasks they have."""
    return root / "private" / "slurm" / "by_hand"


def _note_by_hand(root: Path, stage: str, indices: list[int]) -> None:
    """Write down which tasks this element of a plain script has, for `status` and `cancel`."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    path = by_hand_folder(root) / f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"stage": stage, "tasks": format_ranges(indices)})


def run_indices(root: Path, stage: str, indices: list[int]) -> int:
    """Run tasks with all CPUs of this element, in several processes where it has more than a task uses.

    Args:
        root: The run directory, absolute.
        stage: The stage.
        indices: Numbers of the tasks.

    Returns:
        The worst exit code of the tasks.

    Raises:
        InputError: The run or its image is not what the element needs.
        RunError: It was started too often without progress.
    """
    return _run_indices(root, _checked_plan(root), stage, indices)


def _checked_plan(root: Path) -> Plan:
    """The run's plan; InputError if this node lacks what its tasks read, or the image is another."""
    # Imported late: these take a while, and signals must be handled before.
    from shardsynth.planning.plan import Plan, files_read
    from shardsynth.run.rundir import RunDir

    check_inside(root)
    plan = Plan.from_json(RunDir(root).read_plan())
    check_reads(files_read(plan))
    return plan


def _run_indices(root: Path, plan: Plan, stage: str, indices: list[int]) -> int:
    from shardsynth.run.rundir import RunDir

    if not indices:
        print(f"{stage}: nothing for this element", flush=True)
        return 0
    try:
        check_progress(root, stage, indices, plan.job.cluster.max_requeues)
    except RunError as error:
        for index in indices:
            if not RunDir(root).record(stage, index).exists():
                _write_failure(root, stage, index, {"ok": False, "error": str(error), "exit_code": error.exit_code})
        raise
    cpus = available_cpus()
    granted = os.environ.get("SLURM_CPUS_PER_TASK")
    print(f"{platform.node()}: {cpus} CPUs{f' of {granted} asked for' if granted else ''}", flush=True)
    threads = min(max(plan.tasks[stage][index].threads for index in indices), cpus)
    slots = min(cpus // threads, len(indices))
    if slots > 1:
        return run_shares(root, stage, indices, threads, slots)
    return run_tasks(root, stage, indices, threads)


def _share(root: Path, plan: Plan, options: argparse.Namespace) -> tuple[str, list[int]]:
    """Stage and task numbers of an element of a plain array."""
    from shardsynth.executors.slurm.shares import ArrayElement, read_share, share_number, tasks_of_share

    if options.array is None:
        share = read_share(options.share or "0/1")
    else:
        name = options.stage if options.model is None else f"{options.stage}-{options.model}"
        share = share_number(root, name, ArrayElement.parse(options.array))
    return tasks_of_share(plan, options.stage, options.model, share)


if __name__ == "__main__":
    # Do not wait for threads of libraries: everything is flushed and committed by now.
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
