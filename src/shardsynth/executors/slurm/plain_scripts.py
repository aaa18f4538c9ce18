"""Plain array scripts to submit, read and change by hand: one per stage and model of a job, and one for any run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardsynth.cluster import ONE_TABLE
from shardsynth.errors import JobError
from shardsynth.executors.slurm.container import PASS_ON, container_of
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.limits import Limits
from shardsynth.executors.slurm.packing import make_arrays, shown_group
from shardsynth.executors.slurm.preemption import needs_listener
from shardsynth.executors.slurm.qsub_scripts import qsub_script, submit_with_qsub
from shardsynth.executors.slurm.script import body, check_path, options, start_lines
from shardsynth.executors.slurm.site import Site, limits_at, load_site, resources
from shardsynth.executors.slurm.submit import plan_for_slurm
from shardsynth.job import Job, Resources
from shardsynth.planning.plan import Plan
from shardsynth.run.cluster import keep, plan_kept
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import inside

#: What tells an element of an array which share of the tasks is its own, as shell text (see `shares`).
_ARRAY_VARIABLES = ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "ARRAY_TASK_COUNT", "ARRAY_TASK_MIN", "ARRAY_TASK_MAX")
_SLURM_ELEMENT = '"' + ":".join("${SLURM_" + name + ":-}" for name in _ARRAY_VARIABLES) + '"'
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
    name: str,
    arguments: str | None,
    elements: int,
    lines: list[str],
    start: list[str],
    setup: list[str],
    prefix: str = "shardsynth-",
    throttle: int | None = None,
    *,
    listen: bool,
) -> str:
    """The script of one array, ``sbatch --array=0-99 NAME.sbatch RUN``, or the one that takes the stage after the run.

    Args:
        name: Name of the script and of its job.
        arguments: What it does, as arguments of an element; None for the script that takes stage and model as its
            second and third argument.
        elements: Elements of the array; ``sbatch --array`` overrides them.
        lines: sbatch options.
        start: Lines that say how Python is started.
        setup: The site's own lines.
        listen: Whether a step listens for pre-emptions.
        prefix: Start of the job's name, by which `status` and `cancel` know the run's jobs.
        throttle: Most elements at work at once; None: as many as Slurm starts.
    """
    header = [
        f"--job-name={prefix}{name}",
        f"--array=0-{elements - 1}{_throttled(throttle)}",
        *lines,
        "--requeue",
        "--open-mode=append",
    ]
    header.append(f"--output={'%x' if arguments is None else name}-%A_%a.log")
    usage = f"usage: sbatch --array=0-9 {name}.sbatch RUN" + (" STAGE [MODEL]" if arguments is None else "")
    positional = [f'run="${{1:?{usage}}}"', 'run="$(realpath -- "$run")"']
    if arguments is None:
        positional += [f'stage="${{2:?{usage}}}"', 'model=(${3:+"--model=$3"})']
        arguments = '--stage "$stage" "${model[@]}"'
    arguments = f'"$run" {arguments} --array {_SLURM_ELEMENT}'
    return (
        "#!/bin/bash\n"
        + "".join(f"#SBATCH {option}\n" for option in header)
        + "\n"
        + body(start, setup, "\n".join(positional), arguments, listen=listen)
    )


def _throttled(throttle: int | None) -> str:
    """The end of an array's range that lets no more elements work at once."""
    return "" if throttle is None else f"%{throttle}"


def shipped_scripts() -> dict[str, str]:
    """The files under slurm/: name -> text."""
    start = [*PASS_ON, *_FIND_PYTHON.splitlines()]
    where = ['run="${1:?usage: bash slurm/submit.sh RUN [MOST]}"', 'scripts="$(cd "$(dirname "$0")" && pwd)"', "shift"]
    arrays = [
        Submission(stage, _ELEMENTS if stage in _DIVIDED else 1, ONE_TABLE[number - 1 : number] if number else ())
        for number, stage in enumerate(ONE_TABLE)
    ]
    command = '--chdir="$PWD" --job-name="shardsynth-$name" "$scripts/stage.sbatch" "$run" "$name"'
    return {
        "stage.sbatch": plain_script("stage", None, _ELEMENTS, options(Resources(), 1), start, [], listen=True),
        "submit.sh": submit_all(where, arrays, command),
    }


