"""Plain array scripts to submit, read and change by hand: one per stage of a job, and one for any stage and run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from shardsynth.errors import JobError
from shardsynth.executors.slurm.container import PASS_ON, container_of
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.limits import Limits
from shardsynth.executors.slurm.packing import make_arrays
from shardsynth.executors.slurm.preemption import needs_listener
from shardsynth.executors.slurm.script import body, check_path, options, start_lines
from shardsynth.executors.slurm.site import Site, limits_at, load_site, resources
from shardsynth.executors.slurm.submit import plan_for_slurm
from shardsynth.job import STAGES, Job, Resources
from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import inside

#: Shell text of ``stage`` in the script for any stage.
_ANY_STAGE = '"$stage"'
#: How slurm/stage.sbatch finds Python: in the clone where sbatch was called, in an image, or by a variable.
_FIND_PYTHON = """\
python=("${SHARDSYNTH_PYTHON:-python3}")
[ ! -x .venv/bin/python ] || python=("${SHARDSYNTH_PYTHON:-$PWD/.venv/bin/python}")
if [ -n "${SHARDSYNTH_IMAGE:-}" ]; then
  python=(apptainer exec --cleanenv "--bind=$run${SHARDSYNTH_BIND:+,$SHARDSYNTH_BIND}" "$SHARDSYNTH_IMAGE" python3)
  [ -z "${CUDA_VISIBLE_DEVICES:-}" ] || python=("${python[@]:0:2}" --nv "${python[@]:2}")
