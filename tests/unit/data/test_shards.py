from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.shards import natural_key, open_shards, read_batches
from shardsynth.errors import ShardError


def write(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


TABLE = pa.table({"a": pa.array([1, 2, None], pa.int8()), "b": pa.array(["x", None, "z"]).dictionary_encode()})


def rows(dataset):
    return [row for s in dataset.shards for b in read_batches(s, dataset.schema) for row in b.to_pylist()]


def test_natural_order_puts_2_before_10():
    assert sorted(["part-10", "part-2", "part-1"], key=natural_key) == ["part-1", "part-2", "part-10"]


@pytest.mark.parametrize("source", ["folder", "glob", "file", "list"])
def test_every_kind_of_source(tmp_path, source):
    first = write(tmp_path / "d" / "p-2.parquet", TABLE)
    write(tmp_path / "d" / "p-10.parquet", TABLE)
    chosen = {
        "folder": str(tmp_path / "d"),
        "glob": str(tmp_path / "d" / "p-*.parquet"),
        "file": str(first),
        "list": [str(tmp_path / "d" / "p-10.parquet"), str(first)],
    }[source]
    dataset = open_shards(chosen)
    assert [s.path.rsplit("/", 1)[1] for s in dataset.shards] == (
        ["p-2.parquet"] if source == "file" else ["p-2.parquet", "p-10.parquet"]
    )
    assert rows(dataset) == TABLE.to_pylist() * len(dataset.shards)


def test_hidden_names_are_ignored(tmp_path):
    write(tmp_path / "a.parquet", TABLE)
    write(tmp_path / "_metadata.parquet", TABLE)
    write(tmp_path / ".part.parquet", TABLE)
    write(tmp_path / "_run" / "b.parquet", TABLE)
    assert len(open_shards(str(tmp_path)).shards) == 1


def test_key_value_folders_are_columns(tmp_path):
    write(tmp_path / "site=A%20B" / "year=2001" / "x.parquet", TABLE)
    write(tmp_path / "site=C" / "year=2002" / "x.parquet", TABLE)
    dataset = open_shards(str(tmp_path))
    assert dataset.schema.names == ["a", "b", "site", "year"]
    assert dataset.schema.field("year").type == pa.int64()
    assert [(r["site"], r["year"]) for r in rows(dataset)] == [("A B", 2001)] * 3 + [("C", 2002)] * 3


def test_empty_shards_and_empty_row_groups(tmp_path):
    write(tmp_path / "0.parquet", TABLE.slice(0, 0))
    with pq.ParquetWriter(tmp_path / "1.parquet", TABLE.schema) as writer:
        for piece in (TABLE.slice(0, 0), TABLE, TABLE.slice(0, 0)):
            writer.write_table(piece, row_group_size=10)
    dataset = open_shards(str(tmp_path))
    assert dataset.rows == 3
    assert rows(dataset) == TABLE.to_pylist()


def test_the_schema_has_no_metadata_of_the_real_files(tmp_path):
    field = pa.field("a", pa.decimal128(5, 2), nullable=False, metadata={"unit": "g/dl"})
    table = pa.table([pa.array([1, 2], pa.decimal128(5, 2))], schema=pa.schema([field], metadata={"source": "lab"}))
    write(tmp_path / "x.parquet", table)
    dataset = open_shards(str(tmp_path))
    batch = next(read_batches(dataset.shards[0], dataset.schema))
    assert batch.schema.equals(pa.schema([pa.field("a", pa.decimal128(5, 2), nullable=False)]), check_metadata=True)
    assert dataset.notes == ("of the file: 'source'", "of column 'a': 'unit'")


def test_shards_may_differ_in_their_metadata(tmp_path):
    write(tmp_path / "0.parquet", TABLE.replace_schema_metadata({"written": "on Monday"}))
    write(tmp_path / "1.parquet", TABLE.cast(TABLE.schema.set(0, TABLE.schema.field(0).with_metadata({"k": "v"}))))
    assert open_shards(str(tmp_path)).rows == 6


def test_pandas_index_entry_does_not_make_shards_disagree(tmp_path):
    frame = TABLE.to_pandas()
    frame.to_parquet(tmp_path / "0.parquet")
    frame.head(2).to_parquet(tmp_path / "1.parquet")
    assert open_shards(str(tmp_path)).rows == 5


def test_nothing_there(tmp_path):
    with pytest.raises(ShardError, match="no such file or folder"):
        open_shards(str(tmp_path / "nowhere"))
    with pytest.raises(ShardError, match=r"no \.parquet file"):
        open_shards(str(tmp_path))
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ShardError, match="shardsynth import"):
        open_shards(str(tmp_path))
    with pytest.raises(ShardError, match="no file matches"):
        open_shards(str(tmp_path / "*.parquet"))


