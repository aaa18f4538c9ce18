"""How the ends of the columns of a run are chosen, where a model of it fits tails."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardsynth.data.choose import declared_bounds
from shardsynth.data.ends import EndRule
from shardsynth.data.metadata import columns, read
from shardsynth.job import Job
from shardsynth.planning.options import has_tails
from shardsynth.planning.personal import with_personal_columns
from shardsynth.planning.persons import FEWEST
from shardsynth.summaries.persons import Hashes


def end_rank(job: Job) -> int:
    """Which of the most extreme rows or persons is an end of a column."""
    return max(FEWEST, job.rare.min_count)


def end_rule(job: Job, schema: pa.Schema, persons: Hashes | None, changed: Collection[str] = ()) -> EndRule | None:
    """The rule; None where no model of the job fits tails.

    Args:
        job: The job.
        schema: Arrow schema of the input.
        persons: uint64[rows of the sample], hashes of the persons of the row sample, where persons are counted.
        changed: Columns whose declared range does not hold, since constraints made others of them.
    """
    if not has_tails(job):
        return None
    return EndRule(end_rank(job), persons, {k: v for k, v in _declared(job, schema).items() if k not in set(changed)})


def _declared(job: Job, schema: pa.Schema) -> dict[str, tuple[float, float]]:
    """Ranges that the user's metadata file gives; what is detected in the rows is none."""
    if job.metadata is None:
        return {}
    described = columns(with_personal_columns(read(Path(job.metadata), schema, validate=False), job), schema)
    bounds = {column.name: declared_bounds(column) for column in described if column.role in ("number", "datetime")}
    return {name: bound for name, bound in bounds.items() if not np.isnan(bound).all()}
