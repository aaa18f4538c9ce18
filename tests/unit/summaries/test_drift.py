"""Drift between shards: by hand, over merges, and through a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.counted import coder_of

from shardsynth.summaries.counts import Counts
from shardsynth.summaries.drift import MOST_GROUPS, ShardHistograms, group_of


def histograms(tables: list[pa.Table], coder) -> ShardHistograms:
    found = ShardHistograms()
    for group, table in enumerate(tables):
        counts = Counts.empty(coder, fit=False, score=None)
        for batch in table.to_batches():
            counts.update(batch, 0)
        found.add(group, coder, counts.hist)
    return found


def test_the_distance_by_hand() -> None:
    tables = [pa.table({"c": ["a"] * 80 + ["b"] * 20}), pa.table({"c": ["a"] * 60 + ["b"] * 40})]
    found = histograms(tables, coder_of(pa.concat_tables(tables))).distances(coder_of(pa.concat_tables(tables)))
    assert found["groups"] == [0, 1]
    assert found["columns"]["c"]["distance"] == pytest.approx([0.1, 0.1])
    chance = 2 * np.sqrt(0.7 * 0.3) / np.sqrt(2 * np.pi * 100)
    assert found["columns"]["c"]["chance"] == pytest.approx(chance, abs=1e-4)
    assert found["columns"]["c"]["excess"] == pytest.approx(0.1 - chance, abs=1e-4)


def test_chance_is_what_random_shards_have() -> None:
    rng = np.random.default_rng(0)
    tables = [pa.table({"c": rng.integers(0, 8, 500).astype(str), "x": rng.normal(size=500)}) for _ in range(40)]
    coder = coder_of(pa.concat_tables(tables))
    for column in histograms(tables, coder).distances(coder)["columns"].values():
        assert np.mean(column["distance"]) == pytest.approx(column["chance"], rel=0.1)


def test_few_rows_tell_nothing() -> None:
    tables = [pa.table({"c": ["a"] * n}) for n in (100, 100, 10)]
    coder = coder_of(tables[0])
    assert histograms(tables, coder).distances(coder)["columns"]["c"]["distance"] == [0.0, 0.0, None]
    assert histograms(tables[1:], coder).distances(coder)["columns"] == {}


def test_parts_merge_in_any_order_and_come_back() -> None:
    tables = [pa.table({"c": ["a"] * n + ["b"] * (60 - n)}) for n in (5, 30, 60)]
    coder = coder_of(pa.concat_tables(tables))
    whole = histograms(tables, coder)
    parts = [ShardHistograms({g: counts}) for g, counts in whole.groups.items()]
    parts += [ShardHistograms({1: np.zeros_like(whole.groups[1])})]
    merged = ShardHistograms()
    for part in reversed(parts):
        merged.merge(ShardHistograms.from_arrays(part.to_arrays()))
    assert merged.distances(coder) == whole.distances(coder)


def test_many_shards_are_joined_to_neighbours() -> None:
    assert [group_of(k, 5) for k in range(5)] == [0, 1, 2, 3, 4]
    groups = [group_of(k, 1234) for k in range(1234)]
    assert groups == sorted(groups) and set(groups) == set(range(MOST_GROUPS))
