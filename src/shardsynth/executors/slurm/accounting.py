"""What Slurm's accounting (sacct) knows of array elements: it remembers longer than the controller, and is slower."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shardsynth.executors.slurm.commands import (
    RUNNING,
    WAITING,
    Element,
    Known,
    SlurmError,
    SlurmSilentError,
    call,
    exit_status,
)
from shardsynth.executors.slurm.ranges import parse_ranges

#: How long an answer is waited for.
PATIENCE_SECONDS = 30.0
#: The login node's clock and the controller's may differ so much.
_CLOCKS_SECONDS = 3600.0


class NoAccountingError(SlurmError):
    """This site keeps no accounting, or this machine has no sacct. One that is slow is a SlurmSilentError."""


@dataclass(frozen=True)
class JobName:
    """By what one of our arrays is known, besides its number.

    Attributes:
        name: Its name, or the start of it if that ends with ``-``.
        at: When it was submitted, in seconds since 1970; 0 where that is not known.
    """

    name: str
    at: float = 0.0

    def fits(self, name: str, submitted: str) -> bool:
        """Whether a job is this array.

        Args:
            name: The job's name.
            submitted: When it was submitted, or queued again, as sacct prints it, such as ``2026-11-28T01:02:03``.
        """
        if name != self.name and not (self.name.endswith("-") and name.startswith(self.name)):
            return False
        with contextlib.suppress(ValueError, OverflowError):
            seconds = time.mktime(time.strptime(submitted, "%Y-%m-%dT%H:%M:%S"))
            return seconds > self.at - _CLOCKS_SECONDS
        return True


def with_peaks(controller: Known, accounting: Known) -> Known:
    """What controller and accounting know together.

    The controller knows of a change first. The accounting remembers longer, and only it knows the memory that was used.
    An element that waits or runs by the accounting, but is unknown to the controller, is ``LOST``: the controller has
    lost its state.

    Args:
        controller: Elements that the controller knows.
        accounting: Elements that the accounting knows.
    """
    alive = WAITING | RUNNING
    elements = {key: replace(e, state="LOST") if e.state in alive else e for key, e in accounting.items()}
    for key, element in controller.items():
        elements[key] = _with_peak(element, accounting[key].peak_bytes) if key in accounting else element
    return elements


def in_accounting(jobs: Mapping[int, JobName]) -> Known:
    """What the accounting knows of the elements of these arrays; one sacct call.

    A controller that lost its state uses numbers again: only jobs of the right name, and submitted then, are ours.

    Args:
        jobs: Number of each array, and by what it is known.

    Raises:
        NoAccountingError: There is no accounting.
        SlurmSilentError: It did not answer in time.
        SlurmError: It answers with an error.
    """
    if not jobs:
        return {}
    numbers = ",".join(str(job) for job in sorted(jobs))
    fields = "JobID,State,ExitCode,MaxRSS,NodeList,Submit,JobName"
    arguments = ("--noheader", "--parsable2", "--duplicates", f"--jobs={numbers}", f"--format={fields}")
    if shutil.which("sacct") is None:
        raise NoAccountingError("sacct: not found")
    try:
        text = call("sacct", *arguments, timeout=PATIENCE_SECONDS)
    except SlurmSilentError:
        raise
    except SlurmError as error:
        kind = NoAccountingError if "storage is disabled" in str(error) else SlurmError
        raise kind(str(error)) from None
    elements: Known = {}
    ours = False
    for line in text.splitlines():
        name, state, code, peak, node, submitted, called = line.split("|", 6)
        name, dot, _ = name.partition(".")
        job, _, number = name.partition("_")
        if not job.isdigit():
            continue
        if not dot:  # the steps of a job follow it, under names of their own
            ours = jobs[int(job)].fits(called, submitted)
        if not ours:
            continue
        for index in parse_ranges(number.strip("[]")) if number else [-1]:
            before = elements.get((int(job), index))
            if dot:  # a step: only the memory that it used is of interest
                if before is not None:
                    elements[int(job), index] = _with_peak(before, _bytes(peak))
                continue
            status, by_signal = exit_status(code)
            elements[int(job), index] = Element(
                int(job),
                index,
                state.split()[0] if state else "UNKNOWN",
                exit_code=status,
                killed_by=by_signal,
                restarts=before.restarts + 1 if before else 0,
                node=node,
                name=called,
            )
    return elements


def _with_peak(element: Element, peak: int) -> Element:
    return replace(element, peak_bytes=max(element.peak_bytes, peak))


def _bytes(text: str) -> int:
    """Bytes of a size that Slurm printed, such as ``1.5G``."""
    units = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
    if not text:
        return 0
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(float(text))
