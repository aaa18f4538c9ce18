"""The batch script of one array, for submitit and by hand: text that a person can read, keep and submit.

The script runs on the host. It starts the tasks, reads their exit code, and asks Slurm to queue the element again on
75, so an image needs no `scontrol`. SIGTERM counts as well as USR2. What `--dry-run` prints is what runs.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from shardsynth.errors import JobError
from shardsynth.executors.slurm.container import Container
from shardsynth.executors.slurm.pickled import ELEMENT
from shardsynth.executors.slurm.python_environment import export_lines
from shardsynth.executors.slurm.setup_lines import setup_lines
from shardsynth.executors.slurm.sick_nodes import CHECK, NOT_WRITABLE, NOTE
from shardsynth.executors.slurm.site import Site
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Resources

#: So long before a time limit the script gets USR2 (less for limits under 15 minutes).
SIGNAL_SECONDS = 90
#: Ends a script on a node that cannot write the run, where no scheduler's commands can leave the node out.
CHECK_RUN = (
    'if [ ! -e "$run/plan.json" ] || [ ! -w "$run/private" ]; then '
    f'echo "cannot write $run on $(hostname)" >&2; exit {NOT_WRITABLE}; fi'
)
#: What Python runs in an element of a plain script; its arguments follow.
BY_HAND = "-m shardsynth.executors.slurm.element"
#: What Python runs in an element that was submitted by submitit; the folder of its files follows.
BY_SUBMITIT = "-u -m submitit.core._submit"
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
#: Options that the script itself sets.
_RESERVED = {
    "array",
    "dependency",
    "job-name",
    "output",
    "error",
    "kill-on-invalid-dep",
    "requeue",
    "no-requeue",
    "wrap",
}


def check_path(path: Path, what: str = "the run's path") -> None:
    """Refuse a path that Slurm or a batch script would not read as the path that it is.

    Args:
        path: The path.
        what: What it is, for the error.

    Raises:
        JobError: The path holds a control character, ``%`` or a backslash, or is not text.
    """
    text = str(path)
    for character in text:
        if not character.isprintable() or character in "%\\" or "\ud800" <= character <= "\udfff":
            raise JobError(
                f"{what}: {text!a} holds {character!a}, which Slurm reads as something else; choose another `output:` "
                "(spaces, quotes and $ are fine; control characters, % and backslash are not)"
            )


def options(asked: Resources, threads: int, mail: str | None = None, *, whole_node: bool = False) -> list[str]:
    """Options of sbatch for the resources of a stage.

    Args:
        asked: The resources.
        threads: Threads of a task: at least as many CPUs are asked for.
        mail: Address to which Slurm writes if an element fails.
        whole_node: Whether the job gets a whole node anyway: with all its CPUs, unless the resources name some.

    Raises:
        JobError: An option is one that the script itself sets, or holds a character that is not safe in a script.
    """
    lines = ["--nodes=1", "--ntasks=1"]
    if asked.cpus is not None or not (whole_node or asked.options.get("exclusive")):
        lines.insert(0, f"--cpus-per-task={max(asked.cpus or 1, threads)}")
    if asked.mem_gb is not None:
        lines.append(f"--mem={max(1, round(asked.mem_gb * 1024))}M")
    if asked.time is not None:
        limit = minutes(asked.time)
        lines.append(f"--time={asked.time}")
        lines.append(f"--signal=B:USR2@{max(1, min(SIGNAL_SECONDS, round(limit * 60 / 10)))}")
    else:  # a site may send it when a pre-emption begins
        lines.append(f"--signal=B:USR2@{SIGNAL_SECONDS}")
    if asked.gpus is not None and asked.gres is None:
        lines.append(f"--gres=gpu:{asked.gpus}")
    for name in ("partition", "account", "qos", "constraint", "gres"):
        value = getattr(asked, name)
        if value is not None:
            lines.append(_option(name, value))
    if mail is not None:
        lines += [_option("mail-user", mail), "--mail-type=FAIL"]
    for name, value in asked.options.items():
        if name == "array":
            raise JobError(
                f"options: array: {value!a}: the plan counts the elements; `cluster.throttle: 2` lets two of them "
                "work at once"
            )
        if not _OPTION.fullmatch(name) or name in _RESERVED:
            raise JobError(f"options: {name!r} is not an sbatch option to give here (long name, without dashes)")
        if value is not False:
            lines.append(f"--{name}" if value is True else _option(name, str(value)))
    return lines


def _option(name: str, value: str) -> str:
    if not re.fullmatch(r"[\w.,:;@/&|!*()\[\]=+-]+", value, re.ASCII):
        raise JobError(f"{name}: {value!a} holds a character that is not safe in a batch script")
    return f"--{name}={value}"


def start_lines(site: Site, container: Container | None) -> list[str]:
    """Shell lines that set the array ``python``: how a task's Python is started, on the host or in the image."""
    if container is not None:
        return container.script()
    if site.python is not None:
        return [f"python=({shlex.quote(site.python)})"]
    return [*export_lines(), f"python=({shlex.quote(sys.executable)})"]


