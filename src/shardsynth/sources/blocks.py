"""The rows of a run, cut into blocks by their conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.errors import JobError
from shardsynth.planning.quotas import Block, rows_of
from shardsynth.run.artifacts import Artifacts
from shardsynth.sampling.conditions import Condition, Conditions, parse_conditions
from shardsynth.summaries.counts import Counts

#: A balance of more classes than this is refused as a mistake.
_MOST_CLASSES = 1_000


def blocks_of(artifacts: Artifacts) -> tuple[Block, ...]:
    """The blocks of a run's models, in order; empty without conditions.

    Raises:
        JobError: `balance` names a column that has no categories, or too many.
    """
    plan = artifacts.plan
    sample = plan.job.sample
    if sample.balance is not None:
        classes = _classes(artifacts, sample.balance)
        edges = [k * plan.rows // len(classes) for k in range(len(classes) + 1)]
        chosen = [Conditions((Condition(sample.balance, "in", (value,), from_data=True),)) for value in classes]
        return tuple(Block(range(a, b), where) for a, b, where in zip(edges, edges[1:], chosen))
    blocks, start = [], 0
    for quota in sample.conditions:
        stop = start + rows_of(quota, plan.rows)
        blocks.append(Block(range(start, stop), parse_conditions(quota.where)))
        start = stop
    if blocks and start < plan.rows:
        blocks.append(Block(range(start, plan.rows), None))
    return tuple(blocks)


def _classes(artifacts: Artifacts, name: str) -> list[Any]:
    """Categories of a column that a model may hold: those of enough training rows."""
    coder = artifacts.coder()
    if name not in coder.index or coder.columns[coder.index[name]].values is None:
        raise JobError(f"sample.balance: {name!r} is no column of categories; give sample.conditions with ranges")
    least = artifacts.plan.job.rare.least
    counts = artifacts.counts("train")
    persons = counts.persons
    classes = _held(coder, counts, name, least)
    if not 1 <= len(classes) <= _MOST_CLASSES:
        counted = "rows" if persons is None else "persons"
        raise JobError(
            f"sample.balance: {name!r} has {len(classes):,} classes of {least} {counted} or more; wanted 1 to "
            f"{_MOST_CLASSES:,}"
        )
    return classes


def enough_categories(coder: TableCoder, counts: Counts, least: int) -> dict[str, list[Any]]:
    """By column of categories, those that so many training rows and, where persons are counted, persons have."""
    return {c.name: _held(coder, counts, c.name, least) for c in coder.columns if c.values is not None}


def _held(coder: TableCoder, counts: Counts, name: str, least: int) -> list[Any]:
    place = coder.index[name]
    values = coder.columns[place].values
    assert values is not None
    enough = np.asarray(counts.hist[place][: len(values)]) >= least
    if counts.persons is not None:
        enough &= counts.persons.cells[place].persons[: len(enough)] >= least
    held: list[Any] = values.filter(pa.array(enough)).to_pylist()
    return held
