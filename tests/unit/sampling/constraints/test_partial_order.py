"""Orders of columns that share columns are one step, and come back as they were, with gaps of every pattern."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.data.columns import Column
from shardsynth.sampling.constraints.declared import bind
from shardsynth.sampling.constraints.partial_order import PartialOrderStep, has_roots
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints


def below(low: str, high: str, strict: bool = False) -> dict:
    names = {"low_column_name": low, "high_column_name": high}
    return {"class_name": "Inequality", "parameters": {**names, "strict_boundaries": strict}}


def ordered_rows(seed: int, n: int = 300) -> pa.RecordBatch:
    """a and b lie below c, all three below d, on n rows with gaps."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 100, n), rng.integers(0, 100, n)
    c = np.maximum(a, b) + rng.integers(0, 4, n)
    columns = {"a": a, "b": b, "c": c, "d": c + rng.integers(1, 4, n)}
    return pa.record_batch({name: pa.array(v, pa.int32(), mask=rng.random(n) < 0.2) for name, v in columns.items()})


DECLARED = [below("a", "c"), below("b", "c"), below("c", "d", True), below("a", "d"), below("b", "d")]


def constraints(batch: pa.RecordBatch) -> TableConstraints:
    arrays = {name: batch.column(name) for name in batch.schema.names}
    steps = bind(
        DECLARED,
        lambda name: ConstrainedColumn(Column(name, batch.schema.field(name).type, "numerical", "number")),
        batch.schema.names,
        rooted=lambda names, edges: has_roots(names, edges, arrays),
    )
    return TableConstraints(batch.schema, tuple(steps))


@given(st.integers(0, 2**16))
def test_rows_come_back_as_they_were(seed: int) -> None:
    batch = ordered_rows(seed)
    table = constraints(batch)
    assert [type(step) for step in table.steps] == [PartialOrderStep]
    table = TableConstraints.from_json(table.to_json())
    restored, valid = table.restore(table.transform(batch))
    assert valid.all() and restored.equals(batch)


@given(st.integers(0, 2**16))
def test_whatever_a_model_draws_is_restored_in_order(seed: int) -> None:
    table = constraints(ordered_rows(seed))
    rng = np.random.default_rng(seed + 1)
    drawn = pa.RecordBatch.from_arrays(
        [pa.array(rng.integers(-5, 100, 500), f.type, mask=rng.random(500) < 0.3) for f in table.inner],
        schema=table.inner,
    )
    rows, valid = table.restore(drawn)
    assert valid.all()
    frame = rows.to_pandas()
    for low, high in (("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")):
        assert not (frame[low] > frame[high]).any()
    assert not (frame["c"] >= frame["d"]).any()


def test_an_order_that_follows_holds_where_the_column_between_is_not_drawn() -> None:
    """a <= b <= c with b on every row of the input: a model may leave b out of a row, and c stays above a."""
    rng = np.random.default_rng(3)
    a = rng.integers(0, 100, 200)
    batch = pa.record_batch({"a": a, "b": a + rng.integers(0, 5, 200), "c": a + rng.integers(5, 9, 200)})
    arrays = {name: batch.column(name) for name in batch.schema.names}
    for holds in (True, False):
        (step,) = bind(
            [below("a", "b"), below("b", "c")],
            lambda name: ConstrainedColumn(Column(name, pa.int64(), "numerical", "number")),
            batch.schema.names,
            rooted=lambda names, edges: has_roots(names, edges, arrays),
            holds=lambda step: holds and bool(step.valid(arrays, 200).all()),  # noqa: B023
        )
        assert isinstance(step, PartialOrderStep) and (len(step.edges) == 3) == holds
    (step,) = bind(
        [below("a", "b"), below("b", "c")],
        lambda name: ConstrainedColumn(Column(name, pa.int64(), "numerical", "number")),
        batch.schema.names,
        rooted=lambda names, edges: has_roots(names, edges, arrays),
        holds=lambda step: bool(step.valid(arrays, 200).all()),
    )
    table = TableConstraints(batch.schema, (step,))
    table = TableConstraints.from_json(table.to_json())
    drawn = {name: rng.integers(0, 100, 400) for name in table.inner.names}
    missing = {"a#b": np.ones(400, bool)}
    inner = pa.RecordBatch.from_arrays(
        [pa.array(drawn[f.name], f.type, mask=missing.get(f.name)) for f in table.inner], schema=table.inner
    )
    rows, valid = table.restore(inner)
    assert valid.all() and rows["b"].null_count == 400 and rows["c"].null_count == 0
    assert (rows["c"].to_numpy() >= rows["a"].to_numpy()).all()
