"""JSON Lines, SQLite and DuckDB: types, dates as text, what is refused."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import json
import sqlite3
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from shardsynth.cli import app
from shardsynth.data.importer import import_table
from shardsynth.errors import InputError, ShardError

LINES = [
    {"id": "007", "age": 50, "visit": {"day": "2024-05-31", "site": "north"}, "zip": "12345", "n": 1},
    {"id": "008", "age": None, "visit": {"day": None, "site": "south"}, "zip": "54321", "n": 1.5},
    {"id": "009", "visit": {"day": "2024-06-01", "ward": 3}, "seen": "2024-05-31T10:00:00Z", "zip": "00001", "n": 2},
]


def write_lines(path: Path, lines: list) -> Path:
    text = "\n".join(map(json.dumps, lines)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    (shard,) = import_table(write_lines(tmp_path / name, LINES), tmp_path / "data")
    table = pq.read_table(shard)
    assert table["id"].to_pylist() == ["007", "008", "009"] and table["zip"].type == pa.string()
    assert table["age"].to_pylist() == [50, None, None] and table["n"].to_pylist() == [1, 1.5, 2]
    assert table["visit.day"].to_pylist() == [dt.date(2024, 5, 31), None, dt.date(2024, 6, 1)]
    assert table["visit.site"].to_pylist() == ["north", "south", None] and table["visit.ward"].to_pylist() == [
        None,
        None,
        3,
    ]
    assert table["seen"].type == pa.timestamp("ms", "UTC")


def test_a_field_that_comes_late_is_a_column(tmp_path: Path) -> None:
    lines = [{"n": k, "text": "x" * 100} for k in range(60_000)] + [{"n": 1.5, "late": True}]
    (shard,) = import_table(write_lines(tmp_path / "a.jsonl", lines), tmp_path / "data")
    table = pq.read_table(shard)
    assert len(table) == 60_001 and table["n"].type == pa.float64() and table["late"].null_count == 60_000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"a": 1, "b": [1, 2], "c": {"d": [3]}}], "'b', 'c.d': lists have no place"),
        ([[1, 2]], "is one JSON list"),
        ([{"a": 1}, {"a": "x"}], "has other types in other lines"),
    ],
)
def test_json_that_is_no_table_is_refused(tmp_path: Path, lines: list, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        import_table(write_lines(tmp_path / "a.jsonl", lines), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_json_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xe4"}\n')
    with pytest.raises(ShardError, match="is not UTF-8"):
        import_table(tmp_path / "a.jsonl", tmp_path / "data")


def test_sqlite(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.sqlite")
    connection.execute("CREATE TABLE visits (id INTEGER, day TEXT, hb, code TEXT, empty)")
    rows = [(k, f"2024-05-{k + 1:02d}", k / 2 if k else 1, f"0{k}", None) for k in range(20)]
    connection.executemany("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    (shard,) = import_table(tmp_path / "a.sqlite", tmp_path / "data", query="SELECT * FROM visits WHERE id < 10")
    table = pq.read_table(shard)
    assert table.schema.types == [pa.int64(), pa.date32(), pa.float64(), pa.string(), pa.null()]
    assert table["day"][9].as_py() == dt.date(2024, 5, 10) and table["code"][3].as_py() == "03"
    with pytest.raises(InputError, match="has the tables visits: say what to read: --sql 'SELECT . FROM visits'"):
        import_table(tmp_path / "a.sqlite", tmp_path / "b")
    with pytest.raises(InputError, match="--sql: no such table: patients"):
        import_table(tmp_path / "a.sqlite", tmp_path / "b", query="SELECT * FROM patients")
    with pytest.raises(InputError, match="readonly"):
        import_table(tmp_path / "a.sqlite", tmp_path / "b", query="DELETE FROM visits")


def test_duckdb(tmp_path: Path) -> None:
    connection = duckdb.connect(str(tmp_path / "a.duckdb"))
    connection.execute(
        "CREATE TABLE visits AS SELECT i AS id, DATE '2024-05-01' + i::INTEGER AS day, (i / 2)::DECIMAL(8, 2) AS hb, "
        "'0' || i AS code, [i] AS list FROM range(100000) t(i)"
    )
    connection.close()
    source = str(tmp_path / "a.duckdb")
    query = "SELECT id, day, hb, code FROM visits ORDER BY id"
    done = CliRunner().invoke(app, ["import", source, "--sql", query, "-o", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    table = pq.read_table(tmp_path / "data")
    assert table.schema.types == [pa.int64(), pa.date32(), pa.decimal128(8, 2), pa.string()] and len(table) == 100_000
    assert table.slice(3, 1).to_pylist() == [
        {"id": 3, "day": dt.date(2024, 5, 4), "hb": decimal.Decimal("1.50"), "code": "03"}
    ]
    for query, message in (
        (None, "has the tables visits"),
        ("SELECT * FROM patients", "patients does not exist"),
        ("SELECT * FROM visits", "'list': lists and structs"),
        ("DROP TABLE visits", "DuckDB cannot read it, or run --sql"),
        ("SELECT code::DATE FROM visits", "Conversion|cannot be read to its end"),
    ):
        with pytest.raises(InputError, match=message):
            import_table(tmp_path / "a.duckdb", tmp_path / "b", query=query)


def test_sql_is_for_databases(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="--sql is for files of DuckDB and SQLite"):
        import_table(tmp_path / "a.csv", tmp_path / "data", query="SELECT 1")
