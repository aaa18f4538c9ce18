"""Columns that are declared in public, and rows of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.public_codes import public_coder
from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
from shardsynth.summaries.counts import Counts

COLUMNS = [
    Column("n", pa.int16(), "numerical", "number", {"range_min": -3, "range_max": 9}),
    Column("x", pa.float64(), "numerical", "number", {"range_min": 0.0, "range_max": 10.0}),
    Column("c", pa.string(), "categorical", "category", {"range_values": ["a", "b", "c"]}),
    Column("d", pa.bool_(), "boolean", "category", {}),
]
SCHEMA = pa.schema([pa.field(c.name, c.type) for c in COLUMNS])


def counted(coder: TableCoder, table: pa.Table) -> Counts:
    counts = Counts.empty(coder, fit=True, score=None)
    for batch in table.to_batches():
        counts.update(batch, 0)
    return counts


def rows(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    d = rng.random(n) < 0.4
    return pa.table(
        {
            "n": np.clip(np.rint(rng.normal(np.where(d, 6, 0), 1.0)), -3, 9).astype(np.int16),
            "x": pa.array(rng.uniform(0, 10, n), mask=rng.random(n) < 0.2),
            "c": np.where(rng.random(n) < 0.9, np.where(d, "a", "b"), "c"),
            "d": d,
        }
    ).cast(SCHEMA)


def planned(n: int, epsilon: float, **options) -> DpTrainingPlan:
    return DpTrainingPlan.of(options, public_coder(COLUMNS, n, 0), n, epsilon, 1e-6)
