"""Persons per cell: exact up to k, and the same for any split of the rows and any order of merging."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.counted import columns_of, one_chunk, profile_of

from shardsynth.data.coding import TableCoder
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.few_persons import RowsOfFew, without_few
from shardsynth.summaries.person_counts import PersonCounts, persons_of
from shardsynth.summaries.persons import (
    PersonCells,
    PersonEnds,
    PersonPatterns,
    distinct_in,
    hash_persons,
    union_size,
)

K = 3
quiet = settings(max_examples=60, deadline=None)
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(-4, 4)), max_size=60)


def arrays(rows):
    cells, people, values = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    return cells, hash_persons(1, pa.array(people), np.arange(len(rows), dtype=np.uint64)), values.astype(float)


def merged(make, add, rows, cuts, order):
    """Each part counted alone, then merged in an order."""
    edges = [0, *sorted({min(c, len(rows)) for c in cuts}), len(rows)]
    parts = []
    for start, stop in zip(edges, edges[1:]):
        part = make()
        add(part, *(a[start:stop] for a in arrays(rows[:stop])))
        parts.append(part)
    parts = sorted(parts, key=lambda part: order(id(part)))
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    return whole


def same(one, other) -> bool:
    a, b = one.to_arrays("x"), other.to_arrays("x")
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@quiet
@given(ROWS, st.lists(st.integers(0, 60), max_size=4), st.integers(0, 99))
def test_cells_are_exact_up_to_k_however_the_rows_are_cut(rows, cuts, salt) -> None:
    def add(part, cells, people, values):
        part.add(cells, people)

    whole = merged(lambda: PersonCells(6, K), add, rows, cuts, lambda x: hash((x, salt)))
    once = PersonCells(6, K)
    add(once, *arrays(rows))
    assert same(whole, once)
    truth = [{r[1] for r in rows if r[0] == cell} for cell in range(6)]
    assert whole.persons.tolist() == [min(len(people), K) for people in truth]
    assert min(union_size(whole.hashes[1:4]), K) == min(len(set().union(*truth[1:4])), K)
    assert distinct_in(*arrays(rows)[:2], 6).tolist() == [len(people) for people in truth]
    again = PersonCells(6, K)
    again.from_arrays(whole.to_arrays("x"), "x")
    assert same(again, whole)


@quiet
@given(ROWS, st.lists(st.integers(0, 60), max_size=4), st.integers(0, 99))
def test_ends_are_those_of_the_most_extreme_persons(rows, cuts, salt) -> None:
    def add(part, cells, people, values):
        part.add(values, people)

    whole = merged(lambda: PersonEnds(K), add, rows, cuts, lambda x: hash((x, salt)))
    once = PersonEnds(K)
    add(once, *arrays(rows))
    assert same(whole, once)
    people = {r[1] for r in rows}
    lows = sorted(min(r[2] for r in rows if r[1] == p) for p in people)
    highs = sorted((max(r[2] for r in rows if r[1] == p) for p in people), reverse=True)
    assert whole.low.tolist() == lows[:K] and whole.high.tolist() == highs[:K]


@quiet
@given(ROWS, st.lists(st.integers(0, 60), max_size=4), st.integers(0, 99))
def test_patterns_of_few(rows, cuts, salt) -> None:
    def add(part, cells, people, values):
        part.add(cells, people)

    whole = merged(lambda: PersonPatterns(K), add, rows, cuts, lambda x: hash((x, salt)))
    once = PersonPatterns(K)
    add(once, *arrays(rows))
    assert same(whole, once)
    few = [len({r[1] for r in rows if r[0] == cell}) < K for cell in range(6)]
    assert not rows or whole.few(np.arange(6), K).tolist() == few


def test_too_many_patterns_are_not_counted() -> None:
    patterns = PersonPatterns(K)
    patterns.add(np.arange(PersonPatterns.MOST + 1), np.arange(PersonPatterns.MOST + 1).astype(np.uint64))
    assert patterns.overflow and not patterns.few(np.array([1, 2]), K).any()


def test_a_row_that_names_nobody_is_a_person_of_its_own() -> None:
    for column in (pa.array(["a", None, "a", None]), pa.array([1.0, None, 1.0, float("nan")])):
        first, second, third, fourth = hash_persons(0, column, np.arange(4, dtype=np.uint64)).tolist()
        assert first == third and len({first, second, fourth}) == 3
    coded = pa.array(["b", "a", "b"]).dictionary_encode()
    rows = np.arange(3, dtype=np.uint64)
    assert hash_persons(0, coded, rows).tolist() == hash_persons(0, pa.array(["b", "a", "b"]), rows).tolist()


def counted(table: pa.Table, people: list[int], k: int = 5) -> Counts:
    coder = TableCoder.from_profile(profile_of(table), columns_of(table))
    persons = hash_persons(0, pa.array(people), np.arange(len(people), dtype=np.uint64))
    counts = Counts.empty(coder, fit=True, score=None, persons=PersonCounts(coder, k, len(set(people)), pairs=True))
    return counts.update(one_chunk(table), 0, persons=persons)


def visits() -> tuple[pa.Table, list[int]]:
    """60 persons with ten visits each, and one more whose twelve have a pair and a gap that no other has."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(61), [10] * 60 + [12])
    hers = people == 60
    first, second = rng.choice(["a", "b", "c"], len(people)), rng.choice(["x", "y"], len(people))
    second[(first == "c") & (second == "y")] = "x"
    first[hers], second[hers] = "c", "y"
    score, other = rng.integers(0, 40, len(people)), rng.integers(0, 40, len(people))
    score_gap, other_gap = rng.random(len(people)) < 0.2, np.zeros(len(people), bool)
    other_gap[(rng.random(len(people)) < 0.2) & ~score_gap] = True
    score_gap[hers] = other_gap[hers] = True
    table = pa.table(
        {
            "first": first,
            "second": second,
            "score": pa.array(score, mask=score_gap),
            "other": pa.array(other, mask=other_gap),
        }
    )
    return table, people.tolist()


