"""The input of every fit of a run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.models.base import FitSetup
from shardsynth.planning.generators import learn_generators
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.stages.persons import sample_persons
from shardsynth.standalone import signals
from shardsynth.summaries.tally import NumberTally

#: Difference between the seeds of a model's candidates.
_REPLICA_SEED = 1_000_003


@contextlib.contextmanager
def fit_setup(
    artifacts: Artifacts,
    task: Task,
    schema: pa.Schema,
    columns: Sequence[Column],
    coder: TableCoder,
    options: Any,
    sample: pa.Table,
) -> Iterator[FitSetup]:
    """The setup of a fit task; its scratch folder is deleted at the end of the context.

    Args:
        artifacts: Of the run.
        task: The fit.
        schema: Arrow schema of the table that the model is fitted on.
        columns: Its columns.
        coder: Their codes.
        options: The family's.
        sample: Rows that formats of ids are learned from.

    Raises:
        InputError: An id has too few values for the rows to be made.
    """
    plan, run = artifacts.plan, artifacts.run
    plain = plan.job.privacy is None
    counts, largest = (counted_values(artifacts), largest_numbers(artifacts)) if plain else (None, None)
    persons = sample_persons(artifacts, "train")  # None under dp, where the sample has no rows
    metadata = artifacts.metadata()
    generators = learn_generators(plan.job, task.model, metadata, columns, sample, plan.rows, counts, persons, largest)
    with tempfile.TemporaryDirectory(prefix="training-", dir=run.private) as scratch:
        yield FitSetup(
            schema,
            columns,
            coder,
            options,
            generators,
            seed=plan.job.seed + _REPLICA_SEED * max(task.replica, 0),
            name=task.model,
            threads=task.threads,
            checkpoint=run.checkpoint(task.model, task.replica),
            should_stop=signals.asked,
            progress=lambda line: print(line, flush=True),
            scratch=Path(scratch) if plan.job.fit.rows == "all" else None,
        )


def counted_values(artifacts: Artifacts) -> dict[str, tuple[int, int]]:
    """Distinct values and values of the whole input, by name of a column, where both were counted exactly."""
    train, holdout = artifacts.profile("train"), artifacts.profile("holdout")
    counts = {}
    for name in train.schema.names:
        parts = [train[name].values_as_arrow(), holdout[name].values_as_arrow()]
        if all(part is not None for part in parts):
            distinct = len(pa.concat_arrays(parts).unique())  # `count_distinct` knows fewer types
            counts[name] = (distinct, train[name].present + holdout[name].present)
    return counts


def largest_numbers(artifacts: Artifacts) -> dict[str, list[int]]:
    """By column of integers, its largest values in the whole input, increasing."""
    parts = [artifacts.profile(name) for name in ("train", "holdout")]
    found = {}
    for arrow_field in artifacts.plan.schema:
        kind = arrow_field.type.value_type if pa.types.is_dictionary(arrow_field.type) else arrow_field.type
        if pa.types.is_integer(kind):
            values: list[int] = []
            for part in parts:
                tally = part[arrow_field.name]
                assert isinstance(tally, NumberTally)
                values += [int(value) for value in tally.highest[0].tolist()]
            found[arrow_field.name] = sorted(set(values))[-artifacts.plan.job.rare.min_count :]
    return found
