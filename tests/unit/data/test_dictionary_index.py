"""Dictionary columns whose index holds the values of each shard, but not those of all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.shards import open_shards, read_batches


def write(folder: Path, number: int, values: list[str | None], index: pa.DataType) -> None:
    array = pa.array(values).dictionary_encode()
    array = pa.DictionaryArray.from_arrays(array.indices.cast(index), array.dictionary)
    pq.write_table(pa.table({"site": array, "x": range(len(values))}), folder / f"{number}.parquet")


def values_of(folder: Path) -> list[str | None]:
    dataset = open_shards(str(folder))
    batches = [batch for shard in dataset.shards for batch in read_batches(shard, dataset.schema)]
    assert all(batch.schema.equals(dataset.schema) for batch in batches)
    return [value for batch in batches for value in batch.column("site").to_pylist()]


@pytest.mark.parametrize(("index", "wider"), [(pa.int8(), pa.int16()), (pa.uint8(), pa.int16()), (pa.int32(), None)])
def test_the_index_holds_the_values_of_all_shards(
    tmp_path: Path, index: pa.DataType, wider: pa.DataType | None
) -> None:
    shards = [[f"s{k}_{i % 100:03d}" for i in range(250)] + [None] for k in range(3)]
    for number, values in enumerate(shards):
        write(tmp_path, number, values, index)
    dataset = open_shards(str(tmp_path))
    assert dataset.schema.field("site").type == pa.dictionary(wider or index, pa.string())
    assert dataset.wider == (("site",) if wider else ())
    assert values_of(tmp_path) == [value for values in shards for value in values]


def test_a_narrow_index_that_is_enough_stays(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, number, [f"s{i % 128}" for i in range(200)], pa.int8())
    assert open_shards(str(tmp_path)).schema.field("site").type == pa.dictionary(pa.int8(), pa.string())


def test_shards_may_have_indexes_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, 0, [f"a{i}" for i in range(100)], pa.int8())
    write(tmp_path, 1, [f"b{i}" for i in range(300)], pa.int16())
    assert open_shards(str(tmp_path)).schema.field("site").type == pa.dictionary(pa.int16(), pa.string())
    assert len(set(values_of(tmp_path))) == 400


@pytest.mark.parametrize("groups", [1, 2])
def test_chunks_of_one_file_may_have_more_values_than_the_index_of_each(tmp_path: Path, groups: int) -> None:
    """pyarrow writes such a table, and cannot read it again (findings/pyarrow_cannot_read_a_dictionary_it_wrote.sh)."""
    chunks = [
        pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), pa.array([f"{c}{i}" for i in range(100)]))
        for c in "ab"
    ]
    table = pa.table({"site": pa.chunked_array(chunks), "x": range(200)})
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=200 // groups)
    dataset = open_shards(str(tmp_path))
    assert dataset.schema.field("site").type == pa.dictionary(pa.int16(), pa.string()) and dataset.wider == ("site",)
    assert values_of(tmp_path) == [f"{c}{i}" for c in "ab" for i in range(100)]
