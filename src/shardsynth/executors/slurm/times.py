"""Times in Slurm's notation."""

from __future__ import annotations

import re

from shardsynth.errors import JobError

_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}", re.ASCII)


def minutes(time: str) -> float:
    """Minutes of a time in Slurm's notation; JobError if it is not in that notation."""
    if not _TIME.fullmatch(time):
        raise JobError(f"time: {time!r} is not Slurm's notation; write minutes, 1:30:00 or 2-12:00:00")
    days, dash, clock = time.rpartition("-")
    numbers = [int(part) for part in clock.split(":")]
    if dash:
        hours, mins, seconds = (*numbers, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + mins + seconds / 60
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0] + numbers[1] / 60
    return numbers[0] * 60 + numbers[1] + numbers[2] / 60
