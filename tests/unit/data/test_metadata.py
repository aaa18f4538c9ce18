"""SDV metadata: detected by SDV, corrected by exact counts, read from the user's file, published without persons."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from shardsynth.data import detection
from shardsynth.data import metadata as md
from shardsynth.errors import MetadataError
from shardsynth.summaries.profile import Profile, ProfileOptions


def profile_of(table: pa.Table, sample_rows: int = 200_000, distinct: int = 10_000) -> Profile:
    options = ProfileOptions(total_rows=len(table), sample_rows=sample_rows, distinct=distinct)
    profile, offset = Profile.empty(table.schema, options), 0
    for batch in table.to_batches():
        profile.update(batch, offset)
        offset += batch.num_rows
    return profile.cut()


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.binary()])
def test_types_that_no_model_holds(kind: pa.DataType) -> None:
    schema = pa.schema([("x", kind)])
    with pytest.raises(MetadataError, match="'x'.*cast"):
        detection.detect(schema.empty_table(), profile_of(pa.table({"x": [1]})), schema)


SCHEMA = pa.schema([("age", pa.int8()), ("sex", pa.string()), ("seen", pa.string())])


def test_files_that_are_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    with pytest.raises(MetadataError, match="cannot be read"):
        md.read(path, SCHEMA)
    path.write_text("{")
    with pytest.raises(MetadataError, match="not a JSON file"):
        md.read(path, SCHEMA)
    path.write_text("[]")
    with pytest.raises(MetadataError, match="found list"):
        md.read(path, SCHEMA)
    path.write_text(json.dumps({"tables": {"a": {"columns": {}}, "b": {"columns": {}}}}))
    with pytest.raises(MetadataError, match="one table, found 2"):
        md.read(path, SCHEMA)