fi
"""
#: slurm/submit.sh divides these stages among ten elements, and runs each of the others in one.
_DIVIDED = ("profile", "count", "sample", "score")
_ELEMENTS = 10


def plain_script(
    stage: str | None,
    elements: int,
    lines: list[str],
    start: list[str],
    setup: list[str],
    prefix: str = "shardsynth-",
    *,
    listen: bool,
) -> str:
    """The script of one stage, ``sbatch --array=0-99 STAGE.sbatch RUN``, or the one that takes the stage after the run.

    Args:
        stage: The stage; None for the script that takes it as its second argument.
        elements: Elements of the array; ``sbatch --array`` overrides them.
        lines: sbatch options.
        start: Lines that say how Python is started.
        setup: The site's own lines.
        listen: Whether a step listens for pre-emptions.
        prefix: Start of the job's name; `status` and `cancel` find the jobs of a run by it (``Ledger.prefix``).
    """
    name = stage or "stage"
    header = [f"--job-name={prefix}{name}", f"--array=0-{elements - 1}", *lines, "--requeue", "--open-mode=append"]
    header.append("--output=%x-%A_%a.log")
    usage = f"usage: sbatch --array=0-9 {name}.sbatch RUN" + ("" if stage else " STAGE")
    arguments = [f'run="${{1:?{usage}}}"', 'run="$(realpath -- "$run")"']
    if stage is None:
        arguments.append(f'stage="${{2:?{usage}}}"')
    share = f'"$run" --stage {stage or _ANY_STAGE} --share "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'
    return (
        "#!/bin/bash\n"
        + "".join(f"#SBATCH {option}\n" for option in header)
        + "\n"
        + body(start, setup, "\n".join(arguments), share, listen=listen)
    )


def shipped_scripts() -> dict[str, str]:
    """The files under slurm/: name -> text."""
    start = [*PASS_ON, *_FIND_PYTHON.splitlines()]
    where = ['run="${1:?usage: bash slurm/submit.sh RUN}"', 'scripts="$(cd "$(dirname "$0")" && pwd)"']
    elements = [
        "  case $stage in",
        f"    {' | '.join(_DIVIDED)}) elements=0-{_ELEMENTS - 1} ;;",
        "    *) elements=0-0 ;;",
        "  esac",
    ]
    command = '--job-name="shardsynth-$stage" --array="$elements" "$scripts/stage.sbatch" "$run" "$stage"'
    return {
        "stage.sbatch": plain_script(None, _ELEMENTS, options(Resources(), 1), start, [], listen=True),
        "submit.sh": submit_all(where, list(STAGES), "$PWD", command, elements),
    }


def write_plain_scripts(job: Job, folder: Path | None) -> tuple[str, list[str]]:
    """Plan a job, write its run directory, a script per stage and ``submit.sh``.

    Args:
        job: The job.
        folder: Where to write the scripts; by default ``private/sbatch`` of the run.

    Returns:
        The text of ``submit.sh``, which submits all of them, and lines that say how to go on.

    Raises:
        InputError: The job, the shards or a path are wrong.
    """
    job = _in_this_image(job)
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
        container = container_of(site, plan.image, plan, run.root, gpus=bool(asked.gpus or asked.gres))
        start = start_lines(site, container)
        lines = options(asked, threads, site.mail)
        text = plain_script(
            stage, elements, lines, start, site.setup, Ledger(run).prefix(), listen=needs_listener(asked)
        )
        write_atomic(folder / f"{stage}.sbatch", text)
    inert = "# shellcheck disable=SC2016 # quoted, so whatever the path holds is inert"
    where = [inert, f"run={shlex.quote(str(run.root))}", inert, f"scripts={shlex.quote(str(folder))}"]
    text = submit_all(where, list(counts), "$scripts", '"$scripts/$stage.sbatch" "$run"')
    write_atomic(folder / "submit.sh", text, 0o755)
    return text, [
        f"{len(counts)} scripts in {folder}",
        f"all of them, chained: bash {shlex.quote(str(folder / 'submit.sh'))}",
    ]


def _in_this_image(job: Job) -> Job:
    """The job with the image that this process runs in, where the job names none: the host has no shardsynth then."""
    image = os.environ.get("APPTAINER_CONTAINER")
    if job.cluster.container is not None or image is None or inside() is None:
        return job
    if not Path(image).exists():
        raise JobError(
            f"{image}: the image itself cannot be seen from within; bind its folder "
            f"(--mount type=bind,src={Path(image).parent},dst={Path(image).parent},ro)"
        )
    return job.model_copy(update={"cluster": job.cluster.model_copy(update={"container": image})})


def _elements(plan: Plan, site: Site) -> dict[str, int]:
    """Elements per stage: all models of a stage share one array, which is cut into shares of the stage's tasks."""
    limits = limits_at(site, Limits())
    arrays = make_arrays(plan, plan.all_tasks(), plan.job.cluster.pack, limits)
    return {
        stage: min(limits.array_size, sum(len(array.elements) for array in arrays if array.stage == stage))
        for stage in STAGES
    }


def submit_all(where: list[str], stages: list[str], logs: str, command: str, before: Sequence[str] = ()) -> str:
    """A script that submits all stages; each waits for the one before.

    Args:
        where: Lines that set ``run`` and ``scripts``.
        stages: The stages, in order.
        logs: Folder of the elements' logs, as shell text.
        command: Last arguments of sbatch for one ``$stage``, as shell text.
        before: Lines before the call of sbatch.
    """
    return (
        "#!/bin/bash\n"
        "# Each stage waits for the one before. Run again after a failure: committed tasks are not done again.\n"
        "set -eu\n"
        + "".join(f"{line}\n" for line in where)
        + "after=()\n"
        + f"for stage in {' '.join(stages)}; do\n"
        + "".join(f"{line}\n" for line in before)
        + f'  job=$(sbatch --parsable --chdir="{logs}" ${{after[@]+"${{after[@]}}"}} {command})\n'
        '  echo "job ${job%%;*}: $stage"\n'
        '  after=(--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes)\n'
        "done\n"
    )


if __name__ == "__main__":  # python -m shardsynth.executors.slurm.plain_scripts slurm: writes the scripts there
    for name, text in shipped_scripts().items():
        write_atomic(Path(sys.argv[1]) / name, text, 0o755 if name.endswith(".sh") else 0o644)
