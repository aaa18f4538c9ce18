"""Plain array scripts for people who live in sbatch: one per stage and model, to submit, read and change by hand."""

from __future__ import annotations

import shlex
from pathlib import Path

from shardsynth.job import STAGES, Job
from shardsynth.pipeline.files import write_atomic
from shardsynth.pipeline.packing import make_arrays
from shardsynth.pipeline.plan import Plan
from shardsynth.pipeline.rundir import RunDir
from shardsynth.pipeline.scripts import body, check_path, command, options
from shardsynth.pipeline.site import Site, limits_at, load_site, resources
from shardsynth.pipeline.slurm import Limits
from shardsynth.pipeline.submit import plan_for_slurm

_SHARE = '"$run" --stage {stage} --share "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'


def plain_script(stage: str, elements: int, lines: list[str], python: list[str], setup: list[str]) -> str:
    """The script of one stage: ``sbatch --array=0-99 stage.sbatch RUN``; the run's path is its argument.

    Args:
        stage: The stage.
        elements: Elements of the array, where sbatch is not told otherwise.
        lines: sbatch options.
        python: How Python is started.
        setup: The site's own lines.
    """
    header = [f"--job-name=shardsynth-{stage}", f"--array=0-{elements - 1}", *lines, "--requeue", "--open-mode=append"]
    header.append(f"--output=shardsynth-{stage}-%A_%a.log")
    usage = f'run="${{1:?usage: sbatch --array=0-9 {stage}.sbatch RUN}}"'
    return (
        "#!/bin/bash\n"
        + "".join(f"#SBATCH {option}\n" for option in header)
        + "\n"
        + body(python, setup, usage, _SHARE.format(stage=stage))
    )


def write_plain_scripts(job: Job, folder: Path | None) -> list[str]:
    """Plan a job, write its run directory, a script per stage and ``submit.sh``; lines that say how to go on.

    Raises:
        InputError: The job, the shards or a path are wrong.
    """
    plan = plan_for_slurm(job)
    run = RunDir(Path(job.output).absolute())
    site = load_site(job.cluster.profile)
    folder = (folder or run.private / "sbatch").absolute()
    check_path(folder, "the scripts' folder")
    run.write_plan(job.to_yaml(), plan.to_json())
    folder.mkdir(parents=True, exist_ok=True)
    counts = _elements(plan, site)
    for stage, elements in counts.items():
        asked = resources(site, job.cluster, stage, "")
        threads = max(task.threads for task in plan.tasks[stage])
        image = str(Path(job.cluster.container).absolute()) if job.cluster.container else None
        reads = sorted({str(Path(shard.path).parent) for shard in plan.shards})
        python = command(site, image, run.root, reads, bool(asked.gpus or asked.gres))
        text = plain_script(stage, elements, options(asked, threads, site.mail), python, site.setup)
        write_atomic(folder / f"{stage}.sbatch", text)
    write_atomic(folder / "submit.sh", submit_all(run.root, folder, list(counts)), 0o755)
    return [
        f"{len(counts)} scripts in {folder}",
        f"all of them, chained: bash {shlex.quote(str(folder / 'submit.sh'))}",
    ]


def _elements(plan: Plan, site: Site) -> dict[str, int]:
    """Elements per stage; a stage's models share one array here, cut into shares of its tasks."""
    limits = limits_at(site, Limits())
    arrays = make_arrays(plan, plan.all_tasks(), plan.job.cluster.pack, limits)
    return {
        stage: min(limits.array_size, sum(len(array.elements) for array in arrays if array.stage == stage))
        for stage in STAGES
    }


def submit_all(run: Path, folder: Path, stages: list[str]) -> str:
    """A script that submits the stages one after the other, each after the one before."""
    return (
        "#!/bin/bash\n"
        "# Each stage waits for the one before. Run again after a failure: committed tasks are not done again.\n"
        "set -eu\n"
        "# shellcheck disable=SC2016 # quoted, so whatever the paths hold is inert\n"
        f"run={shlex.quote(str(run))}\n"
        "# shellcheck disable=SC2016\n"
        f"scripts={shlex.quote(str(folder))}\n"
        "after=()\n"
        f"for stage in {' '.join(stages)}; do\n"
        '  job=$(sbatch --parsable --chdir="$scripts" "${after[@]}" "$scripts/$stage.sbatch" "$run")\n'
        '  echo "job ${job%%;*}: $stage"\n'
        '  after=(--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes)\n'
        "done\n"
    )