def test_counts_without_few_hold_neither_her_pair_nor_her_gap() -> None:
    table, people = visits()
    counts = counted(table, people)
    assert counts.pair(0, 1)[2, 1] == 12 and counts.missing_gram[0, 1] == 12
    shown = without_few(counts, 5)
    assert shown.pair(0, 1)[2, 1] == 0 and shown.missing_gram[0, 1] == 0 == shown.missing_gram[1, 0]
    assert (shown.pair(0, 1)[:2] == counts.pair(0, 1)[:2]).all()
    assert [counts.hist[i][-1] - shown.hist[i][-1] for i in (2, 3)] == [12, 12]
    assert counts.pair(0, 1)[2, 1] == 12  # what was counted stays


def test_a_column_that_she_alone_misses_is_never_missing() -> None:
    table, people = visits()
    gap = pa.array([None if p == 60 else p % 7 for p in people], pa.int64())
    shown = without_few(counted(table.append_column("gap", gap), people), 5)
    assert shown.hist[4][-1] == 0 and shown.hist[2][-1] > 0


def test_columns_that_she_alone_tells_apart_are_missing_together() -> None:
    table, people = visits()
    gone = [n % 5 == 0 for n in range(len(people))]
    one = pa.array([None if g and p != 60 else 1 + p % 3 for g, p in zip(gone, people)], pa.int64())
    two = pa.array([None if g else 1 + p % 4 for g, p in zip(gone, people)], pa.int64())
    counts = counted(pa.table({"one": one, "two": two, "x": table["first"]}), people)
    assert counts.hist[0][-1] < counts.hist[1][-1]
    shown = without_few(counts, 5)
    assert shown.hist[0][-1] == shown.hist[1][-1] == shown.missing_gram[0, 1]


@pytest.mark.parametrize("batch", [True, False])
def test_rows_without_few_keep_shares_and_lose_her_combination(batch: bool) -> None:
    table, people = visits()
    counts = counted(table, people)
    hide = RowsOfFew(counts, 5, seed=3)
    out = hide.taken_out(one_chunk(table) if batch else table)
    assert out.num_rows == table.num_rows and out.schema.equals(table.schema)
    rows = out.to_pylist()
    assert not any(r["first"] == "c" and r["second"] == "y" for r in rows)
    assert not any(r["score"] is None and r["other"] is None for r in rows)
    changed = sum(a != b for a, b in zip(rows, table.to_pylist()))
    assert 12 <= changed < 40 and hide.swapped < 60
    again = RowsOfFew(counts, 5, seed=3).taken_out(table)
    assert again.to_pylist() == rows


def test_what_persists_goes_on_to_do_so_where_combinations_of_few_are_swapped() -> None:
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(80), 10)
    drug, dose = rng.integers(0, 9, 80)[people], rng.integers(0, 12, 80)[people]
    table = pa.table({"drug": [f"d{n}" for n in drug], "dose": [f"{n} mg" for n in dose]})
    counts = counted(table, people.tolist())

    def persist(rows: pa.Table) -> float:
        values = np.array(rows["drug"].to_pylist())
        return float((values[1:] == values[:-1])[people[1:] == people[:-1]].mean())

    hidden = [RowsOfFew(counts, 5, seed=3).taken_out(table, persons) for persons in (None, people)]
    assert all(rows.schema.equals(table.schema) and rows.num_rows == 800 for rows in hidden)
    assert persist(table) == 1.0 and persist(hidden[0]) < 0.92 and persist(hidden[1]) == 1.0
    again = RowsOfFew(counts, 5, seed=3).taken_out(table, people)
    assert again.equals(hidden[1])


def test_counts_with_persons_are_merged_saved_and_loaded(tmp_path) -> None:
    table, people = visits()
    counts = counted(table, people)
    halves = []
    for half in (slice(0, 300), slice(300, None)):
        part = Counts.empty(counts.coder, fit=True, score=None, persons=PersonCounts(counts.coder, 5, 61, pairs=True))
        rows = range(len(people))[half]
        persons = hash_persons(0, pa.array(people), np.arange(len(people), dtype=np.uint64))[half]
        part.update(one_chunk(table).slice(rows.start, len(rows)), rows.start, persons=persons)
        halves.append(part)
    counts.save(tmp_path / "whole")
    halves[1].merge(halves[0]).save(tmp_path / "merged")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "merged").read_bytes()
    loaded = Counts.load(tmp_path / "whole", counts.coder)
    assert loaded.persons is not None and persons_of(loaded.persons.cells[0], [0, 1]) == 5
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "whole").read_bytes()
