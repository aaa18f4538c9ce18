"""The inner tables that a model of several tables learns, and the way back."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.data.layout import (
    Layout,
    LayoutFacts,
    OwnedRows,
    from_numbers,
    index_values,
    inner_schemas,
    inner_tables,
    positions,
    ranks,
    to_numbers,
)
from shardsynth.data.relations import Table, TableTree

ROOT = Table("people", "id")
STAYS = Table("stays", None, "people", "id", "begin")
TREE = TableTree((ROOT, STAYS))


def stays() -> OwnedRows:
    rows = pa.table(
        {
            "id": ["a", "a", "a", "c", "c"],
            "begin": pa.array([None, 3, 5, 7, 7], pa.int64()),
            "end": pa.array([1, 3, None, 9, 8], pa.int64()),
            "site": ["N", "N", "N", None, None],
            "ward": ["A", "B", "A", "A", "A"],
        }
    )
    return OwnedRows(rows, np.array([0, 0, 0, 2, 2]))


def test_the_inner_tables_of_a_small_family() -> None:
    people = OwnedRows(pa.table({"id": ["a", "b", "c"], "sex": ["F", "M", "F"]}), np.arange(3))
    rows = {"people": people, "stays": stays()}
    layouts = {
        "people": Layout("people", ("sex",)),
        "stays": Layout("stays", ("ward",), moved=("site",), after=("end",)),
    }
    inner = inner_tables(TREE, layouts, rows)
    assert inner["people"].to_pydict() == {
        "sex": ["F", "M", "F"],
        "stays: (rows)": [3, 0, 2],
        "stays: (first)": [3, None, 7],
        "stays: site": ["N", None, None],
    }
    assert inner["stays"].to_pydict() == {
        "begin": [None, 0, 2, 0, 0],
        "end": [-2, 0, None, 2, 1],
        "ward": ["A", "B", "A", "A", "A"],
    }
    schemas = inner_schemas(TREE, layouts, {name: own.rows.schema for name, own in rows.items()})
    assert all(inner[name].schema.equals(schemas[name]) for name in schemas)


def test_facts_of_parts_add_up_to_a_layout() -> None:
    facts = LayoutFacts()
    for _ in range(3):
        part = LayoutFacts()
        part.update(STAYS, stays())
        facts.merge(LayoutFacts.from_json(json.loads(json.dumps(part.to_json()))))
    layout = facts.layout(STAYS, stays().rows.schema.names)
    # `end` is before the first known `begin` on one row, so it is learned as it is.
    assert layout == Layout("stays", ("end", "ward"), moved=("site",), after=(), whole=False)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_numbers_of_the_rows_of_each_owner() -> None:
    rows = pa.table({"id": list("aaabb"), "nr": [3, 1, 2, 1, 2], "other": [1, 2, 2, 1, 2]})
    facts = LayoutFacts()
    for _ in range(3):
        facts.update(Table("rows", None, "people", "id"), OwnedRows(rows, np.array([0, 0, 0, 1, 1])))
    assert facts.layout(Table("rows", None, "people", "id"), rows.schema.names).numbered == ("nr",)
    drawn = np.array([7.5, 7.5, 1.0, 4.0, 2.0])
    assert ranks(drawn, np.array([0, 0, 0, 1, 1])).tolist() == [2, 3, 1, 2, 1]


def test_few_owners_say_nothing_about_what_is_constant() -> None:
    facts = LayoutFacts()
    facts.update(STAYS, stays())
    assert facts.layout(STAYS, stays().rows.schema.names).moved == ()


times = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(-50, 50))), max_size=20)


@given(times)
def test_the_index_comes_back_from_its_gaps(drawn: list[tuple[int, int | None]]) -> None:
    ordered = sorted(drawn, key=lambda row: (row[0], row[1] is not None, row[1] or 0))
    owner = np.array([row[0] for row in ordered], np.int64)
    rows = OwnedRows(
        pa.table({"id": owner.astype(str), "begin": pa.array([row[1] for row in ordered], pa.int64())}), owner
    )
    people = OwnedRows(pa.table({"id": ["0", "1", "2", "3"]}), np.arange(4))
    layouts = {"people": Layout("people", ()), "stays": Layout("stays", ())}
    inner = inner_tables(TREE, layouts, {"people": people, "stays": rows})
    gaps, absent = to_numbers(inner["stays"].column("begin"))
    assert (gaps >= 0).all()
    first, no_first = to_numbers(inner["people"].column("stays: (first)"))
    values, absent, _ = index_values(gaps, absent, owner, first, no_first)
    assert from_numbers(values, absent, pa.int64()).to_pylist() == [row[1] for row in ordered]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9), st.booleans()), max_size=30))
def test_whatever_gaps_are_drawn_the_order_holds(drawn: list[tuple[int, int, bool]]) -> None:
    ordered = sorted(drawn, key=lambda row: row[0])
    owner = np.array([row[0] for row in ordered], np.int64)
    gaps = np.array([row[1] for row in ordered], np.int64)
    absent = np.array([row[2] for row in ordered], bool)
    no_first = np.array([False, False, False, False, True])
    values, missing, known = index_values(gaps, absent, owner, np.arange(5) * 10, no_first)
    for number in range(5):
        own = values[(owner == number) & ~missing]
        assert (np.diff(own) >= 0).all()
        assert not len(own) or own[0] == number * 10
    assert missing[owner == 4].all() and (known[owner == 4] == 0).all()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, None, 1], pa.int16()),
        pa.array([2.5, None, -1.25], pa.float32()),
        pa.array([datetime.date(2020, 2, 29), None, datetime.date(1960, 1, 1)], pa.date32()),
        pa.array([datetime.date(2020, 2, 29), None], pa.date64()),
        pa.array([datetime.datetime(2020, 2, 29, 5), None], pa.timestamp("us", "UTC")),
        pa.array([4, None, 4], pa.int32()).dictionary_encode(),
    ],
)
def test_every_ordered_type_becomes_numbers_and_comes_back(values: pa.Array) -> None:
    numbers, absent = to_numbers(values)
    back = from_numbers(numbers, absent, values.type)
    assert back.type == values.type
    assert back.to_pylist() == values.to_pylist()


def test_positions_count_within_an_owner() -> None:
    assert positions(np.array([0, 0, 2, 2, 2, 3])).tolist() == [0, 1, 0, 1, 2, 0]
    assert positions(np.zeros(0, np.int64)).tolist() == []
