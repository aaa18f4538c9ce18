"""The plain array scripts for PBS (PBS Pro, OpenPBS) and Grid Engine (SGE, UGE): `shardsynth sbatch --scheduler pbs`.

They are written by the manuals, and no live PBS or Grid Engine has run them. Each directive has its line of the manual
above it: of PBS, qsub(1B) and pbs_resources(7B); of Grid Engine, qsub(1) and sge_conf(5).

Exit code 75 (asked to stop, and saved): Grid Engine queues a task again that ends with 99, unless the site sets
FORBID_RESCHEDULE. In PBS only an operator may requeue a job (qrerun(1B)), so the next call of ``submit.sh`` does what
is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from shardsynth.cluster import Resources
from shardsynth.errors import JobError
from shardsynth.executors.slurm.script import BY_HAND, CHECK_RUN, SHELLCHECK, SIGNAL_SECONDS, WAIT
from shardsynth.executors.slurm.setup_lines import setup_lines
from shardsynth.executors.slurm.times import minutes

#: What `--scheduler` takes besides slurm, and the names.
SCHEDULERS = {"pbs": "PBS", "sge": "Grid Engine"}
_SAFE = re.compile(r"[\w.:@/+-]+", re.ASCII)


def qsub_script(
    scheduler: str,
    name: str,
    arguments: str,
    elements: int,
    asked: Resources,
    threads: int,
    start: list[str],
    setup: list[str],
    run_line: str,
    mail: str | None = None,
    throttle: int | None = None,
) -> str:
    """The script of one array for ``qsub``.

    Args:
        scheduler: ``pbs`` or ``sge``.
        name: Name of the script and of its job.
        arguments: What it does, as arguments of an element.
        elements: Elements of the array.
        asked: The resources.
        threads: Threads of a task: at least as many CPUs are asked for.
        start: Lines that say how Python is started.
        setup: The site's own lines.
        run_line: Lines that set ``run`` to the run's path.
        mail: Address to which the scheduler writes if an element fails.
        throttle: Most elements at work at once; None: as many as the scheduler starts.

    Raises:
        JobError: A resource is Slurm's alone, or holds a character that is not safe in a script.
    """
    _refuse_slurms_own(scheduler, asked)
    cpus = max(asked.cpus or 1, threads)
    if scheduler == "pbs":
        directives, number, end = _pbs(name, elements, asked, cpus, mail), _PBS_NUMBER, _PBS_END
        if throttle is not None:
            raise JobError("cluster.throttle: not for PBS; write %N behind the range of -J, where your PBS knows it")
    else:
        directives, number, end = _sge(name, elements, asked, cpus, mail), _SGE_NUMBER, _SGE_END
        if throttle is not None:
            directives.append((f"#$ -tc {throttle}", "qsub -tc: most tasks of the array at work at once"))
    limit = None if asked.time is None else round(minutes(asked.time) * 60)
    before = 0 if limit is None else limit - max(1, min(SIGNAL_SECONDS, limit // 10))
    lines = [SHELLCHECK, run_line, *(["", *setup_lines(setup), ""] if setup else [])]
    lines += [
        f"export SHARDSYNTH_CPUS={cpus} OMP_NUM_THREADS={cpus}",
        "export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0",
        CHECK_RUN,
        *start,
        *number.replace("@LAST@", str(elements - 1)).splitlines(),
        f'set -- {BY_HAND} "$run" {arguments} --array "$element"',
    ]
    timer = "" if limit is None else _TIMER.replace("@SECONDS@", str(before))
    comments = f"# For {SCHEDULERS[scheduler]}, by its manual: not tried on a live one.\n"
    header = "".join(f"# {line}\n{directive}\n" for directive, line in directives)
    return (
        "#!/bin/bash\n" + comments + header + "\n" + "\n".join(lines) + "\n\n" + WAIT.replace("@LISTENER@", timer) + end
    )


def _refuse_slurms_own(scheduler: str, asked: Resources) -> None:
    found = [key for key in ("qos", "constraint", "gres", "options") if getattr(asked, key)]
    if found:
        raise JobError(
            f"cluster: {', '.join(found)}: Slurm's own; leave them out for {SCHEDULERS[scheduler]}, or write what you "
            "need into the scripts"
        )


def _safe(key: str, value: str) -> str:
    if not _SAFE.fullmatch(value):
        raise JobError(f"{key}: {value!a} holds a character that is not safe in a batch script")
    return value


def _clock(time: str) -> str:
    """A time in Slurm's notation as hours:minutes:seconds."""
    seconds = max(1, round(minutes(time) * 60))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _gpus(asked: Resources) -> int:
    """GPUs of an element: 2 for ``a100:2``."""
    text = str(asked.gpus or 0).rpartition(":")[2]
    return int(text) if text.isdigit() else 0


