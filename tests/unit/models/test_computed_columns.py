"""Columns that are computed on finished rows: copies, and columns that complete others."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.models.columns.computed import ComputedColumn, copy_of
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
