"""How many persons have each value, beside the plain count of distinct pairs."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from shardsynth.data import metadata as md
from shardsynth.data.distinct_persons import persons_per_code
from shardsynth.summaries.profile import Profile, ProfileOptions


def test_a_person_with_many_rows_counts_once() -> None:
    random = np.random.default_rng(1)
    persons = random.integers(0, 40, 500).astype(np.uint64) << np.uint64(57)
    codes = random.integers(0, 7, 500)
    pairs = set(zip(codes.tolist(), persons.tolist()))
    assert persons_per_code(codes, persons, 9).tolist() == [sum(c == code for c, _ in pairs) for code in range(9)]
    assert persons_per_code(codes[:0], persons[:0], 3).tolist() == [0, 0, 0]


def test_many_categories_of_many_rows_are_published_in_linear_time() -> None:
    random = np.random.default_rng(2)
    table = pa.table({"town": [f"t{code}" for code in random.integers(0, 3_000, 40_000)]})
    profile = Profile.empty(table.schema, ProfileOptions(total_rows=40_000, sample_rows=40_000))
    profile.update(table.to_batches()[0], 0)
    profile.cut()
    names = sorted(set(table["town"].to_pylist()))
    described = {"columns": {"town": {"sdtype": "categorical", "range_values": names}}}
    metadata = {"tables": {"table": described}, "METADATA_SPEC_VERSION": "V2"}
    persons = np.arange(40_000, dtype=np.uint64) // np.uint64(4)
    started = time.process_time()
    published = md.public(metadata, profile, 5, persons)
    assert time.process_time() - started < 2.0  # minutes, where every category reads all rows
    kept = published["tables"]["table"]["columns"]["town"]["range_values"]
    assert 2_000 < len(kept) < 3_000 and kept == sorted(kept)
