"""Numbers of rows under conditions: `sample.conditions` and `sample.balance` of the job file.

The global rows of a model are cut into blocks, one after the other: one block per condition, in the order of the job
file, then the rows without a condition. A row depends only on the model, the seed, its number and the condition of its
block, so that any number of tasks makes the same rows. Every native model that can meet conditions can be used.
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
    """Check conditions and balance of a job without reading rows.

    Args:
        job: The job.
        names: Of the input's columns.
        rows: Rows to make per model.

    Raises:
        JobError: A stock model, an unknown column, a condition that cannot be parsed, or more rows than ``rows``.
    """
    sample = job.sample
    if not sample.conditions and sample.balance is None:
        return
    for name, model in job.models.items():
        if model.engine == "sdv":
            raise JobError(
                f"models.{name}: stock models take no conditions here; use engine: native, or leave out "
                "sample.conditions and sample.balance"
            )
    if sample.balance is not None:
        _check_column(sample.balance, names, "sample.balance")
    for place, quota in enumerate(sample.conditions):
        try:
            where = parse_conditions(quota.where)
        except ConditionError as error:
            raise JobError(f"sample.conditions[{place}]: {error}") from None
        for column in where.columns:
            _check_column(column, names, f"sample.conditions[{place}]")
    quota_rows = sum(rows_of(quota, rows) for quota in sample.conditions)
    if quota_rows > rows:
        raise JobError(
            f"sample.conditions ask for {quota_rows:,} rows, sample.rows is {rows:,}; ask for fewer, or raise it"
        )


def _check_column(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        raise JobError(f"{where}: no column is called {column!r}{did_you_mean(column, names, 0.6)}")


def rows_of(quota: Any, total: int) -> int:
    """Number of rows that a quota of the job file asks for, out of ``total``."""
    return int(quota.rows) if quota.rows is not None else round(quota.share * total)


def block_entries(blocks: Sequence[Block], records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of a manifest for the blocks: condition, rows, and the share of proposals that were accepted.

    Args:
        blocks: From ``blocks_of``.
        records: Commit records of the sampling tasks.
    """
    proposed = np.zeros((len(blocks), 2), dtype=np.int64)
    for record in records:
        proposed += np.array((record.get("acceptance") or {}).get("blocks", np.zeros_like(proposed)), dtype=np.int64)
    return [
        {
            "where": None if block.where is None else str(block.where),
            "first_row": block.rows.start,
            "rows": len(block.rows),
            "acceptance": accepted / proposals if proposals else None,
        }
        for block, (proposals, accepted) in zip(blocks, proposed.tolist())
    ]