def _pbs(name: str, elements: int, asked: Resources, cpus: int, mail: str | None) -> list[tuple[str, str]]:
    """PBS's directives, each with its line of the manual."""
    chunk = f"select=1:ncpus={cpus}"
    if asked.mem_gb is not None:
        chunk += f":mem={max(1, round(asked.mem_gb * 1024))}mb"
    if _gpus(asked):
        chunk += f":ngpus={_gpus(asked)}"
    lines = [
        (f"#PBS -N shardsynth-{name}", "qsub -N: the job's name"),
        ("#PBS -S /bin/bash", "qsub -S: the shell"),
        (
            f"#PBS -l {chunk}",
            "qsub -l select: one chunk of CPUs and memory; ngpus: pbs_resources(7B), or as your site says",
        ),
    ]
    if elements > 1:  # X-Y with X below Y: a single task is a plain job
        lines.append((f"#PBS -J 0-{elements - 1}", "qsub -J X-Y[:Z]: an array, its numbers from X to Y in steps of Z"))
    if asked.time is not None:
        lines.append((f"#PBS -l walltime={_clock(asked.time)}", "pbs_resources(7B), walltime: the time limit"))
    if asked.partition is not None:
        lines.append((f"#PBS -q {_safe('partition', asked.partition)}", "qsub -q: the queue"))
    if asked.account is not None:
        lines.append((f"#PBS -A {_safe('account', asked.account)}", "qsub -A: the account"))
    if mail is not None:
        lines.append((f"#PBS -M {_safe('mail', mail)}", "qsub -M: who gets mail; by default when a job is aborted"))
    lines.append(("#PBS -j oe", "qsub -j: errors into the log of the output, beside this script"))
    lines.append(("#PBS -r y", "qsub -r: PBS may run it again, for example after a lost node"))
    return lines


def _sge(name: str, elements: int, asked: Resources, cpus: int, mail: str | None) -> list[tuple[str, str]]:
    """Grid Engine's directives, each with its line of the manual."""
    lines = [
        (f"#$ -N shardsynth-{name}", "qsub -N: the job's name"),
        ("#$ -S /bin/bash", "qsub -S: the shell"),
        (f"#$ -t 1-{elements}", "qsub -t n-m[:s]: an array, its numbers from n (1 or more) to m in steps of s"),
    ]
    if cpus > 1:
        lines.append((f"#$ -pe smp {cpus}", "qsub -pe: CPUs of one node; `qconf -spl` lists your site's names for it"))
    if asked.mem_gb is not None:
        memory = max(1, round(asked.mem_gb * 1024 / cpus))
        lines.append((f"#$ -l h_vmem={memory}M", "qsub -l, complex(5), h_vmem: memory of each CPU"))
    if _gpus(asked):
        lines.append((f"#$ -l gpu={_gpus(asked)}", "qsub -l: GPUs; `qconf -sc` lists your site's name for them"))
    if asked.time is not None:
        lines.append((f"#$ -l h_rt={_clock(asked.time)}", "qsub -l, queue_conf(5), h_rt: the time limit"))
    if asked.partition is not None:
        lines.append((f"#$ -q {_safe('partition', asked.partition)}", "qsub -q: the queue"))
    if asked.account is not None:
        lines.append(
            (f"#$ -A {_safe('account', asked.account)}", "qsub -A: the account; some sites want -P, a project")
        )
    if mail is not None:
        lines += [
            (f"#$ -M {_safe('mail', mail)}", "qsub -M: who gets mail"),
            ("#$ -m a", "qsub -m: when it is aborted"),
        ]
    lines.append(("#$ -cwd", "qsub -cwd: the log lies in the folder where qsub was called"))
    lines.append(("#$ -j y", "qsub -j: errors into the log of the output"))
    lines.append(("#$ -notify", "qsub -notify: signal USR2 some time before it is killed"))
    lines.append(("#$ -r y", "qsub -r: it may run again, for example after a lost node"))
    return lines


