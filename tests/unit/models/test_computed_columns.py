"""Columns that are computed on finished rows: copies, and columns that complete others."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.models.columns.computed import ComputedColumn, copy_of
from shardsynth.models.columns.formulas import LinearRelation
from shardsynth.models.columns.operands import Amount
from shardsynth.sampling.constraints.step import ConstrainedColumn


def instant(name: str, type_: pa.DataType, **options: Precision) -> ConstrainedColumn:
    return ConstrainedColumn(Column(name, type_, "datetime", "datetime"), **options)


def copied(sample: pa.Table, **options: Precision) -> ComputedColumn:
    """The column ``end`` as a copy of the column ``start``, through its file."""
    low, high = (instant(name, sample.schema.field(name).type, **options) for name in ("start", "end"))
    found = copy_of(low, high, sample)
    assert found is not None
    again = ComputedColumn.from_json(json.loads(json.dumps(found.to_json())), sample.schema)
    assert again == found
    return again


def test_a_copy_keeps_what_was_drawn_where_its_column_is_missing() -> None:
    days = pa.array(np.arange(400, dtype=np.int32)).cast(pa.date32())
    sample = pa.table({"start": days, "end": days})
    drawn = {"start": pa.array([1, None, 3, None], pa.int32()), "end": pa.array([9, 5, None, None], pa.int32())}
    made = copied(sample).compute({name: array.cast(pa.date32()) for name, array in drawn.items()}, 4)
    assert made.type == pa.date32() and made.cast(pa.int32()).to_pylist() == [1, 5, None, None]


def test_a_copy_of_instants_in_nanoseconds_is_a_copy() -> None:
    """float64 holds such instants to 256 ns only: a copy through it breaks the order and leaves the grid."""
    rng = np.random.default_rng(0)
    counts = 1_700_000_000_000_000_000 + 1_000 * rng.integers(0, 10**9, 500)
    end = pa.array(counts, pa.timestamp("ns"))
    grid = {"precision": Precision("integer", unit=1_000)}
    for start in (end, end.cast(pa.timestamp("us"))):
        sample = pa.table({"start": start, "end": end})
        column = copied(sample, **(grid if start.type == end.type else {}))
        assert column.compute({"start": start, "end": end}, 500).equals(end)
        back = copied(pa.table({"start": end, "end": start}))
        assert back.compute({"start": end, "end": start}, 500).equals(start)
    near = pa.table({"start": end, "end": pa.array(counts + 100, pa.timestamp("ns"))})
    assert column.violations(near.combine_chunks().to_batches()[0]) == 500
    assert copy_of(instant("start", end.type), instant("end", end.type), near) is None


def test_an_end_in_nanoseconds_is_exactly_its_start_and_duration() -> None:
    rng = np.random.default_rng(1)
    start = 1_700_000_000_000_000_000 + rng.integers(0, 10**15, 500)
    seconds = rng.integers(1, 5_000, 500)
    table = pa.record_batch(
        {
            "start": pa.array(start, pa.timestamp("ns")),
            "seconds": pa.array(seconds, mask=seconds < 100),
            "end": pa.array(start + 10**9 * seconds, pa.timestamp("ns"), mask=seconds < 100),
        }
    )
    parents = (Amount("start", nanoseconds=1), Amount("seconds"))
    grid = Precision("integer")
    relation = LinearRelation(parents, Amount("end", nanoseconds=1), 0.25, grid, 500, (1.0, 1e9))
    column = ComputedColumn(relation, instant("end", pa.timestamp("ns"), precision=grid))
    assert column.violations(table) == 0
    assert column.compute({name: table.column(name) for name in ("start", "seconds")}, 500).equals(table.column("end"))
