"""TVAE: the ctgan package's networks and loss to 1e-5, and learning what is in a table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.tables import mixed_table
from tests.tables.deep import fit, prepare

from shardsynth.models.ctgan.model import DeepModel

SMALL = {"epochs": 3, "batch_size": 100, "compress_dims": [16], "decompress_dims": [16], "embedding_dim": 8}


@pytest.mark.parametrize("decode", ["sample", "argmax"])
def test_rows_have_the_schema_and_depend_on_their_number_alone(decode: str, tmp_path: Path) -> None:
    table = mixed_table(500)
    model = fit("tvae", prepare(table, {"patient": "id"}), {**SMALL, "decode": decode})
    whole = model.draw(0, 0, 9000)
    assert whole.schema.equals(table.schema, check_metadata=True)
    parts = [model.draw(0, a, b - a) for a, b in ((0, 17), (17, 5000), (5000, 9000))]
    assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    model.save(tmp_path)
    assert DeepModel.load(tmp_path).draw(0, 0, 100).equals(whole.slice(0, 100))


def test_fewer_rows_than_a_batch_and_a_column_of_nothing_but_one_value() -> None:
    table = pa.table({"x": pa.array([1, 2, None, 4, 5] * 10, pa.int16()), "same": ["v"] * 50})
    drawn = fit("tvae", prepare(table), {**SMALL, "batch_size": 500}).draw(3, 0, 300)
    assert drawn.schema.equals(table.schema, check_metadata=True)
    assert set(drawn["same"].to_pylist()) == {"v"}
    assert set(drawn["x"].to_pylist()) <= {1, 2, 3, 4, 5, None} and drawn["x"].null_count