#: For pre-emptions with a grace: the part of ``WAIT`` that notices its beginning.
_LISTENER = """\
# When the grace of a pre-emption begins, Slurm tells only job steps. This step waits until that ends it (143).
(
  srun --overlap --ntasks=1 --cpus-per-task=1 --mem=0 --gres=none --mpi=none --input=none sleep infinity >/dev/null 2>&1
  [ "$?" -ne 143 ] || [ ! -d "$notes" ] || kill -USR2 "$$" 2>/dev/null
) &
"""

#: The end of every script, from the start of Python on: until it has ended, with its exit code in ``code``.
WAIT = """\
# Wait for the tasks. Pass on the signals that ask them to stop (USR2 reaches only this shell), again and again: a
# Python that is just starting ignores them. Its exit code comes through a file: bash loses the code of a child that
# ends as a signal interrupts `wait`.
trap '' USR2 TERM
notes=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/shardsynth.XXXXXX" 2>/dev/null) ||
  notes=$(mktemp -d "$run/private/.shardsynth.XXXXXX") || exit 73
(
  "${python[@]}" "$@" &
  echo "$!" >"$notes/pid"
  wait "$!"
  code=$?
  echo "$code" >"$notes/code"
  exit "$code"
) &
child=$!
stop=0
ask() { [ ! -s "$notes/pid" ] || kill -USR2 "$(cat "$notes/pid")" 2>/dev/null; }
trap 'stop=1; ask' USR2 TERM
@LISTENER@while kill -0 "$child" 2>/dev/null; do
  if [ "$stop" -eq 1 ]; then
    ask
    sleep 1
  else
    wait "$child"
  fi
done
wait "$child"
code=$?
[ ! -s "$notes/code" ] || code=$(cat "$notes/code")
rm -rf -- "$notes"
if [ -n "${scratch:-}" ]; then rm -rf --one-file-system "$scratch"; fi

"""
_REQUEUE = """\
# 75: asked to stop, and saved. Queue this element again, unless it is being cancelled or Slurm itself queues it again.
if [ "$code" -eq 75 ]; then
  if ! command -v squeue >/dev/null || ! command -v scontrol >/dev/null; then
    echo "saved: not queued again, since $(hostname) has no squeue or no scontrol; \\`shardsynth resume\\` goes on"
  elif ! state=$(squeue --noheader --jobs="$id" --format=%T 2>&1); then
    echo "saved: not queued again, since squeue did not answer ($state); \\`shardsynth resume\\` goes on"
  elif [ "$state" = RUNNING ]; then
    echo "saved: queued again"
    scontrol requeue "$id" && sleep 60
  else
    echo "saved: not queued again, since it is being ended"
  fi
fi
@FOLLOW@exit "$code"
"""

