"""Known values of rows under constraints: what a model is told, what breaks, and how drawn values give way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sampling.constraints.test_partial_order import below, constraints, ordered_rows

from shardsynth.data.columns import Column
from shardsynth.sampling.constraints.combined import JOINT
from shardsynth.sampling.constraints.declared import bind
from shardsynth.sampling.constraints.known import broken_by, in_order, known_rows, overwritten
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints

N = 200


def drawn_of(table: TableConstraints, seed: int) -> pa.RecordBatch:
    """Rows that a careless model might draw: in order, with gaps."""
    rng = np.random.default_rng(seed)
    arrays = [pa.array(rng.integers(-5, 100, N), f.type, mask=rng.random(N) < 0.3) for f in table.inner]
    rows, valid = table.restore(pa.RecordBatch.from_arrays(arrays, schema=table.inner))
    assert valid.all()
    return rows


@given(st.integers(0, 2**16), st.sets(st.sampled_from("abcd"), min_size=1))
def test_what_is_drawn_gives_way_to_consistent_known_values(seed: int, names: set[str]) -> None:
    real = ordered_rows(seed, N)
    table = constraints(real)
    known = {name: real.column(name) for name in sorted(names)}
    assert not list(broken_by(table, known, N))
    moved = in_order(table, drawn_of(table, seed + 1), known, widened=True)
    for name, array in known.items():
        given_rows = np.asarray(array.is_valid())
        assert moved.column(name).filter(pa.array(given_rows)).equals(array.filter(pa.array(given_rows)))
    for mask in table.valid(moved):
        assert mask.all()


@given(st.integers(0, 2**16), st.sets(st.sampled_from("abcd"), min_size=1))
def test_what_is_told_is_what_the_rows_have(seed: int, names: set[str]) -> None:
    real = ordered_rows(seed, N)
    table = constraints(real)
    inner = table.transform(real)
    known = known_rows(table, {name: real.column(name) for name in sorted(names)}, N, lambda name: None)
    for name, array in known.inner.items():
        told = np.asarray(array.is_valid())
        assert array.filter(pa.array(told)).equals(inner.column(name).filter(pa.array(told))), name
    for name in names & {"a", "b"}:
        assert name in known.inner and name not in known.untold


def test_known_values_that_break_an_order_are_found_row_by_row() -> None:
    real = ordered_rows(0, N)
    table = constraints(real)
    a, c = np.zeros(N, np.int32), np.ones(N, np.int32)
    a[[3, 70]] = 9
    broken = list(broken_by(table, {"a": pa.array(a), "c": pa.array(c)}, N))
    assert len(broken) == 1 and broken[0][0].startswith("Inequality of ")
    assert np.flatnonzero(broken[0][1]).tolist() == [3, 70]


def combined() -> TableConstraints:
    schema = pa.schema([("city", pa.string()), ("zone", pa.int8()), ("n", pa.int64())])
    declared = [{"class_name": "FixedCombinations", "parameters": {"column_names": ["city", "zone"]}}, below("n", "m")]
    schema = schema.append(pa.field("m", pa.int64()))
    roles = {"city": ("categorical", "category"), "zone": ("categorical", "category")}
    steps = bind(
        declared,
        lambda name: ConstrainedColumn(
            Column(name, schema.field(name).type, *roles.get(name, ("numerical", "number")))
        ),
        schema.names,
    )
    return TableConstraints(schema, tuple(steps))


def test_a_part_of_a_combination_tells_what_it_leaves() -> None:
    table = combined()
    held = pa.array(['["Ulm",1]', '["Kiel",1]', '["Lyon",2]', "[null,3]", '["Metz",3]', "other"])
    rows = {
        "city": pa.array(["Ulm", None, None, None, "Oslo"]),
        "zone": pa.array([None, 1, 2, 3, None], pa.int8()),
    }
    known = known_rows(table, rows, 5, lambda name: held)
    told = known.inner["city#zone"]
    assert told.type == JOINT
    assert told.dictionary_decode().to_pylist() == ['["Ulm",1]', None, '["Lyon",2]', '["Metz",3]', None]
    (choices,) = known.choices
    assert choices.labels[choices.group[1]] == ('["Ulm",1]', '["Kiel",1]')
    assert choices.nothing_left.tolist() == [False, False, False, False, True]
    assert (choices.group[[0, 2, 3]] == -1).all()


@pytest.mark.parametrize("value", [None, 7])
def test_known_values_stand_in_place_of_drawn_ones(value) -> None:
    batch = pa.record_batch({"x": pa.array([1, 2]), "y": pa.array(["a", "b"]).dictionary_encode()})
    rows = {"x": pa.array([value, 9], pa.int64()), "y": pa.array([None, "a"]).dictionary_encode()}
    assert overwritten(batch, rows).to_pylist() == [{"x": value or 1, "y": "a"}, {"x": 9, "y": "a"}]
