"""Conditions on constrained columns: values as users write them, and a cost that does not depend on the row's number."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from shardsynth.errors import ModelError
from shardsynth.sampling.conditions import Condition
from shardsynth.sampling.constraints.conditions import meets
from shardsynth.sampling.constraints.rejection import TESTED_PIECE, ConstrainedRows
from shardsynth.sampling.constraints.table import TableConstraints

SCHEMA = pa.schema({"x": pa.int64()})


class Draws:
    """Rows of one column of numbers under 1,000, and how many were drawn."""

    def __init__(self, wanted: int | None) -> None:
        self.drawn = 0
        test = None if wanted is None else (lambda batch: batch["x"].to_numpy() == wanted)
        self.rows = ConstrainedRows(
            TableConstraints(SCHEMA, ()),
            lambda rows: self.batch(0, rows.start, len(rows)),
            lambda block, piece, rows: self.batch(block + 1, piece, rows),
            block=32_768,
            piece=TESTED_PIECE,
            test=test,
        )

    def batch(self, stream: int, place: int, rows: int) -> pa.RecordBatch:
        self.drawn += rows
        values = np.random.default_rng([stream, place]).integers(0, 1_000, rows)
        return pa.RecordBatch.from_arrays([pa.array(values)], schema=SCHEMA)

    def take(self, rows: range) -> list[int]:
        return [x for batch in self.rows.batches(rows) for x in batch["x"].to_pylist()]


def test_rows_far_on_cost_what_the_first_ones_do() -> None:
    drawn = []
    for first in (0, 20_000, 10**9):
        draws = Draws(7)
        assert draws.take(range(first, first + 20)) == [7] * 20
        drawn.append(draws.drawn)
    assert max(drawn) < 4 * min(drawn)


def test_what_no_row_meets_is_told() -> None:
    with pytest.raises(ModelError, match="hardly ever meets"):
        Draws(5_000).take(range(5))


def test_instants_with_a_zone_and_in_a_layout() -> None:
    zone = dt.timezone(dt.timedelta(hours=1))
    moments = [dt.datetime(2021, 6, 1, 11, tzinfo=zone), dt.datetime(2021, 6, 1, 13, tzinfo=zone)]
    kind = pa.timestamp("us", tz="Europe/Berlin")
    batch = pa.RecordBatch.from_arrays(
        [pa.array(moments, kind), pa.array(["01.06.2021", "02.07.2021"]), pa.array([20210601, 20210702])],
        ["when", "text", "number"],
    )
    assert meets([Condition("when", "<", ("2021-06-01 13:30",))], batch).tolist() == [True, False]
    layouts = {"text": "%d.%m.%Y", "number": "%Y%m%d"}
    for name, value in (("text", "01.06.2021"), ("text", "2021-06-01"), ("number", 20210601)):
        assert meets([Condition(name, "in", (value,))], batch, layouts).tolist() == [True, False]
        assert meets([Condition(name, ">", (value,))], batch, layouts).tolist() == [False, True]