def test_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "cut.parquet", TABLE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ShardError, match=r"cut\.parquet: not a whole Parquet file"):
        open_shards(str(tmp_path))


def test_file_cut_in_the_data_pages_is_named(tmp_path):
    big = pa.table({"a": list(range(50_000))})
    path = write(tmp_path / "bad.parquet", big, compression="none")
    content = bytearray(path.read_bytes())
    content[10:4000] = b"\xff" * 3990
    path.write_bytes(bytes(content))
    dataset = open_shards(str(tmp_path))
    with pytest.raises(ShardError, match=r"bad\.parquet: the shard cannot be read"):
        list(read_batches(dataset.shards[0], dataset.schema))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (TABLE.set_column(0, "a", pa.array(["1", "2", "3"])), "column 'a' is of type string, but int8"),
        (TABLE.drop_columns(["b"]), "column 'b' is missing"),
        (TABLE.append_column("c", pa.array([1, 2, 3])), "column 'c' is not in"),
    ],
)
def test_shards_that_disagree(tmp_path, other, message):
    write(tmp_path / "0.parquet", TABLE)
    write(tmp_path / "1.parquet", other)
    with pytest.raises(ShardError, match=message) as caught:
        open_shards(str(tmp_path))
    assert "1.parquet" in str(caught.value)


def test_duplicate_column_names(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    write(tmp_path / "0.parquet", table)
    with pytest.raises(ShardError, match="'a' stands more than once"):
        open_shards(str(tmp_path))


@pytest.mark.parametrize("values", [pa.array([[1]]), pa.array([{"x": 1}]), pa.array([b"raw"])])
def test_columns_that_no_model_can_hold(tmp_path, values):
    write(tmp_path / "0.parquet", pa.table({"bad": values}))
    with pytest.raises(ShardError, match=r"no model can hold (lists and structs|bytes and intervals): 'bad' \("):
        open_shards(str(tmp_path))


def test_a_changed_shard_is_refused(tmp_path):
    path = write(tmp_path / "0.parquet", TABLE)
    dataset = open_shards(str(tmp_path))
    write(path, pa.concat_tables([TABLE, TABLE]))
    with pytest.raises(ShardError, match="changed since the run was planned"):
        next(read_batches(dataset.shards[0], dataset.schema))
    path.unlink()
    with pytest.raises(ShardError, match="was there when the run was planned"):
        next(read_batches(dataset.shards[0], dataset.schema))


def test_linked_folders_are_read_and_a_link_to_nowhere_is_named(tmp_path):
    for name in ("elsewhere", "data"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / name / "0.parquet")
    (tmp_path / "data" / "site").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "data")
    assert open_shards(str(tmp_path / "data")).rows == 4
    (tmp_path / "data" / "gone.parquet").symlink_to(tmp_path / "nowhere.parquet")
    for source in (tmp_path / "data", tmp_path / "data" / "*.parquet", tmp_path / "data" / "gone.parquet"):
        with pytest.raises(ShardError, match=r"gone\.parquet: is a broken link: .*nowhere\.parquet is not there"):
            open_shards(str(source))


@contextlib.contextmanager
def without_roots_rights():
    """Root may read anything; others, as whom the tests may run as well, have nothing to lose."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        folder = Path(name)
        folder.chmod(0o755)
        write(folder / "site=a" / "0.parquet", TABLE)
        shut = write(folder / "site=b" / "0.parquet", TABLE)
        shut.chmod(0)
        with (
            without_roots_rights(),
            pytest.raises(ShardError, match=r"site=b/0\.parquet: may not be read by this user"),
        ):
            open_shards(name)
        shut.parent.chmod(0)
        with without_roots_rights(), pytest.raises(ShardError, match="site=b: the folder cannot be read"):
            open_shards(name)  # nobody would miss its rows
        shut.parent.chmod(0o755)
