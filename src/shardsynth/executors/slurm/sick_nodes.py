"""Nodes that cannot write the run directory, since a shared folder is not mounted there: they are left out.

The batch script finds it out. It queues its element again and lets this element, and all of the run that waits, leave
the node out: nothing fails, and what waits for the element is not cancelled. The element notes the node in the run when
it has started elsewhere, and `resume` leaves it out too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.job import Resources
from shardsynth.standalone.regular import open_to_append, read_regular

#: Exit code of a script that cannot write the run directory.
NOT_WRITABLE = 73
#: With more nodes left out the run's folder is more likely shared by none: the element fails, and says so.
MOST_NODES = 2
_NOTE = "left out: "
#: Lines of the batch script. Slurm 24.11 makes the folders of an element's log: on a node that does not share the run,
#: its folder is then there, empty but for the log. Where the run cannot be written nobody reads what `sick` prints.
CHECK = f"""\
id="${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"
# A node without the run's folder is left out by this element, which is queued again, and by what else of the run waits.
sick() {{
  trap '' TERM
  echo "cannot write $run on $(hostname)" >&2
  left=$(squeue --noheader --jobs="$id" --format=%x 2>/dev/null)
  [ -z "$left" ] || [ "$(scontrol show hostnames "$left" | wc -l)" -lt {MOST_NODES} ] || exit {NOT_WRITABLE}
  [ "$(squeue --noheader --jobs="$id" --format=%T 2>/dev/null)" = RUNNING ] || exit {NOT_WRITABLE}
  set -- "excnodelist=${{left:+$left,}}$SLURMD_NODENAME" "comment={_NOTE}$SLURMD_NODENAME"
  squeue --noheader --me --states=PENDING --format="%F %j" | sort -u | while read -r job name; do
    case $name in "${{SLURM_JOB_NAME%-*-*}}"-*) scontrol update "jobid=$job" "$@" ;; esac
  done
  # Last: Slurm soon kills what it queues again.
  scontrol requeue "$id" && scontrol update "jobid=$id" "$@" && sleep 60
  exit {NOT_WRITABLE}
}}
if [ ! -e "$run/plan.json" ] || [ ! -w "$run/private" ]; then sick; fi
"""
#: A line of the batch script of an element that started again: it notes the node that it left.
NOTE = """\
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  note=$(squeue --noheader --jobs="$id" --format=%k)
  [ "${note#left out: }" = "$note" ] || echo "${note#left out: }" >>"$run/private/slurm/left-out"
fi
"""


def noted_nodes(element: Element) -> set[str]:
    """The node that an element was on before, as its batch script noted it."""
    return {element.comment[len(_NOTE) :]} if element.comment.startswith(_NOTE) else set()


def nodes_left_out(ledger: Ledger) -> list[str]:
    """Nodes that could not write the run directory, in order of name."""
    try:
        lines = read_regular(ledger.folder / "left-out").decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return sorted({line.strip() for line in lines if line.strip()})


def leave_out(ledger: Ledger, nodes: Iterable[str]) -> None:
    """Note nodes on which elements ended since they could not write the run directory."""
    new = sorted({node for node in nodes if node} - set(nodes_left_out(ledger)))
    if new:
        with os.fdopen(open_to_append(ledger.folder / "left-out"), "a", encoding="ascii") as file:
            file.write("".join(f"{node}\n" for node in new))


def without_nodes(asked: Resources, nodes: list[str]) -> Resources:
    """Resources that leave nodes out, besides those that the job itself leaves out."""
    if not nodes:
        return asked
    own = [str(asked.options["exclude"])] if asked.options.get("exclude") else []
    return asked.model_copy(update={"options": {**asked.options, "exclude": ",".join([*own, *nodes])}})
