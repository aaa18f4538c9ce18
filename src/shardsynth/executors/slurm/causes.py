"""Why an element of an array ended: memory, time, disk, node, a signal, or the task itself; and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import InputError, Saved
from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.container import WRONG_IMAGE
from shardsynth.executors.slurm.element import NO_SPACE
from shardsynth.executors.slurm.setup_lines import SETUP_FAILED
from shardsynth.executors.slurm.sick_nodes import NOT_WRITABLE
from shardsynth.run.documents import Failure, read_document

_NO_COMMAND = (126, 127)
#: A killed element that used this share of its memory counts as out of memory.
_FULL = 0.9


@dataclass(frozen=True)
class Cause:
    """Why a task is not done.

    Attributes:
        kind: ``oom``, ``time``, ``disk``, ``node``, ``lost``, ``held``, ``cancelled``, ``preempted``, ``saved``,
            ``killed``, ``site``, ``sick``, ``setup``, ``image``, ``input`` or ``task``.
        advice: One line: what happened and what to change.
        node: The node, where that is to blame.
    """

    kind: str
    advice: str
    node: str = ""


#: Of an array that was not submitted yet when an element that it needs failed.
NOT_SUBMITTED = Cause("cancelled", "not submitted, since an element that it needs failed; `resume` runs the rest")


def cause_of(element: Element, asked: dict[str, Any]) -> Cause | None:
    """Why an element ended badly, or None if it did not.

    Args:
        element: What Slurm knows of it.
        asked: Resources that its array asked for.
    """
    state, code, killed_by = element.state, element.exit_code, element.killed_by
    if code > 128 and not killed_by:  # the batch script passes on the signal that ended Python
        killed_by = code - 128
    limit = asked.get("mem_gb")
    peak = element.peak_bytes / 1024**3
    if element.stuck:
        return Cause("held", f"{element.why_it_waits}")
    if state in ("PENDING", "RUNNING", "COMPLETED", "SUSPENDED", "COMPLETING", "REQUEUED", "RESIZING"):
        return None
    if state == "OUT_OF_MEMORY" or (killed_by == 9 and limit and peak >= _FULL * limit):
        figures = f"mem_gb: {limit:g} -> " if limit else "mem_gb: "
        figures += f"it peaked at {peak:.1f}" if peak else "its peak was not seen"
        return Cause("oom", f"out of memory: {figures}; ask for more, or `retry: {{oom: {{mem_gb: x2}}}}`")
    if state in ("TIMEOUT", "DEADLINE"):
        limit_text = f"time: {asked['time']}" if asked.get("time") else "the partition's time limit"
        return Cause("time", f"out of time: {limit_text} was too short; ask for more, or make `cluster.pack` smaller")
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return Cause("node", f"its node {element.node} was lost; `resume` runs it elsewhere")
    if state == "LOST":
        return Cause("lost", "the controller no longer knows it (restarted?); `resume` runs it again")
    if state == "PREEMPTED":
        return Cause("preempted", "pre-empted without being queued again; `resume` runs the rest")
    if state.startswith("CANCELLED"):
        return Cause("cancelled", "cancelled, or what it waited for failed; `resume` runs the rest")
    if code == NO_SPACE:
        return Cause("disk", "the disk or the quota is full; make room, then `resume`")
    if code == NOT_WRITABLE or (element.killed_by == 53 and code == 0):
        what = f"node {element.node} cannot write the run directory; `resume` leaves it out"
        return Cause("sick", f"{what} (if others cannot either: choose a shared `output:`)", element.node)
    if code == WRONG_IMAGE:
        return Cause("image", f"node {element.node} has not the image or the folders that were submitted; see the log")
    if code == SETUP_FAILED:
        return Cause("setup", f"node {element.node}: a line of the site file's `setup:` failed; see the element's log")
    if code in _NO_COMMAND:
        return Cause("site", f"node {element.node} has no such Python or Apptainer; see the element's log")
    if code == Saved.exit_code:
        return Cause("saved", "asked to stop, and saved; `resume` runs the rest")
    if killed_by:
        return Cause("killed", f"killed by signal {killed_by}" + (": out of memory?" if killed_by == 9 else ""))
    if code == 2:
        return Cause("input", "the input is wrong; see the error")
    return Cause("task", f"failed with exit code {code}; see its log")


def task_errors(folder: Path) -> dict[tuple[str, int], str]:
    """The errors that failed tasks wrote to a folder: (stage, index) -> error. An unreadable file is left out."""
    errors = {}
    for path in sorted(folder.glob("*.json")):
        try:
            data = read_document(path, Failure)
        except (OSError, InputError):
            continue
        errors[data["stage"], data["index"]] = data["error"]
    return errors
