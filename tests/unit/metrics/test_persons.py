"""Folds, bootstrap samples and records by person."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from shardsynth.metrics import persons

PEOPLE = np.repeat(np.arange(20, dtype=np.uint64) * 7, np.arange(1, 21))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_table_keeps_its_persons() -> None:
    table = persons.with_persons(pa.table({"x": np.arange(len(PEOPLE))}), PEOPLE)
    taken = table.take(pa.array([5, 3]))
    assert persons.persons_of(taken).tolist() == PEOPLE[[5, 3]].tolist()
    assert persons.persons_of(pa.table({"x": [1]})) is None


def test_a_person_is_in_one_fold_and_half_of_them_in_each() -> None:
    fold = persons.folds(PEOPLE, len(PEOPLE), generator())
    sides = [set(PEOPLE[fold == half].tolist()) for half in (0, 1)]
    assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == 10
    assert np.bincount(persons.folds(None, 10, generator())).tolist() == [5, 5]


def test_a_bootstrap_sample_holds_whole_persons() -> None:
    sizes = np.bincount(np.unique(PEOPLE, return_inverse=True)[1])
    for rows in persons.resamples(PEOPLE, len(PEOPLE), 20, generator()):
        drawn, times = np.unique(rows, return_counts=True)
        people = np.unique(PEOPLE[drawn], return_inverse=True)[1]
        assert sum(sizes[np.unique(PEOPLE, return_index=True)[0].searchsorted(np.unique(PEOPLE[drawn]))]) == len(drawn)
        assert all(len(set(times[people == p].tolist())) == 1 for p in range(people.max() + 1))
    assert [len(rows) for rows in persons.resamples(None, 7, 2, generator())] == [7, 7]


def test_one_row_of_each_person() -> None:
    rows = persons.one_row_each(PEOPLE, len(PEOPLE), generator())
    assert len(rows) == 20 and len(set(PEOPLE[rows].tolist())) == 20
    assert persons.one_row_each(None, 4, generator()).tolist() == [0, 1, 2, 3]


def test_the_second_nearest_is_another_person() -> None:
    people = np.array([1, 1, 1, 2], np.uint64)
    index = np.array([[0, 1, 3, 2], [3, 0, 1, 2], [0, 1, 2, -1]])
    assert persons.other_persons(people, index).tolist() == [2, 1, 3]
