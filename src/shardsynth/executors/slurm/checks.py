"""Asks Slurm whether it would take a batch script. What only waits is no error: full queues, drained nodes."""

from __future__ import annotations

import re
import time

from shardsynth.executors.slurm.commands import SlurmError, call, cancel
from shardsynth.executors.slurm.follow import is_of_limits
from shardsynth.executors.slurm.reasons import Reason, reason_of


def check_script(text: str) -> str:
    """Ask Slurm whether it would take a batch script.

    Args:
        text: The script.

    Returns:
        What the user should know; "" if there is nothing.

    Raises:
        SlurmError: Slurm would not take it: no such partition or account, no node that large.
    """
    one = re.sub(r"(?m)^#SBATCH --array=.*$", "#SBATCH --array=0", text)
    try:
        call("sbatch", "--test-only", text=text)
    except SlurmError as error:
        if is_of_limits(str(error)):  # more than may be queued now
            return check_script(one) if one != text else ""
        # A test also fails where a job would wait: nodes are drained, a reservation has not begun. Only a job that is
        # queued tells: one that does nothing.
        header = "".join(line + "\n" for line in one.splitlines() if line.startswith(("#!", "#SBATCH ")))
        reason = _reason_to_wait(header + "exit 0\n")
        if reason is not None and reason.never:
            raise SlurmError(f"{error}; {reason}") from None
        return f"it {reason or 'waits until what it asks for is free'}"
    return ""


def _reason_to_wait(text: str) -> Reason | None:
    """Submit a script, ask why it waits, and cancel it; SlurmError if Slurm refuses it."""
    answer = call("sbatch", "--parsable", "--mail-type=NONE", "--output=/dev/null", text=text)
    job = answer.strip().splitlines()[-1].split(";")[0]
    try:
        for _ in range(20):
            said = call("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%r").strip()
            if said != "None":
                break
            time.sleep(0.2)
    finally:
        cancel([job])
    return reason_of(said)
