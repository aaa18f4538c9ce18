"""What the page shows where persons are counted: no cell of one person with many rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tests.tables.counted import columns_of, one_chunk, profile_of

from shardsynth.data.coding import TableCoder
from shardsynth.report.figures import ColumnFigure, column_figures
from shardsynth.report.shown import shown_counts
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.person_counts import PersonCounts
from shardsynth.summaries.persons import hash_persons


def figures(table: pa.Table, people: list[int]) -> dict[str, ColumnFigure]:
    coder = TableCoder.from_profile(profile_of(table), columns_of(table))
    persons = hash_persons(0, pa.array(people), np.arange(len(people), dtype=np.uint64))
    counts = Counts.empty(coder, fit=False, score=None, persons=PersonCounts(coder, 5, len(set(people)), pairs=False))
    counts.update(one_chunk(table), 0, persons=persons)
    made = Counts.empty(coder, fit=False, score=None).update(one_chunk(table), 0)
    return {f.name: f for f in column_figures(coder, shown_counts(counts, 5), {"m": made})}


def visits(hers: int = 20) -> tuple[pa.Table, list[int]]:
    people = [n // 6 for n in range(360)] + [999] * hers
    word = [["up", "down"][n % 2] for n in range(360)] + ["SECRET"] * hers
    number = [float(n % 30) for n in range(360)] + [700.0 + n for n in range(hers)]
    gap = [n % 9 for n in range(360)] + [None] * hers
    return pa.table({"word": word, "number": number, "gap": pa.array(gap, pa.int64())}), people


def test_her_category_has_neither_a_name_nor_a_number() -> None:
    found = figures(*visits())["word"]
    assert {cell.label for cell in found.rows} == {"up", "down", "other (fewer than 5 rows)"}
    assert [cell.real for cell in found.rows if cell.kind == "other"] == [None]
    # nor can it be computed: the other shares are of the rows that are shown
    assert sum(cell.real or 0 for cell in found.rows) > 0.99


def test_her_numbers_stand_where_others_stand() -> None:
    found = figures(*visits())["number"]
    cells = [*found.rows, *found.bins]
    assert not any(digits in cell.label for cell in cells for digits in ("70", "71"))
    assert any("29" in cell.label or "3" in cell.label for cell in cells)


def test_a_gap_that_only_she_has_is_hidden() -> None:
    found = figures(*visits())["gap"]
    assert [cell.real for cell in found.rows if cell.kind == "missing"] == [None]


def test_rare_words_of_many_persons_are_counted_together() -> None:
    table, people = visits(0)
    words = [w if n % 40 else f"rare {people[n]}" for n, w in enumerate(table["word"].to_pylist())]
    found = figures(pa.table({"word": words}), people)["word"]
    other = next(cell for cell in found.rows if cell.kind == "other")
    assert other.real is not None and other.real > 0