_PBS_NUMBER = """\
# Which share of the tasks is this element's: qstat(1B) tells the numbers of the array; else those above count.
element=::::
if [ -n "${PBS_ARRAY_INDEX:-}" ]; then
  range=$(qstat -f "$PBS_ARRAY_ID" 2>/dev/null | awk '$1 == "array_indices_submitted" { print $3 }')
  range=${range:-0-@LAST@}
  IFS=:- read -r first last step <<<"${range%%%*}"
  last=${last:-$first}
  element="${PBS_ARRAY_ID%%[*}:$PBS_ARRAY_INDEX:$(((last - first) / ${step:-1} + 1)):$first:$last"
fi
"""
_SGE_NUMBER = """\
# Which share of the tasks is this element's: qsub(1), SGE_TASK_ID and the rest; "undefined" outside of an array.
element=::::
if [ "${SGE_TASK_ID:-undefined}" != undefined ]; then
  count=$(((SGE_TASK_LAST - SGE_TASK_FIRST) / SGE_TASK_STEPSIZE + 1))
  element="$JOB_ID:$SGE_TASK_ID:$count:$SGE_TASK_FIRST:$((SGE_TASK_FIRST + (count - 1) * SGE_TASK_STEPSIZE))"
fi
trap '' USR1 # -notify sends it before it stops the job for a while
"""
_TIMER = """\
# Ask the tasks to save before the time limit.
(
  end=$((SECONDS + @SECONDS@))
  while kill -0 "$$" 2>/dev/null; do
    if [ "$SECONDS" -ge "$end" ]; then kill -USR2 "$$"; exit; fi
    sleep 5
  done
) >/dev/null 2>&1 &
"""
_PBS_END = """\
# 75: asked to stop, and saved. Only PBS's operators may queue a job again (qrerun(1B)): run submit.sh again.
exit "$code"
"""
_SGE_END = """\
# sge_conf(5), FORBID_RESCHEDULE: a job that ends with 99 is queued again. qsub(1), -hold_jid: after 100, what waits for
# this job does not start; after any other code it would.
case $code in
  0) exit 0 ;;
  75) exit 99 ;;
  *) exit 100 ;;
esac
"""


def submit_with_qsub(scheduler: str, where: list[str], arrays: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A script that submits arrays, each after those that it needs; if qsub refuses one, it deletes the others.

    Args:
        scheduler: ``pbs`` or ``sge``.
        where: Lines that set ``scripts``.
        arrays: Name of each, and of those that it needs, in order.
    """
    if scheduler == "pbs":  # qsub(1B): -W depend=afterok:ID[:ID ...]; the identifier is all that it prints
        wait, option, command = ":", '-W "depend=afterok$after"', "qsub"
    else:  # qsub(1): -hold_jid ID,...; -terse prints the number alone, with .1-9:1 behind that of an array
        wait, option, command = ",", '-hold_jid "${after#,}"', "qsub -terse"
    return (
        "#!/bin/bash\n"
        f"# For {SCHEDULERS[scheduler]}, by its manual: not tried on a live one.\n"
        "# Each array waits for those that it needs. Run again after a failure: committed tasks are not done again.\n"
        "set -eu\n" + "".join(f"{line}\n" for line in where) + 'cd "$scripts" # the logs go there\n'
        "declare -A jobs\n"
        'trap \'[ "${#jobs[@]}" -eq 0 ] || qdel "${jobs[@]}"\' EXIT\n'
        "submit() { # NAME, and the names of those that it waits for\n"
        '  local name=$1 after="" need job\n'
        "  shift\n"
        f'  for need in "$@"; do after="$after{wait}${{jobs[$need]}}"; done\n'
        '  if [ -n "$after" ]; then\n'
        f'    job=$({command} {option} "$name.{scheduler}")\n'
        "  else\n"
        f'    job=$({command} "$name.{scheduler}")\n'
        "  fi\n" + ("" if scheduler == "pbs" else "  job=${job%%.*}\n") + "  jobs[$name]=$job\n"
        '  echo "job $job: $name"\n'
        "}\n" + "".join(f"submit {' '.join([name, *needs])}\n" for name, needs in arrays) + "jobs=()\n"
    )