#: For arrays of a run: the part of ``_REQUEUE`` that submits more of it.
_FOLLOW = """\
# Where the site limits what may be queued: this element makes room, so submit what is left of the run.
if [ "$code" -ne 75 ] && [ -e "$run/private/slurm/rest" ]; then
  bash "$run/private/slurm/follow.sh" @NAME@ "$SLURM_ARRAY_TASK_ID" "$code"
fi
"""

#: For the whole script: paths are quoted, so nothing in them is executed; the loop over names is one over words.
SHELLCHECK = "# shellcheck disable=SC2016,SC2054,SC2288 # a path may hold anything; it is quoted, and inert"


def body(
    start: list[str],
    setup: list[str],
    run_line: str,
    arguments: str,
    *,
    listen: bool,
    python: str = BY_HAND,
    prepare: list[str] | None = None,
    name: str = "",
) -> str:
    """The part of a script after its ``#SBATCH`` lines.

    Args:
        start: Lines that set the array ``python``.
        setup: Lines of the site file.
        run_line: Lines that set ``run`` to the run's path.
        arguments: Last arguments of Python, as shell text.
        listen: Whether a step listens for pre-emptions.
        python: First arguments of Python, as shell text.
        prepare: Lines before ``setup``.
        name: Name of the array, for one of a run that was submitted.
    """
    lines = [SHELLCHECK, run_line, *CHECK.splitlines(), *(prepare or [])]
    lines += [
        *(["", *setup_lines(setup), ""] if setup else []),
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}"',
        "export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0",
        'export OMP_NUM_THREADS="$SRUN_CPUS_PER_TASK"',
        *start,
        f"set -- {python} {arguments}",
    ]
    life = (WAIT + _REQUEUE).replace("@LISTENER@", _LISTENER if listen else "")
    return "\n".join(lines) + "\n\n" + life.replace("@FOLLOW@", _FOLLOW.replace("@NAME@", name) if name else "")


def array_script(
    *,
    name: str,
    elements: int,
    at_once: int | None = None,
    after: list[str],
    lines: list[str],
    start: list[str],
    setup: list[str],
    run: Path,
    listen: bool = True,
) -> str:
    """The script of one array of a run, for submitit's files in ``private/slurm/submitit``.

    Args:
        name: Name of the array and of its Slurm job.
        elements: How many elements it has.
        at_once: How many of them may work at once; None for all.
        after: What it waits for, such as ``afterok:12``.
        lines: Options of sbatch.
        start: Lines that set the array ``python``.
        setup: Lines of the site file.
        run: The run directory, absolute.
        listen: Whether a step listens for pre-emptions.
    """
    throttled = f"%{at_once}" if at_once is not None and at_once < elements else ""
    header = [f"--job-name={name}", f"--array=0-{elements - 1}{throttled}"]
    if after:
        header += [f"--dependency={','.join(after)}", "--kill-on-invalid-dep=yes"]
    header += [*lines, "--requeue", "--output=/dev/null"]
    prepare = [
        "# Submitit's files: what this element does, which has the array's name until the login process or this script",
        "# gives it the job's number; and no result of a run before.",
        'files="$run/private/slurm/submitit"',
        f'mv -f -- "$files/{name}_$SLURM_ARRAY_TASK_ID.pkl" "$files/${{id}}_submitted.pkl" 2>/dev/null',
        'rm -f -- "$files/${id}_0_result.pkl" "$files/${id}"_*.save_tmp',
        f'export SUBMITIT_EXECUTOR=slurm {ELEMENT}="$id"',
        "# Slurm would not start this script on a node that lacks the folder of the logs.",
        'exec >>"$files/${id}_0_log.out" 2>>"$files/${id}_0_log.err"',
        *NOTE.splitlines(),
    ]
    run_line = f"run={shlex.quote(str(run))}"
    return (
        "#!/bin/bash\n"
        + "".join(f"#SBATCH {option}\n" for option in header)
        + "\n"
        + body(start, setup, run_line, '"$files"', listen=listen, python=BY_SUBMITIT, prepare=prepare, name=name)
    )
