"""Synthetic rows as families: owners are found by their keys, and what breaks is counted."""

from __future__ import annotations

import pyarrow as pa

from shardsynth.data.relations import Table, TableTree
from shardsynth.stages.tables.subject_rows import link

TREE = TableTree(
    (
        Table("people", "id"),
        Table("visits", "visit", "people", "person", "day"),
        Table("labs", None, "visits", "visit"),
    )
)


def test_owners_are_found_by_their_keys() -> None:
    rows = {
        "people": pa.table({"id": ["b", "a"]}),
        "visits": pa.table({"visit": [7, 8, 9], "person": ["b", "a", "a"], "day": [1, 2, 2]}),
        "labs": pa.table({"visit": pa.array([9, 9, 7], pa.int32())}),
    }
    linked = link(TREE, rows)
    assert linked.subjects == 2
    assert {name: own.tolist() for name, own in linked.subject.items()} == {
        "people": [0, 1],
        "visits": [0, 1, 1],
        "labs": [1, 1, 0],
    }
    assert linked.broken["visits"] == {"orphans": 0, "repeated": 0, "steps_back": 0, "steps": 1}


def test_what_is_broken_is_counted() -> None:
    rows = {
        "people": pa.table({"id": ["a", "a"]}),
        "visits": pa.table({"visit": [7, 8, 9], "person": ["a", "a", "x"], "day": [5, 3, None]}),
        "labs": pa.table({"visit": [9, 7, None]}),
    }
    linked = link(TREE, rows)
    assert linked.broken["people"]["repeated"] == 1
    assert linked.broken["visits"] == {"orphans": 1, "repeated": 0, "steps_back": 1, "steps": 1}
    # Nobody has visit 9, whose person is not there: its lab has no owner either. A lab that names none breaks nothing.
    assert linked.broken["labs"]["orphans"] == 1
    assert linked.rows["labs"].num_rows == 1


def test_the_subjects_of_an_implied_root_are_the_values_of_its_key() -> None:
    tree = TableTree((Table("subjects", "person", implied=True), Table("visits", None, "subjects", "person", "day")))
    linked = link(tree, {"visits": pa.table({"person": [4, 4, 2], "day": [1, 1, 0]})})
    assert linked.subjects == 2
    assert linked.subject["visits"].tolist() == [0, 0, 1]
