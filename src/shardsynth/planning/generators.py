"""Generators of a model's ids and personal data: learned from a row sample, or from the metadata alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.metadata import composite_key, keys_of
from shardsynth.data.values import plain_type
from shardsynth.job import Job
from shardsynth.sampling.identifiers import check_capacity, learn_all


def learn_generators(
    job: Job,
    model: str,
    metadata: dict[str, Any],
    columns: Sequence[Column],
    sample: pa.Table,
    rows: int,
    counts: Mapping[str, tuple[int, int]] | None = None,
    persons: np.ndarray[Any, np.dtype[np.uint64]] | None = None,
    largest: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Generators by column name, for columns of role ``id`` and ``pii``.

    Args:
        job: The job.
        model: The model's name in the job.
        metadata: SDV metadata of the input's table.
        columns: The columns of the table that the model is fitted on.
        sample: Rows to learn formats from, or ``no_rows``.
        rows: Number of rows to be made.
        counts: Distinct values and values of columns in the whole input, where they were counted.
        persons: uint64[rows of the sample], hashes of their persons, where they are known.
        largest: By column of whole numbers, the largest ones of the whole input, increasing.

    Raises:
        InputError: A generator has too few values for the rows.
    """
    generators = learn_all(
        sample,
        columns,
        keys_of(metadata),
        seed=job.seed,
        locales=job.models[model].options.get("locales"),
        composite=composite_key(metadata),
        counts=counts,
        persons=persons,
        largest=largest,
    )
    for name, generator in generators.items():
        check_capacity(generator, rows, name)
    return generators


def no_rows(schema: pa.Schema) -> pa.Table:
    """An empty row sample, so that generators follow from the metadata alone."""
    return pa.table({field.name: pa.nulls(0, plain_type(field.type)) for field in schema})
