"""The persons of a job: the column that names them, and how many of them a protection counts."""

from __future__ import annotations

import pyarrow as pa

from shardsynth.errors import JobError, did_you_mean
from shardsynth.job import Job

#: Persons whose values are never an end of a column, and fewest persons of a cell on the page.
FEWEST = 5


def check_person(job: Job, schema: pa.Schema) -> None:
    """JobError where ``person`` is no column of the table, or a column of a type that names nobody."""
    if job.person is None:
        return
    if job.person not in schema.names:
        raise JobError(f"person: no column is called {job.person!r}{did_you_mean(job.person, schema.names, 0.6)}")
    kind = schema.field(job.person).type
    if pa.types.is_null(kind) or pa.types.is_nested(kind):
        raise JobError(f"person: {job.person!r} is of type {kind}; wanted numbers or text that name persons")


def persons_counted(job: Job) -> int:
    """Up to how many persons every cell is counted exactly: the largest threshold of the job and of its models."""
    thresholds = [job.rare.min_count]
    for model in job.models.values():
        rare = model.options.get("rare")
        if isinstance(rare, dict) and isinstance(rare.get("min_count"), int):
            thresholds.append(rare["min_count"])
    return max(FEWEST, *thresholds)


def least_persons(job: Job, model: str) -> int:
    """Fewest persons of what a native model may hold; 1 where its ``rare`` keeps everything."""
    rare = job.models[model].options.get("rare")
    rare = rare if isinstance(rare, dict) else {}
    if rare.get("as", job.rare.as_) == "keep":
        return 1
    return max(1, int(rare.get("min_count", job.rare.min_count)))
