"""Parquet as other programs write it: types, shards that differ, folders that are tables of their own."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.agreed_types import agreed_type
from shardsynth.data.shards import open_shards, read_batches
from shardsynth.data.stored_types import plain_schema, stored_batch, stored_schema
from shardsynth.data.writer import PartWriter
from shardsynth.errors import ShardError


def write(folder: Path, *tables: pa.Table, **options) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", **options)
    return str(folder)


def rows(source: str, **options) -> pa.Table:
    dataset = open_shards(source, **options)
    batches = [batch for shard in dataset.shards for batch in read_batches(shard, dataset.schema)]
    return pa.Table.from_batches(batches, dataset.schema)


def rich() -> pa.Table:
    ids = [uuid.UUID(int=k + 1).bytes for k in range(3)]
    return pa.table(
        {
            "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([*ids[:2], None], pa.binary(16))),
            "note": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None, "[]"])),
            "cost": pa.array([Decimal("1.25"), None, Decimal("-7.00")], pa.decimal64(18, 2)),
            "dose": pa.array([Decimal("0.5"), None, Decimal("9.9")], pa.decimal32(5, 1)),
            "plain": [1, 2, 3],
        }
    )


def test_types_that_arrow_computes_little_with_are_read_plainly_and_written_as_they_were(tmp_path: Path) -> None:
    dataset = open_shards(write(tmp_path / "d", rich()))
    assert dataset.schema.types == [pa.string(), pa.string(), pa.decimal128(18, 2), pa.decimal128(5, 1), pa.int64()]
    (batch,) = read_batches(dataset.shards[0], dataset.schema)
    assert batch.column("id").to_pylist()[0] == str(uuid.UUID(int=1))
    assert stored_schema(dataset.schema).types == rich().schema.types
    assert plain_schema(stored_schema(dataset.schema)).equals(dataset.schema, check_metadata=True)
    with PartWriter(tmp_path / "out.parquet", dataset.schema) as writer:
        writer.write(batch)
        writer.close()
    assert pq.read_table(tmp_path / "out.parquet").equals(rich())
    assert stored_batch(batch, stored_schema(dataset.schema)).schema.types == rich().schema.types


@pytest.mark.parametrize(
    ("one", "other", "agreed", "widened"),
    [
        (pa.null(), pa.float64(), pa.float64(), pa.float64()),
        (pa.string(), pa.large_string(), pa.large_string(), pa.large_string()),
        (pa.string(), pa.string_view(), pa.string(), pa.string()),
        (pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.int32(), pa.int64(), pa.int64(), pa.int64()),
        (pa.int8(), pa.uint16(), pa.int32(), pa.int32()),
        (pa.int64(), pa.uint64(), None, pa.int64()),
        (pa.int32(), pa.float64(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float64(), None, pa.float64()),
        (pa.float32(), pa.float64(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 2), pa.decimal128(9, 1), pa.decimal128(10, 2), pa.decimal128(10, 2)),
        (pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("ns", "UTC")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None, None),
        (pa.string(), pa.int64(), None, None),
        (pa.date32(), pa.timestamp("us"), None, None),
    ],
)
def test_types_agree_where_nothing_is_lost(one, other, agreed, widened) -> None:
    for pair in ((one, other), (other, one)):
        assert agreed_type(*pair) == agreed
        assert agreed_type(*pair, widen=True) == widened


def test_shards_that_differ_only_in_encoding_are_one_table(tmp_path: Path) -> None:
    first = pa.table(
        {"age": pa.array([1, None], pa.int32()), "cause": pa.nulls(2), "seen": pa.array([0, 1], pa.timestamp("us"))}
    )
    second = pa.table({"age": [2**40], "cause": ["x"], "seen": pa.array([7], pa.timestamp("ns"))})
    source = write(tmp_path / "d", first, second)
    found = rows(source)
    assert found.schema.types == [pa.int64(), pa.string(), pa.timestamp("ns")]
    assert found["age"].to_pylist() == [1, None, 2**40]
    assert found["cause"].to_pylist() == [None, None, "x"]
    assert found["seen"].cast(pa.int64()).to_pylist() == [0, 1_000, 7]
    assert len(open_shards(source).agreed) == 3


def test_what_could_lose_digits_is_read_only_on_demand(tmp_path: Path) -> None:
    source = write(tmp_path / "d", pa.table({"n": [1]}), pa.table({"n": [0.5]}))
    with pytest.raises(ShardError, match="1.parquet: the column 'n' is of type double, but int64 .*--widen"):
        open_shards(source)
    assert rows(source, widen=True)["n"].to_pylist() == [1.0, 0.5]
    large = write(tmp_path / "e", pa.table({"n": [2**53 + 1]}), pa.table({"n": [0.5]}))
    with pytest.raises(ShardError, match="0.parquet: the column 'n' of type int64 has a value that the type double"):
        rows(large, widen=True)


def test_old_instants_beyond_nanoseconds_are_what_they_are(tmp_path: Path) -> None:
    old = {"use_deprecated_int96_timestamps": True, "store_schema": False}
    near = pa.table({"until": pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("us"))})
    far = pa.table({"until": pa.array([dt.datetime(9999, 12, 31), None], pa.timestamp("us"))})
    assert rows(write(tmp_path / "near", near, **old))["until"].type == pa.timestamp("ns")
    found = rows(write(tmp_path / "d", near, far, **old))
    assert found["until"].to_pylist() == [dt.datetime(2020, 1, 1), dt.datetime(9999, 12, 31), None]


def test_a_key_of_the_folders_that_is_also_in_the_files(tmp_path: Path) -> None:
    for sex in "FM":
        write(tmp_path / "d" / f"sex={sex}", pa.table({"sex": [sex, sex], "age": [1, 2]}))
    assert rows(str(tmp_path / "d")).to_pydict() == {"sex": ["F", "F", "M", "M"], "age": [1, 2, 1, 2]}
    write(tmp_path / "e" / "sex=F", pa.table({"sex": ["F", "M"]}))
    with pytest.raises(ShardError, match="'sex' is both a column and a key=value folder, with other values"):
        open_shards(str(tmp_path / "e"))


def test_all_columns_that_no_model_can_hold_are_named_at_once(tmp_path: Path) -> None:
    table = pa.table({"a": [[1]], "b": [{"c": 1}], "d": [1]})
    with pytest.raises(
        ShardError, match=r"lists and structs: 'a' \(list<.*>\), 'b' \(struct<c: int64>\); make a flat table"
    ):
        open_shards(write(tmp_path / "d", table))


def delta(folder: Path, *versions: list[dict]) -> str:
    (folder / "_delta_log").mkdir()
    for number, actions in enumerate(versions):
        text = "\n".join(json.dumps(action) for action in actions)
        (folder / "_delta_log" / f"{number:020d}.json").write_text(text)
    return str(folder)


def added(name: str, **more) -> dict:
    return {"add": {"path": name, "partitionValues": {}, **more}}


def test_a_delta_table_has_the_rows_of_its_last_version(tmp_path: Path) -> None:
    write(tmp_path / "d", pa.table({"n": [1, 2]}), pa.table({"n": [3]}), pa.table({"n": [4]}))
    source = delta(
        tmp_path / "d",
        [{"protocol": {"minReaderVersion": 1}}, added("0.parquet"), added("1.parquet")],
        [{"remove": {"path": "0.parquet"}}, added("2.parquet")],
    )
    assert rows(source)["n"].to_pylist() == [3, 4]
    checkpoint = pa.Table.from_pylist(
        [{"add": {"path": "1.parquet", "partitionValues": [("arm", "A")]}}],
        pa.schema(
            [("add", pa.struct([("path", pa.string()), ("partitionValues", pa.map_(pa.string(), pa.string()))]))]
        ),
    )
    pq.write_table(checkpoint, tmp_path / "d" / "_delta_log" / f"{1:020d}.checkpoint.parquet")
    assert rows(source).to_pydict() == {"n": [3], "arm": ["A"]}


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (added("0.parquet", deletionVector={"storageType": "u"}), "deletion vectors"),
        ({"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}}, "maps column names"),
        ({"protocol": {"minReaderVersion": 3, "readerFeatures": ["magic"]}}, "needs magic"),
    ],
)
def test_a_delta_table_that_needs_more_is_refused(tmp_path: Path, action: dict, why: str) -> None:
    write(tmp_path / "d", pa.table({"n": [1]}))
    with pytest.raises(ShardError, match=f"the Delta table .*{why}.*plain Parquet"):
        open_shards(delta(tmp_path / "d", [added("0.parquet"), action]))
