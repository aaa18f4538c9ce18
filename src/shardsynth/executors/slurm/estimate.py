"""What a run will cost, before it is submitted: rows, elements, files, hours that are billed."""

from __future__ import annotations

from shardsynth.executors.slurm.packing import Array
from shardsynth.executors.slurm.site import Site, resources
from shardsynth.job import STAGES, Resources
from shardsynth.planning.plan import Plan
from shardsynth.run.committed import task_rows
from shardsynth.standalone.files import human_bytes


def estimate_lines(plan: Plan, arrays: list[Array], site: Site) -> list[str]:
    """A table of rows, tasks, elements, files, bytes, CPU-hours and GPU-hours by stage, as lines of 80 characters."""
    row_bytes = sum(shard.size for shard in plan.shards) / max(1, plan.input_rows)
    lines = [
        f"{'stage':<13} {'rows':>14} {'tasks':>7} {'elements':>8} {'files':>7} {'size':>8} {'CPU-h':>9} {'GPU-h':>7}"
    ]
    for stage in STAGES:
        chosen = [array for array in arrays if array.stage == stage]
        if not chosen:
            continue
        tasks = [plan.tasks[stage][i] for array in chosen for element in array.elements for i in element]
        rows = sum(task_rows(plan, task) for task in tasks)
        elements = sum(len(array.elements) for array in chosen)
        files = sum(last - first for first, last in (task.parts for task in tasks)) if stage == "sample" else 0
        gpu_hours = sum(_gpu_hours(plan, site, array) for array in chosen)
        lines.append(
            f"{stage:<13} {f'{rows:,}' if rows else '':>14} {len(tasks):>7,} {elements:>8,} "
            f"{f'{files:,}' if files else '':>7} {human_bytes(rows * row_bytes) if files and row_bytes else '':>8} "
            f"{_hours(sum(a.seconds for a in chosen) / 3600):>9} {_hours(gpu_hours) if gpu_hours else '':>7}".rstrip()
        )
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 1000 else f"{hours:,.0f}"


def _gpu_hours(plan: Plan, site: Site, array: Array) -> float:
    gpus = _gpus(resources(site, plan.job.cluster, array.stage, array.model))
    return array.seconds / array.cpus / 3600 * gpus


def _gpus(asked: Resources) -> int:
    """GPUs of an element, such as 1 for ``a100:1``."""
    text = str(asked.gres or asked.gpus or "0").rpartition(":")[2]
    return int(text) if text.isdigit() else 0


def worth_asking(plan: Plan, arrays: list[Array], site: Site) -> bool:
    """Whether the user should confirm: more than 100 CPU-hours, 1,000 elements or 4 GPU-hours."""
    cpu_hours = sum(array.seconds for array in arrays) / 3600
    gpu_hours = sum(_gpu_hours(plan, site, array) for array in arrays)
    return cpu_hours > 100 or gpu_hours > 4 or sum(len(array.elements) for array in arrays) > 1000