def write_plain_scripts(job: Job, folder: Path | None, scheduler: str = "slurm") -> tuple[str, list[str]]:
    """Plan a job, write its run directory, a script per stage and model, and ``submit.sh``.

    Args:
        job: The job.
        folder: Where to write the scripts; by default ``private/sbatch`` of the run, or ``private/pbs``.
        scheduler: ``slurm``, ``pbs`` or ``sge``.

    Returns:
        The text of ``submit.sh``, which submits all of them, and lines that say how to go on.

    Raises:
        InputError: The job, the shards or a path are wrong.
    """
    job = _in_this_image(job)
    made = plan_for_slurm(job)
    run = RunDir(Path(job.output).absolute())
    plan = plan_kept(run, made)
    site = load_site(job.cluster.profile)
    ending = "sbatch" if scheduler == "slurm" else scheduler
    folder = (folder or run.private / ending).absolute()
    check_path(folder, "the scripts' folder")
    arrays = _submissions(plan, site)
    prefix, throttle = "", job.cluster.throttle
    if scheduler == "slurm":
        run.write_plan(job.to_yaml(), made.to_json())
        prefix = Ledger(run).prefix()
    inert = "# shellcheck disable=SC2016 # quoted, so whatever the path holds is inert"
    where = [inert, f"run={shlex.quote(str(run.root))}", inert, f"scripts={shlex.quote(str(folder))}"]
    texts = {}
    for group, array in arrays.items():
        threads = max(task.threads for task in plan.model_tasks(*group))
        asked = resources(site, job.cluster, *group)
        container = container_of(site, plan.image, plan, run.root, gpus=bool(asked.gpus or asked.gres))
        start = start_lines(site, container)
        stage, model = shown_group(*group)
        arguments = f"--stage {stage}" + (f" --model {model}" if model else "")
        if scheduler == "slurm":
            lines = options(asked, threads, site.mail)
            text = plain_script(
                array.name,
                arguments,
                array.elements,
                lines,
                start,
                site.setup,
                prefix,
                throttle,
                listen=needs_listener(asked),
            )
        else:
            text = qsub_script(
                scheduler,
                array.name,
                arguments,
                array.elements,
                asked,
                threads,
                start,
                site.setup,
                where[1],
                site.mail,
                throttle,
            )
        texts[f"{array.name}.{ending}"] = text
    if scheduler == "slurm":
        submit = submit_all(where, list(arrays.values()), '--chdir="$scripts" "$scripts/$name.sbatch" "$run"', throttle)
    else:
        submit = submit_with_qsub(scheduler, where[2:], [(array.name, array.after) for array in arrays.values()])
        run.write_plan(job.to_yaml(), made.to_json())
    changed = keep(run, plan)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomic(folder / name, text)
    write_atomic(folder / "submit.sh", submit, 0o755)
    return submit, [
        *changed,
        f"{len(arrays)} scripts in {folder}",
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


@dataclass(frozen=True)
class Submission:
    """One call of sbatch in ``submit.sh``.

    Attributes:
        name: Of the script and the job.
        elements: Most elements of its array.
        after: Names of those that must have ended well before it starts.
    """

    name: str
    elements: int
    after: Sequence[str]


def _submissions(plan: Plan, site: Site) -> dict[Group, Submission]:
    """One array per stage and model, in order; each is cut into shares of its tasks."""
    limits = limits_at(site, Limits())
    packed = make_arrays(plan, plan.all_tasks(), plan.job.cluster.pack, limits)
    groups = list(dict.fromkeys(array.group for array in packed))
    names = {group: "-".join(filter(None, shown_group(*group))) for group in groups}
    return {
        group: Submission(
            names[group],
            min(limits.array_size, sum(len(array.elements) for array in packed if array.group == group)),
            [names[need] for need in plan.needs(group) if need in names],
        )
        for group in groups
    }


def submit_all(where: list[str], arrays: Sequence[Submission], command: str, throttle: int | None = None) -> str:
    """A script that submits arrays, each after those that it needs, and all of them or none.

    It asks Slurm how long an array may be. What other limits do not allow is submitted again with half as many elements
    an array: the elements of an array share its tasks, however many they are.

    Args:
        where: Lines that set ``run`` and ``scripts``.
        arrays: The arrays, in order.
        command: Last arguments of sbatch for the array ``$name``, as shell text.
        throttle: Most elements of an array at work at once.
    """
    calls = " &&\n".join("    submit " + " ".join([array.name, str(array.elements), *array.after]) for array in arrays)
    return (
        "#!/bin/bash\n"
        "# Each array waits for those that it needs. Run again after a failure: committed tasks are not done again.\n"
        "set -eu\n"
        + "".join(f"{line}\n" for line in where)
        + _SUBMIT.replace("@COMMAND@", command)
        .replace("@THROTTLE@", _throttled(throttle))
        .replace("@MOST@", str(max(array.elements for array in arrays)))
        .replace("@CALLS@", calls.lstrip())
        .replace("@FIRST@", next(array.name for array in arrays if not array.after))
    )


_SUBMIT = """\
declare -A jobs
said="$(mktemp)"
cancel() { if [ "${#jobs[@]}" -gt 0 ]; then scancel "${jobs[@]%%;*}"; fi; }
trap 'rm -f "$said"; cancel' EXIT
submit() { # NAME, ELEMENTS, and the names of those that it waits for
  local name=$1 elements=$2 after="" need
  shift 2
  for need in "$@"; do after="$after:${jobs[$need]%%;*}"; done
  local start=(--hold) # nothing starts before all are accepted
  if [ -n "$after" ]; then start=("--dependency=afterok$after" --kill-on-invalid-dep=yes); fi
  if [ "$elements" -gt "$most" ]; then elements=$most; fi
  local job
  job=$(sbatch --parsable --array="0-$((elements - 1))@THROTTLE@" "${start[@]}" @COMMAND@ 2>"$said") || return 1
  jobs[$name]=$job
  echo "job ${job%%;*}: $name, elements: $elements"
}
submit_all() {
  @CALLS@
}

# Most elements of an array: what the site allows (MaxArraySize), or the number given to this script.
most=$(scontrol show config | awk '$1 == "MaxArraySize" { print $3 }')
if [ "${most:-0}" -lt 1 ] || [ "$most" -gt @MOST@ ]; then most=@MOST@; fi
most=${1:-$most}
until submit_all; do
  cat "$said" >&2
  cancel
  jobs=()
  if [ "$most" -le 1 ] || ! grep -Eqi "accounting/QOS policy|SubmitJob|job array specification" "$said"; then
    echo "nothing is queued; the scripts can also be submitted one after the other" >&2
    exit 1
  fi
  most=$(((most + 1) / 2))
  echo "cancelled; again, with at most $most elements an array" >&2
done
scontrol release "${jobs[@FIRST@]%%;*}"
jobs=()
"""


if __name__ == "__main__":  # python -m shardsynth.executors.slurm.plain_scripts slurm: writes the scripts there
    for name, text in shipped_scripts().items():
        write_atomic(Path(sys.argv[1]) / name, text, 0o755 if name.endswith(".sh") else 0o644)
