"""Secrets in every place that Parquet, Arrow and pandas have for metadata: none is in what may leave the house."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tests.here import run_here

from shardsynth import Job
from shardsynth.commands.init import write_job
from shardsynth.data.columns import schema_from_text
from shardsynth.standalone.files import read_json

ROWS = 400


def write_with_secrets(path: Path) -> None:
    """A table with a secret in each place; the names of columns and the cells hold none."""
    rng = np.random.default_rng(0)
    site = pd.Categorical(rng.choice(["A", "B"], ROWS), categories=["A", "B", "SECRET-CATEGORY"])
    frame = pd.DataFrame({"age": rng.integers(20, 90, ROWS), "x": rng.normal(size=ROWS).round(2), "site": site})
    frame.index = pd.RangeIndex(9_100_001, 9_100_001 + ROWS, name="SECRET-INDEX")
    frame.columns.name = "SECRET-COLUMNS"
    frame.attrs["note"] = "SECRET-ATTRS"
    table = pa.Table.from_pandas(frame)
    pandas = json.loads(table.schema.metadata[b"pandas"])
    pandas["columns"][0]["metadata"] = {"timezone": "SECRET-PANDAS-COLUMN"}
    notes = {
        "pandas": json.dumps(pandas),
        "geo": "SECRET-GEO",
        "org.apache.spark.sql.parquet.row.metadata": "SECRET-SPARK",
    }
    field = table.schema.field(0).with_metadata({"note": "SECRET-FIELD", "ARROW:extension:metadata": "SECRET-EXT"})
    schema = pa.schema([field, *list(table.schema)[1:]], metadata=notes)
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, schema) as writer:
        writer.write_table(table.cast(schema))
        writer.add_key_value_metadata({"SECRET-WRITER-KEY": "SECRET-WRITER"})


def test_no_secret_is_in_what_may_leave_the_house(tmp_path: Path) -> None:
    write_with_secrets(tmp_path / "data" / "0.parquet")
    original = (tmp_path / "data" / "0.parquet").read_bytes()
    assert original.count(b"SECRET-WRITER") and original.count(b"9100001") and original.count(b"SECRET-ATTRS")
    told = "\n".join(write_job(str(tmp_path / "data"), tmp_path / "job.yaml", str(tmp_path / "run")))
    for name in ("'pandas'", "'geo'", "'note'", "SECRET-WRITER-KEY", "SECRET-INDEX"):
        assert name in told  # init names what it leaves out
    assert "SECRET-GEO" not in told and "SECRET-FIELD" not in told
    run = run_here(
        Job.load(tmp_path / "job.yaml", ["models={gaussian_copula: {}}", "sample={rows: 300, coalesce_mb: 1}"])
    )
    samples = run.samples("gaussian_copula")
    assert schema_from_text(samples.manifest["schema"]).metadata is None
    for path in [*samples.paths, *samples.folder.glob("_coalesced/*")]:
        schema = pq.read_schema(path)
        assert not schema.metadata and not any(field.metadata for field in schema)
        assert pd.read_parquet(path).index.name is None
    assert read_json(run.dir.root / "metadata.json")["tables"]["table"]["columns"].keys() == {"age", "x", "site"}
    packed = run.pack(tmp_path / "run.tar.gz")
    with tarfile.open(packed) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    assert any(name.endswith(".parquet") for name in members)
    for name, content in members.items():
        assert b"SECRET" not in content and b"9100001" not in content, name
