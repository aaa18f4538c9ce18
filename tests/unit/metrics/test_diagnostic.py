"""What ``diagnostic`` finds, and that a report is plain JSON."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from tests.tables.counted import columns_of, counts_of, profile_of, read

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.metrics.diagnostic import diagnostic
from shardsynth.metrics.quality import quality


def test_diagnostic_takes_what_counts_cannot_tell() -> None:
    real = pa.table({"id": ["a", "b"], "n": [1.0, 2.0]})
    columns = [Column("id", pa.string(), "id", "id"), Column("n", pa.float64(), "numerical", "number")]
    profile = profile_of(real)
    coder = TableCoder.from_profile(profile, columns)
    counts = counts_of(coder, real)
    found = diagnostic(profile, counts, coder, measured={"id": {"KeyUniqueness": 0.5}})
    assert found["columns"]["id"] == {"metric": "KeyUniqueness", "score": 0.5}
    assert found["data_validity"] == 0.75


def test_tables_of_no_column_one_column_or_no_rows_have_a_report() -> None:
    ids = pa.table({"id": ["a", "b"]})
    columns = [Column("id", pa.string(), "id", "id")]
    coder = TableCoder.from_profile(profile_of(ids), columns)
    counts = counts_of(coder, ids)
    empty = quality(counts, counts, coder)
    assert empty["score"] is None and empty["pairs"] == [] and empty["columns"] == {}
    assert diagnostic(profile_of(ids), counts, coder)["score"] == 1.0

    one = pa.table({"n": [1.0, 2.0, 3.0]})
    coder = TableCoder.from_profile(profile_of(one), columns_of(one))
    counts = counts_of(coder, one)
    found = quality(counts, counts, coder)
    assert found["score"] == found["column_shapes"] == 1.0 and found["column_pair_trends"] is None

    two = pa.table({"n": [1.0, 2.0, 3.0], "c": ["a", "b", "a"]})
    coder = TableCoder.from_profile(profile_of(two), columns_of(two))
    found = quality(counts_of(coder, two), counts_of(coder, two.slice(0, 0)), coder)
    assert found["score"] is None and found["pairs"][0]["score"] is None


def test_a_report_is_plain_json(adult_dir: Path) -> None:
    import json

    real = read(adult_dir).slice(0, 3000)
    coder = TableCoder.from_profile(profile_of(real), columns_of(real))
    counts = counts_of(coder, real)
    found = quality(counts, counts, coder)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["pairs_total"] == len(found["pairs"]) == 105
    assert set(found["pairs"][0]) == {
        "columns",
        "metric",
        "score",
        "real",
        "synthetic",
        "synthetic_association",
        "real_association",
        "contributes",
    }
