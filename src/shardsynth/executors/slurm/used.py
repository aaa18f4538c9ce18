"""What elements asked for and used: by Slurm's accounting, or by the commit records of their tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.accounting import PATIENCE_SECONDS
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.times import minutes
from shardsynth.planning.plan import Plan, Task
from shardsynth.run.rundir import RunDir

_UNITS = {"K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4}


@dataclass(frozen=True)
class Used:
    """One element of an array, or tasks that ran in one process. None: not known.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: CPU time.
        peak_bytes: Most memory.
        cpus: CPUs that it had.
        bytes_asked: Memory that it asked for.
        seconds_asked: Its time limit.
        state: Slurm's state of it, one word; "" where Slurm was not asked.
        tasks: How many tasks of the run it had.
    """

    seconds: float
    cpu_seconds: float | None = None
    peak_bytes: float | None = None
    cpus: int | None = None
    bytes_asked: float | None = None
    seconds_asked: float | None = None
    state: str = ""
    tasks: int = 1


def by_accounting(arrays: Iterable[Submitted]) -> dict[tuple[int, int], Used]:
    """Elements that ran, by job and number in the array; one sacct call.

    Raises:
        SlurmSilentError: It did not answer in time.
        SlurmError: There is no accounting.
    """
    names = {array.job: array.name for array in arrays if array.job is not None}
    if not names:
        return {}
    numbers = ",".join(str(job) for job in sorted(names))
    text = slurm.call(
        "sacct", "--noheader", "--parsable2", f"--jobs={numbers}",
        "--format=JobName,JobID,State,ElapsedRaw,TotalCPU,AllocCPUS,ReqMem,TimelimitRaw,MaxRSS",
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    used: dict[tuple[int, int], Used] = {}
    peaks: dict[tuple[int, int], float] = {}
    ours = False
    for line in text.splitlines():
        job_name, name, state, elapsed, cpu, cpus, memory, limit, peak = line.split("|")
        name, dot, _ = name.partition(".")
        job, _, number = name.partition("_")
        if not job.isdigit() or not number.isdigit():
            continue  # what is still pending
        key = (int(job), int(number))
        if not dot:  # a controller that lost its state gives the same numbers to other jobs; steps follow their job
            ours = job_name == names.get(int(job))
        if not ours:
            continue
        if dot:  # a step, which alone knows the memory that was used
            peaks[key] = max(peaks.get(key, 0.0), _bytes(peak) or 0.0)
        elif elapsed.isdigit() and (int(elapsed) or state == "COMPLETED"):  # one that never began has no seconds either
            of_cpu = "c" in memory[-1:]  # old versions: `900Mc` per CPU, `4Gn` per node
            asked = _bytes(memory.rstrip("cn"))
            used[key] = Used(
                seconds=float(elapsed),
                cpu_seconds=_seconds(cpu),
                cpus=int(cpus) if cpus.isdigit() else None,
                bytes_asked=asked * int(cpus) if asked and of_cpu and cpus.isdigit() else asked,
                seconds_asked=60.0 * int(limit) if limit.isdigit() else None,
                state=state.split()[0],
            )
    return {key: _with(one, peak_bytes=peaks.get(key) or None) for key, one in used.items()}


def by_records(run: RunDir, tasks: Iterable[Task]) -> Used | None:
    """What the tasks of one element used, one after the other, as far as their commit records say; None: no record."""
    records = [r for task in tasks if (r := run.last_record(task.stage, task.index)) is not None]
    if not records:
        return None
    cpu = [r["cpu_seconds"] for r in records if "cpu_seconds" in r]  # records of older versions have neither
    peaks = [r["peak_bytes"] for r in records if "peak_bytes" in r]
    return Used(
        seconds=sum(r["seconds"] for r in records),
        cpu_seconds=sum(cpu) if len(cpu) == len(records) else None,
        peak_bytes=max(peaks) if len(peaks) == len(records) else None,
        tasks=len(records),
    )


def elements_used(
    run: RunDir, plan: Plan, accounting: dict[tuple[int, int], Used] | None
) -> list[tuple[str, str, Used]]:
    """Stage, model and figures of every element that ran, oldest first; of a run without arrays, of every task.

    Args:
        run: The run directory.
        plan: The plan.
        accounting: What Slurm's accounting knows; None: there is none.
    """
    arrays = [array for array in Ledger(run).read() if array.job is not None]
    if not arrays:
        each = ((task, by_records(run, [task])) for task in plan.all_tasks())
        return [(task.stage, task.model, used) for task, used in each if used is not None]
    latest: dict[tuple[str, int], tuple[int, int]] = {}  # task -> the last element that had it: its record is of that
    for array in arrays:
        for number, indices in enumerate(array.elements):
            latest.update({(array.stage, index): (array.job or 0, number) for index in indices})
    found = []
    for array in arrays:
        model = array.model.partition("/")[0]
        for number, indices in enumerate(array.elements):
            key = (array.job or 0, number)
            tasks = [plan.tasks[array.stage][i] for i in indices if latest[array.stage, i] == key]
            own = by_records(run, tasks)
            if accounting is not None:
                if key in accounting:
                    found.append((array.stage, model, _filled(accounting[key], own, len(indices))))
            elif own is not None:
                found.append((array.stage, model, _shared(own, array.asked, tasks)))
    return found


def _filled(slurms: Used, own: Used | None, tasks: int) -> Used:
    """Slurm samples memory every 30 s or not at all, and counts whole seconds: what the tasks saw counts too."""
    seconds = slurms.seconds or (own.seconds if own else 0.0)
    peaks = [peak for peak in (slurms.peak_bytes, own.peak_bytes if own else None) if peak]
    return _with(slurms, seconds=seconds, peak_bytes=max(peaks) if peaks else None, tasks=tasks)


def _shared(own: Used, asked: dict[str, Any], tasks: list[Task]) -> Used:
    """An element by its records and what it asked for: its tasks shared its CPUs."""
    threads = max(task.threads for task in tasks)
    cpus = max(asked.get("cpus") or 1, threads)
    at_once = max(1, min(cpus // threads, own.tasks))
    return _with(
        own,
        seconds=own.seconds / at_once,
        peak_bytes=own.peak_bytes * at_once if own.peak_bytes else None,
        cpus=cpus,
        bytes_asked=asked["mem_gb"] * 1024**3 if asked.get("mem_gb") else None,
        seconds_asked=60 * minutes(asked["time"]) if asked.get("time") else None,
    )


def _with(used: Used, **changes: Any) -> Used:
    return Used(**{**used.__dict__, **changes})


def _bytes(text: str) -> float | None:
    """Bytes of a size that Slurm printed, such as ``1.5G``; None for nothing."""
    if not text or text == "0":
        return None
    return float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text)


def _seconds(text: str) -> float | None:
    """Seconds of a time that sacct printed, such as ``1-02:03:04`` or ``03:04.250``; None for none."""
    if not text:
        return None
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds + 86400 * int(days or 0)
