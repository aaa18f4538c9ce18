from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.writer import PartWriter
from shardsynth.errors import SpaceError

SCHEMA = pa.schema(
    [
        pa.field("flag", pa.int8(), nullable=False, metadata={"unit": "none"}),
        pa.field("a.b", pa.dictionary(pa.int8(), pa.string())),
        pa.field("größe", pa.float64()),
        pa.field("on", pa.timestamp("ms", "UTC")),
        pa.field("yes", pa.bool_()),
    ],
    metadata={"made by": "a test"},
)


def batch(rows: int, seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    missing = rng.random(rows) < 0.2
    codes = pa.array(rng.integers(0, 3, rows).astype(np.int8), mask=missing)
    columns = [
        pa.array(rng.integers(0, 2, rows).astype(np.int8)),
        pa.DictionaryArray.from_arrays(codes, ["x", "y", "z"]),
        pa.array(rng.normal(size=rows), mask=missing),
        pa.array(rng.integers(0, 10**12, rows)).cast(SCHEMA.field("on").type),
        pa.array(rng.random(rows) < 0.5, mask=rng.random(rows) < 0.1),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def test_a_part_reads_back_as_itself(tmp_path):
    path = tmp_path / "part.parquet"
    with PartWriter(path, SCHEMA, rows_per_group=300) as writer:
        for seed in range(3):
            writer.write(batch(250, seed))
        part = writer.close()
    expected = pa.Table.from_batches([batch(250, seed) for seed in range(3)])
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.equals(expected)
    assert part.rows == 750
    assert part.bytes == path.stat().st_size
    assert part.sha256 == sha256(path.read_bytes()).hexdigest()
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [300, 300, 150]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=8), background=st.booleans())
def test_the_bytes_do_not_depend_on_the_batches(tmp_path_factory, cuts, background):
    folder = tmp_path_factory.mktemp("parts")
    whole = batch(1000)
    edges = [0, *sorted(cuts), 1000]
    sums = []
    for name, pieces in {"one": [whole], "many": [whole.slice(a, b - a) for a, b in zip(edges, edges[1:])]}.items():
        with PartWriter(folder / name, SCHEMA, rows_per_group=333, background=background) as writer:
            for piece in pieces:
                writer.write(piece)
            sums.append(writer.close())
    assert sums[0] == sums[1]
    assert (folder / "one").read_bytes() == (folder / "many").read_bytes()


def test_text_may_come_as_dictionary_arrays(tmp_path):
    schema = SCHEMA.set(1, SCHEMA.field(1).with_type(pa.string()))
    with PartWriter(tmp_path / "part", schema, batch_schema=SCHEMA, rows_per_group=300) as writer:
        for seed in range(3):
            writer.write(batch(250, seed))
        writer.close()
    table = pq.read_table(tmp_path / "part")
    assert table.schema.equals(schema, check_metadata=True)
    assert table.equals(pa.Table.from_batches([batch(250, seed) for seed in range(3)]).cast(schema))


def test_no_rows_still_give_a_table(tmp_path):
    with PartWriter(tmp_path / "empty", SCHEMA) as writer:
        assert writer.close().rows == 0
    assert pq.read_table(tmp_path / "empty").schema.equals(SCHEMA, check_metadata=True)


@pytest.mark.parametrize("background", [True, False])
def test_a_failed_body_leaves_no_file(tmp_path, background):
    path = tmp_path / "part"
    with pytest.raises(ZeroDivisionError), PartWriter(path, SCHEMA, rows_per_group=10, background=background) as writer:
        writer.write(batch(35))
        raise ZeroDivisionError
    assert not path.exists()


def test_a_body_that_forgets_to_close_leaves_no_file(tmp_path):
    with PartWriter(tmp_path / "part", SCHEMA) as writer:
        writer.write(batch(35))
    assert not (tmp_path / "part").exists()


def test_an_existing_file_is_never_overwritten(tmp_path):
    (tmp_path / "part").write_text("mine")
    with pytest.raises(FileExistsError):
        PartWriter(tmp_path / "part", SCHEMA)
    assert (tmp_path / "part").read_text() == "mine"


@pytest.mark.parametrize("background", [True, False])
def test_another_schema_is_refused_and_cleaned_up(tmp_path, background):
    other = pa.record_batch({"flag": pa.array([1])})
    with pytest.raises(ValueError), PartWriter(tmp_path / "part", SCHEMA, background=background) as writer:
        writer.write(other)
        writer.close()
    assert not (tmp_path / "part").exists()


@contextmanager
def file_size_limit(size: int):
    """The kernel itself refuses to let any file of this process grow further."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_is_named(tmp_path, background):
    path = tmp_path / "part"
    with (
        pytest.raises(SpaceError, match="no space left"),
        file_size_limit(100_000),
        PartWriter(path, SCHEMA, rows_per_group=50_000, background=background) as writer,
    ):
        writer.write(batch(200_000))
        writer.close()
    assert not path.exists()
