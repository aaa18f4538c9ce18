"""So many rows under each condition: `sample.conditions` and `sample.balance` of the job file.

The global rows of a model are cut into blocks, one after the other: a block per condition, in the order of the job
file, then the rows without one. A row depends on the model, the seed, its number and its block's condition alone, so
that any number of tasks makes the same rows. Any model that can be drawn under conditions will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardsynth.errors import ConditionError, JobError, did_you_mean
from shardsynth.job import Job
from shardsynth.sampling.conditions import Conditions, parse_conditions


@dataclass(frozen=True)
class Block:
    """Global rows that are drawn under one condition, or under none."""

    rows: range
    where: Conditions | None


def check_quotas(job: Job, names: Sequence[str], rows: int) -> None:
    """JobError for what can be known to be wrong before anything is read.

    Args:
        job: The job.
        names: The input's columns.
        rows: Rows to make per model.
    """
    asked = job.sample
    if not asked.conditions and asked.balance is None:
        return
    for name, model in job.models.items():
        if model.engine == "sdv":
            raise JobError(
                f"models.{name}: stock models take no conditions here; use engine: native, or leave out "
                "sample.conditions and sample.balance"
            )
    if asked.balance is not None:
        _known(asked.balance, names, "sample.balance")
    for place, quota in enumerate(asked.conditions):
        try:
            where = parse_conditions(quota.where)
        except ConditionError as error:
            raise JobError(f"sample.conditions[{place}]: {error}") from None
        for column in where.columns:
            _known(column, names, f"sample.conditions[{place}]")
    wanted = sum(rows_of(quota, rows) for quota in asked.conditions)
    if wanted > rows:
        raise JobError(
            f"sample.conditions ask for {wanted:,} rows, sample.rows is {rows:,}; ask for fewer, or raise it"
        )


def _known(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        raise JobError(f"{where}: no column is called {column!r}{did_you_mean(column, names, 0.6)}")


def rows_of(quota: Any, total: int) -> int:
    """Rows that a quota asks for, of so many in all."""
    return int(quota.rows) if quota.rows is not None else round(quota.share * total)


def described(blocks: Sequence[Block], records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a manifest says of the blocks: condition, rows, and the share of proposals that were accepted.

    Args:
        blocks: From ``blocks_of``.
        records: Commit records of the sampling tasks.
    """
    drawn = np.zeros((len(blocks), 2), dtype=np.int64)
    for record in records:
        drawn += np.array((record.get("acceptance") or {}).get("blocks", np.zeros_like(drawn)), dtype=np.int64)
    return [
        {
            "where": None if block.where is None else str(block.where),
            "first_row": block.rows.start,
            "rows": len(block.rows),
            "acceptance": accepted / proposals if proposals else None,
        }
        for block, (proposals, accepted) in zip(blocks, drawn.tolist())
    ]
